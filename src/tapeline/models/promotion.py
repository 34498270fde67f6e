"""Promotion: whether a new model replaces the champion, decided on rows that neither of them was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.evaluation.result import Versions
from tapeline.models.statistics import stationary_bootstrap

BETTER_SHARE: Final = 0.9
"""The share of bootstrap samples in which a challenger must have the smaller log loss: a one-sided 10 % level."""

SHOWN_SHARE: Final = 0.99
"""A model better than the base rate and than its own mean probability in this share of samples has shown skill."""

MATERIAL: Final = 1e-3
"""A log loss that is worse by less than so many nats a decision is as good in practice, however sure the difference."""
WORSE_SHARE: Final = 0.01
"""A first model better than the base rate in fewer samples than this is significantly worse than knowing nothing."""

COMPARABLE_ROWS: Final = 100
"""Fewer unseen rows than this decide nothing."""

_SAMPLES: Final = 1000
_EDGE: Final = 1e-12

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LossDifference:
    """How much smaller the log loss of one set of probabilities is than another's on the same rows.

    Parameters
    ----------
    candidate, incumbent:
        Mean log loss of each.
    better:
        Share of block bootstrap samples in which the candidate's is smaller.
    rows:
        On how many rows.
    """

    candidate: float
    incumbent: float
    better: float
    rows: int

    @property
    def skill(self) -> float:
        """1 - candidate / incumbent: the share of the incumbent's loss that the candidate saves; 0 is no better."""
        return 1 - self.candidate / self.incumbent


@dataclass(frozen=True)
class Champion:
    """What the decision must know of the present champion.

    Parameters
    ----------
    version:
        In the registry.
    versions:
        What it was made from.
    trained_until:
        Rows decided up to here are in-sample for it.
    skill:
        Its skill over the base rate as recorded on its own holdout; None where none was recorded.
    predict:
        Its calibrated probabilities for feature rows in its own column order; None where the file cannot be read.
    problem:
        Why it cannot be read.
    """

    version: str
    versions: Versions
    trained_until: pd.Timestamp
    skill: float | None
    predict: Callable[[npt.NDArray[np.float32]], Array] | None
    problem: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether to promote, and the sentence that says why."""

    promote: bool
    reason: str


def loss_difference(
    target: npt.ArrayLike,
    candidate: npt.ArrayLike,
    incumbent: npt.ArrayLike,
    instant: npt.ArrayLike,
    *,
    mean_block: float,
    seed: int = 0,
) -> LossDifference:
    """Compare two sets of probabilities by paired log loss, resampling blocks of decision times.

    Examples
    --------
    >>> y = np.tile([0, 1], 50)
    >>> loss_difference(y, np.where(y == 1, 0.7, 0.3), np.full(100, 0.5), np.arange(100), mean_block=2).better
    1.0
    """
    y = np.asarray(target, dtype=np.float64)
    if not y.size:
        raise DataError("no rows to compare two models on")
    first, second = _losses(y, candidate), _losses(y, incumbent)
    unique, position = np.unique(np.asarray(instant), return_inverse=True)
    counts = stationary_bootstrap(unique.size, min(mean_block, float(unique.size)), _SAMPLES, seed=seed)
    sums = counts @ np.bincount(position, first - second)
    # Equal models must not count as better by a rounding residue.
    better = (sums < -1e-12 * y.size).mean()
    return LossDifference(float(first.mean()), float(second.mean()), float(better), y.size)


def decide(
    *,
    versions: Versions,
    X: npt.NDArray[np.float32],  # noqa: N803 - scikit-learn's name
    target: npt.NDArray[np.int8],
    probability: Array,
    t0: pd.DatetimeIndex,
    against_base: LossDifference,
    champion: Champion | None,
    mean_block: float,
    seed: int = 0,
) -> Decision:
    """Decide whether a model that was just evaluated on its holdout becomes the champion.

    1. A holdout of one class decides nothing.
    2. Without a champion the first model takes the place unless it is significantly and materially worse than the
       base rate: someone must be first, and the reason says whether it has shown any skill. Skill is to be better than
       the base rate and than its own mean probability: one number for all rows, a little nearer to what the holdout
       happened to hold than the base rate is, tells no row from another.
    3. Against a champion of the same feature set and label, both are scored on the holdout rows that the champion was
       not trained on. The new one must have the smaller log loss in 90 % of block bootstrap samples.
    4. Against one of other versions, which cannot be scored on these rows, each is measured by its skill over the base
       rate of its own holdout: the new one must beat its base rate and its own mean probability in 90 % of samples and
       have the greater skill.

    Parameters
    ----------
    versions, X, target, probability, t0:
        The new model's versions, and its holdout: features, what happened, its calibrated probabilities, and the
        decision times.
    against_base:
        The new model against the base rate of its training rows.
    champion:
        The present one; None where there is none.
    mean_block:
        Mean block length of the bootstrap, in decision times.
    """
    skill = (
        f"log loss {against_base.candidate:.4f} against {against_base.incumbent:.4f} of the base rate, "
        f"better in {against_base.better:.0%} of resamples"
    )
    if len(np.unique(target)) < 2:
        return Decision(False, "the holdout holds one class only, which decides nothing")
    own_mean = np.full(len(probability), probability.mean())
    against_mean = loss_difference(target, probability, own_mean, t0.asi8, mean_block=mean_block, seed=seed)
    sure = min(against_base.better, against_mean.better)
    if champion is None:
        worse = against_base.candidate - against_base.incumbent
        if against_base.better < WORSE_SHARE and worse > MATERIAL:
            return Decision(False, f"significantly worse than the base rate ({skill})")
        shown = "with skill shown" if sure >= SHOWN_SHARE else "no skill over the base rate shown"
        return Decision(True, f"first model of this name, {shown} ({skill})")
    if champion.predict is None:
        return Decision(
            False,
            f"champion {champion.version} cannot be read ({champion.problem}): a person must promote or roll back",
        )
    comparable = (champion.versions.feature_set, champion.versions.label) == (versions.feature_set, versions.label)
    if not comparable:
        return _by_skill(against_base, champion, sure, skill)
    unseen = np.asarray(t0 > champion.trained_until)
    if unseen.sum() < COMPARABLE_ROWS:
        return Decision(
            False,
            f"only {int(unseen.sum())} holdout rows are unseen by champion {champion.version} as well, "
            f"{COMPARABLE_ROWS} are needed",
        )
    pair = loss_difference(
        target[unseen],
        probability[unseen],
        champion.predict(X[unseen]),
        t0.asi8[unseen],
        mean_block=mean_block,
        seed=seed,
    )
    told = (
        f"log loss {pair.candidate:.4f} against {pair.incumbent:.4f} of champion {champion.version} on the same "
        f"{pair.rows} rows, better in {pair.better:.0%} of resamples"
    )
    if pair.better >= BETTER_SHARE:
        return Decision(True, f"better than the champion: {told}")
    return Decision(False, f"not shown better than the champion: {told}, {BETTER_SHARE:.0%} are needed")


def _by_skill(against_base: LossDifference, champion: Champion, sure: float, told: str) -> Decision:
    before = champion.skill
    if before is None:
        return Decision(False, f"champion {champion.version} has other versions and no recorded skill to compare with")
    better = sure >= BETTER_SHARE and against_base.skill > before
    comparison = (
        f"skill {against_base.skill:.4%} against {before:.4%} of champion {champion.version}, each on its own holdout "
        f"because their versions differ ({told})"
    )
    return Decision(better, f"{'better' if better else 'not shown better'} than the champion: {comparison}")


def _losses(y: Array, probability: npt.ArrayLike) -> Array:
    p = np.clip(np.asarray(probability, dtype=np.float64), _EDGE, 1 - _EDGE)
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))
