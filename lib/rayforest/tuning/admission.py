"""How much memory a search takes on a node, and on how many nodes it therefore trains.

An estimate from what the prepared manifest and the space say, before anything is read. It counts what LightGBM keeps by
row, by value and by leaf, what is held while rows are binned, and the process itself; `benchmarks/beyond_a_node.py`
compares it with the peaks of real searches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rayforest.engine.executors import Executor
from rayforest.errors import ConfigError
from rayforest.metrics.problem import Problem
from rayforest.tuning.dataset import PreparedData
from rayforest.tuning.space import Space, tried_values

PROCESS_BYTES = 350 << 20
"""Python with LightGBM, Arrow, Polars, Optuna and Ray's client."""
SAMPLED_ROWS = 200_000
"""LightGBM's bin_construct_sample_cnt."""
_SHOWN_NODES = 3
NOT_LOOKED_AT_BYTES = 1 << 30
"""Any node has so much: a search that needs less asks nothing of the cluster."""


@dataclass(frozen=True)
class Needs:
    """What decides how much memory a search takes."""

    train_rows: int
    valid_rows: int
    features: int
    classes: int
    """Trees a round."""
    shard_rows: int
    """Of a shard, on average."""
    leaves: int
    """The most that a tree may have."""
    bins: int
    """The most that a feature may have."""
    sampled_rows: int = SAMPLED_ROWS
    linear: bool = False
    """Whether leaves hold models, which need the values beside the bins."""

    @classmethod
    def of(cls, data: PreparedData, problem: Problem, space: Space) -> Needs:
        """Those of a search."""
        tried: dict[str, list[Any]] = {}
        for name, value in tried_values(space):
            tried.setdefault(name, []).append(value)
        fixed: Mapping[str, Any] = space.shared
        manifest, parts = data.manifest, data.profile.parts
        return cls(
            train_rows=parts["train"],
            valid_rows=parts["valid"],
            features=len(data.features.names),
            classes=len(problem.labels) if problem.kind == "multiclass" else 1,
            shard_rows=-(-manifest.rows_out // max(manifest.shards, 1)),
            leaves=max(map(int, tried.get("num_leaves", [31]))),
            bins=int(fixed.get("max_bin", 255)),
            sampled_rows=int(fixed.get("bin_construct_sample_cnt", SAMPLED_ROWS)),
            linear=bool(fixed.get("linear_tree", False)),
        )

    def bytes_on(self, nodes: int, trials: int = 1) -> int:
        """Memory that one of so many nodes needs, with so many trials at once."""
        train, valid = -(-self.train_rows // nodes), -(-self.valid_rows // nodes)
        value = 1 if self.bins <= 255 else 2
        rows = (train + valid) * (self.features * value + 8 + 4)  # bins; the label as numpy and as LightGBM has it
        if self.linear:
            rows += (train + valid) * self.features * 4
        # As stored, unpacked, as a frame, its part of the rows, as a matrix, and one that is not given back yet.
        shard = self.shard_rows * self.features * 8 * 6
        sampled = min(self.sampled_rows, self.train_rows)
        sample = sampled * self.features * 8 * 4  # as rows, twice, and as columns, twice
        # Scores in double precision; gradients and hessians, and again in the order of leaves; places by leaf, twice,
        # and those in the bag, twice.
        trial = train * (self.classes * (8 + 8) + 8 + 16)
        trial += valid * self.classes * (8 + 8 + 16)  # scores, their copy, and what a metric sorts
        trial += self.leaves * self.features * self.bins * 16  # a histogram for each leaf
        return PROCESS_BYTES + rows + shard + max(sample, trials * trial)


@dataclass(frozen=True)
class Admission:
    """Where a search may train."""

    nodes: int = 1
    """That train each trial together."""
    memory_bytes: int = 0
    """That each of them must have; 0 where that is not looked at."""


def admit(needs: Needs, asked: int | str, executor: Callable[[], Executor], trials: int) -> Admission:
    """Find as few nodes as have the memory that a search needs.

    Args:
        needs: of the search.
        asked: `tune.nodes`: a number of nodes is taken as it is.
        executor: gives that of the run, where the answer depends on it.
        trials: at once, where a node trains alone.

    Raises:
        ConfigError: the nodes that there are have too little memory; both numbers are named.
    """
    if isinstance(asked, int):
        return Admission(asked)
    alone = needs.bytes_on(1, trials)
    if alone <= NOT_LOOKED_AT_BYTES:
        return Admission()
    nodes = sorted((node.memory_bytes for node in executor().nodes()), reverse=True)
    if not nodes or alone <= nodes[0]:
        return Admission(1, alone if nodes else 0)
    for count in range(2, len(nodes) + 1):
        if (together := needs.bytes_on(count)) <= nodes[count - 1]:
            return Admission(count, together)
    several = f", or {_gb(needs.bytes_on(len(nodes)))} on each of {len(nodes)}" if len(nodes) > 1 else ""
    raise ConfigError(
        "the training rows need more memory than there is",
        expected=f"{_gb(alone)} on one node{several}",
        found=f"{' and '.join(map(_gb, nodes[:_SHOWN_NODES]))} of memory"
        if len(nodes) <= _SHOWN_NODES
        else f"{len(nodes)} nodes of {_gb(nodes[-1])} to {_gb(nodes[0])}",
        next_step="give it larger nodes, or more of them in a Ray cluster; or take fewer features or a smaller "
        "split.shares.train; or set tune.nodes = 1 to try it all the same: the estimate is to within a third",
    )


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
