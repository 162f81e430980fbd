"""Features that have one value in all training rows: no tree can split on them."""

from __future__ import annotations

from collections.abc import Sequence

from rayforest.features.profile import ColumnProfile, Profile

_SHOWN = 8


def is_constant(column: ColumnProfile) -> bool:
    """Whether a column has one value in all rows; missing is a value, too."""
    if column.categories:
        return len(column.categories) + (column.nulls > 0) < 2
    given = column.rows - column.nulls
    if not given or column.nulls:
        return not given
    all_finite = sum(column.histogram.values()) == given
    return all_finite and column.minimum == column.maximum


def constant_notes(profile: Profile, features: Sequence[str]) -> list[str]:
    """The notes on them, for the user."""
    constant = [name for name in features if is_constant(profile.columns[name])]
    if not constant:
        return []
    if len(constant) == len(features):
        return ["no feature varies in the training rows, so the model can only predict the same for every row"]
    shown = ", ".join(constant[:_SHOWN]) + (f" and {len(constant) - _SHOWN:,} more" if len(constant) > _SHOWN else "")
    return [f"ignored, because they have one value in all training rows: {shown}"]
