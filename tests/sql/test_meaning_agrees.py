"""Polars, the ONNX graph and a plain Python evaluation give the same bits for generated expressions and rows."""

from __future__ import annotations

import struct
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from examples import examples
from generated_sql import COLUMNS, Generator, frame_of, rows_of
from hypothesis import given, note
from hypothesis import strategies as st
from sql_meaning import meaning

from rayforest.errors import ConfigError
from rayforest.kinds import Kind
from rayforest.onnx.feature_graph import approximate, feature_model, inexpressible
from rayforest.onnx.runtime import runtime_session
from rayforest.sql import Expression, category_text, parse

generated = examples(50)
seeds = given(seed=st.integers(0, 2**32 - 1))


def parsed(sql: str) -> Expression | None:
    """The expression, or None where the generator nested too much, or casts a constant text that is no number."""
    try:
        expression = parse(sql, COLUMNS, where="features.generated")
        return expression if expression.root.size < 500 else None  # Polars takes seconds for the largest
    except ConfigError as error:
        if any(reason in error.what for reason in ("too large", "nested too deeply", "the text is not a")):
            return None
        raise


def bits(value: object) -> object:
    """A value that is equal only to one with the same bits."""
    return struct.pack("<d", value) if isinstance(value, float) else value


def in_polars(expression: Expression, frame: pl.DataFrame) -> pl.Series:
    values = frame.with_columns(result=expression.to_polars())["result"]
    assert values.dtype == expression.kind.polars
    assert not (values.dtype == pl.Float64 and values.is_nan().any())
    assert not (values.dtype == pl.String and (values == "").any())
    return values


def inputs(frame: pl.DataFrame, names: list[str]) -> dict[str, np.ndarray]:
    """The columns as the graph takes them."""
    converted = {}
    for name in names:
        column = frame[name]
        match COLUMNS[name]:
            case Kind.STRING:
                values = np.array(column.fill_null("").to_list(), dtype=object)
            case Kind.TIMESTAMP:
                values = column.to_physical().fill_null(-(2**63)).to_numpy()
            case _:
                values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        converted[name] = values.reshape(-1, 1)
    return converted


def in_graph(features: dict[str, Expression], categories: dict[str, list[str]], frame: pl.DataFrame) -> np.ndarray:
    session = runtime_session(feature_model(features, categories).SerializeToString())
    return session.run(["features"], inputs(frame, [value.name for value in session.get_inputs()]))[0]


@generated
@seeds
def test_polars_and_python_give_the_same_value(seed: int) -> None:
    generator = Generator(seed)
    values = generator.columns()
    frame = frame_of(values)
    kind = generator.kind()
    sql = generator.expression(kind, in_graph=False)
    note(sql)
    expression = parsed(sql)
    if expression is None:
        return
    assert expression.kind is kind
    computed = in_polars(expression, frame).to_list()
    expected = [meaning(expression.root, row) for row in rows_of(values)]
    assert [bits(value) for value in computed] == [bits(value) for value in expected]


@generated
@seeds
def test_polars_and_the_graph_give_the_same_bits(seed: int) -> None:
    generator = Generator(seed)
    frame = frame_of(generator.columns())
    features: dict[str, Expression] = {"column": parsed("a")}
    for index in range(4):
        kind = generator.kind()
        sql = generator.expression(kind)
        # A timestamp is no feature; as seconds it shows every bit but the last of far-off years.
        expression = parsed(f"({sql}) - TIMESTAMP '2000-01-01'" if kind is Kind.TIMESTAMP else sql)
        if expression is not None:
            note(sql)
            assert inexpressible(expression) == []
            assert approximate(expression) == []
            features[f"x{index}"] = expression
    wanted: dict[str, list[float | None]] = {}
    categories: dict[str, list[str]] = {}
    for name, expression in features.items():
        result = in_polars(expression, frame)
        if expression.kind is Kind.STRING or (expression.kind is Kind.NUMBER and generator.random.random() < 0.3):
            texts = result.to_frame("v").select(category_text(expression.kind, pl.col("v"))).to_series().to_list()
            # The last category is left out, as one that training never saw.
            categories[name] = sorted({text for text in texts if text is not None})[:-1]
            codes = {text: float(code) for code, text in enumerate(categories[name])}
            wanted[name] = [codes.get(text) for text in texts]
        else:
            wanted[name] = result.cast(pl.Float64).to_list()
    matrix = in_graph(features, categories, frame)
    for column, name in enumerate(features):
        computed = [None if np.isnan(value) else float(value) for value in matrix[:, column]]
        assert [bits(v) for v in computed] == [bits(v) for v in wanted[name]], features[name].sql


@pytest.mark.parametrize(
    ("sql", "ulps", "named"),
    [
        ("EXP(a)", 2, ["EXP"]),
        ("LN(a)", 1, ["LN"]),
        ("LOG(a)", 2, ["LN"]),
        ("LOG(3, a)", 2, ["LN"]),
        ("POWER(ABS(a), 1.7)", 1, ["POWER"]),
        ("b ** a", 1, ["POWER"]),
    ],
)
def test_transcendental_functions_agree_within_the_stated_ulps(sql: str, ulps: int, named: list[str]) -> None:
    random = np.random.default_rng(0)
    magnitudes = 10.0 ** random.integers(-20, 3, 50_000)
    frame = pl.DataFrame({"a": random.normal(size=50_000) * magnitudes, "b": np.abs(random.normal(size=50_000))})
    expression = parsed(sql)
    assert approximate(expression) == named
    exact = in_polars(expression, frame).fill_null(float("nan")).to_numpy()
    graph = in_graph({"x": expression}, {}, frame)[:, 0]
    assert (np.isnan(exact) == np.isnan(graph)).all()
    assert (np.isfinite(exact) == np.isfinite(graph)).all()
    finite = np.isfinite(exact)
    assert np.abs(_order(exact[finite]) - _order(graph[finite])).max() <= ulps


def _order(values: np.ndarray) -> np.ndarray:
    """Integers in which neighbouring doubles are one apart."""
    integers = values.view(np.int64)
    return np.where(integers < 0, np.int64(-(2**63)) - integers, integers)


def test_every_day_of_eight_centuries_has_the_same_calendar_in_the_graph() -> None:
    days = pl.datetime_range(datetime(1600, 1, 1, 23, 59, 59), datetime(2400, 12, 31, 23, 59, 59), "1d", eager=True)
    frame = pl.DataFrame({"t": days.cast(pl.Datetime("us"))})
    parts = ("year", "quarter", "month", "day", "dow", "isodow", "doy", "week", "isoyear")
    sqls = [f"EXTRACT({part} FROM t)" for part in parts]
    sqls += [f"DATE_TRUNC('{unit}', t) - DATE '1970-01-01'" for unit in ("year", "quarter", "month", "week")]
    sqls += ["(t + INTERVAL 1 MONTH) - t", "(t - INTERVAL 12 MONTH) - t", "(t + INTERVAL 37 MONTH) - t"]
    features = {sql: parsed(sql) for sql in sqls}
    matrix = in_graph(features, {}, frame)
    wanted = np.column_stack([in_polars(expression, frame).to_numpy() for expression in features.values()])
    assert (matrix == wanted).all()
