"""How long until a new process can score with the tree kernel?

Cold: nothing is compiled on this machine yet. Warm: an earlier process has kept the machine code. Wall seconds from the
process's first statement, so the start of Python itself is not counted.

    python -m benchmarks.kernel_start [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx

from benchmarks.harness import write
from rayforest.onnx import from_lightgbm

PROCESS = """
import time
began = time.perf_counter()
marks = {}
import numpy, onnx
marks["numpy and onnx"] = time.perf_counter()
from rayforest.forest import Forest
marks["rayforest.forest"] = time.perf_counter()
forest = Forest.from_onnx(MODEL)
marks["model and kernel"] = time.perf_counter()
forest.raw_score(numpy.zeros((1, 40)))
marks["first row"] = time.perf_counter()
import json
times = list(marks.values())
print(json.dumps(dict(zip(marks, (b - a for a, b in zip([began, *times], times))))))
"""


def main() -> None:
    """Train a model, start processes, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one process each: whether it runs, not how fast")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "trees.onnx"
        model.write_bytes(train().SerializeToString())
        cold = [start(model, Path(name) / f"cache-{turn}") for turn in range(1 if quick else 3)]
        warm = [start(model, Path(name) / "cache-0") for _ in range(1 if quick else 11)]
    parts = list(cold[0])
    rows = [
        f"| {case} | {len(runs)} | "
        + " | ".join(f"{statistics.median(run[part] for run in runs):.3f}" for part in parts)
        + f" | {statistics.median(sum(run.values()) for run in runs):.2f} |"
        for case, runs in (("cold", cold), ("warm", warm))
    ]
    head = [
        "# Start of a process that scores with the tree kernel",
        "",
        "Median seconds; 100 trees x 31 leaves x 40.",
        "",
    ]
    table = [f"| | processes | {' | '.join(parts)} | in all |", "|---" * (len(parts) + 3) + "|", *rows]
    write("kernel_start", {"cold": cold, "warm": warm}, "\n".join([*head, *table]), quick=quick)


def train() -> onnx.ModelProto:
    """100 trees x 31 leaves over 40 features, as ONNX."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 40))
    y = x @ rng.normal(size=40) + rng.normal(size=len(x))
    settings = {"num_leaves": 31, "num_threads": 1, "verbose": -1}
    return from_lightgbm(lgb.train(settings, lgb.Dataset(x, y), 100))


def start(model: Path, cache: Path) -> dict[str, float]:
    """Seconds of each part, in a new process."""
    code = PROCESS.replace("MODEL", repr(str(model)))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    seconds: dict[str, float] = json.loads(done.stdout)
    return seconds


if __name__ == "__main__":
    main()
