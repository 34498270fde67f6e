"""Series from outside: pattern events, sentiment and account values, as records and as rules that read them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.conditions import compile_rule
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.engine.layout import TIMEFRAMES
from tapeline.alerts.external import External, external_batch
from tapeline.alerts.kinds.pattern import DETECTOR_OF, PatternFeed, pattern_events
from tapeline.alerts.kinds.portfolio import ACCOUNT, portfolio_records
from tapeline.alerts.kinds.sentiment import CHANGE, IMPACT, LEVEL, Headline, SentimentFeed
from tapeline.alerts.rule import Rule
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.nanoseconds import HOUR
from tests.support import make_bars


def firings(text: str, records: list[External], symbol: str = "A") -> list[int]:
    """The times of the records with which a rule fires."""
    engine = Evaluator([symbol])
    engine.add(compile_rule(Rule(id="r", owner="me", condition=text, symbols=(symbol,))), [symbol])
    return engine.process(external_batch(engine, records)).firings["ts"].tolist()


@pytest.fixture(scope="module")
def bars():
    return make_bars(1_500, seed=3, gaps=False)


KINDS = ["fair_value_gap", "level_break", "double_top", "double_bottom", "supertrend_flip"]


@pytest.fixture(scope="module")
def events(bars):
    return pattern_events(bars, "A", KINDS, TIMEFRAMES["1h"])


def test_events_come_at_the_close_that_confirms_them_with_their_score_before_them(bars, events) -> None:
    found = [one for one in events if one.event]
    assert {one.key for one in found} >= {"pattern:fair_value_gap:1h", "pattern:level_break:1h"}
    assert {one.value for one in found} == {1.0, -1.0}
    closes = set(bars["close_ts"].astype("int64").tolist())
    assert all(one.ts in closes for one in found)
    assert [one.ts for one in found] == sorted(one.ts for one in found)
    for score, event in zip(events[::2], events[1::2], strict=True):
        assert (score.event, event.event, score.ts) == (False, True, event.ts)
        assert score.key.replace("_score", "") == event.key


def test_a_feed_tells_bar_by_bar_what_the_history_tells(bars, events) -> None:
    begin = len(bars) - 40
    feed = PatternFeed("A", KINDS, TIMEFRAMES["1h"], history=bars.iloc[:begin])
    found = [record for bar in bars.iloc[begin:].itertuples() for record in feed.push(*bar)]
    after = int(bars["close_ts"].iloc[begin].value)
    assert len(found) >= 4
    assert sorted(map(repr, found)) == sorted(repr(one) for one in events if one.ts >= after)


def test_rules_hear_of_breaks_in_their_direction(events) -> None:
    ups = [one.ts for one in events if one.key == "pattern:level_break:1h" and one.value == 1.0]
    downs = [one.ts for one in events if one.key == "pattern:level_break:1h" and one.value == -1.0]
    assert ups
    assert downs
    assert firings('breaks_resistance("1h")', events) == ups
    assert firings('breaks_support("1h")', events) == downs
    assert firings('pattern("level_break", "1h")', events) == sorted(ups + downs)
    strong = firings('pattern("level_break", "1h") and pattern_score("level_break", "1h") > 4', events)
    assert 0 < len(strong) < len(ups + downs)


def test_each_kind_of_event_has_its_detector(bars) -> None:
    from tapeline.charts.scan import choose

    names = {choice.component.name for choice in choose()}
    assert set(DETECTOR_OF.values()) == names
    with pytest.raises(ConfigurationError, match="no detector finds 'moon'"):
        pattern_events(bars, "A", ["moon"], TIMEFRAMES["1h"])


def test_every_event_of_the_quick_detectors_is_known(bars) -> None:
    from tapeline.charts.scan import choose, scan

    for name in sorted(set(DETECTOR_OF.values())):
        kinds = set(scan(bars.iloc[:700], choose([name]))["kind"].astype(str))
        assert {DETECTOR_OF.get(kind) for kind in kinds} <= {name}


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_sentiment_is_the_decayed_mean_of_all_headlines(rows) -> None:
    feed, ts = SentimentFeed(half_life=6 * HOUR), 0
    seen: list[tuple[int, float]] = []
    for gap, score, impact in rows:
        ts += gap * HOUR
        seen.append((ts, score))
        found = {one.key: one.value for one in feed.push(Headline(ts, ("A", "A"), "wire", "t", score, impact))}
        weights = [0.5 ** ((ts - at) / (6 * HOUR)) for at, _ in seen]
        expected = sum(weight * one for weight, (_, one) in zip(weights, seen, strict=True)) / sum(weights)
        assert found[LEVEL] == pytest.approx(expected, abs=1e-9)
        assert found[IMPACT] == impact


def test_the_change_is_against_a_day_before() -> None:
    feed = SentimentFeed(half_life=1)  # the level is the newest score
    changes = []
    for hours, score in ((0, 0.5), (10, 0.1), (23, 0.2), (24, -0.3), (35, 0.4)):
        records = feed.push(Headline(hours * HOUR, ("A",), "wire", "t", score))
        changes.append(next(one.value for one in records if one.key == CHANGE))
    assert changes == pytest.approx([0.0, -0.4, -0.3, -0.8, 0.3])
    with pytest.raises(DataError, match="older"):
        feed.push(Headline(0, ("A",), "wire", "t", 0.0))
    with pytest.raises(DataError, match="score = 2"):
        Headline(0, ("A",), "wire", "t", 2.0)


def test_rules_hear_of_news() -> None:
    feed = SentimentFeed(half_life=HOUR)
    rows = [(1, 0.5, 0.1), (2, -0.9, 0.9), (3, -0.9, 0.8), (4, -0.9, 0.2)]
    records = [
        one for ts, score, impact in rows for one in feed.push(Headline(ts, ("A", "B"), "w", "t", score, impact))
    ]
    assert firings("high_impact_news(0.8)", records) == [2, 3]
    assert firings("crosses_down(sentiment, -0.3)", records) == [3]
    assert firings("sentiment_change < -0.8 and sentiment < 0", records) == [3]


ACCOUNT_NOW = {
    "ts": 5,
    "equity": 9_000,
    "peak_equity": 10_000,
    "margin_used": 4_500,
    "positions": {
        "A": {"quantity": 10, "entry_price": 100, "price": 110, "stop": 99},
        "B": {"quantity": -2, "entry_price": 50, "price": 60, "value_per_point": 10},
    },
}


def test_an_account_tells_its_positions_and_itself() -> None:
    values = {(one.symbol, one.key): one.value for one in portfolio_records(ACCOUNT_NOW, symbols=["C"])}
    assert values[("A", "position:pnl")] == 100
    assert values[("A", "position:return")] == pytest.approx(0.1)
    assert values[("A", "position:stop_distance")] == pytest.approx(0.1)
    assert values[("B", "position:pnl")] == -200
    assert values[("B", "position:return")] == pytest.approx(-0.2)
    assert math.isnan(values[("B", "position:stop_distance")])
    assert values[("C", "position:quantity")] == 0
    for symbol in (ACCOUNT, "A", "B", "C"):
        assert values[(symbol, "portfolio:exposure")] == pytest.approx((1_100 + 1_200) / 9_000)
        assert values[(symbol, "portfolio:net_exposure")] == pytest.approx(-100 / 9_000)
        assert values[(symbol, "portfolio:drawdown")] == pytest.approx(0.1)
        assert values[(symbol, "portfolio:margin")] == 0.5
        assert values[(symbol, "portfolio:pnl")] == -100


def test_rules_hear_of_the_account() -> None:
    records = []
    for ts, equity in enumerate([10_000, 9_500, 8_900, 9_200, 8_000]):
        records += portfolio_records({"ts": ts, "equity": equity, "peak_equity": 10_000, "positions": {}})
    assert firings("crosses_up(drawdown, 10%)", records, ACCOUNT) == [2, 4]
    assert firings("equity < 9000", records, ACCOUNT) == [2, 4]
    moving = [
        one
        for ts, price in enumerate([110.0, 105.0, 99.6, 104.0])
        for one in portfolio_records(
            ACCOUNT_NOW | {"ts": ts, "positions": {"A": ACCOUNT_NOW["positions"]["A"] | {"price": price}}}
        )
    ]
    assert firings("stop_distance < 1%", moving) == [2]
    assert firings("position_pnl < 0 and exposure < 20%", moving) == [2]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ts": "now"}, "nanoseconds"),
        ({"equity": float("nan")}, "equity = nan"),
        ({"equity": 0}, "equity = 0"),
        ({"margin_used": True}, "margin_used = True"),
        ({"positions": []}, "must be a mapping"),
        ({"positions": {"A": {"quantity": 1, "price": 1}}}, "entry_price = None of A"),
        ({"positions": {5: {}}}, "position 5"),
    ],
)
def test_a_snapshot_that_is_none_is_refused(change, reason) -> None:
    with pytest.raises(DataError, match=reason):
        portfolio_records(ACCOUNT_NOW | change)


def test_records_that_no_rule_reads_are_left_out() -> None:
    engine = Evaluator(["A"])
    engine.add(compile_rule(Rule(id="r", owner="me", condition="sentiment > 0", symbols=("A",))), ["A"])
    records = [External(1, "A", LEVEL, 0.5), External(1, "A", CHANGE, 0.5), External(1, "Z", LEVEL, 0.5)]
    assert external_batch(engine, records).times.tolist() == [1]
    assert external_batch(engine, []).times.dtype == np.int64
    with pytest.raises(DataError, match="infinite"):
        external_batch(engine, [External(1, "A", LEVEL, math.inf)])
