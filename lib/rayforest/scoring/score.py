"""score: a bundle and raw tables to scored Parquet, every row exactly once.

A shard is one task (see `ScoreTask`). Its file holds the key and carried columns (see `passed_on`), what the model
says, and which part of the training tables the row belongs to; rows that fail the contract go to quarantine.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from rayforest.bundle.bundle import Bundle, load_bundle
from rayforest.bundle.outputs import Outputs
from rayforest.engine.manifest import Manifest
from rayforest.engine.merging import merged
from rayforest.engine.run import run_step
from rayforest.features.contract import Contract
from rayforest.features.recipe import SPLIT_COLUMN
from rayforest.formats import SCORED_METRICS, TOTALS
from rayforest.metrics.mergeable import scored_metrics
from rayforest.scoring.publication import Publication
from rayforest.scoring.scored_table import passed_on_columns, score_contract, scored_schema
from rayforest.scoring.task import ScoreTask
from rayforest.scoring.totals import Totals
from rayforest.stages.inputs import Inputs, look_at_inputs, score_source
from rayforest.stages.result import Facts, StageResult
from rayforest.stages.stage import Claimed, Context, Product, run_stage

FORMAT_VERSION = 4
"""Of scored files. A change here changes every plan key."""


@dataclass(frozen=True, kw_only=True)
class ScoredFacts(Facts):
    """What was learnt of the scored rows; `metrics` are of those with a target that the model was not trained on."""

    engine: tuple[str, str] | None
    """What added up the trees, and why; None where the result was there already."""
    published: dict[str, Any] | None = None
    """The Delta table of score.publish: `delta`, its `version`, and whether this run `added` the result to it."""
    document: dict[str, Any]
    """metrics.json."""

    @property
    def notes(self) -> list[str]:
        """What a reader of the metrics should know."""
        return list(self.document.get("notes", []))

    def as_dict(self) -> dict[str, object]:
        """The stage's own keys of the JSON object of --json."""
        engine = {} if self.engine is None else dict(zip(("engine", "engine_because"), self.engine, strict=True))
        published = {} if self.published is None else {"published": self.published}
        return engine | published | {k: v for k, v in self.document.items() if k != "metrics"}


@dataclass
class Score:
    """The stage: score.source and ROOT/bundle to ROOT/scored or score.destination."""

    context: Context
    inputs: Inputs
    bundle: Bundle
    contract: Contract
    """What the rows of this run must hold."""
    command: str = field(default="score", init=False)
    _engine: tuple[str, str] | None = field(default=None, init=False)

    @classmethod
    def look(cls, context: Context) -> Score:
        """Load the bundle and open the tables to score.

        Raises:
            InputError: there is no bundle, or an input is missing or unreadable.
            ConfigError: the source lacks a column that the bundle needs.
        """
        project = context.project
        bundle = load_bundle(project.stage("bundle"))
        inputs = look_at_inputs(score_source(project), project.stage("scored"), context.executor)
        for note in inputs.notes:
            context.reporter.say(f"score: {note}")
        contract = score_contract(bundle.features.recipe, project.score, inputs.schema)
        stage = cls(context, inputs, bundle, contract.written_as(inputs.source.csv))
        if (publication := Publication.of(project)) is not None:
            publication.refuse(stage._schema)
        return stage

    @property
    def destination(self) -> str:
        """ROOT/scored, or score.destination."""
        return self.context.project.stage("scored")

    def ingredients(self) -> dict[str, Any]:
        """All that decides the scored bytes besides the inputs."""
        source = self.inputs.source
        return {
            "format_version": FORMAT_VERSION,
            "bundle": self.bundle.digest,
            "threshold": self._outputs.threshold,
            "passed_on": list(self._passed_on),
            "schema": [f"{f.name}: {f.type}" for f in self._schema],
            "format": None if source.csv is None else asdict(source.csv),
        }

    def work(self, claimed: Claimed) -> Product:
        """Prove the engine, and score every shard.

        Raises:
            UnfinishedError: shards failed, or the error budget is exceeded.
        """
        context, project, bundle = self.context, self.context.project, self.bundle
        version, plan = claimed.version, claimed.plan
        assert plan is not None  # noqa: S101  raw tables have shards
        task = ScoreTask(
            bundle.location,
            bundle.digest,
            project.score.engine,
            self.inputs.source,
            self.contract,
            self._passed_on,
            self._outputs,
            self._schema,
            self._split_column[0],
        )
        self._engine = task.prove(next(iter(plan), None))
        engine, why = self._engine
        context.reporter.say(f"score: {plan.rows:,} rows in {plan.shards:,} shards, engine {engine}: {why}")
        on_progress = partial(context.reporter.progress, "score")
        run_step(version, plan, task, context.executor, policy=project.policy, on_progress=on_progress)
        on_progress = partial(context.reporter.progress, "merge")
        totals = merged(version, plan, TOTALS, Totals, context.executor, policy=project.policy, on_progress=on_progress)
        document = totals.document(bundle.problem, bundle.training[1])
        document["notes"] += self._split_column[1]
        return Product({"metrics.json": SCORED_METRICS.write(document, indent=1)}, {"bundle": bundle.digest})

    def facts(self, manifest: Manifest) -> ScoredFacts:
        """From metrics.json."""
        document = manifest.read("metrics.json", SCORED_METRICS, scored_metrics)
        return ScoredFacts(metrics=document["metrics"], engine=self._engine, document=document)

    @cached_property
    def _outputs(self) -> Outputs:
        return Outputs.of(self.context.project.score, self.bundle.problem)

    @cached_property
    def _passed_on(self) -> tuple[str, ...]:
        return passed_on_columns(self.bundle.features.recipe, self.context.project.score)

    @cached_property
    def _split_column(self) -> tuple[bool, list[str]]:
        return _has_split(self.bundle, self._passed_on, self.inputs)

    @cached_property
    def _schema(self) -> pa.Schema:
        split = [pa.field(SPLIT_COLUMN, pa.string())] if self._split_column[0] else []
        fields = [*self._outputs.schema(), *split]
        return scored_schema(self.bundle.features.recipe, self.context.project.score, self.inputs.schema, fields)


def score(context: Context, *, replace: bool = False) -> StageResult[ScoredFacts]:
    """Score score.source into ROOT/scored or score.destination, and publish it. Errors: see `Score`, `run_stage`."""
    publication = Publication.of(context.project)
    if publication is None:
        return run_stage(Score.look, context, replace=replace)
    outcome: dict[str, Any] = {}
    result = run_stage(
        Score.look,
        context,
        replace=replace,
        then=lambda manifest: outcome.update(publication.commit(manifest, context.executor)),
    )
    how = "added to" if outcome["added"] else "already in"
    context.reporter.say(f"score: {how} the Delta table {publication.table}, version {outcome['version']}")
    return dataclasses.replace(result, facts=dataclasses.replace(result.facts, published=outcome))


def _has_split(bundle: Bundle, passed_on: tuple[str, ...], inputs: Inputs) -> tuple[bool, list[str]]:
    """Whether scored rows have their part as a column, which their files decide; and what to say of it."""
    training, _ = bundle.training
    if training is None or not any(training.knows(*file) == "read" for file in inputs.named):
        return False, []
    if SPLIT_COLUMN in passed_on:
        return False, [f"the part of each row is no column: {SPLIT_COLUMN!r} is a key or carried column"]
    return True, []
