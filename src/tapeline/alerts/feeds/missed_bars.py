"""What a polled source is asked for after a downtime: the bars behind the last one taken, page by page, to the present.

Each question is one call of the poller, within its quota; between two pages other symbols have their turn. Bars come
in their order: the present is asked for only once all before it has been given.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.core.nanoseconds import SECOND
from tapeline.streams.timing import Timing

_log = logging.getLogger(__name__)
DAY: Final = 86_400


@dataclass(frozen=True)
class History:
    """What a source lets one ask for; all in seconds.

    Parameters
    ----------
    page:
        The longest stretch of one answer.
    depth:
        How far back it has bars; 0: as far as anybody asks.
    margin:
        Taken off ``depth``: what is asked for must still be there when the question arrives.
    fresh:
        Bars that ended longer ago than this were missed: what they fire is late.
    """

    page: int
    depth: int = 0
    margin: int = 3_600
    fresh: int = 3_600


YAHOO_MINUTES: Final = History(page=7 * DAY, depth=30 * DAY)
"""Bars of a minute: at most eight days a question, of the last thirty."""
ALPHA_VANTAGE_MONTHS: Final = History(page=31 * DAY)
"""A month a question, for twenty years and more."""


class MissedBars:
    """How far the bars of each symbol of a source are, and what to ask for next.

    Only a source that speaks for a symbol is asked for what was missed: one that stands by gives the present.

    Parameters
    ----------
    manager:
        Knows the last record taken, over restarts too.
    source:
        Its name there.

    Examples
    --------
    >>> from tapeline.alerts.feeds.batcher import Batcher
    >>> from tapeline.alerts.feeds.source_names import SourceName
    >>> now = 20 * DAY
    >>> timing = Timing(wall=lambda: now * SECOND)
    >>> manager = DataManager(Batcher({"A": 0}), positions={"yahoo:A": 4 * 3 * DAY}, timing=timing)
    >>> manager.watch("A", [SourceName("yahoo", "A", own_clock=True)])
    >>> missed = MissedBars(manager, "yahoo", YAHOO_MINUTES, timing=timing)
    >>> [at / DAY for at in missed.stretch("A")]
    [3.0, 10.0]
    """

    def __init__(self, manager: DataManager, source: str, history: History, *, timing: Timing | None = None) -> None:
        self.history = history
        self._manager, self._source, self._timing = manager, source, timing or Timing()
        self._given: dict[str, int] = {}
        """Of symbols of which a whole page was asked for: up to when there is nothing more."""
        self._asked: dict[str, int] = {}

    def stretch(self, symbol: str) -> tuple[int, int] | None:
        """What to ask for now, from and until when in seconds since 1970; None: the present, nothing was missed.

        Where the source has forgotten a part of it, that is told as a gap, once.
        """
        missed = self._missed(symbol)
        if missed is None:
            return None
        begin, now = missed
        return begin, self._ask(symbol, begin + self.history.page, now)

    def month(self, symbol: str) -> str | None:
        """As :meth:`stretch`, for a source that is asked for months (UTC); None: the present.

        Examples
        --------
        >>> _month_of(31 * DAY), _month_after(31 * DAY) // DAY
        ('1970-02', 59)
        """
        missed = self._missed(symbol)
        if missed is None:
            return None
        begin, now = missed
        self._ask(symbol, _month_after(begin), now)
        return _month_of(begin)

    def answered(self, symbol: str) -> None:
        """What was asked for last has been given to the manager: where it held nothing, the next question goes on."""
        end = self._asked.pop(symbol, None)
        if end is not None:
            self._given[symbol] = end

    def marked(self, symbol: str, ticks: list[Tick], ended: int) -> list[Tick]:
        """The trades of a bar that ended at an instant (nanoseconds): late ones where it was missed."""
        if self._manager.last_taken(self._source, symbol) < 0:
            return ticks
        late = self._timing.wall() - ended > self.history.fresh * SECOND
        return [tick._replace(late=True) for tick in ticks] if late else ticks

    def question(self, symbol: str) -> Mapping[str, str] | None:
        """:meth:`stretch` as Yahoo's chart is asked; None: the present."""
        found = self.stretch(symbol)
        return None if found is None else {"period1": str(found[0]), "period2": str(found[1])}

    def _missed(self, symbol: str) -> tuple[int, int] | None:
        """Since when bars are missed, and the present; None where none are."""
        self._asked.pop(symbol, None)
        last = self._manager.last_taken(self._source, symbol)
        if last < 0:
            return None
        now = self._timing.wall() // SECOND
        begin = max(last // 4, self._given.get(symbol, 0))
        if now - begin <= self.history.fresh:
            return None
        oldest = now - self.history.depth + self.history.margin if self.history.depth else 0
        if begin < oldest:
            detail = f"bars from {_text(begin)} to {_text(oldest)} are no longer to be had"
            self._manager.gap(self._source, symbol, oldest * SECOND, detail)
            _log.warning("%s of %s: %s", symbol, self._source, detail)
            begin = self._given[symbol] = oldest
        return begin, now

    def _ask(self, symbol: str, end: int, now: int) -> int:
        """Up to when is asked; noted where that is not the present."""
        if end < now:
            self._asked[symbol] = end
        return min(end, now)


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _month_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m")


def _month_after(seconds: int) -> int:
    at = datetime.fromtimestamp(seconds, UTC)
    after = at.replace(year=at.year + at.month // 12, month=at.month % 12 + 1, day=1, hour=0, minute=0, second=0)
    return int(after.timestamp())
