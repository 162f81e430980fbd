"""What a table's columns are probably for: the key, the target, the time. Guesses for a person to check."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rayforest.kinds import Kind
from rayforest.starter.look import ColumnLook, TableLook
from rayforest.starter.look.column import MAX_LABELS
from rayforest.starter.look.row_numbers import is_index_name

MANY_WORDS = 1000
"""A text column with more different values may be an id or free text."""

_FEW_REPEATS = 0.02
"""Share of rows whose key came before, in a table that was delivered with duplicates."""

_MOSTLY = 0.5
"""Share of rows without a value from which on a column is no likely target: such rows are quarantined."""

_ID_NAME = re.compile(r"(?i:(^|[_\s.-])(id|key|uuid|guid|nr|nbr|no|num|number|index|rownum)$)|[a-z](Id|ID|Key|Nr|No)$")
_TARGET_NAMES = ("target", "label", "y", "response", "outcome", "price", "saleprice", "medv", "quality")
_LABEL_NAMES = (
    *("class", "income", "churn", "churned", "default", "default payment", "default payment next month", "defaulted"),
    *("is_fraud", "fraud", "isfraud", "survived", "readmitted", "converted", "clicked", "diagnosis", "species"),
)
"""Names of a target where the column has few values."""

_POSITIVE_LABEL = re.compile(r"yes|y|true|t|1|positive|pos|fraud|bad|churn|churned|default|malignant", re.IGNORECASE)


@dataclass(frozen=True)
class TargetGuess:
    """The column to predict, and how its values look."""

    column: str
    reason: str


def likely_key(look: TableLook) -> str | None:
    """A column that is named like an id and whose value no two rows share."""
    return next((c.name for c in look.columns if is_id_name(c.name) and could_be_key(c)), None)


def nearly_key(look: TableLook) -> ColumnLook | None:
    """A first column that is named like an id and tells nearly all rows apart: a key with repeats, or another's id."""
    first = look.columns[0]
    repeats = first.values.present - first.distinct
    return first if is_id_name(first.name) and 0 < repeats <= first.rows * _FEW_REPEATS else None


def could_be_key(column: ColumnLook) -> bool:
    """Whether a column tells all rows apart that were looked at."""
    return column.unique and not column.undecided and (column.kind is Kind.STRING or column.whole)


def is_id_name(name: str) -> bool:
    """Whether the name says that the column identifies something."""
    return _ID_NAME.search(name) is not None


def likely_target(look: TableLook) -> TargetGuess | None:
    """A column with a target's name, or the last one if it has few values; none that is mostly missing."""
    last = look.columns[-1]
    for column in (last, *look.columns):
        name = column.name.lower().strip()
        quantity = name in _TARGET_NAMES and column.distinct > 1 and column.kind is Kind.NUMBER
        named = name in (*_TARGET_NAMES, *_LABEL_NAMES) and has_labels(column)
        if (quantity or named) and column.null_share <= _MOSTLY:
            return TargetGuess(column.name, "a guess from its name")
    if has_labels(last) and not could_be_key(last) and last.null_share <= _MOSTLY:
        return TargetGuess(last.name, f"a guess: the last column, with {last.distinct} values")
    return None


def reason_against_target(look: TableLook) -> str:
    """Why a column that is named or placed like a target is not proposed as one."""
    names = (*_TARGET_NAMES, *_LABEL_NAMES)
    named = [column for column in look.columns if column.name.lower().strip() in names]
    for column in (*named, look.columns[-1]):
        if column.distinct == 1 and (named or not column.null_share):
            return f"{column.name} has one value in all rows looked at: nothing to learn"
        if has_labels(column) and column.null_share > _MOSTLY:
            return f"{column.name} is missing in {column.null_share:.0%} of the rows, which would be quarantined"
    return ""


def has_labels(column: ColumnLook) -> bool:
    """Whether the values can be classes."""
    return (
        2 <= column.distinct <= MAX_LABELS
        and column.kind is not Kind.TIMESTAMP
        and not (column.kind is Kind.NUMBER and not column.whole)
    )


def positive_label(column: ColumnLook) -> str | int | None:
    """The label of two that counts as 1; None where that is clear, or there are not two."""
    if column.distinct != 2 or not has_labels(column) or column.kind is Kind.BOOLEAN:
        return None
    labels = [label for label, _ in column.values.listed]
    if column.kind is Kind.NUMBER:
        numbers = sorted(int(label) for label in labels if isinstance(label, float))
        return None if numbers == [0, 1] else numbers[-1]
    words = [str(label) for label in labels]
    return next((word for word in words if _POSITIVE_LABEL.fullmatch(word.strip())), words[-1])


def likely_time(look: TableLook) -> str | None:
    """The first timestamp that is hardly ever missing."""
    return next((c.name for c in look.columns if c.kind is Kind.TIMESTAMP and c.null_share < 0.01), None)


def reason_against_feature(column: ColumnLook) -> str:
    """Why a column should not be a feature as it is; empty if it may be one."""
    rare = not column.is_common and column.distinct > max(MANY_WORDS, column.values.present // 5)
    reasons = (
        (not column.values.present, "no value in the rows looked at"),
        (column.undecided, "not decided: see its type above"),
        (column.counts_rows, "counts the rows: it would tell the file's order"),
        (is_index_name(column.name), "an index that was saved along, by its name"),
        (column.distinct == 1 and not column.null_share, "always the same value in the rows looked at"),
        (rare and column.kind is Kind.STRING, f"{column.distinct:,} different texts: an id, or free text"),
        (rare and is_id_name(column.name), f"{column.distinct:,} different values: an id"),
        (column.exact and column.unique, "another value in every row: an id"),
        (could_be_key(column) and column.rows > MANY_WORDS, "another value in every row: an id or a row number"),
    )
    return next((reason for applies, reason in reasons if applies), "")


def group_column(look: TableLook, taken: set[str]) -> str | None:
    """An id that several rows share, such as a patient or a card."""
    for column in look.columns:
        several = MANY_WORDS < column.distinct < (1 - _FEW_REPEATS) * column.values.present
        if column.name not in taken and is_id_name(column.name) and several and not column.is_common:
            return column.name
    return None


def looks_like_code(column: ColumnLook) -> bool:
    """Whether a column of whole numbers has so few of them that they may be codes of categories."""
    return column.kind is Kind.NUMBER and 3 <= column.distinct <= 12 and column.whole and not column.values.sentinels
