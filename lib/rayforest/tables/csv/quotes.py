r"""Find line ends outside quotes, in vectorised passes over blocks of bytes.

A quote opens a quoted value only where a value begins; inside, two quotes stand for one, and the next single one
closes. Everywhere else a quote is an ordinary character. `\n` and `\r` outside quotes both end a line, so `\r\n` leaves
an empty line between them, and empty lines are not rows. This is how Python's csv module and pyarrow read, too.

A character after an escape, and what stands in a comment, has no meaning: the scanner looks at a copy of the bytes in
which it is blotted out. Escapes have no meaning in a comment either, which always ends with its line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rayforest.tables.csv.dialect import Dialect

Positions = npt.NDArray[np.int64]

_LF, _CR = b"\n\r"
_MASK = 0
"""Stands for a byte without a meaning."""
_OUTSIDE, _INSIDE, _CLOSED = 0, 1, 2
"""Where a quote leaves the reader. Closed: outside, unless the next character is a quote, too."""

# What the next quote does, by its kind (columns: from outside, inside, closed).
_BEGINS_VALUE, _FOLLOWS_QUOTE, _IN_TEXT = 0, 1, 2
_NEXT_STATE = np.array(
    [
        [_INSIDE, _CLOSED, _INSIDE],  # the first character of a value
        [_OUTSIDE, _CLOSED, _INSIDE],  # right after another quote: after a closing one, the two stand for one
        [_OUTSIDE, _CLOSED, _OUTSIDE],  # amid text
    ],
    dtype=np.uint8,
)


@dataclass(frozen=True)
class Quotes:
    """The quotes of a block, and the state that each leaves behind."""

    positions: Positions
    states: npt.NDArray[np.uint8]
    before: int
    """The state at the block's start."""

    @property
    def opens(self) -> npt.NDArray[np.bool_]:
        """[quotes] true where what follows is inside quotes."""
        return np.equal(self.states, _INSIDE)

    @property
    def closes(self) -> npt.NDArray[np.bool_]:
        """[quotes] true where a quoted value ends."""
        doubled = np.zeros(self.positions.size, dtype=bool)
        doubled[:-1] = np.diff(self.positions) == 1
        return np.equal(self.states, _CLOSED) & ~doubled

    def inside(self, size: int) -> npt.NDArray[np.bool_]:
        """[size] true for bytes inside quotes; of the quotes themselves, only the opening ones."""
        within = self.states == _INSIDE
        was_within = np.concatenate(([self.before == _INSIDE], within[:-1]))
        steps = np.zeros(size + 1, dtype=np.int8)
        steps[0] = was_within[0]
        steps[self.positions] += within.astype(np.int8) - was_within.astype(np.int8)
        return np.add.accumulate(steps[:size], dtype=np.int8).view(np.bool_)

    def up_to(self, stop: int) -> Quotes:
        """Those of the first `stop` bytes."""
        count = int(np.searchsorted(self.positions, stop))
        return Quotes(self.positions[:count], self.states[:count], self.before)


@dataclass(frozen=True)
class Scan:
    """What was found in a block."""

    ends: Positions
    """Line ends outside quotes."""
    quotes: Quotes
    structure: npt.NDArray[np.uint8]
    """[bytes of the block], those without a meaning blotted out."""

    def up_to(self, stop: int) -> Scan:
        """What was found in the first `stop` bytes."""
        return Scan(self.ends[self.ends < stop], self.quotes.up_to(stop), self.structure[:stop])


@dataclass
class RowScanner:
    """Line ends outside quotes, block by block; remembers between blocks whether a quote is open."""

    dialect: Dialect
    state: int = _OUTSIDE
    _last: int = _LF
    _last_solid: int = _LF
    """The last byte that is not a blank: where `trim` is on, a quote may follow blanks."""
    _escaping: bool = False
    """Whether the block before ended in an escape."""
    _in_comment: bool = False

    @property
    def in_quotes(self) -> bool:
        return self.state == _INSIDE

    def scan(self, block: bytes) -> Scan:
        """Find the line ends outside quotes in the next block, and its quotes."""
        dialect, data = self.dialect, np.frombuffer(block, dtype=np.uint8)
        if dialect.comment is not None:
            data = self._without_comments(data)
        if dialect.escape is not None:
            data = self._without_escaped(data)
        quotes = self._quotes(data)
        ends = data == _LF
        if b"\r" in block:
            ends |= data == _CR
        if quotes.positions.size or quotes.before == _INSIDE:
            ends &= ~quotes.inside(data.size)
        if data.size:
            self._last = int(data[-1])
            if dialect.trim:
                solid = data.tobytes().rstrip(self.blanks.tobytes()) if self._last in self.blanks else data
                self._last_solid = int(solid[-1]) if len(solid) else self._last_solid
        return Scan(np.flatnonzero(ends), quotes, data)

    @cached_property
    def blanks(self) -> npt.NDArray[np.uint8]:
        """Blanks around a value."""
        return self.dialect.blanks

    def _without_escaped(self, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Blot out each byte after an escape; of two escapes, the second one is such a byte."""
        marks = np.flatnonzero(data == self.dialect.escape)
        escaped = [0] if self._escaping and data.size else []
        if marks.size:
            place = np.arange(marks.size)
            begins = np.diff(marks, prepend=marks[0] - 2) != 1
            place -= np.maximum.accumulate(np.where(begins, place, 0))  # in its run of escapes
            if self._escaping and marks[0] == 0:
                first_run = int(np.flatnonzero(begins)[1]) if begins.sum() > 1 else marks.size
                place[:first_run] += 1
            marks = marks[place % 2 == 0] + 1
        self._escaping = bool(marks.size and marks[-1] == data.size) or (self._escaping and not data.size)
        found = np.concatenate((np.array(escaped, np.int64), marks[marks < data.size]))
        return _masked(data, found) if found.size else data

    def _without_comments(self, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Blot out the lines outside quotes that begin with a comment's mark, but for the mark itself."""
        line_ends = np.flatnonzero((data == _LF) | (data == _CR))
        begins = np.concatenate(([0] if self._last in (_LF, _CR) and not self._in_comment else [], line_ends + 1))
        begins = begins[begins < data.size].astype(np.int64)
        begins = begins[data[begins] == self.dialect.comment]
        if not begins.size and not self._in_comment:
            return data
        data, at, ahead = data.copy(), 0, replace(self)
        if self._in_comment:
            at = int(line_ends[0]) if line_ends.size else data.size
            data[:at] = _MASK
            self._in_comment = not line_ends.size
        for begin in begins:
            if begin < at:
                continue
            ahead.skim(data[at:begin])
            at = int(begin)
            if ahead.in_quotes or ahead._last not in (_LF, _CR):  # quoted, or after an escaped line end
                continue
            place = int(np.searchsorted(line_ends, begin))
            stop = int(line_ends[place]) if place < line_ends.size else data.size
            data[begin + 1 : stop] = _MASK
            self._in_comment = place == line_ends.size
        return data

    def skim(self, data: npt.NDArray[np.uint8]) -> None:
        """Go on to the end of some bytes, for the state that they leave."""
        if data.size:
            if self.dialect.escape is not None:
                data = self._without_escaped(data)
            self._quotes(data)
            self._last = int(data[-1])
            solid = data[~np.isin(data, self.blanks)] if self.dialect.trim else data
            self._last_solid = int(solid[-1]) if solid.size else self._last_solid

    def _quotes(self, data: npt.NDArray[np.uint8]) -> Quotes:
        before, quote = self.state, self.dialect.quote
        positions = np.flatnonzero(data == quote) if quote is not None else np.empty(0, np.int64)
        if not positions.size:
            return Quotes(positions, np.empty(0, np.uint8), before)
        previous = np.where(positions > 0, data[positions - 1], self._last)
        kinds = np.full(positions.size, _IN_TEXT, dtype=np.uint8)
        kinds[previous == quote] = _FOLLOWS_QUOTE
        solid = self._solid_before(data, positions, previous) if self.dialect.trim else previous
        kinds[np.isin(solid, self.dialect.ends_of_values)] = _BEGINS_VALUE
        states = _run_states(kinds, before)
        self.state = int(states[-1])
        return Quotes(positions, states, before)

    def _solid_before(
        self, data: npt.NDArray[np.uint8], positions: Positions, previous: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.uint8]:
        """The nearest byte before each position that is not a blank."""
        if not np.isin(previous, self.blanks).any():
            return previous
        where = solid_before(data, positions, self.blanks)
        return np.where(where >= 0, data[where], self._last_solid)


def _masked(data: npt.NDArray[np.uint8], positions: Positions) -> npt.NDArray[np.uint8]:
    data = data.copy()
    data[positions] = _MASK
    return data


def solid_before(data: npt.NDArray[np.uint8], positions: Positions, blanks: npt.NDArray[np.uint8]) -> Positions:
    """Where the nearest byte before each position lies that is not a blank; -1 where there is none."""
    solid = np.concatenate(([-1], np.flatnonzero(~np.isin(data, blanks))))
    return solid[np.searchsorted(solid, positions) - 1]


def solid_after(data: npt.NDArray[np.uint8], positions: Positions, blanks: npt.NDArray[np.uint8]) -> Positions:
    """Where the nearest byte at or after each position lies that is not a blank; the end where there is none."""
    solid = np.concatenate((np.flatnonzero(~np.isin(data, blanks)), [data.size]))
    return solid[np.searchsorted(solid, positions)]


def _run_states(kinds: npt.NDArray[np.uint8], state: int) -> npt.NDArray[np.uint8]:
    """The state after each quote."""
    first_opening = 1 if state == _INSIDE else 0
    openings = kinds[first_opening::2]
    if not (openings == _IN_TEXT).any() and not (state == _OUTSIDE and kinds[0] == _FOLLOWS_QUOTE):
        states = np.full(kinds.size, _CLOSED, dtype=np.uint8)  # every second quote may open, so it does
        states[first_opening::2] = _INSIDE
        return states
    return _run_machine(kinds, state)


def _run_machine(kinds: npt.NDArray[np.uint8], state: int) -> npt.NDArray[np.uint8]:
    """The three-state machine run over all quotes at once, for text with quotes amid values.

    The quotes are cut into lanes of equal length. All lanes advance together, each from all three states; then the true
    first state of each lane is known lane after lane.
    """
    lanes = max(1, int(np.sqrt(kinds.size)))
    steps = -(-kinds.size // lanes)
    padded = np.concatenate([kinds, np.zeros(lanes * steps - kinds.size, np.uint8)]).reshape(lanes, steps)
    current = np.tile(np.arange(3, dtype=np.uint8), (lanes, 1))
    history = np.empty((steps, lanes, 3), dtype=np.uint8)
    for step in range(steps):
        current = _NEXT_STATE[padded[:, step, None], current]
        history[step] = current
    first = np.empty(lanes, dtype=np.intp)
    for lane in range(lanes):
        first[lane] = state
        state = int(current[lane, state])
    chosen = np.take_along_axis(history, first[None, :, None], axis=2)[:, :, 0]
    return chosen.T.reshape(-1)[: kinds.size]
