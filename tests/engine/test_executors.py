"""What both executors promise, and what only Ray can."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tables import Numbers, bytes_of, finished, number_files

from rayforest.engine.attempt import Attempt
from rayforest.engine.executors import (
    Executor,
    InProcess,
    OverdueError,
    WorkerLostError,
    choose_executor,
    ray_calls,
    release_slot,
    versions,
)
from rayforest.engine.log_lines import LogContext
from rayforest.engine.shards import Shard
from rayforest.engine.stores.opening import open_store
from rayforest.errors import ConfigError, InputError


@pytest.fixture(params=["in-process", pytest.param("ray", marks=pytest.mark.ray)])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "ray":
        ray: Executor = request.getfixturevalue("ray_executor")
        return ray
    return InProcess(2)


def square(n: int) -> int:
    return n * n


def fail_on_odd(n: int) -> int:
    if n % 2:
        raise InputError(f"{n} is odd", expected="an even number")
    return n


def test_every_item_has_one_outcome(executor: Executor) -> None:
    outcomes = list(executor.stream(square, range(20)))
    assert sorted((outcome.item, outcome.result()) for outcome in outcomes) == [(n, n * n) for n in range(20)]


def test_an_error_is_an_outcome_and_keeps_its_type_and_parts(executor: Executor) -> None:
    outcomes = {outcome.item: outcome for outcome in executor.stream(fail_on_odd, range(6))}
    assert [outcomes[n].value for n in (0, 2, 4)] == [0, 2, 4]
    for n in (1, 3, 5):
        with pytest.raises(InputError) as raised:
            outcomes[n].result()
        assert raised.value.what == f"{n} is odd"
        assert raised.value.expected == "an even number"


def test_items_are_pulled_only_as_the_window_has_room(executor: Executor) -> None:
    pulled: list[int] = []

    def items() -> Iterator[int]:
        for n in range(12):
            pulled.append(n)
            yield n

    for taken, _ in enumerate(executor.stream(square, items(), window=3)):
        assert len(pulled) <= taken + 3 + 1


def test_an_ordered_stream_feeds_back_without_depending_on_timing(executor: Executor) -> None:
    def play() -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []

        def items() -> Iterator[int]:
            for _ in range(15):
                yield sum(value for _, value in seen) % 7  # what to try next depends on what was seen

        def slowly(n: int) -> int:
            time.sleep(0.02 if n % 2 else 0)
            return n + 1

        for outcome in executor.stream(slowly, items(), window=4, ordered=True):
            seen.append((outcome.item, outcome.result()))
        return seen

    assert play() == play()
    assert [n for n, _ in play()[:4]] == [0, 0, 0, 0]


def test_a_state_is_built_once_and_shared(executor: Executor) -> None:
    def build() -> dict[str, Any]:
        return {"built": f"{os.getpid()} {time.monotonic_ns()}", "running": set()}

    def look(state: dict[str, Any], n: int) -> tuple[str, int]:
        state["running"].add(n)
        time.sleep(0.05)
        together = len(state["running"])
        state["running"].remove(n)
        return state["built"], together

    results = [outcome.result() for outcome in executor.stream(look, range(8), state=build)]
    assert len({built for built, _ in results}) == 1
    assert max(together for _, together in results) == 2


def test_the_next_item_begins_while_one_waits_for_its_store() -> None:
    all_computed = threading.Barrier(4, timeout=30)
    computing, most = set(), []

    def work(n: int) -> int:
        computing.add(n)
        time.sleep(0.02)
        most.append(len(computing))
        computing.remove(n)
        release_slot()
        all_computed.wait()  # four items are here at once, though two places compute
        return n

    assert sorted(outcome.result() for outcome in InProcess(2).stream(work, range(8))) == list(range(8))
    assert max(most) == 2


def test_no_items_are_no_outcomes(executor: Executor) -> None:
    assert list(executor.stream(square, [])) == []


def test_a_closed_stream_starts_nothing_more(executor: Executor, tmp_path: Path) -> None:
    folder = str(tmp_path)

    def touch(n: int) -> int:
        Path(folder, str(n)).touch()
        time.sleep(0.1)
        return n

    stream = executor.stream(touch, range(1000))
    next(stream)
    stream.close()
    time.sleep(0.3)
    started = len(list(tmp_path.iterdir()))
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) == started < 20


def test_an_overdue_thread_is_named_in_the_log_and_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    def slow(n: int) -> int:
        time.sleep(2.5 if n == 0 else 0)
        return n

    with caplog.at_level(logging.WARNING, logger="rayforest.engine"):
        outcomes = [outcome.result() for outcome in InProcess(2).stream(slow, range(3), timeout_s=0.2)]
    assert sorted(outcomes) == [0, 1, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "item 1 runs for more than 0.2 s; a thread cannot be ended, so it is waited for"
    ]


def test_the_choice_of_executor_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    executor, sentence = choose_executor(workers=3)
    assert (executor.name, executor.workers) == ("in-process", 3)
    assert sentence == "in-process, 3 threads: no Ray address is given"
    assert choose_executor("in-process", "ray://elsewhere", 1)[1] == "in-process, 1 thread: run.executor asks for it"
    with pytest.raises(ConfigError, match="spark"):
        choose_executor("spark")


# Only Ray can contain a crash or end an item.


@pytest.mark.ray
def test_an_item_that_kills_its_worker_is_an_outcome_and_the_others_finish(ray_executor: Executor) -> None:
    def die_on_three(n: int) -> int:
        if n == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    outcomes = {outcome.item: outcome for outcome in ray_executor.stream(die_on_three, range(8))}
    assert isinstance(outcomes[3].error, WorkerLostError)
    assert sorted(outcome.item for outcome in outcomes.values() if outcome.error is None) == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.ray
def test_an_overdue_item_is_given_up_and_the_others_finish(ray_executor: Executor) -> None:
    def hang_on_two(n: int) -> int:
        while n == 2:
            time.sleep(60)
        return n

    outcomes = {outcome.item: outcome for outcome in ray_executor.stream(hang_on_two, range(6), timeout_s=2)}
    assert isinstance(outcomes[2].error, OverdueError)
    assert sum(outcome.error is None for outcome in outcomes.values()) == 5


@pytest.mark.ray
def test_time_counts_from_the_start_of_an_item_and_not_from_its_place_in_the_queue(ray_executor: Executor) -> None:
    def half_a_second(n: int) -> int:
        time.sleep(0.5)
        return n

    outcomes = ray_executor.stream(half_a_second, range(12), window=12, timeout_s=2)
    assert sum(outcome.error is None for outcome in outcomes) == 12


@pytest.mark.ray
def test_workers_stay_warm_and_leave_the_cpus_to_each_other(ray_executor: Executor) -> None:
    def look(n: int) -> tuple[int, int, str | None]:
        import pyarrow as pa

        return os.getpid(), pa.cpu_count(), os.environ.get("POLARS_MAX_THREADS")

    seen = [outcome.result() for outcome in ray_executor.stream(look, range(30))]
    assert len({pid for pid, _, _ in seen}) <= 4
    assert {(cpus, polars) for _, cpus, polars in seen} == {(1, "1")}


@pytest.mark.ray
def test_a_node_with_less_memory_than_the_state_needs_is_passed_over(ray_executor: Executor) -> None:
    (node,) = ray_executor.nodes()
    fits = ray_executor.stream(lambda state, item: item, [1], state=dict, state_bytes=node.memory_bytes)
    assert [outcome.result() for outcome in fits] == [1]
    with pytest.raises(WorkerLostError, match="enough memory"):
        list(ray_executor.stream(lambda state, item: item, [1], state=dict, state_bytes=node.memory_bytes + 1))


@pytest.mark.ray
def test_an_actor_that_dies_is_replaced(ray_executor: Executor) -> None:
    def die_on_three(state: int, n: int) -> int:
        if n == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return n

    outcomes = {o.item: o for o in ray_executor.stream(die_on_three, range(10), window=1, state=os.getpid)}
    assert isinstance(outcomes[3].error, WorkerLostError)
    assert sum(outcome.error is None for outcome in outcomes.values()) == 9


PANICS = """
import os, sys, time
from contextlib import nullcontext
from collections.abc import Iterator
from pathlib import Path
from rayforest.engine.executors import RayExecutor
from rayforest.native_output import without_panics

def panic_then_speak(item, who="task"):
    import polars as pl
    if item == 0:
        return repr(pl.Series([2**62]).cast(pl.Datetime("ms")))
    time.sleep(0.5)
    os.write(2, f"said by a native library of a {who}\\n".encode())

def by_actor(state, item):
    return panic_then_speak(item, "shared state")

executor = RayExecutor(workers=1)
for round, panics in enumerate(("hidden", "shown")):
    os.write(2, f"-- {panics}\\n".encode())
    with without_panics() if panics == "hidden" else nullcontext():
        for called, state in (panic_then_speak, None), (by_actor, int):
            outcomes = executor.stream(called, [0, 1], window=1, state=state)
            print(*(type(outcome.error).__name__ for outcome in outcomes))
        while Path(sys.argv[1]).read_text().count("said by") < 2 * (round + 1):
            time.sleep(0.1)
executor.close()
"""


@pytest.mark.ray
def test_a_panic_of_a_worker_is_told_as_its_error_and_as_loud_as_one_of_the_driver(tmp_path: Path) -> None:
    script, told = tmp_path / "panics.py", tmp_path / "stderr.txt"
    script.write_text(PANICS)
    with told.open("w") as stderr:
        done = subprocess.run(
            [sys.executable, str(script), str(told)],
            env=os.environ | {"RAY_DEDUP_LOGS": "0", "RUST_BACKTRACE": "1"},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            check=True,
        )
    assert done.stdout == "PanicException NoneType\n" * 4
    before, hidden, shown = re.split("-- hidden\n|-- shown\n", told.read_text())
    assert "panicked at" not in before
    for said in (hidden, shown):
        assert "said by a native library of a task" in said
        assert "said by a native library of a shared state" in said
    assert "panicked at" not in hidden
    assert "stack backtrace" not in hidden
    assert "panicked at" in shown
    assert "stack backtrace" in shown


@pytest.mark.ray
def test_both_executors_write_the_same_bytes(ray_executor: Executor, tmp_path: Path) -> None:
    files = number_files([2500, 0, 900, 3100])
    threads = finished(open_store(tmp_path / "threads"), files, InProcess(2), Numbers(chunk=100))
    tasks = finished(open_store(tmp_path / "tasks"), files, ray_executor, Numbers(chunk=333))
    assert bytes_of(threads) == bytes_of(tasks)


@pytest.mark.ray
def test_a_worker_that_does_not_see_the_destination_says_so(ray_executor: Executor, tmp_path: Path) -> None:
    class Astray(Numbers):
        """Stands for a machine with a disk of its own: its worker looks for the claim where there is none."""

        def __call__(self, shard: Shard, attempt: Attempt) -> None:
            raise AssertionError("not reached")

    from tables import claimed

    from rayforest.engine.shard_runner import ShardRunner

    version, plan = claimed(open_store(tmp_path / "here"), number_files([10]))
    runner = ShardRunner(
        open_store(tmp_path / "elsewhere"), version.base, "claims/000001.json", Astray(), True, LogContext()
    )
    (outcome,) = ray_executor.stream(runner, plan)
    with pytest.raises(ConfigError, match="does not see the destination"):
        outcome.result()


@pytest.mark.ray
@pytest.mark.parametrize("state", [None, dict])
def test_a_worker_of_other_versions_is_refused_at_once_and_both_are_named(
    ray_executor: Executor, monkeypatch: pytest.MonkeyPatch, state: Any
) -> None:
    mine = versions.installed()
    monkeypatch.setattr(ray_calls, "installed", lambda: {**mine, "polars": "0.1.2", "rayforest": "9.9.9"})
    work = (lambda item: item) if state is None else (lambda _, item: item)
    (outcome,) = ray_executor.stream(work, [1], state=state)
    error = outcome.error
    assert isinstance(error, ConfigError)
    assert error.expected == "rayforest 9.9.9, polars 0.1.2"
    assert f"polars {mine['polars']}" in (error.found or "")
    assert f"rayforest {mine['rayforest']}" in (error.found or "")
    monkeypatch.undo()
    (outcome,) = ray_executor.stream(work, [2], state=state)
    assert outcome.result() == 2
