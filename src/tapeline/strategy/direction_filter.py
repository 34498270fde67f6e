"""Which sides may be traded at each close: by trend, regime, a higher timeframe and the news to come.

Each rule permits long, short, both or neither from what was known at the close; a side is permitted where no rule that
is asked forbids it, and the first that does is its reason, in the order news, higher, regime, trend.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.pit import asof_join
from tapeline.core.timeframe import Timeframe
from tapeline.features.event_mapper import map_events
from tapeline.features.market_regime import hidden_markov_regime, mixture_regime, name_regimes
from tapeline.features.trend import ema_cross, regression, sma_distance
from tapeline.features.trending_regime import name_trend, trending_regime

Flags = NDArray[np.bool_]
Sides = Literal["both", "long", "short", "none"]
Bars = Annotated[int, Field(ge=2, le=10_000)]

RULES: Final = ("news", "higher", "regime", "trend")
"""In the order in which they are named as the reason."""


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrendRule(_Rule):
    """Long above ``threshold``, short below its negative.

    Parameters
    ----------
    method:
        ``slope``: of the line through the logarithms of the last ``window`` closes, in percent a bar; ``distance``: of
        the close above its mean over ``window`` bars, and ``cross``: of the exponential average over ``fast`` bars
        above the one over ``window``, both in average true ranges; ``trending``: the probability of a trend with its
        sign (:func:`tapeline.features.trending_regime.trending_regime` over ``window`` bars).
    sideways:
        What is permitted between the thresholds.
    unknown:
        What is permitted while the measure is not known yet.
    """

    method: Literal["slope", "distance", "cross", "trending"] = "cross"
    window: Bars = 50
    fast: Bars = 10
    threshold: Annotated[float, Field(ge=0, le=1_000)] = 0.0
    sideways: Sides = "both"
    unknown: Sides = "none"


class RegimeRule(_Rule):
    """Sides by the name of the regime.

    Parameters
    ----------
    method:
        ``hidden_markov`` and ``mixture`` name ``bull``, ``bear`` and ``turbulent``
        (:mod:`tapeline.features.market_regime`), ``trending`` names ``trending up``, ``trending down`` and
        ``sideways``; ``given``: names that come with the call.
    permitted:
        By name.
    otherwise:
        Of names that are not among them, and while there is none.
    """

    method: Literal["given", "hidden_markov", "mixture", "trending"] = "hidden_markov"
    permitted: dict[str, Sides] = {"bull": "long", "bear": "short", "turbulent": "none"}
    otherwise: Sides = "none"


class NewsRule(_Rule):
    """Nothing may be entered at a close that lies so near an event of the symbol or of its currencies.

    What was known of the calendar at that close counts: a schedule before it, news from when they came out, a
    cancelled event no longer (:func:`tapeline.features.event_mapper.map_events`).
    """

    before_minutes: Annotated[float, Field(ge=0, le=10_080)] = 60.0
    after_minutes: Annotated[float, Field(ge=0, le=10_080)] = 30.0
    minimum_importance: Literal[1, 2, 3] = 3


class DirectionRules(_Rule):
    """The rules that are asked; ``higher`` is a trend rule for the bars of a longer timeframe."""

    trend: TrendRule | None = None
    regime: RegimeRule | None = None
    higher: TrendRule | None = None
    news: NewsRule | None = None


def permitted_directions(
    bars: pd.DataFrame,
    rules: DirectionRules,
    *,
    symbol: str | None = None,
    timeframe: Timeframe | str | None = None,
    regime: pd.Series | None = None,
    higher: pd.DataFrame | None = None,
    calendar: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The sides that may be entered at each bar's close.

    Parameters
    ----------
    bars:
        Index ``ts``, with ``close_ts``.
    symbol, timeframe, calendar:
        For the rule on news: whose bars these are, and the statements of
        :func:`tapeline.features.event_calendar.parse_calendar`.
    regime:
        For ``given``: the regime's name by bar, as known at its close.
    higher:
        Bars of the longer timeframe with ``close_ts``, and ``known_at`` where they came later. Each is seen from then
        on and not before: one that is still open never.

    Returns
    -------
    On the bars' index: ``long`` and ``short`` (whether it may be entered), ``reason_long`` and ``reason_short`` (the
    rule that forbids it, else None), and what the rules saw: ``trend``, ``higher``, ``regime``, ``news``.

    Raises
    ------
    ConfigurationError
        A rule is asked and what it needs is not given.
    DataError
        ``regime`` is not on the index of the bars.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 11, 12, 13, 12, 10, 8)
    >>> rules = DirectionRules(trend=TrendRule(method="slope", window=3))
    >>> permitted_directions(bars, rules)[["long", "short", "reason_short"]].iloc[[0, 3, 6]].values.tolist()
    [[False, False, 'trend'], [True, False, 'trend'], [False, True, None]]
    """
    seen: dict[str, Any] = {"trend": math.nan, "higher": math.nan, "regime": None, "news": False}
    verdicts: dict[str, tuple[Flags, Flags]] = {}
    if rules.trend is not None:
        seen["trend"] = trend_measure(bars, rules.trend)
        verdicts["trend"] = _by_trend(seen["trend"], rules.trend)
    if rules.regime is not None:
        seen["regime"] = _regime(bars, rules.regime, regime)
        sides = [rules.regime.permitted.get(name, rules.regime.otherwise) for name in seen["regime"]]
        verdicts["regime"] = _flags(np.array(sides, dtype=object))
    if rules.higher is not None:
        if higher is None:
            raise ConfigurationError("the rule on the higher timeframe is asked without its bars", hint="pass higher=")
        seen["higher"] = _higher(bars, higher, rules.higher)
        verdicts["higher"] = _by_trend(seen["higher"], rules.higher)
    if rules.news is not None:
        if calendar is None or symbol is None or timeframe is None:
            raise ConfigurationError("the rule on news needs calendar, symbol and timeframe")
        seen["news"] = _news(bars, rules.news, calendar, symbol, Timeframe.parse(timeframe))
        verdicts["news"] = ~seen["news"], ~seen["news"]
    result: dict[str, Any] = {}
    for place, side in enumerate(("long", "short")):
        reason = np.full(len(bars), None, dtype=object)
        for name in reversed(RULES):
            if name in verdicts:
                reason[~verdicts[name][place]] = name
        result[side] = reason == None  # noqa: E711 - by element
        result[f"reason_{side}"] = pd.Series(reason, index=bars.index, dtype=object)
    frame = pd.DataFrame(result, index=bars.index)[["long", "short", "reason_long", "reason_short"]]
    return frame.assign(
        **{name: pd.Series(seen[name], index=bars.index) for name in ("trend", "higher", "regime", "news")}
    )


def filter_directions(signals: pd.DataFrame, directions: pd.DataFrame) -> pd.DataFrame:
    """Judge signals on one symbol by the sides that their bar permits; none is lost.

    Parameters
    ----------
    signals:
        ``ts`` and ``side``; ``accepted`` and ``reason`` where they were judged before: a refused one stays so.
    directions:
        Of :func:`permitted_directions`.

    Returns
    -------
    The signals with ``accepted`` and ``reason``: ``direction_`` and the rule's name, ``direction_unknown`` where there
    is no such bar. A signal without a side is never refused.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=1, tz="UTC", name="ts")
    >>> directions = pd.DataFrame({"long": True, "short": False, "reason_long": None, "reason_short": "news"}, index=ts)
    >>> filter_directions(pd.DataFrame({"ts": ts[[0, 0]], "side": [1, -1]}), directions)["reason"].tolist()
    [None, 'direction_news']
    """
    absent = [name for name in ("ts", "side") if name not in signals.columns]
    if absent:
        raise DataError(f"signals lack the columns {absent}")
    place = pd.DatetimeIndex(directions.index).get_indexer(pd.DatetimeIndex(signals["ts"]))
    side = signals["side"].to_numpy(dtype=np.float64)
    rules = np.append(directions["reason_long"].to_numpy(dtype=object), "unknown")[place]
    short = np.append(directions["reason_short"].to_numpy(dtype=object), "unknown")[place]
    rules[side < 0] = short[side < 0]
    rules[side == 0] = None
    told = [None if rule is None else f"direction_{rule}" for rule in rules]
    if "reason" in signals.columns:
        told = [new if old is None or old != old else old for old, new in zip(signals["reason"], told, strict=True)]
    reason = pd.Series(told, index=signals.index, dtype=object)
    return signals.assign(accepted=reason.isna(), reason=reason)


def trend_measure(bars: pd.DataFrame, rule: TrendRule) -> NDArray[np.float64]:
    """What a trend rule looks at, by bar; NaN where it is not known yet."""
    found: Any
    if rule.method == "slope":
        found = regression(bars, window=rule.window).iloc[:, 0]
    elif rule.method == "distance":
        found = sma_distance(bars, window=rule.window)
    elif rule.method == "cross":
        if rule.fast >= rule.window:
            raise ConfigurationError(f"fast = {rule.fast} is not below window = {rule.window}")
        found = ema_cross(bars, fast=rule.fast, slow=rule.window)
    else:
        found = trending_regime(bars, span=rule.window)["trending_direction"]
    return np.asarray(found, dtype=np.float64)


def _by_trend(measure: NDArray[np.float64], rule: TrendRule) -> tuple[Flags, Flags]:
    sides = np.full(measure.size, rule.sideways, dtype=object)
    sides[measure > rule.threshold], sides[measure < -rule.threshold] = "long", "short"
    sides[np.isnan(measure)] = rule.unknown
    return _flags(sides)


def _regime(bars: pd.DataFrame, rule: RegimeRule, given: pd.Series | None) -> list[str | None]:
    if rule.method != "given":
        named = {
            "hidden_markov": lambda: name_regimes(hidden_markov_regime(bars)),
            "mixture": lambda: name_regimes(mixture_regime(bars)),
            "trending": lambda: name_trend(trending_regime(bars)),
        }[rule.method]()
    elif given is None:
        raise ConfigurationError("the rule on a given regime is asked without one", hint="pass regime=")
    elif not given.index.equals(bars.index):
        raise DataError("the regime is not on the index of the bars")
    else:
        named = given
    return [name if isinstance(name, str) else None for name in named]


def _higher(bars: pd.DataFrame, higher: pd.DataFrame, rule: TrendRule) -> NDArray[np.float64]:
    known = pd.DatetimeIndex(higher["close_ts"])
    if "known_at" in higher.columns:
        arrived = pd.DatetimeIndex(higher["known_at"])
        known = known.where(known >= arrived, arrived)
    measured = pd.DataFrame({"higher": trend_measure(higher, rule)})
    joined = asof_join(pd.DataFrame(index=bars.index), measured, at=pd.DatetimeIndex(bars["close_ts"]), known_at=known)
    return joined["higher"].to_numpy(dtype=np.float64)


def _news(bars: pd.DataFrame, rule: NewsRule, calendar: pd.DataFrame, symbol: str, timeframe: Timeframe) -> Flags:
    mapped = map_events(
        bars[[]],
        calendar,
        symbol,
        timeframe,
        before=timedelta(minutes=rule.before_minutes),
        after=timedelta(minutes=rule.after_minutes),
        minimum_importance=rule.minimum_importance,
    )
    return np.asarray(bars.index.isin(pd.DatetimeIndex(mapped["ts"])), dtype=bool)


def _flags(sides: NDArray[np.object_]) -> tuple[Flags, Flags]:
    return np.isin(sides, ["both", "long"]), np.isin(sides, ["both", "short"])
