"""Prepared shards as the model's inputs: one shard in memory at a time, binned once.

LightGBM reads the shards through its Sequence interface: first a sample of rows, from which it makes its bins, then all
rows in blocks that go straight into the bins. So the float matrix of the whole table never exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
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
from rayforest.features.contract import Contract
from rayforest.features.profile import Profile
from rayforest.features.recipe import SPLIT_COLUMN, TARGET_COLUMN, Recipe, categories_of
from rayforest.formats import CATEGORIES, CONTRACT, DATA, PROFILE, RECIPE
from rayforest.metrics.problem import Problem
from rayforest.tables.conversion import frame_of

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.float64]


LARGEST_LABEL = 1e38
"""LightGBM takes a larger target for this one, in silence."""


def encode_features(frame: pl.DataFrame, features: Sequence[str], categories: dict[str, list[str]]) -> Matrix:
    """Features as the model's inputs: numbers as they are, categories as codes, missing and unseen as NaN.

    Returns:
        float64, shape [rows, features], in row order.
    """
    matrix = np.empty((frame.height, len(features)), np.float64)
    for column, name in enumerate(features):
        values = frame[name]
        if name in categories:
            values = category_codes(values, categories[name])
        matrix[:, column] = values.fill_null(np.nan).to_numpy()
    return matrix


def category_codes(values: pl.Series, categories: list[str]) -> pl.Series:
    """Codes of texts as Float64: the place in `categories`, null for missing and unseen ones."""
    levels = pl.DataFrame(
        {"level": pl.Series(categories, dtype=pl.String), "code": np.arange(len(categories), dtype=np.float64)}
    )
    joined = pl.DataFrame({"level": values}).join(levels, on="level", how="left", maintain_order="left")
    return joined["code"]


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
    def recipe(self) -> Recipe:
        """How the features came about."""
        contract = self.manifest.read("contract.json", CONTRACT, Contract.from_document)
        return self.manifest.read("recipe.json", RECIPE, partial(Recipe.from_document, contract=contract))

    @cached_property
    def profile(self) -> Profile:
        """What the training rows look like."""
        return self.manifest.read("profile.json", PROFILE, Profile.from_document)

    @cached_property
    def categories(self) -> dict[str, list[str]]:
        """Fitted categories by feature, in code order."""
        return self.manifest.read("categories.json", CATEGORIES, categories_of)

    def inputs(self) -> Iterator[PlannedInput]:
        """The raw files that were prepared, in input order."""
        plan = Version(self.manifest.store, 0, self.manifest.key).plan()
        return iter(()) if plan is None else plan.inputs()

    @property
    def feature_names(self) -> list[str]:
        """In the order of the model's inputs."""
        return [name for name, _ in self.recipe.features]

    def frames(self, part: str) -> Iterator[pl.DataFrame]:
        """Features of the rows of one part, shard by shard, in input order."""
        for path in self.manifest.data_paths():
            yield self._rows(path, part, self.feature_names)

    def matrices(self, part: str, problem: Problem) -> Iterator[tuple[Matrix, Labels]]:
        """Model inputs and encoded labels of one part, shard by shard; labels that training never saw are `UNSEEN`."""
        for path in self.manifest.data_paths():
            frame = self._rows(path, part, [TARGET_COLUMN, *self.feature_names])
            labels = problem.encode(frame[TARGET_COLUMN])
            given = ~np.isnan(labels)
            yield encode_features(frame, self.feature_names, self.categories)[given], labels[given]

    def labels(self, part: str, problem: Problem) -> Iterator[Labels]:
        """The encoded labels alone, shard by shard."""
        for path in self.manifest.data_paths():
            labels = problem.encode(self._rows(path, part, [TARGET_COLUMN])[TARGET_COLUMN])
            yield labels[~np.isnan(labels)]

    def learnable(self, path: str, part: str, problem: Problem) -> Matrix:
        """Model inputs of the rows of one shard's file whose label training saw."""
        frame = self._rows(path, part, [TARGET_COLUMN, *self.feature_names])
        known = problem.is_known(problem.encode(frame[TARGET_COLUMN]))
        return encode_features(frame, self.feature_names, self.categories)[known]

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
    categorical = [i for i, name in enumerate(data.feature_names) if name in data.categories]
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
            feature_name=_model_names(data.feature_names),
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
