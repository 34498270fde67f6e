"""The wave under way: every position is told as it comes, with its limit, and nothing of the future."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.elliott import elliott_wave
from tapeline.charts.elliott_counts import analyze_waves
from tapeline.charts.elliott_drawings import drawings
from tapeline.charts.elliott_rules import KINDS
from tapeline.charts.pivots import find_pivots
from tapeline.charts.synthetic import bars_of_closes, bars_through, random_walk
from tapeline.core.errors import ConfigurationError
from tests.core.samples import eurusd

POINTS = [(0, 112.0), (24, 100.0), (44, 110.0), (56, 104.0), (88, 120.0), (104, 112.0), (128, 124.0), (148, 114.0)]


def told(bars, kind, **given):
    found = analyze_waves(bars, alternates=200, **given)
    return found[found["kind"] == kind].drop_duplicates(["kind", "degree", "wave"]).set_index("wave")


def test_an_impulse_is_followed_from_wave_to_wave():
    bars = bars_through(POINTS)
    pivots = find_pivots(bars)
    prices = [price for _, price in POINTS]
    limits = {"2": prices[1], "3": prices[3], "4": prices[2], "5": prices[5], "": prices[6]}
    for known, (wave, limit) in enumerate(limits.items(), start=2):
        # The bar that confirms the pivot at which the wave before ended; pivot 0 is the high at the start.
        at = int(pivots.confirmed[known])
        row = told(bars.iloc[: at + 1], "impulse", degrees=1).loc[wave]
        assert row["invalidation"] == pytest.approx(limit)
        assert row["direction"] == (1 if wave in ("3", "5") else -1)
        assert [price for _, price in row["points"]] == pytest.approx(prices[1 : known + 1])
        assert row["position"] == (f"in wave {wave} of impulse, degree 3.0" if wave else "after impulse, degree 3.0")
        # Before that bar nobody knew.
        early = analyze_waves(bars.iloc[:at], degrees=1, alternates=200)
        assert row["points"] not in early.loc[early["kind"] == "impulse", "points"].tolist()


def test_a_count_that_has_shown_more_of_itself_ranks_higher():
    bars = bars_through(POINTS)
    ends = [int(at) for at in find_pivots(bars).confirmed[2:]]
    scores = [told(bars.iloc[: at + 1], "impulse", degrees=1)["score"].max() for at in ends]
    assert scores == sorted(scores)
    assert scores[0] == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_told_when_it_has_ended_with_the_score_of_its_event(kind):
    for drawn in drawings(kind, 4, seed=5):
        event = elliott_wave(drawn.bars).set_index("kind").loc[[kind]].iloc[0]
        row = told(drawn.bars, kind, as_of=event["confirmed_at"]).loc[""]
        assert row["score"] == pytest.approx(event["score"])
        assert row["direction"] == drawn.direction
        assert row["invalidation"] == pytest.approx(event["stop"])
        assert [point["price"] for point in event["points"]] == pytest.approx([price for _, price in row["points"]])


@pytest.mark.parametrize(
    ("kind", "wave", "points"),
    [
        ("impulse", "2", POINTS[:3]),
        ("impulse", "4", POINTS[:5]),
        ("leading_diagonal", "4", [(0, 105.0), (20, 120.0), (44, 100.0), (64, 110.0), (77, 103.5), (95, 112.5)]),
        ("zigzag_correction", "B", [(0, 100.0), (60, 130.0), (80, 120.0)]),
        ("flat_regular", "B", [(0, 100.0), (60, 130.0), (80, 120.0)]),
        ("flat_expanded", "B", [(0, 100.0), (60, 130.0), (80, 120.0)]),
        ("triangle", "C", [(0, 100.0), (60, 130.0), (80, 120.0), (98, 129.0)]),
        ("triangle", "E", [(0, 100.0), (60, 130.0), (80, 120.0), (98, 129.0), (112, 122.0), (124, 128.0)]),
        ("combination", "X", [(0, 100.0), (60, 130.0), (80, 120.0), (90, 125.0), (110, 115.0)]),
    ],
)  # fmt: skip
def test_beyond_its_limit_a_count_is_gone_and_before_it_stands(kind, wave, points):
    """The wave under way is driven on to a hair short of the limit, then a hair beyond it."""
    (last_row, last), (_, before) = points[-1], points[-2]
    way = 1.0 if before > last else -1.0
    start = bars_through([*points, (last_row + 5, last + way * 2.4)])
    limit = told(start, kind, degrees=1).loc[wave, "invalidation"]
    assert way * (limit - start["close"].iloc[-1]) > 0
    for hair, stands in ((-0.01, True), (0.01, False)):
        bars = bars_through([*points, (last_row + 24, limit + way * hair)])
        position = told(bars, kind, degrees=1)
        assert (wave in position.index) == stands, (kind, wave, hair)


def test_as_of_reads_closed_bars_only():
    bars = random_walk(900, seed=3)
    for row in (400, 611, 880):
        at = bars["close_ts"].iloc[row]
        pd.testing.assert_frame_equal(analyze_waves(bars, as_of=at), analyze_waves(bars.iloc[: row + 1]))
        pd.testing.assert_frame_equal(
            analyze_waves(bars, as_of=at - pd.Timedelta(1, "ns")), analyze_waves(bars.iloc[:row])
        )


def test_alternates_are_ranked_and_real_bars_have_them():
    bars = eurusd().iloc[:3_000]
    found = analyze_waves(bars, degrees=3, alternates=500)
    assert found.index.tolist() == list(range(1, len(found) + 1))
    assert found["score"].is_monotonic_decreasing
    assert found["score"].between(0.0, 1.0).all()
    assert {3.0, 6.0, 12.0} == set(found["degree"])
    assert found["kind"].nunique() >= 3
    pd.testing.assert_frame_equal(analyze_waves(bars, degrees=3, alternates=3), found.head(3))
    close = bars["close"].iloc[-1]
    under_way = found[found["wave"] != ""]
    assert np.isfinite(under_way["invalidation"]).all()
    # The price is still on the right side of every limit.
    motive = under_way[under_way["wave"].isin(["3", "5"])]
    assert (motive["direction"] * (close - motive["invalidation"]) > 0).all()


def test_degrees_that_share_their_pivots_say_it_once():
    bars = bars_through(POINTS)
    one, three = analyze_waves(bars, degrees=1, alternates=200), analyze_waves(bars, degrees=3, alternates=200)
    pd.testing.assert_frame_equal(one, three[three["degree"] == 3.0].reset_index(drop=True).set_axis(one.index))
    keys = [(kind, tuple(points)) for kind, points in zip(three["kind"], three["points"], strict=True)]
    assert len(keys) == len(set(keys))


def test_a_flat_market_and_a_short_one_hold_no_counts():
    assert analyze_waves(bars_of_closes([100.0] * 60)).empty
    assert analyze_waves(random_walk(20)).empty
    assert analyze_waves(random_walk(50), as_of=pd.Timestamp("2001-01-01", tz="UTC")).empty


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"as_of": pd.Timestamp("2017-01-02")}, "time zone"),
        ({"degrees": 5}, "degrees"),
        ({"alternates": 0}, "alternates"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, match):
    with pytest.raises(ConfigurationError, match=match):
        analyze_waves(random_walk(50), **given)
