"""Random typed SQL expressions, and rows to evaluate them on, from a seed."""

from __future__ import annotations

import random
import re
import struct

import polars as pl
from sql_meaning import EPOCH, MICRO, Scalar

from rayforest.kinds import Kind
from rayforest.sql.nodes import DATE_PARTS, EARLIEST_MICROS, LATEST_MICROS, UNITS

COLUMNS = {
    "a": Kind.NUMBER, "b": Kind.NUMBER, "emp.var.rate": Kind.NUMBER, "f": Kind.BOOLEAN, "g": Kind.BOOLEAN,
    "r": Kind.STRING, "s": Kind.STRING, "t": Kind.TIMESTAMP, "u": Kind.TIMESTAMP,
}  # fmt: skip

Stored = float | bool | str | int | None
"""A value as generated: timestamps are microseconds, because Polars panics when it prints far-off ones."""

_INF = float("inf")
_NUMBERS = [
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.49999999999999994, 3.0, 7.0, 12.0, 23.0, 29.0, 31.0, 2024.0,
    0.1, 2.675, 100.0, 1e-7, 2.0**52, 2.0**53, 1e16, -1e16, 1e300, -1e300, 1.7976931348623157e308, 5e-324,
    2.2250738585072014e-308, _INF, -_INF,
]  # fmt: skip
_TEXTS = [
    "a", "b", "ab", "abc", "A", "Ä", "ß", "é", "𝄞x", "a\nb", " a ", "%", "_", "a%b", "a.b", "(", "\\", "true", "F",
    " yes", "0", "1", "1.5", " 7 ", "-3e2", "1e249", "1e250", ".5", "5.", "+.e1", "nan", "inf", "0x10", "1_000", "3 4",
    "0.1e-249", "\ue000", "\U00010000",
    "\u3000", "\u00a0 ", "\u30001", "1\u00a0", "\u1680yes", "true\n", "\t7", "1\x0b",
]  # fmt: skip
_DAY = 86_400_000_000
_MICROS = [
    0, -1, 1, 999_999, -_DAY, _DAY - 1, EARLIEST_MICROS, LATEST_MICROS, EARLIEST_MICROS - 1, LATEST_MICROS + 1,
    2**63 - 1, -(2**63) + 1, EARLIEST_MICROS + 30 * _DAY, 951_782_400_000_000, 951_868_799_999_999,
    1_709_164_800_000_000, -2_203_891_200_000_000, -2_203_977_600_000_001, 1_230_768_000_000_000, 1_609_459_200_000_000,
]  # fmt: skip
"""Edges of days, of the calendar and of int64; February 29 of 2000 and 2024, March 1 of 1900, first days of years."""

_EQUALITIES = ("=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM")
_SIGNS = (*_EQUALITIES, "<", "<=", ">", ">=")
_LETTERS = {"n": Kind.NUMBER, "b": Kind.BOOLEAN, "s": Kind.STRING, "t": Kind.TIMESTAMP}
_LEAVES = {
    Kind.NUMBER: ["0", "1", "-1", "2.5", "0.1", "60", "1e300", "CAST(NULL AS number)"],
    Kind.BOOLEAN: ["TRUE", "FALSE", "CAST(NULL AS boolean)"],
    Kind.STRING: ["'a'", "'é'", "'it''s'", "CAST(NULL AS string)"],
    Kind.TIMESTAMP: ["DATE '2024-02-29'", "TIMESTAMP '1969-12-31 23:59:59.999999'", "CAST(NULL AS timestamp)"],
}
_FORMS: dict[Kind, list[str]] = {
    Kind.NUMBER: [
        *(f"({{n}} {sign} {{n}})" for sign in "+-*/%"),
        *(f"({{n}} {sign} {number})" for sign in "+*/%" for number in ("3", "0.1", "8", "0", "-7.5", "1e300")),
        *(f"{name}({{n}})" for name in ("ABS", "SIGN", "FLOOR", "CEIL", "TRUNC", "ROUND", "SQRT", "-")),
        *(f"ROUND({{n}}, {digits})" for digits in (-2, 0, 1, 2, 5)),
        *(f"({{n}} ** {exponent})" for exponent in (1, 2, 3, 0.5, 7)),
        "LEAST({n}, {n}, {n})", "GREATEST({n}, {n})", "({t} - {t})",
        "CAST({b} AS number)", "CAST({s} AS number)", "CAST({n} AS integer)",
        *(f"EXTRACT({part} FROM {{t}})" for part in (*DATE_PARTS, "epoch")),
        *(f"DATEDIFF('{unit}', {{t}}, {{t}})" for unit in UNITS),
    ],
    Kind.BOOLEAN: [
        *(f"({{{letter}}} {sign} {{{letter}}})" for letter in "nt" for sign in _SIGNS),
        *(f"({{{letter}}} {sign} {{{letter}}})" for letter in "sb" for sign in _EQUALITIES),
        "({b} AND {b})", "({b} OR {b})", "(NOT {b})", "({b} AND {b} AND {b})", "({b} OR NOT {b} OR {b})",
        *(f"({{{letter}}} IS {word})" for letter in "nbst" for word in ("NULL", "NOT NULL")),
        "({b} IS TRUE)", "({b} IS NOT FALSE)", "({n} BETWEEN {n} AND {n})", "({t} NOT BETWEEN {t} AND {t})",
        "({n} IN (0, 1.5, 29, {n}))", "({n} NOT IN (0, NULL))", "({s} IN ('a', 'Ä', '1.5'))", "({b} IN (TRUE, {b}))",
        "({t} IN ('1970-01-01', '2024-02-29'))", "({s} NOT LIKE '__%')",
        *(f"({{s}} LIKE '{pattern}')" for pattern in ("a%", "%b", "_", "%a_b%", "%.%", "%\\%", "(%", "%")),
        "STARTS_WITH({s}, 'a')", "CONTAINS({s}, '%')", "ENDS_WITH({s}, 'b')",
        "CAST({n} AS boolean)", "CAST({s} AS boolean)",
    ],
    Kind.STRING: ["({s} || {s})", "CONCAT({s}, {s}, '-')", "CONCAT({s}, {s})", "CAST({b} AS string)"],
    Kind.TIMESTAMP: [
        *(f"DATE_TRUNC('{unit}', {{t}})" for unit in UNITS),
        "({t} + INTERVAL 1 MONTH)", "({t} - INTERVAL 13 MONTH)", "({t} + INTERVAL 4 YEAR)",
        "({t} - INTERVAL 8000 YEAR)",
        "({t} - INTERVAL '90 minutes')", "({t} + INTERVAL ({n}) HOUR)", "CAST({t} AS date)", "TO_TIMESTAMP({n})",
        "MAKE_DATE({n}, {n}, {n})", "MAKE_DATE(2023, 2, {n})", "MAKE_TIMESTAMP(2024, 2, {n}, {n}, 59, {n})",
        "GREATEST({t}, {t})", "LEAST({t}, {t})",
    ],
}  # fmt: skip
_FORMS_OF_ANY_KIND = [
    "CASE WHEN {b} THEN {own} WHEN {b} THEN {own} ELSE {own} END", "CASE {own} WHEN {own} THEN {own} END",
    "IF({b}, {own}, {own})", "COALESCE({own}, {own})", "NULLIF({own}, {own})", "COALESCE({own}, {own}, {own})",
]  # fmt: skip
_FORMS_OUTSIDE_THE_GRAPH: dict[Kind, list[str]] = {
    Kind.NUMBER: ["LENGTH({s})"],
    Kind.BOOLEAN: [f"({{s}} {sign} {{s}})" for sign in ("<", "<=", ">", ">=")],
    Kind.STRING: [
        "UPPER({s})", "LOWER({s})", "TRIM({s})", "LTRIM({s}, 'a ')", "TRIM(TRAILING 'b' FROM {s})", "RIGHT({s}, 2)",
        "REPLACE({s}, 'a', '')", "SUBSTRING({s}, 2)", "SUBSTRING({s}, 1, 2)", "LEFT({s}, 1)", "LEAST({s}, {s})",
    ],
    Kind.TIMESTAMP: [],
}  # fmt: skip


class Generator:
    """Expressions without transcendental functions, and rows, one after the other from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def kind(self) -> Kind:
        return self.random.choice(list(Kind))

    def expression(self, kind: Kind, *, depth: int = 4, in_graph: bool = True) -> str:
        """SQL of a kind; with `in_graph` only what the ONNX graph can express."""
        if depth == 0 or self.random.random() < 0.1:
            columns = [name for name, each in COLUMNS.items() if each is kind]
            return self.random.choice(columns if self.random.random() < 0.8 else _LEAVES[kind])
        forms = _FORMS[kind] + ([] if in_graph else _FORMS_OUTSIDE_THE_GRAPH[kind])
        form = self.random.choice(_FORMS_OF_ANY_KIND if self.random.random() < 0.2 else forms)

        def part(match: re.Match[str]) -> str:
            return self.expression(_LETTERS.get(match[1], kind), depth=depth - 1, in_graph=in_graph)

        return re.sub(r"\{(\w+)\}", part, form)

    def columns(self, rows: int = 20) -> dict[str, list[Stored]]:
        return {name: [self._value(kind) for _ in range(rows)] for name, kind in COLUMNS.items()}

    def _value(self, kind: Kind) -> Stored:
        pick, chance = self.random, self.random.random()
        if chance < 0.15:
            return None
        match kind:
            case Kind.BOOLEAN:
                return pick.random() < 0.5
            case Kind.STRING:
                return (
                    pick.choice(_TEXTS)
                    if chance < 0.7
                    else "".join(pick.choices("ab%_.\n é7eE+-", k=pick.randint(1, 4)))
                )
            case Kind.TIMESTAMP:
                return pick.choice(_MICROS) if chance < 0.4 else pick.randint(EARLIEST_MICROS, LATEST_MICROS)
        if chance < 0.5:
            return pick.choice(_NUMBERS)
        if chance < 0.8:
            return float(pick.randint(-100, 3000)) if chance < 0.65 else round(pick.uniform(-1000, 1000), 2)
        any_bits: float = struct.unpack("<d", pick.randbytes(8))[0]
        return any_bits if any_bits == any_bits else None


def frame_of(values: dict[str, list[Stored]]) -> pl.DataFrame:
    series = {
        name: pl.Series(values[name], dtype=pl.Int64 if kind is Kind.TIMESTAMP else kind.polars).cast(kind.polars)
        for name, kind in COLUMNS.items()
    }
    return pl.DataFrame(series)


def rows_of(values: dict[str, list[Stored]]) -> list[dict[str, Scalar]]:
    """The rows as Python values; timestamps outside the calendar are null."""

    def python(name: str, value: Stored) -> Scalar:
        if COLUMNS[name] is not Kind.TIMESTAMP or value is None:
            return value
        return EPOCH + value * MICRO if EARLIEST_MICROS <= value <= LATEST_MICROS else None

    named = [[(name, python(name, value)) for value in column] for name, column in values.items()]
    return [dict(row) for row in zip(*named, strict=True)]
