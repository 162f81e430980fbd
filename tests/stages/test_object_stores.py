"""From tables in a bucket to results in a bucket: the same rows, errors and bytes as on a local disk."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import obstore
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from deltalake import DeltaTable, write_deltalake
from object_servers import bucket_client, put_objects
from small_projects import PROJECT, orders, write_orders, write_project

import rayforest
from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.opening import open_store
from rayforest.errors import UnfinishedError
from rayforest.preparing.prepare import Prepare
from rayforest.stages.stage import claim, fill, open_context
from rayforest.starter.starter import starter_project

DIRT = 'rules = { dear = "amount < 250 OR amount IS NULL" }'


def put_raw(uri: str, folder: Path) -> str:
    return put_objects(os.environ["AWS_ENDPOINT_URL"], uri.removeprefix("s3://bucket/") + "/raw", folder)


def result(destination: str) -> dict[str, list[bytes]]:
    """Contents of a stage's files, by their kind: what a name says of the run is left out."""
    store = bucket_client(os.environ["AWS_ENDPOINT_URL"])

    def read(place: str) -> bytes:
        remote = place.startswith("s3://bucket/")
        return bytes(obstore.get(store, place[12:]).bytes()) if remote else Path(place).read_bytes()

    manifest = read_manifest(destination)
    found = {"data": [read(place) for place in manifest.files()]} if manifest.shards else {}
    found["quarantine"] = [read(place) for place in manifest.quarantine_files()]
    return found | {name: [manifest.extra(name)] for name in manifest.extras}


def _parquet(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, row_group_size=120)


def _gz(frame: pl.DataFrame, path: Path) -> None:
    path.write_bytes(gzip.compress(frame.write_csv().encode(), mtime=0))


def _zst(frame: pl.DataFrame, path: Path) -> None:
    path.write_bytes(pa.Codec("zstd").compress(frame.write_csv().encode(), asbytes=True))


def _arrow(frame: pl.DataFrame, path: Path) -> None:
    feather.write_feather(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), path, chunksize=100)


FORMS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    "parquet": _parquet,
    "csv": pl.DataFrame.write_csv,
    "csv.gz": _gz,
    "csv.zst": _zst,
    "arrow": _arrow,
}


def write_hive(folder: Path, form: str) -> Path:
    """900 orders in three files of two hive folders; of text tables each has a row that does not read."""
    raw = folder / "raw"
    for number in range(3):
        place = raw / f"shop={number // 2}"
        place.mkdir(parents=True, exist_ok=True)
        FORMS[form](orders(300, seed=number, first=300 * number), place / f"part-{number}.{form}")
        if form == "csv":
            with (place / f"part-{number}.{form}").open("a") as file:
                file.write("o1,2\n")
    return raw


@pytest.mark.parametrize("form", FORMS)
def test_prepare_gives_the_same_bytes_from_a_bucket_as_from_a_folder(form: str, s3: str, tmp_path: Path) -> None:
    put_raw(s3, write_hive(tmp_path, form))
    path = write_project(tmp_path, data=DIRT, features='shop = "CAST(shop AS VARCHAR)"', run="shard_rows = 200")
    local = rayforest.prepare(path)
    remote = rayforest.prepare(rayforest.load_project(path, [f'data.source="{s3}/raw"', f'project.root="{s3}/out"']))
    assert (remote.rows_in, remote.rows_out, remote.rows_quarantined, remote.shards) == (
        local.rows_in,
        local.rows_out,
        local.rows_quarantined,
        local.shards,
    )
    assert local.rows_quarantined
    assert result(remote.destination) == result(local.destination)


def test_the_whole_path_gives_the_same_bytes_from_bucket_to_bucket(s3: str, tmp_path: Path) -> None:
    put_raw(s3, write_orders(tmp_path, orders(1_200), files=3))
    path = write_project(tmp_path, data=DIRT, score='carry = ["customer", "at", "bought"]', run="shard_rows = 500")
    remote = rayforest.load_project(path, [f'data.source="{s3}/raw/*.parquet"', f'project.root="{s3}/out"'])
    local = rayforest.load_project(path)
    assert rayforest.check(remote).as_dict() == rayforest.check(local).as_dict()
    rayforest.run(local)
    rayforest.run(remote)
    for stage in ("prepared", "bundle", "scored"):
        assert result(remote.stage(stage)) == result(local.stage(stage)), stage
    assert result(remote.stage("tuned"))["booster.txt"] == result(local.stage("tuned"))["booster.txt"]
    assert rayforest.run(remote).scored.resumed


def write_delta(folder: Path) -> Path:
    """900 orders in FOLDER/raw, by shop; version 2 has lost some of them."""
    table = folder / "raw"
    for number in range(2):
        frame = orders(450, seed=number, first=450 * number).with_columns(shop=pl.lit(f"s {number}"))
        write_deltalake(table, frame.to_arrow(), partition_by=["shop"], mode="append")
    DeltaTable(table).delete("visits = 2")
    return table


@pytest.mark.parametrize("version", ["", ", version = 1"], ids=["newest", "named"])
def test_a_delta_table_gives_the_same_bytes_from_a_bucket_as_from_a_disk(s3: str, tmp_path: Path, version: str) -> None:
    put_raw(s3, write_delta(tmp_path))
    path = write_project(
        tmp_path,
        PROJECT.replace('source = "raw"', f'source = {{ delta = "raw"{version} }}'),
        data=DIRT,
        score='carry = ["shop"]',
        features='shop = "shop"',
        run="shard_rows = 200",
    )
    settings = [f'data.source={{ delta = "{s3}/raw"{version} }}', f'project.root="{s3}/out"']
    local = rayforest.load_project(path)
    remote = rayforest.load_project(path, [*settings, f'score.publish.delta="{s3}/published"'])
    rayforest.run(local)
    told = rayforest.run(remote).scored
    for stage in ("prepared", "bundle", "scored"):
        assert result(remote.stage(stage)) == result(local.stage(stage)), stage
    assert told.facts.published == {"delta": f"{s3}/published", "version": 0, "added": True}
    assert rayforest.run(remote).scored.resumed


def test_init_proposes_the_delta_table_in_a_bucket(s3: str, tmp_path: Path) -> None:
    put_raw(s3, write_delta(tmp_path))
    text = starter_project(f"{s3}/raw", target="bought")
    assert f'source = {{ delta = "{s3}/raw" }}' in text
    assert text == starter_project(str(tmp_path / "raw"), target="bought").replace(f'"{tmp_path}/raw"', f'"{s3}/raw"')


def test_init_writes_the_same_project_for_a_bucket_as_for_a_folder(s3: str, tmp_path: Path) -> None:
    raw = write_hive(tmp_path, "csv")
    put_raw(s3, raw)
    local = starter_project(str(raw), target="bought")
    remote = starter_project(f"{s3}/raw", target="bought")
    assert remote == local.replace(str(raw), f"{s3}/raw")
    files = [f"{s3}/raw/shop={n // 2}/part-{n}.csv" for n in range(3)]
    assert all(f'"{file}"' in starter_project(files, target="bought", folder=tmp_path) for file in files)


def test_many_objects_that_a_shell_lists_are_written_as_one_glob(s3: str, tmp_path: Path) -> None:
    put_raw(s3, write_orders(tmp_path, orders(600), files=6, form="csv"))
    given = [f"{s3}/raw/part-{number:03d}.csv" for number in range(6)]
    assert f'source = "{s3}/raw/*.csv"' in starter_project(given, target="bought", folder=tmp_path)


def test_a_source_that_is_written_anew_with_the_same_contents_is_resumed(s3: str, tmp_path: Path) -> None:
    """Its objects have other etags: of parts, as large uploads have them."""
    raw = write_orders(tmp_path, orders(600), files=2)
    put_raw(s3, raw)
    path = write_project(tmp_path, run="shard_rows = 100")
    settings = [f'data.source="{s3}/raw"', f'project.root="{s3}/out"', "run.retries=0"]
    key = s3.removeprefix("s3://bucket/") + "/raw/part-001.parquet"
    client = bucket_client(os.environ["AWS_ENDPOINT_URL"])
    project = rayforest.load_project(path, settings)
    interrupt_after_planning(project)
    before = obstore.head(client, key)["e_tag"]
    obstore.put(client, key, (raw / "part-001.parquet").read_bytes(), chunk_size=5 << 20, use_multipart=True)
    assert obstore.head(client, key)["e_tag"] != before
    assert rayforest.prepare(project).rows_in == 600


def interrupt_after_planning(project: rayforest.Project) -> None:
    with open_context(project) as context:
        stage = Prepare.look(context)
        assert claim(stage, open_store(stage.destination)).plan is not None


def test_an_object_that_is_replaced_during_the_run_is_named(s3: str, tmp_path: Path) -> None:
    put_raw(s3, write_orders(tmp_path, orders(600), files=2, form="csv"))
    path = write_project(tmp_path)
    project = rayforest.load_project(path, [f'data.source="{s3}/raw"', f'project.root="{s3}/out"'])
    with open_context(project) as context:
        stage = Prepare.look(context)
        claimed = claim(stage, open_store(stage.destination))
        put_raw(s3, write_orders(tmp_path, orders(600, seed=9), files=2, form="csv"))
        with pytest.raises(UnfinishedError, match=r"part-000\.csv changed during the run"):
            fill(stage, claimed)
    assert claimed.version.manifest() is None
