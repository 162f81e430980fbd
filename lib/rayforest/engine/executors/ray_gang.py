"""A gang of Ray actors, one a node, placed all at once or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from typing import Any

from rayforest.engine.executors.cluster_watch import ClusterWatch
from rayforest.engine.executors.executor import POLL_S
from rayforest.engine.executors.gang import Kept, Member, Node
from rayforest.engine.executors.ray_calls import Shipped, imported_ray, original_error, output_here, take_output
from rayforest.engine.executors.versions import installed, refuse_others
from rayforest.engine.library_warnings import hide_library_warnings
from rayforest.errors import UnfinishedError

PLACEMENT_S = 600.0
"""A cluster that grows gets so long to bring the nodes."""

_log = getLogger("rayforest.engine")


class RayGang:
    """See `Gang`. All members are of one size: that of the smallest node that may be taken."""

    def __init__(
        self,
        make: Callable[[Member], Any],
        members: int,
        nodes: list[Node],
        memory_bytes: int,
        limit: int | None,
        watch: ClusterWatch,
    ) -> None:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._ray, self._watch = imported_ray(), watch
        largest = sorted((node.cpus for node in nodes if node.memory_bytes >= memory_bytes), reverse=True)
        cpus = min(largest[:members], default=1)
        if limit is not None:
            cpus = max(min(cpus, limit // members), 1)
        bundle = {"CPU": cpus} | ({"memory": memory_bytes} if memory_bytes else {})
        self._actors: list[Any] = []
        self._place = self._ray.util.placement_group([bundle] * members, strategy="STRICT_SPREAD")
        try:
            self._wait_for_nodes(members, len(nodes), cpus)
            shipped = self._ray.put((installed(), self._ray.cloudpickle.dumps((make, output_here()))))
            for rank in range(members):
                strategy = PlacementGroupSchedulingStrategy(self._place, placement_group_bundle_index=rank)
                options = {"num_cpus": cpus, "scheduling_strategy": strategy}
                self._actors.append(
                    self._ray.remote(_MemberActor).options(**options).remote(shipped, rank, members, cpus)
                )
        except BaseException:
            self.close()
            raise

    def call(self, fn: Callable[..., Any], *arguments: Any, keep: bool = False) -> list[Any]:
        answers = [actor.call.remote(fn, arguments, keep) for actor in self._actors]
        waiting = answers
        try:
            while waiting:
                ready, waiting = self._ray.wait(waiting, num_returns=1, timeout=POLL_S)
                self._watch.look()
                for answer in ready:  # an error ends the gang at once: the others may wait for its member for ever
                    self._ray.get(answer)
            return list(self._ray.get(answers))
        except BaseException as error:
            self.close()
            raise original_error(error) from None

    def close(self) -> None:
        for actor in self._actors:
            with suppress(Exception):  # it is gone, or Ray is
                self._ray.kill(actor)
        self._actors = []
        with suppress(Exception):
            self._ray.util.remove_placement_group(self._place)

    def _wait_for_nodes(self, members: int, there: int, cpus: int) -> None:
        began = time.monotonic()
        while not self._place.wait(POLL_S):
            self._watch.look()
            waited = time.monotonic() - began
            if waited > PLACEMENT_S:
                raise UnfinishedError(
                    f"a model that is trained on {members} nodes at once found no place",
                    expected=f"{members} nodes with {cpus} free CPUs each",
                    found=f"{there} nodes with a CPU, or others at work on them, for {PLACEMENT_S:.0f} s",
                    next_step="start more nodes, or set tune.nodes to what there is",
                )
            if int(waited / 60) > int((waited - POLL_S) / 60):
                _log.warning("waiting for %d nodes with %d free CPUs each; the cluster has %d", members, cpus, there)


class _MemberActor:
    """Runs in a Ray worker, one call at a time on one thread: LightGBM's network belongs to a thread."""

    def __init__(self, shipped: Shipped, rank: int, members: int, cpus: int) -> None:
        self._shipped: Shipped | None = shipped
        self._member = Member(rank, members, imported_ray().util.get_node_ip_address(), cpus)
        self._state: Any = None

    def call(self, fn: Callable[..., Any], arguments: tuple[Any, ...], keep: bool) -> Any:
        if self._shipped is not None:  # here, as an actor that fails to start tells less
            versions, pickled = self._shipped
            refuse_others(versions)
            hide_library_warnings()
            make, output = imported_ray().cloudpickle.loads(pickled)
            take_output(output)
            self._state, self._shipped = make(self._member), None
        value = fn(self._state, *map(_arrived, arguments))
        return Kept(imported_ray().put(value)) if keep else value


def _arrived(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_arrived(item) for item in argument]
    return imported_ray().get(argument.reference) if isinstance(argument, Kept) else argument
