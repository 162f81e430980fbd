"""What a command shows: bars on a terminal, plain lines elsewhere, one JSON object for machines, lines for logs."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rayforest.engine.library_warnings import hide_library_warnings
from rayforest.engine.log_lines import JsonLines, fields, json_lines_wanted, logging_as, new_run
from rayforest.errors import InterruptedRunError, RayforestError, place_of
from rayforest.jobs.metrics_text import metric_lines
from rayforest.jobs.streams import drop_output

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from rayforest.engine.progress import Progress
    from rayforest.stages.result import Facts, StageResult

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 5.0
_log = logging.getLogger("rayforest.jobs")


class ConsoleReporter:
    """Tells on standard error how a stage goes. With `as_json`, each message is a JSON object on a line of its own;
    where log lines are asked for, one of them.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.quiet = as_json or JsonLines.are_written()
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last: dict[str, float] = {}

    def __enter__(self) -> Self:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.table import Column

            self._bars = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}", table_column=Column(no_wrap=True)),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, message: str) -> None:
        """One sentence."""
        if self.as_json and not JsonLines.are_written():
            _error_line(json.dumps({"event": "message", "message": message}))
        elif self._bars is not None:
            self._bars.console.print(message, highlight=False, markup=False)
        else:
            _error_line(message)

    def progress(self, step: str, progress: Progress) -> None:
        """A bar, a line every few seconds, or a JSON event."""
        if self._bars is not None:
            if step not in self._tasks:
                self._tasks[step] = self._bars.add_task(step, total=progress.shards, detail="")
            detail = str(progress).partition(" shards, ")[2]  # the bar counts shards itself
            self._bars.update(self._tasks[step], completed=progress.done, total=progress.shards, detail=detail)
            return
        now = time.monotonic()
        if now - self._last.get(step, 0) < SECONDS_BETWEEN_LINES and progress.left:
            return
        self._last[step] = now
        event = progress.as_dict() | {"step": step}
        text = str(progress) if progress.step else f"{step}: {progress}"
        if JsonLines.are_written():
            _log.info(text, extra=fields(**event))
        else:
            _error_line(json.dumps(event) if self.as_json else text)


def _error_line(text: str, level: int = logging.INFO) -> None:
    if JsonLines.are_written():
        _log.log(level, "%s", text.strip())
    else:
        print(text, file=sys.stderr, flush=True)


def carry_out(
    command: str,
    work: Callable[[ConsoleReporter], T],
    *,
    as_json: bool,
    debug: bool,
    show: Callable[[T], None],
    as_dict: Callable[[T], dict[str, object]],
) -> int:
    """Do a command's work and show its result or its error.

    Args:
        command: its name, for the JSON object of an error.
        work: gets the reporter, returns the result.
        as_json: print one JSON object on standard output, also on failure.
        debug: show the stack trace of an error.
        show: prints the result for people.
        as_dict: makes the JSON object of the result.

    Returns:
        The exit code.
    """
    if not debug:
        hide_library_warnings()
    with logging_as(run=new_run()), JsonLines.if_wanted():
        try:
            json_lines_wanted()
            with ConsoleReporter(as_json=as_json) as reporter:
                result = work(reporter)
            if as_json:
                print(json.dumps(as_dict(result), default=str), flush=True)
            else:
                show(result)
                sys.stdout.flush()
            return 0
        except BrokenPipeError:
            drop_output()
            return 1
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as raised:  # no user sees a stack trace unasked; and a panic in Rust is no Exception
            error = _as_rayforest_error(command, raised, debug=debug)
            if debug and not isinstance(raised, KeyboardInterrupt):
                _show_trace()
        _error_line(f"error: {error}", logging.ERROR)
        try:
            if as_json:
                print(json.dumps({"command": command, "error": error.as_dict()}), flush=True)
            sys.stdout.flush()
        except OSError:  # a full disk, or nobody reads: the error has been told
            drop_output()
        return error.exit_code


def _as_rayforest_error(command: str, raised: BaseException, *, debug: bool) -> RayforestError:
    """What went wrong, as an error of ours. What others say may hold a value of a row: only --debug shows it."""
    if isinstance(raised, RayforestError):
        return raised
    if isinstance(raised, KeyboardInterrupt):
        return InterruptedRunError(
            f"{command} was interrupted", next_step="run the same command again: what is finished is kept"
        )
    place = place_of(raised) or "an unknown place"
    if isinstance(raised, OSError) and raised.strerror:  # a full disk, a permission: the system's own words
        return RayforestError(
            f"{command} could not use {raised.filename}" if raised.filename else f"{command} failed at {place}",
            found=raised.strerror.lower(),
            next_step="remove the cause and run the same command again: what is finished is kept",
        )
    return RayforestError(
        f"{command} failed unexpectedly: {type(raised).__name__} at {place}",
        found=str(raised).splitlines()[0][:300] if debug and str(raised) else "",
        next_step="run it again with --debug for the stack trace, and please report it",
    )


def _show_trace() -> None:
    import traceback

    traceback.print_exc(file=sys.stderr)


def show_stage(result: StageResult[Facts]) -> None:
    """A stage's result in a few lines for people, on standard error."""
    with logging_as(stage=result.command):
        for line in _stage_lines(result):
            _error_line(line)


def _stage_lines(result: StageResult[Facts]) -> Iterator[str]:
    if result.resumed:
        yield f"{result.command}: nothing to do, the same inputs and settings are already there"
    else:
        yield f"{result.command}: done in {result.seconds:.1f} s"
    if result.rows_in is not None:
        yield f"  rows        {result.rows_in:,} in = {result.rows_out:,} out + {result.rows_quarantined:,} quarantined"
    for reason, count in list(result.reasons.items())[:8]:
        yield f"              {count:,} x {reason}"
    table: Mapping[str, Any] = result.as_dict()  # the keys that README and docs promise
    if "by_part" in table:
        from rayforest.features.parts import part_lines

        for line in part_lines(table["by_part"]):
            yield f"  part        {line}"
    if "measured_on" in table:
        yield f"  metrics of  {table.get('rows', 0):,} {table['measured_on']}"
    for line in metric_lines(table):
        yield f"  {line}"
    yield f"  destination {result.destination}"
