"""The command line in this process: the same code as the installed command, without a second of imports each time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from rayforest.jobs.cli import app


@dataclass(frozen=True)
class Answer:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        (line,) = self.out.splitlines()
        assert line.startswith("{")
        found = json.loads(line, parse_constant=lambda name: f"not JSON: {name}")
        assert isinstance(found, dict)
        return found


def rayforest(*arguments: str | Path) -> Answer:
    """Run a command."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return Answer(result.exit_code, result.stdout, result.stderr)


def one_clear_message(answer: Answer, command: str) -> dict[str, str]:
    """The error of an answer, after checking that it is one message on standard error, and one object with --json."""
    assert "Traceback" not in answer.err + answer.out
    assert answer.err.count("error: ") == 1
    found = answer.json
    assert (found["command"], set(found)) == (command, {"command", "error"})
    error: dict[str, str] = found["error"]
    assert set(error) == {"what", "expected", "found", "next"}
    assert error["what"]
    assert error["expected"] or error["found"] or error["next"]
    assert f"error: {error['what']}" in answer.err
    return error


def nothing_published(folder: Path) -> bool:
    """No destination under the folder has a current version."""
    return not list(folder.rglob("current/*"))
