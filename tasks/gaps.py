"""Gaps: where bars are absent and why, kept in the lake beside the bars and shown with the run."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.schemas import GAPS, RAW_BARS
from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.lake.lake import Lake
from tapeline.quality.calendars import MarketCalendar, choose_calendar
from tapeline.quality.gaps import INGEST, find_gaps, lineage_coverage, summarize
from tapeline.sources.history import Ledger
from tasks.artifacts import show_table
from tasks.job import Job
from tasks.observe import measure

FILLED: Final = "filled"
"""The reason of a stored gap in which bars have come since."""
PEERS: Final = 3
"""So many other instruments of the source are asked whether they have bars where these are absent."""
NANOSECOND: Final = pd.Timedelta(1, unit="ns")
_WEAK: Final = "not_downloaded"


def calendar_of(subject: Job | Symbol, source: str, settings: Settings) -> MarketCalendar:
    """The market calendar of a job's instrument, or of an instrument, as the settings name it."""
    rules = settings.calendars
    symbol = subject.symbol if isinstance(subject, Job) else subject
    return choose_calendar(str(symbol), source, default=rules.default, symbols=rules.symbols, sources=rules.sources)


def record_gaps(
    index: pd.DatetimeIndex, job: Job, source: str, settings: Settings, lake: Lake, *, data_version: str
) -> tuple[pd.DataFrame, bool]:
    """Find the holes between stored bars, keep them in the lake's gap table, and show them by reason.

    Parameters
    ----------
    index:
        The open times of the job's bars, and of the last bar before them: a gap may end at the first one.
    source:
        Where the bars come from, as their rows say.
    data_version:
        The version of the bars, for the lineage.

    Returns
    -------
    The gaps as :func:`tapeline.quality.gaps.find_gaps` gives them, and whether the gap table
    changed. In the lake a gap in which bars have come since has
    the reason ``filled`` and no missing bar; a verdict of an earlier run stands where this one cannot tell more than
    that a download is not proven.
    """
    calendar = calendar_of(job.symbol, source, settings)
    coverage = coverage_of(index, job, settings, lake)
    gaps = find_gaps(index, job.timeframe, calendar, coverage=coverage)
    if (gaps["reason"] == "unknown").any():
        peers = peers_of(index, job, source, settings, lake)
        gaps = find_gaps(index, job.timeframe, calendar, coverage=coverage, peers=peers)
    changed = False
    if len(index):
        last = index[-1] + NANOSECOND
        stored = lake.read(GAPS, job.symbol, job.timeframe, start=index[0], end=last)
        rows = to_rows(gaps, stored, job, calendar, until=last)
        lineage = job.lineage("gaps", job.input_of("clean/bars", data_version))
        receipt = lake.write(GAPS, rows, job.symbol, job.timeframe, lineage=lineage)
        changed = bool(receipt.partitions)
        measure("tapeline_unfilled_gaps", unfilled(lake, job), symbol=job.symbol, timeframe=job.timeframe)
    by_reason = summarize(gaps).reset_index()
    by_reason = by_reason[by_reason["gaps"] > 0]
    show_table(
        f"gaps-{job.name}",
        [
            {"reason": str(row.reason), "gaps": row.gaps, "missing bars": row.missing_bars, "open": str(row.open_time)}
            for row in by_reason.itertuples()
        ],
        f"Gaps of {job.name} by reason, by the calendar {calendar.name}",
    )
    return gaps, changed


def unfilled(lake: Lake, job: Job) -> int:
    """How many stored gaps of a series ought to hold bars and hold none: not those of a closed or quiet market."""
    held = lake.read(GAPS, job.symbol, job.timeframe, columns=["reason"])["reason"].astype(str)
    return int(held.isin(["outage", "not_downloaded", "unknown"]).sum())


def peers_of(index: pd.DatetimeIndex, job: Job, source: str, settings: Settings, lake: Lake) -> pd.DatetimeIndex | None:
    """The open times of bars that the same source served for other instruments over the whole stretch.

    Up to :data:`PEERS` instruments of the same calendar and timeframe; None where there is none, because one that
    began later or ended earlier cannot bear witness.
    """
    calendar = calendar_of(job.symbol, source, settings)
    found: list[pd.DatetimeIndex] = []
    for series in lake.series():
        if series.spec.path != RAW_BARS.path or series.timeframe != job.timeframe or series.symbol == job.symbol:
            continue
        if calendar_of(series.symbol, source, settings) != calendar:
            continue
        span = {"start": index[0], "end": index[-1] + NANOSECOND}
        held = lake.read_arrow(RAW_BARS, series.symbol, job.timeframe, columns=["source"], **span).to_pandas()
        covers = len(held) and held["ts"].iloc[0] <= index[0] and held["ts"].iloc[-1] >= index[-1]
        if covers and str(held["source"].iloc[0]) == source:
            found.append(pd.DatetimeIndex(held["ts"]))
        if len(found) == PEERS:
            break
    return pd.DatetimeIndex(np.concatenate([part.asi8 for part in found]), tz="UTC") if found else None


def coverage_of(index: pd.DatetimeIndex, job: Job, settings: Settings, lake: Lake) -> pd.DataFrame:
    """What is known to have been asked for and answered: by lineage, by the backfill's ledger, and by this run."""
    from tasks.backfill import ledger_path

    spans = [lineage_coverage(lake, job.symbol, job.timeframe)[["start", "end"]]]
    stored = pd.DatetimeIndex(lake.read(RAW_BARS, job.symbol, job.timeframe, columns=["close"]).index)
    loaded = Ledger(ledger_path(settings, job)).spans(stored)
    spans.append(
        pd.DataFrame([(_instant(span.start), _instant(span.end)) for span in loaded], columns=["start", "end"])
    )
    own = any(
        (change.lineage.run_id, change.lineage.stage) == (job.run_id, INGEST)
        for change in lake.lineage(RAW_BARS, job.symbol, job.timeframe)
    )
    if own and len(index):
        spans.append(pd.DataFrame({"start": [index[0]], "end": [job.timeframe.close(index[-1])]}))
    return pd.concat([part for part in spans if len(part)] or spans[:1], ignore_index=True)


def to_rows(
    gaps: pd.DataFrame, stored: pd.DataFrame, job: Job, calendar: MarketCalendar, *, until: pd.Timestamp
) -> pd.DataFrame:
    """The gap table's rows of what was found now, and of stored gaps in which bars have come since.

    Parameters
    ----------
    gaps, stored:
        As found, and the rows of the gap table that start in the same stretch.
    until:
        Where the stretch ends: a stored gap that ends later was not looked at.
    """
    rows = pd.DataFrame(
        {
            "ts": gaps["start"],
            "end": gaps["end"],
            "known_at": gaps["end"] + job.timeframe.duration,
            "missing_bars": gaps["missing_bars"].astype(np.int64),
            "open_time": gaps["open_time"].astype("timedelta64[ns]").astype(np.int64),
            "reason": gaps["reason"].astype("str"),
            "evidence": gaps["evidence"].astype("str"),
            "calendar": calendar.name,
        }
    )
    if stored.empty:
        return rows
    held = stored.reset_index().astype({"reason": "str", "evidence": "str", "calendar": "str"})[rows.columns.tolist()]
    now = pd.MultiIndex.from_frame(rows[["ts", "end"]])
    then = pd.MultiIndex.from_frame(held[["ts", "end"]])
    stands = np.asarray(then.isin(now)) & np.asarray(held["reason"] != FILLED)
    better = then[stands]
    weak = np.asarray(rows["reason"] == _WEAK) & np.asarray(now.isin(better))
    gone = ~np.asarray(then.isin(now)) & np.asarray(held["end"] <= until)
    resolved = held[gone].assign(
        missing_bars=0, open_time=0, reason=FILLED, evidence="bars that were absent have come since"
    )
    return pd.concat([rows[~weak], resolved], ignore_index=True)


def gap_note(gaps: pd.DataFrame) -> str:
    """The gaps in one line: how many of each reason, and how many bars are missing in them."""
    found = summarize(gaps)
    parts = [
        f"{row.gaps} {reason!s} ({row.missing_bars} bars)"
        for reason, row in zip(found.index, found.itertuples(), strict=True)
        if row.gaps
    ]
    return f"gaps: {', '.join(parts) or 'none'}"


def _instant(nanoseconds: int) -> pd.Timestamp:
    return pd.Timestamp(nanoseconds, unit="ns", tz="UTC")
