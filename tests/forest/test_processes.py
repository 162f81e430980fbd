"""The kernel in other processes: on a CPU without wide vectors, from the cache, and saying that it compiles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from rayforest.onnx import from_lightgbm

SCORE = """
import logging, sys
import numpy as np
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
from rayforest.forest import Forest
folder = sys.argv[1]
scores = Forest.from_onnx(folder + "/model.onnx").raw_score(np.load(folder + "/rows.npy"))
assert np.array_equal(scores, np.load(folder + "/expected.npy")), "other bits"
print("equal")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with missing values and categories, rows, and their scores."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2_500, 5))
    x[:, 4] = rng.integers(0, 50, len(x))
    x[rng.random(x.shape) < 0.1] = np.nan
    y = np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 4] % 7)
    dataset = lightgbm.Dataset(x, y, categorical_feature=[4])
    booster = lightgbm.train({"verbose": -1, "num_threads": 1, "num_leaves": 300, "min_data_in_leaf": 1}, dataset, 10)
    (tmp_path / "model.onnx").write_bytes(from_lightgbm(booster).SerializeToString())
    np.save(tmp_path / "rows.npy", x)
    np.save(tmp_path / "expected.npy", booster.predict(x, raw_score=True, num_threads=1)[:, None])
    return tmp_path


def score(folder: Path, **environment: str) -> str:
    command = [sys.executable, "-c", SCORE, str(folder)]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("cpu", ["generic", "x86-64-v3"])
def test_a_cpu_without_wide_vectors_gives_the_same_bits(folder: Path, cpu: str) -> None:
    if cpu != "generic" and os.uname().machine != "x86_64":
        cpu = "generic"
    cache = str(folder / "cache")
    assert "equal" in score(folder, NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=cache)


def test_the_first_process_says_that_it_compiles_and_the_second_need_not(folder: Path) -> None:
    cache = str(folder / "cache")
    assert "compiling the tree kernel" in score(folder, NUMBA_CACHE_DIR=cache)
    assert "compiling" not in score(folder, NUMBA_CACHE_DIR=cache)
