"""tune: prepared shards to the best LightGBM model, evaluated on rows that the search never saw."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

import lightgbm as lgb
import numpy as np

from rayforest.engine.commit import Destination, Version, plan_key
from rayforest.engine.executors import Executor
from rayforest.engine.manifest import Manifest
from rayforest.engine.publish import publish, read_manifest
from rayforest.engine.stores.opening import open_store
from rayforest.engine.usable import refuse_unusable
from rayforest.metrics.defined import refuse_undefined
from rayforest.metrics.exact import baseline, evaluate, gather, model_is_constant
from rayforest.metrics.problem import Problem, find_problem
from rayforest.project.sections import Project
from rayforest.stages.result import Reporter, Silent, StageResult
from rayforest.tuning.dataset import PreparedData
from rayforest.tuning.notes import notes_before
from rayforest.tuning.outcome import Outcome
from rayforest.tuning.quiet import quiet_lightgbm
from rayforest.tuning.rehearsal import refuse_bad_values
from rayforest.tuning.search import Search, TrialRecord, best_of, search
from rayforest.tuning.space import search_space
from rayforest.tuning.trial import Trainer, TrainingSet

FORMAT_VERSION = 2
"""Of the tuned model's files."""

SEARCHES_LOOKED_AT = 20
"""Latest versions among which trials of the same search are looked for."""

DEFAULT_WIDTH = 2
"""Trials at the same time where the project does not say: a fixed number, so that the search is the same everywhere."""


def tune(
    project: Project, *, replace: bool = False, executor: Executor, reporter: Reporter | None = None
) -> StageResult:
    """Search hyperparameters on ROOT/prepared and keep the best model in ROOT/tuned.

    Raises:
        ConfigError: there is no target, or metric and space do not fit it.
        InputError: nothing is prepared, or there is nothing to learn.
        RefusedError: the destination holds another search.
    """
    began, reporter = time.monotonic(), reporter or Silent()
    data = PreparedData(project.stage("prepared"))
    problem = find_problem(data.recipe, data.profile, project.tune.metric)
    refuse_undefined(problem, data.profile, project.split)
    space = search_space(project.tune.space, categories=bool(data.categories))
    refuse_bad_values(space, problem.kind, len(data.feature_names))
    width = project.tune.workers or DEFAULT_WIDTH
    settings = Search(
        space=space,
        trials=project.tune.trials,
        budget_s=project.tune.budget_s,
        width=width,
        seed=project.project.seed,
        higher_is_better=problem.higher_is_better,
    )
    destination = project.stage("tuned")
    refuse_unusable(destination)
    ingredients: dict[str, Any] = {
        "stage": "tune",
        "format_version": FORMAT_VERSION,
        "problem": json.loads(problem.to_json()),
        "tune": project.tune.model_dump(mode="json", exclude={"workers"}) | {"width": width},
        "seed": project.project.seed,
        "prepared": data.manifest.key,
    }
    target = Destination(open_store(destination))
    version = target.claim(plan_key(ingredients, []), ingredients, replace=replace)
    manifest = version.manifest()
    resumed = manifest is not None
    if manifest is None:
        notes = _introduce(data, problem, reporter)
        pinned = PreparedData(data.destination, data.manifest.key)  # a new version may appear while trials run
        trainer = partial(Trainer, partial(TrainingSet, pinned, problem, project.project.seed, dict(space.shared)))
        tell = partial(_tell, reporter, problem, settings.trials)
        earlier = list(_same_search(target, version))
        trials = search(settings, version, executor, trainer, tell, earlier=earlier)
        outcome = _evaluated(data, problem, trials, notes)
        for note in outcome.notes[len(notes) :]:
            reporter.say(f"tune: {note}")
        extras = {"booster.txt": best_of(trials, higher_is_better=problem.higher_is_better).model.encode()}
        extras["metrics.json"] = outcome.to_json()
        manifest = publish(version, None, extra=extras, summary={"stage": "tune", "prepared": data.manifest.key})
    else:
        version.make_current()
    outcome = Outcome.from_json(manifest.extra("metrics.json"))
    return StageResult(
        command="tune",
        destination=destination,
        seconds=time.monotonic() - began,
        resumed=resumed,
        metrics=outcome.metrics,
        details=outcome.details(),
    )


def _introduce(data: PreparedData, problem: Problem, reporter: Reporter) -> list[str]:
    """Say what will be searched, and what is known of it before: the notes."""
    reporter.say(
        f"tune: {problem.kind} target, {problem.metric}, {len(data.feature_names)} features "
        f"({len(data.categories)} categorical), {data.profile.parts['train']:,} training rows"
    )
    notes = notes_before(problem, data.profile, data.feature_names)
    for note in notes:
        reporter.say(f"tune: {note}")
    return notes


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


def _evaluated(data: PreparedData, problem: Problem, trials: list[TrialRecord], notes: list[str]) -> Outcome:
    """The best model on the test part, or on the validation part where there is no test row."""
    best = best_of(trials, higher_is_better=problem.higher_is_better)
    booster = lgb.Booster(model_str=best.model)
    part: Literal["test", "valid"] = "test" if data.profile.parts.get("test") else "valid"
    predictions, labels = gather((np.asarray(booster.predict(x)), y) for x, y in data.matrices(part, problem) if len(y))
    training = np.concatenate(list(data.labels("train", problem)))
    found = evaluate(problem, predictions, labels)
    if model_is_constant(best.model):
        notes = [*notes, "the model is constant: it predicts the same for every row, whatever the features are"]
    return Outcome.of(problem, part, found, baseline(problem, training, labels), trials, best, notes)


def tuned_model(project: Project) -> tuple[Manifest, lgb.Booster, Problem]:
    """What tune left: its manifest, the booster, and the problem that it solves."""
    manifest = read_manifest(open_store(project.stage("tuned")), next_step="first run: rayforest tune PROJECT")
    quiet_lightgbm()
    booster = lgb.Booster(model_str=manifest.extra("booster.txt").decode())
    return manifest, booster, Outcome.from_json(manifest.extra("metrics.json")).problem
