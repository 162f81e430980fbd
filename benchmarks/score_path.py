"""How fast is scoring, from Parquet to Parquet?

36 float32 features, a binary model of 100 trees with 31 leaves, two workers; every contender writes id, prediction and
probability as zstd Parquet. Then rayforest and the floor: many small files and one large one beside the even case, one
worker beside two, where the processor time goes, and rayforest's time from the command to the first finished shard.

The start of Ray and of process pools is not counted. All rows of all contenders are compared before anything is timed.
A peer that is missing, fails or gives other scores is left out and named; so are its figures if it fails later.

    python -m benchmarks.score_path [--quick] [--rows N] [--rounds N] [--only WORD]
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import rayforest
from benchmarks.harness import Timing, as_json, interleaved, table, write
from benchmarks.peers import polars_lightgbm, processes, wide
from benchmarks.peers.floor import Floor, encodings_of
from benchmarks.peers.wide import FEATURES
from benchmarks.peers.work import Work
from benchmarks.score_profile import profile_of
from rayforest.bundle.bundle import load_bundle
from rayforest.engine.own_ray.head import present_token, start_head

ROOT = Path(__file__).parent.parent
WORKERS = 2
OURS = ("rayforest", "rayforest, onnxruntime", "rayforest on Ray", "floor")
ALWAYS = ("rayforest", "floor")
Contender = tuple[str, Callable[[Path], object]]
"""Settings, and what to time: it scores into a new folder."""


def main() -> None:
    """Make the data, compare, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs and agrees, not how fast")
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="only the contenders whose name contains this, and the floor")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rounds = 40_000, 1
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        bench = Bench(Path(name), options.rows, options.rounds, small_files=20 if options.quick else 2_000)
        bench.prepare()
        text, document = bench.run(stack, options.only)
    write("score_path", document, text, quick=options.quick)


@dataclass
class Bench:
    """One run in a folder of its own."""

    folder: Path
    rows: int
    rounds: int
    small_files: int
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    ray_address: str = ""
    encodings: dict[str, Any] = field(default_factory=dict)
    """Of rayforest's files."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Peer -> reason."""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def prepare(self) -> None:
        """Train the model, and write the tables: even, in many small files, in one large one."""
        wide.write_training(self.folder, min(60_000, self.rows))
        for stage in (rayforest.prepare, rayforest.tune, rayforest.export):
            stage(self.folder / "project.toml")
        wide.write_tables(self.folder, self.rows, self.small_files)

    def run(self, stack: ExitStack, only: str | None) -> tuple[str, dict[str, object]]:
        """All measurements: a Markdown text and a JSON document."""
        work = self.work()
        first = self.folder / "first"
        self.score(first)
        self.encodings = encodings_of(Path(next(iter(rayforest.files(first)))))
        profile = profile_of(  # before the long part: it knows functions by name, and fails where they are others
            lambda: self.score(self.folder / "profile", "even", "run.workers=1"),
            lambda: Floor(self.layout(work, "even", 1), self.encodings).score(self.folder / "profile-floor"),
            self.rows,
        )
        contenders = self.contenders(stack, work, only)
        first_shard = self.first_shard()
        self.check_agreement(contenders)
        runs = {name: (s, self.fresh(self.sparing(name, run))) for name, (s, run) in contenders.items()}
        timings = [
            timing
            for timing in interleaved({k: v for k, v in runs.items() if k not in self.left_out}, self.rounds, warm=True)
            if timing.name not in self.left_out
        ]
        layouts = interleaved(
            {name: (settings, self.fresh(run)) for name, (settings, run) in self.layouts(work).items()}, self.rounds
        )
        shares = shares_of({t.name: t for t in timings}, {t.name: t for t in layouts})
        two = shares["two_workers"]
        text = "\n".join(
            [
                f"# Scoring {self.rows:,} rows x {len(FEATURES)} float32 features, Parquet to Parquet",
                "",
                f"100 trees x 31 leaves, {WORKERS} workers, {os.cpu_count()} CPUs, load before {self.load_before:.2f}.",
                "",
                table(timings, self.rows),
                "",
                *(f"- {name}: left out, {why}." for name, why in self.left_out.items()),
                f"- rayforest reaches {shares['of_floor']['contenders']:.2f} of the floor's rows a second.",
                "",
                "## How files lie, and workers",
                "",
                table(layouts, self.rows),
                "",
                f"- Rows a second of the even case: {listed(shares['of_even'])}.",
                f"- The same of the floor itself: {listed(shares['floor_of_even'])}.",
                f"- Of the floor's rows a second on the same files: {listed(shares['of_floor'])}.",
                f"- Two workers are {two['rayforest']:.2f} times as fast as one (the floor: {two['floor']:.2f}).",
                "",
                "## From the command to the first finished shard",
                "",
                *(f"- {name}: {seconds:.1f} s" for name, seconds in first_shard.items()),
                "",
                "## Where the processor time goes, us a row, one worker",
                "",
                *(f"- {name}: {micros:.3f}" for name, micros in profile.items()),
                "",
            ]
        )
        document: dict[str, object] = {
            "rows": self.rows,
            "load_before": self.load_before,
            "contenders": as_json(timings),
            "left_out": self.left_out,
            "layouts": as_json(layouts),
            "shares": shares,
            "first_shard_s": first_shard,
            "profile_us_a_row": profile,
        }
        return text, document

    def work(self) -> Work:
        """The even case, and the model as plain files."""
        bundle = load_bundle(str(self.folder / "out" / "bundle"))
        for name in ("trees.onnx", "booster.txt"):
            (self.folder / name).write_bytes(bundle.read(name))
        paths = (self.folder / "trees.onnx", self.folder / "booster.txt")
        return Work(self.folder / "even", FEATURES, *paths, WORKERS)

    def score(self, out: Path, source: str = "even", *settings: str) -> rayforest.StageResult:
        """Rayforest in this process."""
        where = [f'score.source="{self.folder / source}"', f'score.destination="{out}"']
        return rayforest.score(self.folder / "project.toml", overrides=[*where, *settings])

    def contenders(self, stack: ExitStack, work: Work, only: str | None) -> dict[str, Contender]:
        """Those that can run, ours first; `left_out` has the others."""
        floor, booster = Floor(work, self.encodings), lgb.Booster(model_file=str(work.booster))
        pool = stack.enter_context(get_context("spawn").Pool(WORKERS, processes.start, (work.trees,)))
        stack.enter_context(self.ray())
        ways: dict[str, Callable[[], Contender]] = {
            "rayforest": lambda: ("in-process, engine auto (kernel)", self.score),
            "rayforest, onnxruntime": lambda: (
                "in-process",
                lambda out: self.score(out, "even", "score.engine=onnxruntime"),
            ),
            "rayforest on Ray": lambda: (
                "engine auto (kernel); after Ray Data's turn, Ray starts the workers anew",
                lambda out: self.score(out, "even", "run.executor=ray"),
            ),
            "Ray Data + onnxruntime": lambda: self.ray_data(work),
            "processes + onnxruntime": lambda: (
                f"{WORKERS} warm processes, a file a task",
                lambda out: processes.score(work, out, pool),
            ),
            "Polars + LightGBM": lambda: (
                f"one process, num_threads={WORKERS}",
                lambda out: polars_lightgbm.score(work, out, booster),
            ),
            "Daft + onnxruntime": lambda: self.daft(work),
            "floor": lambda: (f"pyarrow, kernel, pyarrow: {WORKERS} threads, nothing durable", floor.score),
        }
        found: dict[str, Contender] = {}
        for name, way in ways.items():
            if not only or only in name or name in ALWAYS:
                with self.leaving_out(name):
                    found[name] = way()
        return found

    def ray_data(self, work: Work) -> Contender:
        """Ray Data with the batch size that is fastest on these rows."""
        peer = importlib.import_module("benchmarks.peers.ray_data")
        rows = peer.best_batch_rows(work, self.folder / "batch-sizes")
        sizes = ", ".join(f"{size:,}" for size in peer.BATCH_ROWS)
        settings = f"{WORKERS} actors of 0.5 CPU, pyarrow batches of {rows:,} (the best of {sizes})"
        return settings, lambda out: peer.score(work, out, rows)

    def daft(self, work: Work) -> Contender:
        """Daft, which is to tell nobody and to draw nothing."""
        os.environ |= {"DO_NOT_TRACK": "true", "DAFT_PROGRESS_BAR": "0"}
        peer = importlib.import_module("benchmarks.peers.daft_onnx")
        settings = f"{version('daft')}, {WORKERS} processes, batches of {peer.BATCH_ROWS:,}"
        return settings, lambda out: peer.score(work, out)

    @contextmanager
    def leaving_out(self, name: str) -> Iterator[None]:
        """Whatever a peer raises leaves it out of the run, which goes on; what is ours stops it."""
        try:
            yield
        except Exception as error:
            if name in OURS:
                raise
            if isinstance(error, ModuleNotFoundError):
                why = f"{error.name} is not installed"
            else:
                lines = str(error).strip().splitlines() or [""]  # Ray's and Daft's end with the cause
                why = f"{type(error).__name__}: {lines[-1][:200]}"
            self.left_out[name] = why
            print(f"{name} is left out: {why}", file=sys.stderr, flush=True)

    def sparing(self, name: str, run: Callable[[Path], object]) -> Callable[[Path], object]:
        """The same, and nothing once the contender is left out."""

        def work(out: Path) -> None:
            if name not in self.left_out:
                with self.leaving_out(name):
                    run(out)

        return work

    @contextmanager
    def ray(self) -> Iterator[None]:
        """A Ray of our own, to which this process is connected; subprocesses find it by RAY_ADDRESS."""
        import ray

        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)  # workers import benchmarks.peers
        head = start_head(cpus=WORKERS)
        try:
            with present_token(head.token):
                ray.init(address=head.address, log_to_driver=False, logging_level=logging.WARNING)
                self.ray_address = head.address
                yield
                ray.shutdown()
        finally:
            head.stop()

    def fresh(self, run: Callable[[Path], object]) -> Callable[[], object]:
        """The same with a new folder each time."""
        return lambda: run(self.folder / f"run-{next(self._numbers)}")

    def check_agreement(self, contenders: dict[str, Contender]) -> None:
        """Let each run once: every row has the same prediction from all and, within 1e-15, the same probability."""
        expected: pa.Table | None = None
        for name, (_, run) in contenders.items():
            out = self.folder / f"agree-{next(self._numbers)}"
            with self.leaving_out(name):
                run(out)
                found = scored_rows(out, expected)
                if expected is None:
                    expected = found
                if found.num_rows != self.rows or not found["id"].equals(expected["id"]):
                    raise OtherScoresError("it scored other rows")
                difference = np.abs(found["probability"].to_numpy() - expected["probability"].to_numpy()).max()
                if difference > 1e-15 or not found["prediction"].equals(expected["prediction"]):
                    raise OtherScoresError(f"its scores are others, by up to {difference}")
            shutil.rmtree(out, ignore_errors=True)

    def layouts(self, work: Work) -> dict[str, Contender]:
        """The same rows in other files, with one worker, on Ray; the even case first. Then the floor in other files."""
        layouts = {
            "even": ("8 files, row groups of 131,072", "even", WORKERS),
            "small files": (f"{self.small_files:,} files", "small", WORKERS),
            "one large file": (f"row groups of {self.rows // 4:,}", "large", WORKERS),
            "one worker": ("8 files", "even", 1),
        }
        ours: dict[str, Contender] = {
            name: (settings, lambda out, source=source, n=n: self.score(out, source, f"run.workers={n}"))  # type: ignore[misc]
            for name, (settings, source, n) in layouts.items()
        }
        ours["on Ray"] = (
            "8 files; workers that are warm from the run before",
            lambda out: self.score(out, "even", "run.executor=ray"),
        )
        floors = {
            f"floor, {name}": (settings, Floor(self.layout(work, source, n), self.encodings).score)
            for name, (settings, source, n) in layouts.items()
        }
        return {**ours, **floors}

    def layout(self, work: Work, source: str, workers: int) -> Work:
        """The same rows in other files, or with other workers."""
        return replace(work, source=self.folder / source, workers=workers)

    def first_shard(self) -> dict[str, float]:
        """Seconds from starting the command to the first record, the median of three."""
        ways = {
            "in-process": ["--set", "run.executor=in-process"],
            "on a running Ray": ["--set", "run.executor=ray", "--set", f'run.address="{self.ray_address}"'],
        }
        return {
            name: statistics.median(self._first_shard(settings) for _ in range(3)) for name, settings in ways.items()
        }

    def _first_shard(self, settings: list[str]) -> float:
        out = self.folder / f"first-{next(self._numbers)}"
        places = ["--set", f'score.source="{self.folder / "even"}"', "--set", f'score.destination="{out}"']
        command = [sys.executable, "-m", "rayforest.jobs.cli", "score", str(self.folder / "project.toml")]
        began = time.perf_counter()
        process = subprocess.Popen([*command, *places, *settings], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            while not any(out.glob("*/records/*/*.json")):
                if process.poll() not in (None, 0):
                    assert process.stderr is not None
                    raise SystemExit(process.stderr.read().decode())
                time.sleep(0.005)
            return time.perf_counter() - began
        finally:
            process.communicate()


class OtherScoresError(Exception):
    """A contender does not give what the first one gives."""


def scored_rows(out: Path, expected: pa.Table | None) -> pa.Table:
    """What a contender wrote, sorted by id, in the expected types."""
    current = (out / "current").exists()
    files = [Path(f) for f in rayforest.files(out)] if current else sorted(out.rglob("*.parquet"))
    found = pa.concat_tables([pq.ParquetFile(f).read().select(["id", "prediction", "probability"]) for f in files])
    return found.cast(expected.schema if expected is not None else found.schema).sort_by("id")


def shares_of(timings: dict[str, Timing], layouts: dict[str, Timing]) -> dict[str, dict[str, float]]:
    """How many of the rows a second, round by round: of the even case, of the floor, and of one worker."""

    def share(name: str, whole: str) -> float:
        return layouts[whole].ratio_to(layouts[name])

    others, cases = ("small files", "one large file"), ("even", "small files", "one large file", "one worker")
    return {
        "of_even": {name: share(name, "even") for name in (*others, "on Ray")},
        "floor_of_even": {name: share(f"floor, {name}", "floor, even") for name in others},
        "of_floor": {
            "contenders": timings["floor"].ratio_to(timings["rayforest"]),
            **{name: share(name, f"floor, {name}") for name in cases},
        },
        "two_workers": {
            "rayforest": share("even", "one worker"),
            "floor": share("floor, even", "floor, one worker"),
        },
    }


def listed(shares: dict[str, float]) -> str:
    """For a sentence."""
    return ", ".join(f"{name} {share:.2f}" for name, share in shares.items() if name != "contenders")


if __name__ == "__main__":
    main()
