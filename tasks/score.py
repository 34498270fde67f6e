"""Score: what the champion says of the bars it has not been asked about yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tapeline.core.schemas import SCORES
from tapeline.core.settings import load_settings
from tapeline.monitoring.notification import score_alerts
from tapeline.monitoring.notifier import Notifier
from tapeline.quality.integrity_log import CheckRecord
from tasks.features import feature_table
from tasks.job import STAGE_SECONDS, Job, StageResult, open_lake
from tasks.observe import observes

FRESH_BARS: Final = 3
"""A score is news for so many bar lengths after it could be known."""


@task(
    task_run_name="score {job.name} with {name}", cache_policy=NO_CACHE, tags=["score"], timeout_seconds=STAGE_SECONDS
)
@observes("score")
def score_bars(job: Job, name: str, *, now: pd.Timestamp | None = None) -> StageResult:
    """Score the job's stored features with the champion of ``name`` and store what is new.

    Bars that the champion was trained on are never scored: their scores would be in-sample. A bar that this version
    has scored before keeps the score it got then.
    """
    from tapeline.models.scoring import load_scorer

    settings, lake = open_lake()
    now = now or pd.Timestamp.now("UTC")
    scorer = load_scorer(settings, name)
    _, spec = feature_table(settings)
    scorer.require_feature_set(spec.name)
    start = later(job.start, scorer.trained_until)
    features = lake.read(spec, job.symbol, job.timeframe, start=start, end=job.end)
    features = features[features["known_at"] > scorer.trained_until]
    known = lake.read(SCORES, job.symbol, job.timeframe, start=start, columns=["ts", "model", "model_version"])
    mine = known[(known["model"] == name) & (known["model_version"] == scorer.version)]
    fresh = features[~features.index.isin(mine.index)]
    scores = scorer.score(fresh).assign(scored_at=now.as_unit("ns"))
    lineage = job.lineage("score", job.input_of(spec.path), f"{name}/{scorer.version}")
    receipt = lake.write(SCORES, scores, job.symbol, job.timeframe, lineage=lineage)
    confident = int((scores["confidence"] >= settings.scoring.confidence_threshold).sum())
    notes = (f"{confident} above the confidence threshold {settings.scoring.confidence_threshold:g}",)
    in_order = CheckRecord.of_output(
        "feature_set_of_the_model",
        features,
        stage="score",
        data_version=receipt.version,
        details={"model": name, "model_version": scorer.version, "feature_set": spec.name},
    )
    return StageResult(
        "score", job, len(features), len(fresh), scorer.version, str(receipt.path), notes=notes, checks=(in_order,)
    )


def has_champion(name: str) -> bool:
    """Whether a model of this name may score."""
    from tapeline.models.registry import Registry

    return Registry.open(load_settings()).find(name) is not None


def alert_on_scores(notifier: Notifier, name: str, jobs: Sequence[Job], *, now: pd.Timestamp) -> int:
    """Send each fresh score above the confidence threshold to the notification channels; gives how many were fresh.

    Fresh means known within the last ``FRESH_BARS`` bar lengths: a backfill is history, and nobody can act on it. The
    notifier sends a score once, however often the flow runs.
    """
    settings, lake = open_lake()
    sent = 0
    for job in jobs:
        horizon = FRESH_BARS * job.timeframe.duration
        scores = lake.read(SCORES, job.symbol, job.timeframe, start=now - horizon - job.timeframe.duration)
        fresh = scores[(scores["model"] == name) & (scores["known_at"] >= now - horizon)]
        threshold = settings.scoring.confidence_threshold
        for alert in score_alerts(fresh, symbol=str(job.symbol), timeframe=job.timeframe, threshold=threshold):
            notifier.notify(alert)
            sent += 1
    return sent


def later(first: pd.Timestamp | None, second: pd.Timestamp | None) -> pd.Timestamp | None:
    """The later of two instants, where None means 'no bound'."""
    given = [instant for instant in (first, second) if instant is not None]
    return max(given) if given else None
