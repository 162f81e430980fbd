"""A driver to be killed: numbers in, numbers out, slowly. Run as a program; prints one JSON object.

Each attempt leaves a file SHARD.PID.TIME in the marks folder when it begins, so that others know whom to kill. It holds
the id of the Ray node that does the work, or nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Destination, plan_key
from rayforest.engine.executors import choose_executor
from rayforest.engine.policy import Policy
from rayforest.engine.publish import clean, publish
from rayforest.engine.run import run_step
from rayforest.engine.shards import InputFile, Piece, Shard, plan_shards
from rayforest.engine.stores import patience
from rayforest.engine.stores.opening import open_store
from rayforest.errors import RayforestError


@dataclass(frozen=True)
class SlowNumbers:
    """Writes a shard's numbers in four parts, with a pause after each; what ends in 7 is quarantined."""

    marks: str
    pause_s: float
    width: int
    """Bytes of text beside each number; not to be compressed away."""
    schema: ClassVar[pa.Schema] = pa.schema([("number", pa.int64()), ("text", pa.string())])

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        Path(self.marks, f"{shard.index}.{os.getpid()}.{time.time_ns()}").write_text(node_id())
        for row_range in shard.ranges:
            first = int(row_range.uri) + row_range.first_row
            for part in range(4):
                numbers = range(first + row_range.rows * part // 4, first + row_range.rows * (part + 1) // 4)
                self._part(numbers, row_range.path, attempt)
                time.sleep(self.pause_s)

    def _part(self, numbers: range, file: str, attempt: Attempt) -> None:
        attempt.count_in(len(numbers))
        good, bad = [n for n in numbers if n % 10 != 7], [n for n in numbers if n % 10 == 7]
        texts = [random.Random(n).randbytes(self.width).hex() for n in good]
        attempt.write(pa.table({"number": good, "text": texts}, schema=self.schema))
        columns = {"file": [file] * len(bad), "row": bad, "reason": ["ends in 7"] * len(bad), "raw": map(str, bad)}
        attempt.quarantine(pa.table(columns))


def node_id() -> str:
    """Of the Ray node that this process is a worker of."""
    ray = sys.modules.get("ray")
    return str(ray.get_runtime_context().get_node_id()) if ray is not None and ray.is_initialized() else ""


def main(arguments: list[str]) -> int:
    """Run the job to its end, or to its error's exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("destination")
    parser.add_argument("marks")
    parser.add_argument("--executor", default="in-process")
    parser.add_argument("--address")
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--rows", type=int, default=200, help="of a shard")
    parser.add_argument("--pause", type=float, default=0.01)
    parser.add_argument("--width", type=int, default=1)
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--patience", type=float, default=180, help="seconds for which a request to a store is tried")
    options = parser.parse_args(arguments)
    rows, count = options.rows, options.shards
    files = [
        InputFile(f"{n}", str(n * rows), rows, "1", f"{n} {rows}", (Piece(0, rows, 0, 0, rows),)) for n in range(count)
    ]
    ingredients = {"rows": rows, "width": options.width}
    patience.PATIENCE = patience.Patience(retry_s=options.patience)
    try:
        executor, _ = choose_executor(options.executor, options.address, 2, quiet=True)
        try:
            version = Destination(open_store(options.destination)).claim(
                plan_key(ingredients, ((file.path, file.identity) for file in files)), ingredients
            )
            plan = version.plan() or version.write_plan(plan_shards(files, shard_rows=rows, shard_bytes=1 << 40))
            task = SlowNumbers(options.marks, options.pause, options.width)
            totals = run_step(version, plan, task, executor, policy=Policy(timeout_s=options.timeout))
            publish(version, plan)
            clean(version, grace_s=0)
        finally:
            executor.close()
    except RayforestError as error:
        print(json.dumps({"error": error.as_dict()}))
        return error.exit_code
    print(json.dumps({"resumed": totals.resumed, "rows_in": totals.rows_in, "rows_out": totals.rows_out}))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that started us in the background ignores it
    sys.exit(main(sys.argv[1:]))
