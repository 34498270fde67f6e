"""Sound batches of each lake zone, for the tests of validation and cleaning."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd

from tests.support import make_bars

EXPECTATIONS = Path(__file__).parents[2] / "expectations"


def raw_bars(rows: int = 200, **options: object) -> pd.DataFrame:
    """Raw bars with the columns that say when they arrived."""
    bars = make_bars(rows, **options)  # type: ignore[arg-type]
    return bars.assign(
        known_at=bars["close_ts"],
        known_at_is_estimate=True,
        source=pd.Categorical(["test"] * len(bars)),
        revision=np.zeros(len(bars), dtype=np.int32),
    )


def clean_bars(rows: int = 200) -> pd.DataFrame:
    return raw_bars(rows).assign(repaired=False, outlier=False)


def features(rows: int = 200, columns: int = 8) -> pd.DataFrame:
    """Float32 columns with a warm-up of growing length, as a feature set has them."""
    bars = make_bars(rows)
    values = np.random.default_rng(1).normal(size=(rows, columns)).astype(np.float32)
    for column in range(columns):
        values[: 2 * column, column] = np.nan
    frame = pd.DataFrame(values, columns=[f"feature_{i}" for i in range(columns)], index=bars.index)
    frame.insert(0, "known_at", bars["close_ts"])
    return frame


def labels(rows: int = 200) -> pd.DataFrame:
    bars = make_bars(rows)
    generator = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "value": generator.choice([-1.0, 0.0, 1.0], rows),
            "t_end": bars["close_ts"] + pd.Timedelta(hours=5),
            "outcome": generator.normal(0, 0.01, rows),
            "weight": generator.uniform(0.1, 1.0, rows),
        },
        index=bars.index,
    )


def events(rows: int = 60) -> pd.DataFrame:
    bars = make_bars(rows + 10)
    price = bars["close"].to_numpy()[:rows]
    return pd.DataFrame(
        {
            "id": [f"{place:016x}" for place in range(rows)],
            "kind": "fair_value_gap",
            "direction": np.where(np.arange(rows) % 2, 1, -1).astype(np.int8),
            "start": bars.index[:rows],
            "end": bars.index[2 : rows + 2],
            "confirmed_at": bars["close_ts"].to_numpy()[2 : rows + 2],
            "invalidated_at": bars["close_ts"].where(np.arange(rows + 10) % 3 > 0).to_numpy()[4 : rows + 4],
            "low": price,
            "high": price + 0.001,
        }
    )


def scores(rows: int = 50) -> pd.DataFrame:
    bars = make_bars(rows)
    probability = np.random.default_rng(3).uniform(size=rows)
    return pd.DataFrame(
        {
            "known_at": bars["close_ts"],
            "probability": probability,
            "side": np.where(probability > 0.5, 1, -1).astype(np.int8),
            "confidence": np.abs(probability - 0.5) + 0.5,
            "model": "direction",
            "model_version": "3",
            "feature_set_version": "core@1",
            "label_version": "barrier@1",
            "data_version": "d1",
            "scored_at": bars["close_ts"] + pd.Timedelta(seconds=5),
        },
        index=bars.index,
    )


def sample_bars() -> pd.DataFrame:
    """EURUSD hourly bars of 2017, as the package gym_anytrading carries them (it is not imported)."""
    spec = importlib.util.find_spec("gym_anytrading")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "datasets" / "data" / "FOREX_EURUSD_1H_ASK.csv"
    table = pd.read_csv(path)
    ts = pd.to_datetime(table.pop("Time"), format="%d.%m.%Y %H:%M:%S.%f", utc=True)
    return table.rename(columns=str.lower).set_index(pd.DatetimeIndex(ts, name="ts"))
