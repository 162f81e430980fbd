"""The one reading and the one writing of values as text: casts, categories and fields of a CSV file.

Numbers are written with the fewest digits that read back as the same double: whole ones without a fraction ("3",
"-17"), others as "0.25", very large and small ones as "1e+16" and "1e-7"; both zeros are "0".
Numbers are read from decimal text with up to 40 digits on either side of the point and an exponent of up to 249, so
that reading can neither overflow nor underflow; "inf", "nan", "1_000" and "0x10" are no numbers.

Text is taken as it stands, and is missing where it is empty or one of the words that the project file names. Around
values of other kinds, and around the words for missing ones, the two `BLANKS` do not count. Other characters that
Unicode counts as white space (no-break and ideographic blanks, line ends) belong to the text everywhere.
"""

from __future__ import annotations

import polars as pl

from rayforest.kinds import Kind
from rayforest.sql.nodes import EARLIEST_MICROS, LATEST_MICROS

BLANKS = " \t"

NUMBER_PATTERN = (
    r"[ \t]*[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})"
    r"(?:[eE][+-]?(?:[01]?[0-9]?[0-9]|2[0-4][0-9]))?[ \t]*"
)
TRUE_PATTERN = "[ \\t]*(?:[tT]|[tT][rR][uU][eE]|[yY]|[yY][eE][sS]|1)[ \\t]*"
FALSE_PATTERN = "[ \\t]*(?:[fF]|[fF][aA][lL][sS][eE]|[nN]|[nN][oO]|0)[ \\t]*"

_USUAL_DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_USUAL_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]{1,9})?$"
_ANY_TIME = (
    r"^[ \t]*([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ T]([0-9]{2}:[0-9]{2})(?::([0-5][0-9](?:\.[0-9]{1,9})?))?"
    r"[ ]?(?:Z|UTC|([+-][0-9]{2})(?::?([0-9]{2}))?)?)?[ \t]*$"
)
"""Groups: date, hour and minute, second, hours and minutes of the zone."""
_WHOLE_LIMIT = 2.0**53
_PLAIN_BYTES = 40
"""A longer text may have more digits than `NUMBER_PATTERN` takes."""


def category_text(kind: Kind, values: pl.Expr) -> pl.Expr:
    """Values of any kind as the text that names their category; null stays null."""
    match kind:
        case Kind.NUMBER:
            return number_to_text(values)
        case Kind.BOOLEAN:
            return boolean_to_text(values)
        case Kind.STRING:
            return values
        case Kind.TIMESTAMP:
            return timestamp_to_text(values)


def number_to_text(values: pl.Expr) -> pl.Expr:
    """Float64 to the canonical text of the module's docstring."""
    whole = values.abs().lt(_WHOLE_LIMIT) & values.eq(values.truncate())
    # Through Int64, because that text has never depended on a library's way of formatting floats.
    return (
        pl.when(whole)
        .then(values.cast(pl.Int64, strict=False).cast(pl.String))
        .otherwise(values.cast(pl.String).str.replace(r"\.0$", ""))
    )


def boolean_to_text(values: pl.Expr) -> pl.Expr:
    """Boolean to "true" and "false"."""
    return pl.when(values).then(pl.lit("true")).when(values.not_()).then(pl.lit("false"))


def timestamp_to_text(values: pl.Expr) -> pl.Expr:
    """Datetime to "2024-02-29 23:59:59", with six decimals where there is a fraction."""
    whole = values.dt.microsecond().eq(0)
    return (
        pl.when(whole)
        .then(values.dt.to_string("%Y-%m-%d %H:%M:%S"))
        .otherwise(values.dt.to_string("%Y-%m-%d %H:%M:%S%.6f"))
    )


def text_to_number(values: pl.Expr) -> pl.Expr:
    """String to Float64, correctly rounded; null where it is not a number by `NUMBER_PATTERN`."""
    return values.map_batches(_read_numbers, return_dtype=pl.Float64, is_elementwise=True)


def _read_numbers(texts: pl.Series) -> pl.Series:
    """The cast alone where it takes no more than the pattern: short texts without letters. Others are matched too."""
    numbers = texts.str.strip_chars(BLANKS).cast(pl.Float64, strict=False)
    unusual = (texts.str.len_bytes() > _PLAIN_BYTES) | texts.str.contains_any(list("eEiInN"))
    if not unusual.any():
        return numbers
    matched = texts.set(~unusual, None).str.extract(f"^({NUMBER_PATTERN})$").str.strip_chars(BLANKS)
    return numbers.zip_with(~unusual, matched.cast(pl.Float64, strict=False))


def text_to_boolean(values: pl.Expr) -> pl.Expr:
    """String to Boolean: true/t/yes/y/1 and false/f/no/n/0 in any case, else null."""
    truth, falsehood = (values.str.contains(f"^(?:{pattern})$") for pattern in (TRUE_PATTERN, FALSE_PATTERN))
    return pl.when(truth).then(pl.lit(True)).when(falsehood).then(pl.lit(False))


def text_to_timestamp(values: pl.Expr) -> pl.Expr:
    """String to Datetime("us"): ISO 8601 dates, and times to minutes, seconds or fractions; null for other text.

    Text without a zone is UTC; Z, UTC, +02:00, +0200 and +02 are understood. Digits after the sixth are cut.
    """
    return values.map_batches(_timestamps, return_dtype=pl.Datetime("us"), is_elementwise=True)


def _timestamps(texts: pl.Series) -> pl.Series:
    # The general reading takes 50 times as long, so it is for the texts that the usual forms leave over.
    text = pl.col("text")
    frame = texts.to_frame("text").select(
        text,
        pl.when(text.str.contains(_USUAL_DATE))
        .then(text.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False))
        .when(text.str.contains(_USUAL_TIME))
        .then(text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False))
        .alias("read"),
    )
    left = frame.select(text.is_not_null() & pl.col("read").is_null()).to_series().arg_true()
    if len(left):
        others = frame[left].select(_any_timestamp(text)).to_series()
        return frame.select(in_calendar(pl.col("read").to_physical())).to_series().scatter(left, others)
    return frame.select(in_calendar(pl.col("read").to_physical())).to_series()


def _any_timestamp(values: pl.Expr) -> pl.Expr:
    day, minute, second, zone_hours, zone_minutes = (values.str.extract(_ANY_TIME, group) for group in range(1, 6))
    text = pl.concat_str(day, pl.lit(" "), minute.fill_null("00:00"), pl.lit(":"), second.fill_null("00"))
    local = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    east = pl.when(zone_hours.str.starts_with("-")).then(-1).otherwise(1)
    offset_minutes = zone_hours.cast(pl.Int64) * 60 + east * zone_minutes.cast(pl.Int64).fill_null(0)
    return in_calendar(local.cast(pl.Int64) - offset_minutes.fill_null(0) * 60_000_000)


def in_calendar(micros: pl.Expr) -> pl.Expr:
    """Int64 microseconds to Datetime("us"); null outside the years 1 to 9999."""
    return pl.when(micros.is_between(EARLIEST_MICROS, LATEST_MICROS)).then(micros).cast(pl.Datetime("us"))
