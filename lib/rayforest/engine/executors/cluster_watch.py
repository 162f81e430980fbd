"""What a driver must know of its Ray cluster while it works: whether the head answers, whether the driver's own node is
alive, and which nodes there are.

Ray says it badly. Without a head some of its calls wait for ever, and after a minute it ends the process from within,
without an exception. So the head is asked here, by a channel of our own and with a limit on each question, and Ray
leaves the process to us: see `survive_head`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from logging import getLogger
from typing import Any, Protocol

from rayforest.engine.executors.gang import Node
from rayforest.errors import UnfinishedError

_LOOK_S = 5.0
"""Between two looks. One costs a request of a millisecond."""
_ANSWER_S = 5.0
_PAUSE_S = 0.5
_RESUME = "start the cluster again, or another one, and run the same command there: finished shards are kept"
_log = getLogger("rayforest.engine")


class ClusterWatch(Protocol):
    """The cluster that this process is connected to."""

    def nodes(self) -> Mapping[str, Node]:
        """Live nodes, as they were a moment ago; the keys are Ray's ids, in hex.

        Raises:
            UnfinishedError: the cluster is gone.
        """
        ...

    def look(self) -> None:
        """See that the cluster lives.

        Raises:
            UnfinishedError: it is gone.
        """
        ...


def watch_cluster(stack: ExitStack, check_own: Callable[[], None], patience_s: float) -> ClusterWatch:
    """A watch over the cluster that Ray is connected to; what it holds is given back with the stack.

    Args:
        stack: of what the caller holds.
        check_own: raises where this process started the cluster and has seen its end.
        patience_s: how long a head that does not answer is waited for.
    """
    ray = importlib.import_module("ray")  # has no types
    if ray.util.client.ray.is_connected():  # whose server asks the head, and tells of a lost connection by exceptions
        return _ByRay()
    context = ray.get_runtime_context()
    try:
        watch = _ByHead(context.gcs_address, context.get_node_id(), check_own, patience_s)
    except (ImportError, AttributeError):  # a version of Ray that has its parts elsewhere
        return _ByRay()
    stack.callback(watch.close)
    return watch


class _ByHead:
    """Asks the head, now and then, and waits for one that does not answer."""

    def __init__(self, address: str, node_id: str, check_own: Callable[[], None], patience_s: float) -> None:
        self._address, self._node_id, self._check_own, self._patience_s = address, node_id, check_own, patience_s
        self._messages, self._alive = _ray("gcs_service_pb2"), _ray("gcs_pb2").GcsNodeInfo.GcsNodeState.ALIVE
        self._channel = importlib.import_module("ray._private.gcs_utils").create_gcs_channel(address)
        self._service = _ray("gcs_service_pb2_grpc").NodeInfoGcsServiceStub(self._channel)
        self._nodes: dict[str, Node] = {}
        self._looked = float("-inf")

    def nodes(self) -> Mapping[str, Node]:
        self.look()
        return self._nodes

    def look(self) -> None:
        self._check_own()
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._nodes = {node.node_id.hex(): _node(node.resources_total) for node in self._live_nodes()}
        if self._node_id not in self._nodes:
            raise UnfinishedError(
                f"the node that this run worked through is no longer one of the Ray cluster at {self._address}",
                found=f"{len(self._nodes)} other live nodes" if self._nodes else "a head without a live node",
                next_step=_RESUME,
            )
        self._looked = time.monotonic()

    def close(self) -> None:
        self._channel.close()

    def _live_nodes(self) -> list[Any]:
        grpc = importlib.import_module("grpc")
        silent_since, reason = time.monotonic(), ""
        while True:
            request = self._messages.GetAllNodeInfoRequest(state_filter=self._alive)
            try:
                reply = self._service.GetAllNodeInfo(request, timeout=_ANSWER_S)
            except grpc.RpcError as error:
                if not reason:
                    _log.warning("the head of the Ray cluster does not answer; waiting %g s for it", self._patience_s)
                reason = error.code().name.lower().replace("_", " ")
            else:
                return [node for node in reply.node_info_list if node.state == self._alive]
            if time.monotonic() - silent_since > self._patience_s:
                raise UnfinishedError(
                    f"the head of the Ray cluster at {self._address} is gone",
                    expected=f"an answer within {self._patience_s:g} s",
                    found=f"none ({reason})",
                    next_step=_RESUME,
                )
            time.sleep(_PAUSE_S)
            self._check_own()


class _ByRay:
    """What Ray itself says."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._asked = float("-inf")

    def nodes(self) -> Mapping[str, Node]:
        if time.monotonic() - self._asked > _LOOK_S:
            nodes = [node for node in importlib.import_module("ray").nodes() if node["Alive"]]
            self._nodes = {node["NodeID"]: _node(node["Resources"]) for node in nodes}
            self._asked = time.monotonic()
        return self._nodes

    def look(self) -> None: ...


def _node(resources: Mapping[str, float]) -> Node:
    return Node(int(resources.get("CPU", 0)), int(resources.get("memory", 0)))


def _ray(module: str) -> Any:
    return importlib.import_module(f"ray.core.generated.{module}")
