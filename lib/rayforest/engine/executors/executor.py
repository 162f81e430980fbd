"""What an executor is: it runs one function over many items, and gives back one outcome for each.

It pulls items lazily, keeps a window of them in flight, and retries nothing: what failed is for the caller to judge.
All of that is `Executor.stream`. What differs between executors is how one call is started, heard of and given up:
`Calls`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

from rayforest.engine.executors.gang import Gang, Member, Node, memory_here
from rayforest.engine.meter import Meter, NoMeter
from rayforest.errors import ConfigError

POLL_S = 1.0
"""Waits end after so long, to look around."""

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


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


class Calls(Protocol[R_co]):
    """Calls of one function, for one stream. A handle is whatever hashable the executor knows a call by."""

    def start(self, item: Any) -> Any:
        """Start a call, or queue it, and return its handle."""
        ...

    def finished(self, flight: Sequence[Any]) -> Iterable[tuple[Any, R_co | None, BaseException | None]]:
        """Wait for some of the calls in `flight`, `POLL_S` at most: handle, value and error of each that has ended."""
        ...

    def cancel(self) -> None:
        """Give up what has not ended: the stream is over, or nobody wants the rest."""
        ...


class Executor(ABC):
    """Runs a function over items."""

    name: ClassVar[str]
    meter: Meter = NoMeter()
    """Where runs count what they have done."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many items run at once."""

    @abstractmethod
    def calls(
        self, fn: Callable[..., R], state: Callable[[], Any] | None, timeout_s: float | None, state_bytes: int
    ) -> Calls[R]:
        """What one `stream` starts its items with; the arguments are those of the stream."""

    def stream(
        self,
        fn: Callable[..., R],
        items: Iterable[T],
        *,
        window: int | None = None,
        ordered: bool = False,
        timeout_s: float | None = None,
        state: Callable[[], Any] | None = None,
        state_bytes: int = 0,
    ) -> Generator[Outcome[T, R], None, None]:
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
            state_bytes: memory that a node needs for it: nodes with less are passed over.

        Closing the generator, or an exception such as Ctrl-C in it, cancels what has not started. Running threads are
        waited for (`cancelled` tells them); Ray's tasks are ended.
        """
        calls = self.calls(fn, state, timeout_s, state_bytes)
        flight: dict[Any, T] = {}
        upcoming = iter(items)
        try:
            while True:
                room = (window or 2 * self.workers) - len(flight)
                for item in islice(upcoming, max(room, 0)):
                    flight[calls.start(item)] = item
                if not flight:
                    return
                awaited = list(islice(flight, 1)) if ordered else list(flight)
                for handle, value, error in calls.finished(awaited):
                    yield Outcome(flight.pop(handle), value, error)
        finally:
            calls.cancel()

    def nodes(self) -> list[Node]:
        """The nodes that have a CPU for work: this one."""
        return [Node(self.workers, memory_here())]

    def gang(self, make: Callable[[Member], Any], members: int, memory_bytes: int = 0) -> Gang:  # noqa: ARG002
        """Take a node for each member, and hold them until the gang is closed: nothing else runs there meanwhile.

        Args:
            make: makes a member's state, in its process.
            members: how many.
            memory_bytes: that a member needs: nodes with less are passed over.

        Raises:
            ConfigError: this executor has one node.
            UnfinishedError: the nodes did not become free in time.
        """
        raise ConfigError(
            f"the {self.name} executor cannot work on {members} nodes at once",
            expected="a Ray cluster",
            found="no address of one",
            next_step="name it by run.address or RAY_ADDRESS",
        )

    def close(self) -> None:  # noqa: B027  most have nothing to give back
        """Give back workers, and end a Ray that this executor started."""
