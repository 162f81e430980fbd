"""A forest that scores tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from rayforest.errors import ConfigError, InputError
from rayforest.forest.binning import Bins
from rayforest.forest.columns import Data, blocks, count_rows
from rayforest.forest.compiling import say_when_compiling
from rayforest.forest.ensemble import Aggregate, Floats
from rayforest.forest.kernel import score
from rayforest.forest.operators import read_ensemble
from rayforest.forest.pack import Packed, Trees, pack

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
            raise ConfigError("The least or largest of infinite leaves is not defined.", next_step="use onnxruntime")
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
        with say_when_compiling():
            nothing = np.empty((0, forest.n_outputs), dtype=forest.packed.weight.dtype)
            forest._score(np.empty((0, 5), dtype=np.int64), nothing, np.empty((0, 0), dtype=np.int32))
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
        out = self._run(data, np.empty((0, 0), dtype=np.int32))
        if self.aggregate is Aggregate.AVERAGE:
            out /= out.dtype.type(self.n_trees)
        elif self.aggregate is not Aggregate.SUM:
            out[np.isinf(out)] = 0  # no tree adds to this target
        if self.base_values.any():
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

    def _run(self, data: Data, leaves: NDArray[np.int32]) -> Scores:
        """What the trees add up to, [rows, n_outputs]; fills `leaves` if it has rows."""
        out = np.empty((count_rows(data), self.n_outputs), dtype=self.packed.weight.dtype)
        row = 0
        for block in blocks(data, self.n_features, self._n_used):
            end = row + block.rows
            self._score(block.columns, out[row:end], leaves[row:end])
            row = end
        return out

    def _score(self, columns: NDArray[np.int64], out: Scores, leaves: NDArray[np.int32]) -> None:
        initial = {Aggregate.MIN: np.inf, Aggregate.MAX: -np.inf}.get(self.aggregate, 0.0)
        weight = self.packed.weight
        score(columns, self.float32_input, *self._at, weight, int(self.aggregate), initial, out, leaves)

    @cached_property
    def _at(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The packed arrays by address."""
        return _addresses(self.packed.bins), _addresses(self.packed.trees)

    @cached_property
    def _n_used(self) -> int:
        return int(self.packed.bins.feature.max(initial=-1)) + 1


def _addresses(arrays: Bins | Trees) -> NDArray[np.int64]:
    """An address for each array, in the order of the fields. It must not outlive the arrays."""
    return np.array([a.ctypes.data if isinstance(a, np.ndarray) else a for a in arrays])


def _load(model: onnx.ModelProto | bytes | str | Path) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    try:
        data = model if isinstance(model, bytes) else Path(model).read_bytes()
        return onnx.load_from_string(data)
    except OSError as error:
        raise InputError(f"The model {model!s} cannot be read.", found=str(error.strerror)) from error
    except Exception as error:  # protobuf's DecodeError, whose module depends on its version
        raise InputError("The model is not ONNX.", found=type(error).__name__) from error
