"""Missing values: filled by an explicit policy, within a session, never in secret.

The causal functions read the past alone. Those whose names end in ``_whole`` read what came later; they are for
research, and the cleaning chain refuses them. Whole absent bars are the business of
:mod:`tapeline.cleaning.absent_bars`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numba import njit

from tapeline.cleaning.missing_policy import RESEARCH, MissingPolicy
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import research

Imputer = Literal["knn", "iterative"]
Interpolation = Literal["linear", "time", "spline"]

_SPLINE_DEGREE: Final = 3


@dataclass(frozen=True)
class Filled:
    """Values after a policy, and which of them are not measured.

    Parameters
    ----------
    frame:
        The values.
    cells:
        True where a value was filled; same index and columns as ``frame``'s number columns.
    report:
        One row a column: ``missing`` values before, ``filled``, ``left`` missing, and ``dropped`` rows in all.
    """

    frame: pd.DataFrame
    cells: pd.DataFrame
    report: pd.DataFrame

    @property
    def rows(self) -> np.ndarray:
        """True for each row with at least one filled value."""
        return np.asarray(self.cells.to_numpy().any(axis=1))


def fill_missing(frame: pd.DataFrame, policy: MissingPolicy, *, session: np.ndarray | None = None) -> Filled:
    """Treat the missing numbers of a table by a policy.

    Parameters
    ----------
    frame:
        Rows on a sorted, unique time index. Float columns are treated; others are passed through.
    session:
        One number a row that does not decrease; rows of different sessions have a closed market between them, and no
        value crosses it. None: one session.

    Raises
    ------
    DataError
        The index is not sorted and unique, or sessions decrease or have another length.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-06 20:00", periods=5, freq="1h", tz="UTC")
    >>> frame = pd.DataFrame({"x": [1.0, np.nan, np.nan, np.nan, 5.0]}, index=ts)
    >>> done = fill_missing(frame, MissingPolicy(method="forward", limit=2), session=np.array([0, 0, 0, 1, 1]))
    >>> done.frame["x"].tolist(), done.rows.tolist()
    ([1.0, 1.0, 1.0, nan, 5.0], [False, True, True, False, False])
    """
    _check(frame)
    numbers = [name for name in frame.columns if frame[name].dtype.kind == "f"]
    values = frame[numbers].to_numpy(dtype=np.float64)
    groups = _sessions(session, len(frame))
    missing = np.isnan(values)
    keep = np.ones(len(frame), dtype=bool)
    method = policy.method
    if method == "none" or not missing.any():
        out = values
    elif method == "drop":
        keep = ~missing.any(axis=1)
        out = values
    elif method == "forward":
        out = forward_filled(values, groups, policy.limit)
    elif method in ("knn", "iterative"):
        fitted = imputed(values, method, policy)
        out = np.where(_within(missing, groups, policy.limit), fitted, values)
    else:
        out = _researched(frame, values, groups, policy)
    filled = missing & ~np.isnan(out)
    report = pd.DataFrame(
        {
            "missing": missing.sum(axis=0),
            "filled": filled.sum(axis=0),
            "left": (np.isnan(out) & keep[:, None]).sum(axis=0),
            "dropped": np.full(len(numbers), int((~keep).sum())),
        },
        index=pd.Index(numbers, name="column"),
    )
    result = frame.assign(**{name: out[:, i] for i, name in enumerate(numbers)})[keep]
    return Filled(result, pd.DataFrame(filled, index=frame.index, columns=numbers)[keep], report)


def forward_filled(values: np.ndarray, session: np.ndarray, limit: int) -> np.ndarray:
    """Each column's missing values replaced by the last one before in the same session, at most ``limit`` in a row.

    Examples
    --------
    >>> forward_filled(np.array([[1.0], [np.nan], [np.nan]]), np.zeros(3, dtype=np.int64), 1).ravel().tolist()
    [1.0, 1.0, nan]
    """
    return _forward(np.ascontiguousarray(values, dtype=np.float64), session, limit)


def imputed(values: np.ndarray, imputer: Imputer, policy: MissingPolicy) -> np.ndarray:
    """Missing cells estimated from the row's other cells by an imputer that has seen earlier rows only.

    The imputer is fitted on the ``window`` rows before row ``k * refit`` and used for the rows from there to the next
    fit; each row is estimated by itself. A column without a value in the window, and a row without any, stay as they
    are. Distances are taken after each column is divided by its standard deviation in the window.

    References
    ----------
    O. Troyanskaya et al., "Missing value estimation methods for DNA microarrays", Bioinformatics 17 (2001), 520-525
    (nearest neighbours); S. van Buuren and K. Groothuis-Oudshoorn, "mice", J. Stat. Software 45 (2011), no. 3.
    """
    out = values.copy()
    missing = np.isnan(values)
    wanted = missing.any(axis=1) & ~missing.all(axis=1)
    # Complete and empty rows need no estimate, so that blocks without a partial row cost nothing.
    for first in sorted({int(row) // policy.refit * policy.refit for row in np.flatnonzero(wanted)}):
        past = values[max(first - policy.window, 0) : first]
        past = past[~np.isnan(past).all(axis=1)]
        if len(past) < policy.minimum:
            continue
        rows = first + np.flatnonzero(wanted[first : first + policy.refit])
        out[rows] = _estimate(past, values[rows], imputer, policy.neighbours)
    return out


@research
def backward_fill_whole(values: np.ndarray, session: np.ndarray, limit: int) -> np.ndarray:
    """Each missing value replaced by the next one of its session; a gap longer than ``limit`` stays. Reads the future.

    Examples
    --------
    >>> backward_fill_whole(np.array([[1.0], [np.nan], [3.0]]), np.zeros(3, dtype=np.int64), 1).ravel().tolist()
    [1.0, 3.0, 3.0]
    """
    turned = _forward(np.ascontiguousarray(values[::-1]), session.max(initial=0) - session[::-1], len(values))[::-1]
    return np.where(_short_gaps(np.isnan(values), session, limit, inner=False), turned, values)


@research
def interpolate_whole(
    values: np.ndarray, session: np.ndarray, limit: int, *, kind: Interpolation, stamps: np.ndarray
) -> np.ndarray:
    """Missing values between two present ones of a session, interpolated. Reads the future.

    Parameters
    ----------
    kind:
        ``linear`` by the number of rows, ``time`` by the time between them, ``spline`` a cubic spline in time through
        the values of the session, which needs four of them.
    stamps:
        The rows' times, ns.

    Examples
    --------
    >>> column, one = np.array([[1.0], [np.nan], [4.0]]), np.zeros(3, dtype=np.int64)
    >>> interpolate_whole(column, one, 5, kind="time", stamps=np.array([0, 1, 3])).ravel().tolist()
    [1.0, 2.0, 4.0]
    """
    out = values.copy()
    fillable = _short_gaps(np.isnan(values), session, limit)
    edges = np.flatnonzero(np.r_[True, np.diff(session) != 0, True])
    places = np.arange(len(values), dtype=np.float64) if kind == "linear" else (stamps - stamps[:1]).astype(np.float64)
    for column in np.flatnonzero(fillable.any(axis=0)):
        for low, high in pairwise(edges.tolist()):
            part, wanted = values[low:high, column], fillable[low:high, column]
            known = ~np.isnan(part)
            if wanted.any() and known.any():
                estimate = _interpolated(places[low:high][known], part[known], places[low:high][wanted], kind)
                out[low + np.flatnonzero(wanted), column] = estimate
    return out


@research
def impute_whole(values: np.ndarray, imputer: Imputer, policy: MissingPolicy) -> np.ndarray:
    """Missing cells estimated by an imputer fitted on all rows, later ones too. Reads the future."""
    missing = np.isnan(values)
    wanted = np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))
    out = values.copy()
    past = values[~missing.all(axis=1)]
    if wanted.size and len(past):
        out[wanted] = _estimate(past, values[wanted], imputer, policy.neighbours)
    return out


def _researched(frame: pd.DataFrame, values: np.ndarray, session: np.ndarray, policy: MissingPolicy) -> np.ndarray:
    method = policy.method
    if method not in RESEARCH:
        raise ConfigurationError(f"missing-value method {method!r} is unknown")
    if method == "backward":
        return backward_fill_whole(values, session, policy.limit)
    if method in ("knn_whole", "iterative_whole"):
        fitted = impute_whole(values, method.removesuffix("_whole"), policy)  # type: ignore[arg-type]
        return np.where(_short_gaps(np.isnan(values), session, policy.limit, inner=False), fitted, values)
    stamps = pd.DatetimeIndex(frame.index).as_unit("ns").asi8
    return interpolate_whole(values, session, policy.limit, kind=method, stamps=stamps)  # type: ignore[arg-type]


def _estimate(past: np.ndarray, rows: np.ndarray, imputer: Imputer, neighbours: int) -> np.ndarray:
    from sklearn.impute import KNNImputer

    seen = ~np.isnan(past).all(axis=0)
    centre = np.zeros(past.shape[1])
    scale = np.ones(past.shape[1])
    centre[seen] = np.nanmean(past[:, seen], axis=0)
    scale[seen] = np.nanstd(past[:, seen], axis=0)
    scale[~(scale > 0)] = 1.0
    model: Any
    if imputer == "knn":
        model = KNNImputer(n_neighbors=neighbours, keep_empty_features=True)
    else:
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - scikit-learn asks for this import
        from sklearn.impute import IterativeImputer

        model = IterativeImputer(random_state=0, keep_empty_features=True)
    model.fit((past - centre) / scale)
    estimate = model.transform((rows - centre) / scale) * scale + centre
    return np.where(np.isnan(rows) & seen, estimate, rows)


def _interpolated(places: np.ndarray, known: np.ndarray, wanted: np.ndarray, kind: Interpolation) -> np.ndarray:
    if kind != "spline":
        return np.interp(wanted, places, known)
    if known.size <= _SPLINE_DEGREE:
        return np.full(wanted.size, np.nan)
    from scipy.interpolate import make_interp_spline

    span = places[-1] - places[0]
    curve = make_interp_spline((places - places[0]) / span, known, k=_SPLINE_DEGREE)
    return np.asarray(curve((wanted - places[0]) / span))


def _check(frame: pd.DataFrame) -> None:
    index = frame.index
    if not isinstance(index, pd.DatetimeIndex):
        raise DataError("the rows have no time index", hint="set_index('ts') first")
    if index.hasnans or (np.diff(index.asi8) <= 0).any():
        raise DataError("the rows are not sorted and unique in time", hint="sort and remove duplicates first")


def _sessions(session: np.ndarray | None, rows: int) -> np.ndarray:
    if session is None:
        return np.zeros(rows, dtype=np.int64)
    groups = np.asarray(session, dtype=np.int64)
    if groups.shape != (rows,):
        raise DataError(f"there are {groups.size} session numbers for {rows} rows")
    if (np.diff(groups) < 0).any():
        raise DataError("session numbers decrease", hint="number the sessions in the order of time")
    return groups


@njit(cache=True)
def _forward(values: np.ndarray, session: np.ndarray, limit: int) -> np.ndarray:
    out = values.copy()
    for column in range(values.shape[1]):
        run = limit
        for i in range(values.shape[0]):
            if i == 0 or session[i] != session[i - 1]:
                run = limit  # nothing to carry over the border
            if not np.isnan(values[i, column]):
                run = 0
            elif run < limit:
                out[i, column] = out[i - 1, column]
                run += 1
    return out


@njit(cache=True)
def _runs(missing: np.ndarray, session: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each missing cell its place in its gap (from 1), the gap's length, and whether values stand on both sides."""
    rows, columns = missing.shape
    place = np.zeros((rows, columns), dtype=np.int64)
    length = np.zeros((rows, columns), dtype=np.int64)
    inner = np.zeros((rows, columns), dtype=np.bool_)
    for column in range(columns):
        i = 0
        while i < rows:
            if not missing[i, column]:
                i += 1
                continue
            end = i
            while end < rows and missing[end, column] and session[end] == session[i]:
                end += 1
            before = i > 0 and session[i - 1] == session[i]
            after = end < rows and session[end] == session[i]
            for k in range(i, end):
                place[k, column] = k - i + 1
                length[k, column] = end - i
                inner[k, column] = before and after
            i = end
    return place, length, inner


def _within(missing: np.ndarray, session: np.ndarray, limit: int) -> np.ndarray:
    """The first ``limit`` cells of each gap."""
    return missing & (_runs(missing, session)[0] <= limit)


def _short_gaps(missing: np.ndarray, session: np.ndarray, limit: int, *, inner: bool = True) -> np.ndarray:
    """The cells of gaps that are no longer than ``limit``; with ``inner`` only between two values of a session."""
    _, length, between = _runs(missing, session)
    return missing & (length <= limit) & (between if inner else True)
