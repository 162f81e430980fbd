"""Leak-safe split: by hash of a key, or by time.

By hash, rows that share a key fall into the same part, on every machine and after every addition of rows. By time, the
earliest rows train and the latest test; the cuts come from a sketch of all times, gathered before any row is written.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from rayforest.features.hashing import hash_rows
from rayforest.formats import Document

PartCodes = npt.NDArray[np.int8]
"""0 train, 1 valid, 2 test; shape [rows]."""


@dataclass(frozen=True)
class HashSplit:
    """XXH64 of the key's canonical text, seeded, cut at the cumulative shares of 2^64."""

    shares: tuple[float, float, float]
    seed: int

    def hashes(self, keys: pl.DataFrame) -> npt.NDArray[np.uint64]:
        """Hash of each row of `keys`, which are `canonical_keys`; shape [rows]."""
        return hash_rows(keys, self.seed)

    def assign(self, hashes: npt.NDArray[np.uint64]) -> PartCodes:
        """Part of each row."""
        bounds = np.array([min(int(c * 2.0**64), 2**64 - 1) for c in np.cumsum(self.shares)[:2]], np.uint64)
        return np.searchsorted(bounds, hashes, side="right").astype(np.int8)


@dataclass(frozen=True)
class TimeSplit:
    """Rows before `cuts[0]` train, before `cuts[1]` are valid, the rest test."""

    cuts: tuple[float, float]
    """In the unit of `time_numbers`."""

    def assign(self, times: pl.Series) -> PartCodes:
        """Part of each row."""
        return np.searchsorted(np.array(self.cuts), time_numbers(times), side="right").astype(np.int8)


def time_numbers(times: pl.Series) -> npt.NDArray[np.float64]:
    """Times as float64: microseconds since 1970 for timestamps, numbers as they are; null is NaN."""
    if times.dtype == pl.Datetime:
        times = times.dt.epoch("us")
    return times.cast(pl.Float64).to_numpy()


class TimeSketch:
    """Counts of times in buckets of one width, a power of two, that merge exactly.

    The width doubles until at most `limit` buckets are left, so the sketch is exact up to its own resolution, whatever
    the order in which shards are merged.
    """

    limit = 8192

    def __init__(self, exponent: int = -1074, counts: Mapping[int, int] | None = None) -> None:
        self.exponent = exponent
        self.counts: dict[int, int] = dict(counts or {})

    @classmethod
    def of(cls, times: npt.NDArray[np.float64]) -> TimeSketch:
        """Sketch of the finite times."""
        values, counts = np.unique(times[np.isfinite(times)], return_counts=True)
        if not len(values):
            return cls()
        exponent = _finest_exponent(values)
        buckets = np.floor(np.ldexp(values, -exponent)).astype(np.int64)
        while True:
            begins = np.flatnonzero(np.diff(buckets, prepend=buckets[0] - 1))
            buckets, counts = buckets[begins], np.add.reduceat(counts, begins)
            if len(buckets) <= cls.limit:
                return cls(exponent, dict(zip(buckets.tolist(), counts.tolist(), strict=True)))
            buckets, exponent = buckets >> 1, exponent + 1

    def merge(self, other: TimeSketch) -> None:
        """Add another sketch's counts."""
        exponent = max(self.exponent, other.exponent)
        counts: dict[int, int] = {}
        for sketch in (self, other):
            for bucket, count in sketch.counts.items():
                place = bucket >> (exponent - sketch.exponent)
                counts[place] = counts.get(place, 0) + count
        while len(counts) > self.limit:
            counts, finer, exponent = {}, counts, exponent + 1
            for bucket, count in finer.items():
                counts[bucket >> 1] = counts.get(bucket >> 1, 0) + count
        self.exponent, self.counts = exponent, counts

    def cuts(self, shares: Sequence[float]) -> tuple[float, ...]:
        """Times at which the cumulative shares are first reached; a bucket is never divided."""
        total = sum(self.counts.values())
        cuts: list[float] = []
        seen = 0
        wanted = [c * total for c in np.cumsum(shares)[:-1]]
        for bucket in sorted(self.counts):
            while len(cuts) < len(wanted) and seen >= wanted[len(cuts)] - 0.5:
                cuts.append(math.ldexp(bucket, self.exponent))
            seen += self.counts[bucket]
        return tuple(cuts + [math.inf] * (len(wanted) - len(cuts)))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a sidecar."""
        return {"exponent": self.exponent, "counts": list(self.counts.items())}

    @classmethod
    def from_document(cls, document: Document) -> TimeSketch:
        """Read a sidecar."""
        return cls(document["exponent"], dict(document["counts"]))

    def times(self) -> dict[float, int]:
        """Rows by time, in order of time; times of one bucket are the earliest that it can hold."""
        return {math.ldexp(bucket, self.exponent): self.counts[bucket] for bucket in sorted(self.counts)}

    def sizes(self, cuts: Sequence[float]) -> tuple[int, ...]:
        """Rows of each part between these cuts."""
        sizes = [0] * (len(cuts) + 1)
        for time, rows in self.times().items():
            sizes[bisect.bisect_right(cuts, time)] += rows
        return tuple(sizes)


def _finest_exponent(values: npt.NDArray[np.float64]) -> int:
    """An exponent at which all values fit 62-bit buckets.

    Of shards the largest is the whole's, so that the cuts do not depend on how rows were divided into shards.
    """
    _, top = math.frexp(float(np.max(np.abs(values))))
    return max(top - 62, -20)
