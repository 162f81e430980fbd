"""Scored results as commits of a Delta table in a bucket: each once, by conditional puts, whatever is killed."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from fault_proxy import Exchange, Fault, FaultProxy
from object_servers import bucket_client
from small_projects import Ran, orders

import rayforest
from rayforest.engine.executors import InProcess
from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.bucket import Bucket
from rayforest.errors import FormatError, InputError
from rayforest.scoring.publication import Publication
from rayforest.tables.snapshots.delta import delta_uri

HTTP = {"allow_http": "true"}


def score(ran: Ran, table: str, destination: str, *more: str, replace: bool = True) -> dict[str, object]:
    """Score with the bundle of `ran`, and publish; what --json says."""
    settings = [f'score.destination="{destination}"', f'score.publish.delta="{table}"', *more]
    return rayforest.score(ran.folder / "project.toml", overrides=settings, replace=replace).as_dict()


def rows(table: str) -> pl.DataFrame:
    """As Polars, which knows nothing of rayforest, reads them."""
    return pl.read_delta(table, storage_options=HTTP).sort("id")


def commits(table: str) -> list[str]:
    log = obstore.list(
        bucket_client(os.environ["AWS_ENDPOINT_URL"]), f"{table.removeprefix('s3://bucket/')}/_delta_log"
    )
    return sorted(entry["path"].rpartition("/")[2] for entry in log.collect() if entry["path"].endswith(".json"))


def published(table: str, destination: str) -> bool:
    return bool(Publication(table, "p").commit(read_manifest(destination), InProcess())["added"])


@pytest.mark.parametrize("place", ["{s3}/scored", "{folder}/scored"], ids=["from the bucket", "from a disk"])
def test_the_table_holds_the_scored_rows_once_however_often_the_run_is_repeated(
    ran: Ran, s3: str, tmp_path: Path, place: str
) -> None:
    table, destination = f"{s3}/table", place.format(s3=s3, folder=tmp_path)
    told = score(ran, table, destination, "run.shard_rows=50")
    assert told["published"] == {"delta": table, "version": 0, "added": True}
    assert rows(table).equals(rayforest.read(destination).collect().sort("id"))
    for replace in (False, True):
        again = score(ran, table, destination, "run.shard_rows=50", replace=replace)
        assert again["published"] == {"delta": table, "version": 0, "added": False}
    assert commits(table) == ["00000000000000000000.json"]


def test_new_rows_are_one_more_commit_and_the_table_is_a_source(ran: Ran, s3: str, tmp_path: Path) -> None:
    orders(30, seed=4, first=1000).write_parquet(tmp_path / "new.parquet")
    score(ran, f"{s3}/table", f"{s3}/one")
    before = rows(f"{s3}/table").height
    told = score(ran, f"{s3}/table", f"{s3}/two", f'score.source="{tmp_path}/new.parquet"')
    assert told["published"] == {"delta": f"{s3}/table", "version": 1, "added": True}
    assert rows(f"{s3}/table").height == before + 30
    manifest = read_manifest(f"{s3}/two")
    store = bucket_client(os.environ["AWS_ENDPOINT_URL"])
    for path in manifest.data_paths():
        one, two = (f"{s3.removeprefix('s3://bucket/')}/{where}/{path}" for where in ("two", "table"))
        assert bytes(obstore.get(store, one).bytes()) == bytes(obstore.get(store, two).bytes())


def test_the_table_may_have_a_name_that_a_uri_would_quote(ran: Ran, s3: str) -> None:
    table = f"{s3}/a b%é#1/table"
    told = [score(ran, table, f"{s3}/scored", replace=False)["published"]["added"] for _ in range(2)]  # type: ignore[index]
    found = DeltaTable(delta_uri(table), storage_options=HTTP)
    assert (told, found.version()) == ([True, False], 0)
    assert pa.table(found.scan()).num_rows == read_manifest(f"{s3}/scored").rows_out


def test_files_in_the_same_bucket_are_copied_by_the_store(ran: Ran, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rayforest.score(ran.folder / "project.toml", overrides=[f'score.destination="{s3}/scored"'], replace=True)
    manifest = read_manifest(f"{s3}/scored")
    paths = list(manifest.data_paths())
    with FaultProxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        assert published(f"{s3}/table", f"{s3}/scored")
        copies = [e for e in proxy.exchanges if "x-amz-copy-source" in e.headers]
        assert len(copies) == len(paths)
        assert not [e for e in proxy.exchanges if e.method == "GET" and e.target.endswith(tuple(paths))]
        proxy.exchanges.clear()
        assert not published(f"{s3}/table", f"{s3}/scored")
        assert not [e for e in proxy.exchanges if e.method == "PUT"]


@pytest.mark.parametrize("at", ["_bring", "Publication._add"])
def test_a_crash_between_the_manifest_and_the_commit_is_made_up_for(
    ran: Ran, s3: str, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    class CrashError(BaseException):
        pass

    def crash(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(f"rayforest.scoring.publication.{at}", crash)
        with pytest.raises(CrashError):
            score(ran, f"{s3}/table", f"{s3}/scored")
    assert commits(f"{s3}/table") == []
    assert read_manifest(f"{s3}/scored").rows_out > 0
    told = score(ran, f"{s3}/table", f"{s3}/scored", replace=False)
    assert (told["resumed"], told["published"]["added"]) == (True, True)  # type: ignore[index]
    assert rows(f"{s3}/table").height == told["rows_out"]


@pytest.mark.parametrize("there", [False, True], ids=["a new table", "a table that is there"])
def test_many_publishers_at_once_add_a_result_once_and_all_of_them_succeed(
    ran: Ran, s3: str, tmp_path: Path, there: bool
) -> None:
    destinations = []
    for number, seed in enumerate((0, 0, 7, 8)):  # two of them are the same result
        orders(20, seed=seed, first=100 * seed).write_parquet(tmp_path / f"{seed}.parquet")
        destinations.append(f"{s3}/scored-{number}")
        settings = [f'score.destination="{destinations[-1]}"', f'score.source="{tmp_path}/{seed}.parquet"']
        rayforest.score(ran.folder / "project.toml", overrides=settings)
    if there:
        write_deltalake(f"{s3}/table", read_manifest(destinations[0]).schema.empty_table(), storage_options=HTTP)
    with ThreadPoolExecutor(8) as pool:
        tries = [pool.submit(published, f"{s3}/table", where) for where in destinations * 2]
        added = [attempt.result() for attempt in tries]
    assert sum(added) == 3
    assert rows(f"{s3}/table").height == 60
    assert len(commits(f"{s3}/table")) == 3 + there


def test_publishers_in_other_processes_add_a_result_once(ran: Ran, s3: str) -> None:
    rayforest.score(ran.folder / "project.toml", overrides=[f'score.destination="{s3}/scored"'], replace=True)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        added = pool.starmap(published, [(f"{s3}/table", f"{s3}/scored")] * 6, chunksize=1)
    assert sum(added) == 1
    assert rows(f"{s3}/table").height == read_manifest(f"{s3}/scored").rows_out


def test_a_commit_whose_answer_is_lost_is_not_made_twice(ran: Ran, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rayforest.score(ran.folder / "project.toml", overrides=[f'score.destination="{s3}/scored"'], replace=True)

    def lose_the_commit(exchange: Exchange) -> Fault | None:
        is_commit = exchange.method == "PUT" and exchange.target.endswith("/_delta_log/00000000000000000000.json")
        return Fault.LOST_TO_503 if is_commit and exchange.number == 0 else None

    with FaultProxy(os.environ["AWS_ENDPOINT_URL"], lose_the_commit) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        published(f"{s3}/table", f"{s3}/scored")
        assert proxy.injected == Counter({Fault.LOST_TO_503: 1})
        assert commits(f"{s3}/table") == ["00000000000000000000.json"]
        assert rows(f"{s3}/table").height == read_manifest(f"{s3}/scored").rows_out


def test_where_files_cannot_be_copied_by_the_store_they_are_read_checked_and_written(
    ran: Ran, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rayforest.score(ran.folder / "project.toml", overrides=[f'score.destination="{tmp_path}/scored"'], replace=True)
    manifest = read_manifest(tmp_path / "scored")
    (path, *_) = manifest.data_paths()
    data = bytearray((tmp_path / "scored" / path).read_bytes())
    data[10] ^= 1
    (tmp_path / "scored" / path).write_bytes(data)
    with pytest.raises(FormatError, match="is damaged or was changed"):
        published(f"{s3}/table", str(tmp_path / "scored"))
    assert commits(f"{s3}/table") == []
    data[10] ^= 1
    (tmp_path / "scored" / path).write_bytes(data)
    assert published(f"{s3}/table", str(tmp_path / "scored"))
    copied: list[str] = []
    monkeypatch.setattr(Bucket, "copy", lambda *_: copied.append("by the store"))
    assert published(str(tmp_path / "table"), str(tmp_path / "scored"))
    assert copied == []
    assert rows(f"{s3}/table").equals(pl.read_delta(str(tmp_path / "table")).sort("id"))


def test_what_the_table_does_not_take_is_refused_before_any_work(ran: Ran, s3: str) -> None:
    write_deltalake(f"{s3}/table", pa.table({"id": ["a"], "x": [1]}), partition_by=["id"], storage_options=HTTP)
    with pytest.raises(InputError, match="does not take scored rows"):
        score(ran, f"{s3}/table", f"{s3}/scored")
    store = bucket_client(os.environ["AWS_ENDPOINT_URL"])
    assert not obstore.list(store, f"{s3.removeprefix('s3://bucket/')}/scored").collect()


def test_no_secret_is_in_the_table_or_its_history(ran: Ran, s3: str) -> None:
    score(ran, f"{s3}/table", f"{s3}/scored")
    history = json.dumps(DeltaTable(f"{s3}/table", storage_options=HTTP).history(), default=str)
    assert '"rayforest.project"' in history
    assert "testing-secret" not in history
