"""Starting drivers, killing them and theirs by process id, and judging what is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
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
        self.destination, self.marks = self.folder / "out", self.folder / "marks"
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
        marks = sorted(self.marks.iterdir(), key=lambda mark: mark.stat().st_mtime_ns)
        return [(int(mark.name.split(".")[0]), int(mark.name.split(".")[1])) for mark in marks]

    def finished_shards(self) -> int:
        return sum(1 for _ in self.destination.glob("*/records/*/*.json"))


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
    manifest = read_manifest(destination)
    files = [*manifest.files(), "", *manifest.quarantine_files()]
    return [Path(path).read_bytes() if path else b"" for path in files]


def unnamed_files(destination: Path) -> set[str]:
    """Data and quarantine files on disk that the manifest does not name."""
    manifest = read_manifest(destination)
    named = {*manifest.files(), *manifest.quarantine_files()}
    return {str(p) for kind in ("data", "quarantine") for p in destination.glob(f"*/{kind}/*/*")} - named


def rows_once(destination: Path, shards: int, rows: int) -> None:
    """Every number once, in order, out or in quarantine; counted without the engine."""
    manifest = read_manifest(destination)
    out = [n for path in manifest.files() for n in pq.read_table(path)["number"].to_pylist()]
    aside = [n for path in manifest.quarantine_files() for n in pq.read_table(path)["row"].to_pylist()]
    assert out == [n for n in range(shards * rows) if n % 10 != 7]
    assert aside == [n for n in range(shards * rows) if n % 10 == 7]


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
