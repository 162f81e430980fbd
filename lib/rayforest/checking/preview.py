"""What prepare has made of its inputs, or would make of them where they are few enough to try it out in memory."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from rayforest.engine.executors import InProcess
from rayforest.engine.manifest import Manifest, open_manifest
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.opening import open_store
from rayforest.errors import InputError
from rayforest.features.profile import Profile
from rayforest.features.recipe import Recipe
from rayforest.preparing.prepare import fill, ingredients, key_types
from rayforest.project.sections import Project
from rayforest.stages.claim import Inputs, claim_inputs, named_version
from rayforest.stages.result import Silent

MOST_BYTES = 8 << 20
MOST_FILES = 100
"""A source within both is prepared in a second or so."""


@dataclass(frozen=True)
class Preview:
    """What came of the inputs."""

    rows: int
    """Of the inputs."""
    published: bool
    """Whether a run has made it, and not the preview."""
    manifest: Manifest | None = None
    refusal: InputError | None = None
    """Why there is none."""

    @property
    def profile(self) -> Profile:
        """Of the prepared rows."""
        return Profile() if self.manifest is None else Profile.from_json(self.manifest.extra("profile.json"))


def preview(project: Project, recipe: Recipe, inputs: Inputs) -> Preview | None:
    """The published version of these inputs and settings, or one that is made in memory.

    None where there is none and the source is large.

    Raises:
        UnfinishedError: prepare would not come to an end.
    """
    keys, shard_rows = key_types(recipe, inputs.schema), project.run.shard_rows
    decided = ingredients(project, recipe, inputs.source, keys)
    _, key = named_version(decided, inputs, shard_rows)
    published = open_manifest(open_store(project.stage("prepared")), key)
    if published is not None:
        return Preview(published.rows_in, published=True, manifest=published)
    if len(inputs.files) > MOST_FILES or sum(file.size for file in inputs.files) > MOST_BYTES:
        return None
    store, executor = MemoryStore(f"preview-{secrets.token_hex(4)}"), InProcess(1)
    claimed = claim_inputs(store, inputs, decided, shard_rows=shard_rows, replace=False, executor=executor)
    try:
        manifest = fill(project, recipe, inputs, keys, claimed, executor, Silent())
    except InputError as error:
        return Preview(claimed.plan.rows, published=False, refusal=_elsewhere(error, store))
    return Preview(manifest.rows_in, published=False, manifest=manifest)


def _elsewhere(error: InputError, store: MemoryStore) -> InputError:
    """The error without the place that only the preview had."""
    if store.uri not in error.next_step:
        return error
    next_step = "correct the rows, the rules or [data.columns]; prepare keeps such rows with their reasons"
    return InputError(error.what, expected=error.expected, found=error.found, next_step=next_step)
