"""What train, valid and test hold: rows, the times that they span, label shares or the mean of the target.

The facts lie in the profile; here they become plain values for JSON, and lines for people.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rayforest.features.profile import Profile
from rayforest.features.recipe import PARTS

SHOWN_LABELS = 10
"""Label shares are given for up to so many labels; a number with more of them has its mean."""


def part_facts(profile: Profile) -> dict[str, dict[str, Any]]:
    """By part: rows and their share; from and to, where the project has a time; labels (label -> share of the part's
    rows, the labels of all parts) or mean, where it has a target.
    """
    total = sum(profile.parts.values())
    overall = Counter[str]()
    for counts in profile.labels.values():
        overall.update(counts)
    facts: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        rows = profile.parts.get(part, 0)
        fact: dict[str, Any] = {"rows": rows, "share": rows / total if total else 0.0}
        if (span := profile.spans.get(part)) is not None:
            fact |= {
                name: time_text(t, timestamp=profile.timestamps) for name, t in zip(("from", "to"), span, strict=True)
            }
        if rows and 0 < len(overall) <= SHOWN_LABELS:
            labels, numbers = profile.labels.get(part, Counter()), bool(profile.target_sums)
            fact["labels"] = {
                label_text(label, number=numbers): labels[label] / rows for label, _ in overall.most_common()
            }
        elif rows and part in profile.target_sums:
            fact["mean"] = profile.target_sums[part] / rows
        elif overall:
            fact["different_labels"] = len(profile.labels.get(part, ()))
        facts[part] = fact
    return facts


def part_lines(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The same as one line a part."""
    return [f"{part:<6}{part_text(fact)}" for part, fact in facts.items()]


def part_text(fact: Mapping[str, Any]) -> str:
    """One part in a few words."""
    texts = [f"{fact['rows']:,} rows ({fact['share']:.1%})"]
    if "from" in fact:
        texts.append(fact["from"] if fact["from"] == fact["to"] else f"{fact['from']} to {fact['to']}")
    if "labels" in fact:
        texts.append("labels " + ", ".join(f"{label} {share_text(share)}" for label, share in fact["labels"].items()))
    elif "mean" in fact:
        texts.append(f"mean of the target {fact['mean']:.6g}")
    elif "different_labels" in fact:
        texts.append(f"{fact['different_labels']:,} labels")
    return ", ".join(texts)


def share_text(share: float) -> str:
    """A share that is not mistaken for none or all."""
    if 0 < share < 0.001:
        return f"{100 * share:.2g}%"
    return "over 99.9%" if 0.999 < share < 1 else f"{share:.1%}"


def label_text(label: str, *, number: bool) -> str:
    """A label as the profile has it, for people: a whole number without its point, a text as it stands."""
    return label.removesuffix(".0") if number else label


def time_text(time: float, *, timestamp: bool) -> str:
    """A time of `time_numbers` as ISO 8601 in UTC, without what is zero; or as the number that it is."""
    if not timestamp:
        return f"{time:.0f}" if time == round(time) and abs(time) < 1e15 else f"{time:.10g}"
    try:
        moment = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=time)
    except OverflowError:
        return f"{time:.0f} us"
    if moment.time() == dt.time():
        return moment.date().isoformat()
    return moment.isoformat(sep=" ", timespec="microseconds" if moment.microsecond else "seconds")
