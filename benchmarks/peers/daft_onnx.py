"""Daft and onnxruntime: a class that is made once in each of its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
from daft import DataType, col

from benchmarks.peers.work import Session, Work

BATCH_ROWS = 65_536


class _Scorer:
    def __init__(self, model: str) -> None:
        self._session = Session(Path(model))

    @daft.method.batch(return_dtype=DataType.float64(), batch_size=BATCH_ROWS)
    def probability(self, *features: Any) -> pa.Array:
        return pa.array(self._session.probability([feature.to_arrow().to_numpy() for feature in features]))


def score(work: Work, out: Path) -> None:
    """Score the folder."""
    scorer = daft.cls(_Scorer, max_concurrency=work.workers, use_process=True)(str(work.trees))
    frame = daft.read_parquet(f"{work.source}/*.parquet").select(*work.columns)
    frame = frame.select("id", scorer.probability(*[col(name) for name in work.features]).alias("probability"))
    frame = frame.select("id", (col("probability") > 0.5).cast(DataType.int64()).alias("prediction"), "probability")
    frame.write_parquet(str(out), compression="zstd")
