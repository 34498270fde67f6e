"""Drift of a batch: its profile against the profiles of the batches before it."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import DataError
from tapeline.quality.histogram import population_stability, stability
from tapeline.quality.profile import as_columns, index_first, reference_edges

MINIMUM_HISTORY: Final = 12
"""Batches before this one without which nothing is judged."""
Z_LIMIT: Final = 8.0
"""Robust standard deviations from the history's median beyond which a statistic has drifted."""
PSI_LIMIT: Final = 0.25
"""The usual bound of the population stability index: below 0.1 nothing has happened, above 0.25 much has."""
JUDGED: Final = (
    "null_share",
    "infinite_share",
    "mean",
    "std",
    "q05",
    "q50",
    "q95",
    "top_share",
    "missing_bars",
    "rows",
)
"""The statistics that may raise an alarm."""
SHOWN: Final = ("skew", "kurtosis", "minimum", "maximum", "unique_share")
"""Those that are shown with their distance and raise none: one single row can move them at will."""
COLUMNS: Final = ("column", "statistic", "value", "median", "spread", "distance", "limit", "judged", "alarm")
_MAD: Final = 1.4826
"""The median absolute deviation of a normal distribution is its standard deviation over this."""
_RELATIVE_FLOOR: Final = 1e-6
_SHARE_FLOOR: Final = 1e-3
_ABSOLUTE_FLOOR: Final = 1e-12
"""Where the history was exactly 0 throughout, rounding must not count as a distance."""


def compare(profile: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """How far a profile lies from those of earlier batches, statistic by statistic.

    Parameters
    ----------
    profile:
        Of one batch, as :func:`tapeline.quality.profile.profile_batch` gives it.
    history:
        Profiles of the same table and period. Only batches that ended by this one's start, and were known by its
        end, are used; of a batch with several versions the latest.

    Returns
    -------
    One row a column and statistic: its ``value``, the history's ``median`` and ``spread``, ``distance`` and ``limit``,
    whether it is ``judged`` and whether it raises an ``alarm``. The statistics:

    - those of :data:`JUDGED` and :data:`SHOWN`: ``spread`` is the median absolute deviation times 1.4826, ``distance``
      the robust z (of ``std`` taken on logarithms). An alarm needs abs(z) above 8 AND a value outside everything the
      history has seen: among n exchangeable batches the latter alone has the chance 2 / (n + 1), whatever the
      distribution. So a new level is told when it comes, and not again once it is part of the history. Shares and
      counts of rows have a smallest spread: one absent row after years without any is no alarm.
    - ``psi``: the population stability index on the history's bins. Its limit is the largest of 0.25; of what sampling
      alone exceeds once in 10,000 batches, ``(1/n + 1/m)`` times a chi-square quantile (B. Yurdakul, Statistical
      Properties of Population Stability Index, 2018); and of the median plus 8 spreads of what each past batch had
      against the others: a column that wanders, as a price does, is not called drifting for wandering on.
    - ``ks``: the largest distance between the two distributions at the bins' edges; shown.

    Below 12 batches of history nothing raises an alarm.

    Raises
    ------
    DataError
        The profile is empty, or its histograms have other edges than those of the whole history.

    Examples
    --------
    >>> from tapeline.quality.profile import profile_batch, reference_edges
    >>> def day(number, scale=1.0, edges=None):
    ...     start = pd.Timestamp("2017-01-02", tz="UTC") + pd.Timedelta(days=number)
    ...     index = pd.date_range(start, periods=288, freq="5min", name="ts", unit="ns")
    ...     frame = pd.DataFrame({"x": scale * np.random.default_rng(number).normal(size=288)}, index=index)
    ...     span = {"start": start, "end": start + pd.Timedelta(days=1)}
    ...     return profile_batch(frame, table="raw/bars", version=str(number), edges=edges, **span)
    >>> first = day(0)
    >>> edges = reference_edges(first)
    >>> history = pd.concat([first, *(day(k, edges=edges) for k in range(1, 20))])
    >>> bool(compare(day(20, edges=edges), history)["alarm"].any())
    False
    >>> found = compare(day(20, 4.0, edges), history)
    >>> sorted(found[found["alarm"]]["statistic"])
    ['mean', 'psi', 'q05', 'q95', 'std']
    """
    if profile.empty:
        raise DataError("the profile is empty", hint="profile_batch makes one")
    batch = index_first(profile)
    past = before(batch, history)
    judged = past["ts"].nunique() >= MINIMUM_HISTORY
    rows: list[tuple[object, ...]] = []
    names = past["column"].astype(str).to_numpy() if len(past) else np.array([], dtype=str)
    statistics, held_statistics = _statistics(batch), _statistics(past)
    histograms = past[["ts", "known_at", "version", "column", "count", "edges", "labels", "counts"]]
    for position, column in enumerate(batch["column"].astype(str)):
        places = np.flatnonzero(names == column)
        if not places.size:
            continue
        earlier = histograms.iloc[places]
        one = batch.iloc[position]
        for name in (*JUDGED, *SHOWN):
            if name == "rows" and position:
                continue
            value = float(statistics[name][position])
            found = _distance(name, value, held_statistics[name][places], float(one["rows"]))
            if found is not None:
                may = judged and name in JUDGED
                rows.append((column, name, value, *found[:-1], Z_LIMIT, name in JUDGED, bool(may and found[-1])))
        rows += _histogram_rows(column, one, earlier, judged)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"judged": "bool", "alarm": "bool"})


def before(profile: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """The profiles that a batch may be compared with: of the same table and period, over and known before it."""
    batch, past = as_columns(profile).iloc[0], as_columns(history)
    if past.empty:
        return past
    same = (past["table"].astype(str) == str(batch["table"])) & (past["period"].astype(str) == str(batch["period"]))
    past = past[same & (past["end"] <= batch["ts"]) & (past["known_at"] <= batch["end"])]
    ordered = past.sort_values(["ts", "known_at", "version"], kind="stable")
    latest = ordered.drop_duplicates("ts", keep="last")[["ts", "version"]]
    return ordered.merge(latest, on=["ts", "version"])


def _statistics(profiles: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    rows = profiles["rows"].to_numpy(np.float64)
    count = np.maximum(profiles["count"].to_numpy(np.float64), 1.0)
    found = profiles.assign(
        null_share=profiles["nulls"] / rows, infinite_share=profiles["infinite"] / rows,
        unique_share=profiles["uniques"] / count,
    )  # fmt: skip
    return {name: found[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in (*JUDGED, *SHOWN)}


def _distance(
    name: str, value: float, past: NDArray[np.float64], rows: float
) -> tuple[float, float, float, bool] | None:
    """Median, spread, robust z, and whether the value is beyond both limits; None where there is nothing to compare."""
    past = past[np.isfinite(past)]
    if not past.size or not np.isfinite(value):
        return None
    if name == "std" and value > 0 and (past > 0).all():
        # Spreads are skewed to the right; their logarithms are not, and a halving counts as much as a doubling.
        median, spread, z, alarm = _distance("log_std", float(np.log(value)), np.log(past), rows) or (
            0.0,
            0.0,
            0.0,
            False,
        )
        return float(np.exp(median)), float(np.exp(median) * spread), z, alarm
    median = float(np.median(past))
    spread = _MAD * float(np.median(np.abs(past - median)))
    # The half of the history may be one and the same value: then its mean distance stands in.
    spread = spread or float(np.mean(np.abs(past - median)))
    if name.endswith("_share"):
        spread = max(spread, _SHARE_FLOOR, 1.0 / rows)
    elif name in ("missing_bars", "rows"):
        spread = max(spread, 1.0, 0.01 * rows)
    spread = max(spread, _RELATIVE_FLOOR * abs(median), _ABSOLUTE_FLOOR)
    z = (value - median) / spread
    return median, spread, z, abs(z) > Z_LIMIT and not past.min() <= value <= past.max()


def _histogram_rows(column: str, one: pd.Series, earlier: pd.DataFrame, judged: bool) -> list[tuple[object, ...]]:
    tables = _label_tables(one, earlier) if len(one["labels"]) else _bin_tables(column, one, earlier)
    if tables is None:
        return []
    batch, past = tables
    whole = past.sum(axis=0)
    psi, by_chance = population_stability(whole, batch)
    # Each past batch against all the others: what this source is used to.
    sizes = past.sum(axis=1)
    usable = past[(sizes > 0) & (sizes < whole.sum())]
    own = stability(whole - usable, usable)
    median = float(np.median(own)) if len(own) else 0.0
    spread = _MAD * float(np.median(np.abs(own - median))) if len(own) else 0.0
    limit = max(PSI_LIMIT, by_chance, median + Z_LIMIT * spread)
    ks = float(np.max(np.abs(np.cumsum(batch) / batch.sum() - np.cumsum(whole) / whole.sum())))
    enough = judged and len(own) >= MINIMUM_HISTORY
    return [
        (column, "psi", psi, median, spread, psi, limit, True, bool(enough and psi > limit)),
        (column, "ks", ks, np.nan, np.nan, ks, np.nan, False, False),
    ]


def _bin_tables(
    column: str, one: pd.Series, earlier: pd.DataFrame
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    batch = np.asarray(one["counts"], dtype=np.float64)
    edges = list(one["edges"])
    same = [len(row) > 0 and list(row) == edges for row in earlier["edges"]]
    counts = [np.asarray(row, dtype=np.float64) for row in earlier["counts"][same]]
    if not counts and any(reference_edges(earlier)):
        raise DataError(
            f"the histogram of '{column}' has other edges than the history's", hint="pass edges=reference_edges(...)"
        )
    if not counts or not batch.sum():
        return None
    past = np.vstack(counts)
    return (batch, past) if past.sum() else None


def _label_tables(one: pd.Series, earlier: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Counts by category, of the batch and of each past one, over every category that any of them names."""
    held = [
        dict(zip(row["labels"], row["counts"], strict=True)) for row in earlier.to_dict("records") if len(row["labels"])
    ]
    mine = dict(zip(one["labels"], one["counts"], strict=True))
    names = sorted({*mine, *(name for row in held for name in row)})
    if not held:
        return None
    table = np.array([[row.get(name, 0) for name in names] for row in (mine, *held)], dtype=np.float64)
    return table[0], table[1:]
