"""The process' streams and encodings: the same files and no crash in every locale."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO


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
