"""The command line: names of commands, and where each one is."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer
from rayforest.jobs import demo, look, stages, where

app = typer.Typer(
    name="rayforest",
    help="Distributed batch machine learning for tables, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (look.init, look.check, demo.generate, demo.demo):
    app.command()(command)
for command in (stages.prepare, stages.tune, stages.export, stages.score, stages.run):
    app.command(rich_help_panel="Stages")(command)
for command in (look.files, look.show):
    app.command(rich_help_panel="Results")(command)
app.command(rich_help_panel="Clusters")(where.submit)
app.add_typer(where.cluster, name="cluster", rich_help_panel="Clusters")


def main() -> NoReturn:
    """Entry point of the `rayforest` command. SIGTERM stops a run as cleanly as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    app()
    sys.exit(0)


if __name__ == "__main__":
    main()
