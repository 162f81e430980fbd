"""Keys as canonical text: what the split and the check for duplicates hash.

The text depends on the value and the column's contract only. So a key means the same in CSV and in Parquet, in a file
that stores it as an integer and in one that stores it as a float or as text. What is text with leading zeros is a code,
as in 00049, and stays another key than the number 49, unless the project declares the column to be of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from rayforest.features.contract import ColumnContract, Contract, is_missing
from rayforest.kinds import Kind
from rayforest.sql import category_text
from rayforest.tables.conversion import frame_of, long_digits, to_kind


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
    typed = to_kind(plain, stored, column.kind, column.format)
    texts = [*_exact(plain, stored, column), category_text(column.kind, typed), value.cast(pl.String)]
    if column.kind is Kind.NUMBER:
        texts.insert(-2, long_digits(typed))
    return pl.when(~is_missing(stored, column)).then(pl.coalesce(texts)).alias(column.name)


_DIGITS = r"^[ \t]*\+?(-?)0*([1-9][0-9]{15,39})(?:\.0*)?[ \t]*$"
_CODE = r"^[ \t]*([+-]?0[0-9].*?)[ \t]*$"


def _exact(value: pl.Expr, stored: pl.DataType, column: ColumnContract) -> list[pl.Expr]:
    """Texts of values that their kind would round: codes, long integers, decimals, nanoseconds. Null for others."""
    if column.kind is Kind.NUMBER and stored == pl.String:
        sign, digits = (value.str.extract(_DIGITS, group) for group in (1, 2))
        return [sign + digits] if column.declared else [value.str.extract(_CODE), sign + digits]
    if column.kind is Kind.NUMBER and stored.is_integer():
        return [value.cast(pl.String)]
    if column.kind is Kind.NUMBER and stored.is_decimal():
        return [value.cast(pl.String).str.replace(r"(\.[0-9]*?)0+$", "$1").str.strip_suffix(".")]
    if isinstance(stored, pl.Datetime) and stored.time_unit == "ns":
        return [pl.when(value.dt.nanosecond() % 1000 != 0).then(value.cast(pl.String))]
    return []
