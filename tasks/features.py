"""Features: from clean bars to one row a bar of the declared feature set, in float32, with its version."""

from __future__ import annotations

import pandas as pd
from prefect import task

from tapeline.core.errors import DataError
from tapeline.core.schemas import CLEAN_BARS, TableSpec, features_spec
from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.features.engine import compute
from tapeline.features.feature_set import FeatureSet, load_feature_set
from tapeline.lake.lake import Lake
from tapeline.quality.integrity_log import CheckRecord
from tasks.job import STAGE_SECONDS, Job, StageResult, history_start, open_lake
from tasks.observe import observes
from tasks.reuse import UnchangedInputs, remember


@task(
    task_run_name="features {job.name}",
    cache_policy=UnchangedInputs(stage="features"),
    persist_result=True,
    timeout_seconds=STAGE_SECONDS,
    tags=["features"],
)
@observes("features")
def build_features(job: Job) -> StageResult:
    """Compute the feature set on a job's clean bars and store it under its version.

    A job with a start gets its rows from that start on, computed with as much earlier history as they need: history
    and the live tail go through the same functions.
    """
    settings, lake = open_lake()
    feature_set, spec = feature_table(settings)
    bars, rows = read_clean(lake, job, lookback=feature_set.lookback)
    context = read_context(lake, feature_set, job)
    frame = compute(feature_set, bars, job.timeframe, context=context, tail=rows)
    version = lake.version(CLEAN_BARS, job.symbol, job.timeframe, start=bars.index[0], end=job.end)
    inputs = (job.input_of(CLEAN_BARS.path, version), feature_set.version)
    receipt = lake.write(spec, frame, job.symbol, job.timeframe, lineage=job.lineage("features", *inputs))
    remember("features", job, settings, lake)
    notes = (f"{len(feature_set.columns)} columns",)
    missing = int(frame[list(feature_set.columns)].isna().any(axis=1).sum())
    present = CheckRecord.of_output(
        "missing_values",
        frame,
        stage="features",
        data_version=receipt.version,
        details={"rows_with_missing_values": missing, "feature_set": feature_set.version},
    )
    return StageResult(
        "features", job, rows, len(frame), feature_set.version, str(receipt.path), notes=notes, checks=(present,)
    )


def read_clean(lake: Lake, job: Job, *, lookback: int) -> tuple[pd.DataFrame, int]:
    """The job's clean bars behind the ``lookback`` bars that precede them, and how many are the job's own.

    Raises
    ------
    DataError
        The job's range holds no clean bar.
    """
    start = history_start(lake, job, lookback)
    bars = lake.read(CLEAN_BARS, job.symbol, job.timeframe, start=start, end=job.end)
    rows = len(bars) - (0 if job.start is None else int(bars.index.searchsorted(job.start)))
    if not rows:
        raise DataError(f"no clean bars of {job.name} in that range", hint="run the ingest first: tapeline run ...")
    return bars, rows


def read_context(lake: Lake, feature_set: FeatureSet, job: Job) -> dict[str, tuple[pd.DataFrame, Timeframe]]:
    """The clean bars of every series that the feature set joins as context, by its prefix; absent ones are left out."""
    context = {}
    for prefix, declared in feature_set.context.items():
        frame = lake.read(CLEAN_BARS, Symbol.parse(declared.symbol), Timeframe.parse(declared.timeframe), end=job.end)
        if len(frame):
            context[prefix] = (frame, Timeframe.parse(declared.timeframe))
    return context


def feature_table(settings: Settings) -> tuple[FeatureSet, TableSpec]:
    """The feature set in force and its lake table."""
    feature_set = load_feature_set(settings.feature_set)
    return feature_set, features_spec(feature_set.version, feature_set.columns)
