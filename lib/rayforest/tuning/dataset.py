"""Prepared shards as the model's inputs: one shard in memory at a time, binned once.

LightGBM reads the shards through its Sequence interface: first a sample of rows, from which it makes its bins, then all
rows in blocks that go straight into the bins. So the float matrix of the whole table never exists.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        for path in self.manifest.data_paths():
            frame = self._rows(path, part, [TARGET_COLUMN, *self.features.names])
            labels = problem.encode(frame[TARGET_COLUMN])
            given = ~np.isnan(labels)
            yield self.features.matrix(frame)[given], labels[given]

    def labels(self, part: str, problem: Problem) -> Iterator[Labels]:
        """The encoded labels alone, shard by shard."""
        for path in self.manifest.data_paths():
            labels = problem.encode(self._rows(path, part, [TARGET_COLUMN])[TARGET_COLUMN])
            yield labels[~np.isnan(labels)]

    def learnable(self, path: str, part: str, problem: Problem) -> Matrix:
        """Model inputs of the rows of one shard's file whose label training saw."""
        frame = self._rows(path, part, [TARGET_COLUMN, *self.features.names])
        known = problem.is_known(problem.encode(frame[TARGET_COLUMN]))
        return self.features.matrix(frame)[known]

    def _rows(self, path: str, part: str, columns: list[str]) -> pl.DataFrame:
        table = read_table(self.manifest.store, path, DATA, [SPLIT_COLUMN, *columns])
        return frame_of(table).filter(pl.col(SPLIT_COLUMN) == part)


class _Rows(lgb.Sequence):
    """Rows [begin, end) of the blocks of one part, for LightGBM."""

    batch_size = 65_536

    def __init__(self, blocks: _Blocks, block: int) -> None:
        self.blocks, self.block = blocks, block

    def __getitem__(self, index: int | slice | list[int]) -> Matrix:
        return self.blocks.load(self.block)[index]

    def __len__(self) -> int:
        return self.blocks.rows[self.block]


class _Blocks:
    """The rows of one part whose label training saw, by shard: their labels, and one matrix at a time."""

    def __init__(self, data: PreparedData, part: str, problem: Problem) -> None:
        self.data, self.part, self.problem = data, part, problem
        self.paths = list(data.manifest.data_paths())
        labels = [block[problem.is_known(block)] for block in data.labels(part, problem)]
        self.rows = [len(block) for block in labels]
        self.labels = np.concatenate(labels)
        self._loaded: tuple[int, Matrix] | None = None

    def load(self, block: int) -> Matrix:
        if self._loaded is None or self._loaded[0] != block:
            self._loaded = block, self.data.learnable(self.paths[block], self.part, self.problem)
        return self._loaded[1]


def binned(data: PreparedData, problem: Problem, params: dict[str, Any]) -> tuple[lgb.Dataset, lgb.Dataset]:
    """The train and valid parts as constructed LightGBM datasets that share their bins.

    Args:
        data: prepared shards with a target.
        problem: how labels are encoded. Rows with a label that training never saw are left out: LightGBM knows no class
            for them, so early stopping and the comparison of trials are on the others.
        params: LightGBM parameters that shape the bins; they cannot vary between trials on the same dataset.
    """
    categorical = [i for i, name in enumerate(data.features.names) if name in data.features.categories]
    train, valid = None, None
    for part in ("train", "valid"):
        blocks = _Blocks(data, part, problem)
        if train is None and problem.kind != "regression" and len(np.unique(blocks.labels)) < 2:
            raise InputError(
                "the target is constant in the training rows: none of them has the positive label",
                expected="two labels or more",
                next_step="check data.target and data.positive",
            )
        if len(blocks.labels) and np.abs(blocks.labels).max() > LARGEST_LABEL:
            raise InputError(
                f"the target has values in the {part} part that LightGBM cannot hold",
                expected=f"quantities of at most {LARGEST_LABEL:.2g}: it keeps them in single precision",
                next_step="divide it, or take its logarithm: data.target may be SQL",
            )
        rows: list[lgb.Sequence] = [_Rows(blocks, i) for i, n in enumerate(blocks.rows) if n]
        dataset = lgb.Dataset(
            rows,
            label=blocks.labels,
            feature_name=_model_names(data.features.names),
            categorical_feature=categorical,
            params=params,
            reference=train,
            free_raw_data=True,
        ).construct()
        train, valid = train or dataset, dataset
    assert train is not None and valid is not None  # noqa: S101, PT018  the loop ran twice
    return train, valid


def _model_names(features: list[str]) -> list[str]:
    """LightGBM refuses JSON's special characters in names, so the model's inputs are numbered."""
    return [f"f{i}" for i in range(len(features))]
