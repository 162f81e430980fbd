"""Results of rayforest among raw files: what it wrote itself, in this project or another, is no input by accident.

A folder is a result where its `claims/` holds a claim (see engine/commit.py). Its own are the versions, which are named
by 32 hex digits, the claims and the pointers, and whatever links to them; other files beside them are the user's.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

_CLAIM = re.compile(r"\d{6,}\.json")
_OWN_FOLDER = re.compile(r"[0-9a-f]{32}|claims|current")


class Results:
    """Finds results, and remembers what it found: for one listing of a source."""

    def __init__(self) -> None:
        self._results: dict[str, bool] = {}
        self._owners: dict[str, str | None] = {}

    def is_result(self, folder: str | Path) -> bool:
        """Whether a stage of rayforest has written into the folder."""
        folder = str(folder)
        if folder not in self._results:
            self._results[folder] = _has_claim(folder)
        return self._results[folder]

    def owner(self, folder: str | Path) -> str | None:
        """The result that a folder is a part of; None where it is none's. Links count for what they lead to."""
        folder = os.path.realpath(folder)
        if folder not in self._owners:
            parent, name = os.path.split(folder)
            owned = bool(name) and _OWN_FOLDER.fullmatch(name) is not None and self.is_result(parent)
            self._owners[folder] = parent if owned else self.owner(parent) if name else None
        return self._owners[folder]


def _has_claim(folder: str) -> bool:
    try:
        with os.scandir(f"{folder}/claims") as entries:
            return any(_CLAIM.fullmatch(entry.name) and _is_claim(entry.path) for entry in entries)
    except OSError:
        return False


def _is_claim(path: str) -> bool:
    """A user may have claims in JSON, too."""
    try:
        claim = json.loads(Path(path).read_bytes())
        return isinstance(claim, dict) and re.fullmatch(r"[0-9a-f]{32}", str(claim.get("key"))) is not None
    except (OSError, ValueError):
        return False
