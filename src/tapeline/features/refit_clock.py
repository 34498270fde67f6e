"""When a model is fitted anew: at fixed places on the clock, so that a live tail refits where all history did."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

Every = Annotated[int, Field(ge=10, le=100_000)]
"""Bars between two fits; an upper bound, since the clock goes on while a market is closed."""


def refit_starts(bars: pd.DataFrame, every: int) -> NDArray[np.bool_]:
    """True at each bar that is the first of its stretch of ``every`` bar lengths on the UTC clock.

    A stretch holds ``every`` bars at most, fewer where bars are missing. Counting bars instead would put the fits
    elsewhere on a tail than on all history. Never True at the first bar given.

    Parameters
    ----------
    bars:
        Bars on their open times, with ``close_ts``.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> refit_starts(example_bars(1, 1, 1, 1, 1, start="2017-01-02 22:00"), 24).tolist()
    [False, False, True, False, False]
    """
    opens = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    closes = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    stretch = opens // (np.maximum(closes - opens, 1) * every)
    starts = np.zeros(opens.size, dtype=np.bool_)
    starts[1:] = stretch[1:] != stretch[:-1]
    return starts


def fit_spans(starts: NDArray[np.bool_], window: int, every: int) -> NDArray[np.int64]:
    """For each fit with ``window`` rows before it: the first row it serves and the row after its last one, ``(m, 2)``.

    Examples
    --------
    >>> fit_spans(np.array([False, True, False, True, False]), 2, 10).tolist()
    [[3, 5]]
    """
    rows = np.flatnonzero(starts)
    rows = rows[rows >= window]
    ends = np.minimum(np.append(rows, starts.size)[1:], rows + every)
    return np.column_stack((rows, ends)).astype(np.int64)
