"""A run as a Chrome trace: every attempt once, in the lane of who did it, also of runs that were killed and resumed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any

from command import one_clear_message
from command import rayforest as command
from small_projects import Ran

import rayforest
from rayforest.engine.commit import Destination, Version
from rayforest.engine.failed_attempt import FailedAttempt, note_failed
from rayforest.engine.record import Record, encode_record, record_path
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.store import Entry
from rayforest.engine.work import Work
from rayforest.stages.trace import traced_attempts, write_trace

GOLDEN = Path(__file__).parents[1] / "golden"


def events_of(file: Path) -> list[dict[str, Any]]:
    trace = json.loads(file.read_bytes())
    assert trace["displayTimeUnit"] == "ms"
    return list(trace["traceEvents"])


def test_every_shard_and_trial_of_a_run_stands_once_in_the_lane_of_its_worker(ran: Ran, tmp_path: Path) -> None:
    stages = [ran.project.stage(stage) for stage in ("prepared", "tuned", "scored")]
    written = rayforest.trace(stages, tmp_path / "trace.json")
    events = events_of(tmp_path / "trace.json")
    attempts = [event for event in events if event["ph"] == "X"]
    assert (written.attempts, written.failed, written.without_times) == (len(attempts), 0, 0)
    names = [event["name"] for event in attempts]
    shards = range(ran.result.scored.shards or 0)
    assert len(names) == len(set(names))
    assert {f"score {n}" for n in shards} | {f"prepare {n}" for n in shards} | {"trial 0", "trial 1"} <= set(names)
    assert {event["cat"] for event in attempts} == {"prepare", "tune", "score"}
    assert sum(event["args"]["rows_in"] for event in attempts if event["cat"] == "score") == ran.result.scored.rows_in
    lanes = defaultdict(list)
    for event in attempts:
        lanes[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in lanes.values():
        ordered = sorted(spans)
        assert all(ended <= began + 1000 for (_, ended), (began, _) in pairwise(ordered)), (
            "a worker does one attempt at a time; the two clocks of an attempt differ by less than a millisecond"
        )
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    assert named == lanes.keys()
    assert [event["pid"] for event in events if event["name"] == "process_name"] == sorted({pid for pid, _ in lanes})


def version_with(folder: Path, records: list[Record], notes: list[FailedAttempt]) -> Version:
    store = open_store(folder)
    version = Destination(store).claim("k", {"stage": "score"})
    for record in records:
        store.create(record_path("k", record.shard), encode_record(record))
    for number, note in enumerate(notes):
        note_failed(store, "k", f"{number:016x}", note)
    return version


def test_failed_and_lost_attempts_and_those_of_two_runs_are_told_apart(tmp_path: Path) -> None:
    first, second = Work("aaaaaaaa", 100.0, 2.5, "one", 11, 11), Work("bbbbbbbb", 200.0, 1.0, "two", 11, 12)
    version = version_with(
        tmp_path / "scored",
        [Record(0, "t0", 10, 10, 0, work=first), Record(1, "t1", 10, 9, 1, work=second), Record(2, "t2", 1, 1, 0)],
        [FailedAttempt(1, "OSError: no", 103.0, first), FailedAttempt(1, "WorkerLostError: killed", 104.0)],
    )
    written = write_trace([tmp_path / "scored"], tmp_path / "trace.json")
    assert (written.attempts, written.failed, written.without_times) == (4, 2, 1)
    assert version.manifest() is None
    events = {event["name"]: event for event in events_of(tmp_path / "trace.json") if event["ph"] == "X"}
    assert (events["score 0"]["ts"], events["score 0"]["dur"]) == (100_000_000, 2_500_000)
    assert [events[name]["args"]["run"] for name in ("score 0", "score 1")] == ["aaaaaaaa", "bbbbbbbb"]
    assert events["score 0"]["pid"] != events["score 1"]["pid"]
    assert (events["score 1 failed"]["cat"], events["score 1 failed"]["args"]["error"]) == ("failed", "OSError: no")
    (lost,) = [event for event in events_of(tmp_path / "trace.json") if event["ph"] == "i"]
    assert (lost["ts"], lost["args"]["error"]) == (104_000_000, "WorkerLostError: killed")


def test_the_store_is_listed_and_read_as_the_file_is_written() -> None:
    class Endless(MemoryStore):
        """A million shards and more."""

        def list(self, prefix: str) -> Iterator[Entry]:
            return (Entry(record_path(prefix, shard), 1, 0.0) for shard in count())

        def get(self, path: str) -> bytes:
            shard = int(Path(path).stem)
            return encode_record(Record(shard, "t", 1, 1, 0, work=Work("r", float(shard), 1.0, "one", 1, 1)))

    attempts = traced_attempts(Version(Endless("endless"), 1, "k", {"stage": "score"}))
    assert [attempt.name for attempt in islice(attempts, 3)] == ["score 0", "score 1", "score 2"]


def test_a_result_of_an_earlier_version_of_rayforest_says_that_it_has_no_times(tmp_path: Path) -> None:
    answer = command("trace", GOLDEN / "0.1.0" / "out" / "prepared", "--out", tmp_path / "trace.json", "--json")
    assert answer.json == {
        "command": "trace",
        "file": str(tmp_path / "trace.json"),
        "attempts": 0,
        "failed": 0,
        "without_times": answer.json["without_times"],
    }
    assert answer.json["without_times"] >= 1
    assert events_of(tmp_path / "trace.json") == []


def test_a_trace_that_cannot_be_made_leaves_no_file_behind(ran: Ran, tmp_path: Path) -> None:
    nothing = command("trace", tmp_path / "nowhere", "--out", tmp_path / "trace.json", "--json")
    assert nothing.code == 2
    assert one_clear_message(nothing, "trace")["what"].startswith("there is no run at ")
    nowhere = command("trace", ran.project.stage("scored"), "--out", tmp_path / "no" / "trace.json", "--json")
    assert nowhere.code == 2
    assert one_clear_message(nowhere, "trace")["found"] == "no such file or directory"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_is_named(ran: Ran, tmp_path: Path) -> None:
    store = open_store(tmp_path / "damaged")
    Destination(store).claim("k", {"stage": "score"})
    store.create(record_path("k", 0), b"{")
    answer = command("trace", tmp_path / "damaged", "--out", tmp_path / "trace.json", "--json")
    assert answer.code == 2
    assert one_clear_message(answer, "trace")["what"].endswith("records/0000/000000.json is damaged")
    assert not list(tmp_path.glob("trace.json*"))
