"""What a run did, told once: as a record, on the terminal, as Prefect artifacts and as one HTML report."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tapeline.console import print_table, terminal
from tapeline.core.errors import TapelineError
from tapeline.core.schemas import CLEAN_BARS, SCORES, labels_spec
from tapeline.core.settings import Settings
from tapeline.labels.label_set import load_label_set
from tapeline.lake.lake import Lake
from tapeline.quality.gate import Verdict
from tasks.artifacts import show_link, show_markdown, show_table
from tasks.job import Job, StageResult, open_lake
from tasks.observe import observed

if TYPE_CHECKING:
    from tapeline.evaluation.result import TrainingResult


@dataclass
class RunSummary:
    """Everything a person wants to know after a run, filled in stage by stage."""

    name: str
    stages: list[StageResult] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    failures: list[tuple[Job, str, BaseException]] = field(default_factory=list)
    result: TrainingResult | None = None
    alerts: int = 0
    report: Path | None = None

    def fail(self, job: Job, stage: str, error: BaseException) -> None:
        """Record that a job stopped at a stage, and say so in the log at once."""
        self.failures.append((job, stage, error))
        get_run_logger().error("%s stopped at %s: %s", job.name, stage, error)

    @property
    def failed_jobs(self) -> set[str]:
        """The names of the jobs that stopped somewhere."""
        return {job.name for job, _, _ in self.failures}

    @property
    def verdict_ids(self) -> tuple[str, ...]:
        """The verdicts so far: a model cites the ones that judged its data."""
        return tuple(verdict.id for verdict in self.verdicts)

    @property
    def stage_table(self) -> pd.DataFrame:
        """One row a stage and symbol: rows in and out, quarantined, version, where it lies."""
        columns = ["stage", "symbol", "rows_in", "rows_out", "quarantined", "version", "path", "notes"]
        rows = [
            (r.stage, str(r.job.symbol), r.rows_in, r.rows_out, r.quarantined, r.version, r.path, "; ".join(r.notes))
            for r in self.stages
        ]
        return pd.DataFrame(rows, columns=columns)

    @property
    def reason_table(self) -> pd.DataFrame:
        """One row a stage, symbol and reason with the number of quarantined rows."""
        rows = [(r.stage, str(r.job.symbol), reason, count) for r in self.stages for reason, count in r.reasons.items()]
        return pd.DataFrame(rows, columns=["stage", "symbol", "reason", "rows"])

    def raise_failures(self) -> None:
        """End the run as failed where a job failed: its own error where there is one, else one that counts them."""
        if not self.failures:
            return
        _, stage, error = self.failures[0]
        if len(self.failures) == 1:
            raise error
        names = ", ".join(sorted(self.failed_jobs))
        hint = error.hint if isinstance(error, TapelineError) else None
        kind = type(error) if isinstance(error, TapelineError) else TapelineError
        raise kind(f"{len(self.failures)} jobs failed ({names}); the first at {stage}: {error}", hint=hint) from error


@task(task_run_name="publish", cache_policy=NO_CACHE)
def publish(summary: RunSummary) -> None:
    """Write the HTML report and the run's Prefect artifacts, and print the summary."""
    settings, lake = open_lake()
    if summary.result is not None:
        with observed("report", summary.name):
            summary.report = write_html(summary, settings, lake)
    show(summary, settings, lake)
    stages = summary.stage_table
    show_table("stages", stages.drop(columns="path").to_dict("records"), "Rows through the stages")
    show_table("quarantine", summary.reason_table.to_dict("records"), "Quarantined rows by reason")
    if summary.result is None:
        return
    show_markdown("metrics", metrics_markdown(summary.result), "Out-of-sample metrics")
    if summary.report is not None:
        show_link("report", summary.report.as_uri(), "HTML report")


def show(summary: RunSummary, settings: Settings, lake: Lake) -> None:
    """Print what the run did: rows, refused rows with reasons, verdicts, metrics beside baselines, where things lie."""
    console = terminal()
    stages = summary.stage_table
    print_table("Rows through the stages", stages[["stage", "symbol", "rows_in", "rows_out", "quarantined"]])
    if len(summary.reason_table):
        print_table("Quarantined rows by reason", summary.reason_table)
    else:
        console.print("Quarantined rows: none\n")
    passed = sum(verdict.passed for verdict in summary.verdicts)
    console.print(f"Gates: {passed} of {len(summary.verdicts)} verdicts passed")
    for verdict in summary.verdicts:
        if not verdict.passed:
            console.print(f"  {verdict.suite} refused {verdict.data_version}: {'; '.join(verdict.failures)}")
    for job, stage, error in summary.failures:
        console.print(f"Stopped: {job.name} at {stage}: {error}")
    if summary.result is not None:
        result = summary.result
        shown = result.metrics.rename(columns={"low": "95 % from", "high": "to", "value": "model"})
        print_table("Out of sample, on the holdout that was looked at once, beside the baselines", shown)
        console.print(
            f"Model        {result.name} version {result.model_version} ({', '.join(result.aliases) or 'no alias'})"
        )
        console.print(f"             {result.reason}")
        console.print(f"Features     {result.versions.feature_set}")
        console.print(f"Labels       {result.versions.label}")
        console.print(f"Data         {result.versions.data}")
    if summary.result is not None and not any(done.stage == "score" for done in summary.stages):
        console.print("Scores       none: this model has no champion yet, for the reason above")
    if summary.alerts:
        console.print(f"Alerts       {summary.alerts} fresh scores above {settings.scoring.confidence_threshold:g}")
    console.print(f"Lake         {lake.root}")
    for done in summary.stages:
        if done.path and done.rows_out and not done.job.context:
            console.print(f"  {done.stage:<10} {Path(done.path).relative_to(lake.root)}")
    if summary.result is not None:
        console.print(f"MLflow       {settings.mlflow_uri}")
        console.print(f"Model card   {Path(summary.result.card).as_uri() if summary.result.card else 'none'}")
        console.print(f"Report       {summary.report.as_uri() if summary.report else 'none'}")


def write_html(summary: RunSummary, settings: Settings, lake: Lake) -> Path:
    """Render the report of a training run and give its path."""
    from tapeline.evaluation.report import Report, write_report

    assert summary.result is not None  # noqa: S101 - publish() checked it; for the type checker
    job = next(r.job for r in summary.stages if not r.job.context)
    scores = lake.read(SCORES, job.symbol, job.timeframe)
    report = Report(
        title=summary.name,
        stages=summary.stage_table,
        quarantine=summary.reason_table,
        verdicts=summary.verdicts,
        result=summary.result,
        symbol=str(job.symbol),
        timeframe=str(job.timeframe),
        bars=lake.read(CLEAN_BARS, job.symbol, job.timeframe, start=job.start, end=job.end),
        labels=lake.read(
            labels_spec(load_label_set().version), job.symbol, job.timeframe, start=job.start, end=job.end
        ),
        scores=scores[scores["model"] == summary.name],
        links={"lake": str(settings.lake_path), "MLflow": settings.mlflow_uri},
    )
    return write_report(settings.reports_path / f"{safe_file_name(summary.name)}.html", report)


def metrics_markdown(result: TrainingResult) -> str:
    """The metrics beside their baselines as a Markdown table."""
    return markdown_table(result.metrics)


def markdown_table(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table; cells are escaped so that a symbol cannot break out of its cell."""

    def cell(value: object) -> str:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")

    lines = [" | ".join(map(cell, frame.columns)), " | ".join("---" for _ in frame.columns)]
    lines += [" | ".join(map(cell, row)) for row in frame.itertuples(index=False)]
    return "\n".join(f"| {line} |" for line in lines)


def safe_file_name(name: str) -> str:
    """A name in which only letters, digits, dot, minus and underscore are left."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "report"
