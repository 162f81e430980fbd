"""Delta and Iceberg tables in a bucket: the rows, places and refusals of the same table on a disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from fault_proxy import FaultProxy
from iceberg_tables import deletion_vectors, iceberg, position_deletes, with_deletes
from object_servers import KEYS, bucket_client, put_objects
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from real_data import needs_shared_data
from small_projects import Ran
from snapshot_tables import Read, add, delta, field, read_snapshot, write_log
from test_delta import GOLDEN, GOLDEN_TABLES

import rayforest
from rayforest.engine.executors import InProcess
from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.bucket import Bucket
from rayforest.engine.stores.object_uri import provider_uri
from rayforest.engine.stores.opening import open_store
from rayforest.errors import ConfigError, InputError
from rayforest.scoring.publication import Publication
from rayforest.tables.batch import Source
from rayforest.tables.reading import find_files, list_files, read


@pytest.fixture
def put(s3: str) -> Callable[[Path], str]:
    """Copies a folder below a prefix of its own; gives its URI."""
    return lambda folder: put_objects(os.environ["AWS_ENDPOINT_URL"], key_of(f"{s3}/{folder.name}"), folder)


def key_of(uri: str) -> str:
    return uri.removeprefix("s3://bucket/")


def told(found: Read) -> tuple[object, ...]:
    """What a plan and its rows are made of, but for where the files lie."""
    files = [(file.path, file.size, file.identity, file.pieces, file.entry) for file in found.files]
    return found.table, found.places, files, found.source.layout, found.source.table.snapshot


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """0: two files. 1: one more, with one more column. 2: some rows are gone."""
    table = tmp_path / "grown"
    write_deltalake(table, pa.table({"id": [1, 2, 3], "p": ["a b%", "c#?", "é"]}), partition_by=["p"])
    write_deltalake(
        table, pa.table({"id": [4], "p": ["c#?"], "x": [1.5]}), partition_by=["p"], mode="append", schema_mode="merge"
    )
    DeltaTable(table).delete("id = 1")
    return table


# ---- Delta


@pytest.mark.parametrize("version", [None, 0, 1, 2])
def test_a_delta_table_in_a_bucket_is_the_same_input(
    grown: Path, put: Callable[[Path], str], version: int | None
) -> None:
    remote = read_snapshot(delta(put(grown), version))
    assert told(remote) == told(read_snapshot(delta(grown, version)))
    assert all(file.uri.startswith("s3://bucket/") for file in remote.files)


def test_files_are_known_by_their_etags(grown: Path, put: Callable[[Path], str]) -> None:
    uri = put(grown)
    client = bucket_client(os.environ["AWS_ENDPOINT_URL"])
    for file in find_files(delta(uri))[1]:
        assert file.stamp == obstore.head(client, key_of(file.uri))["e_tag"].strip('"')


def test_deleted_rows_and_names_that_a_uri_would_quote(tmp_path: Path, put: Callable[[Path], str]) -> None:
    table = tmp_path / "a b%é#1"
    files = [
        add(table, "p=c d/f é#1.parquet", pa.table({"id": list(range(10))}), deleted=[0, 3, 9]),
        add(table, "p=e%20f/z.parquet", pa.table({"id": [99, 100]}), deleted=[1]),
    ]
    write_log(table, [field("id", "long")], files, features=["deletionVectors"])
    remote = read_snapshot(delta(put(table)))
    assert remote.table.column("id").to_pylist() == [1, 2, 4, 5, 6, 7, 8, 99]
    assert told(remote) == told(read_snapshot(delta(table)))


def test_files_outside_of_the_tables_folder_are_found_one_by_one(
    tmp_path: Path, put: Callable[[Path], str], s3: str
) -> None:
    """As a shallow clone names them, also by the scheme that Hadoop uses."""
    action = add(tmp_path / "origin", "a b.parquet", pa.table({"id": [1, 2]}))
    put(tmp_path / "origin")
    clone, inside = tmp_path / "clone", add(tmp_path / "clone", "own.parquet", pa.table({"id": [3]}))
    outside = action | {"path": s3.replace("s3://", "s3a://") + "/origin/a%20b.parquet"}
    write_log(clone, [field("id", "long")], [outside, inside])
    found = read_snapshot(delta(put(clone)))
    assert found.places == [("own.parquet", 0), (f"{s3}/origin/a b.parquet", 0), (f"{s3}/origin/a b.parquet", 1)]
    assert found.table.column("id").to_pylist() == [3, 1, 2]


def test_a_table_is_listed_once_and_no_file_is_asked_for_by_itself(
    grown: Path, put: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = put(grown)
    asked: list[str] = []
    for name in ("walk", "head"):
        original = getattr(Bucket, name)
        monkeypatch.setattr(Bucket, name, lambda *a, _name=name, _call=original: asked.append(_name) or _call(*a))
    assert len(find_files(delta(uri, 1))[1]) == 4
    assert asked == ["walk"]


def test_a_file_that_was_vacuumed_overwritten_or_replaced_is_named(grown: Path, put: Callable[[Path], str]) -> None:
    uri = put(grown)
    client = bucket_client(os.environ["AWS_ENDPOINT_URL"])
    found = read_snapshot(delta(uri, 0))
    file = found.files[0]
    whole = bytes(obstore.get(client, key_of(file.uri)).bytes())
    obstore.put(client, key_of(file.uri), whole[:-1] + b"?")
    from rayforest.engine.shards import plan_shards

    (shard,) = plan_shards(found.files, shard_rows=99, shard_bytes=1 << 30)
    with pytest.raises(InputError, match="changed during the run"):
        list(read(shard.ranges[0], found.source, ["id"]))
    obstore.put(client, key_of(file.uri), whole + b"?")
    with pytest.raises(InputError, match="is not the data file of version 0") as refused:
        find_files(delta(uri, 0))
    assert refused.value.found == f"{len(whole) + 1:,} bytes"
    obstore.delete(client, key_of(file.uri))
    with pytest.raises(InputError, match=r"a data file of version 0 .* cannot be read") as refused:
        find_files(delta(uri, 0))
    assert (refused.value.found, "vacuum" in refused.value.next_step) == ("no such file", True)


@needs_shared_data
@pytest.mark.parametrize("path", GOLDEN_TABLES, ids=lambda path: str(path.relative_to(GOLDEN)))
def test_golden_tables_come_out_of_a_bucket_as_from_a_disk(path: Path, put: Callable[[Path], str]) -> None:
    uri = put(path)

    def outcome(source: Source) -> tuple[object, ...]:
        try:
            return told(read_snapshot(source, shard_rows=300_000))
        except InputError as error:
            return type(error), error.what.replace(uri, str(path)), error.expected

    assert outcome(delta(uri)) == outcome(delta(path))


# ---- credentials and refusals


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("s3://{s3}/none", "the Delta table .*none cannot be read"),
        ("s3://no-such-bucket-here/t", "the Delta table s3://no-such-bucket-here/t cannot be read"),
        ("s3://bucket/a%20b/t", "cannot be opened"),
        ("s3a://bucket/t", "no store speaks s3a://"),
        ("s3://testing:testing-secret@bucket/t", "holds credentials"),
    ],
)
def test_what_is_no_table_is_refused_by_name(s3: str, uri: str, what: str) -> None:
    with pytest.raises((InputError, ConfigError), match=what) as refused:
        find_files(delta(uri.format(s3=s3.removeprefix("s3://"))))
    assert refused.value.next_step
    assert "testing" not in str(refused.value)


def test_what_a_store_refuses_is_told_without_addresses_and_keys(
    grown: Path, put: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = put(grown)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mistyped-secret")
    with pytest.raises(InputError) as refused:
        find_files(delta(uri))
    assert refused.value.found == "403 Forbidden, SignatureDoesNotMatch"
    assert "secret" not in str(refused.value)


@pytest.fixture
def of_a_profile(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Keys in a profile of AWS only, and an endpoint under the name that only some libraries know."""
    with FaultProxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        home = tmp_path / "home"
        (home / ".aws").mkdir(parents=True)
        lines = ["[work]", "aws_access_key_id = renewed", f"aws_secret_access_key = {KEYS['renewed']}"]
        (home / ".aws" / "credentials").write_text("\n".join(lines))
        monkeypatch.setenv("HOME", str(home))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_PROFILE", "work")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield proxy


def test_the_keys_of_a_profile_open_the_log_as_well_as_the_files(
    grown: Path, s3_endpoint: str, s3: str, of_a_profile: FaultProxy
) -> None:
    uri = put_objects(s3_endpoint, key_of(s3), grown)
    of_a_profile.exchanges.clear()
    assert read_snapshot(delta(uri)).table.num_rows == 3
    keys = {e.headers["authorization"].partition("Credential=")[2].partition("/")[0] for e in of_a_profile.exchanges}
    assert keys == {"renewed"}
    assert any("_last_checkpoint" in exchange.target for exchange in of_a_profile.exchanges)


# ---- a table's folder met as plain files


@pytest.mark.parametrize(
    "pattern",
    ["grown", "grown/", "grown/p=*/*.parquet", "*/*/*.parquet", "g*/**/*.parquet", "**/*.parquet", "", "grown/p=é"],
)
def test_a_folder_of_a_delta_table_is_no_folder_of_plain_files(
    tmp_path: Path, s3: str, put: Callable[[Path], str], pattern: str
) -> None:
    write_deltalake(tmp_path / "grown", pa.table({"id": [1, 2], "p": ["a", "b"]}), partition_by=["p"])
    (tmp_path / "grown" / "p=a").rename(tmp_path / "grown" / "p=é")
    uri = put(tmp_path / "grown")
    with pytest.raises(InputError) as refused:
        list_files(Source((f"{s3}/{pattern}",), Path()))
    assert f"reads files of the Delta table {uri}" in refused.value.what
    assert refused.value.next_step == f'source = {{ delta = "{uri}" }}'


def test_an_object_of_it_is_read_with_a_note_and_a_table_beside_it_without(
    tmp_path: Path, s3: str, put: Callable[[Path], str]
) -> None:
    write_deltalake(tmp_path / "grown", pa.table({"id": [1, 2]}))
    uri = put(tmp_path / "grown")
    (tmp_path / "plain").mkdir()
    pq.write_table(pa.table({"id": [1]}), tmp_path / "plain" / "a.parquet")
    put(tmp_path / "plain")
    (inside,) = find_files(delta(uri))[1]
    notes: list[str] = []
    patterns = (inside.uri, f"{s3}/plain", f"{s3}/p*/*.parquet")
    assert [file.path for file in list_files(Source(patterns, Path()), notes)] == [inside.path, "a.parquet"]
    assert notes == [f"{inside.uri} is read by itself, whatever the Delta table {uri} says of it"]


def test_a_folder_that_may_be_listed_below_others_that_may_not_is_read(
    tmp_path: Path, s3: str, put: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").mkdir()
    pq.write_table(pa.table({"id": [1]}), tmp_path / "plain" / "a.parquet")
    uri = put(tmp_path / "plain")
    walk = Bucket.walk

    def walk_where_allowed(bucket: Bucket, folder: str, begin: str = "") -> Iterator[object]:
        if not folder.startswith(key_of(uri)):
            raise PermissionError(13, "403 Forbidden, AccessDenied", folder)
        return walk(bucket, folder, begin)

    monkeypatch.setattr(Bucket, "walk", walk_where_allowed)
    assert [file.path for file in list_files(Source((uri,), Path()))] == ["a.parquet"]


# ---- Iceberg


def catalog_in(folder: Path, **more: str) -> Catalog:
    settings = {"s3.endpoint": os.environ["AWS_ENDPOINT_URL"], "s3.region": "us-east-1"}
    return load_catalog("lake", uri=f"sqlite:///{folder}/catalog.db", **settings, **more)


@pytest.fixture
def lake(tmp_path: Path, s3: str) -> str:
    """A table in a catalog on a disk whose files lie in a bucket; the location of its newest metadata."""
    catalog = catalog_in(tmp_path, warehouse=f"{s3}/ware house")
    catalog.create_namespace("shop")
    rows = pa.table({"id": [0, 1, 2, 3, 4, 5], "name": list("abcdef")})
    table = catalog.create_table("shop.orders", rows.schema)
    table.append(rows)
    table.append(rows.slice(0, 2))
    return str(table.metadata_location)


def test_an_iceberg_table_in_a_bucket_is_read_by_its_metadata_file(lake: str) -> None:
    found = read_snapshot(iceberg(lake))
    assert Counter(found.table.column("name").to_pylist()) == Counter("abcdefab")
    assert all(file.path.startswith("data/") and file.uri.startswith("s3://bucket/") for file in found.files)


def test_and_by_its_name_in_a_catalog_that_says_nothing_of_the_store(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__URI", f"sqlite:///{tmp_path}/catalog.db")
    by_name = read_snapshot(iceberg("shop.orders", catalog="lake"))
    assert told(by_name) == told(read_snapshot(iceberg(lake)))


@pytest.mark.parametrize("kind", [position_deletes, deletion_vectors])
def test_deletes_of_an_iceberg_table_are_read_from_the_bucket(
    lake: str, tmp_path: Path, kind: Callable[[Table, dict[str, list[int]]], DataFile]
) -> None:
    table = catalog_in(tmp_path).load_table("shop.orders")
    large = next(task.file.file_path for task in table.scan().plan_files() if task.file.record_count == 6)
    metadata = with_deletes(table, kind(table, {large: [0, 5]}))
    assert Counter(read_snapshot(iceberg(metadata)).table.column("name").to_pylist()) == Counter("bcdeab")


def test_a_folder_of_an_iceberg_table_is_no_folder_of_plain_files(lake: str) -> None:
    folder = lake.partition("/metadata/")[0]
    for pattern in (folder, f"{folder}/data", f"{folder}/data/*.parquet"):
        with pytest.raises(InputError, match="reads files of the Iceberg table") as refused:
            list_files(Source((pattern,), Path()))
        assert refused.value.next_step == f'source = {{ iceberg = "{lake}" }}, or its name in a catalog'


def test_the_keys_of_a_profile_open_an_iceberg_table(lake: str, of_a_profile: FaultProxy) -> None:
    assert read_snapshot(iceberg(lake)).table.num_rows == 8
    assert any(".metadata.json" in exchange.target for exchange in of_a_profile.exchanges)


# ---- Google and Azure


@pytest.mark.parametrize("cloud", ["gs", "az"])
def test_tables_in_google_and_azure_are_read_and_published_to(
    cloud: str, request: pytest.FixtureRequest, grown: Path, ran: Ran, tmp_path: Path
) -> None:
    uri = request.getfixturevalue(cloud)
    store = open_store(f"{uri}/grown")
    for file in sorted(path for path in grown.rglob("*") if path.is_file()):
        assert store.create(str(file.relative_to(grown)), file.read_bytes())
    remote = read_snapshot(delta(f"{uri}/grown"))
    assert told(remote) == told(read_snapshot(delta(grown)))
    assert {file.uri.partition("://")[0] for file in remote.files} == {cloud}
    rayforest.score(ran.folder / "project.toml", overrides=[f'score.destination="{tmp_path}/scored"'], replace=True)
    manifest = read_manifest(tmp_path / "scored")
    outcomes = [Publication(f"{uri}/table", "p").commit(manifest, InProcess()) for _ in range(2)]
    assert [(outcome["version"], outcome["added"]) for outcome in outcomes] == [(0, True), (0, False)]
    names = ["id", "prediction"]
    found = read_snapshot(delta(f"{uri}/table"), names).table
    assert found.equals(rayforest.read(tmp_path / "scored").select(names).collect().to_arrow().cast(found.schema))


def test_a_connection_string_of_azure_opens_a_table(az: str, grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"{az}/grown")
    for file in sorted(path for path in grown.rglob("*") if path.is_file()):
        assert store.create(str(file.relative_to(grown)), file.read_bytes())
    names = {"AccountName": "ACCOUNT_NAME", "AccountKey": "ACCOUNT_KEY", "BlobEndpoint": "ENDPOINT"}
    parts = {part: os.environ[f"AZURE_STORAGE_{name}"] for part, name in names.items()}
    for name in names.values():
        monkeypatch.delenv(f"AZURE_STORAGE_{name}")
    text = ";".join(f"{part}={value}" for part, value in parts.items())
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    assert told(read_snapshot(delta(f"{az}/grown"))) == told(read_snapshot(delta(grown)))


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("s3a://bucket/a b/c", "s3://bucket/a b/c"),
        ("gcs://bucket/a", "gs://bucket/a"),
        ("abfss://box@account.dfs.core.windows.net/a/b", "az://box/a/b"),
        ("wasbs://box@account.blob.core.windows.net/a", "az://box/a"),
        ("s3://bucket/a@b:c/d", "s3://bucket/a@b:c/d"),
    ],
)
def test_files_go_by_the_schemes_that_we_use(written: str, read_as: str) -> None:
    assert provider_uri(written) == read_as
