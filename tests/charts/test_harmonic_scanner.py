"""The scanner over many frames: what stands, in which order, whatever the number of threads."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.bar_arrays import mean_true_range
from tapeline.charts.harmonic_drawings import drawings
from tapeline.charts.harmonic_scanner import COLUMNS, scan_harmonics
from tapeline.charts.harmonics import FORMING, forming_harmonic, harmonic_pattern, harmonic_targets
from tapeline.charts.synthetic import bars_through, random_walk
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tests.core.samples import eurusd


@pytest.fixture(scope="module")
def frames():
    walks = {(f"S{i}", "M1"): random_walk(600 + 40 * i, seed=i) for i in range(9)}
    hours = eurusd().iloc[:1500]
    for number, kind in enumerate(("gartley", "crab")):
        drawing = drawings(kind, 1, seed=number)[0]
        walks[(f"D{number}", "M1")] = drawing.bars.iloc[: drawing.points[-1][0] + 8]
    return walks | {("EURUSD", Timeframe.parse("H1")): hours, ("S1", "M5"): random_walk(900, seed=77)}


@pytest.fixture(scope="module")
def found(frames):
    return scan_harmonics(frames)


def test_it_gives_what_stands_at_the_last_bar_of_each_frame(frames, found):
    total = 0
    for (symbol, timeframe), bars in frames.items():
        mine = found[(found["symbol"] == symbol) & (found["timeframe"] == str(timeframe))]
        for state, detect in (("formed", harmonic_pattern), ("forming", forming_harmonic)):
            expected = detect(bars)
            expected = expected[expected["invalidated_at"].isna()]
            got = mine[mine["state"] == state].set_index("id").loc[expected["id"]]
            total += len(expected)
            for name in ("direction", "confirmed_at", "low", "high", "target", "stop", "score"):
                pd.testing.assert_series_equal(got[name], expected.set_index("id")[name], check_freq=False)
            assert got["kind"].tolist() == [kind.removeprefix(FORMING) for kind in expected["kind"].astype(str)]
            assert got["completion"].tolist() == [points[-1]["price"] for points in expected["points"]]
            both = harmonic_targets(expected)
            for name in ("first_target", "second_target"):
                assert got[name].tolist() == both[name].tolist()
            after = [(bars["close_ts"] > known).sum() for known in expected["confirmed_at"]]
            assert got["age"].tolist() == after
            away = np.abs(bars["close"].iloc[-1] - got["completion"]) / mean_true_range(bars, 14)[-1]
            np.testing.assert_allclose(got["distance"], away)
    assert len(found) == total > 8
    assert set(found["state"]) == {"formed", "forming"}


def test_ranks_follow_the_stated_weight(found):
    weight = found["score"] * 0.5 ** (found["age"] / 20.0) / (1.0 + found["distance"])
    np.testing.assert_allclose(found["weight"], weight)
    assert found["rank"].tolist() == list(range(1, len(found) + 1))
    assert all(one >= other for one, other in pairwise(found["weight"]))
    assert found.dtypes.astype(str).to_dict() == dict(COLUMNS)


def test_neither_threads_nor_the_order_of_frames_change_anything(frames, found):
    backwards = dict(reversed(frames.items()))
    for workers in (1, 4):
        pd.testing.assert_frame_equal(scan_harmonics(backwards, workers=workers), found)


def test_it_shows_its_progress_and_reads_frames_when_their_turn_comes(frames, found):
    class Lazy(Mapping):
        def __init__(self):
            self.read = []

        def __getitem__(self, key):
            self.read.append(key)
            return frames[key]

        def __iter__(self):
            return iter(frames)

        def __len__(self):
            return len(frames)

    seen = []
    lazy = Lazy()
    got = scan_harmonics(lazy, workers=2, progress=lambda *step: seen.append(step))
    pd.testing.assert_frame_equal(got, found)
    assert [step[:2] for step in seen] == [(i, len(frames)) for i in range(1, len(frames) + 1)]
    assert {(str(symbol), str(timeframe)) for *_, symbol, timeframe in seen} == {(a, str(b)) for a, b in frames}
    assert sorted(map(str, lazy.read)) == sorted(map(str, frames))


def test_a_fresh_near_pattern_comes_before_an_old_far_one():
    drawing = drawings("gartley", 1, seed=9)[0]
    row, price = drawing.points[-1]
    fresh = drawing.bars.iloc[: row + 8]
    older = bars_through([(0, 108.0), (20, 100.0), (40, 110.0), (55, 103.82), (65, 107.64), (80, 102.14), (84, 103.7),
                          (160, 103.9)])  # fmt: skip
    found = scan_harmonics({("OLD", "M1"): older, ("NEW", "M1"): fresh})
    gartleys = found[(found["kind"] == "gartley") & (found["state"] == "formed")]
    assert gartleys["symbol"].tolist() == ["NEW", "OLD"]
    assert gartleys["completion"].iloc[0] == price


def test_nothing_gives_an_empty_table_of_the_same_columns():
    for frames in ({}, {("A", "M1"): random_walk(600).iloc[:0]}, {("A", "M1"): random_walk(5)}):
        found = scan_harmonics(frames)
        assert found.empty
        assert found.dtypes.astype(str).to_dict() == dict(COLUMNS)


@pytest.mark.parametrize(
    ("frames", "error", "says"),
    [
        ({("../etc", "M1"): None}, ConfigurationError, "etc"),
        ({("A", "H7"): None}, ConfigurationError, "H7"),
        ({"A": None}, ConfigurationError, "symbol, timeframe"),
        ({("A", "M1"): None, ("A", Timeframe.parse("M1")): None}, ConfigurationError, "same bars"),
        ({("A", "M1"): [1, 2]}, DataError, "A M1: .*list"),
        ({("A", "M1"): pd.DataFrame({"open": [1.0]})}, DataError, "A M1: .*high"),
        ({("A", "M1"): random_walk(300).iloc[::-1]}, DataError, "A M1: .*sorted"),
        ({("A", "M1"): random_walk(300).assign(high="much")}, DataError, "A M1: .*numbers"),
        ({("A", "M1"): random_walk(300).reset_index(drop=True)}, DataError, "A M1: .*UTC"),
    ],
)
def test_what_is_no_frame_of_bars_is_named(frames, error, says):
    with pytest.raises(error, match=says):
        scan_harmonics(frames)


@pytest.mark.parametrize("options", [{"half_life": 0.0}, {"workers": 0}, {"tolerance": 0.0}, {"max_age": 0}])
def test_numbers_out_of_bounds_are_refused_before_anything_is_read(options):
    with pytest.raises(ConfigurationError):
        scan_harmonics({("A", "M1"): None}, **options)
