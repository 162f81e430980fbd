"""A gang: processes of a node each, which begin, work and end together."""

from __future__ import annotations

import os
import time

import psutil
import pytest
from waiting import wait_until

from rayforest.engine.executors import InProcess, Member, RayExecutor
from rayforest.errors import ConfigError, InputError


@pytest.mark.ray
def test_members_are_on_a_node_each_and_a_failed_one_ends_all(two_nodes: RayExecutor) -> None:
    def facts(member: Member) -> tuple[Member, int, str]:
        import ray

        return member, os.getpid(), ray.get_runtime_context().get_node_id()

    def fail(member: Member) -> None:
        if member.rank:
            raise InputError("this rank fails", expected="rank 0")
        time.sleep(600)

    gang = two_nodes.gang(lambda member: member, 2)
    found = gang.call(facts)
    assert [member.rank for member, _, _ in found] == [0, 1]
    assert len({node for _, _, node in found}) == 2
    kept = gang.call(lambda member, more: [member.rank] * more, 3, keep=True)
    assert gang.call(lambda _, values: values, kept) == [[[0, 0, 0], [1, 1, 1]]] * 2
    with pytest.raises(InputError, match="this rank fails"):
        gang.call(fail)
    assert wait_until(lambda: not any(psutil.pid_exists(pid) for _, pid, _ in found))


def test_threads_have_one_node() -> None:
    (node,) = InProcess(3).nodes()
    assert node.cpus == 3
    assert 0 < node.memory_bytes <= psutil.virtual_memory().total
    with pytest.raises(ConfigError, match="cannot work on 2 nodes at once"):
        InProcess(3).gang(lambda member: member, 2)
