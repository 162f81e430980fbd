"""Prepared shards as the model's inputs: one shard in memory at a time, binned once.

LightGBM reads the shards through its Sequence interface: first a sample of rows, from which it makes its bins, then all
rows in blocks that go straight into the bins. So the float matrix of the whole table never exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl

from rayforest.engine.commit import Version
from rayforest.engine.document import read_table
from rayforest.engine.manifest import Manifest, open_manifest
from rayforest.engine.plan import PlannedInput
from rayforest.engine.publish import read_manifest
from rayforest.engine.stores.opening import open_store
from rayforest.errors import InputError
from rayforest.features.fitted import FittedFeatures, Matrix
from rayforest.features.profile import Profile
from rayforest.features.recipe import SPLIT_COLUMN, TARGET_COLUMN
from rayforest.formats import DATA, PROFILE
from rayforest.metrics.problem import Problem
from rayforest.tables.conversion import frame_of

Labels = npt.NDArray[np.float64]


LARGEST_LABEL = 1e38
"""LightGBM takes a larger target for this one, in silence."""


@dataclass(frozen=True)
class PreparedData:
    """A published version of ROOT/prepared."""

    destination: str
    key: str | None = None
    """Plan key of the version; None: the one that is current when the manifest is first asked for."""

    @cached_property
    def manifest(self) -> Manifest:
        """Of the version.

        Raises:
            InputError: nothing is prepared.
        """
        store = open_store(self.destination)
        manifest = open_manifest(store, self.key) if self.key is not None else None
        return (
            manifest if manifest is not None else read_manifest(store, next_step="first run: rayforest prepare PROJECT")
        )

    @cached_property
    def features(self) -> FittedFeatures:
        """How the features came about, and what was learnt for them."""
        return FittedFeatures.of_prepared(self.manifest.read)

    @cached_property
    def profile(self) -> Profile:
        """What the training rows look like."""
        return self.manifest.read("profile.json", PROFILE, Profile.from_document)

    def inputs(self) -> Iterator[PlannedInput]:
        """The raw files that were prepared, in input order."""
        plan = Version(self.manifest.store, 0, self.manifest.key).plan()
        return iter(()) if plan is None else plan.inputs()

    def frames(self, part: str) -> Iterator[pl.DataFrame]:
        """Features of the rows of one part, shard by shard, in input order."""
        for path in self.manifest.data_paths():
            yield self._rows(path, part, self.features.names)

    def matrices(self, part: str, problem: Problem) -> Iterator[tuple[Matrix, Labels]]:
        """Model inputs and encoded labels of one part, shard by shard; labels that training never saw are `UNSEEN`."""
        return (self.labelled(path, part, problem) for path in self.manifest.data_paths())

    def labelled(self, path: str, part: str, problem: Problem) -> tuple[Matrix, Labels]:
        """The same of one shard's file."""
        frame = self._rows(path, part, [TARGET_COLUMN, *self.features.names])
        labels = problem.encode(frame[TARGET_COLUMN])
        given = ~np.isnan(labels)
        return self.features.matrix(frame)[given], labels[given]

    def labels(self, part: str, problem: Problem) -> Iterator[Labels]:
        """The encoded labels alone, shard by shard."""
        return (self.labels_of(path, part, problem) for path in self.manifest.data_paths())

    def labels_of(self, path: str, part: str, problem: Problem) -> Labels:
        """The same of one shard's file."""
        labels = problem.encode(self._rows(path, part, [TARGET_COLUMN])[TARGET_COLUMN])
        return labels[~np.isnan(labels)]

    def learnable(self, path: str, part: str, problem: Problem) -> Matrix:
        """Model inputs of the rows of one shard's file whose label training saw."""
        frame = self._rows(path, part, [TARGET_COLUMN, *self.features.names])
        known = problem.is_known(problem.encode(frame[TARGET_COLUMN]))
        return self.features.matrix(frame)[known]

    def _rows(self, path: str, part: str, columns: list[str]) -> pl.DataFrame:
        table = read_table(self.manifest.store, path, DATA, [SPLIT_COLUMN, *columns])
        return frame_of(table).filter(pl.col(SPLIT_COLUMN) == part)


class SequenceOfRows(lgb.Sequence):
    """The rows of one shard, for LightGBM."""

    batch_size = 65_536

    def __init__(self, rows: PartRows, block: int) -> None:
        self.rows, self.block = rows, block

    def __getitem__(self, index: int | slice | list[int]) -> Matrix:
        found = self.rows.load(self.block)[index]
        return found.copy() if found.ndim == 1 else found  # a view of a row would keep its shard's matrix in memory

    def __len__(self) -> int:
        return self.rows.counts[self.block]


class PartRows:
    """The rows of one part, in some shards, whose label training saw: their labels, and one matrix at a time."""

    def __init__(self, data: PreparedData, part: str, problem: Problem, paths: Sequence[str]) -> None:
        self.data, self.part, self.problem, self.paths = data, part, problem, paths
        every = (data.labels_of(path, part, problem) for path in paths)
        labels = [block[problem.is_known(block)] for block in every]
        self.counts = [len(block) for block in labels]
        self.labels: Labels = np.concatenate([np.zeros(0), *labels])
        self._loaded: tuple[int, Matrix] | None = None

    def load(self, block: int) -> Matrix:
        """The model inputs of one shard."""
        if self._loaded is None or self._loaded[0] != block:
            self._loaded = block, self.data.learnable(self.paths[block], self.part, self.problem)
        return self._loaded[1]

    def dataset(self, params: dict[str, Any], reference: lgb.Dataset | None = None) -> lgb.Dataset:
        """The rows, of which there are some, in LightGBM's bins: those of the reference, or new ones."""
        features = self.data.features
        return lgb.Dataset(
            [SequenceOfRows(self, i) for i, n in enumerate(self.counts) if n],
            label=self.labels,
            feature_name=model_names(features),
            categorical_feature=categorical_places(features),
            params=params,
            reference=reference,
            free_raw_data=True,
        ).construct()


def binned(data: PreparedData, problem: Problem, params: dict[str, Any]) -> tuple[lgb.Dataset, lgb.Dataset]:
    """The train and valid parts as constructed LightGBM datasets that share their bins.

    Args:
        data: prepared shards with a target.
        problem: how labels are encoded. Rows with a label that training never saw are left out: LightGBM knows no class
            for them, so early stopping and the comparison of trials are on the others.
        params: LightGBM parameters that shape the bins; they cannot vary between trials on the same dataset.
    """
    paths = list(data.manifest.data_paths())
    rows = PartRows(data, "train", problem, paths)
    refuse_constant(problem, len(np.unique(rows.labels)))
    refuse_large(rows.labels, "train")
    train = rows.dataset(params)
    held_out = PartRows(data, "valid", problem, paths)
    refuse_large(held_out.labels, "valid")
    return train, held_out.dataset(params, train)


def refuse_constant(problem: Problem, labels: int) -> None:
    """Refuse classes of which the training rows have fewer than two labels."""
    if problem.kind != "regression" and labels < 2:
        raise InputError(
            "the target is constant in the training rows: none of them has the positive label",
            expected="two labels or more",
            next_step="check data.target and data.positive",
        )


def refuse_large(labels: Labels, part: str) -> None:
    """Refuse quantities that LightGBM does not hold."""
    if len(labels) and np.abs(labels).max() > LARGEST_LABEL:
        raise InputError(
            f"the target has values in the {part} part that LightGBM cannot hold",
            expected=f"quantities of at most {LARGEST_LABEL:.2g}: it keeps them in single precision",
            next_step="divide it, or take its logarithm: data.target may be SQL",
        )


def model_names(features: FittedFeatures) -> list[str]:
    """LightGBM refuses JSON's special characters in names, so the model's inputs are numbered."""
    return [f"f{i}" for i in range(len(features.names))]


def categorical_places(features: FittedFeatures) -> list[int]:
    """Which of the model's inputs are codes of categories."""
    return [i for i, name in enumerate(features.names) if name in features.categories]
