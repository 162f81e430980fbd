"""train, valid and test: what they hold is said and stored, and none that should have rows is left without."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import polars as pl
import pytest
from small_projects import orders, write_orders, write_project

import rayforest
from rayforest.errors import InputError
from rayforest.features.parts import part_facts, share_text
from rayforest.features.profile import Profile
from rayforest.formats import PROFILE
from rayforest.preparing.empty_parts import nearest_shares
from rayforest.preparing.split import TimeSketch
from rayforest.stages.show import describe

BY_TIME = {"data": 'time = "when"', "split": 'by = "time"'}


def timed(folder: Path, times: list[object], *settings: str, **sections: str) -> rayforest.Project:
    """Orders at these times, split by them."""
    frame = orders(len(times)).with_columns(when=pl.Series(times))
    write_orders(folder, frame)
    return rayforest.load_project(write_project(folder, **(BY_TIME | sections)), settings)


JANUARY, FEBRUARY, MARCH = (dt.date(2024, month, 1) for month in (1, 2, 3))


@pytest.mark.parametrize(
    ("times", "found", "shares"),
    [
        ([JANUARY] * 60 + [FEBRUARY] * 40, "2024-01-01 has 60.0%, 2024-02-01 has 40.0%", "[0.6, 0.4, 0]"),
        ([2023] * 90 + [2024] * 10, "2023 has 90.0%, 2024 has 10.0%", "[0.9, 0.1, 0]"),
        (
            [JANUARY] * 40 + [FEBRUARY] * 30 + [MARCH] * 30,
            "2024-01-01 has 40.0%, 2024-02-01 has 30.0%, 2024-03-01 has 30.0%",
            "[0.4, 0.3, 0.3]",
        ),
        ([0] * 300 + list(range(1, 41)), "41 different times: 0 has 88.2%", ""),
    ],
    ids=["two months", "two years", "three months", "a default time"],
)
def test_a_part_that_a_split_by_time_leaves_empty_is_refused_with_the_cuts_that_are_possible(
    tmp_path: Path, times: list[object], found: str, shares: str
) -> None:
    project = timed(tmp_path, times)
    with pytest.raises(InputError, match="a split by time does not divide rows of one time") as caught:
        rayforest.prepare(project)
    assert found in caught.value.found
    assert not list(tmp_path.glob("out/prepared/*/data"))  # before a row is written
    offered = re.search(r"split\.shares = (\[.*?\])", caught.value.next_step)
    assert offered is not None
    if shares:
        assert offered[1] == shares
    result = rayforest.prepare(tmp_path / "project.toml", overrides=[f"split.shares={offered[1]}"], replace=True)
    parts = result.as_dict()["parts"]
    wanted = [share > 0 for share in json.loads(offered[1])]
    assert [bool(parts.get(part)) for part in ("train", "valid", "test")] == wanted  # type: ignore[attr-defined]


def test_one_time_for_all_rows_cannot_be_cut_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the valid and test parts have no rows") as caught:
        rayforest.prepare(timed(tmp_path, [JANUARY] * 50))
    assert "one time only: 2024-01-01 has 100.0%" in caught.value.found
    assert caught.value.next_step == 'a finer data.time, or split.by = "hash"'


def test_a_share_of_zero_needs_no_rows_and_one_time_is_never_divided(tmp_path: Path) -> None:
    result = rayforest.prepare(timed(tmp_path, [JANUARY] * 55 + [FEBRUARY] * 45, "split.shares=[0.5, 0.5, 0]"))
    assert result.as_dict()["parts"] == {"train": 55, "valid": 45}
    out = rayforest.read(result.destination).collect()
    raw = pl.read_parquet(tmp_path / "raw/*.parquet")
    assert out.join(raw, on="id").group_by("when").agg(pl.col("split").n_unique())["split"].to_list() == [1, 1]


def test_a_part_whose_rows_are_all_quarantined_is_refused_with_the_reasons(tmp_path: Path) -> None:
    frame = orders(100).with_columns(when=pl.int_range(100), bought=pl.when(pl.int_range(100) < 85).then("bought"))
    write_orders(tmp_path, frame)
    with pytest.raises(InputError, match="the test part has no rows") as caught:
        rayforest.prepare(write_project(tmp_path, **BY_TIME))
    assert caught.value.found == "train 70, valid 15, test 0 rows; quarantined: 15 x the target is missing"
    assert not (tmp_path / "out/prepared/current").exists()


def test_few_keys_that_leave_a_part_empty_are_counted(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(300).with_columns(customer=pl.int_range(300) % 3), files=3)
    with pytest.raises(InputError, match=r"no rows: 3 different values of customer are too few to divide") as caught:
        rayforest.prepare(write_project(tmp_path, split='key = "customer"'))
    assert "3 different values of customer" in caught.value.found
    assert "split.shares" in caught.value.next_step
    assert not (tmp_path / "out/prepared/current").exists()
    shares = rayforest.prepare(tmp_path / "project.toml", overrides=["split.shares=[1, 0, 0]"], replace=True).as_dict()[
        "parts"
    ]
    assert shares == {"train": 300}


def test_rows_dates_and_label_shares_of_the_parts_are_in_the_result_in_show_and_in_the_profile(tmp_path: Path) -> None:
    times = [dt.datetime(2024, 1, 1) + dt.timedelta(hours=h) for h in range(200)]
    result = rayforest.prepare(timed(tmp_path, times))
    out = rayforest.read(result.destination).collect()
    facts = result.facts.by_part
    assert [facts[part]["rows"] for part in ("train", "valid", "test")] == [140, 30, 30]  # type: ignore[index]
    assert facts["train"]["from"] == "2024-01-01"  # type: ignore[index]
    assert facts["train"]["to"] == "2024-01-06 19:00:00"  # type: ignore[index]
    assert facts["valid"]["from"] == "2024-01-06 20:00:00"  # type: ignore[index]
    for part, fact in facts.items():  # type: ignore[attr-defined]
        rows = out.filter(pl.col("split") == part)
        assert fact["labels"]["true"] == pytest.approx(rows["target"].mean())
    assert describe(result.destination)["parts"] == facts
    again = rayforest.prepare(tmp_path / "project.toml")
    assert again.resumed
    assert again.facts == result.facts


def test_the_mean_of_a_quantity_is_given_by_part(tmp_path: Path) -> None:
    write_orders(tmp_path, orders(300), files=2)
    result = rayforest.prepare(write_project(tmp_path), overrides=["data.target=spent"])
    out = rayforest.read(result.destination).collect()
    for part, fact in result.facts.by_part.items():  # type: ignore[attr-defined]
        assert fact["mean"] == pytest.approx(out.filter(pl.col("split") == part)["target"].mean())


def test_labels_of_text_that_look_like_numbers_are_shown_as_they_are_written() -> None:
    profile = Profile(parts={"train": 4})
    profile.count_labels("train", pl.Series(["1.0", "1", "1", "2"]))
    assert part_facts(profile)["train"]["labels"] == {"1": 0.5, "1.0": 0.25, "2": 0.25}
    numbers = Profile(parts={"train": 4})
    numbers.count_labels("train", pl.Series([1.0, 1.0, 1.5, 2.0]))
    assert part_facts(numbers)["train"]["labels"] == {"1": 0.5, "1.5": 0.25, "2": 0.25}


def test_a_rare_label_is_not_mistaken_for_a_missing_one() -> None:
    assert [share_text(share) for share in (0.0, 1 / 3_500, 0.25, 1 - 1 / 3_500, 1.0)] == [
        "0.0%",
        "0.029%",
        "25.0%",
        "over 99.9%",
        "100.0%",
    ]


def test_a_profile_without_these_facts_is_read() -> None:
    old = Profile().as_dict()
    for name in ("target_sums", "spans", "timestamps", "split_keys"):
        del old[name]
    assert PROFILE.take(old, "profile.json", Profile.from_document).spans == {}


@pytest.mark.parametrize("sizes", [[7, 1], [1, 99], [50, 1, 1, 900], [3] * 40, [1, 1, 1], [10**6, 1, 1, 1]])
@pytest.mark.parametrize("shares", [(0.7, 0.15, 0.15), (0.98, 0.01, 0.01), (0.5, 0, 0.5), (0.6, 0.4, 0)])
def test_shares_that_are_offered_leave_no_part_empty(sizes: list[int], shares: tuple[float, float, float]) -> None:
    sketch = TimeSketch(0, dict(enumerate(sizes)))
    offered = nearest_shares(sketch, shares)
    assert offered is not None
    assert sum(offered) == pytest.approx(1)
    rows = sketch.sizes(sketch.cuts(offered))
    assert [bool(n) for n in rows] == [share > 0 for share in offered]


def test_a_time_that_folders_are_named_after_is_refused_with_the_way_out_and_read_when_it_is_declared(
    tmp_path: Path,
) -> None:
    for day, frame in enumerate((orders(60), orders(60, first=60), orders(60, first=120)), 1):
        (folder := tmp_path / f"raw/day=2026-01-0{day}").mkdir(parents=True)
        frame.write_parquet(folder / "part.parquet")
    settings = {"data": 'time = "day"', "split": 'by = "time"\nshares = [0.33, 0.33, 0.34]'}
    with pytest.raises(rayforest.RayforestError, match=r"data\.time is a string") as caught:
        rayforest.prepare(write_project(tmp_path, **settings))
    assert "[data.columns]" in caught.value.next_step
    write_project(tmp_path, **settings, **{"data.columns": 'day = "timestamp"'})
    assert rayforest.prepare(tmp_path / "project.toml").rows_out == 180
