"""The bytes of a compressed file, unpacked as a stream: members and frames, one after the other, are one file.

A file that is cut off, or holds anything else after its end, is an error: never fewer rows. Only a cut between two
members cannot be told from a whole file; gzip, bzip2, xz and zstd say nowhere how many there are.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterator
from typing import Protocol

import pyarrow as pa

from rayforest.errors import InputError
from rayforest.tables.contents import COMPRESSIONS, LOOKED_AT_BYTES, recognise
from rayforest.tables.raw_file import RawFile

_READ_BYTES = 256 << 10
_XZ_MEMORY_BYTES = 256 << 20
"""Dictionaries of xz are read up to there; `xz -9` asks for a quarter."""
_XZ_PADDING_BYTES = 4


def compression(path: str) -> str | None:
    """The ending that tells how a file is compressed; None for a plain one."""
    return next((ending for ending in COMPRESSIONS if path.lower().endswith(ending)), None)


def unpacked_blocks(file: RawFile, ending: str, block_bytes: int) -> Iterator[bytes]:
    """Blocks of at most `block_bytes` bytes of what a compressed file holds.

    Raises:
        InputError: the file is not compressed as its ending says, or its data is damaged or cut off.
        OSError, pa.ArrowException: likewise, as the libraries say it.
    """
    begin = file.begin(LOOKED_AT_BYTES)
    if not begin:
        return
    _refuse_false_ending(file.uri, ending, begin)
    match ending:
        case ".bz2":
            yield from _members(file, bz2.BZ2Decompressor, 0, block_bytes)
        case ".xz":
            yield from _members(
                file, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY_BYTES), _XZ_PADDING_BYTES, block_bytes
            )
        case _:
            with pa.CompressedInputStream(file.open(), {".gz": "gzip", ".zst": "zstd"}[ending]) as stream:
                while block := stream.read(block_bytes):
                    yield block


def _refuse_false_ending(uri: str, ending: str, begin: bytes) -> None:
    found = recognise(begin)
    if found is not None and found.ending == ending:
        return
    known = found.name if found else "of an unknown kind" if b"\0" in begin else "plain text"
    own = found.ending if found else ""
    if own or known == "plain text":
        next_step = f"rename it to {uri.rpartition('/')[2][: -len(ending)]}{own}: the ending tells how it is compressed"
    else:
        next_step = found.next_step if found else "replace the file, or leave it out of the source"
    raise InputError(f"{uri} is not {COMPRESSIONS[ending]}: it is {known}", next_step=next_step)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _members(
    file: RawFile, decompressor: Callable[[], _Decompressor], padding: int, block_bytes: int
) -> Iterator[bytes]:
    """The standard library's decompressors, member after member; its file objects skip what follows the last one.

    NULs may follow a member, in groups of `padding` bytes; none where that is 0.
    """
    with file.open() as stream:
        data = stream.read(_READ_BYTES)
        while data:
            member = decompressor()
            while not member.eof:
                if member.needs_input and not (data := data or stream.read(_READ_BYTES)):
                    raise _damaged(file.uri, "the compressed data ends in the middle")
                try:
                    block = member.decompress(data, block_bytes)
                except (OSError, lzma.LZMAError) as error:
                    raise _damaged(file.uri, str(error)) from error
                data = b""
                if block:
                    yield block
            data, nuls = _without_nuls(member.unused_data, stream)
            if nuls and (not padding or nuls % padding):
                raise _damaged(file.uri, f"{nuls} NULs after the end of the compressed data")


def _without_nuls(data: bytes, stream: pa.NativeFile) -> tuple[bytes, int]:
    """What follows a run of NULs, and how long it is."""
    nuls = 0
    while data := data or stream.read(_READ_BYTES):
        solid = data.lstrip(b"\0")
        nuls += len(data) - len(solid)
        if data := solid:
            break
    return data, nuls


def _damaged(uri: str, found: str) -> InputError:
    return InputError(f"{uri} cannot be read", found=found, next_step="replace the file, or leave it out of the source")
