"""Technical alerts: RSI, MACD, Bollinger bands, moving averages, true range; levels by comparison, crosses, divergence.

The kernel follows TA-Lib: Wilder's and exponential averages begin with the simple mean of their first window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tapeline.alerts.catalogue import STATE, TIMEFRAME, Built, Context, Function, Parameter, bars_parameter, declared
from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.kinds.price import reading
from tapeline.alerts.operands import combine, crosses
from tapeline.core.errors import ConfigurationError

_DIRECTION: Final = Parameter("direction", "choice", "up", choices=("up", "down"))
_MACD: Final = (bars_parameter(12, 2, "fast"), bars_parameter(26, 2, "slow"), bars_parameter(9, 1, "signal"))
_WIDTH: Final = Parameter("width", "number", 2.0, 0.01, 20.0, description="standard deviations")


def _windowed(name: str, kind: int, default: int, low: int, description: str, example: str) -> Function:
    return Function(
        name,
        (bars_parameter(default, low), TIMEFRAME, STATE),
        lambda given, _: reading(kind, given, n=given["bars"]),
        description,
        example,
    )


def _macd(given: Mapping[str, Any], output: int) -> Any:
    if given["fast"] >= given["slow"]:
        raise ConfigurationError(f"fast = {given['fast']} must be below slow = {given['slow']}")
    return reading(kinds.MACD, given, output, n=given["fast"], n2=given["slow"], n3=given["signal"])


def _line(name: str, output: int, description: str, example: str) -> Function:
    return Function(name, (*_MACD, TIMEFRAME, STATE), lambda given, _: _macd(given, output), description, example)


def _macd_cross(given: Mapping[str, Any], context: Context) -> Built:
    return crosses(given["direction"] == "up", _macd(given, 0), _macd(given, 1))


def _band(given: Mapping[str, Any], output: int) -> Any:
    return reading(kinds.BOLLINGER, given, output, n=given["bars"], factor=given["width"])


def _bands(name: str, output: int, description: str) -> Function:
    return Function(
        name,
        (bars_parameter(20, 2), _WIDTH, TIMEFRAME, STATE),
        lambda given, _: _band(given, output),
        description,
        f"close > {name}(20, 2)",
    )


def _percent_b(given: Mapping[str, Any], context: Context) -> Built:
    lower = _band(given, 2)
    return combine("/", combine("-", reading(kinds.CLOSE, given), lower), combine("-", _band(given, 1), lower))


def _bandwidth(given: Mapping[str, Any], context: Context) -> Built:
    return combine("/", combine("-", _band(given, 1), _band(given, 2)), _band(given, 0))


def _average_cross(given: Mapping[str, Any], context: Context) -> Built:
    if given["fast"] >= given["slow"]:
        raise ConfigurationError(f"fast = {given['fast']} must be below slow = {given['slow']}")
    kind = kinds.SMA if given["average"] == "sma" else kinds.EMA
    fast, slow = reading(kind, given, n=given["fast"]), reading(kind, given, n=given["slow"])
    return crosses(given["direction"] == "up", fast, slow)


FUNCTIONS: Final = declared(
    _windowed("rsi", kinds.RSI, 14, 2, "Relative strength index, 0 to 100 (Wilder 1978).", 'rsi(14, "1h") < 30'),
    _windowed("sma", kinds.SMA, 20, 1, "Simple moving average of closes.", "crosses_up(close, sma(50))"),
    _windowed("ema", kinds.EMA, 20, 1, "Exponential moving average of closes.", "close > ema(200) * 1.1"),
    _windowed(
        "atr", kinds.ATR, 14, 1, "Average true range, in the price's unit (Wilder 1978).", "high - low > 3 * atr"
    ),
    _line("macd", 0, "Fast less slow exponential average (Appel).", "macd(12, 26, 9) > 0"),
    _line("macd_signal", 1, "Exponential average of the MACD.", "crosses_up(macd, macd_signal)"),
    _line("macd_histogram", 2, "MACD less its signal.", "macd_histogram < 0"),
    Function(
        "macd_cross",
        (*_MACD, _DIRECTION, TIMEFRAME, STATE),
        _macd_cross,
        "The MACD crosses its signal.",
        'macd_cross("up", "1h")',
    ),
    _bands("bollinger_middle", 0, "Mean of closes."),
    _bands("bollinger_upper", 1, "Mean plus so many standard deviations of closes."),
    _bands("bollinger_lower", 2, "Mean less so many standard deviations of closes."),
    Function(
        "bollinger_percent",
        (bars_parameter(20, 2), _WIDTH, TIMEFRAME, STATE),
        _percent_b,
        "Where price stands between the bands: 0 at the lower, 1 at the upper.",
        "bollinger_percent < 0",
    ),
    Function(
        "bollinger_width",
        (bars_parameter(20, 2), _WIDTH, TIMEFRAME, STATE),
        _bandwidth,
        "The bands' distance over the mean.",
        'bollinger_width(20, 2, "1h", "closed") < 1%',
    ),
    Function(
        "average_cross",
        (
            bars_parameter(50, 1, "fast"),
            bars_parameter(200, 2, "slow"),
            _DIRECTION,
            Parameter("average", "choice", "sma", choices=("sma", "ema")),
            TIMEFRAME,
            STATE,
        ),
        _average_cross,
        "A fast moving average crosses a slow one.",
        'average_cross(50, 200, "up", "1d")',
    ),
)
