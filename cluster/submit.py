"""`rayforest submit`: run a job on a Ray cluster through the Ray Jobs API, and come back with its exit code.

What ships is the project file, checked first, and nothing else:

- A cluster on this machine (a Ray dashboard process of this user listens at the address) has the same files, so the
  job reads the project file where it lies.
- Any other cluster gets the project file alone, from a folder that holds nothing else: Ray would ship a whole folder,
  with the .env in it. Relative paths would mean other files there, so they are refused. The cluster's image has
  rayforest installed.

Variables that the project file names, as ${VAR} or $VAR, go along with the value they have here, except those whose
name speaks of a secret (KEY, SECRET, TOKEN, PASSWORD, CREDENTIAL): these must be set on the cluster.

While the job is followed, Ctrl-C stops the following and not the job, and says how to follow or stop it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rayforest.cluster.dashboard import LIMIT_S, Dashboard
from rayforest.cluster.local import recorded_cluster
from rayforest.engine.deadline import within
from rayforest.errors import ConfigError, InterruptedRunError, RayforestError, did_you_mean
from rayforest.project.load import load_project, used_variables
from rayforest.project.sections import Project

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

JOBS = ("prepare", "tune", "export", "score", "run")
EXIT_CODES = (0, 1, 2, 3, 130)
"""What a rayforest job ends with (INTERFACE); anything else is the shell's or the kernel's."""

_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)
_NOISE = re.compile(
    r"^.* job_manager\.py:\d+ -- Runtime env is setting up\.\n|Running entrypoint for job rayforest-.*\n", re.MULTILINE
)
"""What Ray writes into a job's log; the second line may come late, amid a line of the job."""
_RECONNECTS = 30
_POLL_S = 0.5


@dataclass(frozen=True)
class Submission:
    """A job on a cluster."""

    submission_id: str
    dashboard: str
    exit_code: int | None
    """The job's own exit code: 0, 1, 2, 3 or 130. None if it was not waited for."""
    result: dict[str, Any] | None = None
    """With json: the object that the job printed."""

    def as_dict(self) -> dict[str, object]:
        """The JSON object of the command: the job's own, where it was followed and printed one."""
        if self.result is not None:
            return self.result
        told: dict[str, object] = {
            "command": "submit",
            "submission_id": self.submission_id,
            "dashboard": self.dashboard,
        }
        return told if self.exit_code is None else told | {"exit_code": self.exit_code}


def submit(
    job: str,
    project: Path,
    *,
    address: str,
    follow: bool = True,
    overrides: Sequence[str] = (),
    replace: bool = False,
    json_output: bool = False,
    debug: bool = False,
    output: TextIO | None = None,
    entrypoint: str | None = None,
) -> Submission:
    """Submit a job, and follow it to its end.

    Args:
        job: prepare, tune, export, score or run.
        project: the project file.
        address: of the cluster's dashboard, http://HOST:PORT.
        follow: print what the job prints and wait for it; otherwise return as soon as it is accepted.
        overrides: `section.key=value` texts, as for --set.
        replace: pass --replace to the job.
        json_output: pass --json to the job. What people read then goes to standard error.
        debug: pass --debug to the job.
        output: where the job's output goes; standard output, or standard error with json_output, by default.
        entrypoint: run this shell command instead of the job.

    Raises:
        ConfigError: the job, the project file or the token is wrong, or no dashboard answers at the address.
        RayforestError: the cluster does not take the job, or dies during it, or the job ended without an exit code of
            its own.
        InterruptedRunError: Ctrl-C while following; the job goes on.
    """
    if job not in JOBS:
        raise ConfigError(f"{job!r} cannot be submitted", expected=", ".join(JOBS), next_step=did_you_mean(job, JOBS))
    loaded = load_project(project, overrides)
    dashboard = _dashboard(address)
    version = dashboard.ray_version()
    here = dashboard.runs_here()
    if here:
        _check_ray_version(version)
    else:
        _refuse_relative_paths(loaded, dashboard)
    flags = (*(["--replace"] if replace else []), *(["--json"] if json_output else []), *(["--debug"] if debug else []))
    command = entrypoint or job_command(job, project, here=here, overrides=overrides, flags=flags)
    with _only_this_dashboard(dashboard):
        client = _client(dashboard)
        submission_id = _send(client, job, command, ships=None if here else project)
        if not follow:
            return Submission(submission_id, dashboard.address, None)
        printer = _Printer(output or (sys.stderr if json_output else sys.stdout), json_output=json_output)
        try:
            exit_code = _follow(client, submission_id, printer)
        except KeyboardInterrupt:
            raise _interrupted(submission_id, dashboard) from None
    return Submission(submission_id, dashboard.address, exit_code, printer.result)


def _dashboard(address: str) -> Dashboard:
    named = Dashboard.at(address)
    local = recorded_cluster()
    if local and named.is_loopback and local.dashboard.endswith(f":{named.port}"):
        return Dashboard.at(address, token_file=local.head.token)
    return named


def _check_ray_version(cluster: str) -> None:
    import ray

    if ray.__version__ != cluster:
        raise ConfigError(
            "the cluster on this machine runs another version of Ray than this Python environment",
            expected=f"Ray {ray.__version__}",
            found=f"Ray {cluster}",
            next_step="submit from the environment that started the cluster",
        )


def _refuse_relative_paths(project: Project, dashboard: Dashboard) -> None:
    paths = {
        "project.root": (project.project.root,),
        "data.source": project.data.source,
        "score.source": project.score.source,
        "score.destination": (project.score.destination,) if project.score.destination else (),
    }
    for key, values in paths.items():
        for value in values:
            if "://" not in value and not value.startswith(("/", "~")):
                raise ConfigError(
                    f"{key} is relative to the project file, which moves when it goes to {dashboard.address}",
                    expected="a URI such as s3://bucket/folder, or an absolute path that every node of the cluster has",
                    found=value,
                    next_step=f"change it, or add: --set {key}=...",
                )


def job_command(
    job: str, project: Path, *, here: bool, overrides: Sequence[str] = (), flags: Sequence[str] = ()
) -> str:
    """The shell command that runs a job on the cluster's head.

    Args:
        job: name of the job.
        project: the project file.
        here: the cluster has this machine's files and this Python environment.
        overrides: as for --set.
        flags: further options of the job.
    """
    names = [name for name in used_variables(project, overrides) if not _SECRET.search(name)]
    variables = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    # exec and -P: no shell stays in between, and nothing in the working folder takes the place of a module.
    python = ["exec", "env", *variables, sys.executable if here else "python", "-P", "-m", "rayforest.jobs.cli"]
    settings = ['run.executor="ray"', 'run.address="auto"', *overrides]
    sets = [part for setting in settings for part in ("--set", setting)]
    return shlex.join([*python, job, str(project.absolute()) if here else project.name, *sets, *flags])


@contextmanager
def _only_this_dashboard(dashboard: Dashboard) -> Iterator[None]:
    """Hide what would lead Ray's client elsewhere: its address variables, and proxies for this machine."""
    hidden = {"RAY_ADDRESS": None, "RAY_API_SERVER_ADDRESS": None}
    bypass = ",".join(filter(None, (os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), dashboard.host)))
    changes: dict[str, str | None] = {**hidden, **({"no_proxy": bypass} if dashboard.is_loopback else {})}
    before = {name: os.environ.get(name) for name in changes}
    try:
        _set_environment(changes)
        yield
    finally:
        _set_environment(before)


def _set_environment(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _client(dashboard: Dashboard) -> JobSubmissionClient:
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)  # it tells of every connection
    try:
        return within(LIMIT_S, lambda: JobSubmissionClient(dashboard.address, headers=dashboard.headers))
    except (RuntimeError, OSError) as error:
        raise RayforestError(
            f"{dashboard.address} takes no jobs",
            found=_first_line(error),
            next_step="look at the cluster's dashboard, and submit again",
        ) from None


def _send(client: JobSubmissionClient, job: str, command: str, *, ships: Path | None) -> str:
    """Hand the job over. `ships` is the project file for a cluster that cannot read it here."""
    submission_id = f"rayforest-{job}-{secrets.token_hex(4)}"
    try:
        if ships is None:
            return str(client.submit_job(entrypoint=command, submission_id=submission_id))
        with tempfile.TemporaryDirectory(prefix="rayforest-ship-") as staging:
            shutil.copyfile(ships, Path(staging) / ships.name)
            return str(
                client.submit_job(entrypoint=command, submission_id=submission_id, runtime_env={"working_dir": staging})
            )
    except (RuntimeError, OSError) as error:
        raise RayforestError(
            "the cluster did not take the job",
            found=_first_line(error),
            next_step="look at the cluster's dashboard, and submit again",
        ) from None


class _Printer:
    """Passes the job's output on, line by line, each once; with json, holds back the result."""

    def __init__(self, output: TextIO, *, json_output: bool) -> None:
        self.result: dict[str, Any] | None = None
        self.characters = 0
        """Characters of the job's log that were taken so far."""
        self._output, self._json_output = output, json_output
        self._partial = ""

    def take(self, text: str) -> None:
        self.characters += len(text)
        *lines, self._partial = _NOISE.sub("", self._partial + text).split("\n")
        for line in lines:
            self._line(line + "\n")
        self._output.flush()

    def finish(self) -> None:
        if self._partial:
            self._line(self._partial)
        self._output.flush()

    def _line(self, line: str) -> None:
        if self._json_output and line.startswith("{"):
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if isinstance(value, dict) and "command" in value:
                self.result = value
                return
        self._output.write(line)


def _follow(client: JobSubmissionClient, submission_id: str, printer: _Printer) -> int:
    """Print the log until the job has ended. A connection that breaks is opened again."""
    details = _call(client.get_job_info, submission_id)
    while not details.status.is_terminal():
        try:
            asyncio.run(_print_log(client, submission_id, printer))
        except (RuntimeError, OSError):  # aiohttp's connection errors are OSErrors
            time.sleep(1)
        details = _call(client.get_job_info, submission_id)
    printer.take(_call(client.get_job_logs, submission_id)[printer.characters :])  # what came after the last look
    printer.finish()
    if details.driver_exit_code in EXIT_CODES:
        return int(details.driver_exit_code)
    if details.status == "STOPPED":
        raise InterruptedRunError(
            f"job {submission_id} was stopped", next_step="submit it again: finished shards are kept"
        )
    raise RayforestError(
        f"job {submission_id} did not end by itself",
        expected="an exit code of rayforest",
        found=f"exit code {details.driver_exit_code}"
        if details.driver_exit_code is not None
        else _first_line(details.message),
        next_step="submit it again: finished shards are kept",
    )


async def _print_log(client: JobSubmissionClient, submission_id: str, printer: _Printer) -> None:
    """Until the job has ended: Ray ends the log only seconds later, so it is asked for the job's state meanwhile."""
    printing = asyncio.create_task(_print_lines(client, submission_id, printer))
    try:
        while not (await asyncio.wait([printing], timeout=_POLL_S))[0]:
            details = await asyncio.to_thread(client.get_job_info, submission_id)
            if details.status.is_terminal():
                return
        await printing
    finally:
        printing.cancel()


async def _print_lines(client: JobSubmissionClient, submission_id: str, printer: _Printer) -> None:
    skip = printer.characters  # the log begins anew with every connection
    async for text in client.tail_job_logs(submission_id):
        if len(text) > skip:
            printer.take(text[skip:])
        skip = max(skip - len(text), 0)


def _call(request: Any, submission_id: str) -> Any:
    for _ in range(_RECONNECTS):
        try:
            return request(submission_id)
        except OSError:  # requests' connection errors are OSErrors
            time.sleep(1)
        except RuntimeError as error:
            raise RayforestError(
                f"the cluster does not know job {submission_id}",
                found=_first_line(error),
                next_step="look at the cluster's dashboard; if the job is not there, submit it again: finished shards "
                "are kept",
            ) from None
    raise RayforestError(
        f"the cluster does not answer; job {submission_id} may still run",
        next_step="check the connection, and ask with: ray job status " + submission_id,
    )


def _interrupted(submission_id: str, dashboard: Dashboard) -> InterruptedRunError:
    token = "RAY_AUTH_MODE=token " if dashboard.token else ""
    token += f"RAY_AUTH_TOKEN_PATH={dashboard.token_file} " if dashboard.token_file else ""
    where = f"{submission_id} --address {dashboard.address}"
    return InterruptedRunError(
        f"stopped following; job {submission_id} goes on",
        next_step=f"follow it with: {token}ray job logs --follow {where}\n"
        f"            stop it with: {token}ray job stop {where}",
    )


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
