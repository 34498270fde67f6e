"""How far a signal may be trusted: calibrated probability, conformal set and agreement of models as one score.

``confidence = edge * certainty ** a * decided * agreement ** b * shadow ** c``, each part in 0..1 and given beside the
score so that it can be explained, each but the edge 1 where nothing is known of it:

- ``edge``: how far the probability of the side taken lies above ``break_even``, 1 from ``full`` on;
- ``certainty``: 1 less the width of the Venn-Abers interval, the calibration's own doubt;
- ``decided``: 1 where the conformal set holds the side alone, ``undecided`` where it holds both, 0 where it does not
  hold the side;
- ``agreement``: 1 less twice the mean distance of the members of an ensemble from their mean;
- ``shadow``: 1 less the distance between champion and challenger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tapeline.core.errors import DataError
from tapeline.evaluation.metrics import auc, equal_mass_bins
from tapeline.models.conformal import ConformalSets, fit_conformal
from tapeline.models.venn_abers import VennAbers, fit_venn_abers

Array = npt.NDArray[np.float64]
Weight = Annotated[float, Field(ge=0, le=100)]

PARTS: Final = ("edge", "certainty", "decided", "agreement", "shadow")


class ConfidenceRules(BaseModel):
    """What the parts of the score weigh.

    Parameters
    ----------
    break_even:
        The probability at which a trade earns nothing after costs: there the edge is 0.
    full:
        The probability from which on the edge is 1.
    undecided:
        The factor of a conformal set with both classes; 0 lets only decided signals through.
    certainty_weight, agreement_weight, shadow_weight:
        Exponents of the parts; 0 leaves one out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    break_even: Annotated[float, Field(ge=0, lt=1)] = 0.5
    full: Annotated[float, Field(gt=0, le=1)] = 1.0
    undecided: Annotated[float, Field(ge=0, le=1)] = 0.5
    certainty_weight: Weight = 1.0
    agreement_weight: Weight = 1.0
    shadow_weight: Weight = 1.0

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.full > self.break_even:
            raise ValueError(f"full = {self.full} is not above break_even = {self.break_even}")
        return self


def score_confidence(
    side: npt.ArrayLike,
    probability: npt.ArrayLike,
    rules: ConfidenceRules | None = None,
    *,
    interval: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    sets: npt.ArrayLike | None = None,
    members: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    challenger: npt.ArrayLike | None = None,
) -> pd.DataFrame:
    """The score of each signal, with its parts.

    Parameters
    ----------
    side:
        1, -1 or 0 (no position: its score is NaN).
    probability:
        Calibrated, that price rises; NaN where unknown.
    interval:
        Lower and upper probability of the calibration (:meth:`tapeline.models.venn_abers.VennAbers.interval`).
    sets:
        Whether down and up are in the conformal set, shape (rows, 2).
    members:
        What each member of an ensemble says, shape (rows, members); a NaN member of a row says nothing.
    weights:
        Of the members; equal where absent.
    challenger:
        What the model in the shadow says; NaN where it said nothing.

    Returns
    -------
    ``confidence``, ``probability`` (of the side taken) and the parts ``edge``, ``certainty``, ``decided``,
    ``agreement``, ``shadow``.

    Raises
    ------
    DataError
        Lengths differ, a side is none, or a number is no probability.

    Examples
    --------
    >>> score_confidence([1, -1], [0.8, 0.8], sets=[[True, True], [False, True]], challenger=[0.7, 0.7]).round(3)
       confidence  probability  edge  certainty  decided  agreement  shadow
    0        0.27          0.8   0.6        1.0      0.5        1.0     0.9
    1        0.00          0.2   0.0        1.0      0.0        1.0     0.9
    """
    rules = rules or ConfidenceRules()
    sides = np.atleast_1d(np.asarray(side, dtype=np.float64))
    up = _probabilities(probability, "probability", sides.size)
    if sides.ndim != 1 or not np.isin(sides, (-1.0, 0.0, 1.0)).all():
        raise DataError("a side is none of 1, -1 and 0")
    long = sides > 0
    taken = np.where(long, up, 1.0 - up)
    taken[sides == 0] = np.nan
    rest = np.ones(sides.size)
    parts = {"edge": np.clip((taken - rules.break_even) / (rules.full - rules.break_even), 0.0, 1.0)}
    parts.update(certainty=rest, decided=rest, agreement=rest, shadow=rest)
    if interval is not None:
        low, high = (_probabilities(bound, "interval", sides.size) for bound in interval)
        if (low > high).any():
            raise DataError("an interval's lower probability lies above its upper one")
        parts["certainty"] = _known(1.0 - (high - low))
    if sets is not None:
        inside = np.asarray(sets, dtype=bool)
        if inside.shape != (sides.size, 2):
            raise DataError(f"sets of shape {inside.shape} do not belong to {sides.size} signals")
        own, other = np.where(long, inside[:, 1], inside[:, 0]), np.where(long, inside[:, 0], inside[:, 1])
        parts["decided"] = np.where(own, np.where(other, rules.undecided, 1.0), 0.0)
    if members is not None:
        parts["agreement"] = _agreement(members, weights, sides.size)
    if challenger is not None:
        parts["shadow"] = _known(1.0 - np.abs(up - _probabilities(challenger, "challenger", sides.size)))
    score = parts["edge"] * parts["decided"] * parts["certainty"] ** rules.certainty_weight
    score = score * parts["agreement"] ** rules.agreement_weight * parts["shadow"] ** rules.shadow_weight
    return pd.DataFrame({"confidence": score, "probability": taken, **parts})


@dataclass(frozen=True)
class ConfidenceScorer:
    """Calibration and conformal sets of one model, fitted, and the rules of the score.

    Examples
    --------
    >>> raw, chance = np.random.default_rng(0).uniform(size=(2, 400))
    >>> scorer = fit_confidence(raw, (chance < raw).astype(int), miscoverage=0.3)
    >>> found = scorer.score([0.1, 0.5, 0.9])
    >>> found["side"].tolist()[::2], bool(found["confidence"][1] < found["confidence"][[0, 2]].min())
    ([-1, 1], True)
    >>> ConfidenceScorer.from_json(scorer.to_json()) == scorer
    True
    """

    calibration: VennAbers
    conformal: ConformalSets
    rules: ConfidenceRules = field(default_factory=ConfidenceRules)

    def score(
        self,
        raw: npt.ArrayLike,
        side: npt.ArrayLike | None = None,
        *,
        members: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
        challenger: npt.ArrayLike | None = None,
    ) -> pd.DataFrame:
        """:func:`score_confidence` of a model's raw scores that price rises, with ``side`` as a first column.

        Parameters
        ----------
        raw:
            Raw scores, NaN where the model said nothing.
        side:
            The side taken; where absent, the more probable one, 0 where the two are alike or unknown.
        members, weights, challenger:
            As there, calibrated or on one scale with each other.
        """
        given = np.atleast_1d(np.asarray(raw, dtype=np.float64))
        up = self.calibration.apply(given)
        unknown = np.isnan(up)
        taken = np.sign(np.where(unknown, 0.5, up) - 0.5) if side is None else np.asarray(side, dtype=np.float64)
        sets = self.conformal.sets(np.where(unknown, 0.5, up))
        found = score_confidence(
            taken,
            up,
            self.rules,
            interval=self.calibration.interval(given),
            sets=sets,
            members=members,
            weights=weights,
            challenger=challenger,
        )
        found.insert(0, "side", np.atleast_1d(taken).astype(np.int8))
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "calibration": self.calibration.to_json(),
            "conformal": self.conformal.to_json(),
            "rules": self.rules.model_dump(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read :meth:`to_json`'s mapping back; DataError where it is not one."""
        try:
            rules = ConfidenceRules.model_validate(value["rules"])
            calibration, conformal = value["calibration"], value["conformal"]
        except (KeyError, TypeError, ValidationError) as error:
            raise DataError(f"this is no scorer of confidence: {type(error).__name__}") from error
        return cls(VennAbers.from_json(calibration), ConformalSets.from_json(conformal), rules)


def fit_confidence(
    raw: npt.ArrayLike,
    target: npt.ArrayLike,
    rules: ConfidenceRules | None = None,
    *,
    miscoverage: float = 0.2,
    by_class: bool = True,
) -> ConfidenceScorer:
    """Calibrate on the earlier half and take the conformal thresholds from the later one.

    The thresholds must come from rows that the calibration has not seen, or the sets would be too small.

    Parameters
    ----------
    raw:
        Out-of-fold scores in the order of time, none missing.
    target:
        1 where price rose, else 0.
    miscoverage, by_class:
        Of :func:`tapeline.models.conformal.fit_conformal`.

    Raises
    ------
    DataError
        Fewer than 4 rows, or as the two fits say.
    """
    given, happened = np.asarray(raw, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if given.ndim != 1 or given.size != happened.size or given.size < 4:
        raise DataError(f"{given.size} scores and {happened.size} outcomes cannot be halved for a calibration")
    half = given.size // 2
    calibration = fit_venn_abers(given[:half], happened[:half])
    later = calibration.apply(given[half:])
    sets = fit_conformal(later, happened[half:], miscoverage=miscoverage, by_class=by_class)
    return ConfidenceScorer(calibration, sets, rules or ConfidenceRules())


def confidence_table(confidence: npt.ArrayLike, won: npt.ArrayLike, *, bins: int = 5) -> pd.DataFrame:
    """Whether the score orders outcomes: the share of signals that won, by bins of about equal number.

    Parameters
    ----------
    confidence:
        Of signals whose outcome is known; those without one are left out.
    won:
        1 or 0.

    Returns
    -------
    One row a bin from the least trusted: ``lowest``, ``highest``, ``rows``, ``won``. ``attrs["auc"]`` is the chance
    that of two signals of which one won the winner has the higher score; 0.5 is none.

    Raises
    ------
    DataError
        Lengths differ, or all or none of the signals won.

    Examples
    --------
    >>> table = confidence_table([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], bins=2)
    >>> table[["rows", "won"]].values.tolist(), table.attrs["auc"]
    ([[2.0, 0.5], [2.0, 0.5]], 0.75)
    """
    score, outcome = np.asarray(confidence, dtype=np.float64), np.asarray(won, dtype=np.float64)
    if score.shape != outcome.shape or score.ndim != 1:
        raise DataError(f"{score.size} scores and {outcome.size} outcomes do not belong together")
    known = ~np.isnan(score) & ~np.isnan(outcome)
    score, outcome = score[known], outcome[known]
    place = equal_mass_bins(score, bins)
    found = pd.DataFrame({"bin": place, "score": score, "won": outcome}).groupby("bin")
    table = found.agg(lowest=("score", "min"), highest=("score", "max"), rows=("won", "size"), won=("won", "mean"))
    table.attrs["auc"] = auc(outcome, score)
    return table


def _agreement(members: npt.ArrayLike, weights: npt.ArrayLike | None, rows: int) -> Array:
    said = np.asarray(members, dtype=np.float64)
    if said.ndim != 2 or said.shape[0] != rows or not said.shape[1]:
        raise DataError(f"members of shape {said.shape} do not belong to {rows} signals")
    _probabilities(said.ravel(), "members", said.size)
    weight = np.ones(said.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != (said.shape[1],) or not (weight >= 0).all() or not 0 < weight.sum() < np.inf:
        raise DataError(f"{weight.size} weights of {said.shape[1]} members must be 0 or more, and not all 0")
    share = np.where(np.isnan(said), 0.0, weight)
    total = share.sum(axis=1)
    share = share / np.where(total > 0, total, 1.0)[:, None]
    filled = np.where(np.isnan(said), 0.0, said)
    middle = (share * filled).sum(axis=1)
    spread = (share * np.abs(filled - middle[:, None])).sum(axis=1)
    return np.clip(1.0 - 2.0 * spread, 0.0, 1.0)


def _probabilities(values: npt.ArrayLike, name: str, rows: int) -> Array:
    found = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if found.shape != (rows,) or not (np.isnan(found) | ((found >= 0) & (found <= 1))).all():
        raise DataError(f"{name} must be {rows} probabilities in [0, 1], NaN where unknown")
    return found


def _known(part: Array) -> Array:
    return np.where(np.isnan(part), 1.0, part)
