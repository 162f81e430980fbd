"""What the generator of card payments promises."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import lightgbm as lgb
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from rayforest.errors import ConfigError, InputError, RefusedError
from rayforest.payments import Defect, Generated, generate_payments, read_truth
from rayforest.payments.block import BLOCK_ROWS, Block, BlockSource
from rayforest.payments.defects import MISTYPED, accepted
from rayforest.payments.generate import plan_files
from rayforest.payments.table import SCHEMA
from rayforest.project.load import load_project
from rayforest.sql import parse

EXAMPLE = Path(__file__).parents[2] / "jobs" / "examples" / "payments.toml"


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """Two days of two blocks each, a fifth of the rows dirty."""
    return generate_payments(tmp_path_factory.mktemp("dirty"), rows=300_000, days=2, dirty=0.2, seed=3)


def read_all(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in sorted(folder.glob("*.parquet"))])


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def usable(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that a careful reader would keep, written down apart from the generator and the example."""
    amount = pl.col("amount").cast(pl.Float64, strict=False)
    return (
        rows.unique("payment_id", keep="first", maintain_order=True)
        .with_columns(amount)
        .filter(pl.col("amount") > 0, pl.col("paid_at").dt.year() > 2000, pl.col("is_fraud").is_not_null())
    )


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others(tmp_path: Path, form: str) -> None:
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        generate_payments(tmp_path / folder, rows=5000, days=3, seed=seed, format=form)  # type: ignore[arg-type]
    a, b, c = (contents(tmp_path / folder) for folder in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a)


@pytest.mark.parametrize("rows", [1, 7, 1000, 100_000])
@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_exactly_as_many_rows_are_written_as_were_asked_for(tmp_path: Path, rows: int, share: float) -> None:
    made = generate_payments(tmp_path, rows=rows, dirty=share)
    assert made.rows == rows
    assert [f.name for f in made.files] == sorted(f.name for f in tmp_path.glob("*.parquet"))
    assert sum(pl.read_parquet(file).height for file in made.files) == rows
    assert sum(day.rows for day in made.days) == rows


def test_every_kind_of_dirt_is_as_often_in_the_files_as_the_truth_says(dirty: Generated) -> None:
    rows = read_all(dirty.files[0].parent)
    amount = rows["amount"].cast(pl.Float64, strict=False)
    distinct = rows.n_unique()
    counted = {
        Defect.MISTYPED_AMOUNT: amount.is_null().sum(),
        Defect.NEGATIVE_AMOUNT: (amount < 0).sum(),
        Defect.WRONG_CLOCK: (rows["paid_at"].dt.year() == 1970).sum(),
        Defect.MISSING_LABEL: rows["is_fraud"].is_null().sum(),
        Defect.REDELIVERED: rows.height - distinct,
        Defect.REUSED_KEY: distinct - rows["payment_id"].n_unique(),
        Defect.SENTINEL_CARD_AGE: (rows["card_age_days"] == -999).sum(),
        Defect.SENTINEL_CATEGORY: (rows["merchant_category"] == "N/A").sum(),
        Defect.MISSING_COUNTRY: rows["card_country"].is_null().sum(),
    }
    assert dirty.defects == counted
    assert min(counted.values()) > 0
    assert sum(counted.values()) == pytest.approx(0.2 * dirty.rows, rel=0.02)
    assert dirty.duplicated_keys == rows.height - rows["payment_id"].n_unique()
    assert set(rows["amount"].filter(amount.is_null())) == set(MISTYPED)


def test_the_rows_that_are_left_after_cleaning_are_the_accepted_ones_of_the_truth(dirty: Generated) -> None:
    kept = usable(read_all(dirty.files[0].parent))
    assert kept.height == dirty.rows - dirty.rejected == sum(day.accepted for day in dirty.days)
    by_day = kept.group_by(pl.col("paid_at").dt.date()).agg(pl.len(), pl.col("is_fraud").sum()).sort("paid_at")
    assert by_day.rows() == [(day.date, day.accepted, day.positives) for day in dirty.days]
    assert dirty.positive_share == pytest.approx(kept["is_fraud"].mean())


def test_keys_are_repeated_across_files_too(dirty: Generated) -> None:
    first, second = (pl.read_parquet(file) for file in dirty.files)
    assert 0 < first.join(second, on="payment_id", how="semi").height < dirty.duplicated_keys


def test_a_duplicate_repeats_a_row_that_is_itself_in_order(dirty: Generated) -> None:
    rows = read_all(dirty.files[0].parent)
    first_of_repeated = rows.filter(pl.col("payment_id").is_duplicated()).unique("payment_id", keep="first")
    assert usable(first_of_repeated).height == first_of_repeated.height


def test_without_dirt_every_row_is_usable(tmp_path: Path) -> None:
    made = generate_payments(tmp_path, rows=20_000, days=4, dirty=0.0)
    assert set(made.defects.values()) == {0}
    rows = read_all(tmp_path)
    assert usable(rows).height == made.rows
    assert rows["paid_at"].is_sorted()


def test_labels_are_as_frequent_as_the_known_probability_says() -> None:
    drawn = BlockSource(seed=1, dirty=0.0).draw(Block(day=4, first=0, rows=BLOCK_ROWS, rows_of_day=BLOCK_ROWS), None)
    probability = 1 / (1 + np.exp(-drawn.logit))
    for part in np.array_split(np.argsort(probability), 50):
        expected = probability[part].sum()
        spread = np.sqrt((probability[part] * (1 - probability[part])).sum())
        assert abs(drawn.fraud[part].sum() - expected) < 5 * spread  # five standard deviations of the count


def test_the_best_possible_auc_is_that_of_the_true_probability(dirty: Generated) -> None:
    source, previous = BlockSource(seed=3, dirty=0.2), None
    logits, frauds, days = [], [], []
    for file in plan_files(300_000, 2):
        for block in file.blocks:
            drawn = source.draw(block, previous)
            good = accepted(drawn.defects)
            logits.append(drawn.logit[good])
            frauds.append(drawn.fraud[good])
            days.append(np.full(good.sum(), block.day))
            previous = block
    logit, fraud, day = np.concatenate(logits), np.concatenate(frauds), np.concatenate(days)
    assert dirty.auc_error_bound < 0.0005
    assert dirty.best_possible_auc == pytest.approx(roc_auc_score(fraud, logit), abs=dirty.auc_error_bound)
    last = roc_auc_score(fraud[day == 1], logit[day == 1])
    assert dirty.best_possible_auc_of_last(0.5) == pytest.approx(last, abs=0.0005)
    assert dirty.best_possible_auc_of_last(1.0) == dirty.best_possible_auc


@pytest.mark.parametrize("seed", range(3))
def test_frauds_are_rare_whatever_the_seed(tmp_path: Path, seed: int) -> None:
    made = generate_payments(tmp_path, rows=60_000, seed=seed)
    assert 0.02 < made.positive_share < 0.04
    assert made.best_possible_auc is not None
    assert 0.88 < made.best_possible_auc < 0.95


def test_a_model_comes_near_the_best_possible_auc(tmp_path: Path) -> None:
    made = generate_payments(tmp_path, rows=120_000, days=20)
    rows = usable(read_all(tmp_path))
    gap_h = (pl.col("paid_at") - pl.col("last_paid_at")).dt.total_seconds() / 3600
    texts = ("merchant_category", "merchant_country", "card_country", "entry_mode")
    features = rows.select(
        "amount",
        "distance_km",
        "payments_last_24h",
        "cvv_matched",
        pl.col("card_age_days").replace(-999, None),
        over_usual=pl.col("amount") / pl.col("amount_avg_30d"),
        hour=pl.col("paid_at").dt.hour(),
        speed=pl.col("distance_km") / gap_h,
        abroad=pl.col("card_country") != pl.col("merchant_country"),
        **{name: pl.col(name).rank("dense") for name in texts},
    ).cast(pl.Float64)
    x, y = features.to_numpy(), rows["is_fraud"].to_numpy()
    tested = (rows["paid_at"].dt.date() > dt.date(2026, 1, 17)).to_numpy()
    train = lgb.Dataset(x[~tested], y[~tested], feature_name=features.columns, categorical_feature=list(texts))
    settings = {"objective": "binary", "num_leaves": 15, "cat_smooth": 50, "verbose": -1, "num_threads": 1}
    booster = lgb.train(settings, train, num_boost_round=80)
    reached, best = roc_auc_score(y[tested], booster.predict(x[tested])), made.best_possible_auc_of_last(0.15)
    assert best is not None
    assert best - 0.03 < reached < best


def test_categories_have_long_tails_and_the_market_moves(tmp_path: Path) -> None:
    made = generate_payments(tmp_path, rows=200_000, days=100)
    rows = read_all(tmp_path)
    merchants = rows["merchant_id"].value_counts(sort=True)["count"]
    assert merchants.len() > 20_000
    assert merchants[:400].sum() > 0.2 * rows.height
    assert (merchants == 1).sum() > 5000
    early, late = (pl.concat([pl.read_parquet(f) for f in files]) for files in (made.files[:10], made.files[-10:]))
    new_market = pl.col("card_country").is_in(["TR", "JP", "BR", "MX"]).mean()
    assert late.select(new_market).item() > 1.5 * early.select(new_market).item()


def test_a_day_that_is_added_leaves_the_earlier_files_as_they_are(tmp_path: Path) -> None:
    generate_payments(tmp_path / "yesterday", rows=3000, days=30)
    generate_payments(tmp_path / "today", rows=3100, days=31)
    yesterday, today = contents(tmp_path / "yesterday"), contents(tmp_path / "today")
    assert set(today) - set(yesterday) == {"2026-01-31.parquet"}
    assert all(today[name] == data for name, data in yesterday.items() if name.endswith(".parquet"))


def test_csv_and_parquet_hold_the_same_values(tmp_path: Path) -> None:
    generate_payments(tmp_path / "parquet", rows=20_000, days=2, dirty=0.3)
    generate_payments(tmp_path / "csv", rows=20_000, days=2, dirty=0.3, format="csv")
    expected = read_all(tmp_path / "parquet")
    texts = [pl.read_csv(file, infer_schema=False) for file in sorted((tmp_path / "csv").glob("*.csv"))]
    when = pl.col("paid_at", "last_paid_at").str.to_datetime(time_unit="us")
    truth = pl.col("cvv_matched", "is_fraud").replace_strict({"true": True, "false": False}, default=None)
    number = [
        pl.col(name).cast(expected.schema[name]) for name in expected.columns if expected.schema[name].is_numeric()
    ]
    assert pl.concat(texts).with_columns(when, truth, *number).equals(expected)


@given(rows=st.integers(1, 10**10), days=st.integers(1, 400))
def test_the_plan_covers_every_row_of_every_day_once_in_order(rows: int, days: int) -> None:
    files = plan_files(rows, days)
    blocks = [block for file in files for block in file.blocks]
    assert sum(block.rows for block in blocks) == rows
    ends: dict[int, int] = {}
    for block in blocks:
        assert block.first == ends.get(block.day, 0)
        ends[block.day] = block.first + block.rows
    assert list(ends) == list(range(len(ends)))
    assert max(ends.values()) - min(ends.values()) <= 1
    stems = [file.stem for file in files]
    assert stems == sorted(set(stems))


def test_a_large_day_is_cut_into_files_in_the_order_of_time(tmp_path: Path) -> None:
    made = generate_payments(tmp_path, rows=600_000, days=1, dirty=0.0)
    assert [file.name for file in made.files] == ["2026-01-01-00000.parquet", "2026-01-01-00001.parquet"]
    assert read_all(tmp_path)["paid_at"].is_sorted()


def test_the_truth_can_be_read_back(dirty: Generated) -> None:
    assert read_truth(dirty.files[0].parent) == dirty


def test_one_row_has_no_best_possible_auc(tmp_path: Path) -> None:
    made = generate_payments(tmp_path, rows=1)
    assert made.best_possible_auc is None
    assert made.best_possible_auc_of_last(0.15) is None
    assert read_truth(tmp_path) == made


def test_a_second_call_replaces_what_the_first_one_wrote(tmp_path: Path) -> None:
    generate_payments(tmp_path, rows=100, days=10)
    made = generate_payments(tmp_path, rows=50, days=5, format="csv")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["_truth.json", *(f.name for f in made.files)])


def test_files_of_others_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("a\n1\n")
    with pytest.raises(RefusedError, match=r"mine\.csv"):
        generate_payments(tmp_path, rows=10)
    assert contents(tmp_path) == {"mine.csv": b"a\n1\n"}


def test_an_interrupted_call_leaves_whole_files_and_no_truth(tmp_path: Path) -> None:
    def stop(rows: int) -> None:
        if rows > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_payments(tmp_path, rows=100, days=10, on_progress=stop)
    assert sorted(contents(tmp_path)) == ["2026-01-01.parquet", "2026-01-02.parquet"]
    assert generate_payments(tmp_path, rows=100, days=10).rows == 100


@pytest.mark.parametrize(
    ("option", "value"), [("rows", 0), ("seed", -1), ("days", 0), ("days", 4000), ("dirty", 1.5), ("format", "xlsx")]
)
def test_an_option_out_of_its_range_is_refused_before_anything_is_written(
    tmp_path: Path, option: str, value: object
) -> None:
    with pytest.raises(ConfigError, match=f"--{option}"):
        generate_payments(tmp_path / "out", **{"rows": 10, option: value})  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        generate_payments(tmp_path / "file", rows=10)


def test_the_example_project_speaks_of_the_columns_that_are_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFOREST_DATA", os.sep)
    project = load_project(EXAMPLE)
    assert set(project.data.columns) == set(SCHEMA.names)
    kinds = {name: column.type for name, column in project.data.columns.items()}
    for name, sql in (project.features.expressions | project.data.rules).items():
        parse(sql, kinds, where=name)
