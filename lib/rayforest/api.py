"""The commands as typed Python functions: `rayforest.prepare("project.toml")` does what `rayforest prepare` does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rayforest.project.load import ProjectLike, loaded_project
from rayforest.project.sections import Project
from rayforest.stages.result import Reporter, Silent, StageResult

if TYPE_CHECKING:
    import polars as pl
    import pyarrow.dataset as ds

    from rayforest.engine.executors import Executor


@dataclass(frozen=True)
class RunResult:
    """What `run` did, stage by stage."""

    steps: tuple[StageResult, ...]
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """The JSON object of --json."""
        last = self.steps[-1].as_dict() if self.steps else {}
        kept = ("rows_in", "rows_out", "rows_quarantined", "shards", "destination", "metrics")
        return {
            "command": "run",
            **{k: last[k] for k in kept if k in last},
            "seconds": round(self.seconds, 3),
            "steps": [s.as_dict() for s in self.steps],
        }


def init(
    data: str | Path | Sequence[str | Path], *, target: str | None = None, folder: str | Path | None = None
) -> str:
    """The text of a commented project file over some data, as `rayforest init` prints it.

    Args:
        data: a path, glob or folder, or several, relative to the current folder.
        target: a column or an SQL expression to predict; None: guessed.
        folder: where the file is to lie, to which its paths are relative; None: the current folder.

    Raises:
        InputError: nothing found, the first file cannot be read, or the files are of unlike tables.
        ConfigError: `target` is neither a column nor an expression over the columns.
    """
    from rayforest.starter.starter import starter_project

    given = [data] if isinstance(data, str | Path) else data
    return starter_project([str(one) for one in given], target=target, folder=folder)


def prepare(
    project: ProjectLike, *, overrides: Sequence[str] = (), replace: bool = False, reporter: Reporter | None = None
) -> StageResult:
    """Check, clean, compute and split raw tables into ROOT/prepared. See `rayforest.preparing.prepare`.

    Args:
        project: the path of a project file, or a `Project` from `load_project`.
        overrides: `section.key=value` texts that win over the file's keys, as --set does; only with a path.
        replace: write a new version where the destination holds a result of other inputs or settings.
        reporter: is told what happens; silent by default.

    Raises:
        ConfigError: the project file, an expression in it or the address of Ray is wrong.
        InputError: an input is missing or unreadable.
        RefusedError: the destination holds a result of other inputs or settings, and `replace` is false.
        UnfinishedError: shards failed, or more rows than the error budget allows.
    """
    from rayforest.preparing import prepare as stage

    loaded, reporter = loaded_project(project, overrides), reporter or Silent()
    with open_executor(loaded, reporter) as executor:
        return stage.prepare(loaded, replace=replace, executor=executor, reporter=reporter)


def tune(
    project: ProjectLike, *, overrides: Sequence[str] = (), replace: bool = False, reporter: Reporter | None = None
) -> StageResult:
    """Find the best LightGBM model on ROOT/prepared. See `rayforest.tuning.tune`.

    Args:
        project: the path of a project file, or a `Project` from `load_project`.
        overrides: `section.key=value` texts that win over the file's keys, as --set does; only with a path.
        replace: write a new version where the destination holds a result of other inputs or settings.
        reporter: is told what happens; silent by default.

    Raises:
        ConfigError: the project file, an expression in it or the address of Ray is wrong.
        InputError: an input is missing or unreadable.
        RefusedError: the destination holds a result of other inputs or settings, and `replace` is false.
        UnfinishedError: shards failed, or more rows than the error budget allows.
    """
    from rayforest.tuning import tune as stage

    loaded, reporter = loaded_project(project, overrides), reporter or Silent()
    with open_executor(loaded, reporter) as executor:
        return stage.tune(loaded, replace=replace, executor=executor, reporter=reporter)


def export(
    project: ProjectLike, *, overrides: Sequence[str] = (), replace: bool = False, reporter: Reporter | None = None
) -> StageResult:
    """Write one verified ONNX bundle into ROOT/bundle. See `rayforest.bundle.export`.

    Args:
        project: the path of a project file, or a `Project` from `load_project`.
        overrides: `section.key=value` texts that win over the file's keys, as --set does; only with a path.
        replace: write a new version where the destination holds a result of other inputs or settings.
        reporter: is told what happens; silent by default.

    Raises:
        ConfigError: the project file, an expression in it or the address of Ray is wrong.
        InputError: an input is missing or unreadable.
        RefusedError: the destination holds a result of other inputs or settings, and `replace` is false.
        UnfinishedError: shards failed, or more rows than the error budget allows.
    """
    from rayforest.bundle import export as stage

    return stage.export(loaded_project(project, overrides), replace=replace, reporter=reporter)


def score(
    project: ProjectLike, *, overrides: Sequence[str] = (), replace: bool = False, reporter: Reporter | None = None
) -> StageResult:
    """Score raw tables with ROOT/bundle, every row exactly once. See `rayforest.scoring.score`.

    Args:
        project: the path of a project file, or a `Project` from `load_project`.
        overrides: `section.key=value` texts that win over the file's keys, as --set does; only with a path.
        replace: write a new version where the destination holds a result of other inputs or settings.
        reporter: is told what happens; silent by default.

    Raises:
        ConfigError: the project file, an expression in it or the address of Ray is wrong.
        InputError: an input is missing or unreadable.
        RefusedError: the destination holds a result of other inputs or settings, and `replace` is false.
        UnfinishedError: shards failed, or more rows than the error budget allows.
    """
    from rayforest.scoring import score as stage

    loaded, reporter = loaded_project(project, overrides), reporter or Silent()
    with open_executor(loaded, reporter) as executor:
        return stage.score(loaded, replace=replace, executor=executor, reporter=reporter)


def run(project: ProjectLike, *, overrides: Sequence[str] = (), reporter: Reporter | None = None) -> RunResult:
    """All four stages: skips what is done for the same inputs, and replaces what is out of date.

    Args:
        project: the path of a project file, or a `Project` from `load_project`.
        overrides: `section.key=value` texts that win over the file's keys, as --set does; only with a path.
        reporter: is told what happens; silent by default.

    Raises:
        ConfigError: the project file, an expression in it or the address of Ray is wrong.
        InputError: an input is missing or unreadable.
        UnfinishedError: shards failed, or more rows than the error budget allows.
    """
    from rayforest.bundle import export as exporting
    from rayforest.checking.check import refuse_what_follows
    from rayforest.preparing import prepare as preparing
    from rayforest.scoring import score as scoring
    from rayforest.tuning import tune as tuning

    began = time.monotonic()
    loaded, reporter = loaded_project(project, overrides), reporter or Silent()
    with open_executor(loaded, reporter) as executor:
        prepared = preparing.prepare(loaded, replace=True, executor=executor, reporter=reporter)
        refuse_what_follows(loaded)
        steps = (
            prepared,
            tuning.tune(loaded, replace=True, executor=executor, reporter=reporter),
            exporting.export(loaded, replace=True, reporter=reporter),
            scoring.score(loaded, replace=True, executor=executor, reporter=reporter),
        )
    return RunResult(steps, time.monotonic() - began)


def files(destination: str | Path, *, quarantine: bool = False) -> Iterator[str]:
    """Absolute paths or URIs of the current version's data files in input order, or of its quarantine files.

    A version without tables (tuned, bundle) has its plain files instead.

    Args:
        destination: a stage's destination, a folder or URI.
        quarantine: list the files of the quarantined rows.

    Raises:
        InputError: nothing was published there.
    """
    from rayforest.engine.publish import read_manifest
    from rayforest.engine.stores.opening import open_store

    manifest = read_manifest(open_store(destination))
    if quarantine:
        return manifest.quarantine_files()
    if not manifest.shards:
        return (manifest.store.locate(f"{manifest.base}/{name}") for name in (*manifest.extras, "manifest.json"))
    return manifest.files()


def show(destination: str | Path) -> dict[str, object]:
    """What a destination or a bundle holds: the JSON object of `rayforest show --json`.

    Args:
        destination: a stage's destination, a folder or URI, or the folder of one bundle.

    Raises:
        InputError: nothing was published there.
    """
    from rayforest.stages.show import describe

    return describe(destination)


def read(destination: str | Path) -> pl.LazyFrame:
    """The current version as a Polars LazyFrame, in input order; readers never see half a result."""
    import polars as pl

    from rayforest.engine.publish import read_manifest
    from rayforest.engine.stores.opening import open_store
    from rayforest.tables.conversion import frame_of

    manifest = read_manifest(open_store(destination))
    paths = list(manifest.files())
    if not paths:
        return frame_of(manifest.schema.empty_table()).lazy()
    return pl.scan_parquet(paths, glob=False, hive_partitioning=False)


def dataset(destination: str | Path) -> ds.Dataset:
    """The current version as a pyarrow Dataset, for DuckDB, Ray Data and others that take one."""
    import pyarrow.dataset as ds
    from pyarrow.fs import FileSystem

    from rayforest.engine.publish import read_manifest
    from rayforest.engine.stores.opening import open_store

    manifest = read_manifest(open_store(destination))
    paths, remote = list(manifest.files()), None
    if paths and "://" in paths[0]:
        remote, _ = FileSystem.from_uri(paths[0])
        paths = [path.partition("://")[2] for path in paths]
    return ds.dataset(paths, schema=manifest.schema, format="parquet", filesystem=remote)


@contextmanager
def open_executor(project: Project, reporter: Reporter) -> Iterator[Executor]:
    """The executor that `[run]` asks for; says which one and why."""
    from rayforest.engine.executors import choose_executor

    section = project.run
    executor, why = choose_executor(section.executor, section.address, section.workers, quiet=reporter.quiet)
    reporter.say(why)
    try:
        yield executor
    finally:
        executor.close()
