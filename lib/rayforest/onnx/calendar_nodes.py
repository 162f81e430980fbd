"""The calendar in int64 nodes: microseconds since 1970 to years, months, days and weeks, and back.

The proleptic Gregorian calendar by Howard Hinnant's `civil_from_days` and `days_from_civil`
(https://howardhinnant.github.io/date_algorithms.html), exact for every date in the years 1 to 9999.
Every function takes and returns names of int64 tensors of shape [rows, 1]. Nulls are not looked at: the caller masks
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

DAY = 86_400_000_000
"""Microseconds of a day."""
_CLOCK = {"hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000}
_CLOCK_WRAP = {"hour": 24, "minute": 60, "second": 60}


class Nodes(Protocol):
    """What this module needs of the graph: int64 arithmetic by name."""

    def op(self, op_type: str, *inputs: str) -> str: ...

    def integer(self, value: int) -> str: ...


def add(nodes: Nodes, value: str, amount: int | str) -> str:
    return nodes.op("Add", value, nodes.integer(amount) if isinstance(amount, int) else amount)


def subtract(nodes: Nodes, value: str, amount: int | str) -> str:
    return nodes.op("Sub", value, nodes.integer(amount) if isinstance(amount, int) else amount)


def times(nodes: Nodes, value: str, factor: int) -> str:
    return nodes.op("Mul", value, nodes.integer(factor))


def remainder(nodes: Nodes, value: str, divisor: int) -> str:
    """The remainder of the floored division: never negative."""
    return nodes.op("Mod", value, nodes.integer(divisor))


def quotient(nodes: Nodes, value: str, divisor: int) -> str:
    """The floored quotient; Div alone would round toward zero."""
    return nodes.op("Div", subtract(nodes, value, remainder(nodes, value, divisor)), nodes.integer(divisor))


@dataclass(frozen=True)
class Moment:
    """Microseconds since 1970, and what the calendar says of them."""

    nodes: Nodes
    micros: str

    @cached_property
    def days(self) -> str:
        return quotient(self.nodes, self.micros, DAY)

    @cached_property
    def time_of_day(self) -> str:
        return remainder(self.nodes, self.micros, DAY)

    @cached_property
    def date(self) -> tuple[str, str, str]:
        return date_of(self.nodes, self.days)

    def part(self, part: str) -> str:
        """One of `sql.nodes.DATE_PARTS`."""
        n = self.nodes
        if part in _CLOCK:
            return remainder(n, quotient(n, self.micros, _CLOCK[part]), _CLOCK_WRAP[part])
        year, month, day = self.date
        parts: dict[str, Callable[[], str]] = {
            "year": lambda: year,
            "quarter": lambda: quotient(n, add(n, month, 2), 3),
            "month": lambda: month,
            "day": lambda: day,
            "dow": lambda: remainder(n, add(n, self.days, 4), 7),  # 1970-01-01 was a Thursday
            "isodow": lambda: add(n, self._days_since_monday(), 1),
            "doy": lambda: add(n, subtract(n, self.days, first_of_year(n, year)), 1),
            "week": self._iso_week,
            "isoyear": self._iso_year,
        }
        return parts[part]()

    def start_of(self, unit: str) -> str:
        """Microseconds of the start of one of `sql.expression.UNITS`."""
        n, (year, month, _) = self.nodes, self.date
        if unit in _CLOCK:
            return subtract(n, self.micros, remainder(n, self.micros, _CLOCK[unit]))
        match unit:
            case "year":
                start = first_of_year(n, year)
            case "quarter":
                in_quarter = remainder(n, subtract(n, month, 1), 3)
                start = days_of(n, year, subtract(n, month, in_quarter), n.integer(1))
            case "month":
                start = days_of(n, year, month, n.integer(1))
            case "week":
                start = subtract(n, self.days, self._days_since_monday())
            case _:
                start = self.days
        return times(n, start, DAY)

    def plus_months(self, months: int) -> str:
        """Microseconds of the same day and time that many months later; the day is cut to the month's length."""
        n, (year, month, day) = self.nodes, self.date
        index = add(n, add(n, times(n, year, 12), month), months - 1)
        later_year, later_month = quotient(n, index, 12), add(n, remainder(n, index, 12), 1)
        later_day = n.op("Min", day, month_length(n, later_year, later_month))
        return add(n, times(n, days_of(n, later_year, later_month, later_day), DAY), self.time_of_day)

    def _thursday(self) -> str:
        """Days since 1970 of this week's Thursday: ISO 8601 counts the week in that day's year."""
        return add(self.nodes, subtract(self.nodes, self.days, self._days_since_monday()), 3)

    def _iso_year(self) -> str:
        return date_of(self.nodes, self._thursday())[0]

    def _iso_week(self) -> str:
        n = self.nodes
        days = subtract(n, self._thursday(), first_of_year(n, self._iso_year()))
        return add(n, quotient(n, days, 7), 1)

    def _days_since_monday(self) -> str:
        return remainder(self.nodes, add(self.nodes, self.days, 3), 7)


def date_of(n: Nodes, days: str) -> tuple[str, str, str]:
    """Year, month and day of a number of days since 1970-01-01."""
    shifted = add(n, days, 719_468)  # eras of 400 years begin on 0000-03-01
    era, day_of_era = quotient(n, shifted, 146_097), remainder(n, shifted, 146_097)
    leap_days = subtract(n, quotient(n, day_of_era, 1_460), quotient(n, day_of_era, 36_524))
    leap_days = add(n, leap_days, quotient(n, day_of_era, 146_096))
    year_of_era = quotient(n, subtract(n, day_of_era, leap_days), 365)
    day_of_year = subtract(n, day_of_era, _days_of_years(n, year_of_era))
    month_from_march = quotient(n, add(n, times(n, day_of_year, 5), 2), 153)
    month = add(n, remainder(n, add(n, month_from_march, 2), 12), 1)
    day = add(n, subtract(n, day_of_year, _days_of_months(n, month_from_march)), 1)
    # January and February, months 10 and 11 from March, belong to the next year.
    year = add(n, add(n, year_of_era, times(n, era, 400)), quotient(n, month_from_march, 10))
    return year, month, day


def days_of(n: Nodes, year: str, month: str, day: str) -> str:
    """Days since 1970-01-01 of a date."""
    month_from_march = remainder(n, add(n, month, 9), 12)
    march_year = subtract(n, year, quotient(n, month_from_march, 10))
    era, year_of_era = quotient(n, march_year, 400), remainder(n, march_year, 400)
    before_month = add(n, _days_of_years(n, year_of_era), _days_of_months(n, month_from_march))
    return add(n, add(n, add(n, times(n, era, 146_097), before_month), day), -719_469)


def first_of_year(n: Nodes, year: str) -> str:
    return days_of(n, year, n.integer(1), n.integer(1))


def month_length(n: Nodes, year: str, month: str) -> str:
    """28 to 31."""
    index = add(n, times(n, year, 12), month)  # of the next month, counted from 0
    next_year, next_month = quotient(n, index, 12), add(n, remainder(n, index, 12), 1)
    return subtract(n, days_of(n, next_year, next_month, n.integer(1)), days_of(n, year, month, n.integer(1)))


def _days_of_years(n: Nodes, years: str) -> str:
    """Days in the first years, under 400, of an era."""
    leap_days = subtract(n, quotient(n, years, 4), quotient(n, years, 100))
    return add(n, times(n, years, 365), leap_days)


def _days_of_months(n: Nodes, months: str) -> str:
    """Days in that many months from March on."""
    return quotient(n, add(n, times(n, months, 153), 2), 5)
