"""Versions: same inputs and settings resume, others are refused or replaced; readers see one whole result."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from small_projects import Payments, Ran, orders, write_orders, write_project

import rayforest
from rayforest.api import STAGES, StageName
from rayforest.engine.publish import read_manifest
from rayforest.errors import InputError, RefusedError, UnfinishedError
from rayforest.stages.show import describe


def data_hashes(destination: str | Path) -> list[str]:
    """SHA-256 of the data files in input order."""
    return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in rayforest.files(destination)]


def all_hashes(root: Path) -> dict[str, list[str]]:
    """What must not depend on who did the work: data, quarantine, every trial, and the bundle."""
    found = {stage: data_hashes(root / stage) for stage in ("prepared", "scored")}
    quarantine = [p for stage in found for p in rayforest.files(root / stage, quarantine=True)]
    bundle = root / "bundle"
    names = ("model.onnx", "trees.onnx", "booster.txt", "features.json", "contract.json", "profile.json")
    trials = [json.loads(path.read_text()) for path in sorted((root / "tuned").glob("*/trials/*.json"))]
    return found | {
        "trials": [json.dumps([trial["params"], trial["model"], trial["score"]]) for trial in trials],
        "quarantine": [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in quarantine],
        "bundle": [hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in names],
    }


@pytest.fixture(scope="session")
def reference(payments: Payments, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Hashes of what one thread writes for the payments."""
    root = tmp_path_factory.mktemp("reference")
    rayforest.run(payments.at(root))
    hashes = all_hashes(root)
    assert len(hashes["prepared"]) == len(hashes["scored"]) > len(payments.truth.files)
    return hashes


def test_any_number_of_workers_writes_the_same_bytes(
    payments: Payments, reference: dict[str, list[str]], tmp_path: Path
) -> None:
    rayforest.run(payments.at(tmp_path, "run.workers=3"))
    assert all_hashes(tmp_path) == reference


@pytest.mark.ray
@pytest.mark.usefixtures("on_the_cluster")
def test_ray_writes_the_same_bytes(payments: Payments, reference: dict[str, list[str]], tmp_path: Path) -> None:
    rayforest.run(payments.at(tmp_path, 'run.executor="ray"', "run.workers=2"))
    assert all_hashes(tmp_path) == reference


def test_the_folder_of_the_data_does_not_matter(tmp_path: Path) -> None:
    frame = orders(200)
    keys = []
    for name in ("here", "elsewhere"):
        write_orders(tmp_path / name, frame, files=2)
        rayforest.prepare(write_project(tmp_path / name))
        keys.append(read_manifest(tmp_path / name / "out/prepared").key)
    assert keys[0] == keys[1]
    assert data_hashes(tmp_path / "here/out/prepared") == data_hashes(tmp_path / "elsewhere/out/prepared")


def test_a_second_run_finds_nothing_to_do_and_changes_no_file(ran: Ran) -> None:
    def stamps() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in ran.folder.rglob("*") if p.is_file() and not p.is_symlink()}

    before = stamps()
    again = rayforest.run(ran.project)
    assert [step.resumed for step in again.steps] == [True] * 4
    assert stamps() == before
    ways = ("seconds", "resumed", "engine", "engine_because")  # of one run, not of its result
    first, second = (
        [{k: v for k, v in step.as_dict().items() if k not in ways} for step in result.steps]
        for result in (ran.result, again)
    )
    assert first == second


@pytest.fixture
def small(ran: Ran, tmp_path: Path) -> Path:
    """A copy of the project of `ran`, run to the end, to change; times of change are kept."""
    folder = tmp_path / "copy"
    shutil.copytree(ran.folder, folder, symlinks=True)
    return folder / "project.toml"


@pytest.mark.parametrize(
    ("stage", "setting", "difference"),
    [
        ("prepare", 'features.amount="amount * 2"', "amount * 2"),
        ("prepare", "project.seed=4", "seed"),
        ("prepare", "run.shard_rows=400", "shard_rows"),
        ("tune", "tune.trials=3", "trials"),
        ("export", 'export.graph="trees"', "graph"),
        ("score", 'score.carry=["at"]', "passed_on"),
    ],
)
def test_other_settings_are_refused_with_what_differs(
    small: Path, stage: StageName, setting: str, difference: str
) -> None:
    before = {path: path.read_bytes() for path in small.parent.rglob("*") if path.is_file()}
    with pytest.raises(RefusedError) as caught:
        STAGES[stage](small, overrides=[setting])
    assert difference in str(caught.value)
    assert "--replace" in caught.value.next_step
    assert {path: path.read_bytes() for path in small.parent.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("setting", ["run.workers=2", "run.retries=0", "data.error_budget=5", 'data.on_bad_row="fail"'])
def test_settings_that_change_no_result_are_not_refused(ran: Ran, setting: str) -> None:
    for stage in (rayforest.prepare, rayforest.tune, rayforest.score):
        assert stage(ran.folder / "project.toml", overrides=[setting]).resumed


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [("data.error_budget=3", 3), ("data.error_budget=0.01", 1), ('data.on_bad_row="fail"', 0)],
)
def test_a_budget_tightened_after_a_result_stands_is_judged_and_a_loosened_one_accepts_it(
    tmp_path: Path, setting: str, allowed: int
) -> None:
    frame = orders(100).with_columns(member=pl.when(pl.int_range(pl.len()) >= 4).then(True))
    write_orders(tmp_path, frame)
    project = write_project(tmp_path, **{"data.columns": 'member = { type = "boolean", required = true }'})
    rayforest.run(project)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for stage in (rayforest.prepare, rayforest.score):
        with pytest.raises(UnfinishedError, match="more rows were quarantined than the error budget allows") as caught:
            stage(project, overrides=[setting])
        assert caught.value.expected.startswith(f"at most {allowed} of 100 rows")
        assert caught.value.found == "4 of 100 rows: member is missing (4)"
        loosened = stage(project, overrides=["data.error_budget=0.04"])
        assert (loosened.resumed, loosened.rows_quarantined) == (True, 4)
    with pytest.raises(UnfinishedError):
        rayforest.run(project, overrides=[setting])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_input_is_refused_and_replaced_when_asked(small: Path) -> None:
    destination = small.parent / "out/prepared"
    orders(90, seed=7, first=5_000).write_parquet(small.parent / "raw/part-900.parquet")
    with pytest.raises(RefusedError, match="prepared") as caught:
        rayforest.prepare(small)
    assert "part-900.parquet" in str(caught.value)
    old = list(rayforest.files(destination))
    result = rayforest.prepare(small, replace=True)
    assert result.rows_out == 1_290
    assert rayforest.read(destination).collect().height == 1_290
    assert all(Path(path).exists() for path in old)  # readers of the old version go on
    (small.parent / "raw/part-900.parquet").unlink()
    assert rayforest.prepare(small, replace=True).resumed  # the old version is whole, and current again
    assert list(rayforest.files(destination)) == old


def test_a_nightly_run_takes_the_new_file_and_scores_everything(small: Path) -> None:
    orders(90, seed=7, first=5_000).write_parquet(small.parent / "raw/part-900.parquet")
    result = rayforest.run(small)
    assert [step.resumed for step in result.steps] == [False] * 4
    assert result.scored.rows_out == 1_290
    assert rayforest.read(small.parent / "out/scored").select("id").collect()["id"][-1] == "o005089"
    assert [step.resumed for step in rayforest.run(small).steps] == [True] * 4


def test_a_changed_score_source_needs_no_new_model(small: Path) -> None:
    setting = 'score.source="raw/part-000.parquet"'
    result = rayforest.run(small, overrides=[setting])
    assert [step.resumed for step in result.steps] == [True, True, True, False]
    assert result.scored.rows_in == 400


def test_files_show_and_read_tell_of_the_same_rows(payments: Payments, tmp_path: Path) -> None:
    rayforest.prepare(payments.at(tmp_path))
    destination = tmp_path / "prepared"
    paths = list(rayforest.files(destination))
    assert [Path(p).is_absolute() for p in paths] == [True] * len(paths)
    frames = pl.concat([pl.read_parquet(path) for path in paths])
    assert frames.equals(rayforest.read(destination).collect())
    assert pl.from_arrow(rayforest.dataset(destination).to_table()).equals(frames)  # type: ignore[union-attr]
    raw = pl.concat([pl.read_parquet(path, columns=["payment_id"]) for path in payments.truth.files])
    order = raw.with_row_index().unique("payment_id", keep="first")
    assert (
        frames.select("payment_id").join(order, on="payment_id", how="left", maintain_order="left")["index"].is_sorted()
    )
    shown = describe(destination)
    assert (shown["rows_in"], shown["rows_out"]) == (payments.truth.rows, frames.height)
    assert list(shown["columns"]) == frames.columns
    bad = pl.concat([pl.read_parquet(path) for path in rayforest.files(destination, quarantine=True)])
    assert bad.columns == ["file", "row", "reason", "raw"]
    assert bad.height == shown["rows_quarantined"] == sum(shown["quarantine_reasons"].values())
    assert not set(paths) & set(rayforest.files(destination, quarantine=True))


def test_show_describes_every_stage_and_a_bundles_own_folder(ran: Ran) -> None:
    assert describe(ran.project.stage("tuned"))["metrics"]["trials"] == 2
    bundle = describe(ran.project.stage("bundle"))
    assert {"model.onnx", "booster.txt"} <= set(bundle["files"])
    (folder,) = (path.parent for path in Path(ran.project.stage("bundle")).glob("*/manifest.json"))
    assert describe(folder)["files"] == bundle["files"]
    assert describe(ran.project.stage("scored"))["metrics"]["auc"] > 0.8


@pytest.mark.parametrize("ask", [rayforest.read, rayforest.files, describe])
def test_nothing_published_is_an_input_error_and_makes_no_folder(tmp_path: Path, ask: object) -> None:
    with pytest.raises(InputError, match="no published result"):
        ask(tmp_path / "nowhere")  # type: ignore[operator]
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("stage", "first"), [("tune", "prepare"), ("export", "tune"), ("score", "export")], ids=["tune", "export", "score"]
)
def test_a_stage_that_comes_too_early_names_the_one_before(tmp_path: Path, stage: StageName, first: str) -> None:
    write_orders(tmp_path, orders(50))
    project = write_project(tmp_path)
    with pytest.raises(InputError) as caught:
        STAGES[stage](project)
    assert f"rayforest {first} PROJECT" in caught.value.next_step
    assert not (tmp_path / "out").exists()
