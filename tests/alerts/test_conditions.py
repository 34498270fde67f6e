"""What conditions compile to, and what people are told where they do not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.catalogue import Catalogue, Context, catalogue
from tapeline.alerts.conditions import compile_rule, external_keys, history_needed, kinds_of
from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.engine import table
from tapeline.alerts.engine.layout import TIMEFRAMES, Indicator
from tapeline.alerts.rule import Rule
from tapeline.core.errors import ConfigurationError
from tapeline.core.rule_expression import RuleExpressionError

MINUTE, HOUR = TIMEFRAMES["1m"], TIMEFRAMES["1h"]
CLOSE = (Indicator(kinds.CLOSE, MINUTE), 0)


def rule(condition: str, **more) -> Rule:
    return Rule(**{"id": "r", "owner": "me", "condition": condition, "symbols": ("A",)} | more)


def compiled(condition: str, **more):
    return compile_rule(rule(condition, **more))


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_the_example_of_each_function_compiles_and_names_it(name) -> None:
    function = catalogue()[name]
    assert compiled(function.example).conditions
    assert name in function.example
    assert function.kind in kinds_of(rule(function.example))


@pytest.mark.parametrize(
    ("text", "left", "comparison", "threshold"),
    [
        ("close > 100", CLOSE, table.ABOVE, 100.0),
        ("100 >= close", CLOSE, table.AT_MOST, 100.0),
        ("price < 2 * 3 + 4", CLOSE, table.BELOW, 10.0),
        ("close != -5%", CLOSE, table.UNEQUAL, -0.05),
        ('rsi(14, "1h") < 30', (Indicator(kinds.RSI, HOUR, 14), 0), table.BELOW, 30.0),
        ("rsi(60m, 7) < 30", (Indicator(kinds.RSI, HOUR, 7), 0), table.BELOW, 30.0),
        ('rsi("1h", "closed") < 30', (Indicator(kinds.RSI, HOUR, 14, closed=True), 0), table.BELOW, 30.0),
        ("macd_signal(3, 8, 2) > 0", (Indicator(kinds.MACD, MINUTE, 3, 8, 2), 1), table.ABOVE, 0.0),
        (
            "close - open > 1",
            (Indicator(kinds.SUBTRACT, left=CLOSE, right=(Indicator(kinds.OPEN, MINUTE), 0)), 0),
            0,
            1,
        ),
        ("close * 2 > 1", (Indicator(kinds.MULTIPLY, factor=2.0, left=CLOSE), 0), table.ABOVE, 1.0),
        ("drawdown > 10%", (Indicator(kinds.EXTERNAL, key="portfolio:drawdown"), 0), table.ABOVE, 0.1),
        (
            'pattern("double_top", "1h", "down")',
            (Indicator(kinds.EXTERNAL, key="pattern:double_top:1h"), 0),
            table.BELOW,
            0.0,
        ),
        (
            "close > 5 for 3 bars",
            (Indicator(kinds.STREAK, MINUTE, table.ABOVE, factor=5.0, left=CLOSE), 0),
            table.AT_LEAST,
            3.0,
        ),
        ("not close > 5 for 90s", (Indicator(kinds.SINCE, n=table.ABOVE, factor=5.0, left=CLOSE), 0), 2, 9e10),
    ],
)
def test_one_comparison(text, left, comparison, threshold) -> None:
    (one,) = compiled(text).conditions
    assert (one.left, one.comparison, one.threshold, one.right) == (left, comparison, threshold, None)


def test_what_combines_becomes_a_program_in_reverse_polish_notation() -> None:
    found = compiled("close > 1 and (open < 2 or not crosses_up(close, high)) and low between 3 and 4")
    assert [one.text for one in found.conditions] == [
        "close > 1", "open < 2", "crosses_up(close, high)", "low >= 3", "low <= 4"
    ]  # fmt: skip
    assert found.program == (0, 1, 2, table.NOT, table.OR, table.AND, 3, 4, table.AND, table.AND)
    assert [one.crossing for one in found.conditions] == [False, False, True, False, False]


def test_holding_follows_the_timeframe_of_what_is_held_and_goes_into_both_parts_of_an_and() -> None:
    found = compiled('(rsi(14, "1h") < 30 and close > 5) for 2 bars')
    assert [one.left[0].timeframe for one in found.conditions] == [HOUR, MINUTE]
    assert found.program == (0, 1, table.AND)
    turned = compiled("(not (close > 5 or open > 5)) for 2 bars")
    assert [(one.left[0].kind, one.left[0].n) for one in turned.conditions] == [(kinds.STREAK, table.AT_MOST)] * 2


def test_frequency_cooldown_and_watching_of_the_rule() -> None:
    found = compiled("close > 1", frequency="once_per_bar_close", timeframe="5m", cooldown="PT90S", keep_firing="PT5M")
    assert (found.frequency, found.cooldown, found.bar) == (table.ONCE_PER_BAR_CLOSE, 90_000, 300)
    assert (found.close_of, found.watched, found.id) == (TIMEFRAMES["5m"], True, f"r@{rule_version(found)}")
    assert not compile_rule(rule("close > 1"), watched=False).watched


def rule_version(found) -> str:
    return found.id.split("@")[1]


def test_a_rule_asked_at_closes_of_bars_that_it_does_not_read_reads_them() -> None:
    found = compiled('rsi(14, "1h") < 30', frequency="once_per_bar_close", timeframe="5m")
    assert found.conditions[1].left == (Indicator(kinds.CLOSE, TIMEFRAMES["5m"]), 0)
    assert found.program == (0,)
    assert len(compiled("rsi(14) < 30", frequency="once_per_bar_close").conditions) == 1


def test_hysteresis_is_of_each_comparison_with_a_level() -> None:
    found = compiled("close > 200 or crosses_up(rsi, 70)", hysteresis={"percent": 1})
    assert [one.hysteresis for one in found.conditions] == [2.0, 0.7]
    assert compiled("close > open", hysteresis={"absolute": 0.5}).conditions[0].hysteresis == 0.5
    with pytest.raises(RuleExpressionError, match="a number other than 0"):
        compiled("close > open", hysteresis={"percent": 1})
    with pytest.raises(RuleExpressionError, match="above 1e"):
        compiled("close > 1", hysteresis={"absolute": 1e300})


@pytest.mark.parametrize(
    ("text", "reason", "column", "hint"),
    [
        ("close > 1 and rsii < 30", "'rsii' is not known", 14, "did you mean 'rsi'?"),
        ("rsi", "is a value, a condition is needed", 0, "as in rsi > 0"),
        ("close > new_high", "is a condition, a value is needed", 8, None),
        ("rsi(14.5) < 3", "whole number of bars", 4, None),
        ("rsi(1001) < 3", "is not from 2 to 1000", 4, None),
        ("rsi(close) < 3", "must be a number, not a value that changes", 4, None),
        ('rsi("2h") < 3', "timeframe = '2h' is unknown", 4, "1m, 5m, 15m, 1h, 4h, 1d"),
        ("rsi(14, 3) < 3", "3 is too much", 8, "rsi(bars=14, timeframe, state=forming)"),
        ("trailing_stop", "needs share", 0, "trailing_stop(share)"),
        ("macd(26, 12, 9) > 0", "must be below slow", 0, None),
        ('pattern("duble_top")', "'duble_top' is unknown", 8, "did you mean 'double_top'?"),
        ("3 > 2", "compares two numbers", 0, None),
        ("close / 0 > 1", "division by 0", 0, None),
        ("close > 1e300 * 1e300", "is too large", 8, None),
        ("close between 5 and 3", "nothing is between 5 and 3", 14, None),
        ("crosses_up(close, 5) for 2 bars", "a crossing lasts no time", 0, "compare instead"),
        ('(close > 1 and pattern("flag")) for 2 bars', "is an event", 15, None),
        ("(close > 1 or open > 1) for 2 bars", "cannot follow an 'or'", 1, "after each part"),
        ("(close > 1 for 2 bars) for 3 bars", "a 'for' within a 'for'", 1, None),
        ("close > 1 for 1001 bars", "above 1000", 0, "for 4h"),
        ('close > "x"', "no number", 8, None),
        ("close > __import__", "'_' is not understood", 8, None),
        ('volume_norm(20, "1d") > 5', "a day has no time of day", 0, "volume_ratio"),
    ],
)
def test_an_error_names_the_place_and_what_to_do(text, reason, column, hint) -> None:
    with pytest.raises(RuleExpressionError) as caught:
        compiled(text)
    assert reason in caught.value.reason
    assert caught.value.position == column
    assert (hint or "") in (caught.value.hint or "")
    assert str(caught.value).splitlines()[2] == " " * (column + 2) + "^"


def test_an_event_is_never_asked_at_closes() -> None:
    with pytest.raises(RuleExpressionError, match="at a bar's close it is never asked"):
        compiled('pattern("flag")', frequency="once_per_bar_close")


def test_more_comparisons_than_the_engine_takes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="65 conditions"):
        compiled(" or ".join(["close > 1"] * 65))


def test_bars_and_series_that_a_rule_needs() -> None:
    text = 'macd(12, 26, 9, "1h") > 0 and sma(50) > rsi(14, "closed") and sentiment > 0 and pattern("flag", "5m")'
    assert history_needed(rule(text)) == {HOUR: 33, MINUTE: 49}
    assert external_keys(rule(text)) == {"sentiment:level", "pattern:flag:5m"}
    assert kinds_of(rule(text)) == {"technical", "sentiment", "pattern"}


def test_a_new_type_is_one_mapping_of_functions() -> None:
    from tapeline.alerts.catalogue import Function, declared
    from tapeline.alerts.operands import external

    moon = Function("moon", (), lambda given, context: external("moon:phase"), "Its phase.", "moon > 0.5")
    known = Catalogue({**catalogue(), **declared(moon)})
    assert compile_rule(rule("moon > 0.5"), known).conditions[0].left[0].key == "moon:phase"
    assert moon.build({}, Context(MINUTE, "r")) == external("moon:phase")


@given(st.text(max_size=60) | st.text("()<>=andclose15rsi. ,\"'%-*/for bars", max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_compiles_or_is_refused_with_a_reason(text) -> None:
    try:
        found = compiled(text)
    except (ConfigurationError, ValueError):
        return
    assert found.conditions


@pytest.mark.parametrize(
    "text",
    ["(" * 500 + "close", "close > " + "1" * 1_900, "-" * 1_000 + "1 > close", "not " * 400 + "close > 1",
     "close > 1e308", "\u0441lose > 1", "close > \u0661", "close > 1\u202e", "rsi(" * 300],
)  # fmt: skip
def test_hostile_texts_are_refused(text) -> None:
    with pytest.raises(RuleExpressionError):
        compiled(text)
