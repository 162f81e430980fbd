"""The hand-written AVX-512 reference: builds `gather_avx512.c` with the system's compiler and packs a model for it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayforest.onnx.lightgbm_text import LightGBMModel

_SOURCE = Path(__file__).with_name("gather_avx512.c")
_BLOCK = 64


def gather_scorer(model: LightGBMModel) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """What scores whole blocks of 64 rows, double [rows, n_features] in row order.

    Raises:
        RuntimeError: there is no compiler or no AVX-512, or the model is beyond the reference.
    """
    library = _build()
    cuts, offsets, words, starts, depths, leaves = _pack(model)

    def score(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = len(rows) // _BLOCK * _BLOCK
        bins, out = np.zeros(rows.shape[1] * _BLOCK, dtype=np.int32), np.empty(whole)
        library.gather_score(
            _pointer(rows),
            ctypes.c_int64(whole),
            ctypes.c_int64(rows.shape[1]),
            *map(_pointer, (cuts, offsets, words, starts, depths)),
            ctypes.c_int64(len(starts)),
            *map(_pointer, (leaves, bins, out)),
        )
        return out

    return score


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _build() -> ctypes.CDLL:
    compiler = shutil.which("cc")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if compiler is None or "avx512dq" not in flags:
        raise RuntimeError("needs cc and AVX-512")
    target = Path(tempfile.mkdtemp()) / "gather_avx512.so"
    command = [compiler, "-O3", "-march=native", "-shared", "-fPIC", str(_SOURCE), "-o", str(target)]
    subprocess.run(command, check=True, capture_output=True)
    return ctypes.CDLL(str(target))


def _pack(model: LightGBMModel) -> tuple[NDArray[Any], ...]:
    """Words [left child:12 | bin:8 | feature:12]; siblings stand side by side, a leaf leads to itself with bin 255."""
    if model.n_outputs != 1 or any(tree.categories for tree in model.trees):
        raise RuntimeError("numerical splits and one output only")
    by_feature: list[list[float]] = [[] for _ in range(model.n_features)]
    for tree in model.trees:
        for feature, threshold in zip(tree.split_feature, tree.threshold, strict=True):
            by_feature[feature].append(threshold)
    cuts = [np.unique(c) for c in by_feature]
    if max(map(len, cuts)) > 255:
        raise RuntimeError("at most 255 thresholds a feature")
    words: list[int] = []
    leaves: list[float] = []
    starts, depths = [], []
    for tree in model.trees:
        starts.append(len(words))
        own, values, depth = [0], [0.0], 0
        queue = [(0 if len(tree.left) else ~0, 0, 0)]
        for node, slot, level in queue:
            depth = max(depth, level)
            if node < 0:
                own[slot], values[slot] = slot << 20 | 255 << 12, float(tree.leaf_value[~node])
                continue
            feature = int(tree.split_feature[node])
            place = int(np.searchsorted(cuts[feature], tree.threshold[node]))
            own[slot] = len(own) << 20 | place << 12 | feature
            queue += [(int(tree.left[node]), len(own), level + 1), (int(tree.right[node]), len(own) + 1, level + 1)]
            own += [0, 0]
            values += [0.0, 0.0]
        words += own
        leaves += values
        depths.append(depth)
    if np.diff([*starts, len(words)]).max() > 4_095:
        raise RuntimeError("at most 4,095 nodes a tree")
    offsets = np.concatenate([[0], np.cumsum([len(c) for c in cuts])]).astype(np.int32)
    as_words = np.array(words, dtype=np.uint32).view(np.int32)
    return (
        *(np.concatenate(cuts), offsets, as_words),
        *(np.array(starts, dtype=np.int32), np.array(depths, dtype=np.int32), np.array(leaves)),
    )
