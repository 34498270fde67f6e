"""The gate of each lake zone: Great Expectations judges a batch before the next stage may read it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow.feather
from prefect import task
from prefect.cache_policies import NO_CACHE

from tapeline.core.schemas import AUDIT, CLEAN_BARS, EVENTS, RAW_BARS, SCORES, TableSpec, labels_spec
from tapeline.core.settings import Settings
from tapeline.labels.label_set import load_label_set
from tapeline.monitoring.metric_store import Update
from tapeline.quality.gate import Verdict, to_audit_rows, to_markdown
from tapeline.quality.gate_process import GateProcess, GateRequest
from tapeline.quality.integrity_log import CheckRecord
from tasks.artifacts import show_markdown
from tasks.features import feature_table
from tasks.job import Job, open_lake
from tasks.observe import measure_all, observed

ZONE_SUITES: Final[Mapping[str, str]] = {
    "ingest": "raw_bars",
    "clean": "clean_bars",
    "features": "features",
    "charts": "events",
    "labels": "labels",
    "score": "scores",
}
"""The suite under ``expectations/`` that judges what each stage wrote."""


@task(task_run_name="gate {stage}", cache_policy=NO_CACHE, tags=["gate"])
def judge_stage(gate: GateProcess, stage: str, jobs: Sequence[Job]) -> list[Verdict]:
    """Judge what a stage wrote for each job, store the verdicts in the audit zone, show them as one artifact.

    Returns the verdict of each job, in order; the caller decides what a refusal stops.
    """
    settings, lake = open_lake()
    spec = spec_of(stage, settings)
    requests = []
    with tempfile.TemporaryDirectory(prefix="tapeline-gate-") as folder:
        for number, job in enumerate(jobs):
            span = {"start": job.start, "end": job.end}
            # The latest revisions, as the next stage will read them; the files themselves also hold the older ones.
            path = Path(folder) / f"{number}.arrow"
            batch = lake.read_arrow(spec, job.symbol, job.timeframe, **span)
            pyarrow.feather.write_feather(batch, path, compression="uncompressed")
            version = lake.version(spec, job.symbol, job.timeframe, **span)
            requests.append(GateRequest((path,), ZONE_SUITES[stage], version))
        with observed(f"gate {stage}", f"{len(jobs)} jobs", run_id=jobs[0].run_id if jobs else "") as seen:
            verdicts = gate.judge(requests)
            for job, verdict in zip(jobs, verdicts, strict=True):
                # Written here, where a failure fails the gate: models cite verdicts. The observation adds the line.
                lineage = job.lineage(f"gate {stage}", job.input_of(spec.path, verdict.data_version))
                lake.write(AUDIT, to_audit_rows([verdict], stage), job.symbol, job.timeframe, lineage=lineage)
                seen.check(CheckRecord.of_verdict(verdict, stage=stage), of=(job.symbol, job.timeframe))
    measure_all(*(Update("tapeline_gate_verdicts_total", 1, verdict_labels(stage, verdict)) for verdict in verdicts))
    show_markdown(f"gate-{stage}", to_markdown(verdicts), f"Verdicts on the {stage} output")
    return verdicts


def verdict_labels(stage: str, verdict: Verdict) -> dict[str, str]:
    """How the metrics name a verdict."""
    return {"stage": stage, "suite": verdict.suite, "verdict": "passed" if verdict.passed else "refused"}


def spec_of(stage: str, settings: Settings) -> TableSpec:
    """The table that a stage writes."""
    if stage == "features":
        return feature_table(settings)[1]
    if stage == "labels":
        return labels_spec(load_label_set().version)
    return {"ingest": RAW_BARS, "clean": CLEAN_BARS, "charts": EVENTS, "score": SCORES}[stage]
