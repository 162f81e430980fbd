"""What native libraries write to standard error: a panic in Rust is told as the error that it becomes in Python."""

from __future__ import annotations

import faulthandler
import io
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_PANIC = re.compile(rb"\n?thread '.*panicked at |--- PyO3 is resuming a panic")
_PANIC_S = 0.05
"""A panic's message has any number of lines, which Rust writes at once."""
_STDERR = 2

_for_life = ExitStack()
_hidden = False


def panics_are_hidden() -> bool:
    """Whether this process keeps panics from its user: then its workers are to do so, too."""
    return _hidden


def hide_panics() -> None:
    """`without_panics` for the rest of this process' life."""
    if not _hidden:
        _for_life.enter_context(without_panics())


@contextmanager
def without_panics() -> Iterator[None]:
    """Keep what Rust prints about a panic from the user; it comes back to Python as an error, which is told.

    Native code writes to descriptor 2, which becomes a pipe for the while; Python writes to the user's directly, and so
    does its handler of crashes, since nobody reads the pipe of a process that has crashed.
    """
    global _hidden  # noqa: PLW0603 - descriptor 2 is the process'
    try:
        if sys.stderr.fileno() != _STDERR:
            raise OSError
        user = os.dup(_STDERR)
    except (OSError, ValueError, AttributeError):  # closed, or not the process' own
        yield
        return
    before, tells_crashes = sys.stderr, faulthandler.is_enabled()
    before.flush()
    sys.stderr = io.TextIOWrapper(
        io.FileIO(user, "w", closefd=False), before.encoding, before.errors, line_buffering=True, write_through=True
    )
    source, sink = os.pipe()
    os.dup2(sink, _STDERR)
    os.close(sink)
    if tells_crashes:
        faulthandler.enable(user, all_threads=False)
    passing = threading.Thread(target=_pass_on, args=(source, user), daemon=True, name="rayforest-stderr")
    passing.start()
    _hidden = True
    try:
        yield
    finally:
        _hidden = False
        sys.stderr.flush()
        if tells_crashes:
            faulthandler.enable(_STDERR, all_threads=False)
        os.dup2(user, _STDERR)  # the pipe's end comes here, unless a process that lives on has it, too
        passing.join(0.2)
        sys.stderr = before


def _pass_on(source: int, user: int) -> None:
    quiet_until = 0.0
    while data := os.read(source, 1 << 16):
        if panic := _PANIC.search(data):
            quiet_until = time.monotonic() + _PANIC_S
            data = data[: panic.start()]
        elif time.monotonic() < quiet_until:
            continue
        if data:
            os.write(user, data)
