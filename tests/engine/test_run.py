"""A step over its shards: resume, retries, set-aside shards, budgets, interruption."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tables import Numbers, bytes_of, claimed, finished, number_files, numbers_of

from rayforest.engine import run as run_module
from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Destination
from rayforest.engine.executors import InProcess
from rayforest.engine.policy import Policy
from rayforest.engine.progress import Progress
from rayforest.engine.publish import clean, publish
from rayforest.engine.record import KEPT_REASONS, add_reasons
from rayforest.engine.run import records, run_step
from rayforest.engine.shards import Shard
from rayforest.engine.stores.local import LocalStore
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.store import Store
from rayforest.errors import (
    ConfigError,
    InputError,
    InterruptedRunError,
    RefusedError,
    UnfinishedError,
)

FILES = number_files([2500, 0, 900, 3100])
ROWS = 6500


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module.time, "sleep", lambda seconds: None)


@dataclass(frozen=True)
class Scripted(Numbers):
    """Opens are counted; the script says which attempts at which shard fail, and how."""

    script: dict[int, list[BaseException]] = field(default_factory=dict)
    opened: Counter[int] = field(default_factory=Counter)
    lock: Any = field(default_factory=threading.Lock)

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        with self.lock:
            self.opened[shard.index] += 1
            errors = self.script.get(shard.index, [])
            error = errors.pop(0) if errors else None
        if error is not None:
            attempt.write(self.schema.empty_table())
            raise error
        super().__call__(shard, attempt)


def test_a_run_puts_every_row_out_once_in_order(store: Store) -> None:
    version, plan = claimed(store, FILES)
    totals = run_step(version, plan, Numbers(), InProcess(2))
    assert (totals.shards, totals.resumed, totals.rows_in) == (len(plan), 0, ROWS)
    assert (totals.rows_out, totals.rows_quarantined, totals.reasons) == (5850, 650, {"ends in 7": 650})
    manifest = publish(version, plan)
    if isinstance(store, LocalStore):
        assert numbers_of(manifest) == [n for n in range(ROWS) if n % 10 != 7]


def test_bytes_do_not_depend_on_workers_chunks_retries_or_the_destination(tmp_path: Path) -> None:
    plain = finished(open_store(tmp_path / "plain"), FILES, InProcess(1))
    other = Scripted(chunk=37, script={2: [OSError("once")], 4: [OSError("once"), OSError("twice")]})
    busy = finished(open_store(tmp_path / "busy"), FILES, InProcess(4), other)
    assert bytes_of(plain) == bytes_of(busy)


def test_a_resume_opens_only_what_is_left(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    version, plan = claimed(store, FILES)
    broken = Scripted(script={3: [InputError("unreadable")]})
    with pytest.raises(UnfinishedError):
        run_step(version, plan, broken, InProcess(2))
    again = Scripted()
    version, plan = claimed(store, FILES)
    totals = run_step(version, plan, again, InProcess(2))
    assert again.opened == {3: 1}
    assert (totals.resumed, totals.rows_in, totals.rows_out) == (len(plan) - 1, ROWS, 5850)
    assert numbers_of(publish(version, plan)) == [n for n in range(ROWS) if n % 10 != 7]
    idle = Scripted()
    assert run_step(version, plan, idle, InProcess(2)).resumed == len(plan)
    assert not idle.opened


def test_a_listing_that_misses_finished_shards_costs_work_and_nothing_else(tmp_path: Path) -> None:
    class Forgetful(LocalStore):
        def list(self, prefix: str) -> Any:
            return (entry for entry in super().list(prefix) if "/records/" not in entry.path)

    version, plan = claimed(LocalStore(tmp_path), FILES)
    run_step(version, plan, Numbers(), InProcess(2))
    before = list(records(version, plan))
    version, plan = claimed(Forgetful(tmp_path), FILES)
    task = Scripted()
    assert run_step(version, plan, task, InProcess(2)).rows_out == 5850
    assert not task.opened  # each worker looks for the record by its key first
    assert list(records(version, plan)) == before


def test_what_may_pass_is_tried_again_and_the_users_input_is_not() -> None:
    version, plan = claimed(MemoryStore("retries"), FILES)
    task = Scripted(
        script={
            0: [OSError("a"), ValueError("b"), OSError("c")],  # finishes with the last attempt
            1: [OSError("a")] * 9,
            2: [InputError("in/0000 is truncated")] * 9,
        }
    )
    with pytest.raises(UnfinishedError) as unfinished:
        run_step(version, plan, task, InProcess(2), policy=Policy(retries=3))
    assert task.opened[0] == task.opened[1] == 4
    assert task.opened[2] == 1
    assert unfinished.value.exit_code == 3
    assert "2 of 8 shards are set aside" in unfinished.value.what
    assert "shard 1: OSError: a" in unfinished.value.found
    assert "shard 2: in/0000 is truncated" in unfinished.value.found
    done = {entry.path for entry in version.store.list(f"{version.base}/records") if entry.path.endswith(".json")}
    assert len(done) == len(plan) - 2
    assert Destination(version.store).current() is None


def test_an_unknown_error_is_told_by_its_type_and_place_not_by_its_text() -> None:
    version, plan = claimed(MemoryStore("private"), FILES)
    with pytest.raises(UnfinishedError) as unfinished:
        run_step(
            version, plan, Scripted(script={0: [ValueError("card 4111-1111")]}), InProcess(1), policy=Policy(retries=0)
        )
    assert "ValueError at test_run.py:" in unfinished.value.found
    assert "4111" not in str(unfinished.value)


def test_a_wrong_configuration_ends_the_run_at_once() -> None:
    version, plan = claimed(MemoryStore("configuration"), FILES)
    task = Scripted(script={0: [ConfigError("no column x")]})
    with pytest.raises(ConfigError, match="no column x"):
        run_step(version, plan, task, InProcess(1))
    assert task.opened[0] == 1


def test_a_full_destination_ends_the_run_at_once_and_a_later_run_goes_on() -> None:
    version, plan = claimed(MemoryStore("full"), FILES)
    task = Scripted(script={2: [OSError(errno.ENOSPC, "No space left on device")]})
    with pytest.raises(UnfinishedError, match="takes no more") as full:
        run_step(version, plan, task, InProcess(1))
    assert "No space left" in full.value.found
    assert task.opened[2] == 1
    assert run_step(version, plan, Scripted(), InProcess(1)).rows_in == ROWS


def test_a_run_in_which_nothing_works_ends_early() -> None:
    version, plan = claimed(MemoryStore("hopeless"), number_files([10] * 300), shard_rows=1)
    task = Scripted(script={index: [OSError("x")] for index in range(3000)})
    with pytest.raises(UnfinishedError, match="ended early"):
        run_step(version, plan, task, InProcess(1))
    assert len(task.opened) < 150


def test_of_very_many_reasons_the_most_frequent_ones_are_kept() -> None:
    reasons = Counter[str]()
    for shard in range(500):
        add_reasons(reasons, {"the key is repeated": 5, **{f"too many fields: {shard * 10 + n}": 1 for n in range(10)}})
    assert len(reasons) <= 2 * KEPT_REASONS
    assert reasons.most_common(1) == [("the key is repeated", 2500)]


@pytest.mark.parametrize("budget", [649, 0.0999, 0, 0.0])
def test_more_quarantined_rows_than_the_budget_end_the_run_with_the_reasons(budget: float) -> None:
    version, plan = claimed(MemoryStore(f"budget {budget}"), FILES)
    with pytest.raises(UnfinishedError) as exceeded:
        run_step(version, plan, Numbers(), InProcess(1), policy=Policy(error_budget=budget))
    assert exceeded.value.exit_code == 3
    assert "ends in 7 (" in exceeded.value.found
    with pytest.raises(UnfinishedError):  # a re-run comes to the same verdict from the records
        run_step(version, plan, Numbers(), InProcess(1), policy=Policy(error_budget=budget))
    assert run_step(version, plan, Numbers(), InProcess(1), policy=Policy(error_budget=0.1)).rows_quarantined == 650


@pytest.mark.parametrize("budget", [None, 650, 0.1, 5000])
def test_quarantined_rows_within_the_budget_do_not_end_the_run(budget: float | None) -> None:
    version, plan = claimed(MemoryStore(f"within {budget}"), FILES)
    assert run_step(version, plan, Numbers(), InProcess(1), policy=Policy(error_budget=budget)).rows_quarantined == 650


def test_an_interrupted_run_keeps_finished_shards_and_says_how_to_go_on() -> None:
    version, plan = claimed(MemoryStore("interrupted"), FILES)

    def stop(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(InterruptedRunError) as interrupted:
        run_step(version, plan, Scripted(), InProcess(2), on_progress=stop)
    assert interrupted.value.exit_code == 130
    assert "3 of 8 shards are finished" in interrupted.value.what
    again = Scripted()
    totals = run_step(version, plan, again, InProcess(2))
    assert totals.resumed >= 3
    assert sum(again.opened.values()) == len(plan) - totals.resumed


def test_an_interrupted_shard_ends_at_its_next_write() -> None:
    writing, stopped = threading.Event(), threading.Event()

    class Endless(Numbers):
        def __call__(self, shard: Shard, attempt: Attempt) -> None:
            try:
                while True:
                    attempt.write(self.schema.empty_table())
                    writing.set()
            finally:
                stopped.set()

    def interrupt() -> None:
        writing.wait()
        os.kill(os.getpid(), signal.SIGINT)

    version, plan = claimed(MemoryStore("endless"), number_files([1]))
    threading.Thread(target=interrupt).start()
    with pytest.raises(InterruptedRunError):
        run_step(version, plan, Endless(), InProcess(1))
    assert stopped.wait(60)  # the thread is told, not waited for


def test_steps_of_a_version_lie_beside_each_other_and_may_write_other_rows() -> None:
    class Survey(Numbers):
        def __call__(self, shard: Shard, attempt: Attempt) -> None:
            attempt.sidecar(f"survey of {shard.index}".encode())

    version, plan = claimed(MemoryStore("steps"), FILES)
    run_step(version, plan, Survey(), InProcess(2), step="survey")
    run_step(version, plan, Numbers(), InProcess(2))
    sidecars = [version.store.get(r.sidecar) for r in records(version, plan, "survey") if r.sidecar]
    assert sidecars == [f"survey of {n}".encode() for n in range(len(plan))]
    assert publish(version, plan).rows_in == ROWS


def test_the_main_step_must_take_in_every_planned_row() -> None:
    class Blind(Numbers):
        def __call__(self, shard: Shard, attempt: Attempt) -> None:
            pass

    version, plan = claimed(MemoryStore("blind"), FILES)
    with pytest.raises(UnfinishedError, match="shards are set aside"):
        run_step(version, plan, Blind(), InProcess(1), policy=Policy(retries=0))


def test_rows_of_another_schema_under_the_same_key_are_refused() -> None:
    import pyarrow as pa

    class Other(Numbers):
        schema = pa.schema([("number", pa.float64())])

    version, plan = claimed(MemoryStore("schemas"), FILES)
    run_step(version, plan, Numbers(), InProcess(1))
    with pytest.raises(RefusedError, match="another schema"):
        run_step(version, plan, Other(), InProcess(1))


def test_two_drivers_at_once_give_one_result(make_store: Callable[[], Store]) -> None:
    task, failures = Scripted(), []

    def drive() -> None:
        try:
            version, plan = claimed(make_store(), FILES)
            run_step(version, plan, task, InProcess(2))
            publish(version, plan)
        except BaseException as error:
            failures.append(error)

    drivers = [threading.Thread(target=drive) for _ in range(2)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert not failures
    version, _ = claimed(make_store(), FILES)
    manifest = version.manifest()
    assert manifest is not None
    assert (manifest.rows_in, manifest.rows_out) == (ROWS, 5850)
    clean(version)  # a loser takes its own files away, unless a busy store did not answer it
    data = {entry.path for entry in make_store().list(f"{version.base}/data")}
    assert data == set(manifest.data_paths())


def test_progress_counts_up_to_the_whole_and_is_json() -> None:
    seen: list[Progress] = []
    version, plan = claimed(MemoryStore("progress"), FILES)
    run_step(version, plan, Numbers(), InProcess(1), on_progress=seen.append)
    assert [p.done for p in seen] == list(range(len(plan) + 1))
    last = seen[-1]
    assert (last.rows_in, last.rows, last.left, last.failed, last.rows_quarantined) == (ROWS, ROWS, 0, 0, 650)
    assert seen[3].seconds_left is not None
    assert json.loads(json.dumps(last.as_dict()))["event"] == "progress"
    assert str(last).startswith("8 of 8 shards, 6,500 rows, ")
