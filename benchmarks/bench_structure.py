"""What structure costs: swings, gaps with mitigation, breaks, order blocks and liquidity, as arrays and event tables.

CPU seconds on one core. The peers run in the same process: smart-money-concepts, pyvsmc, and for the gaps the plain
form in pandas and numpy. Gaps are compared event by event; the peers' breaks, order blocks and liquidity are defined
otherwise (see docs/charts.md), so that only their times stand beside ours, without a ratio of like with like. Then all
detectors at once, on history and bar by bar.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.harness import cpu_seconds, minute_bars, report
from tapeline.charts.bar_arrays import BarArrays, mean_true_range
from tapeline.charts.gaps import fair_value_gap, find_gaps
from tapeline.charts.liquidity import equal_extremes, liquidity_sweep
from tapeline.charts.order_blocks import find_blocks, order_block
from tapeline.charts.scan import Choice, EventStream, choose, scan
from tapeline.charts.smc_columns import fvg_whole
from tapeline.charts.structure import (
    StructureStream,
    break_of_structure,
    change_of_character,
    find_breaks,
)
from tapeline.charts.structure_kernels import equal_levels
from tapeline.charts.swings import SwingStream, exceeded, find_swings, fractal_swing, zigzag_swing

SIZES, PEER_ROWS, LIVE_ROWS, STREAMED_ROWS = (10_000, 100_000, 1_000_000), 100_000, 2_000, 200
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
    bars = minute_bars(SIZES[-1], seed=7)
    plain = [one for one in choose() if set(one.component.required_columns(**one.parameters)) <= {"close_ts"}]
    structure = choose([detector.__name__ for detector in DETECTORS])
    verdicts = [
        findings(bars),
        scanned(bars, structure, "the eight detectors of structure", 0.5),
        linear(bars),
        against_plain_gaps(bars),
        *against_smart_money_concepts(bars.head(PEER_ROWS)),
        *against_pyvsmc(bars),
        live(bars),
        streamed(bars, structure, "the eight detectors of structure"),
        streamed(bars, plain, f"all {len(plain)} detectors"),
        scanned(bars.head(PEER_ROWS), plain, f"all {len(plain)} detectors", 5.0),
        all_linear(bars, plain),
        *tables(bars),
    ]
    return 0 if all(verdicts) else 1


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


def against_smart_money_concepts(bars: pd.DataFrame) -> list[bool]:
    """Gaps with the same columns out; the time of its other functions beside ours."""
    # Its banner holds characters that not every terminal has.
    os.environ["SMC_CREDIT"] = "0"
    from smartmoneyconcepts import smc

    kept: list[pd.DataFrame] = []
    peer_seconds = cpu_seconds(lambda: kept.append(smc.fvg(bars)), repeats=1, warm=False)
    ours = fvg_whole(bars)
    np.testing.assert_array_equal(ours.to_numpy(), kept[0].to_numpy())
    count = int(ours["FVG"].notna().sum())
    peer = "smartmoneyconcepts 0.0.27"
    seconds = per_call(lambda: gaps_with_mitigation(bars), 20)
    verdicts = [peer_seconds >= 1_000.0 * seconds]
    name = f"fair value gaps with mitigation, the same {count} on {len(bars)} bars"
    report(
        f"{name}, as arrays",
        seconds,
        "s",
        target="1,000 times the peer",
        holds=verdicts[0],
        peer=peer,
        peer_value=peer_seconds,
    )
    seconds = per_call(lambda: fvg_whole(bars), 10)
    report(
        f"{name}, as its columns",
        seconds,
        "s",
        target="ahead",
        holds=seconds < peer_seconds,
        peer=peer,
        peer_value=peer_seconds,
    )
    swings = smc.swing_highs_lows(bars, swing_length=5)
    for part, work in (
        ("swings", lambda: smc.swing_highs_lows(bars, swing_length=5)),
        ("breaks", lambda: smc.bos_choch(bars, swings)),
        ("order blocks", lambda: smc.ob(bars, swings)),
        ("liquidity", lambda: smc.liquidity(bars, swings)),
    ):
        verdicts.append(ahead(part, bars, peer, cpu_seconds(work, repeats=1, warm=False)))
    return verdicts


def against_pyvsmc(bars: pd.DataFrame) -> list[bool]:
    """Gaps of any body with the same rows of touch, middle and fill; the time of its other functions beside ours."""
    import pyvsmc

    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    pyvsmc.detect_fvg(high[:3000], low[:3000], compute_mitigation=True, close=close[:3000])
    kept: list[Any] = []
    peer_seconds = cpu_seconds(
        lambda: kept.append(pyvsmc.detect_fvg(high, low, compute_mitigation=True, close=close)), repeats=1, warm=False
    )
    theirs = kept[0]
    rows = np.flatnonzero(theirs.bullish | theirs.bearish)
    # It counts gaps whatever the body of the middle bar; so do we here.
    arrays = BarArrays(bars)
    gaps = find_gaps(arrays, body=False)
    np.testing.assert_array_equal(gaps.third, rows)
    np.testing.assert_array_equal(gaps.direction > 0, theirs.bullish[rows])
    for share, name in ((0.0, "mitigated_index"), (0.5, "mitigated_50_index"), (1.0, "mitigated_full_index")):
        np.testing.assert_array_equal(gaps.reached(arrays, share), getattr(theirs, name)[rows])
    verdicts = []
    for shares, what, target in (((0.0,), "mitigation", 50.0), ((0.0, 0.5, 1.0), "touch, middle and fill", 1.0)):
        seconds = per_call(lambda chosen=shares: gaps_with_mitigation(bars, body=False, shares=chosen), 5)
        verdicts.append(peer_seconds >= target * seconds)
        report(
            f"fair value gaps with {what}, the same {len(rows)} on {len(bars)} bars",
            seconds,
            "s",
            target=f"{target:g} times the peer" if target > 1.0 else "ahead",
            holds=verdicts[-1],
            peer="pyvsmc 0.3.7, which gives all three in one call",
            peer_value=peer_seconds,
        )
    # Its order blocks take minutes on a million bars.
    few = bars.head(PEER_ROWS)
    few_open, few_high, few_low, few_close = (few[name].to_numpy() for name in ("open", "high", "low", "close"))
    for part, given, work in (
        ("swings", bars, lambda: pyvsmc.detect_swings(high, low, window_size=5)),
        ("breaks", bars, lambda: pyvsmc.detect_structure(high, low, close, window_size=5)),
        ("liquidity", bars, lambda: pyvsmc.detect_liquidity(high, low, close, window_size=5)),
        (
            "order blocks",
            few,
            lambda: pyvsmc.detect_order_blocks(
                few_open, few_high, few_low, few_close, window_size=5, compute_mitigation=True
            ),
        ),
    ):
        verdicts.append(ahead(part, given, "pyvsmc 0.3.7", cpu_seconds(work, repeats=1, warm=False)))
    return verdicts


def gaps_with_mitigation(bars: pd.DataFrame, *, body: bool = True, shares: tuple[float, ...] = (0.0,)) -> list[Any]:
    """The gaps of bars and at which rows price came back so far."""
    arrays = BarArrays(bars)
    gaps = find_gaps(arrays, body=body)
    return [gaps, *(gaps.reached(arrays, share) for share in shares)]


def part_of_structure(part: str, bars: pd.DataFrame) -> None:
    """One family from bars to arrays, with the swings it stands on."""
    arrays = BarArrays(bars)
    if part == "liquidity":
        list(equal_extremes.found(arrays))
        return
    swings = find_swings(arrays, "fractal", left=5, right=5)
    if part != "swings":
        breaks = find_breaks(arrays, swings)
        if part == "order blocks":
            find_blocks(arrays, breaks)


def ahead(part: str, bars: pd.DataFrame, peer: str, peer_seconds: float) -> bool:
    """Our time for a family whose definition differs: less than the peer's, and no claim beyond that."""
    part_of_structure(part, bars.head(3000))
    seconds = per_call(lambda: part_of_structure(part, bars), 3)
    holds = seconds < peer_seconds
    name = f"{part} on {len(bars)} bars, other definitions"
    report(name, seconds, "s", target="ahead in time", holds=holds, peer=peer, peer_value=peer_seconds)
    return holds


def per_call(work: Callable[[], Any], times: int) -> float:
    """CPU seconds of one call among several."""
    return cpu_seconds(lambda: [work() for _ in range(times)]) / times


def scanned(bars: pd.DataFrame, choices: tuple[Choice, ...] | list[Choice], what: str, limit: float) -> bool:
    """The event tables of several detectors by one scan, swings shared."""
    kept: list[pd.DataFrame] = []
    scan(bars.head(3000), choices)
    seconds = cpu_seconds(lambda: kept.append(scan(bars, choices)), repeats=1, warm=False)
    holds = seconds < limit
    name = f"a scan by {what}: {len(kept[0])} rows of the events table from {len(bars)} bars"
    report(name, seconds, "s", target=f"under {limit:g} s", holds=holds)
    return holds


def all_linear(bars: pd.DataFrame, choices: list[Choice]) -> bool:
    """All detectors at three sizes: ten times the bars cost at most fifteen times as much."""
    costs: list[float] = []
    for size in SIZES:
        part = bars.head(size)
        seconds = cpu_seconds(lambda given=part: scan(given, choices), repeats=1, warm=False)
        growth = seconds / costs[-1] if costs else 0.0
        report(
            f"a scan by all {len(choices)} detectors on {size} bars, {1e6 * seconds / size:.1f} microseconds a bar",
            seconds,
            "s",
            target="at most 15 times the cost of a tenth of the bars",
            holds=growth < 15.0,
        )
        costs.append(seconds)
    return all(after < 15.0 * before for before, after in pairwise(costs))


def streamed(bars: pd.DataFrame, choices: tuple[Choice, ...] | list[Choice], what: str) -> bool:
    """One new bar of one symbol through an event stream that has taken a history, milliseconds."""
    begin = 20_000
    stream = EventStream.after(bars.head(begin), choices)
    rows = list(bars.iloc[begin : begin + STREAMED_ROWS + 20].itertuples())
    for row in rows[:20]:
        stream.push(*row)
    events = 0

    def feed() -> None:
        nonlocal events
        for row in rows[20:]:
            events += len(stream.push(*row).confirmed)

    milliseconds = 1000.0 * cpu_seconds(feed, repeats=1, warm=False) / STREAMED_ROWS
    holds = milliseconds < 2.0
    name = f"one new bar, one symbol, through {what}, {events} events in {STREAMED_ROWS} bars"
    report(name, milliseconds, "ms", target="under 2 ms", holds=holds)
    return holds


if __name__ == "__main__":
    raise SystemExit(main())
