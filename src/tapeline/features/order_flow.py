"""Features of trades, quotes and books, from the columns that :func:`tapeline.features.flow_bars.join_flow` adds.

The columns are those of :class:`~tapeline.features.trade_flow.TradeFlow` under ``flow_``, of
:class:`~tapeline.features.quote_flow.QuoteFlow` under ``quote_`` and of
:class:`~tapeline.features.market_depth.DepthFlow` under ``book_``. All results are without unit.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.registry import feature
from tapeline.features.arrays import Window, columns, frame, log_changes, ratio, series
from tapeline.features.microstructure_kernels import rolling_impact, window_sums

BASIS_POINTS = 1e4

Levels = Annotated[int, Field(ge=1, le=5_000)]
"""A number of price levels of a book; one that the joined depth flow was made with."""


@feature(
    lookback=lambda window: window,
    outputs="flow_imbalance_{window}",
    requires=("flow_bought", "flow_sold"),
    reference="Chordia, Roll and Subrahmanyam, Journal of Financial Economics 65 (2002): order imbalance over volume",
)
def flow_imbalance(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Bought less sold over both, in the last ``window`` bars: 1 all was bought, -1 all was sold.

    NaN where nothing was traded.

    Examples
    --------
    >>> bars = pd.DataFrame({"flow_bought": [3.0, 1.0], "flow_sold": [1.0, 3.0]})
    >>> flow_imbalance(bars, window=2).tolist()
    [nan, 0.0]
    """
    bought, sold = (window_sums(values, window) for values in columns(bars, "flow_bought", "flow_sold"))
    return series(bars, ratio(bought - sold, bought + sold))


@feature(
    lookback=lambda window, long: max(window, long),
    outputs="cumulative_delta_change_{window}",
    requires=("flow_delta",),
    reference="Change of the cumulative volume delta, in its own usual size; Cartea, Jaimungal and Penalva, "
    "Algorithmic and High-Frequency Trading (2015), section 4.3, on order flow",
)
def cumulative_delta_change(bars: pd.DataFrame, window: Window = 24, long: Window = 240) -> pd.Series:
    """By how much the cumulative delta has changed in ``window`` bars, in what is usual for as many bars.

    Usual is the root of ``window`` times the root mean square of the delta in the last ``long`` bars: about 1 in size
    where the signs of bars follow one another at random, more where one side keeps at it.

    Examples
    --------
    >>> cumulative_delta_change(pd.DataFrame({"flow_delta": [1.0, -1.0, 1.0, 1.0]}), window=2, long=4).round(4).tolist()
    [nan, nan, nan, 1.4142]
    """
    (delta,) = columns(bars, "flow_delta")
    usual = np.sqrt(window * window_sums(delta * delta, long) / long)
    return series(bars, ratio(window_sums(delta, window), usual))


@feature(
    lookback=lambda window: window,
    outputs="large_trade_share_{window}",
    requires=("flow_large", "flow_traded"),
    reference="Barclay and Warner, Journal of Financial Economics 34 (1993), who ask which sizes of trade move prices",
)
def large_trade_share(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Share of the quantity of the last ``window`` bars that changed hands in large trades, 0 to 1.

    What is large is said where the trade flow is made. NaN where nothing was traded.

    Examples
    --------
    >>> large_trade_share(pd.DataFrame({"flow_large": [3.0, 1.0], "flow_traded": [4.0, 4.0]}), window=2).tolist()
    [nan, 0.5]
    """
    large, traded = (window_sums(values, window) for values in columns(bars, "flow_large", "flow_traded"))
    return series(bars, ratio(large, traded))


@feature(
    lookback=lambda window, long: max(window, long),
    outputs=("trade_rate_{window}", "trade_size_{window}"),
    requires=("flow_trade_count", "flow_traded"),
    reference="Jones, Kaul and Lipson, Review of Financial Studies 7 (1994): number and average size of trades",
)
def trade_activity(bars: pd.DataFrame, window: Window = 4, long: Window = 96) -> pd.DataFrame:
    """Number of trades a bar, and their mean size, in the last ``window`` bars over those of the last ``long``.

    Both 0 or more, 1 is usual. NaN where nothing was traded.

    Examples
    --------
    >>> bars = pd.DataFrame({"flow_trade_count": [1.0, 1.0, 4.0], "flow_traded": [2.0, 2.0, 8.0]})
    >>> trade_activity(bars, window=2, long=3).round(2).iloc[-1].tolist()
    [1.25, 1.0]
    """
    count, traded = columns(bars, "flow_trade_count", "flow_traded")
    counts, long_counts = window_sums(count, window), window_sums(count, long)
    size = ratio(window_sums(traded, window), counts)
    return frame(
        bars,
        **{
            f"trade_rate_{window}": ratio(counts / window, long_counts / long),
            f"trade_size_{window}": ratio(size, ratio(window_sums(traded, long), long_counts)),
        },
    )


@feature(
    lookback=lambda window: window,
    outputs="tick_balance_{window}",
    requires=("flow_uptick_count", "flow_downtick_count"),
    reference="Lee and Ready, Journal of Finance 46 (1991): upticks and downticks",
)
def tick_balance(bars: pd.DataFrame, window: Window = 24) -> pd.Series:
    """Upticks less downticks over both, in the last ``window`` bars, -1 to 1; NaN where price has not moved.

    Examples
    --------
    >>> tick_balance(pd.DataFrame({"flow_uptick_count": [3, 1], "flow_downtick_count": [0, 0]}), window=2).tolist()
    [nan, 1.0]
    """
    up, down = (window_sums(v, window) for v in columns(bars, "flow_uptick_count", "flow_downtick_count"))
    return series(bars, ratio(up - down, up + down))


@feature(
    lookback=lambda window: window + 1,
    outputs="kyle_impact_{window}",
    requires=("flow_delta",),
    reference="Kyle, Econometrica 53 (1985), theorem 1: price moves by lambda times net order flow",
)
def kyle_impact(bars: pd.DataFrame, window: Window = 48) -> pd.Series:
    """Kyle's lambda in what one standard deviation of the flow moves: basis points, of either sign.

    Lambda is the slope of log returns on the delta of the same bars over ``window`` bars;
    :func:`tapeline.features.microstructure_kernels.rolling_impact` gives it in its own unit.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 1.01, 1.0, 1.01], "flow_delta": [0.0, 5.0, -5.0, 5.0]})
    >>> kyle_impact(bars, window=2).round(2).tolist()
    [nan, nan, 99.5, 99.5]
    """
    close, delta = columns(bars, "close", "flow_delta")
    return series(bars, BASIS_POINTS * rolling_impact(log_changes(close), delta, window)[1])


@feature(
    lookback=lambda window: window + 1,
    outputs="hasbrouck_impact_{window}",
    requires=("flow_signed_root_value",),
    reference="Hasbrouck, Journal of Finance 64 (2009), section III: returns on signed root dollar volume; after "
    "Hasbrouck, Journal of Finance 46 (1991)",
)
def hasbrouck_impact(bars: pd.DataFrame, window: Window = 48) -> pd.Series:
    """Hasbrouck's lambda in what one standard deviation of the flow moves: basis points, of either sign.

    Lambda is the slope of log returns on the sum of sign times root of value of the same bars' trades, over ``window``
    bars: the root makes large trades count less than by their size, as prices do.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": [1.0, 1.01, 1.0, 1.01], "flow_signed_root_value": [0.0, 5.0, -5.0, 5.0]})
    >>> hasbrouck_impact(bars, window=2).round(2).tolist()
    [nan, nan, 99.5, 99.5]
    """
    close, flow = columns(bars, "close", "flow_signed_root_value")
    return series(bars, BASIS_POINTS * rolling_impact(log_changes(close), flow, window)[1])


@feature(
    lookback=lambda window: window,
    outputs="order_flow_imbalance_{window}",
    requires=("quote_ofi", "quote_depth"),
    reference="Cont, Kukanov and Stoikov, Journal of Financial Econometrics 12 (2014), section 2: price moves by order "
    "flow imbalance over depth",
)
def order_flow_imbalance(bars: pd.DataFrame, window: Window = 4) -> pd.Series:
    """Order flow imbalance at the best quotes in the last ``window`` bars, in best sizes; unbounded, around 0.

    The sum of the imbalance over the mean depth of the same bars: how often over the best queue was filled or emptied.

    Examples
    --------
    >>> order_flow_imbalance(pd.DataFrame({"quote_ofi": [4.0, 2.0], "quote_depth": [1.0, 3.0]}), window=2).tolist()
    [nan, 3.0]
    """
    flow, depth = (window_sums(values, window) for values in columns(bars, "quote_ofi", "quote_depth"))
    return series(bars, ratio(flow, depth / window))


@feature(
    lookback=1,
    outputs=("depth_imbalance_{levels}", "mean_depth_imbalance_{levels}"),
    requires=("book_imbalance_{levels}", "book_mean_imbalance_{levels}"),
    reference="Cao, Hansch and Wang, Journal of Futures Markets 29 (2009); Cartea, Jaimungal and Penalva (2015), "
    "section 4.4",
)
def depth_imbalance(bars: pd.DataFrame, levels: Levels = 5) -> pd.DataFrame:
    """Bid size less ask size over both in the best ``levels``, -1 to 1: in the bar's last book, and on average.

    Examples
    --------
    >>> depth_imbalance(pd.DataFrame({"book_imbalance_5": [0.5], "book_mean_imbalance_5": [0.1]})).values.tolist()
    [[0.5, 0.1]]
    """
    last, mean = columns(bars, f"book_imbalance_{levels}", f"book_mean_imbalance_{levels}")
    return frame(bars, **{f"depth_imbalance_{levels}": last, f"mean_depth_imbalance_{levels}": mean})


@feature(
    lookback=1,
    outputs=("microprice_offset", "microprice_offset_bps"),
    requires=("book_weighted_mid_offset", "book_spread_bps"),
    reference="Stoikov, Quantitative Finance 18 (2018): the weighted mid, first form of the micro-price",
)
def microprice_offset(bars: pd.DataFrame) -> pd.DataFrame:
    """How far the weighted mid of the bar's last book lies above the mid: in spreads (-0.5 to 0.5), in basis points.

    Examples
    --------
    >>> microprice_offset(pd.DataFrame({"book_weighted_mid_offset": [0.25], "book_spread_bps": [2.0]})).values.tolist()
    [[0.25, 0.5]]
    """
    offset, spread = columns(bars, "book_weighted_mid_offset", "book_spread_bps")
    return frame(bars, microprice_offset=offset, microprice_offset_bps=offset * spread)


@feature(
    lookback=1,
    outputs=("slope_balance", "cost_balance", "trade_cost"),
    requires=("book_bid_slope", "book_ask_slope", "book_buy_cost_bps", "book_sell_cost_bps", "book_spread_bps"),
    reference="Naes and Skjeltorp, Journal of Financial Markets 9 (2006); Irvine, Benston and Kandel, Liquidity Beyond "
    "the Inside Spread (2000): the cost of a round trip",
)
def book_cost(bars: pd.DataFrame) -> pd.DataFrame:
    """Which side of the book is steeper, which is dearer to trade against, and what a round trip costs.

    ``slope_balance``: bid slope less ask slope over both, -1 to 1. ``cost_balance``: the same of the costs to sell and
    to buy: above 0 where selling is dearer. ``trade_cost``: both costs, in spreads; 1 where the best level suffices.
    The costs are NaN where the book is too thin for the trade.

    Examples
    --------
    >>> book = {"book_bid_slope": [3.0], "book_ask_slope": [1.0], "book_buy_cost_bps": [1.0],
    ...     "book_sell_cost_bps": [3.0], "book_spread_bps": [2.0]}
    >>> book_cost(pd.DataFrame(book)).values.tolist()
    [[0.5, 0.5, 2.0]]
    """
    names = ("book_bid_slope", "book_ask_slope", "book_buy_cost_bps", "book_sell_cost_bps", "book_spread_bps")
    bid, ask, buy, sell, spread = columns(bars, *names)
    return frame(
        bars,
        slope_balance=ratio(bid - ask, bid + ask),
        cost_balance=ratio(sell - buy, sell + buy),
        trade_cost=ratio(buy + sell, spread),
    )


@feature(
    lookback=lambda window: window + 1,
    outputs=("depth_resilience", "depth_change_{window}", "spread_change_{window}"),
    requires=("book_resilience", "book_depth", "book_mean_spread_bps"),
    reference="Kempf, Mayston, Gehde-Trapp and Yadav, Resiliency: A Dynamic View of Liquidity (2015)",
)
def book_state(bars: pd.DataFrame, window: Window = 24) -> pd.DataFrame:
    """How fast the book's depth comes back, and its depth and spread against those of the ``window`` bars before.

    ``depth_resilience``: the share of a departure from its mean that depth makes up from one book to the next.
    ``depth_change``, ``spread_change``: logarithm of the value over its mean before; NaN where one is not above 0.

    Examples
    --------
    >>> book = {"book_resilience": 0.5, "book_depth": [1.0, 3.0, 4.0], "book_mean_spread_bps": [1.0, 1.0, 0.5]}
    >>> book_state(pd.DataFrame(book), window=2).round(3).iloc[-1].tolist()
    [0.5, 0.693, -0.693]
    """
    back, depth, spread = columns(bars, "book_resilience", "book_depth", "book_mean_spread_bps")
    return frame(
        bars,
        **{
            "depth_resilience": back,
            f"depth_change_{window}": _against_before(depth, window),
            f"spread_change_{window}": _against_before(spread, window),
        },
    )


def _against_before(values: np.ndarray, window: int) -> np.ndarray:
    mean = np.full(values.size, np.nan)
    mean[1:] = window_sums(values, window)[:-1] / window
    share = ratio(values, mean)
    return np.log(np.where(share > 0.0, share, np.nan))
