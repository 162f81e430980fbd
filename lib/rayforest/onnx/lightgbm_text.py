"""LightGBM's model text -> frozen arrays. Needs neither LightGBM nor ONNX.

The text and not the JSON dump: the dump clamps thresholds of 1e300 and more, the text has every double in 17 digits.
Source of the format: LightGBM `src/io/tree.cpp` (Tree::ToString) and `src/boosting/gbdt_model_text.cpp`, version v4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rayforest.errors import ConfigError, InputError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Missing(IntEnum):
    """What a numerical split takes for a missing value."""

    NONE = 0
    """Nothing: NaN is compared as 0."""
    ZERO = 1
    """NaN and 0, which go to the default side."""
    NAN = 2
    """NaN, which goes to the default side."""


@dataclass(frozen=True, eq=False)
class LinearLeaves:
    """Leaf models of `linear_tree`: constant + sum of coefficient x feature, in the order of `features`."""

    constant: Floats
    """[leaves]"""
    features: tuple[Ints, ...]
    """One array a leaf: columns of the input."""
    coefficients: tuple[Floats, ...]
    """One array a leaf, beside `features`."""


@dataclass(frozen=True, eq=False)
class Tree:
    """One tree. A child c >= 0 is split c, a child c < 0 is leaf ~c; a tree without splits is leaf 0."""

    split_feature: Ints
    """[splits] column of the input."""
    threshold: Floats
    """[splits] x <= threshold goes left; of no meaning at a categorical split."""
    missing: Ints
    """[splits] values of `Missing`; of no meaning at a categorical split."""
    default_left: Bools
    """[splits] where a missing value goes."""
    left: Ints
    """[splits] left child."""
    right: Ints
    """[splits] right child."""
    leaf_value: Floats
    """[leaves], shrinkage included."""
    categories: Mapping[int, Ints] = field(default_factory=dict)
    """Categorical splits only: split -> the codes that go left, ascending."""
    linear: LinearLeaves | None = None
    """With `linear_tree`; `leaf_value` then serves rows with a NaN in one of the leaf's features."""

    def levels(self) -> Ints:
        """[splits] splits above each split."""
        level = np.zeros(len(self.left), dtype=np.int64)
        for split, (left, right) in enumerate(zip(self.left.tolist(), self.right.tolist(), strict=True)):
            for child in (left, right):
                if child >= 0:
                    level[child] = level[split] + 1
        return level


@dataclass(frozen=True, eq=False)
class LightGBMModel:
    """A LightGBM model as its text says, cut to the iterations that `predict` uses."""

    objective: str
    """LightGBM's name of it; 'custom' when the text names none."""
    objective_arguments: Mapping[str, str]
    """What stands behind the name: {'sigmoid': '1'}, {'sqrt': ''}."""
    n_outputs: int
    """Trees an iteration: 1, or the number of classes."""
    feature_names: tuple[str, ...]
    average: bool
    """Random forest: the prediction divides the sum by the number of iterations."""
    trees: tuple[Tree, ...]
    """Iteration by iteration; tree i adds to output i % n_outputs."""

    @property
    def n_features(self) -> int:
        """Columns of the input."""
        return len(self.feature_names)

    @property
    def n_iterations(self) -> int:
        """Boosting iterations."""
        return len(self.trees) // self.n_outputs

    def first(self, num_iteration: int) -> LightGBMModel:
        """The model of the first iterations; all of them when `num_iteration` is 0, negative or too large."""
        if num_iteration <= 0 or num_iteration >= self.n_iterations:
            return self
        return replace(self, trees=self.trees[: num_iteration * self.n_outputs])


class TrainedBooster(Protocol):
    """The part of `lightgbm.Booster` that is read here."""

    best_iteration: int

    def model_to_string(self, num_iteration: int | None = None) -> str:
        """The model's text; -1 for all iterations."""


LightGBMSource = TrainedBooster | LightGBMModel | str | Path | Any
"""A Booster, a fitted LGBM estimator of scikit-learn's kind, the path of a model file, or a model read before."""


def read_lightgbm(source: LightGBMSource, *, num_iteration: int | None = None) -> LightGBMModel:
    """Read a model, cut to the iterations that `predict(num_iteration=...)` would use.

    Args:
        source: a Booster, a fitted LGBMClassifier / LGBMRegressor / LGBMRanker, or the path of a model file.
        num_iteration: as in `Booster.predict`: None is the best iteration where early stopping found one, else all;
            0 and negative numbers are all. A model file holds no best iteration: None is all that the file has.

    Raises:
        ConfigError: the source is none of these, or an estimator that was not fitted.
        InputError: the file is missing or its text damaged.
    """
    if isinstance(source, LightGBMModel):
        return source.first(num_iteration or 0)
    if isinstance(source, str | Path):
        try:
            text = Path(source).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"the LightGBM model file {source} cannot be read",
                found=(error.strerror or "").lower(),
                next_step="check its path and permissions",
            ) from error
        except UnicodeDecodeError:
            raise InputError(
                f"the LightGBM model file {source} is damaged",
                expected="a text in UTF-8 that LightGBM's save_model wrote",
                found="bytes that are not UTF-8",
                next_step="save the model again",
            ) from None
        return parse_lightgbm_text(text).first(num_iteration or 0)
    booster = booster_of(source)
    chosen = booster.best_iteration if num_iteration is None else num_iteration
    return parse_lightgbm_text(booster.model_to_string(num_iteration=-1)).first(chosen)


def booster_of(source: Any) -> TrainedBooster:
    """The Booster itself, or the one inside a fitted estimator; raises ConfigError for anything else."""
    if hasattr(source, "model_to_string"):
        return source  # type: ignore[no-any-return]
    if not hasattr(type(source), "booster_"):
        raise ConfigError(
            "this is not a LightGBM model",
            expected="a lightgbm.Booster, a fitted LGBM estimator, or the path of a model file",
            found=type(source).__name__,
            next_step="give one of these; rayforest.onnx.to_onnx converts whole pipelines",
        )
    try:
        return source.booster_  # type: ignore[no-any-return]
    except (AttributeError, ValueError) as error:  # NotFittedError is both
        raise ConfigError(
            f"the {type(source).__name__} is not fitted", next_step="call fit before exporting"
        ) from error


def parse_lightgbm_text(text: str) -> LightGBMModel:
    """Parse what `Booster.model_to_string` and `save_model` write.

    Raises:
        InputError: the text is not a whole LightGBM model; says in which tree and what is wrong with it.
        ConfigError: the model has no trees.
    """
    header, *trees = _sections(text)
    try:
        n_outputs = int(header["num_tree_per_iteration"])
        n_features = int(header["max_feature_idx"]) + 1
        names = tuple(header["feature_names"].split(" "))
        objective, *arguments = header.get("objective", "custom").split()
        parsed = tuple(_parse_tree(i, lines, n_features) for i, lines in enumerate(trees))
    except KeyError as error:
        raise _damaged(f"no line {error.args[0]}=") from error
    except ValueError as error:
        raise _damaged(str(error)) from error
    if len(names) != n_features:
        raise _damaged(f"{len(names)} feature names for {n_features} features")
    if not parsed:
        raise ConfigError("the LightGBM model has no trees", next_step="train it for at least one iteration")
    if n_outputs < 1 or len(parsed) % n_outputs:
        raise _damaged(f"{len(parsed)} trees, {n_outputs} an iteration")
    return LightGBMModel(
        objective=objective,
        objective_arguments=dict(a.partition(":")[::2] for a in arguments),
        n_outputs=n_outputs,
        feature_names=names,
        average="average_output" in header,
        trees=parsed,
    )


def _sections(text: str) -> Iterator[dict[str, str]]:
    """The header's lines as key and value, then each tree's."""
    lines: dict[str, str] = {}
    for line in text.split("\n"):  # not splitlines: a feature's name may hold a Unicode line separator
        key, _, value = line.rstrip("\r").partition("=")
        if key == "end of trees":
            yield lines
            return
        if key == "Tree":
            yield lines
            lines = {}
        if key:
            lines[key] = value
    raise _damaged("it ends before 'end of trees'")


def _parse_tree(index: int, lines: Mapping[str, str], n_features: int) -> Tree:
    if lines["Tree"] != str(index):
        raise ValueError(f"tree {index} is named {lines['Tree']}")
    leaves = int(lines["num_leaves"])

    def ints(key: str) -> Ints:
        return np.array(lines[key].split(), dtype=np.int64)

    def floats(key: str) -> Floats:
        return np.array([float(v) for v in lines[key].split()], dtype=np.float64)

    leaf_value = floats("leaf_value")
    linear = _parse_linear(lines, leaves, n_features) if lines.get("is_linear", "0") == "1" else None
    if leaves == 1:
        none = np.zeros(0, dtype=np.int64)
        tree = Tree(none, np.zeros(0), none, np.zeros(0, dtype=bool), none, none, leaf_value, linear=linear)
    else:
        decision = ints("decision_type")  # bit 0: categorical, bit 1: default left, bits 2 and 3: missing type
        threshold = floats("threshold")
        tree = Tree(
            split_feature=ints("split_feature"),
            threshold=threshold,
            missing=(decision >> 2) & 3,
            default_left=(decision & 2) != 0,
            left=ints("left_child"),
            right=ints("right_child"),
            leaf_value=leaf_value,
            categories=_parse_categories(lines, np.flatnonzero(decision & 1), threshold)
            if (decision & 1).any()
            else {},
            linear=linear,
        )
    _check_tree(index, tree, leaves, n_features)
    return tree


def _parse_categories(lines: Mapping[str, str], splits: Ints, threshold: Floats) -> dict[int, Ints]:
    """A categorical split's threshold is the number of its bit set; the sets lie end to end in 32-bit words."""
    bounds = [int(b) for b in lines["cat_boundaries"].split()]
    words = np.array(lines["cat_threshold"].split(), dtype=np.uint32)
    sets = [np.flatnonzero(np.unpackbits(words[a:b].view(np.uint8), bitorder="little")) for a, b in pairwise(bounds)]
    try:
        return {int(split): sets[int(threshold[split])] for split in splits}
    except IndexError as error:
        raise ValueError("a categorical split without a set") from error


def _parse_linear(lines: Mapping[str, str], leaves: int, n_features: int) -> LinearLeaves:
    counts = [int(n) for n in lines["num_features"].split()]
    features = np.array(lines["leaf_features"].split(), dtype=np.int64)
    coefficients = np.array([float(v) for v in lines["leaf_coeff"].split()], dtype=np.float64)
    constant = np.array([float(v) for v in lines["leaf_const"].split()], dtype=np.float64)
    if not len(constant) == len(counts) == leaves or not len(features) == len(coefficients) == sum(counts):
        raise ValueError("leaf models of unequal length")
    if len(features) and not 0 <= features.min() <= features.max() < n_features:
        raise ValueError("a leaf model of a feature that is not there")
    ends = np.cumsum(counts)[:-1]
    return LinearLeaves(constant, tuple(np.split(features, ends)), tuple(np.split(coefficients, ends)))


def _check_tree(index: int, tree: Tree, leaves: int, n_features: int) -> None:
    """Each split and leaf hangs from exactly one split before it, so that every walk ends."""
    splits = leaves - 1
    arrays: Iterable[NDArray[Any]] = (tree.split_feature, tree.threshold, tree.missing, tree.left, tree.right)
    if len(tree.leaf_value) != leaves or any(len(a) != splits for a in arrays):
        raise ValueError(f"tree {index} has arrays of unequal length")
    if not splits:
        return
    children = np.stack([tree.left, tree.right])
    if not np.array_equal(np.sort(children, axis=None), [*range(-leaves, 0), *range(1, splits)]):
        raise ValueError(f"tree {index} is not a tree")
    if ((children >= 0) & (children <= np.arange(splits))).any():
        raise ValueError(f"tree {index} runs in a circle")
    if not 0 <= tree.split_feature.min() <= tree.split_feature.max() < n_features:
        raise ValueError(f"tree {index} splits on a feature that is not there")


def _damaged(found: str) -> InputError:
    return InputError(
        "the LightGBM model text is damaged",
        expected="the whole text that model_to_string or save_model wrote",
        found=found,
        next_step="save the model again, and copy the whole file",
    )
