"""Errors as part of the product: what went wrong, what was expected, what was found, what to do next."""

from __future__ import annotations

import difflib
import os
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "BundleError",
    "ConfigError",
    "FormatError",
    "InputError",
    "InterruptedRunError",
    "ParityError",
    "RayforestError",
    "RefusedError",
    "UnfinishedError",
]


class RayforestError(Exception):
    """Base of every error that rayforest raises on purpose.

    Args:
        what: one sentence that names the subject and the failure.
        expected: what would have been right.
        found: what was there instead. Never a value from a user's row.
        next_step: what the reader can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, expected: str = "", found: str = "", next_step: str = "") -> None:
        # All four go to Exception, so that the error survives the trip from a worker process.
        super().__init__(what, expected, found, next_step)
        self.what, self.expected, self.found, self.next_step = what, expected, found, next_step

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.expected, self.found, self.next_step))

    def as_dict(self) -> dict[str, str]:
        """The `error` object of the --json output."""
        return {"what": self.what, "expected": self.expected, "found": self.found, "next": self.next_step}

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (("expected", self.expected), ("found", self.found), ("next", self.next_step)):
            if text:
                lines.append(f"  {label + ':':<10}{text}")
        return "\n".join(lines)


class ConfigError(RayforestError):
    """The command line, the project file or an expression in it is wrong."""

    exit_code = 2


class InputError(RayforestError):
    """An input is missing, unreadable, or not what the project file says it is."""

    exit_code = 2


class RefusedError(RayforestError):
    """The destination holds a result of other inputs or settings; nothing was changed."""

    exit_code = 2


class FormatError(RayforestError):
    """A file that rayforest wrote is damaged, of another kind, or newer than this rayforest."""

    exit_code = 2


class BundleError(RayforestError):
    """A bundle was changed, is not whole, or holds what a bundle may not hold."""

    exit_code = 2


class ParityError(RayforestError):
    """Two engines differ on the same rows, so no bundle was written."""


class UnfinishedError(RayforestError):
    """Shards are left, or more rows failed than the error budget allows; nothing was published."""

    exit_code = 3


class InterruptedRunError(RayforestError):
    """The user stopped the run; finished shards are kept."""

    exit_code = 130


def path_text(given: object, what: str, expected: str) -> str:
    """A path or URI that somebody gave to a function, as text.

    Args:
        given: whatever it is.
        what: the error's sentence.
        expected: what the function takes.

    Raises:
        ConfigError: it is neither text nor a path.
    """
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if isinstance(text, str) and "\0" not in text:
        return text
    kind = "None" if given is None else f"a value of the type {type(given).__name__}"
    raise ConfigError(
        what,
        expected=expected,
        found="a name with a NUL in it" if isinstance(text, str) else kind,
        next_step="give a str without a NUL, or a pathlib.Path",
    )


def _rebuild(kind: type[RayforestError], what: str, expected: str, found: str, next_step: str) -> RayforestError:
    return kind(what, expected=expected, found=found, next_step=next_step)


def place_of(error: BaseException) -> str:
    """Where an error arose, as FILE:LINE: the last place outside of Python's and others' libraries. Empty if unknown.

    The place says what an error's message cannot, which may hold a value of a user's row.
    """
    frames = traceback.extract_tb(error.__traceback__)
    home = f"{Path(__file__).parent}/"  # which may lie among others' libraries

    def is_library(file: str) -> bool:
        return "site-packages" in file or file.startswith((sysconfig.get_path("stdlib"), "<"))

    outside = [frame for frame in frames if frame.filename.startswith(home) or not is_library(frame.filename)]
    for frame in reversed(outside or frames):
        ours = frame.filename.startswith(home)
        return f"{frame.filename.removeprefix(home) if ours else Path(frame.filename).name}:{frame.lineno}"
    return ""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The nearest valid name as a hint, or the valid names when none is near."""
    names = sorted(valid)
    lowered = {n.lower(): n for n in names}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    if near:
        return f"did you mean {lowered[near[0]]!r}?"
    shown = ", ".join(repr(n) for n in names[:12]) + (", ..." if len(names) > 12 else "")
    return f"valid names: {shown}" if names else "there are no valid names"
