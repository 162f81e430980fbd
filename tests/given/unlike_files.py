"""Projects over small files that differ, which the tests of tables share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import rayforest

PROJECT = """
[project]
name = "files"

[data]
source = "raw"
key = "id"
target = "y"

[features]
x = "x"

[split]
shares = [0.6, 0.2, 0.2]

[tune]
trials = 1

[tune.space]
num_iterations = 3
min_data_in_leaf = 2

[run]
executor = "in-process"
workers = 1
"""


def project(folder: Path, text: str = PROJECT, **sections: str) -> Path:
    """FOLDER/project.toml: the text, with lines put under the headers of the named sections."""
    for section, lines in sections.items():
        header = f"[{section}]\n"
        text = text.replace(header, f"{header}{lines}\n") if header in text else f"{text}\n{header}{lines}\n"
    path = folder / "project.toml"
    path.write_text(text)
    return path


def write(folder: Path, name: str, **columns: Any) -> int:
    """FOLDER/raw/NAME as a Parquet file with x and y beside the columns; how many rows it has."""
    (folder / "raw").mkdir(exist_ok=True)
    arrays = {n: c if isinstance(c, pa.Array) else pa.array(c) for n, c in columns.items()}
    rows = len(next(iter(arrays.values())))
    x = np.random.default_rng(len(name)).random(rows)
    pq.write_table(pa.table({"x": x, "y": (x > 0.5).astype(int)} | arrays), folder / "raw" / name)
    return rows


def scored(folder: Path, *overrides: str) -> pl.DataFrame:
    """All four stages, none of which may lose a row."""
    for step in rayforest.run(folder / "project.toml", overrides=overrides).steps:
        assert step.rows_quarantined in (0, None), step.reasons
    return rayforest.read(folder / "out/scored").collect()
