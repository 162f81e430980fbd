"""What is told of attempts: who did them, why they failed, lines of a log, and counts for Prometheus."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tables import Numbers, claimed, finished, number_files

from rayforest.cluster.local import ClusterInfo
from rayforest.engine.attempt import Attempt
from rayforest.engine.executors import InProcess, RayExecutor
from rayforest.engine.failed_attempt import failed_attempt_of
from rayforest.engine.log_lines import LogContext, json_line, logging_as
from rayforest.engine.manifest import Manifest
from rayforest.engine.meter import BYTES, FAILED, LEFT, MEASURES, QUARANTINED, ROWS, SECONDS, SHARDS, Measure
from rayforest.engine.own_ray.head import present_token
from rayforest.engine.publish import publish
from rayforest.engine.record import Record
from rayforest.engine.run import records, run_step
from rayforest.engine.shards import Shard
from rayforest.engine.stores.memory import MemoryStore
from rayforest.engine.stores.opening import open_store
from rayforest.engine.stores.store import Store
from rayforest.formats import FAILED_ATTEMPT

FILES = number_files([2500, 0, 900])
ROWS_IN = 3400
MINE = LogContext(run="0123abcd", project="numbers", stage="score")


@dataclass(frozen=True)
class FailsOnce(Numbers):
    """The first attempt at shard 1 raises an error with a value of a row in it."""

    folder: Path = Path()

    def __call__(self, shard: Shard, attempt: Attempt) -> None:
        marker = self.folder / "failed"
        if shard.index == 1 and not marker.exists():
            marker.touch()
            raise ValueError("a secret of a row")
        super().__call__(shard, attempt)


@dataclass
class Counted:
    """A meter that can be asked."""

    counts: dict[Measure, float] = field(default_factory=lambda: defaultdict(float))
    labels: list[Mapping[str, str]] = field(default_factory=list)

    def add(self, measure: Measure, amount: float, labels: Mapping[str, str]) -> None:
        assert amount > 0
        self.counts[measure] += amount
        self.labels.append(labels)

    def set(self, measure: Measure, value: float, labels: Mapping[str, str]) -> None:
        self.counts[measure] = value


def counting() -> tuple[InProcess, Counted]:
    executor, meter = InProcess(2), Counted()
    executor.meter = meter
    return executor, meter


def failed_notes(store: Store) -> list[bytes]:
    return [store.get(entry.path) for entry in store.list("") if "/failed/" in entry.path]


def test_a_record_says_who_did_the_shard_and_when(tmp_path: Path) -> None:
    store = open_store(tmp_path / "out")
    version, plan = claimed(store, FILES)
    before = time.time()
    with logging_as(MINE):
        run_step(version, plan, Numbers(), InProcess(2))
    after = time.time()
    for record in records(version, plan):
        work = record.work
        assert work is not None
        assert (work.run, work.host, work.pid) == ("0123abcd", platform.node(), os.getpid())
        assert before - 0.001 <= work.began <= work.began + work.seconds <= after + 0.001


def test_an_attempt_that_failed_leaves_a_note_without_a_value_of_a_row(tmp_path: Path) -> None:
    store = open_store(tmp_path / "out")
    with logging_as(MINE):
        manifest = finished(store, FILES, InProcess(2), FailsOnce(folder=tmp_path))
    (data,) = failed_notes(store)
    note = FAILED_ATTEMPT.read(data, "", failed_attempt_of)
    assert (note.shard, note.work is not None and note.work.run) == (1, "0123abcd")
    assert note.error.startswith("ValueError at ")
    assert "secret" not in data.decode()
    assert manifest.rows_in == ROWS_IN


def test_a_store_that_takes_no_note_does_not_hold_up_the_run(tmp_path: Path) -> None:
    class NoNotes(MemoryStore):
        tried = 0

        def create(self, path: str, data: bytes) -> bool:
            if "/failed/" in path:
                self.tried += 1
                raise OSError("no")
            return super().create(path, data)

    class FailTwice(Numbers):
        left = 6

        def __call__(self, shard: Shard, attempt: Attempt) -> None:
            if FailTwice.left > 0:
                FailTwice.left -= 1
                raise ValueError
            super().__call__(shard, attempt)

    store = NoNotes("no-notes")
    assert finished(store, FILES, InProcess(1), FailTwice()).rows_in == ROWS_IN
    assert store.tried == 1


def test_rows_are_counted_once_whatever_failed(tmp_path: Path) -> None:
    executor, meter = counting()
    store = open_store(tmp_path / "out")
    with logging_as(MINE):
        manifest = finished(store, FILES, executor, FailsOnce(folder=tmp_path))
    counts = meter.counts
    assert (counts[ROWS], counts[QUARANTINED]) == (ROWS_IN, manifest.rows_quarantined)
    assert (counts[SHARDS], counts[LEFT], counts[FAILED]) == (manifest.shards, 0, 1)
    assert counts[BYTES] == manifest.bytes_out
    assert counts[SECONDS] > 0
    assert all(labels == {"stage": "score", "project": "numbers"} for labels in meter.labels)


def test_what_another_run_has_done_is_not_counted_again(tmp_path: Path) -> None:
    version, plan = claimed(open_store(tmp_path / "out"), FILES)
    with logging_as(MINE):
        run_step(version, plan, Numbers(), InProcess(2))
    executor, meter = counting()
    with logging_as(MINE, run="ffffffff"):
        run_step(version, plan, Numbers(), executor)
    assert meter.counts == {LEFT: 0}


def test_steps_that_read_the_rows_before_count_no_rows(tmp_path: Path) -> None:
    version, plan = claimed(open_store(tmp_path / "out"), FILES)
    executor, meter = counting()
    run_step(version, plan, Numbers(), executor, step="survey")
    assert set(meter.counts) == {SECONDS}


def lines_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [json.loads(record.line) for record in caplog.records if record.name.startswith("rayforest")]  # type: ignore[attr-defined]


def test_lines_of_a_shard_say_run_stage_shard_and_attempt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Formatted(logging.Filter):
        """Makes the line where it is logged, in the thread that works."""

        def filter(self, record: logging.LogRecord) -> bool:
            record.line = json_line(record)
            return True

    caplog.set_level(logging.INFO, logger="rayforest")
    caplog.handler.addFilter(Formatted())
    version, plan = claimed(open_store(tmp_path / "out"), FILES)
    with logging_as(MINE):
        run_step(version, plan, FailsOnce(folder=tmp_path), InProcess(2), step="survey")
    lines = lines_of(caplog)
    by_shard = {record.shard: record for record in records(version, plan, "survey")}
    done = [line for line in lines if str(line["message"]).startswith("finished")]
    assert {line["shard"] for line in done} == set(by_shard)
    for line in done:
        record = by_shard[line["shard"]]  # type: ignore[index]
        assert list(line)[:2] == ["time", "level"]
        assert (line["run"], line["project"], line["stage"], line["step"]) == ("0123abcd", "numbers", "score", "survey")
        assert (line["attempt"], line["rows_in"]) == (record.attempt, record.rows_in)
    (failed,) = [line for line in lines if line["level"] == "warning"]
    assert (failed["shard"], failed["run"]) == (1, "0123abcd")
    assert "secret" not in json.dumps(lines)


def test_a_line_has_its_keys_also_where_it_speaks_of_nothing_and_no_text_of_an_exception() -> None:
    try:
        raise ValueError("a secret of a row")
    except ValueError:
        record = logging.makeLogRecord({"msg": "it %s", "args": ("failed",), "exc_info": sys.exc_info()})
    line = json.loads(json_line(record))
    assert {"run", "stage", "shard", "attempt"} <= set(line)
    assert [line[key] for key in ("run", "stage", "shard", "attempt")] == [None] * 4
    assert line["message"] == "it failed"
    assert line["exception"].startswith("ValueError at test_attempts_told.py:")
    assert "secret" not in json.dumps(line)


def test_the_library_leaves_the_root_logger_alone_and_needs_no_ray_to_count() -> None:
    program = (
        "import logging, sys\n"
        "import rayforest.api, rayforest.engine.run, rayforest.engine.executors\n"
        "assert not logging.root.handlers\n"
        "assert not logging.getLogger('rayforest').handlers\n"
        "assert 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@dataclass(frozen=True)
class RayRun:
    """A run on the cluster of all tests, and what is found there afterwards."""

    manifest: Manifest
    records: list[Record]
    metrics: str
    """What Prometheus reads of the node."""
    logs: str
    """What workers have written to standard error."""


@pytest.fixture(scope="module")
def ray_run(cluster: ClusterInfo, tmp_path_factory: pytest.TempPathFactory) -> RayRun:
    import ray

    folder = tmp_path_factory.mktemp("told")
    ray.cloudpickle.register_pickle_by_value(sys.modules["tables"])
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with present_token(cluster.head.token), logging_as(MINE, project="on ray"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYFOREST_LOG", "json")
        executor = RayExecutor(cluster.address, workers=2, quiet=True)
        try:
            version, plan = claimed(open_store(folder / "out"), FILES)
            run_step(version, plan, FailsOnce(folder=folder), executor)
            (node,) = (node for node in ray.nodes() if "node:__internal_head__" in node["Resources"])
        finally:
            executor.close()  # what Ray has not sent by then, it sends now
            ray.cloudpickle.unregister_pickle_by_value(sys.modules["tables"])
            ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    with urllib.request.urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics") as answer:
        metrics = answer.read().decode()
    logs = [file.read_text() for file in (cluster.folder / "ray" / "session_latest" / "logs").glob("worker-*.err")]
    return RayRun(publish(version, plan), list(records(version, plan)), metrics, "".join(logs))


@pytest.mark.ray
def test_prometheus_reads_from_rays_node_what_the_run_has_done(ray_run: RayRun) -> None:
    found = {}
    for line in ray_run.metrics.splitlines():
        name, _, rest = line.partition("{")
        if 'project="on ray"' in rest:
            assert 'stage="score"' in rest
            found[name] = float(rest.rpartition(" ")[2])
    assert found.keys() == {f"ray_{measure.name}" for measure in MEASURES}
    manifest = ray_run.manifest
    assert [found[f"ray_{measure.name}"] for measure in (ROWS, QUARANTINED, SHARDS, BYTES, FAILED, LEFT)] == [
        *(ROWS_IN, manifest.rows_quarantined, manifest.shards, manifest.bytes_out),
        *(1, 0),
    ]
    seconds = [record.work.seconds for record in ray_run.records if record.work]
    assert found[f"ray_{SECONDS.name}"] == pytest.approx(sum(seconds))


@pytest.mark.ray
def test_workers_of_ray_log_to_their_files_where_the_driver_was_asked_to(ray_run: RayRun) -> None:
    lines = [json.loads(line) for line in ray_run.logs.splitlines() if line.startswith("{")]
    mine = [line for line in lines if (line["run"], line["project"]) == ("0123abcd", "on ray")]
    done = {line["attempt"]: line for line in mine if line["message"].startswith("finished")}
    assert done.keys() == {record.attempt for record in ray_run.records}
    for record in ray_run.records:
        assert record.work is not None
        line = done[record.attempt]
        assert (line["shard"], line["stage"], line["pid"]) == (record.shard, "score", record.work.pid)
    (failed,) = [line for line in mine if line["level"] == "warning"]
    assert failed["message"].startswith("attempt failed: ValueError at ")
    assert "secret" not in ray_run.logs
