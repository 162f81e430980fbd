"""The beginning of a file as lines of text, in the encoding that its bytes tell."""

from __future__ import annotations

import io
from dataclasses import dataclass

from rayforest.tables.csv.blocks import read_blocks
from rayforest.tables.raw_file import RawFile

SNIFF_BYTES = 1 << 20
_LINES = 500
_FEW_LINES, _FEW_BYTES = 40, 400_000
"""Of very long lines fewer tell enough."""

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


@dataclass(frozen=True)
class Beginning:
    """The first lines of a file."""

    lines: list[str]
    r"""With their ends: \n, \r\n or \r."""
    encoding: str


def read_beginning(file: RawFile) -> Beginning:
    """Decode the first SNIFF_BYTES of a file and cut them into lines.

    Raises:
        InputError: the file cannot be read.
    """
    begin, complete = _first_bytes(file)
    encoding = _encoding(begin)
    text = begin.decode(encoding, "replace").removeprefix("\ufeff")
    lines = io.StringIO(text, newline="").readlines()
    if not complete:
        lines = lines[:-1]
    kept, size = 0, 0
    for line in lines[:_LINES]:
        if kept >= _FEW_LINES and size > _FEW_BYTES:
            break
        kept, size = kept + 1, size + len(line)
    return Beginning(lines[:kept], encoding)


def _first_bytes(file: RawFile) -> tuple[bytes, bool]:
    begin = b""
    for block in read_blocks(file, block_bytes=SNIFF_BYTES):
        begin += block
        if len(begin) > SNIFF_BYTES:
            return begin[:SNIFF_BYTES], False
    return begin, True


def _encoding(begin: bytes) -> str:
    for mark, encoding in _BOMS:
        if begin.startswith(mark):
            return encoding
    for encoding, zero in (("utf-16-le", 1), ("utf-16-be", 0)):  # ASCII text has a zero in every second byte
        if begin[zero::2].count(0) > len(begin) // 4 and begin[1 - zero :: 2].count(0) == 0:
            return encoding
    try:
        begin[: max(len(begin) - 4, 0)].decode() if len(begin) == SNIFF_BYTES else begin.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return _single_byte(begin)
    return "utf-8"


def _single_byte(begin: bytes) -> str:
    """Bytes 0x80 to 0x9F are control characters in latin-1, and quotes, dashes and the euro sign in cp1252."""
    if any(0x80 <= byte <= 0x9F for byte in set(begin)):
        try:
            begin.decode("cp1252")
        except UnicodeDecodeError:
            return "latin-1"
        return "cp1252"
    return "latin-1"
