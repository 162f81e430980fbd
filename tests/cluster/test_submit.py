"""`rayforest submit`: the job's output and exit code come back, and nothing secret goes out."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import os
import platform
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from shared_cluster import use_state_folder
from waiting import free_port, wait_until

from rayforest.cluster import dashboard, jobs_api, shipping, way
from rayforest.cluster.cloud.description import load_description
from rayforest.cluster.cloud.provider import Provider
from rayforest.cluster.cloud.render import write_rendered
from rayforest.cluster.dashboard import Dashboard
from rayforest.cluster.jobs_api import Printer
from rayforest.cluster.local import ClusterInfo, down, up
from rayforest.cluster.secret_text import refuse_secrets
from rayforest.cluster.shipping import read_probe
from rayforest.cluster.submit import Submission, _refuse_relative_paths, job_command, submit
from rayforest.cluster.submitted import list_jobs
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
def test_another_cluster_gets_the_project_file_alone_where_it_has_this_rayforest(
    project: Path, tunnel: str, cluster: ClusterInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.parent / ".env").write_text("PASSWORD=x")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.head.token))
    with pytest.raises(ConfigError, match="relative to the project file"):
        submit("score", project, address=tunnel)
    output, said = io.StringIO(), list[str]()
    done = submit(
        "score",
        project,
        address=tunnel,
        overrides=["project.root=/data/out", "data.source=/data/rows.csv"],
        entrypoint="ls -A",
        output=output,
        say=said.append,
    )
    assert (done.exit_code, output.getvalue()) == (0, "project.toml\n")
    here = f"rayforest {version('rayforest')} (Python {platform.python_version()})"
    assert said == [f"the cluster has {here}; ships project.toml ({project.stat().st_size} bytes)"]
    assert not [job for job in list_jobs(tunnel).jobs if "probe" in job.submission_id]


@pytest.mark.ray
def test_a_cluster_of_another_version_gets_this_rayforest_and_works_with_it(
    project: Path, cluster: ClusterInfo, kubectl: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the way that a rendered file describes, too."""
    rows = "".join(f"{i},{i % 7}\n" for i in range(50))
    (tmp_path / "rows.csv").write_text("amount,weekday\n" + rows)
    project.write_text(f'[project]\nname = "x"\nroot = "{tmp_path}/out"\n[data]\nsource = "{tmp_path}/rows.csv"\n')
    monkeypatch.setattr(shipping, "version", lambda _: "9.9.9")
    rendered = tmp_path / "rendered" / "raycluster.yaml"
    write_rendered(load_description(None), Provider.KUBERAY, rendered.parent)
    which = "python -P -c 'import rayforest; print(rayforest.__file__)'"
    command = f"{which} && {job_command('prepare', project, here=False, flags=['--json'])}"
    output, said = io.StringIO(), list[str]()
    done = submit(
        "prepare", project, cluster=rendered, json_output=True, output=output, say=said.append, entrypoint=command
    )
    assert done.result is not None, output.getvalue()
    assert (done.exit_code, done.result["rows_in"]) == (0, 50)
    assert re.fullmatch(r"/.*/working_dir_files/.*/rayforest/__init__\.py", output.getvalue().splitlines()[0])
    assert re.search(r"; ships project.toml \(\d+ bytes\) and rayforest 9.9.9 \(1\.\d MB\)", said[0])
    assert kubectl.read_text().split("\n")[:2] == [
        "--namespace rayforest port-forward service/rayforest-head-svc N:8265",
        "--namespace rayforest get secret rayforest --output=jsonpath={.data.auth_token}",
    ]


@pytest.fixture
def kubectl(tmp_path: Path, cluster: ClusterInfo, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that forwards to the cluster and knows its token; the file in which it writes what it was asked for."""
    asked, program = tmp_path / "asked", tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    stand_in = Path(__file__).parents[1] / "given" / "kubectl.py"
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(stand_in)])} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("ASKED", str(asked))
    monkeypatch.setenv("DASHBOARD_PORT", cluster.dashboard.rpartition(":")[2])
    monkeypatch.setenv("TOKEN_FILE", str(cluster.head.token))
    return asked


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


def test_a_file_that_describes_no_cluster_is_refused_with_the_ones_that_do(project: Path, tmp_path: Path) -> None:
    write_rendered(load_description(None), Provider.KUBERAY, tmp_path / "kuberay")
    with pytest.raises(ConfigError, match="brings its own cluster") as error:
        submit("score", project, cluster=tmp_path / "kuberay" / "rayjob.yaml")
    assert "kubectl apply -f" in error.value.next_step
    for name in ("namespace.yaml", "absent.yaml"):
        with pytest.raises(ConfigError) as error:
            submit("score", project, cluster=tmp_path / "kuberay" / name)
        assert "cluster.yaml or raycluster.yaml" in error.value.expected
    with pytest.raises(ConfigError, match="named twice"):
        submit("score", project, cluster=tmp_path / "raycluster.yaml", address="http://127.0.0.1:8265")


def test_a_way_that_does_not_open_is_told_with_its_command(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rendered(load_description(None), Provider.KUBERAY, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(RayforestError, match="does not open") as error:
        submit("score", project, cluster=tmp_path / "raycluster.yaml")
    assert (error.value.found, error.value.exit_code) == ("no such file or directory", 1)
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text("#!/bin/sh\necho 'error: no such service' >&2\nexit 1\n")
    kubectl.chmod(0o755)
    with pytest.raises(RayforestError, match="does not open") as error:
        submit("score", project, cluster=tmp_path / "raycluster.yaml")
    assert "kubectl --namespace rayforest" in error.value.expected
    assert error.value.found == "error: no such service"


def test_the_launchers_file_is_reached_by_rays_own_tunnel(tmp_path: Path) -> None:
    write_rendered(load_description(None), Provider.AWS, tmp_path)
    found = way._read(tmp_path / "cluster.yaml")
    assert found.tunnel[1:] == (
        "-m",
        "ray.scripts.scripts",
        "dashboard",
        str(tmp_path / "cluster.yaml"),
        "--port",
        "PORT",
    )
    assert found.token() is None


def test_a_cluster_without_what_rayforest_needs_is_refused_before_anything_ships() -> None:
    found = read_probe('noise\nrayforest-probe ["3.12.4", {"ray": "2.60.0", "numpy": "2.0"}]\n', "http://head:8265")
    assert (str(found), found.lacks_this_rayforest) == ("no rayforest", True)
    with pytest.raises(ConfigError, match="lacks packages") as error:
        found.refuse_if_unfit("http://head:8265")
    assert "polars" in error.value.expected
    assert "ray," not in error.value.expected
    with pytest.raises(ConfigError, match="no Python that jobs can use") as error:
        read_probe("/bin/sh: 1: exec: python: not found\n", "http://head:8265")
    assert error.value.found == "/bin/sh: 1: exec: python: not found"


SECRETS = {
    "private key": "-----BEGIN RSA PRIVATE KEY-----",
    "AWS access key": "AKIA" + "IOSFODNN7EXAMPLE",
    "AWS secret key": "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY",
    "Azure": "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=" + "abcdefg==",
    "Google API key": "AIza" + "SyD3x4mpl3x4mpl3x4mpl3x4mpl3x4mpl3x",
    "GitHub": "ghp_" + "x4mpl3x4mpl3x4mpl3x4mpl3x4mpl3x4mpl3",
    "JSON web token": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "password in a URL": "postgres://me:" + "hunter22@db/sales",
    "password": "password = " + "hunter22hunter22",
    "signed URL": "https://x/y?sv=1&sig=" + "abcdefghijkl",
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("place", ["file", "setting", "variable"])
def test_what_looks_like_a_secret_is_refused_by_its_place_and_not_repeated(
    kind: str, place: str, project: Path, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, overrides = SECRETS[kind], list[str]()
    if place == "file":
        project.write_text(f"{project.read_text()}\n# {secret}\n")
    elif place == "setting":
        overrides = [f"data.target='{secret}'"]
    else:
        monkeypatch.setenv("WHERE", secret)
        overrides = ["data.target='${WHERE}'"]
    with pytest.raises(ConfigError, match="looks like a secret") as error:
        submit("score", project, overrides=overrides)
    assert secret not in str(error.value)
    assert {"file": f"{project} holds", "setting": "--set data.target", "variable": "variable WHERE"}[place] in (
        error.value.what
    )
    assert ("line 6" in error.value.what) == (place == "file")


def test_a_secret_of_this_environment_is_known_wherever_it_stands(
    project: Path, state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    project.write_text(f"{project.read_text()}\n# {'f' * 64}\n")
    with pytest.raises(ConfigError, match="looks like a secret") as error:
        submit("score", project)
    assert error.value.found == "the value of RAY_AUTH_TOKEN"


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "jobs" / "examples").glob("*.toml")), ids=str)
def test_the_example_projects_hold_no_secret(file: Path) -> None:
    refuse_secrets({str(file): file.read_text()}, [])


def test_names_paths_and_hashes_are_no_secrets() -> None:
    lines = [
        "source = 's3://company-Data2/Warehouse/2026/Payments/Part00001/x'",
        "version = 'da39a3ee5e6b4b0d3255bfef95601890afd80709'",
        "root = '/data/Projects/Payments2026/Quarter3/Region12'",
        "hash = ['card_id']  # by RAYFOREST_HASH_KEY",
        "password_changed = 'CAST(password_changed AS TIMESTAMP)'",
    ]
    refuse_secrets({"project.toml": "\n".join(lines)}, [])
