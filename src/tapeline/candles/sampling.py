"""When to look next: a sampling interval that shortens with volatility and tick rate and lengthens in quiet."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numba import njit

from tapeline.candles.candle_type import require, require_count, require_positive
from tapeline.candles.records import Floats, Integers, Records, TickPrice, records_from
from tapeline.core.errors import ConfigurationError, DataError

MAXIMUM_SAMPLES: Final = 10_000_000
"""Samples that one call may take: a single wrong time stamp must not fill the memory."""

PHASES: Final = 8
"""Shifts of the fixed grid over which its loss is averaged."""

_FORMAT: Final = 1
_NEXT, _INTERVAL, _TICKS, _LONGER, _STARTED, _LAST_TS = range(6)
_PRICE, _SQUARES, _VARIANCE, _RATE, _USUAL_VARIANCE, _USUAL_RATE = range(6)


class Sample(NamedTuple):
    """Samples in the order taken: instants (ns, UTC), the last price known then, and the interval chosen next (ns)."""

    ts: Integers
    price: Floats
    interval: Integers


class SamplingController:
    """Choose the interval to the next sample from what has been seen since the last one.

    At a sample, with d the seconds since the last, the variance rate is the sum of squared price changes over d and
    the tick rate the ticks over d. Both enter exponentially weighted means in time, a fast one and a slow one (weight
    d / (tau + d)). The activity is ``sqrt(variance ratio * tick ratio) ** 0.5`` with ratios fast over slow: the tick
    rate answers before the variance does, and variance grows in proportion to trades (Clark 1973). The wanted interval
    is ``base / activity``. That is the allocation which, for a given number of samples, makes the mean squared
    distance between price and last sample least: over an interval d that distance is v d / 2, the number of samples
    is the integral of 1 / d, and with a Lagrange multiplier d is proportional to ``v ** -0.5``.

    The wanted interval is bounded, and hysteresis keeps it from flapping: it must leave the current one by more than
    ``hysteresis``; a shorter interval is taken at once, a longer one only after ``patience`` samples that ask for it,
    and then at most twice as long.

    Parameters
    ----------
    base:
        Seconds between samples at usual activity.
    shortest, longest:
        Bounds in seconds.
    fast, slow:
        Time constants in seconds of what is now and of what is usual.
    hysteresis:
        The relative change that is ignored.
    patience:
        Samples that must ask for a longer interval.

    Raises
    ------
    ConfigurationError
        A parameter is out of its bounds.
    """

    def __init__(
        self,
        base: float = 10.0,
        *,
        shortest: float = 1.0,
        longest: float = 120.0,
        fast: float = 60.0,
        slow: float = 28_800.0,
        hysteresis: float = 0.1,
        patience: int = 2,
    ) -> None:
        given = {"base": base, "shortest": shortest, "longest": longest, "fast": fast, "slow": slow}
        for name, value in given.items():
            require_positive(self, name, value)
        require(1e-6 <= shortest <= base <= longest <= 86_400, self, "base", base, "between shortest and longest")
        require(fast <= slow, self, "fast", fast, f"at most slow ({slow})")
        require(0.0 <= hysteresis <= 10.0, self, "hysteresis", hysteresis, "from 0 to 10")
        require_count(self, "patience", patience, 1, 1_000_000)
        self._parameters: dict[str, Any] = {**given, "hysteresis": hysteresis, "patience": patience}
        self._floats, self._integers = np.zeros(6), np.zeros(6, dtype=np.int64)
        self._integers[_INTERVAL] = round(base * 1e9)
        self._integers[_LAST_TS] = -(2**62)

    @property
    def interval(self) -> pd.Timedelta:
        """The interval to the next sample."""
        return pd.Timedelta(int(self._integers[_INTERVAL]), unit="ns")

    def update(self, ticks: pd.DataFrame | Records, *, price: TickPrice = "mid") -> Sample:
        """Take the samples that fall before the last of these ticks.

        A sample at an instant holds the last price at or before it. Chunks give the same samples as one batch.

        Raises
        ------
        SchemaError, DataError
            As :func:`~tapeline.candles.records.records_from`; DataError where ticks go back in time or a gap would
            take more than ``MAXIMUM_SAMPLES`` samples.
        """
        records = ticks if isinstance(ticks, Records) else records_from(ticks, price=price)
        if not records.ts.size:
            return Sample(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
        if records.ts[0] < self._integers[_LAST_TS]:
            raise DataError(f"ticks go back in time at {np.datetime64(int(records.ts[0]), 'ns')}Z")
        options = self._parameters
        shortest = round(options["shortest"] * 1e9)
        since = self._integers[_NEXT] if self._integers[_STARTED] else records.ts[0]
        # No sample may be due for several of the shortest intervals: then none falls in this chunk.
        capacity = max(int((records.ts[-1] - since) // shortest), 0) + 2
        floats, integers = self._floats.copy(), self._integers.copy()
        stamps, prices, intervals, count = _sample(
            records.ts,
            records.close,
            floats,
            integers,
            np.array([options[name] * 1e9 for name in ("base", "shortest", "longest", "fast", "slow")]),
            options["hysteresis"],
            options["patience"],
            min(capacity, MAXIMUM_SAMPLES + 1),
        )
        if count > MAXIMUM_SAMPLES:
            raise DataError(
                f"these ticks span more than {MAXIMUM_SAMPLES} samples",
                hint="check the time stamps, or give smaller chunks",
            )
        self._floats, self._integers = floats, integers
        return Sample(stamps[:count].copy(), prices[:count].copy(), intervals[:count].copy())

    def state(self) -> dict[str, Any]:
        """Everything the controller knows, as plain JSON values."""
        return {
            "format": _FORMAT,
            "parameters": dict(self._parameters),
            "floats": [float(value).hex() for value in self._floats],
            "integers": [int(value) for value in self._integers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state of a controller with the same parameters; others raise ConfigurationError."""
        if state.get("format") != _FORMAT or state.get("parameters") != self._parameters:
            raise ConfigurationError(f"the state is of {state.get('parameters')}, not of {self._parameters}")
        try:
            floats = np.array([float.fromhex(text) for text in state["floats"]])
            integers = np.array(state["integers"], dtype=np.int64)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"the sampling state is damaged: {error}") from None
        if floats.shape != (6,) or integers.shape != (6,):
            raise DataError(f"the sampling state is damaged: {floats.size} floats and {integers.size} integers")
        self._floats, self._integers = floats, integers


def fixed_samples(ticks: Records, interval: float, *, phase: float = 0.0) -> Sample:
    """Samples at the first tick, then at a fixed interval in seconds; ``phase`` (0 to 1) shifts all but the first."""
    step = round(interval * 1e9)
    stamps = np.arange(ticks.ts[0], ticks.ts[-1], step, dtype=np.int64)
    stamps[1:] -= round(phase * step)
    position = np.searchsorted(ticks.ts, stamps, side="right") - 1
    return Sample(stamps, ticks.close[position], np.full(stamps.size, step))


def information_loss(ticks: Records, samples: Sample) -> float:
    """What was missed between samples: the root of the time-weighted mean squared distance, in units of price.

    The distance at an instant is that between the last tick's price and the last sample's; it is taken from the first
    sample to the last tick.

    Examples
    --------
    >>> ts = pd.to_datetime(["2017-01-02 00:00:00", "2017-01-02 00:00:05", "2017-01-02 00:00:20"], utc=True)
    >>> ticks = records_from(pd.DataFrame({"last": [1.0, 3.0, 3.0]}, index=ts), price="last")
    >>> information_loss(ticks, fixed_samples(ticks, 10.0))
    1.0
    """
    total, seconds = _squared_distance(ticks.ts, ticks.close, samples.ts, samples.price)
    return float(np.sqrt(total / seconds)) if seconds > 0 else 0.0


def saving(ticks: Records, samples: Sample) -> tuple[float, float]:
    """The share of samples saved against fixed sampling at equal information loss, and that fixed interval in seconds.

    What fixed sampling loses depends on where in its interval a jump falls; its squared loss is therefore the mean over
    ``PHASES`` shifts of the grid. The interval is found by bisection.

    Raises
    ------
    DataError
        There are fewer than two samples, or they lose nothing: there is nothing to compare.
    """
    loss = information_loss(ticks, samples)
    if samples.ts.size < 2 or loss == 0.0:
        raise DataError(f"{samples.ts.size} samples with a loss of {loss} cannot be compared", hint="give more ticks")
    span = (ticks.ts[-1] - ticks.ts[0]) / 1e9
    low, high = span / samples.ts.size / 16.0, min(span, span / samples.ts.size * 16.0)
    for _ in range(20):
        middle = (low * high) ** 0.5
        squares = [information_loss(ticks, fixed_samples(ticks, middle, phase=j / PHASES)) ** 2 for j in range(PHASES)]
        if sum(squares) / PHASES <= loss**2:
            low = middle
        else:
            high = middle
    return 1.0 - samples.ts.size / (span / low), low


@njit(cache=True)
def _sample(
    ts: Integers,
    price: Floats,
    floats: Floats,
    integers: Integers,
    spans: Floats,
    hysteresis: float,
    patience: int,
    capacity: int,
) -> tuple[Integers, Floats, Integers, int]:
    stamps, prices, intervals = np.empty(capacity, np.int64), np.empty(capacity), np.empty(capacity, np.int64)
    base, shortest, longest, fast, slow = spans
    count = 0
    for i in range(ts.size):
        if integers[_STARTED] == 0:
            integers[_STARTED], integers[_NEXT] = 1, ts[i]
            floats[_PRICE] = price[i]
        # A tick at the very instant of a sample is still seen by it; the sample is certain once a later tick is here.
        while integers[_NEXT] < ts[i]:
            if count == capacity:
                return stamps, prices, intervals, capacity
            now = integers[_NEXT]
            _decide(floats, integers, base, shortest, longest, fast, slow, hysteresis, patience)
            stamps[count], prices[count], intervals[count] = now, floats[_PRICE], integers[_INTERVAL]
            integers[_NEXT] = now + integers[_INTERVAL]
            count += 1
        change = price[i] - floats[_PRICE]
        floats[_SQUARES] += change * change
        floats[_PRICE] = price[i]
        integers[_TICKS] += 1
        integers[_LAST_TS] = ts[i]
    return stamps, prices, intervals, count


@njit(cache=True)
def _decide(
    floats: Floats,
    integers: Integers,
    base: float,
    shortest: float,
    longest: float,
    fast: float,
    slow: float,
    hysteresis: float,
    patience: int,
) -> None:
    """Take what was seen since the last sample into the means and set the interval to the next."""
    current = float(integers[_INTERVAL])
    variance, rate = floats[_SQUARES] / current, integers[_TICKS] / current
    floats[_SQUARES], integers[_TICKS] = 0.0, 0
    if floats[_USUAL_RATE] == 0.0 or floats[_USUAL_VARIANCE] == 0.0:
        # Until something has moved there is nothing usual to compare with.
        floats[_VARIANCE], floats[_RATE] = variance, rate
        floats[_USUAL_VARIANCE], floats[_USUAL_RATE] = variance, rate
        return
    quick, steady = current / (fast + current), current / (slow + current)
    floats[_VARIANCE] += quick * (variance - floats[_VARIANCE])
    floats[_RATE] += quick * (rate - floats[_RATE])
    floats[_USUAL_VARIANCE] += steady * (variance - floats[_USUAL_VARIANCE])
    floats[_USUAL_RATE] += steady * (rate - floats[_USUAL_RATE])
    product = (floats[_VARIANCE] / floats[_USUAL_VARIANCE]) * (floats[_RATE] / floats[_USUAL_RATE])
    activity = np.sqrt(np.sqrt(product))
    wanted = longest if activity * longest <= base else max(base / activity, shortest)
    if wanted < current / (1.0 + hysteresis):
        integers[_LONGER] = 0
        integers[_INTERVAL] = round(wanted)
    elif wanted > current * (1.0 + hysteresis):
        integers[_LONGER] += 1
        if integers[_LONGER] >= patience:
            integers[_LONGER] = 0
            integers[_INTERVAL] = round(min(wanted, 2.0 * current))
    else:
        integers[_LONGER] = 0


@njit(cache=True)
def _squared_distance(ts: Integers, price: Floats, at: Integers, held: Floats) -> tuple[float, float]:
    total, seconds = 0.0, 0.0
    i, j = 0, 0
    now = at[0] if at.size else 0
    end = ts[-1]
    while j < at.size and now < end:
        while i + 1 < ts.size and ts[i + 1] <= now:
            i += 1
        while j + 1 < at.size and at[j + 1] <= now:
            j += 1
        until = end
        if i + 1 < ts.size:
            until = min(until, ts[i + 1])
        if j + 1 < at.size:
            until = min(until, at[j + 1])
        elapsed = (until - now) * 1e-9
        distance = price[i] - held[j]
        total += distance * distance * elapsed
        seconds += elapsed
        now = until
    return total, seconds
