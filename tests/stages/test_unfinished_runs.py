"""What `show` tells of a run that has not finished: from the store alone, in so many requests for any run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from command import rayforest as command
from counting_store import CountingStore
from small_projects import Listener, orders, write_orders, write_project

import rayforest
from rayforest.engine.attempt import Attempt
from rayforest.engine.commit import Destination, plan_key
from rayforest.engine.executors import InProcess
from rayforest.engine.policy import Policy
from rayforest.engine.run import run_step
from rayforest.engine.shards import InputFile, Piece, Shard, plan_shards
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.store import Store
from rayforest.engine.unfinished import unfinished_run
from rayforest.errors import InputError, InterruptedRunError, UnfinishedError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_orders(tmp_path, orders(400), files=4)
    return write_project(tmp_path, run="shard_rows = 100")


class Interrupter(Listener):
    """Looks at the destination once a step has so many shards, and presses Ctrl-C."""

    def __init__(self, destination: Path, done: int) -> None:
        super().__init__()
        self.destination, self.done = destination, done
        self.seen: dict[str, Any] = {}

    def progress(self, step: str, progress: Any) -> None:
        if step == "prepare" and progress.done == self.done:
            self.seen = rayforest.show(self.destination)
            raise KeyboardInterrupt


def interrupted(project: Path, done: int, *overrides: str, replace: bool = False) -> dict[str, Any]:
    """What was shown while the run was at it; at least `done` of its shards have their records."""
    interrupter = Interrupter(project.parent / "out" / "prepared", done)
    with pytest.raises(InterruptedRunError):
        rayforest.prepare(project, reporter=interrupter, overrides=overrides, replace=replace)
    return interrupter.seen


def test_a_running_run_and_an_interrupted_one_say_how_far_they_are(project: Path) -> None:
    for shown in (interrupted(project, 2), rayforest.show(project.parent / "out" / "prepared")):
        assert set(shown) == {"command", "destination", "unfinished_run"}
        run: Any = shown["unfinished_run"]
        assert (run["stage"], run["shards"], run["rows"], run["failed"]) == ("prepare", 4, 400, 0)
        assert run["done"] in {2, 3}, "a thread may have ended another shard by then"
        assert run["rows_in"] == 100 * run["done"]
        assert run["steps"]["survey"] == 4
        assert run["version"].endswith(f"/out/prepared/{Path(run['version']).name}")
        assert Path(run["version"]).name.startswith(run["plan_key"])
        since, sign = (datetime.fromisoformat(run[name]) for name in ("since", "last_sign_of_life"))
        assert since.tzinfo is not None
        assert since <= sign
        assert 0 <= run["seconds_ago"] < 3600


def test_what_is_finished_is_shown_as_such_and_no_run_is_an_error(project: Path) -> None:
    interrupted(project, 1)
    rayforest.prepare(project)
    shown = rayforest.show(project.parent / "out" / "prepared")
    assert shown["rows_in"] == 400
    assert "unfinished_run" not in shown
    with pytest.raises(InputError, match="no published result"):
        rayforest.show(project.parent / "out" / "scored")


def test_beside_a_result_stands_the_run_that_is_to_replace_it(project: Path) -> None:
    rayforest.prepare(project)
    interrupted(project, 1, "run.shard_rows=50", replace=True)
    answer = command("show", project.parent / "out" / "prepared", "--json")
    assert (answer.code, answer.json["shards"], answer.json["unfinished_run"]["shards"]) == (0, 4, 8)
    assert Path(answer.json["version"]).name[:12] != answer.json["unfinished_run"]["plan_key"]
    told = command("show", project.parent / "out" / "prepared")
    assert "unfinished_run" in told.out
    assert "last_sign_of_life" in told.out


def test_trials_of_a_search_are_counted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class AfterOneTrial(Listener):
        def say(self, message: str) -> None:
            if message.startswith("tune: trial 1/"):
                raise KeyboardInterrupt

    rayforest.prepare(project)
    with pytest.raises(KeyboardInterrupt):
        rayforest.tune(project, reporter=AfterOneTrial())
    run: Any = rayforest.show(project.parent / "out" / "tuned")["unfinished_run"]
    assert (run["stage"], run["steps"]) == ("tune", {"trials": 1})
    assert "shards" not in run


@dataclass(frozen=True)
class Numbers:
    """Writes numbers; one shard fails whenever it is tried."""

    fails: int
    schema: ClassVar[pa.Schema] = pa.schema([("n", pa.int64())])

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        if shard.index == self.fails:
            raise OSError("the disk is gone")
        attempt.count_in(shard.rows)
        attempt.write(pa.table({"n": list(range(shard.rows))}, schema=self.schema))


def step_with_a_failing_shard(store: Store, shards: int) -> None:
    files = [InputFile("a", "a", 8, "1", "a", tuple(Piece(n, 1, 0, n, n + 1) for n in range(shards)))]
    version = Destination(store).claim(plan_key({}, []), {"stage": "score"})
    plan = version.write_plan(plan_shards(files, shard_rows=1, shard_bytes=1 << 30))
    with pytest.raises(UnfinishedError):
        run_step(version, plan, Numbers(fails=3), InProcess(1), policy=Policy(retries=0))


def requests_of_a_look(shards: int) -> tuple[CountingStore, Any]:
    store = CountingStore()
    step_with_a_failing_shard(store, shards)
    store.forget()
    return store, unfinished_run(Destination(store))


def test_a_look_reads_no_record_so_it_costs_the_same_requests_for_any_number_of_shards() -> None:
    few, of_few = requests_of_a_look(5)
    many, of_many = requests_of_a_look(60)
    assert (of_few.done, of_few.rows_in, of_few.failed) == (4, 4, 1)
    assert (of_many.done, of_many.rows_in, of_many.failed) == (59, 59, 1)
    assert of_many.last_error == "OSError: the disk is gone"
    assert few.requests == many.requests
    assert not [path for path in many.reads if "/records/" in path]


def test_a_run_in_an_object_store_is_seen_from_anywhere(s3: str, tmp_path: Path) -> None:
    step_with_a_failing_shard(open_store(s3), 5)
    run: Any = rayforest.show(s3)["unfinished_run"]
    assert (run["shards"], run["done"], run["failed"], run["last_error"]) == (5, 4, 1, "OSError: the disk is gone")
    assert datetime.fromisoformat(run["since"]) <= datetime.fromisoformat(run["last_sign_of_life"])
    written = rayforest.trace(s3, tmp_path / "trace.json")
    assert (written.attempts, written.failed) == (5, 1)
