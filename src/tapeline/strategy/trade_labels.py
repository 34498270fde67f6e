"""Labels of the trades that were taken: whether each paid, when that was known, and how much it should count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.versions import code_digest, digest
from tapeline.labels.sequential_bootstrap import label_spans
from tapeline.labels.weights import average_uniqueness, time_decay

MODULES: Final = ("tapeline.strategy.trade_labels", "tapeline.strategy.trade_feedback", "tapeline.labels.weights")


def trade_labels(
    outcomes: pd.DataFrame,
    bars: pd.DataFrame,
    *,
    at: pd.Timestamp | None = None,
    oldest: float = 1.0,
    by_return: bool = True,
    taken: pd.Series | None = None,
) -> pd.DataFrame:
    """Meta-labels of the trades of one symbol: whether the side that was taken paid after costs.

    Parameters
    ----------
    outcomes:
        From :func:`tapeline.strategy.trade_feedback.trade_outcomes`.
    bars:
        The symbol's, with ``close_ts``.
    at:
        Only trades that had ended by then; all where absent.
    oldest:
        Of :func:`tapeline.labels.weights.time_decay`.
    by_return:
        Whether a trade counts by the size of its outcome too (Lopez de Prado 2018, section 4.6): a small gain and a
        small loss are nearly the same event.
    taken:
        Weights of signals by ``ts``, from :func:`taken_weights`; a trade without one counts 1.

    Returns
    -------
    A frame of the labels room on ``ts``, the bar at whose close the trade was decided: ``value`` 1.0 or 0.0, ``t_end``
    the close of the bar in which it ended, ``outcome`` the return of the position net of costs, ``side``, ``weight``:
    average uniqueness times time decay times size (its mean 1) times ``taken``. Without ``side`` it is a table of
    :func:`tapeline.core.schemas.labels_spec`.

    Raises
    ------
    DataError
        Two trades were decided at one bar, or one of them is on none of the bars.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(100, 100, 104, 104, 102)
    >>> outcomes = pd.DataFrame({"trade": [0, 1], "ts": bars.index[[0, 2]], "outcome": [0.03, -0.01], "side": 1,
    ...                          "decided_at": bars["close_ts"].iloc[[2, 4]].to_numpy(), "hit": [1.0, 0.0]})
    >>> outcomes["decided_at"] = pd.DatetimeIndex(bars["close_ts"].iloc[[2, 4]])
    >>> trade_labels(outcomes, bars)[["value", "outcome", "weight"]].values.tolist()
    [[1.0, 0.03, 1.5], [0.0, -0.01, 0.5]]
    """
    known = outcomes if at is None else outcomes[outcomes["decided_at"] <= at]
    # Several sources may be behind one trade, which is one label.
    known = known.drop_duplicates("trade").sort_values("ts", kind="stable")
    ts = pd.DatetimeIndex(known["ts"], name="ts")
    if ts.has_duplicates:
        raise DataError(f"two trades were decided at {ts[ts.duplicated()][0]}", hint="label each run by itself")
    labels = pd.DataFrame(
        {
            "value": known["hit"].to_numpy(dtype=np.float64),
            "t_end": pd.DatetimeIndex(known["decided_at"]),
            "outcome": known["outcome"].to_numpy(dtype=np.float64),
            "side": known["side"].to_numpy(dtype=np.float64),
        },
        index=ts,
    )
    uniqueness = average_uniqueness(*label_spans(labels, bars), len(bars))
    weight = uniqueness * time_decay(uniqueness, oldest)
    size = labels["outcome"].abs().to_numpy()
    if by_return and size.sum() > 0:
        weight = weight * (size / size.mean())
    if taken is not None:
        weight = weight * taken.reindex(ts).fillna(1.0).to_numpy(dtype=np.float64)
    return labels.assign(weight=weight)


def trade_label_version(strategy: str, *, oldest: float = 1.0, by_return: bool = True) -> str:
    """``trades@<digest>``: the label version of one strategy's trades.

    Parameters
    ----------
    strategy:
        The version of the strategy, or the run: trades of another one are other labels.

    Examples
    --------
    >>> trade_label_version("cross@1") == trade_label_version("cross@2")
    False
    """
    code = [code_digest(module) for module in MODULES]
    return f"trades@{digest({'strategy': strategy, 'oldest': oldest, 'by_return': by_return, 'code': code})}"


def taken_weights(
    signals: pd.DataFrame,
    taken: pd.Series,
    *,
    by: Sequence[str] = ("source", "side"),
    bins: int = 5,
    at_most: float = 10.0,
) -> pd.DataFrame:
    """How much each signal that was taken stands for those like it that were not.

    Signals are put into cells, by ``by`` and by fifths of their probability. Of a cell of which a share was taken, each
    one taken stands for one over that share (Horvitz and Thompson 1952), times the share of all, so that weights are
    about 1 (Hernan and Robins, Causal Inference, 2020, section 12.3). It mends what the cells explain: a trade that
    was chosen for a reason that they do not hold stays a biased sample, and for a cell in which nothing was taken no
    weight can speak. ``attrs["unseen"]`` is the share of signals in such cells; where a threshold decided, that is
    all below it.

    Parameters
    ----------
    signals:
        All of them, refused ones too.
    taken:
        Whether a trade came of each; on their index.
    at_most:
        Bound of a weight, lest a single trade count for a whole cell.

    Returns
    -------
    On the index of the signals: ``propensity`` (the share of its cell that was taken) and ``weight``, 0 where it was
    not taken.

    Examples
    --------
    >>> signals = pd.DataFrame({"source": "a", "side": [1, 1, 1, -1], "probability": 0.6})
    >>> found = taken_weights(signals, pd.Series([True, False, False, False]))
    >>> found.round(2).values.tolist(), found.attrs["unseen"]
    ([[0.33, 0.75], [0.33, 0.0], [0.33, 0.0], [0.0, 0.0]], 0.25)
    """
    if bins < 1 or not at_most > 0:
        raise ConfigurationError(f"bins = {bins} is below 1, or at_most = {at_most} not above 0")
    if not taken.index.equals(signals.index):
        raise DataError("'taken' is not on the index of the signals")
    chosen = taken.to_numpy(dtype=bool)
    cells: list[Any] = [signals[name].astype(str).to_numpy(dtype=object) for name in by]
    if "probability" in signals:
        value = signals["probability"].to_numpy(dtype=np.float64)
        edges = (
            np.quantile(value[~np.isnan(value)], np.arange(1, bins) / bins) if not np.isnan(value).all() else value[:0]
        )
        cells.append(np.where(np.isnan(value), -1, np.searchsorted(np.unique(edges), value, side="right")))
    number = pd.DataFrame(dict(enumerate(cells)), index=signals.index).groupby(list(range(len(cells)))).ngroup()
    share = pd.Series(chosen.astype(np.float64), index=signals.index).groupby(number).transform("mean").to_numpy()
    weight = np.zeros(len(signals))
    np.divide(chosen.mean() if len(chosen) else 0.0, share, out=weight, where=chosen)
    found = pd.DataFrame({"propensity": share, "weight": np.minimum(weight, at_most)}, index=signals.index)
    found.attrs["unseen"] = float((share == 0).mean()) if len(signals) else 0.0
    return found
