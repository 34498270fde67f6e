"""What price profiles cost: completed days with their events, and the profile of each day against plain numpy.

CPU seconds on one core, from bars to rows of the events schema. The peer takes each day by itself and the overlap of
every bar with every row, as the definition reads; both give the same profiles.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, minute_bars, report
from tapeline.charts.bar_arrays import BarArrays
from tapeline.charts.period_profiles import PeriodProfiles, period_profiles, session_profile
from tapeline.charts.profile_shape import profile_event, profile_shape

SIZES, PEER_ROWS, LIVE_ROWS, BINS = (10_000, 100_000, 1_000_000), 100_000, 2_883, 48


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    bars = minute_bars(SIZES[-1], seed=7)
    return 0 if all([tables(bars), against_overlaps(bars), live(bars)]) else 1


def all_tables(bars: pd.DataFrame) -> int:
    """Every detector that stands on profiles, which are found once."""
    arrays = BarArrays(bars)
    return sum(len(detector(arrays)) for detector in (session_profile, profile_shape, profile_event))


def tables(bars: pd.DataFrame) -> bool:
    """All event tables at three sizes."""
    costs = []
    for size in SIZES:
        part = bars.head(size)
        costs.append(cpu_seconds(lambda given=part: all_tables(given)))
        holds = costs[-1] < 0.3
        report(
            f"{all_tables(part)} events of three detectors on {size} bars",
            costs[-1],
            "s",
            target="under 0.3 s",
            holds=holds,
        )
    return costs[-1] < 0.3 and all(after < 15.0 * before for before, after in pairwise(costs))


def plain_profiles(bars: pd.DataFrame) -> np.ndarray:
    """The rows of every day but the last, by the overlap of each bar with each row."""
    days = [part for _, part in bars.groupby(bars.index.floor("1D"))]
    made = []
    for part in days[:-1]:
        low, high, volume = (part[name].to_numpy()[:, None] for name in ("low", "high", "volume"))
        edges = np.linspace(low.min(), high.max(), BINS + 1)
        overlap = np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1])
        made.append((volume * np.maximum(overlap, 0.0) / (high - low)).sum(axis=0))
    return np.array(made)


def against_overlaps(bars: pd.DataFrame) -> bool:
    """The profile of each day by us and by the definition, equal in every row."""
    part = bars.head(PEER_ROWS)
    kept: list[np.ndarray] = []
    peer_seconds = cpu_seconds(lambda: kept.append(plain_profiles(part)), repeats=2)
    found: list[PeriodProfiles] = []
    seconds = cpu_seconds(lambda: found.append(period_profiles(BarArrays(part), bins=BINS)))
    np.testing.assert_allclose(found[0].volume[:-1], kept[0], rtol=1e-7)
    holds = peer_seconds >= 10.0 * seconds
    report(
        f"profiles of the same {len(kept[0])} days, {PEER_ROWS} bars, with value areas here",
        seconds,
        "s",
        target="at least 10 times the peer",
        holds=holds,
        peer="numpy: overlap of each bar with each row",
        peer_value=peer_seconds,
    )
    return holds


def live(bars: pd.DataFrame) -> bool:
    """What a stream asks for at each bar: all three searches over their lookback."""
    arrays = BarArrays(bars.head(LIVE_ROWS))
    prices = np.array([getattr(arrays, name) for name in ("open", "high", "low", "close", "volume")])

    def search() -> int:
        fresh = BarArrays.of_columns(arrays.opened, arrays.closed, prices)
        return sum(len(list(one.found(fresh))) for one in (session_profile, profile_shape, profile_event))

    milliseconds = 1000.0 * cpu_seconds(lambda: [search() for _ in range(50)]) / 50
    holds = milliseconds < 2.0
    report("all three searches at one bar of one symbol", milliseconds, "ms", target="under 2 ms", holds=holds)
    return holds


if __name__ == "__main__":
    raise SystemExit(main())
