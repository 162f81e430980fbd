"""The engines that add up a model's trees, and the proof that they give the same bits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa

from rayforest.errors import ConfigError, RayforestError
from rayforest.onnx.runtime import rows_a_call, runtime_session

Array = npt.NDArray[np.float64]
Choice = Literal["auto", "onnxruntime", "kernel"]

PROOF_ROWS = 2_000
"""Rows of the run on which `auto` compares the engines."""
_log = getLogger("rayforest.scoring")


class ScoringEngine(Protocol):
    """Adds up the trees. Safe to share between threads."""

    @property
    def name(self) -> str:
        """As in `score.engine`: onnxruntime or kernel."""
        ...

    def raw_score(self, inputs: pa.Table) -> Array:
        """Raw scores, float64 [rows, outputs].

        Args:
            inputs: one column of floats, integers or booleans a model input, in the model's order; null and NaN are
                missing.
        """
        ...


class OnnxRuntimeEngine:
    """onnxruntime, on blocks of rows that stay in the cache."""

    name = "onnxruntime"

    def __init__(self, model: onnx.ModelProto) -> None:
        self._session = runtime_session(model.SerializeToString())
        self._rows = rows_a_call(model)

    def raw_score(self, inputs: pa.Table) -> Array:
        """See `ScoringEngine`."""
        columns = [_floats(column) for column in inputs.columns]
        parts = []
        for start in range(0, max(inputs.num_rows, 1), self._rows):
            block = np.empty((min(self._rows, inputs.num_rows - start), len(columns)))
            for place, column in enumerate(columns):
                block[:, place] = column[start : start + self._rows]
            parts.append(self._session.run(["raw_score"], {"features": block})[0])
        return np.concatenate(parts)


def _floats(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    if not pa.types.is_floating(column.type):
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        column = column.cast(pa.float64(), safe=False)
    return np.asarray(column.to_numpy())  # null becomes NaN


class KernelEngine:
    """The tree kernel, which reads Arrow's memory where it lies."""

    name = "kernel"

    def __init__(self, model: onnx.ModelProto) -> None:
        """Read the trees.

        Raises:
            ConfigError: the kernel does not read this model, or cannot be loaded; says why.
        """
        try:
            from rayforest.forest import Forest
        except ImportError as error:
            raise ConfigError(
                "the tree kernel cannot be loaded",
                expected="Numba, which rayforest installs",
                found=str(error),
                next_step='set score.engine = "onnxruntime", or install rayforest again',
            ) from error
        self._forest = Forest.from_onnx(model)

    def raw_score(self, inputs: pa.Table) -> Array:
        """See `ScoringEngine`."""
        return self._forest.raw_score(inputs).astype(np.float64, copy=False)


def open_engine(choice: Choice, model: onnx.ModelProto) -> ScoringEngine:
    """The engine that a project asks for; for `auto` the kernel, once it is proven.

    Raises:
        ConfigError: the kernel is asked for, and does not read this model.
    """
    if choice == "auto":
        return ProvenKernel(model)
    return KernelEngine(model) if choice == "kernel" else OnnxRuntimeEngine(model)


@dataclass(frozen=True)
class Proof:
    """The engine that `auto` takes, and why."""

    engine: ScoringEngine
    reason: str
    """Goes on after "engine kernel: "."""
    fell_back: bool = False


def first_difference(expected: Array, found: Array) -> str | None:
    """Where two engines' raw scores first differ in a bit, two NaNs being equal; None if nowhere."""
    if expected.shape != found.shape:
        return f"shape {list(found.shape)} instead of {list(expected.shape)}"
    left, right = (np.ascontiguousarray(scores).view(np.int64) for scores in (expected, found))
    differing = (left != right) & ~(np.isnan(expected) & np.isnan(found))
    if not differing.any():
        return None
    row, output = (int(i) for i in np.argwhere(differing)[0])
    distance = abs(int(left[row, output]) - int(right[row, output]))
    return (
        f"{differing.sum():,} of {differing.size:,} differ; the first is output {output} of row {row}, "
        f"by {distance:,} units in the last place"
    )


class ProvenKernel:
    """The kernel, proven on the first rows that this process scores: a worker's CPU may be another than the driver's.

    Where it gives other bits than onnxruntime, or cannot be used, onnxruntime takes its place.
    """

    def __init__(
        self, model: onnx.ModelProto, kernel: Callable[[onnx.ModelProto], ScoringEngine] = KernelEngine
    ) -> None:
        """Args:
        model: trees of `rayforest.onnx`.
        kernel: makes the engine that is to be proven.
        """
        self._reference = OnnxRuntimeEngine(model)
        self._lock = threading.Lock()
        self._engine: ScoringEngine | None = None
        self._kernel: ScoringEngine | None = None
        self._unusable = ""
        try:
            self._kernel = kernel(model)
        except RayforestError as error:
            self._unusable = error.what + (f" ({error.found})" if error.found else "")

    @property
    def name(self) -> str:
        """Of the engine that is in use; the kernel's before it is proven."""
        return self._engine.name if self._engine is not None else "kernel"

    def prove(self, sample: pa.Table) -> Proof:
        """Compare the engines on some rows, and use from now on what the proof names.

        Args:
            sample: model inputs of the run's own rows, as `raw_score` takes them.
        """
        proof = self._compare(sample)
        if proof.fell_back:
            _log.warning("scoring with onnxruntime: %s", proof.reason)
        if sample.num_rows:
            self._engine = proof.engine
        return proof

    def raw_score(self, inputs: pa.Table) -> Array:
        """See `ScoringEngine`."""
        with self._lock:
            if self._engine is None:
                self.prove(inputs.slice(0, PROOF_ROWS))
        return (self._engine or self._reference).raw_score(inputs)

    def _compare(self, sample: pa.Table) -> Proof:
        if self._kernel is None:
            return Proof(self._reference, f"the kernel cannot be used: {self._unusable}", fell_back=True)
        if not sample.num_rows:
            return Proof(self._kernel, "it is proven on the first row that comes")
        try:
            found = self._kernel.raw_score(sample)
        except Exception as error:  # whatever a compiler says on a CPU that nobody tried: the rows are scored anyway
            return Proof(self._reference, f"the kernel cannot be used: {type(error).__name__}", fell_back=True)
        if (difference := first_difference(self._reference.raw_score(sample), found)) is not None:
            return Proof(self._reference, f"the kernel gives other scores: {difference}", fell_back=True)
        return Proof(self._kernel, f"it gives onnxruntime's bits on the first {sample.num_rows:,} rows")
