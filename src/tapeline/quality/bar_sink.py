"""The bars of a live feed: each closed one judged as a batch judges it, kept for the raw zone, refused with its reason.

A venue that builds candles says which are closed; only those are bars. The verdict on each is that of
:class:`~tapeline.quality.feed_validator.BarFeedValidator`, parted as the stages of a batch part it: a fault of the time
keeps the row out of the raw zone, a fault of the numbers keeps it out of the clean zone only. So a bar that came live
and the same bar fetched later stand in the lake, and in quarantine, in the same way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import pandas as pd

from tapeline.core.schemas import OHLCV, QUARANTINE, RAW_BARS, TableSpec
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.reader import to_frame
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.checks import STRUCTURAL, Checked
from tapeline.quality.feed_sink import TOLERANCE
from tapeline.quality.feed_validator import BarFeedValidator, FeedVerdict
from tapeline.quality.quarantine import quarantine
from tapeline.streams.messages import Candle

TIME_STAGE: Final = "ingest"
"""Which check of a batch refuses a row for its time."""
VALUE_STAGE: Final = "validate"
"""Which check of a batch refuses a row for its numbers."""

WriteBars: TypeAlias = Callable[[TableSpec, pd.DataFrame, Symbol, Timeframe], object]
"""Writes rows of a table of one series, idempotently by key, as ``Lake.write`` does."""
LastBar: TypeAlias = Callable[[Symbol, Timeframe], pd.DataFrame]
"""The last stored bar of a series, or none: what the first bar of the feed continues."""
Series: TypeAlias = tuple[Symbol, Timeframe]


@dataclass
class BarTally:
    """What was done with the bars of one series; ``missing`` counts bars that were due by the calendar and absent."""

    bars: int = 0
    quarantined: int = 0
    missing: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Hole:
    """Bars of a series that were due and did not come before the bar that opened at ``before`` (ns)."""

    symbol: Symbol
    timeframe: Timeframe
    missing: int
    before: int

    def __str__(self) -> str:
        return f"{self.symbol} {self.timeframe}: {self.missing} bars absent before {pd.Timestamp(self.before)} UTC"


class BarSink:
    """Takes the candles of a feed, judges the closed ones and writes them.

    Nothing is acknowledged to a venue here: a bar that a crash takes before :meth:`write` is a gap of the raw zone,
    which a backfill closes, because a venue serves its bars again.

    Parameters
    ----------
    source:
        The feed's name, as it stands in each row.
    calendar_of:
        When an instrument's bars are due; None where continuity is not judged.
    last_of:
        Gives the last stored bar of a series, so that continuity spans a restart; None begins anew.
    tolerance:
        How far ahead of its receipt a bar's close may lie, ns.

    Attributes
    ----------
    tallies:
        Of each series, what was done.

    Examples
    --------
    >>> minute, btc = 60_000_000_000, Symbol.parse("BTCUSDT")
    >>> sink = BarSink(source="binance", calendar_of=lambda symbol: MarketCalendar.parse("24x7"))
    >>> for place, high in ((0, 2.0), (3, 0.5)):
    ...     opened = place * minute
    ...     sink.take(Candle(btc, opened, "1m", 1.0, high, 0.5, 1.5, 9.0, True, opened), opened + minute)
    >>> sink.write(lambda spec, rows, symbol, timeframe: print(spec.path, symbol, timeframe, len(rows)))
    raw/bars BTCUSDT M1 2
    quarantine/rows BTCUSDT M1 1
    2
    >>> [str(hole) for hole in sink.holes()]
    []
    >>> sink.tallies[btc, Timeframe.parse("M1")].reasons
    {'open_outside': 1, 'close_outside': 1}
    """

    def __init__(
        self,
        *,
        source: str,
        calendar_of: Callable[[Symbol], MarketCalendar] | None = None,
        last_of: LastBar | None = None,
        tolerance: int = TOLERANCE,
    ) -> None:
        self.source, self.tallies = source, dict[Series, BarTally]()
        self._calendar_of, self._last_of, self._tolerance = calendar_of, last_of, tolerance
        self._validators: dict[Series, BarFeedValidator] = {}
        self._waiting: dict[Series, list[tuple[Candle, int]]] = {}
        self._unwritten: deque[tuple[TableSpec, pd.DataFrame, Symbol, Timeframe]] = deque()
        self._holes: list[Hole] = []
        self._guard, self._writing = threading.Lock(), threading.Lock()

    def take(self, candle: Candle, received: int) -> None:
        """Take a candle that was received at an instant, ns; one that is not closed says nothing final."""
        if candle.closed:
            series = candle.symbol, Timeframe.parse(candle.interval)
            with self._guard:
                self._waiting.setdefault(series, []).append((candle, received))

    @property
    def waiting(self) -> int:
        """Bars that were not judged yet, and tables that were not written."""
        with self._guard:
            return sum(map(len, self._waiting.values())) + len(self._unwritten)

    def write(self, write: WriteBars) -> int:
        """Judge and write what came, in any thread, and give the number of bars judged.

        What cannot be written is kept, with its verdict, for the next time.
        """
        with self._writing:
            with self._guard:
                taken, self._waiting = self._waiting, {}
            for (symbol, timeframe), held in taken.items():
                self._judge(symbol, timeframe, held)
            while self._unwritten:
                write(*self._unwritten[0])
                self._unwritten.popleft()
        return sum(map(len, taken.values()))

    def holes(self) -> list[Hole]:
        """What was found absent since the last call."""
        with self._guard:
            found, self._holes = self._holes, []
        return found

    def _judge(self, symbol: Symbol, timeframe: Timeframe, held: list[tuple[Candle, int]]) -> None:
        received = np.array([at for _, at in held], dtype=np.int64)
        stamps = np.array([candle.ts for candle, _ in held], dtype=np.int64)
        bars = pd.DataFrame(
            {name: np.array([getattr(candle, name) for candle, _ in held], dtype=np.float64) for name in OHLCV},
            index=_instants(stamps, "ts"),
        )
        now = pd.Timestamp(int(received.max()) + self._tolerance, tz="UTC")
        verdict = self._validator(symbol, timeframe).feed(bars, now=now)
        placed, refused = part_verdict(verdict)
        self._note(symbol, timeframe, verdict, stamps)
        tables = [quarantine(bars, refused, stage=TIME_STAGE, source=self.source)]
        kept = refused.passed
        if kept.any():
            # A bar is known at its close at the earliest, whatever two clocks say of each other.
            known_at = np.maximum(received[kept], stamps[kept] + timeframe.nanoseconds)
            rows = bars[kept].assign(
                close_ts=timeframe.closes(pd.DatetimeIndex(bars.index[kept])),
                known_at=_instants(known_at, "known_at"),
                known_at_is_estimate=False,
                source=self.source,
                revision=0,
                volume_kind="traded",
                ts_origin="exchange",
            )
            self._unwritten.append((RAW_BARS, rows, symbol, timeframe))
            # As a batch reads them from the raw zone, so that the same bad row is the same row of quarantine.
            stored = to_frame(RAW_BARS, RAW_BARS.to_arrow(rows))
            tables.append(quarantine(stored, placed, stage=VALUE_STAGE, source=self.source))
        for table in tables:
            if len(table):
                self._unwritten.append((QUARANTINE, table, symbol, timeframe))

    def _note(self, symbol: Symbol, timeframe: Timeframe, verdict: FeedVerdict, stamps: np.ndarray) -> None:
        tally = self.tallies.setdefault((symbol, timeframe), BarTally())
        passed = verdict.passed
        tally.bars += int(np.count_nonzero(passed))
        tally.quarantined += int(np.count_nonzero(~passed))
        tally.missing += int(verdict.missing.sum())
        for code, count in verdict.counts().items():
            tally.reasons[code] = tally.reasons.get(code, 0) + count
        found = [
            Hole(symbol, timeframe, int(verdict.missing[row]), int(stamps[row]))
            for row in np.flatnonzero(verdict.missing)
        ]
        with self._guard:
            self._holes += found

    def _validator(self, symbol: Symbol, timeframe: Timeframe) -> BarFeedValidator:
        found = self._validators.get((symbol, timeframe))
        if found is None:
            calendar = None if self._calendar_of is None else self._calendar_of(symbol)
            found = BarFeedValidator(timeframe, calendar)
            last = None if self._last_of is None else self._last_of(symbol, timeframe)
            if last is not None and len(last):
                found.feed(last[list(OHLCV)])
            self._validators[symbol, timeframe] = found
        return found


def part_verdict(verdict: Checked) -> tuple[Checked, Checked]:
    """A whole verdict as the two stages of a batch give it.

    Returns
    -------
    The verdict on the numbers of the rows that have a place in time, and that on the times of all rows.

    Examples
    --------
    >>> from tapeline.quality.checks import Reason
    >>> mask = np.array([0, Reason.OFF_GRID | Reason.NOT_POSITIVE, Reason.NOT_POSITIVE], dtype=np.uint32)
    >>> numbers, times = part_verdict(Checked(mask, 0))
    >>> numbers.counts(), times.counts()
    ({'not_positive': 1}, {'off_grid': 1})
    """
    times = Checked(verdict.mask & np.uint32(STRUCTURAL), verdict.n_unsorted)
    return Checked(verdict.mask[times.passed], 0), times


def _instants(stamps: np.ndarray, name: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(stamps.view("M8[ns]"), name=name).tz_localize("UTC")
