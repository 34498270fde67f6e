"""Choosing among models: the simplest that is not significantly worse out of sample, never merely the best of many.

Losses of all candidates on the same out-of-sample rows are averaged within each decision time, because symbols move
together, and compared as time series: the Diebold-Mariano test, Holm's correction or the model confidence set, and,
where returns are given, the deflated Sharpe ratio for the number of all candidates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.multiple_testing import holm
from tapeline.models.loss_comparison import confidence_set, diebold_mariano
from tapeline.models.statistics import sharpe_evidence, stationary_bootstrap

Array = npt.NDArray[np.float64]
Correction = Literal["confidence_set", "holm"]

SMALLEST_SAMPLE: Final = 30
"""Fewer decision times than this decide nothing."""

_EDGE: Final = 1e-12
_SAMPLES: Final = 1000


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Parameters
    ----------
    name:
        The chosen candidate.
    reason:
        The sentence that says why.
    table:
        A row a candidate, in order of complexity: ``loss`` (mean), ``low`` and ``high`` (its block bootstrap interval),
        ``difference`` to the reference, ``statistic`` and ``p_better`` (Diebold-Mariano against the reference),
        ``p_holm`` (corrected for all candidates), ``p_set`` (of the model confidence set), ``sharpe`` of one period and
        ``deflated`` (NaN without returns), ``admissible`` (may replace the reference).
    reference:
        The incumbent, or the simplest candidate where there is none.
    trials:
        How many candidates the deflated Sharpe ratio was told of.
    """

    name: str
    reason: str
    table: pd.DataFrame
    reference: str
    trials: int


def choose_model(
    losses: pd.DataFrame | None = None,
    *,
    returns: pd.DataFrame | None = None,
    instant: Any = None,
    incumbent: str | None = None,
    correction: Correction = "confidence_set",
    significance: float = 0.05,
    horizon: int = 1,
    mean_block: float | None = None,
    weight: npt.ArrayLike | None = None,
    trials: int | None = None,
    deflated_at_least: float = 0.95,
    samples: int = _SAMPLES,
    seed: int = 0,
) -> Choice:
    """Choose a model by its loss on rows that no candidate was trained on.

    The reference is the incumbent, or the simplest candidate where there is none. It stays unless another one is
    admissible:

    - ``confidence_set``: the reference is not in the model confidence set, the other one is.
    - ``holm``: the other one's loss is smaller by a one-sided Diebold-Mariano test, corrected for all candidates.

    Where returns are given, its deflated Sharpe ratio for the count of all candidates must reach
    ``deflated_at_least`` as well. Of the admissible ones the simplest is chosen that is not significantly worse than
    their best.

    Parameters
    ----------
    losses:
        A column a candidate, **in order of complexity, the simplest first**; a row a prediction; see
        :func:`row_losses`. Where absent, the losses are the returns with their sign turned.
    returns:
        Returns after costs of each candidate, of the same columns: a row a period, all periods of one length.
    instant:
        Decision time of each row of ``losses``; where absent, each row is a time of its own, in order.
    incumbent:
        The model in force, one of the columns.
    correction, significance:
        The rule, and its level.
    horizon:
        Decision times that a label reaches.
    mean_block:
        Mean block length of the bootstrap in decision times; ``max(2 * horizon, times ** (1 / 3))`` where absent.
    weight:
        Weight of each row of ``losses`` within its decision time.
    trials:
        How many configurations were tried in all, if more than are shown here; the ledger knows.
    samples, seed:
        Of the bootstrap.

    Raises
    ------
    ConfigurationError
        A parameter is out of its bounds, or the incumbent is no candidate.
    DataError
        Fewer than 30 decision times, a loss that is not finite, or columns that differ.

    Examples
    --------
    >>> generator = np.random.default_rng(1)
    >>> common = generator.normal(size=400)
    >>> noise = lambda: common + generator.normal(scale=0.3, size=400)
    >>> equal = pd.DataFrame({"linear": noise(), "trees": noise(), "net": noise()})
    >>> choose_model(equal).name, choose_model(equal.assign(net=equal["net"] - 0.2)).name
    ('linear', 'net')
    """
    series = _series(losses, returns, instant, weight)
    names = [str(name) for name in series.columns]
    values = series.to_numpy()
    _check(values, names, incumbent, correction, significance, deflated_at_least, trials)
    block = max(2.0 * horizon, len(values) ** (1 / 3)) if mean_block is None else mean_block
    reference = names.index(incumbent) if incumbent is not None else 0
    others = [place for place in range(len(names)) if place != reference]
    against = [diebold_mariano(column, values[:, reference], horizon=horizon) for column in values.T]
    corrected = np.ones(len(names))
    corrected[others] = holm([against[place].p_better for place in others])
    p_set = confidence_set(values, mean_block=block, samples=samples, seed=seed)
    low, high = _intervals(values, block, samples, seed)
    counted = max(len(names), trials or 0)
    sharpe, deflated = _sharpes(returns, names, counted)
    better = np.array([test.difference < 0 for test in against])
    shown = corrected < significance if correction == "holm" else (p_set >= significance) & better
    if correction == "confidence_set" and p_set[reference] >= significance:
        shown[:] = False
    shown[reference] = False
    admissible = shown & (True if returns is None else deflated >= deflated_at_least)
    table = pd.DataFrame(
        {
            "loss": values.mean(axis=0),
            "low": low,
            "high": high,
            "difference": [test.difference for test in against],
            "statistic": [test.statistic for test in against],
            "p_better": [test.p_better for test in against],
            "p_holm": corrected,
            "p_set": p_set,
            "sharpe": sharpe,
            "deflated": deflated,
            "admissible": admissible,
        },
        index=pd.Index(names, name="candidate"),
    )
    rule = "Holm's correction" if correction == "holm" else "the model confidence set"
    chosen, reason = _decide(table, values, reference, shown, horizon, significance, rule)
    return Choice(names[chosen], reason, table, names[reference], counted)


def row_losses(
    probabilities: Mapping[str, npt.ArrayLike], target: npt.ArrayLike, *, loss: Literal["log", "brier"] = "log"
) -> pd.DataFrame:
    """The loss of each row under each candidate: log loss in nats, or the squared distance.

    Examples
    --------
    >>> row_losses({"base": [0.5, 0.5], "sure": [0.9, 0.9]}, [1, 0], loss="brier").round(2).to_numpy().tolist()
    [[0.25, 0.01], [0.25, 0.81]]
    """
    y = np.asarray(target, dtype=np.float64)
    made: dict[str, Array] = {}
    for name, values in probabilities.items():
        p = np.asarray(values, dtype=np.float64)
        if p.shape != y.shape or not ((p >= 0) & (p <= 1)).all():
            raise DataError(f"'{name}' is not a probability for each of {y.size} rows")
        q = np.clip(p, _EDGE, 1 - _EDGE)
        made[name] = (p - y) ** 2 if loss == "brier" else -(y * np.log(q) + (1 - y) * np.log1p(-q))
    return pd.DataFrame(made)


def select_estimator(
    candidates: Sequence[tuple[str, Any]],
    X: Any,  # noqa: N803 - scikit-learn's name
    y: npt.ArrayLike,
    *,
    t0: npt.ArrayLike,
    t_end: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
    scheme: Literal["purged", "walk_forward"] = "walk_forward",
    folds: int = 5,
    embargo: float = 0.01,
    loss: Literal["log", "brier"] = "log",
    **options: Any,
) -> Choice:
    """Fit candidates on the same purged folds and choose among them by their out-of-fold losses.

    Parameters
    ----------
    candidates:
        (name, unfitted classifier), **the simplest first**; ensembles among them get the label intervals.
    X, y, t0, t_end, sample_weight:
        Rows, their classes, label intervals and weights.
    scheme, folds, embargo:
        Of :func:`tapeline.models.out_of_fold.inner_folds`.
    loss:
        Of :func:`row_losses`.
    options:
        Of :func:`choose_model`; ``horizon`` is read off the label intervals where it is not given.

    Examples
    --------
    >>> from tapeline.models.estimator import build_estimator
    >>> rows = np.random.default_rng(0).normal(size=(400, 2))
    >>> happened = (rows[:, 0] > 0).astype(int)
    >>> t0 = pd.date_range("2017-01-02", periods=400, freq="1h", tz="UTC")
    >>> candidates = [("base rate", build_estimator("majority")), ("line", build_estimator("logistic"))]
    >>> select_estimator(candidates, rows, happened, t0=t0, t_end=t0).name
    'line'
    """
    from tapeline.models.out_of_fold import inner_folds, label_intervals, out_of_fold

    target = np.asarray(y)
    begin, end = label_intervals(t0, t_end)
    splits = inner_folds(begin, end, target.size, scheme=scheme, folds=folds, embargo=embargo)
    found = out_of_fold(candidates, X, target, splits, sample_weight=sample_weight, t0=begin, t_end=end)
    rows = found.rows
    names = [name for name, _ in candidates]
    losses = row_losses(dict(zip(names, found.probability[rows].T, strict=True)), target[rows], loss=loss)
    if "horizon" not in options:
        times = np.unique(begin[rows].asi8)
        reach = np.searchsorted(times, end[rows].asi8, side="right") - np.searchsorted(times, begin[rows].asi8)
        options["horizon"] = int(np.clip(math.ceil(float(reach.mean())), 1, max(1, times.size // 2)))
    weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)[rows]
    return choose_model(losses, instant=begin[rows].asi8, weight=weight, **options)


def _series(losses: pd.DataFrame | None, returns: pd.DataFrame | None, instant: Any, weight: Any) -> pd.DataFrame:
    """Mean loss of each candidate at each decision time, in time order."""
    if losses is None:
        if returns is None:
            raise ConfigurationError("there are neither losses nor returns to choose by")
        losses = -returns
    if returns is not None and list(returns.columns) != list(losses.columns):
        raise DataError("returns and losses are of different candidates, or in another order")
    times = np.arange(len(losses)) if instant is None else np.asarray(instant)
    counted = np.ones(len(losses)) if weight is None else np.asarray(weight, dtype=np.float64)
    if times.size != len(losses) or counted.size != len(losses) or not (counted >= 0).all():
        raise DataError(f"{len(losses)} losses, {times.size} times and {counted.size} weights do not belong together")
    values = losses.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError("a loss is not finite", hint="give all candidates the same rows, each with a probability")
    unique, place = np.unique(times, return_inverse=True)
    mass = np.bincount(place, counted, minlength=unique.size)
    sums = np.column_stack([np.bincount(place, counted * column, minlength=unique.size) for column in values.T])
    kept = mass > 0
    return pd.DataFrame(sums[kept] / mass[kept, None], columns=losses.columns)


def _check(
    values: Array,
    names: list[str],
    incumbent: str | None,
    correction: str,
    significance: float,
    deflated_at_least: float,
    trials: int | None,
) -> None:
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigurationError(f"the candidates {names} are fewer than two, or share a name")
    if incumbent is not None and incumbent not in names:
        raise ConfigurationError(f"the incumbent '{incumbent}' is none of the candidates {names}")
    if correction not in ("confidence_set", "holm"):
        raise ConfigurationError(f"no correction is called {correction!r}", hint="confidence_set or holm")
    if not 0 < significance < 1 or not 0 <= deflated_at_least <= 1:
        raise ConfigurationError(
            f"significance = {significance} or deflated_at_least = {deflated_at_least} is no level"
        )
    if trials is not None and trials < 1:
        raise ConfigurationError(f"trials = {trials} is below 1")
    if len(values) < SMALLEST_SAMPLE:
        raise DataError(f"{len(values)} decision times are below the {SMALLEST_SAMPLE} that decide anything")


def _intervals(values: Array, block: float, samples: int, seed: int) -> tuple[Array, Array]:
    counts = stationary_bootstrap(len(values), min(max(block, 1.0), float(len(values))), samples, seed=seed)
    low, high = np.quantile(counts @ values / len(values), [0.025, 0.975], axis=0)
    return low, high


def _sharpes(returns: pd.DataFrame | None, names: list[str], trials: int) -> tuple[Array, Array]:
    if returns is None:
        return np.full(len(names), np.nan), np.full(len(names), np.nan)
    values = returns.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError("a return is not finite", hint="a period without a position has a return of 0")
    alone = [sharpe_evidence(column, trials=trials) for column in values.T]
    ratios = [evidence.sharpe for evidence in alone]
    judged = [sharpe_evidence(column, trials=trials, trial_sharpes=ratios).deflated for column in values.T]
    return np.array(ratios), np.array(judged)


def _decide(
    table: pd.DataFrame,
    values: Array,
    reference: int,
    shown: npt.NDArray[np.bool_],
    horizon: int,
    significance: float,
    rule: str,
) -> tuple[int, str]:
    names = list(table.index)
    able = np.flatnonzero(table["admissible"].to_numpy())
    if not able.size:
        if shown.any():
            refused = int(np.flatnonzero(shown)[0])
            return reference, (
                f"'{names[reference]}' stays: '{names[refused]}' has the smaller loss, but its returns do not stand up "
                f"to the number of candidates (deflated Sharpe ratio {table['deflated'].iloc[refused]:.2f})"
            )
        return reference, f"'{names[reference]}' stays: no candidate is significantly better ({rule}, {significance:g})"
    best = int(able[np.argmin(table["loss"].to_numpy()[able])])
    for place in able:
        worse = diebold_mariano(values[:, best], values[:, place], horizon=horizon).p_better < significance
        if not worse:
            told = "" if place == best else f", and not significantly worse than '{names[best]}', the best"
            return int(place), (
                f"'{names[place]}' is significantly better than '{names[reference]}' "
                f"({table['loss'].iloc[place]:.5f} against {table['loss'].iloc[reference]:.5f}; {rule}, "
                f"{significance:g}){told}"
            )
    return best, f"'{names[best]}' is the best of those significantly better than '{names[reference]}' ({rule})"
