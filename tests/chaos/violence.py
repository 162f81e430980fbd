"""Starting drivers, killing them and theirs by process id, and judging what is left."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.opening import open_store

DRIVER = Path(__file__).with_name("driver.py")
LONGEST_WAIT_S = 120.0
started: list[subprocess.Popen[str]] = []
"""Every process that a case has started, to be ended with it."""


@dataclass
class Job:
    """One destination and the drivers that work on it. `options` are those of driver.py."""

    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.destination: Path | str = self.folder / "out"
        self.marks = self.folder / "marks"
        self.marks.mkdir(parents=True, exist_ok=True)

    def start(self, **options: Any) -> subprocess.Popen[str]:
        """A driver, at work."""
        flags = [f"--{name}={value}" for name, value in {**self.options, **options}.items()]
        driver = subprocess.Popen(
            [sys.executable, str(DRIVER), str(self.destination), str(self.marks), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment},
        )
        started.append(driver)
        return driver

    def finish(self, **options: Any) -> dict[str, Any]:
        """A driver from beginning to end; what it printed."""
        return ended(self.start(**options))

    def attempts(self) -> list[tuple[int, int]]:
        """(shard, process id) of every attempt that has begun, the latest last."""
        return [(int(shard), int(pid)) for shard, pid, _ in (mark.name.split(".") for mark in self._marks())]

    def nodes(self) -> list[str]:
        """The Ray node of every attempt, in the same order."""
        return [mark.read_text() for mark in self._marks()]

    def _marks(self) -> list[Path]:
        return sorted(self.marks.iterdir(), key=lambda mark: int(mark.name.rpartition(".")[2]))

    def finished_shards(self) -> int:
        return len(_listed(self.destination, r"(.+/)?records/\d+/\d+\.json"))


def ended(driver: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    """Wait for a driver's end, see its exit code, and return what it printed."""
    out, err = driver.communicate(timeout=LONGEST_WAIT_S)
    assert driver.returncode == code, f"exit code {driver.returncode} instead of {code}\n{out}\n{err[-3000:]}"
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def wait_until(condition: Any, what: str, driver: subprocess.Popen[str] | None = None) -> None:
    """Poll; fail when it takes too long or when the driver has ended first."""
    deadline = time.monotonic() + LONGEST_WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        assert driver is None or driver.poll() is None, f"the driver ended before: {what}"
        time.sleep(0.01)


def end_all() -> None:
    """After a case, however it ended."""
    while started:
        kill(started.pop())


def kill(driver: subprocess.Popen[str]) -> None:
    """SIGKILL, and wait for the process to be gone."""
    driver.kill()
    if driver.stdout is None or not driver.stdout.closed:
        driver.communicate()
    driver.wait()


def send(pid: int, number: signal.Signals) -> bool:
    """Signal a process that we caused to start; False if it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def contents(destination: Path | str) -> list[bytes]:
    """Bytes of the data and quarantine files that readers see, in input order."""
    store, manifest = open_store(destination), read_manifest(destination)
    files = [*manifest.data_paths(), "", *manifest.quarantine_paths()]
    return [store.get(path) if path else b"" for path in files]


def unnamed_files(destination: Path | str) -> set[str]:
    """Data and quarantine files in the store that the manifest does not name."""
    manifest = read_manifest(destination)
    named = {*manifest.data_paths(), *manifest.quarantine_paths()}
    return _listed(destination, r"(data|quarantine)/\d+/.*") - named


def rows_once(destination: Path | str, shards: int, rows: int) -> None:
    """Every number once, in order, out or in quarantine; counted without the engine."""
    store, manifest = open_store(destination), read_manifest(destination)

    def column(name: str, paths: Iterator[str]) -> list[int]:
        return [n for path in paths for n in pq.read_table(io.BytesIO(store.get(path)))[name].to_pylist()]

    assert column("number", manifest.data_paths()) == [n for n in range(shards * rows) if n % 10 != 7]
    assert column("row", manifest.quarantine_paths()) == [n for n in range(shards * rows) if n % 10 == 7]


def _listed(destination: Path | str, pattern: str) -> set[str]:
    """Files of all versions whose path within their version matches."""
    return {found.path for found in open_store(destination).list("") if re.fullmatch(f"[^/]+/{pattern}", found.path)}


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size (tmpfs); needs the right to mount."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def may_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None


def pause(rng: random.Random, longest_s: float) -> None:
    time.sleep(rng.uniform(0, longest_s))
