"""score: a bundle and raw tables to scored Parquet, every row exactly once.

A shard is one task: read, check, compute, write. Its file holds the key and carried columns (see `passed_on`), then
what the model says; rows that fail the contract go to quarantine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property, partial

import numpy as np
import polars as pl
import pyarrow as pa

from rayforest.data.contract import ColumnContract, Contract, RowChecks
from rayforest.data.inputs import claim_inputs, look_at_inputs, score_source
from rayforest.data.passed_on import passed_on
from rayforest.data.raw import BATCH_ROWS, RawBatch, Source
from rayforest.data.recipe import Recipe
from rayforest.data.source import read, read_all
from rayforest.engine.attempt import Attempt
from rayforest.engine.executors import Executor
from rayforest.engine.publish import clean, publish
from rayforest.engine.run import records, run_step
from rayforest.engine.shards import Shard
from rayforest.errors import InputError
from rayforest.project import Project
from rayforest.report import Reporter, Silent, StageResult
from rayforest.scoring.bundle import load_bundle
from rayforest.scoring.engines import PROOF_ROWS, Choice, ProvenKernel
from rayforest.scoring.inputs import ModelInputs
from rayforest.scoring.outputs import Outputs
from rayforest.scoring.running_metrics import RunningMetrics
from rayforest.scoring.scored_table import passed_on_columns, score_contract, scored_schema
from rayforest.scoring.scorer import Scorer, scorer_of

FORMAT_VERSION = 3
"""Of scored files. A change here changes every plan key."""


@dataclass(frozen=True)
class ScoreTask:
    """A shard of raw rows to scored rows, quarantined rows and metric sums."""

    bundle: str
    digest: str
    engine: Choice
    source: Source
    contract: Contract
    passed_on: tuple[str, ...]
    """Key and carried columns."""
    outputs: Outputs
    schema: pa.Schema

    @cached_property
    def _scorer(self) -> Scorer:
        return scorer_of(self.bundle, self.digest, self.engine)

    @cached_property
    def model_inputs(self) -> ModelInputs:
        """What makes model inputs of raw rows."""
        return ModelInputs(self._scorer.bundle.recipe, self._scorer.bundle.categories, self.contract)

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        """Score one shard."""
        metrics = RunningMetrics(threshold=self.outputs.threshold)
        for batches in _together(read_all(shard.slices, self.source, self.columns, optional=self._optional)):
            rows = sum(batch.table.num_rows for batch in batches)
            attempt.count_in(rows + sum(len(batch.broken) for batch in batches))
            table = pa.concat_tables([batch.table for batch in batches]).combine_chunks()
            inputs, verdicts = self.model_inputs(table)
            handed_on = [passed_on(table, self.schema.field(n), self._columns.get(n), verdicts) for n in self.passed_on]
            if verdicts.failed.any() or any(batch.broken for batch in batches):
                attempt.quarantine(verdicts.quarantine(*batches))
            if verdicts.failed.any():
                keep = pa.array(~verdicts.failed)
                inputs, table = inputs.filter(keep), table.filter(keep)
                handed_on = [column.filter(keep) for column in handed_on]
            if inputs.num_rows:
                raw_score, prediction = self._scorer.score(inputs)
                scored = [*handed_on, *self.outputs.columns(raw_score, prediction)]
                attempt.write(pa.Table.from_arrays(scored, schema=self.schema))
                if self._truth is not None and self._truth.is_in(table):
                    labels = self._scorer.bundle.problem.encode(self._truth.targets(table))
                    metrics.update(self._scorer.bundle.problem, prediction, labels)
        if metrics.rows:
            attempt.sidecar(metrics.to_json())

    @cached_property
    def _columns(self) -> dict[str, ColumnContract]:
        return {column.name: column for column in self.contract.columns}

    @cached_property
    def columns(self) -> list[str]:
        """The raw columns to read, sorted."""
        return sorted({*self.contract.kinds, *self.passed_on})

    @cached_property
    def _optional(self) -> list[str]:
        return [name for name in self._truth.columns if name not in self.columns] if self._truth is not None else []

    def prove(self, first: Shard | None) -> tuple[str, str]:
        """The name of the engine, and why it is taken. Workers elsewhere prove the kernel again, on their own CPUs."""
        engine = self._scorer.engine
        if not isinstance(engine, ProvenKernel):
            return engine.name, "score.engine asks for it"
        proof = engine.prove(self._sample(first))
        return proof.engine.name, proof.reason

    def _sample(self, first: Shard | None) -> pa.Table:
        """Model inputs of the first rows of the first shard that pass the contract, from one batch of it."""
        for piece in first.slices if first is not None else ():
            by_row = piece.byte_stop == 0
            few = replace(piece, rows=min(piece.rows, 2 * PROOF_ROWS)) if by_row else piece
            try:
                batch = next(read(few, self.source, self.columns), None)
            except InputError:
                break  # the shard will say so
            if batch is not None:
                inputs, verdicts = self.model_inputs(batch.table)
                if not verdicts.failed.all():
                    return inputs.take(np.flatnonzero(~verdicts.failed)[:PROOF_ROWS])
        return pa.table({})

    @cached_property
    def _truth(self) -> Truth | None:
        return Truth.of(self._scorer.bundle.recipe)

    def __getstate__(self) -> dict[str, object]:
        """Without what a worker makes of it."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Truth:
    """The target, for files that have it: yesterday's rows have a label, tonight's have none."""

    columns: tuple[str, ...]
    value: pl.Expr
    check_rows: RowChecks

    @classmethod
    def of(cls, recipe: Recipe) -> Truth | None:
        """None where the recipe has no target."""
        expression, value = recipe.target_expression, recipe.target_value()
        if expression is None or value is None:
            return None
        columns = recipe.contract.only(expression.columns).columns
        return cls(tuple(expression.columns), value, RowChecks(Contract(columns)))

    def is_in(self, table: pa.Table) -> bool:
        """Whether these rows have the target's columns."""
        return set(table.column_names).issuperset(self.columns)

    def targets(self, table: pa.Table) -> pl.Series:
        """The target of each row, null where it cannot be computed: score does not judge it."""
        typed, _ = self.check_rows(table)
        return typed.select(self.value.alias("target")).to_series()


def _together(batches: Iterator[RawBatch]) -> Iterator[list[RawBatch]]:
    """Batches of the same columns, as many as a full batch has rows: most of the work costs the same for small ones."""
    waiting: list[RawBatch] = []
    rows = 0
    for batch in batches:
        if waiting and (
            rows + batch.table.num_rows > BATCH_ROWS or not batch.table.schema.equals(waiting[0].table.schema)
        ):
            yield waiting
            waiting, rows = [], 0
        waiting.append(batch)
        rows += batch.table.num_rows
        if rows >= BATCH_ROWS:  # before the next one is read
            yield waiting
            waiting, rows = [], 0
    if waiting:
        yield waiting


def score(
    project: Project, *, replace: bool = False, executor: Executor, reporter: Reporter | None = None
) -> StageResult:
    """Score `score.source` with ROOT/bundle into ROOT/scored or `score.destination`.

    Raises:
        InputError: there is no bundle, or an input is missing or unreadable.
        ConfigError: the source lacks a column that the bundle needs.
        RefusedError: the destination holds the scores of other inputs, another bundle or other settings.
        UnfinishedError: shards failed, or the error budget is exceeded.
    """
    began, reporter = time.monotonic(), reporter or Silent()
    bundle = load_bundle(project.stage("bundle"))
    source, destination = score_source(project), project.stage("scored")
    recipe, outputs = bundle.recipe, Outputs.of(project.score, bundle.problem)
    inputs = look_at_inputs(source, destination, executor)
    contract = score_contract(recipe, project.score, inputs.schema)
    schema = scored_schema(recipe, project.score, inputs.schema, outputs.schema())
    names = passed_on_columns(recipe, project.score)
    claimed = claim_inputs(
        destination,
        inputs,
        {
            "stage": "score",
            "format_version": FORMAT_VERSION,
            "bundle": bundle.digest,
            "threshold": outputs.threshold,
            "passed_on": list(names),
            "schema": [f"{f.name}: {f.type}" for f in schema],
            "format": None if source.csv is None else asdict(source.csv),
        },
        shard_rows=project.run.shard_rows,
        replace=replace,
        executor=executor,
    )
    version, plan = claimed.version, claimed.plan
    manifest = version.manifest()
    resumed, details = manifest is not None, dict[str, object]()
    if manifest is None:
        task = ScoreTask(bundle.location, bundle.digest, project.score.engine, source, contract, names, outputs, schema)
        engine, why = task.prove(next(iter(plan), None))
        details = {"engine": engine, "engine_because": why}
        reporter.say(f"score: {plan.rows:,} rows in {plan.shards:,} shards, engine {engine}: {why}")
        on_progress = partial(reporter.progress, "score")
        run_step(version, plan, task, executor, policy=project.policy, on_progress=on_progress)
        metrics = RunningMetrics()
        for record in records(version, plan):
            if record.sidecar is not None:
                metrics.merge(RunningMetrics.from_json(version.store.get(record.sidecar)))
        extra = {"metrics.json": json.dumps(metrics.metrics(bundle.problem)).encode()} if metrics.rows else {}
        manifest = publish(version, plan, extra=extra, summary={"stage": "score", "bundle": bundle.digest})
        clean(version)
    else:
        project.policy.accept(manifest)
        version.make_current()
    return StageResult(
        command="score",
        destination=destination,
        seconds=time.monotonic() - began,
        rows_in=manifest.rows_in,
        rows_out=manifest.rows_out,
        rows_quarantined=manifest.rows_quarantined,
        shards=manifest.shards,
        resumed=resumed,
        metrics=json.loads(manifest.extra("metrics.json")) if "metrics.json" in manifest.extras else {},
        reasons=manifest.reasons,
        details=details,
    )
