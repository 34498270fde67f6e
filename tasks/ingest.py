"""Ingest: from a source to the raw zone; rows that cannot be placed in time go to quarantine."""

from __future__ import annotations

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tapeline.core.schemas import QUARANTINE, RAW_BARS
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tapeline.quality.checks import STRUCTURAL, check_bars, split
from tapeline.quality.integrity_log import CheckRecord
from tapeline.quality.quarantine import quarantine, quarantine_rejected
from tapeline.sources.base import BarRequest, Data, open_source, require
from tasks.job import ASKS_A_SOURCE, Job, StageResult, open_lake
from tasks.observe import observes
from tasks.venue_turn import venue_turn

WATCHING_BARS = 2
"""A bar seen within this many bar lengths of its close was seen live: its arrival time is known, not estimated."""


@task(
    task_run_name="ingest {job.name}",
    cache_policy=NO_CACHE,
    **ASKS_A_SOURCE,
    tags=["ingest"],
)
@observes("ingest")
def ingest_bars(job: Job, *, now: pd.Timestamp | None = None) -> StageResult:
    """Fetch the bars of one job as the source serves them and store them in the raw zone.

    Rows whose time is missing, duplicate, off the grid or in the future, and rows that did not parse, are written to
    quarantine with their reasons. A bar that the lake holds with other values becomes a new revision, known from now.
    """
    settings, lake = open_lake()
    now = now or pd.Timestamp.now("UTC")
    with venue_turn(job.source):
        outcome = require(
            open_source(job.source, settings).fetch(BarRequest(job.symbol, job.timeframe, job.start, job.end))
        )
    if not isinstance(outcome, Data):
        return StageResult("ingest", job, 0, 0, "", "", notes=(outcome.reason,))
    return store_bars(outcome, job, lake, now=now, stage="ingest")


def store_bars(outcome: Data, job: Job, lake: Lake, *, now: pd.Timestamp, stage: str) -> StageResult:
    """Write one answer of a source: what can be placed in time to the raw zone, the rest to quarantine."""
    checked = check_bars(outcome.bars, job.timeframe, now=now, reasons=STRUCTURAL)
    good, _ = split(outcome.bars, checked)
    source_id = outcome.source_id
    refused = pd.concat(
        [
            quarantine(outcome.bars, checked, stage=stage, source=source_id),
            quarantine_rejected(outcome.rejected, stage=stage, source=source_id),
        ]
    )
    lineage = job.lineage(stage, outcome.provenance)
    if len(refused):
        lake.write(QUARANTINE, refused, job.symbol, job.timeframe, lineage=lineage)
    receipt = lake.write(
        RAW_BARS,
        stamp_arrival(good, job.timeframe, source=source_id, now=now).assign(
            volume_kind=outcome.volume_kind, ts_origin=outcome.ts_origin
        ),
        job.symbol,
        job.timeframe,
        lineage=lineage,
        arrived_at=now,
    )
    unsorted = (f"{checked.n_unsorted} rows were out of order",) if checked.n_unsorted else ()
    return StageResult(
        stage,
        job,
        rows_in=len(outcome.bars) + len(outcome.rejected),
        rows_out=len(good),
        version=receipt.version,
        path=str(receipt.path),
        quarantined=len(refused),
        reasons=count_reasons(refused),
        notes=(*outcome.notes, *unsorted),
        checks=(
            CheckRecord.of_rows(checked, outcome.bars, stage=stage, data_version=receipt.version),
            CheckRecord.of_output(
                "parsing", outcome.bars, stage=stage, data_version=receipt.version, rows_found=len(outcome.rejected)
            ),
        ),
    )


def stamp_arrival(bars: pd.DataFrame, timeframe: Timeframe, *, source: str, now: pd.Timestamp) -> pd.DataFrame:
    """Add when each bar closed and when it could have been known.

    A bar that arrives shortly after its close was known at its arrival. For a backfilled bar the arrival says nothing
    about when it was first public, so its close stands in, marked as an estimate.
    """
    closes = timeframe.closes(pd.DatetimeIndex(bars.index))
    live = (now - closes) <= WATCHING_BARS * timeframe.duration
    return bars.assign(
        close_ts=closes,
        known_at=closes.where(~live, now).as_unit("ns"),
        known_at_is_estimate=~live,
        source=source,
        revision=0,
    )


def count_reasons(refused: pd.DataFrame) -> dict[str, int]:
    """How many quarantined rows name each reason."""
    return {str(k): int(v) for k, v in refused["reasons"].explode().value_counts().items()} if len(refused) else {}
