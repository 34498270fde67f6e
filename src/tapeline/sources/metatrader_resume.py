"""Live ticks of MetaTrader 5 across restarts: the poll goes on behind the last stored tick, without gap or copy."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
import pandas as pd

from tapeline.sources.broker_clock import BrokerClock
from tapeline.sources.metatrader_session import MetaTraderSession
from tapeline.sources.metatrader_ticks import OVERLAP_SECONDS, PAGE_TICKS, TickPoll

OVERLAP: Final = pd.Timedelta(seconds=OVERLAP_SECONDS)
"""How far before the last stored tick the terminal is asked again: it may have added ticks late."""

VALUES: Final = ("bid", "ask", "last", "volume", "flags")


class ResumedPoll:
    """New ticks of one instrument behind those that are stored.

    The terminal numbers nothing, and many ticks may share a millisecond, equal ones among them. So the ticks around
    the last stored one are held against the stored ones by content, as often as each occurs: what is stored is taken
    away, what is left is new and numbered behind the stored ticks of its millisecond.

    Parameters
    ----------
    stored:
        The stored ticks from ``OVERLAP`` before the last one on, as the lake holds them (``sequence`` and
        :data:`VALUES`, indexed by ``ts``); empty where nothing is stored.
    start:
        Where to begin if nothing is stored.
    """

    def __init__(
        self,
        session: MetaTraderSession,
        symbol: str,
        clock: BrokerClock,
        *,
        stored: pd.DataFrame,
        start: pd.Timestamp,
        page: int = PAGE_TICKS,
    ) -> None:
        stamps = pd.DatetimeIndex(stored.index).as_unit("ns").asi8
        self.symbol = symbol
        self.already_stored = 0
        self._last = int(stamps.max()) if len(stamps) else None
        begin = start if self._last is None else pd.Timestamp(self._last, tz="UTC") - OVERLAP
        recent = stamps >= begin.as_unit("ns").value
        self._stored = Counter(_keys(stored[recent]))
        self._next: dict[int, int] = {}
        for stamp, number in zip(stamps[recent].tolist(), stored["sequence"].to_numpy()[recent].tolist(), strict=True):
            self._next[stamp] = max(self._next.get(stamp, 0), number + 1)
        self._poll = TickPoll(session, symbol, clock, begin, page=page)

    def new(self) -> pd.DataFrame:
        """The ticks since the last call, with the columns of the lake's ticks; errors as of ``TickPoll.new``."""
        fresh = self._poll.new()
        if self._last is None or not len(fresh):
            return fresh
        stamps = pd.DatetimeIndex(fresh.index).as_unit("ns").asi8
        keep, numbers = np.ones(len(fresh), dtype=bool), fresh["sequence"].to_numpy().copy()
        around = np.flatnonzero(stamps <= self._last)
        for row, key in zip(around.tolist(), _keys(fresh.iloc[around]), strict=True):
            if self._stored[key] > 0:
                self._stored[key] -= 1
                keep[row] = False
                self.already_stored += 1
            else:
                stamp = int(stamps[row])
                numbers[row] = self._next.get(stamp, 0)
                self._next[stamp] = int(numbers[row]) + 1
        return fresh.assign(sequence=numbers)[keep]


def _keys(ticks: pd.DataFrame) -> list[tuple[object, ...]]:
    """What makes two ticks the same: the instant and every value, an absent one equal to an absent one."""
    stamps = pd.DatetimeIndex(ticks.index).as_unit("ns").asi8.tolist()
    columns = [[None if value != value else value for value in ticks[name].tolist()] for name in VALUES]
    return list(zip(stamps, *columns, strict=True))
