"""RAYFOREST_LOG=json: what a command writes to standard error is log lines, all of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from command import one_clear_message, rayforest
from small_projects import orders, write_orders, write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    frame = orders(300)
    write_orders(tmp_path, frame, files=2)
    return write_project(tmp_path, run="shard_rows = 150")


def lines_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_is_of_the_run_and_those_of_shards_are_among_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYFOREST_LOG", "json")
    answer = rayforest("prepare", project)
    assert (answer.code, answer.out) == (0, "")
    lines = lines_of(answer.err)
    (run,) = {line["run"] for line in lines}
    assert isinstance(run, str)
    assert len(run) == 8
    shards = [line for line in lines if line["shard"] is not None]
    assert {(line["stage"], line["project"], line["shard"]) for line in shards} >= {
        ("prepare", "small", 0),
        ("prepare", "small", 1),
    }
    progress = [line for line in lines if line.get("event") == "progress" and line["step"] == "prepare"]
    assert (progress[-1]["done"], progress[-1]["rows_in"]) == (2, 300)
    assert lines[-1]["message"] == f"destination {project.parent}/out/prepared"
    assert lines[-1]["stage"] == "prepare"


def test_the_object_of_json_and_the_error_stay_as_they_are(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFOREST_LOG", "json")
    done = rayforest("prepare", project, "--json")
    assert done.json["rows_in"] == 300
    assert all("message" in line for line in lines_of(done.err))
    failed = rayforest("export", project, "--json")
    assert failed.json["error"]["what"]
    last = lines_of(failed.err)[-1]
    assert last["level"] == "error"
    assert str(last["message"]).startswith(f"error: {failed.json['error']['what']}")


def test_without_the_variable_nothing_of_it_is_seen(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFOREST_LOG", "json")
    rayforest("prepare", project)
    monkeypatch.delenv("RAYFOREST_LOG")
    again = rayforest("prepare", project, "--replace", "--set", "run.shard_rows=100")
    assert "prepare: done in" in again.err
    assert "{" not in again.err
    assert logging.getLogger("rayforest").handlers == []
    assert logging.getLogger("rayforest").propagate


def test_another_form_of_log_lines_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFOREST_LOG", "jsn")
    answer = rayforest("prepare", project, "--json")
    error = one_clear_message(answer, "prepare")
    assert (answer.code, error["found"], error["next"]) == (2, "jsn", "did you mean 'json'?")
