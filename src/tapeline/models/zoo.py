"""The zoo: the families of models, each with its defaults, its search space and what it needs of its pipeline.

Importing this module loads no learning library; building a model does.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final, Literal

from tapeline.core.errors import ConfigurationError
from tapeline.models.ensemble_family import ensemble_families
from tapeline.models.family import Family
from tapeline.models.parameter_spaces import (
    draw_extra_trees,
    draw_lightgbm,
    draw_logistic,
    draw_neural_net,
    draw_nothing,
    draw_random_forest,
    draw_ridge,
    draw_xgboost,
)

MAXIMUM_BINS: Final = 63
"""How many values a boosted tree may split a column at: returns carry no more detail, and it is four times faster."""


def families() -> tuple[Family, ...]:
    """All families of single models, the default first, the baselines last; for ensembles see :func:`ensembles`.

    Examples
    --------
    >>> [one.name for one in families()]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['lightgbm', 'xgboost', 'random_forest', 'extra_trees', 'logistic', 'ridge', 'linear', 'neural_net',
     'persistence', 'majority']
    """
    return _FAMILIES


def ensembles() -> tuple[Family, ...]:
    """The families that combine three others, for two classes; their fits need ``t0`` and ``t_end``.

    Examples
    --------
    >>> [one.name for one in ensembles()]
    ['stacking', 'weighted', 'voting']
    """
    return _ENSEMBLES


def family(name: str) -> Family:
    """The family of that name, single models and ensembles alike.

    Raises
    ------
    ConfigurationError
        There is none; the hint names the nearest.

    Examples
    --------
    >>> family("ridge").needs_complete
    True
    """
    known = (*_FAMILIES, *_ENSEMBLES)
    for one in known:
        if one.name == name:
            return one
    names = [one.name for one in known]
    near = get_close_matches(str(name).casefold().replace("-", "_").replace(" ", "_"), names, n=3, cutoff=0.5)
    raise ConfigurationError(
        f"no estimator is called {name!r}",
        hint=f"did you mean {' or '.join(near)}?" if near else ", ".join(names),
    )


def ability(name: str | None, parameter: Literal["rounds", "monotone"]) -> str:
    """The parameter by which a family stops early (``rounds``) or keeps directions (``monotone``).

    Raises
    ------
    ConfigurationError
        It can do no such thing; the hint names the families that can.

    Examples
    --------
    >>> ability("random_forest", "monotone")
    'monotonic_cst'
    """
    found = None if name is None else getattr(family(name), parameter)
    if found is None:
        verb = {"rounds": "stop early", "monotone": "keep directions"}[parameter]
        able = ", ".join(one.name for one in _FAMILIES if getattr(one, parameter) is not None)
        raise ConfigurationError(f"the family {name!r} cannot {verb}", hint=f"these can: {able}")
    return str(found)


def _lightgbm(seed: int, threads: int, parameters: dict[str, Any]) -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        **{"subsample_freq": 1, "max_bin": MAXIMUM_BINS, "verbosity": -1, **parameters},
        deterministic=True,
        force_row_wise=True,
        n_jobs=threads,
        random_state=seed,
    )


def _xgboost(seed: int, threads: int, parameters: dict[str, Any]) -> Any:
    from tapeline.models.xgboost_classifier import XGBoostClassifier

    return XGBoostClassifier(
        **{"max_bin": MAXIMUM_BINS, "verbosity": 0, **parameters}, tree_method="hist", n_jobs=threads, random_state=seed
    )


def _random_forest(seed: int, threads: int, parameters: dict[str, Any]) -> Any:
    from tapeline.models.forest import UniquenessForest

    return UniquenessForest(**parameters, n_jobs=threads, random_state=seed)


def _extra_trees(seed: int, threads: int, parameters: dict[str, Any]) -> Any:
    from tapeline.models.forest import OrderedExtraTrees

    return OrderedExtraTrees(**parameters, n_jobs=threads, random_state=seed)


def _logistic(seed: int, threads: int, parameters: dict[str, Any]) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**{"max_iter": 500, **parameters})


def _ridge(seed: int, threads: int, parameters: dict[str, Any]) -> Any:
    from tapeline.models.baselines import RidgeProbability

    return RidgeProbability(**parameters)


def _linear(seed: int, threads: int, parameters: dict[str, Any]) -> Any:
    from tapeline.models.baselines import LinearProbability

    return LinearProbability(**parameters)


def _neural_net(seed: int, threads: int, parameters: dict[str, Any]) -> Any:
    from tapeline.models.neural_net import NeuralNet

    return NeuralNet(**parameters, random_state=seed)


def _persistence(seed: int, threads: int, parameters: dict[str, Any]) -> Any:
    from tapeline.models.baselines import Persistence

    return Persistence(**parameters)


def _majority(seed: int, threads: int, parameters: dict[str, Any]) -> Any:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior", **parameters)


def _frozen(**values: Any) -> Mapping[str, Any]:
    return MappingProxyType(values)


_FAMILIES: Final = (
    Family(
        name="lightgbm",
        summary="Gradient-boosted trees grown leaf by leaf on binned columns (Ke et al. 2017).",
        defaults=_frozen(
            n_estimators=60,
            learning_rate=0.03,
            num_leaves=6,
            min_child_samples=100,
            colsample_bytree=0.4,
            subsample=0.7,
            reg_lambda=10.0,
        ),
        needs_complete=False,
        scaling="none",
        builder=_lightgbm,
        space=draw_lightgbm,
        grid=_frozen(n_estimators=(40, 80), num_leaves=(4, 8), min_child_samples=(50, 200)),
        fixed=("deterministic", "force_row_wise", "force_col_wise", "n_jobs", "num_threads", "random_state", "seed"),
        rounds="n_estimators",
        monotone="monotone_constraints",
    ),
    Family(
        name="xgboost",
        summary="Gradient-boosted trees grown level by level on binned columns (Chen and Guestrin 2016).",
        defaults=_frozen(
            n_estimators=60,
            learning_rate=0.03,
            max_depth=3,
            min_child_weight=20.0,
            colsample_bytree=0.4,
            subsample=0.7,
            reg_lambda=10.0,
            gamma=0.0,
        ),
        needs_complete=False,
        scaling="none",
        builder=_xgboost,
        space=draw_xgboost,
        grid=_frozen(n_estimators=(40, 80), max_depth=(2, 4), min_child_weight=(10.0, 50.0)),
        fixed=("tree_method", "n_jobs", "nthread", "random_state", "seed"),
        extra="xgboost",
        package="xgboost",
        rounds="n_estimators",
        monotone="monotone_constraints",
    ),
    Family(
        name="random_forest",
        summary="Trees on bootstrap draws that mind how labels overlap (Breiman 2001; Lopez de Prado 2018, chapter 4).",
        defaults=_frozen(n_estimators=100, max_depth=6, min_samples_leaf=5, max_features=0.3, draw="uniqueness"),
        needs_complete=False,
        scaling="none",
        builder=_random_forest,
        space=draw_random_forest,
        grid=_frozen(max_depth=(3, 6), min_samples_leaf=(5, 20), draw=("uniqueness", "sequential")),
        fixed=("n_jobs", "random_state"),
        monotone="monotonic_cst",
    ),
    Family(
        name="extra_trees",
        summary="Trees on all rows whose splits are drawn by chance (Geurts, Ernst and Wehenkel 2006).",
        defaults=_frozen(n_estimators=100, max_depth=6, min_samples_leaf=20, max_features=0.3),
        needs_complete=False,
        scaling="none",
        builder=_extra_trees,
        space=draw_extra_trees,
        grid=_frozen(max_depth=(3, 6), min_samples_leaf=(20, 100), max_features=(0.3, 0.6)),
        fixed=("n_jobs", "random_state"),
        monotone="monotonic_cst",
    ),
    Family(
        name="logistic",
        summary="Logistic regression with an L2 penalty on medians for what is missing and z-scores.",
        defaults=_frozen(C=0.1),
        needs_complete=True,
        scaling="standard",
        builder=_logistic,
        space=draw_logistic,
        grid=_frozen(C=(0.01, 0.1, 1.0)),
    ),
    Family(
        name="ridge",
        summary="Ridge regression of the side, its values turned into probabilities by Platt's method out of block.",
        defaults=_frozen(penalty=0.1),
        needs_complete=True,
        scaling="standard",
        builder=_ridge,
        space=draw_ridge,
        grid=_frozen(penalty=(0.01, 0.1, 1.0)),
    ),
    Family(
        name="linear",
        summary="The linear probability model: weighted least squares of the target, clipped to a probability.",
        defaults=_frozen(),
        needs_complete=True,
        scaling="standard",
        builder=_linear,
        space=draw_nothing,
        grid=_frozen(),
    ),
    Family(
        name="neural_net",
        summary="A feed-forward net of two to three layers on medians for what is missing and z-scores.",
        defaults=_frozen(width=32, layers=2, alpha=1.0, epochs=40, learning_rate_init=0.003),
        needs_complete=True,
        scaling="standard",
        builder=_neural_net,
        space=draw_neural_net,
        grid=_frozen(layers=(1, 2), alpha=(0.1, 1.0, 10.0)),
        fixed=("random_state",),
    ),
    Family(
        name="persistence",
        summary="The naive forecast: what one column, such as the last return, shows by its sign goes on.",
        defaults=_frozen(column=0),
        needs_complete=False,
        scaling="none",
        builder=_persistence,
        space=draw_nothing,
        grid=_frozen(),
        reads_rows=True,
    ),
    Family(
        name="majority",
        summary="The weighted share of each class in the training rows, whatever the features say.",
        defaults=_frozen(),
        needs_complete=False,
        scaling="none",
        builder=_majority,
        space=draw_nothing,
        grid=_frozen(),
        reads_rows=True,
    ),
)

_ENSEMBLES: Final = ensemble_families(_FAMILIES)
