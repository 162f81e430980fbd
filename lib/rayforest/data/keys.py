"""Keys as canonical text: what the split and the check for duplicates hash.

The text depends on the value and the column's kind only. So a key means the same in CSV and in Parquet, in a file that
stores it as an integer and in one that stores it as a float or as text.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from rayforest.data.contract import ColumnContract, Contract, is_missing
from rayforest.data.kinds import Kind
from rayforest.data.sql import category_text
from rayforest.data.values import frame_of, to_kind


def canonical_keys(contract: Contract, table: pa.Table, names: Sequence[str]) -> pl.DataFrame:
    """Key columns of raw rows as text.

    Returns:
        String columns, shape [rows, names]; null where a value is missing by the contract. A value that is not of its
        column's kind stands as it is stored.
    """
    raw = frame_of(table.select(list(names)))
    columns = {column.name: column for column in contract.columns}
    return raw.select(_canonical(raw[name].dtype, columns[name]) for name in names)


def _canonical(stored: pl.DataType, column: ColumnContract) -> pl.Expr:
    value = pl.col(column.name)
    plain = column.plain(value, stored)
    text = category_text(column.kind, to_kind(plain, stored, column.kind, column.format))
    exact = _exact(plain, stored, column.kind)
    text = (
        pl.coalesce(text, value.cast(pl.String)) if exact is None else pl.coalesce(exact, text, value.cast(pl.String))
    )
    return pl.when(~is_missing(stored, column)).then(text).alias(column.name)


def _exact(value: pl.Expr, stored: pl.DataType, kind: Kind) -> pl.Expr | None:
    """Text of values that their kind would round: long integers, decimals, nanoseconds. Null for others."""
    if kind is Kind.NUMBER:
        if stored.is_integer():
            return value.cast(pl.String)
        if stored.is_decimal():
            return value.cast(pl.String).str.replace(r"(\.[0-9]*?)0+$", "$1").str.strip_suffix(".")
        if stored == pl.String:
            sign, digits = (value.str.extract(r"^[ \t]*\+?(-?)0*([1-9][0-9]{15,39})[ \t]*$", i) for i in (1, 2))
            return sign + digits
    if isinstance(stored, pl.Datetime) and stored.time_unit == "ns":
        return pl.when(value.dt.nanosecond() % 1000 != 0).then(value.cast(pl.String))
    return None
