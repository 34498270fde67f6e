"""The model card: what a model is, what it was made from, where it is good, where it is not, and what it is not for.

After Mitchell et al. 2019, "Model Cards for Model Reporting". Everything in it is computed from the data of the run;
nothing is written by hand. :mod:`tapeline.models.card_page` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.settings import Settings
from tapeline.evaluation.metrics import CALIBRATION_BINS, equal_mass_bins, reliability_table
from tapeline.evaluation.result import TrainingResult
from tapeline.models.block_metrics import BlockMetrics, interval
from tapeline.models.bundle import Model
from tapeline.models.data_facts import FeatureRange, coverage, feature_facts
from tapeline.models.dataset import Dataset
from tapeline.models.importance import measure_importance
from tapeline.models.lime import LocalExplanation, explain_row
from tapeline.models.path_distribution import PathDistribution, path_distribution
from tapeline.models.refit import FamilyRefit
from tapeline.models.sampled_shap import EXACT_ROWS, SAMPLED_ROWS, exact_method
from tapeline.models.slices import (
    FEWEST_BLOCKS,
    FEWEST_ROWS,
    Slicing,
    by_column,
    by_hour,
    by_period,
    by_symbol,
    measure_slices,
)
from tapeline.models.walk_forward import ROLLING_WINDOW, WalkForward, walk_forward

Array = npt.NDArray[np.float64]
Made = TypeVar("Made")

IMPORTANCE_REPEATS: Final = 2
REGIMES: Final[Mapping[str, tuple[str, ...]]] = {
    "volatility": ("volatility_level_", "garch_level_", "realised_volatility_", "yang_zhang_", "atr_percent_"),
    "trend": ("adx_", "efficiency_", "regression_fit_", "hurst_"),
    "volume": ("relative_volume_",),
}
"""By regime the prefixes of the features that tell it; the first that there is does."""
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "volatility": ("low", "middle", "high"),
    "trend": ("ranging", "mixed", "trending"),
}


@dataclass(frozen=True)
class ExplainedRow:
    """One decision of the holdout and why the model said what it said.

    Parameters
    ----------
    kind:
        ``best`` (the surest that came true), ``worst`` (the surest that did not) or ``typical`` (the median loss).
    row:
        Of the holdout: ``ts``, ``symbol``, ``t0``, ``y``, ``probability``, ...
    explanation:
        By LIME.
    """

    kind: str
    row: pd.Series
    explanation: LocalExplanation


@dataclass(frozen=True)
class ModelCard:
    """What is known of a trained model.

    Parameters
    ----------
    result:
        Of the training run.
    code:
        The version of Tapeline that trained it.
    coverage:
        From :func:`tapeline.models.data_facts.coverage`, of development and holdout.
    features:
        From :func:`tapeline.models.data_facts.feature_facts`.
    outside:
        Share of the holdout's rows of which at least one feature lies beyond what the development rows held.
    reach:
        How long a label lasts, from decision to outcome: the median and the longest.
    reliability:
        As in the result, with block bootstrap intervals, which mind that rows depend on each other.
    regimes:
        By regime the feature that tells it.
    slices:
        From :func:`tapeline.models.slices.measure_slices`, on the holdout.
    importance:
        From :func:`tapeline.models.importance.measure_importance`, on the holdout.
    shap_method:
        How SHAP values were found.
    explained:
        A few decisions of the holdout.
    paths:
        Combinatorial paths over the development rows; None where they could not be made.
    walks:
        Anchored and rolling, over the development rows.
    absent:
        What could not be computed, and why.
    """

    result: TrainingResult
    code: str
    coverage: pd.DataFrame
    features: pd.DataFrame
    outside: float
    reach: tuple[pd.Timedelta, pd.Timedelta]
    reliability: pd.DataFrame
    regimes: Mapping[str, str]
    slices: pd.DataFrame
    importance: pd.DataFrame
    shap_method: str
    explained: tuple[ExplainedRow, ...]
    paths: PathDistribution | None
    walks: tuple[WalkForward, ...]
    absent: tuple[str, ...]


def make_card(
    result: TrainingResult,
    model: Model,
    development: Dataset,
    holdout: Dataset,
    *,
    settings: Settings,
    mean_block: float,
) -> ModelCard:
    """Find out everything that a card holds.

    The holdout was looked at before; nothing here chooses anything. Paths and walks fit the chosen configuration anew
    on development rows alone.

    Parameters
    ----------
    result, model:
        Of the training run.
    development, holdout:
        Its rows.
    settings:
        ``card`` says what is wanted, ``training`` how models are fitted, ``costs`` what trades cost.
    mean_block:
        Mean block length of the bootstraps, in decision times.

    Raises
    ------
    ConfigurationError
        ``card.regimes`` names a column that there is not.
    """
    from tapeline import __version__

    seed = settings.training.seed
    scored = result.holdout
    base_rate = float(np.average(development.y, weights=development.weight))
    outside = FeatureRange.of(development.X, development.columns).rows_outside(holdout.X)
    regimes = regime_columns(development.columns, settings.card.regimes)
    slicings = holdout_slicings(development, holdout, regimes, outside=outside, mean_block=mean_block)
    reach = holdout.t_end - holdout.t0
    paths, walks, absent = _histories(result, development, settings, mean_block)
    return ModelCard(
        result=result,
        code=f"tapeline {__version__}",
        coverage=coverage({"development": development, "holdout": holdout}),
        features=feature_facts(development, holdout),
        outside=float(outside.mean()),
        reach=(reach.to_series().median(), reach.max()),
        reliability=reliability_with_blocks(
            scored["y"], scored["probability"], pd.DatetimeIndex(scored["t0"]).asi8, mean_block=mean_block, seed=seed
        ),
        regimes=regimes,
        slices=measure_slices(
            scored, slicings, base_rate=base_rate, mean_block=mean_block, trades=result.trades, seed=seed
        ),
        importance=measure_importance(model, holdout, repeats=IMPORTANCE_REPEATS, seed=seed),
        shap_method=_shap_method(model, len(holdout)),
        explained=explain_decisions(model, scored, holdout.X, development.X, seed=seed),
        paths=paths,
        walks=walks,
        absent=absent,
    )


def regime_columns(columns: Sequence[str], chosen: Sequence[str] = ()) -> dict[str, str]:
    """By regime the feature that tells it: those chosen, else what the features' names show to tell it.

    Raises
    ------
    ConfigurationError
        A chosen column is no feature.

    Examples
    --------
    >>> regime_columns(["rsi_14", "adx_14", "atr_percent_14"])
    {'volatility': 'atr_percent_14', 'trend': 'adx_14'}
    """
    for name in chosen:
        if name not in columns:
            raise ConfigurationError(f"card.regimes names {name!r}, which is no feature", hint="see the feature set")
    if chosen:
        return {name: name for name in chosen}
    found = {}
    for regime, prefixes in REGIMES.items():
        matching = [column for prefix in prefixes for column in columns if column.startswith(prefix)]
        if matching:
            found[regime] = matching[0]
    return found


def holdout_slicings(
    development: Dataset,
    holdout: Dataset,
    regimes: Mapping[str, str],
    *,
    mean_block: float,
    outside: npt.NDArray[np.bool_] | None = None,
) -> list[Slicing]:
    """The parts that a card judges: regimes, period, hours, symbols, and whether features lie in their range.

    Parameters
    ----------
    development, holdout:
        Borders of a regime come from the development rows alone.
    regimes:
        From :func:`regime_columns`.
    mean_block:
        Periods are so long that most hold enough blocks of this length to be judged.
    outside:
        Which rows of the holdout lie beyond what the development rows held.
    """
    slicings = []
    for regime, column in regimes.items():
        place = development.columns.index(column)
        parts = PARTS.get(regime, PARTS["volatility"])
        slicings.append(by_column(regime, development.X[:, place], holdout.X[:, place], parts=parts))
    slicings.append(by_period(holdout.t0, fewest=max(FEWEST_ROWS, FEWEST_BLOCKS * mean_block)))
    if len(set(holdout.t0.hour)) > 1:
        slicings.append(by_hour(holdout.t0))
    if len(set(holdout.symbol.tolist())) > 1:
        slicings.append(by_symbol(holdout.symbol))
    if outside is not None and outside.any():
        slicings.append(Slicing("features", np.where(outside, "some out of range", "all in range").astype(object)))
    return slicings


def reliability_with_blocks(
    target: npt.ArrayLike, probability: npt.ArrayLike, instant: npt.ArrayLike, *, mean_block: float, seed: int = 0
) -> pd.DataFrame:
    """The reliability table with intervals by block bootstrap in place of Wilson's, which take rows for independent.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> said = generator.uniform(size=300)
    >>> happened = generator.uniform(size=300) < said
    >>> table = reliability_with_blocks(happened, said, np.arange(300), mean_block=2)
    >>> bool(((table["low"] <= table["frequency"]) & (table["frequency"] <= table["high"])).all())
    True
    """
    table = reliability_table(target, probability)
    group = equal_mass_bins(probability, CALIBRATION_BINS)
    y = np.asarray(target, dtype=np.float64)
    member = (group[:, None] == np.arange(len(table))).astype(np.float64)
    drawn = BlockMetrics(instant, mean_block=mean_block, seed=seed).means(
        np.broadcast_to(y[:, None], member.shape), member
    )
    edges = [interval(drawn[:, number]) for number in range(len(table))]
    return table.assign(low=[low for low, _ in edges], high=[high for _, high in edges])


def explain_decisions(
    model: Model,
    scored: pd.DataFrame,
    X: npt.NDArray[np.float32],  # noqa: N803 - scikit-learn's name
    background: npt.NDArray[np.float32],
    *,
    seed: int = 0,
) -> tuple[ExplainedRow, ...]:
    """LIME of the decision that came off best, of the worst and of a typical one.

    Explained is the model's own probability, before calibration: calibration keeps its order, but makes steps of it,
    between which nothing seems to matter.

    Parameters
    ----------
    scored:
        The holdout with ``y``, ``raw`` and ``probability``.
    X:
        Its features.
    background:
        Features of the development rows.
    """
    happened = scored["y"].to_numpy(dtype=np.float64)
    miss, own = (np.abs(happened - scored[name].to_numpy(dtype=np.float64)) for name in ("probability", "raw"))
    # Calibration makes ties, which the model's own probability breaks.
    order = np.lexsort((own, miss))
    chosen = {"best": order[0], "typical": order[order.size // 2], "worst": order[-1]}
    kept = list(model.bundle.kept)
    names = [model.bundle.columns[position] for position in kept]

    def score(rows: npt.NDArray[np.float32]) -> Array:
        whole = np.zeros((len(rows), len(model.bundle.columns)), dtype=np.float32)
        whole[:, kept] = rows
        return model.raw_probability(whole)

    return tuple(
        ExplainedRow(
            kind, scored.iloc[place], explain_row(score, X[place, kept], background[:, kept], names, seed=seed)
        )
        for kind, place in chosen.items()
    )


def _shap_method(model: Model, rows: int) -> str:
    exact = exact_method(model)
    if exact is None:
        return f"sampled on the newest {min(rows, SAMPLED_ROWS):,} rows of the holdout"
    return f"exact, {exact}, on the newest {min(rows, EXACT_ROWS):,} rows of the holdout"


def _histories(
    result: TrainingResult, development: Dataset, settings: Settings, mean_block: float
) -> tuple[PathDistribution | None, tuple[WalkForward, ...], tuple[str, ...]]:
    card, training = settings.card, settings.training
    if not card.refits:
        return None, (), ("Paths and walks through time were not computed: card.refits is off.",)
    refit = FamilyRefit(result.family, result.parameters, training)
    absent: list[str] = []

    def attempt(what: str, make: Callable[[], Made]) -> Made | None:
        try:
            return make()
        except (DataError, ConfigurationError) as error:
            absent.append(f"{what} could not be made: {error.message}.")
            return None

    paths = attempt(
        "Combinatorial paths",
        lambda: path_distribution(
            development,
            refit,
            folds=card.blocks,
            test_folds=card.test_blocks,
            embargo=training.embargo,
            costs=settings.costs,
            seed=training.seed,
        ),
    )
    walks = []
    for window in (None, ROLLING_WINDOW):
        walk = attempt(
            "The anchored walk through time" if window is None else "The rolling walk through time",
            lambda window=window: walk_forward(  # type: ignore[misc]
                development,
                refit,
                folds=card.blocks,
                window=window,
                costs=settings.costs,
                mean_block=mean_block,
                seed=training.seed,
            ),
        )
        if walk is not None:
            walks.append(walk)
    return paths, tuple(walks), tuple(absent)
