"""The four stages, and run, which is all of them: prepare, tune, export, score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rayforest.jobs.console import ConsoleReporter, carry_out, show_stage
from rayforest.jobs.options import AsJson, Debug, Overrides, ProjectFile, Replace

if TYPE_CHECKING:
    from rayforest.api import RunResult, StageName
    from rayforest.stages.result import Facts, StageResult


def prepare(
    project: ProjectFile,
    overrides: Overrides = None,
    replace: Replace = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Raw tables to checked, cleaned and split feature shards."""
    _stage("prepare", project, overrides, replace, as_json, debug)


def tune(
    project: ProjectFile,
    overrides: Overrides = None,
    replace: Replace = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Feature shards to the best LightGBM model, evaluated."""
    _stage("tune", project, overrides, replace, as_json, debug)


def export(
    project: ProjectFile,
    overrides: Overrides = None,
    replace: Replace = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """The model and its features to one verified ONNX bundle."""
    _stage("export", project, overrides, replace, as_json, debug)


def score(
    project: ProjectFile,
    overrides: Overrides = None,
    replace: Replace = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """A bundle and new tables to scored Parquet, every row exactly once."""
    _stage("score", project, overrides, replace, as_json, debug)


def run(project: ProjectFile, overrides: Overrides = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """All four stages; skips what is done, replaces what is out of date."""

    def work(reporter: ConsoleReporter) -> RunResult:
        from rayforest import api

        return api.run(project, overrides=overrides or (), reporter=reporter)

    def show(result: RunResult) -> None:
        for step in result.steps:
            show_stage(step)

    raise typer.Exit(
        carry_out("run", work, as_json=as_json, debug=debug, show=show, as_dict=lambda result: result.as_dict())
    )


def _stage(
    name: StageName, project: Path, overrides: Sequence[str] | None, replace: bool, as_json: bool, debug: bool
) -> None:
    def work(reporter: ConsoleReporter) -> StageResult[Facts]:
        from rayforest.api import STAGES

        return STAGES[name](project, overrides=overrides or (), replace=replace, reporter=reporter)

    raise typer.Exit(
        carry_out(name, work, as_json=as_json, debug=debug, show=show_stage, as_dict=lambda result: result.as_dict())
    )
