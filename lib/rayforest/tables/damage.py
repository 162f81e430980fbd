"""Damaged files as errors of ours: a reader's failure becomes one sentence that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from rayforest.engine.stores.store import ReplacedError, StoreUnavailableError
from rayforest.errors import InputError


@contextmanager
def errors_name_the_file(uri: str) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged or vanished file into an InputError."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{uri} does not exist any more", next_step="run again: the files are listed anew") from error
    except ReplacedError as error:
        raise changed_file(uri) from error
    except StoreUnavailableError as error:
        raise InputError(
            f"{uri} cannot be read now",
            found=error.strerror or str(error),
            next_step="see to the network and the store, and run again: what is finished stays",
        ) from error
    except PermissionError as error:
        raise InputError(
            f"{uri} cannot be read",
            found=(error.strerror or str(error)).lower(),
            next_step="see to its permissions, in an object store to the credentials; or leave it out of the source",
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{uri} cannot be read", found="a block that unpacks to more than the memory", next_step=_NEXT
        ) from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{uri} cannot be read", found=reason, next_step=_NEXT) from error


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
