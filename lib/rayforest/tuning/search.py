"""Hyperparameter search: Optuna proposes, an executor trains, the store remembers.

The search is a deterministic function of its settings. Trial n is proposed when the results of all trials up to n minus
the width of the window are known, whatever finished first; so it proposes the same trials on a laptop and on a cluster,
and a killed search proposes them again and finds their results in the store.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import optuna

from rayforest.engine.commit import Version
from rayforest.engine.executors import Outcome
from rayforest.engine.log_lines import log_context, logging_as
from rayforest.engine.work import WorkClock
from rayforest.errors import InputError
from rayforest.formats import TRIAL
from rayforest.tuning.group import TrainingGroup
from rayforest.tuning.space import Space
from rayforest.tuning.trial import Trainer, Trial, TrialRecord, trial_record_of


@dataclass(frozen=True)
class Search:
    """What is searched, and how far."""

    space: Space
    trials: int
    budget_s: float | None
    width: int
    """Trials in flight."""
    seed: int
    higher_is_better: bool


class Train(Protocol):
    """Calls a function with what trains and a trial, for each trial; in order, `Search.width` of them ahead."""

    def __call__(
        self, run: Callable[[Any, Trial], tuple[TrialRecord, bool]], trials: Iterator[Trial], /
    ) -> Iterator[Outcome[Trial, tuple[TrialRecord, bool]]]:
        """An outcome of each trial."""
        ...


def search(
    settings: Search,
    version: Version,
    train: Train,
    threads: int,
    on_trial: Callable[[TrialRecord, bool], None],
    *,
    earlier: Sequence[Version] = (),
) -> list[TrialRecord]:
    """Run the search; every finished trial is in the store before the next one is proposed.

    Args:
        settings: what is searched.
        version: whose folder keeps the trials.
        train: trains them.
        threads: for one trial.
        on_trial: told of each trial in its order, and whether its result was there before.
        earlier: versions of the same search, perhaps of fewer trials: what they hold is copied, not trained again.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize" if settings.higher_is_better else "minimize",
        sampler=optuna.samplers.TPESampler(seed=settings.seed, multivariate=True, constant_liar=True),
    )
    study.enqueue_trial(settings.space.first_trial)
    asked: dict[int, optuna.trial.Trial] = {}
    finished: dict[int, TrialRecord] = {}
    deadline = None if settings.budget_s is None else time.monotonic() + settings.budget_s
    context = log_context()

    def proposals() -> Iterator[Trial]:
        for number in range(settings.trials):
            if deadline is not None and number and time.monotonic() >= deadline:
                return
            proposed = study.ask(dict(settings.space.distributions))
            asked[number] = proposed
            yield Trial(number, dict(settings.space.fixed) | proposed.params, threads)

    def run(trainer: Trainer | TrainingGroup, trial: Trial) -> tuple[TrialRecord, bool]:
        for place in (version, *earlier):
            if (known := _stored(place, trial)) is not None:
                return known, True
        clock = WorkClock(context.run or "")
        with logging_as(context):
            return replace(trainer.run(trial), work=clock.work()), False

    for outcome in train(run, proposals()):
        record, known = outcome.result()
        version.create(_path(record.number), TRIAL.write(asdict(record)))
        if record.score is None:
            study.tell(asked.pop(record.number), state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(asked.pop(record.number), record.score)
        finished[record.number] = record
        on_trial(record, known)
    return list(finished.values())


def best_of(records: list[TrialRecord], *, higher_is_better: bool) -> TrialRecord:
    """The best trial; of equal ones the first. One that failed is none.

    Raises:
        InputError: all failed.
    """
    scores = {record.number: record.score for record in records if record.score is not None}
    if not scores:
        reasons = Counter(record.failed for record in records)
        raise InputError(
            "no trial came to a score, so there is no best one",
            expected="a finite score on the validation rows",
            found="; ".join(f"{count:,} x {why}" for why, count in reasons.most_common(3)),
            next_step="look for extreme values in data.target, or for an extreme value in [tune.space]",
        )
    best = min(scores, key=lambda number: (-scores[number] if higher_is_better else scores[number], number))
    return next(record for record in records if record.number == best)


def _path(number: int) -> str:
    return f"trials/{number:06d}.json"


def _stored(version: Version, trial: Trial) -> TrialRecord | None:
    """The trial's result, where a killed search left it."""
    record = version.load(_path(trial.number), TRIAL, trial_record_of)
    return record if record is not None and record.params == trial.params else None
