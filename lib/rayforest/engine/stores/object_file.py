"""An object as a file for random access, in few requests: ranges that lie near each other are one, large ones several.

A request costs some 20 ms before its first byte, and a connection brings some 50 MB/s: bytes that lie less than
GAP_BYTES apart are fetched together, and more than REQUEST_BYTES in parallel. All reads of one file are of one object:
the first answer's etag, or the one that is given, must be that of every other.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import pyarrow as pa

from rayforest.engine.stores.bucket import Bucket
from rayforest.engine.stores.store import ReplacedError

GAP_BYTES = 1 << 20
"""What is fetched needlessly at most to spare a request. A smaller file is fetched whole."""
REQUEST_BYTES = 16 << 20
"""Of one request, at most."""
TAIL_BYTES = 64 << 10
"""The end of a file, where Parquet and Arrow keep what they hold; most footers are smaller."""
_FIRST_BYTES = 64 << 10
_AHEAD_BYTES = 64 << 20
"""Read ahead at most, beside what is being read."""
_REQUESTS_AT_ONCE = 16

Range = tuple[int, int]
"""First byte, and the one after the last."""


class ObjectFile:
    """One object, opened as often as is liked. What it fetched stays as long as it may be read again."""

    def __init__(self, bucket: Bucket, key: str, size: int, etag: str | None = None) -> None:
        self.uri, self.size, self.etag = f"{bucket.uri}/{key}", size, etag
        self.pinned = etag is not None
        """Whether the first request is bound to an etag, too."""
        self.failure: OSError | None = None
        """Why it could not be read the last time."""
        self._bucket, self._key = bucket, key
        self._kept: list[_Piece] = []
        """The whole of a small file, or the end of a larger one."""
        self._held: list[_Piece] = []
        """What `hold` named."""
        self._stream: list[_Piece] = []
        """What is read from front to back."""
        self._window = _FIRST_BYTES

    def open(self, start: int = 0, stop: int | None = None) -> pa.NativeFile:
        """The file, positioned at `start`; nothing is read ahead beyond `stop`."""
        return pa.PythonFile(_Cursor(self, start, self.size if stop is None else stop), mode="r")

    def mapped(self) -> pa.NativeFile:
        """The same: a mapped file has no counterpart here."""
        return self.open()

    def begin(self, size: int) -> bytes:
        """The first bytes."""
        return bytes(self.read(0, min(size, self.size)))

    def hold(self, ranges: Iterable[Range], ahead: Iterable[Range] = ()) -> None:
        """Start to fetch what is read next, and after that; what was held before and is not named is given back.

        Args:
            ranges: what is read next.
            ahead: what is read after that, in order. So much of it is fetched as _AHEAD_BYTES hold.
        """
        wanted, left = list(ranges), _AHEAD_BYTES
        if not self._kept and any(start >= self.size - TAIL_BYTES for start, _ in wanted):
            self._kept = [self._tail()]
        for start, stop in ahead:
            if (left := left - (stop - start)) < 0:
                break
            wanted.append((start, stop))
        held, self._held = self._held, []
        for piece in held:
            if any(start < piece.stop and piece.start < stop for start, stop in wanted):
                self._held.append(piece)
            else:
                piece.data.cancel()
        missing = [span for span in wanted if not _hold_all((*self._kept, *self._held), *span)]
        if missing and self.size <= GAP_BYTES:
            self._kept = [self._fetched(0, self.size)]
        else:
            self._held += [self._fetched(*span) for span in coalesced(missing)]

    def current_stamp(self) -> str:
        """The etag that the object has now."""
        return self._bucket.head(self._key).etag

    def read(self, start: int, stop: int, limit: int | None = None) -> memoryview:
        """Bytes of the file; those behind `limit` are not read ahead.

        Raises:
            FileNotFoundError, ReplacedError: the object is gone, or another one.
            PermissionError, StoreUnavailableError: it cannot be read.
        """
        try:
            return self._read(min(start, self.size), min(stop, self.size), self.size if limit is None else limit)
        except OSError as error:
            self.failure = error
            raise

    def _read(self, start: int, stop: int, limit: int) -> memoryview:
        if start >= stop:
            return memoryview(b"")
        for pieces in (self._kept, self._held):
            if (found := _between(pieces, start, stop)) is not None:
                return found
        if start >= self.size - TAIL_BYTES:
            pieces = self._kept = [self._tail()]
        elif self.size <= GAP_BYTES:
            pieces = self._kept = [self._fetched(0, self.size)]
        else:
            pieces = self._streamed(start, stop, limit)
        found = _between(pieces, start, stop)
        if found is None:
            raise AssertionError(f"bytes {start} to {stop} were not fetched")
        return found

    def _tail(self) -> _Piece:
        """The end of the file, which every shard of a large one reads: kept for all, as its etag says what it holds.

        Of a small one it is fetched each time: its rows lie there, too, and a request tells whether it was replaced.
        """
        begin = max(0, self.size - TAIL_BYTES)
        if self.etag is None or self.size <= GAP_BYTES:
            return self._fetched(begin, self.size)
        key = (self.uri, self.etag)
        with _TAILS_LOCK:
            piece = _TAILS.pop(key, None)
            if piece is None or (piece.data.done() and (piece.data.cancelled() or piece.data.exception())):
                piece = self._fetched(begin, self.size)
            _TAILS[key] = piece  # the latest one
            if len(_TAILS) > _MOST_TAILS:
                del _TAILS[next(iter(_TAILS))]
        return piece

    def _streamed(self, start: int, stop: int, limit: int) -> list[_Piece]:
        """The pieces that hold the bytes. Where reading goes on from before, the next ones are on their way."""
        pieces = [piece for piece in self._stream if piece.stop > start]
        if pieces and pieces[0].start > start:
            pieces = []
        goes_on = bool(pieces) or (bool(self._stream) and self._stream[-1].stop == start)
        ahead = max(self._window, stop - start) if goes_on or stop - start >= REQUEST_BYTES else 0
        at = pieces[-1].stop if pieces else start
        target = max(stop, min(limit, max(stop + ahead, start + _FIRST_BYTES)))
        if at < stop or target - at >= self._window // 2:
            self._window = min(2 * self._window, REQUEST_BYTES) if goes_on else _FIRST_BYTES
            pieces += [self._fetched(*span) for span in cut(at, target)]
        self._stream = pieces
        return pieces

    def _fetched(self, start: int, stop: int) -> _Piece:
        if self.etag is None:  # the first request tells which object it is
            done: Future[memoryview] = Future()
            done.set_result(self._request(start, stop))
            return _Piece(start, stop, done)
        return _Piece(start, stop, _requests().submit(self._request, start, stop))

    def _request(self, start: int, stop: int) -> memoryview:
        data, meta = self._bucket.get(self._key, start, stop, etag=self.etag)
        if meta.size != self.size or len(data) != stop - start:
            raise ReplacedError(f"it has {meta.size} bytes instead of {self.size}")
        self.etag = meta.etag
        return memoryview(data)


@dataclass(slots=True, eq=False)
class _Piece:
    """Bytes of a file that are there, or on their way."""

    start: int
    stop: int
    data: Future[memoryview]


def coalesced(ranges: Iterable[Range], gap: int = GAP_BYTES) -> list[Range]:
    """Ranges that together hold all of these: joined where less than `gap` lies between, then cut to requests."""
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] < gap:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return [span for start, stop in joined for span in cut(start, stop)]


def cut(start: int, stop: int) -> list[Range]:
    """A range in equal parts, none larger than REQUEST_BYTES."""
    parts = -(-(stop - start) // REQUEST_BYTES)
    ends = [start + (stop - start) * part // parts for part in range(parts + 1)] if parts > 0 else []
    return list(itertools.pairwise(ends))


def _between(pieces: Sequence[_Piece], start: int, stop: int) -> memoryview | None:
    """The bytes, where the pieces hold all of them; waits for those that are on their way."""
    if not _hold_all(pieces, start, stop):
        return None
    parts, at = [], start
    for piece in sorted(pieces, key=lambda piece: piece.start):
        if piece.start <= at < min(stop, piece.stop):
            end = min(stop, piece.stop)
            parts.append(piece.data.result()[at - piece.start : end - piece.start])
            at = end
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def _hold_all(pieces: Iterable[_Piece], start: int, stop: int) -> bool:
    """Whether the pieces hold every byte of a range."""
    for piece in sorted(pieces, key=lambda piece: piece.start):
        if piece.start <= start < piece.stop:
            start = piece.stop
    return start >= stop


class _Cursor:
    """What pyarrow asks of a file in Python."""

    closed = False

    def __init__(self, file: ObjectFile, start: int, limit: int) -> None:
        self._file, self._at, self._limit = file, start, limit

    def read(self, size: int | None = -1) -> bytes:
        return bytes(self.read_buffer(size))

    def read_buffer(self, size: int | None = -1) -> pa.Buffer:
        stop = self._file.size if size is None or size < 0 else self._at + size
        data = self._file.read(self._at, stop, self._limit)
        self._at += len(data)
        return pa.py_buffer(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing: the pieces go with the file."""


_TAILS: dict[tuple[str, str], _Piece] = {}
"""Ends of files, by URI and etag; those that were read last are last."""
_TAILS_LOCK = Lock()
_MOST_TAILS = 128


@lru_cache(maxsize=1)
def _requests() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="rayforest-requests")
