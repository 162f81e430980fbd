"""From a source to a claimed version with a plan: what prepare and score begin with.

A resume looks at each file's size and time of change only; a file that looks as the plan remembers it keeps its
identity without being opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rayforest.data.raw import CsvFormat, Source, SourceFile
from rayforest.data.source import identify, inspect, list_files
from rayforest.engine.commit import Destination, Version, plan_key
from rayforest.engine.executors import Executor, InProcess
from rayforest.engine.plan import Plan
from rayforest.engine.shards import InputFile, plan_shards
from rayforest.engine.store import open_store
from rayforest.project import FormatSection, Project

SHARD_ROWS = 524_288
"""Rows of a shard where the project does not say; row groups of up to twice as many then stay whole."""
SHARD_BYTES = 128 << 20
"""Stored bytes of a shard, at most, where rows are wide."""

_INSPECTED_FILES, _INSPECTED_BYTES = 32, 8 << 20
_FEW_FILES = 2_000


def data_source(project: Project) -> Source:
    """The tables that prepare reads."""
    return _source(project, project.data.source, project.data.format)


def score_source(project: Project) -> Source:
    """The tables that score reads: `[score]` over `[data]`."""
    return _source(
        project, project.score.source or project.data.source, project.data.format.overridden_by(project.score.format)
    )


def _source(project: Project, patterns: tuple[str, ...], section: FormatSection) -> Source:
    options = section.csv_options
    return Source(
        patterns=patterns,
        base=project.base,
        format=section.type,
        csv=CsvFormat(**options) if options else None,
    )


@dataclass(frozen=True)
class Claimed:
    """A version of a destination that is this run's to fill, and its plan."""

    version: Version
    plan: Plan


def claim_inputs(
    destination: str,
    source: Source,
    ingredients: Mapping[str, Any],
    *,
    shard_rows: int | None,
    replace: bool,
    executor: Executor,
    files: list[SourceFile] | None = None,
) -> Claimed:
    """List the inputs, claim the version that their contents and the ingredients name, and plan its shards.

    Args:
        destination: what to claim.
        source: where the inputs are.
        ingredients: what else the result depends on.
        shard_rows: rows of a shard at most; None for a good number.
        replace: whether a new version may take the place of another plan's.
        executor: opens the files.
        files: the inputs, where they have been listed.

    Raises:
        InputError: no input, or an unreadable one.
        RefusedError: the destination holds another plan and `replace` is false.
    """
    store = open_store(destination)
    target = Destination(store)
    files = files if files is not None else list(list_files(source))
    known = _known_identities(target)
    identities = [known.get((f.path, f.size, f.stamp)) or identify(f) for f in files]
    inputs = list(zip((f.path for f in files), identities, strict=True))
    named = dict(ingredients) | {"shard_rows": shard_rows}
    version = target.claim(plan_key(named, inputs), named, inputs=inputs, replace=replace)
    plan = version.plan()
    if plan is None:
        rows = shard_rows or SHARD_ROWS
        nearest = executor if _is_much_to_inspect(files) else InProcess()

        def inspect_each(batch: list[SourceFile]) -> list[InputFile]:
            return [inspect(file, source, shard_rows=rows) for file in batch]

        def inspected() -> Iterator[InputFile]:
            for outcome in nearest.stream(inspect_each, _batches(files), ordered=True):
                yield from outcome.result()

        whole = 1 if shard_rows else 2
        plan = version.write_plan(
            plan_shards(inspected(), shard_rows=rows, shard_bytes=SHARD_BYTES, whole_shards=whole)
        )
    return Claimed(version, plan)


def _batches(files: list[SourceFile]) -> Iterator[list[SourceFile]]:
    """Files to inspect in one task: of Parquet only the footer is read, of CSV every byte."""
    batch: list[SourceFile] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.size if file.format == "csv" else 0
        if len(batch) == _INSPECTED_FILES or size >= _INSPECTED_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _is_much_to_inspect(files: list[SourceFile]) -> bool:
    """Whether it takes longer than the start of a worker process, about a second."""
    return len(files) > _FEW_FILES or sum(file.size for file in files if file.format == "csv") > _INSPECTED_BYTES


def _known_identities(destination: Destination) -> dict[tuple[str, int, str], str]:
    claim = destination.latest_claim()
    plan = Version(destination.store, claim.number, claim.key).plan() if claim is not None else None
    if plan is None:
        return {}
    return {(i.path, i.size, i.stamp): i.identity for i in plan.inputs()}
