"""Where the money came from: the net of trades by side, hour, weekday, reason of exit, tag and regime."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numba import njit

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.pit import asof_join
from tapeline.strategy.cost_ladder import Account
from tapeline.strategy.trade_analysis import books, mean_interval, payoff, profit_factor, sample_note

UNKNOWN: Final = "unknown"
ATTRIBUTION_COLUMNS: Final = (
    *(
        "group",
        "trades",
        "net",
        "share",
        "mean",
        "mean_low",
        "mean_high",
        "win_rate",
        "payoff",
        "profit_factor",
        "note",
    ),
)
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def trade_keys(
    trades: pd.DataFrame,
    *,
    tags: Sequence[Any] | None = None,
    regimes: pd.Series | None = None,
    zone: str = "UTC",
) -> pd.DataFrame:
    """What each trade may be attributed to, known at its entry but for the reason of its exit.

    Parameters
    ----------
    trades:
        One row a round trip.
    tags:
        One a trade, such as the rule that asked for it; :func:`entry_decisions` finds the decision of each.
    regimes:
        The regime, indexed by the instant from which it was known (a bar's close, not its open). A trade has the last
        one known at its entry, or ``unknown``.
    zone:
        Of the clock for ``hour`` and ``weekday``.

    Returns
    -------
    ``side``, ``exit reason``, ``hour``, ``weekday``; ``symbol``, ``tag`` and ``regime`` where they are known.

    Examples
    --------
    >>> at = pd.DatetimeIndex(["2024-01-02 10:00"], tz="UTC")
    >>> trades = pd.DataFrame({"entry_at": at, "quantity": [-2.0], "reason": ["stop"]})
    >>> regimes = pd.Series(["calm", "wild"], pd.DatetimeIndex(["2024-01-02 09:00", "2024-01-02 10:30"], tz="UTC"))
    >>> trade_keys(trades, regimes=regimes, zone="Europe/Berlin").values.tolist()
    [['short', 'stop', 11, 'Tuesday', 'calm']]
    """
    entry = pd.DatetimeIndex(trades["entry_at"])
    if entry.tz is None:
        raise DataError("times of trades carry no zone", hint="use UTC")
    try:
        local = entry.tz_convert(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigurationError(f"zone '{zone}' is unknown", hint="a name such as Europe/London") from error
    keys = pd.DataFrame(
        {
            "side": np.where(trades["quantity"].to_numpy() > 0, "long", "short"),
            "exit reason": trades["reason"].astype(str).to_numpy(),
            "hour": local.hour.to_numpy(),
            "weekday": pd.Categorical.from_codes(local.day_of_week.to_numpy(), categories=pd.Index(WEEKDAYS)),
        },
        index=trades.index,
    )
    for name in books(trades):
        if name == "symbol" or (trades[name].astype(str) != "").any():
            keys[name] = trades[name].astype(str).to_numpy()
    if tags is not None:
        if len(tags) != len(trades):
            raise DataError(f"{len(tags)} tags for {len(trades)} trades")
        keys["tag"] = pd.Series(tags, index=trades.index, dtype=object).where(lambda tag: tag.notna(), UNKNOWN)
    if regimes is not None:
        order = np.argsort(entry.asi8, kind="stable")
        joined = asof_join(
            pd.DataFrame(index=order),
            pd.DataFrame({"regime": regimes.to_numpy(dtype=object)}),
            at=entry[order],
            known_at=pd.DatetimeIndex(regimes.index),
        )["regime"].sort_index()
        keys["regime"] = joined.where(joined.notna(), UNKNOWN).to_numpy()
    return keys


def attribution(trades: pd.DataFrame, key: pd.Series, *, samples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Where the money came from, a row a group; the groups' ``net`` sum to that of all trades.

    Returns
    -------
    ``group``, ``trades``, ``net``, ``share`` of the total's size (of the sum of all groups' absolute nets, for a total
    near 0 has no shares), ``mean`` with a 95 % bootstrap interval, ``win_rate``, ``payoff``, ``profit_factor`` and a
    ``note`` where there are few trades. The best of many groups looks good by chance alone.

    Examples
    --------
    >>> trades = pd.DataFrame({"net": [3.0, -1.0, 1.0]})
    >>> attribution(trades, pd.Series(["a", "b", "a"]))[["group", "trades", "net", "share"]].values.tolist()
    [['a', 2, 4.0, 0.8], ['b', 1, -1.0, -0.2]]
    """
    if len(key) != len(trades):
        raise DataError(f"{len(key)} keys for {len(trades)} trades")
    net = trades["net"].to_numpy(dtype=np.float64)
    codes, groups = pd.factorize(key.astype(object).where(key.notna(), UNKNOWN).to_numpy(), sort=False)
    order = _in_order(groups, key)
    parts = [net[codes == code] for code in order]
    whole = math.fsum(abs(math.fsum(part)) for part in parts)
    rows = []
    for code, part in zip(order, parts, strict=True):
        low, high = mean_interval(part, samples=samples, seed=seed)
        total = math.fsum(part)
        rows.append(
            (
                *(groups[code], part.size, total, total / whole if whole else math.nan, total / part.size, low, high),
                *(float((part > 0).mean()), payoff(part), profit_factor(part), sample_note(part.size)),
            )
        )
    return pd.DataFrame(rows, columns=list(ATTRIBUTION_COLUMNS))


def attributions(
    trades: pd.DataFrame, keys: pd.DataFrame, *, samples: int = 1000, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """:func:`attribution` by every column of ``keys``."""
    return {str(name): attribution(trades, keys[name], samples=samples, seed=seed) for name in keys.columns}


def entry_decisions(account: Account, orders: pd.DataFrame) -> pd.Series:
    """When each trade was decided: the bar at whose close the order of its first fill was; a row a trade.

    The open of that bar: an index into decisions, whose tags are then the trades'.

    Raises
    ------
    DataError
        Fills and trades do not belong together.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(100, 100, 104)
    >>> decisions = pd.DataFrame({"target": [1.0]}, index=bars.index[:1])
    >>> from tapeline.strategy.simulator import simulate
    >>> found = simulate(bars, decisions)
    >>> (entry_decisions(found, found.orders) == bars.index[0]).tolist()
    [True]
    """
    fills, trades = account.fills, account.trades
    found = pd.Series(pd.NaT, index=trades.index, dtype="datetime64[ns, UTC]")
    by = books(trades)
    own = dict(list(fills.groupby(by, observed=True))) if by else {}
    groups: list[tuple[Any, Any]] = (
        [(own[name], part.index) for name, part in trades.groupby(by, observed=True)] if by else [(fills, trades.index)]
    )
    for mine, rows in groups:
        first = _first_fills(mine["quantity"].to_numpy(dtype=np.float64))
        entered = mine["ts"].iloc[first]
        if len(first) != len(rows) or (entered.to_numpy() != trades.loc[rows, "entry_at"].to_numpy()).any():
            raise DataError(f"fills open {len(first)} positions, and there are {len(rows)} trades, or at other times")
        decided = orders["decided_at"].iloc[mine["order"].iloc[first].to_numpy()]
        found.loc[rows] = pd.DatetimeIndex(decided).as_unit("ns")
    return found


@njit(cache=True, nogil=True)
def _first_fills(quantities: Any) -> Any:
    """The fill that opens each position, as round trips are counted: one that turns it round opens the next."""
    found = np.empty(quantities.size, np.int64)
    count, position = 0, 0.0
    for fill in range(quantities.size):
        quantity = quantities[fill]
        if quantity == 0.0:
            continue
        if position == 0.0:
            found[count] = fill
            count += 1
            position = quantity
        elif position * quantity > 0.0:
            position += quantity
        elif abs(quantity) >= abs(position) * (1.0 - 1e-9):
            left = quantity + position
            position = 0.0
            if abs(left) >= abs(quantity) * 1e-9:
                found[count] = fill
                count += 1
                position = left
        else:
            position += quantity
    return found[:count]


def _in_order(groups: Any, key: pd.Series) -> list[int]:
    """Codes of groups as a reader looks for them: by category, by size of number, by name; the unknown last."""
    ranks: dict[Any, Any] = {}
    if isinstance(key.dtype, pd.CategoricalDtype):
        ranks = {name: place for place, name in enumerate(key.cat.categories)}

    def place(code: int) -> tuple[Any, ...]:
        group = groups[code]
        if group == UNKNOWN:
            return 3, 0
        if group in ranks:
            return 0, ranks[group]
        return (1, float(group)) if isinstance(group, int | float | np.number) else (2, str(group))

    return sorted(range(len(groups)), key=place)
