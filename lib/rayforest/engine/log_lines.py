"""Log lines as JSON objects that say of what they speak: run, project, stage, shard, attempt.

The library logs to loggers below `rayforest` and leaves them as they are; a program that imports it decides where lines
go. The command line, and the workers of a run that it started, write them as JSON where RAYFOREST_LOG=json asks for it.
Lines hold no value of a row and no secret: what libraries say in an exception is left out, its type and place are not.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from rayforest.errors import ConfigError, did_you_mean, place_of

VARIABLE = "RAYFOREST_LOG"


@dataclass(frozen=True, slots=True)
class LogContext:
    """What the lines of a thread speak of; None where it is nothing in particular."""

    run: str | None = None
    """One command on one project; the same for its workers."""
    project: str | None = None
    stage: str | None = None
    step: str | None = None
    """Of the stage, where it is not the main one."""
    shard: int | None = None
    attempt: str | None = None
    """Token of the attempt, which its files have in their names."""


_NOTHING = LogContext()
_context: ContextVar[LogContext] = ContextVar("rayforest_log_context", default=_NOTHING)


def new_run() -> str:
    """A name for a run: 32 random bits in hex, enough to tell the runs of one log apart."""
    return secrets.token_hex(4)


def log_context() -> LogContext:
    """Of this thread."""
    return _context.get()


@contextmanager
def logging_as(context: LogContext | None = None, **known: Any) -> Iterator[None]:
    """Let this thread's lines say more: all of a context, or some fields of one."""
    token = _context.set(replace(context or _context.get(), **known))
    try:
        yield
    finally:
        _context.reset(token)


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Further keys of one line, for `extra`."""
    return {"rayforest_fields": values}


def json_lines_wanted() -> bool:
    """Whether the environment asks for log lines as JSON.

    Raises:
        ConfigError: it asks for something else.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked not in {"", "text", "json"}:
        raise ConfigError(
            f"{VARIABLE} names no form of log lines",
            expected="json, or text, which is the default",
            found=asked,
            next_step=did_you_mean(asked, ("json", "text")) or f"unset it, or: {VARIABLE}=json",
        )
    return asked == "json"


class JsonLines:
    """Loggers of rayforest that write JSON lines to standard error, from level info on. The root logger stays."""

    @staticmethod
    @contextmanager
    def if_wanted() -> Iterator[None]:
        """For a while, where the environment asks for it. Another process' work may follow in this one, as in tests."""
        if os.environ.get(VARIABLE) == "json":
            JsonLines.begin()
        try:
            yield
        finally:
            JsonLines.end()

    @staticmethod
    def are_written() -> bool:
        """Whether they are by now."""
        return _handler in _logger.handlers

    @staticmethod
    def begin() -> None:
        """From now on."""
        _logger.addHandler(_handler)
        _logger.setLevel(logging.INFO)
        _logger.propagate = False

    @staticmethod
    def end() -> None:
        """No longer."""
        if JsonLines.are_written():
            _logger.removeHandler(_handler)
            _logger.setLevel(logging.NOTSET)
            _logger.propagate = True


def json_line(record: logging.LogRecord) -> str:
    """One line. `run`, `stage`, `shard` and `attempt` are always there, null where a line does not speak of one."""
    context = {k: v for k, v in asdict(_context.get()).items() if v is not None or k not in {"project", "step"}}
    line: dict[str, object] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        **context,
        "message": record.getMessage(),
        "logger": record.name,
        "pid": record.process,
    }
    line |= getattr(record, "rayforest_fields", {})
    if record.exc_info and (error := record.exc_info[1]) is not None:
        line["exception"] = f"{type(error).__name__} at {place_of(error) or 'an unknown place'}"
    return json.dumps(line, default=str)


class _JsonHandler(logging.Handler):
    """Writes to what standard error is at the time: a stream may be put in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(json_line(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


_logger, _handler = logging.getLogger("rayforest"), _JsonHandler()
