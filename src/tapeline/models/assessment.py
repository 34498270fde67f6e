"""The one look at the holdout: probabilities, metrics beside their baselines, trades after costs, Sharpe evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.settings import Settings
from tapeline.evaluation import metrics as metric
from tapeline.evaluation.trades import (
    RandomEntries,
    cost_ladder,
    equity_curve,
    random_entries,
    simulate,
    trades_per_year,
)
from tapeline.models.bundle import Model
from tapeline.models.dataset import Dataset
from tapeline.models.ledger import Ledger
from tapeline.models.overfitting import clusters_of_trials, effective_trials, probability_of_overfitting
from tapeline.models.statistics import (
    Metric,
    SharpeEvidence,
    bootstrap_intervals,
    minimum_backtest_length,
    sharpe_evidence,
)
from tapeline.models.tuning import Tuning

PROBABILITY_METRICS: Final[dict[str, Metric]] = {
    "auc": metric.auc,
    "log_loss": metric.log_loss,
    "accuracy": metric.accuracy,
    "brier": metric.brier_score,
    "ece": metric.expected_calibration_error,
}
_COLUMNS: Final = ("metric", "value", "low", "high", "majority", "random", "logistic")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Assessment:
    """What the holdout said.

    Parameters
    ----------
    holdout:
        As in :class:`tapeline.evaluation.result.TrainingResult`.
    matrix:
        Its features.
    base_rate:
        The weighted share of rises among the development rows.
    mean_block:
        Mean block length of the bootstrap, in decision times.
    metrics, trades, equity, cost_ladder, random_band:
        As in the training result.
    sharpe:
        Evidence on the net returns of the holdout's trades.
    overfitting:
        As in the training result.
    """

    holdout: pd.DataFrame
    matrix: npt.NDArray[np.float32]
    base_rate: float
    mean_block: float
    metrics: pd.DataFrame
    trades: pd.DataFrame
    equity: pd.DataFrame
    cost_ladder: pd.DataFrame
    random_band: pd.DataFrame
    sharpe: SharpeEvidence
    overfitting: pd.DataFrame


def assess(
    model: Model, development: Dataset, holdout: Dataset, *, settings: Settings, ledger: Ledger, tuning: Tuning
) -> Assessment:
    """Evaluate a fitted model on its holdout; call it once a model."""
    seed = settings.training.seed
    raw = model.raw_probability(holdout.X)
    probability = model.bundle.calibration.apply(raw)
    frame = decisions(holdout, probability, model.bundle.threshold).assign(raw=raw)
    base_rate = float(np.average(development.y, weights=development.weight))
    mean_block = max(2.0 * reach_in_instants(holdout), len(holdout.t0.unique()) ** (1 / 3), 1.0)
    trades = simulate(frame, settings.costs)
    null = random_entries(frame, trades, settings.costs, seed=seed)
    baselines = {
        "majority": np.full(len(holdout), base_rate),
        "logistic": _logistic(development, holdout),
    }
    table = [
        *_probability_rows(frame, baselines, mean_block, seed),
        *_trading_rows(frame, trades, null, baselines, holdout, settings),
    ]
    overfitting = overfitting_table(tuning.returns, ledger.total)
    sharpe = sharpe_evidence(
        trades["net"],
        trials=ledger.total,
        trial_sharpes=list(tuning.trials["sharpe"]),
        effective_trials=float(overfitting["effective_trials"].iloc[0]),
    )
    return Assessment(
        holdout=frame,
        matrix=holdout.X,
        base_rate=base_rate,
        mean_block=mean_block,
        metrics=pd.DataFrame(table, columns=list(_COLUMNS)),
        trades=trades,
        equity=equity_curve(trades),
        cost_ladder=cost_ladder(trades),
        random_band=null.band,
        sharpe=sharpe,
        overfitting=overfitting,
    )


def overfitting_table(returns: pd.DataFrame, trials: int) -> pd.DataFrame:
    """What the trials' own returns say of choosing the best of them.

    Parameters
    ----------
    returns:
        A row a day, a column a complete trial of the present study.
    trials:
        All that the ledger counts. Those without returns here (pruned ones, other runs, looks at a holdout) count as
        one independent trial each, for nothing is known of what they resemble.

    Returns
    -------
    One row; see :class:`tapeline.evaluation.result.TrainingResult`.
    """
    matrix = returns.to_numpy(dtype=np.float64)
    found = probability_of_overfitting(matrix)
    effective = effective_trials(matrix) + max(trials - found.trials, 0)
    clusters = clusters_of_trials(matrix)
    return pd.DataFrame(
        [
            {
                "trials": trials,
                "effective_trials": effective,
                "trials_with_returns": found.trials,
                "clusters": math.nan if clusters is None else float(clusters),
                "pbo": found.probability,
                "probability_of_loss": found.probability_of_loss,
                "degradation": found.degradation,
                "days": found.periods,
                "blocks": found.blocks,
                "splits": found.splits,
                "years_needed": minimum_backtest_length(max(effective, 1.0)),
                "years": found.periods / 365.25,
            }
        ]
    )


def decisions(holdout: Dataset, probability: Array, threshold: float = 0.5) -> pd.DataFrame:
    """The holdout rows with what is said of them: ``probability``, ``side``, ``confidence``."""
    side = (probability > threshold).astype(np.int8) - (probability < 1 - threshold).astype(np.int8)
    return holdout.frame.assign(probability=probability, side=side, confidence=np.maximum(probability, 1 - probability))


def reach_in_instants(dataset: Dataset) -> float:
    """How many decision times a label spans on average, its own included: the range of overlap between rows."""
    instants = np.unique(dataset.t0.asi8)
    last = np.searchsorted(instants, dataset.t_end.asi8, side="right")
    return float((last - np.searchsorted(instants, dataset.t0.asi8, side="left")).mean())


def _probability_rows(
    frame: pd.DataFrame, baselines: dict[str, Array], mean_block: float, seed: int
) -> list[dict[str, Any]]:
    y, probability = frame["y"].to_numpy(), frame["probability"].to_numpy()
    intervals = bootstrap_intervals(
        PROBABILITY_METRICS, y, probability, pd.DatetimeIndex(frame["t0"]).asi8, mean_block=mean_block, seed=seed
    )
    coin = np.full(len(y), 0.5)
    rows = []
    for name, function in PROBABILITY_METRICS.items():
        said = {other: function(y, values) for other, values in baselines.items()}
        # A coin is right half the time; the accuracy of a constant 0.5 would be that of always saying 'down'.
        said["random"] = 0.5 if name == "accuracy" else function(y, coin)
        low, high = intervals[name]
        rows.append({"metric": name, "value": function(y, probability), "low": low, "high": high, **said})
    return rows


def _trading_rows(
    frame: pd.DataFrame,
    trades: pd.DataFrame,
    null: RandomEntries,
    baselines: dict[str, Array],
    holdout: Dataset,
    settings: Settings,
) -> list[dict[str, Any]]:
    others = {
        name: simulate(decisions(holdout, probability), settings.costs) for name, probability in baselines.items()
    }
    functions = {
        "total_return": lambda net, yearly: float(net.sum()),
        "mean_trade_bps": lambda net, yearly: float(net.mean() * 1e4) if len(net) else math.nan,
        "sharpe_annual": lambda net, yearly: metric.sharpe_ratio(net, periods_per_year=yearly),
    }
    yearly = trades_per_year(trades)
    net = trades["net"].to_numpy()
    low_high = _trade_intervals(trades, yearly, settings.training.seed)
    random_mean = null.total_return / max(len(trades), 1) * 1e4
    random_values = {
        "total_return": null.total_return,
        "mean_trade_bps": random_mean,
        "sharpe_annual": null.sharpe[np.isfinite(null.sharpe)] * math.sqrt(yearly),
    }
    rows: list[dict[str, Any]] = []
    for name, function in functions.items():
        low, high = low_high[name]
        rows.append(
            {
                "metric": name,
                "value": function(net, yearly),
                "low": low,
                "high": high,
                "random": float(np.median(random_values[name])) if random_values[name].size else math.nan,
                **{other: function(made["net"].to_numpy(), trades_per_year(made)) for other, made in others.items()},
            }
        )
    percentile = null.percentile(float(net.sum()))
    return [*rows, {"metric": "percentile_of_random_entries", "value": percentile, "random": 50.0}]


def _trade_intervals(trades: pd.DataFrame, yearly: float, seed: int) -> dict[str, tuple[float, float]]:
    """Bootstrap blocks of trades that follow each other in time; few trades make wide intervals, none make none."""
    names = ("total_return", "mean_trade_bps", "sharpe_annual")
    if len(trades) < 2:
        return dict.fromkeys(names, (math.nan, math.nan))
    net = trades["net"].to_numpy()

    def total(_: Any, returns: Array, weight: Array) -> float:
        return float((returns * weight).sum())

    def mean(_: Any, returns: Array, weight: Array) -> float:
        return float((returns * weight).sum() / weight.sum() * 1e4)

    def sharpe(_: Any, returns: Array, weight: Array) -> float:
        return metric.sharpe_ratio(np.repeat(returns, weight.astype(np.int64)), periods_per_year=yearly)

    return bootstrap_intervals(
        dict(zip(names, (total, mean, sharpe), strict=True)),
        np.zeros(len(net)),
        net,
        np.arange(len(net)),
        mean_block=max(1.0, len(net) ** (1 / 3)),
        seed=seed,
    )


def _logistic(development: Dataset, holdout: Dataset) -> Array:
    from tapeline.models.estimator import build_estimator, probability_up

    estimator = build_estimator("logistic")
    estimator.fit(development.X, development.y, development.weight)
    return probability_up(estimator, holdout.X)
