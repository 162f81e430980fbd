"""A stream of blocks of which some bytes may be put back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

_FIRST_BYTES, _GROWTH = 16 << 10, 4


class ReadAgain:
    """Blocks of a stream; bytes that were put back come first.

    They come in blocks that begin small and grow: what is put back is looked at for the next place at which bytes may
    have to be put back, and that is often near.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._back: list[tuple[memoryview, int]] = []
        self._size = _FIRST_BYTES

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._back:
            return next(self._blocks)
        data, at = self._back.pop()
        stop = min(at + self._size, len(data))
        self._size *= _GROWTH
        if stop < len(data):
            self._back.append((data, stop))
        return bytes(data[at:stop])

    def put_back(self, data: bytes) -> Self:
        """These bytes come next."""
        self._size = _FIRST_BYTES
        if data:
            self._back.append((memoryview(data), 0))
        return self
