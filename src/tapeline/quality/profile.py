"""The profile of a batch: what each column of any table looked like, as one row of numbers a column.

Numbers are described as they are. A time that orders the table is described by its steps (seconds from one row to the
next), any other time by its lag behind the row's own time (seconds), because instants themselves only ever grow.
Everything else is described by its values and how often they came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import PROFILES
from tapeline.quality.gaps import find_gaps, summarize
from tapeline.quality.histogram import BINS, counts_of_sorted, equal_share_edges

if TYPE_CHECKING:
    from tapeline.core.timeframe import Timeframe
    from tapeline.quality.calendars import MarketCalendar

QUANTILES: Final[Mapping[str, float]] = {
    "q01": 0.01, "q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95, "q99": 0.99,
}  # fmt: skip
MINIMUM_REFERENCE: Final = 50
"""Values without which a batch sets no edges for those after it."""
MAXIMUM_LABELS: Final = 50
"""Categories that are counted by name; the rest is counted together."""
OTHER: Final = "(other)"
MAXIMUM_TEXT: Final = 200
KINDS: Final = ("number", "time", "category", "nested")
_NUMBERS: Final = ("mean", "std", "skew", "kurtosis", "minimum", *QUANTILES, "maximum")


def profile_batch(
    frame: pd.DataFrame,
    *,
    table: str,
    start: pd.Timestamp,
    end: pd.Timestamp,
    version: str,
    period: str = "all",
    edges: Mapping[str, Sequence[float]] | None = None,
    timeframe: Timeframe | None = None,
    calendar: MarketCalendar | None = None,
) -> pd.DataFrame:
    """Describe every column of a batch.

    Parameters
    ----------
    frame:
        The rows of ``[start, end)`` as the lake gives them: indexed by the table's time.
    table:
        Where they come from, ``<zone>/<name>``.
    start, end, period:
        The batch, half-open, and what it is one of: ``day``, ``week``, ``month`` or ``all``.
    version:
        The hash of the batch's content.
    edges:
        Of each column the inner edges of its histogram, as :func:`reference_edges` gives them; without, they are the
        quantiles of this batch.
    timeframe, calendar:
        Where both are given, the index's row counts the holes between bars by
        :func:`tapeline.quality.gaps.find_gaps`; of ticks, give M1: minutes in which nothing came are counted.

    Returns
    -------
    One row a column, the index first, in the columns of ``audit/profiles``:

    - ``rows`` of the batch, ``count`` of finite values (or present categories), ``nulls`` (absent or NaN),
      ``infinite``; ``uniques`` among the counted;
    - ``mean``, ``std`` (n - 1), ``skew`` and ``kurtosis`` as pandas has them: the adjusted Fisher-Pearson coefficient
      G1 and the excess kurtosis G2, both unbiased under normality (D. N. Joanes and C. A. Gill, The Statistician 47,
      1998, p. 184); NaN below 3 or 4 values and where all values are equal;
    - ``minimum``, ``q01`` to ``q99`` (linear interpolation, R. J. Hyndman and Y. Fan's type 7), ``maximum``;
    - ``first`` and ``last`` instant of a time; ``top``, the most frequent category, and its share of the counted;
    - ``edges`` and ``counts``: the histogram, bin i holding ``edges[i-1] <= x < edges[i]``; ``labels`` and ``counts``
      for a category;
    - ``gaps``, ``missing_bars`` and ``gap_reasons`` (missing bars by reason) on the index's row;
    - ``known_at``: when the last row was known, by the first of ``known_at``, ``t_end``, ``confirmed_at`` and the
      index that the table has.

    Raises
    ------
    DataError
        The frame has no row, or is not indexed by sorted instants inside ``[start, end)``.
    ConfigurationError
        ``start`` is not before ``end``.

    Examples
    --------
    >>> hours = pd.date_range("2017-01-02", periods=4, freq="h", tz="UTC", name="ts", unit="ns")
    >>> frame = pd.DataFrame({"close": [1.0, 2.0, 4.0, np.nan], "source": ["a", "a", "b", "a"]}, index=hours)
    >>> day = {"start": hours[0], "end": hours[0] + pd.Timedelta(days=1)}
    >>> held = profile_batch(frame, table="raw/bars", version="1", **day).set_index("column")
    >>> held.loc["close", ["count", "nulls", "mean", "q50"]].tolist()
    [3.0, 1.0, 2.3333333333333335, 2.0]
    >>> float(held.loc["ts", "mean"])
    3600.0
    >>> held.loc["source", ["labels", "counts", "top"]].tolist()
    [['a', 'b'], [3, 1], 'a']
    """
    index = _checked(frame, start, end)
    rows = [_time_row(index, index, known=None, edges=(edges or {}).get(str(index.name)))]
    for name in frame.columns:
        column = frame[name]
        given = (edges or {}).get(str(name))
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            rows.append(_time_row(pd.DatetimeIndex(column), index, known=str(name), edges=given))
        elif pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
            rows.append({"column": str(name), "kind": "number", **describe_numbers(_floats(column), given)})
        else:
            rows.append({"column": str(name), **_describe_values(column)})
    rows[0].update(_gap_counts(index, timeframe, calendar, start, end))
    head = {"ts": start, "end": end, "known_at": _known_at(frame, index), "period": period, "table": table}
    blank = dict.fromkeys(PROFILES.schema.names)
    full = [{**blank, **_EMPTY, **head, "version": version, "rows": len(frame), **row} for row in rows]
    return pd.DataFrame(full, columns=PROFILES.schema.names).astype(_DTYPES)


def with_changes(frame: pd.DataFrame) -> pd.DataFrame:
    """Add what is stationary in a table whose prices are not, so that drift can be told from a market that moved.

    ``log_return`` and ``log_range`` where there are bars, ``ask_less_bid`` where there are quotes, ``log_return`` of
    the price where there are trades.

    Examples
    --------
    >>> bars = pd.DataFrame({"high": [2.0, 4.0], "low": [1.0, 2.0], "close": [1.0, 2.0]})
    >>> with_changes(bars)[["log_return", "log_range"]].round(3).values.tolist()
    [[nan, 0.693], [0.693, 0.693]]
    """
    held = set(frame.columns)
    added: dict[str, Any] = {}
    price = "close" if {"high", "low", "close"} <= held else "price" if {"price", "size"} <= held else None
    with np.errstate(divide="ignore", invalid="ignore"):
        if price is not None and "log_return" not in held:
            added["log_return"] = np.log(frame[price] / frame[price].shift())
        if price == "close" and "log_range" not in held:
            added["log_range"] = np.log(frame["high"] / frame["low"])
    if {"bid", "ask"} <= held and "ask_less_bid" not in held:
        added["ask_less_bid"] = frame["ask"] - frame["bid"]
    return frame.assign(**added) if added else frame


def reference_edges(history: pd.DataFrame) -> dict[str, list[float]]:
    """The histogram edges of the earliest profile with 50 values or more, by column: frozen, so that counts add up.

    Parameters
    ----------
    history:
        Stored profiles of one table and period, with ``ts`` as index or column.
    """
    ordered = as_columns(history).sort_values(["ts", "known_at", "version"], kind="stable")
    found: dict[str, list[float]] = {}
    enough = ordered[ordered["count"] >= MINIMUM_REFERENCE]
    for column, edges in zip(enough["column"].astype(str), enough["edges"], strict=True):
        if column not in found and len(edges):
            found[column] = [float(edge) for edge in edges]
    return found


def as_columns(profiles: pd.DataFrame) -> pd.DataFrame:
    """Profiles with ``ts`` as a column, however they came."""
    return profiles if "ts" in profiles.columns else profiles.reset_index()


def index_first(profile: pd.DataFrame) -> pd.DataFrame:
    """One batch's profile with the row of its index first; the lake gives the rows by the names of the columns."""
    batch = as_columns(profile)
    names = batch["column"].astype(str)
    order = next((name for name in ("ts", "confirmed_at") if (names == name).any()), None)
    return batch.iloc[np.argsort((names != order).to_numpy(), kind="stable")].reset_index(drop=True)


def describe_numbers(values: NDArray[np.float64], edges: Sequence[float] | None = None) -> dict[str, Any]:
    """The statistics of one column of numbers and its histogram; see :func:`profile_batch`.

    Examples
    --------
    >>> found = describe_numbers(np.array([1.0, 2.0, 2.0, 7.0, np.nan, np.inf]), [2.0, 5.0])
    >>> found["count"], found["nulls"], found["infinite"], found["uniques"], found["mean"], found["counts"]
    (4, 1, 1, 3, 3.0, [1, 2, 1])
    """
    count, nulls, infinite, mean, span, m2, m3, m4 = _moments(values)
    held = np.sort(values[np.isfinite(values)])
    row: dict[str, Any] = dict.fromkeys(_NUMBERS, np.nan)
    row |= {"count": count, "nulls": nulls, "infinite": infinite, "uniques": 0, "edges": [], "counts": []}
    if not count:
        return row | {"edges": list(edges or []), "counts": [0] * (len(edges) + 1) if edges else []}
    if edges is None:
        # Quantiles of the batch, each once; a constant column keeps one edge, which parts it from what is smaller.
        edges = equal_share_edges(held, BINS).tolist()
    row["uniques"] = 1 + int(np.count_nonzero(np.diff(held)))
    row["mean"], row["minimum"], row["maximum"] = mean, float(held[0]), float(held[-1])
    row.update(zip(QUANTILES, np.quantile(held, list(QUANTILES.values())).tolist(), strict=True))
    row["std"] = float(span * np.sqrt(m2 / (count - 1))) if count > 1 else np.nan
    row["skew"], row["kurtosis"] = _shape(count, m2, m3, m4) if held[0] < held[-1] else (np.nan, np.nan)
    counts = counts_of_sorted(held, np.asarray(edges, dtype=np.float64))
    return row | {"edges": list(edges), "counts": counts.tolist()}


def _shape(count: int, m2: float, m3: float, m4: float) -> tuple[float, float]:
    n = float(count)
    skew = kurtosis = np.nan
    if count > 2:
        skew = n * np.sqrt(n - 1) / (n - 2) * m3 / m2**1.5
    if count > 3:
        kurtosis = (n - 1) / ((n - 2) * (n - 3)) * (n * (n + 1) * m4 / m2**2 - 3 * (n - 1))
    return float(skew), float(kurtosis)


@njit(cache=True)
def _moments(values: np.ndarray) -> tuple[int, int, int, float, float, float, float, float]:
    """Counts, mean, span, and the sums of the 2nd to 4th powers of the distance from the mean in spans."""
    count = nulls = infinite = 0
    lowest, highest = np.inf, -np.inf
    total = 0.0
    shift = 0.0
    for x in values:
        if np.isnan(x):
            nulls += 1
        elif np.isinf(x):
            infinite += 1
        else:
            if count == 0:
                shift = x
            # Summed as distances from the first value, so that a price of 60,000 costs no digits.
            total += x - shift
            count += 1
            lowest, highest = min(lowest, x), max(highest, x)
    if count == 0:
        return count, nulls, infinite, np.nan, np.nan, np.nan, np.nan, np.nan
    mean = shift + total / count
    # Rounding must not move the mean of values out of their range, nor give equal values a spread.
    mean = min(max(mean, lowest), highest)
    # In spans, so that no power of a distance over- or underflows.
    span = highest - lowest
    scale = span if span > 0 else 1.0
    m1 = m2 = m3 = m4 = 0.0
    for x in values:
        if np.isfinite(x):
            d = (x - mean) / scale
            m1 += d
            m2 += d * d
            m3 += d * d * d
            m4 += d * d * d * d
    # What is left of the first power corrects the others for the mean's own rounding.
    e = m1 / count
    return (
        count, nulls, infinite, mean + e * span, span,
        m2 - count * e * e,
        m3 - 3 * e * m2 + 2 * count * e**3,
        m4 - 4 * e * m3 + 6 * e * e * m2 - 3 * count * e**4,
    )  # fmt: skip


def _time_row(
    times: pd.DatetimeIndex, index: pd.DatetimeIndex, *, known: str | None, edges: Sequence[float] | None
) -> dict[str, Any]:
    present = ~np.asarray(times.isna())
    stamps = times.as_unit("ns").asi8
    if known is None:
        seconds, count = np.diff(stamps) / 1e9, len(times)
    else:
        seconds = np.where(present, (stamps - index.as_unit("ns").asi8) / 1e9, np.nan)
        count = int(present.sum())
    row = describe_numbers(seconds.astype(np.float64), edges)
    held = times[present]
    return {
        "column": known or str(index.name), "kind": "time", **row,
        "count": count, "nulls": len(times) - count, "uniques": int(held.nunique()),
        "first": held.min() if count else pd.NaT, "last": held.max() if count else pd.NaT,
    }  # fmt: skip


def _describe_values(column: pd.Series) -> dict[str, Any]:
    """Categories, flags and texts by their frequencies; what cannot be compared (lists) by what is absent alone."""
    present = column[column.notna()]
    count = len(present)
    row: dict[str, Any] = {"kind": "category", "count": count, "nulls": len(column) - count, "labels": [], "counts": []}
    if present.dtype == object and not present.map(lambda value: isinstance(value, str | bool)).all():
        return {**row, "kind": "nested"}
    counted = present.astype(str).value_counts()
    # By count, then by name: ties must not depend on the order of the rows.
    order = np.lexsort((counted.index.to_numpy(dtype=str), -counted.to_numpy()))
    names = [str(counted.index[i])[:MAXIMUM_TEXT] for i in order]
    counts = counted.to_numpy()[order]
    counts = counts[counts > 0]
    names = names[: len(counts)]
    row["uniques"] = len(counts)
    if count:
        row["top"], row["top_share"] = names[0], float(counts[0] / count)
    row["labels"], row["counts"] = names[:MAXIMUM_LABELS], counts[:MAXIMUM_LABELS].tolist()
    if len(counts) > MAXIMUM_LABELS:
        row["labels"] = [*row["labels"], OTHER]
        row["counts"] = [*row["counts"], int(counts[MAXIMUM_LABELS:].sum())]
    return row


def _gap_counts(
    index: pd.DatetimeIndex,
    timeframe: Timeframe | None,
    calendar: MarketCalendar | None,
    start: pd.Timestamp,
    end: pd.Timestamp,
) -> dict[str, Any]:
    if timeframe is None or calendar is None:
        return {}
    opens = pd.DatetimeIndex(index.floor(timeframe.duration).unique()) if timeframe.seconds < 86_400 else index.unique()
    holes = find_gaps(opens, timeframe, calendar, start=start, end=end)
    by_reason = summarize(holes)["missing_bars"]
    due = holes["missing_bars"] > 0
    reasons = ", ".join(f"{name}: {count}" for name, count in by_reason.items() if count)
    return {"gaps": int(due.sum()), "missing_bars": int(by_reason.sum()), "gap_reasons": reasons}


def _checked(frame: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DatetimeIndex:
    if not start < end:
        raise ConfigurationError(f"a batch from {start} to {end} is empty", hint="start must lie before end")
    index = frame.index
    if not len(frame):
        raise DataError(f"no row from {start} to {end} to describe")
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None or index.hasnans:
        raise DataError("the batch is not indexed by instants", hint="read it through the lake")
    if not index.is_monotonic_increasing or index[0] < start or index[-1] >= end:
        raise DataError(f"the batch's rows are not sorted, or not all from {start} to {end}")
    return index if index.name else index.rename("ts")


def _known_at(frame: pd.DataFrame, index: pd.DatetimeIndex) -> pd.Timestamp:
    for name in ("known_at", "t_end", "confirmed_at"):
        if name in frame.columns and frame[name].notna().any():
            return max(frame[name].max(), index[-1])
    return index[-1]


def _floats(column: pd.Series) -> NDArray[np.float64]:
    return np.ascontiguousarray(column.to_numpy(dtype=np.float64, na_value=np.nan))


_EMPTY: Final[Mapping[str, Any]] = {
    "count": 0, "nulls": 0, "infinite": 0, "uniques": 0, "edges": (), "labels": (), "counts": (),
    **dict.fromkeys(_NUMBERS, np.nan), "top_share": np.nan,
}  # fmt: skip
_INSTANTS: Final = "datetime64[ns, UTC]"
_DTYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ts", "end", "known_at", "first", "last"), _INSTANTS),
    **dict.fromkeys(("rows", "count", "nulls", "infinite", "uniques"), "int64"),
    **dict.fromkeys((*_NUMBERS, "top_share"), "float64"),
    **dict.fromkeys(("gaps", "missing_bars"), "Int64"),
}
