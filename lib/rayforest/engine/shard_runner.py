"""One shard by a task, in a thread or a worker process: an attempt, and a record or a reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from logging import NullHandler, getLogger
from typing import Protocol

import pyarrow as pa

from rayforest.engine.attempt import Attempt, StoppedError
from rayforest.engine.executors import OverdueError, WorkerLostError, cancelled, release_slot
from rayforest.engine.log_lines import LogContext, fields, logging_as
from rayforest.engine.record import Record, read_record
from rayforest.engine.shards import Shard
from rayforest.engine.stores.store import Store
from rayforest.engine.work import Work
from rayforest.errors import ConfigError, RayforestError, place_of

log = getLogger("rayforest.engine.shards")
"""A line for each attempt, which only those see who ask for log lines: without them, progress says how many failed."""
log.addHandler(NullHandler())


class Task(Protocol):
    """What is done with one shard. Picklable where Ray runs it; the same shard must give the same rows in order."""

    @property
    def schema(self) -> pa.Schema:
        """Of the data files."""
        ...

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        """Read the shard's row ranges; count rows in, write rows out, quarantine the others."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """What a worker tells of an attempt that failed."""

    error: Exception
    token: str
    work: Work


@dataclass(slots=True)
class ShardRunner:
    """Does one shard, here or in a worker process. Returns its record, or why there is none."""

    store: Store
    folder: str
    claim: str
    task: Task
    check_rows: bool
    context: LogContext
    """Of the driver."""

    def __call__(self, shard: Shard) -> Record | Failure:
        with logging_as(self.context, shard=shard.index):
            return self._run(shard)

    def _run(self, shard: Shard) -> Record | Failure:
        standing = read_record(self.store, self.folder, shard.index)
        if standing is not None:  # another driver's work
            return standing
        if self.store.size(self.claim) is None:
            raise ConfigError(
                f"a worker does not see the destination {self.store.uri}",
                expected="what this run has just written there",
                next_step="use a destination that all machines share: an object store or a network file system",
            )
        attempt = Attempt(
            self.store,
            self.folder,
            shard,
            self.task.schema,
            check_rows=self.check_rows,
            stopped=cancelled,
            run=self.context.run or "",
        )
        with logging_as(attempt=attempt.token):
            try:
                self.task(shard, attempt)
                release_slot()
                record = attempt.commit()
            except StoppedError:
                raise
            except Exception as error:
                log.warning("attempt failed: %s", describe(error))
                known = error if isinstance(error, RayforestError | OSError) else ShardError(describe(error))
                return Failure(known, attempt.token, attempt.work)
            finally:
                attempt.abandon()
            _tell(record, attempt)
            return record


def _tell(record: Record, attempt: Attempt) -> None:
    seconds = attempt.work.seconds
    counts = {"rows_in": record.rows_in, "rows_out": record.rows_out, "rows_quarantined": record.rows_quarantined}
    if record.attempt == attempt.token:
        log.info("finished in %.1f s", seconds, extra=fields(**counts, bytes=record.bytes, seconds=seconds))
    else:
        log.info("another attempt was first")


class ShardError(Exception):
    """A task raised what rayforest does not know. Says the type and the place: the message may hold a user's value."""


def describe(error: BaseException) -> str:
    """On one line, without a value of a row."""
    if isinstance(error, RayforestError):  # on one line, inside another error's text
        details = [f"{k} {v}" for k, v in (("expected", error.expected), ("found", error.found)) if v]
        return error.what + (f" ({', '.join(details)})" if details else "")
    if isinstance(error, (OSError, ImportError, ShardError, OverdueError, WorkerLostError)):
        return f"{error}" if isinstance(error, ShardError) else f"{type(error).__name__}: {error}"
    place = place_of(error)
    return f"{type(error).__name__} at {place}" if place else type(error).__name__
