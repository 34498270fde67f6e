"""One stage over many jobs: map the task, keep what finished, let the zone's gate judge it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import Task, get_run_logger, unmapped

from tapeline.core.errors import QualityError, TemporaryError
from tapeline.quality.gate_process import GateProcess
from tasks.artifacts import Progress, show_stage
from tasks.gate import judge_stage
from tasks.job import Job, StageResult
from tasks.summary import RunSummary


def run_stage(
    summary: RunSummary, gate: GateProcess, stage: str, work: Task[..., Any], jobs: Sequence[Job], **constants: Any
) -> list[Job]:
    """Run a task for every job and judge what it wrote; give the jobs that may go on.

    A job whose task failed or whose output the gate refused is recorded in the summary and stops here, the others go
    on. A job without a row to work on stops too, with a note and no failure: an empty answer can be a valid one.
    """
    finished = []
    futures = work.map(list(jobs), **{name: unmapped(value) for name, value in constants.items()}) if jobs else []
    results: list[StageResult] = []
    progress = Progress(f"progress-{stage}", f"Series through the stage '{stage}'") if jobs else None
    for number, (job, future) in enumerate(zip(jobs, futures, strict=True), 1):
        future.wait()
        if progress is not None:
            progress(number / len(jobs))
        outcome = future.state.result(raise_on_failure=False)
        if isinstance(outcome, BaseException):
            summary.fail(job, stage, told(outcome, future.state.name, stage, job, work))
            continue
        own: tuple[StageResult, ...] = outcome if isinstance(outcome, tuple) else (outcome,)
        results.extend(own)
        if own[-1].rows_out:
            finished.append(job)
        else:
            get_run_logger().info("%s: no new row to %s. %s", job.name, stage, "; ".join(own[-1].notes))
    summary.stages.extend(results)
    show_stage(stage, results)
    if not finished:
        return []
    verdicts = judge_stage(gate, stage, finished)
    summary.verdicts.extend(verdicts)
    passed = []
    for job, verdict in zip(finished, verdicts, strict=True):
        if verdict.passed:
            passed.append(job)
        else:
            failures = ", ".join(verdict.failures)
            summary.fail(job, stage, QualityError(f"the gate '{verdict.suite}' refused {job.name}: {failures}"))
    return passed


def told(error: BaseException, state: str | None, stage: str, job: Job, work: Task[..., Any]) -> BaseException:
    """A task's error as people are told it: Prefect's own says nothing of which stage took too long."""
    if state != "TimedOut":
        return error
    late = TemporaryError(
        f"the stage '{stage}' of {job.name} took longer than its limit of {work.timeout_seconds:g} s and was ended",
        hint="what was written stands; the next run goes on there",
    )
    late.__cause__ = error
    return late
