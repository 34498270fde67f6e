"""All bar series of a pipeline: records in, what their closing bars tell out; in the engine's process or beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.bar_series import Bar, BarSeries, Records
from tapeline.alerts.engine.evaluator import Batch
from tapeline.alerts.engine.kernel import CLOCK, EARLIEST, GAP, LATEST, TRADE
from tapeline.alerts.external import External


class Columns(NamedTuple):
    """The records of a batch that close or move bars, by their rows in it; symbol -1 is a clock of all."""

    rows: NDArray[np.intp]
    symbols: NDArray[np.int32]
    times: NDArray[np.int64]
    prices: NDArray[np.float64]
    sizes: NDArray[np.float64]
    trades: NDArray[np.bool_]

    def of(self, some: NDArray[np.intp]) -> Records:
        """Some of them, in their order."""
        return Records(self.rows[some], self.times[some], self.prices[some], self.sizes[some], self.trades[some])


class Told(NamedTuple):
    """What a closed bar told, with the row of the record that closed it."""

    row: int
    external: External


def columns_of(batch: Batch, wanted: NDArray[np.bool_]) -> Columns:
    """What closes or moves the bars of symbols, by number, without what the kernel refuses.

    Examples
    --------
    >>> columns = [0, 1, -1], [5, 6, 7], [9.0, 9.0, 0.0], [1.0, 1.0, 0.0], [0, 0, 3]
    >>> batch = Batch(*map(np.array, columns))
    >>> columns_of(batch, np.array([False, True])).rows.tolist()
    [1, 2]
    """
    clocks = (batch.symbols == -1) & (batch.records == CLOCK)
    known = (batch.symbols >= 0) & (batch.symbols < wanted.size)
    mine = clocks | (known & wanted[np.where(known, batch.symbols, 0)]) if wanted.size else clocks
    mine &= (batch.records != GAP) & (batch.times >= EARLIEST) & (batch.times <= LATEST)
    rows = np.flatnonzero(mine)
    prices, sizes, trades = batch.prices[rows], batch.sizes[rows], batch.records[rows] == TRADE
    with np.errstate(invalid="ignore"):
        whole = (prices > 0.0) & (prices < np.inf) & (sizes >= 0.0) & (sizes < np.inf)
    good = ~trades | whole
    rows = rows[good]
    return Columns(rows, batch.symbols[rows], batch.times[rows], prices[good], sizes[good], trades[good])


class SeriesBook:
    """Bar series by symbol and timeframe, and the detectors that look at them.

    Its methods take and give plain values only, so that they may be asked across a pipe.

    Examples
    --------
    >>> minute = 60_000_000_000
    >>> book = SeriesBook()
    >>> book.follow("A", 0, minute, ("fair_value_gap",), (), [])
    >>> batch = Batch(*map(np.array, ([0, -1], [5, minute], [9.0, 0.0], [1.0, 0.0], [0, 3])))
    >>> book.take(columns_of(batch, np.array([True]))), [len(one["closed"]) > 0 for one in book.state()]
    ([], [True])
    """

    def __init__(self) -> None:
        self._series: dict[tuple[int, int], BarSeries] = {}
        self._of: dict[int, list[BarSeries]] = {}

    def follow(
        self,
        symbol: str,
        number: int,
        timeframe: int,
        kinds: Sequence[str],
        indicators: Sequence[str],
        begin: Sequence[Bar] | dict[str, Any],
    ) -> None:
        """Look for these kinds of events and divergences of these indicators from the next bar on.

        Parameters
        ----------
        number:
            The symbol's in the records.
        begin:
            Bars of the past, or what :meth:`BarSeries.state` gave; passed over where the series is there already.
        """
        series = self._series.get((number, timeframe))
        if series is not None:
            series.want(tuple(kinds), tuple(indicators))
            return
        series = BarSeries.restored(begin) if isinstance(begin, dict) else BarSeries(symbol, timeframe)
        if not isinstance(begin, dict):
            series.closed = list(begin)
        series.want(tuple(kinds), tuple(indicators))
        self._series[number, timeframe] = series
        self._of.setdefault(number, []).append(series)
        self._of[number].sort(key=lambda one: one.timeframe)

    def drop(self, number: int, timeframe: int) -> None:
        """Forget a series."""
        series = self._series.pop((number, timeframe), None)
        if series is not None:
            self._of[number].remove(series)
            if not self._of[number]:
                del self._of[number]

    def take(self, columns: Columns) -> list[Told]:
        """Take records in their order; what closed bars tell, in an order that no cut into batches changes."""
        clocks = np.flatnonzero(columns.symbols == -1)
        newest = int(columns.times[clocks].max()) if clocks.size else -1
        order = np.argsort(columns.symbols, kind="stable")
        numbers, begins = np.unique(columns.symbols[order], return_index=True)
        ends = np.append(begins[1:], order.size)
        rows_of = {
            int(number): order[begin:end]
            for number, begin, end in zip(numbers, begins, ends, strict=True)
            if number >= 0
        }
        found: list[tuple[tuple[int, int, int, int], Told]] = []
        for number, some in self._of.items():
            mine = rows_of.get(number)
            if mine is None:
                # A clock that closes nothing changes nothing.
                if not any(one.forming is not None and one.forming.ts + one.timeframe <= newest for one in some):
                    continue
                mine = clocks
            elif clocks.size:
                mine = np.sort(np.concatenate((mine, clocks)))
            records = columns.of(mine)
            for series in some:
                for row, external in series.take(records):
                    found.append(((row, external.ts, number, series.timeframe), Told(row, external)))
        # What a bar tells stays in its order: the sort is stable.
        found.sort(key=lambda one: one[0])
        return [told for _, told in found]

    def state(self) -> list[dict[str, Any]]:
        """All of it, as JSON keeps it."""
        return self.still()()

    def still(self) -> Callable[[], list[dict[str, Any]]]:
        """:meth:`state` as of now, made when what is given is called: in any thread, at any time later."""
        series = [self._series[key].still() for key in sorted(self._series)]
        return lambda: [one() for one in series]
