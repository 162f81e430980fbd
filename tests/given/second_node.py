"""A second node beside that of the tests' cluster, on the same machine: a raylet of its own, with its own workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from waiting import wait_until

from rayforest.cluster.local import ClusterInfo
from rayforest.engine.executors import RayExecutor
from rayforest.engine.own_ray.head import client_settings, present_token

JOIN = """
import sys
from ray._private.node import Node
from ray._private.parameter import RayParams
node = Node(
    RayParams(
        gcs_address=sys.argv[1], node_ip_address="127.0.0.1", num_cpus=1, object_store_memory=100_000_000,
        min_worker_port=0, max_worker_port=0, dashboard_agent_listen_port=0, include_log_monitor=False,
    ),
    head=False, spawn_reaper=False, shutdown_at_exit=True,
)
sys.stdin.read()
"""
"""What `ray start --address` does, but for its refusal of a node on the loopback; ends with its standard input."""


@pytest.fixture(scope="module")
def two_nodes(cluster: ClusterInfo) -> Iterator[RayExecutor]:
    """An executor on the cluster of all tests while it has a second node, of one CPU."""
    environment = os.environ | client_settings(cluster.head.token)
    node = subprocess.Popen([sys.executable, "-c", JOIN, cluster.address], stdin=subprocess.PIPE, env=environment)
    try:
        with present_token(cluster.head.token):
            executor = RayExecutor(cluster.address, quiet=True)
            assert wait_until(lambda: len(executor.nodes()) == 2)
            yield executor
            executor.close()
    finally:
        node.communicate()
