"""submit, jobs, logs, stop and cluster: jobs on a Ray cluster, and such clusters."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayforest.cluster.cloud.provider import Provider
from rayforest.jobs.console import ConsoleReporter, carry_out
from rayforest.jobs.options import AsJson, Debug, Overrides, ProjectFile, Replace

if TYPE_CHECKING:
    from rayforest.cluster.cloud.render import Rendered
    from rayforest.cluster.jobs_api import JobState
    from rayforest.cluster.local import ClusterReport
    from rayforest.cluster.submit import Submission
    from rayforest.cluster.submitted import JobList

clusters = typer.Typer(help="Ray clusters: one on this machine, and files for clouds.", no_args_is_help=True)


Address = Annotated[
    str | None, typer.Option(help="The cluster's dashboard, http://HOST:PORT; port 8265 of this machine by default.")
]
ClusterFile = Annotated[
    Path | None,
    typer.Option(
        "--cluster", metavar="FILE", help="Instead of an address: cluster.yaml or raycluster.yaml of `cluster render`."
    ),
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job, as `rayforest jobs` lists it.")]


class Job(StrEnum):
    """What can be submitted."""

    PREPARE = "prepare"
    TUNE = "tune"
    EXPORT = "export"
    SCORE = "score"
    RUN = "run"


def submit(
    job: Annotated[Job, typer.Argument(help="The job.")],
    project: ProjectFile,
    address: Address = None,
    cluster: ClusterFile = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-wait", help="Stream the job's output and return its exit code.")
    ] = True,
    overrides: Overrides = None,
    replace: Replace = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Send a job to a Ray cluster through the Ray Jobs API."""
    code = 0

    def work(reporter: ConsoleReporter) -> Submission:
        nonlocal code
        from rayforest.cluster.submit import submit

        done = submit(
            job.value,
            project,
            address=address,
            cluster=cluster,
            follow=follow,
            overrides=tuple(overrides or ()),
            replace=replace,
            json_output=as_json,
            debug=debug,
            say=reporter.say,
        )
        code = done.exit_code or 0
        return done

    def show(result: Submission) -> None:
        if not follow:
            print(result.submission_id)

    failed = carry_out("submit", work, as_json=as_json, debug=debug, show=show, as_dict=lambda done: done.as_dict())
    raise typer.Exit(failed or code)


def jobs(address: Address = None, cluster: ClusterFile = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """List the jobs that were submitted to a cluster, the newest first."""

    def work(_: ConsoleReporter) -> JobList:
        from rayforest.cluster.submitted import list_jobs

        return list_jobs(address, cluster)

    def as_dict(found: JobList) -> dict[str, object]:
        return {"command": "jobs", **found.as_dict()}

    raise typer.Exit(carry_out("jobs", work, as_json=as_json, debug=debug, show=print, as_dict=as_dict))


def logs(
    job: JobId,
    address: Address = None,
    cluster: ClusterFile = None,
    follow: Annotated[bool, typer.Option("--follow", help="Until the job has ended; return its exit code.")] = False,
    debug: Debug = False,
) -> None:
    """Show what a submitted job has printed."""
    code = 0

    def work(_: ConsoleReporter) -> None:
        nonlocal code
        from rayforest.cluster.submitted import job_log

        ended = job_log(job, address=address, cluster=cluster, follow=follow)
        code = ended or 0 if follow else 0

    failed = carry_out("logs", work, as_json=False, debug=debug, show=lambda _: None, as_dict=lambda _: {})
    raise typer.Exit(failed or code)


def stop(
    job: JobId,
    address: Address = None,
    cluster: ClusterFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Stop a submitted job; its finished shards are kept."""

    def work(_: ConsoleReporter) -> JobState:
        from rayforest.cluster.submitted import stop_job

        return stop_job(job, address=address, cluster=cluster)

    def as_dict(state: JobState) -> dict[str, object]:
        return {"command": "stop", "submission_id": state.submission_id, "status": state.status}

    def show(state: JobState) -> None:
        print(f"{state.submission_id}: {state.status}")

    raise typer.Exit(carry_out("stop", work, as_json=as_json, debug=debug, show=show, as_dict=as_dict))


@clusters.command()
def up(
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs that the cluster may use; all by default.")] = None,
    dashboard_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of dashboard and Jobs API.")] = 8265,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Start a local Ray cluster, with token authentication, on localhost only."""

    def work(_: ConsoleReporter) -> ClusterReport:
        from rayforest.cluster.local import up

        return up(cpus=cpus, dashboard_port=dashboard_port)

    raise typer.Exit(_report("cluster up", work, as_json=as_json, debug=debug))


@clusters.command()
def down(as_json: AsJson = False, debug: Debug = False) -> None:
    """Remove the local Ray cluster without a trace."""

    def work(_: ConsoleReporter) -> ClusterReport:
        from rayforest.cluster.local import down

        return down()

    raise typer.Exit(_report("cluster down", work, as_json=as_json, debug=debug))


@clusters.command()
def status(as_json: AsJson = False, debug: Debug = False) -> None:
    """Say whether the local Ray cluster runs, and where."""

    def work(_: ConsoleReporter) -> ClusterReport:
        from rayforest.cluster.local import status

        return status()

    raise typer.Exit(_report("cluster status", work, as_json=as_json, debug=debug))


@clusters.command()
def render(
    provider: Annotated[Provider, typer.Argument(help="The cloud, or KubeRay on any Kubernetes.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    description: Annotated[
        Path | None, typer.Option(help="TOML file that describes the cluster; its defaults without one.")
    ] = None,
    overrides: Overrides = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that hold something else.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the files of a cluster in a cloud: for Ray's launcher, or for KubeRay, with a Dockerfile."""

    def work(_: ConsoleReporter) -> Rendered:
        from rayforest.cluster.cloud.description import load_description
        from rayforest.cluster.cloud.render import write_rendered

        loaded = load_description(description, tuple(overrides or ()))
        return write_rendered(loaded, provider, out, overwrite=overwrite)

    def as_dict(rendered: Rendered) -> dict[str, object]:
        return {"command": "cluster render", **rendered.as_dict()}

    code = carry_out("cluster render", work, as_json=as_json, debug=debug, show=print, as_dict=as_dict)
    raise typer.Exit(code)


def _report(command: str, work: Callable[[ConsoleReporter], ClusterReport], *, as_json: bool, debug: bool) -> int:
    def as_dict(report: ClusterReport) -> dict[str, object]:
        return {"command": command, **report.as_dict()}

    return carry_out(command, work, as_json=as_json, debug=debug, show=print, as_dict=as_dict)
