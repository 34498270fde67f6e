"""Quality scores: each finished day of a series scored from what the lake holds, kept, drawn, and taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tapeline.core.errors import DataError
from tapeline.core.schemas import QUALITY, QUARANTINE, RAW_BARS
from tapeline.core.settings import Settings
from tapeline.core.versions import digest
from tapeline.lake.lake import Lake
from tapeline.quality.daily_score import PARTS, WEIGHTS, DailyScores, score_days
from tapeline.quality.drift_plots import plot_scores, write_figure
from tapeline.quality.integrity_log import CheckRecord
from tasks.artifacts import show_link, show_table
from tasks.gaps import calendar_of
from tasks.job import STAGE_SECONDS, Job, open_lake
from tasks.observe import measure, observed
from tasks.summary import safe_file_name

POOR: Final = 0.9
"""A day below this score is told."""
AGAIN: Final = pd.Timedelta(days=7)
"""So many days before the last scored one are scored again: bars may have come late, or been corrected."""
PAST_BARS: Final = 1_000
"""Bars before the first scored one that unusual bars are held against."""
LIVE: Final = pd.Timedelta(days=7)
"""A series whose last bar is this young still owes bars up to now; one that ended earlier owes none after its end."""
SHOWN_DAYS: Final = 60
SHOWN_FAULTS: Final = 100


@dataclass(frozen=True)
class QualityResult:
    """What scoring one series did: days scored, the newest and its score, the poor ones, and where the plot lies."""

    job: Job
    days: int
    newest: pd.Timestamp | None
    score: float
    poor: tuple[str, ...]
    picture: Path | None


@task(task_run_name="quality {job.name}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["quality"])
def score_quality(job: Job, *, now: pd.Timestamp | None = None) -> QualityResult:
    """Score the finished days of a series that have no score, and the week before them; keep, draw and show them."""
    settings, lake = open_lake()
    with observed("quality", job) as seen:
        result, scores, history = score_series(job, settings, lake, now=now)
        bars = int(scores.days["bars"].sum()) if len(scores.days) else 0
        seen.count(rows_in=bars, rows_out=result.days)
        if result.newest is not None and len(scores.days):
            seen.check(_check(result, scores, lake.version(RAW_BARS, job.symbol, job.timeframe)))
    if result.newest is not None:
        measure("tapeline_quality_score", result.score, symbol=job.symbol, timeframe=job.timeframe)
    latest = history.tail(SHOWN_DAYS)[::-1]
    description = f"Quality of {job.name} by day, the newest first"
    show_table(f"quality-{job.name}", [_plain(row) for row in latest.reset_index().to_dict("records")], description)
    worst = scores.faults.sort_values(["cost", "ts"], ascending=[False, True], kind="stable").head(SHOWN_FAULTS)
    show_table(
        f"quality-faults-{job.name}", [_plain(row) for row in worst.to_dict("records")],
        f"What cost {job.name} most, bar by bar",
    )  # fmt: skip
    if result.picture is not None:
        show_link(f"quality-trend-{job.name}", result.picture.as_uri(), f"Quality of {job.name} over time")
    return result


def score_series(
    job: Job, settings: Settings, lake: Lake, *, now: pd.Timestamp | None = None
) -> tuple[QualityResult, DailyScores, pd.DataFrame]:
    """Score a series and keep the scores; the work behind the task.

    Returns
    -------
    The result, the scores of this run with their faults, and all stored scores. The same lake gives the same rows.

    Raises
    ------
    DataError
        The lake holds no bar of the series.
    """
    instant = now or pd.Timestamp.now("UTC")
    stored = _stored(lake, job)
    start = job.start
    if start is None and len(stored):
        again = stored.index[-1] - AGAIN
        # Before its first bar a series owes none.
        start = again if again > stored.index[0] else None
    bars, end = _bars(lake, job, start, instant)
    source = str(bars["source"].iloc[-1])
    calendar = calendar_of(job, source, settings)
    refused = lake.read(QUARANTINE, job.symbol, job.timeframe, start=start, end=end)
    scores = score_days(bars, job.timeframe, calendar, refused=refused, start=start, end=end)
    if len(scores.days):
        rows = scores.days.assign(table=RAW_BARS.path, calendar=calendar.name)
        inputs = job.input_of(RAW_BARS.path, lake.version(RAW_BARS, job.symbol, job.timeframe))
        lake.write(QUALITY, rows, job.symbol, job.timeframe, lineage=job.lineage("quality", inputs))
    history = _stored(lake, job)
    if history.empty:
        return QualityResult(job, 0, None, float("nan"), (), None), scores, history
    poor = scores.days[scores.days["score"] < POOR]
    texts = tuple(f"{day:%Y-%m-%d}: {row.score:.3f}, worst {row.worst}" for day, row in poor.iterrows())
    name = safe_file_name(f"quality-{job.symbol}-{job.timeframe}")
    picture = write_figure(settings.reports_path / f"{name}.png", plot_scores(history, title=f"Quality of {job.name}"))
    newest, score = history.index[-1], float(history["score"].iloc[-1])
    return QualityResult(job, len(scores.days), newest, score, texts, picture), scores, history


def explain_day(job: Job, settings: Settings, lake: Lake, day: pd.Timestamp) -> DailyScores:
    """One day's score with every fault behind it, computed from the lake as it is now.

    Raises
    ------
    DataError
        The lake holds no bar of the series.
    """
    start = day.floor("D")
    bars, _ = _bars(lake, job, start, start + pd.Timedelta(days=1))
    calendar = calendar_of(job, str(bars["source"].iloc[-1]), settings)
    end = start + pd.Timedelta(days=1)
    refused = lake.read(QUARANTINE, job.symbol, job.timeframe, start=start, end=end)
    return score_days(bars, job.timeframe, calendar, refused=refused, start=start, end=end)


def _bars(lake: Lake, job: Job, start: pd.Timestamp | None, now: pd.Timestamp) -> tuple[pd.DataFrame, pd.Timestamp]:
    """The bars of the finished days behind those that come before them, and where the last day to judge ends."""
    today = now.floor("D")
    bound = today if job.end is None else min(job.end, today)
    first = None if start is None else start - max(2 * PAST_BARS * job.timeframe.duration, pd.Timedelta(days=30))
    bars = lake.read(RAW_BARS, job.symbol, job.timeframe, start=first, end=bound)
    if bars.empty:
        raise DataError(f"no bars of {job.name} to score", hint="load some first: tapeline backfill ...")
    last = bars.index[-1]
    live = bound - last <= LIVE or job.end is not None
    return bars, bound if live else last.floor("D") + pd.Timedelta(days=1)


def _stored(lake: Lake, job: Job) -> pd.DataFrame:
    held = lake.read(QUALITY, job.symbol, job.timeframe)
    return held[held["table"].astype(str) == RAW_BARS.path]


def _check(result: QualityResult, scores: DailyScores, version: str) -> CheckRecord:
    days = scores.days
    return CheckRecord(
        "quality_score", digest([list(PARTS), dict(WEIGHTS), POOR]), "quality", version, passed=True,
        rows=int(days["bars"].sum()), rows_found=len(result.poor), newest=days.index[-1],
        details={"days": len(days), "mean": round(float(days["score"].mean()), 6), "poor": list(result.poor[:20])},
    )  # fmt: skip


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    return {
        str(name): (None if value != value else round(value, 6)) if isinstance(value, float)
        else value if isinstance(value, int) else str(value)
        for name, value in row.items()
    }  # fmt: skip
