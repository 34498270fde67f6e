"""What a study tries: which families, in which order, drawn how; each of its trials has a numbered slot.

A slot is what makes a study resumable: it decides the seed of the draw, and a trial that was killed leaves its slot to
another trial with the same parameters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Final, Literal

from tapeline.core.errors import ConfigurationError
from tapeline.models.zoo import family as find_family

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS: Final = 4
ORIGIN: Final = "origin"
"""The attribute of a trial that says its slot, family, parameters, and who runs it."""

OUTCOME: Final = "outcome"
"""The attribute of a trial that says what came of it."""

MAXIMUM_GRID: Final = 10_000


@dataclass(frozen=True)
class Plan:
    """What the trials of a study are drawn from.

    Parameters
    ----------
    families:
        Names of families of :mod:`tapeline.models.zoo`, the favourite first.
    search:
        ``tpe``: after the ``first`` trials a tree-structured Parzen estimator draws (Bergstra et al. 2011), for the
        family that has the best completed trial. ``grid``: every point of every family's grid, whatever the budget.
    first:
        (family, parameters) of the first trials, in order; what a parameter set leaves open is drawn.
    budget:
        How many trials are to be finished, over all processes and restarts.
    seed:
        Of the draws; a trial's own is this plus its slot.
    reason:
        Why these families in this order, for a person.
    """

    families: tuple[str, ...]
    search: Literal["tpe", "grid"]
    first: tuple[tuple[str, Mapping[str, Any]], ...]
    budget: int
    seed: int
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """All that decides the draws, but for the budget, which a later run may raise."""
        first = [[name, dict(parameters)] for name, parameters in self.first]
        return {"families": list(self.families), "search": self.search, "first": first, "reason": self.reason}


@dataclass(frozen=True)
class Draw:
    """One trial to run: its slot, family, parameters, and Optuna's handle of it."""

    slot: int
    family: str
    parameters: dict[str, Any]
    trial: optuna.Trial


def plan_of(
    names: Sequence[str],
    *,
    trials: int,
    seed: int,
    search: Literal["tpe", "grid"] = "tpe",
    first: Sequence[tuple[str, Mapping[str, Any]]] = (),
    reason: str = "",
) -> Plan:
    """A plan over families by name; each begins with its defaults unless ``first`` says otherwise.

    Raises
    ------
    ConfigurationError
        A family is unknown, none is given, or a grid has more than 10,000 points.

    Examples
    --------
    >>> plan_of(["logistic"], trials=8, seed=7, search="grid").budget
    3
    >>> plan_of(["ridge"], trials=8, seed=7).first
    (('ridge', {'penalty': 0.1}),)
    """
    if not names:
        raise ConfigurationError("a search needs at least one family of models")
    families = tuple(find_family(name) for name in names)
    if search == "grid":
        budget = sum(grid_size(one.grid) for one in families)
        if budget > MAXIMUM_GRID:
            raise ConfigurationError(f"the grid has {budget} points, more than {MAXIMUM_GRID}")
        return Plan(tuple(names), search, (), budget, seed, reason)
    begun = tuple(first) or tuple((one.name, dict(one.defaults)) for one in families)
    # A family with nothing to search has one trial to give; a second would be the first again.
    free = any(one.grid for one in families)
    return Plan(tuple(names), search, begun, trials if free else min(trials, len(begun)), seed, reason)


def grid_size(grid: Mapping[str, Sequence[Any]]) -> int:
    """How many points a grid has; 1 where nothing is free."""
    return math.prod(len(values) for values in grid.values())


def grid_point(plan: Plan, slot: int) -> tuple[str, dict[str, Any]]:
    """The family and the parameters of one point, the last parameter moving fastest.

    Examples
    --------
    >>> grid_point(plan_of(["logistic", "ridge"], trials=1, seed=0, search="grid"), 4)
    ('ridge', {'penalty': 0.1})
    """
    for name in plan.families:
        grid = find_family(name).grid
        if slot < grid_size(grid):
            values = next(islice(product(*grid.values()), slot, None))
            return name, dict(zip(grid, values, strict=True))
        slot -= grid_size(grid)
    raise ConfigurationError(f"the grid has no point {slot}")


def vacant_slot(study: optuna.Study, plan: Plan) -> int | None:
    """The lowest slot that no finished or running trial holds; None where the budget is spent."""
    taken = {slot_of(trial) for trial in study.get_trials(deepcopy=False) if trial.state.name != "FAIL"}
    return next((slot for slot in range(plan.budget) if slot not in taken), None)


def slot_of(trial: Any) -> int | None:
    """The slot of one of Optuna's trials, None where it was killed before it had one."""
    origin = trial.user_attrs.get(ORIGIN)
    return None if origin is None else int(origin["slot"])


def draw(study: optuna.Study, plan: Plan, slot: int, *, owner: str) -> Draw:
    """Begin the trial of a slot; the caller holds the study's lock, so that no other process begins the same.

    Every draw depends on the seed, the slot and the trials finished before it only, never on what this process did
    before. A trial that takes the slot of a killed one has its parameters.
    """
    name, given, bounds = _fixed(study, plan, slot)
    study.sampler = _sampler(plan.seed + slot, {f"{name}.{key}": value for key, value in given.items()})
    trial = study.ask()
    if plan.search == "grid":
        parameters = {key: trial.suggest_categorical(f"{name}.{key}", list(values)) for key, values in bounds.items()}
    else:
        parameters = find_family(name).space(_Prefixed(trial, f"{name}."))
    origin = {"slot": slot, "family": name, "parameters": parameters, "owner": owner}
    trial.set_user_attr(ORIGIN, origin)
    return Draw(slot, name, parameters, trial)


def stored_plan(study: optuna.Study, plan: Plan) -> Plan:
    """The plan that the study began with, at this run's budget: what was learnt since may not change its course."""
    kept = study.user_attrs.get("plan")
    if kept is None:
        study.set_user_attr("plan", json.loads(json.dumps(plan.to_json())))
        return plan
    first = tuple((str(name), dict(parameters)) for name, parameters in kept["first"])
    families = tuple(map(str, kept["families"]))
    return plan_of(
        families, trials=plan.budget, seed=plan.seed, search=kept["search"], first=first, reason=str(kept["reason"])
    )


def _fixed(study: optuna.Study, plan: Plan, slot: int) -> tuple[str, Mapping[str, Any], Mapping[str, Sequence[Any]]]:
    if plan.search == "grid":
        name, point = grid_point(plan, slot)
        return name, point, find_family(name).grid
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "FAIL" and slot_of(trial) == slot:
            origin = trial.user_attrs[ORIGIN]
            return str(origin["family"]), origin["parameters"], {}
    if slot < len(plan.first):
        return *plan.first[slot], {}
    return _leader(study, plan), {}, {}


def _leader(study: optuna.Study, plan: Plan) -> str:
    """The family with the best completed trial among those that have something to search."""
    free = [name for name in plan.families if find_family(name).grid]
    completed = [
        (trial.value, slot_of(trial) or 0, trial.user_attrs[ORIGIN]["family"])
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name == "COMPLETE" and trial.value is not None and ORIGIN in trial.user_attrs
    ]
    candidates = [found for found in completed if found[2] in free]
    return min(candidates)[2] if candidates else free[0]


class _Prefixed:
    """A trial whose parameters carry the family's name: two families may mean different things by one name."""

    def __init__(self, trial: optuna.Trial, prefix: str) -> None:
        self._trial = trial
        self._prefix = prefix

    def suggest_float(self, name: str, *bounds: Any, **options: Any) -> float:
        return self._trial.suggest_float(self._prefix + name, *bounds, **options)

    def suggest_int(self, name: str, *bounds: Any, **options: Any) -> int:
        return self._trial.suggest_int(self._prefix + name, *bounds, **options)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._trial.suggest_categorical(self._prefix + name, choices)


def _sampler(seed: int, fixed: Mapping[str, Any]) -> Any:
    from optuna.samplers import TPESampler

    class Sampler(TPESampler):
        """A Parzen estimator that takes some parameters as given, where they lie within the space."""

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            space = super().infer_relative_search_space(study, trial)
            return {name: distribution for name, distribution in space.items() if name not in fixed}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            if param_name in fixed and _allows(param_distribution, fixed[param_name]):
                return fixed[param_name]
            return super().sample_independent(study, trial, param_name, param_distribution)

    return Sampler(n_startup_trials=STARTUP_TRIALS, seed=seed)


def _allows(distribution: Any, value: Any) -> bool:
    """Whether a value lies within the space; a point learnt from an older version may not."""
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except (ValueError, TypeError):
        return False
