"""Damaged files as errors of ours: a reader's failure becomes one sentence that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa

from rayforest.engine.stores.store import ReplacedError, StoreUnavailableError
from rayforest.errors import InputError


class Failing(Protocol):
    """A file that remembers why it could not be read: readers in C++ may keep nothing of an error but its text."""

    @property
    def uri(self) -> str:
        """Absolute path, or URI in an object store."""
        ...

    @property
    def failure(self) -> OSError | None:
        """The last one; None where the file was there, and is only not what was expected."""
        ...


@contextmanager
def errors_name_the_file(file: Failing) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged or vanished file, or a store that fails, into an InputError."""
    try:
        yield
    except (OSError, pa.ArrowException, MemoryError, UnicodeDecodeError) as error:
        raise _named(file.uri, file.failure or error) from error


def _named(uri: str, error: Exception) -> InputError:
    match error:
        case FileNotFoundError():
            return InputError(f"{uri} does not exist any more", next_step="run again: the files are listed anew")
        case ReplacedError():
            return changed_file(uri)
        case StoreUnavailableError():
            found, step = error.strerror, "see to the network and the store, and run again: what is finished stays"
            return InputError(f"{uri} cannot be read now", found=found or str(error), next_step=step)
        case MemoryError():
            found = "a block that unpacks to more than the memory"
            return InputError(f"{uri} cannot be read", found=found, next_step=_NEXT)
    next_step = f"see to what the credentials may do; or {_NEXT}" if isinstance(error, PermissionError) else _NEXT
    return InputError(f"{uri} cannot be read", found=" ".join(str(error).split())[:200], next_step=next_step)


def changed_file(
    uri: str, *, expected: str = "the file as it was when the run was planned", found: str = ""
) -> InputError:
    """The file is not the one that was planned."""
    return InputError(
        f"{uri} changed during the run",
        expected=expected,
        found=found,
        next_step="run again when nothing writes to the file",
    )


_NEXT = "replace the file, or leave it out of the source"
