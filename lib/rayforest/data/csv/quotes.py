r"""Find line ends outside quotes, in vectorised passes over blocks of bytes.

A quote opens a quoted value only where a value begins; inside, two quotes stand for one, and the next single one
closes. Everywhere else a quote is an ordinary character. `\n` and `\r` outside quotes both end a line, so `\r\n` leaves
an empty line between them, and empty lines are not rows. This is how Python's csv module and pyarrow read, too.
They differ where a quote is stray: see `stray`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from rayforest.data.csv.stray import MAX_QUOTED_BYTES, ends_well, stray_quotes

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
    stray: Positions
    """Quotes that begin a value which no later quote ends; they open nothing."""

    @property
    def opens(self) -> npt.NDArray[np.bool_]:
        """[quotes] true where what follows is inside quotes."""
        return np.equal(self.states, _INSIDE)

    @property
    def closes(self) -> npt.NDArray[np.bool_]:
        """[quotes] true where a quoted value ends."""
        return _closes(self.positions, self.states)

    def inside(self, size: int) -> npt.NDArray[np.bool_]:
        """[size] true for bytes inside quotes; of the quotes themselves, only the opening ones."""
        within = self.states == _INSIDE
        was_within = _states_before(self.states, self.before) == _INSIDE
        steps = np.zeros(size + 1, dtype=np.int8)
        steps[0] = self.before == _INSIDE
        steps[self.positions] += within.astype(np.int8) - was_within.astype(np.int8)
        return np.add.accumulate(steps[:size], dtype=np.int8).view(np.bool_)

    def up_to(self, stop: int) -> Quotes:
        """Those of the first `stop` bytes."""
        count = int(np.searchsorted(self.positions, stop))
        return Quotes(self.positions[:count], self.states[:count], self.before, self.stray[self.stray < stop])


@dataclass
class RowScanner:
    """Line ends outside quotes, block by block; remembers between blocks whether a quote is open."""

    delimiter: int
    trim: bool
    state: int = _OUTSIDE
    _last: int = _LF
    _last_solid: int = _LF
    """The last byte that is not a blank: where `trim` is on, a quote may follow blanks."""

    def scan(self, block: bytes, following: Callable[[], Iterable[bytes]] = tuple) -> tuple[Positions, Quotes]:
        """Positions of the line ends outside quotes in `block`, and its quotes.

        Looks into the blocks that follow where only they tell whether the last quote is stray.
        """
        data = np.frombuffer(block, dtype=np.uint8)
        quotes = self._quotes(block, data, following)
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

    def _quotes(self, block: bytes, data: npt.NDArray[np.uint8], following: Callable[[], Iterable[bytes]]) -> Quotes:
        before, none = self.state, np.empty(0, np.int64)
        if b'"' not in block:
            return Quotes(none, np.empty(0, np.uint8), before, none)
        positions = np.flatnonzero(data == _QUOTE)
        previous = np.where(positions > 0, data[positions - 1], self._last)
        kinds = np.full(positions.size, _IN_TEXT, dtype=np.uint8)
        kinds[previous == _QUOTE] = _FOLLOWS_QUOTE
        solid = self._solid_before(data, positions, previous) if self.trim else previous
        kinds[(solid == self.delimiter) | (solid == _LF) | (solid == _CR)] = _BEGINS_VALUE
        states, stray = _run_states(kinds, before), np.zeros(positions.size, dtype=bool)
        if data.size > MAX_QUOTED_BYTES or self._text_follows_lines(data, positions, kinds, states):
            stray = stray_quotes(data, positions, kinds != _FOLLOWS_QUOTE, self._ends_well(data, positions))
            states = _run_states(np.where(stray, _IN_TEXT, kinds), before)
        blanks = self.blanks.tobytes() if self.trim else b""
        unseen = not block[positions[-1] + 1 :].strip(blanks)  # what follows the last quote is in the next block
        while states[-1] == _INSIDE or (unseen and states[-1] == _CLOSED):
            last = _last_opening(kinds, states, before)
            if last is None or ends_well(chain([block[positions[last] + 1 :]], following()), self.delimiter, blanks):
                break
            stray[last] = True
            states = _run_states(np.where(stray, _IN_TEXT, kinds), before)
        self.state = int(states[-1])
        stray &= (kinds == _BEGINS_VALUE) & (_states_before(states, before) != _INSIDE)
        return Quotes(positions, states, before, positions[stray])

    def _text_follows_lines(
        self,
        data: npt.NDArray[np.uint8],
        positions: Positions,
        kinds: npt.NDArray[np.uint8],
        states: npt.NDArray[np.uint8],
    ) -> bool:
        """Whether text follows a closing quote that is in a later line than its opening one."""
        harmless = np.zeros(256, dtype=bool)
        harmless[[self.delimiter, _LF, _CR, _QUOTE]] = True
        if harmless[data[np.minimum(positions[states == _CLOSED] + 1, data.size - 1)]].all():
            return False
        closing = np.flatnonzero(_closes(positions, states))
        closing = closing[~self._ends_well(data, positions[closing])]
        if not closing.size:
            return False
        opening = np.flatnonzero((kinds == _BEGINS_VALUE) & (states == _INSIDE))
        begins = np.concatenate(([0], positions[opening]))[np.searchsorted(opening, closing)]
        lines = np.flatnonzero((data == _LF) | (data == _CR))
        return bool((np.searchsorted(lines, begins) < np.searchsorted(lines, positions[closing])).any())

    def _ends_well(self, data: npt.NDArray[np.uint8], positions: Positions) -> npt.NDArray[np.bool_]:
        """[positions] whether a value may end there: where the block ends before that is known, too."""
        is_end = np.zeros(256, dtype=bool)
        is_end[[self.delimiter, _LF, _CR]] = True
        following = data[np.minimum(positions + 1, data.size - 1)]
        ends: npt.NDArray[np.bool_] = is_end[following] | (positions + 1 == data.size)
        if self.trim and not ends.all():
            doubtful = np.flatnonzero(~ends & np.isin(following, self.blanks))
            after = solid_after(data, positions[doubtful] + 1, self.blanks)
            ends[doubtful] = (after == data.size) | is_end[data[np.minimum(after, data.size - 1)]]
        return ends

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


def _states_before(states: npt.NDArray[np.uint8], before: int) -> npt.NDArray[np.uint8]:
    """The state that each quote meets."""
    return np.concatenate((np.array([before], np.uint8), states))[:-1]


def _closes(positions: Positions, states: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    doubled = np.zeros(positions.size, dtype=bool)
    doubled[:-1] = np.diff(positions) == 1
    return np.equal(states, _CLOSED) & ~doubled


def _last_opening(kinds: npt.NDArray[np.uint8], states: npt.NDArray[np.uint8], before: int) -> int | None:
    """The last quote that begins a value; None where an earlier block has it."""
    opens = (kinds == _BEGINS_VALUE) & (states == _INSIDE) & (_states_before(states, before) != _INSIDE)
    return int(np.flatnonzero(opens)[-1]) if opens.any() else None


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
