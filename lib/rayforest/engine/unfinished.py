"""What the store tells of a run that has claimed a destination and has not published yet, from any machine.

One listing of the version's folder, counted as it comes, and a few small reads, whatever the number of shards: records
are counted and not read, and the rows of finished shards are those that the plan says they have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rayforest.engine.commit import Destination, numbered_path
from rayforest.engine.differences import JSON
from rayforest.engine.document import read_document
from rayforest.engine.failed_attempt import failed_attempt_of
from rayforest.engine.plan import Plan
from rayforest.formats import FAILED_ATTEMPT


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """How far the latest claim of a destination is."""

    key: str
    """Plan key."""
    folder: str
    """Of the version, as a path or URI."""
    ingredients: Mapping[str, JSON]
    since: float | None
    """When the destination was claimed: seconds since 1970 on the store's clock. A run that was killed and started
    again is the same one. None where the listing does not show it yet."""
    last_sign: float | None
    """When a file was last written there: by a shard, finished or not, or by the driver."""
    plan: Plan | None
    """None before it is written, and where a stage has no shards."""
    done: int
    """Shards of the main step that have their record."""
    rows_in: int
    """In them."""
    failed: int
    """Attempts that failed, of all steps; those of a killed driver are not known."""
    last_error: str | None
    """Of the latest of these."""
    steps: Mapping[str, int]
    """Finished shards of other steps by its name, and results of other kinds, such as trials."""


def unfinished_run(destination: Destination) -> UnfinishedRun | None:
    """Of the latest claim; None where there is none, or its version is published.

    Raises:
        FormatError: a file of it is damaged, of another kind, or newer.
    """
    claim = destination.latest_claim()
    if claim is None:
        return None
    version = destination.version(claim)
    if version.manifest() is not None:
        return None
    store, base, plan = version.store, version.base, version.plan()
    path = numbered_path("claims", claim.number)
    since = next((entry.modified for entry in store.list("claims") if entry.path == path), None)
    is_done = bytearray(len(plan) if plan is not None else 0)
    steps, failed, last_failed, last_sign = Counter[str](), 0, (0.0, ""), since
    numbered = re.compile(
        rf"{re.escape(base)}/(?:(?P<step>[a-z0-9_-]+)/)??"
        r"(?:records/\d+/(?P<shard>\d+)\.json|(?P<kind>[a-z]+)/\d+\.json|(?P<failed>failed)/\d+/\d+-[0-9a-f]+\.json)"
    )
    for entry in store.list(base):
        last_sign = max(last_sign or 0.0, entry.modified)
        found = numbered.fullmatch(entry.path)
        if found is None:
            continue
        if found["failed"]:
            failed += 1
            last_failed = max(last_failed, (entry.modified, entry.path))
        elif found["step"] or found["kind"]:
            steps[found["step"] or found["kind"]] += 1
        elif int(found["shard"]) < len(is_done):
            is_done[int(found["shard"])] = 1
    note = read_document(store, last_failed[1], FAILED_ATTEMPT, failed_attempt_of) if failed else None
    return UnfinishedRun(
        key=claim.key,
        folder=store.locate(base),
        ingredients=claim.ingredients,
        since=since,
        last_sign=last_sign,
        plan=plan,
        done=sum(is_done),
        rows_in=sum(rows for shard, rows in plan.rows_of_ranges() if is_done[shard]) if plan is not None else 0,
        failed=failed,
        last_error=note.error if note is not None else None,
        steps=dict(steps),
    )
