"""One instrument's trades in the order of the venue's ids: each once, none left out, whatever the stream did to them.

No I/O: the caller asks the venue's history for what ``gap`` names and hands the answer to ``fill``.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.streams.messages import Trade, msgspec

MAXIMUM_HELD: Final = 20_000
MAXIMUM_JUMP: Final = 10_000_000
"""More ids than the busiest instrument uses in days; a larger step is a damaged number, not a gap."""


class Collected(msgspec.Struct, frozen=True, gc=False):
    """A trade or quote as it goes to the sink.

    ``known_at`` is when we received it (ns, our clock). ``late`` where it came after a newer one of its instrument had
    been received: by the venue's history, or out of order.
    """

    record: msgspec.Struct
    known_at: int
    late: bool = False


class MissingIds(NamedTuple):
    """The ids that an instrument lacks next, both ends included."""

    first: int
    last: int


@dataclass
class SequenceCounters:
    """What a sequence saw. ``absent`` ids are those of which the venue's own history says that they do not exist."""

    released: int = 0
    duplicates: int = 0
    late: int = 0
    gaps: int = 0
    filled: int = 0
    absent: int = 0
    dropped: int = 0
    implausible: int = 0
    unfilled: int = 0


class TradeSequence:
    """Orders the trades of one instrument.

    Parameters
    ----------
    last:
        The last id that is stored, so that the sequence goes on behind it; None to begin with the first trade seen.
    maximum_held:
        Trades kept while one before them is missing. Further ones are dropped: the history gives them again.
    maximum_jump:
        A step of more ids than this within a live stream is refused.

    Examples
    --------
    >>> from tapeline.core.symbol import Symbol
    >>> btc = Symbol.parse("BTCUSDT")
    >>> trade = lambda number: Trade(btc, number, 1.0, 1.0, 1, str(number))
    >>> sequence = TradeSequence(last=4)
    >>> [sequence.take(trade(number), 0) for number in (4, 7)], sequence.gap
    ([[], []], MissingIds(first=5, last=6))
    >>> [(int(row.record.id), row.late) for row in sequence.fill(5, [trade(5), trade(6)], 1)]
    [(5, True), (6, True), (7, False)]
    """

    def __init__(
        self, last: int | None = None, *, maximum_held: int = MAXIMUM_HELD, maximum_jump: int = MAXIMUM_JUMP
    ) -> None:
        if maximum_held < 1 or maximum_jump < 1:
            raise ConfigurationError(f"maximum_held {maximum_held} and maximum_jump {maximum_jump} must be 1 or more")
        self.last = last
        self.counters = SequenceCounters()
        self._maximum_held, self._maximum_jump = maximum_held, maximum_jump
        self._held: dict[int, Collected] = {}
        self._order: list[int] = []
        self._highest: int | None = None

    @property
    def gap(self) -> MissingIds | None:
        """The first stretch of ids that is missing, None where nothing is known to be."""
        if self.last is None or self._highest is None or self._highest <= self.last:
            return None
        return MissingIds(self.last + 1, (self._order[0] if self._order else self._highest + 1) - 1)

    def take(self, trade: Trade, received: int) -> list[Collected]:
        """The trades that are in order now; none for a copy, or while one before it is missing."""
        number = _number(trade)
        highest = self._highest
        late = highest is not None and number < highest
        if highest is None or number > highest:
            if highest is not None and number - highest > self._maximum_jump:
                self.counters.implausible += 1
                return []
            self._highest = number
        row = Collected(trade, received, late)
        if self.last is None or number == self.last + 1:
            self.last = number
            return self._out([row, *self._following()] if self._order else [row])
        if number <= self.last or number in self._held:
            self.counters.duplicates += 1
            return []
        if not self._held and not late:
            self.counters.gaps += 1
        if len(self._held) >= self._maximum_held:
            self.counters.dropped += 1
            return []
        self._hold(number, row)
        return []

    def fill(self, first: int, page: Iterable[Trade], received: int) -> list[Collected]:
        """Join a page of the venue's history and return the trades that are in order now.

        Parameters
        ----------
        first:
            The id from which the page was asked for. The page holds every trade from there to its last one: an id
            that is absent in between does not exist.

        Raises
        ------
        DataError
            The page skips a trade that the stream has shown to exist, so that it cannot be believed.
        """
        found = {number: Collected(trade, received, late=True) for trade in page if (number := _number(trade)) >= first}
        if not found:
            return []
        if self._order and min(found) > self._order[0]:
            raise DataError(f"history from id {first} begins at {min(found)}, though {self._order[0]} was streamed")
        if self.last is not None and first > self.last + 1:
            raise DataError(f"history from id {first} does not follow {self.last}, the last trade in order")
        end = max(found)
        known = max(number for number in (self._highest, self.last, first) if number is not None)
        if end > known + self._maximum_jump:
            raise DataError(f"history from id {first} reaches {end}, more than {self._maximum_jump:,} ids ahead")
        streamed = set()
        while self._order and self._order[0] <= end:
            number = heapq.heappop(self._order)
            # The streamed copy was received first, and that is when we knew it.
            found[number] = self._held.pop(number)
            streamed.add(number)
        out = []
        last = first - 1 if self.last is None else self.last
        for number in sorted(found):
            if number > last:
                self.counters.absent += number - last - 1
                self.counters.filled += number not in streamed
                out.append(found[number])
                last = number
        self.last = last
        self._highest = max(last, self._highest or last)
        return self._out(out + self._following())

    def give_up(self) -> tuple[MissingIds | None, list[Collected]]:
        """Leave out the first gap, for good; what it was, and the trades that are in order now."""
        gap = self.gap
        if gap is None:
            return None, []
        self.counters.unfilled += gap.last - gap.first + 1
        self.last = gap.last
        return gap, self._out(self._following())

    def _hold(self, number: int, row: Collected) -> None:
        self._held[number] = row
        heapq.heappush(self._order, number)

    def _following(self) -> list[Collected]:
        rows = []
        last = self.last
        while self._order and last is not None and self._order[0] <= last + 1:
            number = heapq.heappop(self._order)
            row = self._held.pop(number)
            if number == last + 1:
                rows.append(row)
                last = number
        self.last = last
        return rows

    def _out(self, rows: list[Collected]) -> list[Collected]:
        self.counters.released += len(rows)
        for row in rows:
            self.counters.late += row.late
        return rows


def _number(trade: Trade) -> int:
    try:
        return int(trade.id)
    except ValueError as error:
        raise DataError(f"trade id {trade.id[:40]!r} of {trade.symbol} is not a number") from error
