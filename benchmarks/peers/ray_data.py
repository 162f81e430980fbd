"""Ray Data and onnxruntime: read_parquet, map_batches on a pool of actors, write_parquet, on a Ray that runs already.

The actors take half a CPU each: with a whole one, two of them hold both CPUs of a small machine, no read task can
start, and the program hangs for ever.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pyarrow as pa
import ray
import ray.data

from benchmarks.peers.work import Session, Work, scored

BATCH_ROWS = (16_384, 65_536, 262_144)


class _Scorer:
    def __init__(self, model: Path, features: tuple[str, ...]) -> None:
        self._session, self._features = Session(model), features

    def __call__(self, batch: pa.Table) -> pa.Table:
        return scored(batch["id"], self._session.probability([batch[name].to_numpy() for name in self._features]))


def score(work: Work, out: Path, batch_rows: int) -> None:
    """Score the folder."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    table = ray.data.read_parquet(str(work.source), columns=work.columns)
    table.map_batches(
        _Scorer,
        fn_constructor_args=(work.trees, work.features),
        batch_size=batch_rows,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=work.workers),
        num_cpus=0.5,
    ).write_parquet(str(out), compression="zstd")


def best_batch_rows(work: Work, out: Path) -> int:
    """The fastest of a few batch sizes, each tried once after a run that does not count."""
    score(work, out / "first", BATCH_ROWS[0])
    seconds = {}
    for rows in BATCH_ROWS:
        began = time.perf_counter()
        score(work, out / str(rows), rows)
        seconds[rows] = time.perf_counter() - began
    return min(seconds, key=lambda rows: seconds[rows])
