"""scikit-learn pipelines with exact trees."""

from __future__ import annotations

import warnings
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from skl2onnx import _parse, _supported_operators
from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from rayforest.errors import ConfigError
from rayforest.onnx import runtime_session, to_onnx

SMALL = {"n_estimators": 12, "verbose": -1, "n_jobs": 1, "min_child_samples": 5}
NO_ZIPMAP = {"zipmap": False}
# What LightGBM promises in this test: the last bits of exp, and for 1 - p those of p.
EXACT = {"rtol": 1e-15, "atol": 5e-16}
# Behind the trees, calibration and averages are skl2onnx's own, in the type of the input.
OWN = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture(autouse=True)
def own_warnings_of_other_libraries() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
        yield


@pytest.fixture(scope="module")
def x() -> NDArray[np.float64]:
    return np.round(np.random.default_rng(0).normal(size=(500, 4)), 1)  # on a grid: values sit on thresholds


@pytest.fixture(scope="module")
def y(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x[:, 0] + x[:, 1] * x[:, 2] + 0.1 * np.random.default_rng(1).normal(size=len(x))


def run(model: onnx.ModelProto, x: NDArray[Any]) -> list[NDArray[Any]]:
    session = runtime_session(model.SerializeToString())
    (name,) = (i.name for i in session.get_inputs())
    return session.run(None, {name: x})


@pytest.mark.parametrize("objective", ["regression", "poisson", "quantile", "tweedie"])
def test_a_regressor_is_exact_in_double(x: Any, y: Any, objective: str) -> None:
    model = lightgbm.LGBMRegressor(objective=objective, **SMALL).fit(x, np.abs(y))
    (prediction,) = run(to_onnx(model, x[:1]), x)
    assert prediction.dtype == np.float64
    np.testing.assert_allclose(prediction[:, 0], model.predict(x), **EXACT)


@pytest.mark.parametrize(
    "labels", [[0, 1], [7, -3], [False, True], ["no", "yes"], [0, 1, 2], ["a", "ö", "c"], [0.0, 1.0]]
)
def test_a_classifier_gives_its_labels_and_exact_probabilities(x: Any, y: Any, labels: list[Any]) -> None:
    target = np.array(labels)[np.digitize(y, np.linspace(-0.5, 0.5, len(labels) - 1))]
    model = lightgbm.LGBMClassifier(**SMALL).fit(x, target)
    label, probability = run(to_onnx(model, x[:1], options=NO_ZIPMAP), x)
    np.testing.assert_array_equal(label, model.predict(x))
    np.testing.assert_allclose(probability, model.predict_proba(x), **EXACT)


@pytest.mark.parametrize("labels", [[7, -3], ["no", "yes"], ["a", "ö", "c"]])
@pytest.mark.parametrize("wrapped", ["alone", "calibrated", "pipeline", "voting"])
def test_the_default_call_gives_exact_probabilities_of_double_inputs(
    x: Any, y: Any, labels: list[Any], wrapped: str
) -> None:
    target = np.array(labels)[np.digitize(y, np.linspace(-0.5, 0.5, len(labels) - 1))]
    alone = lightgbm.LGBMClassifier(**SMALL)
    model = {
        "alone": alone,
        "calibrated": CalibratedClassifierCV(alone, cv=2),
        "pipeline": make_pipeline(StandardScaler(), alone),
        "voting": VotingClassifier([("one", alone)], voting="soft", flatten_transform=False),
    }[wrapped].fit(x, target)
    converted = to_onnx(model, x[:1])
    assert [output.name for output in converted.graph.output] == ["output_label", "output_probability"]
    label, probability = run(converted, x)
    np.testing.assert_array_equal(label, model.predict(x))
    assert probability.dtype == np.float64
    np.testing.assert_allclose(probability, model.predict_proba(x), **(EXACT if wrapped == "alone" else OWN))


def test_maps_hold_float32_only_and_columns_hold_both(x: Any, y: Any) -> None:
    model = lightgbm.LGBMClassifier(**SMALL).fit(x, y > 0)
    expected = model.predict_proba(x)
    for options in ({"zipmap": True}, {id(model): {"zipmap": True}}, {lightgbm.LGBMClassifier: {"zipmap": True}}):
        with pytest.raises(ConfigError, match="ZipMap holds float32 only"):
            to_onnx(model, x[:1], options=options)
    columns = run(to_onnx(model, x[:1], options={"zipmap": "columns"}), x)[1:]
    np.testing.assert_allclose(np.stack(columns, axis=1), expected, **EXACT)
    narrow = x.astype(np.float32)
    maps = run(to_onnx(model, narrow[:1]), narrow)[1]
    np.testing.assert_allclose([list(row.values()) for row in maps], model.predict_proba(narrow), rtol=1e-6)


def test_a_ranker_is_exact(x: Any, y: Any) -> None:
    model = lightgbm.LGBMRanker(**SMALL).fit(x, np.clip(np.floor(y + 2), 0, 4), group=[100] * 5)
    np.testing.assert_array_equal(run(to_onnx(model, x[:1]), x)[0][:, 0], model.predict(x))


def test_a_pipeline_with_a_column_transformer_is_exact(x: Any, y: Any) -> None:
    whole = np.concatenate([x, np.random.default_rng(2).integers(0, 5, (len(x), 1))], axis=1)
    columns = ColumnTransformer([("kept", "passthrough", [0, 4]), ("scaled", MinMaxScaler(), [1, 2, 3])])
    model = make_pipeline(columns, lightgbm.LGBMRegressor(**SMALL)).fit(whole, y)
    (prediction,) = run(to_onnx(model, whole[:1]), whole)
    np.testing.assert_array_equal(prediction[:, 0], model.predict(whole))


def test_a_column_transformer_of_strings_and_numbers(x: Any, y: Any) -> None:
    towns = np.random.default_rng(3).choice(["Oslo", "Rome", "Lima"], (len(x), 1)).astype(object)
    columns = ColumnTransformer(
        [("town", OneHotEncoder(sparse_output=False), [4]), ("number", StandardScaler(), [0, 1, 2, 3])]
    )
    both = np.concatenate([x.astype(object), towns], axis=1)
    model = make_pipeline(columns, lightgbm.LGBMClassifier(**SMALL)).fit(both, y > 0)
    inputs = [("number", DoubleTensorType([None, 4])), ("town", StringTensorType([None, 1]))]
    converted = to_onnx(model, initial_types=inputs, options=NO_ZIPMAP)
    label, probability = runtime_session(converted.SerializeToString()).run(None, {"number": x, "town": towns})
    np.testing.assert_array_equal(label, model.predict(both))
    assert probability.dtype == np.float64
    np.testing.assert_allclose(probability, model.predict_proba(both), **EXACT)


@pytest.mark.parametrize("wrapped", ["estimator", "pipeline", "frozen", "frozen pipeline"])
@pytest.mark.parametrize("classes", [2, 3])
def test_calibrated_classifiers_are_those_of_scikit_learn(x: Any, y: Any, wrapped: str, classes: int) -> None:
    target = np.digitize(y, [0] if classes == 2 else [-0.5, 0.5])
    inside: Any = lightgbm.LGBMClassifier(**SMALL)
    if "pipeline" in wrapped:
        inside = make_pipeline(StandardScaler(), inside)
    if "frozen" in wrapped:
        inside = FrozenEstimator(inside.fit(x, target))
    model = CalibratedClassifierCV(inside, cv=2).fit(x, target)
    label, probability = run(to_onnx(model, x[:1], options=NO_ZIPMAP), x)
    np.testing.assert_array_equal(label, model.predict(x))
    np.testing.assert_allclose(probability, model.predict_proba(x), **OWN)


def test_searches_stacks_and_votes_hold_exact_trees(x: Any, y: Any) -> None:
    target = np.digitize(y, [-0.5, 0.5])
    two = [("a", lightgbm.LGBMClassifier(**SMALL)), ("b", lightgbm.LGBMClassifier(**SMALL, num_leaves=4))]
    for model in (
        GridSearchCV(lightgbm.LGBMClassifier(**SMALL), {"num_leaves": [4, 8]}, cv=2),
        StackingClassifier(two, cv=2),
        VotingClassifier(two, voting="soft", flatten_transform=False),
    ):
        model.fit(x, target)
        label, probability = run(to_onnx(model, x[:1], options=NO_ZIPMAP), x)
        np.testing.assert_array_equal(label, model.predict(x))
        np.testing.assert_allclose(probability, model.predict_proba(x), **OWN)
    several = MultiOutputRegressor(lightgbm.LGBMRegressor(**SMALL)).fit(x, np.stack([y, -y], axis=1))
    np.testing.assert_array_equal(run(to_onnx(several, x[:1]), x)[0], several.predict(x))


def test_float32_inputs_score_as_lightgbm_scores_the_same_float32(x: Any, y: Any) -> None:
    narrow = x.astype(np.float32)
    model = lightgbm.LGBMRegressor(**SMALL).fit(x, y)
    (prediction,) = run(to_onnx(model, narrow[:1]), narrow)
    np.testing.assert_array_equal(prediction[:, 0], model.predict(narrow).astype(np.float32))


def test_a_subclass_of_an_estimator_is_converted(x: Any, y: Any) -> None:
    class Tuned(lightgbm.LGBMRegressor):
        pass

    model = Tuned(**SMALL).fit(x, y)
    np.testing.assert_array_equal(run(to_onnx(model, x[:1]), x)[0][:, 0], model.predict(x))


def test_what_was_registered_with_skl2onnx_stays_as_it_was(x: Any, y: Any) -> None:
    before = dict(_supported_operators.sklearn_operator_name_map), dict(_parse.sklearn_parsers_map)
    to_onnx(lightgbm.LGBMRegressor(**SMALL).fit(x, y), x[:1])
    assert (_supported_operators.sklearn_operator_name_map, _parse.sklearn_parsers_map) == before


def test_what_cannot_be_exact_is_refused_and_says_why(x: Any, y: Any) -> None:
    fitted = lightgbm.LGBMClassifier(**SMALL).fit(x, y > 0)
    with pytest.raises(ConfigError, match="target opset is too old"):
        to_onnx(fitted, x[:1], target_opset=15)
    with pytest.raises(ConfigError, match="not fitted"):
        to_onnx(make_pipeline(lightgbm.LGBMRegressor()), x[:1])

    def logistic(target: NDArray[Any], raw: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        p = 1 / (1 + np.exp(-raw))
        return p - target, p * (1 - p)

    custom = lightgbm.LGBMClassifier(objective=logistic, **SMALL).fit(x, y > 0)
    with pytest.raises(ConfigError, match="no class probabilities"):
        to_onnx(custom, x[:1])
    both = VotingClassifier(
        [("a", lightgbm.LGBMClassifier(**SMALL)), ("b", RandomForestClassifier(2))],
        voting="soft",
        flatten_transform=False,
    ).fit(x, y > 0)
    with pytest.raises(ConfigError, match="another tree ensemble"):
        to_onnx(both, x[:1])


def test_a_model_without_lightgbm_is_left_to_skl2onnx(x: Any, y: Any) -> None:
    model = StandardScaler().fit(x)
    assert {node.domain for node in to_onnx(model, x[:1]).graph.node} <= {"", "ai.onnx.ml"}
