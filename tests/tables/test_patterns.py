"""Which files a pattern means: literal names come first, and results of rayforest are no raw data by accident."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rayforest
from rayforest.errors import ConfigError, InputError
from rayforest.tables.listing import hive_columns
from rayforest.tables.reading import Source, list_files

ODD = "in [v1] #1 50% ñ;+&?=x"


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("id,x,y\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(20)))


def table(path: Path, start: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = range(start, start + 60)
    pq.write_table(pa.table({"id": list(ids), "x": [i % 7 for i in ids], "y": [int(i % 7 > 3) for i in ids]}), path)


def listed(folder: Path, *patterns: str, notes: list[str] | None = None) -> list[str]:
    return [file.path for file in list_files(Source(patterns, folder), notes)]


def project(folder: Path, source: str, root: str = "out", more: str = "") -> Path:
    file = folder / "project.toml"
    text = f'[project]\nname = "p"\nroot = "{root}"\n[data]\nsource = "{source}"\nkey = "id"\ntarget = "y"\n{more}\n'
    file.write_text(text + "[tune]\ntrials = 1\n")
    return file


# ---- literal names


@pytest.mark.parametrize(
    "pattern", [ODD, f"{ODD}/day 0 [[]a].csv", f"{ODD}/*.csv", f"{ODD}/**/*.csv", f"*/{ODD[:0]}*.csv"]
)
def test_folders_and_globs_below_a_folder_with_glob_characters_work(tmp_path: Path, pattern: str) -> None:
    write(tmp_path, f"{ODD}/day 0 [a].csv")
    assert [Path(name).name for name in listed(tmp_path, pattern)] == ["day 0 [a].csv"]


def test_such_a_folder_is_no_hive_partition() -> None:
    assert hive_columns(f"{ODD}/a.csv") == {}
    assert hive_columns("my day=1/a%3Db=2/a.csv") == {"my day": "1", "a=b": "2"}


def test_a_project_with_odd_names_runs_and_its_result_is_read(tmp_path: Path) -> None:
    write(tmp_path, f"{ODD}/day [a].csv")
    file = project(tmp_path, f"{ODD}/day [a].csv", root="out [v1] #1 50% ñ")
    rayforest.prepare(file)
    read = rayforest.read(tmp_path / "out [v1] #1 50% ñ" / "prepared").collect()
    assert (read.height, read.columns[-1]) == (20, "x")


def test_a_bracket_that_is_taken_as_a_pattern_is_said(tmp_path: Path) -> None:
    write(tmp_path, "a/in [v1]/x.csv")
    with pytest.raises(InputError, match=r"begins a set of characters(.|\n)*in \[\[\]v1\]") as error:
        listed(tmp_path, "*/in [v1]/*.csv")
    assert listed(tmp_path, "*/in [[]v1]/*.csv") == ["a/in [v1]/x.csv"]
    assert error.value.exit_code == 2


def test_a_glob_means_what_it_means_to_python(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "d/b.csv", "d/e/c.csv", "d/e/_f.csv", ".h/g.csv", "_i/j.csv", "d/k1.csv", "d/k2.csv")
    (tmp_path / "l").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "up").symlink_to(tmp_path)
    assert listed(tmp_path, "**/*.csv") == ["a.csv", "d/b.csv", "d/e/c.csv", "d/k1.csv", "d/k2.csv"]
    assert listed(tmp_path, "d/**") == ["b.csv", "e/c.csv", "k1.csv", "k2.csv"]
    assert listed(tmp_path, "*/k[!1].csv") == ["d/k2.csv"]
    assert listed(tmp_path, "d/*/c.csv") == ["e/c.csv"]
    assert listed(tmp_path, ".h/*", "_*/*.csv") == ["g.csv", "_i/j.csv"]


def test_a_folder_that_cannot_be_listed_is_an_error_and_no_smaller_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "d/a/x.csv", "d/closed/y.csv")
    real = os.scandir

    def scandir(path: str | Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # the tests' user may be root, who may list every folder
    for pattern in ("d/**/*.csv", "d/*/*.csv", "d"):
        with pytest.raises(InputError, match=r"closed cannot be read"):
            listed(tmp_path, pattern)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "d/a.csv", "d/b.csv")
    monkeypatch.setattr(os, "access", lambda path, *_, **__: Path(path).name != "b.csv")
    with pytest.raises(InputError, match=r"b\.csv cannot be read(.|\n)*permission denied"):
        listed(tmp_path, "d")


# ---- results of rayforest


@pytest.mark.parametrize(
    ("source", "root"),
    [
        ("**/*.parquet", "out"),
        ("raw/**/*.parquet", "raw/out"),
        ("raw", "raw/out"),
        ("**/*.parquet", "."),
        ("raw", "raw"),
    ],
)
def test_a_second_run_does_nothing_where_the_results_lie_among_the_raw_files(
    tmp_path: Path, source: str, root: str
) -> None:
    table(tmp_path / "raw" / "data.parquet")
    first, second = (rayforest.run(project(tmp_path, source, root)) for _ in range(2))
    assert [step.resumed for step in first.steps] == [False] * 4
    assert [step.resumed for step in second.steps] == [True] * 4
    assert second.prepared.rows_in == second.scored.rows_in == 60
    assert rayforest.check(project(tmp_path, source, root)).files == 1
    assert any("not read as raw data" in note for note in rayforest.check(project(tmp_path, source, root)).notes)


def test_results_of_another_project_and_a_link_into_one_are_left_out_and_said(tmp_path: Path) -> None:
    table(tmp_path / "one" / "data.parquet")
    result = rayforest.prepare(project(tmp_path / "one", "data.parquet", "results"))
    notes: list[str] = []
    (written,) = rayforest.files(result.destination)
    (tmp_path / "one" / "link.parquet").symlink_to(written)
    assert listed(tmp_path, "**/*.parquet", notes=notes) == ["one/data.parquet"]
    assert notes == ["results of rayforest are not read as raw data: one/results/prepared"]


def test_claims_and_folders_of_32_hex_digits_of_the_user_are_raw_data(tmp_path: Path) -> None:
    write(tmp_path, "claims/2024.csv", f"{'a' * 32}/x.csv", "current/y.csv")
    (tmp_path / "claims" / "000001.json").write_text('{"claim": 1}')
    assert listed(tmp_path, "**/*.csv") == [f"{'a' * 32}/x.csv", "claims/2024.csv", "current/y.csv"]


def test_a_result_that_is_named_is_read_in_its_current_version(tmp_path: Path) -> None:
    table(tmp_path / "data.parquet")
    first = project(tmp_path, "data.parquet")
    rayforest.prepare(first)
    table(tmp_path / "data.parquet", start=1000)
    rayforest.prepare(first, replace=True)
    notes: list[str] = []
    source = Source((str(tmp_path / "out" / "prepared"),), tmp_path)
    assert [file.uri for file in list_files(source, notes)] == list(rayforest.files(tmp_path / "out" / "prepared"))
    assert notes == [f"{tmp_path / 'out' / 'prepared'} is a result of rayforest: its current version is read"]
    (tmp_path / "two").mkdir()
    other = project(tmp_path / "two", "../out/prepared").read_text().replace('"y"', '"target"')
    (tmp_path / "two" / "project.toml").write_text(other.replace("[tune]", "[features]\nf = 'x'\n[tune]"))
    assert rayforest.prepare(tmp_path / "two" / "project.toml").rows_in == 60
    (version,) = (Path(file).parents[2].name for file in rayforest.files(tmp_path / "out" / "prepared"))
    for inside in (f"out/prepared/{version}/data", f"out/prepared/{version}/**/*.parquet"):
        with pytest.raises(InputError, match=r"inside .*prepared, a result of rayforest"):
            listed(tmp_path, inside)
    with pytest.raises(InputError, match=r"no file matches(.|\n)*name the result's own folder"):
        listed(tmp_path, "out/prepared/*/data/**/*.parquet")
    assert len(listed(tmp_path, *rayforest.files(tmp_path / "out" / "prepared"))) == 1


def test_a_project_does_not_read_what_it_writes_itself(tmp_path: Path) -> None:
    table(tmp_path / "data.parquet")
    rayforest.prepare(project(tmp_path, "data.parquet"))
    for source in ("out/prepared", "out/scored/*.parquet"):
        with pytest.raises(ConfigError, match=r"data.source is what this project itself writes"):
            rayforest.check(project(tmp_path, source))
    own_scores = '[score]\nsource = "mine"\ndestination = "mine"'
    with pytest.raises(ConfigError, match=r"score.source is what this project itself writes"):
        rayforest.check(project(tmp_path, "data.parquet", more=own_scores))


# ---- destinations


def test_check_refuses_a_root_below_a_file_as_the_stages_do(tmp_path: Path) -> None:
    table(tmp_path / "data.parquet")
    (tmp_path / "file").write_text("")
    broken = project(tmp_path, "data.parquet", root="file/out")
    for stage in (rayforest.check, rayforest.prepare, rayforest.run):
        with pytest.raises(ConfigError, match=r"destination .* cannot be used(.|\n)*file is not a folder"):
            stage(broken)
    elsewhere = project(tmp_path, "data.parquet", more='[score]\ndestination = "file/scored"')
    with pytest.raises(ConfigError, match=r"file is not a folder"):
        rayforest.check(elsewhere)
    with pytest.raises(InputError, match=r"no published result"):
        list(rayforest.files(tmp_path / "file" / "out"))
    assert not (tmp_path / "out").exists()


def test_check_refuses_a_destination_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path / "data.parquet")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **more: not mode & os.W_OK and real(path, mode, **more))
    with pytest.raises(ConfigError, match=r"cannot be used(.|\n)*no permission to read and write"):
        rayforest.check(project(tmp_path, "data.parquet"))
