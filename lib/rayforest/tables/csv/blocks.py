"""The bytes of a text table as a stream of blocks: a range of the file, decompressed, as UTF-8."""

from __future__ import annotations

import codecs
import functools
from collections.abc import Iterable, Iterator

from rayforest.errors import InputError
from rayforest.tables.contents import COMPRESSIONS, refuse_no_text
from rayforest.tables.csv.compressed import compression, unpacked_blocks
from rayforest.tables.damage import errors_name_the_file
from rayforest.tables.raw_file import RawFile

BLOCK_BYTES = 16 << 20


def read_blocks(
    file: RawFile, start: int = 0, stop: int | None = None, block_bytes: int = BLOCK_BYTES
) -> Iterator[bytes]:
    """Blocks of a file: decompressed bytes, or the plain bytes of a range.

    Raises:
        InputError: the file cannot be opened, is no text, or its compressed data is damaged.
    """
    ending = compression(file.uri)
    blocks = unpacked_blocks(file, ending, block_bytes) if ending else _plain_blocks(file, start, stop, block_bytes)
    with errors_name_the_file(file):
        if not start:
            begin = next(blocks, b"")
            refuse_no_text(file.uri, begin, COMPRESSIONS[ending].rpartition(" ")[2] if ending else "")
            if begin:
                yield begin
        yield from blocks


def _plain_blocks(file: RawFile, start: int, stop: int | None, block_bytes: int) -> Iterator[bytes]:
    with file.open(start, stop) as stream:
        position = start
        while block := stream.read(block_bytes if stop is None else min(block_bytes, stop - position)):
            position += len(block)
            yield block


@functools.cache
def keeps_ascii(encoding: str) -> bool:
    """Whether a byte below 128 always is that ASCII character, so that rows can be found in the undecoded bytes.

    Raises:
        InputError: Python has no such encoding.
    """
    try:
        name = codecs.lookup(encoding).name
        b"a".decode(encoding, "replace")  # a codec of anything but text, such as rot13 or idna, is not known either
    except (LookupError, ValueError):
        raise InputError(
            f"encoding {encoding!r} is not known",
            expected="a Python codec name, such as utf-8, latin-1, cp1252, utf-16",
            next_step="correct encoding in [data.format]",
        ) from None
    if name in ("utf-8", "utf-8-sig"):
        return True
    decoder = codecs.getdecoder(encoding)
    for byte in range(256):
        try:
            text = str(decoder(bytes([byte]), "strict")[0])
        except (UnicodeError, TypeError):
            text = ""
        if (byte < 128 and text != chr(byte)) or (byte >= 128 and text and (len(text) != 1 or ord(text) < 128)):
            return False
        if byte >= 128 and not text and not _is_invalid_alone(encoding, byte):
            return False
    return True


def _is_invalid_alone(encoding: str, byte: int) -> bool:
    """Whether the byte stays invalid before an ASCII letter: then it is no first half of a longer character."""
    for follower in b"@A~":
        try:
            codecs.decode(bytes([byte, follower]), encoding)
        except UnicodeError:
            continue
        return False
    return True


def to_utf8(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Recode a stream. What is invalid in `encoding` comes out as bytes that are invalid in UTF-8, too."""
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)(_MARK_INVALID)
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "surrogatepass")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")


_MARK_INVALID = "rayforest.invalid"


def _mark_invalid(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


codecs.register_error(_MARK_INVALID, _mark_invalid)
