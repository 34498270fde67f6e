"""Trending or sideways: the hidden Markov engine of the market regimes, read for how far price gets.

The probability at a bar comes from the observations up to it, under a model that was fitted on earlier ones; it is
never smoothed by later ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.core.registry import feature
from tapeline.features.arrays import Floats, Window, columns, frame
from tapeline.features.hidden_markov import GaussianHmm, Labels, fit_gaussian_hmm
from tapeline.features.market_regime import (
    FITTED,
    FitWindow,
    Iterations,
    by_past_fits,
    drift_and_turbulence,
    ratio_returns,
)
from tapeline.features.refit_clock import Every

STATES: Final = ("trending", "sideways")


@feature(
    lookback=lambda span, prior, window, every: max(span, prior) + window + every,
    outputs=("trending_filtered", "sideways_filtered", "trending_direction"),
    requires=("close_ts",),
    reference="Hamilton, Econometrica 57 (1989): filtered probabilities of a switching model; drift against "
    "chance as in Lo and MacKinlay, Review of Financial Studies 1 (1988)",
    tolerance=FITTED,
)
def trending_regime(
    bars: pd.DataFrame,
    span: Window = 24,
    prior: Window = 96,
    window: FitWindow = 240,
    every: Every = 120,
    iterations: Iterations = 5,
) -> pd.DataFrame:
    """Filtered probability that the market trends, that it goes sideways, and the way it trends.

    A hidden Markov model of two states observes how far price came in the last ``span`` bars, either way, against what
    chance would make of its usual moves (the size of the drift of
    :func:`tapeline.features.market_regime.drift_and_turbulence`). The state in which it gets farther is trending. It is
    fitted as ``hidden_markov_regime`` is: on the ``window`` bars before each stretch of ``every`` bar lengths.

    Returns
    -------
    ``trending_filtered`` and ``sideways_filtered``, which add up to 1, and ``trending_direction``: the probability of a
    trend with the sign of the drift, -1 to 1. NaN before the first fit.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> steps = np.tile(np.concatenate([np.tile([6.0, -6.0], 30), np.full(60, 3.0)]), 4)
    >>> found = trending_regime(example_bars(*(1000 + np.cumsum(steps))), span=8, prior=48, window=240, every=24)
    >>> name_trend(found).iloc[[400, 460]].tolist()
    ['sideways', 'trending up']
    """
    (close,) = columns(bars, "close")
    drift = drift_and_turbulence(ratio_returns(close), span, prior)[:, :1]

    def fit(observations: Floats, before: int) -> tuple[GaussianHmm, Callable[[GaussianHmm], Floats]]:
        past = observations[:before]
        guess = (past[:, 0] < np.median(past[:, 0])).astype(np.int64)
        model = fit_gaussian_hmm(past, guess, len(STATES), iterations)
        return model, lambda ordered: ordered.filtered(observations)[before:]

    found = by_past_fits(bars, np.abs(drift), len(STATES), window, every, fit, _order)
    return frame(
        bars,
        trending_filtered=found[:, 0],
        sideways_filtered=found[:, 1],
        trending_direction=found[:, 0] * np.sign(drift[:, 0]),
    )


def name_trend(regime: pd.DataFrame) -> pd.Series:
    """What each bar's market is, in words: ``trending up``, ``trending down`` or ``sideways``; None where unknown.

    Raises
    ------
    DataError
        The frame has not the columns that ``trending_regime`` gives.

    Examples
    --------
    >>> name_trend(pd.DataFrame({"trending_filtered": [0.7], "sideways_filtered": [0.3], "trending_direction": [-0.7]}))
    0    trending down
    Name: regime, dtype: object
    """
    wanted = ["trending_filtered", "sideways_filtered", "trending_direction"]
    if not set(wanted) <= set(regime.columns):
        raise DataError(f"{list(regime.columns)} are not the columns of a trending regime", hint=f"needed are {wanted}")
    trending, sideways, direction = (regime[name].to_numpy(dtype=np.float64) for name in wanted)
    names = np.where(trending > sideways, np.where(direction > 0, "trending up", "trending down"), "sideways")
    told = names.astype(object)
    told[np.isnan(trending)] = None
    return pd.Series(told, index=regime.index, name="regime", dtype=object)


def _order(model: GaussianHmm) -> Labels:
    return np.argsort(-model.means[:, 0], kind="stable").astype(np.int64)
