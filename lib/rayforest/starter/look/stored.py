"""Columns that a file stores with types: the same counts, from values that need no guess."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from rayforest.kinds import Kind
from rayforest.starter.look.column import ColumnLook
from rayforest.starter.look.counts import column_batches, count_values, no_values, summarise
from rayforest.tables.conversion import to_kind

_EXACT = 1 << 53
_INTEGERS = (pl.Int64, pl.UInt64, pl.Int128)


def look_at_stored(frame: pl.DataFrame, kinds: dict[str, Kind]) -> list[ColumnLook]:
    """A look at each column of a frame without text; `kinds` are the kinds that they are stored as."""
    beyond = frozenset(_beyond_doubles(frame))
    kinds = kinds | dict.fromkeys(beyond, Kind.STRING)
    rows = frame.height
    frame = pl.DataFrame([_as_kind(series, kinds[series.name]) for series in frame])
    found = []
    for kind in Kind:
        chosen = pl.DataFrame([series for series in frame if kinds[series.name] is kind])
        for places in column_batches(chosen):
            values = summarise(count_values(chosen, places), kind)
            for place in places:
                own = values.get(place, no_values())
                series = chosen.to_series(place)
                found.append(
                    ColumnLook(
                        name=series.name,
                        kind=kind,
                        rows=rows,
                        values=own,
                        missing=rows - own.present,
                        exact=kind is Kind.STRING,
                        remarks=("whole numbers beyond 2^53, which a number would round: text",)
                        if series.name in beyond
                        else (),
                        read_times=_times(series) if kind is Kind.TIMESTAMP else None,
                    )
                )
    return found


def _beyond_doubles(frame: pl.DataFrame) -> list[str]:
    """Columns of whole numbers of which a double does not hold every digit."""
    whole = [series for series in frame if series.dtype in _INTEGERS]
    if not whole or not frame.height:
        return []
    wide = pl.DataFrame(whole).cast(pl.Int128).select(((pl.all() > _EXACT) | (pl.all() < -_EXACT)).any())
    return [series.name for series, beyond in zip(whole, wide.row(0), strict=True) if beyond]


def _as_kind(stored: pl.Series, kind: Kind) -> pl.Series:
    value = stored.alias("value").to_frame()  # Polars takes some names, such as "*", for patterns
    return value.select(to_kind(pl.col("value"), stored.dtype, kind)).to_series().alias(stored.name)


def _times(series: pl.Series) -> Callable[[], pl.Series]:
    return lambda: series.unique(maintain_order=True).drop_nulls()
