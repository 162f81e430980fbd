"""The least that scoring takes: the same bytes read with pyarrow, the tree kernel in memory, the same bytes written.

A thread takes a file at a time, or a run of row groups where there are fewer files than threads; nothing is checked,
recorded or made durable, and nobody could resume it.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq

from benchmarks.peers.work import SCHEMA, Work, scored
from rayforest.bundle.link import Link
from rayforest.engine.attempt import ROW_GROUP_ROWS
from rayforest.forest import Forest


class Floor:
    """A model in memory."""

    def __init__(self, work: Work, encodings: dict[str, Any]) -> None:
        """Args:
        work: what to score.
        encodings: the settings of `ParquetWriter` that give the same bytes as rayforest's.
        """
        self._work, self._encodings = work, encodings
        self._forest, self._link = Forest.from_onnx(work.trees), Link(onnx.load(str(work.trees)))

    def score(self, out: Path) -> Counter[str]:
        """Score the folder; CPU seconds by part."""
        out.mkdir(parents=True)
        files = sorted(self._work.source.glob("*.parquet"))
        runs = -(-self._work.workers // len(files))
        tasks = [(file, run, runs, out / f"{run}-{file.name}") for file in files for run in range(runs)]
        with ThreadPoolExecutor(self._work.workers) as pool:
            return sum(pool.map(lambda task: self._score_run(*task), tasks), Counter())

    def _score_run(self, file: Path, run: int, runs: int, out: Path) -> Counter[str]:
        """Score one of a file's equal runs of row groups."""
        seconds: Counter[str] = Counter()
        with (
            pq.ParquetFile(file, pre_buffer=False) as source,
            pq.ParquetWriter(out, SCHEMA, compression="zstd", **self._encodings) as sink,
        ):
            groups = np.array_split(np.arange(source.num_row_groups), runs)[run].tolist()
            batches = source.iter_batches(ROW_GROUP_ROWS, groups, self._work.columns, use_threads=False)
            while True:
                marks = [time.thread_time()]
                batch = next(batches, None)
                marks.append(time.thread_time())
                if batch is None:
                    return seconds
                raw_score = self._forest.raw_score(batch.select(list(self._work.features)))
                marks.append(time.thread_time())
                probability = self._link(raw_score.astype(np.float64, copy=False))
                marks.append(time.thread_time())
                sink.write_table(scored(batch["id"], probability))
                marks.append(time.thread_time())
                taken = np.diff(marks).tolist()
                seconds.update(dict(zip(("read", "trees", "link", "write"), taken, strict=True)))


def encodings_of(file: Path) -> dict[str, Any]:
    """The settings with which a writer gives a file's encodings again."""
    group = pq.ParquetFile(file).metadata.row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    return {
        "use_dictionary": [c.path_in_schema for c in chunks if "RLE_DICTIONARY" in c.encodings],
        "column_encoding": {
            c.path_in_schema: "DELTA_BINARY_PACKED" for c in chunks if "DELTA_BINARY_PACKED" in c.encodings
        },
    }
