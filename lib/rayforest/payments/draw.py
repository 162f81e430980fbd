"""One block of payments, drawn from the world: clean values, before upstream systems spoil some of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rayforest.payments.world import (
    CARD_LIFE_DAYS,
    CARDS,
    CATEGORIES,
    NEW_MARKET_CARDS,
    Booleans,
    Integers,
    World,
    entry_mode,
)

DAY_S = 86_400
_HOURLY = np.array(
    [6, 4, 3, 2, 2, 4, 10, 22, 34, 38, 42, 50, 62, 56, 46, 46, 52, 64, 68, 56, 40, 28, 18, 10], np.float64
)
"""Relative number of payments in each hour of the day."""
_DAY_SHARE = np.concatenate(([0.0], np.cumsum(_HOURLY / _HOURLY.sum())))


@dataclass(frozen=True)
class Payments:
    """A block of payments, one array a column, all of one length. Codes are positions in the tables of the world."""

    key: npt.NDArray[np.uint64]
    paid_at: Integers
    """Seconds since the first day's midnight."""
    last_paid_at: Integers
    """Seconds since the first day's midnight of the card's previous payment."""
    first_payment: Booleans
    """The card was never used before, so `last_paid_at` means nothing."""
    cents: Integers
    """The amount in euro cents."""
    usual_cents: Integers
    """Mean amount of the card over the last 30 days, in euro cents; 0 where it was not used."""
    currency: Integers
    card: Integers
    merchant: Integers
    category: Integers
    country: Integers
    """Of the merchant."""
    home: Integers
    """Country of the card."""
    mode: Integers
    card_age_days: Integers
    recent: Integers
    """Payments of the card in the 24 hours before."""
    distance: Integers
    """From the cardholder's home, in tenths of a kilometre; means nothing online."""
    cvv_matched: Booleans
    """Means something only where the security code is asked for: online and manual."""

    @property
    def online(self) -> Booleans:
        """The card was not present, so nobody knows where it was."""
        online: Booleans = self.mode == entry_mode("online")
        return online

    @property
    def cvv_asked(self) -> Booleans:
        """The security code was asked for."""
        asked: Booleans = self.mode >= entry_mode("manual")
        return asked


def draw_payments(
    world: World, rng: np.random.Generator, *, key: npt.NDArray[np.uint64], day: int, first: int, rows_of_day: int
) -> Payments:
    """Draw len(key) payments of one day, in the order of time.

    Args:
        world: where payments happen.
        rng: this block's own random numbers.
        key: uint64, shape [rows], the payments' keys.
        day: days since the first day; countries, amounts and online shopping drift with it.
        first: position of the block's first row in its day.
        rows_of_day: rows of the whole day. Row i of n falls into the i-th of n equal shares of the day's payments.
    """
    rows = len(key)
    settled = 1 - np.exp(-day / 45)  # 0 on the first day, towards 1: how far the drift has come

    paid_at = _times(rng, day, first, rows, rows_of_day)
    card = _cards(rng, rows, new_market_share=0.08 + 0.27 * settled)
    home = world.card_country[card]
    country = _countries(world, rng, home, settled)
    low, high = world.country_span[country], world.country_span[country + 1]
    merchant = np.searchsorted(world.merchant_cumulative, low + rng.random(rows) * (high - low), side="right")
    merchant = np.minimum(merchant, len(world.merchant_cumulative) - 1)
    category = world.merchant_category[merchant]
    mode = _modes(rng, category, online_growth=1 + 0.3 * settled)

    usual = world.card_usual_amount[card]
    inflation = 1.0005**day
    scale = np.array([c.amount for c in CATEGORIES])[category]
    amount = usual * scale * inflation * np.exp(rng.normal(0.0, 0.75, rows))
    known_usual = np.where(rng.random(rows) < 0.02, 0.0, usual * inflation * np.exp(rng.normal(0.0, 0.15, rows)))

    recent = rng.poisson(world.card_activity[card])
    gap = 60 + rng.exponential(DAY_S / (0.3 + recent))
    abroad = country != home
    kilometres = np.where(abroad, 900 * np.exp(rng.normal(0.0, 0.9, rows)), 6 * np.exp(rng.normal(0.0, 1.2, rows)))
    return Payments(
        key=key,
        paid_at=paid_at,
        last_paid_at=paid_at - gap.astype(np.int64),
        first_payment=rng.random(rows) < 0.01,
        cents=np.clip(np.rint(amount * 100), 50, 2_500_000).astype(np.int64),
        usual_cents=np.rint(known_usual * 100).astype(np.int64),
        currency=world.country_currency[country],
        card=card,
        merchant=merchant,
        category=category,
        country=country,
        home=home,
        mode=mode,
        card_age_days=(world.card_phase[card] + day) % CARD_LIFE_DAYS,
        recent=recent,
        distance=np.rint(np.minimum(kilometres, 19_000) * 10).astype(np.int64),
        cvv_matched=rng.random(rows) >= 0.025,
    )


def _times(rng: np.random.Generator, day: int, first: int, rows: int, rows_of_day: int) -> Integers:
    share = (first + np.arange(rows) + rng.random(rows)) / rows_of_day
    second: Integers = np.interp(share, _DAY_SHARE, np.arange(25) * 3600.0).astype(np.int64)
    return day * DAY_S + np.minimum(second, DAY_S - 1)


def _cards(rng: np.random.Generator, rows: int, *, new_market_share: float) -> Integers:
    old = CARDS - NEW_MARKET_CARDS
    position = rng.random(rows) ** 1.4  # low numbers pay more often
    is_new = rng.random(rows) < new_market_share
    return np.where(is_new, old + position * NEW_MARKET_CARDS, position * old).astype(np.int64)


def _countries(world: World, rng: np.random.Generator, home: Integers, settled: float) -> Integers:
    rows = len(home)
    destination = np.where(
        rng.random(rows) < settled,
        np.searchsorted(world.travel_after, rng.random(rows)),
        np.searchsorted(world.travel_before, rng.random(rows)),
    )
    destination = np.minimum(destination, len(world.travel_before) - 1)
    return np.where(rng.random(rows) < 0.13, destination, home)


def _modes(rng: np.random.Generator, category: Integers, *, online_growth: float) -> Integers:
    online = np.minimum(np.array([c.online for c in CATEGORIES]) * online_growth, 1.0)[category]
    present = np.searchsorted(np.array([0.58, 0.90, 0.98]), rng.random(len(category)), side="right")
    return np.where(rng.random(len(category)) < online, entry_mode("online"), present)
