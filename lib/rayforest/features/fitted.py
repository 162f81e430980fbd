"""Features with all that was learnt for them on the training rows: what tune, export, score and a service share.

In a prepared version they lie in recipe.json, contract.json and categories.json; in a bundle in features.json (recipe
and categories together) and contract.json.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from rayforest.features.contract import Contract
from rayforest.features.profile import Profile
from rayforest.features.recipe import Recipe
from rayforest.formats import CATEGORIES, CONTRACT, FEATURES, RECIPE, Document, Format
from rayforest.tables.batch import CsvFormat

Matrix = npt.NDArray[np.float64]

_T = TypeVar("_T")


class ReadFile(Protocol):
    """Reads a file of one of our formats, as `Manifest.read` does."""

    def __call__(self, name: str, form: Format, parse: Callable[[Document], _T], /) -> _T:
        """What the file stands for."""
        ...


@dataclass(frozen=True)
class FittedFeatures:
    """From raw rows to what a model sees."""

    recipe: Recipe
    """Of each feature, and of key, target and time."""
    categories: dict[str, list[str]]
    """Texts of the training rows by categorical feature; a text's place is its code."""

    @classmethod
    def fit(cls, recipe: Recipe, profile: Profile) -> FittedFeatures:
        """Learn what there is to learn from the profile of the training rows. Categories are ordered by their bytes."""
        return cls(
            recipe, {name: sorted(profile.columns[name].categories, key=str.encode) for name in recipe.categorical}
        )

    @classmethod
    def of_prepared(cls, read: ReadFile) -> FittedFeatures:
        """Those of a prepared version.

        Raises:
            FormatError: a file is damaged, of another kind, or newer than this rayforest.
        """
        contract = read("contract.json", CONTRACT, Contract.from_document)
        recipe = read("recipe.json", RECIPE, partial(Recipe.from_document, contract=contract))
        return cls(recipe, read("categories.json", CATEGORIES, categories_of))

    @classmethod
    def of_bundle(cls, read: ReadFile) -> FittedFeatures:
        """Those of a bundle. Errors: as `of_prepared`."""
        contract = read("contract.json", CONTRACT, Contract.from_document)
        recipe = read("features.json", FEATURES, partial(Recipe.from_document, contract=contract))
        return cls(recipe, read("features.json", FEATURES, lambda document: dict(document["categories"])))

    def prepared_files(self) -> dict[str, bytes]:
        """The files of a prepared version."""
        return {
            "recipe.json": RECIPE.write(self.recipe.as_dict(), version=self.recipe.version, indent=1),
            "contract.json": CONTRACT.write(self.recipe.contract.as_dict(), indent=1),
            "categories.json": CATEGORIES.write({"categories": self.categories}),
        }

    def bundle_files(self) -> dict[str, bytes]:
        """The files of a bundle."""
        features = self.recipe.as_dict() | {"categories": self.categories}
        return {
            "features.json": FEATURES.write(features, version=self.recipe.version, indent=1),
            "contract.json": CONTRACT.write(self.recipe.contract.as_dict(), indent=1),
        }

    @property
    def names(self) -> list[str]:
        """Features in the order of the model's inputs."""
        return [name for name, _ in self.recipe.features]

    @property
    def categories_in_order(self) -> dict[str, list[str]]:
        """The categories, features in the order of the model's inputs: as the graph is written."""
        return {name: self.categories[name] for name in self.names if name in self.categories}

    def written_as(self, csv: CsvFormat | None) -> FittedFeatures:
        """The same for files of this format; see `Contract.written_as`."""
        return replace(self, recipe=self.recipe.written_as(csv))

    def matrix(self, frame: pl.DataFrame) -> Matrix:
        """Features, as they are stored, as a model's inputs: categories as codes, missing and unseen as NaN.

        Returns:
            float64, shape [rows, features], in row order.
        """
        matrix = np.empty((frame.height, len(self.names)), np.float64)
        for column, name in enumerate(self.names):
            values = frame[name]
            if name in self.categories:
                values = category_codes(values, self.categories[name])
            matrix[:, column] = values.fill_null(np.nan).to_numpy()
        return matrix


def category_codes(values: pl.Series, categories: list[str]) -> pl.Series:
    """Codes of texts as Float64: the place in `categories`, null for missing and unseen ones."""
    levels = pl.DataFrame(
        {"level": pl.Series(categories, dtype=pl.String), "code": np.arange(len(categories), dtype=np.float64)}
    )
    joined = pl.DataFrame({"level": values}).join(levels, on="level", how="left", maintain_order="left")
    return joined["code"]


def categories_of(document: Document) -> dict[str, list[str]]:
    """Fitted categories by feature, in code order: what categories.json holds."""
    return dict(document if document.version == 1 else document["categories"])
