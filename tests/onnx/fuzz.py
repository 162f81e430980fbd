"""Thousands of random models through the gate: `python -m tests.onnx.fuzz --seeds 5000 --start 0`.

Exits with 1 at the first model of which one bit differs, and names its seed.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.onnx.random_models import random_case

from rayforest.errors import RayforestError
from rayforest.onnx import check_parity, from_lightgbm


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=2_000)
    arguments.add_argument("--start", type=int, default=1_000_000)
    chosen = arguments.parse_args()
    models = trees = scores = 0
    largest = 0.0
    began = time.monotonic()
    for seed in range(chosen.start, chosen.start + chosen.seeds):
        case = random_case(seed)
        try:
            model = from_lightgbm(case.booster, num_iteration=case.num_iteration)
            evidence = check_parity(case.booster, model, case.rows, num_iteration=case.num_iteration)
        except RayforestError as error:
            print(f"{case.kind}\n{error}", file=sys.stderr)
            return 1
        models, trees, scores = models + 1, trees + case.booster.num_trees(), scores + evidence.raw_scores
        largest = max(largest, evidence.max_relative_difference)
        if models % 100 == 0:
            print(f"{models:,} models, {scores:,} scores, {time.monotonic() - began:.0f} s", flush=True)
    print(
        f"{models:,} models, {trees:,} trees, {scores:,} raw scores: 0 bits differ; "
        f"predictions within {largest:.2g} relative"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
