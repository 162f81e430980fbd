"""A process is known by its pid and the moment it began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

from waiting import wait_until

from rayforest.engine.processes import descendants, identify, is_running, send

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_a_reused_pid_is_not_the_process_and_gets_no_signal() -> None:
    with subprocess.Popen(SLEEP) as child:
        process = identify(child.pid)
        assert process is not None
        another = replace(process, started="before")
        assert is_running(process)
        assert not is_running(another)
        send(another, signal.SIGKILL)
        assert is_running(process)
        send(process, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not is_running(process)


def test_a_zombie_does_not_run() -> None:
    child = subprocess.Popen(SLEEP)
    process = identify(child.pid)
    assert process in descendants(os.getpid())
    child.kill()
    assert wait_until(lambda: identify(child.pid) is None)
    assert process not in descendants(os.getpid())
    child.wait()
