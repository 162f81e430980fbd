"""Run a task over the shards of a version: skip what is finished, retry what failed, set aside what keeps failing.

Never imports Ray. The driver holds a flag a shard, a window of shards in flight, and totals; everything that a re-run
needs is in the store.
"""

from __future__ import annotations

import errno
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

from rayforest.engine.attempt import new_token
from rayforest.engine.commit import Version
from rayforest.engine.document import read_schema, write_schema
from rayforest.engine.executors import Executor
from rayforest.engine.failed_attempt import FailedAttempt, note_failed
from rayforest.engine.log_lines import LogContext, log_context, logging_as
from rayforest.engine.meter import StepMeter
from rayforest.engine.plan import Plan
from rayforest.engine.policy import Policy
from rayforest.engine.progress import Progress
from rayforest.engine.record import (
    Record,
    add_reasons,
    read_finished,
    read_records,
    schema_path,
    step_folder,
)
from rayforest.engine.shard_runner import Failure, ShardRunner, Task, describe, log
from rayforest.engine.shards import NumberedShards, Shard
from rayforest.engine.stores.requests import in_parallel, settle
from rayforest.errors import InputError, InterruptedRunError, RayforestError, RefusedError, UnfinishedError

_FAILURES_BEFORE_ANY_SUCCESS = 100
"""A run in which this many shards fail before any has ever finished is ended: nothing works."""
_MOST_FAILED = 10_000
"""Failed shards that a run keeps count of before it ends."""
_SHOWN_FAILURES = 5
_LONGEST_PAUSE_S = 10.0
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

Shards = Plan | NumberedShards
"""Of one step, numbered from 0 without gaps."""


@dataclass(frozen=True, slots=True)
class StepTotals:
    """A finished step. Rows, bytes and reasons are those of all shards, resumed ones included."""

    shards: int
    resumed: int
    rows_in: int
    rows_out: int
    rows_quarantined: int
    bytes_out: int
    reasons: dict[str, int]
    """Why rows were quarantined, the most frequent first."""
    seconds: float


def run_step(
    version: Version,
    shards: Shards,
    task: Task,
    executor: Executor,
    *,
    step: str = "",
    policy: Policy = Policy(),  # noqa: B008  frozen
    on_progress: Callable[[Progress], None] | None = None,
) -> StepTotals:
    """Bring every shard of a step to its record.

    Args:
        version: from `Destination.claim`.
        shards: of the step.
        task: what is done with each.
        executor: where it is done.
        step: "" for the main step, whose rows in must be the planned rows; other steps lie in a folder of that name.
        policy: retries, time-out and error budget.
        on_progress: called after each shard.

    Raises:
        UnfinishedError: shards are set aside, the budget is exceeded, or the destination is full.
        InterruptedRunError: Ctrl-C.
        ConfigError, RefusedError, ...: any rayforest error of a shard but InputError ends the run at once.
    """
    if not re.fullmatch(r"([a-z][a-z0-9_-]*)?", step) or step in {"records", "data", "quarantine", "failed"}:
        raise ValueError(f"not a name for a step: {step!r}")
    return _StepRun(version, shards, task, executor, step, policy, on_progress).run()


def records(version: Version, shards: Shards, step: str = "") -> Iterator[Record]:
    """The records of all shards in shard order, each read by its key.

    Raises:
        UnfinishedError: a shard has no record.
    """
    store, folder = version.store, step_folder(version.base, step)
    yield from in_parallel(store, lambda shard: read_finished(store, folder, shard), range(len(shards)))


@dataclass(slots=True)
class _StepRun:
    version: Version
    shards: Shards
    task: Task
    executor: Executor
    step: str
    policy: Policy
    on_progress: Callable[[Progress], None] | None
    done: bytearray = field(init=False)
    failed: dict[int, str] = field(default_factory=dict)
    """Shard -> why, for the round that is running."""
    refused: dict[int, str] = field(default_factory=dict)
    """Shard -> why, where another attempt cannot help."""
    finished: int = 0
    resumed: int = 0
    rows_in: int = 0
    rows_out: int = 0
    rows_quarantined: int = 0
    bytes_out: int = 0
    resumed_rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)
    context: LogContext = field(default_factory=log_context)
    takes_notes: bool = True

    def run(self) -> StepTotals:
        self.done = bytearray(len(self.shards))
        self._settle_schema()
        self._resume()
        runner = ShardRunner(
            self.version.store,
            self.folder,
            f"claims/{self.version.number:06d}.json",
            self.task,
            check_rows=not self.step,
            context=replace(self.context, step=self.step or None),
        )
        try:
            for retry in range(self.policy.retries + 1):
                if not self._round(runner, pause_s=min(0.2 * 2**retry, _LONGEST_PAUSE_S) if retry else 0):
                    break
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"interrupted: {self.finished:,} of {len(self.shards):,} shards are finished and kept",
                next_step="run the same command again to go on",
            ) from None
        if self.failed or self.refused:
            raise self._unfinished("are set aside")
        return StepTotals(
            shards=len(self.shards),
            resumed=self.resumed,
            rows_in=self.rows_in,
            rows_out=self.rows_out,
            rows_quarantined=self.rows_quarantined,
            bytes_out=self.bytes_out,
            reasons=dict(self.reasons.most_common()),
            seconds=time.monotonic() - self.began,
        )

    @property
    def meter(self) -> StepMeter:
        labels = {"stage": self.context.stage or "", "project": self.context.project or ""}
        return StepMeter(self.executor.meter, labels, is_main=not self.step)

    @property
    def folder(self) -> str:
        return step_folder(self.version.base, self.step)

    def _settle_schema(self) -> None:
        path, where = schema_path(self.folder), self.version.store.locate(self.folder)
        standing = settle(self.version.store, path, write_schema(self.task.schema))
        if not read_schema(standing, self.version.store.locate(path)).equals(self.task.schema):
            raise RefusedError(
                f"{where} holds rows of another schema from the same inputs and settings",
                next_step="choose another destination, and please report this: the key should tell the two apart",
            )

    def _resume(self) -> None:
        """Find what is finished. The listing is a hint: a shard that it misses is run, and its record then stands."""
        pattern = re.compile(rf"{re.escape(self.folder)}/records/\d+/(\d+)\.json")
        for entry in self.version.store.list(f"{self.folder}/records"):
            if (name := pattern.fullmatch(entry.path)) and int(name[1]) < len(self.done):
                self.done[int(name[1])] = 1
        listed = (index for index, done in enumerate(self.done) if done)
        for index, record in read_records(self.version.store, self.folder, listed):
            if record is None:
                self.done[index] = 0
            else:
                self._count(record)
        self.resumed, self.resumed_rows = self.finished, self.rows_in
        self._progress()
        self._check_budget()

    def _round(self, runner: ShardRunner, pause_s: float) -> bool:
        """Try every shard that is left once; True if some failed in a way that may pass."""
        tried = self.failed
        if pause_s:
            time.sleep(pause_s)
        again = bool(tried)
        self.failed = {}
        left = (
            shard for shard in self.shards if not self.done[shard.index] and (shard.index in tried if again else True)
        )
        with closing(self.executor.stream(runner, left, timeout_s=self.policy.timeout_s)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome.value, Record):
                    self.done[outcome.item.index] = 1
                    self._count(outcome.value)
                    self.meter.finished(outcome.value, self.context.run or "")
                else:
                    failure = outcome.value
                    error = failure.error if failure is not None else outcome.error
                    if error is not None:
                        self._note(outcome.item, error, failure)
                        self._failed(outcome.item, error)
                self._progress()
                self._check_budget()
        return bool(self.failed)

    def _count(self, record: Record) -> None:
        self.finished += 1
        self.rows_in += record.rows_in
        self.rows_out += record.rows_out
        self.rows_quarantined += record.rows_quarantined
        self.bytes_out += record.bytes
        add_reasons(self.reasons, record.reasons)

    def _note(self, shard: Shard, error: BaseException, failure: Failure | None) -> None:
        """Keep a note of an attempt that failed, where the store takes one: a run is not held up for it twice."""
        self.meter.failed()
        if failure is None:
            with logging_as(shard=shard.index):
                log.warning("attempt failed: %s", describe(error))
        if not self.takes_notes:
            return
        token, work = (failure.token, failure.work) if failure else (new_token(), None)
        try:
            note = FailedAttempt(shard.index, describe(error), round(time.time(), 6), work)
            note_failed(self.version.store, self.folder, token, note)
        except OSError:
            self.takes_notes = False

    def _failed(self, shard: Shard, error: BaseException) -> None:
        if isinstance(error, InputError):
            self.refused[shard.index] = describe(error)
        elif isinstance(error, RayforestError) and type(error) is not RayforestError:
            raise error
        elif isinstance(error, OSError) and error.errno in _NO_ROOM:
            self.failed[shard.index] = describe(error)
            raise self._unfinished("are not finished: the destination takes no more")
        elif isinstance(error, Exception):
            self.failed[shard.index] = describe(error)
        else:
            raise error
        failures = len(self.failed) + len(self.refused)
        if failures >= _MOST_FAILED or (failures >= _FAILURES_BEFORE_ANY_SUCCESS and self.finished == 0):
            raise self._unfinished("failed, so the run was ended early")

    def _check_budget(self) -> None:
        self.policy.judge(
            self.rows_quarantined,
            planned=self.shards.rows,
            seen=self.rows_in,
            reasons=self.reasons,
        )

    def _unfinished(self, what: str) -> UnfinishedError:
        failures = {**self.refused, **self.failed}
        shown = [f"shard {index}: {reason}" for index, reason in sorted(failures.items())[:_SHOWN_FAILURES]]
        if len(failures) > len(shown):
            shown.append(f"and {len(failures) - len(shown):,} more")
        return UnfinishedError(
            f"{len(failures):,} of {len(self.shards):,} shards {what}; nothing was published",
            expected=f"every shard to finish when it is tried {self.policy.retries + 1} times"
            if self.failed
            else "inputs to read",
            found="; ".join(shown),
            next_step="remove the cause and run the same command again: only unfinished shards are tried",
        )

    def _progress(self) -> None:
        self.meter.left(len(self.shards) - self.finished)
        if self.on_progress is None:
            return
        seconds = time.monotonic() - self.began
        rows, shards = self.rows_in - self.resumed_rows, self.finished - self.resumed
        left = len(self.shards) - self.finished
        self.on_progress(
            Progress(
                step=self.step,
                shards=len(self.shards),
                done=self.finished,
                resumed=self.resumed,
                failed=len(self.failed) + len(self.refused),
                rows=self.shards.rows,
                rows_in=self.rows_in,
                rows_out=self.rows_out,
                rows_quarantined=self.rows_quarantined,
                bytes_out=self.bytes_out,
                seconds=seconds,
                rows_per_second=rows / seconds if seconds else 0.0,
                seconds_left=left * seconds / shards if shards else None,
            )
        )
