"""Train: from stored features and labels to a registered model, tracked with every version that made it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tapeline.core.schemas import CLEAN_BARS, labels_spec
from tapeline.core.settings import Settings
from tapeline.core.versions import digest
from tapeline.labels.label_set import load_label_set
from tapeline.lake.lake import Lake
from tapeline.quality.integrity_log import CheckRecord
from tasks.artifacts import Progress, show_link, show_markdown
from tasks.features import feature_table
from tasks.job import Job, open_lake
from tasks.observe import observed

if TYPE_CHECKING:
    from tapeline.evaluation.result import TrainingResult, Versions

_FOLD: Final = re.compile(r"trial (\d+) of (\d+), fold (\d+) of (\d+)")
TRAIN_SECONDS: Final = 10 * 3600.0
"""A training ends as timed out after so long, before the flow around it does."""
TUNING_SHARE: Final = 0.9
"""How much of a training is the search for parameters, as its progress is shown."""


@task(task_run_name="train {name}", cache_policy=NO_CACHE, timeout_seconds=TRAIN_SECONDS, tags=["train"])
def train_model(name: str, jobs: Sequence[Job], *, verdict_ids: Sequence[str] = ()) -> TrainingResult:
    """Train one model on the pooled symbols of the jobs, look at the holdout once, register it, decide the alias."""
    from tapeline.models.dataset import assemble
    from tapeline.models.training import train

    settings, lake = open_lake()
    _, features = feature_table(settings)
    label_set = load_label_set()
    labels = labels_spec(label_set.version)
    parts = {}
    for job in jobs:
        span = {"start": job.start, "end": job.end}
        parts[job.symbol] = (
            lake.read(features, job.symbol, job.timeframe, **span),
            lake.read(labels, job.symbol, job.timeframe, **span),
        )
    versions = versions_of(settings, lake, jobs)
    progress = Progress(f"train-{name}", f"Training of {name}")
    with observed("train", name, run_id=jobs[0].run_id) as seen:
        result = train(
            assemble(parts),
            settings=settings,
            name=name,
            versions=versions,
            verdict_ids=tuple(verdict_ids),
            label=label_set.description,
            progress=told(progress),
        )
        seen.count(
            rows_in=sum(len(features) for features, _ in parts.values()),
            rows_out=result.rows["development"] + result.rows["holdout"],
        )
        for job in jobs:
            seen.check(promotion_of(result, parts[job.symbol][1]), of=(job.symbol, job.timeframe))
    progress(1.0)
    show_markdown("stage-train", training_markdown(result), f"What the training of {name} came to")
    if result.card:
        which = f"{name} version {result.model_version}"
        show_link(f"model-card-{name}", Path(result.card).as_uri(), f"Model card of {which}")
        show_markdown(f"model-card-summary-{name}", result.card_text, f"Model card of {which}, in short")
    return result


def versions_of(settings: Settings, lake: Lake, jobs: Sequence[Job]) -> Versions:
    """The versions of features, labels and data that a training of these jobs would be made from now.

    Raises
    ------
    DataError
        The lake holds no clean bars of a series.
    """
    from tapeline.evaluation.result import Versions

    feature_set, _ = feature_table(settings)
    bars = {
        f"{job.name}": lake.version(CLEAN_BARS, job.symbol, job.timeframe, start=job.start, end=job.end) for job in jobs
    }
    return Versions(feature_set=feature_set.version, label=load_label_set().version, data=digest(bars))


def promotion_of(result: TrainingResult, labels: pd.DataFrame) -> CheckRecord:
    """Whether a training's model became the champion, as a check of the labels that it learnt from."""
    return CheckRecord.of_output(
        "promotion",
        labels,
        stage="train",
        data_version=digest([result.versions.data, result.versions.feature_set, result.versions.label]),
        details={"model": result.name, "promoted": result.promoted, "reason": result.reason},
    )


def training_markdown(result: TrainingResult) -> str:
    """What a training came to, for its page."""
    rows = ", ".join(f"{name} {count}" for name, count in result.rows.items())
    verdict = "**champion**" if result.promoted else "not promoted"
    why = f": {result.family_reason}" if result.family_reason else ""
    luck = ""
    if not result.overfitting.empty and result.overfitting["pbo"].notna().all():
        luck = f"\n- probability of backtest overfitting: {result.overfitting['pbo'].iloc[0]:.0%}"
    return (
        f"Version {result.model_version} of `{result.name}`: {verdict}. {result.reason}\n\n"
        f"- rows: {rows}\n- features `{result.versions.feature_set}`\n- labels `{result.versions.label}`\n"
        f"- data `{result.versions.data}`\n- family `{result.family}`{why}\n"
        f"- configurations tried over all runs: {result.trials_total}{luck}"
    )


def told(progress: Progress) -> Callable[[str], None]:
    """A callable that shows each step of a long training in the run's log, and how far the search has come."""
    logger = get_run_logger()

    def tell(message: str) -> None:
        logger.info(message)
        found = _FOLD.search(message)
        if found:
            trial, trials, fold, folds = map(int, found.groups())
            progress(TUNING_SHARE * (trial - 1 + fold / folds) / trials)

    return tell
