"""Tables in object stores: a URI finds what the same path finds on a file system, in few requests."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from object_servers import put_objects
from small_projects import orders, write_orders, write_project

import rayforest
from rayforest.engine.stores.bucket import Bucket
from rayforest.errors import ConfigError, InputError
from rayforest.tables.reading import CsvFormat, Source, list_files

TREE = (
    "d/2023-1/a.csv",
    "d/2024/a.csv",
    "d/2024-",
    "d/2024-1/a.csv",
    "d/2024-1/b.csv",
    "d/2024-10/x/y/c.csv",
    "d/2024-2/_h/x.csv",
    "d/2024-2/.git/x.csv",
    "d/2024-2/_x.csv",
    "d/2024.csv",
    "d/[2024]-3/a.csv",
    "d/2025-1/B.csv.gz",
    "d/2025-1/a.tsv",
    "d/2025-1/notes.md",
    "d/A b%20c?#.csv",
    "d/\u00e4 \u00fc/z.csv",
    "d0/a.csv",
    "h/year=2024/city=K%C3%B6ln/a.parquet",
    "h/year=2024/city=Ulm/a.parquet",
    "h/year=2025/city=__HIVE_DEFAULT_PARTITION__/b.parquet",
    "o/claims/notes.json",
    "o/claims/a.csv",
)
"""Keys that folders' names, bytes and globs order and match in different ways."""

PATTERNS = (
    ["d"],
    ["d/"],
    ["d/2024"],
    ["d/2024-*/*.csv"],
    ["d/2024*/a.csv"],
    ["d/2024*"],
    ["d/2024-*"],
    ["d/2024-1*/**/*.csv"],
    ["d/**"],
    ["d/**/a.csv"],
    ["**/b.*"],
    ["d/2024-2/_*.csv"],
    ["d/2024-2/_h/x.csv"],
    ["d/2024-2/.git/*"],
    ["d/202[34]-1/*"],
    ["d/[2024]-3/a.csv"],
    ["d/[2024]-3/*.csv"],
    ["d/A b%20c?#.csv"],
    ["d/\u00e4 \u00fc"],
    ["h"],
    ["h/year=2024"],
    ["h/*/*/a.parquet"],
    ["h/year=2024/city=Ulm", "h/year=2025/*"],
    ["d/2024/a.csv", "d/2024-1/a.csv", "d/2023-1"],
    ["d/2024-1/b.csv", "d/2024-1"],
    ["o"],
    ["o/claims/*.csv"],
    ["d/none-*"],
    ["d/2024-9"],
    ["none"],
)


@pytest.fixture(scope="module")
def trees(s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same keys as files of a folder and as objects."""
    folder = tmp_path_factory.mktemp("tree")
    for name in TREE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"a\n1\n")
    return folder, put_objects(s3_endpoint, "trees", folder)


@pytest.fixture
def tree(trees: tuple[Path, str], s3: str) -> tuple[Path, str]:
    return trees


def found(patterns: list[str], base: Path, csv: CsvFormat | None) -> list[tuple[str, int, str]] | type[Exception]:
    try:
        files = list_files(Source(tuple(patterns), base, csv=csv))
    except InputError as error:
        return type(error)
    return [(file.path, file.size, file.format) for file in files]


@pytest.mark.parametrize("patterns", PATTERNS, ids=" ".join)
@pytest.mark.parametrize("csv", [None, CsvFormat()], ids=["by ending", "as text"])
def test_a_uri_finds_what_the_same_path_finds(
    tree: tuple[Path, str], patterns: list[str], csv: CsvFormat | None
) -> None:
    folder, uri = tree
    assert found([f"{uri}/{pattern}" for pattern in patterns], folder, csv) == found(patterns, folder, csv)


def test_an_object_is_known_by_its_etag_and_a_path_may_stand_beside_it(tree: tuple[Path, str]) -> None:
    folder, uri = tree
    remote, local = list_files(Source((f"{uri}/d/2024.csv", "d/2024-1/a.csv"), folder))
    assert (remote.path, remote.uri, remote.size) == ("2024.csv", f"{uri}/d/2024.csv", 4)
    assert remote.stamp == hashlib.md5(b"a\n1\n", usedforsecurity=False).hexdigest()
    assert (local.path, local.uri) == ("a.csv", str(folder / "d/2024-1/a.csv"))


def test_of_a_glob_only_keys_that_begin_like_it_are_listed(
    tree: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, uri = tree
    walked: list[tuple[str, str]] = []
    walk = Bucket.walk

    def counted(bucket: Bucket, at: str, begin: str = "") -> object:
        walked.append((at, begin))
        return walk(bucket, at, begin)

    monkeypatch.setattr(Bucket, "walk", counted)
    list_files(Source((f"{uri}/d/2024-1*/*.csv",), folder))
    assert walked[-1] == (f"{uri.removeprefix('s3://bucket/')}/d", "2024-1")


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("s3://bu*/x", "names no bucket"),
        ("{uri}/d/2024-9", "does not exist"),
        ("{uri}/d/2024-9*", "no file matches"),
        ("{uri}/d/2025-1/notes.md", "the format of .* is not known"),
        ("s3://no-such-bucket-here/x", "cannot be listed"),
        ("gcs://bucket/x", "no store speaks gcs://"),
        ("ftp://host/x", "no store speaks ftp://"),
        ("s3://key:secret@bucket/x", "holds credentials"),
    ],
)
def test_what_cannot_be_found_is_refused_by_name(tree: tuple[Path, str], pattern: str, what: str) -> None:
    folder, uri = tree
    with pytest.raises((InputError, ConfigError), match=what) as refused:
        list_files(Source((pattern.format(uri=uri),), folder))
    assert refused.value.next_step
    assert "secret" not in str(refused.value)


def test_marks_of_empty_folders_are_no_tables(s3: str, tmp_path: Path) -> None:
    from pyarrow import fs

    files = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], region="us-east-1", scheme="http")
    place = s3.removeprefix("s3://")
    for name in ("t", "t/empty", "t/full"):
        files.create_dir(f"{place}/{name}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "part-0").write_text("a\n1\n")
    put_objects(os.environ["AWS_ENDPOINT_URL"], f"{place.removeprefix('bucket/')}/t", tmp_path)
    assert found([f"{s3}/t"], tmp_path, CsvFormat()) == [("full/part-0", 4, "csv")]
    assert found([f"{s3}/t/**"], tmp_path, CsvFormat()) == [("full/part-0", 4, "csv")]
    assert found([f"{s3}/t/empty"], tmp_path, CsvFormat()) is InputError


def test_results_among_raw_objects_are_left_out_and_read_where_they_are_named(s3: str, tmp_path: Path) -> None:
    write_orders(tmp_path, orders(300), files=2)
    project = rayforest.load_project(write_project(tmp_path, project=f'root = "{s3}/out"'))
    rayforest.prepare(project)
    put_objects(os.environ["AWS_ENDPOINT_URL"], s3.removeprefix("s3://bucket/"), tmp_path / "raw")
    notes: list[str] = []
    assert [f.path for f in list_files(Source((s3,), tmp_path), notes)] == ["part-000.parquet", "part-001.parquet"]
    assert notes == [f"results of rayforest are not read as raw data: {s3}/out/prepared"]
    notes.clear()
    named = list_files(Source((f"{s3}/out/prepared",), tmp_path), notes)
    assert [file.uri for file in named] == list(rayforest.files(f"{s3}/out/prepared"))
    assert all(file.size > 0 and file.stamp for file in named)
    assert notes == [f"{s3}/out/prepared is a result of rayforest: its current version is read"]
    with pytest.raises(InputError, match="lies inside"):
        list_files(Source((named[0].uri.rpartition("/")[0],), tmp_path))


def test_a_hundred_thousand_objects_are_listed_in_little_memory(tmp_path: Path) -> None:
    """Against a server that makes up the pages of a listing: the most memory that the process ever had."""
    server = Path(__file__).parents[1] / "given" / "listing_server.py"
    program = """
import json, re
from pathlib import Path
from rayforest.tables.object_patterns import ObjectExpansion
from rayforest.tables.reading import Source, list_files
def most_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = most_kib()
files = list_files(Source(("s3://bucket/data/year=*/*.parquet",), Path()))
print(json.dumps([len(files), files[0].path, files[-1].path, before, most_kib() - before]))
"""
    with subprocess.Popen([sys.executable, str(server), "100000"], stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        address = serving.stdout.readline().strip()
        keys = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        environment = os.environ | keys | {"AWS_REGION": "us-east-1"}
        try:
            run = subprocess.run(
                [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
            )
        finally:
            serving.terminate()
    assert run.returncode == 0, run.stderr
    count, first, last, before_kib, grown_kib = json.loads(run.stdout)
    assert (count, first, last) == (100_000, "year=2000/part-000000.parquet", "year=2009/part-099999.parquet")
    assert before_kib + grown_kib < 1 << 20
    assert grown_kib < 200 << 10  # 2 kB an object
