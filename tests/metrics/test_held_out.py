"""Sums over shards come to what all rows at once come to."""

from __future__ import annotations

import numpy as np
import pytest

from rayforest.metrics.exact import baseline, evaluate
from rayforest.metrics.held_out import HeldOut
from rayforest.metrics.problem import UNSEEN, Problem

AREAS = {"auc", "average_precision"}


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_metrics_and_baselines_of_shards_are_those_of_all_their_rows(kind: str) -> None:
    rng = np.random.default_rng(7)
    rows = 4_000
    if kind == "regression":
        problem = Problem("regression", "rmse")
        labels, training = rng.normal(1e4, 3, rows), rng.normal(1e4, 3, rows)
        predictions = labels + rng.normal(0, 1, rows)
    else:
        classes = 2 if kind == "binary" else 3
        problem = Problem("binary" if kind == "binary" else "multiclass", "log_loss", tuple("abc"[:classes]))
        labels, training = (rng.integers(0, classes, rows).astype(float) for _ in range(2))
        scores = rng.normal(0, 1, (rows, classes)) + 2 * np.eye(classes)[labels.astype(int)]
        odds = np.exp(scores)
        shares = odds / odds.sum(axis=1, keepdims=True)
        predictions = shares[:, 1] if kind == "binary" else shares
        labels[:40] = UNSEEN
    whole = HeldOut()
    for place in np.array_split(np.arange(rows), 7):
        whole.merge(HeldOut.of(problem, predictions[place], labels[place], training[place]))
    nothing = slice(0, 0)
    whole.merge(HeldOut.of(problem, predictions[nothing], labels[nothing], training[nothing]))
    found, expected = whole.evaluation(problem), evaluate(problem, predictions, labels)
    assert found.as_dict() == expected.as_dict()
    assert found.metrics.keys() == expected.metrics.keys()
    for name, value in expected.metrics.items():
        # Scores within 1/64 of a logit count as ties; the areas lie above 0.9.
        assert found.metrics[name] == pytest.approx(value, rel=5e-4 if name in AREAS else 1e-9)
    constants = baseline(problem, training, labels)
    constants.pop("baseline_mae", None)
    assert whole.baseline(problem) == pytest.approx(constants)


def test_rows_of_one_class_have_no_area() -> None:
    problem = Problem("binary", "log_loss", ("a", "b"))
    found = HeldOut.of(problem, np.array([0.2, 0.7]), np.ones(2), np.array([0.0, 1.0])).evaluation(problem)
    expected = evaluate(problem, np.array([0.2, 0.7]), np.ones(2))
    assert found.undefined == expected.undefined
    assert set(found.undefined) == AREAS
