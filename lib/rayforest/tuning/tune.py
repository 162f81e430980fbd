"""tune: prepared shards to the best LightGBM model, evaluated on rows that the search never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, field
from functools import partial
from typing import Any, Literal

import lightgbm as lgb

from rayforest.engine.commit import Destination, Version
from rayforest.engine.manifest import Manifest
from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.opening import open_store
from rayforest.formats import TUNED_METRICS
from rayforest.metrics.defined import refuse_undefined
from rayforest.metrics.exact import Evaluation, model_is_constant
from rayforest.metrics.problem import Problem, find_problem
from rayforest.process_settings import trial_threads
from rayforest.project.sections import Project
from rayforest.stages.result import Reporter, StageResult
from rayforest.stages.stage import Claimed, Context, Product, run_stage
from rayforest.tuning.admission import Admission, Needs, admit
from rayforest.tuning.dataset import PreparedData
from rayforest.tuning.group import GroupSettings, TrainingGroup, one_by_one, refuse_one_node_only
from rayforest.tuning.measured import ABOUT_SUMS, are_few, measured_by_shards, measured_here
from rayforest.tuning.notes import notes_before
from rayforest.tuning.outcome import Outcome, TunedFacts
from rayforest.tuning.parameters import tune_section
from rayforest.tuning.quiet import quiet_lightgbm
from rayforest.tuning.rehearsal import refuse_bad_values
from rayforest.tuning.search import Search, Train, best_of, search
from rayforest.tuning.space import Space, search_space
from rayforest.tuning.trial import Trainer, TrainingSet, TrialRecord

FORMAT_VERSION = 2
"""Of the tuned model's files."""

SEARCHES_LOOKED_AT = 20
"""Latest versions among which trials of the same search are looked for."""

Measure = Callable[[str, str], tuple[Evaluation, dict[str, float]]]
"""Model text and part to the metrics of the model, and those of the best constant."""

DEFAULT_WIDTH = 2
"""Trials at the same time where the project does not say: a fixed number, so that the search is the same everywhere."""


@dataclass(frozen=True)
class Tune:
    """The stage: ROOT/prepared to ROOT/tuned."""

    context: Context
    data: PreparedData
    problem: Problem
    space: Space
    admission: Admission
    command: str = field(default="tune", init=False)
    inputs: Sequence[tuple[str, str]] = field(default=(), init=False)

    @classmethod
    def look(cls, context: Context) -> Tune:
        """Find out what is to be learnt, and refuse a search that cannot come to anything.

        Raises:
            ConfigError: there is no target, metric and space do not fit it, or the rows do not fit the nodes.
            InputError: nothing is prepared, or there is nothing to learn.
        """
        project = context.project
        data = PreparedData(project.stage("prepared"))
        problem = find_problem(data.features.recipe, data.profile, project.tune.metric)
        refuse_undefined(problem, data.profile, project.split)
        space = search_space(tune_section(project).space, categories=bool(data.features.categories))
        refuse_bad_values(space, problem.kind, len(data.features.names))
        needs = Needs.of(data, problem, space)
        admission = admit(needs, project.tune.nodes, lambda: context.executor, project.tune.workers or DEFAULT_WIDTH)
        if admission.nodes > 1:
            refuse_one_node_only(problem, space)
        return cls(context, data, problem, space, admission)

    @property
    def destination(self) -> str:
        """ROOT/tuned."""
        return self.context.project.stage("tuned")

    def ingredients(self) -> dict[str, Any]:
        """All that decides which trials there are."""
        project = self.context.project
        together = {"nodes": self.admission.nodes} if self.admission.nodes > 1 else {}
        section = tune_section(project).model_dump(mode="json", exclude={"workers", "nodes"})
        return {
            "format_version": FORMAT_VERSION,
            "problem": self.problem.as_dict(),
            "tune": section | {"width": self._width} | together,
            "seed": project.project.seed,
            "prepared": self.data.manifest.key,
        }

    def work(self, claimed: Claimed) -> Product:
        """Search, and evaluate the best model.

        Raises:
            InputError: no trial came to a score.
        """
        context, data, problem, version = self.context, self.data, self.problem, claimed.version
        notes = _introduce(data, problem, context.reporter)
        _tell_of_nodes(self.admission, context.reporter)
        settings = self._search
        pinned = PreparedData(data.destination, data.manifest.key)  # a new version may appear while trials run
        tell = partial(_tell, context.reporter, problem, settings.trials)
        earlier = list(_same_search(Destination(version.store), version))
        with self._trains(pinned, settings) as (train, measure):
            threads = trial_threads(context.executor.workers, settings.width)
            trials = search(settings, version, train, threads, tell, earlier=earlier)
            outcome = self._evaluated(measure, trials, notes)
        for note in outcome.notes[len(notes) :]:
            context.reporter.say(f"tune: {note}")
        best = best_of(trials, higher_is_better=problem.higher_is_better)
        extras = {"booster.txt": best.model.encode(), "metrics.json": TUNED_METRICS.write(outcome.as_dict(), indent=1)}
        return Product(extras, {"prepared": data.manifest.key})

    def facts(self, manifest: Manifest) -> TunedFacts:
        """From metrics.json."""
        return manifest.read("metrics.json", TUNED_METRICS, Outcome.from_document).facts()

    @contextmanager
    def _trains(self, data: PreparedData, settings: Search) -> Iterator[tuple[Train, Measure]]:
        """Trials at the same time on a node each, or one after the other on several together; and who measures."""
        executor, shared, (nodes, memory) = self.context.executor, dict(self.space.shared), astuple(self.admission)
        if nodes == 1:
            trainer = partial(Trainer, partial(TrainingSet, data, self.problem, settings.seed, shared))
            stream = {"window": settings.width, "ordered": True, "state": trainer, "state_bytes": memory}
            if self._measures_here:
                yield partial(executor.stream, **stream), partial(measured_here, data, self.problem)
            else:
                yield partial(executor.stream, **stream), partial(measured_by_shards, data, self.problem, executor)
            return
        retries = self.context.project.run.retries
        group = TrainingGroup(
            executor, data, self.problem, GroupSettings(nodes, memory, retries, settings.seed, shared)
        )
        with closing(group):
            yield partial(one_by_one, group=group, window=settings.width), group.measure

    def _evaluated(self, measure: Measure, trials: list[TrialRecord], notes: list[str]) -> Outcome:
        """The best model on the test part, or on the validation part where there is no test row."""
        best = best_of(trials, higher_is_better=self.problem.higher_is_better)
        found, baselines = measure(best.model, self._held_out)
        if not self._measures_here:
            notes = [*notes, ABOUT_SUMS]
        if model_is_constant(best.model):
            notes = [*notes, "the model is constant: it predicts the same for every row, whatever the features are"]
        return Outcome.of(self.problem, self._held_out, found, baselines, trials, best, notes)

    @property
    def _held_out(self) -> Literal["test", "valid"]:
        """The part on which the best model is measured."""
        return "test" if self.data.profile.parts.get("test") else "valid"

    @property
    def _measures_here(self) -> bool:
        """Whether the driver holds labels and predictions of that part."""
        return self.admission.nodes == 1 and are_few(self.data, self._held_out)

    @property
    def _width(self) -> int:
        return self.context.project.tune.workers or (DEFAULT_WIDTH if self.admission.nodes == 1 else 1)

    @property
    def _search(self) -> Search:
        project = self.context.project
        return Search(
            space=self.space,
            trials=project.tune.trials,
            budget_s=project.tune.budget_s,
            width=self._width,
            seed=project.project.seed,
            higher_is_better=self.problem.higher_is_better,
        )


def tune(context: Context, *, replace: bool = False) -> StageResult[TunedFacts]:
    """Search on ROOT/prepared, and keep the best model in ROOT/tuned. Errors: see `Tune`, `run_stage`."""
    return run_stage(Tune.look, context, replace=replace)


def _introduce(data: PreparedData, problem: Problem, reporter: Reporter) -> list[str]:
    """Say what will be searched, and what is known of it before: the notes."""
    reporter.say(
        f"tune: {problem.kind} target, {problem.metric}, {len(data.features.names)} features "
        f"({len(data.features.categories)} categorical), {data.profile.parts['train']:,} training rows"
    )
    notes = notes_before(problem, data.profile, data.features.names)
    for note in notes:
        reporter.say(f"tune: {note}")
    return notes


def _tell_of_nodes(admission: Admission, reporter: Reporter) -> None:
    if admission.nodes > 1:
        needed = f", about {admission.memory_bytes / 1e9:.1f} GB on each" if admission.memory_bytes else ""
        reporter.say(f"tune: {admission.nodes} nodes train each trial together, one trial at a time{needed}")


def _tell(reporter: Reporter, problem: Problem, trials: int, record: TrialRecord, known: bool) -> None:
    found = f"failed: {record.failed}"
    if record.score is not None:
        found = f"validation {problem.score_name} {record.score:.5f}"
    rounds = "1 round" if record.rounds == 1 else f"{record.rounds:,} rounds"
    took = "found in the store" if known else f"{record.seconds:.1f} s"
    reporter.say(f"tune: trial {record.number + 1}/{trials}: {found} after {rounds}, {took}")


def _same_search(target: Destination, version: Version) -> Iterator[Version]:
    """Earlier versions of the same search: all but how far it goes is the same, so it begins with the same trials."""

    def search_of(ingredients: Mapping[str, Any]) -> dict[str, Any]:
        how_far = {"trials", "budget_s"}
        settings = {k: v for k, v in dict(ingredients.get("tune", {})).items() if k not in how_far}
        return dict(ingredients) | {"tune": settings}

    mine = search_of(version.ingredients)
    for earlier in target.latest_versions(SEARCHES_LOOKED_AT):
        if earlier.key != version.key and search_of(earlier.ingredients) == mine:
            yield earlier


@dataclass(frozen=True)
class TunedModel:
    """What tune left."""

    manifest: Manifest
    booster: lgb.Booster
    problem: Problem
    """That the booster solves."""

    @property
    def prepared(self) -> str:
        """Plan key of the prepared version that it was trained on."""
        return str(self.manifest.summary["prepared"])


def tuned_model(project: Project) -> TunedModel:
    """The model in ROOT/tuned.

    Raises:
        InputError: there is none.
    """
    manifest = read_manifest(open_store(project.stage("tuned")), next_step="first run: rayforest tune PROJECT")
    quiet_lightgbm()
    booster = lgb.Booster(model_str=manifest.extra("booster.txt").decode())
    return TunedModel(manifest, booster, manifest.read("metrics.json", TUNED_METRICS, Outcome.from_document).problem)
