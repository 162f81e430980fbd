"""What is to be learned: the kind of target, its labels, and the measure of success."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from rayforest.errors import ConfigError, InputError, did_you_mean
from rayforest.features.parts import part_facts, part_lines
from rayforest.features.profile import Profile
from rayforest.features.recipe import PARTS, Recipe
from rayforest.kinds import Kind
from rayforest.project.sections import CLASS_METRICS, Metric

ProblemKind = Literal["binary", "multiclass", "regression"]
Labels = tuple[str | float, ...]
"""All texts, all numbers, or all booleans."""

REGRESSION_METRICS = ("rmse", "mae")

LARGEST_EXACT = 2**53
"""Beyond it, a double may stand for several integers."""

UNSEEN = -1.0
"""Class number of a label that training never saw: of no class, and so never predicted."""


@dataclass(frozen=True)
class Problem:
    """A kind of target with its labels in the order of the model's classes."""

    kind: ProblemKind
    metric: Metric
    labels: Labels = ()
    """The user's own labels, as training had them: whole numbers as int, but as float where the tables store doubles.
    Of a binary problem the second is the positive one: the one that the project names, else the later one. Otherwise
    they are sorted, texts by their UTF-8 bytes."""
    positive: float | str | None = None
    """The label that is told from all others, where training had more than two. `labels` are then False and True."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value of the metric is the better one."""
        return self.metric in ("auc", "average_precision", "accuracy")

    @property
    def score_name(self) -> str:
        """What trials are compared by: the metric, but LightGBM's own auc_mu for the AUC of several classes."""
        return "auc_mu" if self.kind == "multiclass" and self.metric == "auc" else self.metric

    def encode(self, target: pl.Series) -> npt.NDArray[np.float64]:
        """Labels as class numbers, quantities as they are; NaN for what is missing or infinite.

        A label that training never saw is `UNSEEN`; where one label is told from all others, it is one of the others.

        Returns:
            float64, shape [rows].
        """
        if self.kind == "regression":
            quantities = target.cast(pl.Float64).to_numpy()
            return np.where(np.isfinite(quantities), quantities, np.nan)
        if self.positive is not None:
            codes = (target == self.positive).cast(pl.Float64)
        else:
            numbers = {self._stored(label): float(i) for i, label in enumerate(self.labels)}
            codes = target.replace_strict(numbers, default=UNSEEN, return_dtype=pl.Float64)
        return np.where(target.is_null().to_numpy(), np.nan, codes.fill_null(np.nan).to_numpy())

    @staticmethod
    def _stored(label: str | float) -> str | float:
        return float(label) if isinstance(label, int) and not isinstance(label, bool) else label

    def is_known(self, labels: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which encoded labels are some that training saw: those that LightGBM takes."""
        known = ~np.isnan(labels)
        return known if self.kind == "regression" else known & (labels != UNSEEN)

    def name_of(self, number: int) -> str:
        """A class in an error or a note: label 1, label 'yes', or any label but 'a'."""
        if self.positive is not None:
            return f"{'the positive label' if number else 'any label but'} {_shown(self.positive)}"
        return f"label {_shown(self.labels[number])}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as metrics.json of tune holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> Problem:
        """Read what `as_dict` gave."""
        labels = tuple(table["labels"])
        if "positive" not in table:  # of the first format, where numbers were doubles and came out as integers
            labels = whole_numbers(labels)
        return cls(table["kind"], table["metric"], labels, table.get("positive"))


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
                next_step="give more data, or split.shares with rows to train on and to stop by, such as [0.8, 0.2, 0]",
            )
    _refuse_constant(recipe, profile, metric)
    labels, positive = _labels(recipe, profile), recipe.positive_label
    if positive is not None:
        return _one_against_others(labels, positive, profile, metric)
    text, training = recipe.target_kind is Kind.STRING, profile.labels.get("train", Counter())
    classes = not profile.many_labels and (
        recipe.target_kind in (Kind.STRING, Kind.BOOLEAN) or labels == (0.0, 1.0) or metric in CLASS_METRICS
    )
    if metric in REGRESSION_METRICS and not text:
        classes = False
    kind: ProblemKind = "regression" if not classes else "binary" if len(labels) == 2 else "multiclass"
    if profile.many_labels and (text or metric in CLASS_METRICS):
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
    return Problem(kind, _metric(kind, metric), labels if classes else ())


def remarks(problem: Problem, profile: Profile) -> list[str]:
    """What a user should know of the labels: that several are taken together, and which parts have unknown ones."""
    if problem.kind == "regression":
        return []
    if problem.positive is not None:
        others = "over 1,000" if profile.many_labels else f"{len(profile.labels.get('train', Counter())) - 1:,}"
        return [f"the positive label is told from {others} others, so a prediction says whether it is this one"]
    notes, training = [], profile.labels.get("train", Counter())
    for part in PARTS[1:]:
        new = {label: rows for label, rows in profile.labels.get(part, Counter()).items() if label not in training}
        if rows := sum(new.values()):
            has, counts = ("row has", "it counts") if rows == 1 else ("rows have", "they count")
            labels = "a label" if len(new) == 1 else f"{len(new):,} labels"
            left_out = "; trials are compared without them" if part == "valid" else ""
            notes.append(f"{rows:,} {part} {has} {labels} that training never saw: {counts} as wrong{left_out}")
    return notes


def _shown(label: str | float) -> str:
    if isinstance(label, bool):
        return str(label).lower()
    return repr(label) if isinstance(label, str) else f"{label:.15g}"


def _refuse_constant(recipe: Recipe, profile: Profile, metric: Metric | None) -> None:
    """Training rows that leave nothing to learn."""
    labels = _labels(recipe, profile)
    if profile.many_labels:
        return
    what, found, nearest = "", "one value", ""
    if recipe.positive_label is not None and recipe.positive_label not in labels:
        what, found = ": none of them has the positive label", f"{len(labels):,} other labels"
        hint = did_you_mean(str(recipe.positive_label).strip(), [str(label) for label in labels])
        nearest = f"data.positive: {hint}; or " if hint.startswith("did you mean") else ""
    elif len(labels) < 2:
        what = ", so there is nothing to learn"
    if what:
        raise InputError(
            f"the target is constant in the training rows{what}",
            expected="two labels or more" if metric in (None, *CLASS_METRICS) else "values that differ",
            found=f"{found}; {'; '.join(part_lines(part_facts(profile)))}",
            next_step=f"{nearest}check data.target and data.positive; where only other parts have other labels, "
            "change split.by or split.shares (the split follows the time or the key; it does not stratify by label)",
        )


def _labels(recipe: Recipe, profile: Profile) -> Labels:
    """Labels of the training rows, sorted; none where they are too many to be classes."""
    texts = profile.labels.get("train", Counter())
    if recipe.target_kind is Kind.STRING:
        return tuple(sorted(texts, key=str.encode))
    if recipe.target_kind is Kind.BOOLEAN:
        return tuple(sorted(text == "true" for text in texts))
    numbers = tuple(sorted(float(text) for text in texts))
    return numbers if recipe.double_labels else whole_numbers(numbers)


def whole_numbers(labels: Labels) -> Labels:
    """The labels as int, where all of them are whole numbers that a double holds exactly; else as they are."""
    if all(isinstance(label, float) and label.is_integer() and abs(label) <= LARGEST_EXACT for label in labels):
        return tuple(int(label) for label in labels)
    return labels


def _one_against_others(labels: Labels, positive: float | str, profile: Profile, metric: Metric | None) -> Problem:
    chosen = _metric("binary", metric)
    if profile.many_labels or len(labels) > 2:
        return Problem("binary", chosen, (False, True), positive)
    negative, own = sorted(labels, key=lambda label: label == positive)
    return Problem("binary", chosen, (negative, own))


def _metric(kind: ProblemKind, metric: Metric | None) -> Metric:
    chosen: Metric = metric or ("rmse" if kind == "regression" else "log_loss")
    allowed: tuple[str, ...] = REGRESSION_METRICS if kind == "regression" else CLASS_METRICS
    if kind == "multiclass":
        allowed = ("log_loss", "accuracy", "auc")
    if chosen not in allowed:
        raise ConfigError(
            f"tune.metric = {chosen!r} does not fit a {kind} target",
            expected="one of " + ", ".join(allowed),
            next_step="choose one of these, or leave tune.metric out",
        )
    return chosen
