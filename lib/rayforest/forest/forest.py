"""A forest that scores tables."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rayforest.errors import ConfigError, InputError
from rayforest.forest.columns import Data, address_of, blocks, count_rows
from rayforest.forest.compiling import Kernel, kernel_for
from rayforest.forest.ensemble import Aggregate, Floats
from rayforest.forest.layout import LINE, CallLayout
from rayforest.forest.operators import read_ensemble
from rayforest.forest.pack import Packed, pack

Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Forest:
    """The trees of an ONNX model, scored by the tree kernel. Safe to share between threads."""

    packed: Packed
    n_features: int | None
    """Columns of the data; None where the model does not say: then at least those that the trees test."""
    n_outputs: int
    n_trees: int
    aggregate: Aggregate
    base_values: Floats
    post_transform: str
    """What the model's operator does behind the raw score; NONE in models of rayforest.onnx."""
    float32_input: bool
    """Values are rounded to float32 first, as the model's own input is float32."""
    output_dtype: np.dtype[np.float32] | np.dtype[np.float64]

    @classmethod
    def from_onnx(cls, model: onnx.ModelProto | bytes | str | Path) -> Forest:
        """Read the tree ensemble of a model.

        Reads TreeEnsemble of ai.onnx.ml 5, with the nodes that `rayforest.onnx` writes before it for zeros and
        categories, and TreeEnsembleRegressor and TreeEnsembleClassifier of versions 1 and 3. Scores equal those of
        onnxruntime on one thread in every bit. Loads the compiled kernel, or compiles it, which takes seconds once.

        Args:
            model: the model, its bytes, or the path of its file.

        Raises:
            ConfigError: there is no tree ensemble, or one that the kernel cannot read; says why.
            InputError: the file cannot be read.
        """
        ensemble = read_ensemble(_load(model))
        if ensemble.aggregate in {Aggregate.MIN, Aggregate.MAX} and not np.isfinite(ensemble.weight).all():
            raise ConfigError(
                "the least or largest of infinite leaves is not defined",
                expected="finite leaves",
                next_step="score this model with onnxruntime",
            )
        forest = cls(
            packed=pack(ensemble),
            n_features=ensemble.n_features,
            n_outputs=ensemble.n_targets,
            n_trees=len(ensemble.roots),
            aggregate=ensemble.aggregate,
            base_values=ensemble.base_values,
            post_transform=ensemble.post_transform,
            float32_input=ensemble.float32_input,
            output_dtype=ensemble.output_dtype,
        )
        _ = forest._prepared
        return forest

    def raw_score(self, data: Data) -> Scores:
        """What the trees add up to, before any post-transform: float64 [rows, n_outputs], float32 for float32 models.

        A classifier of two classes with weights for one of them has one output.

        Args:
            data: an Arrow table or record batch, a Polars frame, or a numpy matrix of either order; one column a
                feature, in the model's order. Null is NaN. Floats are read where they lie; integers and booleans are
                copied to float64 first.

        Raises:
            InputError: another number of columns than the model's, or a column that holds no numbers.
        """
        out = self._run(data, None)
        if self.aggregate is Aggregate.AVERAGE:
            out /= out.dtype.type(self.n_trees)
        elif self.aggregate is not Aggregate.SUM:
            out[np.isinf(out)] = 0  # no tree adds to this target
        if self._prepared.has_base:
            out += self.base_values.astype(out.dtype)
        return out.astype(self.output_dtype, copy=False)

    def leaf_index(self, data: Data) -> NDArray[np.int32]:
        """The leaf that each row reaches in each tree: int32 [rows, trees].

        As LightGBM's `pred_leaf` for models of rayforest.onnx; the leaf's node id for operators of versions 1 and 3.

        Raises:
            InputError: as `raw_score`.
        """
        leaves = np.empty((count_rows(data), self.n_trees), dtype=np.int32)
        self._run(data, leaves)
        return leaves

    def _run(self, data: Data, leaves: NDArray[np.int32] | None) -> Scores:
        """What the trees add up to, [rows, n_outputs]; fills `leaves` if there are any."""
        ready = self._prepared
        out = np.empty((count_rows(data), self.n_outputs), dtype=self.packed.weight.dtype)
        out_at, leaves_at = address_of(out), 0 if leaves is None else address_of(leaves)
        for block in blocks(data, self.n_features, ready.n_used):
            ready.kernel(ready.layout_at, block.base, block.columns, block.rows, out_at, leaves_at, ready.scratch.at)
            out_at += block.rows * out.strides[0]
            leaves_at += 0 if leaves is None else block.rows * leaves.strides[0]
        return out

    @cached_property
    def _prepared(self) -> _Prepared:
        return _Prepared.of(self)

    def __getstate__(self) -> dict[str, Any]:
        """Without what holds addresses."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class _Scratch(threading.local):
    """Memory for the kernel, each thread's own, which begins at a cache line."""

    def __init__(self, size: int) -> None:
        self._memory = np.empty(size + LINE, dtype=np.int8)
        self.at = -(-address_of(self._memory) // LINE) * LINE


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What every call needs, and is good in this process only. Its addresses must not outlive the forest."""

    kernel: Kernel
    layout: NDArray[np.int64]
    """`CallLayout`, `Bins` and `Trees`."""
    layout_at: int
    scratch: _Scratch
    n_used: int
    """Columns that the trees test, and those before them."""
    has_base: bool

    @classmethod
    def of(cls, forest: Forest) -> _Prepared:
        bins, trees, weight = forest.packed.bins, forest.packed.trees, forest.packed.weight
        layout = CallLayout.of(
            to_float32=forest.float32_input,
            aggregate=int(forest.aggregate),
            targets=forest.n_outputs,
            weight=weight.ctypes.data,
            columns=bins.columns,
            trees=trees.trees,
            tests=len(trees.test_column),
        )
        numbers = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in (*layout, *bins, *trees)]
        array = np.array(numbers, dtype=np.int64)
        return cls(
            kernel=kernel_for(weight.dtype),
            layout=array,
            layout_at=array.ctypes.data,
            scratch=_Scratch(layout.scratch),
            n_used=int(bins.feature.max(initial=-1)) + 1,
            has_base=bool(forest.base_values.any()),
        )


def _load(model: onnx.ModelProto | bytes | str | Path) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    try:
        data = model if isinstance(model, bytes) else Path(model).read_bytes()
        return onnx.load_from_string(data)
    except OSError as error:
        raise InputError(
            f"the model {model!s} cannot be read",
            found=(error.strerror or "").lower(),
            next_step="check its path and permissions",
        ) from error
    except Exception as error:  # protobuf's DecodeError, whose module depends on its version
        raise InputError(
            "the model is not ONNX",
            expected="an ONNX model, its bytes, or the path of its file",
            found=type(error).__name__,
            next_step="convert a LightGBM model first: rayforest.onnx.from_lightgbm",
        ) from error
