"""Who took liquidity: the sign of a trade, from the trades before it, from the quotes, or from a bar's price change."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import SchemaError
from tapeline.core.pit import asof_join
from tapeline.features.arrays import Floats

Signs = NDArray[np.int8]


@njit(cache=True, nogil=True)
def tick_signs(price: Floats, last_price: float, last_sign: int) -> Signs:
    """The tick rule after a trade at ``last_price`` (NaN: none) with the sign ``last_sign``; see :func:`tick_rule`.

    Examples
    --------
    >>> tick_signs(np.array([10.0, 10.5]), 10.0, -1)
    array([-1,  1], dtype=int8)
    """
    signs = np.empty(price.size, dtype=np.int8)
    sign = last_sign
    before = last_price
    for i in range(price.size):
        now = price[i]
        if now > before:
            sign = 1
        elif now < before:
            sign = -1
        before = now
        signs[i] = sign
    return signs


def tick_rule(price: Any) -> Signs:
    """Sign of each trade by the tick rule: 1 (a buyer took) above the price before, -1 below, else as the one before.

    0 until the first change of price. Source: Lee and Ready, Inferring Trade Direction from Intraday Data, Journal of
    Finance 46 (1991), section I: the tick test, where a zero tick has the sign of the last change.

    Parameters
    ----------
    price:
        Prices in the order of the trades.

    Examples
    --------
    >>> tick_rule([10.0, 10.5, 10.5, 10.0, 10.0]).tolist()
    [0, 1, 1, -1, -1]
    """
    return tick_signs(np.ascontiguousarray(price, dtype=np.float64), math.nan, 0)


def quote_rule(price: Any, bid: Any, ask: Any) -> Signs:
    """Sign of each trade by the quote that stood: 1 above the middle, -1 below, 0 at it or without a quote.

    A crossed quote counts as none. Source: Lee and Ready (1991), section II.

    Parameters
    ----------
    price, bid, ask:
        The trades' prices and the quote that stood at each; NaN where there was none.

    Examples
    --------
    >>> quote_rule([10.0, 10.5, 11.0], [10.0, 10.0, float("nan")], [11.0, 11.0, 11.0]).tolist()
    [-1, 0, 0]
    """
    prices, bids, asks = (np.asarray(values, dtype=np.float64) for values in (price, bid, ask))
    # Twice the price against the sum: halving the sum could round the middle onto the price.
    above = 2.0 * prices - (bids + asks)
    return np.where(asks >= bids, np.sign(above), 0.0).astype(np.int8)


def lee_ready(trades: pd.DataFrame, quotes: pd.DataFrame, *, lag: timedelta = timedelta(0)) -> pd.Series:
    """Sign of each trade by Lee and Ready: the quote rule, and the tick rule where the trade is at the middle.

    Parameters
    ----------
    trades:
        ``price`` on an index of instants that does not decrease.
    quotes:
        ``bid`` and ``ask`` on an index of instants, on the same clock as the trades.
    lag:
        By how much a quote must precede a trade. Lee and Ready took 5 seconds, since quotes were then recorded before
        the trades that caused them; where venues stamp both in order, 0, or the least step to leave out the quote that
        a trade itself brought about.

    Returns
    -------
    ``side`` on the trades' index: 1 a buyer took liquidity, -1 a seller, 0 not known (at the middle before the first
    change of price, or before the first quote and change).

    Raises
    ------
    SchemaError
        A column is missing.
    DataError
        The trades are not sorted, an instant is missing, or the lag is negative.

    References
    ----------
    Lee and Ready, Inferring Trade Direction from Intraday Data, Journal of Finance 46 (1991), sections II and III.

    Examples
    --------
    >>> ts = pd.to_datetime(["2014-05-01 10:00:01", "2014-05-01 10:00:02"], utc=True)
    >>> trades = pd.DataFrame({"price": [10.5, 10.9]}, index=ts)
    >>> quotes = pd.DataFrame({"bid": [10.0], "ask": [11.0]}, index=ts[:1])
    >>> lee_ready(trades, quotes).tolist()
    [0, 1]
    """
    for frame, names in ((trades, ("price",)), (quotes, ("bid", "ask"))):
        absent = [name for name in names if name not in frame.columns]
        if absent:
            raise SchemaError(f"lee_ready: columns {absent} are missing")
    stood = asof_join(
        trades[["price"]],
        quotes[["bid", "ask"]],
        at=pd.DatetimeIndex(trades.index),
        known_at=pd.DatetimeIndex(quotes.index),
        lag=lag,
    )
    price = np.ascontiguousarray(trades["price"].to_numpy(dtype=np.float64))
    by_quote = quote_rule(price, stood["bid"], stood["ask"])
    return pd.Series(np.where(by_quote != 0, by_quote, tick_rule(price)).astype(np.int8), trades.index, name="side")


@njit(cache=True, nogil=True, error_model="numpy")
def bulk_buy_share(change: Floats, deviation: Floats) -> Floats:
    """Share of a bar's volume that buyers took, by bulk volume classification: the normal distribution of its change.

    ``Phi(change / deviation)``; a half where price has not moved, all or nothing where it moved without any deviation.
    NaN where one of them is. Source: Easley, Lopez de Prado and O'Hara, Flow Toxicity and Liquidity in a High-Frequency
    World, Review of Financial Studies 25 (2012), section 1.2.

    Examples
    --------
    >>> bulk_buy_share(np.array([0.0, 1.0, -1.0]), np.ones(3)).round(4)
    array([0.5   , 0.8413, 0.1587])
    """
    shares = np.full(change.size, np.nan)
    for i in range(change.size):
        if change[i] == 0.0 and deviation[i] >= 0.0:
            shares[i] = 0.5
        elif deviation[i] >= 0.0:
            shares[i] = 0.5 * math.erfc(-change[i] / deviation[i] / math.sqrt(2.0))
    return shares
