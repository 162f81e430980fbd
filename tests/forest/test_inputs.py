"""One model, the same rows in every form that tables and matrices have: the same bits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from rayforest.errors import InputError
from rayforest.forest import Forest
from rayforest.onnx import from_lightgbm

ROWS, FEATURES = 1_337, 7


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float64]:
    """Values that float32 holds too, a third of them missing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32).astype(np.float64)
    return np.where(rng.random(x.shape) < 0.33, np.nan, x)


@pytest.fixture(scope="module")
def booster(rows: NDArray[np.float64]) -> lightgbm.Booster:
    y = np.nan_to_num(rows[:, 0]) + np.nan_to_num(rows[:, 1], nan=0.5)
    params = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1, "num_leaves": 20}
    return lightgbm.train(params, lightgbm.Dataset(rows, np.digitize(y, [-0.5, 0.8])), 15)


@pytest.fixture(scope="module")
def forest(booster: lightgbm.Booster) -> Forest:
    return Forest.from_onnx(from_lightgbm(booster))


@pytest.fixture(scope="module")
def expected(booster: lightgbm.Booster, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = booster.predict(rows, raw_score=True, num_threads=1)
    return scores


def with_nulls(x: NDArray[np.float64]) -> pa.Table:
    columns = [pa.array(np.nan_to_num(c, nan=1e9), mask=np.isnan(c)) for c in x.T]
    return pa.Table.from_arrays(columns, names=[f"f{i}" for i in range(x.shape[1])])


def in_chunks(table: pa.Table) -> pa.Table:
    """Chunks of odd lengths, other ones in each column."""
    cut = [[0, 5, 300 + i, 301 + i, 1_000, ROWS] for i in range(table.num_columns)]
    columns = [
        pa.chunked_array([c.slice(a, b - a).combine_chunks() for a, b in zip(cut[i], cut[i][1:], strict=False)])
        for i, c in enumerate(table.columns)
    ]
    return pa.Table.from_arrays(columns, names=table.column_names)


FORMS: dict[str, Any] = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "float32 rows": lambda x: x.astype(np.float32),
    "float32 columns": lambda x: np.asfortranarray(x, dtype=np.float32),
    "big-endian": lambda x: x.astype(">f8"),
    "every second row of a larger matrix": lambda x: np.repeat(x, 2, axis=0)[::2],
    "backwards in memory": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes()).reshape(x.shape),
    "Arrow with nulls": with_nulls,
    "Arrow with NaN": lambda x: pa.table({f"f{i}": c for i, c in enumerate(x.T)}),
    "Arrow float32 with nulls": lambda x: with_nulls(x).cast(
        pa.schema([(f"f{i}", pa.float32()) for i in range(FEATURES)])
    ),
    "a slice of Arrow": lambda x: with_nulls(np.concatenate([x[:13], x, x[:5]])).slice(13, ROWS),
    "Arrow in chunks": lambda x: in_chunks(with_nulls(x)),
    "a record batch": lambda x: with_nulls(x).to_batches()[0],
    "Polars": lambda x: pl.from_arrow(with_nulls(x)),
    "Polars with NaN": lambda x: pl.DataFrame({f"f{i}": c for i, c in enumerate(x.T)}),
    "Polars in chunks": lambda x: pl.concat(
        [pl.from_arrow(with_nulls(p)) for p in (x[:7], x[7:900], x[900:])], rechunk=False
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_rows_gives_the_same_bits(
    form: str, forest: Forest, rows: NDArray[np.float64], expected: NDArray[np.float64]
) -> None:
    assert np.array_equal(forest.raw_score(FORMS[form](rows)), expected)


def test_whole_numbers_and_booleans_are_numbers(rows: NDArray[np.float64]) -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.integers(-500, 500, 2_000), rng.integers(0, 2, 2_000)], axis=1)
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(x, x.sum(axis=1)), 10)
    forest, expected = Forest.from_onnx(from_lightgbm(booster)), booster.predict(x, raw_score=True)[:, None]
    table = pa.table({"a": pa.array(x[:, 0], pa.int16()), "b": pa.array(x[:, 1].astype(bool))})
    for data in (x, x.astype(np.int32), table, pl.from_arrow(table)):
        assert np.array_equal(forest.raw_score(data), expected)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 63, 64, 65, 128, 129, 255, 256, 257, 511])
def test_a_row_scores_the_same_in_a_batch_of_any_size(
    count: int, forest: Forest, rows: NDArray[np.float64], expected: NDArray[np.float64]
) -> None:
    found = forest.raw_score(rows[:count])
    assert found.shape == (count, 3)
    assert np.array_equal(found, expected[:count])
    assert forest.leaf_index(rows[:count]).shape == (count, 45)


def test_threads_share_a_forest_and_change_no_bit(
    forest: Forest, rows: NDArray[np.float64], expected: NDArray[np.float64]
) -> None:
    parts = [slice(i, i + 97) for i in range(0, ROWS, 97)] * 20
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: forest.raw_score(rows[part]), parts))
    assert all(np.array_equal(scores, expected[part]) for scores, part in zip(found, parts, strict=True))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (np.zeros((3, FEATURES - 1)), f"{FEATURES - 1}"),
        (np.zeros(FEATURES), f"[{FEATURES}]"),
        (np.full((3, FEATURES), "a"), "<U1"),
        (pa.table({f"f{i}": ["a"] for i in range(FEATURES)}), "string"),
        ([[0.0] * FEATURES], "list"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_what_was_found(forest: Forest, data: Any, found: str) -> None:
    with pytest.raises(InputError) as refused:
        forest.raw_score(data)
    assert found in refused.value.found
