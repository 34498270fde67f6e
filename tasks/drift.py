"""The drift check: the newest features against those that the champion learned from, and its errors as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tapeline.core.errors import DataError
from tapeline.core.schemas import DRIFT, SCORES, TableSpec, labels_spec
from tapeline.core.settings import Settings
from tapeline.core.versions import digest
from tapeline.labels.label_set import load_label_set
from tapeline.lake.lake import Lake
from tapeline.quality.concept_drift import DriftDetector, find_changes
from tapeline.quality.distribution import ALPHA, MINIMUM_REFERENCE, MINIMUM_WINDOW, DistributionMonitor, Reference
from tapeline.quality.drift_plots import plot_distances, render_report, write_figure, write_page
from tapeline.quality.integrity_log import CheckRecord
from tapeline.quality.relation import RankRelation, errors, losses, separate_rows
from tasks.artifacts import show_link, show_table
from tasks.features import feature_table
from tasks.job import STAGE_SECONDS, Job, model_name, open_lake
from tasks.observe import measure, observed
from tasks.score import has_champion
from tasks.summary import safe_file_name

if TYPE_CHECKING:
    from tapeline.models.scoring import Scorer

WINDOW: Final = 500
"""Newest rows that are held against the reference."""
MONTHS: Final = 6
"""The reference where there is no champion: so many months from the first row on."""
MAXIMUM_REFERENCE: Final = 10_000
"""Newest rows of a longer reference that are kept."""
ON_ERRORS: Final = ("ddm", "hddm_a")
ON_LOSSES: Final = ("adwin", "page_hinkley")
ON_RELATION: Final = "page_hinkley"
_PER_ROW: Final = ("value", "typical", "limit", "p_value", "before", "after")


@dataclass(frozen=True)
class DriftResult:
    """What the drift check of one series found.

    Parameters
    ----------
    features:
        The table whose newest rows were judged.
    reference:
        What they were held against, in words.
    rows, labelled:
        Rows of the window; scored rows whose label is known by now and that do not overlap.
    alarms:
        What has drifted, one text each: of the window, and concepts that changed within it.
    subjects:
        The same without numbers, which move with the window: each drifted column, and each concept with its instant.
    page:
        The report; None where there were too few rows to judge.
    """

    job: Job
    features: str
    reference: str
    rows: int
    labelled: int
    alarms: tuple[str, ...]
    subjects: tuple[str, ...]
    page: Path | None

    @property
    def key(self) -> str:
        """What makes two results the same news."""
        return f"drift/{self.job.name}/{digest([self.reference, *self.subjects])}"


@task(task_run_name="drift {job.name}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["drift"])
def check_drift(
    job: Job, *, model: str | None = None, window: int = WINDOW, months: int = MONTHS, now: pd.Timestamp | None = None
) -> DriftResult:
    """Hold a series' newest features and labelled scores against what was, store what was found and show it."""
    settings, lake = open_lake()
    name = model or model_name([job])
    with observed("drift", job) as seen:
        result, rows = find_drift(job, settings, lake, champion(settings, name), window=window, months=months, now=now)
        seen.count(rows_in=result.rows + result.labelled, rows_out=len(rows))
        if len(rows):
            seen.check(_check(result, rows))
    measure("tapeline_drift_alarms", len(result.alarms), symbol=job.symbol, timeframe=job.timeframe)
    for alarm in result.alarms:
        get_run_logger().warning("%s has drifted: %s", job.name, alarm)
    shown = rows.sort_values(["alarm", "p_value"], ascending=[False, True], kind="stable").head(200)
    show_table(
        f"drift-{job.name}",
        [{str(k): _plain(v) for k, v in row.items()} for row in shown.to_dict("records")],
        f"Drift of {job.name} against {result.reference}",
    )
    if result.page is not None:
        show_link(f"drift-page-{job.name}", result.page.as_uri(), f"Drift of {job.name}")
        show_link(f"drift-plot-{job.name}", result.page.with_suffix(".png").as_uri(), f"Distances of {job.name}")
    return result


def champion(settings: Settings, name: str) -> Scorer | None:
    """The model that scores, None where there is none yet."""
    from tapeline.models.scoring import load_scorer

    return load_scorer(settings, name) if has_champion(name) else None


def find_drift(
    job: Job,
    settings: Settings,
    lake: Lake,
    scorer: Scorer | None,
    *,
    window: int = WINDOW,
    months: int = MONTHS,
    now: pd.Timestamp | None = None,
) -> tuple[DriftResult, pd.DataFrame]:
    """Find drift of one series; the work behind the task.

    The reference is what the champion learned from: rows known when its training ended (the newest 10,000 of them);
    without a champion of these features the first ``months``. A label counts once it is known (``t_end``), and scored
    rows are judged in the order in which that happens, those that overlap an earlier one left out.

    Returns
    -------
    The result, and the rows written to ``audit/drift``. The same lake gives the same rows.

    Raises
    ------
    DataError
        The lake holds no features of the series, or fewer than make a reference.
    """
    instant = now or pd.Timestamp.now("UTC")
    feature_set, spec = feature_table(settings)
    features = lake.read(spec, job.symbol, job.timeframe, start=job.start, end=job.end)
    features = features[features["known_at"] <= instant]
    features = features[features[list(feature_set.columns)].notna().any(axis=1)]
    if features.empty:
        raise DataError(f"no features of {job.name} to watch", hint="run the chain first: tapeline run ...")
    mine = scorer if scorer is not None and scorer.model.bundle.versions.feature_set == spec.name else None
    if mine is not None:
        until = mine.trained_until
        named = f"the training of {mine.name} version {mine.version}"
    else:
        until = features.index[0] + pd.DateOffset(months=months)
        named = f"the first {months} months"
    past = features[features["known_at"] <= until]
    newer = features[features["known_at"] > until]
    if len(past) < MINIMUM_REFERENCE:
        raise DataError(
            f"the reference of {job.name} has {len(past)} rows, too few to compare with",
            hint=f"{MINIMUM_REFERENCE} rows are needed; name more months",
        )
    reference = Reference.freeze(past.tail(MAXIMUM_REFERENCE), columns=list(feature_set.columns))
    parts: list[pd.DataFrame] = []
    page = None
    recent = newer.tail(window)
    if len(recent) >= MINIMUM_WINDOW:
        monitor = DistributionMonitor(reference, window=window)
        monitor.update(recent)
        report = monitor.report()
        parts.append(
            report[["column", "statistic", *_PER_ROW, "alarm"]].assign(
                ts=recent["known_at"].max(), since=recent.index[0], kind="distribution", subject=spec.name,
                rows=len(recent),
            )
        )  # fmt: skip
        page = _write(settings, job, report, reference, recent, named)
    labels = _labels(lake, job, mine, instant)
    scored = _scored(lake, job, mine, labels)
    parts += list(_model_changes(scored, mine))
    parts += list(_relation_changes(features, labels, reference, spec, until))
    frame = _to_rows([part for part in parts if len(part)], reference)
    if len(frame):
        lineage = job.lineage("drift", job.input_of(spec.path), job.input_of(SCORES.path), reference.version)
        lake.write(DRIFT, frame, job.symbol, job.timeframe, lineage=lineage)
    fresh = frame[frame["alarm"] & (frame["ts"] >= (recent.index[0] if len(recent) else instant))]
    alarms = tuple(_sentences(fresh))
    span = f"{named}, {reference.start:%Y-%m-%d} to {reference.end:%Y-%m-%d}"
    return DriftResult(job, spec.path, span, len(recent), len(scored), alarms, _subjects(fresh), page), frame


def _labels(lake: Lake, job: Job, scorer: Scorer | None, now: pd.Timestamp) -> pd.DataFrame:
    """The labels of the series that are known by now, of the version that the champion was trained on."""
    version = scorer.model.bundle.versions.label if scorer is not None else load_label_set().version
    labels = lake.read(labels_spec(version), job.symbol, job.timeframe, start=job.start, end=job.end)
    return labels[(labels["t_end"] <= now) & (labels["value"] != 0) & labels["value"].notna()]


def _scored(lake: Lake, job: Job, scorer: Scorer | None, labels: pd.DataFrame) -> pd.DataFrame:
    """The champion's scores beside what then happened, in the order in which it became known."""
    if scorer is None:
        return pd.DataFrame(columns=["known_at", "probability", "side", "value", "t_end"])
    scores = lake.read(SCORES, job.symbol, job.timeframe, start=job.start, end=job.end)
    own = scores[(scores["model"] == scorer.name) & (scores["model_version"] == scorer.version)]
    joined = own[["known_at", "probability", "side"]].join(labels[["value", "t_end"]], how="inner")
    return _in_order_of_knowledge(joined)


def _in_order_of_knowledge(joined: pd.DataFrame) -> pd.DataFrame:
    kept = separate_rows(
        pd.DatetimeIndex(joined.index).as_unit("ns").asi8, pd.DatetimeIndex(joined["t_end"]).as_unit("ns").asi8
    )
    return joined.iloc[kept].sort_values("t_end", kind="stable")


def _model_changes(scored: pd.DataFrame, scorer: Scorer | None) -> Iterator[pd.DataFrame]:
    if scorer is None or scored.empty:
        return
    sided = scored[scored["side"] != 0]
    subject = f"{scorer.name}/{scorer.version}"
    wrong = errors(sided["side"], sided["value"])
    brier = losses(scored["probability"], (scored["value"] > 0).astype(float))
    for column, values, rows, detectors in (
        ("error", wrong, sided, ON_ERRORS),
        ("loss", brier, scored, ON_LOSSES),
    ):
        for name in detectors:
            yield _told(values, rows, name).assign(subject=subject, column=column)


def _relation_changes(
    features: pd.DataFrame, labels: pd.DataFrame, reference: Reference, spec: TableSpec, until: pd.Timestamp
) -> Iterator[pd.DataFrame]:
    """Of each feature, where its rank relation to the label turned since the reference."""
    joined = _in_order_of_knowledge(features.join(labels[["value", "t_end"]], how="inner"))
    learned = joined[joined["t_end"] <= until]
    since = joined[joined["t_end"] > until]
    if since.empty:
        return
    for name in reference.names:
        both = np.isfinite(since[name].to_numpy(dtype=np.float64))
        if np.isfinite(learned[name].to_numpy(dtype=np.float64)).sum() < MINIMUM_REFERENCE:
            continue
        relation = RankRelation(learned[name], learned["value"])
        values = relation.stream(since[name], since["value"])
        yield _told(values, since[both], ON_RELATION).assign(subject=spec.name, column=f"{name} ~ label")


def _told(values: Sequence[float] | np.ndarray, rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """A detector's alarms with the instants of the rows: known when the label of the row was."""
    found = find_changes(values, DriftDetector(name))
    return pd.DataFrame(
        {
            "ts": pd.DatetimeIndex(rows["t_end"].iloc[found["position"]]).as_unit("ns"),
            "since": pd.DatetimeIndex(rows.index[found["since"]]).as_unit("ns"),
            "statistic": name, "kind": "concept", "alarm": True,
            "value": (found["after"] - found["before"]).to_numpy(np.float64),
            "before": found["before"].to_numpy(np.float64), "after": found["after"].to_numpy(np.float64),
            "rows": (found["rows_before"] + found["rows_after"]).to_numpy(np.int64),
        }
    )  # fmt: skip


def _to_rows(parts: list[pd.DataFrame], reference: Reference) -> pd.DataFrame:
    if not parts:
        return DRIFT.schema.empty_table().to_pandas()
    whole = pd.concat([part.reindex(columns=DRIFT.schema.names[:-3]) for part in parts], ignore_index=True)
    # Two labels may become known at one instant: of two alarms of one detector then, the later stands.
    whole = whole.drop_duplicates(["ts", "kind", "subject", "column", "statistic"], keep="last")
    for name in _PER_ROW:
        whole[name] = whole[name].astype("float64")
    return whole.assign(
        alarm=whole["alarm"].astype(bool), rows=whole["rows"].astype("int64"),
        reference_start=reference.start, reference_end=reference.end, reference_version=reference.version,
    )  # fmt: skip


def _write(
    settings: Settings, job: Job, report: pd.DataFrame, reference: Reference, recent: pd.DataFrame, named: str
) -> Path:
    folder = settings.reports_path
    name = safe_file_name(f"drift-{job.symbol}-{job.timeframe}")
    title = f"{job.name}: features against {named}"
    write_figure(folder / f"{name}.png", plot_distances(report, title=title))
    span = (
        f"{len(recent)} rows from {recent.index[0]:%Y-%m-%d %H:%M} to {recent.index[-1]:%Y-%m-%d %H:%M} UTC, against "
        f"{len(reference.values)} rows from {reference.start:%Y-%m-%d} to {reference.end:%Y-%m-%d}"
    )
    return write_page(folder / f"{name}.html", render_report(report, title=title, span=span, picture=f"{name}.png"))


def _sentences(alarms: pd.DataFrame) -> Iterator[str]:
    shifted = alarms[alarms["kind"] == "distribution"]
    for column, rows in shifted.groupby("column", sort=True):
        found = ", ".join(f"{row.statistic} {row.value:.3g}" for row in rows.itertuples())
        yield f"{column}: {found}"
    for row in alarms[alarms["kind"] == "concept"].itertuples():
        yield f"{row.column} of {row.subject} since {row.since:%Y-%m-%d %H:%M}: {row.before:.3g} to {row.after:.3g}"


def _subjects(alarms: pd.DataFrame) -> tuple[str, ...]:
    instants = np.where(alarms["kind"] == "concept", " " + alarms["ts"].astype(str), "")
    return tuple(sorted({f"{column}{at}" for column, at in zip(alarms["column"], instants, strict=True)}))


def _check(result: DriftResult, rows: pd.DataFrame) -> CheckRecord:
    return CheckRecord(
        "drift", digest([ALPHA, ON_ERRORS, ON_LOSSES, ON_RELATION]), "drift",
        str(rows["reference_version"].iloc[0]), passed=True, rows=result.rows, rows_found=len(result.alarms),
        newest=rows["ts"].max(),
        details={"features": result.features, "reference": result.reference, "alarms": list(result.alarms)},
    )  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return None if not np.isfinite(value) else float(f"{value:.6g}")
    return value if isinstance(value, bool | int) else str(value)
