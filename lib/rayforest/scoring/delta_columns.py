"""Whether scored rows can be rows of a Delta table: its types, and what the table that is there asks of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rayforest.errors import InputError

if TYPE_CHECKING:
    from deltalake import DeltaTable, Schema

_WRITE_FEATURES = {
    *("appendOnly", "changeDataFeed", "checkConstraints", "deletionVectors", "generatedColumns", "invariants"),
    *("timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"),
}
"""Writer features under which adding files is all there is to adding rows, as long as no column makes use of them."""
_RULES = ("delta.invariants", "delta.generationExpression", "delta.identity.")


def delta_schema(schema: pa.Schema) -> Schema:
    """The schema in Delta's types, which hold every value that the files hold.

    Raises:
        InputError: Delta has no such type for a column.
    """
    from deltalake import Schema as DeltaSchema

    fields = []
    for field in schema:
        plain = field.with_type(_in_delta(field.type)).with_nullable(nullable=True)
        try:
            found = pa.schema(DeltaSchema.from_arrow(pa.schema([plain])).to_arrow()).field(0).type
        except Exception:  # deltalake raises no narrower one
            found = None
        in_ns = pa.types.is_timestamp(plain.type) and plain.type.unit == "ns"  # deltalake knows them, others do not
        if found != plain.type or in_ns or pa.types.is_null(found):
            raise InputError(
                f"column {field.name!r} cannot be published to a Delta table",
                expected="integers with a sign, floats, decimals, booleans, text, dates or timestamps of microseconds",
                found=str(field.type),
                next_step="leave it out of score.carry, or store it in the source as one of these",
            )
        fields.append(plain)
    return DeltaSchema.from_arrow(pa.schema(fields))


def _in_delta(kind: pa.DataType) -> pa.DataType:
    """Text of any width is text, and instants are UTC; milliseconds, which Parquet has, are read as microseconds."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_timestamp(kind) and kind.unit in ("ms", "us"):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    return kind


def refuse_unfit(name: str, opened: DeltaTable, columns: Schema) -> None:
    """Refuse a table in which scored files would not be what its other files are.

    Args:
        name: of the table, for errors.
        opened: the table.
        columns: of the scored files.

    Raises:
        InputError: says all that is in the way.
    """
    protocol, metadata = opened.protocol(), opened.metadata()
    features = {str(feature) for feature in protocol.writer_features or ()} - _WRITE_FEATURES
    fields = json.loads(opened.schema().to_json())["fields"]
    rules = [key for field in fields for key in field["metadata"] if key.startswith(_RULES)]
    rules += [key for key in metadata.configuration if key.startswith("delta.constraints.")]
    mapping = metadata.configuration.get("delta.columnMapping.mode", "none")
    wrong = (
        f"it is partitioned by {', '.join(metadata.partition_columns)}" if metadata.partition_columns else "",
        f"its columns are mapped by {mapping}" if mapping != "none" else "",
        f"it has {', '.join(sorted(set(rules)))}" if rules else "",
        f"it has the writer features {', '.join(sorted(features))}" if features else "",
        _difference({field["name"]: field for field in fields}, json.loads(columns.to_json())["fields"]),
    )
    if found := "; ".join(filter(None, wrong)):
        raise InputError(
            f"the Delta table {name} does not take scored rows",
            expected="a table without partitions, column mapping and rules of columns, and with the scored columns",
            found=found,
            next_step="name another table in score.publish, which is created where there is none",
        )


def _difference(there: dict[str, Any], scored: list[dict[str, Any]]) -> str:
    """What keeps scored columns from being columns of the table; others of the table are null in scored rows."""
    found = [f"it has no column {f['name']!r}" for f in scored if f["name"] not in there]
    found += [
        f"its column {f['name']!r} is {_shown(there[f['name']]['type'])}, not {_shown(f['type'])}"
        for f in scored
        if f["name"] in there and there[f["name"]]["type"] != f["type"]
    ]
    names = {f["name"] for f in scored}
    found += [f"its column {n!r} may not be null" for n, f in there.items() if n not in names and not f["nullable"]]
    return "; ".join(found)


def _shown(kind: object) -> str:
    return kind if isinstance(kind, str) else "nested"
