"""Is this checkout as fast as an older one?

Both do the same work in turn, each time in a process of its own: prepare and score of generated payments, and the
kernel alone. CPU seconds, which a busy machine changes less than wall seconds; late imports are among them.

    git worktree add ../before v0.1.0 && python -m benchmarks.before_after ../before [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness import Timing, as_json, write
from rayforest import generate_payments

HERE = Path(__file__).parents[1]
WORK = """
import json, shutil, sys, time
import rayforest
folder, root, what, *settings = sys.argv[1:]
if what == "the kernel":
    import numpy, onnx
    from rayforest.forest import Forest
    forest = Forest.from_onnx(onnx.load(f"{root}/bundle/trees.onnx"))
    rows = numpy.random.default_rng(0).normal(size=(400_000, forest.n_features))
    forest.raw_score(rows[:1000])
    work = lambda: [forest.raw_score(rows) for _ in range(5)]
else:
    settings += [f'data.source="{folder}/payments"', f'project.root="{root}"']
    project = rayforest.load_project(EXAMPLE, settings)
    shutil.rmtree(f"{root}/" + {"prepare": "prepared", "score": "scored"}.get(what, what), ignore_errors=True)
    work = lambda: getattr(rayforest, what)(project)
began = time.process_time()
work()
print(json.dumps(time.process_time() - began))
"""
SETTINGS = [
    'run.executor="in-process"',
    "run.workers=2",
    "tune.trials=1",
    "tune.space.num_iterations=100",
    "tune.space.num_leaves=31",
    "tune.space.learning_rate=0.1",
]


def main() -> None:
    """Make the tables and a model in each checkout, time, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--quick", action="store_true", help="a small table, one round: whether it runs")
    options = parser.parse_args()
    checkouts = {"after": HERE, "before": options.before.resolve()}
    rows, rounds = (20_000, 1) if options.quick else (1_000_000, 7)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate_payments(folder / "payments", rows=rows, days=20)
        for root, checkout in checkouts.items():
            for stage in ("prepare", "tune", "export"):
                seconds(checkout, folder, root, stage)
        found = {what: turns(checkouts, folder, what, rounds) for what in ("prepare", "score", "the kernel")}
    lines = [
        f"# This checkout beside an older one: {rows:,} payments",
        "",
        f"CPU seconds of {rounds} processes each, in turn.",
        "",
        "| | before | after | after / before, round by round |",
        "|---|---|---|---|",
        *(
            f"| {what} | {before.median:.2f} | {after.median:.2f} | {after.ratio_to(before):.3f} |"
            for what, (after, before) in found.items()
        ),
    ]
    document = {
        "commits": {name: commit(checkout) for name, checkout in checkouts.items()},
        **{what: as_json(timings) for what, timings in found.items()},
    }
    write("before_after", document, "\n".join(lines), quick=options.quick)


def turns(checkouts: Mapping[str, Path], folder: Path, what: str, rounds: int) -> list[Timing]:
    """Each checkout once a round, the first one in every other round first."""
    found: dict[str, list[float]] = {name: [] for name in checkouts}
    for turn in range(rounds):
        for name in sorted(checkouts, reverse=turn % 2 == 0):
            found[name].append(seconds(checkouts[name], folder, name, what))
    return [Timing(name, commit(checkout), tuple(found[name])) for name, checkout in checkouts.items()]


def seconds(checkout: Path, folder: Path, root: str, what: str) -> float:
    """CPU seconds of a piece of work in a new process that runs a checkout's code."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "lib"), "OMP_NUM_THREADS": "2"}
    code = WORK.replace("EXAMPLE", repr(str(HERE / "jobs" / "examples" / "payments.toml")))
    command = [sys.executable, "-c", code, str(folder), str(folder / root), what, *SETTINGS]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def commit(checkout: Path) -> str:
    """Of a checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return told.stdout.strip()


if __name__ == "__main__":
    main()
