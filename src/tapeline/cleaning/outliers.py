"""Outliers: bars that lie far outside what the bars before them did, judged by the past alone."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numba import njit

from tapeline.quality.order_statistics import median, push, robust_scale

WINDOW: Final = 100
"""How many past changes of the close a bar is held against."""

MINIMUM: Final = 30
"""With fewer past changes than this nothing is flagged."""

THRESHOLD: Final = 10.0
"""How many robust standard deviations make an outlier.

Prices have fat tails: at 3, the usual choice for measurements, hundreds of honest bars would be flagged. At 10 about
0.1 % to 0.3 % are: the violent ones and the wrong ones.
"""

LOOKBACK: Final = WINDOW + 2
"""How many bars, the judged one included, decide its flag."""


def hampel_flags(
    bars: pd.DataFrame, *, window: int = WINDOW, minimum: int = MINIMUM, threshold: float = THRESHOLD
) -> np.ndarray:
    """Flag bars whose high or low strays too far from the close before, as a Hampel filter over past bars does.

    For the bar ``t`` take the ``window`` changes of the close that end at ``t - 1``, their median ``m`` and their
    median absolute deviation ``d``. The bar is flagged where ``|high[t] - close[t-1] - m|`` or
    ``|low[t] - close[t-1] - m|`` exceeds ``threshold * 1.4826 * d``; 1.4826 makes ``d`` a standard deviation under
    the normal distribution. Where more than half of the changes are equal, so that ``d`` is 0, the mean absolute
    deviation times 1.2533 stands in for it; where that is 0 too, nothing is known about scale and nothing is flagged.

    Parameters
    ----------
    bars:
        Sorted bars with finite ``high low close``.

    Returns
    -------
    One boolean a bar. It says that a bar is unusual, not that it is wrong.

    References
    ----------
    F. R. Hampel, "The influence curve and its role in robust estimation", JASA 69 (1974), 383-393; the stand-in for
    the MAD as in B. Iglewicz and D. C. Hoaglin, "How to Detect and Handle Outliers" (ASQC, 1993), ch. 3.

    Examples
    --------
    >>> close = 1.1 + 0.001 * (np.arange(40) % 2)
    >>> bars = pd.DataFrame({"high": close + 0.001, "low": close - 0.001, "close": close})
    >>> bars.loc[35, "high"] = 1.2
    >>> np.flatnonzero(hampel_flags(bars)).tolist()
    [35]
    """
    high, low, close = (np.ascontiguousarray(bars[name], dtype=np.float64) for name in ("high", "low", "close"))
    return _hampel(high, low, close, window, minimum, threshold)


@njit(cache=True)
def _hampel(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, window: int, minimum: int, threshold: float
) -> np.ndarray:
    flags = np.zeros(close.size, dtype=np.bool_)
    ring = np.empty(window)
    ordered = np.empty(window)  # the same changes, ascending: medians are then read off instead of searched for
    count = 0
    for i in range(1, close.size):
        before = close[i - 1]
        if count >= minimum:
            middle = median(ordered, count)
            scale = robust_scale(ordered, count, middle)
            stray = max(abs(high[i] - before - middle), abs(low[i] - before - middle))
            flags[i] = scale > 0.0 and stray > threshold * scale
        count = push(ordered, ring, i - 1, close[i] - before)
    return flags
