"""``x for N bars`` and ``x for 90s``: how long a comparison has held without a break, as a reading to compare."""

from __future__ import annotations

from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.engine.compiled import Condition
from tapeline.alerts.engine.layout import LONGEST, NO_TIMEFRAME, Indicator, Reading
from tapeline.alerts.operands import Combined, Truth, all_of, compare, opposite
from tapeline.core.errors import ConfigurationError


def held_for(truth: Truth, bars: int, nanoseconds: int, timeframe: int) -> Truth:
    """The condition, held for so many bars or so long.

    Parameters
    ----------
    bars, nanoseconds:
        One of them; the other is 0.
    timeframe:
        Nanoseconds of the bars where a comparison does not say itself of which it is.

    Raises
    ------
    ConfigurationError
        An ``or`` stands in it: it may hold without a break while neither of its parts does.

    Examples
    --------
    >>> close = (Indicator(kinds.CLOSE, 60_000_000_000), 0)
    >>> held = held_for(compare(close, ">", 100.0), 2, 0, 60_000_000_000)
    >>> held.threshold, held.left[0].kind == kinds.STREAK
    (2.0, True)
    """
    if isinstance(truth, Condition):
        return _lasting(truth, bars, nanoseconds, timeframe)
    if truth.operator == "not":
        return held_for(_turned(truth.parts[0]), bars, nanoseconds, timeframe)
    if truth.operator == "or":
        raise ConfigurationError("'for' cannot follow an 'or'", hint="write a 'for' after each part of the 'or'")
    return all_of(*(held_for(part, bars, nanoseconds, timeframe) for part in truth.parts))


def _turned(truth: Truth) -> Truth:
    """What holds where the truth is known not to."""
    if isinstance(truth, Condition):
        return opposite(truth)
    if truth.operator == "not":
        return truth.parts[0]
    return Combined("or" if truth.operator == "and" else "and", tuple(map(_turned, truth.parts)))


def _lasting(condition: Condition, bars: int, nanoseconds: int, timeframe: int) -> Condition:
    if condition.crossing:
        raise ConfigurationError("a crossing lasts no time, so it cannot hold 'for' one")
    n, left, right = condition.comparison, condition.left, condition.right
    factor = condition.threshold if right is None else 0.0
    if nanoseconds:
        since = Indicator(kinds.SINCE, n=n, factor=factor, left=left, right=right)
        return compare((since, 0), ">=", float(nanoseconds))
    if bars > LONGEST:
        raise ConfigurationError(f"'for {bars} bars' is above {LONGEST}", hint="hold it for a time, as in 'for 4h'")
    length = _timeframe_of(condition) or timeframe
    return compare((Indicator(kinds.STREAK, length, n=n, factor=factor, left=left, right=right), 0), ">=", float(bars))


def _timeframe_of(condition: Condition) -> int:
    """The one timeframe that all its readings are of; 0 where they are of several or of none."""
    found: set[int] = set()
    waiting = list(condition.readings())
    while waiting:
        indicator: Indicator = waiting.pop()[0]
        if indicator.timeframe != NO_TIMEFRAME:
            found.add(indicator.timeframe)
        sides: tuple[Reading | None, ...] = (indicator.left, indicator.right)
        waiting.extend(side for side in sides if side is not None)
    return found.pop() if len(found) == 1 else 0
