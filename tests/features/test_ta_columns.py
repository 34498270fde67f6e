"""The columns of ta under its names: equal to ta where ta is right, and never from the future."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from tapeline.features.ta_columns import DIFFERENCES, ta_columns
from tests.core.samples import eurusd

SETTLED = 1_000
ROWS = 3_000


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    volume = np.random.default_rng(3).integers(1, 500, ROWS).astype(float)
    # Numbered rows: on an index of times ta's parabolic stop writes new rows instead of values.
    return eurusd().iloc[:ROWS][["open", "high", "low", "close"]].reset_index(drop=True).assign(volume=volume)


@pytest.fixture(scope="module")
def theirs(bars: pd.DataFrame) -> pd.DataFrame:
    from ta import add_all_ta_features

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return add_all_ta_features(bars.copy(), "open", "high", "low", "close", "volume").iloc[:, bars.shape[1] :]


def test_it_has_every_column_of_ta_in_its_order(bars: pd.DataFrame, theirs: pd.DataFrame) -> None:
    assert list(ta_columns(bars).columns) == list(theirs.columns)
    assert set(DIFFERENCES) < set(theirs.columns)


def test_the_numbers_are_those_of_ta_but_for_the_differences_that_it_names(
    bars: pd.DataFrame, theirs: pd.DataFrame
) -> None:
    ours = ta_columns(bars).iloc[SETTLED:]
    other = theirs.reindex(ours.index)
    close = np.isclose(ours, other, rtol=1e-6, atol=1e-6 * other.abs().max(), equal_nan=True)
    agree = pd.Series(close.mean(axis=0), index=ours.columns)
    assert set(agree.index[agree < 1.0]) <= set(DIFFERENCES)
    # The stop follows another path for a while after each clamp that ta loses, and then comes back to it.
    assert agree.min() > 0.9


def test_no_value_reads_a_later_bar(bars: pd.DataFrame) -> None:
    whole = ta_columns(bars)
    for cut in (60, 500, 1_234, 2_999):
        pd.testing.assert_frame_equal(ta_columns(bars.iloc[:cut]), whole.iloc[:cut], rtol=1e-9, atol=1e-9)


def test_ta_itself_reads_later_bars_where_the_page_says_so(bars: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """The planted leak of this page: what is left out on purpose shows in the peer under the same cut."""
    from ta.trend import ichimoku_a

    cut = ichimoku_a(bars["high"].iloc[:500], bars["low"].iloc[:500], visual=True)
    assert not np.allclose(cut.iloc[:20], theirs["trend_visual_ichimoku_a"].iloc[:20])
