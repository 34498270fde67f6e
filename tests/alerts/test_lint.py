"""What lint says of rules that can never fire, always do, tell nobody or are too loud."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tapeline.alerts.conditions import compile_rule
from tapeline.alerts.intervals import truth_of
from tapeline.alerts.lint import lint_rule
from tapeline.alerts.rule import Rule
from tests.support import make_bars


def rule(condition: str, **more) -> Rule:
    plain = {"id": "r", "owner": "me", "condition": condition, "symbols": ("A",), "channels": ("mail",)}
    return Rule(**plain | more)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("rsi > 101", False),
        ("rsi >= 100", None),
        ("rsi > 100", False),
        ("rsi < 0 or rsi > 100", False),
        ("close < 0", False),
        ("close > 5 and close < 3", False),
        ("close > 5 and close < 5", False),
        ("close >= 5 and close <= 5", None),
        ("close >= 5 and close <= 5 and close != 5", False),
        ("close == 5 and close == 6", False),
        ("close > 5 and (close < 3 or rsi > 200)", False),
        ("close > 5 and (close < 3 or rsi > 70)", None),
        ("close > 5 and close(5m) < 3", None),
        ("not (close > 5 or close < 7)", False),
        ("close > 5 or close < 7", True),
        ("rsi between 0 and 100", True),
        ("close > high and close < high", False),
        ("close > high and high > close", False),
        ("close > close", False),
        ("close - close == 0", True),
        ("close * 2 < -1", False),
        ("volume / close < 0", False),
        ("1 / close < 0", False),
        ("100 - rsi > 100", False),
        ("100 - rsi > 99", None),
        ("change < -100%", False),
        ("drawdown > 1", False),
        ("sentiment > 0.5 and sentiment_change > 2.5", False),
        ("crosses_up(rsi, 100)", False),
        ("crosses_up(rsi, 70) and rsi < 60", False),
        ("not crosses_up(rsi, 100)", True),
        ("rsi > 30 for 2 bars", None),
        ("rsi > 101 for 2 bars", False),
        ("(close > 5 and close < 3) for 4h", False),
        ("rsi > 101 for 0.5 bars", "refused"),
        ("macd > 5", None),
    ],
)
def test_whether_a_condition_can_hold(text, truth) -> None:
    if truth == "refused":
        assert [one.code for one in lint_rule(rule(text))] == ["condition"]
        return
    assert truth_of(compile_rule(rule(text))) is truth
    codes = [one.code for one in lint_rule(rule(text))]
    assert codes == {False: ["never"], True: ["always"], None: []}[truth]


def test_hysteresis_lets_two_levels_hold_at_once() -> None:
    text = "close > 5 and close < 4"
    assert truth_of(compile_rule(rule(text, hysteresis={"absolute": 0.5}))) is False
    assert truth_of(compile_rule(rule(text, hysteresis={"absolute": 2}))) is None


def test_a_condition_of_too_many_cases_is_not_judged() -> None:
    parts = " and ".join(f"(close > {number} or open > {number})" for number in range(14))
    assert truth_of(compile_rule(rule(parts))) is None


@pytest.mark.parametrize(
    ("condition", "more", "code", "severity"),
    [
        ("rsii > 5", {}, "condition", "error"),
        ("crosses_up(close, 5) for 2 bars", {}, "crossing_in_for", "error"),
        ("close > 5", {"channels": ()}, "no_channel", "warning"),
        ("close > 5", {"enabled": False}, "disabled", "info"),
        ("close > 5", {"expires_at": "2026-01-01T00:00:00Z"}, "expired", "error"),
        ("close > 5", {"inhibited_by": ("r",)}, "inhibits_itself", "error"),
        (
            "close > 5",
            {"quiet_hours": ({"begin": "06:00", "end": "22:00"}, {"begin": "22:00", "end": "06:00"})},
            "always_quiet",
            "error",
        ),
        (
            "close > 5",
            {"sessions": ({"begin": "08:00", "end": "09:00"},), "quiet_hours": ({"begin": "07:00", "end": "10:00"},)},
            "always_quiet",
            "error",
        ),
    ],
)
def test_what_is_wrong_with_a_rule(condition, more, code, severity) -> None:
    found = lint_rule(rule(condition, **more), now=datetime(2026, 6, 1, tzinfo=UTC))
    assert [(one.code, one.severity) for one in found] == [(code, severity)]


def test_quiet_hours_that_leave_a_minute_are_not_all_of_the_week() -> None:
    spans = ({"begin": "06:00", "end": "22:00"}, {"begin": "22:01", "end": "06:00"})
    assert lint_rule(rule("close > 5", quiet_hours=spans)) == []
    assert lint_rule(rule("close > 5", channels=(), dry_run=True)) == []


def test_a_fault_of_a_condition_has_its_place() -> None:
    (found,) = lint_rule(rule("close > 5 and rsii > 5"))
    assert found.position == 14
    assert "did you mean 'rsi'?" in found.message


def test_what_a_history_says() -> None:
    bars = {"A": make_bars(600, timeframe="M1", gaps=False)}

    def codes(text: str, **more) -> dict[str, str]:
        return {one.code: one.message for one in lint_rule(rule(text, **more), bars)}

    assert codes("crosses_up(close, sma(20))")["loud"].endswith("times a day and symbol")
    assert set(codes("close > 1000000")) == {"silent"}
    assert codes('rsi(14, "4h") > 50')["warm_up"] == "it needs 14 closed bars of 4h, the history has 2"
    assert set(codes("close > 1", symbols=("B",))) == {"no_history"}
    assert set(codes("sentiment > 0")) == {"external"}
    assert codes("crosses_up(close, sma(20)) and rsi(14) < 0")["never"]
