"""What SQL means here, by hand-written expectations: each row is a promise of the documented language."""

from __future__ import annotations

import math
from datetime import datetime

import polars as pl
import pytest

from rayforest.kinds import Kind
from rayforest.sql import category_text, parse
from rayforest.sql.casts import text_to_boolean, text_to_number, text_to_timestamp

KINDS = {
    "a": Kind.NUMBER,
    "zero": Kind.NUMBER,
    "nil": Kind.NUMBER,
    "big": Kind.NUMBER,
    "yes": Kind.BOOLEAN,
    "no": Kind.BOOLEAN,
    "unknown": Kind.BOOLEAN,
    "s": Kind.STRING,
    "digits": Kind.STRING,
    "nothing": Kind.STRING,
    "t": Kind.TIMESTAMP,
    "early": Kind.TIMESTAMP,
    "never": Kind.TIMESTAMP,
    "emp.var.rate": Kind.NUMBER,
    "PM2.5": Kind.NUMBER,
    "default payment": Kind.NUMBER,
    "Year": Kind.NUMBER,
    "day": Kind.NUMBER,
    "No": Kind.NUMBER,
    "order": Kind.NUMBER,
}
ROW = {
    "a": -2.5,
    "zero": 0.0,
    "nil": None,
    "big": 1e308,
    "yes": True,
    "no": False,
    "unknown": None,
    "s": "Straße",
    "digits": " 4.50",
    "nothing": None,
    "t": datetime(2024, 2, 29, 13, 5, 6, 250_000),
    "early": datetime(1969, 12, 31, 23, 59, 59, 999_999),
    "never": None,
    "emp.var.rate": 1.1,
    "PM2.5": 9.0,
    "default payment": 1.0,
    "Year": 2024.0,
    "day": 31.0,
    "No": 3.0,
    "order": 4.0,
}
FRAME = pl.DataFrame({name: [value] for name, value in ROW.items()}, schema={n: k.polars for n, k in KINDS.items()})

MEANINGS: list[tuple[str, object]] = [
    # Arithmetic: floats throughout, and what has no value is null.
    ("7 / 2", 3.5),
    ("1 / zero", None),
    ("zero / zero", None),
    ("5 % zero", None),
    ("-7 % 3", -1.0),
    ("7 % -3", 1.0),
    ("MOD(5.5, 2)", 1.5),
    ("big * 10", math.inf),
    ("big * 10 - big * 10", None),
    ("zero * (big * 10)", None),
    ("a + nil", None),
    ("1 - 2 - 3", -4.0),
    ("2 + 3 * 4", 14.0),
    ("-a", 2.5),
    ("2 ** 10", 1024.0),
    ("2 ** 3 ** 2", 64.0),
    ("POWER(zero, -1)", math.inf),
    ("LN(zero)", None),
    ("LN(a)", None),
    ("SQRT(a)", None),
    ("a ** 0.5", None),
    ("EXP(zero)", 1.0),
    ("a / 5", -0.5),
    ("zero * a", 0.0),
    ("LOG(1000)", 3.0),
    ("LOG10(1e-5)", -5.0),
    ("LOG2(1024)", 10.0),
    ("LOG(3, 81)", 4.0),
    ("LN(EXP(1))", 1.0),
    # Rounding: halves away from zero, and numbers without a fraction stay what they are.
    ("ROUND(a)", -3.0),
    ("ROUND(2.5)", 3.0),
    ("ROUND(0.49999999999999994)", 0.0),
    ("ROUND(2.675, 2)", 2.68),
    ("ROUND(1234.5, -2)", 1200.0),
    ("ROUND(big, 2)", 1e308),
    ("FLOOR(a)", -3.0),
    ("CEIL(a)", -2.0),
    ("TRUNC(a)", -2.0),
    ("SIGN(a)", -1.0),
    ("ABS(a)", 2.5),
    ("CAST(a AS integer)", -3.0),
    ("2.4::bigint", 2.0),
    ("CAST(2.4 AS decimal)", 2.4),
    # Three-valued logic.
    ("unknown AND no", False),
    ("unknown AND yes", None),
    ("unknown OR yes", True),
    ("unknown OR no", None),
    ("NOT unknown", None),
    ("nil = nil", None),
    ("nil <> 1", None),
    ("nil IS NULL", True),
    ("a IS NOT NULL", True),
    ("nil IS DISTINCT FROM nil", False),
    ("nil IS DISTINCT FROM 1", True),
    ("unknown IS TRUE", False),
    ("unknown IS NOT TRUE", True),
    ("no IS FALSE", True),
    ("a IN (1, NULL)", None),
    ("a IN (-2.5, NULL)", True),
    ("a NOT IN (1, NULL)", None),
    ("nil IN (1, 2)", None),
    ("a NOT IN (1, 2)", True),
    ("a BETWEEN -3 AND nil", None),
    ("a BETWEEN -2 AND nil", False),
    ("a NOT BETWEEN -3 AND 0", False),
    ("zero = -zero", True),
    # Conditionals.
    ("CASE WHEN unknown THEN 1 ELSE 2 END", 2.0),
    ("CASE a WHEN -2.5 THEN 'x' END", "x"),
    ("CASE nil WHEN NULL THEN 1 ELSE 2 END", 2.0),
    ("CASE WHEN no THEN 1 END", None),
    ("IF(a < 0, 'minus', 'plus')", "minus"),
    ("IFNULL(nil, 7)", 7.0),
    ("COALESCE(NULL, nil, a)", -2.5),
    ("NULLIF(a, -2.5)", None),
    ("NULLIF(a, 1)", -2.5),
    ("NULLIF(s, '')", "Straße"),
    ("LEAST(a, nil, 3)", -2.5),
    ("GREATEST(nil, nil)", None),
    # Casts.
    ("CAST(digits AS number)", 4.5),
    ("CAST(s AS number)", None),
    ("TRY_CAST(digits AS double)", 4.5),
    ("CAST(yes AS number)", 1.0),
    ("CAST(a AS boolean)", True),
    ("CAST(zero AS boolean)", False),
    ("CAST(3 AS string)", "3"),
    ("CAST(a AS varchar)", "-2.5"),
    ("CAST('yes' AS boolean)", True),
    ("CAST(t AS string)", "2024-02-29 13:05:06.250000"),
    ("CAST(early AS date)", datetime(1969, 12, 31)),
    # Timestamps.
    ("EXTRACT(hour FROM t) * 60 + EXTRACT(minute FROM t)", 785.0),
    ("EXTRACT(dow FROM t)", 4.0),
    ("EXTRACT(isodow FROM t)", 4.0),
    ("EXTRACT(doy FROM t)", 60.0),
    ("EXTRACT(week FROM DATE '2021-01-03')", 53.0),
    ("EXTRACT(isoyear FROM DATE '2021-01-03')", 2020.0),
    ("EXTRACT(dow FROM DATE '2024-03-03')", 0.0),
    ("EXTRACT(second FROM t)", 6.0),
    ("EXTRACT(epoch FROM t)", 1709211906.25),
    ("EXTRACT(quarter FROM t)", 1.0),
    ("YEAR(early)", 1969.0),
    ("EXTRACT(second FROM early)", 59.0),
    ("EXTRACT(year FROM never)", None),
    ("t - early", 1709211906.250001),
    ("early - t", -1709211906.250001),
    ("DATE_TRUNC('week', t)", datetime(2024, 2, 26)),
    ("DATE_TRUNC('day', early)", datetime(1969, 12, 31)),
    ("DATE_TRUNC('quarter', t)", datetime(2024, 1, 1)),
    ("DATEDIFF('day', early, t)", 19783.0),
    ("DATEDIFF('hour', early, TIMESTAMP '1970-01-01 00:00:00')", 1.0),
    ("DATEDIFF('month', t, DATE '2024-03-01')", 1.0),
    ("DATEDIFF('year', t, early)", -55.0),
    ("DATE_DIFF('week', early, t)", 2826.0),
    ("DATE '2024-01-31' + INTERVAL 1 MONTH", datetime(2024, 2, 29)),
    ("DATE '2023-01-31' + INTERVAL '1 month'", datetime(2023, 2, 28)),
    ("t - INTERVAL 90 MINUTE", datetime(2024, 2, 29, 11, 35, 6, 250_000)),
    ("t + INTERVAL (zero - 1) DAY", datetime(2024, 2, 28, 13, 5, 6, 250_000)),
    ("t + INTERVAL 9000 YEAR", None),
    ("MAKE_TIMESTAMP(Year, 2, 29, 6, 30, 1.5)", datetime(2024, 2, 29, 6, 30, 1, 500_000)),
    ("MAKE_TIMESTAMP(2023, 2, 29, 0, 0, 0)", None),
    ("MAKE_TIMESTAMP(2023, 2, 28, 24, 0, 0)", None),
    ("MAKE_DATE(Year, 4, day)", None),
    ("MAKE_DATE(2024, 1.5, 1)", None),
    ("TO_TIMESTAMP(1.5)", datetime(1970, 1, 1, 0, 0, 1, 500_000)),
    ("t > '2024-02-29 13:00'", True),
    ("t BETWEEN '2024-01-01' AND '2024-12-31'", True),
    ("t IN ('2024-02-29', '2024-03-01')", False),
    # Strings.
    ("UPPER(s)", "STRASSE"),
    ("LENGTH(s)", 6.0),
    ("s || nothing", None),
    ("CONCAT(s, nothing, '!')", "Straße!"),
    ("CONCAT(nothing, nothing)", None),
    ("TRIM(digits)", "4.50"),
    ("LTRIM('xxa', 'x')", "a"),
    ("TRIM(BOTH 'S' FROM s)", "traße"),
    ("TRIM('   ')", None),
    ("TRIM('\u3000\u00a0')", "\u3000\u00a0"),
    ("TRIM(' \u3000 ')", "\u3000"),
    ("TRIM('\t')", "\t"),
    ("CAST(CONCAT('\u3000', digits) AS number)", None),
    ("SUBSTRING(s, 2, 3)", "tra"),
    ("SUBSTRING(s FROM 5)", "ße"),
    ("LEFT(s, 2)", "St"),
    ("RIGHT(s, 2)", "ße"),
    ("REPLACE(s, 'Straße', '')", None),
    ("REPLACE(s, 'ß', 'ss')", "Strasse"),
    ("s LIKE 'Stra_e'", True),
    ("s LIKE 'stra%'", False),
    ("s ILIKE 'stra%'", True),
    ("s NOT LIKE '%x%'", True),
    ("nothing LIKE '%'", None),
    ("CONTAINS(s, 'raß')", True),
    ("STARTS_WITH(s, 'St')", True),
    ("'50%' LIKE '50%'", True),
    ("'b' > 'Z'", True),
    ("'é' > 'z'", True),
    # Columns.
    ("emp.var.rate + PM2.5", 10.1),
    ('"emp.var.rate" + "PM2.5"', 10.1),
    ('"default payment"', 1.0),
    ("year", 2024.0),
    ("YEAR + day", 2055.0),
    ("No", 3.0),
    ('"order"', 4.0),
    ("EXTRACT(day FROM t) + day", 60.0),
    ("pm2.5 * 2", 18.0),
    ("a -- a comment\n + 1", -1.5),
]


@pytest.mark.parametrize(("sql", "expected"), MEANINGS, ids=[sql for sql, _ in MEANINGS])
def test_sql_means_what_its_documentation_says(sql: str, expected: object) -> None:
    expression = parse(sql, KINDS, where="features.x")
    values = FRAME.with_columns(result=expression.to_polars())["result"]
    assert values.dtype == expression.kind.polars
    assert values.to_list() == [expected]


def test_an_expression_names_the_columns_that_it_reads_as_the_table_spells_them() -> None:
    expression = parse("year + EMP.VAR.RATE + a * 0", KINDS, where="features.x")
    assert expression.columns == ("Year", "a", "emp.var.rate")
    assert expression.sql == "year + EMP.VAR.RATE + a * 0"


def test_a_division_by_a_constant_is_correctly_rounded() -> None:
    # Polars alone multiplies by the reciprocal, and is off in a third of such rows.
    numbers = [float(number) for number in range(1, 1000)]
    frame = pl.DataFrame({"a": numbers})
    for divisor in (3, 7, 10, 49, 1e6):
        quotients = frame.with_columns(q=parse(f"a / {divisor}", KINDS, where="features.x").to_polars())["q"]
        assert quotients.to_list() == [number / divisor for number in numbers]


def test_a_column_that_is_null_throughout_keeps_its_rows() -> None:
    frame = pl.DataFrame(
        {"nil": [None, None, None], "unknown": [None, None, None]}, schema={"nil": pl.Float64, "unknown": pl.Boolean}
    )
    for sql in (
        "1 < nil",
        "CASE WHEN unknown THEN nil END > 1",
        "NULLIF(nil, 2) = 1",
        "nil IN (1, 2)",
        "LEAST(nil, 1)",
    ):
        assert frame.with_columns(result=parse(sql, KINDS, where="features.x").to_polars()).height == 3


def test_a_negative_zero_is_zero() -> None:
    frame = pl.DataFrame({"a": [-0.0]})
    for sql in ("a", "-ABS(a)", "ROUND(a - 0.3)", "a * 5"):
        value = frame.with_columns(result=parse(sql, KINDS, where="features.x").to_polars())["result"][0]
        assert math.copysign(1, value) == 1


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (3.0, "3"),
        (-17.0, "-17"),
        (0.0, "0"),
        (-0.0, "0"),
        (3.5, "3.5"),
        (0.1, "0.1"),
        (2.0**53, "9007199254740992"),
        (1e-5, "0.00001"),
        (1e15, "1000000000000000"),
        (1e16, "1e+16"),
        (1.5e300, "1.5e+300"),
        (1e-7, "1e-7"),
        (1 / 3, "0.3333333333333333"),
        (math.inf, "inf"),
        (None, None),
    ],
)
def test_a_number_has_one_text_as_a_category(number: float | None, text: str | None) -> None:
    frame = pl.DataFrame({"a": [number]}, schema={"a": pl.Float64})
    assert frame.select(category_text(Kind.NUMBER, pl.col("a"))).item() == text
    if text is not None:
        assert float(text) == number


def test_booleans_strings_and_timestamps_have_one_text_as_a_category() -> None:
    texts = FRAME.select(
        *(category_text(KINDS[name], pl.col(name)).alias(name) for name in ("yes", "no", "unknown", "s", "early"))
    )
    assert texts.row(0) == ("true", "false", None, "Straße", "1969-12-31 23:59:59.999999")


def test_text_is_read_as_a_value_or_null() -> None:
    frame = pl.DataFrame(
        {"text": ["12", " 3.5 ", "-1e3", ".5", "1e250", "nan", "inf", "1_000", "0x10", "x", None, "12 34", "٣"]}
    )
    numbers = [12.0, 3.5, -1000.0, 0.5, *[None] * 9]
    assert frame.select(text_to_number(pl.col("text"))).to_series().to_list() == numbers
    booleans = pl.DataFrame({"text": ["true", "F", " yes", "N", "1", "0", "2", "truth", None]})
    assert booleans.select(text_to_boolean(pl.col("text"))).to_series().to_list() == [
        True, False, True, False, True, False, None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        ("2024-02-29", datetime(2024, 2, 29)),
        ("2024-02-29T13:05", datetime(2024, 2, 29, 13, 5)),
        ("2024-02-29 13:05:06.1234567", datetime(2024, 2, 29, 13, 5, 6, 123_456)),
        ("2024-02-29T13:05:06Z", datetime(2024, 2, 29, 13, 5, 6)),
        ("2024-02-29 13:05:06+02:30", datetime(2024, 2, 29, 10, 35, 6)),
        ("2024-02-29 13:05:06 -0200", datetime(2024, 2, 29, 15, 5, 6)),
        ("2023-02-29", None),
        ("2024-02-29 24:00", None),
        ("2024-02-29 13:05:60", None),
        ("29.02.2024", None),
        ("0000-12-31", None),
        ("0001-01-01 00:00+01", None),
        ("9999-12-31 23:59:59.999999", datetime(9999, 12, 31, 23, 59, 59, 999_999)),
        ("", None),
    ],
)
def test_iso_8601_text_is_a_timestamp_in_utc(text: str, timestamp: datetime | None) -> None:
    assert pl.DataFrame({"text": [text]}).select(text_to_timestamp(pl.col("text"))).item() == timestamp


def test_texts_of_many_forms_are_read_each_by_itself() -> None:
    texts = ["2024-02-29 13:05:06", None, "2024-02-29T13:05:06+01", "x", "2024-02-29", "0000-01-01 00:00:00"]
    read = pl.DataFrame({"text": texts}).select(text_to_timestamp(pl.col("text"))).to_series().to_list()
    one_by_one = [
        pl.DataFrame({"text": [text]}, schema={"text": pl.String}).select(text_to_timestamp(pl.col("text"))).item()
        for text in texts
    ]
    assert read == one_by_one
    assert read == [
        datetime(2024, 2, 29, 13, 5, 6),
        None,
        datetime(2024, 2, 29, 12, 5, 6),
        None,
        datetime(2024, 2, 29),
        None,
    ]
