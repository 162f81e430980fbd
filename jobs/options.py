"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ProjectFile = Annotated[Path, typer.Argument(metavar="PROJECT", help="The project file (TOML).")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a key of the project file; may be repeated."),
]
Replace = Annotated[
    bool,
    typer.Option(
        "--replace", help="Write a new version where the destination holds a result of other inputs or settings."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output; events go to standard error.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")]
