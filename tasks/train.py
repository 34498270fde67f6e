"""Train: from stored features and labels to a registered model, tracked with every version that made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tapeline.core.schemas import CLEAN_BARS, labels_spec
from tapeline.core.versions import digest
from tapeline.labels.label_set import load_label_set
from tasks.features import feature_table
from tasks.job import Job, open_lake

if TYPE_CHECKING:
    from tapeline.evaluation.result import TrainingResult


@task(task_run_name="train {name}", cache_policy=NO_CACHE, tags=["train"])
def train_model(name: str, jobs: Sequence[Job], *, verdict_ids: Sequence[str] = ()) -> TrainingResult:
    """Train one model on the pooled symbols of the jobs, look at the holdout once, register it, decide the alias."""
    from tapeline.evaluation.result import Versions
    from tapeline.models.dataset import assemble
    from tapeline.models.training import train

    settings, lake = open_lake()
    feature_set, features = feature_table(settings)
    label_set = load_label_set()
    labels = labels_spec(label_set.version)
    parts = {}
    for job in jobs:
        span = {"start": job.start, "end": job.end}
        parts[job.symbol] = (
            lake.read(features, job.symbol, job.timeframe, **span),
            lake.read(labels, job.symbol, job.timeframe, **span),
        )
    bars = {
        f"{job.name}": lake.version(CLEAN_BARS, job.symbol, job.timeframe, start=job.start, end=job.end) for job in jobs
    }
    versions = Versions(feature_set=feature_set.version, label=label_set.version, data=digest(bars))
    return train(
        assemble(parts),
        settings=settings,
        name=name,
        versions=versions,
        verdict_ids=tuple(verdict_ids),
        label=label_set.description,
        progress=log_progress(),
    )


def log_progress() -> Callable[[str], None]:
    """A callable that shows each step of a long training in the run's log."""
    logger = get_run_logger()
    return lambda message: logger.info(message)
