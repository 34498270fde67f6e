"""Cycles: how long the dominant one is, how much stands behind it, and where in it price is.

All of it from a bounded window of the past: Ehlers' Hilbert transform and MESA as TA-Lib computes them remember their
start for thousands of bars.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.cleaning.smoothers import super_smoother
from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import STILL, Floats, columns, frame, log_changes
from tapeline.features.cycle_kernels import (
    autocorrelation_periodogram,
    high_pass,
    rolling_lomb_scargle,
    wave_at_the_end,
)

ROUNDED = Tolerance(relative=1e-6, absolute=1e-6)
Shortest = Annotated[int, Field(ge=6, le=500)]
Longest = Annotated[int, Field(ge=12, le=1000)]

PERIODS = 40
"""Trial periods of the periodogram, in equal ratios from 3/4 of the shortest to 1.3 times the longest."""

CYCLES = 2.0
"""Periods that the wave at the window's end is fitted to: one cannot be told from a bent line."""

LOMB_FREQUENCIES = 125
"""Trial frequencies at most; fewer where the window tells fewer apart, two for each."""


def _lookback(longest: int) -> int:
    # The high-pass filter has forgotten its start after 8 of its periods: exp(-30) is left.
    return 8 * longest + longest + _lags(longest) + 1


@feature(
    lookback=lambda longest: _lookback(longest),
    outputs=(
        "cycle_period_{longest}",
        "cycle_power_{longest}",
        "cycle_entropy_{longest}",
        "cycle_signal_to_noise_{longest}",
    ),
    reference="Ehlers, Cycle Analytics for Traders (2013), chapter 8: the autocorrelation periodogram",
    tolerance=ROUNDED,
    delay=lambda longest: longest / 2,
)
def cycle_strength(bars: pd.DataFrame, shortest: Shortest = 8, longest: Longest = 48) -> pd.DataFrame:
    """The dominant cycle of price: its period, and three answers to how much there is to it.

    The log close goes through Ehlers' roofing filter (waves between ``shortest`` and ``longest`` bars pass); the
    autocorrelations of the last ``longest`` values, over lags up to one and a half times that, are transformed to
    power by period. Without Ehlers' smoothing and gain control, whose memory has no end.

    Returns
    -------
    The period in bars, up to 1.3 times ``longest``: of a pure wave within 6 percent. The power: the share of all power
    within a fifth of that period. The entropy of the power over periods, 0 (one wave) to 1 (none stands out). The
    signal to noise in decibels, -40 to 40: the wave of that period fitted to the last two cycles of the log close,
    against what it and a straight line leave. NaN where price has stood still.

    Notes
    -----
    The filter lets noise through as waves, so that a random walk too has a period, and some 0 decibels: compare with
    what the instrument usually has.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": np.exp(0.01 * np.sin(2 * np.pi * np.arange(600) / 15))})
    >>> cycle_strength(bars).iloc[-1].round(1).tolist()
    [15.0, 0.9, 0.5, 40.0]
    """
    period, power, entropy = _dominant(bars, shortest, longest)
    _, _, share = _wave(bars, period, longest)
    with np.errstate(divide="ignore", invalid="ignore"):
        decibels = np.clip(10.0 * np.log10(share / (1.0 - share)), -40.0, 40.0)
    return frame(
        bars,
        **{
            f"cycle_period_{longest}": period,
            f"cycle_power_{longest}": power,
            f"cycle_entropy_{longest}": entropy,
            f"cycle_signal_to_noise_{longest}": decibels,
        },
    )


@feature(
    lookback=lambda longest: _lookback(longest) + 1,
    outputs=(
        "cycle_sine_{longest}",
        "cycle_cosine_{longest}",
        "cycle_rate_{longest}",
        "cycle_confidence_{longest}",
    ),
    reference="Ehlers, Cycle Analytics for Traders (2013), chapters 8 and 14; the phase by least squares, as Lomb, "
    "Astrophysics and Space Science 39 (1976)",
    tolerance=ROUNDED,
)
def cycle_phase(bars: pd.DataFrame, shortest: Shortest = 8, longest: Longest = 48) -> pd.DataFrame:
    """Where price is in its dominant cycle: the phase as sine and cosine, its rate, and how far to trust it.

    The wave of the period of :func:`cycle_strength` is fitted, with a straight line, to the last two cycles of the
    log close; the phase is that of the wave at the current bar, without the delay of a filter.

    Returns
    -------
    The sine: 1 at the crest, -1 at the trough. The cosine: 1 where the wave rises through its middle. The rate: cycles
    a bar since the bar before, -0.5 to 0.5; one over the period in a steady wave, off it where the phase is being
    revised. The confidence, 0 to 1: the share of what the straight line leaves that the wave explains; about 0.5 in a
    random walk. NaN where price has stood still, the rate also one bar after.

    Examples
    --------
    >>> t = np.arange(600)
    >>> bars = pd.DataFrame({"close": np.exp(0.01 * np.sin(2 * np.pi * (t - 599 + 5) / 20) + 1e-5 * t)})
    >>> cycle_phase(bars).iloc[-1].round(2).abs().tolist()
    [1.0, 0.02, 0.05, 1.0]
    """
    period, _, _ = _dominant(bars, shortest, longest)
    rising, falling, share = _wave(bars, period, longest)
    size = np.hypot(rising, falling)
    with np.errstate(invalid="ignore", divide="ignore"):
        sine, cosine = np.where(size > 0.0, rising / size, np.nan), np.where(size > 0.0, falling / size, np.nan)
    turned = np.full(sine.size, np.nan)
    turned[1:] = np.arctan2(
        sine[1:] * cosine[:-1] - cosine[1:] * sine[:-1], cosine[1:] * cosine[:-1] + sine[1:] * sine[:-1]
    )
    return frame(
        bars,
        **{
            f"cycle_sine_{longest}": sine,
            f"cycle_cosine_{longest}": cosine,
            f"cycle_rate_{longest}": turned / (2.0 * np.pi),
            f"cycle_confidence_{longest}": share,
        },
    )


@feature(
    lookback=lambda window: window + 1,
    outputs=("lomb_period_{window}", "lomb_power_{window}", "lomb_chance_{window}"),
    requires=("close_ts",),
    reference="Lomb, Astrophysics and Space Science 39 (1976); Scargle, Astrophysical Journal 263 (1982); with a free "
    "mean as Zechmeister and Kuerster, Astronomy and Astrophysics 496 (2009)",
    tolerance=ROUNDED,
    delay=lambda window: (window - 1) / 2,
)
def lomb_wave(bars: pd.DataFrame, window: Annotated[int, Field(ge=32, le=4096)] = 128) -> pd.DataFrame:
    """The strongest wave in the last ``window`` log returns by the clock, nights and weekends counted as time.

    The Fourier transform takes a Monday's first bar for the neighbour of a Friday's last; Lomb and Scargle's
    periodogram fits each wave at the times at which the bars stand.

    Returns
    -------
    The period in bars of full length, from 4 to half the window: one of up to 125 at equal steps of frequency, half as
    long as what the window tells apart (up to 250 bars). The power: the share of the returns' variance that the wave
    explains, 0 to 1. The chance that noise would give as much at any of them, 0 to 1. NaN where price has stood still.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> wave = 10.0 + np.cumsum(np.sin(2.0 * np.pi * np.arange(200) / 32.0))
    >>> lomb_wave(example_bars(*(wave + 100.0)), window=64).iloc[-1].round(1).tolist()
    [32.0, 1.0, 0.0]
    """
    (close,) = columns(bars, "close")
    opened = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    length = float(pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8[0] - opened[0]) if opened.size else 1.0
    trials = min(window // 2 - 3, LOMB_FREQUENCIES)
    periods = 1.0 / np.linspace(2.0 / window, 0.25, trials)
    times = (opened - opened[:1].sum()) / length
    # Rounded, so that a scale of prices cannot decide between two waves of equal power.
    period, power = rolling_lomb_scargle(np.round(log_changes(close), 13), times, window, periods, STILL)
    # Every second trial frequency is independent.
    chance = -np.expm1(0.5 * trials * np.log1p(-np.clip((1.0 - power) ** ((window - 3) / 2.0), 0.0, 1.0 - 1e-15)))
    return frame(
        bars, **{f"lomb_period_{window}": period, f"lomb_power_{window}": power, f"lomb_chance_{window}": chance}
    )


def _dominant(bars: pd.DataFrame, shortest: int, longest: int) -> tuple[Floats, Floats, Floats]:
    """Period, power and entropy of the autocorrelation periodogram."""
    (close,) = columns(bars, "close")
    short = min(shortest, longest // 2)
    roofed = super_smoother(high_pass(np.log(close), float(longest)), float(short))
    periods = np.geomspace(0.75 * short, 1.3 * longest, PERIODS)
    angles = 2.0 * np.pi * np.arange(_lags(longest) + 1.0) / periods[:, None]
    found = autocorrelation_periodogram(roofed, longest, np.cos(angles), np.sin(angles), periods, STILL)
    warm = min(_lookback(longest) - 1, close.size)
    for values in found:
        values[:warm] = np.nan
    return found


def _wave(bars: pd.DataFrame, period: Floats, longest: int) -> tuple[Floats, Floats, Floats]:
    (close,) = columns(bars, "close")
    return wave_at_the_end(np.log(close), period, CYCLES, int(CYCLES * 1.3 * longest))


def _lags(longest: int) -> int:
    return longest * 3 // 2
