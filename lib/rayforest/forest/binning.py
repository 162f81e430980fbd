"""From the tests of an ensemble to bytes: which cuts each feature needs, and which byte columns come of them.

A feature's value is cut once into a code: the number of cuts below it, found through a grid that narrows the search to
one or two comparisons. All tests of the feature then are tests of small columns made from the code:

- `x <= cut` compares the code, clamped to a byte. A feature with more than 255 cuts has several such columns, each for
  255 of them. NaN has a byte of its own, below or above all others as the test sends it; and a column may run downward,
  so that a test may ask for either side.
- A set (categories, equality) is one bit of a column: a table gives eight bits by code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rayforest.forest.ensemble import Bools, Ensemble, Floats, InputColumn, Ints, Mode

SEGMENT = 255
"""Cuts that one byte column tells apart."""
_LARGEST_GRID = 1 << 16
_GRID_WITHOUT_QUESTION = 1 << 10  # bytes x 4 of it stay in the first cache

Int32s = NDArray[np.int32]


class Bins(NamedTuple):
    """What the kernel needs to make byte columns. A source is a feature, with its zeros as they are or as NaN."""

    sources: int
    columns: int
    feature: Int32s
    """[sources]"""
    zero_bound: Floats
    """[sources] |x| up to this is NaN; negative for never."""
    by_bits: NDArray[np.uint8]
    """[sources] the grid lies on the upper half of the double's bits, not on its value."""
    grid_low: Floats
    """[sources] the grid's first cell begins here."""
    grid_scale: Floats
    """[sources] cells a unit."""
    grid_top: Floats
    """[sources] the last cell."""
    first_cell: Ints
    """[sources] where its cells begin in `cell`."""
    cell: Int32s
    """Cuts before each cell."""
    first_cut: Ints
    """[sources] where its cuts begin in `cut`."""
    cut: Floats
    """Ascending, then infinities that end a search."""
    steps: Int32s
    """[sources] comparisons that finish the search inside a cell."""
    nan_code: Int32s
    """[sources]"""

    first_column: Int32s
    """[sources + 1] where its byte columns begin; those of comparisons stand first."""
    first_set_column: Int32s
    """[sources]"""
    column_base: Int32s
    """[columns] the code that becomes -128."""
    column_flip: NDArray[np.int8]
    """[columns] -1 where the column runs downward, else 0."""
    column_nan: NDArray[np.int8]
    """[columns] the byte of NaN."""
    first_set: Ints
    """[sources] where its table begins in `sets`."""
    sets: NDArray[np.uint8]
    """By source, code, and column: eight bits."""


@dataclass(frozen=True, eq=False)
class ByteTests:
    """Each node's test as a byte column and a byte."""

    __test__ = False

    column: Ints
    """[nodes]"""
    byte: Ints
    """[nodes] the cut, -128 to 126, or the bit, 1 to 128."""
    is_set: Bools
    """[nodes]"""


@dataclass(frozen=True, eq=False)
class _Source:
    feature: int
    zero_bound: float
    cuts: Floats


@dataclass(frozen=True, eq=False)
class Questions:
    """The nodes' tests as: is x up to the cut, or in the set? `yes` is the child of a true answer."""

    yes: Ints
    no: Ints
    cut: Floats
    """[nodes] for comparisons."""
    is_set: Bools
    nan_is_yes: Bools

    @classmethod
    def of(cls, ensemble: Ensemble) -> Questions:
        """Turn >, >= and != around, and make < a comparison with the double below."""
        mode = ensemble.mode
        turned = np.isin(mode, (Mode.GT, Mode.GTE, Mode.NEQ))
        strict = np.isin(mode, (Mode.LT, Mode.GTE))
        nan_is_true = ensemble.missing_is_true | (mode == Mode.NEQ)  # NaN != t holds
        with np.errstate(over="ignore"):
            below = np.nextafter(ensemble.threshold, -np.inf)
        has_classes = np.array([c.classes is not None for c in ensemble.columns], dtype=bool)
        no_cut = np.isnan(ensemble.threshold) | (strict & (ensemble.threshold == -np.inf))
        return cls(
            yes=np.where(turned, ensemble.if_false, ensemble.if_true),
            no=np.where(turned, ensemble.if_true, ensemble.if_false),
            cut=np.where(strict, below, ensemble.threshold),
            is_set=np.isin(mode, (Mode.EQ, Mode.NEQ, Mode.MEMBER)) | has_classes[ensemble.column] | no_cut,
            nan_is_yes=nan_is_true ^ turned,
        )


def bin_tests(ensemble: Ensemble, questions: Questions, yes_first: Bools) -> tuple[Bins, ByteTests]:
    """Byte columns for all tests of an ensemble.

    Args:
        ensemble: what to test.
        questions: its tests.
        yes_first: [nodes] the test shall pass where the answer is yes; else where it is no.
    """
    keys = [(c.feature, c.zero_bound) for c in ensemble.columns]
    used = sorted({keys[c] for c in np.unique(ensemble.column).tolist()})
    place = {key: i for i, key in enumerate(used)}
    source = np.array([place.get(key, -1) for key in keys], dtype=np.int64)[ensemble.column]
    sources = _sources(ensemble, questions, used, source)
    compared = _Comparisons.of(sources, source, questions, yes_first)
    sets = _Sets.of(ensemble, questions, sources, source, yes_first)

    n_compared = np.bincount(compared.keys[:, 0], minlength=len(used))
    n_set = np.array([t.shape[1] for t in sets.tables], dtype=np.int64)
    first_column = np.concatenate([[0], np.cumsum(n_compared + n_set)])
    first_key = np.concatenate([[0], np.cumsum(n_compared)[:-1]]).astype(np.int64)
    key_column = np.arange(len(compared.keys)) + (first_column[:-1] - first_key)[compared.keys[:, 0]]

    is_set = questions.is_set
    column, byte = np.empty(len(source), dtype=np.int64), np.empty(len(source), dtype=np.int64)
    column[~is_set], byte[~is_set] = key_column[compared.key], compared.byte
    in_source = source[is_set]
    column[is_set] = (first_column[:-1] + n_compared)[in_source] + sets.number // 8
    byte[is_set] = 1 << (sets.number % 8)

    base, flip, nan = (np.zeros(first_column[-1], dtype=t) for t in (np.int32, np.int8, np.int8))
    base[key_column] = compared.keys[:, 1] * SEGMENT
    flip[key_column] = -compared.keys[:, 2]
    nan[key_column] = np.where(compared.keys[:, 3], -128, 127)
    bins = _grids(sources)._replace(
        columns=int(first_column[-1]),
        first_column=first_column.astype(np.int32),
        first_set_column=(first_column[:-1] + n_compared).astype(np.int32),
        column_base=base,
        column_flip=flip,
        column_nan=nan,
        first_set=np.concatenate([[0], np.cumsum([t.size for t in sets.tables])[:-1]]).astype(np.int64),
        sets=np.concatenate([t.reshape(-1) for t in sets.tables] or [np.empty(0, dtype=np.uint8)]),
    )
    return bins, ByteTests(column, byte, is_set)


def _sources(
    ensemble: Ensemble, questions: Questions, keys: list[tuple[int, float]], source: Ints
) -> tuple[_Source, ...]:
    """The cuts of each source: those of its comparisons, and the ends of whatever its sets tell apart."""
    cuts: list[list[Floats]] = [[] for _ in keys]
    compared = ~questions.is_set
    order = np.argsort(source[compared], kind="stable")
    bounds = np.searchsorted(source[compared][order], np.arange(len(keys) + 1))
    thresholds = questions.cut[compared][order]
    for i in range(len(keys)):
        cuts[i].append(thresholds[bounds[i] : bounds[i + 1]])
    values: dict[int, list[Floats]] = {}
    for node in np.flatnonzero(questions.is_set).tolist():
        if ensemble.columns[ensemble.column[node]].classes is None:
            asked = ensemble.members.get(node, ensemble.threshold[node : node + 1])
            values.setdefault(int(source[node]), []).append(asked)
    for i, asked_values in values.items():
        asked = np.unique(np.concatenate(asked_values))
        asked = asked[~np.isnan(asked)]
        cuts[i] += [np.nextafter(asked, -np.inf), asked]
    for c in np.unique(ensemble.column[questions.is_set]).tolist():
        column = ensemble.columns[c]
        if column.classes is not None:
            codes = np.nextafter(np.arange(1.0, len(column.classes)), -np.inf)
            cuts[keys.index((column.feature, column.zero_bound))] += [np.array([-1.0]), codes]
    # -0.0 is not below 0.0, but its bits are
    return tuple(_Source(f, z, np.unique(np.concatenate(c)) + 0.0) for (f, z), c in zip(keys, cuts, strict=True))


@dataclass(frozen=True, eq=False)
class _Comparisons:
    """Byte columns of comparisons, and the byte that each test compares with."""

    keys: Ints
    """[columns, 4] source, segment, downward, NaN passes; sorted."""
    key: Ints
    """[comparisons] column."""
    byte: Ints
    """[comparisons]"""

    @classmethod
    def of(cls, sources: tuple[_Source, ...], source: Ints, questions: Questions, yes_first: Bools) -> _Comparisons:
        nodes = np.flatnonzero(~questions.is_set)
        own, upward = source[nodes], yes_first[nodes]
        place = np.empty(len(nodes), dtype=np.int64)
        order = np.argsort(own, kind="stable")
        bounds = np.searchsorted(own[order], np.arange(len(sources) + 1))
        for i, s in enumerate(sources):
            chosen = order[bounds[i] : bounds[i + 1]]
            place[chosen] = np.searchsorted(s.cuts, questions.cut[nodes[chosen]])
        nan_passes = questions.nan_is_yes[nodes] == upward
        keys = np.stack([own, place // SEGMENT, ~upward, nan_passes], axis=1).astype(np.int64)
        keys, key = np.unique(keys, axis=0, return_inverse=True) if len(keys) else (keys, own)
        byte = place % SEGMENT - 128
        # code > cut is ~code < ~cut, which is ~code <= -2 - cut
        return cls(keys, key.reshape(-1), np.where(upward, byte, -2 - byte))


@dataclass(frozen=True, eq=False)
class _Sets:
    """Tables of bits by source, and which bit each test asks for."""

    tables: tuple[NDArray[np.uint8], ...]
    """By source: [codes and NaN, columns]."""
    number: Ints
    """[set tests] counted in its source."""

    @classmethod
    def of(
        cls, ensemble: Ensemble, questions: Questions, sources: tuple[_Source, ...], source: Ints, yes_first: Bools
    ) -> _Sets:
        found: list[dict[bytes, int]] = [{} for _ in sources]
        known: dict[tuple[object, ...], int] = {}
        values: dict[int, Floats] = {}
        numbers = []
        for node in np.flatnonzero(questions.is_set).tolist():
            own, c, passes = int(source[node]), int(ensemble.column[node]), bool(yes_first[node])
            mode, threshold, members = ensemble.mode[node], ensemble.threshold[node], ensemble.members.get(node)
            nan = bool(questions.nan_is_yes[node])
            asked = b"" if members is None else members.tobytes()
            key = (c, mode, threshold if members is None else 0.0, asked, passes, nan)
            if key not in known:
                if c not in values:
                    values[c] = _values_by_code(ensemble.columns[c], sources[own].cuts)
                answer = _answer(Mode(mode), threshold, members, values[c])
                if ensemble.columns[c].classes is None:
                    answer[-1] = nan
                bits = np.packbits(answer == passes).tobytes()
                known[key] = found[own].setdefault(bits, len(found[own]))
            numbers.append(known[key])
        tables = []
        for s, by_bits in zip(sources, found, strict=True):
            rows = len(s.cuts) + 2
            packed = np.frombuffer(b"".join(by_bits), dtype=np.uint8).reshape(len(by_bits), (rows + 7) // 8)
            by_code = np.unpackbits(packed, axis=1, count=rows).T
            tables.append(np.packbits(by_code, axis=1, bitorder="little"))
        return cls(tuple(tables), np.array(numbers, dtype=np.int64))


def _values_by_code(column: InputColumn, cuts: Floats) -> Floats:
    """What the column holds for a value of each code, and for NaN at the end."""
    x = np.append(cuts, np.nextafter(cuts[-1], np.inf) if len(cuts) else 0.0)
    if column.classes is None:
        return np.append(x, np.nan)
    row = np.clip(x, -1, len(column.classes) - 1).astype(np.int64)
    return np.append(column.classes[row], column.classes[-1])


def _answer(mode: Mode, threshold: float, members: Floats | None, values: Floats) -> Bools:
    answer: Bools
    if members is not None:
        answer = np.isin(values, members)
    elif mode in {Mode.EQ, Mode.NEQ}:
        answer = values == threshold
    else:
        answer = values < threshold if mode in {Mode.LT, Mode.GTE} else values <= threshold
    return answer


@dataclass(frozen=True, eq=False)
class _Grid:
    by_bits: bool
    low: float
    scale: float
    cell: Int32s
    """Cuts before each cell."""
    steps: int


def _grid(cuts: Floats) -> _Grid:
    """The smallest grid, on values or on bits, that leaves the fewest comparisons.

    Its cells are found by the same operations as in the kernel. They are monotone, so cuts in lower cells are below a
    value and cuts in higher cells above it, whatever the rounding.
    """
    finite = cuts[np.isfinite(cuts)]
    grids = [_grid_on(cuts, finite, cuts, 1, by_bits=False)]
    for by_bits in (False, True):
        if len(finite) < 2 or (by_bits and finite[0] < 0):
            continue  # negative doubles have descending bits
        keys = _bits(cuts) if by_bits else cuts
        size = 16
        while size <= _LARGEST_GRID and (size <= _GRID_WITHOUT_QUESTION or size <= 8 * len(cuts)):
            grids.append(_grid_on(keys, _bits(finite) if by_bits else finite, cuts, size, by_bits=by_bits))
            size *= 2
    return min(grids, key=lambda g: (g.steps, len(g.cell)))


def _bits(x: Floats) -> Floats:
    """The upper half of a double's bits, as a number."""
    return (x.view(np.int64) >> 32).astype(np.float64)


def _grid_on(keys: Floats, range_of: Floats, cuts: Floats, cells: int, *, by_bits: bool) -> _Grid:
    low, high = (float(range_of[0]), float(range_of[-1])) if len(range_of) else (0.0, 0.0)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scale = (cells - 1) / (high - low) if high > low else 0.0
        scale = scale if np.isfinite(scale) else 0.0
        at = (keys - low) * scale
        at = np.where(at > 0, at, 0.0)
        at = np.where(at < cells - 1, at, cells - 1.0).astype(np.int64)
    crowd = int(np.bincount(at, minlength=1).max(initial=0)) if len(cuts) else 0
    cell = np.searchsorted(at, np.arange(cells)).astype(np.int32)
    return _Grid(by_bits, low, scale, cell, max(1, crowd.bit_length()))


def _grids(sources: tuple[_Source, ...]) -> Bins:
    grids = [_grid(s.cuts) for s in sources]
    padded = [np.append(s.cuts, np.full(1 << g.steps, np.inf)) for s, g in zip(sources, grids, strict=True)]
    empty32, empty8 = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int8)
    return Bins(
        sources=len(sources),
        columns=0,
        feature=np.array([s.feature for s in sources], dtype=np.int32),
        zero_bound=np.array([s.zero_bound for s in sources], dtype=np.float64),
        by_bits=np.array([g.by_bits for g in grids], dtype=np.uint8),
        grid_low=np.array([g.low for g in grids], dtype=np.float64),
        grid_scale=np.array([g.scale for g in grids], dtype=np.float64),
        grid_top=np.array([len(g.cell) - 1 for g in grids], dtype=np.float64),
        first_cell=np.concatenate([[0], np.cumsum([len(g.cell) for g in grids])[:-1]]).astype(np.int64),
        cell=np.concatenate([g.cell for g in grids] or [empty32]),
        first_cut=np.concatenate([[0], np.cumsum([len(p) for p in padded])[:-1]]).astype(np.int64),
        cut=np.concatenate(padded or [np.empty(0)]),
        steps=np.array([g.steps for g in grids], dtype=np.int32),
        nan_code=np.array([len(s.cuts) + 1 for s in sources], dtype=np.int32),
        first_column=empty32,
        first_set_column=empty32,
        column_base=empty32,
        column_flip=empty8,
        column_nan=empty8,
        first_set=np.empty(0, dtype=np.int64),
        sets=np.empty(0, dtype=np.uint8),
    )
