"""A URI in an object store to the objects that match it: an object, a glob, a folder, or a result of rayforest.

What a pattern means is what it means on a file system (see `patterns`), but an object store has no folders: they are
what keys have in common, and one listing of the part of a pattern that is no glob finds all that lies below.
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from rayforest.engine.stores.bucket import Bucket, ObjectMeta, bucket_of
from rayforest.engine.stores.object_uri import ObjectUri
from rayforest.errors import InputError, did_you_mean
from rayforest.tables.patterns import NAME_RESULT, holds_no_table, is_hidden, result_notes
from rayforest.tables.results import Results
from rayforest.tables.snapshots.plain_folder import BucketTables, Table, read_by_themselves

_SHOWN_KEYS = 1000
"""Of a folder, that are listed for a message: one request."""


@dataclass
class ObjectExpansion:
    """Expands the patterns of one source that lie in object stores."""

    is_data: Callable[[str], bool]
    """Whether a folder's object belongs to the table, by its name."""
    endings: str
    """What such names end in, for people."""
    left_out: set[str] = field(default_factory=set)
    """URIs of results that lie inside a folder or glob."""
    read_as_result: list[str] = field(default_factory=list)
    """Patterns that name a result."""
    tables: dict[str, BucketTables] = field(default_factory=dict)
    """Bucket -> its Delta and Iceberg tables, as far as they were met."""
    single_files: dict[str, Table] = field(default_factory=dict)
    """Objects that a pattern names, and that a table's folder holds -> that table."""

    @property
    def notes(self) -> list[str]:
        """What the user should know of what was found."""
        return result_notes(self.read_as_result, sorted(self.left_out)) + read_by_themselves(self.single_files)

    def expand(self, pattern: str) -> tuple[str, Iterable[tuple[str, ObjectMeta]]]:
        """The URI of the fixed part of a pattern, a folder, and (URI, object) of each match, sorted by their bytes.

        Raises:
            ConfigError: it is no URI of a bucket, or holds credentials.
            InputError: nothing matches, or objects of a Delta or Iceberg table do.
            OSError: the bucket cannot be listed.
        """
        place = ObjectUri.parse(pattern)
        if glob.has_magic(place.bucket):
            raise InputError(
                f"{pattern!r} names no bucket",
                expected="the whole name of a bucket; a pattern may follow it",
                next_step="name each bucket in a source of its own: a source may be a list",
            )
        listing = _Listing(self, bucket_of(place))
        fixed, objects = listing.expand(pattern, place.key, is_folder=pattern.endswith("/"))
        bucket = str(place.with_key(""))
        found = sorted(objects, key=lambda found: found.key.encode())
        return f"{bucket}/{fixed}".rstrip("/"), ((f"{bucket}/{one.key}", one) for one in found)


class _Listing:
    """Of one bucket. Folders are keys without a slash at their ends; the bucket itself is the empty one."""

    def __init__(self, source: ObjectExpansion, bucket: Bucket) -> None:
        self._source, self._bucket = source, bucket
        self._results = Results(_ObjectFolders(bucket))
        self._tables = source.tables.setdefault(bucket.uri, BucketTables(bucket))

    def expand(self, pattern: str, key: str, *, is_folder: bool) -> tuple[str, list[ObjectMeta]]:
        fixed, rest = self._literal_part(key)
        if not rest and not is_folder and (found := self._object(fixed)) is not None and not self._is_mark(found):
            folder = fixed.rpartition("/")[0]
            if (table := self._tables.folders.of(folder)) is not None:
                self._source.single_files[pattern] = table
            return folder, [found]
        if not rest and self._results.is_result(fixed):
            return fixed, self._current_version(pattern, fixed)
        if (owner := self._results.owner(fixed)) is not None:
            raise InputError(
                f"{pattern!r} lies inside {self._uri(owner)}, a result of rayforest",
                expected="raw tables, or a result as a whole",
                next_step=NAME_RESULT,
            )
        self._tables.folders.refuse(pattern, fixed)
        files = list(self._matching(fixed, rest) if rest else self._in_folder(fixed))
        self._tables.refuse(pattern, files)
        if not files:
            raise self._no_file(pattern, fixed, rest) if self._exists(fixed) else self._not_found(pattern, fixed)
        return fixed, files

    def _literal_part(self, key: str) -> tuple[str, list[str]]:
        """The longest beginning of a key that has no character of a glob, or is the name of something, and the rest."""
        fixed = ""
        parts = key.split("/") if key else []
        for place, part in enumerate(parts):
            longer = _below(fixed, part)
            if part == "**" or (glob.has_magic(part) and not self._exists(longer)):
                return fixed, parts[place:]
            fixed = longer
        return fixed, []

    def _in_folder(self, folder: str) -> Iterator[ObjectMeta]:
        for found in self._bucket.walk(folder):
            self._tables.notice(found)
            names = _names_below(folder, found.key)
            if names and not any(map(is_hidden, names)) and self._source.is_data(names[-1]) and self._is_raw(found):
                yield found

    def _matching(self, fixed: str, parts: Sequence[str]) -> Iterator[ObjectMeta]:
        hidden_named = any(map(is_hidden, parts))
        begin = glob.escape(parts[0]).partition("[")[0]  # up to the first character of a glob
        for found in self._bucket.walk(fixed, begin):
            self._tables.notice(found)
            names = _names_below(fixed, found.key)
            if (hidden_named or not any(map(is_hidden, names))) and _matches(names, parts) and self._is_raw(found):
                yield found

    def _is_raw(self, found: ObjectMeta) -> bool:
        """Whether an object is no part of a result, and no mark by which some tools show an empty folder."""
        owner = self._results.owner(found.key.rpartition("/")[0])
        if owner is not None:
            self._source.left_out.add(self._uri(owner))
            return False
        return found.size > 0 or (self._object(found.key) is not None and not self._is_mark(found))

    def _is_mark(self, found: ObjectMeta) -> bool:
        """Whether an object only stands for a folder. Where its key ends in a slash, none is found without it."""
        return found.size == 0 and any(
            _names_below(found.key, one.key) for one in islice(self._bucket.walk(found.key), 2)
        )

    def _current_version(self, pattern: str, folder: str) -> list[ObjectMeta]:
        from rayforest.engine.publish import read_manifest

        manifest = read_manifest(self._uri(folder), next_step="finish it first, or name other data")
        if not manifest.shards:
            raise holds_no_table(pattern, manifest)
        keys = [ObjectUri.parse(uri).key for uri in manifest.files()]
        listed = {
            found.key: found
            for parent in dict.fromkeys(key.rpartition("/")[0] for key in keys)
            for found in self._bucket.walk(parent)
        }
        self._source.read_as_result.append(pattern)
        return [listed[key] if key in listed else self._bucket.head(key) for key in keys]

    def _object(self, key: str) -> ObjectMeta | None:
        try:
            return self._bucket.head(key) if key else None
        except FileNotFoundError:
            return None

    def _exists(self, key: str) -> bool:
        """Whether there is such a folder or object."""
        return next(self._bucket.walk(key), None) is not None or self._object(key) is not None

    def _uri(self, key: str) -> str:
        return f"{self._bucket.uri}/{key}".rstrip("/")

    def _names(self, folder: str) -> list[str]:
        """What a folder shows, among its first objects."""
        found = islice(self._bucket.walk(folder), _SHOWN_KEYS)
        names = dict.fromkeys(names[0] for one in found if (names := _names_below(folder, one.key)))
        return [name for name in names if not is_hidden(name)]

    def _contents(self, folder: str) -> str:
        names = self._names(folder)
        return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "an empty folder"

    def _no_file(self, pattern: str, fixed: str, rest: Sequence[str]) -> InputError:
        if not rest:
            return InputError(
                f"folder {pattern!r} has no data files",
                expected="files ending in " + self._source.endings,
                found=self._contents(fixed),
                next_step="give a glob such as 's3://bucket/folder/*.log', and a format, for other endings",
            )
        if self._results.is_result(fixed) or self._source.left_out:
            step = f"correct the pattern; or {NAME_RESULT}"
        else:
            step = "correct the pattern; '**' stands for any folders"
        found = "; ".join([self._contents(fixed), *self._source.notes])
        expected = f"files under {self._uri(fixed)}"
        return InputError(f"no file matches {pattern!r}", expected=expected, found=found, next_step=step)

    def _not_found(self, pattern: str, key: str) -> InputError:
        parent, _, missing = key.rpartition("/")
        while parent and not self._exists(parent):
            parent, _, missing = parent.rpartition("/")
        names = self._names(parent)
        return InputError(
            f"{pattern!r} does not exist",
            expected="an object, a folder or a glob",
            found=f"{self._uri(parent)} exists" if names else f"{self._uri(parent)} is empty",
            next_step=did_you_mean(missing, names) if names else "name another bucket, or write the tables first",
        )


class _ObjectFolders:
    """Folders of a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def real(self, folder: str) -> str:
        return folder

    def names(self, folder: str) -> Iterator[str]:
        for found in islice(self._bucket.walk(folder.strip("/")), _SHOWN_KEYS):
            yield found.key.rpartition("/")[2]

    def read(self, path: str) -> bytes:
        return bytes(self._bucket.get(path.strip("/"))[0])


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _names_below(folder: str, key: str) -> list[str]:
    """The parts of a key below a folder; none of the folder itself."""
    below = key.removeprefix(f"{folder}/") if folder else key
    return below.split("/") if below and key != folder else []


def _matches(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the parts of a key match those of a glob, as Python's `glob` has it."""
    if not parts:
        return not names
    part, rest = parts[0], parts[1:]
    if part == "**":
        shown = next((place for place, name in enumerate(names) if name.startswith(".")), len(names))
        return any(_matches(names[skipped:], rest or ("*",)) for skipped in range(min(shown, len(names) - 1) + 1))
    if not names or (names[0].startswith(".") and not part.startswith(".")):
        return False
    return fnmatch.fnmatchcase(names[0], part) and _matches(names[1:], rest)
