"""Permitted sides: each rule by an example, the order of reasons, and nothing known before its time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.example import example_bars
from tapeline.features.event_calendar import parse_calendar
from tapeline.features.trending_regime import trending_regime
from tapeline.strategy.direction_filter import (
    DirectionRules,
    NewsRule,
    RegimeRule,
    TrendRule,
    filter_directions,
    permitted_directions,
)
from tests.core.samples import eurusd
from tests.support import make_bars

SLOPE = TrendRule(method="slope", window=3, threshold=0.5)


def higher_of(bars: pd.DataFrame, hours: int = 4) -> pd.DataFrame:
    """Bars of several hours on the UTC grid, as a broker would give them; the last may still be open."""
    slot = bars.index.floor(f"{hours}h")
    table = bars.groupby(slot).agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
    table.index = table.index.as_unit("ns").rename("ts")
    return table.assign(close_ts=table.index + pd.Timedelta(hours=hours))


def release(at: str, *, known: str = "2017-01-01", importance: int = 3, touches: str = "currency:USD", **changes):
    when = pd.Timestamp(at, tz="UTC")
    told = {"id": at, "known_at": pd.Timestamp(known, tz="UTC"), "scheduled_at": when, "published_at": pd.NaT}
    told |= {"status": "scheduled", "kind": "jobs", "touches": [touches], "importance": importance, "source": "bls"}
    return told | changes


def calendar(*rows) -> pd.DataFrame:
    table = pd.DataFrame(list(rows))
    table["published_at"] = pd.to_datetime(table["published_at"], utc=True)
    return parse_calendar(table)


def test_trend_permits_its_side() -> None:
    bars = example_bars(100, 101, 102, 103, 103, 103, 101, 98)
    found = permitted_directions(bars, DirectionRules(trend=SLOPE))
    assert found["trend"].round(2).tolist()[2:] == [0.99, 0.98, 0.49, 0.0, -0.98, -2.49]
    assert found["long"].tolist() == [False, False, True, True, True, True, False, False]
    assert found["short"].tolist() == [False, False, False, False, True, True, True, True]
    assert found["reason_short"].tolist()[:4] == ["trend"] * 4
    quiet = SLOPE.model_copy(update={"sideways": "none", "unknown": "both"})
    found = permitted_directions(bars, DirectionRules(trend=quiet))
    assert found["long"].tolist() == [True, True, True, True, False, False, False, False]


@pytest.mark.parametrize("method", ["distance", "cross"])
def test_each_measure_of_trend_follows_a_trend(method) -> None:
    steps = np.concatenate([np.tile([4.0, -4.0], 170), np.full(60, 3.0), np.tile([4.0, -4.0], 60), np.full(60, -3.0)])
    bars = example_bars(*(2_000 + np.cumsum(steps)))
    rule = TrendRule(method=method, window=24, fast=6, threshold=0.3)
    found = permitted_directions(bars, DirectionRules(trend=rule))
    assert found.iloc[395][["long", "short"]].tolist() == [True, False]
    assert found.iloc[575][["long", "short"]].tolist() == [False, True]


def test_a_trend_may_be_the_probability_of_one() -> None:
    bars = eurusd().iloc[:700]
    found = permitted_directions(bars, DirectionRules(trend=TrendRule(method="trending", window=24, threshold=0.6)))
    direction = trending_regime(bars, span=24)["trending_direction"]
    assert found["long"].tolist() == (direction >= -0.6).tolist()
    assert found["short"].tolist() == (direction <= 0.6).tolist()
    assert (direction.abs() > 0.6).any()


def test_regimes_permit_by_name() -> None:
    bars = example_bars(*range(100, 105))
    names = pd.Series(["bull", "bear", "turbulent", None, "odd"], index=bars.index)
    rules = DirectionRules(regime=RegimeRule(method="given", otherwise="both"))
    found = permitted_directions(bars, rules, regime=names)
    assert found["long"].tolist() == [True, False, False, True, True]
    assert found["short"].tolist() == [False, True, False, True, True]
    wave = make_bars(460, seed=4)
    computed = permitted_directions(wave, DirectionRules(regime=RegimeRule(method="mixture")))
    assert set(computed["regime"].dropna()) <= {"bull", "bear", "turbulent"}
    assert (computed["long"] == (computed["regime"] == "bull")).all()
    assert computed["long"].any()
    trending = RegimeRule(method="trending", permitted={"sideways": "both"})
    assert permitted_directions(wave, DirectionRules(regime=trending))["reason_long"].iloc[0] == "regime"


def test_a_higher_bar_counts_from_its_close_and_from_its_arrival() -> None:
    bars = example_bars(*range(100, 112))
    higher = higher_of(bars)
    higher["close"] = [100.0, 110.0, 90.0]
    rules = DirectionRules(higher=TrendRule(method="slope", window=2))
    found = permitted_directions(bars, rules, higher=higher)
    # The second closes at 08:00, which is the close of the bar of 07:00; the third at 12:00.
    assert found["long"].tolist() == [False] * 7 + [True] * 4 + [False]
    assert found["short"].tolist() == [False] * 11 + [True]
    late = higher.assign(known_at=higher["close_ts"] + pd.Timedelta(minutes=90))
    assert permitted_directions(bars, rules, higher=late)["long"].tolist() == [False] * 9 + [True] * 3


def test_news_close_the_window_by_currency_importance_and_what_was_known() -> None:
    bars = example_bars(*range(100, 112))  # closes at 01:00 to 12:00 on 2 January
    rules = DirectionRules(news=NewsRule(before_minutes=60, after_minutes=30))

    def blocked(*rows, symbol="EURUSD"):
        found = permitted_directions(bars, rules, symbol=symbol, timeframe="H1", calendar=calendar(*rows))
        assert (found["long"] == found["short"]).all()
        return (np.flatnonzero(found["reason_long"] == "news") + 1).tolist()

    assert blocked(release("2017-01-02 05:30")) == [5, 6]
    assert blocked(release("2017-01-02 05:31")) == [5, 6]
    assert blocked(release("2017-01-02 05:00")) == [4, 5]
    assert blocked(release("2017-01-02 05:30", touches="currency:JPY")) == []
    assert blocked(release("2017-01-02 05:30", touches="currency:JPY"), symbol="USDJPY") == [5, 6]
    assert blocked(release("2017-01-02 05:30", importance=2)) == []
    assert blocked(release("2017-01-02 05:30", known="2017-01-02 05:10")) == [6]
    moved = release("2017-01-02 10:00", known="2017-01-02 05:10", id="2017-01-02 05:30")
    assert blocked(release("2017-01-02 05:30"), moved) == [5, 9, 10]
    off = release("2017-01-02 05:30", known="2017-01-02 05:45", status="cancelled")
    assert blocked(release("2017-01-02 05:30"), off) == [5]


def all_rules():
    return DirectionRules(
        trend=TrendRule(method="cross", window=20, fast=5, threshold=0.1),
        regime=RegimeRule(method="given"),
        higher=TrendRule(method="distance", window=10),
        news=NewsRule(),
    )


def answer(bars: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    named = pd.Series(np.where(bars["close"] > bars["close"].rolling(9).mean(), "bull", "bear"), index=bars.index)
    return permitted_directions(
        bars, all_rules(), symbol="EURUSD", timeframe="H1", regime=named, higher=higher_of(bars), calendar=events
    )


def test_a_history_cut_or_changed_later_says_the_same_of_what_was() -> None:
    bars = make_bars(320, seed=9)
    days = bars.index[::37]
    events = calendar(
        *(
            release(str(day.tz_localize(None) + pd.Timedelta(minutes=50)), known=str(day.tz_localize(None)))
            for day in days
        )
    )
    whole = answer(bars, events)
    assert whole["reason_long"].value_counts().index.isin(["news", "higher", "regime", "trend"]).all()
    for cut in (60, 121, 122, 123, 124, 250):
        known = events[events["known_at"] <= bars["close_ts"].iloc[cut - 1]]
        pd.testing.assert_frame_equal(answer(bars.iloc[:cut], known), whole.iloc[:cut], check_freq=False)
        changed = bars.copy()
        changed.iloc[cut:, :4] *= 1.5
        later = events.assign(importance=np.where(events["known_at"] > bars["close_ts"].iloc[cut - 1], 1, 3))
        pd.testing.assert_frame_equal(answer(changed, later).iloc[:cut], whole.iloc[:cut])


def test_the_first_rule_in_order_is_the_reason() -> None:
    bars = example_bars(100, 101, 102, 103)
    rules = DirectionRules(trend=SLOPE, regime=RegimeRule(method="given"), news=NewsRule(before_minutes=30))
    names = pd.Series(["bull", "bull", "bear", "turbulent"], index=bars.index)
    found = permitted_directions(
        bars, rules, regime=names, symbol="EURUSD", timeframe="H1", calendar=calendar(release("2017-01-02 04:10"))
    )
    assert found["reason_long"].tolist() == ["trend", "trend", "regime", "news"]
    assert found["reason_short"].tolist() == ["regime", "regime", "trend", "news"]


def test_signals_keep_their_first_reason_and_none_is_lost() -> None:
    bars = example_bars(100, 101, 102, 103)
    directions = permitted_directions(bars, DirectionRules(trend=SLOPE))
    signals = pd.DataFrame(
        {"ts": bars.index[[3, 3, 3, 0, 3]].append(bars.index[:1] - pd.Timedelta(days=1)), "side": [1, -1, 0, 1, 1, 1],
         "reason": [None, None, None, None, "stale", np.nan]}
    )  # fmt: skip
    judged = filter_directions(signals, directions)
    assert judged["reason"].tolist() == [None, "direction_trend", None, "direction_trend", "stale", "direction_unknown"]
    assert judged["accepted"].tolist() == [True, False, True, False, False, False]


def test_on_a_real_year_the_sides_follow_the_day() -> None:
    bars = eurusd()
    rules = DirectionRules(higher=TrendRule(method="distance", window=20), news=NewsRule())
    meeting = calendar(release("2017-12-13 19:00", known="2017-01-01", kind="rate decision"))
    found = permitted_directions(
        bars, rules, symbol="EURUSD", timeframe="H1", higher=higher_of(bars, 24), calendar=meeting
    )
    assert found.index[found["reason_long"] == "news"].tolist() == [
        pd.Timestamp(f"2017-12-13 {hour}:00", tz="UTC") for hour in (17, 18)
    ]
    summer = found.loc["2017-06-20":"2017-08-31"]
    assert summer["long"].mean() > 0.7  # the euro rose from 1.11 to 1.19
    assert not (found["long"] & found["short"]).any()


def test_what_a_rule_needs_is_asked_for() -> None:
    bars = example_bars(1, 2, 3)
    for rules, words in [
        (DirectionRules(higher=SLOPE), "without its bars"),
        (DirectionRules(news=NewsRule()), "calendar, symbol and timeframe"),
        (DirectionRules(regime=RegimeRule(method="given")), "without one"),
        (DirectionRules(trend=TrendRule(fast=60)), "fast = 60"),
    ]:
        with pytest.raises(ConfigurationError, match=words):
            permitted_directions(bars, rules)
    with pytest.raises(DataError, match="index of the bars"):
        permitted_directions(bars, DirectionRules(regime=RegimeRule(method="given")), regime=pd.Series(["bull"]))
    with pytest.raises(DataError, match="lack"):
        filter_directions(pd.DataFrame({"ts": bars.index}), bars)
