"""Kills, and a store of whose answers some go wrong: drivers reach SeaweedFS through a proxy, and we look past it.

Where the store is stands in the environment, as for users: see object_servers.s3_environment.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cases import ROWS, SHARDS, Case, judged, payments, rayforest
from fault_proxy import FaultProxy, randomly
from violence import Job, contents, ended, kill, pause, send, unnamed_files, wait_until

from rayforest.engine.stores.opening import open_store

INJECTED: Counter[str] = Counter()
"""Faults of all cases so far."""
REQUESTS: Counter[str] = Counter()
"""Requests of all cases so far, by method."""


@contextlib.contextmanager
def faulty_store(rng: random.Random) -> Iterator[tuple[FaultProxy, str]]:
    """The proxy, and a destination that nobody has used."""
    faults = randomly(rng.randrange(1 << 30), rng.choice([0.02, 0.05, 0.1]))
    with FaultProxy(os.environ["AWS_ENDPOINT_URL"], faults) as proxy:
        yield proxy, f"s3://bucket/chaos-{random.SystemRandom().getrandbits(64):016x}"
    INJECTED.update(proxy.injected)
    REQUESTS.update(proxy.requests)


def job_on(folder: Path, proxy: FaultProxy, destination: str, **options: object) -> Job:
    job = Job(folder / "job", dict(options), {"AWS_ENDPOINT_URL": proxy.url})
    job.destination = destination
    return job


def seen(proxy: FaultProxy) -> str:
    return f"{proxy.injected.total()} faults in {len(proxy.exchanges)} requests"


def killed_driver(folder: Path, rng: random.Random) -> str:
    """SIGKILL of the driver at random moments until a run gets through."""
    with faulty_store(rng) as (proxy, destination):
        job, kills = job_on(folder, proxy, destination, pause=0.02), 0
        for _ in range(2):
            driver, before = job.start(), len(job.attempts())
            wait_until(lambda before=before: len(job.attempts()) > before, "an attempt", driver)
            pause(rng, 1.5)
            if driver.poll() is None:
                kill(driver)
                kills += 1
        kept = job.finished_shards()
        job.finish(pause=0)
        judged(job)
        return f"{kills} kills, {kept} shards kept, {seen(proxy)}"


def killed_workers(folder: Path, rng: random.Random) -> str:
    """SIGKILL of Ray workers in the middle of their shards; the same run goes on."""
    with faulty_store(rng) as (proxy, destination):
        job, killed = job_on(folder, proxy, destination, executor="ray", address="local", pause=0.05), 0
        driver = job.start()
        for _ in range(3):
            before = len(job.attempts())
            wait_until(lambda before=before: len(job.attempts()) > before, "another attempt", driver)
            pause(rng, 0.2)
            killed += send(job.attempts()[-1][1], signal.SIGKILL)
        ended(driver)
        judged(job)
        return f"{killed} workers killed, {len(job.attempts())} attempts at {SHARDS} shards, {seen(proxy)}"


def zombie_driver(folder: Path, rng: random.Random) -> str:
    """SIGSTOP of a driver in mid-shard, everything is done again and published, then SIGCONT."""
    with faulty_store(rng) as (proxy, destination):
        job = job_on(folder, proxy, destination, pause=0.05)
        zombie = job.start()
        wait_until(lambda: len(job.attempts()) >= rng.randint(2, 6), "an attempt", zombie)
        pause(rng, 0.3)
        send(zombie.pid, signal.SIGSTOP)
        job.finish(pause=0)
        published = contents(destination)
        send(zombie.pid, signal.SIGCONT)
        assert ended(zombie)["rows_in"] == SHARDS * ROWS
        assert contents(destination) == published
        judged(job)
        return f"{len(job.attempts())} attempts at {SHARDS} shards, {seen(proxy)}"


def two_drivers(folder: Path, rng: random.Random) -> str:
    """Two drivers on one destination at once, one of them killed."""
    with faulty_store(rng) as (proxy, destination):
        job = job_on(folder, proxy, destination, pause=0.02)
        drivers = [job.start(), job.start()]
        wait_until(lambda: len(job.attempts()) >= 4, "attempts")
        pause(rng, 0.5)
        kill(drivers.pop(rng.randrange(2)))
        ended(drivers[0])
        job.finish()
        judged(job)
        return f"{len(job.attempts())} attempts at {SHARDS} shards, {seen(proxy)}"


def silenced_store(folder: Path, rng: random.Random) -> str:
    """The store refuses everything for a while: exit code 3 or 1, nothing is published; afterwards the run goes on."""
    with faulty_store(rng) as (proxy, destination):
        job = job_on(folder, proxy, destination, pause=0.05, patience=0.5)
        driver = job.start()
        wait_until(lambda: len(job.attempts()) >= rng.randint(2, 8), "attempts", driver)
        before, proxy.choose = proxy.choose, randomly(rng.randrange(1 << 30), 1.0)
        driver.communicate()
        assert driver.returncode in (1, 3), driver.returncode
        assert not list(open_store(destination).list("current"))
        proxy.choose = before
        kept = job.finished_shards()
        job.finish(pause=0, patience=180)
        judged(job)
        return f"{kept} shards kept, {seen(proxy)}"


def killed_command(folder: Path, rng: random.Random) -> str:
    """`rayforest prepare` from local files into the store, killed and run again, against an undisturbed local run."""
    project = payments(folder, 20_000)
    with faulty_store(rng) as (proxy, destination):
        arguments = ["prepare", str(project), f"--set=project.root={destination}"]
        through_proxy = {**os.environ, "AWS_ENDPOINT_URL": proxy.url}
        prepared, kept = Job(folder / "looked at"), 0
        prepared.destination = f"{destination}/prepared"
        for _ in range(rng.choice([1, 2])):
            run = subprocess.Popen(
                [sys.executable, "-m", "rayforest.jobs.cli", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=through_proxy,
                text=True,
            )
            wait_until(lambda kept=kept: prepared.finished_shards() > kept, "a finished shard", run)
            pause(rng, 0.4)
            kill(run)
            kept = prepared.finished_shards()
        rayforest(*arguments, environment={"AWS_ENDPOINT_URL": proxy.url})
        rayforest("prepare", str(project), f"--set=project.root={folder / 'undisturbed'}")
        assert contents(prepared.destination) == contents(folder / "undisturbed" / "prepared")
        assert unnamed_files(prepared.destination) == set()
        return f"{kept} of {prepared.finished_shards()} records kept, {seen(proxy)}"


STORE_CASES: dict[str, Case] = {
    "store faults, driver killed": killed_driver,
    "store faults, workers killed, Ray": killed_workers,
    "store faults, zombie": zombie_driver,
    "store faults, two drivers, one killed": two_drivers,
    "store away for a while": silenced_store,
    "store faults, command killed": killed_command,
}
