"""check: a project file against its data, without running anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rayforest.bundle.export import refuse_inexpressible
from rayforest.bundle.outputs import possible_outputs
from rayforest.checking.rows import look_at_rows
from rayforest.engine.executors import refuse_unreachable
from rayforest.engine.usable import refuse_unusable
from rayforest.errors import InputError
from rayforest.features.compile_recipe import compile_recipe
from rayforest.features.recipe import Recipe
from rayforest.metrics.problem import ProblemKind
from rayforest.onnx.feature_graph import approximate
from rayforest.preparing.prepare import key_types, table_notes
from rayforest.project.load import ProjectLike, loaded_project
from rayforest.project.sections import Project
from rayforest.scoring.publication import Publication
from rayforest.scoring.scored_table import passed_on_columns, refuse_output_names, score_contract, scored_schema
from rayforest.stages.inputs import Inputs, data_source, look_at_inputs, score_source
from rayforest.tables.schema import TableSchema
from rayforest.tuning.parameters import tune_section
from rayforest.tuning.rehearsal import refuse_bad_values
from rayforest.tuning.space import search_space


@dataclass(frozen=True)
class CheckReport:
    """What a valid project would do."""

    name: str
    files: int
    bytes: int
    score_files: int
    key: tuple[str, ...]
    target: str | None
    features: dict[str, str]
    """Feature -> number, boolean or category."""
    notes: tuple[str, ...]
    """What a user should know before running."""
    parts: dict[str, dict[str, object]] = field(default_factory=dict)
    """What train, valid and test hold (see `features.parts`). Empty where the source is large and not prepared."""

    def as_dict(self) -> dict[str, object]:
        """The JSON object of --json."""
        return {"command": "check", **{k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}}


@dataclass(frozen=True)
class Checked:
    """What the checks of a stage look at."""

    project: Project
    recipe: Recipe
    inputs: Inputs
    """The tables that prepare reads."""
    to_score: Inputs
    """Those that score reads."""

    @property
    def scored(self) -> TableSchema:
        """Of the tables that score reads."""
        return self.to_score.schema

    @property
    def table(self) -> TableSchema:
        """Of the tables that prepare reads."""
        return self.inputs.schema


def _prepare(it: Checked) -> None:
    key_types(it.recipe, it.table)
    if not it.table.has_rows:
        why = it.inputs.why_no_row()
        raise InputError(
            "no row of data.source can be read, so there is nothing to prepare",
            expected="at least one row that keeps the contract",
            found=why.found if why else f"files without rows, such as {it.table.variants[0].path}",
            next_step=why.next_step if why else "check data.source and its format",
        )


def _tune(it: Checked) -> None:
    refuse_unusable(it.project.stage("tuned"))
    settings = tune_section(it.project)
    space = search_space(settings.space, categories=bool(it.recipe.categorical))
    if it.recipe.target is not None:
        kind: ProblemKind = "regression" if settings.metric in ("rmse", "mae") else "binary"
        refuse_bad_values(space, kind, len(it.recipe.features))


def _export(it: Checked) -> None:
    refuse_unusable(it.project.stage("bundle"))
    refuse_inexpressible(it.recipe, it.project.export.graph)


def _score(it: Checked) -> None:
    refuse_unusable(it.project.stage("scored"))
    section = it.project.score
    score_contract(it.recipe, section, it.scored)
    schema = scored_schema(it.recipe, section, it.scored, [])
    if (publication := Publication.of(it.project)) is not None:
        publication.refuse(schema)
    refuse_output_names(
        passed_on_columns(it.recipe, section), possible_outputs(section, it.recipe, it.project.tune.metric)
    )


STAGES: tuple[Callable[[Checked], None], ...] = (_prepare, _tune, _export, _score)
"""What each stage refuses before its first shard, in the functions by which the stage itself refuses it."""


def check(project: ProjectLike, *, overrides: Sequence[str] = ()) -> CheckReport:
    """Validate a project file against its data: files, columns, every expression, and what each stage would refuse.

    Opens each file: the footer of a Parquet file, the header and a sample of rows of a text table. None is opened where
    prepare or score has seen them all before.

    Args:
        project: the path of a project file, or a `Project` from `load_project`.
        overrides: `section.key=value` texts that win over the file's keys, as --set does; only with a path.

    Raises:
        ConfigError: something in the project file is wrong.
        InputError: an input is missing or unreadable, or its files do not fit together.
    """
    loaded = loaded_project(project, overrides)
    refuse_unreachable(loaded.run.executor, loaded.run.address)
    checked = _look(loaded)
    recipe, inputs, scored = checked.recipe, checked.inputs, checked.to_score
    for refuse in STAGES:
        refuse(checked)
    rows = look_at_rows(loaded, recipe, inputs)
    return CheckReport(
        name=loaded.project.name,
        files=len(inputs.files),
        bytes=sum(f.size for f in inputs.files),
        score_files=len(scored.files),
        key=recipe.key,
        target=recipe.target,
        features={
            name: "category" if name in recipe.categorical else str(e.kind) for name, e in recipe.expressions.items()
        },
        notes=(*dict.fromkeys([*inputs.notes, *scored.notes]), *_notes(checked), *rows.notes),
        parts=rows.parts,
    )


def refuse_what_follows(project: Project) -> None:
    """Refuse after prepare what export and score would refuse after the training.

    Raises:
        ConfigError, InputError: as these stages say it.
    """
    it = _look(project)
    _export(it)
    score_contract(it.recipe, project.score, it.scored)
    scored_schema(it.recipe, project.score, it.scored, [])


def _look(project: Project) -> Checked:
    inputs = look_at_inputs(data_source(project), project.stage("prepared"))
    apart = score_source(project) != data_source(project)
    to_score = look_at_inputs(score_source(project), project.stage("scored")) if apart else inputs
    return Checked(project, compile_recipe(project, inputs.schema), inputs, to_score)


def _notes(it: Checked) -> list[str]:
    notes, recipe = [], it.recipe
    if recipe.target is None:
        notes.append("there is no target: prepare works, tune will not")
    if not recipe.key:
        notes.append("there is no key: repeated rows are not found, and the split treats each row for itself")
    target = set(recipe.target_expression.columns) if recipe.target_expression is not None else set()
    for name, expression in recipe.expressions.items():
        if given := sorted(target.intersection(expression.columns)):
            uses = f"feature {name} uses {', '.join(given)}"
            notes.append(f"{uses}, which the target is made of: it gives the answer away")
        if it.project.export.graph == "full" and (found := approximate(expression)):
            notes.append(f"feature {name} uses {', '.join(found)}: the graph may differ from Polars in the last bits")
    notes += table_notes(recipe, it.project, it.table)
    if it.scored is not it.table:
        notes += [f"of score.source: {note}" for note in it.scored.differences(recipe.feature_columns)]
        kinds = recipe.contract.kinds
        notes += [
            f"column {name} is a {kinds[name]} in data.source and a {it.scored.kinds[name]} in score.source"
            for name in recipe.feature_columns
            if kinds[name] is not it.scored.kinds[name]
        ]
    return notes
