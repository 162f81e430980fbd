"""Tables in Google Cloud Storage and Azure are prepared and scored to the bytes of a local run."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from cloud_servers import put_in_google
from fault_proxy import randomly
from small_projects import orders, write_orders, write_project

import rayforest
from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.opening import open_store


def result(destination: str) -> dict[str, bytes]:
    """Contents of the current version's data files, by name."""
    manifest = read_manifest(open_store(destination))
    return {path.rpartition("/")[2]: manifest.store.get(path) for path in manifest.data_paths()}


@pytest.mark.parametrize("cloud", ["gs", "az"])
def test_a_run_from_a_bucket_to_the_bucket_gives_the_bytes_of_a_local_run(
    cloud: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    uri, proxy = request.getfixturevalue(cloud), request.getfixturevalue(f"{cloud}_proxy")
    raw, store = write_orders(tmp_path, orders(900), files=3), open_store(uri)
    for file in raw.iterdir():
        assert store.create(f"raw/shop=1/{file.name}", file.read_bytes())
    project = write_project(tmp_path, run="shard_rows = 400")
    local = rayforest.load_project(project)
    remote = rayforest.load_project(project, [f'data.source="{uri}/raw/**/*.parquet"', f'project.root="{uri}/out"'])
    proxy.choose = randomly(seed=3, rate=0.02)
    rayforest.run(local)
    rayforest.run(remote)
    assert proxy.injected.total() > 0
    for stage in ("prepared", "scored"):
        assert list(result(remote.stage(stage)).values()) == list(result(local.stage(stage)).values()), stage


def test_a_table_is_read_by_googles_own_api(fake_gcs: str, tmp_path: Path) -> None:
    prefix = secrets.token_hex(4)
    for file in write_orders(tmp_path, orders(900), files=3, form="csv").iterdir():
        put_in_google(fake_gcs, f"{prefix}/{file.name}", file.read_bytes())
    project = write_project(tmp_path, run="shard_rows = 400")
    local = rayforest.load_project(project)
    remote = rayforest.load_project(
        project, [f'data.source="gs://bucket/{prefix}/part-*.csv"', f'project.root="{tmp_path}/from google"']
    )
    rayforest.prepare(local)
    rayforest.prepare(remote)
    found = result(remote.stage("prepared"))
    assert len(found) == 3
    assert list(found.values()) == list(result(local.stage("prepared")).values())
