"""Performance: what every model version said against what came, stored by period; and drift of the model in use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tapeline.core.errors import DataError
from tapeline.core.schemas import DRIFT, PERFORMANCE, SCORES, SHADOW_SCORES, labels_spec
from tapeline.core.settings import Settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.core.versions import digest
from tapeline.lake.lake import Lake
from tapeline.quality.drift_plots import write_figure
from tapeline.quality.integrity_log import CheckRecord
from tasks.artifacts import show_link, show_table
from tasks.job import STAGE_SECONDS, Job, open_lake
from tasks.observe import measure, observed
from tasks.summary import safe_file_name

if TYPE_CHECKING:
    from tapeline.models.registry import Registered, Registry

NEWEST: Final = 12
"""Versions that are tracked: those with scores that were registered last. What is stored of older ones stands."""
SHOWN: Final = 200


@dataclass(frozen=True)
class Tracked:
    """What the tracker found.

    Parameters
    ----------
    name:
        The model.
    table:
        As :func:`tapeline.models.performance.track_performance` gives it, all series pooled.
    page:
        The picture of the log loss by month; None where nothing was judged.
    """

    name: str
    table: pd.DataFrame
    page: Path | None


@dataclass(frozen=True)
class ModelDrift:
    """What was found of the champion on one series.

    Parameters
    ----------
    job, name, version:
        The series, the model and the version that scores; an empty version where none does.
    rows:
        Rows that were judged: scored, with outcomes that the training could not know.
    alarms:
        What has drifted, a sentence each.
    subjects:
        The same without numbers.
    note:
        Why nothing could be judged.
    """

    job: Job
    name: str
    version: str
    rows: int
    alarms: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    note: str = ""

    @property
    def key(self) -> str:
        """What makes two findings the same news."""
        return f"model-drift/{self.job.name}/{digest([self.name, self.version, *self.subjects])}"


@task(task_run_name="track {name}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["performance"])
def track_model(name: str, jobs: Sequence[Job], *, now: pd.Timestamp | None = None) -> Tracked:
    """Measure every version's performance by month and as a whole, store it a series, and show it pooled."""
    from tapeline.models.performance import merge_judged, plot_performance, track_performance

    settings, lake = open_lake()
    instant = now or pd.Timestamp.now("UTC")
    with observed("performance", name, run_id=jobs[0].run_id) as seen:
        parts = []
        for job in jobs:
            rows = judged(lake, settings, name, job, instant)
            table = track_performance(rows)
            if len(table):
                inputs = (job.input_of(SCORES.path), job.input_of(SHADOW_SCORES.path))
                lineage = job.lineage("performance", *inputs)
                lake.write(PERFORMANCE, table, job.symbol, job.timeframe, lineage=lineage)
            seen.count(rows_in=len(rows), rows_out=len(table))
            parts.append(rows)
        pooled = parts[0] if len(parts) == 1 else merge_judged(parts)
        whole = table if len(parts) == 1 else track_performance(pooled)
    page = None
    if len(whole):
        figure = plot_performance(whole, title=f"{name}: log loss by month")
        page = write_figure(settings.reports_path / f"{safe_file_name(f'performance-{name}')}.png", figure)
        show_link(f"performance-plot-{name}", page.as_uri(), f"Performance of {name}")
        _measure(name, whole)
    show_table(f"performance-{name}", list(_shown(whole)), f"Performance of {name} by version and period")
    return Tracked(name, whole, page)


@task(
    task_run_name="model drift {job.name}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["performance"]
)
def check_model(job: Job, name: str, *, now: pd.Timestamp | None = None) -> ModelDrift:
    """Hold the champion's scores, their calibration and its losses against its training; store and show what is found.

    The rows judged are those whose outcomes became known after all that its training knew, whenever they were scored:
    neither the fit nor the choice of the model could see them.
    """
    settings, lake = open_lake()
    with observed("model_drift", job) as seen:
        found, rows = find_model_drift(lake, settings, name, job, now or pd.Timestamp.now("UTC"))
        seen.count(rows_in=found.rows, rows_out=len(rows))
        if len(rows):
            seen.check(_check(found, rows))
    measure("tapeline_model_drift_alarms", len(found.alarms), model=name, symbol=job.symbol, timeframe=job.timeframe)
    for alarm in found.alarms:
        get_run_logger().warning("%s on %s: %s", name, job.name, alarm)
    if found.note:
        get_run_logger().info("%s on %s: %s", name, job.name, found.note)
    columns = ["kind", "column", "statistic", "value", "typical", "limit", "p_value", "alarm", "since", "rows"]
    shown = [
        {key: _plain(value) for key, value in row.items()} for row in rows.reindex(columns=columns).to_dict("records")
    ]
    show_table(f"model-drift-{name}-{job.name}", shown, f"Drift of {name} on {job.name}")
    return found


def find_model_drift(
    lake: Lake, settings: Settings, name: str, job: Job, now: pd.Timestamp
) -> tuple[ModelDrift, pd.DataFrame]:
    """The work behind :func:`check_model`: the finding, and the rows written to ``audit/drift``."""
    from tapeline.models.registry import CHAMPION, Registry
    from tapeline.models.score_drift import model_drift, reference_version
    from tapeline.models.tracking import open_tracking
    from tapeline.models.training_scores import read_training_scores

    tracking = open_tracking(settings)
    present = Registry.open(settings, tracking).find(name, CHAMPION)
    if present is None:
        return ModelDrift(job, name, "", 0, note="no champion scores yet"), pd.DataFrame()
    training = read_training_scores(tracking, present)
    mine = None if training is None else training[training["symbol"] == str(job.symbol)]
    if mine is None or mine.empty:
        note = f"version {present.version} kept no scores of its training; train again to watch it"
        return ModelDrift(job, name, present.version, 0, note=note), pd.DataFrame()
    rows = _from_lake(lake, name, job, now, {present.version})
    unseen = rows[(rows["known_at"] > mine["t_end"].max()) & rows["origin"].isin(["live", "backtest"])]
    try:
        found = model_drift(mine, unseen, window=settings.lifecycle.window)
    except DataError as error:
        return ModelDrift(job, name, present.version, len(unseen), note=error.message), pd.DataFrame()
    version = reference_version(mine)
    subject = f"{name}/{present.version}"
    table = found.assign(
        subject=subject, reference_start=mine["known_at"].min(), reference_end=mine["known_at"].max(),
        reference_version=version,
    )  # fmt: skip
    # Two outcomes may become known at one instant: of two alarms of one detector then, the later stands.
    table = table.drop_duplicates(["ts", "kind", "column", "statistic"], keep="last")
    if len(table):
        lineage = job.lineage("model_drift", job.input_of(SCORES.path), version)
        lake.write(DRIFT, table, job.symbol, job.timeframe, lineage=lineage)
    newest = unseen["t_end"].tail(settings.lifecycle.window).min() if len(unseen) else now
    fresh = table[table["alarm"] & (table["ts"] >= newest)]
    subjects = tuple(sorted({f"{row.kind} {row.statistic}" for row in fresh.itertuples()}))
    drift = ModelDrift(job, name, present.version, len(unseen), tuple(_sentences(fresh)), subjects)
    return drift, table


def judged(lake: Lake, settings: Settings, name: str, job: Job, now: pd.Timestamp) -> pd.DataFrame:
    """All judged rows of a series: what was scored live, in the shadow and later, and what the trainings kept."""
    from tapeline.models.performance import merge_judged
    from tapeline.models.registry import Registry
    from tapeline.models.tracking import open_tracking
    from tapeline.models.training_scores import read_training_scores

    tracking = open_tracking(settings)
    tracked = _tracked(Registry.open(settings, tracking), lake, name, job)
    parts = [_from_lake(lake, name, job, now, {one.version for one in tracked})]
    for one in tracked:
        rows = read_training_scores(tracking, one)
        if rows is not None:
            parts.append(rows[(rows["symbol"] == str(job.symbol)) & (rows["t_end"] <= now)])
    return merge_judged(parts)


def scored_series(name: str) -> list[tuple[Symbol, Timeframe]]:
    """The series that any version of a model has scored, sorted by their names."""
    _, lake = open_lake()
    found = []
    for series in lake.series():
        if series.spec.path == SCORES.path:
            frame = lake.read(SCORES, series.symbol, series.timeframe, columns=["ts", "model"])
            if (frame["model"] == name).any():
                found.append((series.symbol, series.timeframe))
    return sorted(found, key=str)


def _tracked(registry: Registry, lake: Lake, name: str, job: Job) -> list[Registered]:
    scored: set[str] = set()
    for table in (SCORES, SHADOW_SCORES):
        frame = lake.read(table, job.symbol, job.timeframe, columns=["ts", "model", "model_version"])
        scored |= set(frame.loc[frame["model"] == name, "model_version"].astype(str))
    versions = [one for one in registry.versions(name) if one.version in scored or one.aliases]
    return versions[-NEWEST:]


def _from_lake(lake: Lake, name: str, job: Job, now: pd.Timestamp, versions: set[str]) -> pd.DataFrame:
    """What these versions scored, with the labels that each was made for, as far as they are known."""
    from tapeline.models.performance import judged_rows, merge_judged

    parts = []
    for table, shadow in ((SCORES, False), (SHADOW_SCORES, True)):
        scores = lake.read(table, job.symbol, job.timeframe, start=job.start, end=job.end)
        mine = scores[(scores["model"] == name) & scores["model_version"].isin(versions)]
        for label, said in mine.groupby("label_version", observed=True, sort=True):
            labels = lake.read(labels_spec(str(label)), job.symbol, job.timeframe, start=job.start, end=job.end)
            for _, of_version in said.groupby("model_version", sort=True):
                parts.append(judged_rows(of_version, labels, symbol=str(job.symbol), shadow=shadow, now=now))
    return merge_judged(parts)


def _sentences(alarms: pd.DataFrame) -> Iterator[str]:
    for row in alarms.itertuples():
        limit = f", beyond {row.limit:.4g}" if pd.notna(row.limit) else ""
        yield (
            f"{row.kind}: {row.statistic} of the {row.column} {row.value:.4g}{limit} "
            f"({row.before:.4g} to {row.after:.4g}, {row.rows} rows)"
        )


def _check(found: ModelDrift, rows: pd.DataFrame) -> CheckRecord:
    return CheckRecord(
        "model_drift", digest(sorted(set(rows["kind"]))), "model_drift", str(rows["reference_version"].iloc[0]),
        passed=True, rows=found.rows, rows_found=len(found.alarms), newest=rows["ts"].max(),
        details={"model": found.name, "version": found.version, "alarms": list(found.alarms)},
    )  # fmt: skip


def _measure(name: str, table: pd.DataFrame) -> None:
    whole = table[(table["period"] == "whole") & (table["origin"].isin(["live", "shadow", "holdout"]))]
    newest = sorted(set(whole["model_version"]), key=int)[-2:]
    for row in whole[whole["model_version"].isin(newest) & (whole["metric"].isin(["log_loss", "auc"]))].itertuples():
        measure(
            f"tapeline_model_{row.metric}", row.value, model=name, version=row.model_version, origin=row.origin
        )  # fmt: skip


def _shown(table: pd.DataFrame) -> Iterator[dict[str, object]]:
    for row in (
        table.sort_values(["known_at", "model_version"], ascending=False, kind="stable").head(SHOWN).itertuples()
    ):
        yield {
            "version": row.model_version, "origin": row.origin, "period": f"{row.period} from {row.ts:%Y-%m-%d}",
            "metric": row.metric, "rows": int(row.rows),
            "value": _plain(row.value), "low": _plain(row.low), "high": _plain(row.high),
        }  # fmt: skip


def _plain(value: object) -> object:
    if isinstance(value, float):
        return None if pd.isna(value) else float(f"{value:.6g}")
    return value if isinstance(value, bool | int) else str(value)
