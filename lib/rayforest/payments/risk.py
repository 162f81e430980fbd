"""The true fraud probability of a payment, which nobody but the generator knows."""

from __future__ import annotations

import numpy as np

from rayforest.payments.draw import DAY_S, Payments
from rayforest.payments.world import CATEGORIES, ENTRY_MODES, Floats, World

_MODE_RISK = {"contactless": -0.7, "chip": -0.9, "swipe": 0.6, "manual": 1.2, "online": 0.5}
_EASILY_SOLD = np.isin([c.name for c in CATEGORIES], ["electronics", "jewellery", "gift_cards", "crypto_exchange"])
_TRAVEL = np.isin([c.name for c in CATEGORIES], ["airline", "hotel", "taxi", "public_transport"])
_SPREAD = 1.2
"""Stretches the logit: the larger, the better frauds can be told from the rest."""
_BASE = -5.1
"""Puts the share of frauds near 3%."""


def fraud_logit(world: World, payments: Payments, day: int) -> Floats:
    """The logit of the probability that a payment is a fraud, from its clean values.

    Every term is a function of the row's own columns (the merchant's and the country's risk are functions of their
    names), so the probability is the best score that a model of the row can give. Only the wave over the days is not
    in the row, and it moves all payments of a day alike.

    Returns:
        float64, shape [rows].
    """
    p = payments
    amount = p.cents / 100
    hour = p.paid_at % DAY_S // 3600
    night = hour < 6
    online = p.online
    abroad = p.country != p.home
    easily_sold = _EASILY_SOLD[p.category]
    over_usual = np.log(amount / np.where(p.usual_cents > 0, p.usual_cents / 100, amount))
    gap_h = np.where(p.first_payment, np.inf, (p.paid_at - p.last_paid_at) / 3600)
    kilometres = np.where(online, 0.0, p.distance / 10)

    logit = np.array([c.risk for c in CATEGORIES])[p.category]
    logit += world.merchant_risk[p.merchant] + world.country_risk[p.country]
    logit += np.array([_MODE_RISK[mode] for mode in ENTRY_MODES])[p.mode]
    # Much more than the cardholder's usual amount, most of all for what can be sold on.
    logit += np.clip(over_usual, -1.0, 3.0) * np.where(easily_sold, 0.9, 0.45)
    logit += night * np.where(online | easily_sold, 1.1, 0.3)
    logit += abroad * np.where(_TRAVEL[p.category], 0.1, 0.8)
    logit += 0.8 * np.exp(-p.card_age_days / 120)
    # A thief tries a card with small amounts online, many times in a row.
    logit += 0.12 * np.minimum(p.recent, 8) * np.where(online & (amount < 10), 3.0, 1.0)
    # The card was elsewhere too shortly before.
    logit += 1.4 * (kilometres / gap_h > 500)
    logit += 0.18 * np.log1p(kilometres / 20)
    logit += 1.8 * (p.cvv_asked & ~p.cvv_matched)
    result: Floats = _BASE + _SPREAD * logit + 0.2 * np.sin(2 * np.pi * day / 60)
    return result
