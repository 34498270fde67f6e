"""Validate and clean: from the raw zone to the clean zone; rows that fail a check go to quarantine."""

from __future__ import annotations

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tapeline.cleaning.policy import CleaningPolicy
from tapeline.cleaning.sanitizer import sanitize
from tapeline.core.schemas import CLEAN_BARS, QUARANTINE, RAW_BARS
from tapeline.core.settings import Settings
from tapeline.lake.lake import Lake
from tapeline.quality.anomalies import find_anomalies
from tapeline.quality.checks import check_bars, split
from tapeline.quality.integrity_log import CheckRecord
from tapeline.quality.quarantine import quarantine
from tasks.gaps import calendar_of, gap_note, record_gaps
from tasks.ingest import count_reasons
from tasks.job import STAGE_SECONDS, Job, StageResult, history_start, open_lake
from tasks.observe import observes


@task(task_run_name="clean {job.name}", cache_policy=NO_CACHE, tags=["clean"], timeout_seconds=STAGE_SECONDS)
@observes("clean")
def clean_bars(job: Job) -> tuple[StageResult, StageResult]:
    """Check the job's raw bars row by row, quarantine what fails, sanitize the rest and write it to the clean zone."""
    settings, lake = open_lake()
    span = {"start": job.start, "end": job.end}
    raw_version = lake.version(RAW_BARS, job.symbol, job.timeframe, **span)
    raw_input = job.input_of(RAW_BARS.path, raw_version)
    raw = lake.read(RAW_BARS, job.symbol, job.timeframe, **span)
    source = str(raw["source"].iloc[0]) if len(raw) else job.source
    checked = check_bars(raw, job.timeframe)
    good, _ = split(raw, checked)
    refused = quarantine(raw, checked, stage="validate", source=source)
    if len(refused):
        lake.write(QUARANTINE, refused, job.symbol, job.timeframe, lineage=job.lineage("validate", raw_input))
    validated = StageResult(
        "validate",
        job,
        rows_in=len(raw),
        rows_out=len(good),
        version=raw_version,
        path=str(lake.path_of(QUARANTINE, job.symbol, job.timeframe)),
        quarantined=len(refused),
        reasons=count_reasons(refused),
        checks=(CheckRecord.of_rows(checked, raw, stage="validate", data_version=raw_version),),
    )
    policy = CleaningPolicy.from_settings(settings.cleaning)
    history = history_before(lake, job, policy.lookback(job.timeframe))
    cleaned = sanitize(good, job.timeframe, history=history, policy=policy, calendar=calendar_of(job, source, settings))
    receipt = lake.write(CLEAN_BARS, cleaned.bars, job.symbol, job.timeframe, lineage=job.lineage("clean", raw_input))
    notes = tuple(f"{row.change}: {row.rows}" for row in cleaned.report.itertuples())
    changes = {str(row.change): int(row.rows) for row in cleaned.report.itertuples()}
    repaired = CheckRecord.of_output(
        "repairs", cleaned.bars, stage="clean", data_version=receipt.version, details={"changes": changes}
    )
    version = receipt.version
    gaps, changed = record_gaps(served(cleaned.bars, history), job, source, settings, lake, data_version=version)
    checks = (
        repaired,
        # Told once: a run over another stretch that finds nothing new adds nothing to the audit table.
        *([CheckRecord.of_gaps(gaps, cleaned.bars, stage="clean", data_version=version)] if changed else []),
        *unusual(cleaned.bars, history, job, settings, data_version=version),
    )
    return validated, StageResult(
        "clean",
        job,
        len(good),
        len(cleaned.bars),
        version,
        str(receipt.path),
        notes=(*notes, gap_note(gaps)),
        checks=checks,
    )


def served(bars: pd.DataFrame, history: pd.DataFrame | None) -> pd.DatetimeIndex:
    """The open times of the bars that a source served, from the last one before the job's own on.

    A bar that stands in for an absent one closes no gap.
    """
    parts = [frame for frame in (history, bars) if frame is not None and len(frame)]
    kept = [
        pd.DatetimeIndex(part.index if "filled" not in part.columns else part.index[part["filled"].ne(True).to_numpy()])
        for part in parts
    ]
    if not kept:
        return pd.DatetimeIndex([], tz="UTC", name="ts").as_unit("ns")
    before = kept[0][kept[0] < bars.index[0]][-1:] if len(kept) > 1 and len(bars) else kept[0][:0]
    return pd.DatetimeIndex(before.append(kept[-1]))


def unusual(
    bars: pd.DataFrame, history: pd.DataFrame | None, job: Job, settings: Settings, *, data_version: str
) -> tuple[CheckRecord, ...]:
    """The job's unusual bars by the methods that the settings name, as one check; nothing where they name none."""
    methods = settings.quality.anomalies
    if not methods or bars.empty:
        return ()
    judged = bars if history is None else pd.concat([history[history.index < bars.index[0]], bars])
    found = find_anomalies(judged, job.timeframe, methods=methods)
    found = found[found["known_at"] > bars.index[0]]
    return (CheckRecord.of_anomalies(found, bars, stage="clean", data_version=data_version),)


def history_before(lake: Lake, job: Job, bars: int) -> pd.DataFrame | None:
    """The clean bars just before the job's own, as many as cleaning looks back over; None for a job from the start."""
    start = history_start(lake, job, max(bars, 1))  # the bar before the first one at least: a gap may lie between
    return None if start is None else lake.read(CLEAN_BARS, job.symbol, job.timeframe, start=start, end=job.start)
