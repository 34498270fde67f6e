"""From scores to trades: one position a symbol at a time, costs on both sides, and what random entries would have got.

A trade enters at the open of the bar after the decision and leaves at ``t_end`` of its label, so its gross return is
the label's outcome times the side. This is a picture of a model's scores, not a simulator: see the limits in
docs/evaluation.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from numba import njit

from tapeline.core.errors import DataError
from tapeline.core.settings import CostSettings
from tapeline.evaluation.metrics import maximum_drawdown, sharpe_ratio

COST_LEVELS: Final = ("no cost", "fees", "fees and spread")
GRID_POINTS: Final = 200
_YEAR_SECONDS: Final = 365.25 * 86_400
_REQUIRED: Final = ("ts", "symbol", "t0", "t_end", "side", "outcome")


@dataclass(frozen=True)
class RandomEntries:
    """What as many trades with the same sides at random times would have brought, after the same costs.

    Parameters
    ----------
    total_return, sharpe:
        One value a draw: sum of net returns at a fixed notional, and Sharpe ratio of one trade.
    band:
        Index: instants over the span; columns ``low``, ``median``, ``high``: the 5 %, 50 % and 95 % quantile of the
        draws' cumulative net return at that instant.
    """

    total_return: npt.NDArray[np.float64]
    sharpe: npt.NDArray[np.float64]
    band: pd.DataFrame

    def percentile(self, total_return: float) -> float:
        """The share of draws, in percent, that a total return beats (ties count one half)."""
        if not self.total_return.size:
            return float("nan")
        # Sums of the same numbers in another order differ in the last bits.
        equal = np.isclose(self.total_return, total_return, rtol=1e-9, atol=1e-12)
        below = (self.total_return < total_return) & ~equal
        return float(100 * (below.mean() + 0.5 * equal.mean()))


def simulate(decisions: pd.DataFrame, costs: CostSettings) -> pd.DataFrame:
    """Turn decisions into trades that do not overlap within a symbol.

    Parameters
    ----------
    decisions:
        Columns ``ts``, ``symbol``, ``t0`` (the decision: the trade enters at the next open), ``t_end`` (it leaves),
        ``side`` (+1, 0, -1) and ``outcome`` (simple return of a long trade over that time). Rows with side 0 or
        without an outcome cannot be traded. While a symbol holds a position, its further decisions are passed over.
    costs:
        Fee and half spread in basis points, each paid on entry and on exit.

    Returns
    -------
    One row a trade, by exit time: ``symbol``, ``ts``, ``t0``, ``t_end``, ``side``, ``gross``, ``fees``, ``spread``,
    ``net``, all as a share of a fixed notional.

    Raises
    ------
    DataError
        A column is missing, a trade would end before it begins, or a side is none of -1, 0, +1.

    Examples
    --------
    >>> when = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC")
    >>> rows = pd.DataFrame({"ts": when, "symbol": "EURUSD", "t0": when + pd.Timedelta("1h"),
    ...     "t_end": when + pd.Timedelta("3h"), "side": [1, 1, -1], "outcome": [0.01, 0.02, 0.03]})
    >>> simulate(rows, CostSettings(fee_bps=1.0, half_spread_bps=0.5))[["gross", "net"]].round(4).values.tolist()
    [[0.01, 0.0097], [-0.03, -0.0303]]
    """
    rows = _ordered(decisions)
    chosen = np.zeros(len(rows), dtype=bool)
    for positions in rows.groupby("symbol", sort=True, observed=True).indices.values():
        start, end = _nanoseconds(rows["t0"])[positions], _nanoseconds(rows["t_end"])[positions]
        tradable = _tradable(rows)[positions]
        chosen[positions] = _first_come(start, end, tradable)
    return _priced(rows[chosen], costs)


def equity_curve(trades: pd.DataFrame) -> pd.DataFrame:
    """Cumulative return by exit time for each cost level, a fixed notional a trade, nothing reinvested.

    Returns
    -------
    Index ``t_end``; columns ``no cost``, ``fees``, ``fees and spread``; 0.01 is one percent of the notional.
    Trades that leave at one instant share a row.
    """
    steps = pd.DataFrame(_nets(trades))
    return steps.groupby(pd.DatetimeIndex(trades["t_end"], name="t_end")).sum().cumsum()


def cost_ladder(trades: pd.DataFrame) -> pd.DataFrame:
    """The same trades at each cost level: how much of the result the costs take.

    Returns
    -------
    Columns ``level``, ``trades``, ``total_return`` (sum, fixed notional), ``mean_bps`` (a trade), ``win_rate``,
    ``sharpe`` (of one trade), ``sharpe_annual`` (times the root of trades a year), ``maximum_drawdown``.
    """
    yearly = trades_per_year(trades)
    return pd.DataFrame(
        [
            {
                "level": level,
                "trades": len(net),
                "total_return": float(net.sum()),
                "mean_bps": float(net.mean() * 1e4) if len(net) else float("nan"),
                "win_rate": float((net > 0).mean()) if len(net) else float("nan"),
                "sharpe": sharpe_ratio(net),
                "sharpe_annual": sharpe_ratio(net, periods_per_year=yearly),
                "maximum_drawdown": maximum_drawdown(np.r_[0.0, net.cumsum()]),
            }
            for level, net in _nets(trades).items()
        ]
    )


def trades_per_year(trades: pd.DataFrame) -> float:
    """How many trades a year of calendar time held, from the first entry to the last exit; 0 without trades."""
    if trades.empty:
        return 0.0
    seconds = (trades["t_end"].max() - trades["t0"].min()).total_seconds()
    return len(trades) * _YEAR_SECONDS / seconds if seconds > 0 else float(len(trades))


def random_entries(
    decisions: pd.DataFrame, trades: pd.DataFrame, costs: CostSettings, *, draws: int = 500, seed: int = 0
) -> RandomEntries:
    """Trade at random times: the null that a percentage of right directions alone cannot show.

    Each draw keeps, symbol by symbol, the number of trades and the mix of sides of ``trades`` (so a model that is
    merely long in a rising market does not beat it), shuffles the sides, spreads the entries at random over the
    tradable rows without overlap, and pays the same costs. Where the last trades of a draw do not fit any more, the
    draw has a few fewer.

    Parameters
    ----------
    decisions, trades, costs:
        As given to and returned by :func:`simulate`.
    draws:
        Number of random histories.
    seed:
        Same seed, same draws.
    """
    rows = _ordered(decisions)
    rows = rows[np.isfinite(rows["outcome"].to_numpy(dtype=np.float64))].reset_index(drop=True)
    cost = 2 * (costs.fee_bps + costs.half_spread_bps) / 1e4
    generator = np.random.default_rng(seed)
    exits, nets = [], []
    for symbol, positions in rows.groupby("symbol", sort=True, observed=True).indices.items():
        sides = trades.loc[trades["symbol"] == symbol, "side"].to_numpy(dtype=np.int64)
        if not sides.size:
            continue
        start, end = _nanoseconds(rows["t0"])[positions], _nanoseconds(rows["t_end"])[positions]
        free = np.searchsorted(start, end, side="left")
        picked = _random_walks(free, sides.size, draws, generator)
        shuffled = generator.permuted(np.tile(sides, (draws, 1)), axis=1)
        outcome = rows["outcome"].to_numpy(dtype=np.float64)[positions]
        nets.append(np.where(picked >= 0, shuffled * outcome[picked] - cost, 0.0))
        exits.append(np.where(picked >= 0, end[picked], np.iinfo(np.int64).max))
    if not nets:
        return RandomEntries(np.empty(0), np.empty(0), pd.DataFrame(columns=["low", "median", "high"], dtype=float))
    net, leave = np.concatenate(nets, axis=1), np.concatenate(exits, axis=1)
    made = leave != np.iinfo(np.int64).max
    sharpe = np.array([sharpe_ratio(row[mask]) for row, mask in zip(net, made, strict=True)])
    return RandomEntries(net.sum(axis=1), sharpe, _band(net, leave, rows))


def _nets(trades: pd.DataFrame) -> dict[str, pd.Series]:
    steps = (trades["gross"], trades["gross"] - trades["fees"], trades["net"])
    return dict(zip(COST_LEVELS, steps, strict=True))


def _band(net: npt.NDArray[np.float64], leave: npt.NDArray[np.int64], rows: pd.DataFrame) -> pd.DataFrame:
    first, last = int(_nanoseconds(rows["t0"]).min()), int(_nanoseconds(rows["t_end"]).max())
    grid = np.linspace(first, last, GRID_POINTS).astype(np.int64)
    grid[-1] = last
    order = np.argsort(leave, axis=1, kind="stable")
    totals = np.cumsum(np.take_along_axis(net, order, axis=1), axis=1)
    sorted_leave = np.take_along_axis(leave, order, axis=1)
    paths = np.empty((len(net), grid.size))
    for draw in range(len(net)):
        count = np.searchsorted(sorted_leave[draw], grid, side="right")
        paths[draw] = np.r_[0.0, totals[draw]][count]
    low, median, high = np.quantile(paths, [0.05, 0.5, 0.95], axis=0)
    index = pd.DatetimeIndex(pd.to_datetime(grid, unit="ns", utc=True), name="t_end")
    return pd.DataFrame({"low": low, "median": median, "high": high}, index=index)


def _random_walks(
    free: npt.NDArray[np.intp], trades: int, draws: int, generator: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Rows of each draw's entries (-1 where none fitted): random gaps, walked once around from a random row."""
    rows = free.size
    occupied = trades * max(1.0, float((free - np.arange(rows)).mean()))
    slack = max(0, int(rows - occupied))
    # Cutting the slack at random places makes every spread of the idle rows over the gaps equally likely.
    cuts = np.sort(generator.integers(0, slack + 1, size=(draws, trades)), axis=1)
    gaps = np.diff(cuts, axis=1, prepend=0)
    starts = generator.integers(0, rows, size=draws)
    return _walk(free.astype(np.int64), gaps.astype(np.int64), starts.astype(np.int64))


@njit(cache=True)
def _walk(free: np.ndarray, gaps: np.ndarray, starts: np.ndarray) -> np.ndarray:
    draws, trades = gaps.shape
    rows = free.size
    picked = np.full((draws, trades), -1, dtype=np.int64)
    for draw in range(draws):
        travelled = 0
        position = starts[draw]
        for trade in range(trades):
            travelled += gaps[draw, trade]
            position += gaps[draw, trade]
            if position >= rows:
                position -= rows
            length = max(free[position] - position, 1)
            # A trade that would run over the place where the walk began would overlap the first one.
            if travelled + length > rows:
                break
            picked[draw, trade] = position
            travelled += length
            position = position + length
            if position >= rows:
                position = 0
    return picked


@njit(cache=True)
def _first_come(start: np.ndarray, end: np.ndarray, tradable: np.ndarray) -> np.ndarray:
    taken = np.zeros(start.size, dtype=np.bool_)
    busy_until = np.int64(np.iinfo(np.int64).min)
    for row in range(start.size):
        if tradable[row] and start[row] >= busy_until:
            taken[row] = True
            busy_until = end[row]
    return taken


def _ordered(decisions: pd.DataFrame) -> pd.DataFrame:
    absent = [name for name in _REQUIRED if name not in decisions.columns]
    if absent:
        raise DataError(f"the decisions lack the columns {absent}")
    if (decisions["t_end"] < decisions["t0"]).any():
        raise DataError(f"{int((decisions['t_end'] < decisions['t0']).sum())} trades would end before they begin")
    if not decisions["side"].isin((-1, 0, 1)).all():
        raise DataError("a side is none of -1, 0, +1")
    return decisions.sort_values(["t0", "symbol", "ts"], kind="stable").reset_index(drop=True)


def _tradable(rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    return (rows["side"].to_numpy() != 0) & np.isfinite(rows["outcome"].to_numpy(dtype=np.float64))


def _priced(rows: pd.DataFrame, costs: CostSettings) -> pd.DataFrame:
    gross = rows["side"].to_numpy(dtype=np.float64) * rows["outcome"].to_numpy(dtype=np.float64)
    fees = np.full(len(rows), 2 * costs.fee_bps / 1e4)
    spread = np.full(len(rows), 2 * costs.half_spread_bps / 1e4)
    trades = rows[["symbol", "ts", "t0", "t_end", "side"]].assign(
        gross=gross, fees=fees, spread=spread, net=gross - fees - spread
    )
    return trades.sort_values(["t_end", "symbol"], kind="stable").reset_index(drop=True)


def _nanoseconds(column: pd.Series) -> npt.NDArray[np.int64]:
    return pd.DatetimeIndex(column).as_unit("ns").asi8
