"""A pattern to the files that match it: a path, a glob, a folder, or a result of rayforest.

What exists under a pattern's literal name is that, whatever characters it has; only the rest is a glob.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rayforest.errors import InputError, did_you_mean
from rayforest.tables.results import LocalFolders, Results
from rayforest.tables.snapshots.plain_folder import Table, TableFolders, read_by_themselves

if TYPE_CHECKING:
    from rayforest.engine.manifest import Manifest

NAME_RESULT = "name the result's own folder: its current version is read"


@dataclass
class Expansion:
    """Expands the patterns of one source."""

    base: Path
    """Where relative patterns begin."""
    is_data: Callable[[str], bool]
    """Whether a folder's file belongs to the table, by its name."""
    endings: str
    """What such names end in, for people."""
    left_out: set[str] = field(default_factory=set)
    """Results that lie inside a folder or glob."""
    read_as_result: list[str] = field(default_factory=list)
    """Patterns that name a result."""
    results: Results = field(default_factory=lambda: Results(LocalFolders()))
    tables: TableFolders = field(default_factory=TableFolders)
    single_files: dict[str, Table] = field(default_factory=dict)
    """Files that a pattern names, and that a table's folder holds -> that table."""

    @property
    def notes(self) -> list[str]:
        """What the user should know of what was found."""
        base = os.path.realpath(self.base)
        notes = result_notes(self.read_as_result, [os.path.relpath(folder, base) for folder in self.left_out])
        return notes + read_by_themselves(self.single_files)

    def expand(self, pattern: str) -> tuple[Path, list[Path]]:
        """The fixed part of a pattern, a folder, and its files, sorted by their bytes.

        Raises:
            InputError: nothing matches, or files of a Delta or Iceberg table do.
            OSError: a folder cannot be listed.
        """
        if "://" in pattern:
            raise InputError(
                f"{pattern!r} cannot be read",
                expected="a path, a glob or a folder of a file system, or of an object store (s3://, gs://, az://)",
                next_step="write a path of a file system without a scheme",
            )
        full = Path(os.path.normpath(self.base.absolute() / os.path.expanduser(pattern)))  # noqa: PTH111  raises nothing
        fixed, rest = _literal_part(full)
        if not rest and not fixed.is_dir():
            if (table := self.tables.of(fixed.parent)) is not None:
                self.single_files[pattern] = table
            return fixed.parent, [fixed]
        if rest and not any(map(glob.has_magic, rest)):
            raise _not_found(pattern, full)
        if rest and not (glob.has_magic(rest[0]) and fixed.is_dir()):
            raise _not_found(pattern, fixed / rest[0])
        if not rest and self.results.is_result(fixed):
            return fixed, self._current_version(pattern, fixed)
        if (owner := self.results.owner(fixed)) is not None:
            raise InputError(
                f"{pattern!r} lies inside {owner}, a result of rayforest",
                expected="raw tables, or a result as a whole",
                next_step=NAME_RESULT,
            )
        self.tables.refuse(pattern, fixed)
        files = sorted(self._matching(fixed, rest) if rest else self._in_folder(fixed), key=os.fsencode)
        for folder in {file.parent for file in files}:
            self.tables.refuse(pattern, folder)
        if not files:
            raise self._no_file(pattern, fixed, rest)
        return fixed, files

    def _current_version(self, pattern: str, folder: Path) -> list[Path]:
        from rayforest.engine.publish import read_manifest

        manifest = read_manifest(folder, next_step="finish it first, or name other data")
        if not manifest.shards:
            raise holds_no_table(pattern, manifest)
        self.read_as_result.append(pattern)
        return [Path(file) for file in manifest.files()]

    def _in_folder(self, folder: Path) -> Iterator[Path]:
        for where, folders, names in os.walk(folder, onerror=_fail, followlinks=True):
            folders[:] = [name for name in folders if not is_hidden(name) and self._is_raw(Path(where, name))]
            files = (Path(where, name) for name in names if not is_hidden(name) and self.is_data(name))
            yield from (file for file in files if not (file.is_symlink() and self._leads_into_result(file)))

    def _matching(self, fixed: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        """As Python's `glob`, but a folder that cannot be listed is an error, and results are passed over."""
        hidden_named = any(is_hidden(part) for part in parts)
        found = dict.fromkeys(self._walk(fixed, parts))  # a file may match `**` in several ways
        for file in found:
            if hidden_named or not any(is_hidden(part) for part in file.relative_to(fixed).parts):
                yield file

    def _walk(self, folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self._walk(folder, rest or ("*",))
            for entry in _entries(folder):
                below = Path(entry.path)
                hidden = entry.name.startswith(".")
                if _is_folder(entry) and not hidden and not _leads_up(entry) and self._is_raw(below):
                    yield from self._walk(below, parts)
            return
        for entry in _entries(folder):
            if (entry.name.startswith(".") and not part.startswith(".")) or not fnmatch.fnmatchcase(entry.name, part):
                continue
            found = Path(entry.path)
            if not _is_folder(entry):
                if not rest and not (entry.is_symlink() and self._leads_into_result(found)):
                    yield found
            elif rest and self._is_raw(found):
                yield from self._walk(found, rest)

    def _leads_into_result(self, link: Path) -> bool:
        return self.results.owner(Path(os.path.realpath(link)).parent) is not None

    def _is_raw(self, folder: Path) -> bool:
        owner = self.results.owner(folder)
        if owner is not None:
            self.left_out.add(owner)
        return owner is None

    def _no_file(self, pattern: str, fixed: Path, rest: tuple[str, ...]) -> InputError:
        if not rest:
            return InputError(
                f"folder {pattern!r} has no data files",
                expected="files ending in " + self.endings,
                found=_contents(fixed),
                next_step="give a glob such as 'folder/*.log', and a format, for other endings",
            )
        if self.results.is_result(fixed) or self.left_out:
            step = f"correct the pattern; or {NAME_RESULT}"
        elif any("[" in part for part in rest):
            literal = pattern.replace("[", "[[]")
            step = f"'[' begins a set of characters in a pattern; the character itself is written {literal!r}"
        else:
            step = "correct the pattern; '**' stands for any folders"
        found = "; ".join([_contents(fixed), *self.notes])
        return InputError(f"no file matches {pattern!r}", expected=f"files under {fixed}", found=found, next_step=step)


def result_notes(read: Iterable[str], left_out: Iterable[str]) -> list[str]:
    """What the user should know of results among the files: those that are read, and those that are not."""
    notes = [f"{name} is a result of rayforest: its current version is read" for name in read]
    if names := sorted(left_out):
        notes.append(f"results of rayforest are not read as raw data: {', '.join(names)}")
    return notes


def holds_no_table(pattern: str, manifest: Manifest) -> InputError:
    """The refusal of a result that is no table, such as a model."""
    return InputError(
        f"{pattern!r} is a result of rayforest that holds no table",
        expected="raw tables, or what prepare or score wrote",
        found=f"what {manifest.summary.get('stage', 'another stage')} wrote",
        next_step="name raw tables, or the folder that prepare or score wrote",
    )


def is_hidden(name: str) -> bool:
    """Whether a file or folder is left out unless a pattern names it."""
    return name.startswith((".", "_"))


def _literal_part(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The longest beginning of a path that exists by its name, and the parts that are left."""
    fixed = Path(path.anchor)
    for place, part in enumerate(path.parts[1:], 1):
        if part == "**" or not os.path.lexists(fixed / part):
            return fixed, path.parts[place:]
        fixed /= part
    return fixed, ()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _leads_up(entry: os.DirEntry[str]) -> bool:
    """Whether a link leads to a folder that it lies in."""
    return entry.is_symlink() and f"{entry.path}/".startswith(f"{os.path.realpath(entry.path)}/")


def _fail(error: OSError) -> None:
    raise error


def _not_found(pattern: str, path: Path) -> InputError:
    missing, parent = path.name, path.parent
    while not parent.exists():
        missing, parent = parent.name, parent.parent
    hint = did_you_mean(missing, _names_in(parent)) if parent.is_dir() else ""
    return InputError(
        f"{pattern!r} does not exist", expected="a file, a folder or a glob", found=f"{parent} exists", next_step=hint
    )


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if not is_hidden(entry.name))
    except OSError:
        return []


def _contents(folder: Path) -> str:
    names = _names_in(folder)
    return (
        ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "an empty folder"
    )
