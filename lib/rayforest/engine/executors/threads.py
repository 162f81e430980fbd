"""The executor of this process: threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from contextlib import contextmanager
from functools import partial
from logging import getLogger
from threading import Event, Semaphore
from typing import Any, Generic, TypeVar

from rayforest.engine.executors.executor import POLL_S, Calls, Executor
from rayforest.process_settings import usable_cpus

_log = getLogger("rayforest.engine")
_thread = threading.local()

R = TypeVar("R")


class InProcess(Executor):
    """Threads of this process: start at once and share memory. Arrow, Polars, onnxruntime, LightGBM release the GIL."""

    name = "in-process"

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers or usable_cpus()

    @property
    def workers(self) -> int:
        return self._workers

    def calls(
        self,
        fn: Callable[..., R],
        state: Callable[[], Any] | None,
        timeout_s: float | None,
        state_bytes: int,  # noqa: ARG002  there is one node
    ) -> Calls[R]:
        bound = fn if state is None else partial(fn, state())
        return _ThreadCalls(bound, self._workers, timeout_s)


def cancelled() -> bool:
    """Whether the stream that the calling thread works for was closed, so that its result is no longer wanted."""
    event: Event | None = getattr(_thread, "cancelled", None)
    return event is not None and event.is_set()


def release_slot() -> None:
    """Let the next item begin: the calling one has little left but to wait for a disk or a network."""
    slot: _ComputeSlot | None = getattr(_thread, "slot", None)
    if slot is not None:
        slot.release()


class _ComputeSlot:
    """The right of one thread to compute, given back once."""

    def __init__(self, slots: Semaphore) -> None:
        slots.acquire()
        self._slots: Semaphore | None = slots

    def release(self) -> None:
        if self._slots is not None:
            self._slots.release()
            self._slots = None


class _ThreadCalls(Generic[R]):
    """Calls in a pool of threads, of which so many compute at once as there are workers."""

    def __init__(self, fn: Callable[[Any], R], workers: int, timeout_s: float | None) -> None:
        self._fn, self._slots = fn, Semaphore(workers)
        self._cancelled = Event()
        self._overdue = _OverdueThreads(timeout_s)
        self._started = 0
        # Half of the threads may wait for the store while the others compute.
        self._pool = ThreadPoolExecutor(2 * workers, thread_name_prefix="rayforest", initializer=self._prepare_thread)

    def start(self, item: Any) -> Future[R]:
        self._started += 1
        return self._pool.submit(self._run, item, self._started)

    def finished(self, flight: Sequence[Future[R]]) -> Iterator[tuple[Future[R], R | None, BaseException | None]]:
        # Never for ever: a signal that comes just before the wait is seen when the wait ends.
        done, _ = wait_for_futures(flight, timeout=POLL_S, return_when=FIRST_COMPLETED)
        self._overdue.report()
        for future in done:
            error = future.exception()
            yield (future, None, error) if error else (future, future.result(), None)

    def cancel(self) -> None:
        self._cancelled.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _prepare_thread(self) -> None:
        _thread.cancelled = self._cancelled

    def _run(self, item: Any, number: int) -> R:
        slot = _thread.slot = _ComputeSlot(self._slots)
        try:
            if self._cancelled.is_set():
                raise CancelledError
            with self._overdue.watch(number):
                return self._fn(item)
        finally:
            slot.release()


class _OverdueThreads:
    """Names once, in the log, each call that runs longer than it should."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._running: dict[int, float] = {}
        self._reported: set[int] = set()

    @contextmanager
    def watch(self, number: int) -> Iterator[None]:
        self._running[number] = time.monotonic()
        try:
            yield
        finally:
            del self._running[number]

    def report(self) -> None:
        if self._timeout_s is None:
            return
        now = time.monotonic()
        running = dict(self._running)
        self._reported &= running.keys()
        for number, since in running.items():
            if now - since > self._timeout_s and number not in self._reported:
                self._reported.add(number)
                _log.warning(
                    "item %d runs for more than %g s; a thread cannot be ended, so it is waited for",
                    number,
                    self._timeout_s,
                )
