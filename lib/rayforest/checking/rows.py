"""check, second half: what the rows themselves tell, where they are prepared or few enough to be tried."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rayforest.checking.preview import Preview, preview
from rayforest.errors import InputError, UnfinishedError
from rayforest.features.parts import part_facts
from rayforest.features.recipe import Recipe
from rayforest.metrics.defined import refuse_undefined
from rayforest.metrics.problem import find_problem
from rayforest.project.sections import Project
from rayforest.stages.inputs import Inputs
from rayforest.tuning.notes import notes_before

A_FEW_ROWS = 50
"""A table of fewer rows that is not prepared tries out a project file: what its rows lack is noted, not refused."""


@dataclass(frozen=True)
class Rows:
    """What is known of the rows."""

    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What train, valid and test hold; empty where that is not known."""
    notes: tuple[str, ...] = ()


def look_at_rows(project: Project, recipe: Recipe, inputs: Inputs) -> Rows:
    """Find out what the parts hold, and what prepare and tune would say of it.

    Raises:
        ConfigError: the metric does not fit the target.
        InputError: prepare would refuse the rows, or tune what the parts hold.
    """
    try:
        seen = preview(project, recipe, inputs)
    except UnfinishedError as error:
        return Rows(notes=(f"prepare would not come to an end: {error.what} ({error.found})",))
    if seen is None:
        return Rows(notes=("the source is large: what train, valid and test hold is known after prepare",))
    if seen.refusal is not None:
        return Rows(notes=_refused("prepare", seen.refusal, seen))
    manifest, profile = seen.manifest, seen.profile
    notes = []
    if manifest is not None and manifest.rows_quarantined:
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in list(manifest.reasons.items())[:3])
        notes.append(f"prepare quarantines {manifest.rows_quarantined:,} of {manifest.rows_in:,} rows: {reasons}")
    if recipe.target is not None:
        try:
            problem = find_problem(recipe, profile, project.tune.metric)
            refuse_undefined(problem, profile, project.split)
            notes += notes_before(problem, profile, [name for name, _ in recipe.features])
        except InputError as error:
            notes += _refused("tune", error, seen)
    return Rows(part_facts(profile), tuple(notes))


def _refused(stage: str, error: InputError, seen: Preview) -> tuple[str, ...]:
    """A note of what a stage would refuse, where a few rows only were tried; else the refusal itself."""
    if seen.rows >= A_FEW_ROWS or seen.published:
        raise error
    return (f"{stage} would refuse these {seen.rows:,} rows: {error.what}",)
