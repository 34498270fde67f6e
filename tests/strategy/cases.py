"""Random bars, decisions and settings that meet every rule often: coarse prices, gaps, thin volume, broken bars."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from tapeline.strategy.costs import Commission, Tier
from tapeline.strategy.simulator import Simulation, SimulationSettings
from tapeline.strategy.slippage import FixedSlippage, SquareRootSlippage, VolumeShareSlippage
from tests.strategy.oracle import Oracle

MINUTE = 60_000_000_000
STEPS = ("1min", "7h", "3D")
SLIPPAGES = (
    FixedSlippage(),
    FixedSlippage(bps=3.0, volume_limit=0.1),
    VolumeShareSlippage(price_impact=0.3, volume_limit=0.2),
    SquareRootSlippage(volume_limit=0.5),
)
COMMISSIONS = (
    Commission(),
    Commission(maker_bps=-0.5, taker_bps=2.0),
    Commission(per_unit=0.01, minimum=1.0, taker_bps=1.0),
    Commission(
        increment=0.0,
        tiers=(
            Tier(threshold=0, maker_bps=1.0, taker_bps=4.0),
            Tier(threshold=1_000, maker_bps=-0.5, taker_bps=3.0),
            Tier(threshold=6_000, maker_bps=-1.0, taker_bps=2.0),
        ),
    ),
    Commission(
        tiered_by="notional",
        minimum=0.2,
        maximum_share=0.0003,
        tiers=(Tier(threshold=0, maker_bps=1.0, taker_bps=4.0), Tier(threshold=1_000, maker_bps=0.5, taker_bps=2.0)),
    ),
)


class Case:
    """One random case; everything follows from the seed."""

    def __init__(self, seed: int, rows: int = 30) -> None:
        draw = np.random.default_rng(seed)
        self.bars = _bars(draw, rows, draw.choice(STEPS))
        self.settings = SimulationSettings(
            capital=float(draw.choice([2_000.0, 100_000.0])),
            slippage=SLIPPAGES[draw.integers(len(SLIPPAGES))],
            commission=COMMISSIONS[draw.integers(len(COMMISSIONS))],
            lot=float(draw.choice([0.0, 0.1, 5.0])),
            limit_through=float(draw.choice([0.0, 0.5])),
            bars_in_force=[None, 1, 3][draw.integers(3)],
            margin=float(draw.choice([0.0, 0.5])),
            protect_by_distance=bool(draw.integers(2)),
        )
        self.decisions = _decisions(draw, self.bars, self.settings.protect_by_distance)
        self.latency = draw.integers(0, 3 * MINUTE, rows) if draw.integers(2) else np.empty(0, np.int64)
        spread = draw.integers(2)
        self.options = {
            "half_spread": draw.choice([0.0, 0.05, 0.25], rows) if spread else (),
            "volatility": draw.choice([0.001, 0.01, np.nan], rows, p=[0.45, 0.45, 0.1]),
            "long_rate": draw.choice([0.0, 1e-4, -5e-5], rows) if draw.integers(2) else (),
            "short_rate": draw.choice([0.0, 2e-4], rows) if draw.integers(2) else (),
        }

    def oracle(self) -> Oracle:
        """What the readable oracle makes of it."""
        bars = [
            {
                **{name: float(row[name]) for name in ("open", "high", "low", "close", "volume")},
                **{name: float(v[i]) for name, v in self.options.items() if len(v)},
                "ts": row["ts"].value,
                "close_ts": row["close_ts"].value,
            }
            for i, row in enumerate(self.bars.reset_index().to_dict("records"))
        ]
        decisions = [
            {**row, "target": _whole(row["target"], self.settings.lot)} for row in self.decisions.to_dict("records")
        ]
        for i, late in enumerate(self.latency):
            decisions[i]["latency"] = int(late)
        return Oracle(bars, decisions, self.settings).run()


def _whole(target: float, lot: float) -> float:
    if math.isnan(target) or lot == 0:
        return target
    return float(np.sign(target)) * math.floor(abs(target) / lot + 1e-9) * lot


def _bars(draw: np.random.Generator, rows: int, step: str) -> pd.DataFrame:
    # Half units of price, so that open, stop, target and extremes often coincide.
    close = 100.0 + np.cumsum(draw.integers(-3, 4, rows)) / 2
    opened = np.r_[100.0, close[:-1]] + draw.choice([0.0, 0.0, 0.5, -0.5, 3.0, -3.0], rows)
    ts = pd.date_range("2017-01-02", periods=rows, freq=step, tz="UTC", name="ts").as_unit("ns")
    bars = pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) + draw.integers(0, 5, rows) / 2,
            "low": np.minimum(opened, close) - draw.integers(0, 5, rows) / 2,
            "close": close,
            "volume": draw.choice([0.0, 10.0, 100.0, 5_000.0, np.nan], rows, p=[0.1, 0.2, 0.3, 0.3, 0.1]),
            "close_ts": ts + pd.Timedelta(step),
        },
        index=ts,
    )
    for row in np.flatnonzero(draw.random(rows) < 0.06):
        bars.iloc[row, draw.integers(4)] = draw.choice([np.nan, np.inf, 1e-3, 500.0])
    return bars


def _decisions(draw: np.random.Generator, bars: pd.DataFrame, by_distance: bool) -> pd.DataFrame:
    rows = len(bars)

    def sometimes(values: np.ndarray, share: float) -> np.ndarray:
        return np.where(draw.random(rows) < share, values, np.nan)

    near = np.round(bars["close"].replace([np.inf, -np.inf], np.nan).fillna(100.0).to_numpy() * 2) / 2
    side = draw.choice([-1.0, 1.0], rows)

    def level(reach: int) -> np.ndarray:
        return near + draw.integers(-reach, reach + 1, rows) / 2

    distance = draw.integers(1, 9, (2, rows)) / 2
    prices = (distance[0], distance[1]) if by_distance else (near - side * distance[0], near + side * distance[1])
    return pd.DataFrame(
        {
            "target": sometimes(side * draw.choice([0.0, 5.0, 12.3, 50.0], rows), 0.35),
            "stop": sometimes(prices[0], 0.7),
            "take": sometimes(prices[1], 0.6),
            "limit": sometimes(level(5), 0.3),
            "trigger": sometimes(level(5), 0.3),
        },
        index=bars.index,
    )


def same_bits(left: object, right: object) -> bool:
    """Equal to the last bit; NaN equals NaN."""
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    return a.shape == b.shape and bool(((a == b) | (np.isnan(a) & np.isnan(b))).all())


def equal_simulations(left: Simulation, right: Simulation) -> bool:
    """Whether two simulations are the same to the last bit."""
    return all(getattr(left, name).equals(getattr(right, name)) for name in ("equity", "fills", "orders", "trades"))
