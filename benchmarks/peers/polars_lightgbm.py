"""One process: Polars reads a file, LightGBM predicts with all threads, Polars writes."""

from __future__ import annotations

from pathlib import Path

import lightgbm as lgb
import numpy as np
import polars as pl

from benchmarks.peers.work import Work


def score(work: Work, out: Path, booster: lgb.Booster) -> None:
    """Score the folder."""
    out.mkdir(parents=True)
    for file in sorted(work.source.glob("*.parquet")):
        frame = pl.read_parquet(file, columns=work.columns)
        matrix = frame.select(work.features).to_numpy(order="c")
        probability = np.asarray(booster.predict(matrix, num_threads=work.workers))
        frame.select("id").with_columns(
            prediction=pl.Series((probability > 0.5).astype(np.int64)), probability=pl.Series(probability)
        ).write_parquet(out / file.name, compression="zstd")
