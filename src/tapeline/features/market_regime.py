"""Market regimes: bull, bear and turbulent, by a hidden Markov model and by a Gaussian mixture.

A regime's probability at a bar comes from the observations up to that bar, under a model that was fitted on earlier
ones; it is never smoothed by later ones. Regimes by change points are in :mod:`tapeline.features.change_points`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Protocol, TypeVar

import numpy as np
import pandas as pd
from numba import njit
from pydantic import Field

from tapeline.core.errors import DataError
from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import Floats, Window, columns, frame
from tapeline.features.hidden_markov import GaussianHmm, Labels, fit_gaussian_hmm
from tapeline.features.mixture import GaussianMixture, fit_mixture
from tapeline.features.refit_clock import Every, fit_spans, refit_starts

REGIMES: Final = ("bull", "bear", "turbulent")
"""Turbulent is where price moves most; of the other two, bull is where it rises."""

FITTED: Final = Tolerance(relative=1e-6, absolute=1e-6)
FitWindow = Annotated[int, Field(ge=60, le=50_000)]
Iterations = Annotated[int, Field(ge=1, le=200)]


class _Model(Protocol):
    @property
    def means(self) -> Floats: ...


M = TypeVar("M", GaussianHmm, GaussianMixture)


@feature(
    lookback=lambda span, prior, window, every: max(span, prior) + window + every,
    outputs=tuple(f"{name}_filtered" for name in REGIMES),
    requires=("close_ts",),
    reference="Hamilton, Econometrica 57 (1989): filtered probabilities; Rabiner, Proceedings of the IEEE 77 (1989)",
    tolerance=FITTED,
)
def hidden_markov_regime(
    bars: pd.DataFrame,
    span: Window = 24,
    prior: Window = 96,
    window: FitWindow = 240,
    every: Every = 120,
    iterations: Iterations = 5,
) -> pd.DataFrame:
    """Filtered probability of each regime under a hidden Markov model of three states; the three add up to 1.

    It observes :func:`drift_and_turbulence`. At the first bar of each stretch of ``every`` bar lengths on the clock it
    is fitted on the ``window`` bars before, and the filter starts anew at the first of those. The state with the
    highest mean turbulence is turbulent; of the others, the one with the higher mean drift is bull. That order holds
    at each fit, so that a column means the same throughout. NaN before the first fit.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> wave = 1000 + 200 * np.sin(np.arange(400) / 40)
    >>> found = hidden_markov_regime(example_bars(*wave), span=8, prior=24, window=120, every=24)
    >>> found.iloc[-1].sum().round(9).item(), name_regimes(found).iloc[330]
    (1.0, 'bear')
    """

    def filtered(observations: Floats, before: int) -> tuple[GaussianHmm, Callable[[GaussianHmm], Floats]]:
        past = observations[:before]
        model = fit_gaussian_hmm(past, _first_guess(past), len(REGIMES), iterations)
        return model, lambda ordered: ordered.filtered(observations)[before:]

    return _named(
        bars,
        "filtered",
        by_past_fits(bars, _observed(bars, span, prior), len(REGIMES), window, every, filtered, _order),
    )


@feature(
    lookback=lambda span, prior, window, every: max(span, prior) + window + every,
    outputs=tuple(f"{name}_mixture" for name in REGIMES),
    requires=("close_ts",),
    reference="Bishop, Pattern Recognition and Machine Learning (2006), section 9.2: responsibilities of a mixture",
    tolerance=FITTED,
)
def mixture_regime(
    bars: pd.DataFrame,
    span: Window = 24,
    prior: Window = 96,
    window: FitWindow = 240,
    every: Every = 120,
    iterations: Iterations = 20,
) -> pd.DataFrame:
    """Probability of each regime under a mixture of three Gaussians, from the bar's own observation; they add up to 1.

    Fitted and ordered as :func:`hidden_markov_regime` is. A mixture knows nothing of the bar before: it answers sooner
    and changes its mind more often.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> wave = 1000 + 200 * np.sin(np.arange(400) / 40)
    >>> found = mixture_regime(example_bars(*wave), span=8, prior=24, window=120, every=24)
    >>> found.iloc[-1].sum().round(9).item(), name_regimes(found).iloc[330]
    (1.0, 'bear')
    """

    def responsible(observations: Floats, before: int) -> tuple[GaussianMixture, Callable[[GaussianMixture], Floats]]:
        past = observations[:before]
        model = fit_mixture(past, _first_guess(past), len(REGIMES), iterations)
        return model, lambda ordered: ordered.responsibilities(observations[before:])

    return _named(
        bars,
        "mixture",
        by_past_fits(bars, _observed(bars, span, prior), len(REGIMES), window, every, responsible, _order),
    )


def name_regimes(probabilities: pd.DataFrame) -> pd.Series:
    """The most probable regime of each bar by name; None where there is none yet.

    Parameters
    ----------
    probabilities:
        Columns as the features of this module give them: ``<regime>_<method>``.

    Raises
    ------
    DataError
        A column names no regime.

    Examples
    --------
    >>> name_regimes(pd.DataFrame({"bull_mixture": [np.nan, 0.2], "bear_mixture": [np.nan, 0.8]})).tolist()
    [None, 'bear']
    """
    names = [str(column).rsplit("_", 1)[0] for column in probabilities.columns]
    unknown = sorted(set(names) - set(REGIMES))
    if unknown:
        raise DataError(f"{unknown} are no regimes", hint=f"columns begin with one of {', '.join(REGIMES)}")
    values = probabilities.to_numpy(dtype=np.float64)
    known = ~np.isnan(values).any(axis=1)
    result = np.full(len(values), None, dtype=object)
    result[known] = np.asarray(names, dtype=object)[values[known].argmax(axis=1)]
    return pd.Series(result, index=probabilities.index, name="regime", dtype=object)


@njit(cache=True, nogil=True)
def drift_and_turbulence(returns: Floats, span: int, prior: int) -> Floats:
    """What the regime models observe: two numbers a bar, ``(n, 2)``, both near 1 in size.

    Drift: the sum of the last ``span`` returns over what chance would make of them, their root mean square over the
    last ``prior`` bars times ``sqrt(span)``; held to -6 to 6. Turbulence: the logarithm of the root mean square of
    the last ``span`` returns over that of the last ``prior``; held to -4 to 4. Both are 0 where nothing moved, NaN
    until there are returns enough. Each window is summed afresh, so that a value depends on nothing before it.

    Examples
    --------
    >>> drift_and_turbulence(np.array([np.nan, 1.0, -1.0, 2.0, 2.0]), 2, 4).round(2).tolist()[-1]
    [1.79, 0.24]
    """
    result = np.full((returns.size, 2), np.nan)
    for i in range(max(span, prior), returns.size):
        total, near, far = 0.0, 0.0, 0.0
        for j in range(i - span + 1, i + 1):
            total += returns[j]
            near += returns[j] * returns[j]
        for j in range(i - prior + 1, i + 1):
            far += returns[j] * returns[j]
        short, usual = np.sqrt(near / span), np.sqrt(far / prior)
        if not usual > 1e-8:
            result[i, 0], result[i, 1] = 0.0, 0.0
            continue
        result[i, 0] = min(max(total / (usual * np.sqrt(span)), -6.0), 6.0)
        result[i, 1] = min(np.log(max(short / usual, 1e-8)), 4.0)
        result[i, 1] = max(result[i, 1], -4.0)
    return result


def ratio_returns(close: Floats) -> Floats:
    """Logarithm of each value over the one before; NaN first. The ratio comes first: a scale of prices changes no bit.

    Examples
    --------
    >>> ratio_returns(np.array([1.0, 1.0, 2.0])).round(4)
    array([   nan, 0.    , 0.6931])
    """
    result = np.full(close.size, np.nan)
    result[1:] = np.log(close[1:] / close[:-1])
    return result


def by_past_fits(
    bars: pd.DataFrame,
    observations: Floats,
    states: int,
    window: int,
    every: int,
    fit: Callable[[Floats, int], tuple[M, Callable[[M], Floats]]],
    order: Callable[[M], Labels],
) -> Floats:
    """Probabilities ``(n, states)``: at each fit the model of the window before, in order, asked up to the next.

    ``fit`` takes the observations from the window's first to the last before the next fit, and how many of them are
    the window; it gives the model and a function that asks a model, its states put in order, for what comes after.
    """
    result = np.full((len(bars), states), np.nan)
    for row, end in fit_spans(refit_starts(bars, every), window, every):
        seen = observations[row - window : end]
        if np.isfinite(seen).all():
            model, ask = fit(seen, window)
            result[row:end] = ask(model.ordered(order(model)))
    return result


def _observed(bars: pd.DataFrame, span: int, prior: int) -> Floats:
    (close,) = columns(bars, "close")
    return drift_and_turbulence(ratio_returns(close), span, prior)


def _named(bars: pd.DataFrame, method: str, probabilities: Floats) -> pd.DataFrame:
    return frame(bars, **{f"{name}_{method}": probabilities[:, number] for number, name in enumerate(REGIMES)})


def _first_guess(observations: Floats) -> Labels:
    """The more turbulent third, and of the rest the halves that rise and fall more."""
    drift, turbulence = observations[:, 0], observations[:, 1]
    rank = np.argsort(np.argsort(turbulence, kind="stable"), kind="stable") / turbulence.size
    calm = rank < 2 / 3
    return np.where(~calm, 2, np.where(drift >= np.median(drift[calm]), 0, 1)).astype(np.int64)


def _order(model: _Model) -> Labels:
    turbulent = int(np.argmax(model.means[:, 1]))
    others = [state for state in np.argsort(model.means[:, 0], kind="stable") if state != turbulent]
    return np.array([others[1], others[0], turbulent], dtype=np.int64)
