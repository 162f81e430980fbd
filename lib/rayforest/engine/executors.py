"""Two ways to run one function over many items: threads of this process, and Ray.

Only this file and `ray_address` import Ray.

An executor pulls items lazily, keeps a window of them in flight, and gives back one outcome for each. It retries
nothing: what failed is for the caller to judge.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_futures
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from logging import WARNING, getLogger
from threading import Event, Semaphore
from typing import Any, Generic, Protocol, TypeVar, cast

from rayforest.engine.library_warnings import hide_library_warnings
from rayforest.engine.ray_address import FoundRay, RayAddress, find_ray, named_address
from rayforest.engine.ray_head import RayHead, connect_once, present_token, start_head, stay_on_loopback
from rayforest.errors import ConfigError, RayforestError, UnfinishedError

_log = getLogger("rayforest.engine")
_POLL_S = 1.0
_LONG_WAIT_S = 60.0
_thread = threading.local()

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


def choose_executor(
    kind: str = "auto", address: str | None = None, workers: int | None = None, *, quiet: bool = False
) -> tuple[Executor, str]:
    """The executor to use, and a sentence that says which and why.

    Args:
        kind: "auto", "in-process" or "ray". "auto" is Ray where there is an address, threads otherwise.
        address: of a Ray cluster; else RAY_ADDRESS; else kind "ray" starts one on this machine.
        workers: items at once at most.
        quiet: do not forward what Ray's workers print.

    Raises:
        ConfigError: no Ray that this process can use answers at the address.
    """
    found = named_address(address)
    if kind == "in-process" or (kind == "auto" and not found):
        threads = InProcess(workers)
        why = "run.executor asks for it" if kind == "in-process" else "no Ray address is given"
        count = "1 thread" if threads.workers == 1 else f"{threads.workers} threads"
        return threads, f"in-process, {count}: {why}"
    if kind in {"auto", "ray"}:
        executor = RayExecutor(found, workers, quiet=quiet)
        why = f"at {found}" if found else "run.executor asks for it; a Ray of its own was started"
        count = "1 task" if executor.workers == 1 else f"{executor.workers} tasks"
        return executor, f"Ray, {count} at once: {why}"
    raise ConfigError(f"no executor is called {kind!r}", expected="auto, in-process or ray", found=kind)


def refuse_unreachable(kind: str, address: str | None) -> None:
    """Refuse the address of a Ray that `choose_executor` could not use; nothing is started.

    Raises:
        ConfigError: no Ray that this process can use answers there.
    """
    named = named_address(address)
    if kind != "in-process" and named is not None:
        with present_token(None):
            find_ray(named)


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
            done, _ = wait_for_futures(flight, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            overdue.report()
            for future in done:
                error = future.exception()
                yield (future, None, error) if error else (future, future.result(), None)

        try:
            yield from _pump(items, start, finished, room=lambda: window or 2 * self._workers, ordered=ordered)
        finally:
            closed.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Nothing is kept between streams."""


class RayExecutor:
    """Ray tasks: a worker process runs one item at a time and stays warm for the next.

    Ray's own retries are off: the caller counts, so that an item which kills its worker is not tried four times as
    often as was asked for.
    """

    name = "ray"

    def __init__(
        self, address: RayAddress | str | None = None, workers: int | None = None, *, quiet: bool = False
    ) -> None:
        """Use the Ray that this process is connected to, or connect to one, or start one that ends with this process.

        Args:
            address: of a running Ray; None starts one on this machine, reachable from it alone.
            workers: items at once at most; all CPUs by default.
            quiet: do not forward what workers print.

        Raises:
            ConfigError: no Ray that this process can use answers at the address.
        """
        self._limit = workers
        self._head: RayHead | None = None
        self._stack = ExitStack()
        if "ray" in sys.modules and sys.modules["ray"].is_initialized():
            return
        with ExitStack() as stack:
            if address is None:
                self._head = start_head(cpus=workers)
                stack.callback(self._head.stop)
                stack.enter_context(present_token(self._head.token))
                there = FoundRay(self._head.address)
            else:
                stack.enter_context(present_token(None))
                there = find_ray(RayAddress(address, from_environment=False) if isinstance(address, str) else address)
            if there.on_loopback:
                stack.enter_context(stay_on_loopback())
            stack.callback(_ray().shutdown)
            _connect(there.address, quiet=quiet)
            self._stack = stack.pop_all()

    @property
    def workers(self) -> int:
        cpus = max(int(_ray().cluster_resources().get("CPU", 1)), 1)
        return min(cpus, self._limit) if self._limit else cpus

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
        calls: _RayTasks | _RayActors
        if state is None:
            calls = _RayTasks(fn, timeout_s, self._see_that_ray_lives)
        else:
            calls = _RayActors(fn, state, self._limit, self._see_that_ray_lives)
        size = _Refreshed(lambda: window or 2 * self.workers)
        try:
            yield from _pump(items, calls.start, calls.finished, room=size, ordered=ordered)
        finally:
            calls.cancel()

    def close(self) -> None:
        self._stack.close()

    def _see_that_ray_lives(self) -> None:
        """Where this executor started Ray; where it did not, Ray itself ends the process after a minute."""
        if self._head is not None and self._head.has_ended():
            raise UnfinishedError(
                "The Ray that this run had started has ended: it was killed, or the machine is out of memory",
                next_step="run the same command again: finished shards are kept",
            )


def cancelled() -> bool:
    """Whether the stream that the calling thread works for was closed, so that its result is no longer wanted."""
    event: Event | None = getattr(_thread, "cancelled", None)
    return event is not None and event.is_set()


class _Place:
    """The right of one thread to compute, given back once."""

    def __init__(self, places: Semaphore) -> None:
        places.acquire()
        self._places: Semaphore | None = places

    def leave(self) -> None:
        if self._places is not None:
            self._places.release()
            self._places = None


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


def _pump(
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


class _Refreshed:
    """A number that costs a request, asked for at most once in ten seconds."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask, self._value, self._asked = ask, 0, float("-inf")

    def __call__(self) -> int:
        if time.monotonic() - self._asked > 10:
            self._value, self._asked = self._ask(), time.monotonic()
        return self._value


class _RayTasks:
    """One Ray task an item. Each task is a generator that first says that it has begun, so that its time is counted
    from there and not from when it was queued.
    """

    def __init__(self, fn: Callable[..., Any], timeout_s: float | None, see_that_ray_lives: Callable[[], None]) -> None:
        self._ray, self._timeout_s, self._see_that_ray_lives = _ray(), timeout_s, see_that_ray_lives
        self._task = self._ray.remote(_run_task).options(num_cpus=1, max_retries=0, num_returns="streaming")
        self._function = self._ray.put(self._ray.cloudpickle.dumps(fn))
        self._begun: dict[Any, float | None] = {}
        self._idle_since = time.monotonic()
        self._done: dict[Any, tuple[Any, BaseException | None]] = {}

    def start(self, item: Any) -> Any:
        handle = self._task.remote(self._function, item)
        self._begun[handle] = None
        return handle

    def finished(self, flight: Sequence[Any]) -> Iterator[tuple[Any, Any, BaseException | None]]:
        if self._begun and not any(handle in self._done for handle in flight):
            ready, _ = self._ray.wait(list(self._begun), num_returns=1, timeout=_POLL_S, fetch_local=False)
            if not ready:
                self._see_that_ray_lives()
                self._report_waiting()
            for handle in ready:
                self._advance(handle)
            self._give_up_overdue()
        for handle in flight:
            if handle in self._done:
                yield (handle, *self._done.pop(handle))

    def cancel(self) -> None:
        for handle in self._begun:
            self._ray.cancel(handle, force=True)
        self._begun.clear()

    def _report_waiting(self) -> None:
        """Say why nothing happens, where no task has begun for long."""
        if any(self._begun.values()):
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > _LONG_WAIT_S:
            self._idle_since = time.monotonic()
            _log.warning(
                "no Ray worker has begun for %g s: the cluster has no free CPU, or its nodes do not have the token of "
                "this process (see RAY_AUTH_MODE)",
                _LONG_WAIT_S,
            )

    def _advance(self, handle: Any) -> None:
        """Take the next thing that a ready task has said: that it has begun, its value, or its error."""
        try:
            said = self._ray.get(next(handle))
        except Exception as error:
            self._end(handle, None, _original(error))
            return
        if self._begun[handle] is None:
            self._begun[handle] = time.monotonic()
        else:
            self._end(handle, said, None)

    def _give_up_overdue(self) -> None:
        if self._timeout_s is None:
            return
        now = time.monotonic()
        for handle, since in list(self._begun.items()):
            if since is not None and now - since > self._timeout_s:
                self._ray.cancel(handle, force=True)
                self._end(handle, None, OverdueError(f"ran for more than {self._timeout_s:g} s"))

    def _end(self, handle: Any, value: Any, error: BaseException | None) -> None:
        del self._begun[handle]
        self._done[handle] = (value, error)


class _RayActors:
    """One Ray actor a node, which holds the state and runs as many items at once as the node has CPUs."""

    def __init__(
        self,
        fn: Callable[..., Any],
        state: Callable[[], Any],
        limit: int | None,
        see_that_ray_lives: Callable[[], None],
    ) -> None:
        self._ray, self._limit, self._see_that_ray_lives = _ray(), limit, see_that_ray_lives
        self._pickled = self._ray.put(self._ray.cloudpickle.dumps((fn, state)))
        self._load: dict[Any, int] = {}
        self._rooms: dict[Any, int] = {}
        self._actor_of: dict[Any, Any] = {}

    def start(self, item: Any) -> Any:
        if not self._load:
            self._place()
        actor = min(self._load, key=lambda actor: self._load[actor] / self._rooms[actor])
        handle = actor.call.remote(item)
        self._load[actor] += 1
        self._actor_of[handle] = actor
        return handle

    def finished(self, flight: Sequence[Any]) -> Iterator[tuple[Any, Any, BaseException | None]]:
        ready, _ = self._ray.wait(list(flight), num_returns=1, timeout=_POLL_S, fetch_local=False)
        if not ready:
            self._see_that_ray_lives()
        for handle in ready:
            actor = self._actor_of.pop(handle)
            if actor in self._load:
                self._load[actor] -= 1
            try:
                yield handle, self._ray.get(handle), None
            except self._ray.exceptions.RayActorError as error:
                self._load.pop(actor, None)  # the next item goes elsewhere, or to a new actor
                yield handle, None, _original(error)
            except Exception as error:
                yield handle, None, _original(error)

    def cancel(self) -> None:
        for actor in self._load:
            self._ray.kill(actor)

    def _place(self) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        left = self._limit or sys.maxsize
        for node in self._ray.nodes():
            cpus = min(int(node["Resources"].get("CPU", 0)), left) if node["Alive"] else 0
            if cpus:
                strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                options = {"num_cpus": cpus, "max_concurrency": cpus, "scheduling_strategy": strategy}
                actor = self._ray.remote(_StateActor).options(**options).remote(self._pickled)
                self._load[actor], self._rooms[actor] = 0, cpus
                left -= cpus
        if not self._load:
            raise WorkerLostError("no node of the cluster has a CPU")


class _StateActor:
    """Runs in a Ray worker: the state, and the function that shares it."""

    def __init__(self, pickled: bytes) -> None:
        hide_library_warnings()
        self._fn, state = _ray().cloudpickle.loads(pickled)
        self._state = state()

    def call(self, item: Any) -> Any:
        return self._fn(self._state, item)


_loaded: tuple[bytes, Callable[..., Any]] | None = None


def _run_task(pickled: bytes, item: Any) -> Iterator[Any]:
    """Runs in a Ray worker, which has one CPU of its own: libraries must not start a thread for each of the node's."""
    global _loaded  # noqa: PLW0603 - what a function holds, such as a bundle, is loaded once a worker
    yield "begun"
    digest = hashlib.sha256(pickled).digest()
    if _loaded is None or _loaded[0] != digest:
        os.environ.setdefault("POLARS_MAX_THREADS", "1")  # read when the function brings Polars in
        import pyarrow as pa

        hide_library_warnings()
        pa.set_cpu_count(1)
        _loaded = (digest, _ray().cloudpickle.loads(pickled))
    yield _loaded[1](item)


def _original(error: BaseException) -> BaseException:
    """What the function raised, or that its worker is gone."""
    if isinstance(error, _ray().exceptions.RayTaskError):
        cause = error.cause
        return cause if isinstance(cause, BaseException) else error
    if isinstance(error, _ray().exceptions.RayError):
        lines = str(error).splitlines()
        return WorkerLostError(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
    return error


def _connect(address: str, *, quiet: bool) -> None:
    try:
        with connect_once():
            _ray().init(address=address, log_to_driver=not quiet, logging_level=WARNING)
    except (RuntimeError, ValueError, OSError, AssertionError) as error:  # what Ray raises where it cannot connect
        raise RayforestError(
            f"the connection to Ray at {address} failed",
            found=next(iter(str(error).splitlines()), "")[:300] or type(error).__name__,
            next_step="look at that cluster, or run without Ray: --set run.executor=in-process",
        ) from error


def _ray() -> Any:
    import ray

    return ray
