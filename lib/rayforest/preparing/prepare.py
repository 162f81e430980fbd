"""prepare: raw tables to checked, cleaned and split feature shards.

One version of ROOT/prepared goes through a survey of all rows (only where there is a key or a split by time) and a
comparison of their keys (see survey.py and repeated_keys.py), then the main step, which writes a Parquet file a shard:
key columns as they came, `target`, `split` (train, valid, test), and the features in the order of the model's inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from rayforest.engine.commit import Version
from rayforest.engine.manifest import Manifest
from rayforest.engine.merging import MergeableT, merged
from rayforest.engine.plan import Plan
from rayforest.engine.progress import Progress
from rayforest.engine.run import run_step
from rayforest.errors import InputError
from rayforest.features.compile_recipe import compile_recipe
from rayforest.features.fitted import FittedFeatures
from rayforest.features.parts import part_facts
from rayforest.features.profile import Profile
from rayforest.features.recipe import SPLIT_COLUMN, TARGET_COLUMN, Recipe
from rayforest.formats import CONTRACT, PROFILE, SPLIT, TIMES, Format
from rayforest.kinds import Kind
from rayforest.preparing.empty_parts import refuse_empty_parts, time_cuts
from rayforest.preparing.repeated_keys import RepeatedKeys, find_repeated_keys
from rayforest.preparing.split import HashSplit, TimeSketch, TimeSplit
from rayforest.preparing.split_rule import SplitRule
from rayforest.preparing.survey import SURVEY, SurveyTask, key_hashes
from rayforest.preparing.task import PrepareTask
from rayforest.project.sections import Project
from rayforest.stages.inputs import Inputs, data_source, look_at_inputs
from rayforest.stages.result import Facts, StageResult
from rayforest.stages.stage import Claimed, Context, Product, run_stage
from rayforest.tables.schema import TableSchema

FORMAT_VERSION = 3
"""Of the prepared shards and their extras. A change here changes every plan key."""


@dataclass(frozen=True, kw_only=True)
class PreparedFacts(Facts):
    """What train, valid and test hold."""

    parts: dict[str, int]
    """Rows by part."""
    by_part: dict[str, dict[str, Any]]
    """See `features.parts.part_facts`."""

    def as_dict(self) -> dict[str, object]:
        """The stage's own keys of the JSON object of --json."""
        return {"parts": self.parts, "by_part": self.by_part}


@dataclass(frozen=True)
class Prepare:
    """The stage: data.source to ROOT/prepared."""

    context: Context
    inputs: Inputs
    recipe: Recipe
    command: str = field(default="prepare", init=False)

    @classmethod
    def look(cls, context: Context) -> Prepare:
        """Open the raw tables, and compile what the project asks of them.

        Raises:
            ConfigError: a column or expression is wrong.
            InputError: an input is missing or unreadable.
        """
        project, reporter = context.project, context.reporter
        inputs = look_at_inputs(data_source(project), project.stage("prepared"), context.executor)
        stage = cls(context, inputs, compile_recipe(project, inputs.schema))
        for note in [*inputs.notes, *table_notes(stage.recipe, project, inputs.schema)]:
            reporter.say(f"prepare: {note}")
        return stage

    @property
    def destination(self) -> str:
        """ROOT/prepared."""
        return self.context.project.stage("prepared")

    def ingredients(self) -> dict[str, Any]:
        """All that decides the prepared bytes besides the inputs."""
        project, source = self.context.project, self.inputs.source
        return {
            "format_version": FORMAT_VERSION,
            "recipe": {"format_version": self.recipe.version, **self.recipe.as_dict()},
            "contract": {"format_version": CONTRACT.version, **self.recipe.contract.as_dict()},
            "split": project.split.model_dump(mode="json") | {"seed": project.project.seed},
            "format": None if source.csv is None else asdict(source.csv),
            "key_types": [str(kind) for kind in key_types(self.recipe, self.inputs.schema)],
        }

    def work(self, claimed: Claimed) -> Product:
        """Survey, find duplicates, cut, prepare.

        Raises:
            InputError: no row is left, or a part is empty.
            UnfinishedError: shards failed, or the error budget is exceeded.
        """
        plan, version, recipe, project = claimed.plan, claimed.version, self.recipe, self.context.project
        assert plan is not None  # noqa: S101  raw tables have shards
        split, repeated = self._look_ahead(version, plan)
        reading = recipe.written_as(self.inputs.source.csv)
        task = PrepareTask(reading, self.inputs.source, split, self._schema(), repeated)
        totals = run_step(
            version, plan, task, self.context.executor, policy=project.policy, on_progress=self._progress("prepare")
        )
        profile = self._merged(version, plan, PROFILE, Profile)
        if not sum(profile.parts.values()):
            raise self._no_row_left(claimed, totals.reasons)
        refuse_empty_parts(profile, project.split, split.key, totals.reasons)
        profile.split_keys = None
        described = {
            "profile.json": PROFILE.write(profile.as_dict()),
            "split.json": SPLIT.write(split.as_dict(), indent=1),
        }
        return Product(FittedFeatures.fit(recipe, profile).prepared_files() | described)

    def facts(self, manifest: Manifest) -> PreparedFacts:
        """From the profile."""
        profile = manifest.read("profile.json", PROFILE, Profile.from_document)
        return PreparedFacts(parts=dict(profile.parts), by_part=part_facts(profile))

    def _look_ahead(self, version: Version, plan: Plan) -> tuple[SplitRule, RepeatedKeys | None]:
        """What must be known of all rows first: the rule of the split, and the rows whose key is repeated."""
        project, recipe, executor = self.context.project, self.recipe, self.context.executor
        by_time, repeated = project.split.by == "time", None
        if recipe.key or by_time:
            reading = recipe.written_as(self.inputs.source.csv)
            survey = SurveyTask(reading, self.inputs.source, key_hashes(version, len(plan)), by_time)
            on_progress = self._progress("survey")
            keys = run_step(
                version, plan, survey, executor, step=SURVEY, policy=project.policy, on_progress=on_progress
            ).rows_out
            if recipe.key:
                on_progress = self._progress("duplicates")
                repeated = find_repeated_keys(version, len(plan), keys, executor, project.policy, on_progress)
        if by_time:
            sketch = self._merged(version, plan, TIMES, TimeSketch, step=SURVEY)
            cuts = time_cuts(sketch, project.split, timestamps=recipe.time_is_timestamp)
            return SplitRule(TimeSplit(cuts), ()), repeated
        by_hash = HashSplit(project.split.shares.of_parts, project.project.seed)
        return SplitRule(by_hash, project.split.key or recipe.key), repeated

    def _merged(self, version: Version, plan: Plan, form: Format, kind: type[MergeableT], step: str = "") -> MergeableT:
        context, on_progress = self.context, self._progress("merge")
        return merged(
            version,
            plan,
            form,
            kind,
            context.executor,
            step=step,
            policy=context.project.policy,
            on_progress=on_progress,
        )

    def _progress(self, step: str) -> Callable[[Progress], None]:
        return partial(self.context.reporter.progress, step)

    def _schema(self) -> pa.Schema:
        recipe, types = self.recipe, key_types(self.recipe, self.inputs.schema)
        fields = [pa.field(name, kind) for name, kind in zip(recipe.key_names, types, strict=True)]
        if recipe.target_expression is not None:
            fields.append(pa.field(TARGET_COLUMN, _TARGET_TYPES[recipe.target_expression.kind]))
        fields.append(pa.field(SPLIT_COLUMN, pa.string()))
        for name, _ in recipe.features:
            fields.append(pa.field(name, pa.string() if name in recipe.categorical else pa.float64()))
        return pa.schema(fields)

    def _no_row_left(self, claimed: Claimed, reasons: dict[str, int]) -> InputError:
        rows = claimed.plan.rows if claimed.plan is not None else 0
        why = self.inputs.why_no_row() if rows else None
        quarantine = f"see the rows in {claimed.version.store.locate(claimed.version.base)}/quarantine"
        return InputError(
            "no row is left after preparation, so nothing was published",
            expected="at least one row that keeps the contract",
            found=f"{rows:,} rows, all of them quarantined: {'; '.join(list(reasons)[:5])}"
            if rows
            else "files without rows",
            next_step="; ".join([why.next_step, quarantine] if why else [quarantine if rows else "check data.source"]),
        )


def prepare(context: Context, *, replace: bool = False) -> StageResult[PreparedFacts]:
    """Check, clean, compute and split data.source into ROOT/prepared. Errors: see `Prepare`, `run_stage`."""
    return run_stage(Prepare.look, context, replace=replace)


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


_TARGET_TYPES = {Kind.NUMBER: pa.float64(), Kind.BOOLEAN: pa.bool_(), Kind.STRING: pa.string()}
