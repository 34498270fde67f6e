"""A few bars for the examples in docstrings and docs."""

from __future__ import annotations

import numpy as np
import pandas as pd


def example_bars(*closes: float, start: str = "2017-01-02", hours: int = 1) -> pd.DataFrame:
    """Bars with these closes: each opens at the close before it and reaches 1 beyond its body, volume 1, 2, 3, ...

    Examples
    --------
    >>> example_bars(10, 12)[["open", "high", "low", "close", "volume"]].values.tolist()
    [[10.0, 11.0, 9.0, 10.0, 1.0], [10.0, 13.0, 9.0, 12.0, 2.0]]
    """
    close = np.asarray(closes, dtype=np.float64)
    opened = np.concatenate((close[:1], close[:-1]))
    length = pd.Timedelta(hours=hours)
    ts = pd.date_range(start, periods=close.size, freq=length, tz="UTC", name="ts").as_unit("ns")
    return pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) + 1.0,
            "low": np.minimum(opened, close) - 1.0,
            "close": close,
            "volume": np.arange(1.0, close.size + 1.0),
            "close_ts": ts + length,
        },
        index=ts,
    )
