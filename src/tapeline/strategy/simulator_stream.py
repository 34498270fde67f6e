"""The simulator fed one bar at a time, as a paper account is: the same engine, the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import DataError
from tapeline.strategy import account_kernels as account
from tapeline.strategy.simulator import (
    FIRST_ROOM,
    Simulation,
    SimulationSettings,
    larger_log,
    new_log,
    read_only,
    report,
    whole_targets,
)
from tapeline.strategy.simulator_kernels import Decisions, Market, advance

_BAR: Final = ("open", "high", "low", "close", "volume")
_EXTRA: Final = {"half_spread": 0.0, "volatility": math.nan, "long_rate": 0.0, "short_rate": 0.0}
_DECISION: Final = ("target", "stop", "take", "limit", "trigger")


class SimulatorStream:
    """An account that is fed finished bars.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(100, 100, 104)
    >>> stream = SimulatorStream(SimulationSettings(capital=1_000.0))
    >>> for bar in bars.reset_index().to_dict("records"):
    ...     stream.push(bar, {"target": 1.0} if stream.bars == 0 else None)
    >>> stream.position, stream.equity
    (1.0, 1004.0)
    """

    def __init__(self, settings: SimulationSettings | None = None) -> None:
        settings = settings or SimulationSettings()
        self.bars = 0
        self._lot = settings.lot
        self._rules = settings.compiled()
        self._amounts, self._counts = account.begin_state(settings.capital)
        self._log = new_log(FIRST_ROOM)
        self._times = np.empty((3, FIRST_ROOM), np.int64)
        self._values = np.empty((len(_BAR) + len(_EXTRA) + len(_DECISION) + 2, FIRST_ROOM))

    @property
    def position(self) -> float:
        """Units held after the last bar."""
        return float(self._amounts[account.POSITION])

    @property
    def entry_price(self) -> float:
        """The price at which the position held was opened, from which its protection counts; NaN without one."""
        return float(self._amounts[account.ANCHOR])

    @property
    def equity(self) -> float:
        """Cash and position at the last close."""
        return float(self._values[-2, self.bars - 1]) if self.bars else float(self._amounts[account.CASH])

    def push(self, bar: Mapping[str, Any], decision: Mapping[str, Any] | None = None) -> None:
        """Take a finished bar, trade it, and keep the decision made at its close for the bars after it.

        A decision that depends on what the bar left of the position comes by :meth:`decide` instead.

        Parameters
        ----------
        bar:
            ``ts``, ``close_ts``, ``open``, ``high``, ``low``, ``close``, ``volume``; optionally ``half_spread``,
            ``volatility``, ``long_rate``, ``short_rate``.
        decision:
            ``target`` and optionally ``stop``, ``take``, ``limit``, ``trigger``, and ``latency`` in nanoseconds.

        Raises
        ------
        DataError
            A value is missing, or the bar begins before the one before it ended.
        """
        row, decision = self.bars, decision or {}
        if absent := [name for name in ("ts", "close_ts", *_BAR) if name not in bar]:
            raise DataError(f"a bar lacks {absent}")
        opened, closed = pd.Timestamp(bar["ts"]).value, pd.Timestamp(bar["close_ts"]).value
        if closed < opened or (row and opened < self._times[1, row - 1]):
            raise DataError(f"bar {bar['ts']} overlaps the bar before it, or ends before it begins")
        late, numbers = self._read(decision)
        if row == self._times.shape[1]:
            self._times, self._values = _doubled(self._times), _doubled(self._values)
        self._times[:, row] = opened, closed, late
        self._values[:, row] = [
            *(float(bar[name]) for name in _BAR),
            *(float(bar.get(name, default)) for name, default in _EXTRA.items()),
            *numbers,
            math.nan,
            0.0,
        ]
        self.bars = row + 1
        market, wanted = self._views()
        waiting = row - int(self._counts[account.SENT])
        arguments = (self._rules, self._amounts, self._counts)
        while advance(market, wanted, *arguments, self._log, self._values[-2], self._values[-1], row, row + 1) == row:
            self._log = larger_log(self._log, waiting)

    def decide(self, decision: Mapping[str, Any]) -> None:
        """Keep a decision made at the close of the last bar, in place of the one that came with it.

        The same bits as if it had come with :meth:`push`: it acts in the bars that follow.

        Raises
        ------
        DataError
            There is no bar yet, or a value is missing.

        Examples
        --------
        >>> from tapeline.core.example import example_bars
        >>> stream = SimulatorStream(SimulationSettings(capital=1_000.0))
        >>> for bar in example_bars(100, 101, 104).reset_index().to_dict("records"):
        ...     stream.push(bar)
        ...     stream.decide({"target": stream.position + 1.0})
        >>> stream.position, stream.entry_price
        (2.0, 100.0)
        """
        if not self.bars:
            raise DataError("a decision without a bar", hint="push the bar at whose close it is made first")
        late, numbers = self._read(decision)
        row, first = self.bars - 1, len(_BAR) + len(_EXTRA)
        self._times[2, row] = late
        self._values[first : first + len(_DECISION), row] = numbers

    def result(self) -> Simulation:
        """The tables of what was traded so far."""
        index = pd.DatetimeIndex(pd.to_datetime(self._times[0, : self.bars], utc=True), name="ts").as_unit("ns")
        equity, charged = self._values[-2, : self.bars].copy(), self._values[-1, : self.bars].copy()
        return report(index, self._views()[0], self._log, self._counts, equity, charged)

    def _read(self, decision: Mapping[str, Any]) -> tuple[int, list[float]]:
        """Latency and numbers of a decision."""
        late = int(decision.get("latency", 0))
        if late < 0:
            raise DataError(f"latency {late} is below 0")
        target = whole_targets(np.array([decision.get("target", math.nan)], dtype=np.float64), self._lot)
        return late, [float(target[0]), *(float(decision.get(name, math.nan)) for name in _DECISION[1:])]

    def _views(self) -> tuple[Market, Decisions]:
        first = len(_BAR) + len(_EXTRA)
        times, values = read_only(self._times), read_only(self._values)
        return (
            Market(times[0], times[1], *values[:first]),
            Decisions(*(*values[first : first + len(_DECISION)], times[2])),
        )


def _doubled(array: NDArray[Any]) -> NDArray[Any]:
    larger = np.empty((array.shape[0], 2 * array.shape[1]), array.dtype)
    larger[:, : array.shape[1]] = array
    return larger
