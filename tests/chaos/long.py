"""The long form: every case with many seeds, and tens of thousands of simulated worlds; writes a Markdown table.

python -m tests.chaos.long [--rounds 10] [--store-rounds 100] [--worlds 20000] [--only TEXT] [--out chaos.md]

--only nodes is what happens to a cluster whose nodes come and go, with prepare and score among it.

Rounds with a store go around its cases, each with another seed; what was injected is told at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE),
    *(str(HERE.parent / name) for name in ("engine", "given")),
]  # as pytest does for the short form

from cases import CASES  # noqa: E402
from cluster_cases import CLUSTER_CASES, LONG_CASES  # noqa: E402
from object_servers import s3_environment, seaweedfs  # noqa: E402
from simulation import run_seed  # noqa: E402
from store_cases import INJECTED, REQUESTS, STORE_CASES  # noqa: E402
from violence import end_all, may_mount  # noqa: E402


def main() -> int:
    """Exit code 1 if something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="seeds of each case")
    parser.add_argument("--store-rounds", type=int, default=100, help="seeds of all cases with an object store")
    parser.add_argument("--worlds", type=int, default=20_000, help="seeds of the simulation")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--out", type=Path, help="where the table goes, besides standard output")
    options = parser.parse_args()
    of_processes = CASES | CLUSTER_CASES | LONG_CASES
    lines = ["| what was done | times | held | seconds each | seen last |", "|---|---|---|---|---|"]
    failures: list[str] = []

    def tried(name: str, seeds: range, one: Callable[[int], str]) -> None:
        began, held, seen = time.monotonic(), 0, ""
        for seed in seeds:
            try:
                seen = one(seed)
                held += 1
            except Exception:
                failures.append(f"{name}, seed {seed}\n{traceback.format_exc()}")
        each = (time.monotonic() - began) / max(len(seeds), 1)
        lines.append(f"| {name} | {len(seeds):,} | {held:,} | {each:.2g} | {seen} |")
        print(lines[-1], flush=True)

    def case(name: str, seed: int) -> str:
        with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
            try:
                return (of_processes | STORE_CASES)[name](Path(folder), random.Random(seed))
            finally:
                end_all()

    for name in of_processes:
        if options.only in name and (name != "full disk" or may_mount()):
            tried(name, range(options.rounds), lambda seed, name=name: case(name, seed))
    with contextlib.ExitStack() as server:
        for number, name in enumerate(STORE_CASES):
            seeds = range(number, options.store_rounds, len(STORE_CASES))
            if options.only in name and seeds:
                if "AWS_ENDPOINT_URL" not in os.environ:
                    folder = server.enter_context(tempfile.TemporaryDirectory(prefix="chaos-store-"))
                    os.environ.update(s3_environment(server.enter_context(seaweedfs(Path(folder)))))
                tried(name, seeds, lambda seed, name=name: case(name, seed))
    for what, counts in (("injected", INJECTED), ("requests", REQUESTS)):
        if counts:
            told = ", ".join(f"{count:,} x {kind}" for kind, count in counts.most_common())
            lines.append(f"\nStore, {what}: {counts.total():,} ({told})")
    if options.only in "simulation":
        tried("simulation", range(options.worlds), lambda seed: f"{run_seed(seed).scheduler.steps} steps")
    table = "\n".join(lines)
    if options.out:
        options.out.write_text(f"{table}\n")
    print(f"\n{table}")
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
