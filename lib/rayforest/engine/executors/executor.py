"""What an executor is: it runs one function over many items, and gives back one outcome for each.

It pulls items lazily, keeps a window of them in flight, and retries nothing: what failed is for the caller to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar, cast

POLL_S = 1.0
"""Waits end after so long, to look around."""

T = TypeVar("T")
R = TypeVar("R")
H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T, R]):
    """What became of an item: a value, or the error that it ended with."""

    item: T
    value: R | None = None
    error: BaseException | None = None

    def result(self) -> R:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return cast("R", self.value)


class WorkerLostError(Exception):
    """The process or node that ran the item is gone: killed, crashed, or out of memory."""


class OverdueError(Exception):
    """The item ran longer than allowed and was given up."""


class Executor(Protocol):
    """Runs a function over items."""

    name: str

    @property
    def workers(self) -> int:
        """How many items run at once."""
        ...

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
        """Yield an outcome for each item.

        Args:
            fn: called as `fn(item)`, or as `fn(state, item)` where a state is given.
            items: pulled when there is room in the window, never ahead of it.
            window: items in flight at most; twice the workers by default.
            ordered: outcomes in input order. Item n is then pulled only after outcome n - window was taken, so what
                a producer of items has seen by then does not depend on timing.
            timeout_s: from the start of an item. Ray gives it up with an OverdueError and cancels it. Threads cannot
                be ended, nor calls that share a state: these are named in the log and waited for.
            state: makes an object once in this process (threads) or once a node (Ray actor); calls share it from
                several threads.

        Closing the iterator, or an exception such as Ctrl-C in it, cancels what has not started. Running threads are
        waited for (`cancelled` tells them); Ray's tasks are ended.
        """
        ...

    def close(self) -> None:
        """Give back workers, and end a Ray that this executor started."""
        ...


def pump(
    items: Iterable[T],
    start: Callable[[T], H],
    finished: Callable[[Sequence[H]], Iterable[tuple[H, R | None, BaseException | None]]],
    *,
    room: Callable[[], int],
    ordered: bool,
) -> Iterator[Outcome[T, R]]:
    """Keep the window full, and yield what has finished."""
    flight: dict[H, T] = {}
    upcoming = iter(items)
    while True:
        for item in islice(upcoming, max(room() - len(flight), 0)):
            flight[start(item)] = item
        if not flight:
            return
        awaited = list(islice(flight, 1)) if ordered else list(flight)
        for handle, value, error in finished(awaited):
            yield Outcome(flight.pop(handle), value, error)
