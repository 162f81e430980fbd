"""Commands that look and change nothing: init, check, files, show, trace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayforest.jobs.console import ConsoleReporter, carry_out
from rayforest.jobs.facts import fact_lines
from rayforest.jobs.options import AsJson, Debug, Overrides, ProjectFile
from rayforest.jobs.streams import print_file_text

if TYPE_CHECKING:
    from rayforest.checking.check import CheckReport
    from rayforest.stages.trace import WrittenTrace

Destination = Annotated[str, typer.Argument(metavar="DEST", help="A stage's destination: folder or URI.")]


def init(
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Files, globs or folders.")],
    target: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there, with paths that are right from there.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Look at the data and print a commented project file."""

    def work(_: ConsoleReporter) -> str:
        from rayforest.starter.starter import starter_project, write_starter

        if out is None:
            return starter_project(data, target=target)
        write_starter(data, out, target=target)
        return ""

    def show(text: str) -> None:
        if out is None:
            print_file_text(text)
        else:
            print(f"wrote {out}; next: rayforest check {out}")

    raise typer.Exit(
        carry_out("init", work, as_json=False, debug=debug, show=show, as_dict=lambda text: {"text": text})
    )


def check(project: ProjectFile, overrides: Overrides = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Validate a project file against its data; runs nothing."""

    def work(_: ConsoleReporter) -> CheckReport:
        from rayforest.checking.check import check

        return check(project, overrides=overrides or ())

    def show(report: CheckReport) -> None:
        from rayforest.features.parts import part_lines

        print(f"{report.name}: valid; {report.files:,} files, {report.bytes / 1e6:,.1f} MB")
        print(f"  to score {report.score_files:,} files")
        print(f"  key      {', '.join(report.key) or '(none)'}")
        print(f"  target   {report.target or '(none)'}")
        print("  features " + ", ".join(f"{name} ({kind})" for name, kind in report.features.items()))
        for line in part_lines(report.parts):
            print(f"  part     {line}")
        for note in report.notes:
            print(f"  note: {note}")

    raise typer.Exit(
        carry_out("check", work, as_json=as_json, debug=debug, show=show, as_dict=lambda report: report.as_dict())
    )


def files(
    destination: Destination,
    quarantine: Annotated[bool, typer.Option("--quarantine", help="List the quarantined rows' files instead.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the files of the current version, in input order."""

    def work(_: ConsoleReporter) -> list[str]:
        from rayforest.api import files

        return list(files(destination, quarantine=quarantine))

    def show(paths: list[str]) -> None:
        print_file_text("".join(f"{path}\n" for path in paths))

    def as_dict(paths: list[str]) -> dict[str, object]:
        return {"command": "files", "destination": destination, "files": paths}

    raise typer.Exit(carry_out("files", work, as_json=as_json, debug=debug, show=show, as_dict=as_dict))


def show(destination: Destination, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show what a destination or a bundle holds, and how far a run is that has not finished."""

    def work(_: ConsoleReporter) -> dict[str, object]:
        from rayforest.stages.show import describe

        return describe(destination)

    def print_facts(table: dict[str, object]) -> None:
        for line in fact_lines({name: value for name, value in table.items() if name != "command"}):
            print(line)

    raise typer.Exit(
        carry_out("show", work, as_json=as_json, debug=debug, show=print_facts, as_dict=lambda table: table)
    )


def trace(
    destinations: Annotated[list[str], typer.Argument(metavar="DEST...", help="Destinations of stages.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The trace, as JSON.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write who did which shard and when, as a Chrome trace: of the latest run of each destination."""

    def work(_: ConsoleReporter) -> WrittenTrace:
        from rayforest.api import trace

        return trace(destinations, out)

    raise typer.Exit(
        carry_out("trace", work, as_json=as_json, debug=debug, show=print, as_dict=lambda written: written.as_dict())
    )
