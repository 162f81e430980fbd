"""tune: prepared shards to the best LightGBM model, evaluated on rows that the search never saw."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import lightgbm as lgb
import numpy as np

from rayforest.engine.commit import Destination, plan_key
from rayforest.engine.executors import Executor
from rayforest.engine.manifest import Manifest
from rayforest.engine.publish import publish, read_manifest
from rayforest.engine.store import open_store
from rayforest.project import Project
from rayforest.report import Reporter, Silent, StageResult
from rayforest.training.dataset import PreparedData
from rayforest.training.evaluate import baseline, evaluate, gather, model_is_constant
from rayforest.training.problem import Problem, find_problem, remarks
from rayforest.training.search import Search, TrialRecord, best_of, search
from rayforest.training.space import search_space
from rayforest.training.trial import TrainingSet

FORMAT_VERSION = 2
"""Of the tuned model's files."""

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
    distributions, fixed, shared = search_space(project.tune.space, categories=bool(data.categories))
    width = project.tune.workers or DEFAULT_WIDTH
    settings = Search(
        distributions=distributions,
        fixed=fixed,
        trials=project.tune.trials,
        budget_s=project.tune.budget_s,
        width=width,
        seed=project.project.seed,
        higher_is_better=problem.higher_is_better,
    )
    destination = project.stage("tuned")
    ingredients: dict[str, Any] = {
        "stage": "tune",
        "format_version": FORMAT_VERSION,
        "problem": json.loads(problem.to_json()),
        "tune": project.tune.model_dump(mode="json", exclude={"workers"}) | {"width": width},
        "seed": project.project.seed,
    }
    inputs = [("prepared", data.manifest.key)]
    version = Destination(open_store(destination)).claim(
        plan_key(ingredients, inputs), ingredients, inputs=inputs, replace=replace
    )
    manifest = version.manifest()
    resumed = manifest is not None
    if manifest is None:
        reporter.say(
            f"tune: {problem.kind} target, {problem.metric}, {len(data.feature_names)} features "
            f"({len(data.categories)} categorical), {data.profile.parts['train']:,} training rows"
        )
        notes = remarks(problem, data.profile)
        for note in notes:
            reporter.say(f"tune: {note}")

        def tell(record: TrialRecord) -> None:
            reporter.say(
                f"tune: trial {record.number + 1}/{settings.trials}: {problem.metric} {record.score:.5f} "
                f"after {record.rounds} rounds, {record.seconds:.1f} s"
            )

        pinned = PreparedData(data.destination, data.manifest.key)  # a new version may appear while trials run
        state = partial(TrainingSet, pinned, problem, project.project.seed, shared)
        trials = search(settings, version, executor, state, tell)
        best = best_of(trials, higher_is_better=problem.higher_is_better)
        metrics, of_test = _test_metrics(data, problem, best)
        if model_is_constant(best.model):
            notes.append("the model is constant: it predicts the same for every row, whatever the features are")
            reporter.say(f"tune: {notes[-1]}")
        extras = {
            "booster.txt": best.model.encode(),
            "metrics.json": json.dumps(
                {
                    "problem": json.loads(problem.to_json()),
                    "test": metrics,
                    "of_test": of_test,
                    "notes": notes,
                    "valid": {problem.metric: best.score},
                    "best_trial": best.number,
                    "params": best.params,
                    "rounds": best.rounds,
                    "trials": len(trials),
                },
                indent=1,
            ).encode(),
        }
        manifest = publish(version, None, extra=extras, summary={"stage": "tune", "prepared": data.manifest.key})
    else:
        version.make_current()
    found = json.loads(manifest.extra("metrics.json"))
    return StageResult(
        command="tune",
        destination=destination,
        seconds=time.monotonic() - began,
        resumed=resumed,
        metrics=found["test"],
        details={
            **found.get("of_test", {}),
            "notes": found.get("notes", []),
            "trials": found["trials"],
            "best": {
                "trial": found["best_trial"],
                "params": found["params"],
                "rounds": found["rounds"],
                problem.metric: found["valid"][problem.metric],
            },
        },
    )


def _test_metrics(data: PreparedData, problem: Problem, best: TrialRecord) -> tuple[dict[str, float], dict[str, Any]]:
    """On the test part, or on the validation part where there is no test row; and the rows that they are of."""
    booster = lgb.Booster(model_str=best.model)
    for part in ("test", "valid"):
        scored = [(np.asarray(booster.predict(x)), y) for x, y in data.matrices(part, problem) if len(y)]
        if scored:
            break
    predictions, labels = gather(scored)
    training = np.concatenate(list(data.labels("train", problem)))
    found = evaluate(problem, predictions, labels)
    return found.metrics | baseline(problem, training, labels), found.as_dict()


def tuned_model(project: Project) -> tuple[Manifest, lgb.Booster, Problem]:
    """What tune left: its manifest, the booster, and the problem that it solves."""
    manifest = read_manifest(open_store(project.stage("tuned")), next_step="first run: rayforest tune PROJECT")
    found = json.loads(manifest.extra("metrics.json"))
    booster = lgb.Booster(model_str=manifest.extra("booster.txt").decode())
    return manifest, booster, Problem.from_dict(found["problem"])
