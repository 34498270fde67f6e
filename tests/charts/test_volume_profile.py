"""Profiles of a fixed range against published examples, pandas' own counting, and what must hold of any of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.charts.volume_profile import LETTERS, market_profile, profile_of_rows, volume_profile
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.example import example_bars
from tests.core.samples import eurusd, rough_bars


def rows_of(*volume: float):
    return np.arange(len(volume) + 1.0), np.array(volume, dtype=np.float64)


def test_the_published_example_price_by_price():
    """150 at 106, then 90 and 80 above and 70 below make 390, the first sum beyond 70 % of 554 (388).

    From an explanation of the 70 % range that went over the AmiBroker list (purebytes.com, 2007, message 7856). What
    decides is told there; the volumes farther out, 114 in all, are not, and do not matter.
    """
    below, above = [4.0, 10.0, 20.0, 40.0], [50.0, 30.0, 10.0]
    edges, volume = rows_of(*below, 70.0, 150.0, 90.0, 80.0, *above)
    assert volume.sum() == 554.0
    found = profile_of_rows(edges + 100.5, volume, 0.7, together=1)
    assert found.poc == 106.0
    low, high = (found.prices[row] for row in found.value)
    assert (low, high) == (105.0, 108.0)
    assert volume[found.value[0] : found.value[1] + 1].sum() == 390.0
    assert found.held >= 0.7 > 320.0 / 554.0


@settings(max_examples=30, deadline=None)
@given(st.floats(0.37, 0.63), st.floats(0.495, 0.505))
def test_the_published_example_two_prices_at_a_time(upper, lower):
    """Mind over Markets, figure A1.1: 22,168 at the control; 34,491 in the two prices above, 43,773 in those below.

    The book adds the lower pair first. It does not say in the text how each pair divides, and it does not matter.
    """
    above, below = 34_491.0, 43_773.0
    edges, volume = rows_of(below * lower, below * (1 - lower), 22_168.0, above * upper, above * (1 - upper))
    share = (22_168.0 + below) / volume.sum() - 1e-6
    assert profile_of_rows(edges, volume, share).value == (0, 2)
    assert profile_of_rows(edges, volume, share + 2e-6).value == (0, 4)


def test_equal_rows_give_the_control_nearest_to_the_middle():
    assert profile_of_rows(*rows_of(9, 1, 1, 9, 1, 9, 1, 9, 1)).control == 3
    assert profile_of_rows(*rows_of(1, 9, 1, 1, 9, 1)).control == 1, "of two as near the lower one"


def test_of_equal_rows_the_upper_ones_come_first():
    assert profile_of_rows(*rows_of(1, 2, 9, 2, 1), together=1).value == (2, 3)
    assert profile_of_rows(*rows_of(1, 2, 9, 2, 1)).value == (2, 4)
    assert profile_of_rows(*rows_of(1, 2, 9, 2, 1), 0.9, together=1).value == (1, 4)


def test_the_letters_of_a_day_by_hand():
    """Four half hours of ten-minute bars with a tick of one: each letter once in each price that its bracket traded."""
    brackets = [(10, 12), (11, 13), (12, 14), (13, 13)]
    ts = pd.date_range("2017-01-02 09:00", periods=12, freq="10min", tz="UTC", name="ts").as_unit("ns")
    low = np.repeat([low for low, _ in brackets], 3).astype(float)
    high = np.repeat([high for _, high in brackets], 3).astype(float)
    high[3:5], low[4:6] = 12.0, 12.0
    frame = pd.DataFrame(
        {"open": low, "high": high, "low": low, "close": high, "volume": 1.0, "close_ts": ts + pd.Timedelta("10min")},
        index=ts,
    )
    found = market_profile(frame, step=1.0, minutes=30)
    assert found.letters() == ["A", "AB", "ABC", "BCD", "C"]
    assert found.volume.tolist() == [1.0, 2.0, 3.0, 3.0, 1.0]
    assert found.poc == 12.0, "of two rows with three letters that in the middle"
    assert found.begins.tolist() == ts[::3].tolist()
    assert found.total == sum(map(len, found.letters()))
    # The same by bars: a bar is a bracket.
    assert market_profile(frame, step=1.0).volume.sum() == ((high - low) + 1).sum()


def test_a_letter_counts_once_however_often_its_bracket_trades_a_price():
    bars = eurusd().iloc[:96]
    hours = market_profile(bars, step=0.0005, minutes=240)
    widest = bars.groupby(bars.index.floor("4h")).agg({"low": "min", "high": "max"})
    rows = np.floor(widest["high"] / 0.0005 + 0.5) - np.floor(widest["low"] / 0.0005 + 0.5) + 1
    assert hours.total == pytest.approx(rows.sum(), abs=1)
    assert hours.volume.max() <= len(widest)
    assert set("".join(hours.letters())) == set(LETTERS[: len(widest)])


def test_brackets_beyond_the_alphabet_begin_anew():
    bars = example_bars(*[10.0] * 50)
    assert market_profile(bars, bins=4).letters()[0].endswith("xAB")


def test_a_day_of_euro_against_a_count_of_ticks():
    """Real hours, rows of five points: the share of each bar that overlaps each row, by plain arithmetic."""
    bars = eurusd().iloc[500:524]
    found = volume_profile(bars, step=0.0005)
    expected = np.zeros(found.volume.size)
    for low, high, volume in bars[["low", "high", "volume"]].to_numpy():
        for row in range(expected.size):
            over = min(high, found.edges[row + 1]) - max(low, found.edges[row])
            expected[row] += volume * max(over, 0.0) / (high - low)
    np.testing.assert_allclose(found.volume, expected, rtol=1e-9, atol=1e-9 * bars["volume"].sum())
    assert found.total == pytest.approx(bars["volume"].sum(), rel=1e-9)
    assert found.value_low < found.poc < found.value_high
    assert set(found.low_nodes).isdisjoint(found.high_nodes)
    assert found.control in found.high_nodes


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 120), st.sampled_from([4, 17, 48, 100]), st.sampled_from([1, 2]))
def test_what_holds_of_any_profile(seed, count, bins, together):
    bars = rough_bars(700, seed=seed % 7).iloc[seed % 300 :][:count]
    found = volume_profile(bars, bins, together=together)
    assert found.total == pytest.approx(bars["volume"].sum(), rel=1e-9)
    assert found.edges[0] == bars["low"].min()
    assert found.edges[-1] == pytest.approx(bars["high"].max(), rel=1e-12)
    assert found.value_low <= found.poc <= found.value_high
    assert found.held >= 0.7 - 1e-9
    assert found.volume[found.control] == pytest.approx(found.volume.max(), rel=1e-9)
    prices = ["open", "high", "low", "close"]
    scaled = bars.assign(**{name: bars[name] * 1024.0 for name in prices}, volume=bars["volume"] * 8.0)
    again = volume_profile(scaled, bins, together=together)
    assert (again.control, again.value) == (found.control, found.value)
    assert again.high_nodes.tolist() == found.high_nodes.tolist()
    np.testing.assert_array_equal(again.volume, 8.0 * found.volume)
    np.testing.assert_array_equal(again.edges, 1024.0 * found.edges)


def test_by_time_each_bar_weighs_the_same():
    bars = example_bars(10, 10, 14, 14).assign(volume=[1e6, 0.0, 0.0, 0.0])
    assert volume_profile(bars, 4).total == 1e6
    assert volume_profile(bars, 4, weight="time").total == pytest.approx(4.0)


def test_a_bar_without_range_goes_to_one_row():
    bars = example_bars(10, 12, 12).assign(low=[10.0, 10.0, 11.0], high=[10.0, 12.0, 11.0])
    assert volume_profile(bars, step=1.0).volume.tolist() == [1.5, 4.0, 0.5]
    still = example_bars(10, 10).assign(low=10.0, high=10.0)
    assert volume_profile(still, step=0.5).volume.tolist() == [3.0]
    with pytest.raises(DataError, match=r"stand at 10\.0"):
        volume_profile(still)


def test_bars_with_holes_are_no_bars():
    bars = example_bars(10, 12, 13)
    holes = bars.assign(low=[9.0, np.nan, 11.0], volume=[1.0, 2.0, np.nan])
    assert volume_profile(holes, 4).total == 1.0


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"bins": 0}, ConfigurationError, "bins = 0"),
        ({"step": -1.0}, ConfigurationError, "step = -1.0"),
        ({"step": 1e-12}, ConfigurationError, "rows"),
        ({"step": float("nan")}, ConfigurationError, "step = nan"),
        ({"share": 1.5}, ConfigurationError, "share = 1.5"),
        ({"together": 3}, ConfigurationError, "together = 3"),
        ({"prominence": 0.0}, ConfigurationError, "prominence = 0.0"),
        ({"weight": "money"}, ConfigurationError, "money"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(wrong, error, said):
    with pytest.raises(error, match=said):
        volume_profile(example_bars(10, 11), **wrong)


def test_bars_that_traded_nothing_say_what_to_do():
    with pytest.raises(DataError, match="nothing was traded") as raised:
        volume_profile(example_bars(10, 11).assign(volume=0.0))
    assert "time" in str(raised.value)
    with pytest.raises(DataError, match="nothing was traded"):
        market_profile(example_bars(10, 11).iloc[:0])
    with pytest.raises(ConfigurationError, match="minutes = 0"):
        market_profile(example_bars(10, 11), minutes=0)
    with pytest.raises(DataError, match="edges"):
        profile_of_rows(np.arange(3.0), np.ones(3))
    with pytest.raises(DataError, match="finite"):
        volume_profile(example_bars(10, 11).assign(high=np.inf))
