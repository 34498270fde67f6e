"""Regimes by change points: where the mean or the spread of returns became another, said once it can be known.

Two forms. :func:`change_point_regime` asks at each bar how long the current regime has lasted (Adams and MacKay,
Bayesian Online Changepoint Detection, arXiv:0710.3742, 2007). :func:`confirmed_changes` asks the package ``ruptures``
at fixed times about the window before (Truong, Oudre and Vayatis, Signal Processing 167, 2020).
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import feature
from tapeline.features.arrays import Count, Floats, columns, frame
from tapeline.features.market_regime import FITTED, FitWindow, ratio_returns
from tapeline.features.refit_clock import Every, fit_spans, refit_starts

SMALLEST_SHARE: Final = 1e-4
"""Run lengths less probable than this are forgotten: what makes the filter's cost independent of its history."""

Search = Literal["pelt", "binary_segmentation", "window"]


@feature(
    lookback=lambda window, every: window + every + 1,
    outputs=("bars_since_change", "recent_change", "regime_drift", "regime_volatility"),
    requires=("close_ts",),
    reference="Adams and MacKay, Bayesian Online Changepoint Detection, arXiv:0710.3742 (2007); normal-inverse-gamma "
    "prior after Murphy, Conjugate Bayesian Analysis of the Gaussian Distribution (2007), section 3",
    tolerance=FITTED,
)
def change_point_regime(
    bars: pd.DataFrame,
    window: FitWindow = 240,
    every: Every = 240,
    expected: Annotated[int, Field(ge=2, le=100_000)] = 100,
    recent: Count = 12,
) -> pd.DataFrame:
    """How long the current regime of returns has lasted, and what it is like, from the past alone.

    At the first bar of each stretch of ``every`` bar lengths on the clock the filter starts anew ``window`` bars back,
    with returns measured in their root mean square of those bars; a regime lasts ``expected`` bars on average, and
    within one the returns are normal with a mean and a variance of its own. NaN before the first full window, and
    where that window did not move.

    Returns
    -------
    ``bars_since_change``: expected bars since the last change over ``window``, 0 to 1 and, late in a stretch, at most
    ``1 + every / window``. ``recent_change``: probability that the last change lies at most ``recent`` bars back.
    ``regime_drift`` and ``regime_volatility``: mean and standard deviation that the filter expects of the next return,
    in root mean squares of the window.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> noise = np.sin(np.arange(300.0) ** 2)
    >>> noise[280:] *= 8.0
    >>> found = change_point_regime(example_bars(*np.exp(0.001 * noise.cumsum())), window=100, every=24)
    >>> found["bars_since_change"].iloc[[270, 299]].round(1).tolist()
    [1.0, 0.2]
    """
    (close,) = columns(bars, "close")
    spans = fit_spans(refit_starts(bars, every), window + 1, every)
    most = window + every
    found = change_points_over_time(
        ratio_returns(close), spans, window, recent, student_constants(most + 1), 1.0 / expected, SMALLEST_SHARE
    )
    return frame(
        bars,
        bars_since_change=found[:, 0] / window,
        recent_change=found[:, 1],
        regime_drift=found[:, 2],
        regime_volatility=found[:, 3],
    )


def confirmed_changes(
    bars: pd.DataFrame,
    *,
    window: int = 240,
    every: int = 24,
    search: Search = "pelt",
    penalty: float = 3.0,
    shortest: int = 12,
) -> pd.DataFrame:
    """Change points by ``ruptures``, each with the instant from which it was known.

    At the first bar of each stretch of ``every`` bar lengths on the clock, ``ruptures`` divides the ``window`` log
    returns before into stretches of normal returns, each with its own mean and variance. A change is listed when a
    search first finds it and no earlier one has found one within ``shortest`` bars of it; it was known at that bar's
    open, never at the change itself.

    Parameters
    ----------
    search:
        ``pelt`` is exact (Killick et al., JASA 107, 2012), ``binary_segmentation`` and ``window`` are faster guesses.
    penalty:
        Cost of a change, in multiples of ``log(window)``.
    shortest:
        Fewest bars between two changes.

    Returns
    -------
    One row a change, in the order in which they became known: ``change`` (open of the first bar of the new regime),
    ``confirmed_at``, ``volatility_before`` and ``volatility_after`` (standard deviations of the log returns on either
    side, as seen then).

    Raises
    ------
    ConfigurationError
        A window too short for two stretches, or a penalty that is not positive.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> noise = np.sin(np.arange(300.0) ** 2)
    >>> noise[200:] *= 8.0
    >>> found = confirmed_changes(example_bars(*np.exp(0.001 * noise.cumsum())), window=100, every=24)
    >>> found[["change", "confirmed_at"]].astype(str).values.tolist()
    [['2017-01-10 08:00:00+00:00', '2017-01-11 00:00:00+00:00']]
    """
    if shortest < 2 or window < 2 * shortest:
        raise ConfigurationError(
            f"window = {window} is too short for two stretches of shortest = {shortest} bars, 2 at least"
        )
    if not penalty > 0:
        raise ConfigurationError(f"penalty = {penalty} must be above 0")
    import ruptures

    kinds = {"pelt": ruptures.Pelt, "binary_segmentation": ruptures.Binseg, "window": ruptures.Window}
    if search not in kinds:
        raise ConfigurationError(f"search = {search!r} is unknown", hint=f"use one of {', '.join(kinds)}")
    (close,) = columns(bars, "close")
    returns = ratio_returns(close)
    opens = pd.DatetimeIndex(bars.index)
    known: list[int] = []
    rows = []
    for row, _ in fit_spans(refit_starts(bars, every), window + 1, every):
        past = returns[row - window : row]
        usual = np.sqrt(np.mean(past * past))
        if not usual > 1e-8:
            continue
        scaled = past / usual
        options = {"width": 2 * shortest} if search == "window" else {}
        cost = ruptures.costs.CostNormal(add_small_diag=False)
        # Set afterwards: as an argument it warns, each time, that it is the default.
        cost.add_small_diag = True
        model = kinds[search](custom_cost=cost, min_size=shortest, jump=1, **options)
        for found in model.fit(scaled.reshape(-1, 1)).predict(pen=penalty * math.log(window))[:-1]:
            change = int(row - window + found)
            if any(abs(change - other) < shortest for other in known):
                continue
            known.append(change)
            rows.append((opens[change], opens[row], past[:found].std(), past[found:].std()))
    names = ["change", "confirmed_at", "volatility_before", "volatility_after"]
    return pd.DataFrame(rows, columns=names)


def student_constants(longest: int) -> Floats:
    """Logarithm of what of Student's density depends on the run length alone, by run length from 0.

    The prior has one observation's worth of mean and of variance: after ``r`` returns there are ``2 + r`` degrees of
    freedom.

    Examples
    --------
    >>> student_constants(1).round(4).tolist()
    [-1.0397]
    """
    freedom = 2.0 + np.arange(longest)
    return np.array([math.lgamma((f + 1) / 2) - math.lgamma(f / 2) - 0.5 * math.log(f * math.pi) for f in freedom])


@njit(cache=True, nogil=True)
def run_length_filter(
    values: Floats, keep: int, recent: int, constants: Floats, hazard: float, smallest: float
) -> Floats:
    """The filter over a series: what :func:`change_point_regime` says of each of the last ``keep`` values.

    A run length is the number of values since the last change, the current one included: 0 just after one. Each run
    length has its own posterior of mean and variance, from a normal-inverse-gamma prior of mean 0, scale 1 and one
    observation's weight.

    Parameters
    ----------
    constants:
        Of :func:`student_constants`, for as many run lengths as there are values, and one more.
    hazard:
        Probability of a change at each value.
    smallest:
        Run lengths less probable than this are forgotten; 0 forgets none.

    Returns
    -------
    ``(keep, 4)``: expected run length; probability of one of at most ``recent``; mean and deviation
    of the next value.

    Examples
    --------
    >>> jump = np.repeat([0.0, 9.0], 20)
    >>> run_length_filter(jump, 3, 5, student_constants(41), 0.01, 0.0)[:, 0].round(1).tolist()
    [17.8, 18.8, 19.8]
    """
    size = values.size
    length = np.zeros(size + 1, dtype=np.int64)
    mass, mean, scale = np.zeros(size + 1), np.zeros(size + 1), np.zeros(size + 1)
    mass[0], scale[0] = 1.0, 1.0
    front = np.exp(constants)
    live = 1
    result = np.full((keep, 4), np.nan)
    for i in range(size):
        value, changed, total = values[i], 0.0, 0.0
        for k in range(live):
            r = length[k]
            # Weight of the mean is 1 + r, shape of the variance 1 + r / 2: freedom 2 + r.
            weight, freedom = 1.0 + r, 2.0 + r
            spread = 2.0 * scale[k] * (weight + 1.0) / (freedom * weight)
            away = value - mean[k]
            # One logarithm and one exponential a run length: they are what the filter costs.
            tail = np.exp(-0.5 * (freedom + 1.0) * np.log(1.0 + away * away / (freedom * spread)))
            density = front[r] * tail / np.sqrt(spread)
            mass[k] *= density
            total += mass[k]
            changed += mass[k] * hazard
            mass[k] *= 1.0 - hazard
            scale[k] += 0.5 * away * away * weight / (weight + 1.0)
            mean[k] += away / (weight + 1.0)
            length[k] = r + 1
        if not total > 0.0:
            # So far from every regime that all densities underflow: it can only be a new one.
            changed, total = 1.0, 1.0
        kept = 0
        for k in range(live):
            share = mass[k] / total
            if share > smallest or smallest == 0.0:
                mass[kept], mean[kept], scale[kept], length[kept] = share, mean[k], scale[k], length[k]
                kept += 1
        mass[kept], mean[kept], scale[kept], length[kept] = changed / total, 0.0, 1.0, 0
        live = kept + 1
        total = 0.0
        for k in range(live):
            total += mass[k]
        for k in range(live):
            mass[k] /= total
        row = i - (size - keep)
        if row < 0:
            continue
        expected, near, first, second = 0.0, 0.0, 0.0, 0.0
        for k in range(live):
            r = length[k]
            expected += mass[k] * r
            if r <= recent:
                near += mass[k]
            first += mass[k] * mean[k]
            # The posterior expectation of the variance has a mean of its own only from three degrees of freedom on;
            # the scale over half the degrees is the usual estimate and always there.
            second += mass[k] * (scale[k] / (1.0 + 0.5 * r) + mean[k] * mean[k])
        result[row, 0], result[row, 1], result[row, 2] = expected, near, first
        result[row, 3] = np.sqrt(max(second - first * first, 0.0))
    return result


@njit(cache=True, nogil=True)
def change_points_over_time(
    returns: Floats,
    spans: NDArray[np.int64],
    window: int,
    recent: int,
    constants: Floats,
    hazard: float,
    smallest: float,
) -> Floats:
    """The run length filter, started anew at each span on the ``window`` returns before it, ``(n, 4)``.

    Examples
    --------
    >>> noise = np.sin(np.arange(60.0) ** 2)
    >>> found = change_points_over_time(noise, np.array([[50, 60]]), 50, 5, student_constants(61), 0.01, 0.0)
    >>> np.isnan(found[49]).all().item(), bool(found[59, 0] > 20)
    (True, True)
    """
    result = np.full((returns.size, 4), np.nan)
    for k in range(spans.shape[0]):
        row, end = spans[k, 0], spans[k, 1]
        past = returns[row - window : row]
        usual = np.sqrt(np.mean(past * past))
        if not usual > 1e-8:
            continue
        scaled = returns[row - window : end] / usual
        result[row:end] = run_length_filter(scaled, end - row, recent, constants, hazard, smallest)
    return result
