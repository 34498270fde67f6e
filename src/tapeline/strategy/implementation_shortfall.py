"""What execution cost against the price at the decision, fill by fill.

A. F. Perold, The Implementation Shortfall: Paper versus Reality, Journal of Portfolio Management 14 (1988), no. 3.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.errors import DataError

PARTS = ("delay", "waiting", "impact", "commission")


def fill_shortfall(
    bars: pd.DataFrame, fills: pd.DataFrame, orders: pd.DataFrame, *, multiplier: float = 1.0
) -> pd.DataFrame:
    """What each fill cost against the price at which it was decided, and in which of its steps.

    The decision's price is the close of the bar at which it was taken; that of a protective order the stop or target
    itself, so that a stop's shortfall is the gap beyond it. The arrival's price is the open of the bar in which the
    order arrived; the reference what the market traded at the fill.

    Parameters
    ----------
    bars:
        Of the one symbol, index ``ts``.
    fills, orders:
        Of the account; ``fills.order`` is the row of ``orders``.
    multiplier:
        Money of one price unit of one contract.

    Returns
    -------
    One row a fill: ``ts``, ``reason``, ``kind``, ``quantity``, ``decision``, ``arrival``, ``reference``, ``price``. In
    money: ``value`` at the decision's price and, a cost above 0, ``delay`` (decision to arrival), ``waiting`` (arrival
    to what traded), ``impact`` (half spread and slippage), ``commission``, and ``shortfall``, their sum;
    ``shortfall_bps`` of the value.

    Raises
    ------
    DataError
        An order or a bar of a fill is missing.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.strategy.simulator import simulate
    >>> bars = example_bars(100, 100, 104)
    >>> bars["open"] = [100.0, 101.0, 102.0]
    >>> found = simulate(bars, pd.DataFrame({"target": [2.0]}, index=bars.index[:1]), half_spread=0.5)
    >>> fill_shortfall(bars, found.fills, found.orders)[["delay", "waiting", "impact", "shortfall"]].values.tolist()
    [[2.0, 0.0, 1.0, 3.0]]
    """
    rows = fills["order"].to_numpy(dtype=np.int64)
    if len(rows) and (rows.min() < 0 or rows.max() >= len(orders)):
        raise DataError(f"fills name the orders {rows.min()} to {rows.max()}, and there are {len(orders)}")
    mine = orders.iloc[rows]
    decided, arrived = _rows_of(bars, mine["decided_at"]), _rows_of(bars, mine["arrived_at"])
    decision, arrival = bars["close"].to_numpy()[decided].copy(), bars["open"].to_numpy()[arrived].copy()
    stop, limit = mine["stop"].to_numpy(dtype=np.float64), mine["limit"].to_numpy(dtype=np.float64)
    for reason, level in (("stop", stop), ("target", limit)):
        protective = (mine["reason"] == reason).to_numpy()
        decision[protective] = arrival[protective] = level[protective]
    quantity = fills["quantity"].to_numpy(dtype=np.float64)
    signed = quantity * multiplier
    price, reference = fills["price"].to_numpy(dtype=np.float64), fills["reference"].to_numpy(dtype=np.float64)
    commission = fills["commission"].to_numpy(dtype=np.float64)
    total = signed * (price - decision) + commission
    return pd.DataFrame(
        {
            "ts": fills["ts"].to_numpy(),
            "reason": fills["reason"].astype(str).to_numpy(),
            "kind": mine["kind"].astype(str).to_numpy(),
            "quantity": quantity,
            "decision": decision,
            "arrival": arrival,
            "reference": reference,
            "price": price,
            "value": np.abs(signed * decision),
            "delay": signed * (arrival - decision),
            "waiting": signed * (reference - arrival),
            "impact": signed * (price - reference),
            "commission": commission,
            "shortfall": total,
            "shortfall_bps": 1e4 * total / np.abs(signed * decision),
        }
    )


def shortfall_summary(shortfall: pd.DataFrame) -> pd.DataFrame:
    """What execution took in all, by why an order was sent and of which kind it was.

    Returns
    -------
    ``reason``, ``kind``, ``fills``, the parts and their sum in money, ``mean_bps`` weighted by value, ``worst_bps``.
    The last row is of all fills.

    Examples
    --------
    >>> one = {"reason": "stop", "kind": "stop", "value": 200.0, "delay": 0.0, "waiting": 1.0,
    ...     "impact": 0.5, "commission": 0.0, "shortfall": 1.5, "shortfall_bps": 75.0}
    >>> shortfall_summary(pd.DataFrame([one]))[["reason", "fills", "shortfall", "mean_bps"]].values.tolist()
    [['stop', 1, 1.5, 75.0], ['all', 1, 1.5, 75.0]]
    """
    rows = [
        {"reason": reason, "kind": kind, **_sums(part)}
        for (reason, kind), part in shortfall.groupby(["reason", "kind"], sort=True)
    ]
    return pd.DataFrame([*rows, {"reason": "all", "kind": "", **_sums(shortfall)}])


def missed_orders(bars: pd.DataFrame, orders: pd.DataFrame, *, multiplier: float = 1.0) -> pd.DataFrame:
    """What orders that did not fill would have made by their end: the other side of a limit's better price.

    Returns
    -------
    One row an order with something unfilled: ``decided_at``, ``ended_at``, ``kind``, ``status``, ``unfilled`` (signed
    units), ``decision`` (close of its bar), ``last`` (close of the bar in which it ended, the last close if it still
    works) and ``missed`` in money: what the units would have gained at the decision's price, below 0 what was avoided.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.strategy.simulator import simulate
    >>> bars = example_bars(100, 104, 108)
    >>> found = simulate(bars, pd.DataFrame({"target": [2.0], "limit": [90.0]}, index=bars.index[:1]))
    >>> missed_orders(bars, found.orders)[["kind", "status", "unfilled", "missed"]].values.tolist()
    [['limit', 'working', 2.0, 16.0]]
    """
    asked = orders[(orders["reason"] == "signal").to_numpy()]
    left = asked["quantity"].to_numpy(dtype=np.float64) - asked["filled"].to_numpy(dtype=np.float64)
    chosen = np.abs(left) > 1e-9 * np.abs(asked["quantity"].to_numpy(dtype=np.float64))
    asked, left = asked[chosen], left[chosen]
    close = bars["close"].ffill().to_numpy()
    decision = close[_rows_of(bars, asked["decided_at"])]
    last = close[_rows_of(bars, asked["ended_at"].fillna(bars.index[-1]))]
    return pd.DataFrame(
        {
            **{name: asked[name].to_numpy() for name in ("decided_at", "ended_at")},
            **{name: asked[name].astype(str).to_numpy() for name in ("kind", "status")},
            "unfilled": left,
            "decision": decision,
            "last": last,
            "missed": left * multiplier * (last - decision),
        }
    )


def _rows_of(bars: pd.DataFrame, times: pd.Series) -> np.ndarray:
    found = bars.index.get_indexer(pd.DatetimeIndex(times))
    if (found < 0).any():
        raise DataError(
            f"{times.iloc[int((found < 0).argmax())]} is the time of no bar", hint="give the bars traded on"
        )
    return found


def _sums(part: pd.DataFrame) -> dict[str, float]:
    value = float(part["value"].sum())
    return {
        "fills": len(part),
        **{name: float(part[name].sum()) for name in (*PARTS, "shortfall")},
        "mean_bps": 1e4 * float(part["shortfall"].sum()) / value if value else float("nan"),
        "worst_bps": float(part["shortfall_bps"].max()) if len(part) else float("nan"),
    }
