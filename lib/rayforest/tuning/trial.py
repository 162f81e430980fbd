"""One trial: parameters to a trained booster and its score on the validation part."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import lightgbm as lgb
import numpy as np

from rayforest.engine.work import Work, work_of
from rayforest.errors import ConfigError
from rayforest.formats import Document
from rayforest.metrics.defined import refuse_missing_classes
from rayforest.metrics.problem import Problem, ProblemKind
from rayforest.tuning.dataset import PreparedData, binned
from rayforest.tuning.quiet import quiet_lightgbm

MAX_ROUNDS = 2_000
STOPPING_ROUNDS = 50
"""Boosting stops after this many rounds without a better validation score."""

SHARED_PARAMS: dict[str, Any] = {
    "feature_pre_filter": False,  # min_data_in_leaf varies between trials on one dataset
    "force_col_wise": True,  # row-wise histograms add in another order
    "deterministic": True,
    "verbosity": -1,
}
"""Parameters of every trial: the same trees on every machine, whatever its threads."""

_OBJECTIVES: dict[ProblemKind, str] = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}
_METRICS = {
    ("binary", "auc"): "auc",
    ("binary", "average_precision"): "average_precision",
    ("binary", "log_loss"): "binary_logloss",
    ("binary", "accuracy"): "binary_error",
    ("multiclass", "auc"): "auc_mu",
    ("multiclass", "log_loss"): "multi_logloss",
    ("multiclass", "accuracy"): "multi_error",
    ("regression", "rmse"): "rmse",
    ("regression", "mae"): "l1",
}


@dataclass(frozen=True)
class Trial:
    """What a worker needs to run a trial on a training set that it holds."""

    number: int
    params: dict[str, Any]
    threads: int


@dataclass(frozen=True)
class TrialRecord:
    """What came of it, as tuned/<key>/trials/<number>.json holds it."""

    number: int
    params: dict[str, Any]
    score: float | None
    """The project's metric on the validation part; None where it is not finite, so that the trial failed."""
    rounds: int
    """Boosting rounds up to the best score."""
    seconds: float
    model: str
    """LightGBM model text, cut after the best round; empty for a trial that failed."""
    failed: str = ""
    """Why."""
    work: Work | None = None
    """Training, and the loading of the training set where this trial was the first; None in files of version 1."""


def trial_record_of(document: Document) -> TrialRecord:
    """Read the file of a trial."""
    return TrialRecord(**{**document, "work": work_of(document)})


class Trainer:
    """Trains trials on a training set that is read and binned when the first one needs it."""

    def __init__(self, load: Callable[[], TrainingSet]) -> None:
        self._load, self._lock = load, Lock()
        self._loaded: TrainingSet | None = None

    def run(self, trial: Trial) -> TrialRecord:
        """Train one trial; several may be trained at once."""
        quiet_lightgbm()
        with self._lock:
            self._loaded = self._loaded or self._load()
        return self._loaded.run(trial)


class TrainingSet:
    """Binned train and valid parts; built once a process, shared by its concurrent trials."""

    def __init__(self, data: PreparedData, problem: Problem, seed: int, fixed: dict[str, Any]) -> None:
        self.problem = problem
        self.base = SHARED_PARAMS | {"seed": seed} | fixed
        with errors_name_the_space():
            self.train, self.valid = binned(data, problem, dict(self.base))
        if problem.kind != "regression":
            refuse_missing_classes(problem, np.unique(np.asarray(self.valid.get_label())).tolist())

    def run(self, trial: Trial) -> TrialRecord:
        """Train with early stopping."""
        began = time.monotonic()
        problem = self.problem
        metric = _METRICS[problem.kind, problem.metric]
        objective = objective_params(problem.kind, len(problem.labels))
        params = self.base | objective | {"metric": metric, "num_threads": trial.threads} | trial.params
        rounds = int(params.pop("num_iterations", MAX_ROUNDS))
        with errors_name_the_space():
            booster = lgb.train(
                params,
                self.train,
                rounds,
                valid_sets=[self.valid],
                valid_names=["valid"],
                callbacks=[lgb.early_stopping(STOPPING_ROUNDS, verbose=False)],
            )
        record = partial(TrialRecord, trial.number, trial.params)
        score = float(booster.best_score["valid"][metric])
        if not math.isfinite(score):
            why = f"its {problem.score_name} is no finite number"
            return record(None, booster.current_iteration(), time.monotonic() - began, "", why)
        if problem.metric == "accuracy":
            score = 1 - score
        text = booster.model_to_string(num_iteration=booster.best_iteration)
        rounds = booster.best_iteration or booster.current_iteration()  # dart never stops early
        return record(score, rounds, time.monotonic() - began, machine_free(text))


def objective_params(kind: ProblemKind, classes: int) -> dict[str, Any]:
    """What LightGBM is told of a kind of problem."""
    return {"objective": _OBJECTIVES[kind]} | ({"num_class": classes} if kind == "multiclass" else {})


def machine_free(model: str) -> str:
    """The model text without what differs between machines: threads, and the addresses of nodes that trained it."""
    for name, default in (("num_threads", "0"), ("local_listen_port", "12400"), ("machines", "")):
        model = re.sub(rf"^\[{name}: .*\]$", f"[{name}: {default}]", model, flags=re.MULTILINE)
    return model


@contextmanager
def errors_name_the_space() -> Iterator[None]:
    """LightGBM's own checks of a parameter's value, as an error of the project file."""
    try:
        yield
    except lgb.basic.LightGBMError as error:
        raise ConfigError(
            "LightGBM refuses a trial",
            found=str(error),
            next_step="correct [tune.space]",
        ) from None
