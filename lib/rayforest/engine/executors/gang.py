"""What works on several nodes at once: a gang of processes, a node each, of which none is of use without the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil


@dataclass(frozen=True, slots=True)
class Node:
    """A machine, or a container's share of one, on which an executor works."""

    cpus: int
    memory_bytes: int
    """For what runs there, whether it is in use or not."""


@dataclass(frozen=True, slots=True)
class Member:
    """What a process of a gang is told of itself."""

    rank: int
    """From 0."""
    members: int
    host: str
    """Address at which the others reach its node."""
    cpus: int
    """For its own."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A value that stays where it was made until a call needs it as an argument."""

    reference: Any


class Gang(Protocol):
    """Processes of a node each, which hold a state each. They end together: a gang that has lost one is no gang."""

    def call(self, fn: Callable[..., Any], *arguments: Any, keep: bool = False) -> list[Any]:
        """`fn(state, *arguments)` by all members at once.

        Args:
            fn: a function, or a method of the state's class.
            arguments: for each of them. A `Kept`, or a list of them, arrives as the value.
            keep: leave the values where they are, and answer with a `Kept` for each.

        Returns:
            a value of each member, by rank.

        Raises:
            WorkerLostError: a member is gone. The others were ended, whatever they waited for.
            ...: what a member raised; here, too, the others were ended.
        """
        ...

    def close(self) -> None:
        """End the members, and give their nodes back."""


def memory_here() -> int:
    """Bytes of memory that this machine, or the container around this process, has."""
    machine = int(psutil.virtual_memory().total)
    limits = [_limit(Path("/sys/fs/cgroup", name)) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([machine, *(limit for limit in limits if limit is not None)])


def _limit(file: Path) -> int | None:
    """A limit of a control group (version 2 or 1); None where there is none."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
