"""One type for the values of several: it is the same in any order, and it takes them."""

from __future__ import annotations

import itertools
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from rayforest.features.contract import Verdicts
from rayforest.features.passed_on import passed_on
from rayforest.kinds import Kind
from rayforest.tables.common_type import TYPE_OF_KIND, common_type, type_of_text

NUMBERS = [
    pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
    pa.float16(), pa.float32(), pa.float64(), pa.decimal128(5, 2), pa.decimal128(38, 0), pa.decimal128(38, 38),
]  # fmt: skip
TIMES = [
    pa.date32(),
    *(pa.timestamp(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "UTC", "Asia/Tehran")),
]
TYPES = [pa.null(), *NUMBERS, pa.string(), pa.large_string(), *TIMES]


def test_the_common_type_does_not_depend_on_the_order_of_the_files() -> None:
    for types in itertools.combinations(TYPES, 3):
        assert len({common_type(order) for order in itertools.permutations(types)}) == 1


def test_the_common_type_of_a_common_type_is_that_of_all() -> None:
    for types in itertools.combinations([*NUMBERS, *TIMES], 2):
        joined = common_type(types)
        assert joined is None or common_type([joined, *types]) == joined


@pytest.mark.parametrize("declared", [None, Kind.STRING])
def test_a_value_of_every_type_is_the_same_in_the_common_type(declared: Kind | None) -> None:
    for types in itertools.combinations(TYPES, 2):
        target = common_type(types) or (TYPE_OF_KIND[declared] if declared is not None else None)
        for stored in types if target is not None else ():
            verdicts = Verdicts(2)
            out = passed_on(pa.table({"x": zero(stored)}), pa.field("x", target), None, verdicts)
            assert out.type == target
            assert out[1].as_py() is None
            assert not verdicts.failed.any()


def zero(stored: pa.DataType) -> pa.Array:
    """Zero of any type, and null."""
    if pa.types.is_null(stored):
        return pa.nulls(2)
    if pa.types.is_decimal(stored):
        return pa.array([Decimal(0), None], stored)
    if stored == pa.float16():
        return pa.array([np.float16(0), None], stored)
    return pa.array([0, None], pa.int32() if pa.types.is_date(stored) else pa.int64()).cast(stored)


def test_the_name_of_a_type_gives_it_back() -> None:
    for stored in TYPES:
        assert type_of_text(str(stored)) == stored
