"""What trades say after the fact: how good they were, how long they took, how far they went for and against.

Tables of a simulation, or of the lake's zone ``strategy``, go in; frames come out. A position still held is a trade
valued at the last close: it counts in every sum, so that sums are those of the account.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.cost_ladder import Account, equity_of
from tapeline.strategy.latency import mixed
from tapeline.strategy.simulator import SimulationSettings, simulate

Floats = NDArray[np.float64]

FEW: Final = 30
"""Below so many trades a mean's interval leans on too few of them to be read closely."""
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
_Z95: Final = 1.959963984540054


def trade_statistics(trades: pd.DataFrame, *, samples: int = 1000, seed: int = 0) -> pd.Series:
    """Figures of all trades.

    Returns
    -------
    ``trades``, ``open`` (still held); ``net``, ``gross``, ``commission``, ``financing``, ``slippage`` in money;
    ``win_rate`` with Wilson's 95 % interval; ``average_win`` and ``average_loss``; ``payoff``, the one over the other;
    ``expectancy``, the mean net of a trade, with a 95 % bootstrap interval (trades drawn one by one, as if they did
    not depend on each other); ``profit_factor``, won over lost; ``best``, ``worst``; ``winning_streak`` and
    ``losing_streak``, the longest; ``t`` and ``p_value``, two-sided, of an expectancy of 0 (Student 1908), NaN below
    two trades; ``note``.

    Examples
    --------
    >>> trades = pd.DataFrame({"net": [3.0, -1.0, 1.0, -1.0], "exit_at": pd.Timestamp("2024-01-02", tz="UTC")})
    >>> trade_statistics(trades)[["win_rate", "payoff", "expectancy", "profit_factor"]].tolist()
    [0.5, 2.0, 0.5, 2.0]
    """
    net = trades["net"].to_numpy(dtype=np.float64)
    found: dict[str, Any] = {"trades": len(net), "open": int(trades["exit_at"].isna().sum())}
    found["net"] = math.fsum(net)
    for name in ("gross", "commission", "financing", "slippage"):
        found[name] = math.fsum(trades[name]) if name in trades else math.nan
    won, lost = net[net > 0], net[net < 0]
    found["win_rate"] = won.size / net.size if net.size else math.nan
    found["win_rate_low"], found["win_rate_high"] = _wilson(won.size, net.size)
    found["average_win"] = float(won.mean()) if won.size else math.nan
    found["average_loss"] = float(lost.mean()) if lost.size else math.nan
    found["payoff"], found["profit_factor"] = payoff(net), profit_factor(net)
    found["expectancy"] = float(net.mean()) if net.size else math.nan
    found["expectancy_low"], found["expectancy_high"] = mean_interval(net, samples=samples, seed=seed)
    found["best"] = float(net.max()) if net.size else math.nan
    found["worst"] = float(net.min()) if net.size else math.nan
    found["winning_streak"], found["losing_streak"] = _longest(net > 0), _longest(net < 0)
    found["t"], found["p_value"] = _student(net)
    found["note"] = sample_note(net.size)
    return pd.Series(found, dtype=object)


def excursions(trades: pd.DataFrame) -> pd.DataFrame:
    """How far trades went against and for their side before they ended (Sweeney 1996, Maximum Adverse Excursion).

    Shares of the entry price. A bar does not tell the order of its prices: of the entry bar the worst is counted and
    of its best only the close; an exit's own bar counts to its exit price.

    Returns
    -------
    Rows ``all``, ``winners``, ``losers``; ``trades``; quantiles of the adverse and the favourable excursion.

    Examples
    --------
    >>> trades = pd.DataFrame({"net": [1.0, -1.0], "adverse": [-0.01, -0.03], "favourable": [0.04, 0.01]})
    >>> excursions(trades)[["adverse 50%", "favourable 50%"]].round(3).values.tolist()
    [[-0.02, 0.025], [-0.01, 0.04], [-0.03, 0.01]]
    """
    rows = {}
    for name, part in _winners_and_losers(trades).items():
        rows[name] = {"trades": len(part)} | {
            f"{column} {q:.0%}": float(part[column].quantile(q)) if len(part) else math.nan
            for column in ("adverse", "favourable")
            for q in QUANTILES
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def excursion_reach(trades: pd.DataFrame, distances: Sequence[float]) -> pd.DataFrame:
    """How many trades went so far against their side on their way: those that a stop at that distance had met.

    A count of what was, not of what would have been: a stop frees the account for other entries. For that
    :func:`stop_scenarios` simulates again.

    Examples
    --------
    >>> trades = pd.DataFrame({"net": [1.0, -1.0], "adverse": [-0.01, -0.03], "favourable": [0.04, 0.01]})
    >>> excursion_reach(trades, [0.005, 0.02]).values.tolist()
    [[0.005, 1.0, 1.0, 0.0], [0.02, 0.0, 1.0, -1.0]]
    """
    won, lost = trades[trades["net"] > 0], trades[trades["net"] <= 0]
    rows = []
    for distance in distances:
        if not distance > 0:
            raise ConfigurationError(f"distance = {distance} is not above 0", hint="a share of the entry price: 0.01")
        met = trades["adverse"] <= -distance
        rows.append(
            {
                "distance": float(distance),
                "winners_met": float((won["adverse"] <= -distance).mean()) if len(won) else math.nan,
                "losers_met": float((lost["adverse"] <= -distance).mean()) if len(lost) else math.nan,
                "net_of_met": math.fsum(trades.loc[met, "net"]),
            }
        )
    return pd.DataFrame(rows)


def stop_scenarios(
    bars: pd.DataFrame,
    decisions: pd.DataFrame,
    settings: SimulationSettings,
    *,
    factors: Sequence[float] = (0.5, 0.75, 1.0, 1.5, 2.0),
    **options: Any,
) -> pd.DataFrame:
    """The same decisions with every stop nearer or farther, simulated again by the same fill function and costs.

    Where stops are prices, their distance from the close of the decision's bar is multiplied; a factor of infinity
    leaves them out. Targets stay. Sizes stay too, though a risk-sized position would change with its stop. The best
    factor was chosen after the fact: it is a description of these bars and no forecast.

    Parameters
    ----------
    options:
        What ``simulate`` takes beside the settings: ``half_spread``, ``volatility``, rates, ``latency``.

    Returns
    -------
    One row a factor: ``factor``, ``net``, ``trades``, ``stopped`` (share of trades that a stop ended), ``win_rate``,
    ``mean`` of a trade with its 95 % bootstrap interval.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(100, 100, 104, 104)
    >>> decisions = pd.DataFrame({"target": [10.0], "stop": [98.5]}, index=bars.index[:1])
    >>> found = stop_scenarios(bars, decisions, SimulationSettings(), factors=(0.5, 1))
    >>> found[["factor", "net", "stopped"]].values.tolist()
    [[0.5, -7.5, 1.0], [1.0, 40.0, 0.0]]
    """
    if "stop" not in decisions.columns:
        raise DataError("decisions have no column 'stop' to move", hint="a strategy without stops has no scenarios")
    stop = decisions["stop"].to_numpy(dtype=np.float64)
    close = bars["close"].reindex(decisions.index).to_numpy(dtype=np.float64)
    rows = []
    for factor in factors:
        if not factor > 0:
            raise ConfigurationError(f"factor = {factor} is not above 0", hint="1 leaves stops where they are")
        if factor == 1:
            moved = stop
        elif math.isinf(factor):
            moved = np.full(stop.size, np.nan)
        else:
            moved = stop * factor if settings.protect_by_distance else close - (close - stop) * factor
        found = simulate(bars, decisions.assign(stop=moved), settings, **options)
        net = found.trades["net"].to_numpy(dtype=np.float64)
        low, high = mean_interval(net)
        rows.append(
            {
                "factor": float(factor),
                "net": float(found.equity.iloc[-1]) - settings.capital,
                "trades": net.size,
                "stopped": float((found.trades["reason"] == "stop").mean()) if net.size else math.nan,
                "win_rate": float((net > 0).mean()) if net.size else math.nan,
                "mean": float(net.mean()) if net.size else math.nan,
                "mean_low": low,
                "mean_high": high,
            }
        )
    return pd.DataFrame(rows)


def holding_times(trades: pd.DataFrame, until: pd.Timestamp) -> pd.DataFrame:
    """How long positions were held, from the open of the entry's bar to that of the exit's, or ``until`` if still held.

    Returns
    -------
    Rows ``all``, ``winners``, ``losers``; ``trades``, quantiles and ``mean``, as time spans.

    Examples
    --------
    >>> at = pd.date_range("2024-01-02", periods=3, freq="1h", tz="UTC")
    >>> trades = pd.DataFrame({"net": [1.0, -1.0], "entry_at": at[:2], "exit_at": [at[1], pd.NaT]})
    >>> holding_times(trades, at[2] + pd.Timedelta("3h"))["mean"].tolist()
    [Timedelta('0 days 02:30:00'), Timedelta('0 days 01:00:00'), Timedelta('0 days 04:00:00')]
    """
    held = trades["exit_at"].fillna(until) - trades["entry_at"]
    rows = {}
    for name, part in _winners_and_losers(trades).items():
        mine = held[part.index]
        rows[name] = {
            "trades": len(mine),
            **{f"{q:.0%}": mine.quantile(q) if len(mine) else pd.NaT for q in QUANTILES},
            "mean": mine.mean() if len(mine) else pd.NaT,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def positions(account: Account) -> Floats:
    """Units held at each close, by row of equity; of several books the sum of the absolute ones."""
    index, fills = equity_of(account).index, account.fills
    by = books(fills)
    groups = [part for _, part in fills.groupby(by, observed=True)] if by else [fills]
    held = np.zeros(len(index))
    for part in groups:
        level = np.cumsum(part["quantity"].to_numpy(dtype=np.float64))
        # What rounding leaves of a closed position is none.
        level[np.abs(level) < 1e-9 * np.abs(part["quantity"]).max()] = 0.0
        last = pd.DatetimeIndex(part["ts"]).searchsorted(index, side="right")
        held += (
            np.abs(np.concatenate(([0.0], level))[last]) if len(groups) > 1 else np.concatenate(([0.0], level))[last]
        )
    return held


def books(frame: pd.DataFrame) -> list[str]:
    """The columns that tell apart the books of a portfolio's table; none for one symbol."""
    return [name for name in ("symbol", "tag") if name in frame.columns]


def account_trades(account: Account) -> pd.DataFrame:
    """The trades with ``net`` in the account's money, by the time of their entry.

    A portfolio's trades state it as ``profit``, and everything else in their symbol's money: those columns are left out
    where ``profit`` shows another currency's rate.
    """
    trades = account.trades
    if "profit" not in trades.columns:
        return trades
    ordered = trades.sort_values(["entry_at", *books(trades)], kind="stable").reset_index(drop=True)
    same = np.allclose(ordered["net"], ordered["profit"], rtol=1e-9, atol=1e-9)
    foreign = [] if same else ["gross", "commission", "slippage", "financing"]
    return ordered.assign(net=ordered["profit"]).drop(columns=foreign)


def traded_value(fills: pd.DataFrame) -> float:
    """Value of all buys and sells, at the prices paid, in the account's currency where a ``rate`` is given."""
    value = fills["quantity"].abs().to_numpy() * fills["price"].abs().to_numpy()
    return float((value * fills["rate"].to_numpy()).sum() if "rate" in fills.columns else value.sum())


def mean_interval(
    values: Floats, *, samples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a mean from values drawn again one by one (Efron 1979); NaN below two values.

    Examples
    --------
    >>> low, high = mean_interval(np.arange(100.0))
    >>> low < 49.5 < high
    True
    """
    if values.size < 2:
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(_resampled_means(values, samples, seed), [tail, 1 - tail])
    return float(low), float(high)


@njit(cache=True, nogil=True)
def _resampled_means(values: Any, samples: Any, seed: Any) -> Any:
    step = np.uint64(0x9E3779B97F4A7C15)
    state = mixed(np.uint64(seed) + step)
    found = np.empty(samples)
    for sample in range(samples):
        total = 0.0
        for _ in range(values.size):
            state += step
            total += values[int(np.float64(mixed(state) >> np.uint64(11)) * 2.0**-53 * values.size)]
        found[sample] = total / values.size
    return found


def _winners_and_losers(trades: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    return {"all": trades, "winners": trades[trades["net"] > 0], "losers": trades[trades["net"] <= 0]}


def payoff(net: Floats) -> float:
    """The mean win over the mean loss; NaN where there is none of either."""
    won, lost = net[net > 0], net[net < 0]
    return float(won.mean() / -lost.mean()) if won.size and lost.size else math.nan


def profit_factor(net: Floats) -> float:
    """What was won over what was lost; NaN where nothing was lost."""
    lost = -float(net[net < 0].sum())
    return float(net[net > 0].sum()) / lost if lost > 0 else math.nan


def sample_note(trades: int) -> str:
    """A word of caution where there are few trades."""
    return "" if trades >= FEW else f"few trades: {trades} of {FEW}"


def _longest(flags: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max()) if edges.size else 0


def _wilson(won: int, trades: int) -> tuple[float, float]:
    if not trades:
        return math.nan, math.nan
    rate, weight = won / trades, _Z95**2 / trades
    half = _Z95 * math.sqrt(rate * (1 - rate) / trades + weight / (4 * trades))
    return (rate + weight / 2 - half) / (1 + weight), (rate + weight / 2 + half) / (1 + weight)


def _student(net: Floats) -> tuple[float, float]:
    if net.size < 2 or not net.std(ddof=1) > 0:
        return math.nan, math.nan
    from scipy.special import stdtr

    t = float(net.mean() / (net.std(ddof=1) / math.sqrt(net.size)))
    return t, float(2 * stdtr(net.size - 1, -abs(t)))
