"""Hold one Ray head: a small process between whoever asked for Ray and Ray itself.

    python -m rayforest.engine.own_ray.keeper FOLDER OWNER_PID COMMAND...

Ray's own processes do not all end when the process that started them is killed (its agents live on). So Ray is
started by this keeper, which does nothing else and therefore has nothing to crash on. It ends every process of its
Ray and removes FOLDER

- when it gets SIGTERM, SIGINT or SIGHUP, or
- when its owner, the parent that started it, is gone, however that ended (unless FOLDER/kept says that this Ray is
  meant to outlive its owner).

It never looks for processes by name. On Linux it is a child subreaper (prctl(2)): whatever it started, directly or
not, stays below it or comes back to it as a child when the process between dies, so "every process below me" is exact.
If the keeper itself is killed, the kernel sends SIGTERM to the head, which then stops its Ray.

When Ray ends by itself, the keeper ends what is left of it, writes FOLDER/ended, and keeps the folder with the logs
until one of the two events above.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rayforest.engine.processes import descendants, send

POLL_S = 0.2
GRACE_S = 10.0
"""How long Ray may take to stop by itself before it is killed."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop or until the owner is gone. Returns the exit code."""
    folder, owner, command = Path(arguments[0]), int(arguments[1]), list(arguments[2:])
    told_to_stop = _listen()
    prctl = _prctl()
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),  # noqa: PLW1509  this process has one thread
        )

    def wanted() -> bool:
        return not told_to_stop and (os.getppid() == owner or (folder / "kept").exists())

    while wanted() and _runs(head):
        time.sleep(POLL_S)
    _end(head)
    if wanted():
        (folder / "ended").touch()
        while wanted():
            time.sleep(POLL_S)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _listen() -> list[int]:
    """A list that gets the number of each stop signal."""
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _frame: received.append(n))
    return received


def _runs(head: subprocess.Popen[bytes]) -> bool:
    """Whether the head runs; reaps it, and every orphan that came to this process, if it has ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == head.pid:
                head.returncode = os.waitstatus_to_exitcode(status)
    return head.returncode is None


def _end(head: subprocess.Popen[bytes]) -> None:
    """Stop the head with grace, then kill whatever is left below this process."""
    # Taken first: without a subreaper (macOS) orphans are no longer below this process afterwards.
    known = descendants(os.getpid())
    if _runs(head):
        os.kill(head.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while _runs(head) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    while left := {*known, *descendants(os.getpid())}:
        for process in left:
            send(process, signal.SIGKILL)
        known = ()
        time.sleep(POLL_S)
        _runs(head)


def _prctl() -> ctypes._NamedFuncPointer | _NoPrctl:
    """prctl(2), looked up before any fork; on other systems than Linux a function that does nothing."""
    if sys.platform != "linux":
        return _NoPrctl()
    return ctypes.CDLL(None).prctl


class _NoPrctl:
    def __call__(self, *_arguments: int) -> int:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
