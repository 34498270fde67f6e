"""Time as numbers that a model can read: Time2Vec, positions in a sequence, places in the calendar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import feature
from tapeline.features.arrays import Floats, frame

_DAY_NANOSECONDS = 86_400_000_000_000


@dataclass(frozen=True)
class Time2Vec:
    """Time2Vec of Kazemi et al. (arXiv:1907.05321, 2019): one linear term and a sine for each further frequency.

    Element 0 is ``frequency[0] * tau + phase[0]``, element ``i`` is ``sin(frequency[i] * tau + phase[i])``.

    Parameters
    ----------
    frequency, phase:
        ``(k + 1,)`` each, as a network has learned them, or as :meth:`of_periods` sets them.

    Raises
    ------
    ConfigurationError
        The two differ in length, are empty or hold a number that is not finite.

    Examples
    --------
    >>> Time2Vec(np.array([0.5, np.pi / 2]), np.array([1.0, 0.0])).encode([0.0, 1.0]).tolist()
    [[1.0, 0.0], [1.5, 1.0]]
    """

    frequency: Floats
    phase: Floats

    def __post_init__(self) -> None:
        frequency, phase = np.asarray(self.frequency, dtype=np.float64), np.asarray(self.phase, dtype=np.float64)
        if frequency.ndim != 1 or frequency.shape != phase.shape or not frequency.size:
            raise ConfigurationError(f"{frequency.shape} frequencies and {phase.shape} phases do not belong together")
        if not (np.isfinite(frequency).all() and np.isfinite(phase).all()):
            raise ConfigurationError("a frequency or a phase is not finite")
        object.__setattr__(self, "frequency", frequency)
        object.__setattr__(self, "phase", phase)

    @classmethod
    def of_periods(cls, periods: Sequence[float], *, linear: float = 0.0) -> Time2Vec:
        """Fixed frequencies: of each period (in the unit of tau) a sine and a cosine, after the linear term.

        Examples
        --------
        >>> Time2Vec.of_periods([4.0]).encode([1.0]).round(9).tolist()
        [[0.0, 1.0, 0.0]]
        """
        if not all(np.isfinite(period) and period > 0 for period in periods):
            raise ConfigurationError(f"periods = {list(periods)} must be positive numbers")
        turns = [2.0 * np.pi / period for period in periods for _ in range(2)]
        return cls(np.array([linear, *turns]), np.array([0.0, *([0.0, np.pi / 2] * len(periods))]))

    def encode(self, tau: ArrayLike) -> Floats:
        """The encoding of each time, ``(n, k + 1)``.

        Keep ``tau`` near 0 (hours since a fixed Monday, bars into a window): the linear term grows with it.
        """
        angle = np.asarray(tau, dtype=np.float64).reshape(-1, 1) * self.frequency + self.phase
        angle[:, 1:] = np.sin(angle[:, 1:])
        return angle


def hours_since(index: pd.DatetimeIndex, origin: str = "2000-01-03") -> Floats:
    """Hours from ``origin`` (UTC; a Monday, so that periods of days and weeks begin with them) to each instant.

    Examples
    --------
    >>> hours_since(pd.DatetimeIndex(["2000-01-04 06:00"], tz="UTC")).tolist()
    [30.0]
    """
    return (index.as_unit("ns").asi8 - pd.Timestamp(origin, tz="UTC").value) / 3.6e12


def positional_encoding(length: int, channels: int, *, base: float = 10_000.0) -> Floats:
    """The sinusoidal positions of Vaswani et al., Attention Is All You Need (2017), section 3.5.

    An array ``(length, channels)``: channel ``2i`` of position ``p`` is ``sin(p / base ** (2i / channels))``, channel
    ``2i + 1`` the cosine.

    Raises
    ------
    ConfigurationError
        A length below 0, a number of channels below 2 or odd, or a base not above 1.

    Examples
    --------
    >>> positional_encoding(2, 4).round(4).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.8415, 0.5403, 0.01, 1.0]]
    """
    if length < 0 or channels < 2 or channels % 2 or not base > 1:
        raise ConfigurationError(
            f"length = {length} must be 0 at least, channels = {channels} even and 2 at least, base = {base} above 1"
        )
    angle = np.arange(length)[:, None] / base ** (np.arange(0, channels, 2) / channels)
    result = np.empty((length, channels))
    result[:, 0::2], result[:, 1::2] = np.sin(angle), np.cos(angle)
    return result


@feature(
    lookback=1,
    outputs=tuple(f"{name}_{part}" for name in ("week", "month", "year") for part in ("sine", "cosine")),
    reference="Hyndman, Forecasting, 3rd ed., section 7.4: Fourier terms of the seasons",
)
def calendar_encoding(bars: pd.DataFrame) -> pd.DataFrame:
    """The place in the week, the month and the year (UTC) as points on circles, each coordinate -1 to 1.

    To the nanosecond of the bar's open, not to the day: the last hour of a month lies beside the first of the next,
    whatever the month's length. A week begins on Monday. The hour of the day is a feature of its own.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> calendar_encoding(example_bars(10, start="2017-01-16 12:00")).round(3).iloc[0].tolist()
    [0.434, 0.901, 0.0, -1.0, 0.264, 0.965]
    """
    index = pd.DatetimeIndex(bars.index)
    stamps = index.as_unit("ns").asi8
    day = (stamps % _DAY_NANOSECONDS) / _DAY_NANOSECONDS
    whole_days = stamps // _DAY_NANOSECONDS
    shares = {
        # 1970-01-01 was a Thursday.
        "week": ((whole_days + 3) % 7 + day) / 7.0,
        "month": (index.day.to_numpy() - 1 + day) / index.days_in_month.to_numpy(),
        "year": (index.day_of_year.to_numpy() - 1 + day) / np.where(index.is_leap_year, 366.0, 365.0),
    }
    parts = {}
    for name, share in shares.items():
        angle = 2.0 * np.pi * share
        parts[f"{name}_sine"], parts[f"{name}_cosine"] = np.sin(angle), np.cos(angle)
    return frame(bars, **parts)
