"""The commands as typed Python functions: `rayforest.prepare("project.toml")` does what `rayforest prepare` does.

The functions of the stages share their arguments and errors; `StageCommand` says them once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from rayforest.project.load import ProjectLike, loaded_project
from rayforest.stages.result import Facts, Reporter, StageResult
from rayforest.stages.stage import open_context

if TYPE_CHECKING:
    import polars as pl
    import pyarrow.dataset as ds

    from rayforest.bundle.export import ExportedFacts
    from rayforest.preparing.prepare import PreparedFacts
    from rayforest.scoring.score import ScoredFacts
    from rayforest.stages.trace import WrittenTrace
    from rayforest.tuning.outcome import TunedFacts


@dataclass(frozen=True)
class RunResult:
    """What `run` did, stage by stage."""

    prepared: StageResult[PreparedFacts]
    tuned: StageResult[TunedFacts]
    exported: StageResult[ExportedFacts]
    scored: StageResult[ScoredFacts]
    seconds: float

    @property
    def steps(self) -> tuple[StageResult[Facts], ...]:
        """The stages in their order."""
        return self.prepared, self.tuned, self.exported, self.scored

    def as_dict(self) -> dict[str, object]:
        """The JSON object of --json."""
        last = self.scored.as_dict()
        kept = ("rows_in", "rows_out", "rows_quarantined", "shards", "destination", "metrics")
        return {
            "command": "run",
            **{k: last[k] for k in kept if k in last},
            "seconds": round(self.seconds, 3),
            "steps": [s.as_dict() for s in self.steps],
        }


class StageCommand(Protocol):
    """What the functions of all stages have in common."""

    def __call__(
        self,
        project: ProjectLike,
        *,
        overrides: Sequence[str] = (),
        replace: bool = False,
        reporter: Reporter | None = None,
    ) -> StageResult[Facts]:
        """Bring a stage to its published result, or find it there.

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


def init(
    data: str | Path | Iterable[str | Path], *, target: str | None = None, folder: str | Path | None = None
) -> str:
    """The text of a commented project file over some data, as `rayforest init` prints it.

    Args:
        data: a path, glob or folder, or several, relative to the current folder.
        target: a column or an SQL expression to predict; None: guessed.
        folder: where the file is to lie, to which its paths are relative; None: the current folder.

    Raises:
        InputError: nothing found, the first file cannot be read, or the files are of unlike tables.
        ConfigError: `data` are no paths, or `target` is neither a column nor an expression over the columns.
    """
    from rayforest.starter.starter import starter_project

    return starter_project(data, target=target, folder=folder)


def prepare(
    project: ProjectLike, *, overrides: Sequence[str] = (), replace: bool = False, reporter: Reporter | None = None
) -> StageResult[PreparedFacts]:
    """Check, clean, compute and split raw tables into ROOT/prepared. Arguments and errors: see `StageCommand`."""
    from rayforest.preparing.prepare import prepare as stage

    with open_context(loaded_project(project, overrides), reporter) as context:
        return stage(context, replace=replace)


def tune(
    project: ProjectLike, *, overrides: Sequence[str] = (), replace: bool = False, reporter: Reporter | None = None
) -> StageResult[TunedFacts]:
    """Find the best LightGBM model on ROOT/prepared, and evaluate it. Arguments and errors: see `StageCommand`."""
    from rayforest.tuning.tune import tune as stage

    with open_context(loaded_project(project, overrides), reporter) as context:
        return stage(context, replace=replace)


def export(
    project: ProjectLike, *, overrides: Sequence[str] = (), replace: bool = False, reporter: Reporter | None = None
) -> StageResult[ExportedFacts]:
    """Write one verified ONNX bundle into ROOT/bundle. Arguments and errors: see `StageCommand`."""
    from rayforest.bundle.export import export as stage

    with open_context(loaded_project(project, overrides), reporter) as context:
        return stage(context, replace=replace)


def score(
    project: ProjectLike, *, overrides: Sequence[str] = (), replace: bool = False, reporter: Reporter | None = None
) -> StageResult[ScoredFacts]:
    """Score raw tables with ROOT/bundle, every row exactly once. Arguments and errors: see `StageCommand`."""
    from rayforest.scoring.score import score as stage

    with open_context(loaded_project(project, overrides), reporter) as context:
        return stage(context, replace=replace)


StageName: TypeAlias = Literal["prepare", "tune", "export", "score"]

STAGES: Mapping[StageName, StageCommand] = {"prepare": prepare, "tune": tune, "export": export, "score": score}
"""The stages in their order."""

for _stage in STAGES.values():  # so that help(rayforest.tune) tells all of it
    _stage.__doc__ = f"{_stage.__doc__}\n\n{getdoc(StageCommand.__call__)}"


def run(project: ProjectLike, *, overrides: Sequence[str] = (), reporter: Reporter | None = None) -> RunResult:
    """All four stages: skips what is done for the same inputs, and replaces what is out of date.

    Args:
        project: the path of a project file, or a `Project` from `load_project`.
        overrides: `section.key=value` texts that win over the file's keys, as --set does; only with a path.
        reporter: is told what happens; silent by default.

    Raises:
        ConfigError, InputError, UnfinishedError: as the stages do.
    """
    from rayforest.bundle.export import export as export_stage
    from rayforest.checking.check import refuse_what_follows
    from rayforest.preparing.prepare import prepare as prepare_stage
    from rayforest.scoring.score import score as score_stage
    from rayforest.tuning.tune import tune as tune_stage

    began = time.monotonic()
    with open_context(loaded_project(project, overrides), reporter) as context:
        prepared = prepare_stage(context, replace=True)
        refuse_what_follows(context.project)
        tuned = tune_stage(context, replace=True)
        exported = export_stage(context, replace=True)
        scored = score_stage(context, replace=True)
    return RunResult(prepared, tuned, exported, scored, time.monotonic() - began)


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
    """What a destination or a bundle holds, and how far an unfinished run is: the object of `rayforest show --json`.

    Args:
        destination: a stage's destination, a folder or URI, or the folder of one bundle.

    Raises:
        InputError: no run has begun there.
    """
    from rayforest.stages.show import describe

    return describe(destination)


def trace(destinations: str | Path | Iterable[str | Path], out: str | Path) -> WrittenTrace:
    """Write who did which shard and when, as a Chrome trace: of the latest run of each destination, finished or not.

    Args:
        destinations: of stages, folders or URIs; or one of them.
        out: the file; one that is there is replaced.

    Raises:
        InputError: no run has begun at a destination.
        ConfigError: the file cannot be written.
    """
    from rayforest.stages.trace import write_trace

    places = [destinations] if isinstance(destinations, str | Path) else destinations
    return write_trace(places, Path(out))


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
