"""The record of a finished shard: created once, read by key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from rayforest.engine.document import read_document
from rayforest.engine.stores.requests import in_parallel
from rayforest.engine.stores.store import Store
from rayforest.engine.work import Work, work_of
from rayforest.errors import UnfinishedError
from rayforest.formats import RECORD, Document

FOLDER_SHARDS = 1000
"""Shards in one folder of records or data, so that no folder grows without end."""
KEPT_REASONS = 1000
"""Why rows were quarantined, of all shards together: the most frequent ones."""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one shard. Paths are relative to the destination."""

    shard: int
    attempt: str
    """Token of the attempt that won."""
    rows_in: int
    rows_out: int
    rows_quarantined: int
    path: str | None = None
    """The data file; None if the shard put no rows out."""
    bytes: int = 0
    checksum: str = ""
    """SHA-256 of the data file, in hex."""
    quarantine: str | None = None
    sidecar: str | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why rows were quarantined, the most frequent first."""
    work: Work | None = None
    """None in records of version 1."""

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the record names."""
        return tuple(path for path in (self.path, self.quarantine, self.sidecar) if path is not None)


def encode_record(record: Record) -> bytes:
    return RECORD.write(asdict(record))


def decode_record(data: bytes, where: str) -> Record:
    return RECORD.read(data, where, record_of)


def record_of(document: Document) -> Record:
    """What a record's document says."""
    return Record(**{**document, "work": work_of(document)})


def step_folder(base: str, step: str) -> str:
    """Where a step keeps its records, data and quarantine. The main step has no name."""
    return f"{base}/{step}" if step else base


def record_path(folder: str, shard: int) -> str:
    return f"{folder}/records/{shard // FOLDER_SHARDS:04d}/{shard:06d}.json"


def attempt_path(folder: str, kind: str, shard: int, token: str, ending: str) -> str:
    """A file of one attempt. The token makes the name one that is never used twice."""
    return f"{folder}/{kind}/{shard // FOLDER_SHARDS:04d}/{shard:06d}-{token}.{ending}"


def read_record(store: Store, folder: str, shard: int) -> Record | None:
    """The shard's record by its key, or None while the shard is not finished."""
    return read_document(store, record_path(folder, shard), RECORD, record_of)


def read_finished(store: Store, folder: str, shard: int) -> Record:
    """The record of a shard that must have one.

    Raises:
        UnfinishedError: it has none.
    """
    record = read_record(store, folder, shard)
    if record is None:
        raise UnfinishedError(
            f"shard {shard} is not finished", next_step="run the same command again: finished shards are kept"
        )
    return record


def read_records(store: Store, folder: str, shards: Iterable[int]) -> Iterator[tuple[int, Record | None]]:
    """The records of the shards in the given order, each read by its key."""
    return in_parallel(store, lambda shard: (shard, read_record(store, folder, shard)), shards)


def add_reasons(reasons: Counter[str], more: Mapping[str, int]) -> None:
    """Count the reasons of one more record. Of many more than KEPT_REASONS the rarest are forgotten."""
    reasons.update(more)
    if len(reasons) > 2 * KEPT_REASONS:
        kept = dict(reasons.most_common(KEPT_REASONS))
        reasons.clear()
        reasons.update(kept)


def schema_path(folder: str) -> str:
    """The file with a step's Arrow schema, in Arrow's IPC form."""
    return f"{folder}/schema.arrow"
