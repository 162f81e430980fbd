"""Where payments happen: countries, merchant categories, merchants and cards, all fixed by the seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

MERCHANTS = 40_000
CARDS = 200_000
NEW_MARKET_CARDS = 40_000
"""The last cards belong to a market that opens while the days go by: their share of the payments grows."""


class Category(NamedTuple):
    """What a merchant sells."""

    name: str
    share: float
    """Relative number of merchants."""
    amount: float
    """Typical amount, as a multiple of the cardholder's usual one."""
    online: float
    """Share of payments without the card present."""
    risk: float
    """Added to the fraud logit."""


CATEGORIES = (
    Category("grocery", 19, 0.9, 0.05, -0.9),
    Category("restaurant", 14, 0.8, 0.08, -0.6),
    Category("fast_food", 8, 0.4, 0.15, -0.5),
    Category("fuel", 7, 1.3, 0.0, 0.2),
    Category("clothing", 7, 1.6, 0.35, 0.0),
    Category("pharmacy", 5, 0.6, 0.1, -0.8),
    Category("public_transport", 5, 0.3, 0.4, -0.7),
    Category("electronics", 4, 4.0, 0.5, 0.8),
    Category("home_improvement", 4, 2.2, 0.2, -0.2),
    Category("digital_goods", 4, 0.5, 1.0, 0.9),
    Category("subscription", 4, 0.4, 1.0, -0.3),
    Category("sporting_goods", 3, 1.8, 0.35, 0.1),
    Category("books", 3, 0.7, 0.5, -0.5),
    Category("hairdresser", 3, 1.0, 0.0, -1.0),
    Category("taxi", 3, 0.6, 0.5, 0.1),
    Category("hotel", 2, 5.0, 0.5, 0.1),
    Category("airline", 1, 8.0, 0.9, 0.5),
    Category("jewellery", 1, 7.0, 0.25, 0.9),
    Category("furniture", 1.5, 5.0, 0.3, 0.0),
    Category("veterinarian", 1, 2.0, 0.0, -1.1),
    Category("gift_cards", 0.8, 2.0, 0.8, 1.6),
    Category("gambling", 0.7, 1.5, 0.95, 1.0),
    Category("money_transfer", 0.7, 5.0, 0.9, 1.3),
    Category("crypto_exchange", 0.3, 6.0, 1.0, 1.8),
)

_BY_SIZE = (
    "DE FR GB US IT ES NL PL BE AT SE CH PT DK CZ IE GR NO FI HU RO TR JP CA BR MX AU IN ZA AE "
    "BG HR SK SI LT LV EE LU CY MT IS UA RS MA TN EG IL TH VN ID MY SG HK KR CN NZ AR CL CO PE "
    "NG KE GH PH PK LK GE AM KZ AL"
)
COUNTRIES = tuple(_BY_SIZE.split())
"""In the order of their share of the portfolio."""
CURRENCIES = ("EUR", "GBP", "USD", "PLN", "SEK", "CHF", "DKK", "CZK", "NOK", "HUF", "RON", "TRY", "JPY", "CAD", "BRL")
_CURRENCY_OF = {"GB": "GBP", "US": "USD", "PL": "PLN", "SE": "SEK", "CH": "CHF", "DK": "DKK", "CZ": "CZK", "NO": "NOK"}
_CURRENCY_OF |= {"HU": "HUF", "RO": "RON", "TR": "TRY", "JP": "JPY", "CA": "CAD", "BR": "BRL"}
_EURO = {"DE", "FR", "IT", "ES", "NL", "BE", "AT", "PT", "IE", "GR", "FI", "HR", "SK", "SI", "LT", "LV", "EE"}
_EURO |= {"LU", "CY", "MT"}

ENTRY_MODES = ("contactless", "chip", "swipe", "manual", "online")
EntryMode = Literal["contactless", "chip", "swipe", "manual", "online"]


def entry_mode(name: EntryMode) -> int:
    """Code of an entry mode."""
    return ENTRY_MODES.index(name)


@dataclass(frozen=True)
class World:
    """Everything that stays the same from payment to payment. Codes are positions in the tuples above."""

    country_currency: Integers
    """[countries]; where neither euro nor a listed currency is used, cards are charged in dollars."""
    country_risk: Floats
    """[countries], added to the fraud logit."""
    travel_before: Floats
    """[countries], cumulative shares of payments abroad on the first day."""
    travel_after: Floats
    """[countries], the same after a long time."""

    merchant_ids: npt.NDArray[np.str_]
    """[merchants], ordered by country."""
    merchant_category: Integers
    merchant_country: Integers
    merchant_risk: Floats
    """[merchants], added to the fraud logit."""
    merchant_cumulative: Floats
    """[merchants], running sum of the merchants' popularity; merchants of one country stand together."""
    country_span: Floats
    """[countries + 1], where each country begins in `merchant_cumulative`."""

    card_country: Integers
    card_usual_amount: Floats
    card_phase: Integers
    """[cards], age in days on the first day; a card is replaced after `CARD_LIFE_DAYS`."""
    card_activity: Floats
    """[cards], payments a day."""


CARD_LIFE_DAYS = 4 * 365


def build_world(rng: np.random.Generator) -> World:
    """The world that the random numbers give: the same in the same order."""
    countries = len(COUNTRIES)
    rank = np.arange(1, countries + 1)
    home = 1 / rank**1.1
    away_before, away_after = (1 / rng.permutation(rank) ** 0.9 for _ in range(2))
    # The new market lives where the old one hardly does.
    new_market = np.where((rank > 20) & (rank <= 35), home, 0.02 * home)

    # At least two merchants in each country; the rest follow the cards.
    per_country = 2 + np.floor((MERCHANTS - 2 * countries) * home / home.sum()).astype(np.int64)
    per_country[0] += MERCHANTS - per_country.sum()
    merchant_country = np.repeat(np.arange(countries), per_country)
    shares = np.array([c.share for c in CATEGORIES])
    merchant_category = rng.choice(len(CATEGORIES), MERCHANTS, p=shares / shares.sum())
    popularity = 1 / (rng.permutation(MERCHANTS) + 1.0) ** 0.95
    cumulative = np.cumsum(popularity)
    ends = np.cumsum(per_country)
    compromised = rng.random(MERCHANTS) < 0.03

    country_of_card = np.where(
        np.arange(CARDS) < CARDS - NEW_MARKET_CARDS,
        rng.choice(countries, CARDS, p=home / home.sum()),
        rng.choice(countries, CARDS, p=new_market / new_market.sum()),
    )
    usual_amount: Floats = np.exp(rng.normal(3.6, 0.6, CARDS))
    return World(
        country_currency=np.array([_currency(code) for code in COUNTRIES]),
        country_risk=rng.normal(0.0, 0.45, countries) + 0.3 * (rank > 30),
        travel_before=np.cumsum(away_before / away_before.sum()),
        travel_after=np.cumsum(away_after / away_after.sum()),
        merchant_ids=np.array([f"m{number:05d}" for number in rng.permutation(MERCHANTS)]),
        merchant_category=merchant_category,
        merchant_country=merchant_country,
        merchant_risk=rng.normal(0.0, 0.2, MERCHANTS) + 1.2 * compromised,
        merchant_cumulative=cumulative,
        country_span=np.concatenate(([0.0], cumulative[ends - 1])),
        card_country=country_of_card,
        card_usual_amount=usual_amount,
        card_phase=rng.integers(0, CARD_LIFE_DAYS, CARDS),
        card_activity=rng.gamma(1.2, 1.1, CARDS),
    )


def _currency(country: str) -> int:
    return CURRENCIES.index("EUR" if country in _EURO else _CURRENCY_OF.get(country, "USD"))
