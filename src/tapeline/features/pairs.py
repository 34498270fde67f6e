"""Pairs: this instrument against another one as a ratio, a spread, a hedge, a pull back to balance, and a carry.

``column`` is a context column, ``<prefix>_<column>`` of the feature set's ``[context.<prefix>]``: the price of the
other leg as it was known at each close.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import STILL, Count, Floats, Window, columns, frame, ratio, series
from tapeline.features.kernels import rolling_deviation, rolling_mean
from tapeline.features.pair_kernels import rolling_dickey_fuller, rolling_hedge, windowed_kalman_hedge

ROUNDED = Tolerance(relative=1e-6, absolute=1e-6)
Sample = Annotated[int, Field(ge=20, le=20_000)]
Drift = Annotated[float, Field(gt=0, le=0.1)]
Days = Annotated[float, Field(gt=0, le=36_500)]
YEAR_NANOSECONDS = 365 * 86_400 * 10**9


@feature(
    lookback=1,
    outputs="{column}_price_ratio",
    requires=("{column}",),
    reference="Murphy, Intermarket Analysis (2004), chapter 1: relative strength as a ratio of prices",
    scale=(1, 0),
)
def price_ratio(bars: pd.DataFrame, column: str = "sp500_close") -> pd.Series:
    """The close over the other instrument's price; NaN where the other's is not known.

    Examples
    --------
    >>> price_ratio(pd.DataFrame({"close": [3.0, 4.0], "silver_close": [2.0, 2.0]}), "silver_close").tolist()
    [1.5, 2.0]
    """
    close, other = columns(bars, "close", column)
    return series(bars, ratio(close, other))


@feature(
    lookback=lambda window: window + 1,
    outputs=("{column}_spread_change_{window}", "{column}_spread_zscore_{window}"),
    requires=("{column}",),
    reference="Gatev, Goetzmann and Rouwenhorst, Review of Financial Studies 19 (2006); of logarithms",
)
def log_spread(bars: pd.DataFrame, column: str = "sp500_close", window: Window = 96) -> pd.DataFrame:
    """The log of the price ratio: its change over ``window`` bars in percent, and its distance from their mean.

    The distance is in population standard deviations, between plus and minus the root of ``window - 1``; NaN where
    the ratio has not moved. The hedge ratio is 1 here; :func:`hedge_ratio` estimates it.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 1.0, 2.0], "gold_close": [1.0, 2.0, 2.0]})
    >>> log_spread(bars, "gold_close", window=2).iloc[-1].round(4).tolist()
    [0.0, 1.0]
    """
    spread = _logs(bars, "close") - _logs(bars, column)
    change = np.full(spread.size, np.nan)
    change[window:] = 100.0 * (spread[window:] - spread[:-window])
    mean, deviation = rolling_deviation(spread, window)
    return frame(
        bars,
        **{
            f"{column}_spread_change_{window}": change,
            f"{column}_spread_zscore_{window}": ratio(spread - mean, deviation, STILL),
        },
    )


@feature(
    lookback=lambda window: window,
    outputs=("{column}_hedge_ratio_{window}", "{column}_hedge_residual_{window}", "{column}_hedge_fit_{window}"),
    requires=("{column}",),
    reference="Chan, Algorithmic Trading (2013), chapter 3: the hedge ratio by moving least squares; on logarithms",
    tolerance=ROUNDED,
)
def hedge_ratio(bars: pd.DataFrame, column: str = "sp500_close", window: Sample = 240) -> pd.DataFrame:
    """The other leg's weight that hedges this one, by least squares of the log prices of the last ``window`` bars.

    Returns
    -------
    The ratio: percent of move in this instrument for one percent in the other. The residual: how far this close lies
    above what the line says, in percent. The fit: R squared, 0 to 1. NaN where the other leg has not moved, the fit
    also where this one has not.

    Examples
    --------
    >>> other = np.exp(np.sin(np.arange(20.0)))
    >>> bars = pd.DataFrame({"close": 3.0 * other**2, "gold_close": other})
    >>> hedge_ratio(bars, "gold_close", window=20).iloc[-1].round(6).abs().tolist()
    [2.0, 0.0, 1.0]
    """
    slope, residual, _, fit = rolling_hedge(_logs(bars, "close"), _logs(bars, column), window)
    return frame(
        bars,
        **{
            f"{column}_hedge_ratio_{window}": slope,
            f"{column}_hedge_residual_{window}": 100.0 * residual,
            f"{column}_hedge_fit_{window}": fit,
        },
    )


@feature(
    lookback=lambda window: window,
    outputs=("{column}_kalman_ratio_{window}", "{column}_kalman_surprise_{window}"),
    requires=("{column}",),
    reference="Chan, Algorithmic Trading (2013), chapter 3: Kalman's filter as dynamic regression; on logarithms",
    tolerance=ROUNDED,
)
def kalman_hedge(
    bars: pd.DataFrame, column: str = "sp500_close", window: Sample = 120, drift: Drift = 1e-3
) -> pd.DataFrame:
    """A hedge ratio that may move from bar to bar, by Kalman's filter over the log prices of the last ``window`` bars.

    Level and ratio are random walks; ``drift`` is the share of their steps in the variance: larger follows faster. The
    filter starts anew in each window, knowing nothing, so that the value depends on these bars alone.

    Returns
    -------
    The ratio, as in :func:`hedge_ratio`, and by how many standard deviations the newest close lay above the filter's
    forecast: the score that pairs are traded by. NaN where the other leg has not moved or this one never surprised.

    Examples
    --------
    >>> other = np.exp(np.sin(np.arange(20.0)))
    >>> bars = pd.DataFrame({"close": 3.0 * other**2, "gold_close": other})
    >>> kalman_hedge(bars, "gold_close", window=20).iloc[-1, 0].round(3).item()
    2.0
    """
    slope, surprise = windowed_kalman_hedge(_logs(bars, "close"), _logs(bars, column), window, drift)
    return frame(bars, **{f"{column}_kalman_ratio_{window}": slope, f"{column}_kalman_surprise_{window}": surprise})


@feature(
    lookback=lambda window: window,
    outputs=(
        "{column}_cointegration_t_{window}",
        "{column}_cointegration_z_{window}",
        "{column}_half_life_{window}",
    ),
    requires=("{column}",),
    reference="Engle and Granger, Econometrica 55 (1987); critical values in MacKinnon, Queen's Economics Department "
    "working paper 1227 (2010)",
    tolerance=ROUNDED,
)
def cointegration(bars: pd.DataFrame, column: str = "sp500_close", window: Sample = 240) -> pd.DataFrame:
    """Whether this instrument and another one stay together, and how far apart they are now.

    Returns
    -------
    The t of Engle and Granger's test on the last ``window`` log prices (constant, no lags; below about -3.4 the two
    hardly stay together by chance, 5 percent). The residual of the hedge in its standard deviations. The half-life of
    a deviation in bars, 0 to ``window``, which also stands where nothing pulls back. NaN where a leg has not moved.

    Examples
    --------
    >>> steps = np.arange(40.0)
    >>> other = np.exp(0.01 * steps)
    >>> bars = pd.DataFrame({"close": other * np.exp(0.001 * (-1.0) ** steps), "gold_close": other})
    >>> cointegration(bars, "gold_close", window=40).iloc[-1].round(2).tolist()
    [-145.96, -0.9, 0.0]
    """
    ours, theirs = _logs(bars, "close"), _logs(bars, column)
    t, pull = rolling_dickey_fuller(ours, theirs, window)
    _, residual, deviation, _ = rolling_hedge(ours, theirs, window)
    kept = np.clip(1.0 + pull, 1e-300, 1.0 - 1e-12)
    half_life = np.where(np.isnan(t), np.nan, np.minimum(-np.log(2.0) / np.log(kept), window))
    return frame(
        bars,
        **{
            f"{column}_cointegration_t_{window}": np.clip(t, -1000.0, 1000.0),
            f"{column}_cointegration_z_{window}": ratio(residual, deviation, STILL),
            f"{column}_half_life_{window}": np.where(pull <= -1.0, 0.0, half_life),
        },
    )


@feature(
    lookback=lambda window: window + 1,
    outputs=("{rate}_less_{other_rate}", "{rate}_less_{other_rate}_earned_{window}"),
    requires=("{rate}", "{other_rate}"),
    reference="Koijen, Moskowitz, Pedersen and Vrugt, Journal of Financial Economics 127 (2018), section 2: carry of "
    "a currency",
)
def rate_carry(
    bars: pd.DataFrame, rate: str = "sp500_close", other_rate: str = "vix_close", window: Count = 24
) -> pd.DataFrame:
    """Carry of holding one currency (or bond) against another: the difference of two rates in percent a year.

    Name the columns of your own rates; both are in percent a year. The second column is what the difference has
    earned over the last ``window`` bars in percent, by actual days over 365, weekends included.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1D", tz="UTC")
    >>> bars = pd.DataFrame({"usd_close": 5.0, "jpy_close": 1.35}, index=ts)
    >>> rate_carry(bars, "usd_close", "jpy_close", window=2).iloc[-1].round(4).tolist()
    [3.65, 0.02]
    """
    ours, theirs = columns(bars, rate, other_rate)
    difference = ours - theirs
    earned = np.full(difference.size, np.nan)
    elapsed = np.diff(pd.DatetimeIndex(bars.index).as_unit("ns").asi8) / YEAR_NANOSECONDS
    earned[1:] = difference[:-1] * elapsed
    total = window * rolling_mean(earned, window)
    return frame(bars, **{f"{rate}_less_{other_rate}": difference, f"{rate}_less_{other_rate}_earned_{window}": total})


@feature(
    lookback=1,
    outputs="{near}_over_{far}_carry",
    requires=("{near}", "{far}"),
    reference="Koijen, Moskowitz, Pedersen and Vrugt, Journal of Financial Economics 127 (2018), equation 1",
)
def term_carry(bars: pd.DataFrame, near: str = "vix_close", far: str = "sp500_close", days: Days = 30.0) -> pd.Series:
    """Carry of a future against its spot or the contract before: their log ratio, in percent a year.

    ``days`` lie between the two maturities. Above 0 the later one is cheaper (backwardation), and its holder earns
    the difference if the spot stays. Name the columns of your own contracts.

    Examples
    --------
    >>> bars = pd.DataFrame({"spot_close": [100.0], "future_close": [99.0]})
    >>> term_carry(bars, "spot_close", "future_close", days=73.0).round(3).tolist()
    [5.025]
    """
    return series(bars, 100.0 * (_logs(bars, near) - _logs(bars, far)) * (365.0 / days))


def _logs(bars: pd.DataFrame, name: str) -> Floats:
    (values,) = columns(bars, name)
    return np.log(np.where(values > 0.0, values, np.nan))
