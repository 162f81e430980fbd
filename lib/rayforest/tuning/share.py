"""One node's share of a trial that is trained on several: its shards, and its part in LightGBM's network.

A process of each node holds the training and validation rows of its shards, binned. LightGBM's `data` tree learner adds
up the nodes' histograms at each split, so that all of them grow the same trees; everything else is our own:

- Shard i is of rank i modulo the number of nodes, so that each has shards of all times.
- Bins are made from the same sample of rows that one node would take: each rank picks its rows of it, and all of them
  get all of it. LightGBM itself would make the bins of a feature from the rows of one rank.
- LightGBM would measure each rank's validation rows apart, and the ranks would stop at different rounds, where each
  waits for the others for ever. So a rank boosts one round when it is asked to, and answers with sums over its rows.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np

from rayforest.engine.executors import Member, WorkerLostError
from rayforest.errors import ConfigError
from rayforest.features.fitted import Matrix
from rayforest.metrics.held_out import HeldOut
from rayforest.metrics.mergeable import RunningMetrics
from rayforest.metrics.problem import Problem
from rayforest.tuning.dataset import (
    PartRows,
    PreparedData,
    categorical_places,
    model_names,
    refuse_large,
)
from rayforest.tuning.measured import ShardMeasure
from rayforest.tuning.quiet import quiet_lightgbm, silence
from rayforest.tuning.trial import Trial, errors_name_the_space, machine_free, objective_params

SILENCE_MINUTES = 10
"""LightGBM's time_out: a rank that hears nothing from another one for so long gives up."""


@dataclass(frozen=True)
class ShareRows:
    """What a rank tells of its rows."""

    counts: list[int]
    """Training rows by shard of its own."""
    training_labels: list[float]
    """The class numbers that occur; none for quantities."""
    valid_labels: list[float]


class Share:
    """Of one rank. Its methods are called by all ranks at once: `rows`, `sample` and `bin` once; then for each trial
    `machine`, `begin`, `boost` round by round, and `finish`; `measure` at any time.
    """

    def __init__(self, data: PreparedData, problem: Problem, base: dict[str, Any], member: Member) -> None:
        quiet_lightgbm()
        self._data, self._problem, self._base, self._member = data, problem, base, member
        self._paths = [path for i, path in enumerate(data.manifest.data_paths()) if i % member.members == member.rank]
        self._train: lgb.Dataset | None = None
        self._valid: lgb.Dataset | None = None
        self._booster: lgb.Booster | None = None

    def rows(self) -> ShareRows:
        """What there is to learn from here.

        Raises:
            InputError: LightGBM cannot hold a target.
        """
        parts = {part: PartRows(self._data, part, self._problem, self._paths) for part in ("train", "valid")}
        self._train_rows, self._valid_rows = parts["train"], parts["valid"]
        for part, rows in parts.items():
            refuse_large(rows.labels, part)
        if self._problem.kind == "regression":
            return ShareRows(self._train_rows.counts, [], [])
        seen = (np.unique(rows.labels).tolist() for rows in (self._train_rows, self._valid_rows))
        return ShareRows(self._train_rows.counts, *seen)

    def sample(self, counts: list[list[int]]) -> Matrix:
        """This rank's rows of the sample of all training rows from which bins are made.

        Args:
            counts: training rows by shard, of each rank.
        """
        members, shards = len(counts), sum(map(len, counts))
        in_order = np.array([counts[i % members][i // members] for i in range(shards)])
        firsts = np.cumsum(in_order) - in_order
        # As LightGBM itself samples the rows of a `Sequence`: a function of their number and the parameters.
        wanted = lgb.Dataset(None, params=dict(self._base))._create_sample_indices(total_nrow=int(in_order.sum()))
        found = [np.empty((0, len(self._data.features.names)))]
        for block, first in enumerate(firsts[self._member.rank :: members]):
            start, stop = np.searchsorted(wanted, [first, first + self._train_rows.counts[block]])
            if start < stop:
                found.append(self._train_rows.load(block)[wanted[start:stop] - first])
        return np.concatenate(found)

    def bin(self, samples: list[Matrix]) -> None:
        """Put this rank's rows in the bins that the whole sample makes."""
        features = self._data.features
        whole = np.concatenate(samples)
        with errors_name_the_space():
            bins = lgb.Dataset(
                whole,
                label=np.zeros(len(whole)),
                feature_name=model_names(features),
                categorical_feature=categorical_places(features),
                params=dict(self._base),
            ).construct()
            del whole
            self._train = self._train_rows.dataset(dict(self._base), bins)
            if len(self._valid_rows.labels):
                self._valid = self._valid_rows.dataset(dict(self._base), bins)

    def machine(self) -> str:
        """Host and free port for the next trial.

        Raises:
            ConfigError: the node does not have the address that Ray knows it by, and LightGBM would not find itself.
        """
        host = self._member.host
        with socket.socket() as probe:
            try:
                probe.bind((host, 0))
            except OSError as error:
                raise ConfigError(
                    f"a node that Ray knows as {host} has no such address, so that others cannot train with it",
                    expected="an IPv4 address of one of its own network interfaces",
                    found=error.strerror or str(error),
                    next_step="start Ray there with --node-ip-address, or set tune.nodes = 1 if the rows fit one node",
                ) from None
            return f"{host}:{probe.getsockname()[1]}"

    def begin(self, trial: Trial, machines: list[str]) -> None:
        """Join the network of the ranks, for a trial.

        Raises:
            ConfigError: LightGBM refuses its parameters.
            WorkerLostError: the network did not come about.
        """
        params = self._base | objective_params(self._problem.kind, len(self._problem.labels)) | trial.params
        params.pop("num_iterations", None)
        network = {
            "tree_learner": "data",
            "pre_partition": True,
            "num_machines": len(machines),
            "machines": ",".join(machines),
            "local_listen_port": int(machines[self._member.rank].rpartition(":")[2]),
            "time_out": SILENCE_MINUTES,
        }
        own = {"metric": "None", "num_threads": self._member.cpus}
        with _lost_where_the_network_broke(), errors_name_the_space(), silence():
            self._booster = lgb.Booster(params | network | own, self._train)
            if self._valid is not None:
                self._booster.add_valid(self._valid, "valid")

    def boost(self) -> RunningMetrics:
        """Grow the next trees with the others, and measure this rank's validation rows.

        Raises:
            WorkerLostError: the network broke.
        """
        assert self._booster is not None  # noqa: S101  begun
        sums = RunningMetrics(with_curves=self._problem.metric in ("auc", "average_precision"))

        def measure(predictions: Any, _rows: lgb.Dataset) -> tuple[str, float, bool]:
            sums.update(self._problem, predictions, self._valid_rows.labels)
            return "sums", 0.0, False

        with _lost_where_the_network_broke(), errors_name_the_space():
            self._booster.update()
            self._booster.eval_valid(measure)
        return sums

    def finish(self, rounds: int) -> str:
        """Leave the network; the model text of the first rank, cut after so many rounds (0: with all)."""
        assert self._booster is not None  # noqa: S101  begun
        booster, self._booster = self._booster, None
        text = booster.model_to_string(num_iteration=rounds or None) if self._member.rank == 0 else ""
        booster.free_network()
        return machine_free(text)

    def measure(self, model: str, part: str) -> HeldOut:
        """A model on this rank's rows of a part, one shard in memory at a time."""
        whole = HeldOut()
        measure = ShardMeasure(self._data, self._problem, model, part, self._member.cpus)
        for path in self._paths:
            whole.merge(measure.of(path))
        return whole


@contextmanager
def _lost_where_the_network_broke() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        text = str(error)
        if "ocket" in text or "Binding port" in text or "linkers" in text:
            raise WorkerLostError(f"the network between the nodes broke: {text}") from None
        raise
