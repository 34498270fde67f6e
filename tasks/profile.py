"""Profiles: each batch of a table described once, held against the batches before it, shown and stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import pandas as pd
from prefect import task
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from tapeline.core.errors import ConfigurationError
from tapeline.core.request import parse_request
from tapeline.core.schemas import FIXED_TABLES, PROFILES, TableSpec
from tapeline.core.settings import Settings
from tapeline.core.timeframe import Timeframe
from tapeline.core.versions import digest
from tapeline.lake.content import canonical, content_hash
from tapeline.lake.lake import Lake
from tapeline.lake.reader import to_frame
from tapeline.quality import profile_drift
from tapeline.quality.calendars import choose_calendar
from tapeline.quality.integrity_log import CheckRecord
from tapeline.quality.profile import as_columns, profile_batch, reference_edges, with_changes
from tapeline.quality.profile_drift import JUDGED, MINIMUM_HISTORY, PSI_LIMIT, Z_LIMIT, compare
from tapeline.quality.profile_report import summary_table, write_profile
from tasks.job import Job, open_lake
from tasks.observe import observed
from tasks.summary import safe_file_name

Period = Literal["day", "week", "month", "year"]
PERIODS: Final[tuple[str, ...]] = get_args(Period)
HISTORY: Final = 250
"""Batches before it with which a batch is compared at most."""
_RULES: Final = {"day": "D", "week": "W", "month": "M", "year": "Y"}
_DAILY_BELOW_SECONDS: Final = 3_600
_MONTHLY_FROM_SECONDS: Final = 86_400
_GRID_OF_TICKS: Final = "M1"
_REGULAR: Final = ("raw/bars", "clean/bars", "features/", "labels/")
_TICKS: Final = ("raw/ticks", "raw/trades")


@dataclass(frozen=True)
class ProfileResult:
    """What profiling one series did: batches seen and newly described, alarms of those, and where the page lies.

    ``drifted`` are the alarms of the newest batch, where this run was the first to describe it: those are news.
    """

    job: Job
    table: str
    period: str
    batches: int
    profiled: int
    alarms: int
    newest: pd.Timestamp | None
    report: Path | None
    drifted: tuple[str, ...] = ()


@task(task_run_name="profile {job.name} {table}", cache_policy=NO_CACHE, tags=["profile"])
def profile_series(
    job: Job, *, table: str = "raw/bars", period: str | None = None, now: pd.Timestamp | None = None
) -> ProfileResult:
    """Describe the finished batches of a series that have no profile yet, and show the newest one as artifacts."""
    settings, lake = open_lake()
    with observed("profile", job) as seen:
        result, rows, checks = describe_series(job, settings, lake, table=table, period=period, now=now)
        seen.count(rows_in=sum(row["rows"] for row in checks), rows_out=result.profiled)
        seen.check(*(_check(result, row) for row in checks))
    if result.report is not None:
        key = (
            safe_file_name(f"profile-{result.table}-{job.symbol}-{job.timeframe}")
            .lower()
            .replace(".", "-")
            .replace("_", "-")
        )
        create_table_artifact(
            rows, key=key, description=f"{result.table} of {job.name}, the {result.period} of {result.newest}"
        )
        create_link_artifact(
            result.report.as_uri(), key=f"{key}-page", link_text=f"Profile of {result.table}, {job.name}"
        )
    return result


def plan_series(run_id: str, symbols: Sequence[str], timeframe: str, start: str | None, end: str | None) -> list[Job]:
    """One job a stored series; unlike a run's jobs these may be of ticks."""
    step = Timeframe.parse(timeframe)
    asked = parse_request(symbols, _GRID_OF_TICKS if step.is_tick else step.name, start, end)
    return [Job(run_id, "", symbol, step, asked.start, asked.end) for symbol in asked.symbols]


def describe_series(
    job: Job,
    settings: Settings,
    lake: Lake,
    *,
    table: str = "raw/bars",
    period: str | None = None,
    now: pd.Timestamp | None = None,
) -> tuple[ProfileResult, list[dict[str, Any]], list[dict[str, Any]]]:
    """Describe what has no profile yet, batch by batch in the order of time; the library's work behind the task.

    A batch is a day, week, month or year of UTC that is over (``now``). Rows that come to it later, or are corrected,
    give it a profile of its own version; the same rows are never described twice.

    Returns
    -------
    The result, the newest batch as rows of a table, and one row a newly described batch (version, rows, alarms).

    Raises
    ------
    ConfigurationError
        The lake holds no such table of the series, or the period is unknown.
    """
    spec = find_table(lake, job, table)
    chosen = period or default_period(job.timeframe)
    if chosen not in PERIODS:
        raise ConfigurationError(f"period {chosen!r} is unknown", hint=f"one of {', '.join(PERIODS)}")
    history = _stored(lake, job, spec, chosen)
    known = set(zip(history["ts"], history["version"], strict=True))
    edges = reference_edges(history)
    made: list[dict[str, Any]] = []
    fresh: list[pd.DataFrame] = []
    batches = 0
    newest: pd.DataFrame | None = None
    for start, end in spans(lake, spec, job, chosen, now or pd.Timestamp.now("UTC")):
        held = lake.read_arrow(spec, job.symbol, job.timeframe, start=start, end=end)
        if not held.num_rows:
            continue
        batches += 1
        # When and by whom a row was stored is no property of the market, and differs in a lake that was built again.
        held = held.drop_columns([name for name in spec.provenance if name in held.column_names])
        version = content_hash(canonical(held))
        if (start, version) in known:
            newest = history[(history["ts"] == start) & (history["version"] == version)]
            continue
        frame = to_frame(spec, held)
        newest = as_columns(
            profile_batch(
                with_changes(frame),
                table=spec.path, start=start, end=end, version=version, period=chosen, edges=edges,
                **_grid(settings, job, spec, frame),
            )
        )  # fmt: skip
        drift = compare(newest, _recent(history))
        alarms = drift[drift["alarm"]]
        found = [f"{c}: {s}" for c, s in zip(alarms["column"], alarms["statistic"], strict=True)]
        fresh.append(newest)
        made.append({"version": version, "rows": len(frame), "newest": frame.index[-1], "alarms": found})
        history = pd.concat([history, newest], ignore_index=True) if len(history) else newest
        edges = reference_edges(newest) | edges
    if fresh:
        # Once for all: a partition of profiles is small, and writing it again for each batch costs more than they do.
        lineage = job.lineage("profile", *(job.input_of(spec.path, row["version"]) for row in made))
        lake.write(PROFILES, pd.concat(fresh, ignore_index=True), job.symbol, job.timeframe, lineage=lineage)
    alarms_found = sum(len(row["alarms"]) for row in made)
    if newest is None:
        return ProfileResult(job, spec.path, chosen, batches, len(made), alarms_found, None, None), [], made
    before = profile_drift.before(newest, _recent(history))
    drift = compare(newest, before) if len(before) else pd.DataFrame(columns=list(profile_drift.COLUMNS))
    name = safe_file_name(f"profile-{spec.path}-{job.symbol}-{job.timeframe}-{chosen}")
    title = f"{job.symbol} {job.timeframe}: a {chosen} of {spec.path}"
    report = write_profile(settings.reports_path / f"{name}.html", newest, before, drift, title=title)
    told = made and made[-1]["version"] == newest["version"].iloc[0]
    drifted = tuple(made[-1]["alarms"]) if told else ()
    newest_start = newest["ts"].iloc[0]
    result = ProfileResult(job, spec.path, chosen, batches, len(made), alarms_found, newest_start, report, drifted)
    return result, summary_table(newest, drift), made


def find_table(lake: Lake, job: Job, table: str) -> TableSpec:
    """The description of a table that the lake holds of a series; ``features`` alone names the only version of it."""
    fixed = FIXED_TABLES.get(table)
    held = [s.spec for s in lake.series() if (s.symbol, s.timeframe) == (job.symbol, job.timeframe)]
    found = [spec for spec in held if spec.path == table or spec.zone == table]
    if len(found) == 1 and found[0].path != PROFILES.path:
        return found[0] if fixed is None else fixed
    names = ", ".join(sorted(spec.path for spec in held if spec.path != PROFILES.path)) or "nothing"
    raise ConfigurationError(
        f"the lake holds {'several tables' if len(found) > 1 else 'no table'} '{table}' of {job.name} to profile",
        hint=f"it holds {names}",
    )


def default_period(timeframe: Timeframe) -> Period:
    """A batch that has some hundred rows: a day of minutes and ticks, a week of hours, a year of days."""
    if timeframe.is_tick or timeframe.seconds < _DAILY_BELOW_SECONDS:
        return "day"
    return "week" if timeframe.seconds < _MONTHLY_FROM_SECONDS else "year"


def spans(
    lake: Lake, spec: TableSpec, job: Job, period: str, now: pd.Timestamp
) -> Iterator[tuple[pd.Timestamp, pd.Timestamp]]:
    """The finished periods from the series' first row (or the job's start) to its last one (or the job's end)."""
    index = lake.read_arrow(spec, job.symbol, job.timeframe, start=job.start, end=job.end, columns=[spec.order])
    if not index.num_rows:
        return
    stamps = pd.DatetimeIndex(to_frame(spec, index).index)
    first, last = (stamps[place].tz_localize(None).to_period(_RULES[period]) for place in (0, -1))
    for one in pd.period_range(first, last, freq=_RULES[period]):
        start, end = (edge.tz_localize("UTC").as_unit("ns") for edge in (one.start_time, (one + 1).start_time))
        if end <= now:
            yield start, end


def _grid(settings: Settings, job: Job, spec: TableSpec, frame: pd.DataFrame) -> dict[str, Any]:
    """On which grid gaps are counted: the bars' own, minutes for ticks, none where rows come when they come."""
    if spec.path in _TICKS:
        step = Timeframe.parse(_GRID_OF_TICKS)
    elif spec.path.startswith(_REGULAR) and not job.timeframe.is_tick:
        step = job.timeframe
    else:
        return {}
    source = str(frame["source"].iloc[-1]) if "source" in frame.columns else job.source or None
    rules = settings.calendars
    calendar = choose_calendar(
        str(job.symbol), source, default=rules.default, symbols=rules.symbols, sources=rules.sources
    )
    return {"timeframe": step, "calendar": calendar}


def _stored(lake: Lake, job: Job, spec: TableSpec, period: str) -> pd.DataFrame:
    stored = as_columns(lake.read(PROFILES, job.symbol, job.timeframe))
    mine = (stored["table"].astype(str) == spec.path) & (stored["period"].astype(str) == period)
    return stored[mine].reset_index(drop=True)


def _recent(history: pd.DataFrame) -> pd.DataFrame:
    if history.empty:
        return history
    latest = history["ts"].drop_duplicates().nlargest(HISTORY + 1)
    return history[history["ts"] >= latest.min()]


def _check(result: ProfileResult, row: dict[str, Any]) -> CheckRecord:
    version = digest([list(JUDGED), Z_LIMIT, PSI_LIMIT, MINIMUM_HISTORY])
    return CheckRecord(
        "profile_drift", version, "profile", row["version"], passed=True,
        rows=row["rows"], rows_found=len(row["alarms"]), newest=row["newest"],
        details={"table": result.table, "period": result.period, "drifted": row["alarms"]},
    )  # fmt: skip
