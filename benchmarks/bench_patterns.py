"""What patterns over pivots cost: harmonic patterns formed and forming, Wolfe waves, a scan of many symbols.

CPU seconds on one core. The peer of the harmonic patterns is a plain loop over the same pivots that tries each pattern
at each of them; both find the same patterns with the same corners.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, minute_bars, report
from tapeline.charts.bar_arrays import BarArrays
from tapeline.charts.detector import Detector
from tapeline.charts.harmonic_drawings import ratios_of
from tapeline.charts.harmonic_ratios import PATTERNS
from tapeline.charts.harmonic_scanner import scan_harmonics
from tapeline.charts.harmonics import forming_harmonic, harmonic_pattern
from tapeline.charts.pivots import find_pivots
from tapeline.charts.wolfe_waves import wolfe_wave
from tapeline.core.timeframe import Timeframe

SIZES, LIVE_ROWS = (10_000, 100_000, 1_000_000), 2_000
SYMBOLS, TIMEFRAMES, SCANNED_ROWS = 100, ("M1", "M5"), 2_000
DETECTORS: tuple[Detector[...], ...] = (harmonic_pattern, forming_harmonic, wolfe_wave)


def main() -> int:
    """Measure, compare, report; 1 where a target is missed."""
    bars = minute_bars(SIZES[-1], seed=7)
    verdicts = [harmonics(bars), against_plain_loop(bars), linear(bars), *tables(bars), *live(bars), scanned(bars)]
    return 0 if all(verdicts) else 1


def harmonics(bars: pd.DataFrame) -> bool:
    """The zigzag and all patterns, formed and forming, on a million bars, as arrays."""

    def ours() -> int:
        arrays = BarArrays(bars)
        parts = [*harmonic_pattern.found(arrays), *forming_harmonic.found(arrays)]
        return sum(len(part) for part in parts)

    found = ours()
    seconds = cpu_seconds(ours)
    holds = seconds < 0.5
    name = (
        f"zigzag and all {len(PATTERNS)} harmonic patterns, {found} formed or forming, on {len(bars)} bars, as arrays"
    )
    report(name, seconds, "s", target="under 0.5 s", holds=holds)
    return holds


def against_plain_loop(bars: pd.DataFrame) -> bool:
    """The formed patterns of a plain loop over all pivots of a million bars, equal to the last corner."""
    pivots = find_pivots(bars)
    kept: list[set[tuple[str, int]]] = []
    peer_seconds = cpu_seconds(lambda: kept.append(plain_patterns(pivots.price)), repeats=1, warm=False)
    arrays = BarArrays(bars)
    find_pivots(arrays)
    ours = {
        (part.kind, int(last))
        for part in harmonic_pattern.found(arrays)
        for last in np.searchsorted(pivots.row, part.end)
    }
    assert ours == kept[0]
    seconds = cpu_seconds(lambda: list(harmonic_pattern.found(arrays)))
    holds = peer_seconds >= 5.0 * seconds
    report(
        f"harmonic patterns with zones, targets, stops and fates, the same {len(ours)} on {len(pivots)} pivots",
        seconds,
        "s",
        target="at least 5 times the peer, which finds the corners only",
        holds=holds,
        peer="a plain loop over the same pivots",
        peer_value=peer_seconds,
    )
    return holds


def plain_patterns(prices: np.ndarray, tolerance: float = 0.05) -> set[tuple[str, int]]:
    """(kind, pivot of D): the best pattern of five or six points at each pivot, and AB=CD."""
    values, found = prices.tolist(), set()
    for last in range(3, len(values)):
        corners = values[max(0, last - 5) : last + 1]
        ratios = ratios_of([np.nan] * (6 - len(corners)) + corners)
        best, best_score = "", -1.0
        for kind, pattern in PATTERNS.items():
            closeness = []
            for ratio, (least, greatest) in pattern.bounds.items():
                away = abs(ratios[ratio] / min(max(ratios[ratio], least), greatest) - 1.0)
                if not away <= tolerance:
                    break
                closeness.append(1.0 - away / tolerance)
            else:
                score = sum(closeness) / len(closeness)
                if pattern.points > len(corners):
                    continue
                if pattern.points == 4:
                    found.add((kind, last))
                elif score > best_score:
                    best, best_score = kind, score
        if best:
            found.add((best, last))
    return found


def tables(bars: pd.DataFrame) -> list[bool]:
    """Each detector from bars to its event table."""
    verdicts = []
    for detector in DETECTORS:
        kept: list[pd.DataFrame] = []
        detector(bars.head(3000))
        seconds = cpu_seconds(partial(_keep, kept, detector, bars), warm=False)
        holds = seconds < 0.5
        name = f"{detector.__name__}: {len(kept[0])} rows of the events table from {len(bars)} bars"
        report(name, seconds, "s", target="under 0.5 s", holds=holds)
        verdicts.append(holds)
    return verdicts


def _keep(kept: list[pd.DataFrame], detector: Detector[...], bars: pd.DataFrame) -> None:
    kept.append(detector(bars))


def linear(bars: pd.DataFrame) -> bool:
    """All searches at three sizes: ten times the bars cost at most fifteen times as much."""
    costs: list[float] = []
    for size in SIZES:
        part = bars.head(size)
        seconds = cpu_seconds(partial(_search, part), repeats=5)
        growth = seconds / costs[-1] if costs else None
        report(
            f"{len(DETECTORS)} searches on {size} bars, {1e6 * seconds / size:.3f} microseconds a bar",
            seconds,
            "s",
            target="at most 15 times the cost of a tenth of the bars",
            holds=growth is None or growth < 15.0,
        )
        costs.append(seconds)
    return all(after < 15.0 * before for before, after in pairwise(costs))


def _search(bars: pd.DataFrame) -> int:
    arrays = BarArrays(bars)
    return sum(len(part) for detector in DETECTORS for part in detector.found(arrays))


def live(bars: pd.DataFrame) -> list[bool]:
    """Each search on the bars that a live symbol keeps, the pivots at hand."""
    arrays = BarArrays(bars.head(LIVE_ROWS))
    find_pivots(arrays)
    verdicts = []
    for detector in DETECTORS:
        milliseconds = 1000.0 * cpu_seconds(partial(_repeated, detector, arrays, 100)) / 100.0
        holds = milliseconds < 0.5
        report(f"{detector.__name__} on {LIVE_ROWS} bars", milliseconds, "ms", target="under 0.5 ms", holds=holds)
        verdicts.append(holds)
    return verdicts


def _repeated(detector: Detector[...], arrays: BarArrays, times: int) -> None:
    for _ in range(times):
        list(detector.found(arrays))


def scanned(bars: pd.DataFrame) -> bool:
    """Many symbols in two timeframes, to a ranked table."""
    parts = len(bars) // SCANNED_ROWS
    frames: dict[tuple[str, str | Timeframe], pd.DataFrame] = {
        (f"S{symbol}", timeframe): bars.iloc[place * SCANNED_ROWS : (place + 1) * SCANNED_ROWS]
        for symbol in range(SYMBOLS)
        for number, timeframe in enumerate(TIMEFRAMES)
        if (place := (2 * symbol + number) % parts) >= 0
    }
    kept: list[pd.DataFrame] = []
    seconds = cpu_seconds(lambda: kept.append(scan_harmonics(frames)))
    holds = seconds < 1.0
    name = f"a scan of {len(frames)} frames of {SCANNED_ROWS} bars, {len(kept[0])} patterns ranked"
    report(name, seconds, "s", target="under 1 s", holds=holds)
    return holds


if __name__ == "__main__":
    raise SystemExit(main())
