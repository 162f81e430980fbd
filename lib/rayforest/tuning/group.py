"""Trials on several nodes, one after the other: who holds which share, when to stop, and what if a node is lost."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from logging import getLogger
from typing import Any, TypeVar

from rayforest.engine.executors import Executor, Gang, Outcome, WorkerLostError
from rayforest.errors import ConfigError, InputError, UnfinishedError
from rayforest.metrics.defined import refuse_missing_classes
from rayforest.metrics.exact import Evaluation
from rayforest.metrics.held_out import HeldOut
from rayforest.metrics.mergeable import RunningMetrics
from rayforest.metrics.problem import Problem
from rayforest.tuning.dataset import PreparedData, refuse_constant
from rayforest.tuning.share import Share
from rayforest.tuning.space import Space, tried_values
from rayforest.tuning.trial import MAX_ROUNDS, SHARED_PARAMS, STOPPING_ROUNDS, Trial, TrialRecord

MOST_ROWS = 2**31 - 1
"""LightGBM counts the rows of a leaf, over all nodes, in 32 bits."""

T = TypeVar("T")
R = TypeVar("R")
_log = getLogger("rayforest.tuning")


@dataclass(frozen=True)
class GroupSettings:
    """Of a search on several nodes."""

    nodes: int
    memory_bytes: int
    """That a node must have; 0 where that is not looked at."""
    retries: int
    """Further attempts at a trial of which a node was lost."""
    seed: int
    shared: dict[str, Any]
    """Parameters of the bins."""


class TrainingGroup:
    """Nodes that train together. They are taken when there is something to do, and held until `close`."""

    def __init__(self, executor: Executor, data: PreparedData, problem: Problem, settings: GroupSettings) -> None:
        self._executor, self._problem, self._settings = executor, problem, settings
        base = SHARED_PARAMS | {"seed": settings.seed} | settings.shared
        self._share = partial(Share, data, problem, base)
        self._gang: Gang | None = None
        self._binned = False

    def run(self, trial: Trial) -> TrialRecord:
        """Train one trial; from its beginning and on a new group where a node was lost.

        Raises:
            ConfigError, InputError: as `TrainingSet`, or the shards are too few to share.
            UnfinishedError: nodes were lost as often as the retries allow, or there are too few of them.
        """
        return self._again_if_lost(lambda gang: self._train(gang, trial), f"trial {trial.number}")

    def measure(self, model: str, part: str) -> tuple[Evaluation, dict[str, float]]:
        """Metrics of a model on one part, and those of the best constant: each node measures its own shards.

        Raises:
            UnfinishedError: as `run`.
        """
        whole = HeldOut()
        for share in self._again_if_lost(lambda gang: gang.call(Share.measure, model, part), "the evaluation"):
            whole.merge(share)
        return whole.evaluation(self._problem), whole.baseline(self._problem)

    def close(self) -> None:
        """Give the nodes back."""
        if self._gang is not None:
            self._gang.close()
        self._gang, self._binned = None, False

    def _again_if_lost(self, work: Callable[[Gang], R], name: str) -> R:
        attempts = self._settings.retries + 1
        for attempt in range(1, attempts + 1):
            try:
                if self._gang is None:
                    self._gang = self._executor.gang(self._share, self._settings.nodes, self._settings.memory_bytes)
                return work(self._gang)
            except WorkerLostError as error:
                self.close()
                lost = error
                _log.warning("%s: a node was lost in attempt %d of %d: %s", name, attempt, attempts, lost)
        raise UnfinishedError(
            f"{name} was not finished: a node was lost in each attempt",
            expected=f"{self._settings.nodes} nodes that reach each other and stay",
            found=f"{attempts} attempts; the last one: {lost}",
            next_step="look at the memory of the nodes (tune.nodes takes more of them), then run the command again: "
            "finished trials are kept",
        )

    def _bin(self, gang: Gang) -> None:
        """Let each node read and bin its rows, once."""
        shares = gang.call(Share.rows)
        counts = [share.counts for share in shares]
        refuse_bad_shares(counts)
        if self._problem.kind != "regression":
            refuse_constant(self._problem, len({label for share in shares for label in share.training_labels}))
            valid = {label for share in shares for label in share.valid_labels}
            refuse_missing_classes(self._problem, sorted(valid))
        gang.call(Share.bin, gang.call(Share.sample, counts, keep=True))
        self._binned = True

    def _train(self, gang: Gang, trial: Trial) -> TrialRecord:
        began, problem = time.monotonic(), self._problem
        if not self._binned:
            self._bin(gang)
        gang.call(Share.begin, trial, gang.call(Share.machine))
        stops_early = trial.params.get("boosting") != "dart"  # which changes the trees that are there
        best, best_rounds, rounds = math.nan, 0, 0
        while rounds < int(trial.params.get("num_iterations", MAX_ROUNDS)):
            sums = RunningMetrics()
            for share in gang.call(Share.boost):
                sums.merge(share)
            rounds, score = rounds + 1, _score(problem, sums)
            better = score > best if problem.higher_is_better else score < best
            if math.isfinite(score) and (better or math.isnan(best) or not stops_early):
                best, best_rounds = score, rounds
            if stops_early and rounds - best_rounds >= STOPPING_ROUNDS:
                break
        text = gang.call(Share.finish, best_rounds if stops_early else 0)[0]
        record = partial(TrialRecord, trial.number, trial.params)
        if math.isnan(best):
            why = f"its {problem.score_name} is no finite number"
            return record(None, rounds, time.monotonic() - began, "", why)
        return record(best, best_rounds, time.monotonic() - began, text)


def one_by_one(
    fn: Callable[[TrainingGroup, T], R], items: Iterator[T], *, group: TrainingGroup, window: int
) -> Iterator[Outcome[T, R]]:
    """As `Executor.stream` in order: item n is pulled after outcome n - window was taken, though one runs at a time."""
    waiting = deque(islice(items, window))
    while waiting:
        item = waiting.popleft()
        yield Outcome(item, fn(group, item))
        waiting.extend(islice(items, 1))


def refuse_one_node_only(problem: Problem, space: Space) -> None:
    """Refuse what LightGBM does in one process only; it would take something else, in silence.

    Raises:
        ConfigError: names it.
    """
    tried = list(tried_values(space))
    asked = {
        "tune.space.linear_tree": ("linear_tree", True) in tried,
        "tune.space.monotone_constraints_method": any(
            name == "monotone_constraints_method" and value != "basic" for name, value in tried
        ),
        "tune.metric = auc of several classes": problem.kind == "multiclass" and problem.metric == "auc",
    }
    for name in [name for name, is_asked in asked.items() if is_asked]:
        raise ConfigError(
            f"{name} is for a model that is trained on one node",
            expected="trees without models in their leaves, basic monotone constraints, and a metric that adds up",
            next_step="leave it out, or set tune.nodes = 1 where the rows fit one node",
        )


def refuse_bad_shares(counts: list[list[int]]) -> None:
    """Refuse training rows, given by shard for each node, that cannot be shared so.

    Raises:
        InputError: a node would have none, or they are more than LightGBM counts.
    """
    rows = [sum(share) for share in counts]
    if min(rows) == 0:
        raise InputError(
            f"the training rows cannot be shared by {len(counts)} nodes: one of them has none",
            expected="at least as many shards with training rows as nodes; shard i goes to node i modulo their number",
            found=f"{sum(n > 0 for n in chain(*counts))} shards with training rows",
            next_step="prepare with a smaller run.shard_rows, or set tune.nodes to fewer",
        )
    if sum(rows) > MOST_ROWS:
        raise InputError(
            "the training rows are more than LightGBM counts, on however many nodes",
            expected=f"at most {MOST_ROWS:,}",
            found=f"{sum(rows):,}",
            next_step="train on fewer: a smaller split.shares.train",
        )


def _score(problem: Problem, sums: RunningMetrics) -> float:
    """The metric of all validation rows; NaN where they do not define it."""
    if problem.metric == "average_precision":
        found = sums.average_precision()
        return math.nan if found is None else found
    return sums.metrics(problem).get(problem.metric, math.nan)
