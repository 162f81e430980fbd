"""Calls of a function in Ray workers: how they are started, how one hears of them, how they are ended."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from logging import getLogger
from typing import Any

from rayforest.engine.executors.cluster_watch import ClusterWatch
from rayforest.engine.executors.executor import POLL_S, OverdueError, WorkerLostError
from rayforest.engine.executors.versions import Versions, installed, refuse_others
from rayforest.engine.library_warnings import hide_library_warnings
from rayforest.engine.log_lines import JsonLines, json_lines_wanted
from rayforest.errors import ConfigError
from rayforest.native_output import hide_panics, panics_are_hidden
from rayforest.process_settings import take_one_thread

Shipped = tuple[Versions, bytes]
"""What a worker gets: the driver's versions, and what it has pickled."""

_LONG_WAIT_S = 60.0
_log = getLogger("rayforest.engine")


class RayTasks:
    """One Ray task an item. Each task is a generator that first says that it has begun, so that its time is counted
    from there and not from when it was queued.
    """

    def __init__(self, fn: Callable[..., Any], timeout_s: float | None, watch: ClusterWatch) -> None:
        self._ray, self._timeout_s, self._watch = imported_ray(), timeout_s, watch
        self._task = _remote(_run_task).options(num_cpus=1, max_retries=0, num_returns="streaming")
        self._function = self._ray.put((installed(), self._ray.cloudpickle.dumps((fn, output_here()))))
        self._begun: dict[Any, float | None] = {}
        self._idle_since = time.monotonic()
        self._done: dict[Any, tuple[Any, BaseException | None]] = {}

    def start(self, item: Any) -> Any:
        handle = self._task.remote(self._function, item)
        self._begun[handle] = None
        return handle

    def finished(self, flight: Sequence[Any]) -> Iterator[tuple[Any, Any, BaseException | None]]:
        if self._begun and not any(handle in self._done for handle in flight):
            self._watch.look()
            ready, _ = self._ray.wait(list(self._begun), num_returns=1, timeout=POLL_S, fetch_local=False)
            if not ready:
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
            self._end(handle, None, original_error(error))
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


class RayActors:
    """One Ray actor a node, which holds the state and runs as many items at once as the node has CPUs."""

    def __init__(
        self,
        fn: Callable[..., Any],
        state: Callable[[], Any],
        state_bytes: int,
        limit: int | None,
        watch: ClusterWatch,
    ) -> None:
        self._ray, self._limit, self._watch = imported_ray(), limit, watch
        self._state_bytes = state_bytes
        self._shipped = self._ray.put((installed(), self._ray.cloudpickle.dumps((fn, state, output_here()))))
        self._load: dict[Any, int] = {}
        self._rooms: dict[Any, int] = {}
        self._actor_of: dict[Any, Any] = {}
        self._nodes: set[str] = set()
        """That have, or had, an actor."""

    def start(self, item: Any) -> Any:
        self._place()
        actor = min(self._load, key=lambda actor: self._load[actor] / self._rooms[actor])
        handle = actor.call.remote(item)
        self._load[actor] += 1
        self._actor_of[handle] = actor
        return handle

    def finished(self, flight: Sequence[Any]) -> Iterator[tuple[Any, Any, BaseException | None]]:
        self._watch.look()
        ready, _ = self._ray.wait(list(flight), num_returns=1, timeout=POLL_S, fetch_local=False)
        for handle in ready:
            actor = self._actor_of.pop(handle)
            if actor in self._load:
                self._load[actor] -= 1
            try:
                yield handle, self._ray.get(handle), None
            except self._ray.exceptions.RayActorError as error:
                self._load.pop(actor, None)  # the next item goes elsewhere, or to a new actor
                yield handle, None, original_error(error)
            except Exception as error:
                yield handle, None, original_error(error)

    def cancel(self) -> None:
        for actor in self._load:
            self._ray.kill(actor)

    def _place(self) -> None:
        """An actor on each node that has joined; where none is left, on all nodes again."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if not self._load:
            self._nodes.clear()
        left = (self._limit or sys.maxsize) - sum(self._rooms[actor] for actor in self._load)
        for name, node in self._watch.nodes().items():
            fits = name not in self._nodes and node.memory_bytes >= self._state_bytes
            cpus = min(node.cpus, left) if fits else 0
            if cpus > 0:
                strategy = NodeAffinitySchedulingStrategy(name, soft=False)
                options = {"num_cpus": cpus, "max_concurrency": cpus, "scheduling_strategy": strategy}
                actor = _remote(_StateActor).options(**options).remote(self._shipped)
                self._load[actor], self._rooms[actor] = 0, cpus
                self._nodes.add(name)
                left -= cpus
        if not self._load:
            raise WorkerLostError("no node of the cluster has a CPU and enough memory")


class _StateActor:
    """Runs in a Ray worker: the state, and the function that shares it."""

    def __init__(self, shipped: Shipped) -> None:
        versions, pickled = shipped
        self._refused: ConfigError | None = None
        try:
            refuse_others(versions)
        except ConfigError as error:  # told by the first call: an actor that fails to start tells less
            self._refused = error
            return
        hide_library_warnings()
        self._fn, state, output = imported_ray().cloudpickle.loads(pickled)
        take_output(output)
        self._state = state()

    def call(self, item: Any) -> Any:
        if self._refused is not None:
            raise self._refused
        return self._fn(self._state, item)


_loaded: tuple[bytes, Callable[..., Any]] | None = None


def _run_task(shipped: Shipped, item: Any) -> Iterator[Any]:
    """Runs in a Ray worker, which has one CPU of its own."""
    global _loaded  # noqa: PLW0603 - what a function holds, such as a bundle, is loaded once a worker
    yield "begun"
    versions, pickled = shipped
    digest = hashlib.sha256(pickled).digest()
    if _loaded is None or _loaded[0] != digest:
        refuse_others(versions)
        take_one_thread()  # before the function brings the libraries in
        hide_library_warnings()
        fn, output = imported_ray().cloudpickle.loads(pickled)
        take_output(output)
        _loaded = (digest, fn)
    yield _loaded[1](item)


def output_here() -> tuple[bool, bool]:
    """What this process does with its output, for its workers to do the same."""
    return panics_are_hidden(), json_lines_wanted()


def take_output(output: tuple[bool, bool]) -> None:
    """Do the same in a worker."""
    panics_hidden, json_lines = output
    if panics_hidden:
        hide_panics()
    if json_lines:
        JsonLines.begin()
    else:
        JsonLines.end()  # of another run, whose worker this was


def original_error(error: BaseException) -> BaseException:
    """What the function raised, or that its worker is gone."""
    if isinstance(error, imported_ray().exceptions.RayTaskError):
        cause = error.cause
        return cause if isinstance(cause, BaseException) else error
    if isinstance(error, imported_ray().exceptions.RayError):
        lines = str(error).splitlines()
        return WorkerLostError(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
    return error


@lru_cache(maxsize=2)
def _remote(code: Any) -> Any:
    """What Ray calls elsewhere. Made once: each new one goes to the head, and Ray waits long for one that is gone."""
    return imported_ray().remote(code)


def imported_ray() -> Any:
    import ray

    return ray
