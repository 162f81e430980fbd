"""Column statistics that merge exactly: the profile of many shards is the profile of all their rows.

Numbers are counted in buckets of relative width 2^(1/8) (about 9%), which needs no second pass, is the same in
whatever order shards are merged, and gives every quantile to within half a bucket. Source of the idea: DDSketch
(Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from rayforest.errors import ConfigError
from rayforest.formats import Document

BUCKETS_A_DOUBLING = 8
_SIGN_OFFSET = 100_000  # bucket keys of negative numbers lie below -_SIGN_OFFSET/2, so both signs share one mapping
_SIGN_BIT = 1 << 14  # before 11 bits of exponent and 3 of the fraction
_SMALLEST_NORMAL = 2.0**-1022
_SHIFT = 64

MAX_CATEGORIES = 200_000
"""A feature with more categories than this is an identifier, and no model should split on it."""


@dataclass
class ColumnProfile:
    """Statistics of one column."""

    rows: int = 0
    nulls: int = 0
    minimum: float | None = None
    """Of the finite numbers: JSON has no infinity."""
    maximum: float | None = None
    histogram: Counter[int] = field(default_factory=Counter)
    """Finite numbers by bucket."""
    categories: Counter[str] = field(default_factory=Counter)
    """Rows by category; empty for numbers."""

    @classmethod
    def of(cls, values: pl.Series) -> ColumnProfile:
        """Profile of a Float64 or String series."""
        profile = cls(rows=len(values), nulls=values.null_count())
        values = values.drop_nulls()
        if values.dtype == pl.String:
            counted = values.value_counts()
            profile.categories = Counter(dict(counted.iter_rows()))
            return profile
        numbers = values.to_numpy()
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers):
            profile.minimum, profile.maximum = float(numbers.min()), float(numbers.max())
            profile.histogram = _histogram(numbers)
        return profile

    def merge(self, other: ColumnProfile) -> None:
        """Merge another profile of the same column into this one."""
        self.rows += other.rows
        self.nulls += other.nulls
        for pick, name in ((min, "minimum"), (max, "maximum")):
            bounds = [b for b in (getattr(self, name), getattr(other, name)) if b is not None]
            setattr(self, name, pick(bounds) if bounds else None)
        self.histogram.update(other.histogram)
        self.categories.update(other.categories)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in a stable order."""
        return {
            "rows": self.rows,
            "nulls": self.nulls,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "histogram": sorted(self.histogram.items()),
            "categories": dict(sorted(self.categories.items(), key=lambda item: item[0].encode())),
        }

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> ColumnProfile:
        """Read what `as_dict` wrote."""
        return cls(
            rows=table["rows"],
            nulls=table["nulls"],
            minimum=table["minimum"],
            maximum=table["maximum"],
            histogram=Counter({int(k): v for k, v in table["histogram"]}),
            categories=Counter(table["categories"]),
        )


@dataclass
class Profile:
    """Profiles of the features over training rows, and rows and labels by part."""

    columns: dict[str, ColumnProfile] = field(default_factory=dict)
    parts: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    """Rows by label, for each part; numbers as their shortest text, and only as long as they are few."""
    many_labels: bool = False
    """Whether the target has more than MAX_LABELS values, so that `labels` is empty."""
    target_sums: dict[str, float] = field(default_factory=dict)
    """Sum of a numeric target, for each part: in the order of the shards, which is the same in every run."""
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    """First and last finite time, for each part, as `time_numbers` gives them."""
    timestamps: bool = False
    """Whether times are microseconds since 1970, and not numbers of the user's own."""
    split_keys: set[int] | None = field(default_factory=set)
    """Hashes of the keys that the split keeps together, until there are more than MAX_SPLIT_KEYS. Not published."""

    def merge(self, other: Profile) -> None:
        """Merge another profile into this one."""
        for name, column in other.columns.items():
            mine = self.columns.setdefault(name, ColumnProfile())
            mine.merge(column)
            if len(mine.categories) > MAX_CATEGORIES:
                raise ConfigError(
                    f"feature {name} has over {MAX_CATEGORIES:,} categories in the training rows",
                    expected="a category that repeats",
                    next_step="leave it out, or group its values in [features]",
                )
        self.parts.update(other.parts)
        self.many_labels |= other.many_labels
        for part, labels in other.labels.items():
            self.labels.setdefault(part, Counter()).update(labels)
        for part, total in other.target_sums.items():
            self.target_sums[part] = self.target_sums.get(part, 0.0) + total
        for part, span in other.spans.items():
            self._widen(part, *span)
        self.timestamps |= other.timestamps
        if self.split_keys is not None:
            self.split_keys = None if other.split_keys is None else self.split_keys | other.split_keys
            self._forget_many_split_keys()
        self._forget_many_labels()

    def count_labels(self, part: str, labels: pl.Series) -> None:
        """Count a Float64 or String series of labels."""
        counts = labels.drop_nulls().cast(pl.String).value_counts()
        self.labels.setdefault(part, Counter()).update(dict(counts.iter_rows()))
        if labels.dtype == pl.Float64 and len(labels):
            self.target_sums[part] = self.target_sums.get(part, 0.0) + math.fsum(labels.drop_nulls().to_list())
        self._forget_many_labels()

    def count_times(self, part: str, times: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
        """Widen the span of a part by these times."""
        finite = times[np.isfinite(times)]
        if len(finite):
            self._widen(part, float(finite.min()), float(finite.max()))

    def count_split_keys(self, hashes: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> None:
        """Add the hashes of the keys that the split keeps together."""
        if self.split_keys is not None:
            self.split_keys = self.split_keys.union(np.unique(hashes)[: MAX_SPLIT_KEYS + 1].tolist())
            self._forget_many_split_keys()

    def _forget_many_split_keys(self) -> None:
        if self.split_keys is not None and len(self.split_keys) > MAX_SPLIT_KEYS:
            self.split_keys = None

    def _widen(self, part: str, first: float, last: float) -> None:
        before = self.spans.get(part, (first, last))
        self.spans[part] = (min(before[0], first), max(before[1], last))

    def _forget_many_labels(self) -> None:
        if self.many_labels or any(len(counts) > MAX_LABELS for counts in self.labels.values()):
            self.many_labels = True
            self.labels = {}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for profile.json, in the same order for the same profile."""
        return {
            "parts": dict(sorted(self.parts.items())),
            "target_sums": dict(sorted(self.target_sums.items())),
            "spans": dict(sorted(self.spans.items())),
            "timestamps": self.timestamps,
            "split_keys": None if self.split_keys is None else sorted(self.split_keys),
            "many_labels": self.many_labels,
            "labels": {part: dict(sorted(counts.items())) for part, counts in sorted(self.labels.items())},
            "columns": {name: column.as_dict() for name, column in self.columns.items()},
        }

    @classmethod
    def from_document(cls, document: Document) -> Profile:
        """Read profile.json."""
        split_keys = document.get("split_keys")
        return cls(
            columns={name: ColumnProfile.from_dict(column) for name, column in document["columns"].items()},
            parts=Counter(document["parts"]),
            labels={part: Counter(counts) for part, counts in document["labels"].items()},
            many_labels=document["many_labels"],
            target_sums=document.get("target_sums", {}),
            spans={part: (first, last) for part, (first, last) in document.get("spans", {}).items()},
            timestamps=document.get("timestamps", False),
            split_keys=None if split_keys is None else set(split_keys),
        )


MAX_LABELS = 1_000

MAX_SPLIT_KEYS = 32
"""With more keys than these an empty part is no accident."""


def _histogram(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Counter[int]:
    """Count finite numbers by bucket: 0 for 0, positive keys for positive numbers, mirrored for negative ones.

    A bucket's key stands in a number's first bits: the exponent, and three bits of the fraction cut its doubling in
    eight equal parts. Numbers below 2^-1022, of which this does not hold, are made larger and counted by themselves.
    """
    tiny = np.abs(values) < _SMALLEST_NORMAL
    rest, few = values, values[:0]
    if tiny.any():
        rest, few = values[~tiny], values[tiny]
    found: Counter[int] = Counter()
    for numbers, shift in ((rest, 0), (few[few != 0] * 2.0**_SHIFT, _SHIFT)):
        first_bits = np.bincount((numbers.view(np.uint64) >> np.uint64(49)).astype(np.int64))
        for bits in np.flatnonzero(first_bits).tolist():
            sign, key = divmod(bits, _SIGN_BIT)
            key += _SIGN_OFFSET - BUCKETS_A_DOUBLING * (1022 + shift)
            found[-key if sign else key] = int(first_bits[bits])
    if zeros := int(np.count_nonzero(few == 0)):
        found[0] = zeros
    return found


def bucket_bounds(bucket: int) -> tuple[float, float]:
    """Smallest number of a bucket, and the smallest of the next one."""
    if bucket == 0:
        return 0.0, 0.0
    exponent, step = divmod(abs(bucket) - _SIGN_OFFSET, BUCKETS_A_DOUBLING)
    low, high = ((1 + s / BUCKETS_A_DOUBLING) * 2.0 ** (exponent - 1) for s in (step, step + 1))
    return (low, high) if bucket > 0 else (-high, -low)
