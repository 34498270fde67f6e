"""Freshness: how long ago the newest stored bar of each series closed, and for how much of that its market was open."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import TapelineError
from tapeline.core.settings import CalendarSettings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tapeline.monitoring.exporter import SeriesState
from tapeline.quality.calendars import MarketCalendar, choose_calendar

WATCHED_ZONES: Final = frozenset({"raw", "clean", "features", "labels", "events", "scores"})
"""Zones whose age says whether something has stopped; quarantine and audit are still where all is well."""
_LONGEST: Final = pd.Timedelta(days=366)
"""Open time is counted over this long at most: what is older is stale by any measure."""


class LakeInventory:
    """Looks through a lake: one state a series.

    Parameters
    ----------
    lake, calendars:
        What is looked through, and which market calendar an instrument has.
    now:
        The clock.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> list(LakeInventory(Lake(Path(tempfile.mkdtemp())), CalendarSettings())())
    []
    """

    def __init__(
        self,
        lake: Lake,
        calendars: CalendarSettings,
        now: Callable[[], pd.Timestamp] = lambda: pd.Timestamp.now("UTC"),
    ) -> None:
        self._lake = lake
        self._rules = calendars
        self._now = now
        self._calendars: dict[str, MarketCalendar] = {}

    def __call__(self) -> Iterator[SeriesState]:
        """The state of every series of the watched zones."""
        now = self._now()
        newest: dict[tuple[str, str, str], SeriesState] = {}
        for row in self._lake.status().to_dict("records"):
            table = str(row["table"])
            if table.partition("/")[0] not in WATCHED_ZONES:
                continue
            state = self._state(table, row, now)
            key = (state.table, state.symbol, state.timeframe)
            other = newest.get(key)
            if other is not None:
                # Tables of several versions are one to whoever watches: the newest rows, the bytes of all.
                size = state.size_bytes + other.size_bytes
                state = replace(min(state, other, key=lambda held: held.freshness_seconds), size_bytes=size)
            newest[key] = state
        yield from newest.values()

    def _state(self, table: str, row: Mapping[Hashable, Any], now: pd.Timestamp) -> SeriesState:
        timeframe = Timeframe.parse(str(row["timeframe"]))
        close = row["last"] if timeframe.is_tick else timeframe.close(row["last"])
        age = max((now - close).total_seconds(), 0.0)
        return SeriesState(
            table=table.partition("@")[0],
            symbol=str(row["symbol"]),
            timeframe=timeframe.name,
            rows=int(row["rows"]),
            size_bytes=int(row["bytes"]),
            missing_bars=None if pd.isna(row["missing"]) else int(row["missing"]),
            timeframe_seconds=0.0 if timeframe.is_tick else float(timeframe.seconds),
            freshness_seconds=age,
            open_freshness_seconds=min(self._open_seconds(str(row["symbol"]), close, now), age),
        )

    def _open_seconds(self, symbol: str, close: pd.Timestamp, now: pd.Timestamp) -> float:
        if now <= close:
            return 0.0
        start = max(close, now - _LONGEST)
        calendar = self._calendar_of(symbol)
        beyond = (start - close).total_seconds()
        try:
            spent = calendar.open_time(np.array([start.value]), np.array([now.value]))[0] / 1e9
        except TapelineError:
            # A calendar that does not reach so far: every second counts, which errs towards an alarm.
            spent = (now - start).total_seconds()
        return float(spent) + beyond

    def _calendar_of(self, symbol: str) -> MarketCalendar:
        if symbol not in self._calendars:
            self._calendars[symbol] = choose_calendar(
                symbol,
                self._source_of(symbol),
                default=self._rules.default,
                symbols=self._rules.symbols,
                sources=self._rules.sources,
            )
        return self._calendars[symbol]

    def _source_of(self, symbol: str) -> str | None:
        """Where an instrument's newest raw rows come from; read once an instrument, and only where a rule asks."""
        if not self._rules.sources:
            return None
        for series in self._lake.series():
            if series.symbol != Symbol.parse(symbol) or "source" not in series.spec.schema.names:
                continue
            last = self._lake.last(series.spec, series.symbol, series.timeframe)
            held = self._lake.read(series.spec, series.symbol, series.timeframe, start=last, columns=["source"])
            if len(held):
                return str(held["source"].iloc[-1])
        return None
