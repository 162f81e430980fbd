"""score: a bundle and raw tables to scored Parquet, every row exactly once.

A shard is one task (see `ScoreTask`). Its file holds the key and carried columns (see `passed_on`), what the model
says, and which part of the training tables the row belongs to; rows that fail the contract go to quarantine.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from functools import partial

import pyarrow as pa

from rayforest.bundle.bundle import Bundle, load_bundle
from rayforest.bundle.outputs import Outputs
from rayforest.engine.executors import Executor
from rayforest.engine.publish import clean, publish
from rayforest.engine.run import records, run_step
from rayforest.features.recipe import SPLIT_COLUMN
from rayforest.project.sections import Project
from rayforest.scoring.scored_table import passed_on_columns, score_contract, scored_schema
from rayforest.scoring.task import ScoreTask
from rayforest.scoring.totals import Totals, read_document
from rayforest.stages.claim import Inputs, claim_inputs, look_at_inputs, score_source
from rayforest.stages.result import Reporter, Silent, StageResult

FORMAT_VERSION = 3
"""Of scored files. A change here changes every plan key."""


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
    for note in inputs.notes:
        reporter.say(f"score: {note}")
    contract = score_contract(recipe, project.score, inputs.schema).written_as(inputs.source.csv)
    names = passed_on_columns(recipe, project.score)
    with_split, notes = _has_split(bundle, names, inputs)
    split = [pa.field(SPLIT_COLUMN, pa.string())] if with_split else []
    schema = scored_schema(recipe, project.score, inputs.schema, [*outputs.schema(), *split])
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
        settings = (project.score.engine, source, contract, names, outputs, schema, with_split)
        task = ScoreTask(bundle.location, bundle.digest, *settings)
        engine, why = task.prove(next(iter(plan), None))
        details = {"engine": engine, "engine_because": why}
        reporter.say(f"score: {plan.rows:,} rows in {plan.shards:,} shards, engine {engine}: {why}")
        on_progress = partial(reporter.progress, "score")
        run_step(version, plan, task, executor, policy=project.policy, on_progress=on_progress)
        totals = Totals(outputs.threshold)
        for record in records(version, plan):
            if record.sidecar is not None:
                totals.merge(Totals.from_json(version.store.get(record.sidecar)))
        document = totals.document(bundle.problem, bundle.training[1])
        document["notes"] += notes
        extra = {"metrics.json": json.dumps(document, indent=1).encode()}
        manifest = publish(version, plan, extra=extra, summary={"stage": "score", "bundle": bundle.digest})
        clean(version)
    else:
        project.policy.accept(manifest)
        version.make_current()
    told = read_document(manifest.extra("metrics.json"))
    return StageResult(
        command="score",
        destination=destination,
        seconds=time.monotonic() - began,
        rows_in=manifest.rows_in,
        rows_out=manifest.rows_out,
        rows_quarantined=manifest.rows_quarantined,
        shards=manifest.shards,
        resumed=resumed,
        metrics=told["metrics"],
        reasons=manifest.reasons,
        details=details | {k: v for k, v in told.items() if k not in ("metrics", "format_version")},
    )


def _has_split(bundle: Bundle, passed_on: tuple[str, ...], inputs: Inputs) -> tuple[bool, list[str]]:
    """Whether scored rows have their part as a column, which their files decide; and what to say of it."""
    training, _ = bundle.training
    if training is None or not any(training.knows(*file) == "read" for file in inputs.named):
        return False, []
    if SPLIT_COLUMN in passed_on:
        return False, [f"the part of each row is no column: {SPLIT_COLUMN!r} is a key or carried column"]
    return True, []
