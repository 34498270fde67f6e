"""Order flow at the best quotes per bar: order flow imbalance, depth, spread, from every change of the best quote."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.candles.records import Integers
from tapeline.core.errors import DataError, SchemaError
from tapeline.core.timeframe import Timeframe
from tapeline.features.arrays import Floats
from tapeline.features.flow_bars import FlowBars, Rows, instants_of, read_only

QUOTE: Final = ("bid", "bid_size", "ask", "ask_size")
_COLUMNS: Final = ("ofi", "depth", "spread_bps", "imbalance", "mean_imbalance", "mid")


class QuoteFlow(FlowBars):
    """Order flow imbalance and the state of the best quote in each bar.

    The rows are quotes: ``bid``, ``bid_size``, ``ask``, ``ask_size`` on ``ts``.

    Columns of a bar, besides ``known_at`` (its close):

    - ``quote_count``: quotes.
    - ``ofi``: order flow imbalance, what was added to the bid or taken from the ask less the reverse, in quantity.
    - ``depth``: mean of half the sum of both best sizes.
    - ``spread_bps``: mean spread in basis points of the middle.
    - ``imbalance``, ``mean_imbalance``: bid size less ask size over their sum, in the last quote and on average.
    - ``mid``: middle of the last quote.

    References
    ----------
    Cont, Kukanov and Stoikov, The Price Impact of Order Book Events, Journal of Financial Econometrics 12 (2014),
    section 2.1: the contribution e of each quote and its sum over an interval.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="20s", tz="UTC", name="ts")
    >>> quotes = pd.DataFrame({"bid": [9.0, 9.0, 9.5], "bid_size": [5.0, 7.0, 1.0],
    ...     "ask": [10.0, 10.0, 10.0], "ask_size": [5.0, 4.0, 4.0]}, index=ts)
    >>> QuoteFlow("M1").update(quotes, now=pd.Timestamp("2017-01-02 00:01", tz="UTC"))["ofi"].tolist()
    [4.0]
    """

    def __init__(self, timeframe: Timeframe | str) -> None:
        super().__init__(timeframe)
        self._before = np.full(4, np.nan)

    def _read(self, frame: pd.DataFrame) -> Rows:
        rows: Rows = {"ts": instants_of(frame, "quotes")}
        rows |= {name: positive(frame, name, "quotes") for name in QUOTE}
        return rows

    def _bars(self, rows: Rows, starts: Integers) -> dict[str, NDArray[Any]]:
        before = self._before.copy()
        bid, bid_size, ask, ask_size = (read_only(rows[name]) for name in QUOTE)
        values = quote_bars(bid, bid_size, ask, ask_size, starts, before)
        self._before = before
        return {"quote_count": np.diff(starts), **dict(zip(_COLUMNS, values, strict=True))}


def quote_flow(quotes: pd.DataFrame, timeframe: Timeframe | str, *, now: pd.Timestamp | None = None) -> pd.DataFrame:
    """The quote flow of a whole history in one call: the complete bars; see :class:`QuoteFlow`.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="20s", tz="UTC", name="ts")
    >>> quotes = pd.DataFrame({"bid": 9.0, "bid_size": [3.0, 2.0, 1.0, 1.0], "ask": 10.0, "ask_size": 1.0}, index=ts)
    >>> quote_flow(quotes, "M1")[["ofi", "imbalance"]].to_numpy().tolist()
    [[-2.0, 0.0]]
    """
    return QuoteFlow(timeframe).update(quotes, now=now)


def best_quotes(depth: pd.DataFrame) -> pd.DataFrame:
    """The best quotes of sampled books, as :class:`QuoteFlow` takes them.

    Parameters
    ----------
    depth:
        Rows as in ``RAW_DEPTH``: ``side``, ``level``, ``price``, ``size`` on ``ts``.

    Returns
    -------
    ``bid``, ``bid_size``, ``ask``, ``ask_size`` on ``ts``; instants at which one side is empty are left out.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02"] * 2, tz="UTC", name="ts")
    >>> best_quotes(pd.DataFrame({"side": [1, -1], "level": 0, "price": [9.0, 10.0], "size": [1.0, 2.0]}, index=ts))[
    ...     ["bid", "ask"]].to_numpy().tolist()
    [[9.0, 10.0]]
    """
    absent = [name for name in ("side", "level", "price", "size") if name not in depth.columns]
    if absent:
        raise SchemaError(f"depth: columns {absent} are missing")
    best = depth.loc[depth["level"] == 0, ["side", "price", "size"]]
    bids = best.loc[best["side"] == 1, ["price", "size"]].set_axis(["bid", "bid_size"], axis=1)
    asks = best.loc[best["side"] == -1, ["price", "size"]].set_axis(["ask", "ask_size"], axis=1)
    return bids.join(asks, how="inner")


@njit(cache=True, nogil=True)
def order_flow(bid: Floats, bid_size: Floats, ask: Floats, ask_size: Floats, before: Floats) -> Floats:
    """Cont, Kukanov and Stoikov's contribution of each quote; ``before`` is the quote before the first (NaN: none).

    ``q_b [p_b >= p_b'] - q_b' [p_b <= p_b'] - q_a [p_a <= p_a'] + q_a' [p_a >= p_a']``, primes for the quote before.
    0 for a first quote.

    Examples
    --------
    >>> order_flow(np.array([9.0]), np.array([2.0]), np.array([10.0]), np.array([4.0]), np.array([9.0, 5.0, 10.0, 3.0]))
    array([-4.])
    """
    flows = np.zeros(bid.size)
    old_bid, old_bid_size, old_ask, old_ask_size = before[0], before[1], before[2], before[3]
    for i in range(bid.size):
        flow = bid_size[i] if bid[i] >= old_bid else 0.0
        flow -= old_bid_size if bid[i] <= old_bid else 0.0
        flow -= ask_size[i] if ask[i] <= old_ask else 0.0
        flow += old_ask_size if ask[i] >= old_ask else 0.0
        flows[i] = flow
        old_bid, old_bid_size, old_ask, old_ask_size = bid[i], bid_size[i], ask[i], ask_size[i]
    return flows


@njit(cache=True, nogil=True)
def quote_bars(
    bid: Floats, bid_size: Floats, ask: Floats, ask_size: Floats, starts: Integers, before: Floats
) -> Floats:
    """[6, bars] in the order of :class:`QuoteFlow`; ``before`` becomes the last quote.

    Examples
    --------
    >>> one = np.array([4.0])
    >>> quote_bars(np.array([9.0]), one, np.array([11.0]), one, np.array([0, 1]), np.full(4, np.nan))[:, 0].tolist()
    [0.0, 4.0, 2000.0, 0.0, 0.0, 10.0]
    """
    flows = order_flow(bid, bid_size, ask, ask_size, before)
    result = np.zeros((6, starts.size - 1))
    for k in range(starts.size - 1):
        rows = starts[k + 1] - starts[k]
        flow, depth, spread, mean_imbalance, imbalance = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(starts[k], starts[k + 1]):
            both = bid_size[i] + ask_size[i]
            imbalance = (bid_size[i] - ask_size[i]) / both
            flow += flows[i]
            depth += 0.5 * both
            spread += 2e4 * (ask[i] - bid[i]) / (ask[i] + bid[i])
            mean_imbalance += imbalance
        last = starts[k + 1] - 1
        result[0, k], result[1, k], result[2, k] = flow, depth / rows, spread / rows
        result[3, k], result[4, k] = imbalance, mean_imbalance / rows
        result[5, k] = 0.5 * (bid[last] + ask[last])
    if bid.size:
        before[0], before[1], before[2], before[3] = bid[-1], bid_size[-1], ask[-1], ask_size[-1]
    return result


def positive(frame: pd.DataFrame, name: str, kind: str) -> Floats:
    """A column as float64; DataError where a value is not finite and above 0, SchemaError without the column."""
    if name not in frame.columns:
        raise SchemaError(f"{kind}: column '{name}' is missing")
    try:
        values = np.ascontiguousarray(frame[name].to_numpy(dtype=np.float64))
    except (TypeError, ValueError):
        raise SchemaError(f"{kind}: column '{name}' holds {frame[name].dtype}, expected numbers") from None
    wrong = ~((values > 0.0) & (values < np.inf))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{kind}: {name} is {values[row]} at row {row} ({frame.index[row]}), and must be finite and above 0"
        )
    return values
