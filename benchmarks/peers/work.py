"""What every contender gets, and what it must write: id, prediction (0 or 1) and probability of each row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pyarrow as pa

Array = npt.NDArray[np.float64]
CALL_ROWS = 4_096
"""Rows of one call of onnxruntime: faster than larger and smaller ones, here as in rayforest."""
SCHEMA = pa.schema([("id", pa.int64()), ("prediction", pa.int64()), ("probability", pa.float64())])


@dataclass(frozen=True)
class Work:
    """Tables to score, and a model in both forms."""

    source: Path
    """Folder of Parquet files: id, and the features as float32."""
    features: tuple[str, ...]
    trees: Path
    """ONNX: float64 features to probability."""
    booster: Path
    """The same model as LightGBM text."""
    workers: int

    @property
    def columns(self) -> list[str]:
        """Columns to read."""
        return ["id", *self.features]


class Session:
    """onnxruntime on one thread, as rayforest uses it: row-major blocks that stay in the cache."""

    def __init__(self, model: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def probability(self, columns: Sequence[npt.NDArray[Any]]) -> Array:
        """Float64 [rows] of one array of [rows] a feature."""
        rows = len(columns[0])
        out = np.empty(rows)
        for start in range(0, rows, CALL_ROWS):
            block = np.empty((min(CALL_ROWS, rows - start), len(columns)))
            for place, column in enumerate(columns):
                block[:, place] = column[start : start + CALL_ROWS]
            out[start : start + CALL_ROWS] = self._session.run(["probability"], {"features": block})[0][:, 0]
        return out


def scored(ids: Any, probability: Array) -> pa.Table:
    """The rows to write."""
    return pa.table([ids, pa.array((probability > 0.5).astype(np.int64)), pa.array(probability)], schema=SCHEMA)
