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
from rayforest.formats import PROFILE
from rayforest.preparing.prepare import Prepare
from rayforest.project.sections import Project
from rayforest.stages.inputs import Inputs
from rayforest.stages.stage import Context, claim, fill, named_version

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
        return (
            Profile() if self.manifest is None else self.manifest.read("profile.json", PROFILE, Profile.from_document)
        )


def preview(project: Project, recipe: Recipe, inputs: Inputs) -> Preview | None:
    """The published version of these inputs and settings, or one that is made in memory.

    None where there is none and the source is large.

    Raises:
        UnfinishedError: prepare would not come to an end.
    """
    stage = Prepare(Context(project, executor=InProcess(1)), inputs, recipe)
    published = open_manifest(open_store(stage.destination), named_version(stage)[0])
    if published is not None:
        return Preview(published.rows_in, published=True, manifest=published)
    if len(inputs.files) > MOST_FILES or sum(file.size for file in inputs.files) > MOST_BYTES:
        return None
    store = MemoryStore(f"preview-{secrets.token_hex(4)}")
    claimed = claim(stage, store)
    try:
        manifest = fill(stage, claimed)
    except InputError as error:
        rows = claimed.plan.rows if claimed.plan is not None else 0
        return Preview(rows, published=False, refusal=_elsewhere(error, store))
    return Preview(manifest.rows_in, published=False, manifest=manifest)


def _elsewhere(error: InputError, store: MemoryStore) -> InputError:
    """The error without the place that only the preview had."""
    if store.uri not in error.next_step:
        return error
    next_step = "correct the rows, the rules or [data.columns]; prepare keeps such rows with their reasons"
    return InputError(error.what, expected=error.expected, found=error.found, next_step=next_step)
