"""What is computed in shards and merged is what the whole would give; hashes are those of the reference library."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xxhash
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from rayforest.features.contract import ColumnContract, Contract
from rayforest.features.hashing import FIELD_SEPARATOR, hash_rows, xxh64
from rayforest.features.keys import canonical_keys
from rayforest.features.profile import ColumnProfile, Profile, bucket_bounds
from rayforest.formats import PROFILE
from rayforest.kinds import Kind
from rayforest.metrics.mergeable import RunningMetrics
from rayforest.metrics.problem import Problem
from rayforest.preparing.split import HashSplit, TimeSketch, TimeSplit

few = examples(30)


@few
@given(st.lists(st.text(max_size=80), max_size=40), st.integers(0, 2**64 - 1))
def test_xxh64_is_the_reference_librarys(texts: list[str], seed: int) -> None:
    expected = [xxhash.xxh64_intdigest(text.encode(), seed) for text in texts]
    assert xxh64(pa.array(texts, pa.string()), seed).tolist() == expected
    assert xxh64(pa.array(["x", *texts], pa.string()).slice(1), seed).tolist() == expected


def test_xxh64_of_every_length_up_to_three_stripes() -> None:
    texts = ["é" * (n // 2) + "x" * (n % 2) for n in range(100)]
    assert xxh64(pa.array(texts), 7).tolist() == [xxhash.xxh64_intdigest(t.encode(), 7) for t in texts]


def test_keys_of_several_columns_are_joined_by_the_separator() -> None:
    keys = pl.DataFrame({"a": ["x", None, "ü"], "b": ["1", "2", None]})
    expected = [
        xxhash.xxh64_intdigest(f"{a}{FIELD_SEPARATOR}{b}".encode(), 3) for a, b in (("x", "1"), ("", "2"), ("ü", ""))
    ]
    assert hash_rows(keys, 3).tolist() == expected


@pytest.mark.parametrize(
    ("kind", "texts", "stored"),
    [
        (Kind.NUMBER, ["7", "07", " +7 ", "7.0", "7e0"], pa.array([7, 7, 7, 7, 7], pa.int32())),
        (Kind.NUMBER, ["7", "-0", "0.1", "1e30"], pa.array([7, 0, 0.1, 1e30])),
        (Kind.NUMBER, ["9007199254740993", "-9223372036854775808"], pa.array([2**53 + 1, -(2**63)])),
        (Kind.NUMBER, ["18446744073709551615", "0001000000000000000000"], pa.array([2**64 - 1, 10**18], pa.uint64())),
        (Kind.NUMBER, ["1.50", "3", "-20"], pa.array([Decimal("1.50"), Decimal("3.00"), Decimal("-20.00")])),
        (Kind.BOOLEAN, ["true", "FALSE", "1"], pa.array([True, False, True])),
        (Kind.STRING, ["a", " a", "7"], pa.array(["a", " a", "7"], pa.large_string())),
        (Kind.STRING, ["7", "8"], pa.array([7, 8])),
        (Kind.TIMESTAMP, ["2026-01-01", "2026-01-01T00:00:00Z"], pa.array([1_767_225_600] * 2, pa.timestamp("s"))),
        (Kind.TIMESTAMP, ["1970-01-01 00:00:00.000001"], pa.array([1000], pa.timestamp("ns", "Europe/Oslo"))),
        (Kind.TIMESTAMP, ["1970-01-02"], pa.array([1], pa.date32())),
    ],
)
def test_a_key_is_the_same_text_however_it_is_stored(kind: Kind, texts: list[str], stored: pa.Array) -> None:
    contract = Contract((ColumnContract("k", kind, declared=True),))
    written, typed = (canonical_keys(contract, pa.table({"k": column}), ["k"]) for column in (pa.array(texts), stored))
    assert written["k"].to_list() == typed["k"].to_list()


def test_keys_that_differ_by_one_stay_different() -> None:
    contract = Contract((ColumnContract("k", Kind.NUMBER), ColumnContract("t", Kind.TIMESTAMP)))
    table = pa.table({"k": [2**62, 2**62 + 1], "t": pa.array([1, 2], pa.timestamp("ns"))})
    assert canonical_keys(contract, table, ["k", "t"]).select(pl.all().n_unique()).row(0) == (2, 2)


def test_text_with_leading_zeros_is_another_key_than_the_number_unless_numbers_are_declared() -> None:
    texts = pa.table({"k": ["49", "00049", "49.0", " 49", "0", "0.5", "-007"]})
    found, declared = (
        canonical_keys(Contract((ColumnContract("k", Kind.NUMBER, declared=said),)), texts, ["k"])["k"].to_list()
        for said in (False, True)
    )
    assert found == ["49", "00049", "49", "49", "0", "0.5", "-007"]
    assert declared == ["49", "49", "49", "49", "0", "0.5", "-7"]


def test_large_integers_and_the_doubles_that_hold_them_are_one_key() -> None:
    contract = Contract((ColumnContract("k", Kind.NUMBER),))
    whole = [2**53, 2**53 + 2, 2**62, 0]
    for column in (pa.array(whole), pa.array([float(n) for n in whole]), pa.array([f"{n}.0" for n in whole])):
        assert canonical_keys(contract, pa.table({"k": column}), ["k"])["k"].to_list() == [str(n) for n in whole]


def test_missing_keys_are_null() -> None:
    contract = Contract((ColumnContract("k", Kind.STRING, null_values=("N/A", -1)),))
    keys = canonical_keys(contract, pa.table({"k": ["a", "", "  ", None, "N/A", "-1.0"]}), ["k"])
    assert keys["k"].to_list() == ["a", None, "  ", None, None, None]


def test_shares_of_a_hash_split_are_those_asked_for() -> None:
    keys = pl.DataFrame({"k": [str(i) for i in range(40_000)]})
    split = HashSplit((0.7, 0.2, 0.1), seed=1)
    parts = np.bincount(split.assign(split.hashes(keys))) / 40_000
    assert parts == pytest.approx([0.7, 0.2, 0.1], abs=0.01)
    assert set(HashSplit((1.0, 0.0, 0.0), seed=1).assign(split.hashes(keys))) == {0}


times_of_any_kind = st.one_of(
    st.floats(-1e18, 1e18).filter(lambda t: t == 0 or abs(t) > 1e-9),  # no clock is finer
    st.integers(-(2**52), 2**52).map(float),
    st.sampled_from([0.0, 0.5]),
)


@few
@given(st.lists(st.lists(times_of_any_kind, max_size=30), min_size=1, max_size=5))
def test_a_sketch_of_times_does_not_depend_on_the_shards(shards: list[list[float]]) -> None:
    merged = TimeSketch()
    for shard in shards:
        merged.merge(TimeSketch.of(np.array(shard, np.float64)))
    whole = TimeSketch.of(np.array([t for shard in shards for t in shard], np.float64))
    assert (merged.exponent, merged.counts) == (whole.exponent, whole.counts)


def test_a_sketch_of_more_times_than_it_keeps_is_the_same_in_any_order() -> None:
    rng = np.random.default_rng(0)
    times = rng.integers(1_700_000_000_000_000, 1_800_000_000_000_000, 30_000).astype(np.float64)
    whole = TimeSketch.of(times)
    for order in (range(10), reversed(range(10))):
        merged = TimeSketch()
        for shard in order:
            merged.merge(TimeSketch.of(times[shard * 3_000 : (shard + 1) * 3_000]))
        assert (merged.exponent, merged.counts) == (whole.exponent, whole.counts)
    assert len(whole.counts) <= TimeSketch.limit
    cuts = whole.cuts((0.7, 0.15, 0.15))
    shares = np.bincount(TimeSplit((cuts[0], cuts[1])).assign(pl.Series(times))) / len(times)
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.001)


@few
@given(
    st.lists(st.tuples(st.none() | st.floats(allow_nan=False), st.none() | st.text(max_size=3)), max_size=60),
    st.integers(1, 7),
)
def test_a_profile_merges_to_that_of_all_rows(rows: list[tuple[float | None, str | None]], shards: int) -> None:
    frame = pl.DataFrame(rows, schema={"x": pl.Float64, "c": pl.String}, orient="row")

    def profile(part: pl.DataFrame) -> Profile:
        found = Profile(columns={name: ColumnProfile.of(part[name]) for name in part.columns})
        found.count_labels("train", part["c"])
        return found

    merged = Profile()
    for shard in range(shards):
        merged.merge(PROFILE.read(PROFILE.write(profile(frame[shard::shards]).as_dict()), "x", Profile.from_document))
    assert PROFILE.write(merged.as_dict()) == PROFILE.write(profile(frame).as_dict())


@few
@given(st.floats(-1e307, 1e307) | st.floats(-1e-300, 1e-300))
def test_every_number_lies_in_its_bucket(value: float) -> None:
    ((bucket, rows),) = ColumnProfile.of(pl.Series([value])).histogram.items()
    assert rows == 1
    low, high = bucket_bounds(bucket)
    assert low <= value <= high
    assert high - low <= abs(value) / 8 or value == 0 or abs(value) < 1e-300


def running(problem: Problem, predictions: np.ndarray, labels: np.ndarray, shards: int) -> dict[str, float]:
    merged = RunningMetrics()
    for rows in np.array_split(np.arange(len(labels)), shards):
        part = RunningMetrics()
        part.update(problem, predictions[rows], labels[rows])
        merged.merge(RunningMetrics.from_dict(json.loads(json.dumps(part.as_dict()))))
    return merged.metrics(problem)


def test_running_metrics_of_a_binary_problem_are_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    predictions = 1 / (1 + np.exp(-rng.normal(-2, 2, 5_000)))
    labels = (rng.random(5_000) < predictions).astype(np.float64)
    known = labels.copy()
    known[::10] = np.nan  # rows whose truth is not known
    keep = ~np.isnan(known)
    found = running(Problem("binary", "auc", (0.0, 1.0)), predictions, known, shards=7)
    assert found["auc"] == pytest.approx(sk.roc_auc_score(labels[keep], predictions[keep]), abs=1e-4)
    assert found["log_loss"] == pytest.approx(sk.log_loss(labels[keep], predictions[keep]))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels[keep], predictions[keep] > 0.5))


def test_running_metrics_of_certain_predictions_are_finite() -> None:
    problem = Problem("binary", "auc", (0.0, 1.0))
    found = running(problem, np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0, 1.0]), shards=2)
    assert found["auc"] == 0.5
    assert found["log_loss"] == pytest.approx(sk.log_loss([0, 1, 0, 1], [0.0, 1.0, 1.0, 0.0]))


def test_running_metrics_of_several_classes_and_of_quantities_are_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    raw = np.exp(rng.normal(0, 1, (3_000, 3)))
    shares = raw / raw.sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=p) for p in shares], np.float64)
    found = running(Problem("multiclass", "log_loss", ("a", "b", "c")), shares, labels, shards=4)
    assert found["auc"] == pytest.approx(sk.roc_auc_score(labels, shares, multi_class="ovr"), abs=1e-4)
    assert found["log_loss"] == pytest.approx(sk.log_loss(labels, shares))
    truth, predicted = rng.normal(size=500), rng.normal(size=500)
    found = running(Problem("regression", "rmse"), predicted, truth, shards=3)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, predicted))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, predicted))
