"""What does the whole path cost in a bucket, beside the same path on the local disk?

prepare, tune, export and score of generated payments with two threads, sources and results all in one place: a folder,
or a bucket of SeaweedFS on this machine, whose own CPU time comes out of the same CPUs and is told apart. The results
are compared before anything is timed: they have the same bytes.

    python -m benchmarks.object_path [--quick]
"""

# ruff: noqa: E402  what is said before Arrow is loaded, and where the tests' servers are
from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rayforest.process_settings import keep_memory

keep_memory()

import psutil

import rayforest
from benchmarks.harness import Timing, as_json, table, write
from benchmarks.object_reading import environment

sys.path.append(str(Path(__file__).parent.parent / "tests" / "given"))
from object_servers import put_objects, seaweedfs

PROJECT = Path(__file__).parent.parent / "jobs" / "examples" / "payments.toml"
SETTINGS = [
    "run.executor=in-process",
    "run.workers=2",
    "tune.trials=1",
    "tune.space.num_iterations=100",
    "tune.space.num_leaves=31",
    "tune.space.learning_rate=0.1",
]
STAGES = ("prepare", "tune", "export", "score")


@dataclass
class Place:
    """Where tables lie and results go."""

    name: str
    source: str
    root: str
    """A folder of its own for each run is made below it."""
    seconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    _runs: Iterator[int] = field(default_factory=itertools.count)

    def run(self, *, timed: bool) -> str:
        """All stages, once; returns the root."""
        root = f"{self.root}/{next(self._runs)}"
        settings = [*SETTINGS, f'data.source="{self.source}"', f'project.root="{root}"']
        for stage in STAGES:
            began = time.perf_counter()
            getattr(rayforest, stage)(PROJECT, overrides=settings)
            if timed:
                self.seconds[stage].append(time.perf_counter() - began)
        return root

    def median(self, stage: str) -> float:
        """Seconds."""
        return statistics.median(self.seconds[stage])

    @property
    def whole(self) -> Timing:
        """All stages together."""
        return Timing(self.name, "", tuple(map(sum, zip(*self.seconds.values(), strict=True))))


def main() -> None:
    """Make the tables, compare, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small table, one round: whether it runs and agrees")
    options = parser.parse_args()
    rows, rounds = (20_000, 1) if options.quick else (2_000_000, 5)
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory() as of_server,
        seaweedfs(Path(of_server)) as endpoint,
        environment(endpoint),
    ):
        folder = Path(name)
        rayforest.generate_payments(folder / "payments", rows=rows, days=20)
        source = put_objects(endpoint, "payments", folder / "payments")
        places = [
            Place("local disk", str(folder / "payments"), str(folder / "roots")),
            Place("bucket", source, "s3://bucket/roots"),
        ]
        scored = [digest_of(place.run(timed=False)) for place in places]
        if len(set(scored)) != 1:
            raise SystemExit("the places hold other results")
        server = servers()
        before = sum(cpu_seconds(process) for process in server)
        for turn in range(rounds):
            for place in places if turn % 2 else reversed(places):
                place.run(timed=True)
        in_server = (sum(cpu_seconds(process) for process in server) - before) / rounds
    local, bucket = (place.whole for place in places)
    pace = local.ratio_to(bucket)
    text = "\n".join(
        [
            f"# The whole path in a bucket and on disk: {rows:,} payments, 20 files, two threads",
            "",
            table([bucket, local], rows),
            "",
            "| stage | local disk, s | bucket, s |",
            "|---|---|---|",
            *(f"| {stage} | {' | '.join(f'{p.median(stage):.2f}' for p in places)} |" for stage in STAGES),
            "",
            f"- The bucket reaches {pace:.2f} of the local disk's pace, round by round.",
            f"- The server itself took {in_server:.1f} s of CPU time a run, of the same {os.cpu_count()} CPUs.",
        ]
    )
    document = {
        "rows": rows,
        "timings": as_json([local, bucket]),
        "stages": {place.name: place.seconds for place in places},
        "server_cpu_s_a_run": in_server,
        "pace": pace,
    }
    write("object_path", document, text, quick=options.quick)


def digest_of(root: str) -> str:
    """Of all scored files, in order."""
    digest = hashlib.sha256()
    for batch in rayforest.read(f"{root}/scored").collect().iter_slices(1 << 16):
        digest.update(batch.write_ipc(None).getvalue())
    return digest.hexdigest()


def servers() -> list[psutil.Process]:
    """The processes of the server, which this one has started."""
    return [process for process in psutil.Process().children(recursive=True) if "weed" in process.name()]


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time."""
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
