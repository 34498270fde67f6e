"""The impact of events, expected and realised, in units of what price normally moves at that time of day.

Intraday volatility has a daily pattern (Andersen and Bollerslev, Journal of Empirical Finance 4, 1997), so that the
same move is much at three in the morning and nothing at a market's opening: a move is measured against its own hour.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import feature
from tapeline.core.timeframe import Timeframe
from tapeline.features.arrays import Count, Floats, Window, columns, ratio, series
from tapeline.features.event_calendar import touching

NORMAL_MEDIAN: Final = 0.6744897501960817
"""Median size of a standard normal number: a median move over it is a standard deviation that spikes leave alone."""

NORMAL_IMPACT: Final = NORMAL_MEDIAN
"""Median impact of nothing at all: where no event of any kind is on record, this is what is expected."""

FEWEST: Final = 5
"""Earlier moves of a time of day below which nothing is normal there."""

_DAY: Final = 86_400_000_000_000


@feature(
    lookback=lambda longest: longest + 2,
    outputs="relative_move_{days}",
    reference="Andersen and Bollerslev, Journal of Empirical Finance 4 (1997): intraday periodicity of volatility; "
    "the median as in Boudt, Croux and Laurent, Journal of Empirical Finance 18 (2011)",
)
def relative_move(
    bars: pd.DataFrame, days: Annotated[int, Field(ge=5, le=500)] = 20, longest: Window = 480
) -> pd.Series:
    """The bar's return in standard deviations of what is normal at its time of day; signed.

    Normal is the median size of the last ``days`` returns of bars that opened at the same time of day (UTC), of those
    within the last ``longest`` bars, this bar left out, over 0.6745. NaN below five of them, and where the median is 0.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[100, 101] * 6, 100, 102, hours=12)
    >>> relative_move(bars, days=5, longest=12).round(2).tail(2).tolist()
    [-0.67, 1.34]
    """
    (close,) = columns(bars, "close")
    moves = _returns(close)
    return series(bars, ratio(moves, normal_move(moves, _time_of_day(bars), days, longest)))


@njit(cache=True, nogil=True)
def normal_move(moves: Floats, slots: NDArray[np.int64], days: int, longest: int) -> Floats:
    """Standard deviation of the moves of a time of day, from the median size of its last ``days`` ones before.

    Only moves among the ``longest`` rows before count; NaN where there are fewer than five.

    Examples
    --------
    >>> normal_move(np.array([1.0, 1, 1, 1, 1, 9]), np.zeros(6, dtype=np.int64), 5, 5)[-1].round(3).item()
    1.483
    """
    result = np.full(moves.size, np.nan)
    # For each row the row before it of the same time of day.
    newest = np.full(slots.max() + 1 if slots.size else 1, -1)
    earlier = np.full(moves.size, -1)
    sizes = np.empty(days)
    for i in range(moves.size):
        earlier[i] = newest[slots[i]]
        newest[slots[i]] = i
        count, j = 0, earlier[i]
        while j >= 0 and i - j <= longest and count < days:
            if not np.isnan(moves[j]):
                sizes[count] = abs(moves[j])
                count += 1
            j = earlier[j]
        if count >= FEWEST:
            result[i] = np.median(sizes[:count]) / NORMAL_MEDIAN
    return result


def event_impact(
    bars: pd.DataFrame,
    calendar: pd.DataFrame,
    symbol: str,
    timeframe: Timeframe,
    *,
    horizon: Count = 4,
    days: int = 20,
    shrinkage: float = 4.0,
    sectors: Collection[str] = (),
) -> pd.DataFrame:
    """The expected and the realised impact of each event that touches a symbol.

    Realised is the size of the return from the last close at or before the event to the close of the ``horizon``-th
    bar after it, over what is normal for those bars' times of day (the root of their summed squares). It is known at
    that last close and stands in ``realised_at``; nothing before may read it.

    Expected is the median realised impact of earlier events of the same ``kind``, known when this one came, drawn to
    the median of all kinds by ``shrinkage``: with ``n`` earlier ones its weight is ``n / (n + shrinkage)``. With no
    event on record it is 0.6745, the median of a move of no consequence.

    Parameters
    ----------
    bars:
        With ``close``, sorted.
    calendar:
        Statements, as :func:`tapeline.features.event_calendar.parse_calendar` returns them.
    horizon:
        Bars over which an event works.
    days:
        How many earlier days tell what is normal, 5 at least.
    shrinkage:
        Events of one kind that weigh as much as the record of all kinds; 0 or more.
    sectors:
        Sectors that the symbol belongs to.

    Returns
    -------
    One row an event, by its instant: ``id, kind, importance, event_at`` (of its first publication, or its schedule
    while it is not out), ``move`` (log return), ``normal`` (its standard deviation), ``realised``, ``realised_at``,
    ``expected`` (from what was known at ``event_at``), ``earlier`` (events of its kind behind it). Without bars around
    it, or while the horizon lies ahead, ``move``, ``normal`` and ``realised`` are NaN and ``realised_at`` is NaT.

    Raises
    ------
    ConfigurationError
        A horizon below 1, fewer than 5 days, or a negative shrinkage.

    Examples
    --------
    >>> from tapeline.features.event_calendar import parse_calendar
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[100, 101] * 6, 100, 104, hours=12)
    >>> out = bars.index[-1]
    >>> calendar = parse_calendar(pd.DataFrame({
    ...     "id": ["a"], "known_at": [out], "published_at": [out], "status": ["released"], "kind": ["cpi"],
    ...     "touches": [["currency:USD"]], "importance": [3], "source": ["bls"]}))
    >>> event_impact(bars, calendar, "EURUSD", Timeframe.parse("H12"), horizon=1)[["realised", "expected"]].round(2)
       realised  expected
    0      2.66      0.67
    """
    if horizon < 1:
        raise ConfigurationError(f"horizon = {horizon} must be at least 1 bar")
    if days < FEWEST:
        raise ConfigurationError(f"days = {days} must be at least {FEWEST}")
    if not 0 <= shrinkage < np.inf:
        raise ConfigurationError(f"shrinkage = {shrinkage} must be 0 or more and finite")
    (close,) = columns(bars, "close")
    events = _occurrences(touching(calendar, symbol, sectors))
    moves = _returns(close)
    normal = normal_move(moves, _time_of_day(bars), days, len(bars))
    closes = timeframe.closes(pd.DatetimeIndex(bars.index)).as_unit("ns").asi8
    stamps = pd.DatetimeIndex(events["event_at"]).as_unit("ns").asi8
    # The last bar closed at or before the event; the next one is the first that the event can move.
    row = np.searchsorted(closes, stamps, side="right") - 1
    last = row + horizon
    measured = (row >= 0) & (last < close.size)
    # A market that was closed around the event says nothing of its hour: more than a day to the horizon's end.
    limit = _DAY + horizon * timeframe.nanoseconds
    measured &= (closes[np.minimum(last, close.size - 1)] - stamps <= limit) if close.size else False
    start, end = np.where(measured, row, 0), np.where(measured, last, 0)
    squares = np.concatenate(([0.0], np.cumsum(np.nan_to_num(normal) ** 2)))
    gaps = np.concatenate(([0], np.cumsum(np.isnan(normal))))
    if close.size:
        move = np.where(measured, np.log(close[end]) - np.log(close[start]), np.nan)
        whole = measured & (gaps[end + 1] == gaps[start + 1])
        usual = np.where(whole, np.sqrt(np.maximum(squares[end + 1] - squares[start + 1], 0.0)), np.nan)
        known = np.where(measured, closes[end], np.iinfo(np.int64).min)
    else:
        move = usual = np.full(stamps.size, np.nan)
        known = np.full(stamps.size, np.iinfo(np.int64).min)
    realised = ratio(np.abs(move), usual)
    expected, earlier = _expected(events["kind"].to_numpy(), stamps, realised, known, shrinkage)
    return events.assign(
        move=move,
        normal=usual,
        realised=realised,
        realised_at=pd.DatetimeIndex(known, tz="UTC"),
        expected=expected,
        earlier=earlier,
    )


def _occurrences(statements: pd.DataFrame) -> pd.DataFrame:
    """One row an event: where it first came out, else where its newest schedule puts it; cancelled ones left out."""
    newest = statements.drop_duplicates("id", keep="last").set_index("id")
    first = statements[statements["published_at"].notna()].drop_duplicates("id").set_index("id")["published_at"]
    newest = newest[(newest["status"] != "cancelled")]
    event_at = first.reindex(newest.index).fillna(newest["scheduled_at"])
    result = newest.assign(event_at=event_at)[["kind", "importance", "event_at"]].dropna(subset="event_at")
    return result.reset_index().sort_values(["event_at", "id"]).reset_index(drop=True)


def _expected(
    kinds: NDArray[np.object_], stamps: NDArray[np.int64], realised: Floats, known: NDArray[np.int64], shrinkage: float
) -> tuple[Floats, NDArray[np.int64]]:
    expected = np.full(stamps.size, NORMAL_IMPACT)
    counts = np.zeros(stamps.size, dtype=np.int64)
    usable = ~np.isnan(realised)
    # Once an event; the record before it is small, and each part of it a call into C.
    for number in range(stamps.size):
        before = usable & (known <= stamps[number])
        same = before & (kinds == kinds[number])
        counts[number] = np.count_nonzero(same)
        if before.any():
            overall = float(np.median(realised[before]))
            weight = counts[number] / (counts[number] + shrinkage) if counts[number] else 0.0
            own = float(np.median(realised[same])) if counts[number] else 0.0
            expected[number] = weight * own + (1.0 - weight) * overall
    return expected, counts


def _returns(close: Floats) -> Floats:
    """Log return of each close on the one before; NaN first."""
    result = np.full(close.size, np.nan)
    if close.size > 1:
        result[1:] = np.log(ratio(close[1:], close[:-1]))
    return result


def _time_of_day(bars: pd.DataFrame) -> NDArray[np.int64]:
    """A number for each time of day at which a bar opens, from 0."""
    stamps = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    return np.unique(stamps % _DAY, return_inverse=True)[1].astype(np.int64)
