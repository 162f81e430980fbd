"""A stage, and the one runner of all of them: claim a version, take it as it stands or do the work, publish, clean.

A stage says what decides its result, does its work on a version that is its own to fill, and reads its facts back from
what was published. So a result that was there already and one that was just made are told in the same words.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar

from rayforest.engine.commit import Destination, Version, plan_key
from rayforest.engine.differences import JSON
from rayforest.engine.executors import Executor, choose_executor
from rayforest.engine.log_lines import LogContext, log_context, logging_as, new_run
from rayforest.engine.manifest import Manifest
from rayforest.engine.plan import Plan
from rayforest.engine.publish import clean, publish
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.store import Store
from rayforest.engine.usable import refuse_unusable
from rayforest.project.sections import Project
from rayforest.stages.inputs import Inputs, plan_inputs
from rayforest.stages.result import Facts, Reporter, Silent, StageResult

FactsT = TypeVar("FactsT", bound=Facts)
FactsT_co = TypeVar("FactsT_co", bound=Facts, covariant=True)


class Context:
    """One command on one project: where it computes, and whom it tells."""

    def __init__(self, project: Project, reporter: Reporter | None = None, executor: Executor | None = None) -> None:
        self.project = project
        self.reporter: Reporter = reporter or Silent()
        self._given = executor
        self.speaks_of = LogContext(log_context().run or new_run(), project.project.name)
        """In log lines; the name of the run stands in the records of the shards that it finishes, too."""

    @cached_property
    def executor(self) -> Executor:
        """The executor that `[run]` asks for; says which one and why.

        Raises:
            ConfigError: the address of Ray is wrong.
        """
        if self._given is not None:
            return self._given
        section = self.project.run
        executor, why = choose_executor(section.executor, section.address, section.workers, quiet=self.reporter.quiet)
        self.reporter.say(why)
        return executor

    def close(self) -> None:
        """Close the executor, if it was opened here."""
        if self._given is None and "executor" in vars(self):
            self.executor.close()


@contextmanager
def open_context(project: Project, reporter: Reporter | None = None) -> Iterator[Context]:
    """A context that is closed at the end."""
    context = Context(project, reporter)
    with logging_as(context.speaks_of):
        try:
            yield context
        finally:
            context.close()


@dataclass(frozen=True)
class Claimed:
    """A version of a destination that is this run's to fill, and its plan."""

    version: Version
    plan: Plan | None
    """None where the stage has no shards."""


@dataclass(frozen=True)
class Product:
    """What a stage's work leaves beside the data files of its shards."""

    extras: Mapping[str, bytes]
    """Small files by name."""
    summary: Mapping[str, JSON] = field(default_factory=dict)
    """For the manifest."""


class Stage(Protocol[FactsT_co]):
    """One command on one project, its inputs looked at and found good."""

    @property
    def command(self) -> str:
        """Its name on the command line."""
        ...

    @property
    def context(self) -> Context:
        """Of this run."""
        ...

    @property
    def destination(self) -> str:
        """Folder or URI."""
        ...

    @property
    def inputs(self) -> Inputs | Sequence[tuple[str, str]]:
        """Raw tables, which are cut into shards; or (name, identity) of what else the stage reads."""
        ...

    def ingredients(self) -> Mapping[str, JSON]:
        """All that decides the result besides the inputs, the command itself left out."""
        ...

    def work(self, claimed: Claimed) -> Product:
        """Bring every shard of the version to its record. What is finished already is kept."""
        ...

    def facts(self, manifest: Manifest) -> FactsT_co:
        """What there is to tell of a published version."""
        ...


def run_stage(
    look: Callable[[Context], Stage[FactsT]],
    context: Context,
    *,
    replace: bool = False,
    then: Callable[[Manifest], None] | None = None,
) -> StageResult[FactsT]:
    """Bring a stage to its published result.

    Args:
        look: makes the stage: opens its inputs, and refuses what cannot work.
        context: of this run.
        replace: write a new version where the destination holds one of other inputs or settings.
        then: what follows on the published version, in every run: a run that was killed before it is made up for by the
            next one, so it does nothing that was done before.

    Raises:
        ConfigError, InputError: as the stage says.
        RefusedError: the destination holds a result of other inputs or settings, and `replace` is false.
        UnfinishedError: shards failed, or more rows were quarantined than the error budget allows.
    """
    began = time.monotonic()
    stage = look(context)
    with logging_as(context.speaks_of, stage=stage.command):
        refuse_unusable(stage.destination)
        claimed = claim(stage, open_store(stage.destination), replace=replace)
        manifest = claimed.version.manifest()
        resumed = manifest is not None
        if manifest is None:
            manifest = fill(stage, claimed)
            clean(claimed.version)
        else:
            context.project.policy.accept(manifest)
            claimed.version.make_current()
        if then is not None:
            then(manifest)
    facts = stage.facts(manifest)
    return StageResult(
        command=stage.command,
        destination=stage.destination,
        seconds=time.monotonic() - began,
        resumed=resumed,
        facts=facts,
        reasons=manifest.reasons,
        **(_counts(manifest) if claimed.plan is not None else {}),
    )


def claim(stage: Stage[Facts], store: Store, *, replace: bool = False) -> Claimed:
    """Claim the version that the stage's inputs and ingredients name, and plan its shards.

    Args:
        stage: whose version.
        store: of the destination.
        replace: whether a new version may take the place of another plan's.

    Raises:
        InputError: an input is unreadable.
        RefusedError: the destination holds another plan and `replace` is false.
    """
    project, inputs = stage.context.project, stage.inputs
    key, ingredients = named_version(stage)
    version = Destination(store).claim(key, ingredients, inputs=_named(inputs), replace=replace)
    plan = None
    if isinstance(inputs, Inputs):
        plan = version.plan(locate=inputs.locate)
        if plan is None:
            plan = plan_inputs(version, inputs, project.run.shard_rows, stage.context.executor)
    return Claimed(version, plan)


def named_version(stage: Stage[Facts]) -> tuple[str, dict[str, JSON]]:
    """The plan key of the stage's version, and the ingredients that it is a hash of, beside the inputs."""
    ingredients = {"stage": stage.command, **stage.ingredients()}
    if isinstance(stage.inputs, Inputs):
        ingredients["shard_rows"] = stage.context.project.run.shard_rows
    return plan_key(ingredients, _named(stage.inputs)), ingredients


def fill(stage: Stage[Facts], claimed: Claimed) -> Manifest:
    """Do the work on a claimed version, and publish it. Errors: as the stage says."""
    product = stage.work(claimed)
    summary = {"stage": stage.command, **product.summary}
    return publish(claimed.version, claimed.plan, extra=product.extras, summary=summary)


def _named(inputs: Inputs | Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    return inputs.named if isinstance(inputs, Inputs) else inputs


def _counts(manifest: Manifest) -> dict[str, int]:
    return {
        "rows_in": manifest.rows_in,
        "rows_out": manifest.rows_out,
        "rows_quarantined": manifest.rows_quarantined,
        "shards": manifest.shards,
    }
