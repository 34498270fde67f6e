"""Rules decide what a slow walk of their trees decides, over a history and bar by bar, and know no future."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.core.account_tables import DECISIONS
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.example import example_bars
from tapeline.core.perturbation import FUTURES
from tapeline.core.rule_expression import RuleExpressionError
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import compute
from tapeline.features.feature_set import parse_feature_set
from tapeline.strategy.decision_rules import load_rules, parse_rules
from tapeline.strategy.rule_columns import rule_columns
from tapeline.strategy.rule_engine import OUTCOMES, RuleStream, decide
from tapeline.strategy.simulator import SimulationSettings, simulate
from tests.quality.batches import sample_bars
from tests.strategy.rule_oracle import Oracle
from tests.support import make_bars

H1 = Timeframe.parse("H1")
RULES = ("name", "outcome", "rule", "other", "protection", "side")
CONDITIONS = [
    "x < y",
    "x >= 1 + y / 4",
    "crosses_up(x, y)",
    "crosses_down(x, 0)",
    "x between -1 and y",
    "not y > 1 for 2 bars",
    "x != lag(y, 2) for 3h",
    "mean(x, 3) > mean(y, 4)",
    "highest(x, 3) == x or lowest(y, 2) < -1",
    'session("day") and ratio(x, 1) > 0',
    "difference(y, 2) <= 50% and position.bars > 2",
    "position.return > 0.1% or position.side == 0",
    "sqrt(x) > log(abs(y)) and (x > 0 or y > 0)",
    "first or second",
    "first and not second for 2 bars",
    "lag(position.side, 1) * sign(x) >= minimum(y, maximum(x, 0)) and -x < 1d / 24h",
]


def random_rules(generator):
    def one(pool):
        return pool[int(generator.integers(len(pool)))]

    rules = []
    for number in range(int(generator.integers(3, 8))):
        action = one(["long", "short", "long", "short", "exit", "veto", "size"])
        rule = {
            "name": f"rule_{number}",
            "action": action,
            "when": one(CONDITIONS),
            "priority": int(generator.integers(3)),
        }
        if action in ("long", "short"):
            below = "close - 1" if action == "long" else "close + 1"
            above = "close + abs(x)" if action == "long" else "close - abs(x)"
            rule |= one([{}, {"size": "2 + y"}, {"stop": below}, {"stop": below, "take": above, "size": 2}])
            rule["cooldown"] = int(generator.integers(4))
        if action in ("exit", "veto", "size"):
            rule["side"] = one(["both", "long", "short"])
        if action == "size":
            rule["size"] = one([0.5, "abs(y)"])
        if action == "veto":
            rule["unknown"] = one(["block", "pass"])
        if generator.random() < 0.2:
            rule["session"] = "day"
        rules.append(rule)
    return parse_rules(
        {
            "name": "random",
            "policy": {"again": bool(generator.random() < 0.3), "opposite": one(["reverse", "exit", "ignore"])},
            "conditions": {"first": one(CONDITIONS[:13]), "second": f"first and {one(CONDITIONS[:6])}"},
            "session": {"day": {"zone": "Europe/London", "from": "08:00", "to": "16:00"}},
            "rule": rules,
        }
    )


def random_bars(generator, rows=64):
    # Quarters: sums of them are exact, so that the order in which a mean adds up does not count.
    close = 100 + np.cumsum(generator.integers(-4, 5, rows)) / 4
    bars = make_bars(rows, seed=int(generator.integers(1000)))
    bars["close"] = close
    bars["open"] = np.r_[close[:1], close[:-1]]
    bars["high"] = bars[["open", "close"]].max(axis=1) + generator.integers(0, 3, rows) / 4
    bars["low"] = bars[["open", "close"]].min(axis=1) - generator.integers(0, 3, rows) / 4
    for name in ("x", "y"):
        values = generator.integers(-8, 9, rows) / 4
        values[generator.random(rows) < 0.08] = np.nan
        bars[name] = values
    bars.loc[bars.index[generator.integers(rows, size=2)], ["low", "close"]] = np.nan
    return bars


def told(found, rows):
    decided = found.decisions.reindex(found.outcomes.index)
    frame = found.outcomes.join(decided)
    plain = frame.astype(object).where(frame.notna(), None)
    return [tuple(row) for row in plain[[*RULES[1:], "target", "stop", "take"]].to_numpy()][:rows]


def test_decisions_are_those_of_the_oracle_and_of_the_stream() -> None:
    seen = set()
    for seed in range(36):
        generator = np.random.default_rng(seed)
        rules, bars = random_rules(generator), random_bars(generator)
        found = decide(rules, bars)
        closes = pd.DatetimeIndex(bars["close_ts"])
        columns = {str(name): bars[name].tolist() for name in bars.columns}
        columns["session.day"] = rules.sessions["day"].is_on(closes).tolist()
        expected = Oracle(rules, columns, closes.as_unit("ns").asi8.tolist()).decide()
        assert told(found, len(bars)) == expected
        seen |= {row[0] for row in expected} | {row[3] for row in expected}
        if seed % 4:
            continue
        stream = RuleStream(rules)
        given = [stream.push(bar) for bar in bars.reset_index().to_dict("records")]
        made = pd.DataFrame([one for one in given if one], columns=["target", "stop", "take"], dtype=float)
        np.testing.assert_array_equal(made.to_numpy(), found.decisions.to_numpy())
        assert [one is not None for one in given] == bars.index.isin(found.decisions.index).tolist()
    assert seen == {*OUTCOMES, None, "stop", "target"}


def test_a_stream_explains_its_bar_as_the_history_does() -> None:
    generator = np.random.default_rng(5)
    rules, bars = random_rules(generator), random_bars(generator)
    stream = RuleStream(rules)
    streamed = []
    for bar in bars.reset_index().to_dict("records"):
        stream.push(bar)
        streamed.append(stream.explain())
    assert json.loads(json.dumps(streamed, allow_nan=False)) == decide(rules, bars).explain(bars.index)


def test_the_future_changes_nothing_and_the_past_everything() -> None:
    for seed in (1, 2):
        generator = np.random.default_rng(seed)
        rules, bars = random_rules(generator), random_bars(generator)
        whole = told(decide(rules, bars), len(bars))
        changed = 0
        for cut in (1, 7, 30, 63):
            assert told(decide(rules, bars.iloc[:cut]), cut) == whole[:cut]
            for future in FUTURES.values():
                other = told(decide(rules, future(bars, cut, H1)), len(bars))
                assert other[:cut] == whole[:cut]
                changed += other[cut:] != whole[cut:]
        assert changed > 5


def simple(*rules, **content):
    return parse_rules({"name": "mine", "rule": list(rules), **content})


BUY = {"name": "buy", "action": "long", "when": "close > 101"}


def test_the_account_may_say_what_is_held() -> None:
    bars = example_bars(100, 102, 102, 102, 102)
    assert len(decide(simple(BUY), bars).decisions) == 1
    # The order was never filled: the rule enters again.
    assert len(decide(simple(BUY), bars, held=[0, 0, 0, 1, 1]).decisions) == 2
    with pytest.raises(DataError, match="held"):
        decide(simple(BUY), bars, held=[2] * 5)


def test_an_explanation_names_the_rule_both_sides_and_what_was_unknown() -> None:
    bars = example_bars(100, 102, 104).assign(risk=[0.0, math.nan, 0.0], news=[0.0, 0.0, 1.0])
    rules = simple(
        {**BUY, "when": "strong and crosses_up(close, 101)", "stop": "low - 1"},
        {"name": "risky", "action": "veto", "when": "risk > 1"},
        {"name": "in_the_news", "action": "veto", "when": "news == 1", "unknown": "pass"},
        conditions={"strong": "close > open for 1 bar"},
    )
    one = decide(rules, bars).explain(bars.index[1:2])[0]
    assert (one["outcome"], one["rule"], one["other"], one["decision"]) == ("veto_unknown", "buy", "risky", None)
    assert one["unknown"] == ["risky"]
    assert one["vetoes"] == []
    considered = {part["rule"]: part for part in one["considered"]}
    assert considered["risky"]["conditions"] == [{"text": "risk > 1", "state": None, "left": None, "right": 1.0}]
    assert [part["text"] for part in considered["buy"]["conditions"]] == [
        "strong",
        "close > open for 1 bar",
        "close > open",
        "crosses_up(close, 101)",
    ]
    crossing = considered["buy"]["conditions"][-1]
    assert (crossing["left_before"], crossing["left"], crossing["right"], crossing["state"]) == (100, 102, 101, True)
    assert considered["buy"]["amounts"] == {"stop": {"text": "(low - 1)", "value": 98.0}}
    assert decide(rules, bars).explain(bars.index[2:])[0]["vetoes"] == ["in_the_news"]
    with pytest.raises(DataError, match="no bar"):
        decide(rules, bars).explain([pd.Timestamp("2001-01-01", tz="UTC")])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rule": [{**BUY, "when": "clos > 1"}]}, None),
        ({"rule": [{**BUY, "when": "trend and close > 1"}]}, r"(?s)rule 'buy', when: there is no condition.*\^"),
        ({"rule": [{**BUY, "when": "rsi(14) > 1"}]}, "no function 'rsi'"),
        ({"rule": [{**BUY, "when": "lag(close, 1.5) > 1"}]}, "whole number of bars"),
        ({"rule": [{**BUY, "when": "lag(close, 100001) > 1"}]}, "whole number of bars"),
        ({"rule": [{**BUY, "when": "session('moon')"}]}, "no session 'moon'"),
        ({"rule": [{**BUY, "when": "position.height > 1"}]}, "no 'position.height'"),
        ({"rule": [{**BUY, "stop": "close >"}]}, "rule 'buy', stop"),
        ({"rule": [BUY, BUY]}, "two rules"),
        ({"rule": [{**BUY, "action": "exit", "stop": "1"}]}, "are of entries"),
        ({"rule": [{**BUY, "action": "size"}]}, "needs 'size'"),
        ({"rule": [{**BUY, "size": -1.0}]}, "size"),
        ({"rule": [{**BUY, "name": "and"}]}, "no word of the language"),
        ({"rule": [{**BUY, "session": "moon"}]}, "no session 'moon'"),
        ({"rule": [{**BUY, "colour": "red"}]}, "Extra inputs"),
        ({"rule": []}, "at least 1"),
        ({"rule": [BUY], "conditions": {"a": "b", "b": "close > 1"}}, "there is no condition 'b' here"),
        ({"rule": [BUY], "session": {"day": {"zone": "../etc/passwd", "from": "08:00", "to": "09:00"}}}, "time zone"),
        (
            {"rule": [BUY], "conditions": {f"c{n}": f"lag(close, {100_000 - n}) > 1" for n in range(11)}},
            "remember more than",
        ),
        (
            {
                "rule": [BUY],
                "conditions": {f"c{n}": "+".join(f"a{n}_{i}" for i in range(99)) + ">1" for n in range(11)},
            },
            "more than 2000 parts",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_refused(content, message) -> None:
    if message is None:
        rules = parse_rules({"name": "mine", **content})
        with pytest.raises(RuleExpressionError, match=r"(?s)no column 'clos'.*\^.*did you mean 'close'"):
            decide(rules, example_bars(1, 2))
        return
    with pytest.raises(ConfigurationError, match=message):
        parse_rules({"name": "mine", **content})


def test_a_version_follows_from_what_counts() -> None:
    spaced = simple({**BUY, "when": "close   >  (101)"}, description="other words")
    assert simple(BUY).version == spaced.version
    assert simple(BUY).version != simple({**BUY, "when": "close > 101.5"}).version
    assert simple(BUY).version != simple({**BUY, "cooldown": 1}).version


def test_a_session_is_local_and_may_last_over_midnight() -> None:
    content = {"zone": "America/New_York", "from": "22:00", "to": "02:00", "days": ["fri"]}
    session = simple(BUY, session={"night": content}).sessions["night"]
    at = pd.DatetimeIndex(["2017-01-07 02:59", "2017-01-07 03:00", "2017-01-07 06:59", "2017-01-07 07:00"], tz="UTC")
    assert session.is_on(at).tolist() == [0, 1, 1, 0]
    # In summer the same local hours are an hour earlier.
    assert session.is_on(pd.DatetimeIndex(["2017-07-08 02:00", "2017-07-09 02:00"], tz="UTC")).tolist() == [1, 0]


def test_columns_are_joined_as_they_were_known() -> None:
    bars = example_bars(100, 101, 102, 103)
    late = pd.DataFrame(
        {"known_at": bars["close_ts"] + pd.Timedelta("5s"), "probability": [0.1, 0.2, 0.3, 0.4], "note": "x"}
    )
    joined = rule_columns(bars, scores={"model": late})
    np.testing.assert_array_equal(joined["model.probability"], [np.nan, 0.1, 0.2, 0.3])
    assert joined["model.age"].tolist()[1:] == [3595.0] * 3
    assert "model.note" not in joined
    with pytest.raises(DataError, match="known_at"):
        rule_columns(bars, scores={"model": late.drop(columns="known_at")})


def test_the_packaged_rules_trade_real_bars_and_hold_what_the_simulator_holds() -> None:
    bars = sample_bars().iloc[:3_000].copy()
    bars["close_ts"] = H1.closes(pd.DatetimeIndex(bars.index))
    features = compute(parse_feature_set({"name": "mine", "feature": [{"component": "rsi"}]}), bars, H1)
    rules = load_rules("pullback")
    found = decide(rules, rule_columns(bars, features=features))
    assert {"entered", "exited"} <= set(found.outcomes["outcome"].unique())
    assert found.outcomes["protection"].notna().sum() > 10
    account = simulate(bars, found.decisions, SimulationSettings(capital=1e6))
    held = account.fills.groupby("ts")["quantity"].sum().reindex(bars.index, fill_value=0.0).cumsum().round(9)
    # A decision is filled at the next open, so the side decided at one close is held by the next, unless protected.
    before = found.outcomes["side"].shift(fill_value=0).where(found.outcomes["protection"].isna(), 0)
    assert (np.sign(held) == before).all()
    stored = found.rows("run")
    assert len(stored) == len(found.decisions) > 20
    assert list(stored.columns) == DECISIONS.schema.names
    assert json.loads(stored["explanation"].iloc[0])["rules"] == rules.version


def test_the_rules_on_the_page_are_rules() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rules.md").read_text("utf-8")
    rules = parse_rules(tomllib.loads(page.split("```toml\n")[1].split("```")[0]))
    assert [one.rule.name for one in rules.rules] == ["buy_weakness", "time_is_up", "model_is_old"]
    assert set(rules.used) == {"close", "high", "low", "rsi_14", "atr_ratio_14", "model.age"}
