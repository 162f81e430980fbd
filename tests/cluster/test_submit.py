"""`rayforest submit`: the job's output and exit code come back, and nothing secret goes out."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared_cluster import use_state_folder
from waiting import free_port, wait_until

from rayforest.cluster import dashboard, jobs_api
from rayforest.cluster.dashboard import Dashboard
from rayforest.cluster.jobs_api import Printer
from rayforest.cluster.local import ClusterInfo, down, up
from rayforest.cluster.submit import Submission, _refuse_relative_paths, job_command, submit
from rayforest.errors import ConfigError, RayforestError
from rayforest.project.load import load_project

# Ray's client passes ssl=None to aiohttp.
pytestmark = pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")


def python(code: str) -> str:
    return shlex.join(["exec", sys.executable, "-c", code])


def run(project: Path, cluster: ClusterInfo, code: str, *, json_output: bool = False) -> tuple[Submission, str]:
    output = io.StringIO()
    done = submit(
        "score",
        project,
        address=cluster.dashboard,
        entrypoint=python(code),
        json_output=json_output,
        output=output,
    )
    return done, output.getvalue()


@pytest.fixture
def cluster(cluster: ClusterInfo, cluster_home: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterInfo:
    """The shared cluster, with the state folder that records it."""
    use_state_folder(monkeypatch, cluster_home)
    return cluster


@pytest.fixture
def tunnel(cluster: ClusterInfo) -> Iterator[str]:
    """The cluster behind a forwarded port, as a cluster elsewhere looks."""
    port = int(cluster.dashboard.rpartition(":")[2])

    def forward(source: socket.socket, target: socket.socket) -> None:
        with source, target, contextlib.suppress(ConnectionError):  # of a client that has heard enough
            while data := source.recv(65536):
                target.sendall(data)

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(("127.0.0.1", port))
            for pair in ((client, upstream), (upstream.dup(), client.dup())):
                threading.Thread(target=forward, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.ray
def test_output_and_exit_code_of_the_job_come_back(project: Path, cluster: ClusterInfo) -> None:
    job = "import os, sys; print('at', os.environ['RAY_ADDRESS']); print('last', end=''); sys.exit(3)"
    done, output = run(project, cluster, job)
    assert done.exit_code == 3
    assert output == f"at {cluster.address}\nlast"


def test_what_ray_writes_into_the_log_is_left_out_wherever_it_stands() -> None:
    log = (
        "2026-11-25 06:35:07,015\tINFO job_manager.py:581 -- Runtime env is setting up.\nfirst\nsec"
        "Running entrypoint for job rayforest-score-e65d9a50: exec python -c 'print()'\nond\nlast"
    )
    for cut in range(len(log)):
        output = io.StringIO()
        printer = Printer(output, json_output=False)
        printer.take(log[:cut])
        printer.take(log[cut:])
        printer.finish()
        assert output.getvalue() == "first\nsecond\nlast"
        assert printer.characters == len(log)


@pytest.mark.ray
def test_a_job_on_this_machine_runs_where_its_project_file_lies(
    project: Path, cluster: ClusterInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWS_FILE", "rows.csv")
    project.write_text('[project]\nname = "demo"\n[data]\nsource = "${ROWS_FILE}"\n')
    rows = "".join(f"{i},{i % 7}\n" for i in range(50))
    (project.parent / "rows.csv").write_text("amount,weekday\n" + rows)
    output = io.StringIO()
    done = submit("prepare", project, address=cluster.dashboard, json_output=True, output=output)
    assert done.result is not None, output.getvalue()
    assert (done.exit_code, done.result["command"], done.result["rows_in"]) == (0, "prepare", 50)
    assert done.result["destination"] == str(project.parent / "out" / "prepared")
    assert "Ray, 2 tasks" in output.getvalue()


@pytest.mark.ray
def test_with_json_the_result_is_apart_from_what_people_read(project: Path, cluster: ClusterInfo) -> None:
    result = {"command": "score", "error": {"what": "no such column"}}
    job = f"import sys; print('reading\\n{{not json'); print({json.dumps(result)!r}); print('done'); sys.exit(2)"
    done, output = run(project, cluster, job, json_output=True)
    assert (done.exit_code, done.result) == (2, result)
    assert output == "reading\n{not json\ndone\n"


@pytest.mark.ray
def test_a_killed_job_is_a_failure_that_names_its_end(project: Path, cluster: ClusterInfo) -> None:
    with pytest.raises(RayforestError, match="did not end by itself") as error:
        run(project, cluster, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (error.value.exit_code, error.value.found) == (1, "exit code -9")


@pytest.mark.ray
def test_a_cluster_that_dies_during_the_job_is_a_failure(
    project: Path, state_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class UntilDeath(io.StringIO):
        """Ends the cluster once the job has begun to speak."""

        def write(self, text: str) -> int:
            down()
            return super().write(text)

    monkeypatch.setenv("RAYFOREST_HOME", str(tmp_path / "doomed"))
    monkeypatch.setattr(jobs_api, "_RECONNECTS", 2)
    doomed = up(cpus=1, dashboard_port=free_port()).cluster
    assert doomed is not None
    job = python("import time; print('begun', flush=True); time.sleep(600)")
    with pytest.raises(RayforestError, match="does not answer") as error:
        submit("score", project, address=doomed.dashboard, entrypoint=job, output=UntilDeath())
    assert error.value.exit_code == 1


@pytest.mark.ray
def test_ctrl_c_stops_following_and_not_the_job(project: Path, cluster: ClusterInfo, tmp_path: Path) -> None:
    go_on, finished = tmp_path / "go_on", tmp_path / "finished"
    job = tmp_path / "job.py"
    job.write_text(
        "import pathlib, time\n"
        "print('begun', flush=True)\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.1)\n"
        f"pathlib.Path({str(finished)!r}).touch()\n"
    )
    command = shlex.join(["exec", sys.executable, str(job)])
    follower = (
        "import sys, pathlib\n"
        "from rayforest.cluster.submit import submit\n"
        "from rayforest.errors import RayforestError\n"
        "try:\n"
        f"    file = pathlib.Path({str(project)!r})\n"
        f"    submit('score', file, address={cluster.dashboard!r}, entrypoint={command!r})\n"
        "except RayforestError as error:\n"
        "    print(error)\n"
        "    sys.exit(error.exit_code)\n"
    )
    with subprocess.Popen([sys.executable, "-c", follower], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert first == "begun\n"
    assert process.returncode == 130
    assert "goes on" in said
    assert "rayforest logs rayforest-score-" in said
    assert not finished.exists()
    go_on.touch()
    assert wait_until(finished.exists)


@pytest.mark.ray
def test_another_cluster_gets_the_project_file_alone(project: Path, tunnel: str, cluster: ClusterInfo) -> None:
    (project.parent / ".env").write_text("PASSWORD=x")
    output = io.StringIO()
    token = cluster.head.token
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        with pytest.raises(ConfigError, match="relative to the project file"):
            submit("score", project, address=tunnel)
        overrides = ["project.root=/data/out", "data.source=/data/rows.csv"]
        done = submit("score", project, address=tunnel, overrides=overrides, entrypoint="ls -A", output=output)
    assert (done.exit_code, output.getvalue()) == (0, "project.toml\n")


@pytest.mark.ray
def test_a_wrong_or_missing_token_is_refused(project: Path, tunnel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project.parent))  # no ~/.ray/auth_token
    with pytest.raises(ConfigError, match="asks for a token"):
        submit("score", project, address=tunnel)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(ConfigError, match="refuses the token") as error:
        submit("score", project, address=tunnel)
    assert "0000" not in str(error.value)


def test_nothing_at_the_address_is_wrong_use(project: Path, state_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConfigError, match="nothing answers") as error:
        submit("score", project, address=f"http://127.0.0.1:{port}")
    assert error.value.exit_code == 2


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second instead of the limit, which is itself below what is promised."""
    assert dashboard.LIMIT_S <= 20
    monkeypatch.setattr(dashboard, "LIMIT_S", 1.0)


@pytest.mark.usefixtures("short_limit")
def test_a_dashboard_that_never_answers_is_given_up_in_seconds(project: Path, state_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConfigError, match="nothing answers") as error:
            submit("score", project, address=address)
    assert error.value.found == "no answer within 1 s"
    assert address in error.value.what
    assert "--address" in error.value.next_step


@pytest.mark.usefixtures("short_limit")
def test_a_dashboard_that_answers_byte_by_byte_is_given_up_in_seconds(project: Path, state_home: Path) -> None:
    given_up = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            with listener.accept()[0] as client, contextlib.suppress(OSError):
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not given_up.wait(0.2):
                    client.sendall(b" ")

        threading.Thread(target=drip, daemon=True).start()
        with pytest.raises(ConfigError, match="nothing answers"):
            submit("score", project, address=f"http://127.0.0.1:{listener.getsockname()[1]}")
        given_up.set()


def test_a_server_that_does_not_speak_http_is_no_dashboard(project: Path, state_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            with listener.accept()[0] as client:
                client.recv(65536)
                client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(ConfigError, match="is not a Ray dashboard") as error:
            submit("score", project, address=f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert "does not speak HTTP" in error.value.found


def test_something_else_than_a_dashboard_is_wrong_use(project: Path, state_home: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(ConfigError, match="is not a Ray dashboard"):
                submit("score", project, address=f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:8265", "ray://head:10001", "http://head:x", "http://a/b"])
def test_a_malformed_address_is_wrong_use(project: Path, state_home: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="not the address of a Ray dashboard"):
        submit("score", project, address=address)


def test_an_unknown_job_gets_the_nearest_name(project: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'score'"):
        submit("scor", project, address="http://127.0.0.1:8265")


def test_variables_go_along_in_every_form_and_no_secret_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLACE", "OTHER", "LIMIT", "STORE_KEY", "COMMENT", "QUOTED"):
        monkeypatch.setenv(name, f"{name} of here")
    file = tmp_path / "project.toml"
    file.write_text(
        "# $COMMENT\n[project]\nroot = '$PLACE/$STORE_KEY/$$QUOTED'\n[features]\na = 'x > ${LIMIT:-3} + $OTHER'\n"
    )
    command = shlex.split(job_command("run", file, here=False, overrides=["score.destination=$OTHER"]))
    assert command[1:5] == ["env", "LIMIT=LIMIT of here", "OTHER=OTHER of here", "PLACE=PLACE of here"]
    assert command[5] == "python"


def test_the_command_carries_variables_of_the_project_but_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALES_FOLDER", "/data/two words")
    monkeypatch.setenv("STORE_SECRET", "hush")
    monkeypatch.setenv("UNRELATED", "x")
    file = tmp_path / "project.toml"
    file.write_text('source = "${SALES_FOLDER}/a.csv"\nother = "${STORE_SECRET}"\n')
    command = job_command("run", file, here=True, overrides=['tune.metric="auc"'], flags=["--json"])
    assert "hush" not in command
    assert shlex.split(command) == [
        *("exec", "env", "SALES_FOLDER=/data/two words", sys.executable, "-P", "-m", "rayforest.jobs.cli"),
        *("run", str(file), "--set", 'run.executor="ray"', "--set", 'run.address="auto"'),
        *("--set", 'tune.metric="auc"', "--json"),
    ]
    elsewhere = shlex.split(job_command("run", file, here=False))
    assert elsewhere[3:8] == ["python", "-P", "-m", "rayforest.jobs.cli", "run"]
    assert elsewhere[8] == "project.toml"


def test_the_form_of_log_lines_goes_along(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "RAYFOREST_LOG" not in job_command("run", project, here=False)
    monkeypatch.setenv("RAYFOREST_LOG", "json")
    assert shlex.split(job_command("run", project, here=False))[1:3] == ["env", "RAYFOREST_LOG=json"]


@pytest.mark.parametrize(
    ("key", "value", "is_path"),
    [
        ("data.source", '{ delta = "table" }', True),
        ("data.source", '{ delta = "/data/table" }', False),
        ("data.source", '{ delta = "s3://lake/table" }', False),
        ("data.source", '{ iceberg = "v3.metadata.json" }', True),
        ("data.source", '{ iceberg = "shop.orders" }', False),
        ("score.publish", '{ delta = "table" }', True),
    ],
)
def test_tables_that_are_named_relative_to_the_project_file_do_not_travel(
    project: Path, key: str, value: str, is_path: bool
) -> None:
    places = ["project.root=/data/out", "data.source=/data/rows.csv", f"{key}={value}"]
    loaded = load_project(project, places)
    dashboard = Dashboard.at("http://127.0.0.1:8265")
    if not is_path:
        _refuse_relative_paths(loaded, dashboard)
        return
    with pytest.raises(ConfigError, match=f"{key} is relative to the project file"):
        _refuse_relative_paths(loaded, dashboard)
