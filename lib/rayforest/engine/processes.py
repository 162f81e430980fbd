"""Processes by identity: a pid and the moment it began, so that a reused pid is never taken for the process."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class ProcessId:
    """One process of this machine, for as long as it lives and never another one after it."""

    pid: int
    started: str
    """When it began, as an opaque text that only `identify` writes."""


def identify(pid: int) -> ProcessId | None:
    """The identity of a running process; None if there is none, or only a zombie that nobody has reaped."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return ProcessId(pid, _started(process))
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def is_running(process: ProcessId) -> bool:
    """Whether exactly this process still runs."""
    return identify(process.pid) == process


def descendants(pid: int) -> tuple[ProcessId, ...]:
    """Every running process below `pid`, parents before their children."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return ()
    found = (identify(child.pid) for child in children)
    return tuple(process for process in found if process is not None)


def send(process: ProcessId, signal_number: int) -> None:
    """Send a signal to exactly this process; nothing happens if it has ended."""
    if is_running(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(process.pid).send_signal(signal_number)


def _started(process: psutil.Process) -> str:
    if sys.platform != "linux":
        return repr(process.create_time())
    # Clock ticks since boot. A wall-clock time, which psutil derives from them, moves when the clock is set.
    stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
    ticks = stat.rpartition(")")[2].split()[19]  # field 22 of proc(5), counted behind the name in parentheses
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{ticks}"
