"""SQL text to an `Expression`: `parse`, and the refusals by name of what the language does not offer."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlglot import exp

from rayforest.errors import ConfigError, did_you_mean
from rayforest.kinds import Kind
from rayforest.sql import rules_logic, rules_number, rules_text, rules_time
from rayforest.sql.expression import Expression
from rayforest.sql.position import SqlNode, SqlText
from rayforest.sql.scope import NULL, Scope
from rayforest.sql.to_polars import with_constants_computed

_RULES = {**rules_logic.RULES, **rules_number.RULES, **rules_text.RULES, **rules_time.RULES}

FUNCTIONS = (
    "ABS", "CAST", "CEIL", "CEILING", "COALESCE", "CONCAT", "CONTAINS", "DATEDIFF", "DATE_DIFF", "DATE_TRUNC", "DAY",
    "DAYOFWEEK", "DAYOFYEAR", "ENDS_WITH", "EPOCH", "EXP", "EXTRACT", "FLOOR", "GREATEST", "HOUR", "IF", "IFNULL",
    "LEAST", "LEFT", "LENGTH", "LN", "LOG", "LOG10", "LOG2", "LOWER", "LTRIM", "MAKE_DATE", "MAKE_TIMESTAMP", "MINUTE",
    "MOD", "MONTH", "NULLIF", "POW", "POWER", "QUARTER", "REPLACE", "RIGHT", "ROUND", "RTRIM", "SECOND", "SIGN", "SQRT",
    "STARTS_WITH", "SUBSTRING", "TO_TIMESTAMP", "TRIM", "TRUNC", "TRY_CAST", "UPPER", "WEEK", "YEAR",
)  # fmt: skip
"""The functions that the language offers, for messages and documentation."""

_OWN_ROW = "a value that depends on its own row only, so that it is the same in every shard"
_ANY_TIME = "a value that is the same whenever it is computed"
_REFUSALS: tuple[tuple[type[SqlNode] | tuple[type[SqlNode], ...], str, str], ...] = (
    (exp.Window, "window functions are refused", _OWN_ROW),
    ((exp.Query, exp.Exists), "subqueries are refused", _OWN_ROW),
    (exp.AggFunc, "the aggregate {name} is refused", _OWN_ROW),
    ((exp.Rand, exp.Uuid, exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp), "{name} is refused", _ANY_TIME),
    ((exp.CurrentDatetime, exp.Localtime, exp.Localtimestamp), "{name} is refused", _ANY_TIME),
    (exp.Interval, "an interval stands alone", "timestamp + INTERVAL 3 DAY, or timestamp - INTERVAL 3 DAY"),
    (exp.Alias, "AS is refused", "the expression only: its name is the key"),
)
_CHANGING_FUNCTIONS = {"NOW", "TODAY", "RANDOM", "SETSEED", "UUID", "GETDATE", "CURRENT_LOCALTIMESTAMP"}


def parse(sql: str, columns: Mapping[str, Kind], *, where: str) -> Expression:
    """One SQL expression over a table's columns as a typed tree.

    Args:
        sql: an expression of the feature and rule language, in DuckDB's spelling.
        columns: kind of each column by name.
        where: the key that the text stands under, such as "features.log_amount", for messages.

    Raises:
        ConfigError: a syntax error, an unknown column or function, wrong kinds, an aggregate, a window, a subquery, or
            anything else that the language does not offer; with the place in the text and the nearest valid name.
    """
    text = SqlText(where, sql)
    scope = Scope(text, columns, _RULES, _refusal)
    tree = text.tree(columns)
    try:
        root = scope.lower(tree)
    except RecursionError as error:
        raise text.too_deep() from error
    if root is NULL:
        raise text.error("the kind of NULL cannot be told", expected="CAST(NULL AS number), or another kind")
    return Expression(sql, with_constants_computed(root))


def names_in(sql: str, columns: Collection[str] = ()) -> set[str]:
    """The names that stand in a text as columns; none where it is not SQL, which `parse` says.

    Args:
        sql: the text.
        columns: names that hold a dot and may stand there without quotes.
    """
    try:
        tree = SqlText("", sql).tree(columns)
    except ConfigError:
        return set()
    return {column.name for column in tree.find_all(exp.Column)}


def _refusal(scope: Scope, node: SqlNode) -> ConfigError:
    name = scope.label(node)
    for types, what, expected in _REFUSALS:
        if isinstance(node, types):
            return scope.text.error(what.format(name=name), node, expected=expected)
    if name in _CHANGING_FUNCTIONS:
        return scope.text.error(f"{name} is refused", node, expected=_ANY_TIME)
    if isinstance(node, exp.Func):
        hint = did_you_mean(name, FUNCTIONS)
        return scope.text.error(
            f"there is no function {name}", node, expected="a function of the language", next_step=hint
        )
    return scope.text.error(
        f"{name} is not part of the language", node, expected="an operator or function of the language"
    )
