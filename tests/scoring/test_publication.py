"""Scored results as commits of a Delta table: each once, whatever is killed or repeated, read by others as they are."""

from __future__ import annotations

import json
import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.table import TableFeatures
from small_projects import Ran, orders

import rayforest
from rayforest.engine.executors import InProcess
from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.local import LocalStore
from rayforest.errors import ConfigError, FormatError, InputError
from rayforest.scoring.delta_columns import delta_schema
from rayforest.scoring.publication import Publication


def new_rows(folder: Path, frame: pl.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / "a.parquet")
    return folder


def score(ran: Ran, folder: Path, source: Path | None = None, *more: str, replace: bool = True) -> dict[str, object]:
    """Score with the bundle of `ran` into FOLDER/scored and the table FOLDER/table; what --json says."""
    settings = [f'score.destination="{folder}/scored"', f'score.publish.delta="{folder}/table"', *more]
    settings += [f'score.source="{source}"'] if source is not None else []
    return rayforest.score(ran.folder / "project.toml", overrides=settings, replace=replace).as_dict()


def rows(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort("id")


def test_the_table_holds_the_scored_rows_for_deltalake_and_for_polars(ran: Ran, tmp_path: Path) -> None:
    told = score(ran, tmp_path)
    scored = rows(rayforest.read(tmp_path / "scored").collect())
    table = DeltaTable(tmp_path / "table")
    assert told["published"] == {"delta": f"{tmp_path}/table", "version": 0, "added": True}
    assert rows(pl.read_delta(str(tmp_path / "table"))).equals(scored)
    assert rows(pl.DataFrame(pl.from_arrow(pa.table(table.scan())))).equals(scored)
    assert table.count() == scored.height


def test_the_commit_is_one_and_its_txn_holds_the_plan_key(ran: Ran, tmp_path: Path) -> None:
    score(ran, tmp_path, None, "run.shard_rows=50")
    (commit,) = (tmp_path / "table" / "_delta_log").glob("*.json")
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    manifest = read_manifest(tmp_path / "scored")
    assert [a["txn"]["appId"] for a in actions if "txn" in a] == [f"rayforest:{manifest.key}"]
    assert [a["add"]["path"] for a in actions if "add" in a] == list(manifest.data_paths())
    assert len(list(manifest.data_paths())) > 3


def test_files_are_shared_on_one_file_system_and_outlive_the_result(ran: Ran, tmp_path: Path) -> None:
    score(ran, tmp_path)
    manifest = read_manifest(tmp_path / "scored")
    before = rows(pl.read_delta(str(tmp_path / "table")))
    for path in manifest.data_paths():
        assert (tmp_path / "scored" / path).samefile(tmp_path / "table" / path)
        (tmp_path / "scored" / path).unlink()
    assert rows(pl.read_delta(str(tmp_path / "table"))).equals(before)


def test_a_repeated_run_adds_nothing_and_new_rows_are_one_more_commit(ran: Ran, tmp_path: Path) -> None:
    first, second = new_rows(tmp_path / "1", orders(40)), new_rows(tmp_path / "2", orders(30, seed=4, first=1000))
    assert score(ran, tmp_path, first)["published"] == {"delta": f"{tmp_path}/table", "version": 0, "added": True}
    assert score(ran, tmp_path, first)["published"] == {"delta": f"{tmp_path}/table", "version": 0, "added": False}
    assert score(ran, tmp_path, second)["published"] == {"delta": f"{tmp_path}/table", "version": 1, "added": True}
    assert score(ran, tmp_path, first)["published"] == {"delta": f"{tmp_path}/table", "version": 1, "added": False}
    assert pl.read_delta(str(tmp_path / "table")).height == 70
    assert pl.read_delta(str(tmp_path / "table"), version=0).height == 40


def test_publishing_is_no_part_of_the_plan_key_and_comes_later_where_it_is_asked_for_later(
    ran: Ran, tmp_path: Path
) -> None:
    before = rayforest.score(
        ran.folder / "project.toml", overrides=[f'score.destination="{tmp_path}/scored"'], replace=True
    )
    assert "published" not in before.as_dict()
    told = score(ran, tmp_path, replace=False)
    assert told["resumed"]
    assert told["published"]["added"]  # type: ignore[index]


def test_the_result_of_another_destination_is_the_same_result(ran: Ran, tmp_path: Path) -> None:
    source = new_rows(tmp_path / "1", orders(40))
    score(ran, tmp_path, source)
    told = score(ran, tmp_path, source, f'score.destination="{tmp_path}/elsewhere"')
    assert told["published"]["added"] is False  # type: ignore[index]
    assert pl.read_delta(str(tmp_path / "table")).height == 40


# ---- crashes and races


@pytest.mark.parametrize("at", ["_bring", "Publication._add"])
def test_a_crash_between_the_manifest_and_the_commit_is_made_up_for(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    class CrashError(BaseException):
        pass

    def crash(*_: object) -> None:
        raise CrashError

    with monkeypatch.context() as patched:
        patched.setattr(f"rayforest.scoring.publication.{at}", crash)
        with pytest.raises(CrashError):
            score(ran, tmp_path)
    assert not (tmp_path / "table" / "_delta_log").exists()
    assert read_manifest(tmp_path / "scored").rows_out > 0
    told = score(ran, tmp_path, replace=False)
    assert (told["resumed"], told["published"]["added"]) == (True, True)  # type: ignore[index]
    assert pl.read_delta(str(tmp_path / "table")).height == told["rows_out"]


def test_many_publishers_at_once_add_a_result_once_and_all_of_them_succeed(ran: Ran, tmp_path: Path) -> None:
    destinations = []
    for number, seed in enumerate((0, 0, 0, 7, 8)):  # three of them are the same result
        source = new_rows(tmp_path / f"rows-{seed}", orders(20, seed=seed, first=100 * seed))
        destination = tmp_path / f"scored-{number}"
        rayforest.score(
            ran.folder / "project.toml",
            overrides=[f'score.destination="{destination}"', f'score.source="{source}"'],
        )
        destinations.append(str(destination))
    for table in ("new", "there"):
        if table == "there":
            schema = read_manifest(destinations[0]).schema
            write_deltalake(tmp_path / table, schema.empty_table())
        with ThreadPoolExecutor(10) as pool:
            tries = [pool.submit(published, str(tmp_path / table), where) for where in destinations * 2]
            added = [attempt.result() for attempt in tries]
        assert sum(added) == 3
        assert pl.read_delta(str(tmp_path / table)).height == 60


def published(table: str, destination: str) -> bool:
    outcome = Publication(table, "p").commit(read_manifest(destination), InProcess())
    return bool(outcome["added"])


def test_publishers_in_other_processes_add_a_result_once(ran: Ran, tmp_path: Path) -> None:
    rayforest.score(ran.folder / "project.toml", overrides=[f'score.destination="{tmp_path}/scored"'], replace=True)
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        added = pool.starmap(published, [(str(tmp_path / "table"), str(tmp_path / "scored"))] * 6, chunksize=1)
    assert sum(added) == 1
    assert pl.read_delta(str(tmp_path / "table")).height == read_manifest(tmp_path / "scored").rows_out


# ---- copies


def test_where_files_cannot_be_linked_they_are_copied_and_checked(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalStore, "link", lambda *_: False)
    source = new_rows(tmp_path / "1", orders(40))
    score(ran, tmp_path, source)
    manifest = read_manifest(tmp_path / "scored")
    for path in manifest.data_paths():
        assert (tmp_path / "table" / path).read_bytes() == (tmp_path / "scored" / path).read_bytes()
        assert not (tmp_path / "scored" / path).samefile(tmp_path / "table" / path)
        data = bytearray((tmp_path / "scored" / path).read_bytes())
        data[10] ^= 1
        (tmp_path / "scored" / path).write_bytes(data)
    with pytest.raises(FormatError, match="is damaged or was changed"):
        Publication(str(tmp_path / "other"), "p").commit(manifest, InProcess())
    assert not list((tmp_path / "other").rglob("*.parquet"))
    assert not (tmp_path / "other" / "_delta_log").exists()


def test_a_link_is_no_file_of_another_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    store = LocalStore(str(tmp_path / "store"))
    assert store.link(str(tmp_path / "a"), "x/b")
    assert not store.link(str(tmp_path / "a"), "x/b"), "a name that is taken stays what it is"
    assert (tmp_path / "store/x/b").read_text() == "a"
    assert not store.link(str(tmp_path / "nothing"), "x/c")


# ---- refusals, before anything is scored


def refused(ran: Ran, folder: Path, *more: str) -> InputError:
    with pytest.raises(InputError) as found:
        score(ran, folder, None, *more)
    assert not (folder / "scored").exists(), "it is refused before any work"
    return found.value


def test_tables_that_scored_rows_do_not_fit_are_refused_before_any_work(ran: Ran, tmp_path: Path) -> None:
    rayforest.score(ran.folder / "project.toml", overrides=[f'score.destination="{tmp_path}/before"'], replace=True)
    rows_there = rayforest.read(tmp_path / "before").collect().to_arrow()

    def table(name: str, data: pa.Table, **options: object) -> Path:
        write_deltalake(tmp_path / name / "table", data, **options)
        return tmp_path / name

    partitioned = table("partitioned", rows_there, partition_by=["split"])
    assert refused(ran, partitioned).found == "it is partitioned by split"
    other = table(
        "other", rows_there.drop_columns(["split"]).set_column(0, "id", pa.nulls(rows_there.num_rows, pa.int32()))
    )
    assert refused(ran, other).found == "it has no column 'split'; its column 'id' is integer, not string"
    must = pa.schema([*rows_there.schema, pa.field("more", pa.int64(), nullable=False)])
    strict = table("strict", pa.table([*rows_there.columns, pa.array([1] * rows_there.num_rows)], schema=must))
    assert "its column 'more' may not be null" in refused(ran, strict).found
    ruled = table("ruled", rows_there)
    DeltaTable(ruled / "table").alter.add_constraint({"known": "id IS NOT NULL"})
    assert "delta.constraints.known" in refused(ran, ruled).found
    tracked = table("tracked", rows_there)
    DeltaTable(tracked / "table").alter.add_feature(TableFeatures.RowTracking, allow_protocol_versions_increase=True)
    assert "rowTracking" in refused(ran, tracked).found
    wider = table("wider", rows_there.append_column("more", pa.nulls(rows_there.num_rows, pa.int64())))
    told = score(ran, wider)
    assert told["published"] == {"delta": f"{wider}/table", "version": 1, "added": True}
    assert pl.read_delta(str(wider / "table"))["more"].null_count() == 2 * rows_there.num_rows


@pytest.mark.parametrize(
    "kind", [pa.uint8(), pa.uint64(), pa.timestamp("ns"), pa.float16(), pa.null(), pa.time64("us")]
)
def test_types_that_delta_does_not_have_are_refused_by_name(kind: pa.DataType) -> None:
    with pytest.raises(InputError, match="column 'x' cannot be published to a Delta table"):
        delta_schema(pa.schema([("id", pa.int64()), ("x", kind)]))


def test_carried_columns_of_every_type_that_delta_has_come_out_as_they_are(ran: Ran, tmp_path: Path) -> None:
    frame = orders(30).with_columns(
        small=pl.col("visits").cast(pl.Int8),
        money=pl.col("amount").cast(pl.Decimal(12, 2)),
        day=pl.col("at").dt.date(),
        instant=pl.col("at").dt.replace_time_zone("Europe/Berlin"),
        coarse=pl.col("at").dt.cast_time_unit("ms"),
        share=pl.col("amount").cast(pl.Float32),
    )
    names = ["small", "money", "day", "instant", "coarse", "share", "member"]
    score(ran, tmp_path, new_rows(tmp_path / "1", frame), f"score.carry={json.dumps(names)}")
    found = rows(pl.read_delta(str(tmp_path / "table"))).select(names)
    expected = frame.select(names).with_columns(
        pl.col("instant").dt.convert_time_zone("UTC"), pl.col("coarse").dt.cast_time_unit("us")
    )
    assert found.equals(expected)


def test_a_table_where_the_project_itself_writes_is_refused(ran: Ran, tmp_path: Path) -> None:
    for table in (ran.folder / "out", ran.folder / "out/prepared/delta", tmp_path / "scored"):
        with pytest.raises(ConfigError, match=r"score\.publish names .*, where the project itself writes"):
            score(ran, tmp_path, None, f'score.publish.delta="{table}"')


def test_check_refuses_what_score_would_refuse(ran: Ran, tmp_path: Path) -> None:
    write_deltalake(tmp_path / "table", pa.table({"id": ["a"], "x": [1]}), partition_by=["id"])
    with pytest.raises(InputError, match="does not take scored rows"):
        rayforest.check(ran.folder / "project.toml", overrides=[f'score.publish.delta="{tmp_path}/table"'])


def test_without_deltalake_it_says_what_to_install(ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(ConfigError, match="cannot be opened") as found:
        score(ran, tmp_path)
    assert found.value.next_step == "pip install 'rayforest[delta]'"
