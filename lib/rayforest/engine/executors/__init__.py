"""Two ways to run one function over many items: threads of this process, and Ray."""

from rayforest.engine.executors.choose import choose_executor, refuse_unreachable
from rayforest.engine.executors.executor import Executor, Outcome, OverdueError, WorkerLostError
from rayforest.engine.executors.gang import Gang, Kept, Member, Node
from rayforest.engine.executors.on_ray import RayExecutor
from rayforest.engine.executors.threads import InProcess, cancelled, release_slot

__all__ = [
    "Executor",
    "Gang",
    "InProcess",
    "Kept",
    "Member",
    "Node",
    "Outcome",
    "OverdueError",
    "RayExecutor",
    "WorkerLostError",
    "cancelled",
    "choose_executor",
    "refuse_unreachable",
    "release_slot",
]
