"""Charts: from clean bars to what the detectors find in them, as rows of the one events table."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task

from tapeline.charts.scan import Choice, choose, scan
from tapeline.core.schemas import CLEAN_BARS, EVENTS
from tapeline.core.settings import Settings
from tapeline.core.versions import code_digest, digest
from tapeline.quality.integrity_log import CheckRecord
from tasks.features import read_clean
from tasks.job import STAGE_SECONDS, Job, StageResult, open_lake
from tasks.observe import observes
from tasks.reuse import UnchangedInputs, remember


@task(
    task_run_name="charts {job.name}",
    cache_policy=UnchangedInputs(stage="charts"),
    persist_result=True,
    timeout_seconds=STAGE_SECONDS,
    tags=["charts"],
)
@observes("charts")
def find_events(job: Job) -> StageResult:
    """Scan a job's clean bars and store what is confirmed in them, and of what stood before, what they ended.

    The rows out are the bars scanned: a quiet market in which nothing is found stops no run.
    """
    settings, lake = open_lake()
    choices = chosen(settings)
    bars, rows = read_clean(lake, job, lookback=max(choice.lookback for choice in choices))
    own = bars["close_ts"].iloc[-rows]
    events = scan(bars, choices)
    news = events[(events["confirmed_at"] >= own) | (events["invalidated_at"] >= own)]
    version = lake.version(CLEAN_BARS, job.symbol, job.timeframe, start=bars.index[0], end=job.end)
    inputs = (job.input_of(CLEAN_BARS.path, version), choices_version(choices))
    receipt = lake.write(EVENTS, news, job.symbol, job.timeframe, lineage=job.lineage("charts", *inputs))
    remember("charts", job, settings, lake)
    confirmed = int((events["confirmed_at"] >= own).sum())
    notes = (f"{confirmed} events of {events['kind'].nunique()} kinds by {len(choices)} detectors",)
    told = CheckRecord.of_output(
        "events_found",
        events.set_index("confirmed_at"),
        stage="charts",
        data_version=receipt.version,
        details={"events": confirmed},
    )
    return StageResult("charts", job, rows, rows, receipt.version, str(receipt.path), notes=notes, checks=(told,))


def chosen(settings: Settings) -> tuple[Choice, ...]:
    """The detectors of the settings in force that clean bars suffice for."""
    choices = choose(settings.charts.detectors or None)
    return tuple(one for one in choices if set(one.component.required_columns(**one.parameters)) <= {"close_ts"})


def choices_version(choices: Sequence[Choice]) -> str:
    """The content hash of detectors, parameters and code."""
    modules = sorted({choice.component.function.__module__ for choice in choices})
    named = [[choice.component.name, choice.component.parameters(choice.parameters)] for choice in choices]
    return digest([named, [code_digest(module) for module in modules]])
