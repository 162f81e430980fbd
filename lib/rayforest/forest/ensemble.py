"""A tree ensemble as plain arrays, whatever operator of ONNX it came from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Mode(IntEnum):
    """When a node's test is true, as TreeEnsemble of ai.onnx.ml 5 numbers it."""

    LEQ = 0
    LT = 1
    GTE = 2
    GT = 3
    EQ = 4
    NEQ = 5
    MEMBER = 6


class Aggregate(IntEnum):
    """How the leaves of the trees become one value a target."""

    AVERAGE = 0
    SUM = 1
    MIN = 2
    MAX = 3


@dataclass(frozen=True, eq=False)
class InputColumn:
    """One column of the trees' input, as a function of one feature."""

    feature: int
    """Column of the model's input."""
    zero_bound: float = -1.0
    """|x| up to this counts as NaN; negative for never."""
    classes: Floats | None = None
    """A categorical feature's class by code: x is cut to [-1, len - 1] and truncated, and -1 and NaN are the last."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Trees of tests. A child c >= 0 is node c, a child c < 0 is leaf ~c; a leaf may hang on several nodes."""

    columns: tuple[InputColumn, ...]
    """What the nodes test."""
    n_features: int | None
    """Columns of the model's input; None where the model does not say."""
    float32_input: bool
    """The input, or what becomes of it before the trees, is float32: wider values are rounded to it."""

    roots: Ints
    """[trees] node or leaf."""
    column: Ints
    """[nodes]"""
    mode: NDArray[np.uint8]
    """[nodes] values of `Mode`."""
    threshold: Floats
    """[nodes] of no meaning for MEMBER."""
    members: dict[int, Floats]
    """MEMBER nodes only: the values for which the test is true."""
    missing_is_true: Bools
    """[nodes] NaN passes the test whatever the mode says."""
    if_true: Ints
    """[nodes] child."""
    if_false: Ints
    """[nodes] child."""

    n_leaves: int
    leaf_number: Ints | None
    """[leaves] what `leaf_index` gives; None: leaves are counted in each tree."""
    weight_leaf: Ints
    """[weights] Each weight adds to one target; a leaf has any number of weights, but one a target."""
    weight_target: Ints
    """[weights]"""
    weight: Floats
    """[weights]"""

    n_targets: int
    aggregate: Aggregate
    base_values: Floats
    """[n_targets] added at the end."""
    must_score: Bools
    """[n_targets] onnxruntime gives something else where no tree adds to this target, so some tree always must."""
    post_transform: str
    """NONE, LOGISTIC, SOFTMAX, SOFTMAX_ZERO or PROBIT: what the operator does behind the raw score."""
    sum_dtype: np.dtype[np.float32] | np.dtype[np.float64]
    """Of the sum."""
    output_dtype: np.dtype[np.float32] | np.dtype[np.float64]
    """Of the operator's output."""
