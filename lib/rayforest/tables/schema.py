"""What the columns of a source are, over all of its files: kinds, stored types, and what does not fit together.

Files of equal columns are one variant, so that thousands of files are a few variants. A file without rows holds no
value, and decides nothing as long as another file has rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from rayforest.errors import InputError, did_you_mean
from rayforest.kinds import Kind
from rayforest.tables.common_type import TYPE_OF_KIND, common_type, type_of_text


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A column of one file."""

    name: str
    kind: Kind | None
    """None where no value tells it (a column of nulls), or where the column is not read."""
    stored: str
    """Arrow's name of the type in which `read` gives it; of the stored type where it is not read."""
    is_text: bool = False
    """Whether the values are the text of a CSV file or of a hive folder, and `kind` was guessed from a sample."""
    nearly: Kind | None = None
    """Of text that is a string for a few values only: the kind of nearly all others."""
    far: bool = False
    """Whether it has a time that nanoseconds do not reach."""
    unread: str | None = None
    """Why it is not read, as the end of a sentence."""


def fault_of_name(name: str) -> str | None:
    """Why no column of this name can be read, as the end of a sentence; None where it can."""
    if not name:
        return "it has no name"
    if "\0" in name:
        return "its name holds a NUL"
    if name == "*" or (name.startswith("^") and name.endswith("$")):
        return "Polars takes its name for a pattern over all columns"
    return None


@dataclass(frozen=True)
class Variant:
    """Files of equal columns."""

    path: str
    """Of the first of them."""
    files: int
    columns: tuple[FileColumn, ...]

    @cached_property
    def by_name(self) -> dict[str, FileColumn]:
        """The first column of each name."""
        return {column.name: column for column in reversed(self.columns)}

    @cached_property
    def repeated(self) -> set[str]:
        """Names that stand twice or more."""
        seen: set[str] = set()
        return {c.name for c in self.columns if c.name in seen or seen.add(c.name)}  # type: ignore[func-returns-value]

    def __str__(self) -> str:
        return self.path if self.files == 1 else f"{self.path} and {self.files - 1} more"


@dataclass(frozen=True)
class TableSchema:
    """The columns of all files of a source."""

    variants: tuple[Variant, ...]
    """In the order of their first files; those of files with rows, or of all where none has rows."""
    has_rows: bool = True
    """Whether any file has a row that can be read."""

    @classmethod
    def of(cls, files: Iterable[tuple[str, bool, tuple[FileColumn, ...]]]) -> TableSchema:
        """The schema of files, given as (path, whether it has rows, columns), in input order."""
        counts: dict[tuple[bool, tuple[FileColumn, ...]], tuple[str, int]] = {}
        last: tuple[FileColumn, ...] = ()
        for path, has_rows, columns in files:
            last = last if columns == last else columns  # one object: hashing is then looking it up
            first, count = counts.get((has_rows, last), (path, 0))
            counts[has_rows, last] = (first, count + 1)
        with_rows = any(has_rows for has_rows, _ in counts)
        return cls(
            tuple(
                Variant(path, count, columns)
                for (has_rows, columns), (path, count) in counts.items()
                if has_rows or not with_rows
            ),
            with_rows,
        )

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """Kind of each column that some file has and no file has in a type that is not read, in file order.

        Text decides by all files' samples, whatever their order: the narrowest kind that takes every value, where a
        file may have a few that are dirt beside another that has none. Stored types decide by the first file that has
        one. A column of nulls decides nothing, and is a string where nothing else does.
        """
        names = dict.fromkeys(column.name for variant in self.variants for column in variant.columns)
        return {name: self._kind(name) for name in names if name not in self.unread}

    @cached_property
    def unread(self) -> dict[str, str]:
        """Column -> why it is not read, as the end of a sentence, in file order."""
        reasons: dict[str, str] = {}
        for variant in self.variants:
            for column in variant.columns:
                if column.unread is not None and column.name not in reasons:
                    others = [v.by_name.get(column.name) for v in self.variants]
                    here = any(other is not None and other.unread is None for other in others)
                    reasons[column.name] = column.unread + (f", as it stands in {variant.path}" if here else "")
        return reasons

    @cached_property
    def leading(self) -> list[str]:
        """Columns of the first file that can be read, in its order: those that every file has to have."""
        return [name for name in dict.fromkeys(c.name for c in self.variants[0].columns) if name in self.kinds]

    def require(self, names: Iterable[str]) -> None:
        """Refuse columns that a file does not have, or has twice.

        Raises:
            InputError: names the file and the column.
        """
        for name in names:
            for variant in self.variants:
                if name not in variant.by_name:
                    raise self._missing(name, variant)
                if name in variant.repeated:
                    raise InputError(
                        f"{variant.path} has {sum(c.name == name for c in variant.columns)} columns named {name!r}",
                        expected="a name only once",
                        next_step="rename one where the file is written, or use neither",
                    )

    def stored_type(self, name: str, declared: Kind | None) -> pa.DataType:
        """The type in which a column of all files comes out: the one that takes the values of each.

        Args:
            name: a column that every file has.
            declared: its kind, where the project declares it. It decides what text is, and what a column is whose
                files have no type in common.

        Raises:
            InputError: numbers in one file and text in another, or other such types, and nothing is declared.
        """
        text = TYPE_OF_KIND[declared] if declared is not None else pa.string()
        found = [(v, v.by_name[name]) for v in self.variants]
        joined = common_type(
            (text if column.is_text else type_of_text(column.stored) for _, column in found),
            far=any(column.far for _, column in found),
        )
        if joined is not None:
            return joined
        if declared is not None:
            return TYPE_OF_KIND[declared]
        raise InputError(
            f"column {name!r} has no type that fits all files",
            expected="one type, or types of which one holds the values of all",
            found=_listed(self._stored_in(name)),
            next_step=f'say what it is in [data.columns]: "{name}" = "string" keeps every value as its text; or store '
            "it alike in all files",
        )

    def differences(self, names: Iterable[str]) -> Iterator[str]:
        """A sentence for each of these columns that is of one kind here and of another there, or not everywhere."""
        for name in names:
            lacking = [variant for variant in self.variants if name not in variant.by_name]
            if lacking:
                yield f"column {name} is not in {_listed(map(str, lacking))}"
                continue
            kinds: dict[str, list[str]] = {}
            for variant in self.variants:
                if (kind := variant.by_name[name].kind) is not None:
                    kinds.setdefault(kind, []).append(str(variant))
            if len(kinds) > 1:
                where = "; ".join(f"a {kind} in {_listed(paths, 2)}" for kind, paths in kinds.items())
                yield f"column {name} is read as a {self.kinds[name]}; by its values it is {where}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        variants = [asdict(variant) for variant in self.variants]
        return {"variants": variants, "has_rows": self.has_rows}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> TableSchema:
        """What `as_dict` gave."""
        return cls(
            tuple(
                Variant(
                    entry["path"],
                    entry["files"],
                    tuple(
                        FileColumn(**column | {k: column.get(k) and Kind(column[k]) for k in ("kind", "nearly")})
                        for column in entry["columns"]
                    ),
                )
                for entry in table["variants"]
            ),
            table["has_rows"],
        )

    def _kind(self, name: str) -> Kind:
        found = [c for v in self.variants if (c := v.by_name.get(name)) is not None and c.kind is not None]
        if not found:
            return Kind.STRING
        first = found[0]
        alike = [column for column in found if column.is_text == first.is_text]
        kinds = {column.kind for column in alike}
        if first.is_text and len(kinds) > 1:
            certain = kinds - {Kind.STRING}
            doubtful = {column.nearly for column in alike if column.kind is Kind.STRING}
            return certain.pop() if len(certain) == 1 and doubtful == certain else Kind.STRING  # type: ignore[return-value]
        return Kind.NUMBER if kinds == {Kind.BOOLEAN, Kind.NUMBER} else first.kind  # type: ignore[return-value]

    def _stored_in(self, name: str) -> Iterator[str]:
        for variant in self.variants:
            column = variant.by_name[name]
            yield f"{'text' if column.is_text else column.stored} in {variant}"

    def _missing(self, name: str, variant: Variant) -> InputError:
        having = next((v for v in self.variants if name in v.by_name), None)
        hint = did_you_mean(name, variant.by_name)
        return InputError(
            f"{variant.path} has no column {name!r}",
            expected=f"the columns of {having.path}: the files of a source are one table" if having else name,
            found=f"{len(variant.columns)} columns",
            next_step=f"{hint}; or leave files of another table out of the source" if having else hint,
        )


def _listed(items: Iterable[str], most: int = 4) -> str:
    texts: Sequence[str] = list(items)
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
