"""The process' streams and encodings: the same files and no crash in every locale, and no talk of native libraries."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_PANIC = re.compile(rb"thread '.*panicked at |--- PyO3 is resuming a panic")
_PANIC_S = 0.05
"""A panic's message has any number of lines, which Rust writes at once."""


def open_closed_streams() -> None:
    """Give a program that was started without standard output or error one that leads nowhere, under its number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  for as long as it runs


def drop_output() -> None:
    """Nobody reads standard output any more, as behind `| head`: what is left to be flushed at exit goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def use_utf8() -> None:
    """Start this program again in Python's UTF-8 mode where file names have another encoding, as in the C locale.

    Names in a project file are text, and the libraries below take them as UTF-8. What is shown keeps its encoding.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8" or os.name == "nt":
        return
    os.environ["PYTHONUTF8"] = "1"  # of workers, too
    os.environ.setdefault("PYTHONIOENCODING", f"{sys.stderr.encoding or 'ascii'}:backslashreplace")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606  this very program


def escape_what_cannot_be_shown() -> None:
    """Show characters that a stream's encoding does not have, and bytes that are no text, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not what a test or a notebook puts in its place
            stream.reconfigure(errors="backslashreplace")


def print_file_text(text: str) -> None:
    """Print what goes into a file or to another program: UTF-8 in every locale, and names with the bytes they have."""
    raw: IO[bytes] | None = getattr(sys.stdout, "buffer", None)
    if raw is None or sys.stdout.isatty():
        print(text, end="")
        return
    sys.stdout.flush()
    raw.write(text.encode("utf-8", "surrogateescape"))
    raw.flush()


@contextmanager
def without_panics() -> Iterator[None]:
    """Keep what Rust prints about a panic from the user; it comes back to Python as an error, which is told.

    Native code writes to descriptor 2, which becomes a pipe for the while; Python writes to the user's directly.
    """
    try:
        if sys.stderr.fileno() != 2:
            raise OSError
        user = os.dup(2)
    except (OSError, ValueError, AttributeError):  # closed, or not the process' own
        yield
        return
    before = sys.stderr
    before.flush()
    sys.stderr = io.TextIOWrapper(
        io.FileIO(user, "w", closefd=False), before.encoding, before.errors, line_buffering=True, write_through=True
    )
    source, sink = os.pipe()
    os.dup2(sink, 2)
    os.close(sink)
    passing = threading.Thread(target=_pass_on, args=(source, user), daemon=True, name="rayforest-stderr")
    passing.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(user, 2)  # the pipe's end comes here, unless a process that lives on has it, too
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
