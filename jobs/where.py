"""submit and cluster: run a job elsewhere, and the local Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayforest.jobs.console import ConsoleReporter, carry_out
from rayforest.jobs.options import AsJson, Debug, Overrides, ProjectFile, Replace

if TYPE_CHECKING:
    from rayforest.cluster.cloud.render import Rendered
    from rayforest.cluster.local import ClusterReport
    from rayforest.cluster.submit import Submission

cluster = typer.Typer(help="Ray clusters: one on this machine, and files for clouds.", no_args_is_help=True)


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
    address: Annotated[str, typer.Option(help="The cluster's dashboard.")] = "http://127.0.0.1:8265",
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

    def work(_: ConsoleReporter) -> Submission:
        nonlocal code
        from rayforest.cluster.submit import submit

        done = submit(
            job.value,
            project,
            address=address,
            follow=follow,
            overrides=tuple(overrides or ()),
            replace=replace,
            json_output=as_json,
            debug=debug,
        )
        code = done.exit_code or 0
        return done

    def show(result: Submission) -> None:
        if not follow:
            print(result.submission_id)

    failed = carry_out("submit", work, as_json=as_json, debug=debug, show=show, as_dict=lambda done: done.as_dict())
    raise typer.Exit(failed or code)


@cluster.command()
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


@cluster.command()
def down(as_json: AsJson = False, debug: Debug = False) -> None:
    """Remove the local Ray cluster without a trace."""

    def work(_: ConsoleReporter) -> ClusterReport:
        from rayforest.cluster.local import down

        return down()

    raise typer.Exit(_report("cluster down", work, as_json=as_json, debug=debug))


@cluster.command()
def status(as_json: AsJson = False, debug: Debug = False) -> None:
    """Say whether the local Ray cluster runs, and where."""

    def work(_: ConsoleReporter) -> ClusterReport:
        from rayforest.cluster.local import status

        return status()

    raise typer.Exit(_report("cluster status", work, as_json=as_json, debug=debug))


class CloudProvider(StrEnum):
    """Where a cluster can be rendered for."""

    AWS = "aws"
    GCP = "gcp"
    AZURE = "azure"
    KUBERAY = "kuberay"


@cluster.command()
def render(
    provider: Annotated[CloudProvider, typer.Argument(help="The cloud, or KubeRay on any Kubernetes.")],
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
        from rayforest.cluster.cloud.description import Provider, load_description
        from rayforest.cluster.cloud.render import write_rendered

        loaded = load_description(description, tuple(overrides or ()))
        return write_rendered(loaded, Provider(provider.value), out, overwrite=overwrite)

    def as_dict(rendered: Rendered) -> dict[str, object]:
        return {"command": "cluster render", **rendered.as_dict()}

    code = carry_out("cluster render", work, as_json=as_json, debug=debug, show=print, as_dict=as_dict)
    raise typer.Exit(code)


def _report(command: str, work: Callable[[ConsoleReporter], ClusterReport], *, as_json: bool, debug: bool) -> int:
    def as_dict(report: ClusterReport) -> dict[str, object]:
        return {"command": command, **report.as_dict()}

    return carry_out(command, work, as_json=as_json, debug=debug, show=print, as_dict=as_dict)
