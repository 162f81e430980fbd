"""The kernel in other processes: on a CPU without wide vectors, from the cache, and when the cache is no good."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from rayforest.forest import Forest
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
print("with Numba" if "numba" in sys.modules else "without Numba")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with missing values and categories, rows, and their scores."""
    tmp_path = tmp_path_factory.mktemp("model")
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
    assert "equal" in done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def warm(folder: Path) -> Path:
    """A cache with the kernel for this CPU."""
    assert "compiling the tree kernel" in score(folder, NUMBA_CACHE_DIR=str(folder / "warm"))
    return folder / "warm"


@pytest.fixture
def cache(warm: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(warm, tmp_path / "cache"))


def objects(cache: Path) -> set[Path]:
    return set(cache.rglob("*.o"))


@pytest.mark.parametrize("cpu", ["generic", "x86-64-v3"])
def test_a_cpu_without_wide_vectors_gives_the_same_bits_from_a_file_of_its_own(
    folder: Path, cache: Path, cpu: str
) -> None:
    if cpu != "generic" and os.uname().machine != "x86_64":
        cpu = "generic"
    before = objects(cache)
    out = score(folder, NUMBA_CPU_NAME=cpu, NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=str(cache))
    assert "compiling the tree kernel" in out
    assert len(objects(cache) - before) == 1


def test_a_second_process_compiles_nothing_and_never_imports_numba(folder: Path, warm: Path) -> None:
    out = score(folder, NUMBA_CACHE_DIR=str(warm))
    assert "compiling" not in out
    assert "without Numba" in out


def test_a_damaged_file_is_compiled_again(folder: Path, cache: Path) -> None:
    (file,) = objects(cache)
    code = file.read_bytes()
    file.write_bytes(code[:5_000] + b"\xff" + code[5_001:])
    assert "compiling the tree kernel" in score(folder, NUMBA_CACHE_DIR=str(cache))
    assert objects(cache) == {file}
    assert "compiling" not in score(folder, NUMBA_CACHE_DIR=str(cache))


def test_without_a_folder_that_can_be_written_the_kernel_still_works(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert score(folder, NUMBA_CACHE_DIR=str(tmp_path / "file")).count("cannot be kept") == 1


def test_a_forest_that_was_used_can_be_sent_to_another_process(folder: Path) -> None:
    rows = np.load(folder / "rows.npy")
    used = Forest.from_onnx(folder / "model.onnx")
    sent = pickle.dumps(used)
    del used
    assert np.array_equal(pickle.loads(sent).raw_score(rows), np.load(folder / "expected.npy"))
