"""Labels: from clean bars to what happened next, with the instant at which each label became known."""

from __future__ import annotations

from prefect import task

from tapeline.core.schemas import CLEAN_BARS, labels_spec
from tapeline.labels.label_set import compute, load_label_set
from tapeline.quality.integrity_log import CheckRecord
from tasks.features import read_clean
from tasks.job import STAGE_SECONDS, Job, StageResult, open_lake
from tasks.observe import observes
from tasks.reuse import UnchangedInputs, remember


@task(
    task_run_name="labels {job.name}",
    cache_policy=UnchangedInputs(stage="labels"),
    persist_result=True,
    timeout_seconds=STAGE_SECONDS,
    tags=["labels"],
)
@observes("labels")
def build_labels(job: Job) -> StageResult:
    """Label a job's clean bars and store the labels under their version; a label not yet known has no row."""
    settings, lake = open_lake()
    label_set = load_label_set()
    bars, rows = read_clean(lake, job, lookback=label_set.lookback)
    frame = compute(label_set, bars, job.timeframe).loc[bars.index[-rows] :]
    version = lake.version(CLEAN_BARS, job.symbol, job.timeframe, start=bars.index[0], end=job.end)
    inputs = (job.input_of(CLEAN_BARS.path, version), label_set.version)
    receipt = lake.write(
        labels_spec(label_set.version), frame, job.symbol, job.timeframe, lineage=job.lineage("labels", *inputs)
    )
    remember("labels", job, settings, lake)
    ambiguous = int((frame["value"] == 0).sum())
    notes = (f"{ambiguous} ambiguous (both barriers inside one bar)",)
    clear = CheckRecord.of_output(
        "ambiguous_labels", frame, stage="labels", data_version=receipt.version, rows_found=ambiguous
    )
    return StageResult(
        "labels", job, rows, len(frame), label_set.version, str(receipt.path), notes=notes, checks=(clear,)
    )
