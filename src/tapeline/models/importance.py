"""Importance over time: how much each feature matters to a model, kept in MLflow, and what of it has changed."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import DataError, VersionMismatchError
from tapeline.evaluation.metrics import log_loss
from tapeline.models.bundle import Model
from tapeline.models.dataset import Dataset
from tapeline.models.sampled_shap import contributions
from tapeline.models.tracking import TAG, Tracking
from tapeline.monitoring.notification import Notification, Severity

IMPORTANCE_TAG: Final = f"{TAG}importance"
FOLDER: Final = "importance"
ROWS: Final = 2_000
_METRIC_NAME: Final = re.compile(r"[^\w\-./ ]")
_BATCH: Final = 500


def measure_importance(
    model: Model, dataset: Dataset, *, rows: int = ROWS, repeats: int = 3, seed: int = 0
) -> pd.DataFrame:
    """How much each feature matters to a model on the newest rows of a dataset.

    Parameters
    ----------
    model:
        From the registry.
    dataset:
        Labelled rows of the model's columns; out of sample where they were decided after ``trained_until``.
    rows, repeats, seed:
        How many of the newest rows, shuffles a column, and their seed.

    Returns
    -------
    A row a feature, the most important first: ``feature``, ``shap`` (mean absolute, log odds), ``shap_share`` (of
    their sum), ``permutation`` (by how much the log loss rises where the column is shuffled, nats; Fisher, Rudin and
    Dominici 2019, Journal of Machine Learning Research 20(177)), ``rank`` (by SHAP, 1 is the first), and
    ``permutation_rank``. A column that the model does not read has 0 and ranks last; names break ties.

    Raises
    ------
    VersionMismatchError
        The dataset has other columns than the model.
    DataError
        It has no row.
    """
    if dataset.columns != model.bundle.columns:
        raise VersionMismatchError(
            f"model '{model.bundle.name}' reads {len(model.bundle.columns)} columns, the rows have "
            f"{len(dataset.columns)} or others",
            hint=f"compute the features with {model.bundle.versions.feature_set}",
        )
    if not len(dataset):
        raise DataError(f"no row to measure the importance of features to '{model.bundle.name}' on")
    recent = dataset.take(np.arange(max(0, len(dataset) - rows), len(dataset)))
    values = contributions(model, recent.X)
    shap = np.zeros(len(dataset.columns))
    shap[list(model.bundle.kept)] = np.abs(values).mean(axis=0)
    generator = np.random.default_rng(seed)
    loss = log_loss(recent.y, model.probability(recent.X), recent.weight)
    rises = np.zeros(len(dataset.columns))
    for column in model.bundle.kept:
        shuffled = recent.X.copy()
        for _ in range(repeats):
            shuffled[:, column] = generator.permutation(recent.X[:, column])
            rises[column] += log_loss(recent.y, model.probability(shuffled), recent.weight) - loss
    total = shap.sum()
    table = pd.DataFrame(
        {
            "feature": list(dataset.columns),
            "shap": shap,
            "shap_share": shap / total if total > 0 else shap,
            "permutation": rises / repeats,
        }
    )
    table["permutation_rank"] = _ranks(table, "permutation")
    table["rank"] = _ranks(table, "shap")
    return table.sort_values("rank").reset_index(drop=True)


@dataclass(frozen=True)
class Snapshot:
    """The importance of features at one time.

    Parameters
    ----------
    model, version:
        In the registry.
    as_of:
        When the newest label it was measured on became known.
    out_of_sample:
        Whether the model was trained on none of the rows.
    table:
        From :func:`measure_importance`.
    """

    model: str
    version: str
    as_of: pd.Timestamp
    out_of_sample: bool
    table: pd.DataFrame


@dataclass(frozen=True)
class RankChange:
    """A feature whose rank is not what it was: ``before`` is the median of earlier snapshots; None where it was absent.

    ``now`` is None where the feature is gone.
    """

    feature: str
    before: float | None
    now: int | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.feature}: new at rank {self.now}"
        if self.now is None:
            return f"{self.feature}: gone, rank {self.before:g} before"
        return f"{self.feature}: rank {self.before:g} -> {self.now}"


def rank_changes(
    history: list[Snapshot], *, top: int = 10, moved: int = 5, window: int = 4
) -> tuple[list[RankChange], float]:
    """What changed in the newest snapshot against the ones before it.

    Parameters
    ----------
    history:
        By time, the newest last.
    top:
        Only features whose rank is or was among the first so many.
    moved:
        Ranks that a feature must have moved by, against its median over the ``window`` snapshots before.

    Returns
    -------
    The changes, the largest move first, and the rank correlation (Spearman) of all features in both; 1 and no change
    where there is no snapshot before.

    Examples
    --------
    >>> def at(day, *features):
    ...     table = pd.DataFrame({"feature": features, "rank": range(1, len(features) + 1)})
    ...     return Snapshot("m", "1", pd.Timestamp(day, tz="UTC"), True, table)
    >>> changes, agreement = rank_changes([at("2017-01-01", "a", "b", "c"), at("2017-01-08", "c", "b", "a")], moved=2)
    >>> [str(change) for change in changes], round(agreement, 2)
    (['a: rank 1 -> 3', 'c: rank 3 -> 1'], -1.0)
    """
    if len(history) < 2:
        return [], 1.0
    earlier = [snapshot.table.set_index("feature")["rank"] for snapshot in history[-1 - window : -1]]
    before = pd.concat(earlier, axis=1).median(axis=1)
    now = history[-1].table.set_index("feature")["rank"]
    last = max(len(before), len(now)) + 1
    changes = []
    for feature in sorted({*before.index, *now.index}):
        then, here = before.get(feature), now.get(feature)
        old, new = (last if then is None else then), (last if here is None else here)
        if min(old, new) <= top and (abs(old - new) >= moved or then is None or here is None):
            changes.append(
                (
                    abs(old - new),
                    RankChange(feature, None if then is None else float(then), None if here is None else int(here)),
                )
            )
    both = before.index.intersection(now.index)
    agreement = float(before[both].rank().corr(now[both].rank())) if len(both) > 1 else 1.0
    return [change for _, change in sorted(changes, key=lambda one: (-one[0], one[1].feature))], agreement


def importance_alert(snapshot: Snapshot, changes: list[RankChange], agreement: float) -> Notification | None:
    """What to tell people of the changes; None where there are none. The same snapshot is told once."""
    if not changes:
        return None
    lines = [str(change) for change in changes]
    kind = "out of sample" if snapshot.out_of_sample else "in sample"
    return Notification(
        f"{snapshot.model}: the importance of {len(changes)} features has changed",
        "\n".join([*lines, "", f"Rank correlation with the snapshots before: {agreement:.2f} ({kind})."]),
        Severity.WARNING,
        key=f"importance {snapshot.model} {snapshot.version} {snapshot.as_of.isoformat()}",
        once=True,
    )


class ImportanceTracker:
    """The importance of a model's features over time, one MLflow run a model name.

    Each snapshot is a step of the metrics ``shap_share/<feature>``, ``permutation/<feature>`` and ``rank/<feature>``,
    drawn by MLflow over time, and one JSON table with the exact names. The same snapshot is kept once.

    Parameters
    ----------
    tracking:
        The open store.
    name:
        The registered model's.
    """

    def __init__(self, tracking: Tracking, name: str) -> None:
        self._tracking, self._client = tracking, tracking.client
        self.name = name

    def record(self, snapshot: Snapshot) -> bool:
        """Keep a snapshot; False where it was kept before."""
        if snapshot.model != self.name:
            raise DataError(f"a snapshot of '{snapshot.model}' does not belong to '{self.name}'")
        run_id = self._run() or self._new_run()
        kept = self._files(run_id)
        file = f"{snapshot.as_of:%Y%m%dT%H%M%S}-{snapshot.version}.json"
        if file in kept:
            return False
        from mlflow.entities import Metric

        at = int(snapshot.as_of.timestamp() * 1000)
        metrics = [
            Metric(f"{kind}/{_METRIC_NAME.sub('_', row['feature'])}", float(row[kind]), at, len(kept))
            for row in snapshot.table.to_dict("records")
            for kind in ("shap_share", "permutation", "rank")
        ]
        for first in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[first : first + _BATCH])
        # The table last: a crash before it makes the next try log the same step again, never lose it.
        with tempfile.TemporaryDirectory(prefix="tapeline-importance-") as scratch:
            path = Path(scratch) / file
            path.write_text(json.dumps(_to_json(snapshot)))
            self._client.log_artifact(run_id, str(path), FOLDER)
        return True

    def history(self, newest: int = 10) -> list[Snapshot]:
        """The newest snapshots by time, the newest last."""
        run_id = self._run()
        if run_id is None:
            return []
        snapshots = []
        for file in self._files(run_id)[-newest:]:
            path = Path(self._client.download_artifacts(run_id, f"{FOLDER}/{file}"))
            snapshots.append(_from_json(json.loads(path.read_text())))
        return snapshots

    def _run(self) -> str | None:
        tag = f"tags.`{IMPORTANCE_TAG}` = '{self.name}'"
        found = self._client.search_runs([self._tracking.experiment_id], filter_string=tag, max_results=1)
        return found[0].info.run_id if found else None

    def _new_run(self) -> str:
        with self._tracking.run(f"importance {self.name}", {IMPORTANCE_TAG: self.name}) as run_id:
            return run_id

    def _files(self, run_id: str) -> list[str]:
        return sorted(Path(one.path).name for one in self._client.list_artifacts(run_id, FOLDER))


def _ranks(table: pd.DataFrame, column: str) -> pd.Series:
    order = table.sort_values([column, "feature"], ascending=[False, True]).index
    return pd.Series(np.arange(1, len(table) + 1), index=order)


def _to_json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "model": snapshot.model,
        "version": snapshot.version,
        "as_of": snapshot.as_of.isoformat(),
        "out_of_sample": snapshot.out_of_sample,
        "table": snapshot.table.to_dict("list"),
    }


def _from_json(content: Mapping[str, Any]) -> Snapshot:
    try:
        return Snapshot(
            str(content["model"]),
            str(content["version"]),
            pd.Timestamp(content["as_of"]),
            bool(content["out_of_sample"]),
            pd.DataFrame(content["table"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"this is no snapshot of importance: {type(error).__name__}: {error}") from error
