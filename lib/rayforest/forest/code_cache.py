"""Machine code on disk, in a folder that nobody but its user may write: who writes there runs code as the user."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path

_DIGEST_BYTES = 32
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path:
    """Where machine code is kept: below NUMBA_CACHE_DIR where that is set, else below the user's cache folder."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen) / "rayforest"
    if sys.platform == "darwin":
        caches = Path("~/Library/Caches")
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.path.expanduser(caches)) / "rayforest" / "kernel"  # noqa: PTH111  does not raise without a home


def find(folder: Path, name: str) -> bytes | None:
    """The code kept under a name; None where there is none, or none that can be trusted to be whole and the user's."""
    try:
        _check(folder.stat())
        with (folder / name).open("rb") as file:
            _check(os.fstat(file.fileno()))
            kept = file.read()
    except OSError:
        return None
    digest, code = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def keep(folder: Path, name: str, code: bytes) -> None:
    """Keep code under a name, all of it or nothing.

    Raises:
        OSError: the folder cannot be made or written, or others may write it too.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check(folder.stat())
    descriptor, temporary = tempfile.mkstemp(dir=folder)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        Path(temporary).replace(folder / name)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _check(status: os.stat_result) -> None:
    if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & _OTHERS_MAY_WRITE):
        raise PermissionError(0, "others may write there")
