"""Results of rayforest among raw files: what it wrote itself, in this project or another, is no input by accident.

A folder is a result where its `claims/` holds a claim (see engine/commit.py). Its own are the versions, which are named
by 32 hex digits, the claims and the pointers, and whatever links to them; other files beside them are the user's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

_CLAIM = re.compile(r"\d{6,}\.json")
_OWN_FOLDER = re.compile(r"[0-9a-f]{32}|claims|current")


class Folders(Protocol):
    """Where raw files lie, as far as finding results needs it."""

    def real(self, folder: str) -> str:
        """The folder without links."""
        ...

    def names(self, folder: str) -> Iterable[str]:
        """Of the files in a folder; none where there is no such folder."""
        ...

    def read(self, path: str) -> bytes:
        """A small file. OSError if it cannot be read."""
        ...


class LocalFolders:
    """Those of a file system."""

    def real(self, folder: str) -> str:
        return os.path.realpath(folder)

    def names(self, folder: str) -> Iterable[str]:
        try:
            return os.listdir(folder)  # noqa: PTH208  strings are all that is wanted
        except OSError:
            return ()

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()


class Results:
    """Finds results, and remembers what it found: for one listing of a source."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._results: dict[str, bool] = {}
        self._owners: dict[str, str | None] = {}

    def is_result(self, folder: str | Path) -> bool:
        """Whether a stage of rayforest has written into the folder."""
        folder = str(folder)
        if folder not in self._results:
            names = self._folders.names(f"{folder}/claims")
            claims = (f"{folder}/claims/{name}" for name in names if _CLAIM.fullmatch(name))
            self._results[folder] = any(map(self._is_claim, claims))
        return self._results[folder]

    def owner(self, folder: str | Path) -> str | None:
        """The result that a folder is a part of; None where it is none's. Links count for what they lead to."""
        folder = self._folders.real(str(folder))
        if folder not in self._owners:
            parent, name = os.path.split(folder)
            owned = bool(name) and _OWN_FOLDER.fullmatch(name) is not None and self.is_result(parent)
            self._owners[folder] = parent if owned else self.owner(parent) if name else None
        return self._owners[folder]

    def _is_claim(self, path: str) -> bool:
        """A user may have claims in JSON, too."""
        try:
            claim = json.loads(self._folders.read(path))
            return isinstance(claim, dict) and re.fullmatch(r"[0-9a-f]{32}", str(claim.get("key"))) is not None
        except (OSError, ValueError):
            return False
