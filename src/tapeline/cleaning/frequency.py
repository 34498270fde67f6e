"""Frequency: bars of one timeframe as bars of another, by the UTC grid or by a market's sessions.

Towards coarser bars nothing is lost: they are those of building from the source. Towards finer ones nothing is gained:
each finer bar repeats what was known, the last closed coarser bar, and says so.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from tapeline.candles.resample import resample
from tapeline.cleaning.absent_bars import due_between
from tapeline.core.errors import ConfigurationError, DataError, SchemaError
from tapeline.core.pit import join_timeframe
from tapeline.core.schemas import OHLCV
from tapeline.core.timeframe import Timeframe
from tapeline.quality.calendars import ALWAYS, MarketCalendar

MONTH: Final = "MN1"
"""Calendar months, which have no fixed length and hence no :class:`~tapeline.core.timeframe.Timeframe`."""

_DAY: Final = Timeframe.parse("D1").nanoseconds
_SUMMED: Final = ("volume", "tick_count", "quote_volume", "taker_buy_volume", "buy_volume")
_OPTIONAL: Final = ("spread", "spread_close", "tick_count", "buy_volume", "vwap")
_MAXIMUM_ROWS: Final = 5_000_000


def convert_frequency(
    bars: pd.DataFrame,
    timeframe: Timeframe | str,
    wanted: Timeframe | str,
    *,
    calendar: MarketCalendar | None = None,
    now: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Bars of one timeframe as bars of another: :func:`to_coarser` or :func:`to_finer`, whichever it takes.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="30min", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 1.0, "high": 2.0, "low": 1.0, "close": [1.0, 1.5, 2.0, 1.2], "volume": 3.0},
    ...                     index=ts)
    >>> convert_frequency(bars, "M30", "H1")[["close", "volume"]].values.tolist()
    [[1.5, 6.0], [1.2, 6.0]]
    >>> convert_frequency(bars, "M30", "M15")["close"].tolist()
    [1.0, 1.0, 1.5, 1.5, 2.0, 2.0, 1.2]
    """
    length = Timeframe.parse(timeframe)
    if wanted == MONTH or Timeframe.parse(wanted) > length:
        return to_coarser(bars, length, wanted, calendar=calendar, now=now)
    target = Timeframe.parse(wanted)
    if target == length:
        return bars
    return to_finer(bars, length, target, calendar=calendar, now=now)


def to_coarser(
    bars: pd.DataFrame,
    timeframe: Timeframe | str,
    wanted: Timeframe | str,
    *,
    calendar: MarketCalendar | None = None,
    now: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Join bars into coarser ones, the closed ones only.

    Parameters
    ----------
    bars:
        Sorted bars on ``ts`` with ``open high low close volume``.
    timeframe, wanted:
        The bars' own and the wanted one, or :data:`MONTH`. On the UTC grid the first must divide the second.
    calendar:
        For days and longer: the sessions to follow. A day is then one session, from its open to its close, under the
        date (00:00 UTC) of the UTC day that holds its middle; weeks and months are whole sessions by that date. A bar
        that touches a session belongs to it; others, such as trades before the opening, are left out. None, or
        ``24x7``: UTC days, weeks from Monday, calendar months.
    now:
        The clock. A coarser bar is complete when its close has passed by it or, without one, by the newest close among
        the bars; never because it comes last.

    Returns
    -------
    Bars on ``ts`` with ``close_ts``; by sessions also ``known_at``, the later of ``close_ts`` and the session's close.
    Prices, times and counts are those of building from the source; sums of volume up to rounding.

    Raises
    ------
    ConfigurationError
        The wanted timeframe is not longer, or a calendar was given for one below a day.
    SchemaError, DataError
        A column is missing; the bars are not sorted and unique; one reaches over the border of two coarser ones.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02 20:00", periods=6, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 1.0, "high": 2.0, "low": 1.0, "close": 2.0, "volume": 3.0}, index=ts)
    >>> to_coarser(bars, "H1", "D1")["volume"].tolist()
    [12.0]
    >>> by_session = to_coarser(bars, "H1", "D1", calendar=MarketCalendar.parse("24x5"),
    ...                         now=pd.Timestamp("2017-01-04", tz="UTC"))
    >>> by_session["volume"].tolist()  # Monday's session ends at 22:00 UTC
    [6.0, 12.0]
    """
    length = Timeframe.parse(timeframe)
    target = None if wanted == MONTH else Timeframe.parse(wanted)
    if target is not None and target <= length:
        raise ConfigurationError(f"{target} is not longer than {length}", hint="to_finer() goes the other way")
    sessions = calendar is not None and calendar.name != ALWAYS
    if target is not None and not sessions:
        # The stated timeframe decides, not a column close_ts; an optional column with holes cannot be joined exactly.
        partial = [name for name in _OPTIONAL if name in bars.columns and bars[name].isna().any()]
        held = bars.drop(columns=["close_ts", *partial], errors="ignore")
        return resample(held, target, bars_timeframe=length, now=now)
    if sessions and target is not None and target.nanoseconds < _DAY:
        raise ConfigurationError(f"{target} bars do not follow sessions", hint="name a calendar for D1 and longer only")
    stamps = _checked(bars)
    if not len(bars):
        nothing = np.empty(0, dtype=np.int64)
        return _joined(bars, 0, nothing, nothing, nothing, known=sessions)
    clock = int(stamps[-1]) + length.nanoseconds if now is None else _clock(now)
    if sessions:
        assert calendar is not None  # noqa: S101 - for the type checker
        days, ends = _session_days(stamps, length, calendar)
    else:
        days, ends = stamps // _DAY * _DAY, np.zeros(len(stamps), dtype=np.int64)
    opens, closes = _periods(days, target)
    used = days != _NONE
    return _joined(bars[used], clock, opens[used], closes[used], np.maximum(closes, ends)[used], known=sessions)


def to_finer(
    bars: pd.DataFrame,
    timeframe: Timeframe | str,
    wanted: Timeframe | str,
    *,
    at: pd.DatetimeIndex | None = None,
    calendar: MarketCalendar | None = None,
    now: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Repeat coarser bars on a finer clock: at each finer bar the last coarser one that had closed by its close.

    Parameters
    ----------
    at:
        Open times of the finer bars; where absent, every one from the first coarser close to the clock that the
        calendar says was due.
    calendar:
        When the market trades, for ``at``; ``24x7`` where absent.
    now:
        The clock, up to which ``at`` is made; the newest close among the bars where absent.

    Returns
    -------
    The columns of ``bars`` (``close_ts`` and ``known_at`` are the finer bar's own), ``repeated`` (always true: no
    finer price was observed), ``source_ts`` (the open of the coarser bar) and ``age`` (seconds since it was known).

    Raises
    ------
    ConfigurationError
        The wanted timeframe is not shorter.
    DataError
        The bars are not sorted and unique, or more than five million bars would be made.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02 09:00", "2017-01-02 10:00"], tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": 1.0, "high": 2.0, "low": 1.0, "close": [1.5, 1.7], "volume": 3.0}, index=ts)
    >>> finer = to_finer(bars, "H1", "M30")
    >>> finer[["close", "age"]].values.tolist()
    [[1.5, 0.0], [1.5, 1800.0], [1.7, 0.0]]
    """
    length, target = Timeframe.parse(timeframe), Timeframe.parse(wanted)
    if target >= length:
        raise ConfigurationError(f"{target} is not shorter than {length}", hint="to_coarser() goes the other way")
    stamps = _checked(bars)
    if at is None:
        at = _finer_clock(stamps, length, target, calendar or MarketCalendar.parse(ALWAYS), now)
    kept = bars.drop(columns="close_ts", errors="ignore").assign(source_ts=bars.index)
    finer = join_timeframe(pd.DataFrame(index=at), target, kept, length, age=True)
    finer = finer[finer["source_ts"].notna()]
    closes = target.closes(pd.DatetimeIndex(finer.index))
    return finer.assign(close_ts=closes, known_at=closes, repeated=True)


_NONE: Final = np.iinfo(np.int64).min


def _checked(bars: pd.DataFrame) -> np.ndarray:
    absent = [name for name in OHLCV if name not in bars.columns]
    if absent:
        raise SchemaError(f"the bars lack the columns {absent}")
    if not isinstance(bars.index, pd.DatetimeIndex) or bars.index.tz is None:
        raise DataError("the bars have no time-zone-aware index", hint="normalize_timestamps() gives one")
    stamps = bars.index.as_unit("ns").asi8
    if (np.diff(stamps) <= 0).any():
        raise DataError("the bars are not sorted and unique in time", hint="split() of tapeline.quality.checks sorts")
    return stamps


def _clock(now: pd.Timestamp) -> int:
    if now.tz is None:
        raise ConfigurationError(f"now ({now}) has no time zone", hint="pass pd.Timestamp.now('UTC')")
    return int(now.as_unit("ns").value)


def _session_days(stamps: np.ndarray, length: Timeframe, calendar: MarketCalendar) -> tuple[np.ndarray, np.ndarray]:
    """For each bar the UTC date of its session, or none, and the session's close."""
    held = calendar.sessions(
        pd.Timestamp(int(stamps[0]), tz="UTC"), pd.Timestamp(int(stamps[-1]) + length.nanoseconds, tz="UTC")
    )
    # A lunch break parts a session in two spans: each span belongs to the session whose middle is nearest.
    centre = (held.opens + held.closes) // 2
    after = np.clip(np.searchsorted(held.middles, centre), 1, max(len(held.middles) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(held.middles) - 1)
    nearer = np.abs(held.middles[after] - centre) < np.abs(centre - held.middles[before])
    owner = np.where(nearer, after, before)
    ends = np.zeros(len(held.middles), dtype=np.int64)
    np.maximum.at(ends, owner, held.closes)
    span = np.searchsorted(held.opens, stamps + length.nanoseconds, side="left") - 1
    touches = (span >= 0) & (held.closes[np.maximum(span, 0)] > stamps)
    session = owner[np.maximum(span, 0)]
    # A bar that a session ends in and another begins in belongs to the first: it opened there.
    first = np.searchsorted(held.closes, stamps, side="right")
    first = np.minimum(first, len(held.opens) - 1)
    session = np.where(held.opens[first] <= stamps, owner[first], session)
    days = held.middles[session] // _DAY * _DAY
    return np.where(touches, days, _NONE), np.where(touches, ends[session], 0)


def _periods(days: np.ndarray, target: Timeframe | None) -> tuple[np.ndarray, np.ndarray]:
    """Open and end (ns) of the day, week or month that holds each day."""
    safe = np.where(days == _NONE, 0, days)
    if target is None:
        months = safe.view("M8[ns]").astype("M8[M]")
        return months.astype("M8[ns]").astype(np.int64), (months + 1).astype("M8[ns]").astype(np.int64)
    index = pd.DatetimeIndex(safe.view("M8[ns]")).tz_localize("UTC")
    opens = target.floor(index).as_unit("ns").asi8
    return opens, opens + target.nanoseconds


def _joined(
    bars: pd.DataFrame,
    clock: int,
    opens: np.ndarray,
    closes: np.ndarray,
    ends: np.ndarray,
    *,
    known: bool,
) -> pd.DataFrame:
    starts = np.flatnonzero(np.r_[len(opens) > 0, np.diff(opens) != 0]) if len(opens) else np.empty(0, dtype=np.intp)
    last = np.r_[starts[1:] - 1, len(opens) - 1] if len(starts) else starts
    columns: dict[str, np.ndarray] = {}
    values = {name: bars[name].to_numpy() for name in bars.columns}
    for name in ("open", "high", "low", "close", *_SUMMED, "spread"):
        if name not in values:
            continue
        column = values[name]
        if name == "open":
            columns[name] = column[starts]
        elif name in ("close", "spread"):
            columns[name] = column[last]
        else:
            joined = {"high": np.maximum, "low": np.minimum}.get(name, np.add)
            columns[name] = joined.reduceat(column, starts) if len(starts) else column[:0]
    index = pd.DatetimeIndex(opens[starts].view("M8[ns]"), name="ts").tz_localize("UTC")
    out = pd.DataFrame(columns, index=index)
    out["close_ts"] = pd.DatetimeIndex(closes[starts].view("M8[ns]")).tz_localize("UTC")
    finished = np.maximum.reduceat(ends, starts) if len(starts) else ends[:0]
    if known:
        out["known_at"] = pd.DatetimeIndex(finished.view("M8[ns]")).tz_localize("UTC")
    return out[finished <= clock]


def _finer_clock(
    stamps: np.ndarray, length: Timeframe, target: Timeframe, calendar: MarketCalendar, now: pd.Timestamp | None
) -> pd.DatetimeIndex:
    if not len(stamps):
        return pd.DatetimeIndex([], tz="UTC", name="ts").as_unit("ns")
    step = target.nanoseconds
    first = int(stamps[0]) + length.nanoseconds - step
    end = int(stamps[-1]) + length.nanoseconds if now is None else _clock(now)
    rows = (end - first) // step
    if rows > _MAXIMUM_ROWS:
        raise DataError(f"{rows} bars of {target} would be made, more than {_MAXIMUM_ROWS}", hint="check the times")
    if rows < 1:
        return pd.DatetimeIndex([], tz="UTC", name="ts").as_unit("ns")
    # The clock's own end stands as a bar behind the last, so that what is due is looked for up to it.
    due = due_between(np.array([first - step, end], dtype=np.int64), target, calendar)
    due = due[due + step <= end]
    return pd.DatetimeIndex(due.view("M8[ns]"), name="ts").tz_localize("UTC")
