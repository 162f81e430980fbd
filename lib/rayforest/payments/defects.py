"""What upstream systems do to the rows. A dirty row carries exactly one defect, so that each kind can be counted."""

from __future__ import annotations

import dataclasses
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from rayforest.payments.draw import Payments
from rayforest.payments.world import Booleans, Integers

Codes = npt.NDArray[np.int8]


class Defect(StrEnum):
    """One kind of dirt. The first six make a row unusable; the others only hide a value of it."""

    MISTYPED_AMOUNT = "mistyped_amount"
    """The amount is a text that is no number."""
    NEGATIVE_AMOUNT = "negative_amount"
    WRONG_CLOCK = "wrong_clock"
    """The terminal's clock was reset: paid on 1970-01-01."""
    MISSING_LABEL = "missing_label"
    """Nobody has decided yet whether it was a fraud."""
    REDELIVERED = "redelivered"
    """The same row as an earlier one, in every column."""
    REUSED_KEY = "reused_key"
    """Another payment under an earlier row's key, mostly of the file before."""
    SENTINEL_CARD_AGE = "sentinel_card_age"
    """-999 stands for a card age that is not known."""
    SENTINEL_CATEGORY = "sentinel_category"
    """"N/A" stands for a merchant category that is not known."""
    MISSING_COUNTRY = "missing_country"
    """The card's country is null."""

    @property
    def code(self) -> int:
        """Stands for the defect in arrays; 0 is a clean row."""
        return list(Defect).index(self) + 1


REJECTED = tuple(Defect)[:6]
"""Rows with one of these go to quarantine under jobs/examples/payments.toml."""
DUPLICATED = (Defect.REDELIVERED, Defect.REUSED_KEY)

MISTYPED = ("ERR", "#REF!", "abc", "12,90", "1.299,00 EUR")
"""What stands in place of an amount. "12,90" must not be read as a number of another size."""
CARD_AGE_SENTINEL = -999
CATEGORY_SENTINEL = "N/A"

REDELIVERED_WITHIN = 500
"""A row is delivered again after at most this many clean ones."""


def draw_defects(rng: np.random.Generator, rows: int, dirty: float) -> Codes:
    """Which rows carry which defect: int8, shape [rows], `Defect.code` or 0.

    The first row is always clean, so that a duplicate has an earlier row to repeat.
    """
    is_dirty = rng.random(rows) < dirty
    is_dirty[0] = False
    kind = rng.integers(1, len(Defect) + 1, rows, dtype=np.int8)
    return np.where(is_dirty, kind, np.int8(0))


def accepted(defects: Codes) -> Booleans:
    """Rows that can be used, although a value may be hidden."""
    return ~np.isin(defects, [d.code for d in REJECTED])


def sources_of_redelivered(rng: np.random.Generator, defects: Codes) -> Integers:
    """For each row the row whose values it carries: its own, or an earlier clean one's where it was delivered again."""
    source = np.arange(len(defects))
    again = np.flatnonzero(defects == Defect.REDELIVERED.code)
    clean = np.flatnonzero(defects == 0)
    before = np.searchsorted(clean, again)  # clean rows before each; at least one, as the first row is clean
    lag = np.minimum(rng.integers(0, REDELIVERED_WITHIN, len(again)), before - 1)
    source[again] = clean[before - 1 - lag]
    return source


def take(payments: Payments, rows: Integers) -> Payments:
    """The payments at the given positions."""
    return Payments(**{f.name: getattr(payments, f.name)[rows] for f in dataclasses.fields(payments)})
