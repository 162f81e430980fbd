"""The columns that all files of a source have, by their headers and schemas alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from rayforest.engine.stores.object_uri import is_object_uri
from rayforest.errors import InputError
from rayforest.kinds import Kind
from rayforest.tables.batch import Source, SourceFile
from rayforest.tables.csv import read_head
from rayforest.tables.listing import hive_columns
from rayforest.tables.raw_file import raw_file
from rayforest.tables.reading import columns, csv_format

_HARDLY = 0.5
"""Share of the first file's columns below which another file is another table."""

_OF_ANY_TEXT = (".txt", ".data")
"""Endings that do not say that a file is a table."""


@dataclass(frozen=True)
class CommonColumns:
    """What the files of a source share."""

    kinds: dict[str, Kind]
    """By name, in the first file's order; of text tables all are strings."""
    notes: tuple[str, ...]
    unlike: frozenset[str]
    """Paths of files that store a column as another type."""
    is_text: bool


def columns_of(files: Sequence[SourceFile], source: Source) -> CommonColumns:
    """Columns of the first file that the others have, too.

    Raises:
        InputError: a file is damaged or empty, or hardly has a column of the first one's.
    """
    first, *others = files
    kinds = _kinds(first, source)
    notes, unlike = [], set()
    absent: dict[str, str] = {}
    for file in others:
        own = _kinds(file, source)
        missing = [name for name in kinds if name not in own]
        if len(kinds) - len(missing) < _HARDLY * len(kinds):
            raise InputError(
                f"{file.uri} is another table than {first.uri}",
                expected=f"the {len(kinds):,} columns of the first file: {_shown(list(kinds))}",
                found=f"{len(own):,} columns, {len(kinds) - len(missing):,} of them the same: {_shown(list(own))}",
                next_step=f"give init the files of one table{_such_as(files, source)}, or each table by itself",
            )
        if missing:
            notes.append(f"{file.path} has no column {', '.join(map(repr, missing))}, unlike {first.path}")
            absent |= dict.fromkeys(missing, file.path)
        if more := [name for name in own if name not in kinds]:
            notes.append(f"{file.path} has more columns than {first.path}: {', '.join(map(repr, more[:5]))}; not read")
        if changed := [name for name in kinds if name in own and own[name] is not kinds[name]]:
            notes.append(f"{file.path} stores {', '.join(map(repr, changed))} as another type than {first.path}")
            unlike.add(file.path)
    if absent:
        notes.append(f"left out, as not every file has it: {', '.join(map(repr, absent))}")
    kept = {name: kind for name, kind in kinds.items() if name not in absent}
    return CommonColumns(kept, tuple(dict.fromkeys(notes)), frozenset(unlike), first.format == "csv")


def _kinds(file: SourceFile, source: Source) -> dict[str, Kind]:
    if file.format != "csv":
        return columns(file, source)
    names = (*read_head(raw_file(file), csv_format(file.uri, source)).names, *hive_columns(file.path))
    return dict.fromkeys(names, Kind.STRING)


def _such_as(files: Sequence[SourceFile], source: Source) -> str:
    """Where files have several endings, a glob of those that are likeliest tables, not notes beside them."""
    endings = Counter(PurePath(file.uri).suffix for file in files)
    if len(endings) == 1 or any(is_object_uri(file.uri) for file in files):
        return ""
    ending = max(endings, key=lambda ending: (ending not in _OF_ANY_TEXT, endings[ending]))
    folders = {Path(file.uri).parent for file in files if file.uri.endswith(ending)}
    above = Path(os.path.commonpath(folders))
    shown = above.relative_to(source.base) if above.is_relative_to(source.base) else above
    return f", such as {shown / ('*' if folders == {above} else '**/*')}{ending}"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
