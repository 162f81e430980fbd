"""A bounded look at a table: what its columns seem to hold, from rows of several places and files.

What is found here becomes comments and suggestions of a starter file; nothing else relies on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from rayforest.kinds import Kind
from rayforest.starter.look.column import ColumnLook, TableLook
from rayforest.starter.look.kinds import columns_of
from rayforest.starter.look.row_numbers import counts_rows
from rayforest.starter.look.runs import Run, sample, spread
from rayforest.starter.look.stored import look_at_stored
from rayforest.starter.look.texts import look_at_texts
from rayforest.tables.batch import Source, SourceFile

__all__ = ["ColumnLook", "TableLook", "look_at"]


def look_at(files: list[SourceFile], source: Source) -> TableLook:
    """Look at rows of the first file, and at some of other files.

    Raises:
        InputError: a file is damaged or empty, or the files have hardly a column in common.
    """
    looked = spread(files)
    common = columns_of(looked, source)
    names = list(common.kinds)
    runs = [
        run
        for file in looked
        if file.path not in common.unlike
        for run in sample(file, source, names, much=file is looked[0])
    ]
    rows = sum(run.frame.height for run in runs)
    frame = pl.concat([run.frame for run in runs], how="vertical_relaxed") if rows else pl.DataFrame()
    looks = _looks(frame, common.kinds) if rows else {}
    looks = {name: replace(look, counts_rows=counts_rows(look, runs)) for name, look in looks.items()}
    return TableLook(
        tuple(looks[name] for name in names if name in looks),
        rows,
        (*common.notes, *_broken(runs)),
        _empty_rows(frame) if rows and common.is_text else 0,
    )


def _looks(frame: pl.DataFrame, kinds: dict[str, Kind]) -> dict[str, ColumnLook]:
    columns = frame.get_columns()
    texts = pl.DataFrame([series for series in columns if series.dtype == pl.String])
    others = pl.DataFrame([series for series in columns if series.dtype != pl.String])
    looks = [*look_at_texts(texts), *look_at_stored(others, kinds)]
    return {look.name: look for look in looks}


def _empty_rows(frame: pl.DataFrame) -> int:
    return int(frame.select(pl.all_horizontal(pl.all().is_null()).sum()).item())


def _broken(runs: Sequence[Run]) -> tuple[str, ...]:
    """A note on rows of text tables that do not become values."""
    reasons = Counter(reason for run in runs if run.first for reason in run.broken)
    if not reasons:
        return ()
    rows = sum(run.frame.height + len(run.broken) for run in runs if run.first)
    shown = ", ".join(
        f"{reason} ({count:,})" for reason, count in sorted(reasons.items(), key=lambda r: (-r[1], r[0]))[:3]
    )
    return (f"{reasons.total():,} of {rows:,} rows do not read and would be quarantined: {shown}",)
