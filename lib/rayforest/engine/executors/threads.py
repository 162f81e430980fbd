"""The executor of this process: threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from logging import getLogger
from threading import Event, Semaphore
from typing import Any, TypeVar

from rayforest.engine.executors.executor import POLL_S, Outcome, pump

_log = getLogger("rayforest.engine")
_thread = threading.local()

T = TypeVar("T")
R = TypeVar("R")


class InProcess:
    """Threads of this process: start at once and share memory. Arrow, Polars, onnxruntime, LightGBM release the GIL."""

    name = "in-process"

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers or usable_cpus()

    @property
    def workers(self) -> int:
        return self._workers

    def stream(
        self,
        fn: Callable[..., R],
        items: Iterable[T],
        *,
        window: int | None = None,
        ordered: bool = False,
        timeout_s: float | None = None,
        state: Callable[[], Any] | None = None,
    ) -> Iterator[Outcome[T, R]]:
        leading = () if state is None else (state(),)
        overdue = _OverdueThreads(timeout_s)

        closed, places = Event(), Semaphore(self._workers)

        def run(item: T, number: int) -> R:
            place = _thread.place = _Place(places)
            try:
                if closed.is_set():
                    raise CancelledError
                overdue.started[number] = time.monotonic()
                return fn(*leading, item)
            finally:
                overdue.started.pop(number, None)
                place.leave()

        def prepare_thread() -> None:
            _thread.cancelled = closed

        # Half of the threads may wait for the store while the others compute.
        pool = ThreadPoolExecutor(2 * self._workers, thread_name_prefix="rayforest", initializer=prepare_thread)

        def start(item: T) -> Future[R]:
            overdue.count += 1
            return pool.submit(run, item, overdue.count)

        def finished(flight: Sequence[Future[R]]) -> Iterator[tuple[Future[R], R | None, BaseException | None]]:
            # Never for ever: a signal that comes just before the wait is seen when the wait ends.
            done, _ = wait_for_futures(flight, timeout=POLL_S, return_when=FIRST_COMPLETED)
            overdue.report()
            for future in done:
                error = future.exception()
                yield (future, None, error) if error else (future, future.result(), None)

        try:
            yield from pump(items, start, finished, room=lambda: window or 2 * self._workers, ordered=ordered)
        finally:
            closed.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Nothing is kept between streams."""


def cancelled() -> bool:
    """Whether the stream that the calling thread works for was closed, so that its result is no longer wanted."""
    event: Event | None = getattr(_thread, "cancelled", None)
    return event is not None and event.is_set()


def computed() -> None:
    """The calling item has little left but to wait for a disk or a network: the next one may begin."""
    place: _Place | None = getattr(_thread, "place", None)
    if place is not None:
        place.leave()


def usable_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Place:
    """The right of one thread to compute, given back once."""

    def __init__(self, places: Semaphore) -> None:
        places.acquire()
        self._places: Semaphore | None = places

    def leave(self) -> None:
        if self._places is not None:
            self._places.release()
            self._places = None


class _OverdueThreads:
    """Names once, in the log, each call that runs longer than it should."""

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self.count = 0
        self.started: dict[int, float] = {}
        self._reported: set[int] = set()

    def report(self) -> None:
        if self.timeout_s is None:
            return
        now = time.monotonic()
        running = dict(self.started)
        self._reported &= running.keys()
        for number, since in running.items():
            if now - since > self.timeout_s and number not in self._reported:
                self._reported.add(number)
                _log.warning(
                    "item %d runs for more than %g s; a thread cannot be ended, so it is waited for",
                    number,
                    self.timeout_s,
                )
