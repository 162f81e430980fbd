"""A limit on the time of calls that have none of their own: name resolution, servers that accept and never answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

R = TypeVar("R")


def within(seconds: float, work: Callable[[], R]) -> R:
    """The result of `work`, which runs in a thread of its own; a thread that is too late is left behind.

    Raises:
        TimeoutError: there is no result after `seconds`.
    """
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # for the caller, who waits
            future.set_exception(error)

    Thread(target=run, daemon=True, name="rayforest-deadline").start()
    return future.result(timeout=seconds)
