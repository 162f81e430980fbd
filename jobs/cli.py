"""The command line: names of commands, and where each one is."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any, NoReturn

import typer

import rayforest
from rayforest.errors import ConfigError
from rayforest.jobs import demo, look, stages, where
from rayforest.jobs.streams import escape_what_cannot_be_shown, open_closed_streams, use_utf8
from rayforest.native_output import without_panics
from rayforest.process_settings import keep_memory

UsageError: Any = typer.BadParameter.__bases__[0]  # of typer's own copy of click, or of click itself

app = typer.Typer(
    name="rayforest",
    help="Distributed batch machine learning for tables, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"rayforest {rayforest.__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
]


@app.callback()
def _options(version: Version = False) -> None: ...


COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start": (demo.demo, demo.generate, look.init, look.check),
    "Stages": (stages.run, stages.prepare, stages.tune, stages.export, stages.score),
    "Results": (look.files, look.show, look.trace),
    "Clusters": (where.submit, where.jobs, where.logs, where.stop),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(where.clusters, name="cluster", rich_help_panel="Clusters")


def main() -> NoReturn:
    """Entry point of the `rayforest` command. SIGTERM stops a run as cleanly as Ctrl-C does."""
    open_closed_streams()
    use_utf8()
    escape_what_cannot_be_shown()
    keep_memory()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with nullcontext() if "--debug" in sys.argv else without_panics():
        code = _run()
    sys.exit(code)


def _run() -> int:
    try:
        return int(app(standalone_mode=False) or 0)
    except UsageError as error:
        error.show()
        if "--json" in sys.argv:
            said = error.format_message()
            told = ConfigError(said[:1].lower() + said[1:].removesuffix("."), next_step="see --help")
            print(json.dumps({"command": " ".join(sys.argv[1:2]), "error": told.as_dict()}), flush=True)
        return ConfigError.exit_code


if __name__ == "__main__":
    main()
