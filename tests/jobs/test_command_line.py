"""The command line: exit codes, the JSON contract of --json, what people read, and stack traces only with --debug."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command import nothing_published, one_clear_message, rayforest

SETTINGS = """
[features]
amount = "amount"
merchant_category = "merchant_category"
night = "EXTRACT(HOUR FROM paid_at) < 6"

[tune]
trials = 2

[tune.space]
num_iterations = 8

[run]
executor = "in-process"
workers = 1
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project over 2,000 generated payments; its first test runs it."""
    folder = tmp_path_factory.mktemp("project")
    made = rayforest("generate", "payments", "--rows", "2000", "--days", "3", "--out", folder / "raw", "--json")
    assert made.code == 0
    found = made.json
    assert (found["command"], found["rows_out"]) == ("generate", 2000)
    assert 0.5 < found["metrics"]["best_possible_auc"] < 1
    path = folder / "project.toml"
    data = 'source = "raw"\nkey = "payment_id"\ntarget = "is_fraud"\ncolumns = { amount = "number" }\n'
    path.write_text(f'[project]\nname = "payments"\n[data]\n{data}{SETTINGS}', encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ran(project: Path) -> Path:
    assert rayforest("run", project).code == 0
    return project


def test_every_stage_answers_with_one_json_object(project: Path) -> None:
    root = f'project.root="{project.parent / "stages"}"'
    answers = {c: rayforest(c, project, "--json", "--set", root) for c in ("prepare", "tune", "export", "score")}
    for command, answer in answers.items():
        found = answer.json
        assert answer.code == 0
        assert found["command"] == command
        assert Path(found["destination"]).is_dir()
        assert found["seconds"] >= 0
        assert "error" not in found
        for line in answer.err.splitlines():
            assert "event" in json.loads(line)  # machines may follow standard error too
    for command in ("prepare", "score"):
        found = answers[command].json
        assert found["rows_in"] == 2000 == found["rows_out"] + found["rows_quarantined"]
        assert found["shards"] == 1
    assert {"auc", "log_loss"} <= set(answers["tune"].json["metrics"])
    assert {"auc", "log_loss"} <= set(answers["score"].json["metrics"])


def test_run_answers_with_its_steps_and_then_finds_nothing_to_do(project: Path) -> None:
    root = f'project.root="{project.parent / "whole"}"'
    found = rayforest("run", project, "--json", "--set", root).json
    assert [step["command"] for step in found["steps"]] == ["prepare", "tune", "export", "score"]
    assert (found["command"], found["rows_in"]) == ("run", 2000)
    assert "auc" in found["metrics"]
    again = rayforest("run", project, "--set", root)
    assert (again.code, again.out) == (0, "")
    assert again.err.count("nothing to do, the same inputs and settings are already there") == 4


def test_people_read_rows_reasons_metrics_and_the_destination(project: Path) -> None:
    answer = rayforest("prepare", project, "--set", f'project.root="{project.parent / "people"}"')
    assert "in-process, 1 thread: run.executor asks for it" in answer.err
    assert "2,000 in = " in answer.err
    assert "x amount is not a number" in answer.err
    assert str(project.parent / "people/prepared") in answer.err


def test_files_lists_data_or_quarantine_in_input_order(ran: Path) -> None:
    scored = ran.parent / "out/scored"
    paths = rayforest("files", scored, "--json").json["files"]
    assert rayforest("files", scored).out.splitlines() == paths
    assert sum(pq.read_metadata(path).num_rows for path in paths) == 2000 - sum(
        pq.read_metadata(path).num_rows for path in rayforest("files", scored, "--quarantine", "--json").json["files"]
    )
    assert all(Path(path).is_absolute() for path in paths)


def test_show_describes_a_destination_and_a_bundle(ran: Path) -> None:
    found = rayforest("show", ran.parent / "out/prepared", "--json").json
    assert (found["command"], found["rows_in"]) == ("show", 2000)
    assert "model.onnx" in rayforest("show", ran.parent / "out/bundle", "--json").json["files"]
    shown = rayforest("show", ran.parent / "out/tuned").out
    assert "best" in shown or "params" in shown


def test_check_validates_and_runs_nothing(project: Path) -> None:
    root = f'project.root="{project.parent / "checked"}"'
    found = rayforest("check", project, "--json", "--set", root).json
    assert found["features"] == {"amount": "number", "merchant_category": "category", "night": "boolean"}
    assert "payments: valid; 3 files" in rayforest("check", project, "--set", root).out
    assert not (project.parent / "checked").exists()


def test_a_starter_file_of_init_is_accepted_as_it_is(project: Path, tmp_path: Path) -> None:
    answer = rayforest("init", project.parent / "raw", "--target", "is_fraud")
    assert answer.code == 0
    (tmp_path / "project.toml").write_text(answer.out, encoding="utf-8")
    assert rayforest("check", tmp_path / "project.toml").code == 0
    assert rayforest("prepare", tmp_path / "project.toml", "--json").json["rows_in"] == 2000


def test_a_refused_resume_is_exit_code_2_and_says_replace(ran: Path) -> None:
    answer = rayforest("prepare", ran, "--json", "--set", "project.seed=9")
    assert answer.code == 2
    error = one_clear_message(answer, "prepare")
    assert "seed" in error["found"] + error["expected"] + error["what"]
    assert "--replace" in error["next"]
    copy = f'project.root="{ran.parent / "replaced"}"'
    assert rayforest("prepare", ran, "--set", copy).code == 0
    assert rayforest("prepare", ran, "--set", copy, "--set", "project.seed=9").code == 2
    assert rayforest("prepare", ran, "--set", copy, "--set", "project.seed=9", "--replace").code == 0


def test_an_exceeded_error_budget_is_exit_code_3(project: Path) -> None:
    for setting in ("data.error_budget=0", "data.on_bad_row=fail"):
        root = project.parent / "budget"
        answer = rayforest("prepare", project, "--json", "--set", setting, "--set", f'project.root="{root}"')
        assert answer.code == 3
        assert "error budget" in one_clear_message(answer, "prepare")["what"]
        assert nothing_published(root)


def test_unfinished_shards_are_exit_code_3(project: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    source = pq.read_table(next((project.parent / "raw").glob("*.parquet")))
    for name in ("a", "b"):
        pq.write_table(source, tmp_path / f"raw/{name}.parquet", compression="none")
    damaged = (tmp_path / "raw/b.parquet").read_bytes()
    (tmp_path / "raw/b.parquet").write_bytes(damaged[:4] + b"\xff" * 60 + damaged[64:])
    settings = [f'data.source="{tmp_path}/raw"', f'project.root="{tmp_path}"', "run.shard_rows=100"]
    answer = rayforest("prepare", project, "--json", *[a for s in settings for a in ("--set", s)])
    assert answer.code == 3
    assert "b.parquet cannot be read" in one_clear_message(answer, "prepare")["found"]


def test_a_damaged_bundle_is_exit_code_2(ran: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(ran.parent / "out/bundle", tmp_path / "bundle", symlinks=True)
    (model,) = (p for p in tmp_path.glob("bundle/*/trees.onnx") if not p.is_symlink())
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    answer = rayforest("score", ran, "--json", "--set", f'project.root="{tmp_path}"')
    assert answer.code == 2
    assert "trees.onnx is damaged or was changed" in one_clear_message(answer, "score")["what"]


@pytest.mark.parametrize("debug", [False, True])
def test_a_stack_trace_is_shown_with_debug_only(tmp_path: Path, debug: bool) -> None:
    answer = rayforest("prepare", tmp_path / "none.toml", "--json", *(["--debug"] if debug else []))
    assert answer.code == 2
    assert ("Traceback" in answer.err) == debug
    assert answer.json["error"]["what"].endswith("none.toml does not exist")


def installed(*arguments: str | Path, **options: object) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "rayforest.jobs.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "100"},
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("prepare", "--json"), "missing argument 'PROJECT'"),
        (("prepare", "x.toml", "--jsn", "--json"), "no such option: --jsn"),
        (("prepar", "--json"), "no such command 'prepar'"),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_json_object(arguments: tuple[str, ...], says: str) -> None:
    process = installed(*arguments)
    out, err = process.communicate()
    assert process.returncode == 2
    assert says in json.loads(out)["error"]["what"]
    assert says[1:] in err  # people get the sentence of Click itself, behind "Error:" and in upper case
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_crash(ran: Path) -> None:
    process = installed("show", ran.parent / "out/scored")
    assert process.stdout is not None and process.stderr is not None  # noqa: PT018
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait() in (0, 1)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_is_exit_code_130_and_goes_on(ran: Path, tmp_path: Path, sent: signal.Signals) -> None:
    import shutil

    shutil.copytree(ran.parent / "out/prepared", tmp_path / "prepared")
    settings = ("--set", f'project.root="{tmp_path}"', "--set", "tune.trials=100000")
    process = installed("tune", ran, "--json", *settings)
    assert process.stderr is not None
    while "trial 3/" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(sent)
    out, err = process.communicate()
    assert process.returncode == 130
    assert json.loads(out)["error"]["next"].startswith("run the same command again")
    assert "Traceback" not in err
    assert len(list(tmp_path.glob("tuned/*/trials/*.json"))) >= 3
    assert nothing_published(tmp_path / "tuned")


@pytest.mark.ray
def test_the_demo_runs_on_ray_and_knows_the_best_possible_auc(tmp_path: Path) -> None:
    process = installed("demo", "--rows", "3000", "--out", tmp_path / "demo", "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    (line,) = out.splitlines()  # nothing of Ray's on standard output
    found = json.loads(line)
    assert [step["command"] for step in found["steps"]] == ["prepare", "tune", "export", "score"]
    assert found["metrics"]["auc"] < found["metrics"]["best_possible_auc"] + 0.1
    assert "Ray, " in err


@pytest.mark.parametrize(("users", "kept"), [({}, "-1"), ({"MIMALLOC_PURGE_DELAY": "50"}, "50")])
def test_arrow_keeps_its_memory_unless_the_user_says_otherwise(users: dict[str, str], kept: str) -> None:
    code = """
import os, sys
from rayforest.jobs import cli
early = "pyarrow" in sys.modules  # the variable is read when it is loaded
sys.argv = ["rayforest", "--help"]
try:
    cli.main()
except SystemExit:
    print(early, os.environ["MIMALLOC_PURGE_DELAY"])
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MIMALLOC")}
    done = subprocess.run([sys.executable, "-c", code], env=clean | users, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"False {kept}"
