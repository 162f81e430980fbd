"""A model measured on held-out rows that no process holds all of: a task a shard, and sums merged in their order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import lightgbm as lgb
import numpy as np

from rayforest.engine.executors import Executor, Outcome, WorkerLostError
from rayforest.metrics.exact import Evaluation
from rayforest.metrics.held_out import HeldOut
from rayforest.metrics.problem import Problem
from rayforest.process_settings import LIGHTGBM_PROOF_THREADS
from rayforest.tuning.dataset import PreparedData
from rayforest.tuning.quiet import quiet_lightgbm


def measured_by_shards(
    data: PreparedData, problem: Problem, model: str, part: str, executor: Executor, retries: int
) -> tuple[Evaluation, dict[str, float]]:
    """Metrics of a model on one part, and those of the best constant.

    Args:
        data: prepared shards.
        problem: that the model solves.
        model: LightGBM model text.
        part: of which rows.
        executor: where the tasks run.
        retries: of a task whose worker is lost.

    Raises:
        WorkerLostError: a task lost its worker in each attempt.
    """
    whole, task = HeldOut(), _MeasureShard(data, problem, model, part)

    def tried_again(outcome: Outcome[str, HeldOut]) -> Outcome[str, HeldOut]:
        (again,) = executor.stream(task, [outcome.item])
        return again

    for outcome in executor.stream(task, data.manifest.data_paths(), ordered=True):
        for _ in range(retries):
            if not isinstance(outcome.error, WorkerLostError):
                break
            outcome = tried_again(outcome)  # noqa: PLW2901
        whole.merge(outcome.result())
    return whole.evaluation(problem), whole.baseline(problem)


@dataclass(frozen=True)
class _MeasureShard:
    """Runs where the executor says; the model is parsed once a worker."""

    data: PreparedData
    problem: Problem
    model: str
    part: str

    def __call__(self, path: str) -> HeldOut:
        inputs, labels = self.data.labelled(path, self.part, self.problem)
        training = self.data.labels_of(path, "train", self.problem)
        if not len(labels):
            classes = (0, len(self.problem.labels)) if self.problem.kind == "multiclass" else 0
            return HeldOut.of(self.problem, np.zeros(classes), labels, training)
        predictions = np.asarray(self._booster.predict(inputs, num_threads=LIGHTGBM_PROOF_THREADS))
        return HeldOut.of(self.problem, predictions, labels, training)

    @cached_property
    def _booster(self) -> lgb.Booster:
        quiet_lightgbm()
        return lgb.Booster(model_str=self.model)
