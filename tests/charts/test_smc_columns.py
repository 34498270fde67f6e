"""The columns of smart-money-concepts on its own test series: equal where it does not look ahead, counted where not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.smc_columns import bos_choch, fvg, fvg_whole, liquidity, ob, swing_highs_lows
from tapeline.charts.swings import find_swings
from tests.support import make_bars


@pytest.fixture(scope="module")
def series(test_data):
    folder = test_data / "data" / "smc_eurusd_m15_mt5"
    frame = pd.read_csv(folder / "EURUSD_15M.csv").rename(columns=str.lower)
    # Server time, read as if it were UTC: nothing here asks for more than the order of the bars.
    ts = pd.DatetimeIndex(pd.to_datetime(frame["date"], format="%Y.%m.%d %H:%M:%S", utc=True), name="ts").as_unit("ns")
    bars = frame[["open", "high", "low", "close", "volume"]].astype(float).set_index(ts)
    return bars.assign(close_ts=ts + pd.Timedelta(minutes=15)), folder


def test_all_gaps_with_their_mitigation_are_the_same(series):
    bars, folder = series
    expected = pd.read_csv(folder / "fvg_result_data.csv").astype(float)
    assert expected["FVG"].notna().sum() == 5020
    pd.testing.assert_frame_equal(fvg_whole(bars).reset_index(drop=True), expected, check_exact=True)


def test_causal_gaps_are_the_same_one_bar_later_and_mitigations_stand_where_they_happened(series):
    bars, folder = series
    expected = pd.read_csv(folder / "fvg_result_data.csv").astype(float)
    found = fvg(bars).reset_index(drop=True)
    moved = found[["FVG", "Top", "Bottom"]].shift(-1)
    pd.testing.assert_frame_equal(moved, expected[["FVG", "Top", "Bottom"]], check_exact=True)
    mitigated = expected["MitigatedIndex"][expected["MitigatedIndex"] > 0]
    newest = {int(at): middle + 1.0 for middle, at in mitigated.items()}
    assert found["MitigatesIndex"].dropna().to_dict() == newest


def test_swings_differ_by_ties_phantoms_and_deleted_ones_only(series):
    """Of the 2,708 there, 2,555 are fractals of 4 and 5 bars; 151 are ties; 2 are put at the first and last bar."""
    bars, folder = series
    answers = pd.read_csv(folder / "swing_highs_lows_result_data.csv")
    theirs = {(row, int(side)) for row, side in answers["HighLow"].dropna().items()}
    swings = find_swings(bars, "fractal", left=4, right=5)
    ours = set(zip(swings.row.tolist(), swings.side.tolist(), strict=True))
    assert (len(theirs), len(ours), len(theirs & ours)) == (2708, 3143, 2555)
    high, low = bars["high"].to_numpy(), bars["low"].to_numpy()
    only_there = theirs - ours
    ends = {swing for swing in only_there if swing[0] in (0, len(bars) - 1)}
    values = {1: high, -1: low}
    tied = {
        (row, side)
        for row, side in only_there - ends
        if (values[side][row - 4 : row + 6] == values[side][row]).sum() > 1
    }
    assert (len(ends), len(tied)) == (2, 151)
    # What is deleted there stood beside another of its side, but for 8 that nobody has explained.
    deleted = ours - theirs
    order = sorted(ours | theirs)
    sides = {swing: index for index, swing in enumerate(order)}
    alone = [
        swing
        for swing in deleted
        if all(order[i][1] != swing[1] for i in (sides[swing] - 1, sides[swing] + 1) if 0 <= i < len(order))
    ]
    assert len(deleted) == 588
    assert len(alone) == 8


def test_no_column_changes_its_past():
    bars = make_bars(500)
    for columns in (fvg, lambda b: swing_highs_lows(b, 3), lambda b: bos_choch(b, 3), lambda b: ob(b, 3),
                    lambda b: liquidity(b, 3)):  # fmt: skip
        whole = columns(bars)
        assert whole.notna().sum().min() > 0
        for cut in [*range(100, 150), *range(160, 500, 31)]:
            pd.testing.assert_frame_equal(columns(bars.iloc[:cut]), whole.iloc[:cut])


def test_breaks_of_both_kinds_and_blocks_stand_on_the_same_rows():
    bars = make_bars(500)
    breaks, blocks = bos_choch(bars, 3), ob(bars, 3)
    assert (breaks["BOS"].notna() != breaks["CHOCH"].notna())[breaks["Level"].notna()].all()
    direction = breaks["BOS"].fillna(breaks["CHOCH"])
    np.testing.assert_array_equal(direction, blocks["OB"])
