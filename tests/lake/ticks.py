"""Ticks as the raw zone takes them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.timeframe import Timeframe

TICK = Timeframe.parse("tick")


def ticks(instants: np.ndarray | list[int], *, start: str = "2025-07-30", source: str = "test") -> pd.DataFrame:
    """Ticks at the given nanoseconds after a start, several an instant where one repeats, in the given order.

    A test double: the prices only say which row is which.
    """
    offsets = pd.Series(np.asarray(instants, dtype=np.int64))
    ts = pd.to_datetime(offsets + pd.Timestamp(start).as_unit("ns").value, utc=True).dt.as_unit("ns")
    number = np.arange(len(offsets))
    return pd.DataFrame(
        {
            "ts": ts,
            "sequence": offsets.groupby(offsets).cumcount(),
            "bid": 1.1 + number * 1e-5,
            "ask": 1.2 + number * 1e-5,
            "last": np.nan,
            "volume": np.nan,
            "flags": np.int32(6),
            "known_at": ts + pd.Timedelta("3ms"),
            "known_at_is_estimate": False,
            "source": source,
            "revision": np.int32(0),
        }
    )
