"""What the tests of several rooms need."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.timeframe import Timeframe


def make_bars(
    rows: int = 600, *, timeframe: str = "H1", seed: int = 0, start: str = "2017-01-02", gaps: bool = True
) -> pd.DataFrame:
    """Consistent random bars as the library sees them: index ``ts`` (UTC, ns), OHLCV, ``close_ts``; weekends missing.

    A test double for prices only: nothing that a user sees is made of it.
    """
    frame = Timeframe.parse(timeframe)
    generator = np.random.default_rng(seed)
    ts = pd.date_range(start, periods=rows * 2, freq=frame.duration, tz="UTC", name="ts").as_unit("ns")
    if gaps and frame.seconds < 86_400:
        ts = ts[ts.day_of_week < 5]
    ts = ts[:rows]
    close = 1.1 * np.exp(np.cumsum(generator.standard_t(4, len(ts)) * 5e-4))
    opened = np.r_[close[0], close[:-1]] * (1 + generator.normal(0, 2e-5, len(ts)))
    spread = np.abs(generator.normal(0, 4e-4, (2, len(ts))))
    return pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * (1 + spread[0]),
            "low": np.minimum(opened, close) * (1 - spread[1]),
            "close": close,
            "volume": generator.integers(1, 10_000, len(ts)).astype(float),
            "close_ts": frame.closes(ts),
        },
        index=ts,
    )
