"""A shard of raw rows to feature rows: read, check, compute, split, describe, write."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from rayforest.engine.attempt import Attempt
from rayforest.engine.shards import Shard
from rayforest.features.contract import RowChecks, Verdicts
from rayforest.features.passed_on import passed_on
from rayforest.features.profile import ColumnProfile, Profile
from rayforest.features.recipe import PARTS, SPLIT_COLUMN, TARGET_COLUMN, Recipe
from rayforest.formats import PROFILE
from rayforest.preparing.repeated_keys import RepeatedKeys
from rayforest.preparing.split import TimeSplit, time_numbers
from rayforest.preparing.split_rule import SplitRule, part_names
from rayforest.tables.batch import Source
from rayforest.tables.conversion import frame_of
from rayforest.tables.joined import JoinedBatch, read_joined


@dataclass(frozen=True)
class PrepareTask:
    """A shard of raw rows to feature rows, quarantined rows and a profile."""

    recipe: Recipe
    source: Source
    split: SplitRule
    schema: pa.Schema
    repeated: RepeatedKeys | None
    """None where there is no key."""

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        """Prepare one shard."""
        profile = Profile()
        repeated = None if self.repeated is None else self.repeated.of(shard.index)
        names, check_rows = [c.name for c in self.recipe.contract.columns], RowChecks(self.recipe.contract)
        for batch in read_joined(shard.ranges, self.source, names):
            attempt.count_in(batch.rows_in)
            typed, verdicts = check_rows(batch.table)
            if repeated is not None:
                verdicts.fail(np.isin(batch.positions, repeated), "the key is repeated")
            times = self._times(typed)
            frame = self._features(batch, typed, times, verdicts, profile)
            if verdicts.failed.any() or batch.has_broken:
                attempt.quarantine(verdicts.quarantine(*batch.parts))
            keep = ~verdicts.failed
            good = frame.filter(pl.Series(keep))
            if good.height:
                self._describe(good, None if times is None else time_numbers(times)[keep], profile)
                attempt.write(good.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(self.schema))
        attempt.sidecar(PROFILE.write(profile.as_dict()))

    def _times(self, typed: pl.DataFrame) -> pl.Series | None:
        expression = self.recipe.time_expression
        return None if expression is None else typed.select(expression.to_polars()).to_series()

    def _features(
        self, batch: JoinedBatch, typed: pl.DataFrame, times: pl.Series | None, verdicts: Verdicts, profile: Profile
    ) -> pl.DataFrame:
        """All output columns for all rows of the batch; a missing target or time fails the row."""
        recipe, parts = self.recipe, list[pl.Series]()
        columns = {column.name: column for column in recipe.contract.columns}
        for name, stored in zip(recipe.key, recipe.key_names, strict=True):
            field = self.schema.field(stored).with_name(name)
            column = passed_on(batch.table, field, columns[name], verdicts)
            parts.append(frame_of(pa.table({stored: column}))[stored])
        target = recipe.target_value()
        if target is not None:
            labels = typed.select(target.alias(TARGET_COLUMN)).to_series()
            verdicts.fail(labels.is_null(), "the target is missing")
            if labels.dtype == pl.Float64:
                verdicts.fail(labels.is_infinite(), "the target is infinite")
            parts.append(labels)
        parts.append(self._split(batch, times, verdicts, profile))
        return pl.DataFrame([*parts, *typed.select(recipe.feature_values()).get_columns()])

    def _split(self, batch: JoinedBatch, times: pl.Series | None, verdicts: Verdicts, profile: Profile) -> pl.Series:
        split = self.split.split
        if isinstance(split, TimeSplit):
            assert times is not None  # noqa: S101  a split by time has a time
            verdicts.fail(times.is_null(), "the time is missing")
            return part_names(split.assign(times))
        keys = [self.split.keys(self.recipe, part.table, part.file, part.rows) for part in batch.parts]
        hashes = split.hashes(pl.concat(keys))
        profile.count_split_keys(hashes[~verdicts.failed])
        return part_names(split.assign(hashes))

    def _describe(self, good: pl.DataFrame, times: npt.NDArray[np.float64] | None, profile: Profile) -> None:
        training = good.filter(pl.col(SPLIT_COLUMN) == "train")
        profile.merge(
            Profile(
                columns={name: ColumnProfile.of(training[name]) for name, _ in self.recipe.features},
                parts=Counter(dict(good[SPLIT_COLUMN].value_counts().iter_rows())),
                timestamps=self.recipe.time_is_timestamp,
            )
        )
        for part in PARTS:
            rows = good[SPLIT_COLUMN] == part
            if self.recipe.target is not None:
                profile.count_labels(part, good[TARGET_COLUMN].filter(rows))
            if times is not None:
                profile.count_times(part, times[rows.to_numpy()])
