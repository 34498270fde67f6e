"""Volume alerts: spikes against the newest bars and against the norm of the time of day, totals, and drying up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tapeline.alerts.catalogue import (
    STATE,
    TIMEFRAME,
    Built,
    Context,
    Function,
    Parameter,
    bars_parameter,
    declared,
)
from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.engine.layout import TIMEFRAMES
from tapeline.alerts.kinds.price import reading
from tapeline.alerts.operands import combine, compare
from tapeline.core.errors import ConfigurationError

DAY: Final = TIMEFRAMES["1d"]
_DAYS: Final = Parameter("days", "bars", 20.0, 2.0, 250.0, description="of which the norm is the mean")


def _of(given: Mapping[str, Any], kind: int) -> Any:
    return reading(kind, given, n=given["bars"])


def _mean(given: Mapping[str, Any], context: Context) -> Built:
    return combine("/", reading(kinds.VOLUME, given), _of(given, kinds.VOLUME_RATIO))


def _sum(given: Mapping[str, Any], context: Context) -> Built:
    volume = reading(kinds.VOLUME, given)
    if given["bars"] == 1:
        return volume
    before = _of({**given, "bars": given["bars"] - 1}, kinds.VOLUME_RATIO)
    return combine("+", volume, combine("*", combine("/", volume, before), float(given["bars"] - 1)))


def _norm(given: Mapping[str, Any], context: Context) -> Built:
    if given["timeframe"] >= DAY:
        raise ConfigurationError("a day has no time of day", hint='use volume_ratio(20, "1d")')
    return reading(kinds.VOLUME_NORM, given, n=given["days"])


def _against_norm(given: Mapping[str, Any], context: Context) -> Built:
    norm: Any = _norm(given, context)
    return combine("/", reading(kinds.VOLUME, given), norm)


def _spike(given: Mapping[str, Any], context: Context) -> Built:
    return compare(_of(given, kinds.VOLUME_RATIO), ">=", given["times"])


def _dry_up(given: Mapping[str, Any], context: Context) -> Built:
    # A bar under way has always little volume at first: only closed ones can be dry.
    return compare(_of({**given, "state": "closed"}, kinds.VOLUME_RATIO), "<=", given["share"])


_WINDOW: Final = (bars_parameter(20, 2), TIMEFRAME, STATE)

FUNCTIONS: Final = declared(
    Function(
        "volume",
        (TIMEFRAME, STATE),
        lambda given, _: reading(kinds.VOLUME, given),
        "The bar's volume so far: with 1d, since midnight in UTC.",
        'volume("1d") > 1000000',
    ),
    Function(
        "volume_ratio",
        _WINDOW,
        lambda given, _: _of(given, kinds.VOLUME_RATIO),
        "The bar's volume over the mean of so many closed bars before it.",
        "volume_ratio(20) > 3",
    ),
    Function(
        "volume_zscore",
        _WINDOW,
        lambda given, _: _of(given, kinds.VOLUME_SCORE),
        "The bar's volume less the mean of so many closed bars before it, in their standard deviations.",
        "volume_zscore(50) > 4",
    ),
    Function(
        "volume_mean",
        _WINDOW,
        _mean,
        "The mean volume of so many closed bars before the bar; not known while the bar has none.",
        "volume > 2 * volume_mean(20)",
    ),
    Function(
        "volume_sum",
        (bars_parameter(20), TIMEFRAME, STATE),
        _sum,
        "The volume of so many bars up to and with this one; not known while this one has none.",
        'volume_sum(24, "1h") > 5000',
    ),
    Function(
        "volume_norm",
        (_DAYS, TIMEFRAME),
        _norm,
        "The mean volume of the bars at this time of day over so many days before.",
        'volume("5m") > volume_norm(20, "5m") + 100',
    ),
    Function(
        "volume_against_norm",
        (_DAYS, TIMEFRAME),
        _against_norm,
        "The bar's volume over the mean of the bars at this time of day over so many days before.",
        'volume_against_norm(20, "5m") > 4',
    ),
    Function(
        "volume_spike",
        (Parameter("times", "number", 3.0, 1.0, 1e6), *_WINDOW),
        _spike,
        "The bar's volume is at least so many times the mean of the closed bars before it.",
        'volume_spike(3, 20, "5m")',
    ),
    Function(
        "volume_dry_up",
        (Parameter("share", "number", 0.3, 0.0, 1.0), bars_parameter(20, 2), TIMEFRAME),
        _dry_up,
        "The last closed bar's volume was at most this share of the mean of the closed bars before it.",
        'volume_dry_up(30%, 20, "1h")',
    ),
)
