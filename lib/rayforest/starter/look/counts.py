"""Counts over the values of many columns at once: a wide table costs what its bytes cost, not its columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from rayforest.kinds import Kind
from rayforest.starter.look.column import MAX_LABELS, MAX_LISTED, SHOWN, Values

_CELLS = 4_000_000
"""Cells that are counted at a time."""
_SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, -99999.0, 999.0, 9999.0, 99999.0, 999999.0, 9999999.0)
_NONE = Values(0, 0, 0)


def column_batches(frame: pl.DataFrame) -> Iterator[list[int]]:
    """Positions of columns, as many at a time as their cells allow."""
    step = max(1, _CELLS // max(1, frame.height))
    for begin in range(0, frame.width, step):
        yield list(range(begin, min(begin + step, frame.width)))


def count_values(frame: pl.DataFrame, places: Sequence[int]) -> pl.DataFrame:
    """(column, value, rows) of some columns of one type; nulls and empty text left out. `column` is the place."""
    series = frame.get_columns()
    values = pl.concat([series[place].alias("value") for place in places], rechunk=True)
    columns = pl.Series("column", np.repeat(np.array(places, dtype=np.uint32), frame.height))
    cells = pl.DataFrame([columns, values]).lazy().filter(pl.col("value").is_not_null())
    if values.dtype == pl.String:
        cells = cells.filter(pl.col("value") != "")
    return cells.group_by("column", "value").agg(pl.len().alias("rows")).collect()


def summarise(counts: pl.DataFrame, kind: Kind) -> dict[int, Values]:
    """`Values` of each column in (column, value, rows), whose values are of one kind and come once a column."""
    if not counts.height:
        return {}
    value, rows = pl.col("value"), pl.col("rows")
    wanted = [rows.sum().alias("present"), pl.len().alias("distinct"), rows.top_k(10).sum().alias("common")]
    if kind is Kind.NUMBER:
        wanted += [value.min().alias("low"), value.max().alias("high"), (value == value.round()).all().alias("whole")]
        wanted += [value.is_in(_SENTINELS).any().alias("sentinel")]
    facts = counts.group_by("column").agg(wanted)
    few = facts.filter(pl.col("distinct") <= (MAX_LISTED if kind is Kind.STRING else MAX_LABELS)).select("column")
    listed = _listed(counts.join(few, on="column"))
    doubted: Iterable[int] = facts.filter(pl.col("sentinel")).get_column("column") if kind is Kind.NUMBER else []
    sentinels = {column: _sentinels(own) for column, own in by_column(counts, doubted).items()}
    found: dict[int, Values] = {}
    for fact in facts.iter_rows(named=True):
        column = fact.pop("column")
        fact.pop("sentinel", None)
        found[column] = Values(**fact, listed=listed.get(column, ()), sentinels=sentinels.get(column, ()))
    return found


def by_column(counts: pl.DataFrame, columns: Iterable[int]) -> dict[int, pl.DataFrame]:
    """The counts of each of some columns."""
    own = counts.filter(pl.col("column").is_in(pl.Series(list(columns), dtype=pl.UInt32).implode()))
    return {int(frame.item(0, "column")): frame for frame in own.partition_by("column")} if own.height else {}


def no_values() -> Values:
    """The counts of a column without any value."""
    return _NONE


def _listed(counts: pl.DataFrame) -> dict[int, tuple[tuple[object, int], ...]]:
    ordered = counts.sort(["column", "rows", "value"], descending=[False, True, False])
    ordered = ordered.group_by("column", maintain_order=True).head(SHOWN)
    found: dict[int, list[tuple[object, int]]] = {}
    for column, value, rows in ordered.select("column", "value", "rows").iter_rows():
        found.setdefault(column, []).append((value, rows))
    return {column: tuple(pairs) for column, pairs in found.items()}


def _sentinels(counts: pl.DataFrame) -> tuple[float, ...]:
    """Of one column."""
    values, rows = counts.get_column("value"), counts.get_column("rows")
    total = int(rows.sum())
    found: list[float] = []
    if counts.height < 3:
        return ()
    for sentinel in _SENTINELS:
        rest = values.filter(~values.is_in([sentinel, *found]))
        if rows.filter(values == sentinel).sum() < max(2, total // 10_000) or rest.len() < 2:
            continue
        low, high = float(rest.min()), float(rest.max())  # type: ignore[arg-type]
        if (sentinel < 0 <= low) or sentinel > high + (high - low):
            found.append(sentinel)
    return tuple(found)
