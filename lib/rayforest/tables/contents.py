"""What a file is, told by its first bytes: so that an archive or a picture is not read as a table of text.

A text table must never be taken for something else, so a signature that is mere letters counts only before a NUL, which
no text holds; what is not recognised is left to the reader.
"""

from __future__ import annotations

import codecs
import contextlib
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from rayforest.errors import InputError
from rayforest.tables.markup import recognise_markup
from rayforest.tables.raw_file import RawFile

LOOKED_AT_BYTES = 4096
"""Nothing behind them tells what a file is."""


@dataclass(frozen=True)
class Contents:
    """What a file holds."""

    name: str
    """With its article: "a zip archive"."""
    next_step: str
    ending: str = ""
    """Of files that are compressed in a way that the reader of text tables undoes."""

    def how_to_read(self, uri: str) -> str:
        """The next step for a file of that name."""
        if self.ending and not uri.lower().endswith(self.ending):
            return f"rename it to {Path(uri).name}{self.ending}: the ending tells how a file is compressed"
        return self.next_step or _UNPACK


_READ_AS = 'set format = "{0}" in [data] (and give it the ending .{0}, to read it beside other files)'
_UNPACK = "unpack it, and name the files inside"
_EXPORT = "write its table as CSV or Parquet"
_OTHER = "replace the file, or leave it out of the source"

_STARTS: tuple[tuple[bytes, Contents], ...] = (
    (b"\x1f\x8b\x08", Contents("compressed with gzip", "", ".gz")),
    (b"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", Contents("compressed with bzip2", "", ".bz2")),
    (b"\xfd7zXZ\0", Contents("compressed with xz", "", ".xz")),
    (b"\\(\xb5/\xfd|[\x50-\x5f]\\*M\x18", Contents("compressed with zstd", "", ".zst")),
    (b"\x04\x22\x4d\x18", Contents("compressed with lz4", "")),
    (b"\x1f[\x9d\xa0]", Contents("compressed with compress", "")),
    (b"LZIP[\0\1]", Contents("compressed with lzip", "")),
    (b"PK(?:\3\4|\5\6|\7\x08)", Contents("a zip archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Contents("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", Contents("a rar archive", _UNPACK)),
    (b"(?s:.){257}ustar(?:\0|  \0)", Contents("a tar archive", _UNPACK)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Contents("an old Excel or other Office file", _EXPORT)),
    (b"PAR[1E](?=(?s:.){0,60}\0)", Contents("a Parquet file", _READ_AS.format("parquet"))),
    (b"ARROW1\0\0", Contents("an Arrow file", _READ_AS.format("arrow"))),
    (b"\xff\xff\xff\xff(?s:.){3}\0\x10\0\0\0", Contents("an Arrow stream", _READ_AS.format("arrow"))),
    (b"FEA1(?=(?s:.){0,60}\0)", Contents("a Feather file of version 1", "write it as Feather of version 2")),
    (b"ORC(?=(?s:.){0,60}\0)", Contents("an ORC file", _EXPORT)),
    (b"Obj\1", Contents("an Avro file", _EXPORT)),
    (b"SQLite format 3\0", Contents("an SQLite database", _EXPORT)),
    (b"(?s:.){8}DUCK(?s:.)\0\0\0", Contents("a DuckDB database", _EXPORT)),
    (b"\x89HDF\r\n\x1a\n", Contents("an HDF5 file", _EXPORT)),
    (b"\x93NUMPY", Contents("a NumPy array", _EXPORT)),
    (b"\x80[\2-\5][^\t\n\r ,;]", Contents("a Python pickle", _EXPORT)),
    (b"RD[AX][2-4]\n[AXB]\n", Contents("an R data file", _EXPORT)),
    (b"X\n\0\0\0[\2\3]", Contents("an R data file", _EXPORT)),
    (b"<stata_dta>|[\x69-\x73][\1\2]\1\0", Contents("a Stata file", _EXPORT)),
    (b"\\$FL[23]@\\(#\\)", Contents("an SPSS file", _EXPORT)),
    (b"\0{12}\xc2\xea\x81\x60|HEADER RECORD\\*{7}LIB", Contents("a SAS file", _EXPORT)),
    (b"MATLAB 5\\.0 MAT-file", Contents("a MATLAB file", _EXPORT)),
    (b"%PDF-[0-9]\\.[0-9]", Contents("a PDF document", _EXPORT)),
    (
        b"\x89PNG\r\n\x1a\n|\xff\xd8\xff[\xc0-\xfe]|GIF8[79]a(?=(?s:.){0,60}\0)|II\\*\0|MM\0\\*|RIFF(?s:.){4}WEBP",
        Contents("an image", _OTHER),
    ),
    (b"\x7fELF|\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe|MZ(?=(?s:.){0,60}\0)", Contents("a program", _OTHER)),
)  # fmt: skip
COMPRESSIONS = {contents.ending: contents.name for _, contents in _STARTS if contents.ending}
"""Ending of a file -> how it is compressed."""
_SIGNATURES = tuple((re.compile(pattern), contents) for pattern, contents in _STARTS)
_OFFICE = re.compile(rb"\[Content_Types\]\.xml|_rels/|docProps/|xl/|word/|ppt/|mimetypeapplication/vnd")
_FIRST_NAME = 30
"""Where the name of a zip archive's first file begins."""
_BINARY = Contents("a binary file", _OTHER)
_FEWEST_NULS, _NULS_SHARE = 16, 0.2
_WIDE_ENCODINGS, _MOST_STRANGE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"), 0.1


def recognise(begin: bytes) -> Contents | None:
    """What a file that begins with these bytes is; None for plain text, and where nothing tells."""
    begin = begin[:LOOKED_AT_BYTES]
    for signature, contents in _SIGNATURES:
        if signature.match(begin):
            if contents.name == "a zip archive" and _OFFICE.match(begin, _FIRST_NAME):
                return Contents("an Excel or other Office file", "save its sheet as CSV, or its table as Parquet")
            return contents
    if _is_binary(begin):
        return _BINARY
    name = recognise_markup(begin)
    return None if name is None else Contents(name, _EXPORT)


def wide_encoding(begin: bytes) -> str | None:
    """The encoding with two bytes a character that explains the NULs of text without a mark."""
    begin = begin[:LOOKED_AT_BYTES]
    even, odd = begin[::2].count(0), begin[1::2].count(0)
    if max(even, odd) < len(begin) // 4 or min(even, odd) > len(begin) // 100:
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def refuse_no_text(uri: str, begin: bytes, inside: str = "") -> None:
    """Refuse what is no table of text.

    Args:
        uri: the file, for the message.
        begin: its first bytes, unpacked.
        inside: how it is compressed.

    Raises:
        InputError: the bytes are those of something else.
    """
    if (found := recognise(begin)) is None:
        return
    expected = f"rows of text, plain or compressed ({', '.join(COMPRESSIONS)})"
    if inside:
        raise InputError(
            f"{uri} is {found.name} inside {inside}, not a text table",
            expected=expected,
            next_step=found.next_step or "unpack it",
        )
    what = "and its ending does not say so" if found.ending else "not a text table"
    raise InputError(f"{uri} is {found.name}, {what}", expected=expected, next_step=found.how_to_read(uri))


def other_format(file: RawFile, wanted: str) -> InputError | None:
    """The refusal of a file that is not of the wanted format, where its first bytes tell what it is.

    Args:
        file: one that can be read.
        wanted: with its article: "a Parquet file".
    """
    uri, begin = file.uri, file.begin(LOOKED_AT_BYTES)
    if not begin:
        return InputError(f"{uri} is empty", expected=wanted, next_step="leave the file out of the source")
    if (found := recognise(begin)) is not None and found is not _BINARY:
        name, next_step = found.name, found.how_to_read(uri)
    elif found is None and b"\0" not in begin and _is_text(begin):
        name, next_step = "plain text", _READ_AS.format("csv")
    else:
        return None
    if name == wanted:
        return None
    return InputError(f"{uri} is {name}, not {wanted}", next_step=next_step)


def no_table(file: RawFile) -> InputError | None:
    """The refusal of a file of which no ending and no option says how to read it, where its first bytes do."""
    try:
        begin = file.begin(LOOKED_AT_BYTES)
    except OSError:
        return None
    found, inside = recognise(begin), ""
    if found is not None and found.ending == ".gz":
        with contextlib.suppress(zlib.error):
            found, inside = recognise(zlib.decompressobj(31).decompress(begin, LOOKED_AT_BYTES)), " inside gzip"
    if found is None:
        return None
    return InputError(
        f"{file.uri} is {found.name}{inside}",
        expected="text, Parquet or Arrow",
        next_step=found.how_to_read(file.uri),
    )


def _is_text(begin: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        return False
    return True


def _is_binary(begin: bytes) -> bool:
    """Whether so many bytes are NUL that they are no text, also none with two or four bytes a character."""
    nuls = begin.count(0)
    if nuls < max(_FEWEST_NULS, _NULS_SHARE * len(begin)):
        return False
    return all(_strange_share(begin, encoding) > _MOST_STRANGE for encoding in _WIDE_ENCODINGS)


def _strange_share(begin: bytes, encoding: str) -> float:
    """Share of the characters that are invalid in the encoding, or controls that text seldom holds."""
    text = begin.decode(encoding, "replace")
    return sum(mark == "\ufffd" or (mark < " " and mark not in "\t\n\r") for mark in text) / len(text)
