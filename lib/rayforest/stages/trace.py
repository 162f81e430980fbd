"""trace: who did which shard and when, as a Chrome trace, for Perfetto (ui.perfetto.dev) and chrome://tracing.

Made afterwards from what attempts have left in the store, so it tells of killed and resumed runs and of every
executor, and needs nothing to have listened. Hosts are the trace's processes, and workers its threads: a thread of one
of a host's processes does one attempt at a time. Times are those of the workers' clocks.

The file is written as the listing of the store comes; what is held are the names of hosts and workers.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayforest.engine.commit import Destination, Version
from rayforest.engine.document import read_document
from rayforest.engine.failed_attempt import failed_attempt_of
from rayforest.engine.record import record_of
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.requests import in_parallel
from rayforest.engine.work import Work, work_of
from rayforest.errors import ConfigError, InputError
from rayforest.formats import FAILED_ATTEMPT, RECORD, TRIAL, Document, Format


@dataclass(frozen=True)
class WrittenTrace:
    """A file, and what is in it."""

    file: Path
    attempts: int
    """Finished and failed ones."""
    failed: int
    without_times: int
    """Attempts that are left out: shards and trials of earlier versions of rayforest, which did not say when."""

    def as_dict(self) -> dict[str, object]:
        """The JSON object of the command."""
        counts = {"attempts": self.attempts, "failed": self.failed, "without_times": self.without_times}
        return {"command": "trace", "file": str(self.file), **counts}

    def __str__(self) -> str:
        told = f"wrote {self.file}: {self.attempts:,} attempts, {self.failed:,} of them failed"
        if self.without_times:
            told += f"; {self.without_times:,} of an earlier version of rayforest do not say when, and are left out"
        return f"{told}\nopen it at https://ui.perfetto.dev, or in chrome://tracing"


@dataclass(frozen=True, slots=True)
class TracedAttempt:
    """One attempt, as its file tells it."""

    name: str
    work: Work | None
    details: Mapping[str, Any]
    failed_at: float | None = None
    """Of one that failed: when the driver heard of it, in seconds since 1970."""


def write_trace(destinations: Iterable[str | Path], out: Path) -> WrittenTrace:
    """Write the latest runs of some destinations, published or not, as one trace.

    Args:
        destinations: of stages, folders or URIs.
        out: the file; one that is there is replaced once the new one is whole.

    Raises:
        InputError: no run has begun at a destination.
        ConfigError: the file cannot be written.
        FormatError: a file of an attempt is damaged, of another kind, or newer.
    """
    versions = [_latest(destination) for destination in destinations]
    lanes, attempts, failed, without_times = _Lanes(), 0, 0, 0
    unfinished = out.with_name(f"{out.name}.tmp")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write('{"displayTimeUnit": "ms", "traceEvents": [')
            between = "\n"
            for version in versions:
                for attempt in traced_attempts(version):
                    events = lanes.events(attempt, str(version.ingredients.get("stage", "")))
                    attempts += bool(events)
                    failed += attempt.failed_at is not None
                    without_times += not events
                    for event in events:
                        file.write(between + json.dumps(event))
                        between = ",\n"
            file.write("\n]}\n")
        unfinished.replace(out)
    except OSError as error:
        if error.filename is None or os.fspath(error.filename) not in {str(unfinished), str(out)}:
            raise  # of a store
        raise ConfigError(
            f"the trace cannot be written to {out}",
            expected="a file in a folder that exists and may be written to",
            found=(error.strerror or type(error).__name__).lower(),
            next_step="choose another with --out",
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)
    return WrittenTrace(out, attempts, failed, without_times)


def traced_attempts(version: Version) -> Iterator[TracedAttempt]:
    """Every attempt of a version that has left a file, as the store lists them."""
    store = version.store
    named = re.compile(
        rf"{re.escape(version.base)}/(?:([a-z0-9_-]+)/)??"
        r"(?:(records)/\d+/\d+\.json|(failed)/\d+/\d+-[0-9a-f]+\.json|(trials)/\d+\.json)"
    )

    def read(found: re.Match[str]) -> TracedAttempt | None:
        form, attempt_of = _KINDS[found[2] or found[3] or found[4]]
        step = found[1] or str(version.ingredients.get("stage", "shard"))
        return read_document(store, found[0], form, lambda document: attempt_of(step, document))

    paths = (named.fullmatch(entry.path) for entry in store.list(version.base))
    return (attempt for attempt in in_parallel(store, read, filter(None, paths)) if attempt is not None)


def _finished(step: str, document: Document) -> TracedAttempt:
    record = record_of(document)
    details = {
        "attempt": record.attempt,
        "rows_in": record.rows_in,
        "rows_quarantined": record.rows_quarantined,
        "bytes": record.bytes,
    }
    return TracedAttempt(f"{step} {record.shard}", record.work, details)


def _failed(step: str, document: Document) -> TracedAttempt:
    note = failed_attempt_of(document)
    return TracedAttempt(f"{step} {note.shard} failed", note.work, {"error": note.error}, note.seen)


def _trial(_: str, document: Document) -> TracedAttempt:
    details = {"rounds": document["rounds"], "score": document["score"]}
    return TracedAttempt(f"trial {document['number']}", work_of(document), details)


_KINDS: Mapping[str, tuple[Format, Callable[[str, Document], TracedAttempt]]] = {
    "records": (RECORD, _finished),
    "failed": (FAILED_ATTEMPT, _failed),
    "trials": (TRIAL, _trial),
}


@dataclass
class _Lanes:
    """Numbers of hosts and workers, as the format wants them; their names come with the first event of each."""

    hosts: dict[str, int] = field(default_factory=dict)
    workers: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def events(self, attempt: TracedAttempt, stage: str) -> list[dict[str, Any]]:
        """Of an attempt; none where it does not say when it was."""
        work, details = attempt.work, dict(attempt.details)
        event: dict[str, Any] = {"name": attempt.name, "cat": stage if attempt.failed_at is None else "failed"}
        if attempt.failed_at is not None:
            event["cname"] = "terrible"  # red in chrome://tracing
        if work is not None:
            names, pid, tid = self._lane(work)
            times = {"ph": "X", "ts": _microseconds(work.began), "dur": max(_microseconds(work.seconds), 1)}
            return [*names, event | times | {"pid": pid, "tid": tid, "args": {"run": work.run, **details}}]
        if attempt.failed_at is not None:  # its worker is gone, and nobody knows which it was
            times = {"ph": "i", "s": "g", "ts": _microseconds(attempt.failed_at)}
            return [event | times | {"pid": 0, "tid": 0, "args": details}]
        return []

    def _lane(self, work: Work) -> tuple[list[dict[str, Any]], int, int]:
        names, worker = [], (work.host, work.pid, work.thread)
        if work.host not in self.hosts:
            self.hosts[work.host] = len(self.hosts) + 1
            names.append(_name("process_name", self.hosts[work.host], 0, work.host))
        pid = self.hosts[work.host]
        if worker not in self.workers:
            self.workers[worker] = len(self.workers) + 1
            thread = "" if work.thread == work.pid else f", thread {work.thread}"
            names.append(_name("thread_name", pid, self.workers[worker], f"process {work.pid}{thread}"))
        return names, pid, self.workers[worker]


def _name(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _latest(place: str | Path) -> Version:
    destination = Destination(open_store(place))
    claim = destination.latest_claim()
    if claim is None:
        raise InputError(
            f"there is no run at {destination.store.uri}",
            expected="the destination of a stage, such as ROOT/scored",
            next_step="check the path",
        )
    return destination.version(claim)
