"""Trend context: up, down or flat over several horizons, how strongly, and since when."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from numba import njit
from pydantic import Field

from tapeline.core.registry import Tolerance, feature
from tapeline.features.arrays import STILL, Count, Floats, columns, frame, log_changes
from tapeline.features.window_kernels import running_moments

Horizon = Annotated[int, Field(ge=4, le=20_000)]
Threshold = Annotated[float, Field(gt=0, le=100)]


@njit(cache=True, nogil=True)
def tag_ages(tags: Floats, longest: int) -> Floats:
    """For how many bars, the current one included, a tag has stood; counted up to ``longest``.

    Examples
    --------
    >>> tag_ages(np.array([np.nan, 1.0, 1.0, 0.0, 0.0, 0.0]), 2)
    array([nan,  1.,  2.,  1.,  2.,  2.])
    """
    result = np.full(tags.size, np.nan)
    age = 0
    for i in range(tags.size):
        if np.isnan(tags[i]):
            continue
        age = min(age + 1, longest) if i > 0 and tags[i] == tags[i - 1] else 1
        result[i] = age
    return result


@feature(
    # The window of the first bar whose tag counts, one return each.
    lookback=lambda short, middle, long, longest: max(short, middle, long) + longest,
    outputs=(
        "trend_tag_{short}",
        "trend_tag_strength_{short}",
        "trend_tag_age_{short}",
        "trend_tag_{middle}",
        "trend_tag_strength_{middle}",
        "trend_tag_age_{middle}",
        "trend_tag_{long}",
        "trend_tag_strength_{long}",
        "trend_tag_age_{long}",
        "trend_agreement",
    ),
    reference="Moskowitz, Ooi and Pedersen, Journal of Financial Economics 104 (2012): time series momentum over "
    "several horizons; the strength is Student's t of the mean return",
    tolerance=Tolerance(relative=1e-7, absolute=1e-7),
)
def trend_context(
    bars: pd.DataFrame,
    short: Horizon = 24,
    middle: Horizon = 96,
    long: Horizon = 384,
    threshold: Threshold = 1.0,
    longest: Count = 120,
) -> pd.DataFrame:
    """Trend up (1), down (-1) or flat (0) over a short, a middle and a long horizon; with strength and age.

    The strength is the log return over the horizon in units of what a random walk with its volatility would move:
    Student's t of the mean return. Price trends where the strength is ``threshold`` or more in size; in a random walk
    it is above 1 in a third of all bars, above 2 in a twentieth.

    Returns
    -------
    For each horizon its tag, its strength (signed), and the tag's age: for how many bars it has stood, 1 where it is
    new, counted up to ``longest``. At last the mean of the three tags: 1 where all are up. A horizon in which price
    stood still is flat with strength 0. NaN in the warm-up; the ages start together with the tags, so that they are
    short after a young history's first bars.

    Examples
    --------
    >>> bars = pd.DataFrame({"close": np.exp(np.cumsum([0.01, 0.03] * 10))})
    >>> found = trend_context(bars, short=4, middle=6, long=8, longest=5).iloc[-1]
    >>> found.iloc[:3].round(2).tolist(), found.iloc[-1].item()
    ([1.0, 3.46, 5.0], 1.0)
    """
    (close,) = columns(bars, "close")
    returns = log_changes(close)
    values: dict[str, Floats] = {}
    tags = []
    for horizon in (short, middle, long):
        strength = _strength(returns, horizon)
        # Rounded, so that the unit of price cannot push a strength over the threshold.
        tag = np.where(
            np.isnan(strength), np.nan, np.where(np.round(np.abs(strength), 9) >= threshold, np.sign(strength), 0.0)
        )
        tags.append(tag)
        values[f"trend_tag_{horizon}"] = tag
        values[f"trend_tag_strength_{horizon}"] = strength
        # Where less than the longest age is known, the age is what is known of it.
        values[f"trend_tag_age_{horizon}"] = tag_ages(tag, longest)
    return frame(bars, **values, trend_agreement=sum(tags, np.zeros(close.size)) / 3.0)


def _strength(returns: Floats, horizon: int) -> Floats:
    mean, deviation, _, _ = running_moments(returns, horizon)
    error = deviation / np.sqrt(horizon - 1.0)
    strength = np.where(np.isnan(mean), np.nan, 0.0)
    np.divide(mean, error, out=strength, where=error > STILL)
    # A straight line has no error: its t would be without bound.
    return np.clip(strength, -1000.0, 1000.0)
