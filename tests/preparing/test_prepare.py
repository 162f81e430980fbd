"""prepare: every row comes out once, or lies in quarantine with its reason; the split leaks nothing."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_projects import COLOURS, Listener, Payments, Ran, orders, write_orders, write_project

import rayforest
from rayforest.errors import ConfigError, InputError, UnfinishedError
from rayforest.payments import Defect
from rayforest.tuning.dataset import PreparedData


def quarantined(destination: str | Path) -> pl.DataFrame:
    paths = list(rayforest.files(destination, quarantine=True))
    return pl.concat([pl.read_parquet(path) for path in paths]) if paths else pl.DataFrame()


def test_dirty_payments_are_accounted_for_as_the_generator_knows(payments: Payments, tmp_path: Path) -> None:
    result = rayforest.prepare(payments.at(tmp_path))
    truth = payments.truth
    assert (result.rows_in, result.rows_quarantined) == (truth.rows, truth.rejected)
    assert result.rows_out == truth.rows - truth.rejected
    rows = quarantined(tmp_path / "prepared")
    assert rows.height == truth.rejected

    def failing(text: str) -> int:
        return rows.filter(pl.col("reason").str.contains(text, literal=True)).height

    assert failing("the key is repeated") == truth.duplicated_keys
    assert failing("amount is not a number") == truth.defects[Defect.MISTYPED_AMOUNT]
    assert failing("amount is below 0.01") == truth.defects[Defect.NEGATIVE_AMOUNT]
    assert failing("paid_at is below 2020-01-01") == truth.defects[Defect.WRONG_CLOCK]
    assert failing("the target is missing") == truth.defects[Defect.MISSING_LABEL]
    good = rayforest.read(tmp_path / "prepared").collect()
    assert good["payment_id"].is_unique().all()
    assert good["card_age_days"].min() >= 0  # -999 is missing
    assert "N/A" not in good["merchant_category"]


def test_quarantine_names_file_row_reason_and_raw_values(tmp_path: Path) -> None:
    frame = orders(20).with_columns(pl.col("amount").cast(pl.String))
    frame[7, "amount"] = "twelve"
    write_orders(tmp_path, frame, files=2)
    project = write_project(tmp_path, **{"data.columns": 'amount = "number"'})
    assert rayforest.prepare(project).reasons == {"amount is not a number": 1}
    (row,) = quarantined(tmp_path / "out/prepared").to_dicts()
    assert (row["file"], row["row"], row["reason"]) == ("part-000.parquet", 7, "amount is not a number")
    assert json.loads(row["raw"])["amount"] == "twelve"


@pytest.mark.parametrize("shard_rows", [7, 100, 100_000])
def test_the_first_row_keeps_a_key_whatever_the_shards(tmp_path: Path, shard_rows: int) -> None:
    rng = np.random.default_rng(1)
    frame = orders(300).with_columns(pl.Series("id", [f"k{i}" for i in rng.integers(0, 120, 300)]))
    write_orders(tmp_path, frame, files=4)
    result = rayforest.prepare(write_project(tmp_path, run=f"shard_rows = {shard_rows}"))
    first = frame.unique("id", keep="first", maintain_order=True)
    out = rayforest.read(tmp_path / "out/prepared").collect()
    assert out["id"].to_list() == first["id"].to_list()
    assert out["amount"].to_list() == first["amount"].to_list()
    assert result.reasons == {"the key is repeated": 300 - first.height}


def test_a_key_of_two_columns_repeats_only_where_both_do(tmp_path: Path) -> None:
    frame = orders(6).with_columns(
        id=pl.Series(["a", "a", "b", "b", "a", "ab"]), customer=pl.Series([1, 2, 1, 1, 1, 1])
    )
    write_orders(tmp_path, frame)
    project = write_project(tmp_path).read_text().replace('key = "id"', 'key = ["id", "customer"]')
    result = rayforest.prepare(write_project(tmp_path, project))
    assert rayforest.read(result.destination).select("id", "customer").collect().rows() == [
        ("a", 1),
        ("a", 2),
        ("b", 1),
        ("ab", 1),
    ]


def test_a_row_without_its_key_is_quarantined_and_repeats_nothing(tmp_path: Path) -> None:
    frame = orders(10).with_columns(id=pl.Series([None, None, "", *"abcdefg"]))
    write_orders(tmp_path, frame)
    result = rayforest.prepare(write_project(tmp_path))
    assert result.rows_out == 7
    assert result.reasons == {"id is missing": 3}


def test_categories_are_those_of_training_rows_by_their_utf8_bytes(tmp_path: Path) -> None:
    frame = orders(400)
    write_orders(tmp_path, frame, files=2)
    rayforest.prepare(write_project(tmp_path))
    data = PreparedData(str(tmp_path / "out/prepared"))
    out = rayforest.read(tmp_path / "out/prepared").collect()
    training = out.filter(pl.col("split") == "train")["colour"].drop_nulls().unique().to_list()
    assert data.features.categories == {"colour": sorted(training, key=str.encode)}
    assert data.features.categories["colour"] != sorted(COLOURS, key=str.lower)


def test_a_category_that_only_test_rows_have_is_not_fitted(tmp_path: Path) -> None:
    plain = orders(200)
    write_orders(tmp_path, plain)
    rayforest.prepare(write_project(tmp_path))
    held_out = rayforest.read(tmp_path / "out/prepared").filter(pl.col("split") == "test").collect()["id"][0]
    frame = plain.with_columns(colour=pl.when(pl.col("id") == held_out).then(pl.lit("rare")).otherwise("colour"))
    write_orders(tmp_path / "again", frame)
    rayforest.prepare(write_project(tmp_path / "again"))
    assert "rare" in rayforest.read(tmp_path / "again/out/prepared").collect()["colour"]
    assert "rare" not in PreparedData(str(tmp_path / "again/out/prepared")).features.categories["colour"]


def split_by_id(destination: Path) -> dict[str, str]:
    return dict(rayforest.read(destination).select("id", "split").collect().iter_rows())


def test_rows_of_a_split_key_stay_together_and_shares_are_about_right(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(3_000))
    project = write_project(tmp_path, split='key = "customer"\nshares = [0.6, 0.2, 0.2]')
    rayforest.prepare(project)
    frame = (
        orders(3_000)
        .select("id", "customer")
        .join(rayforest.read(tmp_path / "out/prepared").collect(), on="id", how="inner")
    )
    assert frame.group_by("customer").agg(pl.col("split").n_unique())["split"].max() == 1
    shares = dict(frame["split"].value_counts(normalize=True).iter_rows())
    assert shares["train"] == pytest.approx(0.6, abs=0.06)
    assert shares["test"] == pytest.approx(0.2, abs=0.06)


def test_new_rows_do_not_move_old_ones_to_another_part(tmp_path: Path) -> None:
    write_orders(tmp_path / "a", orders(300))
    write_orders(tmp_path / "b", pl.concat([orders(200, seed=9, first=5_000), orders(300)]), files=3)
    for name in "ab":
        rayforest.prepare(write_project(tmp_path / name))
    before, after = (split_by_id(tmp_path / name / "out/prepared") for name in "ab")
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("key", ["id", "customer", "amount", "member", "at"])
def test_csv_and_parquet_of_the_same_rows_split_alike(tmp_path: Path, key: str) -> None:
    frame = orders(200).drop_nulls()
    write_orders(tmp_path / "parquet", frame, form="parquet")
    write_orders(tmp_path / "csv", frame, form="csv")
    splits = []
    for name in ("parquet", "csv"):
        shares = "[0.7, 0.3, 0]" if key == "member" else "[0.7, 0.15, 0.15]"  # two values make two parts at most
        rayforest.prepare(write_project(tmp_path / name, split=f'key = "{key}"\nshares = {shares}'))
        splits.append(split_by_id(tmp_path / name / "out/prepared"))
    assert splits[0] == splits[1]


def test_a_split_by_time_overlaps_nowhere(payments: Payments, tmp_path: Path) -> None:
    rayforest.prepare(payments.at(tmp_path))
    out = rayforest.read(tmp_path / "prepared").select("payment_id", "split").collect()
    raw = pl.concat([pl.read_parquet(path) for path in payments.truth.files]).unique("payment_id", keep="first")
    times = (
        out.join(raw, on="payment_id")
        .group_by("split")
        .agg(first=pl.col("paid_at").min(), last=pl.col("paid_at").max(), rows=pl.len())
    )
    part = {row["split"]: row for row in times.to_dicts()}
    assert part["train"]["last"] < part["valid"]["first"] <= part["valid"]["last"] < part["test"]["first"]
    assert part["train"]["rows"] / out.height == pytest.approx(0.7, abs=0.02)


def test_the_cuts_in_time_do_not_depend_on_the_shards(tmp_path: Path) -> None:
    frame = orders(300).with_columns(at=np.sort(np.random.default_rng(0).integers(0, 40, 300)) + 0.0)
    frame = frame.with_columns(at=pl.when(pl.int_range(pl.len()) > 250).then(pl.col("at") + 0.25).otherwise("at"))
    splits = []
    for shard_rows in (50, 1_000):
        folder = tmp_path / str(shard_rows)
        write_orders(folder, frame)
        text = write_project(folder).read_text().replace("EXTRACT(HOUR FROM at)", "visits")
        project = write_project(folder, text, data='time = "at"', split='by = "time"', run=f"shard_rows = {shard_rows}")
        rayforest.prepare(project)
        splits.append(split_by_id(folder / "out/prepared"))
    assert splits[0] == splits[1]


def test_a_null_target_is_quarantined(tmp_path: Path) -> None:
    frame = orders(50).with_columns(bought=pl.when(pl.int_range(pl.len()) >= 4).then("bought"))
    write_orders(tmp_path, frame)
    result = rayforest.prepare(write_project(tmp_path))
    assert (result.rows_out, result.reasons) == (46, {"the target is missing": 4})


def test_an_infinite_target_is_quarantined_here_and_not_measured_by_score(tmp_path: Path) -> None:
    frame = orders(200).with_columns(spent=pl.when(pl.int_range(pl.len()) >= 2).then("spent").otherwise(float("inf")))
    write_orders(tmp_path, frame)
    result = rayforest.run(write_project(tmp_path), overrides=["data.target=spent"])
    assert result.prepared.reasons == {"the target is infinite": 2}
    assert result.scored.rows_out == 200
    assert np.isfinite(result.scored.metrics["rmse"])


def test_a_table_without_a_target_or_a_key_is_prepared(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(50))
    text = write_project(tmp_path).read_text().replace('target = "bought"\n', "").replace('key = "id"\n', "")
    rayforest.prepare(write_project(tmp_path, text))
    out = rayforest.read(tmp_path / "out/prepared").collect()
    assert out.columns == ["split", "amount", "ratio", "colour", "hour", "is_member"]
    assert out.height == 50


@pytest.mark.parametrize(
    "keys",
    [
        pl.Series("id", [3, 1, 2], dtype=pl.Int16),
        pl.Series("id", [2**63 - 1, 0, -1], dtype=pl.Int64),
        pl.Series("id", [0.1, 1e300, -0.0]),
        pl.Series("id", [dt.date(2026, 1, d) for d in (1, 2, 3)]),
        pl.Series(
            "id", [dt.datetime(2026, 1, 1, 0, 0, 0, us) for us in (1, 2, 3)], dtype=pl.Datetime("ns", "Europe/Oslo")
        ),
        pl.Series("id", ["x", " y ", "Ü\n"]),
        pl.Series("id", ["1.50", "2.25", "3.00"]).cast(pl.Decimal(10, 2)),
    ],
    ids=str,
)
def test_key_columns_come_out_as_they_went_in(tmp_path: Path, keys: pl.Series) -> None:
    write_orders(tmp_path, orders(3).with_columns(keys))
    rayforest.prepare(write_project(tmp_path))
    out = rayforest.read(tmp_path / "out/prepared").collect()["id"]
    assert out.dtype == keys.dtype
    assert out.to_list() == keys.to_list()


def test_a_key_that_another_file_stores_differently_keeps_its_value_or_fails(tmp_path: Path) -> None:
    raw = write_orders(tmp_path, orders(4).with_columns(id=pl.Series([1, 2, 3, 4])))
    orders(4).with_columns(id=pl.Series([5.0, 6.5, 7.0, 8.0])).write_parquet(raw / "x.parquet")
    orders(4).with_columns(id=pl.Series(["9", "ten", "11", "2"])).write_parquet(raw / "y.parquet")
    orders(1).with_columns(id=pl.Series([True])).write_parquet(raw / "z.parquet")
    orders(1).with_columns(id=pl.Series([dt.date(2026, 1, 1)])).write_parquet(raw / "zz.parquet")
    result = rayforest.prepare(write_project(tmp_path), overrides=['data.columns.id="number"'])
    assert rayforest.read(result.destination).collect()["id"].to_list() == [1, 2, 3, 4, 5, 6.5, 7, 8, 9, 11]
    assert result.reasons == {"the key is repeated": 2, "id is not a number": 2}
    assert result.rows_in == 14 == result.rows_out + result.rows_quarantined


@pytest.mark.parametrize("name", ["split", "target", "amount"])
def test_a_key_may_have_the_name_of_an_output_column(tmp_path: Path, name: str) -> None:
    frame = orders(30).with_columns(pl.col("id").alias("amount" if name == "amount" else "id"))
    frame = frame.with_columns(pl.lit(1.0).alias("price")).rename({} if name == "amount" else {"id": name})
    write_orders(tmp_path, frame)
    text = write_project(tmp_path).read_text().replace('key = "id"', f'key = "{name}"')
    text = text.replace('amount = "amount"', 'amount = "price"').replace('"amount / ', '"price / ')
    rayforest.prepare(write_project(tmp_path, text))
    assert rayforest.read(tmp_path / "out/prepared").collect()[f"key.{name}"].n_unique() == 30


def test_arrow_files_with_types_that_parquet_lacks_are_read(tmp_path: Path) -> None:
    import pyarrow as pa

    table = orders(5).to_arrow().set_column(0, "id", pa.array([0, 1, 2, 3, 4], pa.timestamp("s")))
    table = table.append_column("day", pa.array([dt.date(2026, 1, d) for d in range(1, 6)], pa.date64()))
    (tmp_path / "raw").mkdir()
    with pa.ipc.new_file(tmp_path / "raw" / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    text = write_project(tmp_path).read_text().replace('key = "id"', 'key = ["id", "day"]')
    result = rayforest.prepare(write_project(tmp_path, text))
    assert result.rows_out == 5
    assert rayforest.read(result.destination).collect()["day"].to_list() == [dt.date(2026, 1, d) for d in range(1, 6)]


def test_one_row_is_prepared(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(1))
    assert rayforest.prepare(write_project(tmp_path)).rows_out == 1


def test_no_rows_and_no_good_rows_are_refused_and_publish_nothing(tmp_path: Path) -> None:
    write_orders(tmp_path / "none", orders(1).head(0))
    write_orders(tmp_path / "bad", orders(20).with_columns(bought=pl.lit(None, pl.Boolean)))
    for name, found in (
        ("none", "files without rows"),
        ("bad", "20 rows, all of them quarantined: the target is missing"),
    ):
        with pytest.raises(InputError, match="no row is left") as caught:
            rayforest.prepare(write_project(tmp_path / name))
        assert caught.value.found == found
        assert not (tmp_path / name / "out/prepared/current").exists()


def test_too_many_bad_rows_end_the_run_and_publish_nothing(tmp_path: Path) -> None:
    frame = orders(100).with_columns(bought=pl.when(pl.int_range(pl.len()) >= 3).then("bought"))
    write_orders(tmp_path, frame)
    for setting in ('data.on_bad_row="fail"', "data.error_budget=2", "data.error_budget=0.02"):
        with pytest.raises(UnfinishedError, match="error budget") as caught:
            rayforest.prepare(write_project(tmp_path), overrides=[setting])
        assert "the target is missing (3)" in caught.value.found
        assert not (tmp_path / "out/prepared/current").exists()
    for setting in ("data.error_budget=3", "data.error_budget=0.03"):
        assert rayforest.prepare(write_project(tmp_path), overrides=[setting]).rows_quarantined == 3


def test_a_missing_column_in_one_file_is_named_and_publishes_nothing(tmp_path: Path) -> None:
    raw = write_orders(tmp_path, orders(40), files=2)
    orders(10).drop("colour").write_parquet(raw / "x.parquet")
    with pytest.raises(InputError, match=r"x.parquet has no column 'colour'"):
        rayforest.prepare(write_project(tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_column_that_changes_type_between_files_quarantines_what_does_not_fit(tmp_path: Path) -> None:
    raw = write_orders(tmp_path, orders(30))
    texts = ["12.5", "n/a", "7"]
    orders(3, first=100).with_columns(amount=pl.Series(texts)).write_parquet(raw / "x.parquet")
    result = rayforest.prepare(write_project(tmp_path))
    assert result.reasons == {"amount is not a number": 1}
    assert rayforest.read(result.destination).collect()["amount"].tail(2).to_list() == [12.5, 7.0]


def test_columns_that_are_not_read_are_said_and_left_out(tmp_path: Path) -> None:
    from decimal import Decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    raw = write_orders(tmp_path, orders(30))
    table = orders(30).to_arrow().append_column("wide", pa.array([Decimal(1)] * 30, pa.decimal256(50, 0)))
    pq.write_table(table.append_column("tags", pa.array([["a"]] * 30)), raw / "part-000.parquet")
    text = write_project(tmp_path).read_text()
    text = text[: text.index("[features]")] + text[text.index("[tune]") :]
    said = Listener()
    rayforest.prepare(write_project(tmp_path, text), reporter=said)
    assert [m for m in said.messages if "left out" in m] == [
        "prepare: column wide is left out, because rayforest does not read decimal256(50, 0)",
        "prepare: column tags is left out, because rayforest does not read list<element: string>",
    ]
    out = rayforest.read(tmp_path / "out/prepared").collect()
    assert {"amount", "visits", "colour", "customer"} <= set(out.columns)
    assert not {"wide", "tags", "bought", "at"} & set(out.columns)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (['split.by="time"'], 'split.by = "time" needs a time'),
        (['data.time="colour"'], "data.time is a string"),
        (['data.target="at"'], "data.target is a timestamp"),
        (['data.positive="yes"'], "data.positive = 'yes' never equals the target, which is a boolean"),
        (['features.when="at"'], "features.when is a timestamp"),
        (['features.target="amount"'], "features.target: this name is taken by the target or the split"),
        (['features.categorical=["color"]'], "features.categorical names 'color', which is no feature"),
        (['data.columns.at={type="timestamp", min="soon"}'], "data.columns.at.min is not a timestamp"),
        (['data.columns.colr="string"'], "data.columns.colr: the data has no column 'colr'"),
        (['score.carry="cstomer"'], "score.carry: the data has no column 'cstomer'"),
        (['data.rules=["amount + 1"]'], "data.rules.amount + 1 is a number"),
    ],
)
def test_a_project_that_does_not_fit_its_data_is_refused_by_prepare_and_check(
    ran: Ran, tmp_path: Path, settings: list[str], what: str
) -> None:
    project, root = ran.folder / "project.toml", f'project.root="{tmp_path}"'
    for command in (rayforest.prepare, rayforest.check):
        with pytest.raises(ConfigError) as caught:
            command(project, overrides=[*settings, root])
        assert caught.value.what == what
    assert not list(tmp_path.iterdir())
