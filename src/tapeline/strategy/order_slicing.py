"""An order cut into slices over time, by even time, by usual volume or by the best trade of cost against risk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.strategy.simulator import SimulationSettings, simulate

Floats = NDArray[np.float64]
_NOT_WHOLE = 1e-6


class SliceRules(BaseModel):
    """What slices must keep to.

    Parameters
    ----------
    lot:
        The step of quantities.
    minimum:
        The smallest slice: smaller ones wait and go with the next, what is left at the end with the last.
    jitter:
        By how much of itself each slice's weight may be off, drawn evenly; a schedule that others cannot read.
    seed:
        Of the jitter.
    participation:
        The largest share of a bar's usual volume. What a slice may not take is caught up by the slices after it, and
        where the end is full by the latest ones before. The cap is stronger than ``minimum``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lot: Annotated[float, Field(gt=0)] = 1.0
    minimum: Annotated[float, Field(ge=0)] = 0.0
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Annotated[int, Field(ge=0)] = 0
    participation: Annotated[float, Field(gt=0, le=1)] | None = None


class ImpactModel(BaseModel):
    """Linear impact and the price's own movement, in the units of Almgren and Chriss.

    Parameters
    ----------
    volatility:
        Standard deviation of the change of price over one unit of time, in price.
    temporary:
        Price paid more for each unit traded per unit of time (eta).
    permanent:
        By how much each unit traded moves the price for good (gamma).
    fixed:
        Cost of each unit, as half the spread (epsilon).
    risk_aversion:
        Money's worth of one unit of variance of the cost (lambda); 0: only the expected cost counts.
    interval:
        Units of time between slices (tau).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    volatility: Annotated[float, Field(ge=0)]
    temporary: Annotated[float, Field(gt=0)]
    permanent: Annotated[float, Field(ge=0)] = 0.0
    fixed: Annotated[float, Field(ge=0)] = 0.0
    risk_aversion: Annotated[float, Field(ge=0)] = 0.0
    interval: Annotated[float, Field(gt=0)] = 1.0


@dataclass(frozen=True)
class Execution:
    """How a schedule was filled.

    Parameters
    ----------
    fills:
        As the simulator reports them.
    filled, unfilled:
        Units of the order.
    price:
        Average of the fills, spread and slippage in it; NaN where nothing filled.
    arrival, twap, vwap:
        Close of the bar of the decision; over the bars of the schedule, the mean of their mean of open, high, low and
        close, and the mean of their (high + low + close) / 3 weighted by volume.
    arrival_bps, twap_bps, vwap_bps:
        How much worse than each the average price was, in basis points of it; below 0 it was better.
    """

    fills: pd.DataFrame
    filled: float
    unfilled: float
    price: float
    arrival: float
    twap: float
    vwap: float
    arrival_bps: float
    twap_bps: float
    vwap_bps: float


def twap_schedule(
    quantity: float, slices: int, rules: SliceRules | None = None, *, volumes: ArrayLike | None = None
) -> Floats:
    """Equal slices, to the lot: units by slice.

    Parameters
    ----------
    quantity:
        Units of the whole order, above 0, in whole lots.
    slices:
        How many bars to trade in.
    rules:
        Lots, smallest slice, jitter, share of volume.
    volumes:
        Usual volume of each bar, where ``rules`` has a participation.

    Raises
    ------
    DataError
        The quantity is no whole number of lots, or does not fit into the volumes.

    Examples
    --------
    >>> twap_schedule(10, 4).tolist()
    [3.0, 2.0, 3.0, 2.0]
    >>> twap_schedule(10, 4, SliceRules(minimum=5)).tolist()
    [0.0, 5.0, 0.0, 5.0]
    """
    if slices < 1:
        raise ConfigurationError(f"slices = {slices} is not 1 or more")
    return _sliced(quantity, np.ones(slices), rules or SliceRules(), volumes)


def vwap_schedule(quantity: float, volumes: ArrayLike, rules: SliceRules | None = None) -> Floats:
    """Slices in proportion to usual volumes, as ``IntradayProfile`` knows them, so that the price paid is near VWAP.

    Examples
    --------
    >>> vwap_schedule(100, [500, 300, 200]).tolist()
    [50.0, 30.0, 20.0]
    >>> vwap_schedule(100, [500, 300, 600], SliceRules(participation=0.1)).tolist()
    [36.0, 21.0, 43.0]
    >>> vwap_schedule(100, [100, 300, 700], SliceRules(participation=0.1, jitter=0.9, seed=3)).tolist()
    [2.0, 28.0, 70.0]
    """
    return _sliced(quantity, np.asarray(volumes, dtype=np.float64), rules or SliceRules(), volumes)


def almgren_chriss_schedule(
    quantity: float,
    slices: int,
    impact: ImpactModel,
    rules: SliceRules | None = None,
    *,
    volumes: ArrayLike | None = None,
) -> Floats:
    """Slices of the optimal trajectory, to the lot: the more averse to risk, the more is traded early.

    Examples
    --------
    >>> calm = ImpactModel(volatility=0.1, temporary=0.01)
    >>> almgren_chriss_schedule(100, 4, calm).tolist()
    [25.0, 25.0, 25.0, 25.0]
    >>> almgren_chriss_schedule(100, 4, calm.model_copy(update={"risk_aversion": 1.0})).tolist()
    [62.0, 24.0, 9.0, 5.0]
    """
    return _sliced(quantity, -np.diff(optimal_holdings(quantity, slices, impact)), rules or SliceRules(), volumes)


def optimal_holdings(quantity: float, slices: int, impact: ImpactModel) -> Floats:
    """What is still to be traded after 0, 1, ... slices, so that cost plus risk aversion times variance is least.

    ``x_j = sinh(kappa (T - t_j)) / sinh(kappa T) X`` with ``2 (cosh(kappa tau) - 1) / tau^2 = lambda sigma^2 / eta~``
    and ``eta~ = eta - gamma tau / 2``: Almgren and Chriss, Optimal Execution of Portfolio Transactions, Journal of Risk
    3 (2000), section 2.1, equations 16 to 19.

    Raises
    ------
    ConfigurationError
        The permanent impact of a slice is twice the temporary one or more: then no trajectory is best.

    Examples
    --------
    >>> optimal_holdings(100, 2, ImpactModel(volatility=0.3, temporary=0.01, risk_aversion=0.1)).round(2).tolist()
    [100.0, 34.48, 0.0]
    """
    if slices < 1:
        raise ConfigurationError(f"slices = {slices} is not 1 or more")
    tau = impact.interval
    effective = impact.temporary - impact.permanent * tau / 2
    if not effective > 0:
        raise ConfigurationError(
            f"permanent = {impact.permanent:g} over an interval of {tau:g} leaves no temporary impact",
            hint=f"permanent must be below {2 * impact.temporary / tau:g}",
        )
    step = math.acosh(1 + impact.risk_aversion * impact.volatility**2 / effective * tau**2 / 2)
    left = np.arange(slices, -1, -1, dtype=np.float64)
    if step * slices < 1e-6:
        return quantity * left / slices
    # sinh(a) / sinh(b) without overflow.
    b = step * slices
    found = quantity * np.exp(step * left - b) * np.expm1(-2 * step * left) / math.expm1(-2 * b)
    found[0] = quantity
    return np.asarray(found, dtype=np.float64)


def execution_cost(holdings: ArrayLike, impact: ImpactModel) -> tuple[float, float]:
    """Expected cost of a trajectory of holdings, in money against the price at its start, and the variance of it.

    Equations 4 and 5 of Almgren and Chriss with linear impact (equation 8).

    Examples
    --------
    >>> execution_cost([100, 50, 0], ImpactModel(volatility=0.5, temporary=0.25, permanent=0.25, fixed=0.5))
    (1925.0, 625.0)
    """
    x = np.asarray(holdings, dtype=np.float64)
    sold, tau = -np.diff(x), impact.interval
    effective = impact.temporary - impact.permanent * tau / 2
    expected = impact.permanent / 2 * x[0] ** 2 + impact.fixed * np.abs(sold).sum() + effective / tau * (sold**2).sum()
    return float(expected), float(impact.volatility**2 * tau * (x[1:] ** 2).sum())


def execute_schedule(
    bars: pd.DataFrame,
    at: pd.Timestamp,
    side: int,
    quantities: ArrayLike,
    settings: SimulationSettings | None = None,
    *,
    grace: int = 0,
    half_spread: ArrayLike = (),
    volatility: ArrayLike = (),
) -> Execution:
    """Trade a schedule through the simulator, from flat: a slice a bar, from the bar after ``at`` on.

    Each slice is a decision for the position that should be held by then. So what a thin bar did not give (the
    settings' slippage has a ``volume_limit``) is asked for again with the next slice, and after the last one for
    ``grace`` bars more.

    Parameters
    ----------
    bars:
        As the simulator takes them.
    at:
        The bar at whose close the order is decided.
    side:
        1 buys, -1 sells.
    quantities:
        Units by slice.
    settings, half_spread, volatility:
        As the simulator takes them.

    Raises
    ------
    DataError
        ``at`` is no bar's, or fewer bars follow it than there are slices.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(100, 101, 102, 103)
    >>> found = execute_schedule(bars, bars.index[0], 1, [5, 5], half_spread=0.5)
    >>> found.price, found.filled, round(found.arrival_bps, 6)
    (101.0, 10.0, 100.0)
    """
    wanted = np.asarray(quantities, dtype=np.float64)
    if side not in (1, -1) or wanted.ndim != 1 or not wanted.size or not (wanted >= 0).all():
        raise DataError(f"side = {side} and slices {wanted[:3]}... are no schedule", hint="side 1 or -1, slices >= 0")
    row = int(pd.DatetimeIndex(bars.index).get_indexer(pd.DatetimeIndex([at]))[0])
    if row < 0 or row + wanted.size >= len(bars):
        raise DataError(f"{wanted.size} slices from {at} on need a bar of that time and as many after it")
    part = slice(row, row + wanted.size + 1 + grace)
    target = np.where(wanted > 0, side * np.cumsum(wanted), np.nan)
    decisions = pd.DataFrame({"target": target}, index=bars.index[row : row + wanted.size])
    found = simulate(
        bars.iloc[part],
        decisions,
        settings,
        half_spread=_part(half_spread, part, len(bars)),
        volatility=_part(volatility, part, len(bars)),
    )
    return _execution(
        bars.iloc[row + 1 : row + 1 + wanted.size], float(bars["close"].iloc[row]), side, wanted, found.fills
    )


def _execution(traded: pd.DataFrame, arrival: float, side: int, wanted: Floats, fills: pd.DataFrame) -> Execution:
    filled = float(fills["quantity"].abs().sum())
    price = float((fills["quantity"].abs() * fills["price"]).sum() / filled) if filled else math.nan
    volume = traded["volume"].to_numpy(dtype=np.float64)
    typical = traded[["high", "low", "close"]].mean(axis=1).to_numpy()
    twap = float(traded[["open", "high", "low", "close"]].mean(axis=1).mean())
    vwap = float((volume * typical).sum() / volume.sum()) if volume.sum() > 0 else math.nan
    worse = [side * (price / benchmark - 1) * 1e4 for benchmark in (arrival, twap, vwap)]
    return Execution(fills, filled, float(wanted.sum()) - filled, price, arrival, twap, vwap, *worse)


def _sliced(quantity: float, weights: Floats, rules: SliceRules, volumes: ArrayLike | None) -> Floats:
    """Whole lots by slice; they are counted as whole numbers, so that their sum is the order's."""
    lots = round(quantity / rules.lot) if math.isfinite(quantity) else 0
    if lots < 1 or abs(quantity / rules.lot - lots) > _NOT_WHOLE:
        raise DataError(f"quantity = {quantity} is no whole number of lots of {rules.lot:g} above 0")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise DataError("volumes must be finite, not negative, and not all 0")
    if rules.jitter:
        weights = weights * np.random.default_rng(rules.seed).uniform(1 - rules.jitter, 1 + rules.jitter, weights.size)
    due = np.floor(lots * np.cumsum(weights) / weights.sum() + 0.5).astype(np.int64)
    due[-1] = lots
    counts = _merged(np.diff(due, prepend=0), math.ceil(rules.minimum / rules.lot - _NOT_WHOLE))
    if rules.participation is not None:
        counts = _capped(counts, _room(rules, volumes, weights.size))
    return np.asarray(counts * rules.lot, dtype=np.float64)


def _merged(counts: NDArray[np.int64], minimum: int) -> NDArray[np.int64]:
    found, waiting, latest = np.zeros_like(counts), 0, counts.size - 1
    for place, count in enumerate(counts.tolist()):
        waiting += count
        if waiting and waiting >= minimum:
            found[place], waiting, latest = waiting, 0, place
    found[latest] += waiting
    return found


def _room(rules: SliceRules, volumes: ArrayLike | None, slices: int) -> NDArray[np.int64]:
    usual = np.asarray([] if volumes is None else volumes, dtype=np.float64)
    if usual.shape != (slices,) or not (np.isfinite(usual).all() and (usual >= 0).all()):
        raise DataError(f"a participation of {rules.participation} needs the usual volume of each of {slices} bars")
    return np.floor(usual * (rules.participation or 0.0) / rules.lot + 1e-9).astype(np.int64)


def _capped(counts: NDArray[np.int64], room: NDArray[np.int64]) -> NDArray[np.int64]:
    if counts.sum() > room.sum():
        raise DataError(
            f"{counts.sum()} lots do not fit: the volumes and the participation leave room for {room.sum()}",
            hint="trade over more bars, or allow a larger share",
        )
    found, waiting = np.zeros_like(counts), 0
    for place, count in enumerate(counts.tolist()):
        waiting += count
        found[place] = min(waiting, int(room[place]))
        waiting -= int(found[place])
    for place in range(counts.size - 1, -1, -1):
        more = min(waiting, int(room[place] - found[place]))
        found[place] += more
        waiting -= more
    return found


def _part(values: ArrayLike, part: slice, rows: int) -> Floats:
    array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    return array[part] if array.size == rows else array
