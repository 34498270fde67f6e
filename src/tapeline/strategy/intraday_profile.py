"""What spread, movement and volume are usual at a time of day, by the days before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tapeline.cleaning.volume_profile import DAY_MINUTES, time_slots
from tapeline.core.errors import ConfigurationError, DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class IntradayProfile:
    """The shape of the trading day as it was known by the end of each day.

    Parameters
    ----------
    spread:
        Half of ask less bid as a share of the close: the median over the days, by local day (a count since 1970) and
        slot of it; NaN where too few days are known.
    volatility:
        Standard deviation of the log return of one bar from open to close: root mean square over the days.
    volume:
        Of one bar: the median over the days.
    slot_minutes, zone:
        The slots.
    """

    spread: pd.DataFrame
    volatility: pd.DataFrame
    volume: pd.DataFrame
    slot_minutes: int
    zone: str

    def usual(self, known_at: pd.DatetimeIndex, times: pd.DatetimeIndex) -> tuple[Floats, Floats, Floats]:
        """Spread, volatility and volume at ``times`` by the local days before that of ``known_at``, pair by pair.

        Examples
        --------
        >>> from tapeline.core.example import example_bars
        >>> profile = learn_profile(example_bars(*[100.0] * 72), minimum=2)
        >>> now = pd.DatetimeIndex(["2017-01-04 00:00", "2017-01-04 00:00"], tz="UTC")
        >>> profile.usual(now, now + pd.to_timedelta(["1h", "5h"]))[2].tolist()
        [14.0, 18.0]
        """
        known, _ = _day_and_slot(known_at, self.slot_minutes, self.zone)
        _, slots = _day_and_slot(times, self.slot_minutes, self.zone)
        rows = np.searchsorted(self.volume.index.to_numpy(), known, side="left") - 1
        places = self.volume.columns.get_indexer(pd.Index(slots))
        seen = (rows >= 0) & (places >= 0)
        found = []
        for frame in (self.spread, self.volatility, self.volume):
            values = np.full(len(times), np.nan)
            values[seen] = frame.to_numpy()[rows[seen], places[seen]]
            found.append(values)
        return found[0], found[1], found[2]


def learn_profile(
    bars: pd.DataFrame,
    half_spread: ArrayLike = (),
    *,
    days: int = 20,
    minimum: int = 5,
    slot_minutes: int = 60,
    zone: str = "UTC",
) -> IntradayProfile:
    """The profile after each day of bars; what it says of a day, the days before it said.

    Spread, volume and volatility have the shape of the day (Admati and Pfleiderer, Review of Financial Studies 1, 1988;
    Andersen and Bollerslev, Journal of Empirical Finance 4, 1997).

    Parameters
    ----------
    bars:
        Sorted, with ``open``, ``close`` and ``volume``.
    half_spread:
        Half of ask less bid in price, one for all bars or one a bar; none: it counts as 0.
    days:
        Latest days with bars that are remembered.
    minimum:
        Days in which a slot must have had bars.
    slot_minutes, zone:
        Of :func:`tapeline.cleaning.volume_profile.time_slots`; a bar belongs to the slot it opens in.

    Raises
    ------
    ConfigurationError
        The slots do not divide the day, the zone is unknown, or ``minimum`` is not within 1 and ``days``.
    DataError
        The bars are not sorted, or the spreads are not one a bar.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> profile = learn_profile(example_bars(*[100.0] * 72), np.repeat([0.1, 0.3, 0.2], 24), minimum=2)
    >>> profile.spread[5].tolist()
    [nan, 0.002, 0.002]
    """
    if not 1 <= minimum <= days:
        raise ConfigurationError(f"minimum = {minimum} is not within 1 and days = {days}")
    spread = np.atleast_1d(np.asarray(half_spread, dtype=np.float64))
    if spread.size not in (0, 1, len(bars)) or (spread < 0).any():
        raise DataError(f"half_spread has {spread.size} values or one below 0; it needs 1 or {len(bars)}")
    slots, day = time_slots(bars.index, slot_minutes, zone)
    close = bars["close"].to_numpy(dtype=np.float64)
    rows = pd.DataFrame(
        {
            "day": day,
            "slot": slots,
            "spread": (spread if spread.size else 0.0) / close,
            "square": np.log(close / bars["open"].to_numpy(dtype=np.float64)) ** 2,
            "volume": bars["volume"].to_numpy(dtype=np.float64),
        }
    )
    by_day = rows.pivot_table(index="day", columns="slot", values=["spread", "square", "volume"], aggfunc="mean")
    recent = by_day.rolling(days, min_periods=minimum)
    middle = recent.median()
    return IntradayProfile(
        pd.DataFrame(middle["spread"]),
        pd.DataFrame(np.sqrt(recent.mean()["square"])),
        pd.DataFrame(middle["volume"]),
        slot_minutes,
        zone,
    )


def _day_and_slot(times: pd.DatetimeIndex, slot_minutes: int, zone: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    local = times.tz_convert(zone).tz_localize(None).as_unit("ns").asi8 // 60_000_000_000
    day = local // DAY_MINUTES
    return day, (local - day * DAY_MINUTES) // slot_minutes
