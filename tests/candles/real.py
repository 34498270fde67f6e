"""Recorded ticks and bars, read from the folder of test data."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pandas as pd

FIRST_DAYS = ("20140501", "20140502", "20140504", "20140505")
DAYS = (
    *FIRST_DAYS,
    *("20140506", "20140507", "20140508", "20140509", "20140511", "20140512", "20140513", "20140514", "20140515"),
)
"""The days for which the recording has ticks, second bars and minute bars."""


def lean(folder: Path, broker: str, kind: str, day: str) -> pd.DataFrame:
    """One recorded file on its own clock (FXCM writes UTC-5), taken as UTC here: only the grid matters."""
    path = folder / "data" / "lean" / "forex" / broker / kind / "eurusd" / f"{day}_quote.zip"
    with zipfile.ZipFile(path) as archive:
        raw = pd.read_csv(io.BytesIO(archive.read(archive.namelist()[0])), header=None)
    index = pd.DatetimeIndex(pd.Timestamp(day, tz="UTC") + pd.to_timedelta(raw[0].to_numpy(), unit="ms"), name="ts")
    names = ["bid", "ask"] if kind == "tick" else ["open", "high", "low", "close"]
    return raw.iloc[:, 1 : 1 + len(names)].set_axis(names, axis=1).set_axis(index)


def freqtrade_trades(folder: Path) -> pd.DataFrame:
    raw = pd.read_feather(folder / "data" / "freqtrade" / "XRP_ETH-trades.feather")
    index = pd.DatetimeIndex(pd.to_datetime(raw["timestamp"], unit="ms", utc=True), name="ts")
    side = raw["side"].map({"buy": 1, "sell": -1}).to_numpy()
    return pd.DataFrame(
        {"price": raw["price"].to_numpy(), "size": raw["amount"].to_numpy(), "side": side, "id": raw["id"].to_numpy()},
        index=index,
    )


def freqtrade_minutes(folder: Path) -> pd.DataFrame:
    raw = pd.read_feather(folder / "data" / "freqtrade" / "XRP_ETH-1m.feather")
    return raw.set_index("date").rename_axis("ts")
