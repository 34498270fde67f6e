"""The gap table: where bars are absent, how many were due there, and why as far as the evidence goes.

A gap is information. Nothing is filled in here: whoever wants filled bars states a policy
(:mod:`tapeline.cleaning.missing`), and the filled rows say that they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.timeframe import Timeframe
from tapeline.quality.calendars import MarketCalendar

if TYPE_CHECKING:
    from tapeline.core.symbol import Symbol
    from tapeline.lake.lake import Lake

GapReason = Literal["market_closed", "not_downloaded", "outage", "no_trade", "unknown"]
REASONS: Final[tuple[GapReason, ...]] = ("market_closed", "not_downloaded", "outage", "no_trade", "unknown")
COLUMNS: Final = ("start", "end", "missing_bars", "open_time", "reason", "evidence")
INGEST: Final = "ingest"
"""The stage under which the lineage of raw bars names their download."""


def find_gaps(
    index: pd.DatetimeIndex,
    timeframe: Timeframe | str,
    calendar: MarketCalendar,
    *,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
    coverage: pd.DataFrame | None = None,
    outages: pd.DataFrame | None = None,
    peers: pd.DatetimeIndex | None = None,
    omits_empty: bool = False,
) -> pd.DataFrame:
    """Every hole between stored bars, with its reason.

    The reasons, the first that holds:

    ``market_closed``
        No bar was due in the hole by the calendar.
    ``not_downloaded``
        Part of the hole's trading time lies outside what was downloaded. Judged only where ``coverage`` is given.
    ``outage``
        A known outage of the feed touches the hole's trading time, or ``peers`` are given and none of them has a bar
        there either: the source was silent about everything.
    ``no_trade``
        The range was downloaded (``coverage``) and either the source leaves out bars without a trade (``omits_empty``),
        or other instruments of the same source (``peers``) have bars there.
    ``unknown``
        The market was open and nothing else is known.

    Parameters
    ----------
    index:
        The open times of the stored bars, sorted and unique.
    timeframe, calendar:
        Their length, and when their market trades.
    start, end:
        Count what is absent from ``start`` to the first bar and from the last bar to ``end`` as well.
    coverage, outages:
        Columns ``start`` and ``end`` (instants, half-open): what was asked for and answered, such as
        :func:`lineage_coverage` gives; when the feed is known to have been down.
    peers:
        Open times of the bars that the same source served for other instruments of the same calendar and timeframe.
    omits_empty:
        True where the source is known to serve no bar for an interval without a trade, as exchanges' candles often do.

    Returns
    -------
    One row a hole: ``start`` (the close of the bar before), ``end`` (the open of the bar after), ``missing_bars`` due
    in between, ``open_time`` the trading time in between, ``reason`` and ``evidence`` in words.

    Raises
    ------
    DataError
        The times are not sorted and unique, or have no time zone.
    ConfigurationError
        A table of spans lacks its columns.

    Examples
    --------
    >>> hours = pd.DatetimeIndex(["2017-01-06 20:00", "2017-01-06 21:00", "2017-01-08 22:00", "2017-01-09 01:00"])
    >>> gaps = find_gaps(hours.tz_localize("UTC"), "H1", MarketCalendar.parse("24x5"))
    >>> gaps[["missing_bars", "reason"]].values.tolist()
    [[0, 'market_closed'], [2, 'unknown']]
    """
    timeframe = Timeframe.parse(timeframe)
    starts, ends = _holes(index, timeframe, start, end)
    missing = calendar.due_bars(starts, ends, timeframe)
    traded = calendar.open_time(starts, ends)
    closed = missing == 0
    evidence = np.full(len(starts), f"the calendar {calendar.name} and no other evidence", dtype=object)
    reason = np.full(len(starts), "unknown", dtype=object)

    covered = np.zeros(len(starts), dtype=bool)
    if coverage is not None:
        covered = _overlap(calendar, starts, ends, coverage) == traded
    beside = _has_any(peers, starts, ends) if peers is not None else np.zeros(len(starts), dtype=bool)
    quiet = covered & (beside | omits_empty)
    _say(reason, evidence, quiet & beside, "no_trade", "downloaded; other instruments of the source have bars there")
    _say(reason, evidence, quiet & ~beside, "no_trade", "downloaded; the source leaves out bars without a trade")
    if peers is not None:
        _say(reason, evidence, ~beside & ~quiet, "outage", "no other instrument of the source has a bar there either")
    if outages is not None:
        down = _overlap(calendar, starts, ends, outages) > 0
        _say(reason, evidence, down, "outage", "the feed is known to have been down")
    if coverage is not None:
        _say(reason, evidence, ~covered, "not_downloaded", "not, or not wholly, within what was downloaded")
    _say(reason, evidence, closed, "market_closed", f"no bar was due by the calendar {calendar.name}")
    return pd.DataFrame(
        {
            "start": _instants(starts),
            "end": _instants(ends),
            "missing_bars": missing,
            "open_time": traded.view("m8[ns]"),
            "reason": pd.Categorical(reason, categories=list(REASONS)),
            "evidence": pd.array(evidence, dtype="str"),
        },
        columns=list(COLUMNS),
    )


def summarize(gaps: pd.DataFrame) -> pd.DataFrame:
    """The gap table by reason: ``gaps``, ``missing_bars`` and ``open_time``; every reason has its row.

    Examples
    --------
    >>> hours = pd.DatetimeIndex(["2017-01-06 21:00", "2017-01-08 22:00"]).tz_localize("UTC")
    >>> summarize(find_gaps(hours, "H1", MarketCalendar.parse("24x5")))["gaps"].to_dict()["market_closed"]
    1
    """
    grouped = gaps.groupby("reason", observed=False)
    return grouped.agg(
        gaps=("missing_bars", "size"), missing_bars=("missing_bars", "sum"), open_time=("open_time", "sum")
    )


def lineage_coverage(lake: Lake, symbol: Symbol, timeframe: Timeframe) -> pd.DataFrame:
    """What was downloaded of a series, as far as the lineage of its raw bars proves it.

    A download asks for one unbroken range. Where a period of the raw zone was made by one download alone, everything
    between its first and its last bar was therefore asked for; and where that download also made the neighbouring
    period, what lies between the two. Periods to which several downloads added prove nothing and are left out.

    Returns
    -------
    ``start``, ``end`` and ``run_id``: from the open of the first bar to the close of the last one.
    """
    from tapeline.core.schemas import RAW_BARS

    makers: dict[str, set[str]] = {}
    for change in lake.lineage(RAW_BARS, symbol, timeframe):
        makers.setdefault(change.period, set()).add(
            change.lineage.run_id if change.lineage.stage == INGEST else f"{change.lineage.stage} {len(makers)}"
        )
    stamps = pd.DatetimeIndex(lake.read(RAW_BARS, symbol, timeframe, columns=["close"]).index)
    spans: list[tuple[pd.Timestamp, pd.Timestamp, str]] = []
    for period in sorted(makers):
        runs = makers[period]
        span = pd.Period(period, freq=_LENGTHS[len(period)])
        first, last = stamps.searchsorted(
            [span.start_time.tz_localize("UTC"), (span + 1).start_time.tz_localize("UTC")]
        )
        held = stamps[first:last]
        if len(runs) != 1 or not len(held):
            continue
        run = next(iter(runs))
        if spans and spans[-1][2] == run and not _between(stamps, spans[-1][1], held[0], timeframe):
            spans[-1] = (spans[-1][0], timeframe.close(held[-1]), run)
        else:
            spans.append((held[0], timeframe.close(held[-1]), run))
    starts, ends, runs_ = zip(*spans, strict=True) if spans else ((), (), ())
    return pd.DataFrame(
        {
            "start": pd.DatetimeIndex(starts, tz="UTC"),
            "end": pd.DatetimeIndex(ends, tz="UTC"),
            "run_id": pd.array(runs_, dtype="str"),
        }
    )


_LENGTHS: Final = {4: "Y", 7: "M", 10: "D"}
"""How long a period is, by the length of its name: a year, a month or a day."""


def _between(stamps: pd.DatetimeIndex, close: pd.Timestamp, opens: pd.Timestamp, timeframe: Timeframe) -> bool:
    """True where a bar of another download lies between two periods."""
    return bool(((stamps > close - timeframe.duration) & (stamps < opens)).any())


def _holes(
    index: pd.DatetimeIndex, timeframe: Timeframe, start: pd.Timestamp | None, end: pd.Timestamp | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        raise DataError("the open times have no time zone", hint="tz_localize('UTC')")
    stamps = index.as_unit("ns").asi8
    if (np.diff(stamps) <= 0).any():
        raise DataError("the open times are not sorted and unique", hint="split() of tapeline.quality.checks sorts")
    closes = stamps + timeframe.nanoseconds
    lead = np.array([] if start is None else [start.as_unit("ns").value], dtype=np.int64)
    tail = np.array([] if end is None else [end.as_unit("ns").value], dtype=np.int64)
    starts, ends = np.r_[lead, closes], np.r_[stamps, tail]
    if not lead.size:
        ends = ends[1:]
    if not tail.size:
        starts = starts[:-1]
    starts, ends = starts[: len(ends)], ends[: len(starts)]
    hole = ends > starts
    return starts[hole], ends[hole]


def _overlap(
    calendar: MarketCalendar, starts: NDArray[np.int64], ends: NDArray[np.int64], spans: pd.DataFrame
) -> NDArray[np.int64]:
    """Trading time in each hole that lies within the union of some spans."""
    total = np.zeros(len(starts), dtype=np.int64)
    for low, high in _union(spans):
        a, b = np.maximum(starts, low), np.minimum(ends, high)
        inside = np.flatnonzero(b > a)
        total[inside] += calendar.open_time(a[inside], b[inside])
    return total


def _union(spans: pd.DataFrame) -> Sequence[tuple[int, int]]:
    if not {"start", "end"} <= set(spans.columns):
        raise ConfigurationError(f"spans have the columns {list(spans.columns)}, expected start and end")
    pairs = zip(*(pd.DatetimeIndex(spans[name]).as_unit("ns").asi8.tolist() for name in ("start", "end")), strict=True)
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pairs):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _has_any(peers: pd.DatetimeIndex, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    held = np.sort(peers.as_unit("ns").asi8)
    return np.asarray(np.searchsorted(held, starts) < np.searchsorted(held, ends))


def _say(
    reason: NDArray[np.object_], evidence: NDArray[np.object_], where: NDArray[np.bool_], why: GapReason, how: str
) -> None:
    reason[where] = why
    evidence[where] = how


def _instants(stamps: NDArray[np.int64]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(stamps.view("M8[ns]")).tz_localize("UTC")
