"""Rows made to tell two engines apart: on a model's own thresholds, beside them, and at the edges of double.

Random rows hardly ever sit on a threshold, real ones often do (prices, ages, counts); stock converters are wrong
there and nowhere else. So each split gets rows that reach it, by the path from the root, with its feature exactly on
the threshold, on both neighbouring doubles, and missing; a categorical split gets codes inside, outside, fractional
and unknown.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rayforest.onnx.lightgbm_text import Floats, Ints, LightGBMModel, Tree
from rayforest.onnx.tree_input import ZERO

SPECIAL = (
    *(np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, -0.5, 0.5, 1e300, -1e300, 2.0**31, -(2.0**31), 2.0**63),
    *(ZERO, -ZERO, float(np.nextafter(ZERO, 1)), float(np.nextafter(-ZERO, -1)), 5e-324, -5e-324, 2.2e-308, -2.2e-308),
)
"""Missing, infinite, zero, rounded to zero, subnormal, too large for an integer."""

_MIXED_ROWS = 256
_MAX_SPLITS = 4_096
_MAX_VALUES = 20_000_000  # 160 MB


def threshold_rows(model: LightGBMModel, rows: Floats, *, max_splits: int = _MAX_SPLITS, seed: int = 0) -> Floats:
    """Make rows, double [made, n_features], from the model's splits on top of `rows`, double [rows, n_features].

    A model with more than `max_splits` splits, or very many features, gets a sample of its splits, spread over all
    trees. The same arguments give the same rows.
    """
    rng = np.random.default_rng(seed)
    base = rows if len(rows) else np.zeros((1, model.n_features))
    made = [np.repeat(np.array(SPECIAL)[:, None], model.n_features, axis=1), _mixed(base, rng)]
    addresses = [(tree, split) for tree in model.trees for split in range(len(tree.left))]
    tested = min(len(addresses), max_splits, _MAX_VALUES // (10 * model.n_features))  # a split makes up to 10 rows
    chosen = np.unique(np.linspace(0, len(addresses) - 1, tested).astype(int))
    for n, at in enumerate(chosen):
        tree, split = addresses[at]
        reaching, inside = _row_at_split(tree, split, base[rng.integers(len(base))])
        feature = tree.split_feature[split]
        for value in (*_around(tree, split, inside), SPECIAL[n % len(SPECIAL)]):
            row = reaching.copy()
            row[feature] = value
            made.append(row[None])
    return np.concatenate(made)


def _mixed(base: Floats, rng: np.random.Generator) -> Floats:
    """Given rows with every second value replaced by a special one."""
    rows = base[rng.integers(len(base), size=_MIXED_ROWS)]
    return np.where(rng.random(rows.shape) < 0.5, rng.choice(SPECIAL, rows.shape), rows)


def _around(tree: Tree, split: int, allowed: Ints | None) -> Iterator[float]:
    """Values that a right and a wrong test of this split tell apart."""
    if split not in tree.categories:
        threshold = float(tree.threshold[split])
        yield from (threshold, float(np.nextafter(threshold, np.inf)), float(np.nextafter(threshold, -np.inf)), np.nan)
        return
    codes = tree.categories[split]
    if len(codes):
        yield from (float(codes[0]), float(codes[-1]), codes[-1] + 0.5, codes[-1] + 1.0, codes[0] - 1.0)
    if allowed is not None and len(allowed):
        yield from (float(allowed[0]), float(allowed[-1]))
    yield from (np.nan, -1.0)


def _row_at_split(tree: Tree, split: int, row: Floats) -> tuple[Floats, Ints | None]:
    """A copy of the row that comes to the split, and the codes of its feature that may come there (None: any).

    Keeps the row's own value of a feature where the path allows it. Missing values and zeros that count as missing are
    not followed: such a row may leave the path, and then tests other splits.
    """
    low: dict[int, float] = {}
    high: dict[int, float] = {}
    allowed: dict[int, Ints] = {}
    barred: dict[int, Ints] = {}
    for above, goes_left in _path(tree, split):
        feature = int(tree.split_feature[above])
        if above in tree.categories:
            codes = tree.categories[above]
            if goes_left:
                allowed[feature] = np.intersect1d(allowed.get(feature, codes), codes)
            else:
                barred[feature] = np.union1d(barred.get(feature, codes), codes)
        elif goes_left:
            high[feature] = min(high.get(feature, np.inf), float(tree.threshold[above]))
        else:
            low[feature] = max(low.get(feature, -np.inf), float(tree.threshold[above]))
    row = row.copy()
    for feature in low.keys() | high.keys():
        least, most = low.get(feature, -np.inf), high.get(feature, np.inf)
        if not least < row[feature] <= most:
            row[feature] = most if most < np.inf else np.nextafter(least, np.inf)
    for feature, codes in allowed.items():
        allowed[feature] = np.setdiff1d(codes, barred.get(feature, []))
        if len(allowed[feature]) and row[feature] not in allowed[feature]:
            row[feature] = allowed[feature][0]
    for feature in barred.keys() - allowed.keys():
        if row[feature] in barred[feature]:
            row[feature] = barred[feature].max() + 1
    return row, allowed.get(int(tree.split_feature[split]))


def _path(tree: Tree, split: int) -> Iterator[tuple[int, bool]]:
    """The splits above, from the nearest to the root, each with whether its left side leads here."""
    while split:
        left = np.flatnonzero(tree.left == split)
        above = int(left[0]) if len(left) else int(np.flatnonzero(tree.right == split)[0])
        yield above, bool(len(left))
        split = above
