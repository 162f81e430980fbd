"""Small inputs and tasks for the engine's tests: numbers in, numbers out, every tenth quarantined."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Destination, Version, plan_key
from rayforest.engine.executors import Executor
from rayforest.engine.manifest import Manifest
from rayforest.engine.plan import Plan
from rayforest.engine.publish import publish
from rayforest.engine.run import run_step
from rayforest.engine.shards import InputFile, Piece, Shard, plan_shards
from rayforest.engine.stores.store import Store


def number_files(rows: Iterable[int]) -> list[InputFile]:
    """Files of consecutive numbers; their URI is the first number."""
    files, start = [], 0
    for index, count in enumerate(rows):
        pieces = (Piece(0, count, 0, 0, 8 * count),) if count else ()
        files.append(InputFile(f"in/{index:04d}", str(start), 8 * count, "1", f"numbers {start} {count}", pieces))
        start += count
    return files


@dataclass(frozen=True)
class Numbers:
    """Writes the numbers of a shard in chunks; those that end in 7 are quarantined."""

    chunk: int = 1000
    schema: ClassVar[pa.Schema] = pa.schema([("number", pa.int64()), ("text", pa.string())])

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        for row_range in shard.ranges:
            start = int(row_range.uri) + row_range.first_row
            for first in range(start, start + row_range.rows, self.chunk):
                self.part(range(first, min(first + self.chunk, start + row_range.rows)), row_range.path, attempt)
        attempt.sidecar(str(shard.rows).encode())

    def part(self, numbers: range, file: str, attempt: Attempt) -> None:
        attempt.count_in(len(numbers))
        good, bad = [n for n in numbers if n % 10 != 7], [n for n in numbers if n % 10 == 7]
        attempt.write(pa.table({"number": good, "text": [f"number {n}" for n in good]}, schema=self.schema))
        if bad:
            attempt.quarantine(
                pa.table(
                    {"file": [file] * len(bad), "row": bad, "reason": ["ends in 7"] * len(bad), "raw": map(str, bad)}
                )
            )


def claimed(store: Store, files: list[InputFile], *, shard_rows: int = 1000, **claim: Any) -> tuple[Version, Plan]:
    """A version of the destination and its plan."""
    ingredients = {"shard_rows": shard_rows}
    inputs = [(file.path, file.identity) for file in files]
    version = Destination(store).claim(plan_key(ingredients, inputs), ingredients, inputs, **claim)
    shards = plan_shards(files, shard_rows=shard_rows, shard_bytes=1 << 30)
    return version, version.plan() or version.write_plan(shards)


def finished(store: Store, files: list[InputFile], executor: Executor, task: Any = None, **step: Any) -> Manifest:
    """A whole run."""
    version, plan = claimed(store, files)
    run_step(version, plan, task or Numbers(), executor, **step)
    return publish(version, plan)


def numbers_of(manifest: Manifest) -> list[int]:
    """All rows out, in order, read without the engine's help."""
    return [n for path in manifest.files() for n in pq.ParquetFile(path).read()["number"].to_pylist()]


def bytes_of(manifest: Manifest) -> list[bytes]:
    """The data files' contents in input order."""
    return [Path(path).read_bytes() for path in manifest.files()]
