"""A table with a column of every stored type that may be a feature, and a small project over it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PROJECT = """
[project]
name = "types"
root = "out"
seed = 1

[data]
source = "raw"
key = "id"
target = "bought"

[data.columns]
i32 = { type = "number", min = -900 }
i16 = { type = "number", null_values = [7] }
flag_text = { type = "boolean" }

[data.rules]
not_both = "f32 > -3 OR f64 > -3"

[features]
f32 = "f32"
f64 = "f64"
i8 = "i8"
i16 = "i16"
i32 = "i32"
i64 = "i64"
u32 = "u32"
flag = "flag"
flag_text = "flag_text"
price = "price"
product = "f32 * i8"
three = "1 + 2"
city = "city"
kind = "kind"
digit = "i8"
categorical = ["digit"]

[tune]
trials = 1

[tune.space]
num_iterations = 20
num_leaves = 8
min_data_in_leaf = 5

[score]
carry = ["city", "price"]

[run]
executor = "in-process"
workers = 2
"""

CITIES = ["Oslo", "Rome", "Łódź", "Ürümqi", "a", "b", "c"]


def rows(count: int, seed: int = 0) -> pa.Table:
    """Rows with null in every feature, NaN and infinities in floats, '' in text, and numbers at the edges."""
    rng = np.random.default_rng(seed)

    def holes(values: list[object], share: float = 0.1) -> list[object]:
        return [None if rng.random() < share else value for value in values]

    f32 = rng.normal(size=count).astype(np.float32)
    f64 = np.round(rng.normal(size=count), 1)
    cities = rng.choice([*CITIES, ""], count).tolist()
    drive = np.nan_to_num(f32) + np.nan_to_num(f64) + (np.array(cities) == "Oslo")
    f32[rng.random(count) < 0.05] = np.nan
    f64[rng.random(count) < 0.05] = np.inf
    return pa.table(
        {
            "id": pa.array([f"r{i:05d}" for i in range(count)]),
            "f32": pa.array(holes(f32.tolist()), pa.float32()),
            "f64": pa.array(holes(f64.tolist()), pa.float64()),
            "i8": pa.array(holes(rng.integers(-3, 4, count).tolist()), pa.int8()),
            "i16": pa.array(holes(rng.integers(0, 12, count).tolist()), pa.int16()),
            "i32": pa.array(holes(rng.integers(-1_000, 10_000, count).tolist()), pa.int32()),
            "i64": pa.array(holes(rng.integers(2**53 - 8, 2**53 + 8, count).tolist()), pa.int64()),
            "u32": pa.array(holes(rng.integers(0, 2**32, count).tolist()), pa.uint32()),
            "flag": pa.array(holes((rng.random(count) < 0.5).tolist()), pa.bool_()),
            "flag_text": pa.array(holes(rng.choice(["true", "no", "maybe"], count, p=[0.5, 0.45, 0.05]).tolist())),
            "price": pa.array([Decimal(int(c)) / 100 for c in rng.integers(0, 9_999, count)], pa.decimal128(10, 2)),
            "city": pa.array(holes(cities)),
            "kind": pa.array(holes(rng.choice(["x", "y", "  "], count).tolist()), pa.large_string()),
            "bought": pa.array(drive + rng.normal(size=count) * 0.3 > 0.5),
        }
    )


def write_rows(folder: Path, table: pa.Table, files: int = 3) -> Path:
    """The rows in order, in so many files of FOLDER, in row groups of 40 rows."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-table.num_rows // files)
    for number in range(files):
        pq.write_table(table.slice(number * size, size), folder / f"{number}.parquet", row_group_size=40)
    return folder
