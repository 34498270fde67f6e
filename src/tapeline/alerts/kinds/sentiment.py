"""News sentiment alerts: the level of scored headlines, its change, and headlines of high impact.

The level is the mean of the scores, each weighing half as much for each half-life that has passed since it was known.
As all of them lose weight alike, it moves with headlines only, and each record says all that there is to know.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tapeline.alerts.catalogue import Built, Context, Function, Parameter, declared
from tapeline.alerts.external import External
from tapeline.alerts.operands import compare, external
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.nanoseconds import HOUR

LEVEL: Final = "sentiment:level"
CHANGE: Final = "sentiment:change"
IMPACT: Final = "sentiment:impact"


@dataclass(frozen=True, slots=True)
class Headline:
    """One scored headline.

    Parameters
    ----------
    ts:
        When it was known to us: nanoseconds since 1970 in UTC.
    symbols:
        Whom it is about.
    source, title:
        As published.
    score:
        From -1 (bad for the price) to 1 (good).
    impact:
        From 0 to 1: how much it is expected to matter.

    Raises
    ------
    DataError
        Score or impact is out of its bounds.
    """

    ts: int
    symbols: tuple[str, ...]
    source: str
    title: str
    score: float
    impact: float = 0.0

    def __post_init__(self) -> None:
        if not -1.0 <= self.score <= 1.0:
            raise DataError(f"score = {self.score} of a headline is not from -1 to 1")
        if not 0.0 <= self.impact <= 1.0:
            raise DataError(f"impact = {self.impact} of a headline is not from 0 to 1")


class SentimentFeed:
    """From headlines to the series that conditions read.

    Parameters
    ----------
    half_life, window:
        Nanoseconds: after which a headline weighs half; over which the change of the level is taken.

    Examples
    --------
    >>> feed = SentimentFeed(half_life=HOUR)
    >>> _ = feed.push(Headline(0, ("BTCUSDT",), "wire", "Up", 1.0))
    >>> found = feed.push(Headline(HOUR, ("BTCUSDT",), "wire", "Down", 0.0))
    >>> [(record.key, round(record.value, 3)) for record in found]
    [('sentiment:level', 0.333), ('sentiment:change', -0.667), ('sentiment:impact', 0.0)]
    """

    def __init__(self, *, half_life: int = 6 * HOUR, window: int = 24 * HOUR) -> None:
        if half_life <= 0 or window <= 0:
            raise ConfigurationError(f"half_life = {half_life} and window = {window} must be positive")
        self.half_life, self.window = half_life, window
        self._sums: dict[str, tuple[int, float, float]] = {}
        self._levels: dict[str, deque[tuple[int, float]]] = {}

    def push(self, headline: Headline) -> list[External]:
        """What a headline changes: for each of its symbols the level, its change, and the impact as an event.

        Raises
        ------
        DataError
            It is older than one that came before.
        """
        found = []
        for symbol in dict.fromkeys(headline.symbols):
            at, total, weight = self._sums.get(symbol, (headline.ts, 0.0, 0.0))
            if headline.ts < at:
                raise DataError(f"a headline of {symbol} is older than the one before it", hint="feed them by time")
            kept = math.exp2(-(headline.ts - at) / self.half_life)
            total, weight = total * kept + headline.score, weight * kept + 1.0
            self._sums[symbol] = headline.ts, total, weight
            level = total / weight
            found.append(External(headline.ts, symbol, LEVEL, level))
            found.append(External(headline.ts, symbol, CHANGE, level - self._before(symbol, headline.ts, level)))
            found.append(External(headline.ts, symbol, IMPACT, headline.impact, event=True))
        return found

    def _before(self, symbol: str, ts: int, level: float) -> float:
        """The level that stood a window ago; the oldest one that is known where there was none yet."""
        levels = self._levels.setdefault(symbol, deque())
        levels.append((ts, level))
        while len(levels) > 1 and levels[1][0] <= ts - self.window:
            levels.popleft()
        return levels[0][1]


def _news(given: Mapping[str, Any], context: Context) -> Built:
    return compare(external(IMPACT), ">=", given["least"])


FUNCTIONS: Final = declared(
    Function(
        "sentiment",
        (),
        lambda given, _: external(LEVEL),
        "The mean score of headlines, newer ones weighing more: -1 to 1.",
        "crosses_down(sentiment, -0.5)",
    ),
    Function(
        "sentiment_change",
        (),
        lambda given, _: external(CHANGE),
        "The sentiment less what it was a day before.",
        "sentiment_change < -0.4",
    ),
    Function(
        "high_impact_news",
        (Parameter("least", "number", 0.7, 0.0, 1.0, description="impact"),),
        _news,
        "A headline of at least this impact has come.",
        "high_impact_news(0.8)",
        event=True,
    ),
)
RANGES: Final = {LEVEL: (-1.0, 1.0), CHANGE: (-2.0, 2.0), IMPACT: (0.0, 1.0)}
