"""`rayforest jobs`, `logs` and `stop`: what became of jobs that were submitted to a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rayforest.cluster.dashboard import Dashboard
from rayforest.cluster.jobs_api import JobsApi, JobState, Printer, connected
from rayforest.cluster.way import way_to


@dataclass(frozen=True)
class JobList:
    """The jobs of a cluster."""

    dashboard: str
    jobs: tuple[JobState, ...]
    """The newest first."""

    def as_dict(self) -> dict[str, object]:
        """The JSON object of the command, without its name."""
        return {"dashboard": self.dashboard, "jobs": [asdict(job) for job in self.jobs]}

    def __str__(self) -> str:
        if not self.jobs:
            return f"no job of rayforest is known at {self.dashboard}"
        width = max(len(job.submission_id) for job in self.jobs)
        return "\n".join(f"{job.submission_id:{width}}  {_told(job)}" for job in self.jobs)


def list_jobs(address: str | None = None, cluster: Path | None = None) -> JobList:
    """The jobs that rayforest has sent to a cluster.

    Args:
        address: of its dashboard, http://HOST:PORT.
        cluster: instead of the address, a file of `rayforest cluster render`.

    Raises:
        ConfigError: no dashboard answers there, or the token is wrong.
        RayforestError: it takes no jobs.
    """
    with _jobs_of(address, cluster) as (api, dashboard):
        return JobList(dashboard.address, tuple(api.jobs()))


def job_log(
    submission_id: str,
    *,
    address: str | None = None,
    cluster: Path | None = None,
    follow: bool = False,
    output: TextIO | None = None,
) -> int | None:
    """Print what a job has printed.

    Args:
        submission_id: its id.
        address: of the cluster's dashboard, http://HOST:PORT.
        cluster: instead of the address, a file of `rayforest cluster render`.
        follow: go on until it has ended.
        output: where to; standard output by default.

    Returns:
        The job's exit code, where it was followed to its end or had ended with one of its own.

    Raises:
        ConfigError: no dashboard answers there, the token is wrong, or the cluster knows no such job.
        RayforestError: the job did not end by itself, or the cluster does not answer any more.
        InterruptedRunError: Ctrl-C while following; the job goes on.
    """
    out = output or sys.stdout
    with _jobs_of(address, cluster) as (api, _):
        state = api.state(submission_id)
        if follow:
            return api.follow(submission_id, Printer(out, json_output=False))
        out.write(api.log(submission_id))
        out.flush()
        return state.exit_code if state.has_ended else None


def stop_job(submission_id: str, *, address: str | None = None, cluster: Path | None = None) -> JobState:
    """End a job as Ctrl-C does: finished shards are kept. One that has ended stays as it is.

    Args:
        submission_id: its id.
        address: of the cluster's dashboard, http://HOST:PORT.
        cluster: instead of the address, a file of `rayforest cluster render`.

    Raises:
        ConfigError: no dashboard answers there, the token is wrong, or the cluster knows no such job.
        RayforestError: it does not end.
    """
    with _jobs_of(address, cluster) as (api, _):
        return api.stop(submission_id)


@contextmanager
def _jobs_of(address: str | None, cluster: Path | None) -> Iterator[tuple[JobsApi, Dashboard]]:
    with way_to(address, cluster) as dashboard:
        dashboard.ray_version()
        with connected(dashboard) as api:
            yield api, dashboard


def _told(job: JobState) -> str:
    parts = [f"{job.status:9}"]
    if job.started is not None:
        parts.append(f"{datetime.fromtimestamp(job.started, UTC):%Y-%m-%d %H:%M:%S} UTC")
    if job.started is not None and job.ended is not None:
        parts.append(f"{job.ended - job.started:.0f} s")
    if job.exit_code is not None:
        parts.append(f"exit code {job.exit_code}")
    return "  ".join(parts)
