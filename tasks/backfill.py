"""Backfill: the part of a range that the lake lacks, piece by piece, so that a crash costs one piece at most."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import RAW_BARS
from tapeline.core.settings import Settings
from tapeline.lake.lake import Lake
from tapeline.sources.base import BarRequest, Data, Source, open_source
from tapeline.sources.history import (
    Ledger,
    Loaded,
    chunks,
    follow,
    missing_ranges,
    stored_spans,
    wanted_span,
)
from tasks.artifacts import Progress
from tasks.ingest import store_bars
from tasks.job import ASKS_A_SOURCE, Job, StageResult, open_lake
from tasks.observe import observes
from tasks.venue_turn import venue_turn

CHUNK_ROWS = 20_000
"""Bars a piece: what a crash may cost, and how often the progress moves."""

BACKFILL_SECONDS = 12 * 3600.0
"""A backfill of one series ends as timed out after so long; the next run goes on from there."""

Report = Callable[[int, int], None]
"""Told after each piece how many of how many are done."""


class Reports:
    """Where a run's progress is shown beside Prefect; one callable a job, by the job's name."""

    def __init__(self, by_name: dict[str, Report] | None = None) -> None:
        self._by_name = dict(by_name or {})

    def __call__(self, name: str, done: int, total: int) -> None:
        """Pass one step on."""
        report = self._by_name.get(name)
        if report is not None:
            report(done, total)


@task(
    task_run_name="backfill {job.name}",
    cache_policy=NO_CACHE,
    **{**ASKS_A_SOURCE, "timeout_seconds": BACKFILL_SECONDS},
    tags=["backfill"],
)
@observes("backfill")
def backfill_bars(
    job: Job, *, now: pd.Timestamp | None = None, chunk_rows: int = CHUNK_ROWS, reports: Reports | None = None
) -> StageResult:
    """Load what the lake lacks of one job's range, with a progress artifact; a retry goes on where it stopped."""
    settings, lake = open_lake()
    progress = Progress(f"backfill-{job.name}", f"Backfill of {job.name} from {job.source}")

    def report(done: int, total: int) -> None:
        progress(done / total if total else 1.0)
        if reports is not None:
            reports(job.name, done, total)

    source = open_source(job.source, settings)
    return load_history(
        job, source, settings, lake, now=now or pd.Timestamp.now("UTC"), chunk_rows=chunk_rows, report=report
    )


def load_history(
    job: Job,
    source: Source,
    settings: Settings,
    lake: Lake,
    *,
    now: pd.Timestamp,
    chunk_rows: int = CHUNK_ROWS,
    report: Report = lambda done, total: None,
) -> StageResult:
    """Load what the lake lacks of ``[job.start, job.end)``.

    The range less the unbroken runs of stored bars, less what was answered before, is asked for in pieces. Each piece
    is written before it is noted; killed between the two, the next run writes the same rows again,
    which changes nothing.

    Raises
    ------
    ConfigurationError
        The job has no start.
    """
    if job.start is None:
        raise ConfigurationError("a backfill needs a start", hint="for instance --start 2020-01-01")
    wanted = wanted_span(job.timeframe, job.start, job.end, now)
    ledger = Ledger(ledger_path(settings, job))
    stored = pd.DatetimeIndex(lake.read(RAW_BARS, job.symbol, job.timeframe, columns=["close"]).index)
    covered = [*stored_spans(stored, job.timeframe), *ledger.spans(stored)]
    pieces = chunks(missing_ranges(wanted, covered), job.timeframe, chunk_rows)
    total = StageResult("backfill", job, 0, 0, "", "")
    report(0, len(pieces))
    for number, piece in enumerate(pieces, 1):
        start, end = piece.bounds
        with venue_turn(job.source):
            for outcome in follow(source, BarRequest(job.symbol, job.timeframe, start, end)):
                if not isinstance(outcome, Data):
                    continue
                total = _sum(total, store_bars(outcome, job, lake, now=now, stage="backfill"))
        held = lake.read(RAW_BARS, job.symbol, job.timeframe, start=start, end=end, columns=["close"])
        ledger.add(Loaded(piece.start, piece.end, len(held)))
        report(number, len(pieces))
    if not pieces:
        return _sum(total, StageResult("backfill", job, 0, 0, "", "", notes=("nothing was missing",)))
    return total


def ledger_path(settings: Settings, job: Job) -> Path:
    """Where the ledger of a job's series and source lies."""
    folder = settings.state_path / "backfill" / quote(job.source, safe="")
    return folder / f"{job.symbol.path_segment}_{job.timeframe}.json"


def _sum(one: StageResult, other: StageResult) -> StageResult:
    reasons = {name: one.reasons.get(name, 0) + other.reasons.get(name, 0) for name in {*one.reasons, *other.reasons}}
    return StageResult(
        "backfill",
        one.job,
        one.rows_in + other.rows_in,
        one.rows_out + other.rows_out,
        other.version or one.version,
        other.path or one.path,
        quarantined=one.quarantined + other.quarantined,
        reasons=reasons,
        notes=tuple(dict.fromkeys((*one.notes, *other.notes))),
        checks=(*one.checks, *other.checks),
    )
