"""A part without rows, though it should have some, is refused: with what the data could be cut into instead."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, combinations, pairwise

from rayforest.errors import InputError
from rayforest.features.parts import time_text
from rayforest.features.profile import MAX_SPLIT_KEYS, Profile
from rayforest.features.recipe import PARTS
from rayforest.preparing.split import TimeSketch
from rayforest.project.sections import SplitSection

_SHOWN_TIMES = 6
_WORTH_ROWS = 5
_NEAR_TIMES = 50
_SHARE_DIGITS = (2, 4, 6, 9)
_BY_HASH = 'split.by = "hash"'


def time_cuts(sketch: TimeSketch, split: SplitSection, *, timestamps: bool) -> tuple[float, float]:
    """Where time is cut: the earliest rows train and the latest test; rows of one time are never divided.

    Raises:
        InputError: a part would have no rows, though its share is not 0.
    """
    shares = split.shares.of_parts
    first, second = sketch.cuts(shares)
    sizes = sketch.sizes((first, second))
    missing = _missing(shares, sizes)
    if missing and sum(sizes):
        times = sketch.times()
        raise InputError(
            f"{_are_empty(missing)}: a split by time does not divide rows of one time",
            expected=f"rows for each share: {_listed(shares, '{:.0%}')}",
            found=f"{_sizes(sizes)}; {_times(times, timestamps=timestamps)}",
            next_step=_other_cuts(sketch, shares),
        )
    return first, second


def refuse_empty_parts(profile: Profile, split: SplitSection, keys: Sequence[str], reasons: Mapping[str, int]) -> None:
    """Refuse a part that came out without rows, though its share is worth some.

    A tiny table in which each row has a key of its own may leave a part empty by chance: there a share must be worth
    `_WORTH_ROWS`.

    Args:
        profile: of the finished shards.
        split: how the rows were divided.
        keys: columns of which the split keeps equal values together; none: each row is for itself.
        reasons: rows in quarantine by reason, the most frequent first.

    Raises:
        InputError: there is such a part.
    """
    sizes = tuple(profile.parts.get(part, 0) for part in PARTS)
    few = profile.split_keys
    by_chance = split.by == "hash" and (few is None or len(few) == sum(sizes))
    wanted = [share * sum(sizes) for share in split.shares.of_parts]
    missing = _missing(wanted, sizes, least=_WORTH_ROWS if by_chance else 1)
    if not missing:
        return
    found, ways = _sizes(sizes), ["other split.shares (a share of 0 needs no rows)"]
    if split.by == "time":
        if reasons:
            found += f"; quarantined: {'; '.join(f'{rows:,} x {why}' for why, rows in list(reasons.items())[:3])}"
        why, ways = ": every row of its times is quarantined", ["correct the rows or the rules", *ways, _BY_HASH]
    else:
        why, subject = "", f"different values of {', '.join(keys)}" if keys else "rows"
        found += f"; {len(few):,} {subject}" if few is not None else f"; over {MAX_SPLIT_KEYS} {subject}"
        if few is not None and not by_chance:
            why = f": {len(few):,} {subject} are too few to divide"
            ways = ["split by a column with more values (split.key)", *ways]
        ways += ["another project.seed", 'split.by = "time"']
    raise InputError(
        _are_empty(missing) + why,
        expected=f"rows for each share: {_listed(split.shares.of_parts, '{:.0%}')}",
        found=found,
        next_step=", or ".join(ways),
    )


def _missing(wanted: Sequence[float], sizes: Sequence[int], least: float = 0.0) -> list[str]:
    return [p for p, w, rows in zip(PARTS, wanted, sizes, strict=True) if w > 0 and w >= least and not rows]


def _are_empty(parts: Sequence[str]) -> str:
    return f"the {' and '.join(parts)} part{'s have' if len(parts) > 1 else ' has'} no rows"


def _listed(shares: Sequence[float], form: str) -> str:
    return ", ".join(f"{part} {form.format(share)}" for part, share in zip(PARTS, shares, strict=True))


def _sizes(sizes: Sequence[int]) -> str:
    return _listed(sizes, "{:,}") + " rows"


def _times(times: Mapping[float, int], *, timestamps: bool) -> str:
    """The times with most rows and their shares, in order of time."""
    total = sum(times.values())
    largest = sorted(sorted(times, key=lambda t: (-times[t], t))[:_SHOWN_TIMES])
    shown = ", ".join(f"{time_text(t, timestamp=timestamps)} has {times[t] / total:.1%}" for t in largest)
    others = f", and {len(times) - len(largest):,} others" if len(times) > len(largest) else ""
    return (f"{len(times):,} different times" if len(times) > 1 else "one time only") + f": {shown}{others}"


def _other_cuts(sketch: TimeSketch, shares: Sequence[float]) -> str:
    """Shares that these times can be cut into, and other ways to divide the rows."""
    possible = nearest_shares(sketch, shares)
    if possible is None:
        return f"a finer data.time, or {_BY_HASH}"
    return (
        f"shares that end where a time ends, such as split.shares = [{', '.join(f'{s:g}' for s in possible)}]; "
        f"or a finer data.time, or {_BY_HASH}"
    )


def nearest_shares(sketch: TimeSketch, shares: Sequence[float]) -> tuple[float, ...] | None:
    """The shares nearest to those wanted that leave no part empty; without a test part where there are two times only.

    None where one time has all rows.
    """
    rows = list(sketch.times().values())
    if len(rows) < 2:
        return None
    ends = [end / sum(rows) for end in accumulate(rows[:-1])]
    wanted = list(shares)
    if sum(share > 0 for share in wanted) > len(rows):
        wanted = [shares[0] + shares[2], shares[1], 0.0]
    first, second = wanted[0], wanted[0] + wanted[1]
    chosen: tuple[float, ...]
    if min(wanted) > 0:
        chosen = min(_pairs(ends, first, second), key=lambda pair: abs(pair[0] - first) + abs(pair[1] - second))
    else:
        chosen = (min(ends, key=lambda end: abs(end - first)),)
    for digits in _SHARE_DIGITS:
        bounds = [0, *(math.floor(c * 10**digits + 1e-6) for c in chosen), 10**digits]
        kept = iter((b - a) / 10**digits for a, b in pairwise(bounds))
        found = tuple(next(kept) if share > 0 else 0.0 for share in wanted)
        if not _missing(found, sketch.sizes(sketch.cuts(found))):
            return found
    return None


def _pairs(ends: Sequence[float], first: float, second: float) -> Iterator[tuple[float, float]]:
    """Two ends in order; of many times only those near the wanted ones."""
    near = {end for wanted in (first, second) for end in sorted(ends, key=lambda end: abs(end - wanted))[:_NEAR_TIMES]}
    return combinations(sorted(near), 2)
