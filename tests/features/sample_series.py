"""Real daily series from the packaged sample, for tests that need a second instrument."""

from __future__ import annotations

import pandas as pd

from tapeline.sources.sample import SAMPLE_FILES


def daily_close(symbol: str) -> pd.Series:
    """Closes of a daily index of the packaged sample, by the UTC day they belong to."""
    file = next(f for f in SAMPLE_FILES if str(f.symbol) == symbol and str(f.timeframe) == "D1")
    bars, _ = file.read(file.load())
    index = pd.DatetimeIndex(bars["ts"] if "ts" in bars.columns else bars.index)
    index = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
    return pd.Series(bars["close"].to_numpy(dtype=float), index=index.as_unit("ns"), name=symbol)
