"""Folders of tables that a log describes, met as plain files: they also hold rows that were deleted or replaced."""

from __future__ import annotations

import json
from pathlib import Path

from rayforest.errors import InputError
from rayforest.tables.snapshots.delta import is_delta
from rayforest.tables.snapshots.iceberg import is_iceberg


class TableFolders:
    """Finds the table that a folder is a part of, and remembers it: for one listing of a source."""

    def __init__(self) -> None:
        self._tables: dict[Path, tuple[str, str] | None] = {}

    def of(self, folder: Path) -> tuple[str, str] | None:
        """What table a folder is or lies in, for people, and the source that reads it; None where it is none's."""
        if folder not in self._tables:
            above = self.of(folder.parent) if folder.parent != folder else None
            self._tables[folder] = _table_at(folder) or above
        return self._tables[folder]

    def refuse(self, pattern: str, folder: Path) -> None:
        """Refuse to read files of a table's folder by themselves.

        Raises:
            InputError: the folder is a part of a table.
        """
        if (found := self.of(folder)) is not None:
            raise InputError(
                f"{pattern!r} reads files of {found[0]}",
                expected="the table itself: its folder also holds rows that were deleted or replaced",
                next_step=found[1],
            )


def _table_at(folder: Path) -> tuple[str, str] | None:
    if is_delta(folder):
        return f"the Delta table {folder}", f"source = {{ delta = {json.dumps(str(folder))} }}"
    if is_iceberg(folder):
        newest = max(Path(folder, "metadata").glob("*.metadata.json"), key=lambda file: file.stat().st_mtime_ns)
        return (
            f"the Iceberg table {folder}",
            f"source = {{ iceberg = {json.dumps(str(newest))} }}, or its name in a catalog",
        )
    return None
