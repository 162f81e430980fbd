"""Which files a source is made of: paths, URIs, globs and folders to a stable list, without opening anything."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote

from rayforest.engine.stores.object_uri import is_object_uri
from rayforest.errors import InputError
from rayforest.tables.batch import FileFormat, Source, SourceFile, TableName
from rayforest.tables.contents import COMPRESSIONS, no_table
from rayforest.tables.csv.compressed import compression
from rayforest.tables.patterns import Expansion
from rayforest.tables.raw_file import LocalFile, raw_file
from rayforest.tables.snapshots.snapshot import Snapshot

if TYPE_CHECKING:
    from rayforest.engine.stores.bucket import ObjectMeta
    from rayforest.tables.object_patterns import ObjectExpansion

_ENDINGS: dict[str, FileFormat] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".data": "csv",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_KNOWN = ", ".join(_ENDINGS)
_HIVE = re.compile(r"((?:[^=/\"#%'*:?\\{\[\]^]|%[0-9A-Fa-f]{2})+)=([^/]*)")
"""What Hive writes: in a column's name it escapes these characters, so a folder `see [1] #2?=x` is only a folder."""
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def find_files(source: Source, notes: list[str] | None = None) -> tuple[Source, list[SourceFile]]:
    """The source as it is to be read, and its files.

    Of a table in Delta or Iceberg that is the named snapshot, or the newest one, with the columns that it has there; a
    source of patterns is itself. See `list_files`.

    Raises:
        InputError: as `list_files`, `delta_snapshot` and `iceberg_snapshot`.
        ConfigError: the package that reads the table is not installed.
    """
    table = source.table
    if table is None:
        return source, list_files(source, notes)
    found = _snapshot_of(table)
    if notes is not None and table.snapshot is None:
        which = "version" if table.form == "delta" else "snapshot"
        notes.append(f"the newest {which} of the {table} is {found.number}")
    fixed = replace(source, table=replace(table, snapshot=found.number), layout=found.layout, format="parquet")
    return fixed, found.files


def _snapshot_of(table: TableName) -> Snapshot:
    if table.form == "delta":
        from rayforest.tables.snapshots.delta import delta_snapshot

        return delta_snapshot(table)
    from rayforest.tables.snapshots.iceberg import iceberg_snapshot

    return iceberg_snapshot(table)


def list_files(source: Source, notes: list[str] | None = None) -> list[SourceFile]:
    """The files of a source: patterns in the given order, inside a pattern by the bytes of their paths, none twice.

    Files and folders whose name begins with '.' or '_' are left out, unless a pattern names them. So are results of
    rayforest inside a folder or glob; of a result that a pattern names, the current version is read.

    Args:
        source: which files.
        notes: gets what the user should know of what was found.

    Raises:
        ConfigError: an object store is not set up, or a URI holds credentials.
        InputError: a pattern matches nothing, a path cannot be read, a file is of no known format.
    """

    def is_data(name: str) -> bool:
        return _is_data(name, source)

    local, remote = Expansion(source.base, is_data, _KNOWN), None
    found: dict[str, _Found] = {}
    folders: dict[str, str] = {}
    for pattern in source.patterns:
        if is_object_uri(pattern):
            remote = remote or _object_expansion(is_data)
            fixed, objects = _objects(remote, pattern)
            for uri, seen in objects:
                found.setdefault(uri, _Found(fixed, uri, seen))
        else:
            folder, files = _local_files(local, pattern)
            fixed = _above_hive(str(folder))
            for file in files:
                found.setdefault(_real_path(file, folders), _Found(fixed, str(file)))
    if notes is not None:
        notes += local.notes + (remote.notes if remote is not None else [])
    names = _distinct_names(list(found.values()))
    return [_describe(file, name, source) for file, name in zip(found.values(), names, strict=True)]


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that a pattern matches."""

    fixed: str
    """The folder to which its path is relative."""
    uri: str
    seen: ObjectMeta | None = None
    """Of an object, what the listing shows."""


def _local_files(expansion: Expansion, pattern: str) -> tuple[Path, list[Path]]:
    try:
        os.fsencode(pattern)
        return expansion.expand(pattern)
    except OSError as error:  # a folder of others, a name that is too long, a disk that fails
        raise InputError(
            f"{error.filename or repr(pattern)} cannot be read",
            found=(error.strerror or "").lower(),
            next_step="see to its permissions, or leave it out of the source",
        ) from error
    except UnicodeEncodeError:
        raise InputError(
            f"{pattern!r} cannot be read",
            expected="a process whose file names are UTF-8",
            found=f"file names in {sys.getfilesystemencoding()}",
            next_step="start Python with PYTHONUTF8=1",
        ) from None


def _object_expansion(is_data: Callable[[str], bool]) -> ObjectExpansion:
    from rayforest.tables.object_patterns import ObjectExpansion

    return ObjectExpansion(is_data, _KNOWN)


def _objects(expansion: ObjectExpansion, pattern: str) -> tuple[str, Iterable[tuple[str, ObjectMeta]]]:
    try:
        fixed, objects = expansion.expand(pattern)
    except OSError as error:
        raise InputError(
            f"{pattern!r} cannot be listed",
            found=error.strerror or str(error),
            next_step="see to the bucket's name, the endpoint and region, and what the credentials may do: they list "
            "and read",
        ) from error
    return _above_hive(fixed), objects


def hive_columns(path: str) -> dict[str, str | None]:
    """Columns that the folders of a file's relative path name: `year=2024/part.csv` has year 2024."""
    columns: dict[str, str | None] = {}
    for folder in PurePosixPath(path).parts[:-1]:
        if match := _HIVE.fullmatch(folder):
            text = unquote(match[2])
            columns[unquote(match[1])] = None if text in ("", _HIVE_NULL) else text
    return columns


def is_utf8(path: str) -> bool:
    """Whether a path is text. Python stands in for bytes of a file name that are none by lone surrogates."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def format_of(path: str, source: Source) -> FileFormat:
    """The format of a file: the source's, or by its ending, or CSV where CSV options are given.

    Raises:
        InputError: nothing tells it.
    """
    known = _known_format(path, source)
    if known is None:
        raise _unknown_format(path)
    return known


def _known_format(path: str, source: Source) -> FileFormat | None:
    return source.format or _format_by_ending(path) or ("csv" if source.csv is not None else None)


def _unknown_format(path: str) -> InputError:
    return InputError(
        f"the format of {path} is not known from its ending",
        expected=f"an ending of {_KNOWN}; text may be compressed ({', '.join(COMPRESSIONS)})",
        next_step='set format = "csv" (or "parquet", "arrow") in [data]',
    )


def _format_by_ending(path: str) -> FileFormat | None:
    stem, ending = os.path.splitext(path)  # noqa: PTH122  thousands of paths
    return _ENDINGS.get((os.path.splitext(stem)[1] if compression(path) else ending).lower())  # noqa: PTH122


def _is_data(name: str, source: Source) -> bool:
    """Whether a folder's file belongs to the table: its ending says so, or it has none and the format is given."""
    by_ending = _format_by_ending(name)
    asked = source.format or ("csv" if source.csv is not None else None)
    if by_ending is None:
        return asked is not None and not PurePosixPath(name).suffix
    return source.format in (None, by_ending)


def _real_path(file: Path, folders: dict[str, str]) -> str:
    """The path without links; `folders` remembers those of folders."""
    if file.is_symlink():
        return os.path.realpath(file)
    folder, name = os.path.split(file)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return f"{folders[folder]}/{name}"


def _above_hive(folder: str) -> str:
    """The folder itself, or the one above its partitions, which belong to the files' relative paths."""
    while _HIVE.fullmatch(folder.rpartition("/")[2]):
        folder = folder.rpartition("/")[0] or "/"
    return folder


def _distinct_names(files: list[_Found]) -> list[str]:
    """Relative paths; where two files of different patterns have the same, parent folders' names are added."""
    parts = [_parts(file.uri) for file in files]
    depths = [len(own) - len(_parts(file.fixed)) for own, file in zip(parts, files, strict=True)]
    while True:
        names = ["/".join(own[-depth:]) for own, depth in zip(parts, depths, strict=True)]
        counts = Counter(names)
        repeated = [i for i, name in enumerate(names) if counts[name] > 1 and depths[i] < len(parts[i])]
        if not repeated:
            return names
        for i in repeated:
            depths[i] += 1


def _parts(place: str) -> tuple[str, ...]:
    """Of a path, or of a URI whose first part is its bucket."""
    if not is_object_uri(place):
        return Path(place).parts
    scheme, _, rest = place.partition("://")
    bucket, *others = rest.split("/")
    return (f"{scheme}://{bucket}", *others)


def _describe(found: _Found, name: str, source: Source) -> SourceFile:
    if found.seen is None:
        return _describe_local(Path(found.uri), name, source)
    known = _known_format(found.uri, source)
    file = SourceFile(name, found.uri, found.seen.size, found.seen.etag, known or "csv")
    if known is None:
        raise no_table(raw_file(file)) or _unknown_format(found.uri)
    return file


def _describe_local(file: Path, name: str, source: Source) -> SourceFile:
    if not is_utf8(str(file)):
        raise InputError(
            f"the name of the file {str(file)!r} is not UTF-8",
            expected="names in UTF-8: they stand in what is written, which is text",
            next_step="rename the file, or leave it out of the source",
        )
    try:
        status = file.stat()
    except OSError as error:
        raise _unreadable(file, (error.strerror or "").lower()) from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(
            f"{file} is not a file",
            expected="a file with a beginning and an end, not a pipe or a device",
            next_step="write its rows to a file, and name that",
        )
    if not os.access(file, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise _unreadable(file, "permission denied")
    known = _known_format(str(file), source)
    if known is None:
        raise no_table(LocalFile(file)) or _unknown_format(str(file))
    return SourceFile(
        path=name,
        uri=str(file),
        size=status.st_size,
        stamp=str(status.st_mtime_ns),
        format=known,
    )


def _unreadable(file: Path, why: str) -> InputError:
    return InputError(
        f"{file} cannot be read", found=why, next_step="see to its permissions, or leave it out of the source"
    )
