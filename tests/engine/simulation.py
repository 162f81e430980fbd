"""A small world in which the engine's own commit code runs against crashes, lost messages and zombies, by a seed.

Drivers, attempts and readers are simulated processes: threads of which one runs at a time, chosen by the seed at each
call to the store. At each call the seed also decides whether the process dies there, waits for long, or whether the
store fails before the effect, after it (a lost acknowledgement), or lets it happen only later (a delayed message).
Listings may be stale, and the clock jumps.

`World.check` does not use the engine: it reads the store's files and compares rows as multisets.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from rayforest.engine import attempt, publish, run, work
from rayforest.engine.commit import Destination, plan_key
from rayforest.engine.executors import Executor, OverdueError, WorkerLostError
from rayforest.engine.shards import InputFile, Piece, Shard, plan_shards
from rayforest.engine.stores import requests
from rayforest.engine.stores.store import Entry
from rayforest.errors import ConfigError, RefusedError, UnfinishedError


class Killed(BaseException):
    """The simulated process is gone: nothing that it still does has an effect."""


class Violation(AssertionError):
    """A promise was broken."""


def _closed() -> threading.Lock:
    """A lock that the next acquire waits for; cheaper than a semaphore."""
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(eq=False)
class Process:
    """A thread that runs only while it holds the baton."""

    name: str
    body: Callable[[], Any]
    alive: bool = True
    finished: bool = False
    result: Any = None
    error: BaseException | None = None
    wakes: int = 0
    """Step before which it does nothing."""
    cut_off: int = 0
    """Calls to come that will not reach the store."""
    ready: Callable[[], bool] = lambda: True
    children: list[Process] = field(default_factory=list)
    baton: threading.Lock = field(default_factory=_closed)


class Scheduler:
    """Hands the baton from process to process, by the seed."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.steps = 0
        self.processes: list[Process] = []
        self.running: Process | None = None
        self.pending: list[tuple[int, Callable[[], None]]] = []
        self.idle = _closed()

    def spawn(self, name: str, body: Callable[[], Any]) -> Process:
        process = Process(name, body)
        self.processes.append(process)
        if self.running is not None:
            self.running.children.append(process)
        threading.Thread(target=self._live, args=(process,), daemon=True).start()
        return process

    def run(self) -> None:
        """Until every process has finished and every delayed effect has happened."""
        if self._hand_on() is not None:
            self.idle.acquire()
        for _, effect in sorted(self.pending, key=lambda due: due[0]):
            effect()
        self.pending.clear()

    def switch(self) -> None:
        """Let the seed choose who goes on; returns when this process is chosen again."""
        me = self.running
        assert me is not None
        if self._hand_on() is not me:
            me.baton.acquire()
        if not me.alive:
            raise Killed

    def wait(self, ready: Callable[[], bool]) -> None:
        assert self.running is not None
        self.running.ready = ready
        self.switch()

    def _live(self, process: Process) -> None:
        process.baton.acquire()
        try:
            if process.alive:
                process.result = process.body()
        except BaseException as error:
            process.error = error
        process.finished = True
        self.processes.remove(process)
        if self._hand_on(ending=True) is None:
            self.idle.release()

    def _hand_on(self, *, ending: bool = False) -> Process | None:
        """Choose who goes on and let it; the caller has to wait for its own baton."""
        self.steps += 1
        due = [effect for step, effect in self.pending if step <= self.steps]
        if due:
            self.pending = [(step, effect) for step, effect in self.pending if step > self.steps]
            for effect in due:
                effect()
        if not self.processes:
            self.running = None
            return None
        able = [p for p in self.processes if not p.alive or (p.wakes <= self.steps and p.ready())]
        if not able:  # all asleep: the first to wake goes on
            able = [min((p for p in self.processes if p.ready()), key=lambda p: p.wakes)]
        chosen = self.rng.choice(able)
        before, self.running = self.running, chosen
        chosen.ready = lambda: True
        if ending or chosen is not before:
            chosen.baton.release()
        return chosen


@dataclass
class Faults:
    """How likely things go wrong at a call to the store."""

    kill: float = 0.0
    fail: float = 0.0
    lose: float = 0.0
    delay: float = 0.0
    cut: float = 0.0
    pause: float = 0.0
    stale: float = 0.0
    overdue: float = 0.0
    left: int = 0
    """How many more may happen."""


class SimulatedStore:
    """In memory, and unreliable."""

    concurrency = 1
    uri = "simulated://store"

    def __init__(self, scheduler: Scheduler, faults: Faults) -> None:
        self.scheduler, self.faults, self.rng = scheduler, faults, scheduler.rng
        self.files: dict[str, tuple[bytes, float]] = {}
        self.now = 1_800_000_000.0
        self.before: list[str] = []
        """Names as an earlier listing showed them."""
        self.trace: list[str] = []

    # -- the Store protocol

    def get(self, path: str) -> bytes:
        self._call("get", path)
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path][0]

    def create(self, path: str, data: bytes) -> bool:
        return self._effect("create", path, lambda: self._create(path, data))

    @contextlib.contextmanager
    def open_write(self, path: str) -> Iterator[BinaryIO]:
        buffer = io.BytesIO()
        yield buffer
        self._effect("write", path, lambda: self._put(path, buffer.getvalue()))

    def open_read(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(self.get(path))

    def list(self, prefix: str) -> Iterator[Entry]:
        self._call("list", prefix)
        names = list(self.files)
        if self._happens(self.faults.stale):
            names = self.before
        elif self.rng.random() < 0.1:
            self.before = names
        for name in names:
            if name.startswith(f"{prefix}/"):
                data, modified = self.files.get(name, (b"", 0.0))
                yield Entry(name, len(data), modified)

    def size(self, path: str) -> int | None:
        self._call("size", path)
        return len(self.files[path][0]) if path in self.files else None

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._effect("delete", path, lambda path=path: self.files.pop(path, None))

    def locate(self, path: str) -> str:
        return f"{self.uri}/{path}"

    # -- what goes wrong

    def _create(self, path: str, data: bytes) -> bool:
        if path in self.files:
            return False
        self._put(path, data)
        return True

    def _put(self, path: str, data: bytes) -> None:
        self.files[path] = (data, self.clock())

    def clock(self) -> float:
        self.now += self.rng.random()
        if self.rng.random() < 0.01:
            self.now += self.rng.uniform(-7200, 7200)
        return self.now

    def _happens(self, probability: float) -> bool:
        if self.faults.left > 0 and self.rng.random() < probability:
            self.faults.left -= 1
            return True
        return False

    def _call(self, kind: str, path: str) -> None:
        """Every call is a place where another process may go on, or this one may die."""
        me = self.scheduler.running
        assert me is not None
        if not me.alive:
            raise Killed
        if self._happens(self.faults.pause):
            me.wakes = self.scheduler.steps + int(self.rng.expovariate(1 / 60))
        self.scheduler.switch()
        if self._happens(self.faults.kill):
            self.trace.append(f"{me.name} dies before {kind} {path}")
            kill(me, self.rng)
            raise Killed
        if self._happens(self.faults.cut):
            me.cut_off = self.rng.randint(1, 20)
        if me.cut_off:
            me.cut_off -= 1
            self.trace.append(f"{me.name} is cut off at {kind} {path}")
            raise OSError(f"simulated: {kind} {path}")
        if self._happens(self.faults.fail):
            self.trace.append(f"{me.name} fails at {kind} {path}")
            raise OSError(f"simulated: {kind} {path}")
        self.trace.append(f"{me.name} {kind} {path}")

    def _effect(self, kind: str, path: str, effect: Callable[[], Any]) -> Any:
        self._call(kind, path)
        me = self.scheduler.running
        if self._happens(self.faults.delay):
            self.trace.append(f"{me.name} {kind} {path}: delayed")
            me.cut_off = self.rng.choice([0, 0, 8, 12])
            self.scheduler.pending.append((self.scheduler.steps + int(self.rng.expovariate(1 / 60)), effect))
            raise OSError(f"simulated: no answer to {kind} {path}")
        result = effect()
        if self._happens(self.faults.lose):
            self.trace.append(f"{me.name} {kind} {path}: acknowledgement lost")
            raise OSError(f"simulated: answer lost, {kind} {path}")
        return result


def kill(process: Process, rng: random.Random) -> None:
    """The process dies; of the attempts that it started, each may live on as an orphan."""
    process.alive = False
    for child in process.children:
        if rng.random() < 0.5:
            child.alive = False


class SimulatedExecutor(Executor):
    """Attempts as processes. Some are given up while they still run: the true zombies."""

    name = "simulated"
    workers = 2

    def __init__(self, store: SimulatedStore) -> None:
        self.store = store

    def calls(self, fn: Callable[..., Any], *_: object) -> SimulatedCalls:
        return SimulatedCalls(fn, self.store)


class SimulatedCalls:
    """A handle is the process that runs the attempt."""

    def __init__(self, fn: Callable[..., Any], store: SimulatedStore) -> None:
        self.fn, self.store = fn, store

    def start(self, item: Any) -> Process:
        scheduler = self.store.scheduler
        return scheduler.spawn(f"{scheduler.running.name}/{item.index}", lambda: self.fn(item))

    def finished(self, flight: Sequence[Process]) -> Iterator[tuple[Process, Any, BaseException | None]]:
        rng, faults = self.store.rng, self.store.faults
        if self.store._happens(faults.overdue):
            given_up = rng.choice(flight)
            if rng.random() < 0.3:
                given_up.alive = False
            yield given_up, None, OverdueError("simulated")
            return
        self.store.scheduler.wait(lambda: any(p.finished for p in flight) or faults.left > 0)
        for process in [p for p in flight if p.finished]:
            error = WorkerLostError("simulated") if isinstance(process.error, Killed) else process.error
            yield process, process.result, error

    def cancel(self) -> None:
        """Nobody ends an attempt: what the driver no longer waits for runs on as an orphan."""


@dataclass(frozen=True)
class Job:
    """Inputs and what becomes of them. Rows are numbers; every fifth is quarantined."""

    name: str
    files: tuple[InputFile, ...]
    schema = pa.schema([("row", pa.int64()), ("job", pa.string())])

    @property
    def ingredients(self) -> dict[str, Any]:
        return {"job": self.name}

    @property
    def key(self) -> str:
        return plan_key(self.ingredients, [(f.path, f.identity) for f in self.files])

    def __call__(self, shard: Shard, attempt: attempt.Attempt) -> None:
        for row_range in shard.ranges:
            start = int(row_range.uri)
            rows = range(start + row_range.first_row, start + row_range.first_row + row_range.rows)
            attempt.count_in(len(rows))
            good, bad = [r for r in rows if r % 5], [r for r in rows if r % 5 == 0]
            attempt.write(pa.table({"row": good, "job": [self.name] * len(good)}, schema=self.schema))
            if bad:
                columns = {
                    "file": [row_range.path] * len(bad),
                    "row": bad,
                    "reason": ["fifth"] * len(bad),
                    "raw": [""] * len(bad),
                }
                attempt.quarantine(pa.table(columns, schema=run_quarantine))

    def rows(self) -> Iterator[int]:
        for file in self.files:
            yield from range(int(file.uri), int(file.uri) + sum(p.rows for p in file.pieces))


run_quarantine = attempt.QUARANTINE_SCHEMA


class World:
    """One seed: jobs, drivers that die and are started again, a reader, and the judgement."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        rng = self.rng
        self.faults = Faults(
            kill=rng.choice([0, 0.01, 0.03]),
            fail=rng.choice([0, 0.02]),
            lose=rng.choice([0, 0.02, 0.06]),
            delay=rng.choice([0, 0.02, 0.06]),
            cut=rng.choice([0, 0.01]),
            pause=rng.choice([0, 0.02, 0.06]),
            stale=rng.choice([0, 0.2]),
            overdue=rng.choice([0, 0.1, 0.3]),
            left=rng.choice([4, 12, 30]),
        )
        self.scheduler = Scheduler(rng)
        self.store = SimulatedStore(self.scheduler, self.faults)
        self.jobs = [self._job("a"), *([self._job("b")] if rng.random() < 0.4 else [])]
        self.violations: list[str] = []
        self._read_before: dict[bytes, list[dict[str, Any]]] = {}
        self.readings = 0

    def _job(self, name: str) -> Job:
        start, files = (0 if name == "a" else 1000), []
        for number in range(self.rng.randint(1, 4)):
            rows = self.rng.randint(0, 7)
            files.append(
                InputFile(
                    f"{number}", str(start), rows, "", f"{name}{number}", (Piece(0, rows, 0, 0, rows),) if rows else ()
                )
            )
            start += rows
        return Job(name, tuple(files))

    def run(self) -> None:
        """Drivers of every job, twice where the seed says so; then, without faults, one of each to the end."""
        for job in self.jobs:
            for number in range(self.rng.choice([1, 2])):
                lives = self.rng.randint(1, 3)
                self.scheduler.spawn(f"{job.name}{number}", lambda job=job, lives=lives: self._lives(job, lives))
        self.scheduler.spawn("reader", lambda: self._read(6))
        self.scheduler.run()
        self.faults.left = 0
        for job in self.jobs:
            final = self.scheduler.spawn(f"{job.name} at last", lambda job=job: self._drive(job))
            self.scheduler.run()
            if final.error is not None:
                raise Violation(f"a healthy run of {job.name} failed: {final.error!r}") from final.error
        self.check(self.jobs[-1])
        if self.violations:
            raise Violation("; ".join(self.violations))

    def _lives(self, job: Job, lives: int) -> None:
        """A driver that is started again after it died or failed. Its deaths are its own, not its successor's."""
        for life in range(lives):
            driver = self.scheduler.spawn(f"{job.name}.{life}", lambda: self._drive(job))
            self.scheduler.wait(lambda driver=driver: driver.finished)
            allowed = (Killed, OSError, UnfinishedError, RefusedError)
            unreachable = isinstance(driver.error, ConfigError) and isinstance(driver.error.__cause__, OSError)
            if driver.error is not None and not unreachable and not isinstance(driver.error, allowed):
                self.violations.append(f"{job.name}: {type(driver.error).__name__}: {driver.error}")

    def _drive(self, job: Job) -> None:
        destination = Destination(self.store)
        version = destination.claim(job.key, job.ingredients, replace=True)
        plan = version.plan() or version.write_plan(plan_shards(job.files, shard_rows=3, shard_bytes=1 << 30))
        if version.manifest() is None:
            run.run_step(version, plan, job, SimulatedExecutor(self.store))
            publish.publish(version, plan, extra={"note": f"{job.name} {self.rng.random()}".encode()})
        else:
            version.make_current()
        publish.clean(version, grace_s=self.rng.choice([0, 60, 3600]))

    def _read(self, times: int) -> None:
        """What a reader sees at any moment is nothing, or one whole result, also if reading takes long."""
        for _ in range(times):
            reader = self.scheduler.running
            reader.wakes = self.scheduler.steps + int(self.rng.expovariate(1 / 80))
            self.scheduler.switch()
            self._look()

    def _look(self) -> None:
        names = sorted(name for name in self.store.files if name.startswith("current/"))
        if not names:
            return
        key = json.loads(self.store.files[names[-1]][0])["key"]
        self.readings += 1
        for job in self.jobs:
            if job.key == key:
                try:
                    self._compare(job)
                except (Violation, KeyError) as error:
                    self.violations.append(f"a reader: {error!r}")

    def check(self, job: Job) -> None:
        """In the end the last job's result is current and whole, and no result that was ever current has changed."""
        names = sorted(name for name in self.store.files if name.startswith("current/"))
        if json.loads(self.store.files[names[-1]][0])["key"] != job.key:
            raise Violation(f"the current version is not that of {job.name}")
        for name in names:
            key = json.loads(self.store.files[name][0])["key"]
            self._compare(next(job for job in self.jobs if job.key == key))

    def _compare(self, job: Job) -> None:
        """Rows out and rows quarantined, as multisets and in order, against the job's inputs."""
        document = json.loads(self.store.files[f"{job.key}/manifest.json"][0])
        part = self._rows(f"{job.key}/{document['part']['path']}")
        out = [row for shard in part if shard["path"] for row in self._rows(shard["path"])]
        aside = [row for shard in part if shard["quarantine"] for row in self._rows(shard["quarantine"])]
        rows = [row["row"] for row in out]
        expected = [row for row in job.rows() if row % 5]
        if Counter(rows) != Counter(expected):
            raise Violation(f"{job.name}: rows {sorted(rows)} instead of {expected}")
        if rows != expected:
            raise Violation(f"{job.name}: rows out of order")
        if {row["job"] for row in out} - {job.name}:
            raise Violation(f"{job.name}: holds rows of another job")
        if Counter(row["row"] for row in aside) != Counter(row for row in job.rows() if row % 5 == 0):
            raise Violation(f"{job.name}: quarantined rows differ")
        totals = document["totals"]
        if (totals["rows_in"], totals["rows_out"], totals["rows_quarantined"]) != (
            len(rows) + len(aside),
            len(rows),
            len(aside),
        ):
            raise Violation(f"{job.name}: totals {totals} do not add up")

    def _rows(self, path: str) -> list[dict[str, Any]]:
        if path not in self.store.files:
            raise Violation(f"{path} is named and missing")
        data = self.store.files[path][0]
        if data not in self._read_before:
            self._read_before[data] = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False).to_pylist()
        return self._read_before[data]


class _Clock:
    """Stands in for the time module in the engine."""

    def __init__(self, world: World) -> None:
        self.world = world

    def time(self) -> float:
        return self.world.store.clock()

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.world.scheduler.switch()


@contextlib.contextmanager
def simulated(world: World) -> Iterator[World]:
    """The engine's clock and tokens come from the world's seed."""

    def token(_: int = 8) -> str:
        return f"{world.rng.getrandbits(64):016x}"

    class _Secrets:
        token_hex = staticmethod(token)

    replaced = [
        (requests, "time", _Clock(world)),
        (run, "time", _Clock(world)),
        (publish, "time", _Clock(world)),
        (work, "time", _Clock(world)),
        (work, "_place", lambda: ("host", 1, 1)),
        (requests, "secrets", _Secrets),
        (attempt, "secrets", _Secrets),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    for module, name, value in replaced:
        setattr(module, name, value)
    try:
        yield world
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def run_seed(seed: int) -> World:
    """One world from beginning to end. Raises a Violation that names the seed."""
    world = World(seed)
    with simulated(world):
        try:
            world.run()
        except Violation as violation:
            raise Violation(f"seed {seed}: {violation}") from violation
    return world
