"""What structure costs: swings, gaps with mitigation, breaks, order blocks and liquidity, as event tables.

CPU seconds on one core, from bars to rows of the events schema with ids and points. The peer of the gaps is the plain
form in pandas and numpy, a search of the following bars for each gap; both give the same gaps with the same mitigation.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, report
from tapeline.charts.bar_arrays import BarArrays, mean_true_range
from tapeline.charts.gaps import fair_value_gap, find_gaps
from tapeline.charts.liquidity import equal_extremes, liquidity_sweep
from tapeline.charts.order_blocks import find_blocks, order_block
from tapeline.charts.structure import (
    StructureStream,
    break_of_structure,
    change_of_character,
    find_breaks,
)
from tapeline.charts.structure_kernels import equal_levels
from tapeline.charts.swings import SwingStream, exceeded, find_swings, fractal_swing, zigzag_swing

SIZES, PEER_ROWS, LIVE_ROWS = (10_000, 100_000, 1_000_000), 100_000, 2_000
DETECTORS: tuple[Callable[[pd.DataFrame], pd.DataFrame], ...] = (
    fractal_swing,
    zigzag_swing,
    fair_value_gap,
    break_of_structure,
    change_of_character,
    order_block,
    equal_extremes,
    liquidity_sweep,
)


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    bars = minute_bars(SIZES[-1])
    return 0 if all([findings(bars), linear(bars), against_plain_gaps(bars), live(bars), *tables(bars)]) else 1


def minute_bars(rows: int) -> pd.DataFrame:
    """Random minute bars with heavy tails and small gaps between them."""
    generator = np.random.default_rng(7)
    close = 1.1 * np.exp(np.cumsum(generator.standard_t(4, rows) * 1e-5))
    opened = np.r_[close[:1], close[:-1]]
    reach = np.abs(generator.normal(0, 1e-5, (2, rows)))
    ts = pd.date_range("2017-01-02", periods=rows, freq="1min", tz="UTC", name="ts").as_unit("ns")
    return pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * (1 + reach[0]),
            "low": np.minimum(opened, close) * (1 - reach[1]),
            "close": close,
            "volume": generator.integers(1, 1000, rows).astype(float),
            "close_ts": ts + pd.Timedelta(minutes=1),
        },
        index=ts,
    )


def all_findings(bars: pd.DataFrame) -> int:
    """Everything as arrays: swings found once, and all that stands on them."""
    arrays = BarArrays(bars)
    gaps = find_gaps(arrays)
    mitigated = gaps.reached(arrays, 0.0)
    swings = find_swings(arrays, "fractal", left=5, right=5)
    breaks = find_breaks(arrays, swings)
    blocks = find_blocks(arrays, breaks)
    passed = exceeded(arrays, swings)
    usual = 0.25 * mean_true_range(arrays, 14)[swings.confirmed]
    equal = 0
    for side in (1, -1):
        mine = (swings.side == side) & (usual >= 0.0)
        members, _ = equal_levels(
            swings.row[mine], swings.confirmed[mine], side * swings.price[mine], usual[mine], 300, 2
        )
        equal += int((members[:, 0] > 0).sum())
    return len(gaps) + len(swings) + len(blocks) + equal + int((mitigated >= 0).sum() + (passed >= 0).sum())


def findings(bars: pd.DataFrame) -> bool:
    """The whole set on a million bars, as arrays."""
    all_findings(bars.head(3000))
    seconds = cpu_seconds(lambda: all_findings(bars))
    holds = seconds < 0.5
    what = "gaps with mitigation, swings and what passed them, breaks, order blocks with mitigation, equal extremes"
    name = f"{what} on {len(bars)} bars, as arrays"
    report(name, seconds, "s", target="under 0.5 s", holds=holds)
    return holds


def tables(bars: pd.DataFrame) -> list[bool]:
    """Each detector from bars to its event table."""
    verdicts = []
    for detector in DETECTORS:
        detector(bars.head(3000))
        kept: list[pd.DataFrame] = []
        seconds = cpu_seconds(lambda chosen=detector, out=kept: out.append(chosen(bars)), warm=False)
        holds = seconds < 0.5
        name = f"{detector.__name__}: {len(kept[0])} rows of the events table from {len(bars)} bars"
        report(name, seconds, "s", target="under 0.5 s", holds=holds)
        verdicts.append(holds)
    return verdicts


def linear(bars: pd.DataFrame) -> bool:
    """All event tables at three sizes: ten times the bars cost at most fifteen times as much."""
    costs = []
    for size in SIZES:
        part = bars.head(size)
        seconds = cpu_seconds(lambda given=part: [detector(given) for detector in DETECTORS])
        growth = seconds / costs[-1] if costs else None
        holds = growth is None or growth < 15.0
        report(
            f"{len(DETECTORS)} event tables on {size} bars, {1e6 * seconds / size:.2f} microseconds a bar",
            seconds,
            "s",
            target="at most 15 times the cost of a tenth of the bars",
            holds=holds,
        )
        costs.append(seconds)
    return all(after < 15.0 * before for before, after in pairwise(costs))


def against_plain_gaps(bars: pd.DataFrame) -> bool:
    """Gaps with mitigation by us and by a plain search, equal to the last row."""
    part = bars.head(PEER_ROWS)

    def ours() -> np.ndarray:
        arrays = BarArrays(part)
        gaps = find_gaps(arrays)
        return np.column_stack((gaps.third, gaps.direction, gaps.low, gaps.high, gaps.reached(arrays, 0.0)))

    kept: list[np.ndarray] = []
    peer_seconds = cpu_seconds(lambda: kept.append(plain_gaps(part)), repeats=1, warm=False)
    np.testing.assert_array_equal(ours(), kept[0])
    seconds = cpu_seconds(ours)
    holds = peer_seconds >= 40.0 * seconds
    report(
        f"fair value gaps with mitigation, the same {len(kept[0])} on {PEER_ROWS} bars",
        seconds,
        "s",
        target="at least 40 times the peer",
        holds=holds,
        peer="pandas shift, then numpy's argmax over the bars after each gap",
        peer_value=peer_seconds,
    )
    return holds


def plain_gaps(bars: pd.DataFrame) -> np.ndarray:
    """Gaps by shifted columns, and for each the first later bar that touches it, over all bars after it."""
    body = (bars["close"] - bars["open"]).shift(1)
    up = (bars["low"] > bars["high"].shift(2)) & (body > 0)
    down = (bars["high"] < bars["low"].shift(2)) & (body < 0)
    high, low = bars["high"].to_numpy(), bars["low"].to_numpy()
    found = []
    for t in np.flatnonzero(up | down):
        side = 1 if up.iloc[t] else -1
        bottom, top = (high[t - 2], low[t]) if side > 0 else (high[t], low[t - 2])
        touched = low[t + 1 :] <= top if side > 0 else high[t + 1 :] >= bottom
        first = int(np.argmax(touched)) if touched.any() else -1
        found.append((t, side, bottom, top, t + 1 + first if first >= 0 else -1))
    return np.array(found)


def live(bars: pd.DataFrame) -> bool:
    """One bar of one symbol through the swing and the structure stream, milliseconds each."""
    rows = bars[["open", "high", "low", "close"]].head(LIVE_ROWS).to_numpy().tolist()

    def feed() -> int:
        swings, structure = SwingStream("fractal", left=5, right=5), StructureStream()
        return sum(len(structure.push(o, h, low, c, swings.push(h, low, c))) for o, h, low, c in rows)

    breaks = find_breaks(bars.head(LIVE_ROWS), find_swings(bars.head(LIVE_ROWS), "fractal", left=5, right=5))
    assert feed() == len(breaks)
    milliseconds = 1000.0 * cpu_seconds(feed) / LIVE_ROWS
    holds = milliseconds < 2.0
    report("swings and breaks of one new bar, one symbol", milliseconds, "ms", target="under 2 ms", holds=holds)
    return holds


if __name__ == "__main__":
    raise SystemExit(main())
