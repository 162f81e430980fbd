"""A stage's metrics as lines for people: which rows they are of, what is not defined, and how the parts compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_NOT_METRICS = ("rows", "rows_with_unseen_label", "undefined")


def metric_lines(table: Mapping[str, Any]) -> Iterator[str]:
    """The lines, without indentation.

    Args:
        table: `StageResult.as_dict()`.
    """
    by_part: dict[str, dict[str, Any]] = table.get("metrics_by_part", {})
    metrics: dict[str, float] = table.get("metrics", {})
    if set(by_part) - {"new"} and metrics:
        rows = ", ".join(f"{by_part[part]['rows']:,} {part}" for part in table["metrics_of"])
        yield f"metrics of rows that the model was not trained on ({rows}):"
    for name, value in metrics.items():
        yield f"{name:<26}{value:.5f}"
    for name, why in table.get("undefined", {}).items():
        yield f"{name:<26}not defined: {why}"
    unseen, notes = table.get("rows_with_unseen_label"), table.get("notes", [])
    if unseen and not any("training never saw" in note for note in notes):
        yield f"{unseen:,} of {table['rows']:,} measured rows have a label that training never saw: they count as wrong"
    if set(by_part) - {"new"}:
        yield from _by_part(by_part)
    if categories := table.get("unseen_categories"):
        counts = ", ".join(f"{feature} in {rows:,} rows" for feature, rows in categories.items())
        yield f"categories that training never saw: {counts}"
    if table.get("rows") == 1:
        yield "note: these metrics are of one row"
    for note in notes:
        yield f"note: {note}"


def _by_part(by_part: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A small table, one line a part."""
    names = list(dict.fromkeys(name for found in by_part.values() for name in found if name not in _NOT_METRICS))
    cells = [[f"{found[name]:.5f}" if name in found else "-" for name in names] for found in by_part.values()]
    widths = [max(len(text) for text in column) + 2 for column in zip(names, *cells, strict=True)]
    yield "by part " + f"{'rows':>12}" + "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
    for (part, found), values in zip(by_part.items(), cells, strict=True):
        row = "".join(f"{value:>{width}}" for value, width in zip(values, widths, strict=True))
        yield f"{part:<8}{found['rows']:>12,}{row}"
