"""Retraining: what is known of a model's need for it, the decision, and a challenger that has proved itself live."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pandas as pd
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tapeline.core.errors import DataError
from tapeline.core.schemas import DRIFT, labels_spec
from tapeline.core.settings import Settings
from tapeline.lake.lake import Lake
from tapeline.models.retraining import Alarm, RetrainDecision, Situation, decide_retraining, standing_run
from tasks.artifacts import show_markdown
from tasks.features import feature_table
from tasks.job import STAGE_SECONDS, Job, open_lake
from tasks.observe import measure, observed
from tasks.score import shadow_evidence_of
from tasks.train import versions_of

if TYPE_CHECKING:
    from tapeline.models.retraining import Attempt

SEQUENTIAL: Final = ("adwin", "page_hinkley", "ddm", "hddm_a", "hddm_w", "kswin")
NAMED: Final = 5
"""Columns that a reason names; the others are counted."""


@dataclass(frozen=True)
class LivePromotion:
    """What the challenger's live rows said, and whether it became the champion by them."""

    promoted: bool
    version: str
    reason: str


@task(task_run_name="decide {name}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["retrain"])
def decide(name: str, jobs: Sequence[Job], *, manual: bool = False, now: pd.Timestamp | None = None) -> RetrainDecision:
    """Decide whether to train ``name`` again on the jobs' series as they are stored."""
    settings, lake = open_lake()
    with observed("retrain_decision", name, run_id=jobs[0].run_id):
        situation = find_situation(settings, lake, name, jobs, manual=manual, now=now or pd.Timestamp.now("UTC"))
        decision = decide_retraining(situation, settings.lifecycle)
    measure("tapeline_retrain_wanted", float(bool(decision.reasons)), model=name)
    get_run_logger().info("%s: %s", name, decision.text)
    show_markdown(f"retrain-{name}", f"**{name}**: {decision.text}", f"Whether to train {name} again, and why")
    return decision


def find_situation(
    settings: Settings, lake: Lake, name: str, jobs: Sequence[Job], *, manual: bool, now: pd.Timestamp
) -> Situation:
    """What the decision reads: the champion, the last training, the versions of the data, new labels, alarms.

    Raises
    ------
    DataError
        The lake holds no clean bars of a series.
    """
    from tapeline.models.registry import CHAMPION, Registry
    from tapeline.models.tracking import open_tracking
    from tapeline.models.training_history import last_training

    tracking = open_tracking(settings)
    champion = Registry.open(settings, tracking).find(name, CHAMPION)
    last = last_training(tracking, name)
    versions = versions_of(settings, lake, jobs)
    version = None if champion is None else champion.version
    return Situation(
        now=now,
        champion=version,
        last=last,
        versions=versions,
        new_rows=sum(_new_labels(lake, job, versions.label, last, now) for job in jobs),
        alarms=[alarm for job in jobs for alarm in standing_alarms(lake, job, versions.feature_set, name, version)],
        manual=manual,
    )


def champion_reads(name: str) -> bool:
    """Whether there is a champion and it was trained on features of the set in force; of others it refuses to score."""
    from tapeline.models.registry import CHAMPION, Registry
    from tapeline.models.tracking import TAG

    settings, _ = open_lake()
    champion = Registry.open(settings).find(name, CHAMPION)
    feature_set, _ = feature_table(settings)
    return champion is not None and champion.tags.get(f"{TAG}feature_set_version") == feature_set.version


def standing_alarms(lake: Lake, job: Job, feature_set: str, name: str, champion: str | None) -> Iterator[Alarm]:
    """The alarms of a series that stand now, and what detectors told, from ``audit/drift``.

    Of the features and of the champion only what was held against the newest reference counts; without a champion
    nothing does.
    """
    if champion is None:
        return
    drift = lake.read(DRIFT, job.symbol, job.timeframe, start=job.start).reset_index()
    for subject in (feature_set, f"{name}/{champion}"):
        mine = drift[drift["subject"] == subject]
        for kind, found in mine.groupby("kind", observed=True, sort=True):
            newest = found.loc[found["ts"].idxmax(), "reference_version"]
            rows = found[found["reference_version"] == newest]
            told = rows["statistic"].isin(SEQUENTIAL)
            yield from _standing(rows[~told], str(kind), job)
            yield from _told(rows[told], str(kind), job)


@task(task_run_name="live promotion {name}", cache_policy=NO_CACHE, timeout_seconds=STAGE_SECONDS, tags=["retrain"])
def promote_live(name: str, jobs: Sequence[Job], *, dry_run: bool = False) -> LivePromotion | None:
    """Make the challenger the champion where live rows show it better; None where there is nothing to compare.

    Only rows count that both scored before the outcome was known. They must be ``lifecycle.live_rows`` at least, and
    the challenger's loss the smaller one in ``lifecycle.live_share`` of the resamples.
    """
    from tapeline.models.registry import CHALLENGER, CHAMPION, Registry

    settings, _ = open_lake()
    rules = settings.lifecycle
    registry = Registry.open(settings)
    if registry.find(name, CHAMPION) is None or registry.find(name, CHALLENGER) is None:
        return None
    try:
        evidence = shadow_evidence_of(name, jobs)
    except DataError as error:
        get_run_logger().info("%s: nothing to compare live: %s", name, error)
        return None
    found = evidence.difference
    enough = found.rows >= rules.live_rows
    better = enough and found.better >= rules.live_share
    reason = evidence.decision.reason
    if not enough:
        reason = f"{rules.live_rows} live rows are needed: {reason}"
    elif not better:
        reason = f"{rules.live_share:.0%} of resamples are needed: {reason}"
    if not better or dry_run or not rules.promote_live:
        return LivePromotion(False, evidence.challenger, reason)
    with registry.lock:
        present = [registry.find(name, alias) for alias in (CHAMPION, CHALLENGER)]
        if [one and one.version for one in present] != [evidence.champion, evidence.challenger]:
            return LivePromotion(False, evidence.challenger, "the aliases moved while the rows were compared")
        registry.promote(name, evidence.challenger)
    return LivePromotion(True, evidence.challenger, reason)


def _new_labels(lake: Lake, job: Job, label: str, last: Attempt | None, now: pd.Timestamp) -> int:
    labels = lake.read(labels_spec(label), job.symbol, job.timeframe, start=job.start, end=job.end)
    known = (labels["t_end"] <= now) & labels["value"].notna() & (labels["value"] != 0)
    return int((known if last is None else known & (labels["t_end"] > last.known_until)).sum())


def _standing(rows: pd.DataFrame, kind: str, job: Job) -> Iterator[Alarm]:
    run = standing_run(rows)
    if run is None:
        return
    newest = rows[rows["alarm"] & (rows["ts"] == rows["ts"].max())]
    names = sorted(set(newest["column"].astype(str) if kind == "distribution" else newest["statistic"].astype(str)))
    yield Alarm(kind, f"{kind} of {job.name}: {_listed(names)}", *run)


def _told(rows: pd.DataFrame, kind: str, job: Job) -> Iterator[Alarm]:
    """What detectors told, the newest of each stream; several features at one time are one reason."""
    newest = rows[rows["alarm"]].sort_values("ts", kind="stable").drop_duplicates("column", keep="last")
    if newest.empty:
        return
    for since, together in newest.groupby("ts", sort=True):
        names = sorted(set(together["column"].astype(str)))
        yield Alarm(kind, f"{kind} of {job.name}: {_listed(names)}", pd.Timestamp(since), sequential=True)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
