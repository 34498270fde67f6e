"""Random conditions, compiled and run by the engine, fire where a walk over the tree says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tapeline.alerts.conditions import compile_rule
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.rule import Rule
from tapeline.core.rule_expression import parse_condition
from tests.alerts.condition_oracle import MINUTE, Walker

READINGS = (
    *("close", "open", "high", "low", "volume", 'close("5m")', 'high("5m", "closed")', 'close("closed")'),
    *("highest(3)", "lowest(2)", 'volume("5m")', "open(5m)"),
)
_number = st.integers(-2, 12).map(str)
_value = st.recursive(
    st.sampled_from(READINGS),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/"]), inner | _number)
        | st.builds("-{}".format, inner)
        | st.builds("({} {} {})".format, _number, st.sampled_from(["+", "-", "*", "/"]), inner)
    ),
    max_leaves=3,
)
_comparison = st.builds(
    "{} {} {}".format, _value, st.sampled_from([">", "<", ">=", "<=", "==", "!="]), _value | _number
) | st.builds("{} between {} and {}".format, _value, st.just("3"), st.integers(3, 9).map(str))
_crossing = st.builds("{}({}, {})".format, st.sampled_from(["crosses_up", "crosses_down"]), _value, _value | _number)
_level = _comparison | st.builds("({}) for {} bars".format, _comparison, st.integers(2, 4))
_condition = st.recursive(
    _level | _crossing,
    lambda inner: (
        st.builds("({} and {})".format, inner, inner)
        | st.builds("({} or {})".format, inner, inner)
        | st.builds("not ({})".format, inner)
    ),
    max_leaves=5,
)


def random_trades(seed: int, count: int) -> list[tuple[int, int, int]]:
    """Seconds since the one before, price and size."""
    generator = np.random.default_rng(seed)
    columns = (generator.integers(*bounds, count).tolist() for bounds in ((1, 70), (1, 10), (0, 4)))
    return list(zip(*columns, strict=True))


def fires(text: str, trades: list[tuple[int, int, int]], **more) -> tuple[list[int], list[int]]:
    """The places of the trades with which the engine fires, and those of the walk."""
    tree = parse_condition(text)
    walker = Walker(tree)
    times = np.cumsum([gap for gap, _, _ in trades]) * 1_000_000_000
    prices = np.array([price for _, price, _ in trades], np.float64)
    sizes = np.array([size for _, _, size in trades], np.float64)
    expected = [
        place
        for place, (ts, price, size) in enumerate(zip(times.tolist(), prices.tolist(), sizes.tolist(), strict=True))
        if walker.trade(ts, price, size)
    ]
    engine = Evaluator(["A"])
    engine.add(compile_rule(Rule(id="r", owner="me", condition=text, symbols=("A",), **more)), ["A"])
    fired = engine.process(engine.trades("A", times, prices, sizes))
    return fired.firings["tick"].tolist(), expected


@given(_condition, st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_compiled_condition_fires_where_a_walk_over_its_tree_says(text, seed) -> None:
    assume("/ 0" not in text)  # refused when it is compiled
    found, expected = fires(text, random_trades(seed, 50))
    assert found == expected


@pytest.mark.parametrize("text", ["close > 5 for 3 bars", "not close > 5 for 2 bars", "close > 5 and low < 3"])
def test_the_walk_fires_on_these_conditions(text) -> None:
    """So that agreement is not that of two that never fire."""
    trades = random_trades(1, 300)
    found, expected = fires(text, trades)
    assert len(expected) >= 5
    assert found == expected


def test_a_minute_is_what_the_walk_means_by_it() -> None:
    assert fires("volume > 5", [(1, 5, 3), (1, 5, 3), (60, 5, 3)])[1] == [1]
    assert MINUTE == 60 * 10**9
