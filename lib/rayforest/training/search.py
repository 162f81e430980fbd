"""Hyperparameter search: Optuna proposes, an executor trains, the store remembers.

The search is a deterministic function of its settings. Trial n is proposed when the results of all trials up to n minus
the width of the window are known, whatever finished first; so it proposes the same trials on a laptop and on a cluster,
and a killed search proposes them again and finds their results in the store.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna

from rayforest.engine.commit import Version
from rayforest.engine.executors import Executor
from rayforest.training.space import first_trial
from rayforest.training.trial import TrainingSet, Trial, TrialResult


@dataclass(frozen=True)
class Search:
    """What is searched, and how far."""

    distributions: Mapping[str, optuna.distributions.BaseDistribution]
    fixed: Mapping[str, Any]
    trials: int
    budget_s: float | None
    width: int
    """Trials in flight."""
    seed: int
    higher_is_better: bool


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial, as tuned/<key>/trials/<number>.json holds it."""

    number: int
    params: dict[str, Any]
    score: float
    rounds: int
    seconds: float
    model: str
    """LightGBM model text."""


def search(
    settings: Search,
    version: Version,
    executor: Executor,
    training_set: Callable[[], TrainingSet],
    on_trial: Callable[[TrialRecord], None],
) -> list[TrialRecord]:
    """Run the search; every finished trial is in the store before the next one is proposed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize" if settings.higher_is_better else "minimize",
        sampler=optuna.samplers.TPESampler(seed=settings.seed, multivariate=True, constant_liar=True),
    )
    study.enqueue_trial(first_trial(settings.distributions))
    asked: dict[int, optuna.trial.Trial] = {}
    finished: dict[int, TrialRecord] = {}
    deadline = None if settings.budget_s is None else time.monotonic() + settings.budget_s
    threads = max(1, executor.workers // settings.width)

    def proposals() -> Iterator[Trial]:
        for number in range(settings.trials):
            if deadline is not None and number and time.monotonic() >= deadline:
                return
            proposed = study.ask(dict(settings.distributions))
            asked[number] = proposed
            yield Trial(number, dict(settings.fixed) | proposed.params, threads)

    def run(state: TrainingSet | None, trial: Trial) -> TrialResult:
        known = _stored(version, trial)
        if known is not None:
            return TrialResult(trial.number, known.score, known.rounds, known.seconds, known.model)
        assert state is not None  # noqa: S101  the executor was given a state
        return state.run(trial)

    for outcome in executor.stream(run, proposals(), window=settings.width, ordered=True, state=training_set):
        result = outcome.result()
        record = TrialRecord(
            result.number, outcome.item.params, result.score, result.rounds, result.seconds, result.model
        )
        version.create(_path(record.number), json.dumps(asdict(record)).encode())
        study.tell(asked.pop(record.number), record.score)
        finished[record.number] = record
        on_trial(record)
    return list(finished.values())


def best_of(records: list[TrialRecord], *, higher_is_better: bool) -> TrialRecord:
    """The best trial; of equal ones the first."""
    sign = -1 if higher_is_better else 1
    return min(records, key=lambda r: (sign * r.score, r.number))


def _path(number: int) -> str:
    return f"trials/{number:06d}.json"


def _stored(version: Version, trial: Trial) -> TrialRecord | None:
    """The trial's result, where a killed search left it."""
    text = version.read(_path(trial.number))
    if text is None:
        return None
    record = TrialRecord(**json.loads(text))
    return record if record.params == trial.params else None
