"""What the feature language refuses, and how it says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rayforest.errors import ConfigError
from rayforest.kinds import Kind
from rayforest.sql import parse

KINDS = {
    "amount": Kind.NUMBER, "flag": Kind.BOOLEAN, "name": Kind.STRING, "at": Kind.TIMESTAMP, "emp.var.rate": Kind.NUMBER,
    "Code": Kind.STRING, "CODE": Kind.STRING, "limit": Kind.NUMBER,
}  # fmt: skip

REFUSALS = [
    # sql, then words that the message must hold
    ("amont + 1", "no column 'amont'", "line 1, column 1", "'amount'"),
    ("amount +\n  LN(amont)", "line 2, column 6", "'amount'"),
    ('amount = "abc"', "no column 'abc'", "'abc'"),
    ("emp.var.rat", "no column 'emp.var.rat'", "'emp.var.rate'"),
    ("code = 'x'", "'code' is ambiguous", "'Code'", "'CODE'"),
    ("sqrrt(amount)", "no function SQRRT", "'SQRT'"),
    ("hash(name)", "no function HASH"),
    ("SUM(amount)", "aggregate SUM is refused"),
    ("amount / AVG(amount)", "aggregate AVG is refused", "column 10"),
    ("COUNT(*)", "aggregate COUNT is refused"),
    ("ROW_NUMBER() OVER ()", "window functions are refused"),
    ("amount - LAG(amount) OVER (ORDER BY at)", "window functions are refused"),
    ("(SELECT 1)", "subqueries are refused"),
    ("amount IN (SELECT 1)", "IN with 'query' is not offered"),
    ("RANDOM()", "RANDOM is refused"),
    ("NOW() - at", "NOW is refused"),
    ("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP is refused"),
    ("amount + name", "+ takes a number", "name is a string", "CAST(... AS number)"),
    ("name || amount", "|| takes a string", "amount is a number", "CAST(... AS string)"),
    ("amount AND flag", "AND takes a boolean", "<> 0"),
    ("flag * 2", "* takes a number", "flag is a boolean"),
    ("at + 3", "+ takes a number", "at is a timestamp", "INTERVAL"),
    ("at > 5", "comparison takes a timestamp", "TO_TIMESTAMP"),
    ("at > 'soon'", "not a timestamp", "'soon'"),
    ("amount = '5'", "comparison takes a number", "'5' is a string"),
    ("CASE WHEN flag THEN 1 ELSE 'x' END", "CASE takes a number", "'x' is a string"),
    ("COALESCE(amount, name)", "COALESCE takes a number"),
    ("flag < TRUE", "booleans have no order"),
    ("name = ''", "empty text is null", "IS NULL"),
    ("name IN ('a', '')", "empty text is null"),
    ("NULL", "kind of NULL cannot be told"),
    ("CAST(amount AS decimal(10, 2))", "without a fixed scale", "ROUND(..., 2)"),
    ("CAST(amount AS time)", "no type TIME"),
    ("CAST('abc' AS number)", "the text is not a number"),
    ("9007199254740993", "cannot be held exactly"),
    ("1e999", "cannot be held exactly"),
    ("ROUND(amount, amount)", "digits of ROUND must be a constant"),
    ("name LIKE name", "pattern of LIKE must be a constant text"),
    ("EXTRACT(century FROM at)", "no unit 'century'"),
    ("DATE_TRUNC('mont', at)", "no unit 'mont'", "'month'"),
    ("at + INTERVAL amount MONTH", "must be a constant"),
    ("INTERVAL 3 DAY", "an interval stands alone"),
    ("LOG(1, amount)", "no such base"),
    ("amount // 2", "not part of the language"),
    ("amount & 2", "not part of the language"),
    ("name ~ 'x'", "REGEXP"),
    ("amount[1]", "not part of the language"),
    ("amount +", "not an SQL expression"),
    ("amount amount", "not an SQL expression", "line 1, column 8"),
    ("amount + (1", "not an SQL expression"),
    ("'abc", "not SQL"),
    ("amount; amount", "one expression"),
    ("", "there is no expression"),
    ("  -- nothing", "one expression"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "words"), [(sql, words) for sql, *words in REFUSALS])
def test_what_is_not_offered_is_refused_by_name_and_place(sql: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(sql, KINDS, where="features.mine")
    message = str(caught.value)
    assert message.startswith("features.mine: ")
    for word in words:
        assert word in message
    assert "<class" not in message
    assert "sqlglot" not in message


@pytest.mark.parametrize(
    "sql",
    [
        "(" * 10_000 + "amount" + ")" * 10_000,
        "ABS(" * 40 + "amount" + ")" * 40,
        "CASE WHEN flag THEN " * 50 + "1" + " END" * 50,
        "NOT " * 5_000 + "flag",
        "- " * 5_000 + "amount",
        " + ".join(["amount"] * 5_000),
        "CASE " + " ".join(f"WHEN amount = {n} THEN {n}" for n in range(1_000)) + " END",
    ],
    ids=["parentheses", "calls", "cases", "nots", "signs", "sum", "arms"],
)
def test_deep_nesting_is_refused_and_does_not_exhaust_the_stack(sql: str) -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse(sql, KINDS, where="features.mine")


def test_an_expression_that_multiplies_its_parts_is_refused() -> None:
    sql = "amount"
    for _ in range(25):
        sql = f"NULLIF({sql}, 1)"
    with pytest.raises(ConfigError, match="too large"):
        parse(sql, KINDS, where="features.mine")


def test_the_largest_expressions_run_on_a_thread_with_a_small_stack() -> None:
    # In a process of its own: an exhausted stack kills the process.
    program = """
import threading
import polars as pl
from rayforest.kinds import Kind
from rayforest.sql import parse

def run():
    frame = pl.DataFrame({"a": [1.0, None]})
    cases = " ".join(f"WHEN a = {n} THEN {n}" for n in range(190))
    sums, ands = " + ".join(["a"] * 190), " AND ".join(["a > 0"] * 5000)
    for sql in (sums, ands, f"CASE {cases} END", "(" * 30 + "a" + ")" * 30):
        frame.lazy().with_columns(result=parse(sql, {"a": Kind.NUMBER}, where="x").to_polars()).collect()
    print("alive")

threading.stack_size(256 * 1024)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "alive\n", done.stderr[-2000:]
