"""Categorical splits of any width as small numbers that onnxruntime tests fast.

A split asks whether a code lies in a set. onnxruntime answers BRANCH_MEMBER with one bit test while the members are
small, and by chains of comparisons beyond (four times LightGBM's time at 1,000 categories). So several sets of one
feature share a table: codes that no set of the group tells apart fall into one class, the row's code becomes its
class, and each split asks for a set of classes. A group takes sets until its codes fall into more than `MAX_CLASSES`
classes; four sets always fit. With few categories, one group holds every split of the feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayforest.onnx.lightgbm_text import Ints

MAX_CLASSES = 30
"""Members 1..30 of BRANCH_MEMBER are a bit mask in onnxruntime, in float and in double."""


@dataclass(frozen=True, eq=False)
class ClassTable:
    """The groups of one feature, a column each."""

    classes: NDArray[np.uint8]
    """[codes + 1, groups]: class 1..MAX_CLASSES of each code; the last row is for codes in no set, and for no code."""
    group: Ints
    """[sets] the column that tests this set."""
    members: tuple[Ints, ...]
    """One array a set: the classes inside it, ascending."""


def pack_sets(sets: Sequence[Ints]) -> ClassTable:
    """Pack sets of non-negative codes, first fit in their order.

    Time is linear in the sizes of the sets; memory is a byte for each code and group.
    """
    codes = max((int(s.max()) + 1 for s in sets if len(s)), default=0)
    groups = [_Partition(codes + 1)]
    group_of: dict[bytes, int] = {}  # equal sets share their test
    for inside in sets:
        key = inside.tobytes()
        if key not in group_of:
            if not groups[-1].refine(inside):
                groups.append(_Partition(codes + 1))
                groups[-1].refine(inside)
            group_of[key] = len(groups) - 1
    table = np.stack([g.class_of for g in groups], axis=1) + np.uint8(1)
    group = np.array([group_of[s.tobytes()] for s in sets], dtype=np.int64)
    members = tuple(np.unique(table[s, g]).astype(np.int64) for s, g in zip(sets, group, strict=True))
    return ClassTable(table, group, members)


class _Partition:
    """Codes in classes that the sets so far tell apart, counted from 0."""

    def __init__(self, codes: int) -> None:
        self.class_of = np.zeros(codes, dtype=np.uint8)
        self._sizes = [codes]

    def refine(self, inside: Ints) -> bool:
        """Split each class that lies partly inside the set; False, and nothing done, where that makes too many."""
        classes = self.class_of[inside]
        counts = np.bincount(classes, minlength=len(self._sizes))
        parts = [c for c, n in enumerate(counts) if 0 < n < self._sizes[c]]
        if len(self._sizes) + len(parts) > MAX_CLASSES:
            return False
        for c in parts:
            self.class_of[inside[classes == c]] = len(self._sizes)
            self._sizes[c] -= int(counts[c])
            self._sizes.append(int(counts[c]))
        return True
