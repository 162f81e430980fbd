"""Files of a store in our formats: read, and told apart from damaged ones and from those of a newer rayforest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from rayforest.engine.stores.store import Store
from rayforest.formats import STEP_SCHEMA, Document, Format

_T = TypeVar("_T")
WHOLE_BYTES = 1 << 18
"""A file of up to so many is read at once, where few requests are wanted."""


def read_document(store: Store, path: str, form: Format, parse: Callable[[Document], _T]) -> _T | None:
    """What a JSON file stands for; None where there is none.

    Args:
        store: where it lies.
        path: in the store.
        form: which it has.
        parse: see `Format.read`.

    Raises:
        FormatError: it is damaged, of another kind, or newer.
    """
    try:
        data = store.get(path)
    except FileNotFoundError:
        return None
    return form.read(data, store.locate(path), parse)


@contextmanager
def open_table(store: Store, path: str, form: Format, columns: Iterable[str]) -> Iterator[pq.ParquetFile]:
    """A Parquet file, for as long as it is read from.

    Args:
        store: where it lies.
        path: in the store.
        form: which it has.
        columns: that it must have.

    Raises:
        FileNotFoundError: there is none.
        FormatError: it is damaged, of another kind, or newer.
        OSError: the store failed.
    """
    with store.open_read(path) as source, _checked(source, store.locate(path), form, columns) as file:
        yield file


@contextmanager
def open_row_groups(
    store: Store, path: str, form: Format, columns: Iterable[str], size: int
) -> Iterator[pq.ParquetFile]:
    """The same of a file of which some row groups are wanted, with few requests.

    Columns of a row group that lie side by side are read together. A small file is read whole: its footer alone would
    cost two requests.

    Args:
        store: where it lies.
        path: in the store.
        form: which it has.
        columns: that it must have.
        size: of the file in bytes.

    Raises: as `open_table`.
    """
    with (
        pa.BufferReader(store.get(path)) if size <= WHOLE_BYTES else store.open_read(path) as source,
        _checked(source, store.locate(path), form, columns, pre_buffer=True) as file,
    ):
        yield file


@contextmanager
def _checked(
    source: pa.NativeFile, where: str, form: Format, columns: Iterable[str], *, pre_buffer: bool = False
) -> Iterator[pq.ParquetFile]:
    with naming_damage(where, form):
        file = pq.ParquetFile(source, pre_buffer=pre_buffer)
        _check(file.metadata.metadata, where, form)
        if missing := [name for name in columns if name not in file.schema_arrow.names]:
            raise form.damaged(where, f"no column {missing[0]}")
        yield file


def read_table(
    store: Store, path: str, form: Format, columns: Sequence[str], filters: Sequence[tuple[str, str, object]] = ()
) -> pa.Table:
    """Rows of a Parquet file.

    Args:
        store: where it lies.
        path: in the store.
        form: which it has.
        columns: that are read.
        filters: as `pyarrow.parquet.read_table` takes them; none by default.

    Raises:
        FileNotFoundError: there is none.
        FormatError: it is damaged, of another kind, or newer.
        OSError: the store failed.
    """
    where = store.locate(path)
    with store.open_read(path) as source, naming_damage(where, form):
        try:
            table = pq.read_table(source, columns=list(columns), filters=list(filters) or None)
        except pa.ArrowException:
            _check(pq.read_metadata(source).metadata, where, form)  # a newer file may have other columns
            raise
    _check(table.schema.metadata, where, form)
    return table.replace_schema_metadata()


def write_schema(schema: pa.Schema) -> bytes:
    """A schema.arrow file, in Arrow's IPC form."""
    encoded: bytes = schema.with_metadata(STEP_SCHEMA.metadata).serialize().to_pybytes()
    return encoded


def read_schema(data: bytes, where: str) -> pa.Schema:
    """What `write_schema` wrote, without the envelope.

    Raises:
        FormatError: it is damaged, of another kind, or newer.
    """
    with naming_damage(where, STEP_SCHEMA):
        schema = pa.ipc.read_schema(pa.py_buffer(data))
    _check(schema.metadata, where, STEP_SCHEMA)
    return schema.remove_metadata()


def _check(metadata: Mapping[bytes, bytes] | None, where: str, form: Format) -> None:
    found = {name: (metadata or {}).get(name.encode(), b"").decode(errors="replace") for name in _NAMES}
    version = found["version"] if found["kind"] else found["rayforest"] or "1"
    form.checked(found["kind"] or form.kind, int(version) if version.isdecimal() else None, where)


_NAMES = ("kind", "version", "rayforest")
"""The last one is the version of plans before the envelope."""


@contextmanager
def naming_damage(where: str, form: Format) -> Iterator[None]:
    """Turn what pyarrow raises over bytes that it cannot decode into an error that names the file.

    Raises:
        FormatError: in the place of pyarrow's.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, (MemoryError, pa.ArrowCancelled)) or getattr(error, "errno", None) is not None:
            raise  # the machine's, the user's or the store's, and not the decoder's
        raise form.damaged(where, "bytes that are not of its form") from error
