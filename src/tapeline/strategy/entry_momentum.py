"""How far the price is expected to move while one waits, by the latest return."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError

Floats = NDArray[np.float64]
STANDARD_ERRORS: Final = 2.0


def waiting_drift(bars: pd.DataFrame, horizon: int, momentum_bars: int = 4, memory: int = 2000) -> Floats:
    """Expected log return from the next bar's open to that of 0, 1, ... bars later, as each bar's close knows it.

    The latest return over ``momentum_bars`` times a slope through the origin, fitted on the ``memory`` latest bars
    whose outcome was known. Of a slope only what exceeds two standard errors counts, the errors widened for returns
    that overlap (Hansen and Hodrick, Journal of Political Economy 88, 1980), so that noise is no reason to wait. No
    slope is fitted on fewer bars than a quarter of ``memory``.

    Parameters
    ----------
    bars:
        Sorted, with ``open`` and ``close`` above 0.
    horizon:
        How many waits, the first of 0 bars.
    momentum_bars, memory:
        Bars of the return, and of the fit.

    Returns
    -------
    Shape (bars, horizon); 0 where nothing is expected.

    Raises
    ------
    ConfigurationError
        A number of bars is below 1.

    Examples
    --------
    Prices that take back each step: after a rise a buyer gains by waiting a bar.

    >>> from tapeline.core.example import example_bars
    >>> found = waiting_drift(example_bars(*[100.0, 101.0] * 40), 2, momentum_bars=1, memory=50)
    >>> found[-1].round(4).tolist(), found[5].tolist()
    ([0.0, -0.01], [0.0, 0.0])
    """
    if min(horizon, momentum_bars, memory) < 1:
        raise ConfigurationError(f"horizon = {horizon}, momentum_bars = {momentum_bars}, memory = {memory}: 1 or more")
    opened, close = (np.log(bars[name].to_numpy(dtype=np.float64)) for name in ("open", "close"))
    rows, span = len(bars), momentum_bars
    found = np.zeros((rows, horizon))
    past = np.zeros(rows)
    past[span:] = close[span:] - close[:-span]
    for wait in range(1, min(horizon, rows - span - 1)):
        # The outcome of row t lies between the opens of bars t + 1 and t + 1 + wait: the latter's close knows it.
        x = past[span : rows - wait - 1]
        y = opened[span + 1 + wait :] - opened[span + 1 : rows - wait]
        xx, xy, yy = (_latest_sums(values, memory) for values in (x * x, x * y, y * y))
        count = np.minimum(np.arange(1, x.size + 1), memory)
        lags = np.arange(1, min(span, wait))
        overlap = 1.0 + 2.0 * ((1 - lags / span) * (1 - lags / wait)).sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = xy / xx
            noise = np.maximum(yy - slope * xy, 0.0) / count
            error = np.sqrt(noise * overlap / xx)
        sure = np.maximum(np.abs(slope) - STANDARD_ERRORS * error, 0.0) * np.sign(slope)
        sure[(count < memory // 4) | ~np.isfinite(sure)] = 0.0
        found[span + wait + 1 :, wait] = sure * past[span + wait + 1 :]
    return found


def _latest_sums(values: Floats, count: int) -> Floats:
    """Sums of the latest ``count`` values, up to and including each."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    rows = np.arange(1, values.size + 1)
    return np.asarray(sums[rows] - sums[np.maximum(rows - count, 0)])
