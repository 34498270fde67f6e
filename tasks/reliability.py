"""Reliability: what became of each stored finding, how often chance does as well, and what speaks at the last bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tapeline.charts.compose import SHOWN_BARS
from tapeline.charts.confidence import confidence
from tapeline.charts.confluence import confluence, speaking
from tapeline.charts.events import event_rows
from tapeline.charts.page import page
from tapeline.charts.picture import Chart
from tapeline.charts.points_of_interest import FAMILIES
from tapeline.charts.reliability import ALPHA, DRAWS, HORIZON, outcomes, reliability
from tapeline.charts.scan import scan
from tapeline.core.errors import DataError
from tapeline.core.schemas import CLEAN_BARS, EVENTS, OUTCOMES
from tapeline.core.settings import Settings
from tapeline.core.whole_file import write_whole
from tapeline.features.trending_regime import name_trend, trending_regime
from tapeline.lake.lake import Lake
from tasks.artifacts import show_link, show_markdown, show_table
from tasks.charts import choices_version, chosen
from tasks.job import STAGE_SECONDS, Job, open_lake
from tasks.observe import observed
from tasks.summary import markdown_table, safe_file_name

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "kind": ("kind",),
    "kind and symbol": ("kind", "symbol"),
    "kind and regime": ("kind", "regime"),
}
"""The tables of reliability, each over all series of a run."""

STANDS_FOR: Final = 100
"""Bars after its confirmation for which a finding still speaks."""
_SPEAKERS: Final = ("kind", "direction", "age", "low", "high", "target", "stop", "outcomes", "lift", "weight")


@dataclass(frozen=True)
class Decided:
    """One series: its bars and findings, those of them that have an outcome, and the kinds scanned anew."""

    job: Job
    bars: int
    events: int
    outcomes: int
    scanned: bool


@dataclass(frozen=True)
class Now:
    """What speaks at the last bar of a series: when it closed, the row of the confluence, the findings, the page."""

    job: Job
    at: pd.Timestamp
    confluence: Mapping[str, float]
    speakers: pd.DataFrame
    page: Path


@task(
    task_run_name="outcomes {job.name}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["charts"]
)  # fmt: skip
def decide(job: Job) -> Decided:
    """Store what became of each finding of a series; those of the lake, or those of a scan where it holds none."""
    settings, lake = open_lake()
    with observed("outcomes", job) as seen:
        result = decide_series(job, settings, lake)
        seen.count(rows_in=result.events, rows_out=result.outcomes)
    return result


def decide_series(job: Job, settings: Settings, lake: Lake) -> Decided:
    """The library's work behind :func:`decide`.

    Raises
    ------
    DataError
        The lake holds no clean bars of the series.
    """
    bars = read_bars(lake, job)
    events = lake.read(EVENTS, job.symbol, job.timeframe).reset_index()
    scanned = events.empty
    held = job.input_of(CLEAN_BARS.path, lake.version(CLEAN_BARS, job.symbol, job.timeframe))
    if scanned:
        choices = chosen(settings)
        events = scan(bars, choices)
        lineage = job.lineage("charts", held, choices_version(choices))
        lake.write(EVENTS, events, job.symbol, job.timeframe, lineage=lineage)
    told = outcomes(events, bars)
    told = told.assign(regime=regime_at(bars, told["confirmed_at"]))
    found = job.input_of(EVENTS.path, lake.version(EVENTS, job.symbol, job.timeframe))
    lake.write(OUTCOMES, told, job.symbol, job.timeframe, lineage=job.lineage("outcomes", held, found))
    return Decided(job, len(bars), len(events), len(told), scanned)


def read_bars(lake: Lake, job: Job) -> pd.DataFrame:
    """The clean bars of a series, all of them: base rates are drawn from its whole past."""
    bars = lake.read(CLEAN_BARS, job.symbol, job.timeframe)
    if bars.empty:
        raise DataError(f"the lake holds no clean bars of {job.name}", hint="tapeline run brings and cleans them")
    return bars


def regime_at(bars: pd.DataFrame, instants: pd.Series) -> np.ndarray:
    """Trending up, trending down or sideways, as it was known at each instant; None before the first fit."""
    names = name_trend(trending_regime(bars)).to_numpy(dtype=object)
    closed = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    rows = closed.searchsorted(pd.DatetimeIndex(instants).as_unit("ns").asi8, side="right") - 1
    told = names[rows]
    told[rows < 0] = None
    return told


def read_outcomes(lake: Lake, jobs: Sequence[Job]) -> pd.DataFrame:
    """The stored outcomes of several series, with ``symbol`` and ``timeframe``."""
    parts = [
        lake.read(OUTCOMES, job.symbol, job.timeframe)
        .reset_index()
        .assign(symbol=str(job.symbol), timeframe=str(job.timeframe))
        for job in jobs
    ]
    told = pd.concat(parts, ignore_index=True)
    return told.assign(kind=told["kind"].astype(str), regime=told["regime"].astype(object))


@task(task_run_name="reliability", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["charts"])
def measure(done: Sequence[Decided]) -> Path:
    """Show hit rates beside base rates by kind, by kind and symbol, by kind and regime; store them as one CSV file."""
    settings, lake = open_lake()
    jobs = [one.job for one in done]
    told = read_outcomes(lake, jobs)
    tables = {name: reliability(told, by) for name, by in GROUPS.items()}
    step = jobs[0].timeframe
    for name, table in tables.items():
        show_table(f"reliability {step} by {name}", plain_rows(table), f"Hit of target before stop by {name}, {step}")
    show_markdown(f"reliability {step}", reliability_text(tables["kind"], done), f"Reliability of findings, {step}")
    whole = pd.concat([table.assign(by=name) for name, table in tables.items()], ignore_index=True)
    named = ["by", "kind", "symbol", "regime"]
    text = whole[[*named, *(column for column in tables["kind"] if column != "kind")]].to_csv(index=False)
    return write_whole(settings.reports_path / f"reliability-{step}.csv", text, what="table of reliability")


def reliability_text(table: pd.DataFrame, done: Sequence[Decided]) -> str:
    """What the numbers are, how many kinds show anything, and the table."""
    counts = table["verdict"].value_counts()
    shown = [f"{counts.get(verdict, 0)} {verdict}" for verdict in ("edge", "worse than chance", "no edge shown")]
    series = ", ".join(f"{one.job.name} ({one.bars} bars, {one.outcomes} of {one.events} findings)" for one in done)
    lines = [
        f"Of {len(table)} kinds: {', '.join(shown)}.",
        f"A hit is the target traded before the stop within {HORIZON} bars of an entry at the next open, before costs. "
        f"The base rate is that of the same distances at {DRAWS} earlier bars of the series, drawn at random. An edge "
        f"is shown where the p-value, adjusted for the number of kinds (Holm), is below {ALPHA:g}.",
        f"Series: {series}.",
        markdown_table(table.sort_values("edge_low", ascending=False, kind="stable").round(3)),
    ]
    return "\n\n".join(lines)


@task(task_run_name="confluence {job.name}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["charts"])
def show_now(job: Job, jobs: Sequence[Job]) -> Now:
    """Show what stands at the last bar of a series, weighed by what was decided before, and draw its newest bars."""
    settings, lake = open_lake()
    result = weigh(job, lake, settings, read_outcomes(lake, jobs))
    name = f"confluence {job.symbol} {job.timeframe}"
    show_table(name, plain_rows(result.speakers), f"What speaks in {job.name} at {result.at:%Y-%m-%d %H:%M} UTC")
    show_link(f"{name} page", result.page.as_uri(), f"{job.name}: the newest bars and what stands")
    return result


def weigh(job: Job, lake: Lake, settings: Settings, told: pd.DataFrame) -> Now:
    """The confluence at the last bar of a series and the page of its newest bars; the work behind :func:`show_now`.

    Parameters
    ----------
    told:
        Outcomes of any number of series, from :func:`read_outcomes`: of each finding only those count that were
        decided by its confirmation.
    """
    bars = read_bars(lake, job)
    first = pd.DatetimeIndex(bars["close_ts"])[max(0, len(bars) - STANDS_FOR)]
    events = lake.read(EVENTS, job.symbol, job.timeframe, start=first).reset_index()
    _, gone = event_rows(events, bars)
    fresh = events[gone >= len(bars)].reset_index(drop=True)
    named = fresh.assign(
        kind=fresh["kind"].astype(str), symbol=str(job.symbol), timeframe=str(job.timeframe),
        regime=regime_at(bars, fresh["confirmed_at"]),
    )  # fmt: skip
    weights = confidence(named, told)
    row = confluence(fresh, bars, weight=weights["weight"], max_age=STANDS_FOR, families=FAMILIES).iloc[-1]
    speakers = speaking(fresh, bars, weight=weights["weight"], max_age=STANDS_FOR)
    speakers = speakers.join(weights[["outcomes", "lift"]])[list(_SPEAKERS)]
    drawn = Chart(bars.iloc[-SHOWN_BARS:], fresh, title=f"{job.name}: what stands")
    stem = safe_file_name(f"{job.symbol.path_segment}-{job.timeframe}")
    path = write_whole(settings.reports_path / "charts" / f"{stem}.html", page(drawn), what="page")
    at = pd.Timestamp(bars["close_ts"].iloc[-1])
    return Now(job, at, {str(name): float(value) for name, value in row.items()}, speakers, path)


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for a page: numbers to four digits after the point, what is missing or without bound as None."""
    return [
        {
            str(name): (round(float(value), 4) if np.isfinite(value) else None)
            if isinstance(value, float | np.floating)
            else int(value)
            if isinstance(value, int | np.integer)
            else str(value)
            for name, value in row.items()
        }
        for row in table.to_dict("records")
    ]
