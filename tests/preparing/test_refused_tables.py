"""What check and the stages refuse of tables before the first shard: columns, types and names."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unlike_files import PROJECT, project, scored, write

import rayforest
from rayforest.errors import ConfigError, InputError, RayforestError


def test_a_source_of_unlike_files_is_refused_with_file_and_column(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/ADMISSIONS.csv").write_text("id,admitted,y\n1,2,0\n2,3,1\n")
    (tmp_path / "raw/PATIENTS.csv").write_text("id,born\n1,1950\n")
    text = PROJECT.replace('[features]\nx = "x"\n', "")
    for command in (rayforest.check, rayforest.prepare):
        with pytest.raises(InputError, match=r"PATIENTS.csv has no column 'admitted'") as caught:
            command(project(tmp_path, text))
        assert "ADMISSIONS.csv" in caught.value.expected
        assert "leave files of another table out" in caught.value.next_step


def test_a_column_that_a_later_file_renames_is_named_with_its_new_name(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5), price=range(5))
    write(tmp_path, "b.parquet", id=range(5, 10), Price=range(5))
    text = PROJECT.replace('x = "x"', 'price = "price"')
    with pytest.raises(InputError, match=r"b.parquet has no column 'price'") as caught:
        rayforest.check(project(tmp_path, text))
    assert "did you mean 'Price'?" in caught.value.next_step


def test_without_features_each_column_of_the_first_file_is_one_and_later_ones_are_named(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5))
    write(tmp_path, "b.parquet", id=range(5, 10), extra=range(5))
    path = project(tmp_path, PROJECT.replace('[features]\nx = "x"\n', ""))
    report = rayforest.check(path)
    assert report.features == {"x": "number"}
    assert "column extra is not in a.parquet" in report.notes
    write(tmp_path, "0.parquet", id=range(10, 15), extra=range(5))
    with pytest.raises(InputError, match=r"a.parquet has no column 'extra'"):
        rayforest.check(path)


def test_a_column_that_stands_twice_is_refused_where_it_is_used_only(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    table = pa.Table.from_arrays(
        [pa.array(range(20)), pa.array([0.5, 1.5] * 10), pa.array([0, 1] * 10), pa.array([1] * 20), pa.array([2] * 20)],
        names=["id", "x", "y", "twice", "twice"],
    )
    pq.write_table(table, tmp_path / "raw/a.parquet")
    path = project(tmp_path)
    assert rayforest.prepare(path).rows_out == 20
    for setting in ('features.t="twice"', 'score.carry="twice"', 'data.key="twice"'):
        with pytest.raises(InputError, match=r"a.parquet has 2 columns named 'twice'"):
            rayforest.check(path, overrides=[setting])


@pytest.mark.parametrize(
    "setting",
    [
        'features.w="wide"',
        'features.w="COALESCE(wide, 1)"',
        'data.key="wide"',
        'score.carry="wide"',
        'data.time="wide"',
        'data.rules=["wide IS NULL"]',
        'data.columns.wide="string"',
    ],
)
def test_a_column_whose_type_is_not_read_is_named_with_its_type(tmp_path: Path, setting: str) -> None:
    write(tmp_path, "a.parquet", id=range(5), wide=[[1]] * 5)
    with pytest.raises(ConfigError, match=r"column 'wide' cannot be used, because rayforest does not read list<"):
        rayforest.check(project(tmp_path), overrides=[setting])


def test_a_column_that_one_file_only_stores_in_such_a_type_is_named_with_that_file(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5), note=["n"] * 5)
    write(tmp_path, "b.parquet", id=range(5, 10), note=[["n"]] * 5)
    with pytest.raises(ConfigError, match=r"does not read list<.*>, as it stands in b.parquet"):
        rayforest.check(project(tmp_path), overrides=['features.n="note"'])


def test_check_refuses_a_source_without_rows(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=pa.array([], pa.int64()))
    with pytest.raises(InputError, match=r"no row of data.source can be read"):
        rayforest.check(project(tmp_path))


def test_times_of_day_and_durations_are_named_where_they_cannot_be_used(tmp_path: Path) -> None:
    clock, span = pa.array([dt.time(1)] * 5), pa.array([dt.timedelta(1)] * 5)
    write(tmp_path, "a.parquet", id=range(5), clock=clock, span=span)
    report = rayforest.check(project(tmp_path))
    assert [note for note in report.notes if "left out" in note] == [
        "column clock is left out, because rayforest does not read time64[us]",
        "column span is left out, because rayforest does not read duration[us]",
    ]


@pytest.mark.parametrize("name", ["prediction", "probability", "raw_score"])
def test_check_refuses_key_and_carried_columns_of_an_outputs_name(tmp_path: Path, name: str) -> None:
    write(tmp_path, "a.parquet", id=range(5), **{name: range(5)})
    outputs = 'score.outputs=["prediction", "probability", "raw_score"]'
    for setting in (f'data.key="{name}"', f'score.carry="{name}"'):
        with pytest.raises(ConfigError, match="name of an output column") as caught:
            rayforest.check(project(tmp_path), overrides=[setting, outputs])
        assert caught.value.found == repr(name)


def test_check_refuses_the_probability_of_a_label_as_a_carried_column(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(6), label=["a", "b", "c"] * 2, probability_a=range(6))
    with pytest.raises(ConfigError, match="name of an output column"):
        rayforest.check(project(tmp_path), overrides=['data.target="label"', 'score.carry="probability_a"'])


def test_check_refuses_a_raw_column_that_the_graph_has_as_an_output(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5), prediction=range(5))
    path = project(tmp_path, PROJECT.replace('x = "x"', 'p = "prediction + 1"'))
    with pytest.raises(ConfigError, match="'prediction' cannot be an input of the ONNX model") as caught:
        rayforest.check(path)
    assert 'export.graph = "trees"' in caught.value.next_step
    assert rayforest.check(path, overrides=['export.graph="trees"']).features == {"p": "number"}


def test_raw_columns_with_the_names_of_prepared_ones_are_features_under_another_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raw = {"target": rng.random(60), "split": rng.choice(["train", "test"], 60)}
    write(tmp_path, "a.parquet", id=range(60), file=range(60), row=range(60), reason=["r"] * 60, raw=["w"] * 60, **raw)
    text = PROJECT.replace('[features]\nx = "x"\n', "")
    project(tmp_path, text, score='carry = ["target", "split", "file", "row", "reason", "raw"]')
    out = scored(tmp_path)
    assert out["target"].to_list() == raw["target"].tolist()
    assert out["split"].to_list() == raw["split"].tolist()
    prepared = rayforest.read(tmp_path / "out/prepared").collect()
    assert prepared["raw.split"].to_list() == raw["split"].tolist()
    assert prepared["raw.target"].to_list() == raw["target"].tolist()
    assert set(prepared["split"]) == {"train", "valid", "test"}


def test_check_looks_at_all_files_of_the_score_source_too(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5))
    (tmp_path / "new").mkdir()
    for name, columns in (("a", {"id": [1], "x": [1.0]}), ("b", {"id": [2], "X": [1.0]})):
        pq.write_table(pa.table(columns), tmp_path / f"new/{name}.parquet")
    with pytest.raises(InputError, match=r"b.parquet has no column 'x'"):
        rayforest.check(project(tmp_path, score='source = "new"'))


def test_nothing_of_a_refusal_is_written(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=range(5))
    write(tmp_path, "b.parquet", id=["a"])
    with pytest.raises(RayforestError):
        rayforest.run(project(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project.toml", "raw"]


def test_a_run_refuses_before_it_trains_what_export_and_score_would_refuse(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,prediction,y\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(200)))
    file = tmp_path / "project.toml"
    file.write_text('[project]\nname = "late"\n[data]\nsource = "table.csv"\nkey = "id"\ntarget = "y"\n')
    with pytest.raises(ConfigError, match="'prediction' cannot be an input"):
        rayforest.run(file)
    with pytest.raises(InputError, match="does not exist"):
        rayforest.run(file, overrides=['export.graph="trees"', 'score.source="new/*.csv"'])
    assert not (tmp_path / "out" / "tuned").exists()


def test_a_damaged_claim_is_named(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,x\n" + "".join(f"{i},{i % 7}\n" for i in range(20)))
    file = tmp_path / "project.toml"
    file.write_text('[project]\nname = "torn"\n[data]\nsource = "table.csv"\nkey = "id"\n')
    rayforest.prepare(file)
    (claim,) = (tmp_path / "out" / "prepared" / "claims").iterdir()
    for content, said in (('{"key": "ab', "damaged"), ("{}", "damaged"), ('{"format": 99}', "newer format")):
        claim.write_text(content)
        with pytest.raises(RayforestError, match=rf"000001\.json.* {said}"):
            rayforest.prepare(file)


def test_a_manifest_that_holds_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,x\n" + "".join(f"{i},{i % 7}\n" for i in range(20)))
    file = tmp_path / "project.toml"
    file.write_text('[project]\nname = "torn"\n[data]\nsource = "table.csv"\nkey = "id"\n')
    rayforest.prepare(file)
    (manifest,) = (tmp_path / "out" / "prepared").glob("*/manifest.json")
    manifest.write_text("{}")
    for read in (rayforest.show, rayforest.files):
        with pytest.raises(RayforestError, match=r"manifest\.json is damaged"):
            read(tmp_path / "out" / "prepared")


def test_features_that_depend_on_no_column_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,x\n1,2\n")
    file = tmp_path / "project.toml"
    file.write_text('[project]\nname = "same"\n[data]\nsource = "table.csv"\nkey = "id"\n[features]\none = "1"\n')
    with pytest.raises(ConfigError, match="no feature depends on a column"):
        rayforest.check(file)


def test_no_data_at_all_are_refused_by_init() -> None:
    with pytest.raises(InputError, match="no data to look at"):
        rayforest.init([])


def test_one_override_may_stand_without_a_list(tmp_path: Path) -> None:
    file = tmp_path / "project.toml"
    file.write_text('[project]\nname = "one"\n[data]\nsource = "table.csv"\n')
    assert rayforest.load_project(file, "tune.trials=3").tune.trials == 3


def test_check_says_that_a_feature_is_made_of_the_target(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,x,y\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(200)))
    file = tmp_path / "project.toml"
    file.write_text(
        '[project]\nname = "leak"\n[data]\nsource = "table.csv"\nkey = "id"\ntarget = "y > 0"\n'
        '[features]\nx = "x"\nage = "x + y"\n'
    )
    (note,) = (note for note in rayforest.check(file).notes if "gives the answer away" in note)
    assert "feature age uses y" in note
