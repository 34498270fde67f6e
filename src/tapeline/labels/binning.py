"""Bins: continuous values to classes, by edges that are fitted on training rows and then stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.labels.information_bins import information_cuts

BinKind = Literal["quantile", "uniform", "kmeans", "mdlp"]

MOST_BINS: Final = 1000
_ROUNDS: Final = 300


@dataclass(frozen=True)
class Binner:
    """Fitted inner edges; bin ``k`` holds the values from edge ``k - 1`` on and below edge ``k``.

    The first and the last bin are open, so that a value beyond all that training saw has a bin too. ``count`` is the
    number of bins, ``trained_on`` how many values made the edges and ``trained_until`` the instant by which the last
    of them was known, in ISO 8601, where that was said.

    Examples
    --------
    >>> binner = Binner.fit([1.0, 2.0, 3.0, 4.0], "quantile", bins=2)
    >>> binner.edges, binner.transform([0.0, 2.5, 99.0]).tolist()
    ((2.5,), [0, 1, 1])
    """

    kind: BinKind
    edges: tuple[float, ...]
    trained_on: int
    trained_until: str | None = None

    @property
    def count(self) -> int:
        """How many bins there are."""
        return len(self.edges) + 1

    @classmethod
    def fit(
        cls,
        values: ArrayLike,
        kind: BinKind = "quantile",
        *,
        bins: int = 5,
        classes: ArrayLike | None = None,
        trained_until: str | None = None,
    ) -> Binner:
        """Edges from these values, which should be those of training rows only; NaN is passed over.

        Parameters
        ----------
        kind:
            ``quantile``: as many values a bin as can be. ``uniform``: equal widths from the least to the largest.
            ``kmeans``: halfway between the means of Lloyd's algorithm from equally spaced centres. ``mdlp``: where the
            ``classes`` separate (Fayyad and Irani 1993), as many bins as that is worth, ``bins`` is not read.
        bins:
            How many. Edges that fall together leave fewer.
        classes:
            For ``mdlp`` the class of each value, whole numbers from 0.

        Raises
        ------
        ConfigurationError
            The kind is unknown, ``bins`` is outside 2 and 1000, or ``classes`` lack for ``mdlp``.
        DataError
            No value is finite, one is infinite, or the classes do not fit the values.
        """
        if kind not in get_args(BinKind):
            raise ConfigurationError(f"binning {kind!r} is unknown", hint=f"use one of {', '.join(get_args(BinKind))}")
        if not 2 <= bins <= MOST_BINS:
            raise ConfigurationError(f"bins = {bins} is outside 2 and {MOST_BINS}")
        given = np.asarray(values, dtype=np.float64)
        if given.ndim != 1 or np.isinf(given).any():
            raise DataError("values to bin must be one column without infinities")
        known = ~np.isnan(given)
        used = given[known]
        if not used.size:
            raise DataError("there is no value to fit bins on")
        if kind == "mdlp":
            edges = information_cuts(used, _codes(classes, known))
        elif kind == "kmeans":
            edges = _means_edges(used, bins)
        elif kind == "uniform":
            edges = np.linspace(used.min(), used.max(), bins + 1)[1:-1]
        else:
            edges = np.quantile(used, np.arange(1, bins) / bins)
        # An edge at the least value would leave an empty bin below it.
        edges = np.unique(edges[edges > used.min()])
        return cls(kind, tuple(float(edge) for edge in edges), int(used.size), trained_until)

    def transform(self, values: ArrayLike) -> NDArray[np.int64]:
        """The bin of each value, 0 the lowest; -1 for NaN."""
        given = np.asarray(values, dtype=np.float64)
        found = np.searchsorted(np.asarray(self.edges), given, side="right")
        return np.where(np.isnan(given), -1, found).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, to keep as JSON beside a model.

        Examples
        --------
        >>> binner = Binner.fit([1.0, 2.0, 3.0], "uniform", bins=2)
        >>> Binner.from_dict(binner.to_dict()) == binner
        True
        """
        return {
            "kind": self.kind,
            "edges": list(self.edges),
            "trained_on": self.trained_on,
            "trained_until": self.trained_until,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Binner:
        """What :meth:`to_dict` gave; DataError where it is anything else."""
        try:
            edges = tuple(float(edge) for edge in content["edges"])
            until = content.get("trained_until")
            found = cls(content["kind"], edges, int(content["trained_on"]), None if until is None else str(until))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"these are no bins: {error!r}") from None
        rising = all(b > a for a, b in pairwise(edges))
        if found.kind not in get_args(BinKind) or not np.isfinite(edges).all() or not rising:
            raise DataError("these are no bins: the kind is unknown, or the edges do not rise")
        return found


def bin_labels(
    labels: pd.DataFrame,
    train_end: pd.Timestamp,
    kind: BinKind = "quantile",
    *,
    bins: int = 5,
    classes: pd.Series | None = None,
) -> tuple[pd.DataFrame, Binner]:
    """Labels with their ``value`` in bins whose edges come from labels known by ``train_end`` alone.

    What is known is read off ``t_end``: a label of a training bar whose horizon reaches beyond ``train_end`` has no
    say in the edges.

    Parameters
    ----------
    classes:
        For ``mdlp`` the class of each label, on the same index.

    Returns
    -------
    The labels with ``bin``, a float (a class code for a model), and the fitted bins.

    Raises
    ------
    DataError
        No label is known by ``train_end``.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=4, freq="1h", tz="UTC", name="ts")
    >>> labels = pd.DataFrame({"value": [1.0, 2.0, 3.0, 1000.0], "t_end": ts + pd.Timedelta("1h")}, index=ts)
    >>> binned, binner = bin_labels(labels, ts[3], bins=2)
    >>> binned["bin"].tolist(), binner.trained_on
    ([0.0, 1.0, 1.0, 1.0], 3)
    """
    known = labels["t_end"] <= train_end
    if not known.any():
        raise DataError(f"no label is known by {train_end}", hint="train on a longer history")
    chosen = None if classes is None else classes.reindex(labels.index)[known].to_numpy()
    until = pd.Timestamp(labels.loc[known, "t_end"].max()).isoformat()
    binner = Binner.fit(labels.loc[known, "value"], kind, bins=bins, classes=chosen, trained_until=until)
    codes = binner.transform(labels["value"]).astype(np.float64)
    return labels.assign(bin=np.where(codes < 0, np.nan, codes)), binner


def _codes(classes: ArrayLike | None, known: NDArray[np.bool_]) -> NDArray[np.int64]:
    if classes is None:
        raise ConfigurationError("mdlp needs the classes of its values", hint="pass classes=")
    given = np.asarray(classes, dtype=np.float64)
    if given.shape != known.shape:
        raise DataError(f"{given.size} classes for {known.size} values")
    used = given[known]
    if not (np.isfinite(used).all() and (used >= 0).all() and (used == np.floor(used)).all()):
        raise DataError("a class is no whole number from 0", hint="encode it first")
    return used.astype(np.int64)


def _means_edges(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Lloyd's algorithm on one column: its bins are runs of the sorted values, their means differences of sums."""
    ordered = np.sort(values)
    # About the mean, so that the sums keep their digits.
    middle = ordered.mean()
    sums = np.concatenate((np.zeros(1), np.cumsum(ordered - middle)))
    borders = np.linspace(ordered[0], ordered[-1], bins + 1)
    centres = (borders[:-1] + borders[1:]) / 2.0
    for _ in range(_ROUNDS):
        ends = np.searchsorted(ordered, (centres[:-1] + centres[1:]) / 2.0, side="right")
        first, last = np.concatenate(([0], ends)), np.concatenate((ends, [ordered.size]))
        counts = last - first
        moved = centres.copy()
        np.divide(sums[last] - sums[first], counts, out=moved, where=counts > 0)
        moved[counts > 0] += middle
        if np.array_equal(moved, centres):
            break
        centres = np.sort(moved)
    return (centres[:-1] + centres[1:]) / 2.0
