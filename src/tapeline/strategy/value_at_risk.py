"""Value at risk and expected shortfall of a portfolio's returns, and tests of whether they held.

Losses are positive numbers: shares of the portfolio's value over one period of the returns given. Periods are not
scaled: a forecast for ten days needs returns over ten days.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError

Floats = NDArray[np.float64]
TailMethod = Literal["historical", "normal", "cornish_fisher", "filtered"]

METHODS: Final[tuple[TailMethod, ...]] = ("historical", "normal", "cornish_fisher", "filtered")
_HISTORICAL, _NORMAL, _CORNISH_FISHER, _FILTERED = range(4)
WARM_UP: Final = 20
"""Returns whose mean square starts the exponentially weighted variance; none of them becomes a scenario."""
_SLACK: Final = 1e-9


class TailRisk(NamedTuple):
    """The loss that is exceeded with probability ``1 - confidence``, and the mean of the losses beyond it."""

    value_at_risk: float
    expected_shortfall: float


class BacktestTest(NamedTuple):
    """A likelihood ratio test of exceedances: ``p_value`` small speaks against the forecasts.

    Attributes
    ----------
    statistic, p_value:
        The likelihood ratio and its tail of the chi-squared distribution.
    exceedances, expected:
        Periods whose loss was greater than forecast, and how many there should be.
    """

    statistic: float
    p_value: float
    exceedances: int
    expected: float


@njit(cache=True, nogil=True)
def tail_of_losses(losses: Any, confidence: Any) -> Any:
    """Value at risk and expected shortfall of equally likely losses, in any order; NaN of none.

    Value at risk is the smallest loss whose share of losses at or below it reaches ``confidence``; the shortfall is the
    mean of the worst ``1 - confidence``, a loss on the border counting by the part of it that lies inside (Acerbi and
    Tasche 2002, On the coherence of expected shortfall, definition 2.6 and proposition 4.1).

    Examples
    --------
    >>> losses = np.array([7.0, 3.0, 9.0, 1.0, 5.0, 10.0, 2.0, 8.0, 4.0, 6.0])
    >>> tail_of_losses(losses, 0.8), tail_of_losses(losses, 0.75)
    ((8.0, 9.5), (8.0, 9.2))
    """
    count = losses.size
    if count == 0:
        return math.nan, math.nan
    # A hair is forgiven: 100 times 0.99 is 99, whatever the last bit says.
    beyond = count - min(max(math.ceil(count * confidence - _SLACK), 1), count)
    # The worst, ascending: they are few, so that keeping them costs less than sorting all.
    worst, filled = np.empty(beyond + 1), 0
    for loss in losses:
        if filled <= beyond:
            at = filled
            filled += 1
            while at > 0 and worst[at - 1] > loss:
                worst[at] = worst[at - 1]
                at -= 1
            worst[at] = loss
        elif loss > worst[0]:
            at = 0
            while at < beyond and worst[at + 1] < loss:
                worst[at] = worst[at + 1]
                at += 1
            worst[at] = loss
    total = 0.0
    for at in range(1, beyond + 1):
        total += worst[at]
    tail = count * (1.0 - confidence)
    return worst[0], (total + (tail - beyond) * worst[0]) / tail


def portfolio_returns(returns: pd.DataFrame, weights: Any) -> pd.Series:
    """What today's weights would have returned in each past period: the scenarios of historical simulation.

    Parameters
    ----------
    returns:
        Simple returns, a column a symbol, aligned by row. A row with a missing return is dropped.
    weights:
        Signed value of each position as a share of the portfolio, by column's name or in columns' order.

    Raises
    ------
    DataError
        The weights do not match the columns, or are not finite.

    Examples
    --------
    >>> returns = pd.DataFrame({"A": [0.01, -0.02], "B": [0.02, 0.01]})
    >>> portfolio_returns(returns, {"B": -0.5, "A": 1.0}).round(4).tolist()
    [0.0, -0.025]
    """
    if isinstance(weights, dict):
        weights = pd.Series(weights, dtype=np.float64)
    if isinstance(weights, pd.Series):
        if set(weights.index) != set(returns.columns) or len(weights) != returns.shape[1]:
            raise DataError(f"weights of {list(weights.index)} do not match returns of {list(returns.columns)}")
        weights = weights.reindex(returns.columns)
    shares = np.asarray(weights, np.float64)
    if shares.shape != (returns.shape[1],) or not np.isfinite(shares).all():
        raise DataError(f"weights must be {returns.shape[1]} finite numbers, were {shares.tolist()}")
    values = returns.to_numpy(np.float64)
    known = ~np.isnan(values).any(axis=1)
    return pd.Series(values[known] @ shares, returns.index[known], name="portfolio")


def tail_risk(
    returns: Any,
    method: TailMethod = "historical",
    *,
    confidence: float = 0.99,
    window: int | None = None,
    decay: float = 0.94,
) -> TailRisk:
    """Value at risk and expected shortfall of the next period, from returns up to now.

    Parameters
    ----------
    returns:
        Past returns of the portfolio, oldest first (see :func:`portfolio_returns`).
    method:
        ``historical``: the losses as they were. ``normal``: mean and standard deviation (which, for fixed weights, is
        the variance-covariance method). ``cornish_fisher``: the normal quantile bent by skewness and kurtosis (Zangari
        1996, RiskMetrics Monitor 2; the shortfall is the integral of that expansion, Maillard 2012, A user's guide to
        the Cornish Fisher expansion). ``filtered``: losses divided by the exponentially weighted volatility that was
        forecast for their day and multiplied by that of the next (Hull and White 1998, Journal of Risk 1(1); Barone-
        Adesi, Giannopoulos and Vosper 1999).
    confidence:
        Above 0.5, below 1.
    window:
        Last returns that are used; all where absent. The variance of ``filtered`` always runs from the first.
    decay:
        Weight of yesterday's variance in ``filtered``; 0.94 is that of RiskMetrics for days.

    Raises
    ------
    ConfigurationError
        An unknown method, or a number out of its bounds.
    DataError
        A return is missing, there are too few, or skewness and kurtosis bend the quantile so far that it turns: then
        the expansion is no distribution, and the historical methods remain.

    Examples
    --------
    >>> returns = np.array([-0.03, -0.02, -0.01, 0.0, 0.01, 0.01, 0.02, 0.02, 0.03, 0.04])
    >>> [round(number, 4) for number in tail_risk(returns, confidence=0.8)]
    [0.01, 0.025]
    >>> [round(number, 4) for number in tail_risk(returns, "normal", confidence=0.95)]
    [0.0294, 0.0387]
    """
    values = _checked(returns, confidence, decay)
    if window is not None and window < 2:
        raise ConfigurationError(f"window = {window} must be at least 2")
    code, z = _coded(method), _quantile(confidence)
    span = len(values) - (WARM_UP if code == _FILTERED else 0) if window is None else window
    if span < 2 or len(values) < span + (WARM_UP if code == _FILTERED else 0):
        raise DataError(f"{len(values)} returns are too few for {method} over {window or 'all of them'}")
    result = _rolling(values, code, span, confidence, z, decay, len(values) - 1)[-1]
    if np.isnan(result).any():
        raise DataError(
            "the Cornish-Fisher quantile turns at this skewness and kurtosis", hint="use 'historical' or 'filtered'"
        )
    return TailRisk(float(result[0]), float(result[1]))


def rolling_tail_risk(
    returns: pd.Series,
    method: TailMethod = "historical",
    *,
    window: int = 500,
    confidence: float = 0.99,
    decay: float = 0.94,
) -> pd.DataFrame:
    """The forecast that stood at each row for the next: :func:`tail_risk` of the returns up to it, bit for bit.

    Returns
    -------
    Columns ``value_at_risk`` and ``expected_shortfall`` on the index of ``returns``; NaN before there are ``window``
    returns (20 more for ``filtered``), and where a Cornish-Fisher quantile turns. Compare a row's loss with the row
    before: :func:`exceedances` does.

    Examples
    --------
    >>> returns = pd.Series([-0.03, 0.01, -0.01, 0.02])
    >>> rolling_tail_risk(returns, window=3, confidence=0.6)["value_at_risk"].tolist()
    [nan, nan, 0.01, -0.01]
    """
    values = _checked(returns, confidence, decay)
    if window < 2:
        raise ConfigurationError(f"window = {window} must be at least 2")
    result = _rolling(values, _coded(method), window, confidence, _quantile(confidence), decay, 0)
    return pd.DataFrame(result, returns.index, ["value_at_risk", "expected_shortfall"])


def exceedances(returns: pd.Series, forecast: pd.Series) -> NDArray[np.bool_]:
    """Whether each return lost more than the row before it forecast; rows without a forecast are left out.

    Examples
    --------
    >>> exceedances(pd.Series([0.0, -0.03, -0.01]), pd.Series([np.nan, 0.02, 0.02])).tolist()
    [False]
    >>> exceedances(pd.Series([0.0, -0.03, -0.01]), pd.Series([0.02, 0.02, 0.02])).tolist()
    [True, False]
    """
    if not returns.index.equals(forecast.index):
        raise DataError("returns and forecasts have different indexes")
    stood = forecast.to_numpy(np.float64)[:-1]
    return np.asarray((-returns.to_numpy(np.float64)[1:] > stood)[~np.isnan(stood)])


def kupiec_test(exceeded: Any, *, confidence: float = 0.99) -> BacktestTest:
    """Whether losses exceeded the forecast as often as they should (Kupiec 1995, Journal of Derivatives 3(2)).

    Parameters
    ----------
    exceeded:
        One truth value a period, in order, as of :func:`exceedances`.
    confidence:
        That of the forecasts.

    Examples
    --------
    J.P. Morgan's 20 exceptions in the 252 days of 1998 at 95% (Jorion, Value at Risk, 3rd edition, ch. 6): 3.91.

    >>> test = kupiec_test([True] * 20 + [False] * 232, confidence=0.95)
    >>> round(test.statistic, 2), round(test.p_value, 3), round(test.expected, 1)
    (3.91, 0.048, 12.6)
    """
    hits = _hits(exceeded, confidence)
    count, total = int(hits.sum()), hits.size
    ratio = 2.0 * (_likelihood(total - count, count, count / total) - _likelihood(total - count, count, 1 - confidence))
    ratio = max(ratio, 0.0)
    return BacktestTest(ratio, math.erfc(math.sqrt(ratio / 2.0)), count, total * (1 - confidence))


def christoffersen_test(exceeded: Any, *, confidence: float = 0.99, conditional: bool = True) -> BacktestTest:
    """Whether exceedances come one by one and not in clusters (Christoffersen 1998, International Economic Review 39).

    Parameters
    ----------
    exceeded, confidence:
        As of :func:`kupiec_test`.
    conditional:
        True: frequency and independence together, two degrees of freedom. False: independence alone, one.

    Examples
    --------
    >>> clustered, spread = [False] * 95 + [True] * 5, ([False] * 19 + [True]) * 5
    >>> [round(christoffersen_test(hits, confidence=0.95).p_value, 4) for hits in (clustered, spread)]
    [0.0, 0.8092]
    """
    hits = _hits(exceeded, confidence)
    if hits.size < 2:
        raise DataError("one period has no successor", hint="give at least two")
    before, after = hits[:-1], hits[1:]
    calm_calm, calm_hit = int((~before & ~after).sum()), int((~before & after).sum())
    hit_calm, hit_hit = int((before & ~after).sum()), int((before & after).sum())
    together = _likelihood(calm_calm + hit_calm, calm_hit + hit_hit, (calm_hit + hit_hit) / after.size)
    apart = _likelihood(calm_calm, calm_hit, calm_hit / max(calm_calm + calm_hit, 1))
    apart += _likelihood(hit_calm, hit_hit, hit_hit / max(hit_calm + hit_hit, 1))
    ratio = max(2.0 * (apart - together), 0.0)
    unconditional = kupiec_test(hits, confidence=confidence)
    if not conditional:
        return unconditional._replace(statistic=ratio, p_value=math.erfc(math.sqrt(ratio / 2.0)))
    ratio += unconditional.statistic
    return unconditional._replace(statistic=ratio, p_value=math.exp(-ratio / 2.0))


def _likelihood(calm: int, hits: int, probability: float) -> float:
    # 0 times the logarithm of 0 is 0 here: what never happened under a probability of 0 is certain.
    return (calm * math.log1p(-probability) if calm else 0.0) + (hits * math.log(probability) if hits else 0.0)


def _hits(exceeded: Any, confidence: float) -> NDArray[np.bool_]:
    _quantile(confidence)
    hits = np.asarray(exceeded)
    if hits.dtype != np.bool_ or hits.ndim != 1 or not hits.size:
        raise DataError(f"exceedances must be truth values, one a period, were {hits.dtype} of shape {hits.shape}")
    return hits


def _quantile(confidence: float) -> float:
    if not 0.5 < confidence < 1:
        raise ConfigurationError(f"confidence = {confidence} must be above 0.5 and below 1")
    return NormalDist().inv_cdf(1.0 - confidence)


def _coded(method: str) -> int:
    if method not in METHODS:
        raise ConfigurationError(f"method {method!r} is unknown", hint=f"use one of {', '.join(METHODS)}")
    return METHODS.index(method)


def _checked(returns: Any, confidence: float, decay: float) -> Floats:
    _quantile(confidence)
    if not 0 < decay < 1:
        raise ConfigurationError(f"decay = {decay} must be above 0 and below 1")
    # A copy: what pandas hands out is read-only, which kernels would be compiled for a second time.
    values = np.array(returns, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise DataError("returns must be one finite number a period", hint="drop rows that miss a return")
    return values


@njit(cache=True, nogil=True)
def _rolling(returns: Any, method: Any, window: Any, confidence: Any, z: Any, decay: Any, first: Any) -> Any:
    """Both numbers by row from ``first`` on; NaN before."""
    result = np.full((returns.size, 2), math.nan)
    scenarios, scales = np.empty(returns.size), np.ones(returns.size + 1)
    skipped = 0
    if method == _FILTERED:
        skipped = WARM_UP
        _scale(returns, decay, scales)
    for row in range(returns.size):
        # Where nothing moved before, nothing can be said of a move.
        scenarios[row] = -returns[row] / scales[row] if scales[row] > 0.0 else 0.0
    begin = max(first, window + skipped - 1)
    if begin >= returns.size:
        return result
    if method in (_NORMAL, _CORNISH_FISHER):
        for row in range(begin, returns.size):
            sample = returns[row - window + 1 : row + 1]
            result[row, 0], result[row, 1] = _expansion(sample, method == _CORNISH_FISHER, confidence, z)
        return result
    for row in range(begin, returns.size):
        at_risk, shortfall = tail_of_losses(scenarios[row - window + 1 : row + 1], confidence)
        result[row, 0], result[row, 1] = at_risk * scales[row + 1], shortfall * scales[row + 1]
    return result


@njit(cache=True, nogil=True)
def _scale(returns: Any, decay: Any, scales: Any) -> None:
    """The volatility forecast for each row from those before it, and for the one after the last."""
    variance = 0.0
    for row in range(min(WARM_UP, returns.size)):
        variance += returns[row] * returns[row] / WARM_UP
    for row in range(WARM_UP, returns.size):
        scales[row] = math.sqrt(variance)
        variance = decay * variance + (1.0 - decay) * returns[row] * returns[row]
    scales[returns.size] = math.sqrt(variance)


@njit(cache=True, nogil=True)
def _expansion(sample: Any, bent: Any, confidence: Any, z: Any) -> Any:
    """The normal tail, or that of the Cornish-Fisher expansion where its quantile rises all along the tail."""
    count = sample.size
    mean = 0.0
    for value in sample:
        mean += value / count
    second, third, fourth = 0.0, 0.0, 0.0
    for value in sample:
        square = (value - mean) * (value - mean)
        second += square
        third += square * (value - mean)
        fourth += square * square
    deviation = math.sqrt(second / (count - 1))
    density = math.exp(-z * z / 2.0) / math.sqrt(2.0 * math.pi) / (1.0 - confidence)
    if not bent or second == 0.0:
        return -mean - deviation * z, -mean + deviation * density
    variance = second / count
    skewness = third / count / (variance * math.sqrt(variance))
    excess = fourth / count / (variance * variance) - 3.0
    if not _rises(skewness, excess, z):
        return math.nan, math.nan
    quantile = (
        z
        + (z * z - 1.0) * skewness / 6.0
        + (z * z * z - 3.0 * z) * excess / 24.0
        - (2.0 * z * z * z - 5.0 * z) * skewness * skewness / 36.0
    )
    shortfall = density * (
        1.0 + z * skewness / 6.0 + (z * z - 1.0) * excess / 24.0 - (2.0 * z * z - 1.0) * skewness * skewness / 36.0
    )
    return -mean - deviation * quantile, -mean + deviation * shortfall


@njit(cache=True, nogil=True)
def _rises(skewness: Any, excess: Any, z: Any) -> Any:
    """Whether the derivative of the expansion, a parabola, is positive from minus infinity to ``z``."""
    square = excess / 8.0 - skewness * skewness / 6.0
    linear = skewness / 3.0
    constant = 1.0 - excess / 8.0 + 5.0 * skewness * skewness / 36.0
    if square < 0.0 or square * z * z + linear * z + constant <= 0.0:
        return False
    if square == 0.0:
        return linear <= 0.0
    lowest = -linear / (2.0 * square)
    return lowest >= z or linear * linear < 4.0 * square * constant
