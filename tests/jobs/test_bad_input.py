"""Bad input through the command line: a clear message or a quarantine, never a stack trace, never half a result."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import Answer, nothing_published, one_clear_message, rayforest
from real_data import shared_files

GOOD = "id,x,c\n" + "".join(f"{i},{i / 7:.3f},{'ab'[i % 2]}\n" for i in range(30))


def project(folder: Path, source: str, *, data: str = "", rest: str = "") -> Path:
    path = folder / "project.toml"
    path.write_text(f'[project]\nname = "bad"\n[data]\nsource = "{source}"\n{data}\n{rest}\n', encoding="utf-8")
    return path


def prepare(path: Path, *more: str) -> Answer:
    return rayforest("prepare", path, "--json", "--set", "run.workers=1", "--set", "run.executor=in-process", *more)


def accounted_or_refused(folder: Path, source: Path) -> None:
    answer = prepare(project(folder, str(source)))
    if answer.code == 0:
        found = answer.json
        assert found["rows_in"] == found["rows_out"] + found["rows_quarantined"]
        assert found["rows_out"] > 0
        return
    assert answer.code in (2, 3)
    one_clear_message(answer, "prepare")
    assert nothing_published(folder)


@pytest.mark.parametrize(
    "file", [p for p in shared_files("csvkit_examples/**/*.*") if p.suffix in (".csv", ".tsv", ".gz", ".bz2")], ids=str
)
def test_odd_text_tables_are_accounted_for_or_refused(tmp_path: Path, file: Path) -> None:
    accounted_or_refused(tmp_path, file)


@pytest.mark.parametrize("file", shared_files("parquet_testing/bad_data/*.parquet"), ids=lambda p: p.stem)
def test_damaged_parquet_files_are_accounted_for_or_refused(tmp_path: Path, file: Path) -> None:
    accounted_or_refused(tmp_path, file)


def test_broken_lines_are_quarantined_with_their_row_and_text(tmp_path: Path) -> None:
    lines = GOOD.splitlines()
    lines[3], lines[5] = "2,short", "4,1.0,b,long"
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    answer = prepare(project(tmp_path, "a.csv"))
    assert (answer.code, answer.json["rows_out"], answer.json["rows_quarantined"]) == (0, 28, 2)
    (path,) = rayforest("files", tmp_path / "out/prepared", "--quarantine", "--json").json["files"]
    rows = pq.read_table(path).to_pylist()
    assert [(r["row"], r["raw"]) for r in rows] == [(2, "2,short"), (4, "4,1.0,b,long")]


def _text(name: str, content: str | bytes) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        return name

    return make


def _empty_folder(folder: Path) -> str:
    (folder / "raw").mkdir()
    return "raw"


def _parquet(table: pa.Table, damage: Callable[[bytes], bytes] = bytes) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        pq.write_table(table, folder / "a.parquet", compression="none")
        data = (folder / "a.parquet").read_bytes()
        (folder / "a.parquet").write_bytes(damage(data))
        return "a.parquet"

    return make


ROWS = pa.table({"id": list(range(50)), "x": [i / 3 for i in range(50)]})


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (_empty_folder, 2, "folder 'raw' has no data files"),
        (lambda folder: "nowhere", 2, "'nowhere' does not exist"),
        (lambda folder: "nowhere/*.csv", 2, "does not exist"),
        (lambda folder: "https://example.org/a.csv", 2, "no store speaks https://"),
        (lambda folder: "project.toml/a.csv", 2, "does not exist"),
        (lambda folder: "/dev/null", 2, "/dev/null"),
        (lambda folder: "x" * 300, 2, "xxx"),
        (_text("a.csv", ""), 2, "a.csv is empty"),
        (_text("a.csv", "\n\n"), 2, "a.csv is empty"),
        (_text("a.csv", "id,x\n"), 2, "no row is left"),
        (_text("a.csv", "id,x,x\n1,2,3\n"), 2, "two columns are named 'x'"),
        (_text("a.csv", "id,x\n1,2,3\n4\n"), 2, "no row is left"),
        (_text("a.csv", GOOD.encode("utf-16")), 2, "UTF-16"),
        (_text("a.csv", b"id,x\n\x00\x00,\x00\n"), 2, "no row is left"),
        (_text("a.csv.gz", gzip.compress(GOOD.encode())[:-12]), 2, "a.csv.gz"),
        (_text("a.csv.gz", b"not gzip at all"), 2, "a.csv.gz"),
        (_text("a.parquet", b""), 2, "a.parquet is empty"),
        (_text("a.parquet", b"PAR1 and nothing else"), 2, "a.parquet is plain text, not a Parquet file"),
        (_text("a.arrow", b"ARROW1"), 2, "a.arrow cannot be read"),
        (_text("a.xlsx", b"PK"), 2, "the format of"),
        (_parquet(ROWS, lambda data: data[:-20]), 2, "a.parquet is not a Parquet file, or was cut off"),
        (_parquet(ROWS, lambda data: data[:4] + b"\xff" * 60 + data[64:]), 3, "a.parquet cannot be read"),
        (_parquet(ROWS.slice(0, 0)), 2, "no row is left"),
        (_parquet(pa.table({"nested": [[1], [2]]})), 2, "no column is left to be a feature"),
    ],
)
def test_input_that_cannot_be_used_is_one_clear_message(
    tmp_path: Path, make: Callable[[Path], str], code: int, says: str
) -> None:
    answer = prepare(project(tmp_path, make(tmp_path)))
    error = one_clear_message(answer, "prepare")
    assert says in error["what"] + error["found"]
    assert answer.code == code
    assert nothing_published(tmp_path)


def test_a_loop_of_links_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "b.csv")
    (tmp_path / "b.csv").symlink_to(tmp_path / "a.csv")
    answer = prepare(project(tmp_path, "a.csv"))
    assert answer.code == 2
    one_clear_message(answer, "prepare")


@pytest.mark.parametrize(
    ("data", "rest", "says"),
    [
        ('targt = "x"', "", "unknown key 'data.targt'"),
        ('key = "ix"', "", "data.key: the data has no column 'ix'"),
        ('error_budget = "all"', "", "data.error_budget is not valid"),
        ("", "[features]\ny = 'x +'", "features.y: this is not an SQL expression"),
        ("", "[features]\ny = 'x; DROP TABLE t'", "features.y"),
        ("", "[features]\ny = '(SELECT 1)'", "features.y"),
        ("", "[features]\ny = 'NOW()'", "features.y"),
        ("", "[features]\ny = 'xx'", "features.y: there is no column 'xx'"),
        ('rules = ["x >"]', "", "data.rules.x >"),
        ("[data.format]\nencoding = 'latin-11'", "", "latin-11"),
        ("[data.format]\ndelimiter = ';'\nnames = ['a', 'b']", "", "names do not fit"),
        ("[data.format]\nskip_lines = 99", "", "fewer lines than skip_lines"),
    ],
)
def test_a_project_that_is_wrong_is_one_clear_message(tmp_path: Path, data: str, rest: str, says: str) -> None:
    (tmp_path / "a.csv").write_text(GOOD)
    path = project(tmp_path, "a.csv", data=data, rest=rest)
    for command in ("prepare", "check"):
        answer = rayforest(command, path, "--json")
        assert answer.code == 2
        assert says in one_clear_message(answer, command)["what"]
    assert not (tmp_path / "out").exists()


def test_a_wrong_delimiter_leaves_one_column_and_says_so_where_a_name_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(GOOD.replace(",", ";"))
    answer = prepare(project(tmp_path, "a.csv", data='key = "id"'))
    assert answer.code == 2
    error = one_clear_message(answer, "prepare")
    assert "data.key: the data has no column 'id'" in error["what"]
    assert "id;x;c" in error["next"]


def test_a_column_that_changes_type_and_one_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.csv").write_text(GOOD)
    (tmp_path / "raw/b.csv").write_text(GOOD.replace("0.143", "none"))
    answer = prepare(project(tmp_path, "raw"))
    assert answer.json["quarantine_reasons"] == {"x is not a number": 1}
    (tmp_path / "raw/c.csv").write_text("id,c\n1,a\n")
    answer = prepare(project(tmp_path, "raw", rest="[run]\nshard_rows = 30"), "--set", 'project.root="other"')
    assert answer.code == 2
    assert "c.csv has no column 'x'" in one_clear_message(answer, "prepare")["what"]
    assert nothing_published(tmp_path / "other")


def test_the_failed_run_goes_on_once_the_cause_is_removed(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    pq.write_table(ROWS, tmp_path / "raw/a.parquet", compression="none")
    good = (tmp_path / "raw/a.parquet").read_bytes()
    (tmp_path / "raw/b.parquet").write_bytes(good[:4] + b"\xff" * 60 + good[64:])
    path = project(tmp_path, "raw", rest="[run]\nshard_rows = 50")
    assert prepare(path).code == 3
    shutil.move(tmp_path / "raw/b.parquet", tmp_path / "kept-away")
    answer = prepare(path, "--replace")
    assert (answer.code, answer.json["rows_out"]) == (0, 50)
