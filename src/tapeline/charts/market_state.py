"""The market's state: one record a bar and symbol that says what all context says, on history and live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.charts.bar_arrays import BarArrays, Floats
from tapeline.charts.confluence import confluence
from tapeline.charts.context_tags import liquidity_volatility_context, name_liquidity
from tapeline.charts.ichimoku import ichimoku_state
from tapeline.charts.levels import nearest_levels
from tapeline.charts.pivot_points import swing_pivots
from tapeline.charts.scan import choose, scan
from tapeline.charts.structure import find_breaks
from tapeline.charts.supertrend import supertrend_consensus
from tapeline.charts.supply_demand import nearest_zones
from tapeline.charts.swings import find_swings
from tapeline.charts.vwap_bands import vwap_place
from tapeline.core.errors import DataError
from tapeline.core.registry import Component, component_of
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.features.sessions import forex_sessions
from tapeline.features.trend_context import trend_context
from tapeline.features.trending_regime import name_trend, trending_regime
from tapeline.features.volatility_regime import name_levels

DETECTORS: Final = (
    "break_of_structure", "change_of_character", "fair_value_gap", "harmonic_pattern", "reversal_pattern",
    "liquidity_sweep", "order_block", "wolfe_wave",
)  # fmt: skip
"""Detectors whose findings are counted in ``bullish`` and ``bearish`` where nothing else is asked for."""

REACH: Final = 5
MEMORY: Final = 2_600
"""Bars that decide a state: the widest lookback of its parts, and what a finding may still stand for."""

_PARTS: Final[Mapping[str, Any]] = {
    "trend": trend_context,
    "regime": trending_regime,
    "context": liquidity_volatility_context,
    "levels": nearest_levels,
    "zones": nearest_zones,
    "swings": swing_pivots,
    "cloud": ichimoku_state,
    "supertrend": supertrend_consensus,
    "vwap": vwap_place,
    "sessions": forex_sessions,
}


@dataclass(frozen=True)
class MarketState:
    """What one market is at one bar's close.

    Parameters
    ----------
    symbol, timeframe, ts, known_at:
        Which bar: its open, and its close, at which the state was known.
    regime, volatility, liquidity, structure, session:
        In words: ``trending up``, ``trending down``, ``sideways``; ``low`` to ``extreme``; ``thin``, ``normal``,
        ``deep``; ``rising``, ``falling`` (by the last break of structure); the cities that trade, such as
        ``london, new_york``. Empty where unknown.
    numbers:
        Every number of the record by its column name; NaN where unknown.
    """

    symbol: Symbol
    timeframe: Timeframe
    ts: pd.Timestamp
    known_at: pd.Timestamp
    regime: str
    volatility: str
    liquidity: str
    structure: str
    session: str
    numbers: Mapping[str, float]

    def __str__(self) -> str:
        words = [self.regime, f"volatility {self.volatility}", f"liquidity {self.liquidity}"]
        words.append(f"structure {self.structure}")
        sides = f"{self.numbers['bullish']:.0f} for, {self.numbers['bearish']:.0f} against"
        return f"{self.symbol} {self.timeframe} {self.ts:%Y-%m-%d %H:%M}: {', '.join(words)}; findings {sides}"


def components() -> tuple[Component, ...]:
    """The registered features that a state is made of."""
    return tuple(component_of(function) for function in _PARTS.values())


def market_states(bars: pd.DataFrame, detectors: Sequence[str] = DETECTORS) -> pd.DataFrame:
    """The state of each bar: one row of numbers and words, by what was known at its close.

    Parameters
    ----------
    bars:
        Bars of one symbol with ``close_ts``; ``spread`` and ``depth`` are read where they are there.
    detectors:
        Whose standing findings are counted.

    Returns
    -------
    On the bars' index: the columns of trend, regime, liquidity and volatility, levels, zones, swings, Ichimoku,
    SuperTrend and VWAP as their features give them; ``structure`` (the direction of the last break of structure, 0
    before the first), ``dealing_place`` (the close's place between the last swing low and high: below 0.5 discount,
    above it premium), ``bullish``, ``bearish``, ``agreement``, ``conflict`` (:func:`tapeline.charts.confluence`), and
    the words ``regime``, ``volatility``, ``liquidity``, ``structure_name``, ``session``, ``known_at``.

    Examples
    --------
    >>> from tapeline.charts.synthetic import random_walk
    >>> states = market_states(random_walk(900, seed=1))
    >>> states["regime"].iloc[-1] in ("trending up", "trending down", "sideways"), len(states)
    (True, 900)
    """
    arrays = BarArrays.of(bars)
    parts = {name: function(bars) for name, function in _PARTS.items()}
    numbers = pd.concat([part for name, part in parts.items() if name != "sessions"], axis=1)
    together = confluence(scan(arrays, choose(detectors)), arrays)
    structure = _structure(arrays)
    swings = parts["swings"]
    span = swings["swing_high_distance"] + swings["swing_low_distance"]
    place = (swings["swing_low_distance"] / span.where(span > 0)).to_numpy(dtype=np.float64)
    cities = parts["sessions"][["sydney", "tokyo", "london", "new_york"]]
    return numbers.assign(
        structure=structure,
        dealing_place=place,
        **{name: together[name] for name in ("bullish", "bearish", "agreement", "conflict")},
        regime=name_trend(parts["regime"]),
        volatility=name_levels(parts["context"]["volatility_level"]),
        liquidity=name_liquidity(parts["context"]["liquidity_level"]),
        structure_name=np.select([structure > 0, structure < 0], ["rising", "falling"], ""),
        session=_sessions(cities),
        known_at=bars["close_ts"],
    )


def _structure(arrays: BarArrays) -> Floats:
    """The direction of the last break of structure or change of character by bar."""
    breaks = find_breaks(arrays, arrays.once(find_swings, "fractal", left=REACH, right=REACH))
    result = np.zeros(len(arrays))
    result[breaks.row] = breaks.direction
    last = np.maximum.accumulate(np.where(result != 0, np.arange(result.size), 0)) if result.size else np.empty(0, int)
    return result[last]


def _sessions(cities: pd.DataFrame) -> np.ndarray:
    names = np.array(cities.columns, dtype=object)
    codes = (cities.to_numpy() > 0) @ (1 << np.arange(names.size))
    words = np.array(
        [", ".join(names[(code >> np.arange(names.size)) % 2 == 1]) for code in range(1 << names.size)], dtype=object
    )
    return words[codes]


def state_records(states: pd.DataFrame, symbol: Symbol, timeframe: Timeframe) -> list[MarketState]:
    """Rows of :func:`market_states` as records.

    Raises
    ------
    DataError
        The frame lacks a column of a state.
    """
    words = ("regime", "volatility", "liquidity", "structure_name", "session", "known_at")
    lacking = [name for name in words if name not in states.columns]
    if lacking:
        raise DataError(f"these are no states, {lacking} are missing", hint="market_states(bars) gives them")
    numbers = states.drop(columns=list(words))
    told = {name: ["" if value is None or value is np.nan else value for value in states[name]] for name in words}
    return [
        MarketState(
            symbol=symbol,
            timeframe=timeframe,
            ts=pd.Timestamp(states.index[place]),
            known_at=pd.Timestamp(told["known_at"][place]),
            regime=told["regime"][place],
            volatility=told["volatility"][place],
            liquidity=told["liquidity"][place],
            structure=told["structure_name"][place],
            session=told["session"][place],
            numbers={str(name): float(value) for name, value in row.items()},
        )
        for place, row in enumerate(numbers.to_dict("records"))
    ]


class StateStream:
    """The state of one market at each new bar, by the same function as on history.

    Parameters
    ----------
    symbol, timeframe:
        Of the bars.
    history:
        Bars before the first one that is pushed; with fewer than ``MEMORY`` the first states know less.
    detectors:
        As in :func:`market_states`.

    Examples
    --------
    >>> from tapeline.charts.synthetic import random_walk
    >>> bars = random_walk(700, seed=1)
    >>> stream = StateStream(Symbol.parse("EURUSD"), Timeframe.parse("M1"), bars.iloc[:-1])
    >>> stream.push(bars.iloc[[-1]]).ts == bars.index[-1]
    True
    """

    def __init__(
        self, symbol: Symbol, timeframe: Timeframe, history: pd.DataFrame, detectors: Sequence[str] = DETECTORS
    ) -> None:
        self.symbol, self.timeframe = symbol, timeframe
        self.detectors = tuple(detectors)
        self._bars = history.iloc[-MEMORY:]

    def push(self, bar: pd.DataFrame) -> MarketState:
        """Take the next closed bar, a frame of one row; the state at its close.

        Raises
        ------
        DataError
            It does not come after the last one.
        """
        if len(bar) != 1 or (len(self._bars) and bar.index[0] <= self._bars.index[-1]):
            last = self._bars.index[-1] if len(self._bars) else "none"
            raise DataError(
                f"{len(bar)} bars from {bar.index.min()} on are not the one after {last}",
                hint="feed closed bars by time, each once",
            )
        self._bars = pd.concat([self._bars.iloc[-(MEMORY - 1) :], bar])
        states = market_states(self._bars, self.detectors)
        return state_records(states.iloc[[-1]], self.symbol, self.timeframe)[0]
