"""The command line: names of commands, and where each one is."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
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
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start": (demo.demo, demo.generate, look.init, look.check),
    "Stages": (stages.run, stages.prepare, stages.tune, stages.export, stages.score),
    "Results": (look.files, look.show),
    "Clusters": (where.submit,),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(where.cluster, name="cluster", rich_help_panel="Clusters")


def main() -> NoReturn:
    """Entry point of the `rayforest` command. SIGTERM stops a run as cleanly as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    app()
    sys.exit(0)


if __name__ == "__main__":
    main()
