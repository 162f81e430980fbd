"""A graph that knows its labels predicts them."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from rayforest.bundle.link import Link
from rayforest.errors import ConfigError
from rayforest.onnx import check_parity, from_lightgbm, runtime_session

LABELS = {
    "text": ["no", "yes"],
    "whole numbers": [2, 1],
    "halves": [0.5, 1.5],
    "beyond integers": [1e20, 3.0],
    "booleans": [False, True],
    "booleans, false is positive": [True, False],
    "three texts": ["a/b", 'x"y', "ö "],
    "three numbers": [-1, 7, 3],
}


def trained(classes: int) -> tuple[lgb.Booster, np.ndarray]:
    rng = np.random.default_rng(classes)
    x = np.round(rng.normal(size=(600, 3)), 1)
    y = np.digitize(x[:, 0] + rng.normal(0, 0.5, 600), np.linspace(-0.7, 0.7, classes - 1) if classes > 2 else [0])
    objective: dict[str, Any] = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": 3}
    settings = {**objective, "num_leaves": 6, "num_threads": 1, "verbosity": -1}
    return lgb.train(settings, lgb.Dataset(x, y), 8), x


@pytest.mark.parametrize("name", LABELS)
def test_prediction_is_the_label_and_probability_what_lightgbm_predicts(name: str) -> None:
    labels = LABELS[name]
    booster, x = trained(len(labels))
    model = from_lightgbm(booster, labels=labels)
    raw_score, probability, prediction = runtime_session(model.SerializeToString()).run(None, {"features": x})
    expected = np.asarray(booster.predict(x, num_threads=1))
    assert probability.shape == (len(x), 1 if len(labels) == 2 else 3)
    np.testing.assert_allclose(probability.reshape(expected.shape), expected, rtol=1e-15)
    chosen = (expected > 0.5).astype(int) if len(labels) == 2 else expected.argmax(axis=1)
    assert prediction.tolist() == [labels[c] for c in chosen]
    assert {type(p) for p in prediction.tolist()} == {type(labels[0])}
    np.testing.assert_array_equal(Link(model)(raw_score[:592]), probability.reshape(expected.shape)[:592])
    assert check_parity(booster, model, x).bits_differing == 0


def test_equal_probabilities_give_the_first_label() -> None:
    x = np.zeros((50, 1))
    booster = lgb.train({"objective": "binary", "verbosity": -1}, lgb.Dataset(x, np.arange(50) % 2), 3)
    (prediction,) = runtime_session(from_lightgbm(booster, labels=["a", "b"]).SerializeToString()).run(
        ["prediction"], {"features": x}
    )
    assert set(prediction) == {"a"}


@pytest.mark.parametrize("labels", [["a"], ["a", "b", "c"], ["a", "a"]])
def test_labels_that_are_not_one_a_class_are_refused(labels: list[str]) -> None:
    with pytest.raises(ConfigError, match="do not fit the model's classes"):
        from_lightgbm(trained(2)[0], labels=labels)
