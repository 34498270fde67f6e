"""The meta-learner: which families of models to try on a dataset, and where to begin, from past runs on similar data.

Past runs are read from MLflow: the traits of their development rows, and the cross-validated loss of every trial. Of
their holdouts nothing is read, and of runs that knew labels from within the present holdout's time nothing at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from tapeline.models.ledger import STUDY_TAG
from tapeline.models.search import Plan, plan_of
from tapeline.models.tracking import PARENT_TAG, TAG, Tracking
from tapeline.models.trial_log import FAMILY_TAG, SLOT_TAG, STATE_TAG
from tapeline.models.zoo import families

DEFAULT_FAMILY: Final = "lightgbm"
TRAIT_METRIC: Final = "trait_"
KNOWN_UNTIL_TAG: Final = f"{TAG}traits_known_until"
NEIGHBOURS: Final = 5
STUDIES_READ: Final = 1000
TRIALS_READ: Final = 1000
FAMILIES_TRIED: Final = 3
POINTS_OF_FAVOURITE: Final = 2


@dataclass(frozen=True)
class PastTrial:
    """A completed trial of a past study: what was fitted, and its log loss over purged folds."""

    family: str
    parameters: Mapping[str, Any]
    log_loss: float


@dataclass(frozen=True)
class PastStudy:
    """A past study, how far its data lies from the present data in standardised traits, and its completed trials."""

    study: str
    distance: float
    trials: tuple[PastTrial, ...]

    def best(self) -> dict[str, PastTrial]:
        """The best trial of each family."""
        found: dict[str, PastTrial] = {}
        for trial in sorted(self.trials, key=lambda trial: trial.log_loss):
            found.setdefault(trial.family, trial)
        return found


@dataclass(frozen=True)
class Proposal:
    """What to try, and why.

    Parameters
    ----------
    families:
        In the order of expected merit.
    first:
        (family, parameters) of the first trials.
    regret:
        By family: the expected loss over that of the best family, in nats; only of families with a past.
    reason:
        In a sentence or two.
    """

    families: tuple[str, ...]
    first: tuple[tuple[str, Mapping[str, Any]], ...]
    regret: Mapping[str, float]
    reason: str

    def plan(self, *, trials: int, seed: int, search: Literal["tpe", "grid"] = "tpe") -> Plan:
        """The plan of a study that follows it."""
        return plan_of(self.families, trials=trials, seed=seed, search=search, first=self.first, reason=self.reason)


def candidates() -> tuple[str, ...]:
    """The families that may be chosen: those with something to tune whose package is installed, the default first.

    Examples
    --------
    >>> candidates()[0], "majority" in candidates()
    ('lightgbm', False)
    """
    return tuple(one.name for one in families() if one.grid and (one.package is None or find_spec(one.package)))


def nearest(
    traits: Mapping[str, float], past: Mapping[str, Mapping[str, float]], *, neighbours: int = NEIGHBOURS
) -> dict[str, float]:
    """The past datasets most like this one, nearest first, with their distances.

    Each trait is divided by its standard deviation over the past and the present; the distance is the root mean square
    of the differences over the traits that both have.

    Examples
    --------
    >>> past = {"a": {"log_rows": 3.0}, "b": {"log_rows": 5.0}}
    >>> list(nearest({"log_rows": 4.7}, past, neighbours=1))
    ['b']
    """
    if not past:
        return {}
    names = sorted(traits)
    matrix = np.array([[one.get(name, math.nan) for name in names] for one in (traits, *past.values())], dtype=float)
    finite = np.isfinite(matrix)
    count = np.maximum(finite.sum(axis=0), 1)
    mean = np.where(finite, matrix, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(finite, matrix - mean, 0.0) ** 2).sum(axis=0) / count)
    scaled = (matrix - mean) / np.where(spread > 0, spread, np.inf)
    difference = scaled[1:] - scaled[0]
    shared = np.isfinite(difference)
    squares = np.where(shared, difference, 0.0) ** 2
    distance = np.sqrt(squares.sum(axis=1) / np.maximum(shared.sum(axis=1), 1))
    distance[~shared.any(axis=1)] = np.inf
    order = sorted(zip(distance.tolist(), past, strict=True))
    return {study: gap for gap, study in order[:neighbours] if math.isfinite(gap)}


def propose(past: Sequence[PastStudy], *, known: Sequence[str] | None = None) -> Proposal:
    """Order the families by what they came to on similar data, and take the first trials from there.

    In each past study a family's regret is its best loss less the best of any family. Studies weigh
    ``exp(-distance)``, and each family has one pseudo-study with the mean regret of all, so that one lucky run decides
    little. Two families with a past are tried, and one without, for what was never tried cannot win. Each begins with
    its best parameters on the nearest data, or with its defaults.

    Parameters
    ----------
    past:
        Similar studies, nearest first.
    known:
        The families that may be chosen; :func:`candidates` where absent.

    Examples
    --------
    >>> ridge, trees = PastTrial("ridge", {"penalty": 1.0}, 0.690), PastTrial("lightgbm", {}, 0.692)
    >>> found = propose([PastStudy("a", 0.1, (ridge, trees))], known=["lightgbm", "ridge"])
    >>> found.families, found.first[0]
    (('ridge', 'lightgbm'), ('ridge', {'penalty': 1.0}))
    """
    allowed = tuple(known if known is not None else candidates())
    bests = [(study, _allowed(study.best(), allowed)) for study in past]
    bests = [(study, best) for study, best in bests if best]
    if not bests:
        return Proposal(
            (DEFAULT_FAMILY,),
            (),
            {},
            f"no past run on comparable data: {DEFAULT_FAMILY}, the default, with its default parameters",
        )
    regret = _regret(bests)
    seen = sorted(regret, key=lambda name: (regret[name], allowed.index(name)))
    unseen = [name for name in allowed if name not in regret]
    tried = (*seen[: FAMILIES_TRIED - 1], *unseen[:1], *seen[FAMILIES_TRIED - 1 :])[:FAMILIES_TRIED]
    points = {name: _points(bests, name) for name in tried}
    first = [(name, points[name][0]) for name in tried]
    first += [(tried[0], point) for point in points[tried[0]][1:POINTS_OF_FAVOURITE]]
    return Proposal(tried, tuple(first), regret, _reason(bests, regret, tried, unseen))


def learn(
    tracking: Tracking, traits: Mapping[str, float], *, before: pd.Timestamp, study: str, neighbours: int = NEIGHBOURS
) -> Proposal:
    """Read past runs and propose.

    Parameters
    ----------
    tracking:
        The open store.
    traits:
        Of the present development rows.
    before:
        Where the present holdout begins: studies that knew labels from that time on are left out.
    study:
        The present study, which is left out too.
    """
    past = _past_traits(tracking, before)
    past.pop(study, None)
    found = nearest(traits, past, neighbours=neighbours)
    return propose([PastStudy(name, gap, _past_trials(tracking, name)) for name, gap in found.items()])


def record_traits(
    tracking: Tracking, run_id: str, study: str, traits: Mapping[str, float], known_until: pd.Timestamp
) -> None:
    """Keep a study's traits for later ones, and until when it knows labels."""
    metrics = {f"{TRAIT_METRIC}{name}": value for name, value in traits.items()}
    tags = {STUDY_TAG: study, KNOWN_UNTIL_TAG: str(int(known_until.as_unit("ns").value))}
    tracking.log(run_id, metrics=metrics, tags=tags)


def _past_traits(tracking: Tracking, before: pd.Timestamp) -> dict[str, dict[str, float]]:
    limit = int(before.as_unit("ns").value)
    page = tracking.client.search_runs(
        [tracking.experiment_id],
        filter_string=f"tags.`{KNOWN_UNTIL_TAG}` LIKE '%'",
        order_by=["attributes.start_time DESC"],
        max_results=STUDIES_READ,
    )
    found: dict[str, dict[str, float]] = {}
    for run in page:
        if int(run.data.tags[KNOWN_UNTIL_TAG]) <= limit and STUDY_TAG in run.data.tags:
            own = {
                name.removeprefix(TRAIT_METRIC): value
                for name, value in run.data.metrics.items()
                if name.startswith(TRAIT_METRIC)
            }
            found.setdefault(run.data.tags[STUDY_TAG], own)
    return found


def _past_trials(tracking: Tracking, study: str) -> tuple[PastTrial, ...]:
    page = tracking.client.search_runs(
        [tracking.experiment_id],
        filter_string=f"tags.`{STUDY_TAG}` = '{study}' AND tags.`{SLOT_TAG}` LIKE '%' "
        f"AND tags.`{STATE_TAG}` = 'complete' AND tags.`{PARENT_TAG}` LIKE '%'",
        order_by=["metrics.log_loss ASC"],
        max_results=TRIALS_READ,
    )
    return tuple(
        PastTrial(
            run.data.tags[FAMILY_TAG],
            {name: _parsed(text) for name, text in run.data.params.items()},
            float(run.data.metrics["log_loss"]),
        )
        for run in page
        if "log_loss" in run.data.metrics
    )


def _parsed(text: str) -> Any:
    """A parameter as it was before MLflow made text of it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False, "None": None}.get(text, text)


def _allowed(best: Mapping[str, PastTrial], allowed: Sequence[str]) -> dict[str, PastTrial]:
    return {name: trial for name, trial in best.items() if name in allowed}


def _regret(bests: Sequence[tuple[PastStudy, Mapping[str, PastTrial]]]) -> dict[str, float]:
    total: dict[str, float] = {}
    mass: dict[str, float] = {}
    for study, best in bests:
        least = min(trial.log_loss for trial in best.values())
        weight = math.exp(-study.distance)
        for name, trial in best.items():
            total[name] = total.get(name, 0.0) + weight * (trial.log_loss - least)
            mass[name] = mass.get(name, 0.0) + weight
    mean = sum(total.values()) / sum(mass.values())
    return {name: (total[name] + mean) / (mass[name] + 1.0) for name in total}


def _points(bests: Sequence[tuple[PastStudy, Mapping[str, PastTrial]]], name: str) -> list[Mapping[str, Any]]:
    """The best parameters of a family on each similar dataset, nearest first; its defaults where there are none."""
    points: list[Mapping[str, Any]] = []
    for _, best in bests:
        if name in best and dict(best[name].parameters) not in points:
            points.append(dict(best[name].parameters))
    return points or [dict(next(one for one in families() if one.name == name).defaults)]


def _reason(
    bests: Sequence[tuple[PastStudy, Mapping[str, PastTrial]]],
    regret: Mapping[str, float],
    tried: Sequence[str],
    unseen: Sequence[str],
) -> str:
    like = ", ".join(f"{study.study} (distance {study.distance:.2f})" for study, _ in bests)
    losses = ", ".join(f"{name} {regret[name]:.5f}" for name in sorted(regret, key=lambda name: regret[name]))
    new = [name for name in tried if name in unseen]
    more = f"; {new[0]} has no past and is tried once" if new else ""
    return f"similar past data: {like}; expected log loss over the best family's: {losses}{more}"
