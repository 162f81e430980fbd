"""How many requests and bytes, and how much time, does reading Parquet from an object store take?

Files of 60 columns in a bucket of SeaweedFS on this machine: of some large files 5 columns far from each other, and all
of them; of many small files 5. Listing, footers and rows are counted, from the URI to the last batch, which is let go
at once. Contenders are rayforest with two workers, pyarrow's dataset over its own S3 client, and Polars' streaming scan
over its. Arrow keeps the memory that it has freed, as in our command line. The server takes CPU time from all alike; it
answers within a millisecond, so what a request costs in a cloud is told by the counts alone: they are taken through a
proxy, in a round that is not timed.

    python -m benchmarks.object_reading [--quick] [--files N] [--small N] [--rounds N]
"""

# ruff: noqa: E402  what is said before Arrow is loaded, and where the tests' servers are
from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rayforest.process_settings import keep_memory

keep_memory()

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from benchmarks.harness import Timing, as_json, interleaved, table, write
from rayforest.engine.shards import Shard, plan_shards
from rayforest.tables.batch import Source
from rayforest.tables.reading import inspect_each, list_files, read_placed

sys.path.append(str(Path(__file__).parent.parent / "tests" / "given"))
from fault_proxy import FaultProxy
from object_servers import KEYS, put_objects, seaweedfs

COLUMNS, FEW = 60, 5
ROWS, SMALL_ROWS, GROUP_ROWS = 200_000, 2_000, 100_000
"""Of a large and a small file, and of their row groups."""
WORKERS = 2


@dataclass(frozen=True)
class Question:
    """What is read."""

    folder: str
    files: int
    rows: int
    """Of each."""
    columns: list[str]

    def __str__(self) -> str:
        return f"{len(self.columns)} of {COLUMNS} columns of {self.files} files of {self.rows:,} rows"


@dataclass(frozen=True)
class Count:
    """What a contender asked of the store."""

    name: str
    requests: int
    bytes: int
    """Of the answers."""


def main() -> None:
    """Make the files, compare what is read, count, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs and agrees, not how fast")
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--small", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if options.quick:
        options.files, options.small, options.rounds = 2, 20, 1
    few = names()[:: COLUMNS // FEW]
    questions = [
        Question("large", options.files, ROWS, few),
        Question("large", options.files, ROWS, names()),
        Question("small", options.small, SMALL_ROWS, few),
    ]
    with tempfile.TemporaryDirectory() as name, seaweedfs(Path(name)) as endpoint:
        for question in questions[1:]:
            put_files(endpoint, Path(name) / question.folder, question.files, question.rows)
        found = [(question, *run(endpoint, question, options.rounds)) for question in questions]
    lines = ["# Reading Parquet from an object store", "", f"zstd, row groups of {GROUP_ROWS:,} rows at most."]
    for question, timings, counts in found:
        lines += ["", f"## {question}", "", table(timings, question.files * question.rows), ""]
        lines += _counts(counts, question.files)
    document = {
        str(question): {"timings": as_json(timings), "counts": [vars(count) for count in counts]}
        for question, timings, counts in found
    }
    write("object_reading", document, "\n".join(lines), quick=options.quick)


def run(endpoint: str, question: Question, rounds: int) -> tuple[list[Timing], list[Count]]:
    """One question to all contenders."""
    asked, counts, rows = contenders(question.folder, question.columns), [], set[int]()
    for name, (_, work) in asked.items():
        with FaultProxy(endpoint) as proxy, environment(proxy.url):
            rows.add(work())
            counts.append(Count(name, sum(proxy.requests.values()), proxy.bytes_out))
    if rows != {question.files * question.rows}:
        raise SystemExit(f"the contenders read other rows than there are: {rows}")
    with environment(endpoint):
        return interleaved(asked, rounds), counts


def contenders(folder: str, columns: list[str]) -> Mapping[str, tuple[str, Callable[[], int]]]:
    """Name -> settings, and what reads the columns and counts the rows."""
    return {
        "rayforest": (f"{WORKERS} workers", lambda: with_rayforest(folder, columns)),
        "pyarrow dataset": ("S3FileSystem, its own threads, pre-buffered", lambda: with_pyarrow(folder, columns)),
        "Polars": ("scan_parquet, streaming, its own threads", lambda: with_polars(folder, columns)),
    }


def with_rayforest(folder: str, columns: list[str]) -> int:
    """As prepare reads them: listed, planned, a shard a worker."""
    source = Source((f"s3://bucket/{folder}",), Path())

    def rows_of(shard: Shard) -> int:
        return sum(batch.table.num_rows for _, batch in read_placed(shard.ranges, source, columns))

    files = inspect_each(list_files(source), source, shard_rows=ROWS)
    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(rows_of, plan_shards(files, shard_rows=ROWS, shard_bytes=1 << 30)))


def with_pyarrow(folder: str, columns: list[str]) -> int:
    """Batch by batch."""
    files = fs.S3FileSystem(
        access_key="testing",
        secret_key=KEYS["testing"],
        endpoint_override=os.environ["AWS_ENDPOINT_URL"],
        region="us-east-1",
        scheme="http",
    )
    found = ds.dataset(f"bucket/{folder}", filesystem=files, format="parquet")
    return sum(batch.num_rows for batch in found.to_batches(columns=columns))


def with_polars(folder: str, columns: list[str]) -> int:
    """Batch by batch, of a streaming query."""
    settings = {
        "aws_endpoint_url": os.environ["AWS_ENDPOINT_URL"],
        "aws_access_key_id": "testing",
        "aws_secret_access_key": KEYS["testing"],
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }
    found = pl.scan_parquet(f"s3://bucket/{folder}/*.parquet", storage_options=settings).select(columns)
    return sum(batch.height for batch in found.collect_batches(maintain_order=False))


def names() -> list[str]:
    """Of all columns."""
    return [f"c{number:02d}" for number in range(COLUMNS)]


def put_files(endpoint: str, folder: Path, files: int, rows: int) -> None:
    """Numbers of two kinds, and texts."""
    folder.mkdir()
    words = np.array([f"merchant-{number:05d}" for number in range(20_000)])
    for file in range(files):
        rng = np.random.default_rng(file)
        kinds = (
            lambda rng=rng: rng.normal(size=rows).round(3),
            lambda rng=rng: rng.integers(0, 1 << 20, rows),
            lambda rng=rng: words[rng.integers(0, len(words), rows)],
        )
        columns = {name: kinds[place % 3]() for place, name in enumerate(names())}
        path = folder / f"part-{file:04d}.parquet"
        pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=GROUP_ROWS)
    put_objects(endpoint, folder.name, folder)


@contextmanager
def environment(endpoint: str) -> Iterator[None]:
    """Where the store is, and who asks, as users say it."""
    before = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": KEYS["testing"],
        "AWS_REGION": "us-east-1",
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _counts(counts: list[Count], files: int) -> list[str]:
    lines = ["| contender | requests | a file | MB | MB a file |", "|---|---|---|---|---|"]
    for count in counts:
        cells = (f"{count.requests:,}", f"{count.requests / files:.1f}", f"{count.bytes / 1e6:,.1f}")
        lines.append(f"| {count.name} | {' | '.join(cells)} | {count.bytes / files / 1e6:.1f} |")
    return lines


if __name__ == "__main__":
    main()
