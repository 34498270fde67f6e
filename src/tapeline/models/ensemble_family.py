"""Ensembles as families: what ``training.family = "stacking"`` builds, and where its parameters are searched.

An ensemble of three members that err differently: boosted trees, a line, and trees whose splits are drawn by chance.
Parameters of a member are named ``<member>__<parameter>``, the ensemble's own by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from tapeline.models.family import Family, Space
from tapeline.models.parameter_spaces import draw_extra_trees, draw_lightgbm, draw_logistic

MEMBERS: Final[Mapping[str, Space]] = MappingProxyType(
    {"lightgbm": draw_lightgbm, "logistic": draw_logistic, "extra_trees": draw_extra_trees}
)
"""Families of the members, in their order, with their search spaces."""


def build_ensemble(kind: str, seed: int, threads: int, parameters: Mapping[str, Any]) -> Any:
    """An unfitted ensemble of :mod:`tapeline.models.ensemble`.

    Parameters
    ----------
    kind:
        ``stacking``, ``weighted`` or ``voting``.
    seed, threads:
        Of every member.
    parameters:
        The ensemble's own, and those of members behind their prefix.

    Raises
    ------
    TypeError
        The ensemble has no such parameter, or there is no such member.
    ConfigurationError
        A member does not take its parameters.

    Examples
    --------
    >>> stacking = build_ensemble("stacking", 7, 1, {"ridge": 2.0, "logistic__C": 0.5})
    >>> stacking.ridge, stacking.get_params()["logistic"][-1].C
    (2.0, 0.5)
    """
    from tapeline.models.ensemble import StackingEnsemble, VotingEnsemble, WeightedEnsemble
    from tapeline.models.estimator import build_estimator

    own = dict(parameters)
    members = []
    for name in MEMBERS:
        given = {key: own.pop(key) for key in list(own) if key.startswith(f"{name}__")}
        theirs = {key.removeprefix(f"{name}__"): value for key, value in given.items()}
        members.append((name, build_estimator(name, seed=seed, threads=threads, parameters=theirs)))
    makers: Mapping[str, Any] = {
        "stacking": StackingEnsemble,
        "weighted": WeightedEnsemble,
        "voting": VotingEnsemble,
    }
    return makers[kind](members, **own)


def ensemble_families(singles: Sequence[Family]) -> tuple[Family, ...]:
    """Stacking, weighted and voting over the families in ``MEMBERS``, whose defaults are taken from ``singles``."""
    prefixed = {
        f"{one.name}__{key}": value for one in singles if one.name in MEMBERS for key, value in one.defaults.items()
    }

    def made(
        name: str, summary: str, own: dict[str, Any], grid: tuple[Any, ...], space: Space, settings: tuple[str, ...]
    ) -> Family:
        return Family(
            name=name,
            summary=summary,
            defaults=MappingProxyType({**own, **prefixed}),
            needs_complete=False,
            scaling="none",
            builder=partial(build_ensemble, name),
            space=space,
            grid=MappingProxyType(dict.fromkeys(own, grid)),
            settings=settings,
        )

    return (
        made(
            "stacking",
            "Logistic regression on the out-of-fold log odds of three families (Wolpert 1992, Breiman 1996).",
            {"ridge": 1.0},
            (0.1, 1.0, 10.0),
            draw_stacking,
            ("folds", "embargo"),
        ),
        made(
            "weighted",
            "A weighted mean of three families' probabilities, the weights learnt out of fold.",
            {"prior_rows": 10.0},
            (1.0, 10.0, 100.0),
            draw_weighted,
            ("folds", "embargo"),
        ),
        made(
            "voting",
            "The mean of three families' probabilities or log odds, all members equal.",
            {"rule": "mean"},
            ("mean", "log_odds"),
            draw_voting,
            (),
        ),
    )


def draw_stacking(trial: Any) -> dict[str, Any]:
    """The penalty on the members' coefficients, and the members' own spaces."""
    return {"ridge": trial.suggest_float("ridge", 0.01, 100.0, log=True), **_draw_members(trial)}


def draw_weighted(trial: Any) -> dict[str, Any]:
    """How much evidence weights need to leave equality, and the members' own spaces."""
    return {"prior_rows": trial.suggest_float("prior_rows", 1.0, 1000.0, log=True), **_draw_members(trial)}


def draw_voting(trial: Any) -> dict[str, Any]:
    """The mean of probabilities or of log odds, and the members' own spaces."""
    return {"rule": trial.suggest_categorical("rule", ["mean", "log_odds"]), **_draw_members(trial)}


def _draw_members(trial: Any) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    for name, space in MEMBERS.items():
        prefix = f"{name}__"
        drawn |= {f"{prefix}{key}": value for key, value in space(_Prefixed(trial, prefix)).items()}
    return drawn


class _Prefixed:
    """A trial whose parameters carry the member's name: two members may mean different things by one name."""

    def __init__(self, trial: Any, prefix: str) -> None:
        self._trial = trial
        self._prefix = prefix

    def suggest_float(self, name: str, *bounds: Any, **options: Any) -> Any:
        return self._trial.suggest_float(self._prefix + name, *bounds, **options)

    def suggest_int(self, name: str, *bounds: Any, **options: Any) -> Any:
        return self._trial.suggest_int(self._prefix + name, *bounds, **options)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._trial.suggest_categorical(self._prefix + name, choices)
