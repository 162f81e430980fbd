"""The raw tables of a stage: from the project's words for them to files, columns, and a plan of shards.

A resume looks at each file's size and time of change only: where all files look as the plan remembers them, none is
opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeVar

from rayforest.engine.commit import Destination, Version, canonical_json
from rayforest.engine.executors import Executor, InProcess
from rayforest.engine.plan import Plan
from rayforest.engine.shards import InputFile, Piece, plan_shards
from rayforest.engine.stores.opening import open_store
from rayforest.engine.usable import refuse_unusable
from rayforest.errors import ConfigError
from rayforest.formats import TABLE, Document
from rayforest.project.sections import FormatSection, Project, Stage, TableSection
from rayforest.tables.batch import CsvFormat, Source, SourceFile, TableName
from rayforest.tables.csv import SAMPLE_ROWS, NoRows, why_no_row
from rayforest.tables.raw_file import raw_file
from rayforest.tables.reading import FileLook, csv_format, find_files, inspect_each, look_at_each
from rayforest.tables.schema import TableSchema

SHARD_ROWS = 524_288
"""Rows of a shard where the project does not say; row groups of up to twice as many then stay whole."""
SHARD_BYTES = 128 << 20
"""Stored bytes of a shard, at most, where rows are wide."""

_INSPECTED_FILES, _INSPECTED_BYTES = 32, 8 << 20
_FEW_FILES, _FEW_TEXTS = 2_000, 200
_SAMPLED_ROWS, _FEWEST_SAMPLED = 100_000, 50
"""Rows of text tables that are sampled beside the first file's, in all, and at least of each."""
_TABLE = "table.json"
"""Beside the plan: the schema of its inputs, and how they were read."""
_T = TypeVar("_T", SourceFile, tuple[SourceFile, int])


def data_source(project: Project) -> Source:
    """The tables that prepare reads.

    Raises:
        ConfigError: they are the project's own results.
    """
    _refuse_own_results(project, "data.source", project.data.source, ("prepared", "tuned", "bundle", "scored"))
    return _source(project, project.data.source, project.data.format)


def score_source(project: Project) -> Source:
    """The tables that score reads: `[score]` over `[data]`.

    Raises:
        ConfigError: they are the project's own scores.
    """
    _refuse_own_results(project, "score.source", project.score.source, ("scored",))
    return _source(
        project, project.score.source or project.data.source, project.data.format.overridden_by(project.score.format)
    )


def _refuse_own_results(
    project: Project, key: str, source: tuple[str, ...] | TableSection, stages: tuple[Stage, ...]
) -> None:
    for pattern in source if isinstance(source, tuple) else ():
        for stage in stages:
            place, result = project.locate(pattern), project.stage(stage)
            if os.path.normpath(place) == os.path.normpath(result) or place.startswith(f"{result}/"):
                raise ConfigError(
                    f"{key} is what this project itself writes: {pattern}",
                    expected="raw tables, or a result of another project",
                    next_step="name other data, or another project.root or score.destination",
                )


def _source(project: Project, source: tuple[str, ...] | TableSection, section: FormatSection) -> Source:
    if isinstance(source, TableSection):
        return Source((), project.base, table=_table_name(project, source))
    options = section.csv_options
    return Source(
        patterns=source,
        base=project.base,
        format=section.type,
        csv=CsvFormat(**options) if options else None,
    )


def _table_name(project: Project, section: TableSection) -> TableName:
    if section.delta is not None:
        return TableName("delta", project.locate(section.delta), section.version)
    name = section.iceberg or ""
    is_file = name.endswith(".json")
    return TableName("iceberg", project.locate(name) if is_file else name, section.snapshot, section.catalog)


@dataclass(frozen=True)
class Inputs:
    """The files of a source, looked at."""

    source: Source
    """With the snapshot that was found, where it is one."""
    files: list[SourceFile]
    schema: TableSchema
    identities: list[str]
    """One a file."""
    pieces: list[tuple[Piece, ...] | None]
    """One a file; None where the file was not opened, or is a text table."""
    notes: tuple[str, ...] = ()
    """What the user should know of the files that were found."""

    @property
    def named(self) -> list[tuple[str, str]]:
        """(path, identity) of each file."""
        return list(zip((file.path for file in self.files), self.identities, strict=True))

    def locate(self, path: str) -> tuple[str, str]:
        """URI and stamp of a file."""
        file = self._by_path[path]
        return file.uri, file.stamp

    @cached_property
    def _by_path(self) -> dict[str, SourceFile]:
        return {file.path: file for file in self.files}

    def why_no_row(self) -> NoRows | None:
        """Why no row of a text table reads; None where that is not what is wrong."""
        if self.schema.has_rows:
            return None
        texts = (file for file in self.files if file.format == "csv")
        found = (why_no_row(raw_file(file), file.path, csv_format(file.uri, self.source)) for file in texts)
        return next((reason for reason in found if reason is not None), None)


def look_at_inputs(source: Source, destination: str, executor: Executor | None = None) -> Inputs:
    """List the files of a source and find out what their columns are.

    No file is opened where all look as the destination's latest plan remembers them: what was found then is kept
    beside the plan. Else each file is opened once; of text tables a sample is read.

    Args:
        source: where the inputs are.
        destination: whose plan may remember them.
        executor: opens the files where they are many; this process by default.

    Raises:
        InputError: no input, or an unreadable one.
        ConfigError: the destination cannot be used.
    """
    notes: list[str] = []
    refuse_unusable(destination)
    source, files = find_files(source, notes)
    remembered = _remembered(destination, source)
    if remembered is not None:
        known, schema = remembered
        identities = [known.get((file.path, file.size, file.stamp, file.entry)) for file in files]
        if len(known) == len(files) and None not in identities:
            kept = [identity for identity in identities if identity is not None]
            return Inputs(source, files, schema, kept, [None] * len(files), tuple(notes))
    nearest = executor if executor is not None and _is_much_to_look_at(files) else InProcess()
    rows = _samples(files)

    def look(batch: list[tuple[SourceFile, int]]) -> list[FileLook]:
        return look_at_each(batch, source)

    looks: list[FileLook] = []
    for outcome in nearest.stream(look, _batches(list(zip(files, rows, strict=True))), ordered=True):
        looks += outcome.result()
    return Inputs(
        source,
        files,
        TableSchema.of((file.path, seen.has_rows, seen.columns) for file, seen in zip(files, looks, strict=True)),
        [seen.identity for seen in looks],
        [seen.pieces for seen in looks],
        tuple(notes),
    )


def plan_inputs(version: Version, inputs: Inputs, shard_rows: int | None, executor: Executor) -> Plan:
    """Cut the inputs of a version into shards, and keep the schema that was found beside the plan.

    Args:
        version: a claimed one without a plan.
        inputs: what `look_at_inputs` found.
        shard_rows: rows of a shard at most; None for a good number.
        executor: counts the rows of text tables.

    Raises:
        InputError: an input is unreadable.
    """
    version.create(_TABLE, TABLE.write(_reading_options(inputs.source) | inputs.schema.as_dict()))
    whole = 1 if shard_rows else 2
    pieces = _pieces(inputs, shard_rows or SHARD_ROWS, executor)
    return version.write_plan(
        plan_shards(pieces, shard_rows=shard_rows or SHARD_ROWS, shard_bytes=SHARD_BYTES, whole_shards=whole),
        locate=inputs.locate,
    )


def _pieces(inputs: Inputs, shard_rows: int, executor: Executor) -> Iterator[InputFile]:
    """The files with their pieces, in order; those that no footer has told are opened."""
    source = inputs.source
    left = [file for file, pieces in zip(inputs.files, inputs.pieces, strict=True) if pieces is None]
    nearest = executor if _is_much_to_inspect(left) else InProcess()

    def inspected_batch(batch: list[SourceFile]) -> list[InputFile]:
        return list(inspect_each(batch, source, shard_rows=shard_rows))

    def inspected() -> Iterator[InputFile]:
        for outcome in nearest.stream(inspected_batch, _batches(left), ordered=True):
            yield from outcome.result()

    found = inspected()
    for file, identity, pieces in zip(inputs.files, inputs.identities, inputs.pieces, strict=True):
        if pieces is None:
            yield next(found)
        else:
            yield InputFile(file.path, file.uri, file.size, file.stamp, identity, pieces, file.entry)


def _samples(files: list[SourceFile]) -> list[int]:
    """Rows of each text table from which kinds are guessed: many of the first, and of the others their share."""
    others = max(1, sum(file.format == "csv" for file in files) - 1)
    share = min(SAMPLE_ROWS, max(_FEWEST_SAMPLED, _SAMPLED_ROWS // others))
    return [SAMPLE_ROWS, *[share] * (len(files) - 1)]


def _batches(files: list[_T]) -> Iterator[list[_T]]:
    """Files for one task: of Parquet only the footer is read, of CSV every byte."""
    batch: list[_T] = []
    size = 0
    for entry in files:
        batch.append(entry)
        file = entry[0] if isinstance(entry, tuple) else entry
        size += file.size if file.format == "csv" else 0
        if len(batch) == _INSPECTED_FILES or size >= _INSPECTED_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _is_much_to_inspect(files: list[SourceFile]) -> bool:
    """Whether it takes longer than the start of a worker process, about a second."""
    return len(files) > _FEW_FILES or sum(file.size for file in files if file.format == "csv") > _INSPECTED_BYTES


def _is_much_to_look_at(files: list[SourceFile]) -> bool:
    """The same for samples, which are a few milliseconds each."""
    return len(files) > _FEW_FILES or sum(file.format == "csv" for file in files) > _FEW_TEXTS


def _remembered(destination: str, source: Source) -> tuple[dict[tuple[str, int, str, str], str], TableSchema] | None:
    """What the latest plan of a destination knows: its inputs' identities by all that is listed, and their schema."""
    target = Destination(open_store(destination))
    claim = target.latest_claim()
    version = target.version(claim) if claim is not None else None
    if version is None:
        return None

    def schema_of(document: Document) -> TableSchema | None:
        options = _reading_options(source)
        is_same = all(document.get(key) == options.get(key) for key in ("format", "csv", "layout"))
        return TableSchema.from_dict(document) if is_same and document.version == TABLE.version else None

    plan, schema = version.plan(), version.load(_TABLE, TABLE, schema_of)
    if plan is None or schema is None:
        return None
    return {(i.path, i.size, i.stamp, i.entry): i.identity for i in plan.inputs()}, schema


def _reading_options(source: Source) -> dict[str, Any]:
    """What else than the files decides their columns."""
    csv = None if source.csv is None else asdict(source.csv)
    layout = {} if source.layout is None else {"layout": source.layout.digest}
    return json.loads(canonical_json({"format": source.format, "csv": csv, **layout}))  # type: ignore[no-any-return]
