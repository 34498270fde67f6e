"""Levels by the thousand tell what each of them alone would."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.threshold_index import DOWN, UP, ThresholdIndex
from tapeline.core.errors import DataError


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.booleans())
def test_tells_what_each_level_alone_would(seed: int, dense: bool) -> None:
    rng = np.random.default_rng(seed)
    index, alerts = ThresholdIndex(3), set()
    last = [math.nan] * 3
    for turn in range(12):
        count = int(rng.integers(0, 200 if dense else 12))
        fresh = {
            (int(rng.integers(3)), float(rng.integers(1, 40) / 2), int(rng.integers(2)), turn * 1_000 + number)
            for number in range(count)
        }
        index.insert(*_columns(fresh))
        alerts |= fresh
        gone = {alert for alert in sorted(alerts) if rng.random() < 0.3}
        assert index.remove(*_columns(gone)) == len(gone)
        alerts -= gone
        assert index.remove(*_columns(gone)) == 0
        assert len(index) == len(alerts)
        if rng.random() < 0.2:
            index.forget(1)
            last[1] = math.nan
        symbols, prices = rng.integers(0, 3, 30), rng.integers(1, 42, 30) / 2
        expected = []
        for tick, (symbol, price) in enumerate(zip(symbols.tolist(), prices.tolist(), strict=True)):
            before = last[symbol]
            up = [one for one in alerts if one[0] == symbol and one[2] == UP and before <= one[1] < price]
            down = [one for one in alerts if one[0] == symbol and one[2] == DOWN and before >= one[1] > price]
            met = sorted(up, key=lambda one: (one[1], one[3])) + sorted(down, key=lambda one: (-one[1], one[3]))
            expected += [(tick, id, level, direction) for _, level, direction, id in met]
            last[symbol] = price
        assert index.cross(symbols, prices).tolist() == expected


def test_more_than_there_is_room_for_in_one_jump() -> None:
    index = ThresholdIndex(1)
    levels = np.arange(1, 5_001) / 10
    index.insert(np.zeros(5_000), levels, np.zeros(5_000), np.arange(5_000))
    crossed = index.cross(np.zeros(3), np.array([0.05, 1_000.0, 0.05]))
    assert crossed["id"].tolist() == list(range(5_000))
    assert (crossed["tick"] == 1).all()


def test_what_is_no_price_is_passed_over() -> None:
    index = ThresholdIndex(1)
    index.insert([0, 0], [10.0, 10.0], [UP, DOWN], [1, 2])
    prices = np.array([9.0, math.nan, -1.0, 0.0, math.inf, 11.0, math.nan, 9.0])
    assert index.cross(np.zeros(8), prices)["tick"].tolist() == [5, 7]


@pytest.mark.parametrize(
    ("symbol", "level", "direction"), [(1, 1.0, UP), (-1, 1.0, UP), (0, 0.0, UP), (0, math.nan, UP), (0, 1.0, 2)]
)
def test_refuses_what_is_no_alert(symbol: int, level: float, direction: int) -> None:
    with pytest.raises(DataError):
        ThresholdIndex(1).insert([symbol], [level], [direction], [1])


def _columns(alerts: set) -> tuple[list, list, list, list]:
    rows = sorted(alerts)
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows], [row[3] for row in rows]
