"""The quality score: how good a day's bars are, as one number with its parts, and the bars that cost it.

Each part is a share from 0 to 1 of counted rows, so that a score can be taken apart down to the bar. A market that was
closed owes nothing; what cannot be measured is left out rather than guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import OHLCV, QUALITY
from tapeline.core.timeframe import Timeframe
from tapeline.quality.anomalies import find_anomalies
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.checks import STRUCTURAL, VALUES, Reason, check_bars
from tapeline.quality.gaps import find_gaps

PARTS: Final = ("completeness", "validity", "uniqueness", "timeliness", "consistency")
WEIGHTS: Final[Mapping[str, float]] = {
    "completeness": 0.30, "validity": 0.25, "uniqueness": 0.10, "timeliness": 0.15, "consistency": 0.20,
}  # fmt: skip
"""What each part counts in the score; the weights of parts that were not measured are shared by the others."""
ALLOWANCE: Final = pd.Timedelta(minutes=5)
"""A bar is on time that was known so soon after its close; or within one bar's length, where that is shorter."""
UNUSUAL: Final = ("frozen_price", "gap", "robust_zscore", "spike_and_return")
"""The methods of :mod:`tapeline.quality.anomalies` whose findings make a bar inconsistent with those around it."""
FAULT_COLUMNS: Final = ("ts", "day", "part", "reason", "rows", "cost", "detail")

_DAY: Final = 86_400_000_000_000
_ORDER: Final = Reason.HIGH_BELOW_LOW | Reason.OPEN_OUTSIDE | Reason.CLOSE_OUTSIDE
_REPEATED: Final = ("duplicate_time", "conflicting_time")
_NEVER_STORED: Final = tuple(reason.code for reason in Reason if reason & STRUCTURAL and reason.code not in _REPEATED)


@dataclass(frozen=True)
class DailyScores:
    """Scores by day, and every fault behind them.

    Parameters
    ----------
    days:
        Rows of ``audit/quality``: ``ts`` (the day's start), ``end``, ``score``, the parts, and their counts.
    faults:
        One row a bar and reason: ``ts``, ``day``, ``part``, ``reason``, ``rows`` it counts for, ``cost`` (what it takes
        off the day's score) and ``detail`` in words. The costs of a day add up to 1 less its score.
    """

    days: pd.DataFrame
    faults: pd.DataFrame


def score_days(
    bars: pd.DataFrame,
    timeframe: Timeframe | str,
    calendar: MarketCalendar,
    *,
    refused: pd.DataFrame | None = None,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
    weights: Mapping[str, float] | None = None,
    allowance: pd.Timedelta = ALLOWANCE,
) -> DailyScores:
    """Score every UTC day on which the market owed a bar or a bar came.

    Parameters
    ----------
    bars:
        Raw bars as the lake gives them, the latest revision of each; ``known_at``, ``known_at_is_estimate`` and
        ``revision`` are read where they are there.
    timeframe, calendar:
        The bars' length, a day at most, and when their market trades.
    refused:
        The quarantine's rows of the series: those that never entered the table count, each once.
    start, end:
        Judge bars of ``[start, end)``. Absent bars are counted between the first and the last bar, and from ``start``
        and up to ``end`` where these are given. Bars before ``start`` are only the past that unusual ones are held
        against.
    weights:
        Other weights than :data:`WEIGHTS`, by part.
    allowance:
        How late a bar may be known.

    Returns
    -------
    Scores and faults. The parts:

    - ``completeness``: bars, of bars and those missing by the gap table and the calendar;
    - ``validity``: rows without a fault in themselves (not finite, not positive, a time that is no bar's), of the rows
      that came; repeated ones not counted;
    - ``uniqueness``: bars, of bars and rows refused for standing at a time that was taken;
    - ``timeliness``: bars known within the allowance after their close, of those whose arrival was measured: a
      backfill, and a bar that was corrected since, say nothing about it. NaN where none was;
    - ``consistency``: bars whose prices fit each other and the bars before (:data:`UNUSUAL`) and that the source never
      corrected, of all bars.

    A day without any bar has no part but completeness, 0.

    Raises
    ------
    ConfigurationError
        The timeframe is longer than a day, or a weight is unknown or negative.
    DataError
        There is no bar.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-03 00:00", "2017-01-03 12:00"], tz="UTC", name="ts").as_unit("ns")
    >>> bars = pd.DataFrame({"open": 1.0, "high": 1.2, "low": 0.9, "close": [1.1, np.nan], "volume": 5.0}, index=ts)
    >>> found = score_days(bars, "H4", MarketCalendar.parse("24x7"), end=pd.Timestamp("2017-01-04", tz="UTC"))
    >>> found.days[["completeness", "validity", "uniqueness", "consistency"]].round(2).values.tolist()
    [[0.33, 0.5, 1.0, 1.0]]
    >>> found.faults[["reason", "rows"]].values.tolist()
    [['missing', 2], ['not_finite', 1], ['missing', 2]]
    """
    step = Timeframe.parse(timeframe)
    if step.is_tick or step.nanoseconds > _DAY:
        raise ConfigurationError(f"days of {step} bars cannot be scored", hint="bars of a day at most")
    weighed = _weights(weights)
    first = start if start is not None else (bars.index[0] if len(bars) else None)
    judged = bars[(bars.index >= first) & ((bars.index < end) if end is not None else True)] if len(bars) else bars
    if judged.empty and (start is None or end is None):
        raise DataError("there is no bar to score", hint="give start and end to score days without any")
    index = pd.DatetimeIndex(judged.index).as_unit("ns")
    parts = [
        _missing(index, step, calendar, start, end),
        _invalid(judged, step),
        _from_quarantine(refused, start if start is not None else first, end),
        _late(judged, step, allowance),
        _inconsistent(bars, judged, step),
    ]
    faults = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    faults["day"] = pd.DatetimeIndex(faults["ts"]).floor("D")
    days = _days(judged, faults, step, weighed)
    faults = _with_costs(faults, days, weighed)
    return DailyScores(days, faults)


def _days(judged: pd.DataFrame, faults: pd.DataFrame, step: Timeframe, weights: Mapping[str, float]) -> pd.DataFrame:
    index = pd.DatetimeIndex(judged.index).as_unit("ns")
    starts = index.floor("D").union(pd.DatetimeIndex(faults["day"])).unique().as_unit("ns")
    by_day = pd.Series(1, index=index.floor("D")).groupby(level=0).sum()
    days = pd.DataFrame(index=starts.rename("ts"))
    days["bars"] = by_day.reindex(starts, fill_value=0)
    for name, reasons in (
        ("missing", ["missing"]),
        ("never_stored", list(_NEVER_STORED)),
        ("repeated", list(_REPEATED)),
    ):
        days[name] = _sum_by_day(faults[faults["reason"].isin(reasons)], starts)
    # A bar with several faults of one part is one bar.
    for part in ("validity", "timeliness", "consistency"):
        of_bars = faults[(faults["part"] == part) & ~faults["reason"].isin(_NEVER_STORED)].drop_duplicates("ts")
        days[f"{part}_faults"] = _sum_by_day(of_bars, starts)
    measured = _measured(judged)
    days["measured"] = pd.Series(1, index=index[measured].floor("D")).groupby(level=0).sum().reindex(starts).fillna(0)
    count = days["bars"]
    with np.errstate(divide="ignore", invalid="ignore"):
        days["completeness"] = count / (count + days["missing"])
        days["validity"] = 1 - (days["validity_faults"] + days["never_stored"]) / (count + days["never_stored"])
        days["uniqueness"] = count / (count + days["repeated"])
        days["timeliness"] = 1 - days["timeliness_faults"] / days["measured"].where(days["measured"] > 0)
        days["consistency"] = 1 - days["consistency_faults"] / count.where(count > 0)
    values = days[list(PARTS)].to_numpy(dtype=np.float64)
    shares = np.where(np.isnan(values), 0.0, [weights[part] for part in PARTS])
    total = shares.sum(axis=1)
    days["score"] = np.where(total > 0, np.nansum(values * shares, axis=1) / np.where(total > 0, total, 1.0), 0.0)
    lost = np.where(np.isnan(values), 0.0, 1 - values) * shares
    days["worst"] = np.where(lost.max(axis=1) > 0, np.array(PARTS)[lost.argmax(axis=1)], "")
    days["late"] = days["timeliness_faults"]
    days["invalid"] = days["validity_faults"] + days["never_stored"]
    days["inconsistent"] = days["consistency_faults"]
    days["end"] = starts + pd.Timedelta(days=1)
    known = judged["known_at"] if "known_at" in judged.columns else pd.Series(step.closes(index), index=judged.index)
    latest = known.groupby(index.floor("D")).max().reindex(starts)
    # A day is known when its last bar is, and what it lacks when it is over.
    days["known_at"] = latest.where(latest > days["end"], days["end"]).astype("datetime64[ns, UTC]")
    names = [name for name in QUALITY.schema.names if name in days.columns]
    counts = ("bars", "missing", "invalid", "repeated", "measured", "late", "inconsistent")
    return days[names].astype(dict.fromkeys(counts, "int64"))


def _missing(
    index: pd.DatetimeIndex,
    step: Timeframe,
    calendar: MarketCalendar,
    start: pd.Timestamp | None,
    end: pd.Timestamp | None,
) -> pd.DataFrame:
    """Due bars that are absent, a row a hole and day."""
    if not len(index) and start is not None and end is not None:
        lows, highs = (np.array([edge.as_unit("ns").value], dtype=np.int64) for edge in (start, end))
    else:
        holes = find_gaps(index, step, calendar, start=start, end=end)
        holes = holes[holes["missing_bars"] > 0]
        lows, highs = (pd.DatetimeIndex(holes[name]).as_unit("ns").asi8 for name in ("start", "end"))
    lows, highs = _by_days(lows, highs, step)
    counts = calendar.due_bars(lows, highs, step)
    due = counts > 0
    opens = pd.DatetimeIndex(lows[due].view("M8[ns]")).tz_localize("UTC")
    until = pd.DatetimeIndex(highs[due].view("M8[ns]")).tz_localize("UTC")
    details = [f"from {one:%H:%M} to {other:%Y-%m-%d %H:%M}" for one, other in zip(opens, until, strict=True)]
    return _faults(opens, "completeness", "missing", details, counts[due])


def _by_days(
    lows: NDArray[np.int64], highs: NDArray[np.int64], step: Timeframe
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Spans cut at midnight, so that each day bears what it lacks; the cuts keep to the grid that the span began."""
    first, last = lows // _DAY, (highs - 1) // _DAY
    pieces = last - first + 1
    which = np.repeat(np.arange(len(lows)), pieces)
    offset = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    midnights = (first[which] + offset) * _DAY
    size = min(step.nanoseconds, _DAY)
    phase = lows[which] % size
    begins = midnights + np.where(midnights % size <= phase, phase, phase + size) * (size < _DAY)
    ends = begins + _DAY if size < _DAY else midnights + _DAY
    return np.maximum(lows[which], begins), np.minimum(highs[which], ends)


def _invalid(judged: pd.DataFrame, step: Timeframe) -> pd.DataFrame:
    mask = check_bars(judged[[*OHLCV]], step, reasons=VALUES & ~_ORDER).mask if len(judged) else np.empty(0, np.uint32)
    return _of_mask(judged, mask, VALUES & ~_ORDER, "validity")


def _inconsistent(bars: pd.DataFrame, judged: pd.DataFrame, step: Timeframe) -> pd.DataFrame:
    if judged.empty:
        return _faults(pd.DatetimeIndex([], tz="UTC"), "consistency", "", [], np.empty(0, np.int64))
    mask = check_bars(judged[[*OHLCV]], step, reasons=VALUES).mask & np.uint32(_ORDER)
    found = find_anomalies(bars.loc[: judged.index[-1], list(OHLCV)], step, methods=list(UNUSUAL))
    stamps = pd.DatetimeIndex(found["ts"])
    found = found[np.asarray(stamps >= judged.index[0])].drop_duplicates(["ts", "method"])
    parts = [_of_mask(judged, mask, _ORDER, "consistency")]
    for method, rows in found.groupby("method", sort=True):
        times = pd.DatetimeIndex(rows["ts"])
        parts.append(_faults(times, "consistency", str(method), rows["message"].tolist(), np.ones(len(rows), np.int64)))
    if "revision" in judged.columns:
        again = judged[judged["revision"] > 0]
        details = [f"corrected {count} times" if count > 1 else "corrected once" for count in again["revision"]]
        index = pd.DatetimeIndex(again.index)
        parts.append(_faults(index, "consistency", "revised", details, np.ones(len(again), np.int64)))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _late(judged: pd.DataFrame, step: Timeframe, allowance: pd.Timedelta) -> pd.DataFrame:
    rows = judged[_measured(judged)]
    index = pd.DatetimeIndex(rows.index)
    lag = pd.DatetimeIndex(rows["known_at"]) - step.closes(index) if len(rows) else pd.TimedeltaIndex([])
    late = lag > min(allowance, step.duration)
    details = [f"known {one} after its close" for one in lag[late]]
    return _faults(index[late], "timeliness", "known_late", details, np.ones(len(details), np.int64))


def _measured(judged: pd.DataFrame) -> NDArray[np.bool_]:
    """Bars whose arrival was seen: the first version of each that a feed brought."""
    if "known_at" not in judged.columns or "known_at_is_estimate" not in judged.columns:
        return np.zeros(len(judged), dtype=bool)
    first = judged["revision"] == 0 if "revision" in judged.columns else True
    return np.asarray(~judged["known_at_is_estimate"].astype(bool) & first)


def _from_quarantine(
    refused: pd.DataFrame | None, start: pd.Timestamp | None, end: pd.Timestamp | None
) -> pd.DataFrame:
    """Rows that never entered the table: one fault a row, by the first of its reasons about its time."""
    parts = [_faults(pd.DatetimeIndex([], tz="UTC"), "validity", "", [], np.empty(0, np.int64))]
    if refused is not None and len(refused):
        index = pd.DatetimeIndex(refused.index).as_unit("ns")
        inside = np.ones(len(refused), dtype=bool) if start is None else np.asarray(index >= start.floor("D"))
        if end is not None:
            inside &= np.asarray(index < end)
        codes = [[str(text).split(":", 1)[0] for text in texts] for texts in refused["reasons"]]
        for name in (*_REPEATED, *_NEVER_STORED):
            mine = [
                next((c for c in row if c in _REPEATED or c in _NEVER_STORED), "") == name for row in codes
            ]  # a row counts for one
            at = inside & np.array(mine, dtype=bool)
            part = "uniqueness" if name in _REPEATED else "validity"
            details = [str(texts[0]) for texts in refused["reasons"][at]]
            parts.append(_faults(index[at], part, name, details, np.ones(int(at.sum()), np.int64)))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _of_mask(judged: pd.DataFrame, mask: NDArray[np.uint32], reasons: Reason, part: str) -> pd.DataFrame:
    index = pd.DatetimeIndex(judged.index)
    parts = [_faults(index[:0], part, "", [], np.empty(0, np.int64))]
    for reason in Reason:
        if reason & reasons and len(mask):
            at = np.flatnonzero(mask & np.uint32(reason))
            shown = judged[list(OHLCV)].iloc[at].itertuples(index=False)
            details = [" ".join(f"{n}={v:g}" for n, v in zip(OHLCV, row, strict=True)) for row in shown]
            parts.append(_faults(index[at], part, reason.code, details, np.ones(len(at), np.int64)))
    return pd.concat([one for one in parts if len(one)] or parts[:1], ignore_index=True)


def _faults(
    stamps: pd.DatetimeIndex, part: str, reason: str, details: list[str], rows: NDArray[np.int64]
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "ts": stamps.as_unit("ns"), "part": part, "reason": reason, "rows": rows,
            "detail": pd.array(details, dtype="str"),
        }
    ).astype({"part": "str", "reason": "str"})  # fmt: skip


def _sum_by_day(faults: pd.DataFrame, starts: pd.DatetimeIndex) -> pd.Series:
    return faults.groupby("day")["rows"].sum().reindex(starts).fillna(0).astype(np.int64)


def _with_costs(faults: pd.DataFrame, days: pd.DataFrame, weights: Mapping[str, float]) -> pd.DataFrame:
    """Share what each part lost among its faults by rows; a bar with two reasons of one part bears them in halves."""
    ordered = faults.sort_values(["ts", "part", "reason", "detail"], kind="stable").reset_index(drop=True)
    lost = 1 - days[list(PARTS)]
    shares = days[list(PARTS)].notna() * pd.Series(weights)
    cost = lost * shares.div(shares.sum(axis=1).replace(0.0, 1.0), axis=0)
    own = ordered["rows"] / ordered.groupby(["part", "ts"])["rows"].transform("size")
    own = own.where(ordered["part"].isin(("validity", "timeliness", "consistency")), ordered["rows"])
    total = own.groupby([ordered["part"], ordered["day"]]).transform("sum")
    places = days.index.get_indexer(pd.DatetimeIndex(ordered["day"])), [PARTS.index(p) for p in ordered["part"]]
    ordered["cost"] = (own / total) * np.nan_to_num(cost.to_numpy()[places])
    return ordered[list(FAULT_COLUMNS)]


def _weights(given: Mapping[str, float] | None) -> Mapping[str, float]:
    found = {**WEIGHTS, **(given or {})}
    if set(found) != set(PARTS) or any(not weight >= 0 for weight in found.values()) or not sum(found.values()):
        raise ConfigurationError(f"weights {dict(given or {})}", hint=f"numbers from 0 on for {', '.join(PARTS)}")
    return found
