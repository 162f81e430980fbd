"""XXH64 of the canonical text of keys, vectorised over rows.

A named hash with published test vectors, so that the split and the check for duplicates mean the same on every machine
and in every version, and can be computed again by other software. Source: xxHash specification 0.1.1 by Yann Collet.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(p)
    for p in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)
_BLOCK_BYTES = 1 << 22  # bytes gathered at once; bounds the memory of the index arrays

U64 = npt.NDArray[np.uint64]

FIELD_SEPARATOR = "\x1f"
"""Stands between the columns of a key of several columns."""


def hash_rows(keys: pl.DataFrame, seed: int) -> U64:
    """XXH64 of each row of `keys`: the texts of its columns, joined by U+001F; null counts as ''.

    Args:
        keys: n rows of strings, as `canonical_keys` gives them.
        seed: the hash's seed, below 2^64.

    Returns:
        uint64, shape [n].
    """
    texts = keys.select(pl.concat_str(pl.all().fill_null(""), separator=FIELD_SEPARATOR))
    return xxh64(texts.to_series().to_arrow(), seed)


def xxh64(texts: pa.Array, seed: int) -> U64:
    """XXH64 of the UTF-8 bytes of each text. Returns uint64, shape [n].

    Texts of one length are hashed together, so that each step of the algorithm is one operation on whole columns.
    """
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    texts = texts.cast(pa.large_string())
    count = len(texts)
    hashes = np.empty(count, np.uint64)
    if count == 0:
        return hashes
    _, offset_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64, count + 1, texts.offset * 8)
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.empty(0, np.uint8)
    lengths = np.diff(offsets)
    with np.errstate(over="ignore"):
        for length in np.unique(lengths).tolist():
            (rows,) = np.nonzero(lengths == length)
            step = max(1, _BLOCK_BYTES // max(1, length))
            for begin in range(0, len(rows), step):
                block = rows[begin : begin + step]
                matrix = (
                    data[offsets[block][:, None] + np.arange(length)] if length else np.empty((len(block), 0), np.uint8)
                )
                hashes[block] = _hash_matrix(matrix, np.uint64(seed & 0xFFFFFFFFFFFFFFFF))
    return hashes


def _hash_matrix(matrix: npt.NDArray[np.uint8], seed: np.uint64) -> U64:
    """XXH64 of each row of uint8 [n, length]."""
    count, length = matrix.shape
    at = 0
    if length >= 32:
        lanes = [np.full(count, seed + add) for add in (_P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1)]
        while at + 32 <= length:
            words = _words(matrix, at, 4, np.uint64)
            lanes = [_round(lane, words[:, i]) for i, lane in enumerate(lanes)]
            at += 32
        result = sum(
            (_rotate(lane, r) for lane, r in zip(lanes, (1, 7, 12, 18), strict=True)), np.zeros(count, np.uint64)
        )
        for lane in lanes:
            result = (result ^ _round(np.zeros(count, np.uint64), lane)) * _P1 + _P4
    else:
        result = np.full(count, seed + _P5)
    result = result + np.uint64(length)
    while at + 8 <= length:
        result ^= _round(np.zeros(count, np.uint64), _words(matrix, at, 1, np.uint64)[:, 0])
        result = _rotate(result, 27) * _P1 + _P4
        at += 8
    if at + 4 <= length:
        result ^= _words(matrix, at, 1, np.uint32)[:, 0].astype(np.uint64) * _P1
        result = _rotate(result, 23) * _P2 + _P3
        at += 4
    for column in range(at, length):
        result ^= matrix[:, column].astype(np.uint64) * _P5
        result = _rotate(result, 11) * _P1
    result ^= result >> np.uint64(33)
    result *= _P2
    result ^= result >> np.uint64(29)
    result *= _P3
    result ^= result >> np.uint64(32)
    return result


def _words(
    matrix: npt.NDArray[np.uint8], at: int, count: int, dtype: type[np.uint64 | np.uint32]
) -> npt.NDArray[np.uint64]:
    width = np.dtype(dtype).itemsize
    return np.ascontiguousarray(matrix[:, at : at + count * width]).view(np.dtype(dtype).newbyteorder("<"))


def _rotate(value: U64, bits: int) -> U64:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


def _round(lane: U64, word: U64) -> U64:
    return _rotate(lane + word * _P2, 31) * _P1
