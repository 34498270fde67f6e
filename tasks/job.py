"""What travels between the tasks of one run: small records that name data instead of carrying it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pandas as pd
from prefect.tasks import exponential_backoff

from tapeline.core.errors import TemporaryError
from tapeline.core.request import parse_request
from tapeline.core.schemas import CLEAN_BARS, RAW_BARS
from tapeline.core.settings import Settings, load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.core.versions import digest
from tapeline.lake.lake import Lake, Lineage
from tapeline.quality.integrity_log import CheckRecord
from tapeline.sources.base import open_source

NAMED_SYMBOLS: Final = 3
"""Up to so many symbols are spelled out in a model's name."""


@dataclass(frozen=True)
class Job:
    """One symbol and timeframe of one run.

    ``start`` and ``end`` bound the bars by open time, [start, end); None leaves that side open. ``context`` marks a
    series that only other symbols' features read, such as VIX.
    """

    run_id: str
    source: str
    symbol: Symbol
    timeframe: Timeframe
    start: pd.Timestamp | None = None
    end: pd.Timestamp | None = None
    context: bool = False

    @property
    def name(self) -> str:
        """``EURUSD H1``, for logs and run names."""
        return f"{self.symbol} {self.timeframe}"

    def since(self, start: pd.Timestamp) -> Job:
        """The same job from a later start."""
        return replace(self, start=start)

    def input_of(self, table: str, version: str = "") -> str:
        """How lineage names the series of this job in a table, at a version where one is given."""
        return f"{table}:{self.symbol}:{self.timeframe}{f'@{version}' if version else ''}"

    def lineage(self, stage: str, *inputs: str) -> Lineage:
        """What to write beside the data that this job makes."""
        return Lineage(run_id=self.run_id, stage=stage, inputs=inputs)


@dataclass(frozen=True)
class StageResult:
    """What one stage did for one job: rows in and out, what it refused and why, what was checked, where it lies."""

    stage: str
    job: Job
    rows_in: int
    rows_out: int
    version: str
    path: str
    quarantined: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    checks: tuple[CheckRecord, ...] = ()


def plan_jobs(
    run_id: str, source: str, symbols: Sequence[str], timeframe: str, start: str | None, end: str | None
) -> list[Job]:
    """One job a symbol of what was asked for; :func:`tapeline.core.request.parse_request` says what is refused."""
    asked = parse_request(symbols, timeframe, start, end)
    return [Job(run_id, source, symbol, asked.timeframe, asked.start, asked.end) for symbol in asked.symbols]


def context_jobs(jobs: Sequence[Job]) -> list[Job]:
    """The series that the feature set joins as context and that this run's source can serve, to ingest beside the jobs.

    Context is read in full up to the run's end: what was known before its start still holds at its start.
    """
    # Imported here: features bring their compiled kernels, which a process that only tells of an incident never needs.
    from tapeline.features.feature_set import load_feature_set

    settings, _ = open_lake()
    declared = load_feature_set(settings.feature_set).context.values()
    first = jobs[0]
    served = set(open_source(first.source, settings).symbols()) if declared else set()
    asked = {(job.symbol, job.timeframe) for job in jobs}
    found = []
    for series in declared:
        key = (Symbol.parse(series.symbol), Timeframe.parse(series.timeframe))
        if key not in asked and key[0] in served:
            found.append(replace(first, symbol=key[0], timeframe=key[1], start=None, context=True))
    return found


def resume(job: Job) -> Job:
    """The same job from the last bar that the lake holds on; that bar is asked for again, in case it was corrected."""
    _, lake = open_lake()
    last = lake.last(RAW_BARS, job.symbol, job.timeframe)
    return job if last is None else job.since(last)


def model_name(jobs: Sequence[Job]) -> str:
    """The registered model's name for these symbols: ``direction-H1-EURUSD``; many symbols are hashed."""
    symbols = sorted(job.symbol.path_segment for job in jobs)
    tail = "-".join(symbols) if len(symbols) <= NAMED_SYMBOLS else f"{len(symbols)}-symbols-{digest(symbols)}"
    return f"direction-{jobs[0].timeframe}-{tail}"


def history_start(lake: Lake, job: Job, bars: int) -> pd.Timestamp | None:
    """The open of the clean bar that stands ``bars`` bars before the job's own first; None where the job has no start.

    Counted in stored bars, because closed sessions and quiet instruments take up clock time without giving bars. The
    job's own start where nothing is stored before it.
    """
    if job.start is None:
        return None
    before = lake.read(CLEAN_BARS, job.symbol, job.timeframe, end=job.start, columns=["close"]).index
    return before[max(len(before) - bars, 0)] if len(before) and bars else job.start


def open_lake() -> tuple[Settings, Lake]:
    """The settings in force where the task runs, and the lake they name."""
    settings = load_settings()
    return settings, Lake(settings.lake_path)


def is_temporary(_task: object, _run: object, state: object) -> bool:
    """Prefect's retry condition: only what may succeed later is tried again."""
    try:
        state.result()  # type: ignore[attr-defined]
    except TemporaryError:
        return True
    except Exception:  # noqa: BLE001 - every other error, whatever it is, is final
        return False
    return False


ASK_SECONDS: Final = 3600.0
"""A task that asks a source ends as timed out after so long, its retries apart."""
STAGE_SECONDS: Final = 3600.0
"""A task that computes ends as timed out after so long, once the call that it is in comes back."""


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line of Prefect's says what the page on running does not: that limits bind between blocking calls."""
    return not str(record.msg).startswith("Timeout of %s seconds configured for this task")


# Else every task of every run would warn of it; a filter that is there already is not added again.
logging.getLogger("prefect.task_runs").addFilter(is_news)

ASKS_A_SOURCE: Final[dict[str, Any]] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_temporary,
    "timeout_seconds": ASK_SECONDS,
}
"""``@task(**ASKS_A_SOURCE)``: tries again, ever more slowly, what may succeed later."""
