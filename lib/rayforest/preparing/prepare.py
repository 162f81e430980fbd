"""prepare: raw tables to checked, cleaned and split feature shards.

One version of ROOT/prepared goes through up to three steps: `survey` and `duplicates` (see survey.py; only where there
is a key or a split by time), then the main one, which writes a Parquet file a shard: key columns as they came,
`target`, `split` (train, valid, test), and the features in the order of the model's inputs.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Version
from rayforest.engine.executors import Executor
from rayforest.engine.manifest import Manifest
from rayforest.engine.publish import clean, publish
from rayforest.engine.run import records, run_step
from rayforest.engine.shards import Shard
from rayforest.errors import InputError
from rayforest.features.compile_recipe import compile_recipe
from rayforest.features.contract import RowChecks, Verdicts
from rayforest.features.parts import part_facts
from rayforest.features.passed_on import passed_on
from rayforest.features.profile import ColumnProfile, Profile
from rayforest.features.recipe import PARTS, SPLIT_COLUMN, TARGET_COLUMN, Recipe
from rayforest.kinds import Kind
from rayforest.preparing.empty_parts import refuse_empty_parts, time_cuts
from rayforest.preparing.split import HashSplit, TimeSplit, time_numbers
from rayforest.preparing.split_rule import SplitRule, part_names
from rayforest.preparing.survey import (
    DUPLICATES,
    SURVEY,
    DuplicatesTask,
    SurveyTask,
    bucket_count,
    bucket_shards,
    duplicates_of,
    merged_times,
)
from rayforest.project.sections import Project
from rayforest.stages.claim import Claimed, Inputs, claim_inputs, data_source, look_at_inputs
from rayforest.stages.result import Reporter, Silent, StageResult
from rayforest.tables.batch import RawBatch, Source
from rayforest.tables.conversion import frame_of
from rayforest.tables.reading import read
from rayforest.tables.schema import TableSchema

FORMAT_VERSION = 2
"""Of the prepared shards and their extras. A change here changes every plan key."""


@dataclass(frozen=True)
class PrepareTask:
    """A shard of raw rows to feature rows, quarantined rows and a profile."""

    recipe: Recipe
    source: Source
    split: SplitRule
    schema: pa.Schema
    version: Version
    buckets: int
    """Buckets of the duplicates step; 0 where there is no key."""

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        """Prepare one shard."""
        profile, before = Profile(), 0
        repeated = duplicates_of(self.version, self.buckets, shard.index) if self.buckets else None
        names, check_rows = [c.name for c in self.recipe.contract.columns], RowChecks(self.recipe.contract)
        for piece in shard.slices:
            for batch in read(piece, self.source, names):
                attempt.count_in(len(batch.rows) + len(batch.broken))
                typed, verdicts = check_rows(batch.table)
                if repeated is not None:
                    places = batch.rows - piece.first_row + before
                    verdicts.fail(np.isin(places, repeated), "the key is repeated")
                times = self._times(typed)
                frame = self._features(batch, typed, times, verdicts, profile)
                if verdicts.failed.any() or batch.broken:
                    attempt.quarantine(verdicts.quarantine(batch))
                keep = ~verdicts.failed
                good = frame.filter(pl.Series(keep))
                if good.height:
                    self._describe(good, None if times is None else time_numbers(times)[keep], profile)
                    attempt.write(good.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(self.schema))
            before += piece.rows
        attempt.sidecar(profile.to_json())

    def _times(self, typed: pl.DataFrame) -> pl.Series | None:
        expression = self.recipe.time_expression
        return None if expression is None else typed.select(expression.to_polars()).to_series()

    def _features(
        self, batch: RawBatch, typed: pl.DataFrame, times: pl.Series | None, verdicts: Verdicts, profile: Profile
    ) -> pl.DataFrame:
        """All output columns for all rows of the batch; a missing target or time fails the row."""
        recipe, parts = self.recipe, list[pl.Series]()
        columns = {column.name: column for column in recipe.contract.columns}
        for name, stored in zip(recipe.key, recipe.key_names, strict=True):
            field = self.schema.field(stored).with_name(name)
            column = passed_on(batch.table, field, columns[name], verdicts)
            parts.append(frame_of(pa.table({stored: column}))[stored])
        target = recipe.target_value()
        if target is not None:
            labels = typed.select(target.alias(TARGET_COLUMN)).to_series()
            verdicts.fail(labels.is_null(), "the target is missing")
            if labels.dtype == pl.Float64:
                verdicts.fail(labels.is_infinite(), "the target is infinite")
            parts.append(labels)
        parts.append(self._split(batch, times, verdicts, profile))
        return pl.DataFrame([*parts, *typed.select(recipe.feature_values()).get_columns()])

    def _split(self, batch: RawBatch, times: pl.Series | None, verdicts: Verdicts, profile: Profile) -> pl.Series:
        split = self.split.split
        if isinstance(split, TimeSplit):
            assert times is not None  # noqa: S101  a split by time has a time
            verdicts.fail(times.is_null(), "the time is missing")
            return part_names(split.assign(times))
        hashes = split.hashes(self.split.keys(self.recipe, batch.table, batch.file, batch.rows))
        profile.count_split_keys(hashes[~verdicts.failed])
        return part_names(split.assign(hashes))

    def _describe(self, good: pl.DataFrame, times: npt.NDArray[np.float64] | None, profile: Profile) -> None:
        training = good.filter(pl.col(SPLIT_COLUMN) == "train")
        profile.add(
            Profile(
                columns={name: ColumnProfile.of(training[name]) for name, _ in self.recipe.features},
                parts=Counter(dict(good[SPLIT_COLUMN].value_counts().iter_rows())),
                timestamps=self.recipe.time_is_timestamp,
            )
        )
        for part in PARTS:
            rows = good[SPLIT_COLUMN] == part
            if self.recipe.target is not None:
                profile.count_labels(part, good[TARGET_COLUMN].filter(rows))
            if times is not None:
                profile.count_times(part, times[rows.to_numpy()])


def prepare(
    project: Project, *, replace: bool = False, executor: Executor, reporter: Reporter | None = None
) -> StageResult:
    """Check, clean, compute and split the raw tables into ROOT/prepared.

    Args:
        project: the project.
        replace: write a new version where the destination holds one of other inputs or settings.
        executor: where the shards are computed.
        reporter: is told what happens.

    Raises:
        ConfigError: a column or expression is wrong.
        InputError: an input is missing or unreadable, or no row is left.
        RefusedError: the destination holds another plan.
        UnfinishedError: shards failed, or the error budget is exceeded.
    """
    began, reporter = time.monotonic(), reporter or Silent()
    source, destination = data_source(project), project.stage("prepared")
    inputs = look_at_inputs(source, destination, executor)
    recipe = compile_recipe(project, inputs.schema)
    keys = key_types(recipe, inputs.schema)
    for note in [*inputs.notes, *table_notes(recipe, project, inputs.schema)]:
        reporter.say(f"prepare: {note}")
    claimed = claim_inputs(
        destination,
        inputs,
        ingredients(project, recipe, source, keys),
        shard_rows=project.run.shard_rows,
        replace=replace,
        executor=executor,
    )
    version = claimed.version
    manifest = version.manifest()
    resumed = manifest is not None
    if manifest is None:
        manifest = fill(project, recipe, inputs, keys, claimed, executor, reporter)
        clean(version)
    else:
        project.policy.accept(manifest)
        version.make_current()
    profile = Profile.from_json(manifest.extra("profile.json"))
    return StageResult(
        command="prepare",
        destination=destination,
        seconds=time.monotonic() - began,
        rows_in=manifest.rows_in,
        rows_out=manifest.rows_out,
        rows_quarantined=manifest.rows_quarantined,
        shards=manifest.shards,
        resumed=resumed,
        reasons=manifest.reasons,
        details={"parts": dict(profile.parts), "by_part": part_facts(profile)},
    )


def key_types(recipe: Recipe, table: TableSchema) -> list[pa.DataType]:
    """The type of each key column in prepared shards.

    Raises:
        InputError: the files have no type in common.
    """
    declared = recipe.contract.declared
    return [table.stored_type(name, declared.get(name)) for name in recipe.key]


def table_notes(recipe: Recipe, project: Project, table: TableSchema) -> list[str]:
    """What a user should know of the columns of the raw tables: those left out, and those that differ by file."""
    notes = [f"column {name} is left out, because {why}" for name, why in table.unread.items()]
    used = list(recipe.contract.kinds)
    if not project.features.expressions:  # all columns are features: say which are not
        used += [name for name in table.kinds if name not in table.leading and name not in used]
    declared = recipe.contract.declared
    return notes + list(table.differences(name for name in used if name not in declared))


def ingredients(project: Project, recipe: Recipe, source: Source, keys: list[pa.DataType]) -> dict[str, Any]:
    """All that decides the prepared bytes besides the inputs."""
    return {
        "stage": "prepare",
        "format_version": FORMAT_VERSION,
        "recipe": json.loads(recipe.to_json()),
        "contract": json.loads(recipe.contract.to_json()),
        "split": project.split.model_dump(mode="json") | {"seed": project.project.seed},
        "format": None if source.csv is None else asdict(source.csv),
        "key_types": [str(kind) for kind in keys],
    }


def fill(
    project: Project,
    recipe: Recipe,
    inputs: Inputs,
    keys: list[pa.DataType],
    claimed: Claimed,
    executor: Executor,
    reporter: Reporter,
) -> Manifest:
    """Bring a claimed version to its published manifest. Arguments and errors: see `prepare`."""
    version, plan = claimed.version, claimed.plan
    by_time = project.split.by == "time"
    buckets = bucket_count(plan.rows) if recipe.key else 0
    reading = recipe.written_as(inputs.source.csv)
    policy = project.policy

    def progress(step: str) -> Any:
        return lambda p: reporter.progress(step, p)

    if recipe.key or by_time:
        survey = SurveyTask(reading, inputs.source, max(buckets, 1), by_time)
        run_step(version, plan, survey, executor, step=SURVEY, policy=policy, on_progress=progress("survey"))
    if buckets:
        shards = bucket_shards(buckets, plan.rows)
        run_step(
            version,
            shards,
            DuplicatesTask(version),
            executor,
            step=DUPLICATES,
            policy=policy,
            on_progress=progress("duplicates"),
        )
    split = SplitRule(HashSplit(project.split.shares.of_parts, project.project.seed), project.split.key or recipe.key)
    if by_time:
        sketch = merged_times(version, plan)
        split = SplitRule(TimeSplit(time_cuts(sketch, project.split, timestamps=recipe.time_is_timestamp)), ())
    task = PrepareTask(reading, inputs.source, split, _schema(recipe, keys), version, buckets)
    totals = run_step(version, plan, task, executor, policy=policy, on_progress=progress("prepare"))
    profile = Profile()
    for record in records(version, plan):
        if record.sidecar is not None:
            profile.add(Profile.from_json(version.store.get(record.sidecar)))
    if not sum(profile.parts.values()):
        why = inputs.why_no_row() if plan.rows else None
        quarantine = f"see the rows in {version.store.locate(version.base)}/quarantine"
        raise InputError(
            "no row is left after preparation, so nothing was published",
            expected="at least one row that keeps the contract",
            found=f"{plan.rows:,} rows, all of them quarantined: {'; '.join(list(totals.reasons)[:5])}"
            if plan.rows
            else "files without rows",
            next_step="; ".join(
                [why.next_step, quarantine] if why else [quarantine if plan.rows else "check data.source"]
            ),
        )
    refuse_empty_parts(profile, project.split, split.key, totals.reasons)
    profile.split_keys = None
    extras = {
        "recipe.json": recipe.to_json().encode(),
        "contract.json": recipe.contract.to_json().encode(),
        "profile.json": profile.to_json(),
        "split.json": split.to_json(),
        "categories.json": json.dumps(fitted_categories(recipe, profile)).encode(),
    }
    return publish(version, plan, extra=extras, summary={"stage": "prepare"})


def fitted_categories(recipe: Recipe, profile: Profile) -> dict[str, list[str]]:
    """Categories of the training rows by feature, ordered by their UTF-8 bytes: a category's place is its code."""
    return {name: sorted(profile.columns[name].categories, key=str.encode) for name in recipe.categorical}


_TARGET_TYPES = {Kind.NUMBER: pa.float64(), Kind.BOOLEAN: pa.bool_(), Kind.STRING: pa.string()}


def _schema(recipe: Recipe, keys: list[pa.DataType]) -> pa.Schema:
    fields = [pa.field(name, kind) for name, kind in zip(recipe.key_names, keys, strict=True)]
    if recipe.target_expression is not None:
        fields.append(pa.field(TARGET_COLUMN, _TARGET_TYPES[recipe.target_expression.kind]))
    fields.append(pa.field(SPLIT_COLUMN, pa.string()))
    for name, _ in recipe.features:
        fields.append(pa.field(name, pa.string() if name in recipe.categorical else pa.float64()))
    return pa.schema(fields)
