"""A pool of processes that are warm already, a file a task, row group by row group, with onnxruntime."""

from __future__ import annotations

from multiprocessing.pool import Pool
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peers.work import SCHEMA, Session, Work, scored

_session: Session | None = None


def start(model: Path) -> None:
    """Prepare a process of the pool."""
    global _session  # noqa: PLW0603 - once a process
    pa.set_cpu_count(1)
    _session = Session(model)


def score(work: Work, out: Path, pool: Pool) -> None:
    """Score the folder."""
    out.mkdir(parents=True)
    tasks = [(work, file, out / file.name) for file in sorted(work.source.glob("*.parquet"))]
    pool.starmap(_score_file, tasks, chunksize=1)


def _score_file(work: Work, file: Path, out: Path) -> None:
    assert _session is not None
    with pq.ParquetFile(file) as source, pq.ParquetWriter(out, SCHEMA, compression="zstd") as sink:
        for group in range(source.num_row_groups):
            table = source.read_row_group(group, columns=work.columns, use_threads=False)
            probability = _session.probability([table[name].to_numpy() for name in work.features])
            sink.write_table(scored(table["id"], probability))
