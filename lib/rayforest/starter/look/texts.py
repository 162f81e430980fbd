"""Columns of text: what kind of values each holds, which words mean missing, how its dates and numbers are written.

All columns go through a few queries over their different values. What is not plain in one of them, such as dates of
another form than ISO 8601, is looked at alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from rayforest.kinds import Kind
from rayforest.sql.casts import BLANKS
from rayforest.starter.look.column import ColumnLook, Values
from rayforest.starter.look.counts import by_column, column_batches, count_values, no_values, summarise
from rayforest.starter.look.dates import DateGuess, guess_format
from rayforest.starter.look.null_words import split_words, words_by_column
from rayforest.starter.look.numbers import AMOUNT, LOOSE, as_others, choose_style, count_styles, shown_decimal
from rayforest.starter.sniff.words import NEARLY_ALL, NULL_AMID_NUMBERS, NULL_WORDS
from rayforest.tables.conversion import to_kind
from rayforest.tables.number_style import NumberStyle

_BOOLEANS = ("true", "false")
"""yes and no, or t and f, stay text: they are read as labels more often than as truth."""
_DATE_NAME = re.compile(r"date|day|datum", re.IGNORECASE)
_LARGEST_EXACT = "9007199254740992"
_DIALLED = r"^\s*\+\d{7,}\s*$"
"""Of telephones: a number would lose the sign that they are dialled with."""
_BY_THREES = r"^\s*[-+]?[1-9]\d{0,2}(\.\d{3})?\s*$"
"""1.234 may be a little more than one, or a thousand."""
_VALUE, _ROWS = pl.col("value"), pl.col("rows")
_WORDS = [*NULL_WORDS, *NULL_AMID_NUMBERS]
_BLANK = _VALUE.str.strip_chars(" \t") == ""
"""Nothing, where no text is expected."""
_SOLID = ~(_VALUE.is_in(_WORDS) | _BLANK)


@dataclass
class _Reading:
    """How one column is read."""

    kind: Kind
    words: dict[str, int] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    format: str | None = None
    style: NumberStyle | None = None
    remarks: tuple[str, ...] = ()
    undecided: str = ""
    exact: bool = False
    two_ways: bool = False


def look_at_texts(frame: pl.DataFrame) -> list[ColumnLook]:
    """A look at each column of text; empty text is missing."""
    found: list[ColumnLook] = []
    for places in column_batches(frame):
        found += _look_at_batch(frame, places)
    if (decimal := shown_decimal(found)) is not None:
        for places in column_batches(frame):
            if doubtful := [place for place in places if found[place].two_ways]:
                for place, look in zip(doubtful, _look_at_batch(frame, doubtful, decimal), strict=True):
                    found[place] = look
    return found


def _look_at_batch(frame: pl.DataFrame, places: Sequence[int], decimal: str | None = None) -> list[ColumnLook]:
    """A look at some columns; `decimal` is the mark that others show, for numbers that may be read two ways."""
    counts = count_values(frame, places).with_columns(to_kind(_VALUE, pl.String(), Kind.NUMBER).alias("number"))
    shapes = _shapes(counts)
    words = words_by_column(counts)
    readings = _readings(frame.columns, places, counts, shapes, words, decimal)
    missing = [(place, word) for place, reading in readings.items() for word in reading.words]
    if missing:
        schema = {"column": pl.UInt32(), "value": pl.String()}
        counts = counts.join(pl.DataFrame(missing, schema, orient="row"), on=["column", "value"], how="anti")
    typed = [place for place, reading in readings.items() if reading.kind is not Kind.STRING]
    counts = counts.filter(~(_BLANK & pl.col("column").is_in(pl.Series(typed, dtype=pl.UInt32).implode())))
    held = dict(counts.group_by("column").agg(_ROWS.sum()).iter_rows())
    values: dict[int, Values] = {}
    for kind in Kind:
        own = {place: reading for place, reading in readings.items() if reading.kind is kind}
        values |= summarise(_values(counts, own, kind), kind)
    looks, names = [], frame.columns
    for place in places:
        name, reading, own_values = names[place], readings[place], values.get(place, no_values())
        solid, shape = held.get(place, 0), shapes.get(place, {})
        looks.append(
            ColumnLook(
                name=name,
                kind=reading.kind,
                rows=frame.height,
                values=own_values,
                unreadable=solid - own_values.present,
                missing=frame.height - solid,
                null_words=reading.words,
                kept_words=reading.kept,
                format=reading.format,
                style=reading.style,
                pointed=bool(shape.get("pointed")),
                numbers=shape.get("numbers", 0) / solid if solid and reading.kind is Kind.STRING else 0.0,
                remarks=reading.remarks,
                undecided=reading.undecided,
                exact=reading.exact,
                two_ways=reading.two_ways,
                read_times=_times(frame, place, reading.format) if reading.kind is Kind.TIMESTAMP else None,
            )
        )
    return looks


def _shapes(counts: pl.DataFrame) -> dict[int, dict[str, int]]:
    """What the values of each column look like, words that may mean missing left out; in rows, and flags."""
    number = pl.col("number").is_not_null()
    digits = _VALUE.str.strip_chars(" \t+-").str.strip_chars_start("0")
    beyond = (digits.str.len_bytes() > 16) | ((digits.str.len_bytes() == 16) & (digits > _LARGEST_EXACT))
    integers = _VALUE.str.contains(r"^\s*[-+]?\d+\s*$")
    solid = counts.lazy().filter(_SOLID)
    table = solid.group_by("column").agg(
        _ROWS.sum().alias("solid"),
        pl.len().alias("distinct"),
        _ROWS.filter(number).sum().alias("numbers"),
        _VALUE.str.contains(r"^\s*0\d+\s*$").any().alias("zeros"),
        (_VALUE.str.contains(_DIALLED).any() & ~_VALUE.str.contains(r"^\s*-").any()).alias("dialled"),
        integers.all().alias("integers"),
        (integers & beyond).any().alias("beyond"),
        _VALUE.str.contains(r"^\s*\d{8}\s*$").all().alias("eights"),
        (number & _VALUE.str.contains(".", literal=True)).any().alias("pointed"),
        _VALUE.str.contains(_BY_THREES).all().alias("threes"),
        _ROWS.filter(_VALUE.str.contains(r"\d.*\D.*\d")).sum().alias("dated"),
        _ROWS.filter(_VALUE.str.contains(r"^\s*\d{4}-")).sum().alias("iso"),
        _ROWS.filter(_VALUE.str.contains(LOOSE)).sum().alias("loose"),
        _ROWS.filter(_VALUE.str.contains(AMOUNT)).sum().alias("amounts"),
        _VALUE.str.strip_chars(BLANKS).str.to_lowercase().is_in(_BOOLEANS).all().alias("booleans"),
    )
    return {row.pop("column"): row for row in table.collect().iter_rows(named=True)}


def _readings(
    names: Sequence[str],
    places: Sequence[int],
    counts: pl.DataFrame,
    shapes: dict[int, dict[str, int]],
    words: dict[int, dict[str, int]],
    decimal: str | None,
) -> dict[int, _Reading]:
    readings: dict[int, _Reading] = {}
    solid = counts.lazy().filter(_SOLID).collect()
    for place, others in by_column(solid, words).items():
        shape = shapes[place]
        missing, kept = split_words(words[place], others, shape["numbers"], shape["solid"])
        readings[place] = _Reading(Kind.STRING, {word: words[place][word] for word in missing}, tuple(kept))
    for place in places:
        only_words = words.get(place, {}) if place not in shapes else {}
        reading = readings.setdefault(
            place, _Reading(Kind.STRING, {w: r for w, r in only_words.items() if w in NULL_WORDS})
        )
        if place in shapes and not any(word in NULL_WORDS for word in reading.kept):
            _read_numbers(names[place], reading, shapes[place], decimal)
    _read_others(solid, readings, shapes, decimal)
    return readings


def _read_numbers(name: str, reading: _Reading, shape: dict[str, int], decimal: str | None) -> None:
    """Numbers, whole numbers that are codes or too long for a double, truth; else the column stays text."""
    solid, numbers = shape["solid"], shape["numbers"]
    if shape["booleans"]:
        reading.kind = Kind.BOOLEAN
    elif shape["integers"] and shape["beyond"]:
        reading.exact = True
        reading.remarks = ("whole numbers beyond 2^53, which a number would round: text",)
    elif shape["integers"] and shape["dialled"]:
        reading.exact = True
        reading.remarks = ("numbers with a plus, as of telephones: kept as text",)
    elif numbers == solid and shape["eights"] and _DATE_NAME.search(name):
        reading.format = "%Y%m%d"
    elif (numbers == solid and not shape["zeros"]) or (
        solid > numbers >= NEARLY_ALL * solid and shape["distinct"] > solid / 5
    ):
        reading.kind = Kind.NUMBER
        if shape["pointed"] and shape["threes"]:
            reading.two_ways = True
            if decimal == ",":
                reading.style = NumberStyle(",", ".")
                reading.remarks = (*as_others(decimal), 'if the point is decimal: { type = "number", decimal = "." }')
            else:
                thousands = '{ type = "number", decimal = ",", thousands = "." }'
                reading.remarks = (f"a guess: the point is decimal; if it marks thousands: {thousands}",)


def _read_others(
    solid: pl.DataFrame, readings: dict[int, _Reading], shapes: dict[int, dict[str, int]], decimal: str | None
) -> None:
    """Timestamps, and numbers of another style."""
    texts = {place: reading for place, reading in readings.items() if reading.kind is Kind.STRING and place in shapes}
    eights = [place for place, reading in texts.items() if reading.format is not None]
    dated = [p for p, r in texts.items() if shapes[p]["dated"] >= NEARLY_ALL * shapes[p]["solid"] and not r.exact]
    loose = [
        place
        for place, reading in texts.items()
        if shapes[place]["loose"] >= NEARLY_ALL * shapes[place]["solid"] > shapes[place]["numbers"]
        and not reading.exact
    ]
    for place, own in by_column(solid, [*eights, *dated]).items():
        _read_dates(own, texts[place], shapes[place])
    loose = [place for place in loose if texts[place].kind is Kind.STRING and not texts[place].undecided]
    styles = count_styles(solid.filter(pl.col("column").is_in(pl.Series(loose, dtype=pl.UInt32).implode())))
    for place in loose:
        style, why = choose_style(styles[place], NEARLY_ALL * shapes[place]["solid"], decimal)
        if style is not None:
            texts[place].kind, texts[place].style, texts[place].remarks = Kind.NUMBER, style, as_others(decimal)
        texts[place].undecided, texts[place].two_ways = why, bool(why)
    for place, reading in texts.items():
        enough = NEARLY_ALL * shapes[place]["solid"]
        if reading.kind is Kind.STRING and shapes[place]["amounts"] >= enough > shapes[place]["loose"]:
            reading.undecided = "numbers with signs such as $, %, brackets or units, which are read as no numbers"


def _read_dates(own: pl.DataFrame, reading: _Reading, shape: dict[str, int]) -> None:
    texts, rows = own.sort("rows", "value", descending=[True, False]).select("value", "rows").get_columns()
    if reading.format is not None:  # 20260131, in a column whose name says that it is a day
        times = texts.str.strip_chars(BLANKS).str.to_datetime(reading.format, time_unit="us", strict=False)
        if not times.null_count() and times.dt.year().is_between(1900, 2200).all():
            reading.kind = Kind.TIMESTAMP
        else:
            reading.format = None
            reading.kind = Kind.NUMBER if not shape["zeros"] else Kind.STRING
        return
    enough = NEARLY_ALL * shape["solid"]
    if shape["iso"] >= enough:
        read = own.select(to_kind(pl.col("value"), pl.String(), Kind.TIMESTAMP).is_not_null(), "rows")
        if int(read.filter(pl.col("value")).get_column("rows").sum()) >= enough:
            reading.kind = Kind.TIMESTAMP
            return
    guess = guess_format(texts, rows) or DateGuess(None)
    if guess.format is not None:
        reading.kind, reading.format = Kind.TIMESTAMP, guess.format
        reading.remarks = (guess.remark,) if guess.remark else ()
    reading.undecided = guess.undecided


def _values(counts: pl.DataFrame, readings: dict[int, _Reading], kind: Kind) -> pl.DataFrame:
    """(column, value, rows) of the columns of one kind, as that kind."""
    plain = [place for place, r in readings.items() if r.style is None and r.format is None]
    frames = [_typed(counts, plain, kind, None, None)]
    for place, reading in readings.items():
        if reading.style is not None or reading.format is not None:
            frames.append(_typed(counts, [place], kind, reading.style, reading.format))
    typed = pl.concat(frames)
    if kind is Kind.STRING:
        return typed
    return typed.drop_nulls("value").group_by("column", "value").agg(_ROWS.sum())


def _typed(
    counts: pl.DataFrame, places: Sequence[int], kind: Kind, style: NumberStyle | None, form: str | None
) -> pl.DataFrame:
    own = counts.filter(pl.col("column").is_in(pl.Series(places, dtype=pl.UInt32).implode()))
    if kind is Kind.STRING:
        return own.select("column", "value", "rows")
    if kind is Kind.NUMBER and style is None:
        return own.select("column", pl.col("number").alias("value"), "rows")
    value = _VALUE if style is None else style.plain(_VALUE)
    return own.select("column", to_kind(value, pl.String(), kind, form).alias("value"), "rows")


def _times(frame: pl.DataFrame, place: int, form: str | None) -> Callable[[], pl.Series]:
    """Reads the different times of a column when asked for: most columns never are."""
    texts = frame.to_series(place).alias("value")

    def read() -> pl.Series:
        different = texts.unique(maintain_order=True).drop_nulls().to_frame()
        return different.select(to_kind(_VALUE, pl.String(), Kind.TIMESTAMP, form)).to_series().drop_nulls()

    return read
