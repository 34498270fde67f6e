"""Walk-forward with refit: how one configuration would have done had it been trained anew as time went on.

Each block of time but the first is scored by a model that knew only labels known before the block began: all of them
(anchored), or those of the last few blocks (rolling). Every prediction says which fit made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.settings import CostSettings
from tapeline.core.versions import digest
from tapeline.evaluation.metrics import auc, log_loss
from tapeline.evaluation.trades import simulate
from tapeline.models.block_metrics import BlockMetrics, interval
from tapeline.models.dataset import Dataset
from tapeline.models.path_distribution import history_metrics
from tapeline.models.refit import Refit, checked_predictions
from tapeline.models.validation import PurgedWalkForward

ROLLING_WINDOW: Final = 2


@dataclass(frozen=True)
class WalkForward:
    """A walk through time.

    Parameters
    ----------
    kind:
        ``anchored``, or ``rolling <window>``.
    predictions:
        A row a tested decision: ``ts``, ``symbol``, ``t0``, ``t_end``, ``y``, ``outcome``, ``weight``, ``probability``
        (of the model, before calibration), ``side``, ``fit`` (the number of the fit), ``fit_version`` (a hash of the
        rows that it was trained on and of all that decides a fit) and ``known_until`` (when the last label that it
        learnt from became known; always before ``t0``).
    steps:
        A row a fit: ``fit``, ``fit_version``, ``trained_from``, ``known_until``, ``trained_rows``, ``tested_from``,
        ``tested_until``, ``tested_rows``, ``auc``, ``log_loss``, ``skill`` (against the base rate of the rows trained
        on) and ``net`` (return of the trades decided in the block).
    symbols:
        A row a symbol, and one for all: ``symbol``, ``rows``, ``auc``, ``auc_low``, ``auc_high``, ``trades``, ``net``.
    total:
        One row: what :func:`tapeline.models.path_distribution.history_metrics` says of all predictions.
    """

    kind: str
    predictions: pd.DataFrame
    steps: pd.DataFrame
    symbols: pd.DataFrame
    total: pd.DataFrame


def walk_forward(
    dataset: Dataset,
    refit: Refit,
    *,
    folds: int = 6,
    window: int | None = None,
    costs: CostSettings | None = None,
    mean_block: float = 1.0,
    seed: int = 0,
) -> WalkForward:
    """Fit one configuration before each block of time and let it speak of the block.

    Parameters
    ----------
    dataset:
        Development rows; never the holdout.
    refit:
        The configuration.
    folds, window:
        Of :class:`tapeline.models.validation.PurgedWalkForward`; no window is an anchored walk.
    costs:
        Of the trades.
    mean_block:
        Mean block length of the bootstrap, in decision times.
    seed:
        Of the bootstrap and of the random entries.

    Raises
    ------
    DataError
        No label was known in time to train on, or all that were are alike.

    Examples
    --------
    >>> from tapeline.models.dataset import assemble
    >>> from tapeline.models.refit import FamilyRefit
    >>> ts = pd.date_range("2017-01-02", periods=400, freq="1h", tz="UTC", name="ts")
    >>> x = np.random.default_rng(0).standard_normal(400)
    >>> features = pd.DataFrame({"known_at": ts, "x": x}, index=ts)
    >>> end, side = ts + pd.Timedelta("3h"), np.where(x + np.random.default_rng(1).standard_normal(400) > 0, 1.0, -1.0)
    >>> labels = pd.DataFrame({"value": side, "t_end": end, "outcome": side / 1e3, "weight": 1.0}, index=ts)
    >>> dataset = assemble({"EURUSD": (features, labels)})
    >>> walk = walk_forward(dataset, FamilyRefit("logistic", {}), folds=4)
    >>> walk.steps["trained_rows"].tolist(), bool((walk.predictions["known_until"] < walk.predictions["t0"]).all())
    ([97, 197, 297], True)
    """
    splits = list(PurgedWalkForward(dataset.t0, dataset.t_end, folds=folds, window=window).split(dataset.X))
    said = checked_predictions(refit, dataset, splits)
    costs = costs or CostSettings()
    parts, steps = [], []
    for number, ((train, test), probability) in enumerate(zip(splits, said, strict=True), start=1):
        version = digest([dict(refit.plan), dataset.take(train).digest])
        known = dataset.t_end[train].max()
        frame = dataset.take(test).frame.assign(
            probability=probability,
            side=np.where(probability > 0.5, 1, np.where(probability < 0.5, -1, 0)).astype(np.int8),
            fit=number,
            fit_version=version,
            known_until=known,
        )
        base = float(np.average(dataset.y[train], weights=dataset.weight[train]))
        loss = log_loss(frame["y"], probability)
        parts.append(frame)
        steps.append(
            {
                "fit": number,
                "fit_version": version,
                "trained_from": dataset.t0[train].min(),
                "known_until": known,
                "trained_rows": train.size,
                "tested_from": frame["t0"].min(),
                "tested_until": frame["t0"].max(),
                "tested_rows": test.size,
                "auc": auc(frame["y"], probability),
                "log_loss": loss,
                "skill": log_loss(frame["y"], np.full(test.size, base)) - loss,
            }
        )
    predictions = pd.concat(parts, ignore_index=True)
    tested = dataset.take(np.concatenate([test for _, test in splits]))
    trades = simulate(predictions, costs)
    net = _net_by_row(predictions, trades)
    table = pd.DataFrame(steps)
    table["net"] = table["fit"].map(net.groupby(predictions["fit"]).sum()).astype(np.float64)
    return WalkForward(
        kind="anchored" if window is None else f"rolling {window}",
        predictions=predictions,
        steps=table,
        symbols=_symbols(predictions, net, mean_block, seed),
        total=pd.DataFrame([history_metrics(tested, predictions["probability"].to_numpy(), costs, seed=seed)]),
    )


def _net_by_row(predictions: pd.DataFrame, trades: pd.DataFrame) -> pd.Series:
    made = pd.Series(trades["net"].to_numpy(), index=pd.MultiIndex.from_frame(trades[["symbol", "ts"]]))
    return pd.Series(made.reindex(pd.MultiIndex.from_frame(predictions[["symbol", "ts"]])).to_numpy())


def _symbols(predictions: pd.DataFrame, net: pd.Series, mean_block: float, seed: int) -> pd.DataFrame:
    drawn = BlockMetrics(pd.DatetimeIndex(predictions["t0"]).asi8, mean_block=mean_block, seed=seed)
    y, probability = predictions["y"].to_numpy(), predictions["probability"].to_numpy()
    symbol = predictions["symbol"].to_numpy()
    rows = []
    for name in ["all", *sorted(set(symbol.tolist()))]:
        mask = np.ones(symbol.size, dtype=bool) if name == "all" else symbol == name
        low, high = interval(drawn.auc(y, probability, mask))
        rows.append(
            {
                "symbol": name,
                "rows": int(mask.sum()),
                "auc": auc(y[mask], probability[mask]),
                "auc_low": low,
                "auc_high": high,
                "trades": int(net[mask].notna().sum()),
                "net": float(net[mask].sum()),
            }
        )
    return pd.DataFrame(rows)
