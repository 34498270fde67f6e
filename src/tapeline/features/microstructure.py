"""Costs of trading and informed trading, from bars alone: spreads implied by prices, illiquidity, flow toxicity."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.registry import feature
from tapeline.features.arrays import Window, columns, log_changes, ratio, series
from tapeline.features.microstructure_kernels import bucketed_imbalance, high_low_spreads, window_sums
from tapeline.features.trade_sign import bulk_buy_share

BASIS_POINTS = 1e4
MILLION = 1e6

Buckets = Annotated[int, Field(ge=2, le=1_000)]


@feature(
    lookback=lambda window: window + 2,
    outputs="roll_spread_{window}",
    reference="Roll, Journal of Finance 39 (1984), equation for the effective bid-ask spread",
)
def roll_spread(bars: pd.DataFrame, window: Window = 48) -> pd.Series:
    """Roll's effective spread from the covariance of successive log returns, in basis points; 0 or more.

    ``2 sqrt(-cov)`` over ``window`` pairs of returns, since the bounce between bid and ask turns returns back by minus
    a quarter of the squared spread. 0 where the covariance is not negative: price has then told nothing about spread.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 1.01, 1.0, 1.01, 1.0, 1.01]})
    >>> roll_spread(bars, window=4).round(2).tolist()[-1]
    199.01
    """
    (close,) = columns(bars, "close")
    change = log_changes(close)
    before = np.full(change.size, np.nan)
    before[1:] = change[:-1]
    both = window_sums(change * before, window)
    now, then = window_sums(change, window), window_sums(before, window)
    reversal = now * then / window - both
    # What rounding leaves of a sum that is nothing must not become a spread by its root.
    noise = 1e-12 * window_sums(np.abs(change * before), window)
    share = 2.0 * np.sqrt(np.where(reversal > noise, reversal, 0.0 * reversal) / window)
    return series(bars, BASIS_POINTS * share)


@feature(
    lookback=lambda window: window + 1,
    outputs="corwin_schultz_{window}",
    reference="Corwin and Schultz, Journal of Finance 67 (2012), equations 14 and 18, negative estimates set to 0",
)
def corwin_schultz(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Corwin and Schultz's spread from highs and lows, in basis points; 0 or more.

    The range of two bars together holds twice the variance of one but the spread only once. With b the sum of the two
    squared log ranges and g the squared log range of both, ``a = (sqrt(2b) - sqrt(b)) / (3 - 2 sqrt(2)) - sqrt(g /
    (3 - 2 sqrt(2)))`` and the spread is ``2 (exp(a) - 1) / (1 + exp(a))``. Gaps between bars are taken out, negative
    estimates are 0, and the last ``window`` of them are averaged.

    Examples
    --------
    >>> bars = pd.DataFrame({"high": [1.02] * 3, "low": [1.0] * 3, "close": [1.01] * 3})
    >>> corwin_schultz(bars, window=2).round(2).tolist()
    [nan, nan, 198.02]
    """
    spreads = high_low_spreads(*columns(bars, "high", "low", "close"))
    return series(bars, BASIS_POINTS * window_sums(np.maximum(spreads, 0.0), window) / window)


@feature(
    lookback=lambda window: window + 1,
    outputs="abdi_ranaldo_{window}",
    reference="Abdi and Ranaldo, Review of Financial Studies 30 (2017), the two-day corrected estimator",
)
def abdi_ranaldo(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Abdi and Ranaldo's spread from close, high and low, in basis points; 0 or more.

    With c the log close and m the middle of log high and log low, ``sqrt(max(4 (c - m)(c - m'), 0))`` for each bar,
    where m' is the middle of the bar after; the last ``window`` of them averaged. A bar's value needs the next bar's
    middle, so the newest one is that of the bar before the current one.

    Examples
    --------
    >>> bars = pd.DataFrame({"high": [1.02] * 3, "low": [1.0] * 3, "close": [1.02, 1.0, 1.01]})
    >>> abdi_ranaldo(bars, window=2).round(2).tolist()
    [nan, nan, 198.03]
    """
    high, low, close = (np.log(values) for values in columns(bars, "high", "low", "close"))
    middle = 0.5 * (high + low)
    product = np.full(close.size, np.nan)
    product[1:] = (close[:-1] - middle[:-1]) * (close[:-1] - middle[1:])
    spreads = 2.0 * np.sqrt(np.maximum(product, 0.0))
    return series(bars, BASIS_POINTS * window_sums(spreads, window) / window)


@feature(
    lookback=lambda window: window + 1,
    outputs="amihud_{window}",
    reference="Amihud, Journal of Financial Markets 5 (2002), equation 1, times a million",
    scale=(-1, -1),
)
def amihud(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Amihud's illiquidity: absolute return per unit of value traded, times 10^6, averaged over the last bars.

    The return is ``close / close before - 1``, the value ``close * volume``; bars without volume are left out, as days
    without trades are there. In units of one over money: a model that sees it learns the level, see
    :func:`amihud_ratio`. NaN where nothing was traded.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [10.0, 11.0, 11.0], "volume": [5.0, 10.0, 10.0]})
    >>> amihud(bars, window=2).round(2).tolist()
    [nan, nan, 454.55]
    """
    return series(bars, MILLION * _illiquidity(bars, window))


@feature(
    lookback=lambda window, long: max(window, long) + 1,
    outputs="amihud_ratio_{window}_{long}",
    reference="Amihud, Journal of Financial Markets 5 (2002), equation 3: illiquidity over its average",
)
def amihud_ratio(bars: pd.DataFrame, window: Window = 24, long: Window = 240) -> pd.Series:
    """Amihud's illiquidity of the last ``window`` bars over that of the last ``long``; above 1 when trading dries up.

    0 or more; NaN where nothing was traded, or price has stood still.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [10.0, 11.0, 11.0, 11.0], "volume": [5.0, 10.0, 10.0, 10.0]})
    >>> amihud_ratio(bars, window=2, long=3).tolist()
    [nan, nan, nan, 0.0]
    """
    return series(bars, ratio(_illiquidity(bars, window), _illiquidity(bars, long)))


@feature(
    lookback=lambda window, deviation_window: window + deviation_window,
    outputs="vpin_{window}",
    reference="Easley, Lopez de Prado and O'Hara, Review of Financial Studies 25 (2012), sections 1.2 and 1.3",
)
def vpin(bars: pd.DataFrame, window: Window = 48, buckets: Buckets = 10, deviation_window: Window = 48) -> pd.Series:
    """Volume-synchronised probability of informed trading, 0 (both sides alike) to 1 (one side only).

    The volume of each bar is divided by bulk volume classification: the share ``Phi(change of close / deviation of
    changes)`` was bought, with the deviation over ``deviation_window`` bars. The volume of the last ``window`` bars is
    cut into ``buckets`` of equal size; VPIN is the mean over them of the distance of bought and sold, over the bucket's
    size. The buckets are laid anew in each window, so that the value follows from the window alone; in the paper they
    run on for ever, see :class:`tapeline.features.volume_buckets.VolumeBuckets`. NaN where nothing was traded.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 1.01, 1.0, 1.02, 1.01], "volume": [1.0, 2.0, 1.0, 3.0, 1.0]})
    >>> vpin(bars, window=2, buckets=2, deviation_window=2).round(4).tolist()
    [nan, nan, nan, 0.4442, 0.4919]
    """
    close, volume = columns(bars, "close", "volume")
    # As shares of the close before, so that a price level far above its changes costs no digits.
    change = np.full(close.size, np.nan)
    change[1:] = (close[1:] - close[:-1]) / close[:-1]
    square = window_sums(change * change, deviation_window) / deviation_window
    mean = window_sums(change, deviation_window) / deviation_window
    variance = square - mean * mean
    # Equal changes leave a rounding of their mean behind, which is no variance.
    deviation = np.sqrt(np.where(variance > 1e-12 * square, variance, 0.0 * square))
    bought = bulk_buy_share(change, deviation)
    return series(bars, bucketed_imbalance(volume, (2.0 * bought - 1.0) * volume, window, buckets))


def _illiquidity(bars: pd.DataFrame, window: int) -> np.ndarray:
    close, volume = columns(bars, "close", "volume")
    moved = np.full(close.size, np.nan)
    moved[1:] = np.abs(close[1:] / close[:-1] - 1.0)
    value = close * volume
    each = np.where(value > 0.0, ratio(moved, value), 0.0 * (moved + value))
    traded = np.where(np.isnan(volume), np.nan, (volume > 0.0).astype(np.float64))
    traded[:1] = np.nan
    return ratio(window_sums(each, window), window_sums(traded, window))
