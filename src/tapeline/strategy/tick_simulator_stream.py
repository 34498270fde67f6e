"""The tick simulator fed one tick at a time, as a paper account is: the same engine, the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import DataError
from tapeline.strategy import account_kernels as account
from tapeline.strategy import tick_kernels as kernels
from tapeline.strategy.latency import Latency, delay
from tapeline.strategy.simulator import FIRST_ROOM, larger_log, new_log, whole_targets
from tapeline.strategy.tick_kernels import TickDecisions, Ticks
from tapeline.strategy.tick_simulator import (
    DECISION_COLUMNS,
    QUOTE_COLUMNS,
    TRADE_COLUMNS,
    TickSettings,
    TickSimulation,
    book_levels,
    frozen,
    instants,
    report_ticks,
)


class TickSimulatorStream:
    """An account that is fed ticks and decisions as they come.

    Parameters
    ----------
    latency:
        A distribution, or nanoseconds.
    printed:
        Whether there are trades only, each taken for a quote.

    Examples
    --------
    >>> stream = TickSimulatorStream(TickSettings(capital=1_000.0))
    >>> stream.push({"ts": "2024-01-01 00:00:00Z", "bid": 99.0, "ask": 100.0})
    >>> stream.decide("2024-01-01 00:00:00Z", {"target": 1.0})
    >>> stream.push({"ts": "2024-01-01 00:00:01Z", "bid": 100.0, "ask": 101.0})
    >>> stream.position, stream.equity
    (1.0, 999.0)
    """

    def __init__(
        self, settings: TickSettings | None = None, *, latency: Latency | int = 0, printed: bool = False
    ) -> None:
        self._settings = settings or TickSettings()
        self.ticks, self.decisions = 0, 0
        self._delays = latency.compiled() if isinstance(latency, Latency) else None
        self._wait = 0 if isinstance(latency, Latency) else int(latency)
        if self._wait < 0:
            raise DataError(f"latency {self._wait} is below 0")
        self._printed = printed
        self._venue = self._settings.venue(printed, latency.seed if isinstance(latency, Latency) else 0)
        self._rules, self._resting = self._settings.compiled(), self._settings.resting()
        self._amounts, self._counts = account.begin_state(self._settings.capital)
        self._quote, self._places = kernels.begin_ticks()
        self._log, self._levels = new_log(FIRST_ROOM), book_levels(None, self._settings)
        self._times, self._values = np.empty((1, FIRST_ROOM), np.int64), np.empty((12, FIRST_ROOM))
        self._instants, self._wanted = (
            np.empty((2, FIRST_ROOM), np.int64),
            np.empty((len(DECISION_COLUMNS), FIRST_ROOM)),
        )

    @property
    def position(self) -> float:
        """Units held after the last tick."""
        return float(self._amounts[account.POSITION])

    @property
    def equity(self) -> float:
        """Cash, and the position at what closing it would bring."""
        return float(self._values[-3, self.ticks - 1]) if self.ticks else self._settings.capital

    def decide(self, decided_at: Any, decision: Mapping[str, Any]) -> None:
        """Take a decision that may know every tick pushed so far.

        Parameters
        ----------
        decided_at:
            Not before the last tick, nor before the last decision.
        decision:
            ``target`` and optionally ``stop``, ``take``, ``limit``, ``trigger``.

        Raises
        ------
        DataError
            It comes before what it may know, or the target is infinite.
        """
        at, row = pd.Timestamp(decided_at).value, self.decisions
        if (self.ticks and at < self._times[0, self.ticks - 1]) or (row and at < self._instants[0, row - 1]):
            raise DataError(f"a decision at {decided_at} comes before a tick or a decision that it may know")
        if row == self._instants.shape[1]:
            self._instants, self._wanted = _doubled(self._instants), _doubled(self._wanted)
        wait = self._wait if self._delays is None else int(delay(self._delays, row))
        arrival = at + max(wait, 1)
        self._instants[:, row] = at, max(arrival, self._instants[1, row - 1]) if row else arrival
        self._wanted[:, row] = [float(decision.get(name, math.nan)) for name in DECISION_COLUMNS]
        self._wanted[0, row] = whole_targets(self._wanted[:1, row], self._settings.lot)[0]
        self.decisions = row + 1

    def push(self, tick: Mapping[str, Any], book: pd.DataFrame | None = None) -> None:
        """Take a tick and trade it.

        Parameters
        ----------
        tick:
            ``ts`` and what there is of ``bid``, ``ask``, ``bid_size``, ``ask_size``, ``price``, ``size``, ``side``;
            optionally ``half_spread`` of a trade taken for a quote, ``long_rate`` and ``short_rate``.
        book:
            A new recorded book, seen at or before the tick: rows of one instant of ``raw/depth``.

        Raises
        ------
        DataError
            The tick comes before the one before it, or the book after it.
        """
        row, at = self.ticks, pd.Timestamp(tick["ts"]).value
        if row and at < self._times[0, row - 1]:
            raise DataError(f"tick {tick['ts']} comes before the tick before it")
        if row == self._times.shape[1]:
            self._times, self._values = _doubled(self._times), _doubled(self._values)
        values = [float(tick.get(name, math.nan)) for name in (*QUOTE_COLUMNS, *TRADE_COLUMNS)]
        if any(size < 0 for size in (*values[2:4], values[5])):
            raise DataError(f"a size of tick {tick['ts']} is negative")
        if self._printed:
            half = float(tick.get("half_spread", 0.0))
            values[:4] = values[4] - half, values[4] + half, values[5], values[5]
        values[6] = 0.0 if math.isnan(values[6]) else values[6]
        if book is not None:
            levels = book_levels(book, self._settings)
            if levels.stamps.size != 1 or levels.stamps[0] > at:
                raise DataError(f"the book of tick {tick['ts']} is not one that was seen at or before it")
            self._levels, self._places[kernels.BOOK] = levels, -1
        self._times[0, row] = at
        rates = (float(tick.get("long_rate", 0.0)), float(tick.get("short_rate", 0.0)))
        self._values[:, row] = [*values, *rates, math.nan, math.nan, 0.0]
        self.ticks = row + 1
        tape = frozen(Ticks(self._times[0], *self._values[:9]))
        wanted = frozen(TickDecisions(self._instants[1, : self.decisions], *self._wanted[:, : self.decisions]))
        state = (self._levels, self._amounts, self._counts, self._quote, self._places)
        while (
            kernels.advance_ticks(
                *(tape, wanted, self._rules, self._resting, self._venue, *state),
                *(self._log, *self._values[9:], row, row + 1),
            )
            == row
        ):
            self._log = larger_log(self._log)

    def result(self) -> TickSimulation:
        """The tables of what was traded so far."""
        times, values = self._times[0, : self.ticks], self._values[:, : self.ticks]
        index = instants(times, "ts")
        equity, marks, charged = (values[row].copy() for row in (-3, -2, -1))
        tape = Ticks(times, *values[:9])
        decided = instants(self._instants[0, : self.decisions], "decided_at")
        return report_ticks(index, tape, decided, self._log, self._counts, equity, marks, charged)


def _doubled(array: NDArray[Any]) -> NDArray[Any]:
    larger = np.empty((array.shape[0], 2 * array.shape[1]), array.dtype)
    larger[:, : array.shape[1]] = array
    return larger
