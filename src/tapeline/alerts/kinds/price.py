"""Price alerts: levels, crossings, changes, ranges and trailing extremes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tapeline.alerts.catalogue import STATE, TIMEFRAME, Built, Context, Function, Parameter, bars_parameter, declared
from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.engine.layout import Indicator, Reading
from tapeline.alerts.operands import all_of, any_of, combine, compare, crosses
from tapeline.core.errors import ConfigurationError

_SHARE: Final = Parameter("share", "number", None, 1e-6, 1.0, description="of the extreme, as in 5%")


def reading(kind: int, arguments: Mapping[str, Any], output: int = 0, **lengths: Any) -> Reading:
    """An output of an indicator of the arguments' timeframe and state."""
    closed = arguments.get("state") == "closed"
    return Indicator(kind, arguments["timeframe"], closed=closed, **lengths), output


def _bar(name: str, kind: int, description: str) -> Function:
    return Function(
        name, (TIMEFRAME, STATE), lambda given, _: reading(kind, given), description, f'{name}("1h", "closed") > 100'
    )


def _price(given: Mapping[str, Any], context: Context) -> Built:
    return Indicator(kinds.CLOSE, context.timeframe), 0


def _change(given: Mapping[str, Any], context: Context) -> Built:
    return reading(kinds.CHANGE, given, n=given["bars"])


def _change_since_open(given: Mapping[str, Any], context: Context) -> Built:
    ratio = combine("/", reading(kinds.CLOSE, given), reading(kinds.OPEN, given))
    return combine("-", ratio, 1.0)


def _extreme(kind: int) -> Any:
    return lambda given, _: reading(kind, given, n=given["bars"])


def _trailing(kind: int) -> Any:
    return lambda given, context: (Indicator(kind, key=context.rule), 0)


def _trailing_stop(given: Mapping[str, Any], context: Context) -> Built:
    level = combine("*", (Indicator(kinds.TRAILING_HIGH, key=context.rule), 0), 1.0 - given["share"])
    return compare(_close(context), "<=", level)


def _trailing_rise(given: Mapping[str, Any], context: Context) -> Built:
    level = combine("*", (Indicator(kinds.TRAILING_LOW, key=context.rule), 0), 1.0 + given["share"])
    return compare(_close(context), ">=", level)


def _close(context: Context) -> Reading:
    return Indicator(kinds.CLOSE, context.timeframe), 0


def _bounds(given: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    value, low, high = given["value"], given["low"], given["high"]
    if isinstance(low, float) and isinstance(high, float) and low >= high:
        raise ConfigurationError(f"low = {low:g} must be below high = {high:g}")
    return value, low, high


def _outside(given: Mapping[str, Any], context: Context) -> Built:
    value, low, high = _bounds(given)
    return any_of(compare(value, "<", low, text="below"), compare(value, ">", high, text="above"))


def _leaves(given: Mapping[str, Any], context: Context) -> Built:
    value, low, high = _bounds(given)
    return any_of(crosses(False, value, low, text="downwards"), crosses(True, value, high, text="upwards"))


def _enters(given: Mapping[str, Any], context: Context) -> Built:
    value, low, high = _bounds(given)
    return any_of(
        all_of(crosses(True, value, low, text="upwards"), compare(value, "<=", high, text="below the high bound")),
        all_of(crosses(False, value, high, text="downwards"), compare(value, ">=", low, text="above the low bound")),
    )


def _new_extreme(up: bool) -> Any:
    kind = kinds.HIGHEST if up else kinds.LOWEST
    return lambda given, _: crosses(up, reading(kinds.CLOSE, given), reading(kind, given, n=given["bars"]))


_RANGE: Final = (Parameter("value", "reading"), Parameter("low", "reading"), Parameter("high", "reading"))

FUNCTIONS: Final = declared(
    _bar("open", kinds.OPEN, "The bar's first price."),
    _bar("high", kinds.HIGH, "The bar's highest price so far."),
    _bar("low", kinds.LOW, "The bar's lowest price so far."),
    _bar("close", kinds.CLOSE, "The bar's newest price; of a closed bar its last."),
    Function("price", (), _price, "The newest trade.", "price > 60000"),
    Function(
        "change",
        (bars_parameter(1), TIMEFRAME, STATE),
        _change,
        "Price over the close of so many bars before, less 1: 0.02 is 2 per cent up.",
        'change(1, "1d") < -5%',
    ),
    Function(
        "change_since_open",
        (TIMEFRAME, STATE),
        _change_since_open,
        "Price over the bar's open, less 1.",
        'change_since_open("1d") > 3%',
    ),
    Function(
        "highest",
        (bars_parameter(20), TIMEFRAME, STATE),
        _extreme(kinds.HIGHEST),
        "The highest high of so many bars that have closed.",
        "crosses_up(close, highest(20))",
    ),
    Function(
        "lowest",
        (bars_parameter(20), TIMEFRAME, STATE),
        _extreme(kinds.LOWEST),
        "The lowest low of so many bars that have closed.",
        "close < lowest(20) * 99%",
    ),
    Function(
        "new_high",
        (bars_parameter(20), TIMEFRAME),
        _new_extreme(True),
        "Price crosses above the highest high of so many closed bars.",
        'new_high(20, "1d")',
    ),
    Function(
        "new_low",
        (bars_parameter(20), TIMEFRAME),
        _new_extreme(False),
        "Price crosses below the lowest low of so many closed bars.",
        'new_low(20, "1d")',
    ),
    Function("outside", _RANGE, _outside, "Below the low or above the high bound.", "outside(close, 55000, 65000)"),
    Function("leaves", _RANGE, _leaves, "Crosses out of the range, at either bound.", "leaves(close, 55000, 65000)"),
    Function("enters", _RANGE, _enters, "Crosses into the range, at either bound.", "enters(close, 55000, 65000)"),
    Function(
        "trailing_high",
        (),
        _trailing(kinds.TRAILING_HIGH),
        "The highest trade since the rule began to watch the symbol.",
        "price < trailing_high - 500",
    ),
    Function(
        "trailing_low",
        (),
        _trailing(kinds.TRAILING_LOW),
        "The lowest trade since the rule began to watch the symbol.",
        "price > trailing_low + 500",
    ),
    Function(
        "trailing_stop",
        (_SHARE,),
        _trailing_stop,
        "Price is at least this share below the highest trade since the rule began.",
        "trailing_stop(5%)",
    ),
    Function(
        "trailing_rise",
        (_SHARE,),
        _trailing_rise,
        "Price is at least this share above the lowest trade since the rule began.",
        "trailing_rise(5%)",
    ),
)
