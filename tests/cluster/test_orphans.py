"""Who cleans up after a driver that was killed while it ran Ray: the keeper that it had started."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from waiting import wait_until

from rayforest.engine.processes import descendants, identify, is_running

DRIVER = """
import time
import ray  # before the executor sets its environment: the harder order
from rayforest.engine.executors import choose_executor

def work(_item):
    print("working", flush=True)
    time.sleep(600)

executor, _ = choose_executor("ray", workers=1)
for _ in executor.stream(work, [0]):
    pass
"""


@pytest.mark.ray
@pytest.mark.chaos
def test_after_sigkill_of_a_driver_nothing_of_its_ray_is_left(tmp_path: Path, state_home: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        said = driver.stdout.readline()  # Ray forwards what the worker prints
        assert "working" in said
        everything = descendants(driver.pid)
        keeper = psutil.Process(everything[0].pid).cmdline()
        folder = Path(keeper[keeper.index("rayforest.engine.own_ray.keeper") + 1])
        assert len(everything) > 8
        assert (folder / "token").exists()
        bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        driver.send_signal(signal.SIGKILL)
    try:
        assert wait_until(lambda: not any(is_running(process) for process in everything))
        assert wait_until(lambda: not folder.exists())
        assert identify(bystander.pid) is not None
    finally:
        bystander.kill()
        bystander.wait()
