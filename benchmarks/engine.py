"""What does exactly-once cost?

Four answers: engine time of a shard that does nothing, beside writing one durable file a shard without any engine; a
resume at 90% beside the whole run; a plan of a million shards with the driver's memory; and two workers beside one.

    python -m benchmarks.engine [--quick]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import psutil
import pyarrow as pa

from benchmarks.harness import Timing, as_json, interleaved, table, write
from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Destination, Version, plan_key
from rayforest.engine.executors import Executor, InProcess, RayExecutor
from rayforest.engine.plan import Plan
from rayforest.engine.publish import publish
from rayforest.engine.record import Record, encode_record, record_path
from rayforest.engine.run import run_step
from rayforest.engine.shards import InputFile, Piece, Shard, plan_shards
from rayforest.engine.stores.local import LocalStore
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.store import Store


@dataclass(frozen=True)
class Work:
    """Hashes so many bytes a shard (the GIL is released), and puts its rows out."""

    bytes_hashed: int = 0
    schema: ClassVar[pa.Schema] = pa.schema([("row", pa.int64())])

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        if self.bytes_hashed:
            hashlib.sha256(bytes(self.bytes_hashed)).digest()
        attempt.count_in(shard.rows)
        for row_range in shard.ranges:
            attempt.write(
                pa.table({"row": range(row_range.first_row, row_range.first_row + row_range.rows)}, schema=self.schema)
            )


def planned(store: Store, shards: int, rows: int) -> tuple[Version, Plan]:
    """A version of one file whose pieces are one shard each."""
    pieces = tuple(Piece(n * rows, rows, n, n + 1, 0) for n in range(shards)) if rows else ()
    one_file = [InputFile("numbers.csv", "numbers.csv", shards, "1", "1", pieces)]
    many_files = (InputFile(f"{n}", f"{n}", 0, "1", "1", ()) for n in range(shards))
    version = Destination(store).claim(plan_key({"shards": shards, "rows": rows}, []), {})
    if rows:
        return version, version.write_plan(plan_shards(one_file, shard_rows=rows, shard_bytes=1))
    cut = (
        Shard(n, shard.ranges)
        for n, f in enumerate(many_files)
        for shard in plan_shards([f], shard_rows=1, shard_bytes=1)
    )
    return version, version.write_plan(cut)


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="engine-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def whole_run(executor: Executor, shards: int, rows: int, task: Work) -> float:
    """Seconds of run and publish of a planned job on a local disk."""
    with folder() as path:
        version, plan = planned(LocalStore(path), shards, rows)
        began = time.perf_counter()
        run_step(version, plan, task, executor)
        manifest = publish(version, plan)
        assert manifest.rows_out == shards * rows
        return time.perf_counter() - began


def bare_files(shards: int) -> None:
    """One small durable file a shard from two threads: what no engine could be faster than."""
    with folder() as path, ThreadPoolExecutor(2) as pool:
        store = LocalStore(path)
        list(pool.map(lambda n: store.create(record_path("", n)[1:], b"x" * 200), range(shards)))


def empty_shards(executors: dict[str, Executor], shards: int, rounds: int) -> list[Timing]:
    contenders: dict[str, tuple[str, Callable[[], object]]] = {}
    for name, executor in executors.items():
        contenders[f"{name}, no rows"] = (
            "record only",
            lambda executor=executor: whole_run(executor, shards, 0, Work()),  # type: ignore[misc]
        )
        contenders[f"{name}, one row"] = (
            "data file and record",
            lambda executor=executor: whole_run(executor, shards, 1, Work()),  # type: ignore[misc]
        )
    contenders["durable files alone"] = ("two threads, create and fsync", lambda: bare_files(shards))
    return interleaved(contenders, rounds)


def resumed(shards: int) -> tuple[float, float]:
    """Seconds of a whole run, and of one whose first nine tenths are finished."""
    task, executor = Work(bytes_hashed=8 << 20), InProcess(2)
    whole = whole_run(executor, shards, 10, task)
    with folder() as path:
        version, plan = planned(LocalStore(path), shards, 10)
        run_step(version, plan, task, executor)
        version.store.delete([record_path(version.base, n) for n in range(shards) if n % 10 == 3])
        began = time.perf_counter()
        totals = run_step(version, plan, task, executor)
        publish(version, plan)
        assert totals.resumed == shards * 9 // 10
        return whole, time.perf_counter() - began


class Peak:
    """The largest resident memory of this process while it is watched, in MiB above where it began."""

    def __enter__(self) -> Peak:
        self._process, self._over = psutil.Process(), threading.Event()
        self.before = self._process.memory_info().rss
        self.most = self.before
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        self.began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.began
        self._over.set()
        self._watcher.join()
        self.mib = (self.most - self.before) / (1 << 20)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, self._process.memory_info().rss)


def many_shards(shards: int) -> list[tuple[str, float, float]]:
    """(step, seconds, MiB of the driver) of a job of so many shards of ten rows, all but 1,000 of them finished."""
    store = MemoryStore("many")
    steps = []
    with Peak() as peak:
        files = (
            InputFile(
                f"part-{n:07d}.parquet",
                f"/data/part-{n:07d}.parquet",
                1000,
                str(n),
                f"{n:064x}",
                (Piece(0, 10, 0, 0, 1000),),
            )
            for n in range(shards)
        )
        version = Destination(store).claim("a" * 32, {})
        plan = version.write_plan(plan_shards(files, shard_rows=10, shard_bytes=1 << 30))
    steps.append(("plan", peak.seconds, peak.mib))
    finished = shards - 1000
    with Peak() as peak:
        for n in range(finished):
            token = f"{n:016x}"
            path = f"{version.base}/data/{n // 1000:04d}/{n:06d}-{token}.parquet"
            record = Record(n, token, 10, 10, 0, path, 4, f"{n:064x}")
            store.create(record_path(version.base, n), encode_record(record))
            store.create(path, b"data")
    steps.append(("(what the store in memory holds)", peak.seconds, peak.mib))
    with Peak() as peak:
        totals = run_step(version, plan, Work(), InProcess(2))
        assert (totals.resumed, totals.rows_in) == (finished, shards * 10)
    steps.append(("resume, with the last 1,000 shards", peak.seconds, peak.mib))
    with Peak() as peak:
        manifest = publish(version, plan)
        assert manifest.rows_in == shards * 10
    steps.append(("publish", peak.seconds, peak.mib))
    with Peak() as peak:
        assert sum(1 for _ in manifest.files()) == shards
    steps.append(("read the manifest", peak.seconds, peak.mib))
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs and agrees, not how fast")
    quick = parser.parse_args().quick
    shards, rounds = (50, 1) if quick else (1000, 5)
    million = many_shards(20_000 if quick else 1_000_000)
    ray = RayExecutor(workers=2, quiet=True)
    empty = empty_shards({"in-process": InProcess(2), "Ray": ray}, shards, rounds)
    whole, rest = resumed(50 if quick else 500)
    heavy, count = Work(bytes_hashed=(4 if quick else 64) << 20), 20 if quick else 100
    one_or_two = interleaved(
        {
            "in-process, 2 workers": ("", lambda: whole_run(InProcess(2), count, 10, heavy)),
            "in-process, 1 worker": ("", lambda: whole_run(InProcess(1), count, 10, heavy)),
            "Ray, 2 workers": ("", lambda: whole_run(ray, count, 10, heavy)),
        },
        rounds,
    )
    ray.close()
    lines = [
        f"Engine time of {shards:,} shards that do nothing, on a local disk, with two workers.",
        "",
        table(empty),
        "",
        *(f"{t.name}: {1000 * t.median / shards:.2f} ms a shard." for t in empty),
        "",
        f"A resume with 90% of its shards finished took {rest:.2f} s, the whole run {whole:.2f} s: {rest / whole:.0%}.",
        "",
        f"A plan of {million and (20_000 if quick else 1_000_000):,} shards, one file each, in a store in memory:",
        "",
        "| step | seconds | MiB that the process grew at most |",
        "|---|---|---|",
        *(f"| {name} | {seconds:.1f} | {mib:,.0f} |" for name, seconds, mib in million),
        "",
        f"{count} shards that hash {heavy.bytes_hashed >> 20} MiB each ({os.cpu_count()} CPUs):",
        "",
        table(one_or_two),
    ]
    document = {
        "empty_shards": as_json(empty),
        "resume": {"whole_s": whole, "at_90_percent_s": rest},
        "million": [{"step": name, "seconds": seconds, "mib": mib} for name, seconds, mib in million],
        "workers": as_json(one_or_two),
    }
    write("engine", document, "\n".join(lines), quick=quick)


if __name__ == "__main__":
    main()
