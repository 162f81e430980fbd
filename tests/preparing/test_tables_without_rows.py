"""Files without rows change nothing; a source of which no row reads is refused with what would make it readable."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from unlike_files import PROJECT, project, scored

import rayforest
from rayforest.errors import InputError

ROWS = "".join(f"{i},{i * 37 % 101},{i % 2}\n" for i in range(200))
SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.float64()), ("y", pa.int64())])
TABLE = pa.table({"id": range(200), "x": [i * 37 % 101 for i in range(200)], "y": [i % 2 for i in range(200)]}, SCHEMA)


def _raw(folder: Path) -> Path:
    (folder / "raw").mkdir(exist_ok=True)
    return folder / "raw"


def test_text_tables_without_rows_change_nothing(tmp_path: Path) -> None:
    raw = _raw(tmp_path)
    (raw / "a.csv").write_text("id,x,y\n")
    (raw / "b.csv").write_text("id,x,y")
    (raw / "c.csv").write_text("id,x,y\n\n\n")
    (raw / "d.csv").write_text("other,names\n")
    (raw / "e.csv.gz").write_bytes(gzip.compress(b"id,x,y\n"))
    (raw / "f.csv.xz").write_bytes(lzma.compress(b"id,x,y"))
    (raw / "g.csv.bz2").write_bytes(bz2.compress(b"id,x,y\r\n") + bz2.compress(b""))
    (raw / "z.csv").write_text(f"id,x,y\n{ROWS}")
    project(tmp_path)
    rayforest.check(tmp_path / "project.toml")
    assert scored(tmp_path)["id"].to_list() == [str(i) for i in range(200)]


def test_stored_tables_without_rows_or_row_groups_or_types_change_nothing(tmp_path: Path) -> None:
    raw = _raw(tmp_path)
    pq.write_table(SCHEMA.empty_table(), raw / "a.parquet")
    pq.ParquetWriter(raw / "b.parquet", SCHEMA).close()
    pq.write_table(pa.table({name: pa.nulls(0) for name in SCHEMA.names}), raw / "c.parquet")
    pq.write_table(pa.table({"other": pa.array([], pa.list_(pa.string()))}), raw / "d.parquet")
    pq.write_table(pa.table({}), raw / "e.parquet")
    feather.write_feather(SCHEMA.empty_table(), raw / "f.arrow")
    with pa.ipc.new_stream(str(raw / "g.arrow"), SCHEMA):
        pass
    pq.write_table(TABLE, raw / "z.parquet")
    project(tmp_path)
    rayforest.check(tmp_path / "project.toml")
    assert scored(tmp_path)["id"].to_list() == list(range(200))


@pytest.mark.parametrize("form", ["csv", "parquet", "arrow"])
def test_a_source_of_which_every_file_is_without_rows_is_scored_to_no_rows(tmp_path: Path, form: str) -> None:
    pq.write_table(TABLE, _raw(tmp_path) / "a.parquet")
    (tmp_path / "new").mkdir()
    for name in ("a", "b"):
        if form == "csv":
            (tmp_path / f"new/{name}.csv").write_text("id,x,y\n")
        elif form == "parquet":
            pq.write_table(SCHEMA.empty_table(), tmp_path / f"new/{name}.parquet")
        else:
            feather.write_feather(SCHEMA.empty_table(), tmp_path / f"new/{name}.arrow")
    project(tmp_path, score='source = "new"')
    assert scored(tmp_path).height == 0


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.csv.xz", "e.tsv", "e.parquet", "e.arrow"])
def test_a_file_of_no_bytes_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (_raw(tmp_path) / name).write_bytes(b"")
    (tmp_path / "raw/z.csv").write_text(f"id,x,y\n{ROWS}")
    path = project(tmp_path)
    for step in (rayforest.check, rayforest.prepare):
        with pytest.raises(InputError, match=rf"raw/{name} is empty") as refused:
            step(path)
        assert refused.value.next_step == "leave the file out of the source"


@pytest.mark.parametrize("text", [b"\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b"  \n \t\n"])
def test_a_file_of_blank_lines_is_refused_by_name(tmp_path: Path, text: bytes) -> None:
    (_raw(tmp_path) / "e.csv").write_bytes(text)
    with pytest.raises(InputError, match=r"raw/e.csv is empty"):
        rayforest.prepare(project(tmp_path))


def test_a_file_of_no_bytes_is_a_table_without_rows_where_there_is_no_header(tmp_path: Path) -> None:
    (_raw(tmp_path) / "a.csv").write_bytes(b"")
    (tmp_path / "raw/z.csv").write_text(ROWS)
    for names, key, target in (('names = ["id", "x", "y"]', "id", "y"), ("", "c1", "c3")):
        text = (
            PROJECT.replace('"id"', f'"{key}"')
            .replace('"y"', f'"{target}"')
            .replace('x = "x"', f'f = "{"c2" if not names else "x"}"')
        )
        path = project(tmp_path, text + f"\n[data.format]\nheader = false\n{names}\n")
        result = rayforest.prepare(path, replace=True)
        assert (result.rows_in, result.rows_quarantined) == (200, 0)


WRONG = {
    "the header is a title": ("A survey of 2017,by us,and them\n1,2\n3,4\n", "skip_lines = 1"),
    "a column without a name": ("id,x\nr1,1,2\nr2,3,4\n", "header = false, names = [...]"),
    "a delimiter at each row's end": ("id,x\n1,2,\n3,4,\n", "trailing_delimiter = true"),
    "another encoding": ("id,x\n1,é\n2,è\n", "encoding"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_where_no_row_reads_the_refusal_names_the_key_that_would_help(tmp_path: Path, wrong: str) -> None:
    text, key = WRONG[wrong]
    (_raw(tmp_path) / "a.csv").write_bytes(text.encode("latin-1"))
    path = tmp_path / "project.toml"
    path.write_text('[project]\nname = "p"\n\n[data]\nsource = "raw"\n\n[run]\nexecutor = "in-process"\nworkers = 1\n')
    with pytest.raises(InputError, match=r"no row of data.source can be read") as refused:
        rayforest.check(path)
    assert "a.csv: 2 of the first 2 rows" in refused.value.found
    assert key in refused.value.next_step
    with pytest.raises(InputError, match=r"no row is left") as refused:
        rayforest.prepare(path)
    assert key in refused.value.next_step


@pytest.mark.parametrize(
    "settings", ["trailing_delimiter = true", "skip_lines = 1\nheader = false\nnames = ['a', 'b', 'c']"]
)
def test_what_such_a_refusal_proposes_reads_every_row(tmp_path: Path, settings: str) -> None:
    (_raw(tmp_path) / "a.csv").write_text("id,x\n1,2,\n3,4,\n")
    text = '[project]\nname = "p"\n\n[data]\nsource = "raw"\n\n[run]\nexecutor = "in-process"\nworkers = 1\n'
    (tmp_path / "project.toml").write_text(f"{text}\n[data.format]\n{settings}\n")
    result = rayforest.prepare(tmp_path / "project.toml", overrides=["split.shares=[1, 0, 0]"])
    assert (result.rows_in, result.rows_quarantined) == (2, 0)


def test_text_of_ideographic_blanks_is_a_category_of_its_own(tmp_path: Path) -> None:
    blanks = ["\u3000", "\u1680", "\u00a0", "a", "NA", ""] * 40
    text = "id,x,y\n" + "".join(f"{i},{blank},{i % 2}\n" for i, blank in enumerate(blanks))
    (_raw(tmp_path) / "a.csv").write_text(text, encoding="utf-8")
    columns = '[data.columns]\nx = { type = "string", null_values = ["NA"] }\n'
    rayforest.prepare(project(tmp_path, f"{PROJECT}\n{columns}"))
    found = rayforest.read(tmp_path / "out/prepared").collect().get_column("x").cast(pl.String)
    assert found.null_count() == 80
    assert set(found.drop_nulls()) == {"\u3000", "\u1680", "\u00a0", "a"}
