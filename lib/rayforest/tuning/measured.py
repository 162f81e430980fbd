"""The best model on held-out rows: in one process where they are few, shard by shard in tasks where they are many."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import lightgbm as lgb
import numpy as np

from rayforest.engine.executors import Executor
from rayforest.metrics.exact import Evaluation, baseline, evaluate, gather
from rayforest.metrics.held_out import HeldOut
from rayforest.metrics.problem import Problem
from rayforest.tuning.dataset import PreparedData

MOST_ROWS_HERE = 20_000_000
"""Training and held-out rows of which labels and predictions are brought together: 16 bytes a row."""
ABOUT_SUMS = (
    "the rows are more than one process is to hold, so metrics are sums over shards: auc and average_precision are to "
    "within 1/64 of a logit of the score, and there is no baseline_mae"
)


def are_few(data: PreparedData, part: str) -> bool:
    """Whether the rows that a measurement needs are brought together."""
    return sum(data.profile.parts.get(name, 0) for name in ("train", part)) <= MOST_ROWS_HERE


def measured_here(data: PreparedData, problem: Problem, model: str, part: str) -> tuple[Evaluation, dict[str, float]]:
    """Metrics of a model on one part, and those of the best constant: exact, from all rows of the part."""
    booster = lgb.Booster(model_str=model)
    predictions, labels = gather((np.asarray(booster.predict(x)), y) for x, y in data.matrices(part, problem) if len(y))
    training = np.concatenate(list(data.labels("train", problem)))
    return evaluate(problem, predictions, labels), baseline(problem, training, labels)


def measured_by_shards(
    data: PreparedData, problem: Problem, executor: Executor, model: str, part: str
) -> tuple[Evaluation, dict[str, float]]:
    """The same from sums over shards, each made where the executor works; no rows come here."""
    whole = HeldOut()
    state = partial(ShardMeasure, data, problem, model, part)
    for outcome in executor.stream(ShardMeasure.of, data.manifest.data_paths(), ordered=True, state=state):
        whole.merge(outcome.result())
    return whole.evaluation(problem), whole.baseline(problem)


@dataclass
class ShardMeasure:
    """Measures a model on one part, shard by shard."""

    data: PreparedData
    problem: Problem
    model: str
    part: str
    threads: int = 1

    def __post_init__(self) -> None:
        self._booster = lgb.Booster(model_str=self.model)

    def of(self, path: str) -> HeldOut:
        """On one shard's file."""
        problem = self.problem
        inputs, labels = self.data.labelled(path, self.part, problem)
        if len(labels):
            predictions = np.asarray(self._booster.predict(inputs, num_threads=self.threads))
        else:  # LightGBM predicts nothing for no rows
            predictions = np.zeros((0, len(problem.labels)) if problem.kind == "multiclass" else 0)
        return HeldOut.of(problem, predictions, labels, self.data.labels_of(path, "train", problem))
