"""A shard of raw rows to scored rows: read, check, compute, write, and count what there is to say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from rayforest.bundle.known_parts import UNKNOWN, Known, TrainingTables
from rayforest.bundle.outputs import Outputs
from rayforest.bundle.scorer import Array, Scorer, scorer_of
from rayforest.bundle.scoring_engines import PROOF_ROWS, Choice, ProvenKernel
from rayforest.engine.attempt import Attempt
from rayforest.engine.shards import Shard
from rayforest.errors import InputError
from rayforest.features.contract import ColumnContract, Contract, RowChecks
from rayforest.features.fitted import FittedFeatures
from rayforest.features.model_inputs import ModelInputs
from rayforest.features.passed_on import passed_on
from rayforest.features.recipe import Recipe
from rayforest.formats import TOTALS
from rayforest.metrics.problem import UNSEEN
from rayforest.scoring.totals import Totals
from rayforest.tables.batch import Source
from rayforest.tables.joined import read_joined
from rayforest.tables.reading import read


@dataclass(frozen=True)
class ScoreTask:
    """A shard of raw rows to scored rows, quarantined rows and what is learned of them (see `Totals`)."""

    bundle: str
    digest: str
    engine: Choice
    source: Source
    contract: Contract
    passed_on: tuple[str, ...]
    """Key and carried columns."""
    outputs: Outputs
    schema: pa.Schema
    with_split: bool
    """Whether the part of each row is a column, the last one."""

    @cached_property
    def _scorer(self) -> Scorer:
        return scorer_of(self.bundle, self.digest, self.engine)

    @cached_property
    def _features(self) -> FittedFeatures:
        return self._scorer.bundle.features.written_as(self.source.csv)

    @cached_property
    def model_inputs(self) -> ModelInputs:
        """What makes model inputs of raw rows."""
        return ModelInputs(self._features, self.contract)

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        """Score one shard."""
        totals, bundle = Totals(self.outputs.threshold), self._scorer.bundle
        known = self._known_files(shard)
        for batch in read_joined(shard.ranges, self.source, self.columns, optional=self._optional(known)):
            attempt.count_in(batch.rows_in)
            table = batch.table
            inputs, verdicts = self.model_inputs(table)
            handed_on = [passed_on(table, self.schema.field(n), self._columns.get(n), verdicts) for n in self.passed_on]
            parts = (
                self._training.parts(self._features.recipe, batch.parts, known)
                if self._training is not None
                else UNKNOWN
            )
            if verdicts.failed.any() or batch.has_broken:
                attempt.quarantine(verdicts.quarantine(*batch.parts))
            if verdicts.failed.any():
                keep = pa.array(~verdicts.failed)
                inputs, table = inputs.filter(keep), table.filter(keep)
                handed_on = [column.filter(keep) for column in handed_on]
                parts = parts if isinstance(parts, str) else parts.filter(pl.Series(~verdicts.failed))
            if inputs.num_rows:
                raw_score, prediction = self._scorer.score(inputs)
                scored = [*handed_on, *self.outputs.columns(raw_score, prediction), *self._split_column(parts, inputs)]
                attempt.write(pa.Table.from_arrays(scored, schema=self.schema))
                totals.add(bundle.problem, parts, prediction, self._labels(table, totals))
                for name, unseen in verdicts.unseen.items():
                    totals.unseen_categories[name] += int((unseen & ~verdicts.failed).sum())
        attempt.sidecar(TOTALS.write(totals.as_dict()))

    def _labels(self, table: pa.Table, totals: Totals) -> Array | None:
        """Encoded labels of raw rows; None where their file has no target.

        A value that is not of the target's kind is a label that training never saw; where quantities are predicted, it
        is none, and counted, as one that is infinite.
        """
        if self._target is None or not self._target.is_in(table):
            return None
        problem = self._scorer.bundle.problem
        targets, unreadable = self._target.targets(table)
        labels = problem.encode(targets)
        if problem.kind == "regression":
            totals.unreadable_targets += int((unreadable | (np.isnan(labels) & targets.is_not_null().to_numpy())).sum())
        elif unreadable.any():
            labels = np.where(unreadable, UNSEEN, labels)
        return labels

    @property
    def _training(self) -> TrainingTables | None:
        return self._scorer.bundle.training[0]

    def _known_files(self, shard: Shard) -> dict[str, Known]:
        training = self._training
        return {} if training is None else {s.path: training.knows(s.path, s.identity) for s in shard.ranges}

    def _split_column(self, parts: pl.Series | str, inputs: pa.Table) -> list[pa.Array]:
        if not self.with_split:
            return []
        if isinstance(parts, str):
            return [pa.repeat(pa.scalar(parts, pa.string()), inputs.num_rows)]
        return [parts.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())]

    @cached_property
    def _columns(self) -> dict[str, ColumnContract]:
        return {column.name: column for column in self._features.recipe.contract.columns}

    @cached_property
    def columns(self) -> list[str]:
        """The raw columns to read, sorted."""
        return sorted({*self.contract.kinds, *self.passed_on})

    def _optional(self, known: Mapping[str, Known]) -> list[str]:
        """Columns that are read where they are there: the target's, and those that decide a row's part."""
        names = [*self._target.columns] if self._target is not None else []
        if self._training is not None and "read" in known.values():
            names += self._training.rule.columns(self._features.recipe)
        return [name for name in dict.fromkeys(names) if name not in self.columns]

    def prove(self, first: Shard | None) -> tuple[str, str]:
        """The name of the engine, and why it is taken. Workers elsewhere prove the kernel again, on their own CPUs."""
        engine = self._scorer.engine
        if not isinstance(engine, ProvenKernel):
            return engine.name, "score.engine asks for it"
        proof = engine.prove(self._sample(first))
        return proof.engine.name, proof.reason

    def _sample(self, first: Shard | None) -> pa.Table:
        """Model inputs of the first rows of the first shard that pass the contract, from one batch of it."""
        for row_range in first.ranges if first is not None else ():
            by_row = row_range.byte_stop == 0
            few = replace(row_range, rows=min(row_range.rows, 2 * PROOF_ROWS)) if by_row else row_range
            try:
                batch = next(read(few, self.source, self.columns), None)
            except InputError:
                break  # the shard will say so
            if batch is not None:
                inputs, verdicts = self.model_inputs(batch.table)
                if not verdicts.failed.all():
                    return inputs.take(np.flatnonzero(~verdicts.failed)[:PROOF_ROWS])
        return pa.table({})

    @cached_property
    def _target(self) -> TargetReader | None:
        return TargetReader.of(self._features.recipe)

    def __getstate__(self) -> dict[str, object]:
        """Without what a worker makes of it."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class TargetReader:
    """The target, for files that have it: yesterday's rows have a label, tonight's have none."""

    columns: tuple[str, ...]
    value: pl.Expr
    check_rows: RowChecks

    @classmethod
    def of(cls, recipe: Recipe) -> TargetReader | None:
        """None where the recipe has no target."""
        expression, value = recipe.target_expression, recipe.target_value()
        if expression is None or value is None:
            return None
        columns = [
            replace(column, required=False, minimum=None, maximum=None, values=None)  # score does not judge it
            for column in recipe.contract.only(expression.columns).columns
        ]
        return cls(tuple(expression.columns), value, RowChecks(Contract(tuple(columns))))

    def is_in(self, table: pa.Table) -> bool:
        """Whether these rows have the target's columns."""
        return set(table.column_names).issuperset(self.columns)

    def targets(self, table: pa.Table) -> tuple[pl.Series, npt.NDArray[np.bool_]]:
        """The target of each row, null where it cannot be computed; and where that is for a value of another kind."""
        typed, verdicts = self.check_rows(table)
        targets = typed.select(self.value.alias("target")).to_series()
        return targets, verdicts.failed & targets.is_null().to_numpy()
