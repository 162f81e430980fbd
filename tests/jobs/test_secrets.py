"""Credentials of object stores stay in the environment: whatever a run leaves or shows is searched for them."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from command import rayforest
from object_servers import KEYS, put_objects
from small_projects import orders, write_orders, write_project

from rayforest.cluster.submit import job_command, submit
from rayforest.engine.stores.opening import open_store
from rayforest.errors import ConfigError

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": KEYS["testing"],
    "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0LW9mLWF6dXJl",
    "AZURE_CLIENT_SECRET": "secret-of-azures-client",
    "GOOGLE_SERVICE_ACCOUNT_KEY": '{"private_key": "secret-of-google"}',
}


def found_in(text: bytes) -> list[str]:
    """The secrets that a text holds."""
    return [name for name, secret in SECRETS.items() if secret.encode() in text]


def shown_by_processes(driver: subprocess.Popen[str]) -> Iterator[tuple[str, bytes]]:
    """The driver and its processes in the process list, and the logs of its Ray, again and again until it ends."""
    watched = psutil.Process(driver.pid)
    while driver.poll() is None:
        for process in [watched, *watched.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                line = process.cmdline()
                yield f"process {process.pid}", "\0".join(line).encode()
                for folder in (word.partition("=")[2] for word in line if word.startswith("--temp-dir=")):
                    yield from files_below(Path(folder))
        time.sleep(1)


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            with contextlib.suppress(OSError):  # gone meanwhile
                yield str(file), file.read_bytes()


def in_the_store(uri: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents; of Parquet files also what is compressed."""
    store = open_store(uri)
    for entry in store.list(""):
        data = store.get(entry.path)
        if entry.path.endswith(".parquet"):
            table = pq.ParquetFile(io.BytesIO(data)).read()
            data += f"{table.schema} {table.to_pydict()}".encode()
        yield entry.path, data


@pytest.mark.parametrize(
    ("command", "executor"), [("run", "in-process"), pytest.param("prepare", "ray", marks=pytest.mark.ray)]
)
def test_no_file_log_or_process_list_of_a_run_holds_a_secret(
    command: str, executor: str, s3: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    raw = write_orders(tmp_path / "written", orders(1500), files=3)
    source = put_objects(s3_endpoint, f"{s3.rpartition('/')[2]}-raw", raw)
    project = write_project(tmp_path / "project")
    settings = [f"project.root={s3}", f"data.source={source}", f"score.source={source}", f"run.executor={executor}"]
    out, err = project.with_name("stdout"), project.with_name("stderr")
    with out.open("w") as standard_output, err.open("w") as standard_error:
        driver = subprocess.Popen(
            [sys.executable, "-m", "rayforest.jobs.cli", command, str(project), "--json"]
            + [part for setting in settings for part in ("--set", setting)],
            stdout=standard_output,
            stderr=standard_error,
            env={**os.environ, "HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")},
            text=True,
        )
        looked_at = search(shown_by_processes(driver))
    assert driver.returncode == 0, err.read_text()
    assert any(s3 in text for text in looked_at.values())  # the command line: the search sees what is there
    left = search(in_the_store(s3)) | search(files_below(tmp_path / "project")) | search(files_below(tmp_path / "home"))
    kinds = {Path(name).name for name in left}
    assert {"plan.parquet", "manifest.json", "000001.json", "stdout", "stderr"} <= kinds
    assert executor != "ray" or any("raylet" in name for name in looked_at)  # its logs


def search(shown: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """What was looked at, name -> the beginning of its text; fails where it holds a secret."""
    looked_at = {}
    for name, text in shown:
        assert not found_in(text), name
        looked_at[name] = text[:4000].decode(errors="replace")
    return looked_at


def test_the_search_finds_what_it_searches(s3: str) -> None:
    import pyarrow as pa

    with open_store(s3).open_write("a.parquet") as file:
        pq.write_table(pa.table({"x": [KEYS["testing"]] * 100}), file, compression="zstd")
    with pytest.raises(AssertionError, match=r"a\.parquet"):
        search(in_the_store(s3))


HOLD_CREDENTIALS = [
    "s3://AKIAHUSH:hush-hush@bucket/a",
    "s3://bucket/a?X-Amz-Signature=hush-hush&X-Amz-Expires=60",
    "gs://bucket/a?X-Goog-Signature=hush-hush",
    "az://container/a?sv=2024-11-04&sig=hush-hush",
    "https://account.blob.core.windows.net/container/a?sig=hush-hush",
    "abfss://hush-hush@account.dfs.core.windows.net/a",
]
KEYS_OF_PATHS = ["project.root", "data.source", "score.source", "score.destination"]


@pytest.mark.parametrize("uri", HOLD_CREDENTIALS)
def test_a_uri_with_credentials_is_refused_by_every_command_without_repeating_them(uri: str, tmp_path: Path) -> None:
    write_orders(tmp_path, orders(20))
    project = write_project(tmp_path)
    answers = [
        rayforest(command, project, "--json", "--set", f"{key}={uri}")
        for command in ("check", "prepare", "tune", "score", "run")
        for key in KEYS_OF_PATHS
    ]
    answers += [rayforest("files", uri, "--json"), rayforest("show", uri, "--json")]
    for answer in answers:
        assert answer.code == 2
        assert "hush" not in (answer.out + answer.err).lower()
        assert "holds credentials" in answer.json["error"]["what"]
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "project.toml"}


def test_no_job_description_holds_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("BUCKET", "s3://bucket")
    project = write_project(tmp_path, project='root = "${BUCKET}/out"', data='weight = "${AWS_SECRET_ACCESS_KEY}"')
    for here in (True, False):
        command = job_command("run", project, here=here, overrides=["score.destination=${BUCKET}/scored"])
        assert "BUCKET=s3://bucket" in shlex.split(command)
        assert not found_in(command.encode())


@pytest.mark.parametrize("uri", HOLD_CREDENTIALS)
def test_a_job_with_credentials_in_a_uri_is_not_submitted(uri: str, tmp_path: Path) -> None:
    project = write_project(tmp_path)
    for key in KEYS_OF_PATHS:
        with pytest.raises(ConfigError, match="holds credentials") as refused:  # nobody is asked at this address
            submit("run", project, address="http://127.0.0.1:9", overrides=[f"{key}={uri}"])
        assert "hush" not in str(refused.value).lower()
