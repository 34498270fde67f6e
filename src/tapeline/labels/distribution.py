"""The distribution of labels: how the classes balance, over time and by regime."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError


def class_balance(labels: pd.DataFrame) -> pd.DataFrame:
    """How many labels each class has, and what they carry.

    Returns
    -------
    By ``value``: ``labels``, ``share``, ``weight`` their share of the sample weight (of the count where labels have
    none), ``outcome`` their mean outcome.

    Raises
    ------
    DataError
        There is no label.

    Examples
    --------
    >>> labels = pd.DataFrame({"value": [1.0, 1.0, -1.0], "outcome": [0.02, 0.04, -0.01]})
    >>> class_balance(labels)["share"].round(2).tolist()
    [0.33, 0.67]
    """
    if labels.empty:
        raise DataError("there is no label whose distribution could be shown")
    weight = labels["weight"] if "weight" in labels.columns else pd.Series(1.0, index=labels.index)
    grouped = labels.assign(weight=weight).groupby("value")
    return pd.DataFrame(
        {
            "labels": grouped.size(),
            "share": grouped.size() / len(labels),
            "weight": grouped["weight"].sum() / float(weight.sum()),
            "outcome": grouped["outcome"].mean(),
        }
    )


def balance_over_time(labels: pd.DataFrame, every: str = "MS") -> pd.DataFrame:
    """The share of each class by period.

    Parameters
    ----------
    every:
        The period as pandas writes it: ``D``, ``W``, ``MS`` (a month, by its start), ``QS``, ``YS``.

    Returns
    -------
    By period start a column a class and ``labels``, how many there were; periods without labels are absent.

    Raises
    ------
    ConfigurationError
        The period is unknown.
    DataError
        There is no label.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-02", "2017-01-03", "2017-02-01"], tz="UTC", name="ts")
    >>> balance_over_time(pd.DataFrame({"value": [1.0, -1.0, 1.0]}, index=ts)).values.tolist()
    [[0.5, 0.5, 2.0], [0.0, 1.0, 1.0]]
    """
    if labels.empty:
        raise DataError("there is no label whose distribution could be shown")
    try:
        periods = pd.get_dummies(labels["value"]).resample(every, closed="left", label="left")
    except ValueError:
        raise ConfigurationError(f"the period {every!r} is unknown", hint="use D, W, MS, QS or YS") from None
    counts = periods.sum()
    total = counts.sum(axis=1)
    counts, total = counts[total > 0], total[total > 0]
    return counts.div(total, axis=0).assign(labels=total)


def balance_by_regime(labels: pd.DataFrame, regime: pd.Series) -> pd.DataFrame:
    """The share of each class by the regime that was known at the labelled bar.

    Parameters
    ----------
    regime:
        A name or number on ``ts``; labels of bars without one are left out.

    Returns
    -------
    By regime a column a class, ``labels`` how many there were, and ``distance``: half the sum of the absolute
    differences from the shares of all, 0 where the regime has the classes of all, towards 1 where it has none of them.

    Raises
    ------
    DataError
        No label has a regime, or the regimes repeat a time.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC", name="ts")
    >>> labels = pd.DataFrame({"value": [1.0, 1.0, -1.0, -1.0]}, index=ts)
    >>> balance_by_regime(labels, pd.Series(["calm", "calm", "calm", "wild"], index=ts))["distance"].round(3).tolist()
    [0.167, 0.5]
    """
    if not regime.index.is_unique:
        raise DataError("the regimes repeat a time")
    known = regime.reindex(labels.index)
    kept = known.notna().to_numpy()
    if not kept.any():
        raise DataError("no label has a regime", hint="both must be on the same times")
    counts = pd.crosstab(known[kept].rename("regime"), labels.loc[kept, "value"])
    total = counts.sum(axis=1)
    shares = counts.div(total, axis=0)
    usual = counts.sum() / float(total.sum())
    return shares.assign(labels=total, distance=np.abs(shares - usual).sum(axis=1) / 2.0)
