r"""Find line ends outside quotes, in vectorised passes over blocks of bytes.

A quote opens a quoted value only where a value begins; inside, two quotes stand for one, and the next single one
closes. Everywhere else a quote is an ordinary character. `\n` and `\r` outside quotes both end a line, so `\r\n` leaves
an empty line between them, and empty lines are not rows. This is how Python's csv module and pyarrow read, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

_QUOTE, _LF, _CR, _SPACE, _TAB = b'"\n\r \t'
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


@dataclass
class RowScanner:
    """Line ends outside quotes, block by block; remembers between blocks whether a quote is open."""

    delimiter: int
    trim: bool
    state: int = _OUTSIDE
    _last: int = _LF
    _last_solid: int = _LF
    """The last byte that is not a blank: where `trim` is on, a quote may follow blanks."""

    @property
    def in_quotes(self) -> bool:
        return self.state == _INSIDE

    def scan(self, block: bytes) -> tuple[Positions, Quotes]:
        """Positions of the line ends outside quotes in `block`, and its quotes."""
        data = np.frombuffer(block, dtype=np.uint8)
        quotes = self._quotes(block, data)
        ends = data == _LF
        if b"\r" in block:
            ends |= data == _CR
        if quotes.positions.size or quotes.before == _INSIDE:
            ends &= ~quotes.inside(data.size)
        if data.size:
            self._last = int(data[-1])
            solid = block.rstrip(self.blanks.tobytes())
            self._last_solid = solid[-1] if solid else self._last_solid
        return np.flatnonzero(ends), quotes

    @cached_property
    def blanks(self) -> npt.NDArray[np.uint8]:
        """Blanks around a value."""
        return blank_bytes(self.delimiter)

    def _quotes(self, block: bytes, data: npt.NDArray[np.uint8]) -> Quotes:
        before = self.state
        if b'"' not in block:
            return Quotes(np.empty(0, np.int64), np.empty(0, np.uint8), before)
        positions = np.flatnonzero(data == _QUOTE)
        previous = np.where(positions > 0, data[positions - 1], self._last)
        kinds = np.full(positions.size, _IN_TEXT, dtype=np.uint8)
        kinds[previous == _QUOTE] = _FOLLOWS_QUOTE
        solid = self._solid_before(data, positions, previous) if self.trim else previous
        kinds[(solid == self.delimiter) | (solid == _LF) | (solid == _CR)] = _BEGINS_VALUE
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


def blank_bytes(delimiter: int) -> npt.NDArray[np.uint8]:
    """The bytes that count as blank around a value: space, and tab where it is not the delimiter."""
    return np.array([_SPACE] if delimiter == _TAB else [_SPACE, _TAB], dtype=np.uint8)


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
