"""What is done to a run, and what must hold afterwards. Each case returns what it saw, for the long form's table."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import psutil
from violence import (
    Job,
    alive,
    contents,
    ended,
    kill,
    pause,
    rows_once,
    send,
    small_disk,
    unnamed_files,
    wait_until,
)

from rayforest import generate_payments

SHARDS, ROWS = 20, 200
Case = Callable[[Path, random.Random], str]


@cache
def undisturbed() -> list[bytes]:
    """What the job writes when nobody disturbs it."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder))
        job.finish(pause=0)
        return contents(job.destination)


def judged(job: Job) -> None:
    """Every row once, the same bytes as undisturbed, and nothing left lying about."""
    rows_once(job.destination, SHARDS, ROWS)
    assert contents(job.destination) == undisturbed()
    assert unnamed_files(job.destination) == set()


def killed_driver(executor: str) -> Case:
    def case(folder: Path, rng: random.Random) -> str:
        """SIGKILL of the driver at random moments until a run gets through."""
        job = Job(folder / "job", {"executor": executor, "pause": 0.02})
        kills = 0
        for _ in range(2):
            driver, before = job.start(), len(job.attempts())
            wait_until(lambda before=before: len(job.attempts()) > before, "an attempt", driver)
            pause(rng, 0.8)
            if driver.poll() is None:
                kill(driver)
                kills += 1
        left = SHARDS - job.finished_shards()
        result = job.finish(pause=0)
        judged(job)
        return f"{kills} kills, {SHARDS - left} shards kept, {result['resumed']} resumed"

    return case


def killed_workers(folder: Path, rng: random.Random) -> str:
    """SIGKILL of Ray workers in the middle of their shards; the same run goes on."""
    job = Job(folder / "job", {"executor": "ray", "pause": 0.05})
    driver, killed = job.start(), 0
    for _ in range(3):
        before = len(job.attempts())
        wait_until(lambda before=before: len(job.attempts()) > before, "another attempt", driver)
        pause(rng, 0.1)
        killed += send(job.attempts()[-1][1], signal.SIGKILL)
    ended(driver)
    judged(job)
    return f"{killed} workers killed, {len(job.attempts())} attempts at {SHARDS} shards"


def stopped_worker(folder: Path, rng: random.Random) -> str:
    """SIGSTOP of a Ray worker: its shard is overdue and done elsewhere; then SIGCONT."""
    job = Job(folder / "job", {"executor": "ray", "pause": 0.02, "timeout": 2})
    driver = job.start()
    wait_until(lambda: len(job.attempts()) >= rng.randint(1, 8), "an attempt", driver)
    shard, pid = job.attempts()[-1]
    assert send(pid, signal.SIGSTOP)
    wait_until(lambda: [s for s, _ in job.attempts()].count(shard) > 1 or not alive(pid), "another attempt", driver)
    send(pid, signal.SIGCONT)
    ended(driver)
    judged(job)
    return f"shard {shard} had {[s for s, _ in job.attempts()].count(shard)} attempts"


def zombie_driver(executor: str) -> Case:
    def case(folder: Path, rng: random.Random) -> str:
        """SIGSTOP of a worker in mid-shard, everything is done again and published, then SIGCONT: the true zombie."""
        job = Job(folder / "job", {"executor": executor, "pause": 0.05})
        zombie = job.start()
        wait_until(lambda: len(job.attempts()) >= rng.randint(2, 6), "an attempt", zombie)
        stopped = {job.attempts()[-1][1]}
        for pid in stopped:
            send(pid, signal.SIGSTOP)
        job.finish(executor="in-process", pause=0)
        published = contents(job.destination)
        for pid in stopped:
            send(pid, signal.SIGCONT)
        assert ended(zombie)["rows_in"] == SHARDS * ROWS
        assert contents(job.destination) == published
        judged(job)
        return f"{len(job.attempts())} attempts at {SHARDS} shards, {len(stopped)} of them a zombie's"

    return case


def interrupted(executor: str) -> Case:
    def case(folder: Path, rng: random.Random) -> str:
        """Ctrl-C: exit code 130, soon; the next run goes on."""
        job = Job(folder / "job", {"executor": executor, "pause": 0.1})
        driver = job.start()
        wait_until(lambda: len(job.attempts()) >= rng.randint(2, 6), "attempts", driver)
        driver.send_signal(signal.SIGINT)
        assert "run the same command again" in ended(driver, code=130)["error"]["next"]
        kept = job.finished_shards()
        assert kept < SHARDS
        assert job.finish(executor="in-process", pause=0)["resumed"] == kept
        judged(job)
        return f"{kept} of {SHARDS} shards were finished"

    return case


def killed_ray(process: str) -> Case:
    def case(folder: Path, rng: random.Random) -> str:
        """Ray's own processes are killed under the driver: exit code 3, and the next run goes on."""
        job = Job(folder / "job", {"executor": "ray", "address": "local", "pause": 0.1})
        driver = job.start()
        wait_until(lambda: len(job.attempts()) >= rng.randint(2, 6), "attempts", driver)
        (victim,) = (p for p in psutil.Process(driver.pid).children(recursive=True) if p.name() == process)
        victim.kill()
        assert "has ended" in ended(driver, code=3)["error"]["what"]
        kept = job.finished_shards()
        job.finish(executor="in-process", pause=0)
        judged(job)
        return f"{kept} of {SHARDS} shards were finished"

    return case


def two_drivers(folder: Path, rng: random.Random) -> str:
    """Two drivers on one destination at once, one of them killed."""
    job = Job(folder / "job", {"pause": 0.02})
    drivers = [job.start(), job.start()]
    wait_until(lambda: len(job.attempts()) >= 4, "attempts")
    pause(rng, 0.3)
    victim = drivers.pop(rng.randrange(2))
    kill(victim)
    result = ended(drivers[0])
    job.finish()
    judged(job)
    return f"{len(job.attempts())} attempts at {SHARDS} shards, {result['rows_in']} rows in"


def full_disk(folder: Path, rng: random.Random) -> str:
    """The destination's file system is full: exit code 3, nothing published; with more room the next run finishes."""
    size_kib = rng.randint(300, 900)
    with small_disk(folder / "disk", f"{size_kib}k") as disk:
        job = Job(folder / "job", {"pause": 0, "width": 200})
        job.destination = destination = disk / "out"
        error = ended(job.start(), code=3)["error"]
        assert "takes no more" in error["what"]
        assert not (destination / "current").exists()
        kept = job.finished_shards()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert job.finish()["resumed"] == kept
        rows_once(job.destination, SHARDS, ROWS)
        assert unnamed_files(job.destination) == set()
        whole = Job(folder / "whole", job.options)
        whole.finish()
        assert contents(job.destination) == contents(whole.destination)
    return f"{size_kib} KiB: {kept} shards were finished"


def rayforest(*arguments: str, code: int = 0, environment: Mapping[str, str] | None = None) -> str:
    """The command line itself; `environment` comes on top of ours."""
    command = [sys.executable, "-m", "rayforest.jobs.cli", *arguments]
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == code, f"exit code {done.returncode} instead of {code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def payments(folder: Path, rows: int) -> Path:
    """Generated payments, and a project that prepares them in small shards."""
    generate_payments(folder / "data", rows=rows, days=3, seed=3)
    project = folder / "project.toml"
    project.write_text(
        """
        [project]
        name = "chaos"
        root = "out"
        [data]
        source = "data/*.parquet"
        target = "is_fraud"
        key = "payment_id"
        [features]
        amount = "CAST(amount AS DOUBLE)"
        hour = "EXTRACT(HOUR FROM paid_at)"
        [run]
        executor = "in-process"
        workers = 2
        shard_rows = 1000
        """
    )
    return project


def records(prepared: Path) -> int:
    """Finished shards of all steps."""
    return sum(1 for _ in prepared.glob("*/**/records/*/*.json"))


def truncated_input(folder: Path, rng: random.Random) -> str:
    """An input file is cut short before the run."""
    project = payments(folder, 6000)
    victim = sorted((folder / "data").glob("*.parquet"))[1]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: rng.randint(8, len(whole) - 1)])
    rayforest("prepare", str(project), code=2)
    assert not (folder / "out" / "prepared" / "current").exists()
    victim.write_bytes(whole)
    rayforest("prepare", str(project), "--replace")
    return "exit code 2; with the whole file the next run finishes"


def replaced_input(folder: Path, rng: random.Random) -> str:
    """An input file is replaced while the run is on."""
    project = payments(folder, 60_000)
    files = sorted((folder / "data").glob("*.parquet"))
    shutil.copy(files[0], folder / "other")
    prepared = folder / "out" / "prepared"
    run = subprocess.Popen(
        [sys.executable, "-m", "rayforest.jobs.cli", "prepare", str(project)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: any(prepared.glob("*/plan.parquet")), "the plan")
    (folder / "other").replace(files[-1])
    _, err = run.communicate()
    assert run.returncode == 3, f"{run.returncode}\n{err}"
    assert not (prepared / "current").exists()
    rayforest("prepare", str(project), code=2)  # the same destination now belongs to other inputs
    rayforest("prepare", str(project), "--replace")
    return "exit code 3, nothing published; a later run is refused, and finishes with --replace"


def killed_command(executor: str) -> Case:
    def case(folder: Path, rng: random.Random) -> str:
        """`rayforest prepare` on dirty payments, killed and run again, against an undisturbed run."""
        project = payments(folder, 20_000)
        arguments = ["prepare", str(project), f"--set=run.executor={executor}"]
        prepared, kept = folder / "out" / "prepared", 0
        for _ in range(rng.choice([1, 2])):
            run = subprocess.Popen(
                [sys.executable, "-m", "rayforest.jobs.cli", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            wait_until(lambda kept=kept: records(prepared) > kept, "a finished shard", run)
            pause(rng, 0.4)
            kill(run)
            kept = records(prepared)
        rayforest(*arguments)
        rayforest("prepare", str(project), f"--set=project.root={folder / 'undisturbed'}")
        assert contents(folder / "out" / "prepared") == contents(folder / "undisturbed" / "prepared")
        return f"{kept} of {records(prepared)} records kept"

    return case


CASES: dict[str, Case] = {
    "driver killed, in-process": killed_driver("in-process"),
    "driver killed, Ray": killed_driver("ray"),
    "workers killed, Ray": killed_workers,
    "raylet killed, Ray": killed_ray("raylet"),
    "control service killed, Ray": killed_ray("gcs_server"),
    "Ctrl-C, in-process": interrupted("in-process"),
    "Ctrl-C, Ray": interrupted("ray"),
    "worker stopped, overdue, continued, Ray": stopped_worker,
    "zombie, in-process": zombie_driver("in-process"),
    "zombie, Ray": zombie_driver("ray"),
    "two drivers, one killed": two_drivers,
    "full disk": full_disk,
    "truncated input": truncated_input,
    "input replaced during the run": replaced_input,
    "command killed, in-process": killed_command("in-process"),
    "command killed, Ray": killed_command("ray"),
}
