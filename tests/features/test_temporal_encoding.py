"""Encodings of time against their formulas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.features.temporal_encoding import Time2Vec, calendar_encoding, hours_since, positional_encoding
from tests.core.samples import eurusd


@given(st.floats(-1e3, 1e3), st.lists(st.floats(-5, 5), min_size=2, max_size=5))
def test_time2vec_is_its_formula(tau: float, numbers: list[float]) -> None:
    frequency, phase = np.array(numbers), np.array(numbers[::-1])
    found = Time2Vec(frequency, phase).encode([tau])[0]
    expected = [numbers[0] * tau + phase[0], *np.sin(frequency[1:] * tau + phase[1:])]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_fixed_periods_repeat_and_tell_the_hours_of_a_week_apart() -> None:
    encode = Time2Vec.of_periods([24.0, 168.0]).encode
    hours = np.arange(168.0)
    week = encode(hours)
    np.testing.assert_allclose(encode(hours + 168.0), week, atol=1e-9)
    apart = np.linalg.norm(week[:, None] - week[None], axis=-1) + np.eye(168)
    assert apart.min() > 0.02
    with pytest.raises(ConfigurationError, match="positive"):
        Time2Vec.of_periods([24.0, 0.0])
    with pytest.raises(ConfigurationError, match="belong together"):
        Time2Vec(np.ones(3), np.ones(2))
    with pytest.raises(ConfigurationError, match="not finite"):
        Time2Vec(np.array([np.inf]), np.ones(1))


def test_positions_are_the_papers_and_a_shift_is_a_rotation() -> None:
    found = positional_encoding(50, 16)
    for position in (0, 7, 49):
        for i in range(8):
            angle = position / 10_000 ** (2 * i / 16)
            assert found[position, 2 * i] == pytest.approx(np.sin(angle))
            assert found[position, 2 * i + 1] == pytest.approx(np.cos(angle))
    # Section 3.5: for a fixed offset, the encoding there is a linear function of the one here.
    matrix, *_ = np.linalg.lstsq(found[:-5], found[5:], rcond=None)
    np.testing.assert_allclose(found[:-5] @ matrix, found[5:], atol=1e-6)
    for wrong in ((3, 5, 10.0), (-1, 4, 10.0), (3, 4, 1.0)):
        with pytest.raises(ConfigurationError, match="channels"):
            positional_encoding(wrong[0], wrong[1], base=wrong[2])


def test_the_calendar_closes_its_circles() -> None:
    names = ["2016-12-31 23:00", "2017-01-01 00:00", "2017-02-28 23:00", "2017-03-01 00:00", "2016-02-29 12:00"]
    bars = pd.DataFrame({"close": 1.0}, index=pd.DatetimeIndex(names, tz="UTC").as_unit("ns"))
    found = calendar_encoding(bars)
    year, month = found[["year_sine", "year_cosine"]].to_numpy(), found[["month_sine", "month_cosine"]].to_numpy()
    assert np.linalg.norm(year[0] - year[1]) < 0.001
    assert np.linalg.norm(month[2] - month[3]) < 0.01
    np.testing.assert_allclose(month[[1, 3]], [[0.0, 1.0]] * 2, atol=1e-12)
    np.testing.assert_allclose(found.to_numpy()[:, ::2] ** 2 + found.to_numpy()[:, 1::2] ** 2, 1.0)


def test_on_real_bars_the_week_is_where_the_bars_are() -> None:
    bars = eurusd().iloc[:500]
    found = calendar_encoding(bars)
    hours = hours_since(pd.DatetimeIndex(bars.index)) % 168
    turn = np.arctan2(found["week_sine"], found["week_cosine"]) / (2 * np.pi) % 1.0 * 168
    np.testing.assert_allclose(turn, hours, atol=1e-6)
