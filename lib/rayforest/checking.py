"""check: a project file against its data, without running anything."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rayforest.api import ProjectLike
from rayforest.data.inputs import data_source, score_source
from rayforest.data.recipe import Recipe, compile_recipe
from rayforest.data.source import columns, list_files, unsupported_columns
from rayforest.errors import ConfigError, InputError, did_you_mean
from rayforest.onnx.feature_graph import approximate
from rayforest.project import Project, load_project
from rayforest.scoring.export import refuse_inexpressible
from rayforest.training.space import search_space


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

    def as_dict(self) -> dict[str, object]:
        """The JSON object of --json."""
        return {"command": "check", **{k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}}


def check(project: ProjectLike, *, overrides: Sequence[str] = ()) -> CheckReport:
    """Validate a project file against its data: files, columns, every expression, the search space.

    Opens the first file of each source only.

    Raises:
        ConfigError: something in the project file is wrong.
        InputError: an input is missing or unreadable.
    """
    loaded = project if isinstance(project, Project) else load_project(project, overrides)
    source = data_source(loaded)
    files = list(list_files(source))
    found = columns(files[0], source)
    recipe = compile_recipe(loaded, found)
    refuse_inexpressible(recipe, loaded.export.graph)
    search_space(loaded.tune.space, categories=bool(recipe.categorical))
    scored = score_source(loaded)
    score_files = list(list_files(scored)) if loaded.score.source else files
    _check_score_columns(recipe, loaded, columns(score_files[0], scored), score_files[0].path)
    return CheckReport(
        name=loaded.project.name,
        files=len(files),
        bytes=sum(f.size for f in files),
        score_files=len(score_files),
        key=recipe.key,
        target=recipe.target,
        features={
            name: "category" if name in recipe.categorical else str(e.kind) for name, e in recipe.expressions.items()
        },
        notes=tuple(_notes(recipe, loaded, unsupported_columns(files[0]))),
    )


def _check_score_columns(recipe: Recipe, project: Project, found: Collection[str], file: str) -> None:
    for name in (*recipe.feature_columns, *recipe.key):
        if name not in found:
            raise InputError(f"{file}, which score reads, has no column {name!r}", next_step=did_you_mean(name, found))
    for name in project.score.carry:
        if name not in found:
            raise ConfigError(f"score.carry: {file} has no column {name!r}", next_step=did_you_mean(name, found))


def _notes(recipe: Recipe, project: Project, unsupported: dict[str, str]) -> list[str]:
    notes = []
    if recipe.target is None:
        notes.append("there is no target: prepare works, tune will not")
    if not recipe.key:
        notes.append("there is no key: repeated rows are not found, and the split treats each row for itself")
    for name, expression in recipe.expressions.items():
        if project.export.graph == "full" and (found := approximate(expression)):
            notes.append(f"feature {name} uses {', '.join(found)}: the graph may differ from Polars in the last bits")
    for name, stored in unsupported.items():
        notes.append(f"column {name} is left out: rayforest does not read {stored}")
    return notes
