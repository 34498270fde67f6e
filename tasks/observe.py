"""Observation: each stage says how long it took, how many rows it moved, what it checked and how it ended.

The numbers go to the store of metrics, the checks and the end of each stage to the log of checks and, the checks, to
the lake's audit table. An observation that cannot be written is logged and fails nothing.

    with observed("ingest", job) as seen:
        ...
        seen.count(rows_in=10, rows_out=9, quarantined=1, reasons={"no_time": 1})
        seen.check(CheckRecord(...))
    measure("tapeline_feed_lag_seconds", 0.12, feed="binance spot")
"""

from __future__ import annotations

import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from prefect.context import FlowRunContext

from tapeline.core.errors import TapelineError
from tapeline.core.settings import Settings, load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake, Lineage
from tapeline.monitoring.metric_store import STORE_FILE, MetricStore, Update
from tapeline.monitoring.redaction import Redactor
from tapeline.quality.integrity_log import CheckRecord, IntegrityLog
from tasks.job import Job, StageResult

Given = ParamSpec("Given")
Result = TypeVar("Result")
Series = tuple[Symbol, Timeframe]
Subject = Job | Series | str
"""What a stage works on: a job, a symbol and timeframe, or a name where it is neither (a feed, a model)."""

LOG_FILE: Final = Path("logs") / "integrity.jsonl"
"""The log of checks, below the state folder."""
NO_FLOW: Final = "none"
"""The flow of what runs outside one."""

_log: Final = logging.getLogger(__name__)


@dataclass
class Rows:
    """Rows into and out of a stage, and into quarantine by reason."""

    rows_in: int = 0
    rows_out: int = 0
    quarantined: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class Observation:
    """What a stage has told so far: rows by stage (its own, and parts of it that have a name) and checks."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.rows: dict[str, Rows] = {}
        self.checks: list[tuple[CheckRecord, Series | None]] = []

    def count(
        self,
        *,
        rows_in: int = 0,
        rows_out: int = 0,
        quarantined: int = 0,
        reasons: Mapping[str, int] | None = None,
        part: str = "",
    ) -> None:
        """Add to the rows that went in, came out and were put into quarantine, and the reasons of the latter.

        Several reasons may name one row. What was counted before a failure is told too. ``part`` names a part of the
        stage that is counted as a stage of its own.
        """
        rows = self.rows.setdefault(part or self.stage, Rows())
        rows.rows_in += rows_in
        rows.rows_out += rows_out
        rows.quarantined += quarantined
        rows.reasons.update(reasons or {})

    def check(self, *records: CheckRecord, of: Series | None = None) -> None:
        """Add checks; ``of`` names the symbol and timeframe they are of where the stage's subject is none."""
        self.checks.extend((record, of) for record in records)


@contextmanager
def observed(stage: str, subject: Subject, *, run_id: str = "", flow: str = "") -> Iterator[Observation]:
    """Observe the block as one stage: its wall and processor time, rows, checks, and whether it finished or failed.

    Parameters
    ----------
    stage:
        Such as ``ingest``; few different ones.
    subject:
        A job, a (symbol, timeframe) pair, or a name. Checks go to the audit table where the series is known, and to
        the log in any case.
    run_id, flow:
        The job's and Prefect's where absent.

    Yields
    ------
    Observation
        To count rows on and add checks to.

    An exception of the block is told by its class and raised again. The processor time is that of the calling thread:
    of an asynchronous block it includes what else ran on the loop meanwhile.
    """
    seen = Observation(stage)
    started, cpu_started = time.perf_counter(), time.thread_time()
    error: BaseException | None = None
    try:
        yield seen
    except BaseException as caught:
        error = caught
        raise
    finally:
        wall, cpu = time.perf_counter() - started, time.thread_time() - cpu_started
        try:
            _tell(seen, stage, subject, run_id, flow or _flow_name(), wall, cpu, error)
        except Exception as problem:  # noqa: BLE001 - observing must never fail what it observes
            _log.warning("the stage %s could not be observed: %s", stage, type(problem).__name__)


def observes(stage: str) -> Callable[[Callable[Given, Result]], Callable[Given, Result]]:
    """Decorate a function of a job that returns a stage's result: it is observed, and the result's rows are counted.

    Stands below ``@task``. A result's ``checks`` are written, and one record of its rows beside them.
    """

    def decorate(function: Callable[Given, Result]) -> Callable[Given, Result]:
        @functools.wraps(function)
        def watched(*given: Given.args, **named: Given.kwargs) -> Result:
            job: Any = named["job"] if "job" in named else given[0]
            with observed(stage, job) as seen:
                result = function(*given, **named)
                for one in result if isinstance(result, tuple) else (result,):
                    if isinstance(one, StageResult):
                        seen_result(seen, one)
                return result

        return watched

    return decorate


def seen_result(seen: Observation, result: StageResult) -> None:
    """Count a stage's result and add its checks."""
    seen.count(
        rows_in=result.rows_in,
        rows_out=result.rows_out,
        quarantined=result.quarantined,
        reasons=result.reasons,
        part=result.stage,
    )
    seen.check(*result.checks, of=(result.job.symbol, result.job.timeframe))


def measure(name: str, value: float, **labels: object) -> None:
    """Set a gauge, add one observation to a histogram, or add to a counter, by its name. Never raises.

    The names, units and labels stand in :data:`tapeline.monitoring.metrics.METRICS`; any other name that follows the
    conventions works too: a counter where it ends in ``_total``, else a gauge. A call costs about half a millisecond:
    a busy loop adds up and tells once a second.
    """
    measure_all(Update(name, value, labels))


def measure_all(*updates: Update) -> None:
    """Make several changes of metrics in one transaction. Never raises; what is wrong is logged."""
    try:
        open_metrics(load_settings()).apply(updates)
    except Exception as problem:  # noqa: BLE001 - a number that cannot be written must not stop the work
        _log.warning("metrics not written: %s: %s", type(problem).__name__, problem)


def open_metrics(settings: Settings) -> MetricStore:
    """The store of metrics of the settings."""
    return MetricStore(settings.state_path / STORE_FILE)


def _tell(
    seen: Observation,
    stage: str,
    subject: Subject,
    run_id: str,
    flow: str,
    wall: float,
    cpu: float,
    error: BaseException | None,
) -> None:
    settings = load_settings()
    measure_all(*_updates(seen, stage, flow, wall, cpu, error))
    run = run_id or (subject.run_id if isinstance(subject, Job) else "")
    series = _series(subject)
    name = subject if isinstance(subject, str) else " ".join(map(str, series or ()))
    redact = Redactor.of(settings)
    values: dict[str, Any] = {
        "stage": stage,
        "flow": flow,
        "subject": name,
        "run_id": run,
        "outcome": "failed" if error else "finished",
        "wall_seconds": round(wall, 4),
        "cpu_seconds": round(cpu, 4),
        "rows": {part: {**vars(rows), "reasons": dict(rows.reasons)} for part, rows in seen.rows.items()},
    }
    if error is not None:
        text = error.message if isinstance(error, TapelineError) else str(error)
        values |= {"error": type(error).__name__, "error_message": text}
    lineage = Lineage(run, stage)
    with IntegrityLog(settings.state_path / LOG_FILE, Lake(settings.lake_path), redact=redact) as log:
        for record, of in seen.checks:
            place = of or series
            try:
                if place is None:
                    log.note(record.level, record.check, record.to_fields() | {"subject": name, "run_id": run})
                else:
                    log.write(record, *place, lineage=lineage)
            except Exception as problem:  # noqa: BLE001 - the next record may be writable
                _log.warning("a check of %s is not in the audit table: %s", stage, redact(str(problem)))
        log.note("ERROR" if error else "INFO", f"stage {values['outcome']}", values)
        if log.lost_lines:
            _log.warning("%d lines of %s could not be written", log.lost_lines, LOG_FILE)


def _updates(
    seen: Observation, stage: str, flow: str, wall: float, cpu: float, error: BaseException | None
) -> Iterator[Update]:
    here = {"flow": flow, "stage": stage}
    yield Update("tapeline_stage_duration_seconds", wall, here)
    yield Update("tapeline_stage_cpu_seconds_total", cpu, here)
    yield Update("tapeline_stage_runs_total", 1, {**here, "outcome": "failed" if error else "finished"})
    if error is not None:
        yield Update("tapeline_stage_failures_total", 1, {**here, "error": type(error).__name__})
    else:
        yield Update("tapeline_stage_last_success_timestamp_seconds", time.time(), here)
    for part, rows in seen.rows.items():
        moved = {"in": rows.rows_in, "out": rows.rows_out, "quarantined": rows.quarantined}
        for direction, count in moved.items():
            yield Update("tapeline_stage_rows_total", count, {"flow": flow, "stage": part, "direction": direction})
        for reason, count in rows.reasons.items():
            yield Update("tapeline_rows_quarantined_total", count, {"stage": part, "reason": reason})
    for record, _ in seen.checks:
        outcome = "passed" if record.passed else "refused"
        yield Update("tapeline_checks_total", 1, {"stage": record.stage, "check": record.check, "outcome": outcome})


def _series(subject: Subject) -> Series | None:
    if isinstance(subject, Job):
        return subject.symbol, subject.timeframe
    return None if isinstance(subject, str) else subject


def _flow_name() -> str:
    context = FlowRunContext.get()
    return context.flow.name if context is not None and context.flow is not None else NO_FLOW
