"""The tables and the project that `score_path` scores: 36 float32 features, and a binary target made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = tuple(f"x{i}" for i in range(36))
_FILES = 8
PROJECT = """
[project]
name = "wide"
root = "out"

[data]
source = "train"
key = "id"
target = "y"

[tune]
trials = 1

[tune.space]
num_iterations = 100
num_leaves = 31
learning_rate = 0.1

[run]
workers = 2
executor = "in-process"
"""


def write_training(folder: Path, rows: int) -> None:
    """FOLDER/project.toml, and FOLDER/train with a table for it."""
    (folder / "project.toml").write_text(PROJECT, encoding="utf-8")
    (folder / "train").mkdir()
    pq.write_table(_table(rows, 1, 0), folder / "train" / "a.parquet")


def write_tables(folder: Path, rows: int, small_files: int) -> None:
    """The same rows without the target three times: FOLDER/even, FOLDER/small and FOLDER/large."""
    for name in ("even", "small", "large"):
        (folder / name).mkdir()
    part, small = rows // _FILES, rows // small_files
    schema = pa.schema([("id", pa.int64()), *((name, pa.float32()) for name in FEATURES)])
    with pq.ParquetWriter(folder / "large" / "0.parquet", schema, compression="zstd") as large:
        waiting: list[pa.Table] = []
        for number in range(_FILES):
            table = _table(part, 2 + number, number * part).drop_columns(["y"])
            pq.write_table(table, folder / "even" / f"{number}.parquet", compression="zstd", row_group_size=131_072)
            for start in range(0, part, small):
                file = folder / "small" / f"{number}-{start:07d}.parquet"
                pq.write_table(table.slice(start, small), file, compression="zstd")
            waiting.append(table)
            if number % 2:  # about the row groups that a writer makes by default
                large.write_table(pa.concat_tables(waiting))
                waiting = []


def _table(rows: int, seed: int, first: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    weights = np.random.default_rng(0).normal(size=len(FEATURES))
    x = rng.normal(size=(rows, len(FEATURES))).astype(np.float32)
    y = x @ weights + np.sin(3 * x[:, 0]) * 4 + rng.normal(size=rows) > 0
    columns = {"id": np.arange(first, first + rows), **{name: x[:, i] for i, name in enumerate(FEATURES)}}
    return pa.table({**columns, "y": y.astype(np.int8)})
