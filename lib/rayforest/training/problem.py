"""What is to be learned: the kind of target, its labels, and the measure of success."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from rayforest.data.profile import Profile
from rayforest.data.recipe import Recipe
from rayforest.errors import ConfigError, InputError
from rayforest.project import Metric

ProblemKind = Literal["binary", "multiclass", "regression"]

CLASSIFICATION_METRICS = ("auc", "average_precision", "log_loss", "accuracy")
REGRESSION_METRICS = ("rmse", "mae")


@dataclass(frozen=True)
class Problem:
    """A kind of target with its labels in the order of the model's classes."""

    kind: ProblemKind
    metric: Metric
    labels: tuple[str, ...] | tuple[float, ...] = ()
    """Training labels, sorted (texts by their UTF-8 bytes); the second of a binary problem is the positive one."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of the metric is the better one."""
        return self.metric in ("auc", "average_precision", "accuracy")

    def encode(self, target: pl.Series) -> npt.NDArray[np.float64]:
        """Labels as class numbers, quantities as they are; NaN for what is missing, infinite or a label never seen.

        Returns:
            float64, shape [rows].
        """
        if self.kind == "regression":
            quantities = target.to_numpy()
            return np.where(np.isfinite(quantities), quantities, np.nan)
        codes = {label: float(i) for i, label in enumerate(self.labels)}
        return target.replace_strict(codes, default=None, return_dtype=pl.Float64).fill_null(np.nan).to_numpy()

    def to_json(self) -> bytes:
        """JSON bytes, as in a bundle's metrics.json."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> Problem:
        """Read what `to_json` wrote."""
        return cls(table["kind"], table["metric"], tuple(table["labels"]))


def find_problem(recipe: Recipe, profile: Profile, metric: Metric | None) -> Problem:
    """The problem that prepared shards pose.

    A text target is a class, a boolean one or one with a positive label is binary, a numeric one is a quantity unless
    it is 0 or 1 or the metric is one of classification.

    Raises:
        ConfigError: there is no target, or the metric does not fit it.
        InputError: the training rows are too few, or all of one label.
    """
    if recipe.target is None:
        raise ConfigError(
            "tune needs a target, and the project has none",
            expected="target in [data]",
            next_step='add target = "COLUMN" (or an SQL condition) to [data], then run prepare again',
        )
    for part in ("train", "valid"):
        if not profile.parts.get(part):
            raise InputError(
                f"the {part} part has no rows",
                expected="rows to train on and rows to stop early by",
                found=", ".join(f"{p}: {profile.parts.get(p, 0)}" for p in ("train", "valid", "test")),
                next_step="give more data, or another split.shares",
            )
    training = profile.labels.get("train", Counter())
    if not profile.many_labels and len(training) < 2:
        raise InputError(
            "the target is constant in the training rows, so there is nothing to learn",
            expected="two labels or more" if metric in (None, *CLASSIFICATION_METRICS) else "values that differ",
            found="one value",
            next_step="check data.target and data.positive (a positive label that never occurs makes every row 0)",
        )
    text = (
        recipe.target_expression is not None and recipe.target_expression.kind == "string" and recipe.positive is None
    )
    labels: tuple[str, ...] | tuple[float, ...]
    if text:
        labels = tuple(sorted(training, key=str.encode))
    else:
        labels = tuple(sorted(float(label) for label in training))
    classes = not profile.many_labels and (text or labels == (0.0, 1.0) or metric in CLASSIFICATION_METRICS)
    if metric in REGRESSION_METRICS and not text:
        classes = False
    kind: ProblemKind = "regression" if not classes else "binary" if len(labels) == 2 else "multiclass"
    if profile.many_labels and (text or metric in CLASSIFICATION_METRICS):
        raise ConfigError(
            "the target has over 1,000 different values, so it is no class",
            expected="a quantity with rmse or mae, or a class with fewer labels",
            next_step="check data.target and tune.metric",
        )
    if classes and not profile.labels.get("valid", Counter()).keys() & training.keys():
        raise InputError(
            "no row of the valid part has a label that the training rows have",
            expected="rows to stop early by",
            next_step="give more data, or another split",
        )
    chosen: Metric = metric or ("rmse" if kind == "regression" else "log_loss")
    allowed: tuple[str, ...] = REGRESSION_METRICS if kind == "regression" else CLASSIFICATION_METRICS
    if kind == "multiclass":
        allowed = ("log_loss", "accuracy", "auc")
    if chosen not in allowed:
        raise ConfigError(
            f"tune.metric = {chosen!r} does not fit a {kind} target", expected="one of " + ", ".join(allowed)
        )
    return Problem(kind, chosen, labels if classes else ())
