"""Consistency of labels: whether schemes agree, how much labels share, and whether any leaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.labels.sequential_bootstrap import label_spans, sequential_bootstrap
from tapeline.labels.weights import average_uniqueness


def agreement(schemes: Mapping[str, pd.Series]) -> pd.DataFrame:
    """How far each two label schemes agree on the bars that both label.

    Parameters
    ----------
    schemes:
        By name, class values on ``ts``; equal values mean the same class.

    Returns
    -------
    A row a pair (index ``one``, ``other``): ``bars`` both label; ``agreement`` the share with equal values; ``chance``
    the share expected were they independent with the same class frequencies; ``kappa`` Cohen's, (agreement - chance)
    / (1 - chance), NaN where chance is 1; ``opposite`` the share with values of opposite sign.

    Raises
    ------
    DataError
        Fewer than two schemes, or a scheme repeats a time.

    References
    ----------
    Cohen, Educational and Psychological Measurement 20 (1960).

    Examples
    --------
    >>> a, b = pd.Series([1.0, 1.0, -1.0, -1.0]), pd.Series([1.0, -1.0, -1.0, -1.0])
    >>> agreement({"a": a, "b": b})[["agreement", "kappa"]].values.tolist()
    [[0.75, 0.5]]
    """
    names = list(schemes)
    if len(names) < 2:
        raise DataError("agreement needs at least two label schemes")
    known = {name: values.dropna() for name, values in schemes.items()}
    for name, values in known.items():
        if not values.index.is_unique:
            raise DataError(f"the labels {name!r} repeat a time")
    found = []
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            shared = known[one].index.intersection(known[other].index)
            a, b = (known[name].loc[shared].to_numpy(dtype=np.float64) for name in (one, other))
            found.append((one, other, len(shared), *_pair(a, b)))
    columns = ["one", "other", "bars", "agreement", "chance", "kappa", "opposite"]
    return pd.DataFrame(found, columns=columns).set_index(["one", "other"])


def confusion(one: pd.Series, other: pd.Series) -> pd.DataFrame:
    """How many bars have each pair of values; rows are values of ``one``, columns of ``other``.

    Examples
    --------
    >>> confusion(pd.Series([1.0, 1.0, -1.0]), pd.Series([1.0, -1.0, -1.0])).values.tolist()
    [[1, 0], [1, 1]]
    """
    shared = one.dropna().index.intersection(other.dropna().index)
    return pd.crosstab(one.loc[shared].rename("one"), other.loc[shared].rename("other"))


@dataclass(frozen=True)
class Overlap:
    """How much labels share.

    ``concurrency``: by bar that any label reads, how many do. ``uniqueness``: by label, its average uniqueness.
    ``effective``: their sum, how many labels without overlap they are worth. ``plain_bootstrap`` and
    ``sequential_bootstrap``: the mean uniqueness within as many draws as there are labels, drawn with equal chances
    and sequentially.
    """

    concurrency: pd.Series
    uniqueness: pd.Series
    effective: float
    plain_bootstrap: float
    sequential_bootstrap: float


def overlap(labels: pd.DataFrame, bars: pd.DataFrame, *, most: int = 2000, seed: int = 0) -> Overlap:
    """Measure the overlap of labels, and what the sequential bootstrap makes of it.

    Parameters
    ----------
    labels, bars:
        Labels with ``t_end`` on ``ts``, and all bars with ``close_ts``.
    most:
        Both bootstraps draw among the last ``most`` labels only, because their cost grows with the square.
    seed:
        Of the draws.

    Raises
    ------
    DataError
        There is no label, or one is on none of the bars.

    References
    ----------
    Lopez de Prado, Advances in Financial Machine Learning (2018), sections 4.3 to 4.5.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> labels = pd.DataFrame({"t_end": ts[2:4] + pd.Timedelta("1h")}, index=ts[:2])
    >>> overlap(labels, bars).uniqueness.tolist()
    [0.75, 0.75]
    """
    if labels.empty:
        raise DataError("there is no label whose overlap could be measured")
    first, last = label_spans(labels, bars)
    rows = len(bars)
    unique = average_uniqueness(first, last, rows)
    alive = np.cumsum(np.bincount(first, minlength=rows + 1) - np.bincount(last + 1, minlength=rows + 1))[:rows]
    some = slice(max(first.size - most, 0), None)
    start = int(first[some].min())
    a, b, span = first[some] - start, last[some] - start, int(last[some].max()) - start + 1
    plain = np.random.default_rng(seed).integers(0, a.size, a.size)
    drawn = sequential_bootstrap(a, b, span, seed=seed)
    means = [float(average_uniqueness(a[draw], b[draw], span).mean()) for draw in (plain, drawn)]
    return Overlap(
        pd.Series(alive[alive > 0], index=bars.index[alive > 0], name="labels"),
        pd.Series(unique, index=labels.index, name="uniqueness"),
        float(unique.sum()),
        means[0],
        means[1],
    )


def shared_with_test(labels: pd.DataFrame, train: pd.Index, test: pd.Index) -> pd.DataFrame:
    """The training labels whose life meets that of a test label: what purging must remove.

    A label lives from its bar's time to its ``t_end``, both included.

    Returns
    -------
    A row a training label that leaks: its ``t_end``, and ``test_ts``, the first test label that it meets.

    Raises
    ------
    DataError
        A time is none of the labels'.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts")
    >>> labels = pd.DataFrame({"t_end": ts + pd.Timedelta("90min")}, index=ts)
    >>> shared_with_test(labels, ts[:2], ts[2:]).index.tolist()
    [Timestamp('2017-01-02 01:00:00+0000', tz='UTC')]
    """
    for name, rows in (("train", train), ("test", test)):
        if not rows.isin(labels.index).all():
            raise DataError(f"{name} names a time at which there is no label")
    ordered = labels.loc[test].sort_index()
    starts = pd.DatetimeIndex(ordered.index).as_unit("ns").asi8
    # The furthest end so far: a label may end before an earlier one does.
    ends = np.maximum.accumulate(pd.DatetimeIndex(ordered["t_end"]).as_unit("ns").asi8)
    trained = labels.loc[train]
    begin = pd.DatetimeIndex(trained.index).as_unit("ns").asi8
    finish = pd.DatetimeIndex(trained["t_end"]).as_unit("ns").asi8
    place = np.searchsorted(ends, begin, side="left")
    meets = (place < starts.size) & (starts[np.minimum(place, max(starts.size - 1, 0))] <= finish)
    return trained.loc[meets, ["t_end"]].assign(test_ts=ordered.index[place[meets]])


def revealing_features(features: pd.DataFrame, labels: pd.Series, *, limit: float = 0.95) -> pd.Series:
    """The features that alone tell the label too well to be honest, by how well.

    The measure is the absolute rank correlation (Spearman), which a label that was shifted, scaled or bent still has.

    Returns
    -------
    The measure of the features at or above ``limit``, the largest first.

    Examples
    --------
    >>> labels = pd.Series([3.0, 1.0, 2.0, 5.0])
    >>> revealing_features(pd.DataFrame({"leak": labels ** 3, "fair": [1.0, 2.0, 1.0, 1.0]}), labels).index.tolist()
    ['leak']
    """
    shared = features.index.intersection(labels.dropna().index)
    ranks = features.loc[shared].rank()
    measured = ranks.corrwith(labels.loc[shared].rank()).abs()
    return measured[measured >= limit].sort_values(ascending=False, kind="stable")


def wrong_ends(
    label: Callable[[pd.DataFrame], pd.DataFrame], bars: pd.DataFrame, *, sample: int = 50, seed: int = 0
) -> pd.DataFrame:
    """The labels that are not known at their ``t_end`` as they are later, or were known before it.

    Each label of a sample is computed again from the bars that had closed at its ``t_end``, where it must be the same,
    and from one bar less, where it must be absent.

    Parameters
    ----------
    label:
        Bars to labels with ``value``, ``t_end``, ``outcome``; parameters bound.
    sample:
        How many labels to look at; all where there are fewer.

    Returns
    -------
    A row a label at fault: ``t_end`` and ``fault``, "changes later" or "known earlier".

    Examples
    --------
    >>> from tapeline.labels.future_return import future_return
    >>> ts = pd.date_range("2017-01-02", periods=9, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": np.arange(1.0, 10.0), "close": np.arange(2.0, 11.0),
    ...     "close_ts": ts + pd.Timedelta("1h")}, index=ts)
    >>> len(wrong_ends(future_return, bars.head(3))), len(wrong_ends(lambda b: future_return(b, 2), bars))
    (0, 0)
    >>> early = lambda b: future_return(b, 3).assign(t_end=lambda f: f["t_end"] - pd.Timedelta("1h"))
    >>> wrong_ends(early, bars)["fault"].unique().tolist()
    ['changes later']
    """
    whole = label(bars)
    size = min(sample, len(whole))
    chosen = np.sort(np.random.default_rng(seed).choice(len(whole), size, replace=False))
    closes = pd.DatetimeIndex(bars["close_ts"])
    faults = []
    for row in chosen:
        ts, end = whole.index[row], whole["t_end"].iloc[row]
        known = int(closes.searchsorted(end, side="right"))
        then = label(bars.iloc[:known])
        if ts not in then.index or not whole.iloc[[row]].equals(then.loc[[ts]]):
            faults.append((ts, end, "changes later"))
        elif ts in label(bars.iloc[: known - 1]).index:
            faults.append((ts, end, "known earlier"))
    return pd.DataFrame(faults, columns=["ts", "t_end", "fault"]).set_index("ts")


def _pair(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    if not a.size:
        return (np.nan,) * 4
    equal = float((a == b).mean())
    values = np.unique(np.concatenate((a, b)))
    chance = float(sum((a == value).mean() * (b == value).mean() for value in values))
    kappa = (equal - chance) / (1.0 - chance) if chance < 1.0 else np.nan
    return equal, chance, kappa, float((a * b < 0).mean())
