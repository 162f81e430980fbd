"""How fast is scoring, from Parquet to Parquet?

36 float32 features, a binary model of 100 trees with 31 leaves, two workers; every contender writes id, prediction and
probability as zstd Parquet. Then rayforest alone: many small files and one large one beside the even case, one worker
beside two, where its processor time goes, and the time from the command to the first finished shard.

The start of Ray and of process pools is not counted. All rows of all contenders are compared before anything is timed.

    python -m benchmarks.score_path [--quick] [--rows N] [--rounds N] [--only WORD]
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import itertools
import logging
import os
import pstats
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import rayforest
from benchmarks.harness import as_json, interleaved, table, write
from benchmarks.peers import polars_lightgbm, processes, wide
from benchmarks.peers.floor import Floor, encodings_of
from benchmarks.peers.wide import FEATURES
from benchmarks.peers.work import Work
from rayforest.engine.ray_head import present_token, start_head
from rayforest.scoring.bundle import load_bundle

ROOT = Path(__file__).parent.parent
WORKERS = 2
Contender = tuple[str, Callable[[], object]]


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
    floor: Floor | None = None
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
        contenders = self.contenders(stack, work)
        if only:
            contenders = {k: v for k, v in contenders.items() if only in k or k in ("rayforest", "floor")}
        left_out = {name: why for name, (why, run) in contenders.items() if run is None}
        present = {name: (settings, run) for name, (settings, run) in contenders.items() if run is not None}
        self.check_agreement(present)
        timings = interleaved({name: (s, self.fresh(run)) for name, (s, run) in present.items()}, self.rounds)
        layouts = interleaved(self.layouts(), self.rounds)
        first = self.first_shard()
        profile = self.profile()
        floor = next(t for t in timings if t.name == "floor")
        text = "\n".join(
            [
                f"# Scoring {self.rows:,} rows x {len(FEATURES)} float32 features, Parquet to Parquet",
                "",
                f"100 trees x 31 leaves, {WORKERS} workers, {os.cpu_count()} CPUs, load before {self.load_before:.2f}.",
                "",
                table(timings, self.rows),
                "",
                *(f"- {name}: left out, {why}." for name, why in left_out.items()),
                f"- rayforest reaches {floor.ratio_to(timings[0]):.2f} of the floor's rows a second.",
                "",
                "## How files lie, and workers",
                "",
                table(layouts, self.rows),
                "",
                "Rows a second of the even case: "
                + ", ".join(f"{t.name} {1 / t.ratio_to(layouts[0]):.2f}" for t in layouts[1:-1])
                + f". Two workers are {layouts[-1].ratio_to(layouts[0]):.2f} times as fast as one.",
                "",
                "## From the command to the first finished shard",
                "",
                *(f"- {name}: {seconds:.1f} s" for name, seconds in first.items()),
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
            "left_out": left_out,
            "layouts": as_json(layouts),
            "first_shard_s": first,
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

    def contenders(self, stack: ExitStack, work: Work) -> dict[str, tuple[str, Callable[[Path], object] | None]]:
        """Name -> settings, and what to time; None where it cannot run, with the reason instead of settings."""
        first = self.folder / "first"
        self.score(first)
        floor = Floor(work, encodings_of(Path(next(iter(rayforest.files(first))))))
        self.floor, booster = floor, lgb.Booster(model_file=str(work.booster))
        pool = stack.enter_context(get_context("spawn").Pool(WORKERS, processes.start, (work.trees,)))
        stack.enter_context(self.ray())
        found: dict[str, tuple[str, Callable[[Path], object] | None]] = {
            "rayforest": ("in-process, engine auto (kernel)", self.score),
            "rayforest, onnxruntime": (
                "in-process",
                lambda out: self.score(out, "even", "score.engine=onnxruntime"),
            ),
            "rayforest on Ray": ("engine auto (kernel)", lambda out: self.score(out, "even", "run.executor=ray")),
            "Ray Data + onnxruntime": self.ray_data(work),
            "processes + onnxruntime": (
                f"{WORKERS} warm processes, a file a task",
                lambda out: processes.score(work, out, pool),
            ),
            "Polars + LightGBM": (
                f"one process, num_threads={WORKERS}",
                lambda out: polars_lightgbm.score(work, out, booster),
            ),
            "Daft + onnxruntime": self.daft(work),
            "floor": (
                f"pyarrow, kernel, pyarrow: {WORKERS} threads, nothing durable",
                floor.score,
            ),
        }
        return found

    def ray_data(self, work: Work) -> tuple[str, Callable[[Path], object] | None]:
        """Ray Data with the batch size that is fastest on these rows."""
        try:
            peer = importlib.import_module("benchmarks.peers.ray_data")
        except ImportError as error:
            return f"{error.name} is not installed", None
        rows = peer.best_batch_rows(work, self.folder / "batch-sizes")
        settings = f"{WORKERS} actors of 0.5 CPU, batches of {rows:,} (the best of {peer.BATCH_ROWS}), pyarrow"
        return settings, lambda out: peer.score(work, out, rows)

    def daft(self, work: Work) -> tuple[str, Callable[[Path], object] | None]:
        """Daft, where it is installed."""
        os.environ |= {"DO_NOT_TRACK": "true", "DAFT_PROGRESS_BAR": "0"}
        try:
            peer = importlib.import_module("benchmarks.peers.daft_onnx")
        except ImportError as error:
            return f"{error.name} is not installed", None
        return f"{WORKERS} processes, batches of {peer.BATCH_ROWS:,}", lambda out: peer.score(work, out)

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

    def fresh(self, run: Callable[..., object], *arguments: object) -> Callable[[], object]:
        """The same with a new folder each time."""

        def work() -> object:
            return run(self.folder / f"run-{next(self._numbers)}", *arguments)

        return work

    def check_agreement(self, contenders: dict[str, tuple[str, Callable[[Path], object]]]) -> None:
        """Stop unless all contenders give every row the same prediction and, within 1e-15, probability."""
        expected: pa.Table | None = None
        for name, (_, run) in contenders.items():
            out = self.folder / f"agree-{next(self._numbers)}"
            run(out)
            current = (out / "current").exists()
            files = [Path(f) for f in rayforest.files(out)] if current else sorted(out.rglob("*.parquet"))
            found = pa.concat_tables(
                [pq.ParquetFile(f).read().select(["id", "prediction", "probability"]) for f in files]
            )
            found = found.cast(expected.schema if expected is not None else found.schema).sort_by("id")
            shutil.rmtree(out)
            if expected is None:
                expected = found
            if found.num_rows != self.rows or not found["id"].equals(expected["id"]):
                raise SystemExit(f"{name} scored other rows")
            difference = np.abs(found["probability"].to_numpy() - expected["probability"].to_numpy()).max()
            if difference > 1e-15 or not found["prediction"].equals(expected["prediction"]):
                raise SystemExit(f"{name} gives other scores, by up to {difference}")

    def layouts(self) -> dict[str, Contender]:
        """The same rows in other files, and one worker; the even case first, one worker last."""
        return {
            "even": ("8 files, row groups of 131,072", self.fresh(self.score)),
            "small files": (f"{self.small_files:,} files", self.fresh(self.score, "small")),
            "one large file": ("row groups of 1,000,000 rows", self.fresh(self.score, "large")),
            "one worker": ("8 files", self.fresh(self.score, "even", "run.workers=1")),
        }

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

    def profile(self) -> dict[str, float]:
        """Processor time of one worker by part, microseconds a row; the parts of a shard, and then all of the stage."""
        from rayforest.scoring.score import ScoreTask

        profiler = cProfile.Profile(time.thread_time)
        task = ScoreTask.__call__

        def profiled(*arguments: object) -> None:
            profiler.enable()
            try:
                task(*arguments)  # type: ignore[arg-type]
            finally:
                profiler.disable()

        began = time.process_time()
        with mock.patch.object(ScoreTask, "__call__", profiled):
            self.score(self.folder / f"profile-{next(self._numbers)}", "even", "run.workers=1")
        whole = time.process_time() - began
        spent = {(Path(file).name, name): row[3] for (file, _, name), row in pstats.Stats(profiler).stats.items()}  # type: ignore[attr-defined]
        parts = {
            "reading": ("source.py", "read"),
            "typing, checks and features": ("inputs.py", "__call__"),
            "trees": ("engines.py", "raw_score"),
            "predictions from raw scores": ("link.py", "__call__"),
            "columns of the model": ("outputs.py", "columns"),
            "writing": ("attempt.py", "write"),
            "a shard in all": ("score.py", "__call__"),
        }
        micros = {name: spent[key] / self.rows * 1e6 for name, key in parts.items()}
        micros |= {"the stage in all, with its plan, commits and manifest": whole / self.rows * 1e6}
        assert self.floor is not None
        floor = self.floor.score(self.folder / f"profile-{next(self._numbers)}")
        micros |= {f"the floor: {part}": seconds / self.rows * 1e6 for part, seconds in floor.items()}
        return micros | {"the floor in all": floor.total() / self.rows * 1e6}


if __name__ == "__main__":
    main()
