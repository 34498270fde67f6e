"""Walking a search forward: the best of the past is chosen, and what follows is traded by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tapeline.core.errors import DataError
from tapeline.strategy.search_space import neighbours
from tapeline.strategy.simulator import Simulation, SimulationSettings, simulate

Floats = NDArray[np.float64]
Decide = Callable[..., Any]
"""``decide(bars, **parameters)``: what to hold from each bar's close on."""

Statistic = Literal["sharpe", "sortino", "return", "calmar"]


def statistic_of(returns: Floats, statistic: Statistic) -> Floats:
    """The statistic of each column of returns by period; 0 where nothing was traded.

    Examples
    --------
    >>> returns = np.array([[0.01, 0.0], [-0.005, 0.0], [0.015, 0.0]])
    >>> {name: statistic_of(returns, name).round(3).tolist() for name in ("sharpe", "sortino", "return", "calmar")}
    {'sharpe': [0.641, 0.0], 'sortino': [2.309, 0.0], 'return': [0.02, 0.0], 'calmar': [4.0, 0.0]}
    """
    total = returns.sum(axis=0)
    if statistic == "return":
        return np.asarray(total)
    if statistic == "sharpe":
        risk = returns.std(axis=0, ddof=1)
        gain = returns.mean(axis=0)
    elif statistic == "sortino":
        risk = np.sqrt((np.minimum(returns, 0.0) ** 2).mean(axis=0))
        gain = returns.mean(axis=0)
    else:
        equity = np.vstack([np.zeros(returns.shape[1]), np.cumsum(returns, axis=0)])
        risk = (np.maximum.accumulate(equity, axis=0) - equity).max(axis=0)
        gain = total
    # A set that never lost is the best there is, yet finite: its risk counts as that of a rounding.
    scale = np.abs(returns).max(axis=0, initial=0.0)
    return np.where(scale > 0.0, gain / np.maximum(risk, 1e-9 * np.maximum(scale, 1e-300)), 0.0)


def decisions_of(bars: pd.DataFrame, decide: Decide, parameters: Mapping[str, Any]) -> pd.DataFrame:
    """What a set decides, as a frame by bar: ``target`` and what it gives of ``stop`` and ``take``.

    Raises
    ------
    DataError
        It is something else than a value a bar, or has other columns.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> def decide(bars, units):
    ...     return np.full(len(bars), units)
    >>> decisions_of(example_bars(10, 11), decide, {"units": 2})["target"].tolist()
    [2.0, 2.0]
    """
    answer = decide(bars, **parameters)
    if isinstance(answer, pd.DataFrame):
        unknown = set(answer.columns) - {"target", "stop", "take"}
        if unknown or "target" not in answer.columns:
            raise DataError(
                f"decide({dict(parameters)}) has the columns {sorted(map(str, answer.columns))}",
                hint="a search takes target, stop and take",
            )
    else:
        answer = pd.DataFrame({"target": np.asarray(answer)})
    if len(answer) != len(bars):
        raise DataError(f"decide({dict(parameters)}) gives {len(answer)} values for {len(bars)} bars")
    return answer.astype(np.float64).set_axis(bars.index)


def choose_windows(
    bars: pd.DataFrame,
    sets: list[dict[str, Any]],
    matrix: Floats,
    ends: NDArray[np.int64],
    edges: NDArray[np.intp],
    statistic: Statistic,
    train: int | None,
) -> pd.DataFrame:
    """The choice of each window from the periods before it."""
    times, closes = pd.DatetimeIndex(bars.index), pd.DatetimeIndex(bars["close_ts"])
    begins = np.concatenate(([0], ends[:-1] + 1))
    found = []
    for number in range(train or 1, len(edges) - 1):
        first = 0 if train is None else edges[number - train]
        seam, last = edges[number], edges[number + 1]
        values = statistic_of(matrix[first:seam], statistic)
        chosen = int(values.argmax())
        around = neighbours(sets, chosen)
        found.append(
            {
                "trained_from": times[begins[first]],
                "trained_until": closes[ends[seam - 1]],
                "tested_from": times[begins[seam]],
                "tested_until": closes[ends[last - 1]],
                "set": chosen,
                **sets[chosen],
                "train_statistic": float(values[chosen]),
                "neighbour_mean": float(values[around].mean()) if around.size else np.nan,
                "first_row": int(begins[seam]),
            }
        )
    return pd.DataFrame(found)


def walk_windows(
    bars: pd.DataFrame,
    decide: Decide,
    sets: list[dict[str, Any]],
    windows: pd.DataFrame,
    settings: SimulationSettings,
    half_spread: ArrayLike,
    volatility: ArrayLike,
) -> Simulation:
    """Trade each window by its set.

    What fills in the rows of a window was decided from the close before its first row on.
    """
    joined = pd.DataFrame(np.nan, index=bars.index, columns=["target", "stop", "take"])
    firsts = windows["first_row"].tolist()
    before = -1
    for place, (first, which) in enumerate(zip(firsts, windows["set"].tolist(), strict=True)):
        until = firsts[place + 1] - 1 if place + 1 < len(firsts) else len(bars)
        part = decisions_of(bars, decide, sets[which]).reindex(columns=joined.columns)
        _refuse_foresight(part.iloc[:first], decisions_of(bars.iloc[:first], decide, sets[which]), sets[which])
        if which != before:
            held = part.iloc[:first].dropna(subset="target")
            part.iloc[first - 1] = held.iloc[-1] if len(held) else [0.0, np.nan, np.nan]
        joined.iloc[first - 1 : until] = part.iloc[first - 1 : until]
        before = which
    return simulate(bars, joined.dropna(axis=1, how="all"), settings, half_spread=half_spread, volatility=volatility)


def _refuse_foresight(whole: pd.DataFrame, known: pd.DataFrame, parameters: Mapping[str, Any]) -> None:
    same = np.isclose(whole[known.columns].to_numpy(), known.to_numpy(), rtol=1e-9, atol=0.0, equal_nan=True)
    if not same.all():
        row = int(np.flatnonzero(~same.all(axis=1))[0])
        raise DataError(
            f"decide({dict(parameters)}) decides otherwise at {whole.index[row]} once later bars are known",
            hint="a decision may use bars up to its own only",
        )
