"""Rows as text for a person who looks into the quarantine: shortened, readable whatever the bytes."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa

RAW_CHARACTERS = 65_536
"""Characters of a rejected row's text that are kept: a quote that is never closed must not fill the quarantine."""


def readable(data: bytes, start: int, stop: int) -> str:
    r"""UTF-8 bytes as text: undecodable ones as \xNN, cut after RAW_CHARACTERS."""
    kept = data[start : min(stop, start + 4 * RAW_CHARACTERS)]
    return _shortened(kept.decode("utf-8", "backslashreplace"), complete=start + len(kept) == stop)


def json_rows(table: pa.Table) -> list[str]:
    """Each row as a JSON object; times as ISO text, decimals, NaN and infinities as text."""
    names = table.column_names
    columns = [_python_values(column) for column in table.columns]
    return [
        _shortened(json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False, default=str))
        for values in zip(*columns, strict=True)
    ]


def _python_values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_date64(column.type):  # a time within the day is to be seen
        column = column.cast(pa.int64()).cast(pa.timestamp("ms"))
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp(column.type.unit))  # the same instants in UTC
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return list(column.cast(pa.string()).to_pylist())  # Python's own types end with the year 9999
    return [_json_value(value) for value in column.to_pylist()]


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _shortened(text: str, *, complete: bool = True) -> str:
    return text if complete and len(text) <= RAW_CHARACTERS else text[:RAW_CHARACTERS] + "..."
