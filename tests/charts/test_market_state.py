"""A state is what its parts say, the same from history, the tail and bar by bar; its words name its numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.charts.confluence import confluence
from tapeline.charts.market_state import DETECTORS, MEMORY, StateStream, components, market_states, state_records
from tapeline.charts.scan import choose, scan
from tapeline.charts.structure import break_of_structure, change_of_character
from tapeline.core.errors import DataError
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.features.sessions import forex_sessions
from tests.core.samples import eurusd

EURUSD, H1 = Symbol.parse("EURUSD"), Timeframe.parse("H1")
BARS = eurusd().iloc[:3400]


@pytest.fixture(scope="module")
def states() -> pd.DataFrame:
    return market_states(BARS)


def test_it_holds_every_part_as_the_part_gives_it(states):
    for component in components():
        frame = component.compute(BARS)
        for name in frame.columns:
            if name in states.columns:
                np.testing.assert_array_equal(states[name], frame[name], err_msg=name)
    names = {name for component in components() for name in component.output_names()}
    said_in_words = set(forex_sessions(BARS.iloc[:1]).columns)
    assert names - set(states.columns) == said_in_words
    together = confluence(scan(BARS, choose(DETECTORS)), BARS)
    np.testing.assert_array_equal(states["bullish"], together["bullish"])


def test_structure_is_the_direction_of_the_last_break(states):
    breaks = pd.concat([break_of_structure(BARS), change_of_character(BARS)]).sort_values("confirmed_at")
    last = breaks.set_index("confirmed_at")["direction"].groupby(level=0).last()
    expected = last.reindex(BARS["close_ts"]).ffill().fillna(0).to_numpy()
    np.testing.assert_array_equal(states["structure"], expected)
    assert set(states["structure_name"]) == {"", "rising", "falling"}


def test_words_name_numbers(states):
    said = states.dropna(subset=["regime"])
    assert ((said["regime"] == "sideways") == (said["trending_filtered"] <= said["sideways_filtered"])).all()
    levels = states["volatility_level"].map({0.0: "low", 1.0: "normal", 2.0: "high", 3.0: "extreme"})
    assert (states["volatility"].dropna() == levels.dropna()).all()
    london = states["session"].str.contains("london")
    assert london.iloc[:24].sum() in (9, 0)
    place = states["dealing_place"]
    low, high = states["swing_low_distance"], states["swing_high_distance"]
    inside = (low >= 0) & (high >= 0) & (low + high > 0)
    assert place[inside].between(0, 1).all()
    assert ((place < 0.5) == (low < high))[inside].all(), "discount is nearer to the low"


@pytest.mark.parametrize("cut", [2900, 3111])
def test_history_cut_short_and_the_tail_alone_say_the_same(states, cut):
    part = market_states(BARS.iloc[:cut])
    pd.testing.assert_frame_equal(part, states.iloc[:cut], check_freq=False)
    tail = market_states(BARS.iloc[cut - MEMORY : cut]).iloc[[-1]]
    pd.testing.assert_frame_equal(tail, states.iloc[[cut - 1]], check_freq=False, rtol=1e-5, atol=1e-5)


def test_bar_by_bar_gives_the_records_of_the_batch(states):
    stream = StateStream(EURUSD, H1, BARS.iloc[:3000])
    batch = state_records(states.iloc[3000:3005], EURUSD, H1)
    for expected in batch:
        state = stream.push(BARS.loc[[expected.ts]])
        assert (state.regime, state.volatility, state.structure, state.session) == (
            expected.regime, expected.volatility, expected.structure, expected.session,
        )  # fmt: skip
        assert state.known_at == expected.known_at
        assert state.numbers == pytest.approx(dict(expected.numbers), rel=1e-5, abs=1e-5, nan_ok=True)
    assert str(state).startswith("EURUSD H1 2017-")
    with pytest.raises(DataError, match="not the one after"):
        stream.push(BARS.iloc[[3000]])
    with pytest.raises(DataError, match="no states"):
        state_records(BARS, EURUSD, H1)


def test_a_young_history_knows_little_and_says_so():
    young = state_records(market_states(BARS.iloc[:5]), EURUSD, H1)[-1]
    assert (young.regime, young.volatility) == ("", "")
    assert np.isnan(young.numbers["trending_filtered"])
