"""How much to trade: the known rules for the size of a position, as pure functions of numbers or of arrays.

A number and an array give the same result, element by element. A missing input (NaN) gives a missing size, never a
guess. ``point_value`` is the money of the account for one unit and one point of price: contract size times the rate of
the quote currency in the account's.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError

Floats = NDArray[np.float64]

WARM_UP: Final = 20
"""Returns whose mean square starts the exponentially weighted variance; before there are so many it is unknown."""
_FORGIVEN: Final = 1e-9


def fixed_fraction(equity: Any, share: Any, stop_distance: Any, *, point_value: Any = 1.0) -> Any:
    """Units that lose ``share`` of equity if the stop is hit.

    ``equity * share / (stop_distance * point_value)``: Vince 1992, The Mathematics of Money Management, ch. 1 (fixed
    fractional trading); Tharp 2007, Trade Your Way to Financial Freedom, ch. 14 (the percent risk model).

    Parameters
    ----------
    equity:
        Of the account; at or below 0 it gives 0.
    share:
        From 0 to 1.
    stop_distance:
        Points of price to the protective stop, above 0.

    Raises
    ------
    DataError
        A value is out of its bounds; it is named.

    Examples
    --------
    1% of 10,000 behind a stop of 50 pips, in lots of 100,000 EURUSD: a fifth of a lot.

    >>> fixed_fraction(10_000.0, 0.01, 0.0050, point_value=100_000.0)
    0.2
    """
    equity, share = _finite(equity, "equity"), _within(share, "share", 0.0, 1.0)
    risked = _above(stop_distance, "stop_distance") * _above(point_value, "point_value")
    return _plain(np.maximum(equity, 0.0) * share / risked)


def annualised_volatility(returns: Any, *, periods_per_year: float, decay: float = 0.94) -> Any:
    """Exponentially weighted volatility a year, at each row from the returns up to it.

    ``variance = decay * variance + (1 - decay) * return ** 2``, begun with the mean square of the first 20 returns
    (RiskMetrics Technical Document, 1996, section 5.2, there 0.94 for days and 0.97 for months). A missing return
    leaves it as it was.

    Parameters
    ----------
    returns:
        Of one period each, oldest first.
    periods_per_year:
        Of the market: 252 for days of shares, about 6,200 for hours of currencies, 8,760 for hours of coins.

    Returns
    -------
    Like ``returns``; NaN before 20 are known.

    Examples
    --------
    >>> float(annualised_volatility(np.full(30, 0.01), periods_per_year=256)[-1].round(9))
    0.16
    """
    if not 0 < decay < 1:
        raise ConfigurationError(f"decay = {decay} must be above 0 and below 1")
    if not 0 < periods_per_year < math.inf:
        raise ConfigurationError(f"periods_per_year = {periods_per_year} must be above 0 and finite")
    values = np.array(returns, np.float64)
    if values.ndim != 1 or np.isinf(values).any():
        raise DataError("returns must be one number a period, and not infinite")
    result = _ewma(values, decay) * math.sqrt(periods_per_year)
    return pd.Series(result, returns.index, name="volatility") if isinstance(returns, pd.Series) else result


def volatility_target(
    equity: Any,
    target: Any,
    volatility: Any,
    price: Any,
    *,
    point_value: Any = 1.0,
    maximum_leverage: float = math.inf,
) -> Any:
    """Units whose value has the volatility that is wanted of the account.

    ``equity * min(target / volatility, maximum_leverage) / (price * point_value)``: Moreira and Muir 2017, Volatility-
    Managed Portfolios, Journal of Finance 72(4); Carver 2015, Systematic Trading, ch. 9.

    Parameters
    ----------
    target, volatility:
        A year, as shares: 0.1 for 10%. Both of the same span of time. A volatility of 0 gives the maximum leverage.
    maximum_leverage:
        Greatest value of the position in equities, since a quiet market asks for any.

    Examples
    --------
    >>> volatility_target(100_000.0, 0.10, 0.20, 50.0), volatility_target(1e5, 0.10, 0.01, 50.0, maximum_leverage=2.0)
    (1000.0, 4000.0)
    """
    if not maximum_leverage > 0:
        raise ConfigurationError(f"maximum_leverage = {maximum_leverage} must be above 0")
    volatility = _within(volatility, "volatility", 0.0, math.inf)
    target = _within(target, "target", 0.0, math.inf)
    if maximum_leverage == math.inf and np.any(volatility == 0):
        raise DataError("volatility = 0 asks for infinitely many units", hint="give maximum_leverage")
    with np.errstate(divide="ignore", invalid="ignore"):
        leverage = np.minimum(np.where(target == 0, target * volatility, target / volatility), maximum_leverage)
    return to_units(np.maximum(_finite(equity, "equity"), 0.0) * leverage, price, point_value=point_value)


def kelly_binary(
    probability: Any, payoff: Any, *, fraction: float = 0.5, cap: float = 1.0, observations: Any = None
) -> Any:
    """Share of equity to stake where ``payoff`` is won for each unit staked, or the stake is lost.

    ``fraction * (probability - (1 - probability) / payoff)``, from 0 to ``cap``: Kelly 1956, Bell System Technical
    Journal 35; Thorp 2006, The Kelly criterion in blackjack, sports betting and the stock market, section 2.

    Parameters
    ----------
    probability:
        Of winning, 0 to 1.
    payoff:
        Above 0: the distance to the target over that to the stop.
    fraction:
        Of the full stake, above 0 to 1: half of it grows three quarters as fast and doubles the capital before halving
        it in eight cases of nine, not two of three.
    observations:
        Trades from which the probability was estimated. The stake is then multiplied by
        ``edge**2 / (edge**2 + (1 + payoff)**2 * probability * (1 - probability) / observations)``, the edge being
        ``probability * (1 + payoff) - 1``: what of an edge so measured can be counted on (Baker and McHale 2013,
        Optimal betting under parameter uncertainty, Decision Analysis 10(3)).

    Examples
    --------
    >>> [round(kelly_binary(0.6, payoff, fraction=1.0), 6) for payoff in (1.0, 2.0, 0.5)]
    [0.2, 0.4, 0.0]
    >>> round(kelly_binary(0.6, 1.0, fraction=1.0, observations=24), 6)
    0.1
    """
    _check_fraction(fraction, cap)
    probability, payoff = _within(probability, "probability", 0.0, 1.0), _above(payoff, "payoff")
    stake = probability - (1.0 - probability) / payoff
    if observations is not None:
        edge = probability * (1.0 + payoff) - 1.0
        variance = (1.0 + payoff) ** 2 * probability * (1.0 - probability) / _above(observations, "observations")
        stake = stake * _counted_on(edge, variance)
    return _plain(np.clip(fraction * stake, 0.0, cap))


def kelly_continuous(
    mean: Any, variance: Any, *, fraction: float = 0.5, cap: float = 1.0, observations: Any = None
) -> Any:
    """Leverage that lets capital grow fastest where returns are small and many: ``fraction * mean / variance``.

    Thorp 2006, section 7; Merton 1969. From 0 to ``cap``.

    Parameters
    ----------
    mean, variance:
        Of one period's return, above the rate of cash, of the side that would be taken.
    observations:
        Returns from which the mean was estimated. The leverage is then multiplied by
        ``mean**2 / (mean**2 + variance / observations)``, which maximises the growth that is expected of a leverage
        proportional to such an estimate.

    Examples
    --------
    Thorp's S&P 500: 11% a year against 6%, standard deviation 15%.

    >>> round(kelly_continuous(0.05, 0.15**2, fraction=1.0, cap=10.0), 2)
    2.22
    """
    _check_fraction(fraction, cap)
    mean, variance = _finite(mean, "mean"), _above(variance, "variance")
    leverage = mean / variance
    if observations is not None:
        leverage = leverage * _counted_on(mean, variance / _above(observations, "observations"))
    return _plain(np.clip(fraction * leverage, 0.0, cap))


def bet_size(probability: Any, side: Any = 1, *, classes: int = 2, step: float = 0.0) -> Any:
    """Size from -1 to 1 by how far a classifier's probability is from chance.

    ``side * (2 * Phi(z) - 1)`` with ``z = (p - 1 / classes) / sqrt(p * (1 - p))``: Lopez de Prado 2018, Advances in
    Financial Machine Learning, section 10.3; rounded to ``step`` as in section 10.5.

    Parameters
    ----------
    probability:
        Of the side taken, 0 to 1; below chance it gives a size against the side.
    side:
        1, -1 or 0.
    classes:
        Of the classifier.
    step:
        Sizes are multiples of it, so that small changes of a probability do not trade; 0: any size.

    Examples
    --------
    >>> [round(bet_size(p), 4) for p in (0.5, 0.6, 0.9, 1.0)], bet_size(0.6, -1, step=0.25)
    ([0.0, 0.1617, 0.8176, 1.0], -0.25)
    """
    from scipy.special import ndtr

    if classes < 2 or not 0 <= step <= 1:
        raise ConfigurationError(f"classes = {classes} must be at least 2 and step = {step} from 0 to 1")
    probability, side = _within(probability, "probability", 0.0, 1.0), _within(side, "side", -1.0, 1.0)
    with np.errstate(divide="ignore"):
        z = (probability - 1.0 / classes) / np.sqrt(probability * (1.0 - probability))
    size = side * (2.0 * ndtr(z) - 1.0)
    return _plain(discretise(size, step) if step else size)


def discretise(size: Any, step: float) -> Any:
    """Sizes at the nearest multiple of ``step``, from -1 to 1 (Lopez de Prado 2018, snippet 10.3).

    Examples
    --------
    >>> discretise(np.array([0.33, -0.9, 0.04]), 0.1).round(9).tolist()
    [0.3, -0.9, 0.0]
    """
    if not 0 < step <= 1:
        raise ConfigurationError(f"step = {step} must be above 0 and at most 1")
    return _plain(np.clip(np.round(_finite(size, "size") / step) * step, -1.0, 1.0) + 0.0)


def average_active_size(starts: pd.DatetimeIndex, ends: pd.DatetimeIndex, sizes: Any, at: pd.DatetimeIndex) -> Floats:
    """Mean size of the bets that stand at each instant; 0 where none does.

    A bet stands from its start, and until just before its end; one whose end is not known yet (NaT) goes on (Lopez de
    Prado 2018, section 10.4 and snippet 10.2).

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=4, tz="UTC")
    >>> average_active_size(days[:2], days[2:], [1.0, -0.5], days).tolist()
    [1.0, 0.25, -0.5, 0.0]
    """
    values = _finite(np.atleast_1d(np.asarray(sizes, np.float64)), "sizes")
    if not len(starts) == len(ends) == values.size:
        raise DataError(f"{len(starts)} starts, {len(ends)} ends and {values.size} sizes must be as many")
    begins, finish = starts.as_unit("ns").asi8, ends.as_unit("ns").asi8
    # NaT is the least integer; an end that is not known yet is after all others.
    finish = np.where(ends.isna(), np.iinfo(np.int64).max, finish)
    if (finish < begins).any():
        raise DataError("a bet ends before it starts")
    order, over = np.argsort(begins, kind="stable"), np.argsort(finish, kind="stable")
    when = at.as_unit("ns").asi8
    begun = np.searchsorted(begins[order], when, side="right")
    ended = np.searchsorted(finish[over], when, side="right")
    total = np.r_[0.0, np.cumsum(values[order])][begun] - np.r_[0.0, np.cumsum(values[over])][ended]
    active = begun - ended
    return np.where(active > 0, total / np.maximum(active, 1), 0.0)


def to_units(money: Any, price: Any, *, point_value: Any = 1.0) -> Any:
    """Units whose value is an amount of the account's money: ``money / (price * point_value)``.

    Examples
    --------
    20,000 EUR in contracts of 100 units quoted in USD, a USD being worth 0.8 EUR.

    >>> to_units(20_000.0, 50.0, point_value=100 * 0.8)
    5.0
    """
    value = _above(np.abs(np.asarray(price, np.float64)), "price") * _above(point_value, "point_value")
    return _plain(_finite(money, "money") / value)


def round_to_lot(units: Any, lot: float, *, minimum: float = 0.0, maximum: float = math.inf) -> Any:
    """Units cut down to whole lots, towards 0, at most ``maximum`` and 0 below ``minimum``; the sign is kept.

    A billionth of a lot is forgiven, as by the simulator. ``lot`` 0 does not round.

    Examples
    --------
    >>> round_to_lot(np.array([0.37, -0.37, 0.009, 99.0]), 0.01, minimum=0.01, maximum=50).round(9).tolist()
    [0.37, -0.37, 0.0, 50.0]
    """
    if not 0 <= lot < math.inf or not 0 <= minimum <= maximum or not maximum > 0:
        raise ConfigurationError(
            f"lot = {lot}, minimum = {minimum} and maximum = {maximum} must be 0 or above, in order"
        )
    units = _finite(units, "units")
    size = np.minimum(np.abs(units), maximum)
    if lot > 0:
        size = np.floor(size / lot + _FORGIVEN) * lot
    return _plain(np.copysign(np.where(size < minimum * (1.0 - _FORGIVEN), 0.0, size), units) + 0.0)


def within_margin(units: Any, price: Any, free_margin: Any, margin_rate: Any, *, point_value: Any = 1.0) -> Any:
    """Units whose margin is at most the free margin; the sign is kept.

    Parameters
    ----------
    margin_rate:
        Margin as a share of the position's value: one over the leverage that the broker gives.

    Examples
    --------
    >>> within_margin(-5.0, 1.25, 2_500.0, 1 / 30, point_value=100_000.0).__round__(9)
    -0.6
    """
    needed = to_units(np.maximum(_finite(free_margin, "free_margin"), 0.0), price, point_value=point_value)
    units = _finite(units, "units")
    return _plain(np.copysign(np.minimum(np.abs(units), needed / _above(margin_rate, "margin_rate")), units) + 0.0)


@njit(cache=True, nogil=True)
def _ewma(returns: Any, decay: Any) -> Any:
    result = np.full(returns.size, math.nan)
    count, variance = 0, 0.0
    for row in range(returns.size):
        value = returns[row]
        if value == value:
            if count < WARM_UP:
                count += 1
                variance += value * value / WARM_UP
            else:
                variance = decay * variance + (1.0 - decay) * value * value
        if count == WARM_UP:
            result[row] = math.sqrt(variance)
    return result


def _counted_on(estimate: Any, variance: Any) -> Any:
    square = estimate * estimate
    total = square + variance
    return np.where(total > 0, square / np.where(total > 0, total, 1.0), np.where(np.isnan(total), total, 0.0))


def _check_fraction(fraction: float, cap: float) -> None:
    if not 0 < fraction <= 1 or not 0 < cap < math.inf:
        raise ConfigurationError(f"fraction = {fraction} must be above 0 to 1, cap = {cap} above 0 and finite")


def _finite(value: Any, name: str) -> Any:
    values = np.asarray(value, np.float64)
    if np.isinf(values).any():
        raise DataError(f"{name} = {values[np.isinf(values)].flat[0]} must be finite")
    return values


def _above(value: Any, name: str) -> Any:
    values = _finite(value, name)
    if (values <= 0).any():
        raise DataError(f"{name} = {values[values <= 0].flat[0]} must be above 0")
    return values


def _within(value: Any, name: str, least: float, most: float) -> Any:
    values = _finite(value, name)
    outside = (values < least) | (values > most)
    if outside.any():
        raise DataError(f"{name} = {values[outside].flat[0]} must be from {least:g} to {most:g}")
    return values


def _plain(values: Any) -> Any:
    """A float for a number, an array for an array."""
    return float(values) if np.ndim(values) == 0 else np.asarray(values)
