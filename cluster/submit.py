"""`rayforest submit`: run a job on a Ray cluster through the Ray Jobs API, and come back with its exit code.

What ships is the project file, checked first, and where the cluster lacks it this rayforest; both are said before:

- A cluster on this machine (a Ray dashboard process of this user listens at the address) has the same files, so the
  job reads the project file where it lies, and nothing ships.
- Any other cluster is asked what it has installed, and gets a folder that holds just what it is to have: Ray would ship
  a whole folder, with the .env in it. Relative paths would mean other files there, so they are refused.

Variables that the project file names, as ${VAR} or $VAR, go along with the value they have here, except those whose
name speaks of a secret (KEY, SECRET, TOKEN, PASSWORD, CREDENTIAL): these must be set on the cluster. A project file,
setting or variable that looks as if it held a secret is refused. RAYFOREST_LOG, the form of log lines, goes along, too.

While the job is followed, Ctrl-C stops the following and not the job, and says how to follow or stop it.
"""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rayforest.cluster.dashboard import Dashboard
from rayforest.cluster.jobs_api import PREFIX, JobsApi, Printer, connected
from rayforest.cluster.secret_text import NAME, refuse_secrets
from rayforest.cluster.shipping import probe, read_probe, staged
from rayforest.cluster.way import way_to
from rayforest.engine.log_lines import VARIABLE as LOG_VARIABLE
from rayforest.errors import ConfigError, did_you_mean
from rayforest.project.load import load_project, used_variables
from rayforest.project.sections import Project, TableSection

JOBS = ("prepare", "tune", "export", "score", "run")


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
    address: str | None = None,
    cluster: Path | None = None,
    follow: bool = True,
    overrides: Sequence[str] = (),
    replace: bool = False,
    json_output: bool = False,
    debug: bool = False,
    output: TextIO | None = None,
    say: Callable[[str], None] = lambda _: None,
    entrypoint: str | None = None,
) -> Submission:
    """Submit a job, and follow it to its end.

    Args:
        job: prepare, tune, export, score or run.
        project: the project file.
        address: of the cluster's dashboard, http://HOST:PORT.
        cluster: instead of the address, a file that `rayforest cluster render` wrote and that was applied.
        follow: print what the job prints and wait for it; otherwise return as soon as it is accepted.
        overrides: `section.key=value` texts, as for --set.
        replace: pass --replace to the job.
        json_output: pass --json to the job. What people read then goes to standard error.
        debug: pass --debug to the job.
        output: where the job's output goes; standard output, or standard error with json_output, by default.
        say: is told what ships and how large it is, before it does.
        entrypoint: run this shell command instead of the job.

    Raises:
        ConfigError: the job, the project file or the token is wrong, something holds what looks like a secret, no
            dashboard answers at the address, or the cluster has not the packages that rayforest needs.
        RayforestError: the cluster does not take the job, or dies during it, or the job ended without an exit code of
            its own.
        InterruptedRunError: Ctrl-C while following; the job goes on.
    """
    if job not in JOBS:
        raise ConfigError(f"{job!r} cannot be submitted", expected=", ".join(JOBS), next_step=did_you_mean(job, JOBS))
    loaded = load_project(project, overrides)
    _refuse_secrets(project, overrides)
    flags = (*(["--replace"] if replace else []), *(["--json"] if json_output else []), *(["--debug"] if debug else []))
    submission_id = f"{PREFIX}{job}-{secrets.token_hex(4)}"
    with way_to(address, cluster) as dashboard:
        version = dashboard.ray_version()
        here = dashboard.runs_here()
        if here:
            _check_ray_version(version)
        else:
            _refuse_relative_paths(loaded, dashboard)
        command = entrypoint or job_command(job, project, here=here, overrides=overrides, flags=flags)
        with connected(dashboard) as api:
            if here:
                say(f"nothing ships: a cluster on this machine reads {project} where it lies")
                api.send(submission_id, command, ships=None)
            else:
                _ship(api, submission_id, command, project, dashboard, say)
            if not follow:
                return Submission(submission_id, dashboard.address, None)
            printer = Printer(output or (sys.stderr if json_output else sys.stdout), json_output=json_output)
            exit_code = api.follow(submission_id, printer)
    return Submission(submission_id, dashboard.address, exit_code, printer.result)


def _ship(
    api: JobsApi, submission_id: str, command: str, project: Path, dashboard: Dashboard, say: Callable[[str], None]
) -> None:
    """Send a job with what its cluster lacks."""
    installed = read_probe(api.ask(shlex.join(["exec", "python", "-c", probe()])), dashboard.address)
    installed.refuse_if_unfit(dashboard.address)
    with staged(project, with_rayforest=installed.lacks_this_rayforest) as shipment:
        say(f"the cluster has {installed} (Python {installed.python}); ships {shipment}")
        api.send(submission_id, command, ships=shipment.folder)


def _refuse_secrets(project: Path, overrides: Sequence[str]) -> None:
    texts = {str(project): project.read_text(encoding="utf-8-sig")}
    settings = {f"--set {override.partition('=')[0]}": override for override in overrides}
    refuse_secrets(texts | settings, _travelling(project, overrides))


def _travelling(project: Path, overrides: Sequence[str]) -> list[str]:
    """Names of the variables that go along."""
    return [name for name in used_variables(project, overrides) if not NAME.search(name)]


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
        "data.source": _paths_of(project.data.source),
        "score.source": _paths_of(project.score.source),
        "score.destination": (project.score.destination,) if project.score.destination else (),
        "score.publish": (project.score.publish.delta,) if project.score.publish else (),
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


def _paths_of(source: tuple[str, ...] | TableSection) -> tuple[str, ...]:
    """The paths and URIs of a source; the name of a table in a catalog is neither."""
    if isinstance(source, tuple):
        return source
    table = source.delta or source.iceberg or ""
    return (table,) if source.delta or table.endswith(".json") else ()


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
    names = [*_travelling(project, overrides), LOG_VARIABLE]  # the job's log lines are for whoever follows it
    variables = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    # exec and -P: no shell stays in between, and nothing in the working folder takes the place of a module.
    python = ["exec", "env", *variables, sys.executable if here else "python", "-P", "-m", "rayforest.jobs.cli"]
    settings = ['run.executor="ray"', 'run.address="auto"', *overrides]
    sets = [part for setting in settings for part in ("--set", setting)]
    return shlex.join([*python, job, str(project.absolute()) if here else project.name, *sets, *flags])
