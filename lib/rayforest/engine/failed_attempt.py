"""Notes of attempts that failed, beside the records of those that did not: for people, and no part of the protocol."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rayforest.engine.record import attempt_path
from rayforest.engine.stores.store import Store
from rayforest.engine.work import Work, work_of
from rayforest.formats import FAILED_ATTEMPT, Document

FOLDER = "failed"
"""Of a step, beside `records`."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One attempt that came to no record."""

    shard: int
    error: str
    """As the run tells it: no value of a row."""
    seen: float
    """When the driver heard of it: seconds since 1970 on its clock."""
    work: Work | None = None
    """None where its worker was lost or given up."""


def note_failed(store: Store, folder: str, token: str, failed: FailedAttempt) -> None:
    """Keep a note of it in a step's folder. OSError as `Store.create`."""
    path = attempt_path(folder, FOLDER, failed.shard, token, "json")
    store.create(path, FAILED_ATTEMPT.write(asdict(failed)))


def failed_attempt_of(document: Document) -> FailedAttempt:
    """Read a note."""
    return FailedAttempt(document["shard"], document["error"], document["seen"], work_of(document))
