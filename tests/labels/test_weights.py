"""Average uniqueness against its definition and the book's example; time decay against its formula."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.labels.future_return import future_return
from tapeline.labels.weights import average_uniqueness, time_decay, with_weights
from tests.support import make_bars


def slow_uniqueness(first: np.ndarray, last: np.ndarray, rows: int) -> np.ndarray:
    """Lopez de Prado (2018), sections 4.3 and 4.4, through the indicator matrix."""
    indicator = np.zeros((rows, first.size))
    for label, (start, end) in enumerate(zip(first, last, strict=True)):
        indicator[start : end + 1, label] = 1.0
    alive = indicator.sum(axis=1)
    shares = np.divide(indicator, alive[:, None], out=np.zeros_like(indicator), where=alive[:, None] > 0)
    return shares.sum(axis=0) / indicator.sum(axis=0)


def test_the_books_example() -> None:
    """Section 4.5.3: labels on the returns 0-2, 2-3 and 4-5; the second is drawn, and each candidate is set beside it.

    Their average uniqueness is 5/6, 1/2 and 1, so they are drawn next with chances of 5/14, 3/14 and 6/14.
    """
    first, last = np.array([0, 2, 4]), np.array([2, 3, 5])
    beside = np.array([average_uniqueness(first[[label, 1]], last[[label, 1]], 6)[0] for label in range(3)])
    np.testing.assert_allclose(beside, [5 / 6, 1 / 2, 1.0])
    np.testing.assert_allclose(beside / beside.sum(), [5 / 14, 3 / 14, 6 / 14])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), min_size=1, max_size=60))
def test_equal_to_the_definition(spans) -> None:
    first = np.array([start for start, _ in spans], dtype=np.int64)
    last = first + np.array([length for _, length in spans])
    ours = average_uniqueness(first, last, 90)
    np.testing.assert_allclose(ours, slow_uniqueness(first, last, 90), atol=1e-12)
    assert ((ours > 0) & (ours <= 1)).all()


def test_a_label_outside_the_bars_is_refused() -> None:
    for first, last in (([0], [9]), ([-1], [2]), ([3], [2])):
        with pytest.raises(DataError, match="within 0 and 5"):
            average_uniqueness(np.array(first), np.array(last), 6)


def test_time_decay_follows_the_formula() -> None:
    uniqueness = np.array([0.5, 1.0, 0.25, 1.0])
    age = np.cumsum(uniqueness)
    for oldest in (0.0, 0.3, 1.0):
        slope = (1 - oldest) / age[-1]
        np.testing.assert_allclose(time_decay(uniqueness, oldest), 1 - slope * age[-1] + slope * age)
    assert time_decay(uniqueness, -0.5)[0] == 0.0
    assert time_decay(uniqueness, -0.5)[-1] == 1.0
    assert time_decay(np.empty(0), 0.5).size == 0
    with pytest.raises(ConfigurationError, match="oldest = -1"):
        time_decay(uniqueness, -1.0)


def test_labels_of_a_fixed_horizon_share_every_bar_with_the_horizon() -> None:
    bars = make_bars(200)
    weighted = with_weights(future_return(bars, horizon=5), bars)
    np.testing.assert_allclose(weighted["weight"].iloc[10:-10], 1 / 5)
    assert weighted["weight"].iloc[0] > 0.4
    alone = with_weights(future_return(bars, horizon=5).iloc[::5], bars)
    np.testing.assert_allclose(alone["weight"], 1.0)


def test_the_bars_of_a_label_begin_after_the_labelled_one() -> None:
    bars = make_bars(50)
    one_bar = with_weights(future_return(bars, horizon=1), bars)
    np.testing.assert_allclose(one_bar["weight"], 1.0)
    assert isinstance(one_bar.index, pd.DatetimeIndex)
