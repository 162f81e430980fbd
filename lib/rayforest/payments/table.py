"""A block of payments as an Arrow table, with its defects."""

from __future__ import annotations

import datetime as dt

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from rayforest.payments.defects import CARD_AGE_SENTINEL, CATEGORY_SENTINEL, MISTYPED, Codes, Defect
from rayforest.payments.draw import DAY_S, Payments
from rayforest.payments.world import (
    CARDS,
    CATEGORIES,
    COUNTRIES,
    CURRENCIES,
    ENTRY_MODES,
    Booleans,
    Integers,
    World,
)

FIRST_DAY = dt.date(2026, 1, 1)
_EPOCH_S = (FIRST_DAY - dt.date(1970, 1, 1)).days * DAY_S

SCHEMA = pa.schema(
    [
        pa.field("payment_id", pa.string()),  # 16 hexadecimal digits
        pa.field("card_id", pa.string()),
        pa.field("paid_at", pa.timestamp("us")),  # UTC
        pa.field("last_paid_at", pa.timestamp("us")),  # the card's payment before; null for its first
        pa.field("amount", pa.string()),  # euros; text, because the exporting system writes text
        pa.field("amount_avg_30d", pa.float64()),  # euros; 0 where the card was not used
        pa.field("currency", pa.string()),
        pa.field("merchant_id", pa.string()),
        pa.field("merchant_category", pa.string()),  # "N/A" where not known
        pa.field("merchant_country", pa.string()),
        pa.field("card_country", pa.string()),
        pa.field("entry_mode", pa.string()),
        pa.field("card_age_days", pa.int32()),  # -999 where not known
        pa.field("payments_last_24h", pa.int32()),
        pa.field("distance_km", pa.float64()),  # from the cardholder's home; null online
        pa.field("cvv_matched", pa.bool_()),  # null where the code was not asked for
        pa.field("is_fraud", pa.bool_()),
    ]
)
_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint16)


def to_table(world: World, payments: Payments, fraud: Booleans, defects: Codes) -> pa.Table:
    """The block as the exporting system would write it, in the columns of `SCHEMA`.

    Args:
        world: holds the texts of the codes.
        payments: the block, duplicates already in place.
        fraud: shape [rows], the drawn labels.
        defects: shape [rows], `Defect.code` or 0.
    """
    p = payments

    def has(defect: Defect) -> Booleans:
        rows: Booleans = defects == defect.code
        return rows

    amount = np.where(has(Defect.NEGATIVE_AMOUNT), -p.cents, p.cents)
    paid_at = np.where(has(Defect.WRONG_CLOCK), p.paid_at % DAY_S - _EPOCH_S, p.paid_at)
    columns = [
        _hexadecimal(p.key),
        _numbered("c", p.card, width=len(str(CARDS - 1))),
        _timestamps(paid_at),
        _timestamps(p.last_paid_at, null=p.first_payment),
        _amounts(amount, mistyped=has(Defect.MISTYPED_AMOUNT)),
        pa.array(p.usual_cents / 100),
        _names(CURRENCIES, p.currency),
        pa.array(world.merchant_ids).take(pa.array(p.merchant)),
        _names(
            (*(c.name for c in CATEGORIES), CATEGORY_SENTINEL),
            np.where(has(Defect.SENTINEL_CATEGORY), len(CATEGORIES), p.category),
        ),
        _names(COUNTRIES, p.country),
        _names(COUNTRIES, p.home, null=has(Defect.MISSING_COUNTRY)),
        _names(ENTRY_MODES, p.mode),
        pa.array(np.where(has(Defect.SENTINEL_CARD_AGE), CARD_AGE_SENTINEL, p.card_age_days).astype(np.int32)),
        pa.array(p.recent.astype(np.int32)),
        pa.array(p.distance / 10, mask=p.online),
        pa.array(p.cvv_matched, mask=~p.cvv_asked),
        pa.array(fraud, mask=has(Defect.MISSING_LABEL)),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _timestamps(seconds: Integers, null: Booleans | None = None) -> pa.Array:
    return pa.array((seconds + _EPOCH_S) * 1_000_000, mask=null).cast(pa.timestamp("us"))


def _names(names: tuple[str, ...], codes: Integers, null: Booleans | None = None) -> pa.Array:
    return pa.array(names).take(pa.array(codes, mask=null))


def _fixed_width(text: npt.NDArray[np.uint8]) -> pa.Array:
    """Strings from ASCII codes, shape [rows, width], without a copy a row."""
    rows, width = text.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text)))


def _hexadecimal(keys: npt.NDArray[np.uint64]) -> pa.Array:
    digits = _HEX[keys.astype(">u8").view(np.uint8)]
    return _fixed_width(digits.view(np.uint8).reshape(len(keys), 16))


def _numbered(prefix: str, numbers: Integers, width: int) -> pa.Array:
    text = np.empty((len(numbers), 1 + width), np.uint8)
    text[:, 0] = ord(prefix)
    for place in range(width):
        text[:, width - place] = ord("0") + numbers // 10**place % 10
    return _fixed_width(text)


def _amounts(cents: Integers, mistyped: Booleans) -> pa.Array:
    halves = np.stack([cents, cents >> 63], axis=1)  # decimal128 is a little-endian 128-bit integer
    numbers = pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(halves)])
    texts = numbers.cast(pa.string())
    if not mistyped.any():
        return texts
    wrong = pa.array(MISTYPED).take(pa.array(cents[mistyped] % len(MISTYPED)))
    return pa.compute.replace_with_mask(texts, pa.array(mistyped), wrong)
