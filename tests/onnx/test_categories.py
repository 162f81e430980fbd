"""Sets of categories as small classes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rayforest.onnx.categories import MAX_CLASSES, pack_sets

SETS = st.lists(st.sets(st.integers(0, 90), max_size=60), min_size=1, max_size=40)


@given(SETS)
def test_a_code_is_in_a_set_exactly_when_its_class_is_a_member(sets: list[set[int]]) -> None:
    table = pack_sets([np.array(sorted(s), dtype=np.int64) for s in sets])
    none = len(table.classes) - 1
    for codes, group, members in zip(sets, table.group, table.members, strict=True):
        for code in range(none):
            assert (table.classes[code, group] in members) == (code in codes)
        assert table.classes[none, group] not in members
    assert table.classes.min() >= 1
    assert table.classes.max() <= MAX_CLASSES


def test_few_categories_need_one_column_for_any_number_of_splits() -> None:
    rng = np.random.default_rng(0)
    sets = [np.sort(rng.choice(29, rng.integers(1, 29), replace=False)) for _ in range(1_000)]
    assert pack_sets(sets).classes.shape == (30, 1)


def test_four_sets_of_any_width_share_a_column() -> None:
    rng = np.random.default_rng(0)
    sets = [np.flatnonzero(rng.random(12_000) < 0.5) for _ in range(40)]
    assert pack_sets(sets).classes.shape[1] <= 10
