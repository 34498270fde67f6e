"""Score: what the champion says of the bars it has not been asked about yet, and the challenger in its shadow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tapeline.core.errors import DataError, MissingExtraError
from tapeline.core.schemas import SCORES, SHADOW_SCORES, TableSpec, labels_spec
from tapeline.core.settings import Settings, load_settings
from tapeline.lake.lake import Lake
from tapeline.lake.writer import WriteReceipt
from tapeline.monitoring.notification import score_alerts
from tapeline.monitoring.notifier import Notifier
from tapeline.quality.integrity_log import CheckRecord
from tasks.features import feature_table
from tasks.job import STAGE_SECONDS, Job, StageResult, open_lake
from tasks.observe import observes

if TYPE_CHECKING:
    from tapeline.models.scoring import Scorer
    from tapeline.models.shadow import ShadowEvidence

_log: Final = logging.getLogger(__name__)

FRESH_BARS: Final = 3
"""A score is news for so many bar lengths after it could be known."""


@task(
    task_run_name="score {job.name} with {name}", cache_policy=NO_CACHE, tags=["score"], timeout_seconds=STAGE_SECONDS
)
@observes("score")
def score_bars(job: Job, name: str, *, now: pd.Timestamp | None = None) -> StageResult:
    """Score the job's stored features with the champion of ``name`` and store what is new.

    Bars that the champion was trained on are never scored: their scores would be in-sample. A bar that this version
    has scored before keeps the score it got then. Where there is a challenger, it scores the same bars under the same
    rules into a table of its own, which nothing acts on; what hinders it is noted and hinders nothing else.
    """
    from tapeline.models.scoring import load_scorer

    settings, lake = open_lake()
    now = now or pd.Timestamp.now("UTC")
    scorer = load_scorer(settings, name)
    _, spec = feature_table(settings)
    scorer.require_feature_set(spec.name)
    seen, fresh, scores, receipt = _score_new(lake, job, spec, scorer, SCORES, now)
    confident = int((scores["confidence"] >= settings.scoring.confidence_threshold).sum())
    notes = (f"{confident} above the confidence threshold {settings.scoring.confidence_threshold:g}",)
    in_order = CheckRecord.of_output(
        "feature_set_of_the_model",
        seen,
        stage="score",
        data_version=receipt.version,
        details={"model": name, "model_version": scorer.version, "feature_set": spec.name},
    )
    shadow = _shadow(settings, lake, job, spec, name, now)
    return StageResult(
        "score",
        job,
        len(seen),
        fresh,
        scorer.version,
        str(receipt.path),
        notes=notes + shadow,
        checks=(in_order,),
    )


def _score_new(
    lake: Lake, job: Job, spec: TableSpec, scorer: Scorer, table: TableSpec, now: pd.Timestamp
) -> tuple[pd.DataFrame, int, pd.DataFrame, WriteReceipt]:
    """The rows that the scorer may score, how many it had not scored, their scores, and where these were written."""
    start = later(job.start, scorer.trained_until)
    features = lake.read(spec, job.symbol, job.timeframe, start=start, end=job.end)
    features = features[features["known_at"] > scorer.trained_until]
    known = lake.read(table, job.symbol, job.timeframe, start=start, columns=["ts", "model", "model_version"])
    mine = known[(known["model"] == scorer.name) & (known["model_version"] == scorer.version)]
    fresh = features[~features.index.isin(mine.index)]
    scores = scorer.score(fresh).assign(scored_at=now.as_unit("ns"))
    lineage = job.lineage("score", job.input_of(spec.path), f"{scorer.name}/{scorer.version}")
    receipt = lake.write(table, scores, job.symbol, job.timeframe, lineage=lineage)
    return features, len(fresh), scores, receipt


def _shadow(settings: Settings, lake: Lake, job: Job, spec: TableSpec, name: str, now: pd.Timestamp) -> tuple[str, ...]:
    from tapeline.models.scoring import load_challenger

    try:
        challenger = load_challenger(settings, name)
        if challenger is None:
            return ()
        challenger.require_feature_set(spec.name)
        _, _, scores, _ = _score_new(lake, job, spec, challenger, SHADOW_SCORES, now)
    except (DataError, MissingExtraError) as error:
        _log.warning("the challenger of %s was not scored: %s", name, error)
        return (f"the challenger was not scored: {error.message}",)
    return (f"challenger {challenger.version} scored {len(scores)} beside",)


def shadow_evidence_of(name: str, jobs: Sequence[Job], *, live_only: bool = True) -> ShadowEvidence:
    """How the challenger of ``name`` did beside the champion on the jobs' series so far.

    Raises
    ------
    ConfigurationError
        There is no champion.
    DataError
        There is no challenger, they were trained on different labels, or no row was scored by both.
    """
    from tapeline.models.scoring import load_challenger, load_scorer
    from tapeline.models.shadow import shadow_evidence

    settings, lake = open_lake()
    champion, challenger = load_scorer(settings, name), load_challenger(settings, name)
    if challenger is None:
        raise DataError(f"model '{name}' has no challenger", hint="train again; what is not promoted is the challenger")
    label, other = champion.model.bundle.versions.label, challenger.model.bundle.versions.label
    if label != other:
        raise DataError(f"champion {champion.version} was trained on labels {label}, the challenger on {other}")

    def read(table: TableSpec, scorer: Scorer | None) -> pd.DataFrame:
        parts = []
        for job in jobs:
            frame = lake.read(table, job.symbol, job.timeframe, start=job.start, end=job.end)
            if scorer is not None:
                frame = frame[(frame["model"] == name) & (frame["model_version"] == scorer.version)]
            parts.append(frame.assign(symbol=str(job.symbol)))
        return pd.concat(parts)

    said, would = read(SCORES, champion), read(SHADOW_SCORES, challenger)
    return shadow_evidence(said, would, read(labels_spec(label), None), live_only=live_only)


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
