"""Select: from stored bars and labels to a challenger feature set; how much each feature matters to the champion."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tapeline.console import print_table, say
from tapeline.core.errors import DataError
from tapeline.core.schemas import CLEAN_BARS, labels_spec
from tapeline.core.settings import load_settings
from tapeline.core.versions import digest
from tapeline.features.engine import compute
from tapeline.features.feature_set import FeatureSet, load_feature_set
from tapeline.labels.label_set import load_label_set
from tapeline.monitoring.notifier import Notifier
from tasks.artifacts import show_markdown, show_table
from tasks.features import read_clean, read_context
from tasks.job import STAGE_SECONDS, Job, open_lake
from tasks.observe import measure, observed

if TYPE_CHECKING:
    from tapeline.models.dataset import Dataset
    from tapeline.models.feature_selection import SelectionResult
    from tapeline.models.importance import Snapshot
    from tapeline.models.selection_store import Stored


LEAST_UNSEEN: Final = 300
"""Fewer rows out of sample than this say little about dozens of features."""
TOP: Final = 20


@task(task_run_name="select {name}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["select"])
def select_set(name: str, jobs: Sequence[Job], *, feature_set: str | None = None) -> SelectionResult:
    """Select columns of a feature set on the pooled symbols of the jobs and keep what came of it.

    The features are computed from the clean bars, the labels are the stored ones. Selection and files are logged as a
    run of MLflow.
    """
    from tapeline.models.feature_selection import select_features
    from tapeline.models.selection_store import SelectionStore

    settings = load_settings()
    base = load_feature_set(feature_set)
    store = SelectionStore(settings, name)
    training = settings.training
    with observed("select", name, run_id=jobs[0].run_id) as seen:
        dataset, data = labelled_rows(base, jobs)
        result = select_features(
            dataset,
            champion=store.champion(),
            folds=training.folds,
            embargo=training.embargo,
            holdout=training.holdout,
            seed=training.seed,
            threads=training.threads,
            progress=get_run_logger().info,
        )
        provenance = {
            "data": data,
            "label": load_label_set().version,
            "symbols": [str(job.symbol) for job in jobs],
            "timeframe": str(jobs[0].timeframe),
            "seed": training.seed,
        }
        stored = store.keep(result, base, provenance=provenance)
        seen.count(rows_in=len(dataset), rows_out=len(result.columns))
        log_selection(name, result, stored, provenance)
    measure("tapeline_selected_features", len(result.columns), model=name)
    show_markdown("stage-select", selection_markdown(name, result, stored), f"What the selection for {name} came to")
    show_table("selection-contest", rows_of(result), f"The selectors that competed for {name}")
    return result


@task(task_run_name="importance {name}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["select"])
def track_importance(name: str, jobs: Sequence[Job], notifier: Notifier) -> Snapshot | None:
    """Measure how much each feature matters to the champion on the newest labelled rows; keep it, and tell changes.

    Rows that the champion was not trained on are taken where there are at least a few hundred of them, else the newest
    ones, which the snapshot says. None where there is no champion.
    """
    from tapeline.models.importance import (
        ImportanceTracker,
        Snapshot,
        importance_alert,
        measure_importance,
        rank_changes,
    )
    from tapeline.models.registry import Registry
    from tapeline.models.tracking import open_tracking

    settings = load_settings()
    tracking = open_tracking(settings)
    registry = Registry.open(settings, tracking)
    champion = registry.find(name)
    if champion is None:
        get_run_logger().info("%s has no champion: there is no importance to track", name)
        return None
    with observed("importance", name, run_id=jobs[0].run_id) as seen:
        model = registry.load(champion)
        chosen = load_feature_set(settings.feature_set)
        dataset, _ = labelled_rows(chosen, jobs)
        unseen = (dataset.t0 > model.bundle.trained_until).nonzero()[0]
        outside = len(unseen) >= LEAST_UNSEEN
        rows = dataset.take(unseen) if outside else dataset
        table = measure_importance(model, rows, seed=settings.training.seed)
        snapshot = Snapshot(name, champion.version, rows.t_end.max(), outside, table)
        tracker = ImportanceTracker(tracking, name)
        fresh = tracker.record(snapshot)
        changes, agreement = rank_changes(tracker.history())
        seen.count(rows_in=len(rows), rows_out=len(table))
    measure("tapeline_importance_agreement_ratio", agreement, model=name)
    alert = importance_alert(snapshot, changes, agreement)
    if fresh and alert is not None:
        notifier.notify(alert)
    show_table("importance", table.head(TOP).round(5).to_dict("records"), f"What matters most to {name}")
    return snapshot


@dataclass(frozen=True)
class SelectionReport:
    """What a run of the flow says at its end; ``champion`` is the file of the champion set where there is one."""

    name: str
    promoted: bool
    reason: str
    selector: str
    columns: tuple[str, ...]
    champion: str
    most_important: tuple[str, ...]


def selection_report(name: str, result: SelectionResult, snapshot: Snapshot | None) -> SelectionReport:
    """The end of a run of the flow, printed and given."""
    from tapeline.models.selection_store import SelectionStore

    path = SelectionStore(load_settings(), name).champion_path
    first = () if snapshot is None else tuple(snapshot.table["feature"].head(5))
    print_table(f"Selection for {name}", result.contest)
    say(f"{'New champion set' if result.promoted else 'Not promoted'}: {result.reason}")
    champion = str(path) if path.is_file() else ""
    return SelectionReport(name, result.promoted, result.reason, result.selector, result.columns, champion, first)


def labelled_rows(feature_set: FeatureSet, jobs: Sequence[Job]) -> tuple[Dataset, str]:
    """The features of the jobs' clean bars with their stored labels, and the version of the bars.

    Raises
    ------
    DataError
        A job has no clean bars or no label.
    """
    from tapeline.models.dataset import assemble

    _, lake = open_lake()
    labels = labels_spec(load_label_set().version)
    parts, versions = {}, {}
    for job in jobs:
        bars, rows = read_clean(lake, job, lookback=feature_set.lookback)
        known = lake.read(labels, job.symbol, job.timeframe, start=job.start, end=job.end)
        if known.empty:
            raise DataError(f"there are no labels of {job.name}", hint="make them first: tapeline run ...")
        context = read_context(lake, feature_set, job)
        parts[job.symbol] = (compute(feature_set, bars, job.timeframe, context=context, tail=rows), known)
        versions[job.name] = lake.version(CLEAN_BARS, job.symbol, job.timeframe, start=job.start, end=job.end)
    return assemble(parts), digest(versions)


def log_selection(name: str, result: SelectionResult, stored: Stored, provenance: dict[str, object]) -> str:
    """Log a selection as a run of MLflow, with its files; gives the run's id."""
    from tapeline.models.ledger import MODEL_TAG, record_fits
    from tapeline.models.tracking import TAG, open_tracking

    tracking = open_tracking(load_settings())
    # Each selector was scored on rows it had not seen, and so were the two models that were compared: whatever is
    # trained under this name afterwards has that many chances to its account.
    looks = len(result.contest) + (0 if result.comparison is None else 2)
    study = f"{name}-select-{digest([provenance, list(result.contest['selector'])])}"
    tags = {
        MODEL_TAG: name,
        f"{TAG}selection": name,
        f"{TAG}promoted": str(result.promoted).lower(),
        f"{TAG}reason": result.reason,
        f"{TAG}feature_set_version": stored.version,
    }
    metrics = {
        f"log_loss/{row['selector'].replace(' ', '_')}": row["log_loss"] for row in result.contest.to_dict("records")
    }
    metrics["columns"] = len(result.columns)
    if result.comparison is not None:
        metrics |= {key: float(value) for key, value in asdict(result.comparison).items()}
    with tracking.run(f"select {name}", tags) as run_id:
        record_fits(tracking, run_id, study, "selection", looks)
        tracking.log(run_id, parameters={"selector": result.selector, **provenance}, metrics=metrics)
        with tempfile.TemporaryDirectory(prefix="tapeline-select-") as scratch:
            folder = Path(scratch)
            result.contest.to_csv(folder / "contest.csv", index=False)
            result.stability.to_csv(folder / "stability.csv", index=False)
            (folder / "columns.json").write_text(json.dumps(list(result.columns), indent=1))
            if stored.challenger is not None:
                (folder / stored.challenger.name).write_bytes(stored.challenger.read_bytes())
            tracking.log_folder(run_id, folder)
    return run_id


def rows_of(result: SelectionResult) -> list[dict[str, object]]:
    """The contest as rows of a table."""
    return [dict(row) for row in result.contest.round(6).to_dict("records")]


def selection_markdown(name: str, result: SelectionResult, stored: Stored) -> str:
    """What a selection came to, for its page."""
    verdict = "**new champion set**" if result.promoted else "not promoted"
    lines = [
        f"Feature set for `{name}`: {verdict}. {result.reason}",
        "",
        f"- selector: {result.selector}, {len(result.columns)} columns, version `{stored.version or 'none'}`",
        f"- rows: {', '.join(f'{key} {count}' for key, count in result.rows.items())}",
        "",
        "| column | folds that chose it | chosen |",
        "|---|---|---|",
        *(
            f"| {row.column} | {row.share:.0%} | {'yes' if row.chosen else ''} |"
            for row in result.stability.itertuples()
        ),
    ]
    return "\n".join(lines)
