"""Limit orders in a recorded tape: the queue ahead of them, what they are filled, and what goes by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numba import njit
from pydantic import BaseModel, ConfigDict, Field

from tapeline.core.errors import DataError
from tapeline.strategy.latency import Latency, first_at, missed


@njit(cache=True, nogil=True)
def queue_filled(ahead: float, quantity: float, traded: float) -> float:
    """What is filled of a resting order once ``traded`` units traded at its price since it arrived.

    Nothing before the ``ahead`` units that stood before it; orders that leave the queue do not let it advance.

    Examples
    --------
    >>> [queue_filled(5.0, 2.0, traded) for traded in (5.0, 6.0, 9.0)]
    [0.0, 1.0, 2.0]
    """
    return min(quantity, max(0.0, traded - ahead))


class Queue(BaseModel):
    """Where limit orders stand and how often they miss.

    Parameters
    ----------
    share_ahead:
        Share of the size displayed at the price that stands ahead of a new order; 1, the default, is the whole, as
        the venue's time priority has it.
    miss_probability:
        Of each trade that would have filled some of the order, that it goes by.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    share_ahead: float = Field(1.0, ge=0, le=10)
    miss_probability: float = Field(0.0, ge=0, le=1)


@njit(cache=True, nogil=True)
def _rest(
    times: Any,
    price: Any,
    size: Any,
    taker: Any,
    arrival: Any,
    side: Any,
    limit: Any,
    quantity: Any,
    ahead: Any,
    order: Any,
    expiry: Any,
    miss: float,
    seed: Any,
) -> Any:
    filled = np.zeros(arrival.size)
    last = np.full(arrival.size, -1, np.int64)
    for one in range(arrival.size):
        before, mine, chance = ahead[one], 0.0, 0
        for row in range(first_at(times, arrival[one]), times.size):
            if mine >= quantity[one] or times[row] > expiry[one]:
                break
            beyond = side[one] * price[row] < side[one] * limit[one]
            meets = taker[row] != side[one] and price[row] == limit[one]
            if not (beyond or meets):
                continue
            left = size[row]
            if not beyond:
                passed = min(before, left)
                before -= passed
                left -= passed
            if left <= 0.0:
                continue
            lost = missed(seed, order[one], chance, miss)
            chance += 1
            if lost:
                continue
            # Price went through the limit: whoever rested there was served before.
            mine = quantity[one] if beyond else min(quantity[one], mine + left)
            last[one] = row
        filled[one] = mine
    return filled, last


def rest_orders(
    orders: pd.DataFrame, trades: pd.DataFrame, *, latency: Latency, queue: Queue | None = None
) -> pd.DataFrame:
    """Send limit orders into recorded trades: when each arrived, what it was filled, and by when.

    An order is live from its arrival on. A trade at its limit first serves the queue ahead of it, then the order with
    what is left; a trade beyond the limit fills the rest, at the limit. Trades whose taker was on the order's own side
    are not at its queue. Orders do not see each other, and what they take is not taken from the recording.

    Parameters
    ----------
    orders:
        Indexed by when each was sent: ``order`` (its number), ``side`` (1, -1), ``limit``, ``quantity``, and
        ``displayed``, the size shown at the limit when it arrives; optionally ``expires``, an instant.
    trades:
        Rows of the table ``raw/trades``: ``price``, ``size``, ``side`` of the taker (0: not said) on ``ts``.
    latency:
        Of the way to the venue; its seed decides the missed fills too.
    queue:
        The whole displayed size ahead and no missed fills where absent.

    Returns
    -------
    On the orders' index: ``arrival``, ``ahead``, ``filled``, ``unfilled``, ``done`` (time of the last fill or NaT).

    Raises
    ------
    DataError
        Columns are missing, times of trades decrease, or a quantity or displayed size is out of its bounds.

    Examples
    --------
    >>> at = pd.date_range("2024-01-01", periods=4, freq="1s", tz="UTC", name="ts")
    >>> trades = pd.DataFrame({"price": [10.0, 10.0, 10.0, 9.9], "size": [1.0, 3.0, 2.0, 1.0], "side": -1}, index=at)
    >>> wanted = {"order": [1, 2], "side": 1, "limit": 10.0, "quantity": [2.0, 9.0], "displayed": 3.0}
    >>> orders = pd.DataFrame(wanted, index=at[[0, 0]])
    >>> rest_orders(orders, trades, latency=Latency(median_ms=500))[["filled", "done"]].astype(str).values.tolist()
    [['2.0', '2024-01-01 00:00:02+00:00'], ['9.0', '2024-01-01 00:00:03+00:00']]
    """
    queue = queue or Queue()
    for frame, what, names in (
        (orders, "orders", ("order", "side", "limit", "quantity", "displayed")),
        (trades, "trades", ("price", "size", "side")),
    ):
        absent = [name for name in names if name not in frame.columns]
        if absent:
            raise DataError(f"the {what} lack {', '.join(absent)}")
    times = pd.DatetimeIndex(trades.index).as_unit("ns").asi8
    if (np.diff(times) < 0).any():
        raise DataError("the times of the trades decrease", hint="sort them by ts first")
    wanted = {
        name: np.ascontiguousarray(orders[name], np.float64) for name in ("side", "limit", "quantity", "displayed")
    }
    if not np.isin(wanted["side"], (1.0, -1.0)).all() or not np.isfinite(wanted["limit"]).all():
        raise DataError("an order's side is neither 1 nor -1, or its limit is not finite")
    for name, least in (("quantity", "positive"), ("displayed", "at least 0")):
        values = wanted[name]
        if not (np.isfinite(values) & (values >= 0) & ((values > 0) | (name == "displayed"))).all():
            raise DataError(f"an order's {name} must be finite and {least}")
    sent = pd.DatetimeIndex(orders.index).as_unit("ns")
    arrival = sent + latency.delays(orders["order"])
    expiry = np.full(len(orders), np.iinfo(np.int64).max)
    if "expires" in orders.columns:
        given = pd.DatetimeIndex(orders["expires"]).as_unit("ns")
        expiry = np.where(given.isna(), expiry, given.asi8)
    ahead = wanted["displayed"] * queue.share_ahead
    price, size, taker = (np.ascontiguousarray(trades[name], np.float64) for name in ("price", "size", "side"))
    filled, last = _rest(
        times,
        price,
        size,
        taker,
        arrival.asi8,
        wanted["side"],
        wanted["limit"],
        wanted["quantity"],
        ahead,
        np.ascontiguousarray(orders["order"], np.int64),
        expiry,
        queue.miss_probability,
        np.uint64(latency.seed),
    )
    done = pd.Series(pd.NaT, index=range(len(orders)), dtype=trades.index.dtype)
    done[last >= 0] = trades.index[last[last >= 0]]
    return pd.DataFrame(
        {
            "arrival": arrival,
            "ahead": ahead,
            "filled": filled,
            "unfilled": wanted["quantity"] - filled,
            "done": pd.DatetimeIndex(done),
        },
        index=orders.index,
    )
