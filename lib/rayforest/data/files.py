"""Which files a source is made of: paths, globs and folders to a stable list, without opening anything."""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections import Counter
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from rayforest.data.csv.blocks import compression
from rayforest.data.raw import FileFormat, Source, SourceFile
from rayforest.errors import InputError, did_you_mean

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
_HIVE = re.compile(r"([^=/]+)=([^/]*)")
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def list_files(source: Source) -> list[SourceFile]:
    """The files of a source: patterns in the given order, inside a pattern by the bytes of their paths, none twice.

    Files and folders whose name begins with '.' or '_' are left out, unless a pattern names them.

    Raises:
        InputError: a pattern matches nothing, a path cannot be read, a file is of no known format.
    """
    found: dict[str, tuple[Path, Path]] = {}
    folders: dict[str, str] = {}
    for pattern in source.patterns:
        try:
            os.fsencode(pattern)
            fixed, files = _expand(pattern, source)
        except OSError as error:  # a name that is too long, a disk that fails
            raise InputError(f"{pattern!r} cannot be read", found=error.strerror or "") from error
        except UnicodeEncodeError:
            raise InputError(
                f"{pattern!r} cannot be read",
                expected="a process whose file names are UTF-8",
                found=f"file names in {sys.getfilesystemencoding()}",
                next_step="start Python with PYTHONUTF8=1",
            ) from None
        for file in files:
            found.setdefault(_real_path(file, folders), (fixed, file))
    names = _distinct_names(list(found.values()))
    return [_describe(file, name, source) for (_, file), name in zip(found.values(), names, strict=True)]


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
    known = source.format or _format_by_ending(path) or ("csv" if source.csv is not None else None)
    if known is None:
        raise InputError(
            f"the format of {path} is not known from its ending",
            expected="an ending of " + ", ".join(_ENDINGS),
            next_step='set format = "csv" (or "parquet", "arrow") in [data]',
        )
    return known


def _format_by_ending(path: str) -> FileFormat | None:
    stem, ending = os.path.splitext(path)  # noqa: PTH122  thousands of paths
    return _ENDINGS.get((os.path.splitext(stem)[1] if compression(path) else ending).lower())  # noqa: PTH122


def _expand(pattern: str, source: Source) -> tuple[Path, list[Path]]:
    """The fixed part of a pattern, a folder, and the files that match."""
    if "://" in pattern:
        raise InputError(f"{pattern!r} cannot be read", expected="a path, a glob or a folder of a file system")
    full = Path(os.path.normpath(source.base.absolute() / Path(pattern).expanduser()))
    if full.is_dir():
        return _above_hive(full), _in_folder(pattern, full, source)
    if os.path.lexists(full) or not glob.has_magic(str(full)):
        if not full.exists():
            raise _nothing_there(pattern, full)
        return _above_hive(full.parent), [full]
    magic = next(i for i, part in enumerate(full.parts) if glob.has_magic(part))
    fixed = Path(*full.parts[:magic])
    if not fixed.is_dir():
        raise _nothing_there(pattern, fixed)
    named_hidden = any(part.startswith((".", "_")) for part in full.parts[magic:])
    matches = (Path(match) for match in glob.iglob(str(full), recursive=True))  # noqa: PTH207  Path.glob has another **
    files = [f for f in matches if not f.is_dir() and (named_hidden or not _hidden(f.relative_to(fixed)))]
    if not files:
        raise InputError(
            f"no file matches {pattern!r}",
            expected=f"files under {fixed}",
            found=_contents(fixed),
            next_step="correct the pattern; '**' stands for any folders",
        )
    return _above_hive(fixed), sorted(files, key=os.fsencode)


def _in_folder(pattern: str, folder: Path, source: Source) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read", found=error.strerror or "") from error

    files = []
    for where, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        files += [Path(where, name) for name in names if not name.startswith((".", "_")) and _is_data(name, source)]
    if not files:
        raise InputError(
            f"folder {pattern!r} has no data files",
            expected="files ending in " + ", ".join(_ENDINGS),
            found=_contents(folder),
            next_step="give a glob such as 'folder/*.log', and a format, for other endings",
        )
    return sorted(files, key=os.fsencode)


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


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _above_hive(folder: Path) -> Path:
    """The folder itself, or the one above its partitions, which belong to the files' relative paths."""
    while _HIVE.fullmatch(folder.name):
        folder = folder.parent
    return folder


def _distinct_names(files: list[tuple[Path, Path]]) -> list[str]:
    """Relative paths; where two files of different patterns have the same, parent folders' names are added."""
    depths = [len(file.relative_to(fixed).parts) for fixed, file in files]
    while True:
        names = ["/".join(file.parts[-depth:]) for (_, file), depth in zip(files, depths, strict=True)]
        counts = Counter(names)
        repeated = [i for i, name in enumerate(names) if counts[name] > 1 and depths[i] < len(files[i][1].parts)]
        if not repeated:
            return names
        for i in repeated:
            depths[i] += 1


def _describe(file: Path, name: str, source: Source) -> SourceFile:
    if not is_utf8(str(file)):
        raise InputError(
            f"the name of the file {str(file)!r} is not UTF-8",
            expected="names in UTF-8: they stand in what is written, which is text",
            next_step="rename the file, or leave it out of the source",
        )
    try:
        status = file.stat()
    except OSError as error:
        raise InputError(f"{file} cannot be read", found=error.strerror or "") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{file} is not a file", expected="a file with a beginning and an end, not a pipe or a device")
    return SourceFile(
        path=name,
        uri=str(file),
        size=status.st_size,
        stamp=str(status.st_mtime_ns),
        format=format_of(str(file), source),
    )


def _nothing_there(pattern: str, path: Path) -> InputError:
    missing, parent = path.name, path.parent
    while not parent.exists():
        missing, parent = parent.name, parent.parent
    hint = did_you_mean(missing, _names_in(parent)) if parent.is_dir() else ""
    return InputError(
        f"{pattern!r} does not exist", expected="a file, a folder or a glob", found=f"{parent} exists", next_step=hint
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if not _hidden(Path(entry.name)))
    except OSError:
        return []


def _contents(folder: Path) -> str:
    names = _names_in(folder)
    return (
        ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "an empty folder"
    )
