"""The executor of a Ray cluster: tasks, or one actor a node where calls share a state.

Only this folder imports Ray.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from logging import WARNING
from typing import Any, TypeVar

from rayforest.engine.executors.cluster_watch import watch_cluster
from rayforest.engine.executors.executor import Calls, Executor
from rayforest.engine.executors.gang import Gang, Member, Node
from rayforest.engine.executors.ray_address import FoundRay, RayAddress, find_ray
from rayforest.engine.executors.ray_calls import RayActors, RayTasks, imported_ray
from rayforest.engine.executors.ray_gang import RayGang
from rayforest.engine.executors.ray_meter import RayMeter
from rayforest.engine.own_ray.head import (
    RayHead,
    connect_once,
    patience_with_head_s,
    present_token,
    start_head,
    stay_on_loopback,
    survive_head,
)
from rayforest.errors import RayforestError, UnfinishedError

R = TypeVar("R")


class RayExecutor(Executor):
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
        self.meter = RayMeter()
        self._head: RayHead | None = None
        self._stack = ExitStack()
        if "ray" in sys.modules and sys.modules["ray"].is_initialized():
            sooner_than_ray = patience_with_head_s() / 2
            self._watch = watch_cluster(self._stack, self._check_own_ray, sooner_than_ray)
            return
        patience_s = patience_with_head_s()
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
            stack.enter_context(survive_head())
            stack.callback(imported_ray().shutdown)
            _connect(there.address, quiet=quiet)
            self._watch = watch_cluster(stack, self._check_own_ray, patience_s)
            self._stack = stack.pop_all()

    @property
    def workers(self) -> int:
        """CPUs of the cluster, which may grow and shrink."""
        cpus = max(sum(node.cpus for node in self._watch.nodes().values()), 1)
        return min(cpus, self._limit) if self._limit else cpus

    def nodes(self) -> list[Node]:
        return [node for node in self._watch.nodes().values() if node.cpus]

    def gang(self, make: Callable[[Member], Any], members: int, memory_bytes: int = 0) -> Gang:
        return RayGang(make, members, self.nodes(), memory_bytes, self._limit, self._watch)

    def calls(
        self, fn: Callable[..., R], state: Callable[[], Any] | None, timeout_s: float | None, state_bytes: int
    ) -> Calls[R]:
        if state is None:
            return RayTasks(fn, timeout_s, self._watch)
        return RayActors(fn, state, state_bytes, self._limit, self._watch)

    def close(self) -> None:
        self._stack.close()

    def _check_own_ray(self) -> None:
        if self._head is not None and self._head.has_ended():
            raise UnfinishedError(
                "the Ray that this run had started has ended: it was killed, or the machine is out of memory",
                next_step="run the same command again: finished shards are kept",
            )


def _connect(address: str, *, quiet: bool) -> None:
    try:
        with connect_once():
            imported_ray().init(address=address, log_to_driver=not quiet, logging_level=WARNING)
    except (RuntimeError, ValueError, OSError, AssertionError) as error:  # what Ray raises where it cannot connect
        raise RayforestError(
            f"the connection to Ray at {address} failed",
            found=next(iter(str(error).splitlines()), "")[:300] or type(error).__name__,
            next_step="look at that cluster, or run without Ray: --set run.executor=in-process",
        ) from error
