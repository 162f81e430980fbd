"""What is no text table is named as what it is; a text table is never taken for something else."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from table_reading import csv_source, read_all, read_or_refuse

from rayforest.errors import InputError
from rayforest.tables.contents import recognise
from rayforest.tables.reading import CsvFormat, Source, list_files

ROWS = b"id,x\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(50))
TABLE = pa.table({"id": range(50), "x": [i * i for i in range(50)]})


def _tar(data: bytes = ROWS, form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        member = tarfile.TarInfo("table.csv")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _zip(name: str = "table.csv") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, ROWS)
    return out.getvalue()


def _written(write: Callable[[pa.Table, str], object]) -> Callable[[Path], bytes]:
    def bytes_of(folder: Path) -> bytes:
        write(TABLE, str(folder / "written"))
        return (folder / "written").read_bytes()

    return bytes_of


def _stream(table: pa.Table, path: str) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def _sqlite(folder: Path) -> bytes:
    connection = sqlite3.connect(folder / "db")
    connection.execute("create table if not exists t (a)")
    connection.close()
    return (folder / "db").read_bytes()


def _npy(folder: Path) -> bytes:
    np.save(folder / "a.npy", np.arange(9))
    return (folder / "a.npy").read_bytes()


OTHERS: dict[str, tuple[str, bytes | Callable[[Path], bytes]]] = {
    "zip": ("a zip archive", _zip()),
    "xlsx": ("an Excel or other Office file", _zip("[Content_Types].xml")),
    "xlsx of another writer": ("an Excel or other Office file", _zip("docProps/app.xml")),
    "xls": ("an old Excel or other Office file", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)),
    "tar": ("a tar archive", _tar()),
    "tar of POSIX": ("a tar archive", _tar(form=tarfile.USTAR_FORMAT)),
    "gzip": ("compressed with gzip", gzip.compress(ROWS)),
    "bzip2": ("compressed with bzip2", bz2.compress(ROWS)),
    "empty bzip2": ("compressed with bzip2", bz2.compress(b"")),
    "xz": ("compressed with xz", lzma.compress(ROWS)),
    "zstd": ("compressed with zstd", pa.compress(ROWS, "zstd", asbytes=True)),
    "lz4": ("compressed with lz4", pa.compress(ROWS, "lz4", asbytes=True)),
    "parquet": ("a Parquet file", _written(pq.write_table)),
    "arrow": ("an Arrow file", _written(feather.write_feather)),
    "arrow stream": ("an Arrow stream", _written(_stream)),
    "orc": ("an ORC file", _written(orc.write_table)),
    "sqlite": ("an SQLite database", _sqlite),
    "npy": ("a NumPy array", _npy),
    "pickle": ("a Python pickle", pickle.dumps({"a": [1]})),
    "pdf": ("a PDF document", b"%PDF-1.7\n%\xe2\xe3"),
    "png": ("an image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    "html": ("a web page (HTML)", b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n"),
    "html of capitals": ("a web page (HTML)", b"\xef\xbb\xbf  <HTML>\n<body>"),
    "xml": ("an XML document", b'<?xml version="1.0"?>\n<a/>'),
    "json": ("a JSON document", b'{"id": 1, "x": [1, 2, {"b": "c,d"}], "t": null}\n'),
    "json lines": ("a JSON document", b'{"id": 1}\n{"id": 2}\n'),
    "long json": ("a JSON document", b"[\n" + b'  {"id": 1, "name": "b \\" c", "ok": true},\n' * 400 + b"]"),
    "numbers": ("a binary file", np.arange(2000, dtype=np.int64).tobytes()),
    "doubles": ("a binary file", np.arange(2000, dtype=np.float64).tobytes()),
    "zeros": ("a binary file", bytes(5000)),
}


def _bytes(case: str, folder: Path) -> tuple[str, bytes]:
    name, data = OTHERS[case]
    return name, data if isinstance(data, bytes) else data(folder)


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_no_text_table_is_named_as_what_it_is(tmp_path: Path, case: str) -> None:
    name, data = _bytes(case, tmp_path)
    with pytest.raises(InputError) as refused:
        read_all(csv_source(tmp_path, data))
    assert f"table.csv is {name}" in refused.value.what
    assert refused.value.expected
    assert refused.value.next_step


@pytest.mark.parametrize("case", ["tar", "zip", "xlsx", "html", "parquet", "numbers", "xz"])
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_what_is_compressed_is_recognised_too(tmp_path: Path, case: str, compress: Callable[[bytes], bytes]) -> None:
    ending, tool = {gzip.compress: (".gz", "gzip"), bz2.compress: (".bz2", "bzip2")}.get(compress, (".xz", "xz"))
    name, data = _bytes(case, tmp_path)
    with pytest.raises(InputError, match=rf"is {name.replace('(', '.').replace(')', '.')} inside {tool}, not a text"):
        read_all(csv_source(tmp_path, compress(data), name=f"table.csv{ending}"))


@pytest.mark.parametrize("case", ["zip", "gzip", "html", "arrow", "json", "pickle"])
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_file_that_is_no_parquet_or_arrow_file_is_named_as_what_it_is(tmp_path: Path, case: str, ending: str) -> None:
    if case == "arrow" == ending:
        case = "parquet"
    name, data = _bytes(case, tmp_path)
    (tmp_path / f"t.{ending}").write_bytes(data)
    with pytest.raises(InputError) as refused:
        read_all(Source((f"t.{ending}",), tmp_path))
    assert f"t.{ending} is {name}, not a" in refused.value.what
    assert refused.value.next_step


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_plain_text_under_the_ending_of_another_format_is_said(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"t.{ending}").write_bytes(ROWS)
    with pytest.raises(InputError, match="is plain text, not a") as refused:
        read_all(Source((f"t.{ending}",), tmp_path))
    assert 'format = "csv"' in refused.value.next_step


@pytest.mark.parametrize("name", ["t.csv.zip", "t.xlsx", "t"])
def test_a_file_of_an_unknown_ending_is_told_by_its_contents(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(_zip())
    with pytest.raises(InputError, match="is a zip archive"):
        list_files(Source((name,), tmp_path))


def test_a_tar_archive_in_gzip_is_told_by_its_contents(tmp_path: Path) -> None:
    (tmp_path / "t.csv.tar.gz").write_bytes(gzip.compress(_tar()))
    with pytest.raises(InputError, match=r"is a tar archive inside gzip"):
        list_files(Source(("t.csv.tar.gz",), tmp_path))


GOOD = [
    b"PAR1,PAR2\n1,2\n",
    b"BM,GIF89a\n1,2\n",
    b"MZ,intensity\n1,2\n",
    b"PK,ORC\n1,2\n",
    b"FEA1;x\n1;2\n",
    b"<html>,x\n1,2\n",
    b'{"a": 1}\t5\n{"a": 2}\t6\n',
    b'{"a":1},{"b":2}\n',
    b"[1,2],3\n[4,5],6\n",
    b'["a","b"]\n',
    b"BZh9,x\n1,2\n",
    b"RDX3\nX\n"[:5] + b"1\n",
    b"\x80\x80,x\n1,2\n",
    b"\xff\xd8,x\n",
    b"a\0b,c\n" + b"1,2\n" * 20,
    b"f,g\n" + b"\0,\1\n" * 5,
]


@pytest.mark.parametrize("data", GOOD)
def test_a_text_table_is_not_taken_for_something_else(data: bytes) -> None:
    assert recognise(data) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["id,x\n1,2\n", "名,前\n一,二\n", "à,b\n1,2\n"])
def test_text_of_several_bytes_a_character_is_no_binary_file(encoding: str, text: str) -> None:
    assert recognise((text * 60).encode(encoding)) is None
    assert recognise((text * 600).encode(encoding)) is None


@examples(150)
@given(st.text(alphabet='[]{}<>":,; \n\t1aé%PKBM', max_size=60), st.sampled_from(["utf-8", "utf-16-le", "latin-1"]))
def test_only_what_looks_like_json_or_a_page_is_refused_of_any_text(text: str, encoding: str) -> None:
    found = recognise(text.encode(encoding))
    assert found is None or (found.name == "a JSON document" and text.lstrip().startswith(("{", "[")))


@examples(80)
@given(
    st.sampled_from(list(OTHERS)),
    st.integers(0, 600),
    st.one_of(st.binary(max_size=80), st.just(ROWS)),
    st.sampled_from(["csv", "csv.gz", "csv.bz2", "csv.xz", "csv.zst", "parquet", "arrow"]),
    st.sampled_from([None, "utf-8", "latin-1", "utf-16", "cp500"]),
)
def test_any_bytes_are_read_or_refused_by_name(
    tmp_path: Path, case: str, kept: int, rest: bytes, ending: str, encoding: str | None
) -> None:
    (tmp_path / f"t.{ending}").write_bytes(_bytes(case, tmp_path)[1][:kept] + rest)
    form = None if encoding is None else CsvFormat(encoding=encoding)
    found = read_or_refuse(Source((f"t.{ending}",), tmp_path, csv=form))
    if isinstance(found, InputError):
        assert f"t.{ending}" in found.what


def test_a_nul_in_a_header_is_refused_by_its_place(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read_all(csv_source(tmp_path, b"id,y\0z,x\n1,2,3\n"))
    assert refused.value.found == "a NUL in the name of column 2 of 3"
    assert "names = [...]" in refused.value.next_step
    named = read_all(csv_source(tmp_path, b"id,y\0z,x\n1,2,3\n", CsvFormat(names=("id", "y", "x"))))
    assert list(named.values.values()) == [("1", "2", "3")]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_text_of_two_bytes_without_a_mark_is_refused_with_its_encoding(tmp_path: Path, encoding: str) -> None:
    refused = read_or_refuse(csv_source(tmp_path, ROWS.decode().encode(encoding)))
    assert isinstance(refused, InputError)
    assert f'encoding = "{encoding}"' in refused.next_step


def test_utf_16_without_its_mark_is_refused_with_the_encodings_to_choose_from(tmp_path: Path) -> None:
    for data in (ROWS, ROWS.decode().encode("utf-16-le")):
        refused = read_or_refuse(csv_source(tmp_path, data, CsvFormat(encoding="utf-16")))
        assert isinstance(refused, InputError)
        assert refused.what.endswith("table.csv is not text in utf-16")
        assert '"utf-16-le"' in refused.next_step


@pytest.mark.parametrize("encoding", ["rot13", "base64", "idna", "undefined", "nonsense", "a\0b"])
def test_a_codec_that_no_text_file_is_written_in_is_not_known(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(InputError, match="is not known"):
        read_all(csv_source(tmp_path, ROWS, CsvFormat(encoding=encoding)))
