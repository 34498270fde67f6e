"""Validate and clean: from the raw zone to the clean zone; rows that fail a check go to quarantine."""

from __future__ import annotations

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tapeline.cleaning.policy import CleaningPolicy
from tapeline.cleaning.sanitizer import sanitize
from tapeline.core.schemas import CLEAN_BARS, QUARANTINE, RAW_BARS
from tapeline.lake.lake import Lake
from tapeline.quality.calendars import choose_calendar
from tapeline.quality.checks import check_bars, split
from tapeline.quality.integrity_log import CheckRecord
from tapeline.quality.quarantine import quarantine
from tasks.ingest import count_reasons
from tasks.job import Job, StageResult, history_start, open_lake
from tasks.observe import observes


@task(task_run_name="clean {job.name}", cache_policy=NO_CACHE, tags=["clean"])
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
    policy, rules = CleaningPolicy.from_settings(settings.cleaning), settings.calendars
    cleaned = sanitize(
        good,
        job.timeframe,
        history=history_before(lake, job, policy.lookback(job.timeframe)),
        policy=policy,
        calendar=choose_calendar(
            str(job.symbol), source, default=rules.default, symbols=rules.symbols, sources=rules.sources
        ),
    )
    receipt = lake.write(CLEAN_BARS, cleaned.bars, job.symbol, job.timeframe, lineage=job.lineage("clean", raw_input))
    notes = tuple(f"{row.change}: {row.rows}" for row in cleaned.report.itertuples())
    changes = {str(row.change): int(row.rows) for row in cleaned.report.itertuples()}
    repaired = CheckRecord.of_output(
        "repairs", cleaned.bars, stage="clean", data_version=receipt.version, details={"changes": changes}
    )
    return validated, StageResult(
        "clean", job, len(good), len(cleaned.bars), receipt.version, str(receipt.path), notes=notes, checks=(repaired,)
    )


def history_before(lake: Lake, job: Job, bars: int) -> pd.DataFrame | None:
    """The clean bars just before the job's own, as many as cleaning looks back over; None for a job from the start."""
    start = history_start(lake, job, bars)
    return None if start is None else lake.read(CLEAN_BARS, job.symbol, job.timeframe, start=start, end=job.start)
