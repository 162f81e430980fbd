"""score: new tables, with and without the truth, written in other ways, with values that training never saw."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from sklearn import metrics as sk
from small_projects import PROJECT, Payments, Ran, orders, write_orders, write_project

import rayforest
from rayforest.errors import ConfigError, InputError, UnfinishedError


def new_orders(folder: Path, frame: pl.DataFrame, **options: object) -> str:
    """FOLDER/new with one Parquet file of these rows."""
    (folder / "new").mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / "new" / "a.parquet")
    return f'score.source="{folder}/new"'


def scored(ran: Ran, folder: Path, *settings: str) -> tuple[rayforest.StageResult, pl.DataFrame]:
    """Score with the bundle of `ran` into FOLDER/scored."""
    result = rayforest.score(
        ran.folder / "project.toml", overrides=[*settings, f'score.destination="{folder}/scored"'], replace=True
    )
    return result, rayforest.read(folder / "scored").collect()


def test_metrics_and_columns_of_the_scored_training_rows(ran: Ran) -> None:
    out = rayforest.read(ran.project.stage("scored")).collect()
    assert dict(out.schema) == {
        "id": pl.String(),
        "customer": pl.Int64(),
        "at": pl.Datetime("us"),
        "bought": pl.Boolean(),
        "prediction": pl.Boolean(),
        "probability": pl.Float64(),
        "split": pl.String(),
    }
    raw = pl.read_parquet(ran.folder / "raw/*.parquet")
    assert out.select("id", "customer", "at", "bought").equals(raw.select("id", "customer", "at", "bought"))
    assert (out["prediction"] == (out["probability"] > 0.5)).all()
    result = ran.result.scored
    assert out["split"].equals(rayforest.read(ran.project.stage("prepared")).collect()["split"])
    for part, found in result.as_dict()["metrics_by_part"].items():  # type: ignore[attr-defined]
        rows = out.filter(split=part)
        assert found["rows"] == rows.height > 0
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(rows["bought"], rows["prediction"]))
    found, out = result.metrics, out.filter(split="test")
    assert found["log_loss"] == pytest.approx(sk.log_loss(out["bought"], out["probability"]))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(out["bought"], out["prediction"]))
    assert found["auc"] == pytest.approx(sk.roc_auc_score(out["bought"], out["probability"]), abs=1e-4)


def test_rows_without_the_target_are_scored_alike_and_have_no_metrics(ran: Ran, tmp_path: Path) -> None:
    raw = pl.read_parquet(ran.folder / "raw/*.parquet")
    source = new_orders(tmp_path, raw.drop("bought").with_columns(extra=pl.lit(1), another=pl.lit("x")))
    result, out = scored(ran, tmp_path, source, 'score.carry=["customer", "another"]')
    assert result.metrics == {}
    assert (result.rows_in, result.rows_out) == (1_200, 1_200)
    assert out.columns == ["id", "customer", "another", "prediction", "probability"]
    before = rayforest.read(ran.project.stage("scored")).collect()
    assert out["probability"].equals(before["probability"])


def test_a_null_target_is_scored_and_only_known_ones_are_measured(ran: Ran, tmp_path: Path) -> None:
    frame = orders(100, seed=8).with_columns(bought=pl.when(pl.int_range(pl.len()) >= 60).then("bought"))
    result, out = scored(ran, tmp_path, new_orders(tmp_path, frame), "score.carry=[]")
    assert (result.rows_out, result.rows_quarantined) == (100, 0)
    assert result.metrics["accuracy"] == pytest.approx((out["prediction"] == frame["bought"]).tail(40).mean())


def test_files_with_and_without_the_target_may_be_mixed(ran: Ran, tmp_path: Path) -> None:
    old, new = orders(50, seed=1), orders(30, seed=2).drop("bought")
    source = new_orders(tmp_path, new)
    old.write_parquet(tmp_path / "new/b.parquet")
    result, out = scored(ran, tmp_path, source, "score.carry=[]")
    assert result.rows_out == 80
    assert result.metrics["accuracy"] == pytest.approx((out["prediction"].tail(50) == old["bought"]).mean())


def test_keys_are_not_checked_for_uniqueness_but_must_be_there(ran: Ran, tmp_path: Path) -> None:
    frame = orders(6).with_columns(id=pl.Series(["a", "a", None, "b", "a", ""]))
    result, out = scored(ran, tmp_path, new_orders(tmp_path, frame), "score.carry=[]")
    assert result.reasons == {"id is missing": 2}
    assert out["id"].to_list() == ["a", "a", "b", "a"]


def test_an_unseen_category_counts_as_missing(ran: Ran, tmp_path: Path) -> None:
    frame = orders(40, seed=4)
    outs = []
    for name, colour in (("unseen", pl.lit("turquoise")), ("missing", pl.lit(None, pl.String))):
        source = new_orders(tmp_path / name, frame.with_columns(colour=colour))
        outs.append(scored(ran, tmp_path / name, source)[1])
    assert outs[0].equals(outs[1])


def test_an_unseen_category_is_quarantined_where_the_project_says_so(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(300))
    path = write_project(tmp_path, features='unseen = "quarantine"')
    rayforest.run(path)
    frame = orders(20).with_columns(colour=pl.Series(["turquoise"] * 3 + [None] * 2 + ["red"] * 15))
    result = rayforest.score(path, overrides=[new_orders(tmp_path, frame)], replace=True)
    assert (result.rows_out, result.reasons) == (17, {"colour is a category that training never saw": 3})


def test_csv_in_another_format_scores_like_the_parquet_files(ran: Ran, tmp_path: Path) -> None:
    raw = pl.read_parquet(ran.folder / "raw/*.parquet")
    (tmp_path / "new").mkdir()
    text = raw.drop("bought").write_csv(separator=";", null_value="?", datetime_format="%Y-%m-%d %H:%M:%S")
    (tmp_path / "new/a.txt").write_text("made by hand\n" + text.replace("Äpfel", " Äpfel "), encoding="latin-1")
    _, out = scored(
        ran,
        tmp_path,
        f'score.source="{tmp_path}/new/a.txt"',
        'score.format={type="csv", delimiter=";", null_words=["?"], skip_lines=1, trim=true, encoding="latin-1"}',
        'score.carry=["customer"]',
    )
    assert out["customer"].dtype == pl.String
    before = rayforest.read(ran.project.stage("scored")).collect()
    assert out["probability"].equals(before["probability"])


def test_bad_rows_are_quarantined_with_the_reason(payments: Payments, tmp_path: Path) -> None:
    project = payments.at(tmp_path)
    result = rayforest.run(project).scored
    defects = payments.truth.defects
    bad = defects["mistyped_amount"] + defects["negative_amount"] + defects["wrong_clock"]  # type: ignore[index]
    assert result.rows_in == payments.truth.rows == result.rows_out + result.rows_quarantined
    assert result.rows_quarantined == bad
    out = rayforest.read(project.stage("scored")).collect()
    assert out["probability"].is_between(0, 1).all()
    assert out["paid_at"].dtype.is_temporal()


def test_too_many_bad_rows_end_the_run_and_publish_nothing(ran: Ran, tmp_path: Path) -> None:
    source = new_orders(tmp_path, orders(30).with_columns(id=pl.when(pl.int_range(pl.len()) >= 5).then("id")))
    for setting in ('data.on_bad_row="fail"', "data.error_budget=4", "data.error_budget=0.1"):
        with pytest.raises(UnfinishedError, match="error budget"):
            scored(ran, tmp_path, source, setting)
    assert not (tmp_path / "scored/current").exists()
    assert scored(ran, tmp_path, source, "data.error_budget=5")[0].rows_quarantined == 5


def test_a_source_that_lacks_a_needed_column_is_refused_by_name(ran: Ran, tmp_path: Path) -> None:
    source = new_orders(tmp_path, orders(10).rename({"colour": "color"}))
    with pytest.raises(InputError, match="has no column 'colour', which the bundle needs") as caught:
        scored(ran, tmp_path, source)
    assert caught.value.next_step == "did you mean 'color'?"
    with pytest.raises(InputError, match=r"'colour'"):
        rayforest.check(ran.folder / "project.toml", overrides=[source])


def test_a_carried_column_may_not_hide_an_output_column(ran: Ran, tmp_path: Path) -> None:
    source = new_orders(tmp_path, orders(10).with_columns(probability=pl.lit(0.0)))
    with pytest.raises(ConfigError, match="name of an output column"):
        scored(ran, tmp_path, source, 'score.carry=["probability"]')


def test_probability_columns_are_named_by_whole_labels(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(200).with_columns(level=pl.col("level") + 12_345_670))
    rayforest.run(write_project(tmp_path), overrides=["data.target=level", "tune.metric=log_loss"])
    out = rayforest.read(tmp_path / "out/scored").collect()
    assert out.columns[1:-1] == ["prediction", *(f"probability_1234567{level}" for level in (3, 4, 5))]
    assert set(out["prediction"]) <= {12_345_673, 12_345_674, 12_345_675}


def test_a_source_without_rows_is_an_empty_result(ran: Ran, tmp_path: Path) -> None:
    result, out = scored(ran, tmp_path, new_orders(tmp_path, orders(3).head(0)))
    assert (result.rows_in, result.rows_out, out.height) == (0, 0, 0)
    assert out.columns == ["id", "customer", "at", "bought", "prediction", "probability"]


def test_carried_values_come_out_as_they_went_in(ran: Ran, tmp_path: Path) -> None:
    frame = orders(3).with_columns(
        day=pl.Series([dt.date(2026, 1, 1), None, dt.date(1, 1, 1)]),
        small=pl.Series([1, None, -128], dtype=pl.Int8),
        note=pl.Series(["", None, " ä\n"]),
        part=pl.Series(["x", None, "y"], dtype=pl.Categorical),
        price=pl.Series(["1.50", None, "-0.01"]).cast(pl.Decimal(10, 2)),
        nothing=pl.Series([None, None, None]),
    )
    names = ["day", "small", "note", "part", "price", "nothing"]
    _, out = scored(ran, tmp_path, new_orders(tmp_path, frame), f"score.carry={names}".replace("'", '"'))
    for name in names:
        assert out[name].to_list() == frame[name].to_list(), name
        assert name == "part" or out[name].dtype == frame[name].dtype


def test_what_the_target_must_hold_is_no_business_of_score(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(300))
    target = (
        'spent = { type = "number", required = true, min = -100, max = 100 }\nlevel = { type = "number", values = [3] }'
    )
    project = write_project(tmp_path, **{"data.columns": target, "data.rules": 'known = "spent < 99"'})
    settings = ["data.target=spent", "score.carry=['spent', 'level']"]
    frame = orders(40).with_columns(
        spent=pl.when(pl.int_range(40) < 10).then(1e6).when(pl.int_range(40) >= 20).then("spent")
    )
    write_orders(tmp_path, orders(300).with_columns(level=3))
    rayforest.run(project, overrides=settings)
    result = rayforest.score(project, overrides=[*settings, new_orders(tmp_path, frame)], replace=True)
    out = rayforest.read(tmp_path / "out/scored").collect()
    assert (result.rows_quarantined, result.as_dict()["rows"]) == (0, 30)
    assert out.select("spent", "level").equals(frame.select("spent", "level"))


def test_a_carried_text_that_cannot_be_in_its_column_fails_its_row_by_name(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(300), form="csv")
    columns = 'price = { type = "number", min = 0, null_values = ["n/a"] }'
    frame = orders(300).with_columns(price=pl.Series(["1.5", "-7", "n/a", "", "abc"] * 60))
    write_orders(tmp_path, frame, form="csv")
    text = PROJECT.replace("[features]", f"[data.columns]\n{columns}\n\n[features]")
    project = write_project(tmp_path, text, score='carry = ["price"]')
    rayforest.run(project)
    result = rayforest.score(project)
    out = rayforest.read(tmp_path / "out/scored").collect()
    assert result.reasons == {"price is not a number": 60}
    assert out["price"].head(4).to_list() == [1.5, -7.0, None, None]
