"""Predictions come from raw scores by the model's own operators, and do not depend on a row's place."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import onnx
import pytest

from rayforest.bundle.link import Link
from rayforest.errors import BundleError
from rayforest.onnx import from_lightgbm, runtime_session

LABELS = {
    "regression": "real", "regression_l1": "real", "huber": "real", "quantile": "real", "mape": "positive",
    "poisson": "positive", "gamma": "positive", "tweedie": "positive", "binary": "binary", "cross_entropy": "share",
    "cross_entropy_lambda": "share", "multiclass": "class", "multiclassova": "class",
}  # fmt: skip


def model_of(objective: str, **params: object) -> tuple[onnx.ModelProto, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 4))
    real = x[:, 0] * 2 + rng.normal(size=400)
    label = {
        "real": real, "positive": np.exp(real / 3), "binary": real > 0, "share": 1 / (1 + np.exp(-real)),
        "class": np.digitize(real, [-1, 1]),
    }[LABELS[objective]]  # fmt: skip
    settings: dict[str, object] = {"objective": objective, "num_leaves": 7, "num_threads": 1, "verbosity": -1, **params}
    if LABELS[objective] == "class":
        settings["num_class"] = 3
    return from_lightgbm(lgb.train(settings, lgb.Dataset(x, label), 12)), x


@pytest.mark.parametrize("objective", LABELS)
def test_predictions_are_the_whole_models_in_every_bit(objective: str) -> None:
    model, x = model_of(objective)
    rows = x[:384]  # a multiple of what onnxruntime computes at once
    raw_score, prediction = runtime_session(model.SerializeToString()).run(
        ["raw_score", "prediction"], {"features": rows}
    )
    found = Link(model)(raw_score)
    assert found.shape == prediction.shape
    assert found.tobytes() == prediction.tobytes()


def test_random_forests_and_square_roots_have_links_too() -> None:
    for params in ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, {"reg_sqrt": True}):
        model, x = model_of("regression", **params)
        raw_score, prediction = runtime_session(model.SerializeToString()).run(None, {"features": x})
        assert Link(model)(raw_score).tobytes() == prediction.tobytes()


@pytest.mark.parametrize("objective", ["binary", "multiclass", "cross_entropy_lambda"])
def test_a_rows_prediction_does_not_depend_on_its_place(objective: str) -> None:
    link = Link(model_of(objective)[0])
    outputs = 3 if objective == "multiclass" else 1
    raw_score = np.random.default_rng(2).normal(0, 3, (9_000, outputs))
    whole = link(raw_score)
    for start, count in ((0, 1), (1, 1), (8_191, 2), (5, 1_001), (17, 8_500)):
        assert link(raw_score[start : start + count]).tobytes() == whole[start : start + count].tobytes()
    assert len(link(raw_score[:0])) == 0


def test_a_model_without_a_raw_score_is_refused() -> None:
    model, _ = model_of("binary")
    del model.graph.output[0]
    with pytest.raises(BundleError, match="no raw score"):
        Link(model)
