"""What a user meets around the commands: versions, texts for people, places of errors, and Python's own tools."""

from __future__ import annotations

import inspect
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import one_clear_message, rayforest

import rayforest as package
from rayforest.errors import ConfigError, place_of
from rayforest.jobs.facts import fact_lines

HEAD = '[project]\nname = "p"\n[data]\nsource = "data.csv"\nkey = "id"\ntarget = "y"\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    rows = "".join(f"{i},{i % 7},{'ab'[i % 2]},{int(i % 7 > 3)}\n" for i in range(120))
    (tmp_path / "data.csv").write_text("id,x,größe,y\n" + rows, encoding="utf-8")
    (tmp_path / "project.toml").write_text(HEAD)
    return tmp_path / "project.toml"


def test_the_version_is_told() -> None:
    answer = rayforest("--version")
    assert (answer.code, answer.out) == (0, f"rayforest {package.__version__}\n")


def test_show_speaks_to_people_and_json_stays_as_it_is(project: Path) -> None:
    package.run(project, overrides=["tune.trials=1"])
    for name in ("prepared", "tuned", "bundle", "scored"):
        destination = project.parent / "out" / name
        answer = rayforest("show", destination)
        assert answer.code == 0
        shown = answer.out.replace(str(destination), "")
        for python in ("[", "]", "{", "'", "None", "True", "False", "plan_key", "command"):
            assert python not in shown
        assert rayforest("show", destination, "--json").json == package.show(destination)
    bundle = rayforest("show", project.parent / "out" / "bundle").out
    assert "model.onnx, trees.onnx" in bundle


def test_facts_are_lines_lists_and_tables() -> None:
    facts = {
        "rows": 1234567,
        "share": 0.123456789,
        "none": None,
        "yes": True,
        "empty": [],
        "names": ["a", "b"],
        "都市": {"x": 1},
        "parts": {"train": {"rows": 1000, "labels": {"0": 0.5}}, "valid": {"rows": 20, "labels": {}}},
        "trials": [{"trial": 1, "auc": 0.5}, {"trial": 2, "auc": None}],
    }
    assert list(fact_lines(facts)) == [
        "rows                   1,234,567",
        "share                  0.123457",
        "none                   -",
        "yes                    yes",
        "names                  a, b",
        "都市",
        "  x                      1",
        "parts",
        "          rows  labels",
        "  train  1,000   0 0.5",
        "  valid     20",
        "trials",
        "  trial  auc",
        "      1  0.5",
        "      2    -",
    ]


def test_an_unexpected_error_names_its_type_and_place_and_no_value(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret of a row")

    monkeypatch.setattr("rayforest.checking.check.search_space", broken)
    error = one_clear_message(rayforest("check", project, "--json"), "check")
    assert error["what"].startswith("check failed unexpectedly: ZeroDivisionError at test_small_matters.py:")
    assert "secret" not in str(error)
    monkeypatch.setattr("rayforest.checking.check.search_space", None)
    error = one_clear_message(rayforest("check", project, "--json"), "check")
    assert error["what"].startswith("check failed unexpectedly: TypeError at checking/check.py:")


def test_an_error_outside_of_our_code_has_the_last_place_inside_of_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayforest.project.load.tomllib.loads", json.loads)
    with pytest.raises(json.JSONDecodeError) as caught:
        package.load_project(project)
    assert place_of(caught.value).startswith("project/load.py:")


def test_what_the_system_refuses_is_said_with_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/somewhere/file")

    monkeypatch.setattr("rayforest.checking.check.search_space", full)
    error = one_clear_message(rayforest("check", project, "--json"), "check")
    assert (error["what"], error["found"]) == ("check could not use /somewhere/file", "no space left on device")


def test_a_reader_that_goes_away_ends_the_command_quietly(project: Path) -> None:
    package.prepare(project)
    code = "import sys; sys.argv = ['rayforest', 'show', 'out/prepared']; from rayforest.jobs.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=project.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_public_names_are_listed_and_every_function_documents_its_arguments() -> None:
    assert dir(package) == sorted([*package.__all__, "__version__"])
    for name in package.__all__:
        public = getattr(package, name)
        assert public.__doc__
        if inspect.isfunction(public):
            for argument, facts in inspect.signature(public).parameters.items():
                assert facts.annotation is not inspect.Parameter.empty
                documented = f"{argument}:" in public.__doc__ or len(inspect.signature(public).parameters) == 1
                assert documented, f"{name} does not document {argument}"


def test_every_command_is_a_function_of_the_same_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.parent)
    assert (
        package.init("data.csv", target="y")
        == package.init(["data.csv"], target="y")
        == rayforest("init", "data.csv", "--target", "y").out
    )
    for name in ("check", "prepare", "tune", "export", "score", "run", "files", "show"):
        assert callable(getattr(package, name))


def test_overrides_beside_a_loaded_project_are_refused_and_not_forgotten(project: Path) -> None:
    loaded = package.load_project(project, ["tune.trials=1"])
    assert package.check(loaded).files == 1
    for function in (package.check, package.prepare, package.run):
        with pytest.raises(ConfigError, match=r"overrides cannot change(.|\n)*load_project\(path, overrides\)"):
            function(loaded, overrides=["tune.trials=2"])


@pytest.mark.parametrize("command", ["check", "prepare", "run"])
def test_ray_at_a_dead_address_is_refused_soon_with_where_it_came_from(
    project: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = f"127.0.0.1:{listener.getsockname()[1]}"
    began = time.monotonic()
    answer = rayforest(command, project, "--set", f"run.address={dead}", "--json")
    error = one_clear_message(answer, command)
    assert (answer.code, dead in error["what"], "run.address" in error["what"]) == (2, True, True)
    monkeypatch.setenv("RAY_ADDRESS", dead)
    answer = rayforest(command, project, "--json")
    error = one_clear_message(answer, command)
    assert (answer.code, dead in error["what"], "RAY_ADDRESS" in error["what"]) == (2, True, True)
    assert time.monotonic() - began < 20
    if command == "check":
        assert rayforest(command, project, "--set", "run.executor=in-process").code == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_command_without_standard_output_or_error_works(project: Path, closed: str) -> None:
    line = f"exec {sys.executable} -m rayforest.jobs.cli check project.toml {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=project.parent, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("flag", ["", "--json"])
def test_a_result_that_cannot_be_printed_is_an_error(project: Path, flag: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    line = f"exec {sys.executable} -m rayforest.jobs.cli check project.toml {flag} > /dev/full"
    done = subprocess.run(
        ["sh", "-c", line], cwd=project.parent, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "no space left on device" in done.stderr
    assert "Traceback" not in done.stderr
