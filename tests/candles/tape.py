"""Random tapes for the tests, and how a built frame is compared with an oracle's rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from tapeline.candles.builder import CandleBuilder


def trades_frame(ticks: list[tuple]) -> pd.DataFrame:
    index = pd.DatetimeIndex(np.array([t[0] for t in ticks], dtype="M8[ns]"), name="ts").tz_localize("UTC")
    return pd.DataFrame(
        {"price": [t[1] for t in ticks], "size": [t[2] for t in ticks], "side": [t[3] for t in ticks]}, index=index
    )


@st.composite
def exact_ticks(draw, least=1, most=120) -> list[tuple]:
    """Ticks on a price grid of 1/64 with sizes in quarters: every sum and product is exact in binary.

    Times repeat often (a step of 0), and now and then a whole interval is skipped.
    """
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0, 0, 1, 7, 20, 400]),
                st.integers(-6, 6),
                st.integers(1, 24),
                st.sampled_from([1, 0, -1]),
            ),
            min_size=least,
            max_size=most,
        )
    )
    ticks, ts, price = [], 1_400_000_000, 64 * 50
    for wait, move, size, side in steps:
        ts += wait
        price += move
        ticks.append((ts * 1_000_000_000, price / 64, size / 4, side, 0.0))
    return ticks


def rough_trades(rows: int, seed: int = 0, seconds: float = 3.0) -> pd.DataFrame:
    """Trades whose prices and sizes have no short binary form, with equal times among them."""
    generator = np.random.default_rng(seed)
    gaps = generator.exponential(seconds * 1e9, rows).astype(np.int64) * generator.integers(0, 3, rows)
    index = pd.DatetimeIndex((np.int64(1_400_000_000_000_000_000) + np.cumsum(gaps)).view("M8[ns]"), name="ts")
    return pd.DataFrame(
        {
            "price": 1.1 * np.exp(np.cumsum(generator.standard_t(3, rows) * 1e-4)),
            "size": generator.lognormal(0.0, 1.0, rows),
            "side": generator.integers(-1, 2, rows),
        },
        index=index.tz_localize("UTC"),
    )


def rows_of(bars: pd.DataFrame, extra: str | None = None) -> list[tuple]:
    """A built frame in the form of the oracle's rows."""
    tail = bars[extra].astype(float) if extra else pd.Series(0.0, index=bars.index)
    return [
        (ts.value, close_ts.value, *values[:5], int(count), values[5], last)
        for ts, close_ts, values, count, last in zip(
            bars.index,
            bars["close_ts"],
            bars[["open", "high", "low", "close", "volume", "buy_volume"]].to_numpy().tolist(),
            bars["tick_count"],
            tail,
            strict=True,
        )
    ]


def same(found: list[tuple], expected: list[tuple]) -> None:
    """Equal to the last bit, NaN where NaN."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.array(ours, dtype=float), np.array(theirs, dtype=float))
        assert ours[:2] == theirs[:2]


def in_chunks(frame: pd.DataFrame, candle, cuts: list[int], **options) -> tuple[pd.DataFrame, CandleBuilder]:
    """The frame through one builder in portions, saved and restored between two of them."""
    builder = CandleBuilder(candle, **options)
    parts = []
    for start, end in zip([0, *cuts], [*cuts, len(frame)], strict=True):
        parts.append(builder.update(frame.iloc[start:end]))
        builder = CandleBuilder.restore(candle, builder.state())
    filled = [part for part in parts if len(part)]
    return (pd.concat(filled) if filled else parts[-1]), builder
