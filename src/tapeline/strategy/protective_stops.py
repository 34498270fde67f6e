"""Protective stops: where a position's stop and target stand from each close on, and when time is up.

A decision is taken at a close and filled at the next open, so what protects the entry is a distance from a price that
is not known yet; the simulator takes it as such (``protect_by_distance``). From the close of the entry's bar on, the
price paid is known, and the stop is moved from it. The rules are on the page docs/trade-signals.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tapeline.charts.bar_arrays import BarArrays
from tapeline.charts.swings import SwingStream, find_swings
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy import protective_stop_kernels as kernels
from tapeline.strategy.protective_plan import ProtectivePlan
from tapeline.strategy.protective_stop_kernels import Fills, Levels
from tapeline.strategy.simulator import SimulationSettings, whole_targets
from tapeline.strategy.slippage import FIXED

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Protection:
    """What came of a plan, by bar.

    Parameters
    ----------
    decisions:
        ``target``, ``stop``, ``take`` for :func:`tapeline.strategy.simulator.simulate` with ``protect_by_distance``:
        distances from the entry; a stop beyond the entry has a negative one. NaN where nothing is decided.
    held:
        ``position``, ``entry_price``, ``stop_price`` and ``take_price`` as they stand after the close, and ``reason``,
        one of ``entry``, ``exit``, ``resize``, ``withheld`` (an entry that cannot be protected yet), ``adopted``,
        ``level``, ``trailing``, ``break_even``, ``time``, ``passed`` (the stop would lie beyond the close: the
        position is closed), or None.
    """

    decisions: pd.DataFrame
    held: pd.DataFrame


def protect(
    bars: pd.DataFrame,
    targets: pd.Series,
    plan: ProtectivePlan,
    settings: SimulationSettings | None = None,
    *,
    half_spread: ArrayLike = (),
    structure: pd.DataFrame | None = None,
) -> Protection:
    """A strategy's decisions over a history, with stops and targets, and the decisions that move or end them.

    A position that was stopped out stays closed until the strategy decides again, so ``targets`` should hold a value
    only where it does (:func:`tapeline.strategy.simulator.positions_to_decisions`).

    Parameters
    ----------
    bars:
        Index ``ts``; ``open``, ``high``, ``low``, ``close``, ``close_ts``.
    targets:
        Signed units wanted from each close on, NaN where nothing is decided; on the bars' index.
    settings, half_spread:
        Of the simulation that is to follow: entries and exits are worked out as it will have them. Orders are market
        orders without delay, filled whole.
    structure:
        Levels ``below`` and ``above`` by bar as known at its close, in place of the last confirmed swings.

    Raises
    ------
    DataError
        A column is missing, bars are out of order, an index or a length differs.
    ConfigurationError
        Fills cannot be worked out from bars alone: a limit of volume, an impact, margin. Feed
        :class:`ProtectiveStops` with the position of the account instead.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.strategy.protective_plan import InitialStop, TrailingStop
    >>> bars = example_bars(100, 100, 104, 108, 104)
    >>> plan = ProtectivePlan(
    ...     initial=InitialStop(kind="distance", value=4), trailing=TrailingStop(kind="distance", value=4)
    ... )
    >>> found = protect(bars, pd.Series([1.0, np.nan, np.nan, np.nan, np.nan], index=bars.index), plan)
    >>> found.decisions[["target", "stop"]].values.tolist()
    [[1.0, 4.0], [1.0, 3.0], [1.0, -1.0], [1.0, -5.0], [nan, nan]]
    >>> found.held["stop_price"].tolist()
    [nan, 97.0, 101.0, 105.0, nan]
    """
    settings = settings or SimulationSettings()
    fills = _fills(settings)
    arrays, opened_at, closed_at, prices = _bars(bars)
    if len(targets) != len(bars) or not targets.index.equals(bars.index):
        raise DataError("targets are not on the index of the bars", hint="reindex them by the bars' ts")
    wanted = np.ascontiguousarray(whole_targets(targets.to_numpy(dtype=np.float64), settings.lot))
    spread = np.ascontiguousarray(np.atleast_1d(np.asarray(half_spread, dtype=np.float64)))
    if spread.ndim != 1 or spread.size not in (0, 1, len(bars)) or (spread < 0).any():
        raise DataError(f"half_spread has {spread.size} values, or one below 0; it needs 1 or {len(bars)}")
    atr = kernels.true_range_history(plan.atr_window, prices)
    top = bars["high"].rolling(plan.window, min_periods=1).max().to_numpy(dtype=np.float64)
    bottom = bars["low"].rolling(plan.window, min_periods=1).min().to_numpy(dtype=np.float64)
    below, above = _levels(arrays, plan.reach) if structure is None else _given(structure, bars.index)
    out, held = np.empty((len(bars), kernels.OUTPUTS)), np.empty((len(bars), 4))
    reasons = np.empty(len(bars), np.int64)
    kernels.protect_history(
        *(plan.compiled(), fills, opened_at, closed_at, prices, spread, atr, top, bottom, below, above, wanted),
        *(out, held, reasons),
    )
    told = np.array([None, *kernels.REASONS[1:]], dtype=object)[reasons]
    return Protection(
        pd.DataFrame(out, index=bars.index, columns=["target", "stop", "take"]),
        pd.DataFrame(held, index=bars.index, columns=["position", "entry_price", "stop_price", "take_price"]).assign(
            reason=pd.Series(told, index=bars.index, dtype=object)
        ),
    )


class ProtectiveStops:
    """The same plan fed one finished bar at a time: the same decisions, to the bit.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.strategy.protective_plan import BreakEven, InitialStop
    >>> bars = example_bars(100, 100, 104).reset_index().to_dict("records")
    >>> stops = ProtectiveStops(ProtectivePlan(initial=InitialStop(kind="distance", value=4),
    ...                                        break_even=BreakEven(after_r=1)))
    >>> stops.update(bars[0], 1.0)
    {'target': 1.0, 'stop': 4.0, 'take': nan, 'reason': 'entry'}
    >>> stops.update(bars[1], position=1.0, entry_price=100.5) is None, stops.stop_price
    (True, 96.5)
    >>> stops.update(bars[2], position=1.0)
    {'target': 1.0, 'stop': 0.0, 'take': nan, 'reason': 'break_even'}
    """

    def __init__(self, plan: ProtectivePlan, settings: SimulationSettings | None = None) -> None:
        settings = settings or SimulationSettings()
        self.plan = plan
        self._plan, self._settings, self._lot = plan.compiled(), settings, settings.lot
        self._amounts, self._counts = kernels.begin_protection()
        self._range_amounts, self._range_counts = kernels.begin_protection()
        self._swings = SwingStream("fractal", left=plan.reach, right=plan.reach)
        self._highs: deque[float] = deque(maxlen=plan.window)
        self._lows: deque[float] = deque(maxlen=plan.window)
        self._level = {-1: math.nan, 1: math.nan}
        self._closed_at = np.iinfo(np.int64).min

    @property
    def stop_price(self) -> float:
        """Where the stop stands; NaN where there is none."""
        return float(self._amounts[kernels.STOP_PRICE])

    @property
    def take_price(self) -> float:
        """Where the target stands; NaN where there is none."""
        return float(self._amounts[kernels.TAKE_PRICE])

    def update(
        self,
        bar: Mapping[str, Any],
        wanted: float = math.nan,
        *,
        position: float | None = None,
        entry_price: float | None = None,
        below: float | None = None,
        above: float | None = None,
    ) -> dict[str, Any] | None:
        """Take a finished bar; the decision that is to stand from its close on.

        Parameters
        ----------
        bar:
            ``ts``, ``close_ts``, ``open``, ``high``, ``low``, ``close``, optionally ``half_spread``.
        wanted:
            The strategy's decision at this close, in units; NaN: none.
        position, entry_price:
            What the account holds after this bar, and the average price paid for it (where absent, the bar's open).
            Without a position it is worked out as :func:`protect` does.
        below, above:
            Levels known at this close, in place of the last confirmed swings.

        Returns
        -------
        ``target``, ``stop``, ``take`` (distances from the entry) and ``reason``; None where nothing is decided.

        Raises
        ------
        DataError
            A value is missing or the bar begins before the one before it ended.
        ConfigurationError
            No position is given, and fills cannot be worked out.
        """
        if absent := [name for name in ("ts", "close_ts", "open", "high", "low", "close") if name not in bar]:
            raise DataError(f"a bar lacks {absent}")
        opened_at, closed_at = (pd.Timestamp(bar[name]).as_unit("ns").value for name in ("ts", "close_ts"))
        if closed_at < opened_at or opened_at < self._closed_at:
            raise DataError(f"bar {bar['ts']} overlaps the bar before it, or ends before it begins")
        if position is not None and not math.isfinite(position):
            raise DataError(f"position = {position} is not finite")
        fills = _fills(self._settings) if position is None else None
        opened, high, low, close = (float(bar[name]) for name in ("open", "high", "low", "close"))
        target = float(whole_targets(np.array([wanted], dtype=np.float64), self._lot)[0])
        self._closed_at = closed_at
        levels = self._measure(high, low, close, below, above)
        amounts, counts = self._amounts, self._counts
        if fills is not None:
            spread = float(bar.get("half_spread", 0.0))
            kernels.settle(fills, amounts, counts, opened_at, opened, high, low, spread)
        else:
            paid = opened if entry_price is None else float(entry_price)
            kernels.adopt(amounts, counts, float(position or 0.0), paid, opened_at)
        out = np.empty(kernels.OUTPUTS)
        reason = kernels.decide(self._plan, amounts, counts, closed_at, high, low, close, levels, target, out)
        if math.isnan(out[0]) and reason == kernels.NOTHING:
            return None
        target, stop, take = out.tolist()
        return {"target": target, "stop": stop, "take": take, "reason": kernels.REASONS[reason]}

    def _measure(self, high: float, low: float, close: float, below: float | None, above: float | None) -> Levels:
        atr = kernels.true_range_mean(self._range_amounts, self._range_counts, self.plan.atr_window, high, low, close)
        self._highs.append(high)
        self._lows.append(low)
        for _, _, side, price in self._swings.push(high, low, close):
            self._level[side] = price
        return Levels(
            float(atr),
            _extreme(self._highs, max),
            _extreme(self._lows, min),
            float(self._level[-1] if below is None else below),
            float(self._level[1] if above is None else above),
        )


def _extreme(values: deque[float], choose: Any) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(choose(known)) if known else math.nan


def _fills(settings: SimulationSettings) -> Fills:
    model = settings.slippage.compiled()
    if model.kind != FIXED or math.isfinite(model.volume_limit) or settings.margin > 0:
        raise ConfigurationError(
            "fills under a limit of volume, an impact or margin cannot be worked out from bars and targets",
            hint="feed ProtectiveStops.update with the position and the entry price of the account",
        )
    return Fills(model, settings.limit_through, settings.bars_in_force or 0)


def _bars(bars: pd.DataFrame) -> tuple[BarArrays, NDArray[np.int64], NDArray[np.int64], Floats]:
    absent = [name for name in ("open", "high", "low", "close", "close_ts") if name not in bars.columns]
    if absent:
        raise DataError(f"bars lack the columns {absent}")
    index, closes = pd.DatetimeIndex(bars.index), pd.DatetimeIndex(bars["close_ts"])
    if index.tz is None or closes.tz is None:
        raise DataError("times of bars carry no zone", hint="use UTC")
    opened_at, closed_at = (np.ascontiguousarray(times.as_unit("ns").asi8) for times in (index, closes))
    if (closed_at[:-1] > opened_at[1:]).any() or (closed_at < opened_at).any():
        raise DataError("bars overlap or are not in the order of time", hint="sort them by ts and drop duplicates")
    prices = np.ascontiguousarray(bars[["open", "high", "low", "close"]].to_numpy(dtype=np.float64).T)
    return BarArrays(bars), opened_at, closed_at, prices


def _levels(arrays: BarArrays, reach: int) -> tuple[Floats, Floats]:
    """The last low and the last high that were confirmed by each close."""
    swings = arrays.once(find_swings, "fractal", left=reach, right=reach)
    found = []
    for side in (-1, 1):
        chosen = swings.side == side
        confirmed, price = swings.confirmed[chosen], swings.price[chosen]
        newest = np.searchsorted(confirmed, np.arange(len(arrays)), side="right")
        found.append(np.concatenate(([np.nan], price))[newest])
    return found[0], found[1]


def _given(structure: pd.DataFrame, index: pd.Index) -> tuple[Floats, Floats]:
    if not {"below", "above"} <= set(structure.columns) or not structure.index.equals(index):
        raise DataError("structure needs the columns 'below' and 'above' on the index of the bars")
    below, above = (np.ascontiguousarray(structure[name].to_numpy(dtype=np.float64)) for name in ("below", "above"))
    return below, above
