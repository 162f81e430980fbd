"""The feature graph as a file: what it takes, what it refuses, and with LightGBM's trees behind it."""

from __future__ import annotations

import lightgbm
import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
from onnx import TensorProto

from rayforest.errors import ConfigError
from rayforest.kinds import Kind
from rayforest.onnx import from_lightgbm
from rayforest.onnx.feature_graph import approximate, feature_model, full_model, inexpressible
from rayforest.sql import Expression, category_text, parse

KINDS = {
    "amount": Kind.NUMBER, "hour": Kind.NUMBER, "vip": Kind.BOOLEAN, "country": Kind.STRING, "at": Kind.TIMESTAMP,
    "features": Kind.NUMBER, "prediction": Kind.NUMBER, "Add_3": Kind.NUMBER,
}  # fmt: skip


def features_of(**sqls: str) -> dict[str, Expression]:
    return {name: parse(sql, KINDS, where=f"features.{name}") for name, sql in sqls.items()}


def payments(rows: int) -> pl.DataFrame:
    random = np.random.default_rng(7)
    micros = random.integers(1_600_000_000_000_000, 1_700_000_000_000_000, rows)
    table = pl.DataFrame(
        {
            "amount": np.round(random.lognormal(3, 1, rows), 2),
            "hour": random.integers(0, 24, rows).astype(float),
            "vip": random.random(rows) < 0.3,
            "country": random.choice(["DE", "FR", "ÅX", "US", "--"], rows),
            "at": pl.Series(micros).cast(pl.Datetime("us")),
            "features": random.normal(size=rows),
        }
    )
    missing = {name: pl.Series(random.random(rows) < 0.1) for name in table.columns}
    return table.with_columns(pl.when(~missing[name]).then(pl.col(name)).alias(name) for name in table.columns)


def run(model: onnx.ModelProto, table: pl.DataFrame) -> dict[str, np.ndarray]:
    """Plain onnxruntime on raw columns, as a user without rayforest feeds it."""
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {}
    for value in session.get_inputs():
        column = table[value.name]
        match value.type:
            case "tensor(string)":
                array = np.array(column.fill_null("").to_list(), dtype=object)
            case "tensor(int64)":
                array = column.to_physical().fill_null(-(2**63)).to_numpy()
            case _:
                array = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        feed[value.name] = array.reshape(-1, 1)
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, feed), strict=True))


def test_raw_columns_in_give_lightgbms_scores_on_polars_features() -> None:
    features = features_of(
        amount="amount", share="ROUND(amount / (hour + 1), 2)", night="hour < 6 OR hour >= 22", vip="vip",
        weekday="EXTRACT(isodow FROM at)", since="at - TIMESTAMP '2020-01-01'", land="country", hour="hour",
        pair="country || CASE WHEN vip THEN '+' ELSE '-' END", same_name="features", constant="1",
    )  # fmt: skip
    table = payments(4_000)
    training = table.head(2_000)
    categories: dict[str, list[str]] = {}
    columns = []
    for name, expression in features.items():
        values = table.with_columns(value=expression.to_polars())["value"]
        if name in ("land", "hour", "pair"):
            texts = values.to_frame().select(category_text(expression.kind, pl.col("value"))).to_series()
            # Fitted on part of the rows, without the last: scoring meets unseen ones.
            categories[name] = sorted(set(texts.head(len(training)).drop_nulls()))[:-1]
            codes = {text: code for code, text in enumerate(categories[name])}
            values = pl.Series([codes.get(text) for text in texts])
        columns.append(values.cast(pl.Float64).fill_null(float("nan")).to_numpy())
    matrix = np.column_stack(columns)
    target = (np.nan_to_num(matrix[:, 0]) > 20).astype(float)
    data = lightgbm.Dataset(
        matrix[: len(training)],
        target[: len(training)],
        categorical_feature=[list(features).index(n) for n in categories],
    )
    settings = {
        "objective": "binary",
        "num_leaves": 15,
        "min_data_in_leaf": 5,
        "verbose": -1,
        "num_threads": 1,
        "seed": 3,
    }
    booster = lightgbm.train(settings, data, num_boost_round=20)
    trees = from_lightgbm(booster)

    model = full_model(features, categories, trees)
    scores = run(model, table)

    assert (
        (
            run(feature_model({n: e for n, e in features.items() if n != "same_name"}, categories), table)[
                "features"
            ].shape[1]
        )
        == 10
    )
    assert scores["raw_score"][:, 0].tolist() == booster.predict(matrix, raw_score=True, num_threads=1).tolist()
    assert np.allclose(scores["prediction"], booster.predict(matrix, num_threads=1), rtol=1e-15, atol=0)
    assert {entry.key for entry in model.metadata_props} >= {entry.key for entry in trees.metadata_props}


def test_every_input_is_a_raw_column_by_its_name_and_type() -> None:
    model = feature_model(
        features_of(a="amount * 2", b="vip", c="country LIKE 'D%'", d="EXTRACT(year FROM at)", e="amount IS NULL"), {}
    )
    inputs = {value.name: value.type.tensor_type for value in model.graph.input}
    assert {name: tensor.elem_type for name, tensor in inputs.items()} == {
        "amount": TensorProto.DOUBLE, "vip": TensorProto.DOUBLE, "country": TensorProto.STRING, "at": TensorProto.INT64,
    }  # fmt: skip
    assert all(tensor.shape.dim[1].dim_value == 1 for tensor in inputs.values())
    assert {opset.domain for opset in model.opset_import} <= {"", "ai.onnx.ml"}


def test_the_same_features_give_the_same_file() -> None:
    features = features_of(a="amount / hour", b="country IN ('DE', 'FR')")
    assert feature_model(features, {}).SerializeToString() == feature_model(features, {}).SerializeToString()


def test_a_category_never_seen_and_a_null_have_no_code() -> None:
    table = pl.DataFrame(
        {"country": ["DE", "FR", "XX", None], "hour": [3.0, -0.0, 7.5, None], "vip": [True, False, None, True]}
    )
    features = features_of(land="country", hour="hour", vip="vip", empty="country")
    categories = {"land": ["DE", "FR"], "hour": ["0", "3"], "vip": ["true"], "empty": []}
    nan = float("nan")
    expected = [[0, 1, 0, nan], [1, 0, nan, nan], [nan, nan, nan, nan], [nan, nan, 0, nan]]
    np.testing.assert_array_equal(run(feature_model(features, categories), table)["features"], expected)


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("UPPER(country) = 'DE'", ["UPPER"]),
        ("LENGTH(TRIM(country))", ["LENGTH", "TRIM"]),
        ("country < 'M'", ["< of texts"]),
        ("CAST(amount AS string) = '3'", ["CAST of a number to a string"]),
        ("EXTRACT(year FROM CAST(country AS timestamp))", ["CAST of a string to a timestamp"]),
        ("country ILIKE 'd%'", ["ILIKE"]),
        ("LEFT(country, 1) = 'D'", ["SUBSTRING or LEFT"]),
        ("amount > 3 AND country LIKE 'D%'", []),
        ("CAST(country AS number) + EXTRACT(week FROM at)", []),
    ],
)
def test_what_the_graph_cannot_do_exactly_is_named_before_any_data_is_read(sql: str, named: list[str]) -> None:
    features = features_of(x=sql)
    assert inexpressible(features["x"]) == named
    if named:
        with pytest.raises(ConfigError, match="exactly") as caught:
            feature_model(features, {})
        assert named[0] in str(caught.value)
        assert 'export.graph = "trees"' in str(caught.value)


def test_transcendental_functions_are_named_as_approximate() -> None:
    assert approximate(features_of(x="LOG(amount) + POWER(amount, 1.1) * EXP(hour)")["x"]) == ["EXP", "LN", "POWER"]
    assert approximate(features_of(x="amount ** 2 + SQRT(hour) + ROUND(amount, 2) + LN(2)")["x"]) == []


def test_features_that_trees_cannot_take_are_refused() -> None:
    with pytest.raises(ConfigError, match="is a string, which trees cannot take"):
        feature_model(features_of(x="country"), {})
    with pytest.raises(ConfigError, match="is a timestamp, which trees cannot take"):
        feature_model(features_of(x="at"), {})
    with pytest.raises(ConfigError, match="no feature reads a column"):
        feature_model(features_of(x="1 + 1"), {})


def test_a_column_with_the_name_of_an_output_is_refused() -> None:
    booster = lightgbm.train(
        {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 1},
        lightgbm.Dataset(np.arange(40.0).reshape(-1, 1), np.arange(40.0)),
        2,
    )
    trees = from_lightgbm(booster)
    with pytest.raises(ConfigError, match="'prediction' cannot be an input"):
        full_model(features_of(x="prediction"), {}, trees)
    with pytest.raises(ConfigError, match="does not fit"):
        full_model(features_of(x="amount", y="hour"), {}, trees)
    # Names that the two graphs use inside are free for columns.
    table = pl.DataFrame({"features": [1.0, 30.0], "Add_3": [0.0, 0.0]})
    scores = run(full_model(features_of(x="features + Add_3"), {}, trees), table)
    assert scores["prediction"].tolist() == booster.predict(np.array([[1.0], [30.0]]), num_threads=1).tolist()
