"""Yahoo's series as served and as repaired by another project: the oracle of our own repairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tapeline.cleaning.dividend_repair import repair_dividends
from tapeline.cleaning.price_repair import repair_prices

NAMES = {"Adj Close": "adjusted_close", "Stock Splits": "splits"}
PRICE_CELLS = ("open", "high", "low", "close", "volume")
DIVIDEND_CELLS = ("adjusted_close", "dividends")


@dataclass(frozen=True)
class Score:
    """Cells: to be changed, changed rightly, changed wrongly, left wrongly."""

    due: int
    right: int
    wrong: int
    left: int

    @property
    def precision(self) -> float:
        changed = self.right + self.wrong
        return self.right / changed if changed else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.due if self.due else 1.0


def read(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    ts = pd.DatetimeIndex(pd.to_datetime(table.pop(table.columns[0]), utc=True), name="ts")
    table = table.rename(columns=NAMES).rename(columns=str.lower).set_axis(ts, axis=0).sort_index()
    return table.drop(columns=["repaired?", "capital gains"], errors="ignore").astype(float)


def repaired(served: pd.DataFrame) -> pd.DataFrame:
    prices = repair_prices(served, splits=served["splits"], dividends=served["dividends"])
    return repair_dividends(prices.bars).frame


def differs(one: pd.DataFrame, other: pd.DataFrame, names: tuple[str, ...], tolerance: float) -> np.ndarray:
    a, b = (frame[list(names)].to_numpy(dtype=float) for frame in (one, other))
    return ~(np.isclose(a, b, rtol=tolerance, atol=1e-9) | (np.isnan(a) & np.isnan(b)))


def score(served: pd.DataFrame, truth: pd.DataFrame, ours: pd.DataFrame, names: tuple[str, ...]) -> Score:
    due = differs(truth, served, names, 1e-6)
    changed = differs(ours, served, names, 1e-6)
    right = changed & due & ~differs(ours, truth, names, 1e-4)
    return Score(int(due.sum()), int(right.sum()), int((changed & ~right).sum()), int((due & ~right).sum()))
