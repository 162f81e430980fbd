"""Which of the rows to score the model was trained on: what a bundle says of its training tables.

A row of a file that prepare read has the part that the split gave it. A row of any other file is new. Files are
recognised by their identity and their name, Parquet files by their contents alone; so a file that was changed counts as
new. A text table that may be a copy, with another time of change only, is neither. A file of a Delta or Iceberg table
is known by its contents, too, whatever a later snapshot says of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from rayforest.engine.plan import PlannedInput
from rayforest.features.recipe import PARTS, SPLIT_COLUMN, Recipe
from rayforest.formats import SPLIT, TRAINING, Document
from rayforest.preparing.split_rule import SplitRule
from rayforest.tables.batch import RawBatch
from rayforest.tables.snapshots.layout import footer_in

MAX_FILES = 100_000
"""Training files that a bundle names, in about 60 bytes each; with more of them, the parts of rows are not known."""

NEW, UNKNOWN = "new", "unknown"
KNOWN_PARTS = (*PARTS, NEW, UNKNOWN)
"""Train, valid and test rows of files that prepare read; rows of other files; rows of which it is not known."""
NOT_TRAINED_ON = ("test", NEW)
"""Whose metrics tell how good the model is: it was neither trained on them nor chosen by them."""

Known = Literal["read", "new", "unknown"]


@dataclass(frozen=True)
class TrainingTables:
    """The files that prepare read, and how it split their rows."""

    rule: SplitRule
    files: frozenset[str]
    """Hashes of path and identity."""
    looks: frozenset[str]
    """What they are known by under another path or time of change: hashes of identities that are made of contents; of
    others with the file's name, and of the path with the size."""

    def knows(self, path: str, identity: str) -> Known:
        """Whether prepare read this file, or one that it may be a copy of.

        Args:
            path: relative to its source.
            identity: as in a plan.
        """
        if _hash(path, identity) in self.files:
            return "read"
        if _hash(_name(path), identity) in self.looks or _hash("", footer_in(identity)) in self.looks:
            return "read" if self.rule.is_by_value else "unknown"
        return "unknown" if _hash(path, identity.partition("-")[0]) in self.looks else "new"

    def parts(self, recipe: Recipe, batches: Sequence[RawBatch], known: Mapping[str, Known]) -> pl.Series | str:
        """The part of each row of the batches, text [rows], null where it is not known; or the one that all have.

        Args:
            recipe: of the bundle.
            batches: raw rows; those of files that prepare read have the columns of `rule`.
            known: what `knows` says of each batch's file.
        """
        if all(known[batch.file] == "new" for batch in batches):
            return NEW
        return pl.concat([self._parts(recipe, batch, known[batch.file]) for batch in batches])

    def _parts(self, recipe: Recipe, batch: RawBatch, known: Known) -> pl.Series:
        if known == "read":
            return self.rule.parts(recipe, batch.table, batch.file, batch.rows)
        part = NEW if known == "new" else None
        return pl.repeat(part, batch.table.num_rows, dtype=pl.String, eager=True).alias(SPLIT_COLUMN)


def training_json(split: SplitRule, inputs: Iterable[PlannedInput]) -> bytes:
    """training.json of a bundle.

    Args:
        split: of the prepared version.
        inputs: of its plan.
    """
    files, looks, count = set[str](), set[str](), 0
    for count, file in enumerate(inputs, 1):
        if count <= MAX_FILES:
            files.add(_hash(file.path, file.identity))
            if file.identity == f"{file.size}-{file.stamp}":
                looks.update((_hash(_name(file.path), file.identity), _hash(file.path, str(file.size))))
            else:
                looks.add(_hash("", footer_in(file.identity)))
    table: dict[str, Any] = {"split": SPLIT.document(split.as_dict()), "files": count}
    if count <= MAX_FILES:
        table |= {"identities": sorted(files), "looks": sorted(looks)}
    return TRAINING.write(table)


def training_tables(table: Document, where: str) -> tuple[TrainingTables | None, str]:
    """What a bundle's training.json, which lies there, says; or nothing, and why not."""
    if "identities" not in table:
        return None, f"the model was trained on {table['files']:,} files, and a bundle names up to {MAX_FILES:,}"
    rule = SPLIT.take(table["split"], f"split of {where}", SplitRule.from_document)
    return TrainingTables(rule, frozenset(table["identities"]), frozenset(table["looks"])), ""


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _hash(path: str, identity: str) -> str:
    """64 bits, in hex: paths may tell what a user wants to keep to himself."""
    return hashlib.sha256(f"{path}\0{identity}".encode(errors="surrogateescape")).hexdigest()[:16]


def measured(parts: Collection[str]) -> list[str]:
    """Those among the parts that the model was not trained on, in order."""
    return [part for part in NOT_TRAINED_ON if part in parts]
