"""One attempt at one shard: files under names that are never used twice, then one record, created if absent."""

from __future__ import annotations

import contextlib
import hashlib
import io
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayforest.engine.record import Record, attempt_path, decode_record, encode_record, record_path
from rayforest.engine.shards import Shard
from rayforest.engine.stores.requests import settle
from rayforest.engine.stores.store import Store
from rayforest.engine.work import Work, WorkClock
from rayforest.errors import InputError, RayforestError

ROW_GROUP_ROWS = 131_072
"""Fixed, and rows are copied into one chunk before: the bytes must not depend on how a task cut its tables."""
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("raw", pa.string()),
    ]
)
"""Of every quarantine file. `file` is the path in the source, `row` the 0-based data row in it, `raw` the line of a CSV
file or the row's values as a JSON object. Only `raw` is ever null; all are nullable, as in files that exist."""
_KEPT_REASONS = 20


class Attempt:
    """What a task is given to put its rows into. Not for use from several threads at once."""

    def __init__(
        self,
        store: Store,
        folder: str,
        shard: Shard,
        schema: pa.Schema,
        *,
        check_rows: bool = True,
        stopped: Callable[[], bool] = lambda: False,
        run: str = "",
    ) -> None:
        self.index = shard.index
        self._clock = WorkClock(run)
        self._store, self._folder, self._shard = store, folder, shard
        self._check_rows, self._stopped = check_rows, stopped
        self.token = new_token()
        self._data = _ShardFile(store, attempt_path(folder, "data", shard.index, self.token, "parquet"), schema)
        quarantine_path = attempt_path(folder, "quarantine", shard.index, self.token, "parquet")
        self._quarantine = _ShardFile(store, quarantine_path, QUARANTINE_SCHEMA)
        self._rows_in = 0
        self._reasons: Counter[str] = Counter()
        self._sidecar: bytes | None = None

    @property
    def work(self) -> Work:
        """Who does it, and for how long by now."""
        return self._clock.work()

    def write(self, data: pa.Table | pa.RecordBatch) -> None:
        """Put rows out, in order. Columns as the task's schema names them; safe casts are made."""
        self._check_not_stopped()
        self._data.write(data)

    def end_row_group(self) -> None:
        """Let the rows that follow begin a row group, for readers who want them alone."""
        self._data.end_row_group()

    def quarantine(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Set rows aside, with the columns of QUARANTINE_SCHEMA."""
        self._check_not_stopped()
        self._quarantine.write(rows)
        for counted in pc.value_counts(rows.column("reason")).to_pylist():
            self._reasons[str(counted["values"])] += counted["counts"]

    def count_in(self, rows: int) -> None:
        """Rows that were read. In the end they must be the planned ones, and equal rows out plus quarantined."""
        self._check_not_stopped()
        self._rows_in += rows

    def sidecar(self, data: bytes) -> None:
        """Keep a small result, such as a profile, beside the record."""
        self._sidecar = data

    def commit(self) -> Record:
        """Close and check the files, then create the record. Returns the record that stands, mine or another's.

        Raises:
            InputError: the inputs do not hold the planned rows.
            RayforestError: rows are not accounted for, or a file does not read back as it was written.
            OSError: the store failed. The files stay: the record may still come to be.
        """
        self._check_not_stopped()
        sidecar = None
        try:
            self._data.close()
            self._quarantine.close()
            self._account()
            if self._sidecar is not None:
                sidecar = attempt_path(self._folder, "records", self.index, self.token, "sidecar")
                settle(self._store, sidecar, self._sidecar)
        except BaseException:
            self._delete([self._data.path, self._quarantine.path, *([sidecar] if sidecar else [])])
            raise
        mine = Record(
            shard=self.index,
            attempt=self.token,
            rows_in=self._rows_in,
            rows_out=self._data.rows,
            rows_quarantined=self._quarantine.rows,
            path=self._data.path if self._data.rows else None,
            bytes=self._data.bytes,
            checksum=self._data.checksum,
            quarantine=self._quarantine.path if self._quarantine.rows else None,
            sidecar=sidecar,
            reasons=dict(self._reasons.most_common(_KEPT_REASONS)),
            work=self.work,
        )
        # From here until another's record has been seen, the files must stay: a create that seemed to fail may
        # take effect later, and would then name files that are gone.
        path = record_path(self._folder, self.index)
        standing = decode_record(settle(self._store, path, encode_record(mine)), self._store.locate(path))
        if standing.attempt != self.token:
            self._delete(list(mine.files))
        return standing

    def abandon(self) -> None:
        """Leave nothing behind of an attempt that did not come to its record."""
        self._data.discard()
        self._quarantine.discard()

    def _check_not_stopped(self) -> None:
        if self._stopped():
            raise StoppedError

    def _account(self) -> None:
        out, aside = self._data.rows, self._quarantine.rows
        if self._rows_in != out + aside:
            raise RayforestError(
                f"shard {self.index} does not account for every row",
                expected=f"{self._rows_in:,} rows in = rows out + rows quarantined",
                found=f"{out:,} out + {aside:,} quarantined",
                next_step="this is a defect in the task that wrote the shard; please report it",
            )
        if self._check_rows and self._rows_in != self._shard.rows:
            first = self._shard.ranges[0].path if self._shard.ranges else "no input"
            raise InputError(
                f"the inputs of shard {self.index} (from {first}) do not hold the planned rows",
                expected=f"{self._shard.rows:,} rows",
                found=f"{self._rows_in:,} rows",
                next_step="the input changed after the run was planned: run again with --replace",
            )

    def _delete(self, paths: list[str]) -> None:
        with contextlib.suppress(OSError):  # clean finds what is left
            self._store.delete(paths)


class StoppedError(Exception):
    """The run was interrupted; the attempt ends at its next call."""


def new_token() -> str:
    """64 random bits in hex: no two attempts share one."""
    return secrets.token_hex(8)


class _ShardFile:
    """A Parquet file that is opened with its first row, and checked after it was closed."""

    def __init__(self, store: Store, path: str, schema: pa.Schema) -> None:
        self.path = path
        self.rows = 0
        self.bytes = 0
        self.checksum = ""
        self._store, self._schema = store, schema
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._stack = ExitStack()
        self._sink: HashingSink | None = None
        self._writer: pq.ParquetWriter | None = None

    def write(self, data: pa.Table | pa.RecordBatch) -> None:
        table = pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else data
        if not table.schema.equals(self._schema):
            table = table.select(self._schema.names).cast(self._schema)
        if table.num_rows == 0:
            return
        self.rows += table.num_rows
        self._pending.append(table)
        self._pending_rows += table.num_rows
        while self._pending_rows >= ROW_GROUP_ROWS:
            self._write_group(ROW_GROUP_ROWS)

    def end_row_group(self) -> None:
        if self._pending_rows:
            self._write_group(self._pending_rows)

    def close(self) -> None:
        """Finish the file, reopen it, and see that it holds what was written."""
        if self.rows == 0:
            return
        self.end_row_group()
        writer, sink = self._open()
        writer.close()
        self._stack.close()
        self.bytes, self.checksum = sink.bytes, sink.digest.hexdigest()
        size = self._store.size(self.path)
        with self._store.open_read(self.path) as source:
            file = pq.ParquetFile(source)
            rows, schema = file.metadata.num_rows, file.schema_arrow
        if size != self.bytes or rows != self.rows or not schema.equals(self._schema):
            raise RayforestError(
                f"{self._store.locate(self.path)} does not read back as it was written",
                expected=f"{self.bytes:,} bytes, {self.rows:,} rows",
                found=f"{size} bytes, {rows:,} rows, {'the same' if schema.equals(self._schema) else 'another'} schema",
                next_step="check the storage; the shard is tried again",
            )

    def discard(self) -> None:
        """Give up a file that is not closed: its store sees an exception, so nothing becomes visible."""
        if self._writer is not None and self._sink is not None:
            self._sink.mute()  # or the writer would write its footer when it is collected
            with contextlib.suppress(Exception):
                self._writer.close()
        with contextlib.suppress(_Discarded):
            self._stack.__exit__(_Discarded, _Discarded(), None)

    def _open(self) -> tuple[pq.ParquetWriter, HashingSink]:
        if self._writer is None or self._sink is None:
            self._sink = HashingSink(self._stack.enter_context(self._store.open_write(self.path)))
            self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd", **_encodings(self._schema))
        return self._writer, self._sink

    def _write_group(self, rows: int) -> None:
        writer, _ = self._open()
        table = pa.concat_tables(self._pending)
        writer.write_table(table.slice(0, rows).combine_chunks(), row_group_size=ROW_GROUP_ROWS)
        rest = table.slice(rows)
        self._pending, self._pending_rows = ([rest] if rest.num_rows else []), rest.num_rows


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Differences for whole numbers and times, dictionaries for text, and plain floats.

    Dictionaries of floats cost most of the writing, and of scores and features the file is larger with them (measured:
    a sixth of the time, and 7.7 bytes a row instead of 12.6, for an id, a label and a probability).
    """
    types = pa.types
    differences = [
        f.name for f in schema if types.is_integer(f.type) or types.is_date32(f.type) or types.is_timestamp(f.type)
    ]
    return {
        "column_encoding": dict.fromkeys(differences, "DELTA_BINARY_PACKED"),
        "use_dictionary": [f.name for f in schema if f.name not in differences and not types.is_floating(f.type)],
    }


class _Discarded(Exception):
    pass


class HashingSink(io.RawIOBase):
    """Counts and hashes what passes through to the store."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file: BinaryIO = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def mute(self) -> None:
        """Let nothing pass any more."""
        self._file = io.BytesIO()

    def write(self, data: Any, /) -> int:
        view = memoryview(data)
        self._file.write(view)
        self.digest.update(view)
        self.bytes += view.nbytes
        return view.nbytes
