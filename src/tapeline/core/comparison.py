"""How the results of two runs of one component are held against each other: one way a kind of component."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from tapeline.core.errors import DataError, SchemaError
from tapeline.core.registry import Component, Tolerance
from tapeline.core.schemas import EVENTS

SLACK: Final = Tolerance(relative=1e-12, absolute=0.0)
"""What two runs on the same past may differ by.

Not zero, because a vectorised sum may add in another order when an array is longer, and a convolution by FFT spreads
the rounding of one value over all. Both stay near 1e-16 of the largest value. A leak that small carries no
information through float32.
"""


class Results(Protocol):
    """What the audit needs to know of the results of one kind of component. A result is a frame throughout."""

    def check(self, result: Any, bars: pd.DataFrame) -> pd.DataFrame:
        """The result as a frame; DataError where it breaks the contract of its kind."""

    def frame(self, result: Any, bars: pd.DataFrame) -> pd.DataFrame:
        """The same frame from a result that will be compared with a checked one, so that equality stands for it."""

    def known(self, result: pd.DataFrame, bars: pd.DataFrame, cut: int) -> pd.DataFrame:
        """The part of a result that was known when the first ``cut`` bars had closed."""

    def powerless(self, result: pd.DataFrame) -> str | None:
        """Why nothing can be learnt from this result, if so."""

    def rows(self, result: pd.DataFrame, bars: pd.DataFrame) -> np.ndarray:
        """The rows of the bars at which the result says something."""

    def telling(self, result: pd.DataFrame, bars: pd.DataFrame) -> np.ndarray:
        """The cuts that lie right after something rare or new in the result, the rarest first.

        A leak that shows only there is missed by cuts elsewhere: to find it, history must end before what it read.
        """

    def at(self, result: pd.DataFrame, bars: pd.DataFrame, row: int) -> pd.DataFrame:
        """What the result says at one row of the bars."""

    def tail(self, bars: pd.DataFrame, row: int, lookback: int) -> pd.DataFrame:
        """The bars from which the result at one row must follow."""


class FeatureResults:
    """Features: a value a bar, known at its close."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def check(self, result: Any, bars: pd.DataFrame) -> pd.DataFrame:
        """A Series or frame of numbers on the bars' index, with the declared columns and without infinities."""
        if not isinstance(result, pd.Series | pd.DataFrame):
            raise DataError(f"returned {type(result).__name__}, expected a Series or a DataFrame")
        if isinstance(result, pd.Series):
            frame = result.to_frame(self.names[0] if self.names else str(result.name or "value"))
        else:
            frame = result
        if self.names and list(frame.columns) != self.names:
            raise DataError(f"returned the columns {list(frame.columns)}, declared are {self.names}")
        if not frame.index.equals(bars.index):
            raise DataError(f"returned {len(frame)} rows on another index than its {len(bars)} bars")
        wrong = [str(name) for name, kind in frame.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
        if wrong:
            raise DataError(f"returned {wrong} as {frame[wrong[0]].dtype}, expected numbers")
        if any(kind != np.float64 for kind in frame.dtypes):
            frame = frame.astype(np.float64)
        infinite = np.isinf(frame.to_numpy())
        if infinite.any():
            row, column = (int(i[0]) for i in np.nonzero(infinite))
            raise DataError(f"{frame.columns[column]} is infinite at {frame.index[row]}, expected NaN")
        return frame

    def frame(self, result: Any, bars: pd.DataFrame) -> pd.DataFrame:
        """A frame of floats on the result's own index and columns."""
        if isinstance(result, pd.Series):
            result = result.to_frame(self.names[0] if self.names else str(result.name or "value"))
        if not isinstance(result, pd.DataFrame) or any(kind != np.float64 for kind in result.dtypes):
            return self.check(result, bars)
        return result

    def known(self, result: pd.DataFrame, _bars: pd.DataFrame, cut: int) -> pd.DataFrame:
        """The first ``cut`` rows."""
        return result.iloc[:cut]

    def powerless(self, result: pd.DataFrame) -> str | None:
        """A column without a value, or with the same value everywhere, can hide any leak."""
        for name in result.columns:
            values = result[name].to_numpy()
            finite = values[np.isfinite(values)]
            if not finite.size:
                return f"no values to compare: {name} is NaN on all {len(values)} bars"
            # Where values come and go, the pattern of NaN can be compared although the value cannot.
            if _constant(finite) and finite.size >= values.size - 1:
                return f"no power: {name} is {finite[0]:g} on all bars"
        return None

    def rows(self, result: pd.DataFrame, _bars: pd.DataFrame) -> np.ndarray:
        """The rows in which every column has a value."""
        return np.flatnonzero(result.notna().all(axis=1).to_numpy())

    def telling(self, result: pd.DataFrame, _bars: pd.DataFrame) -> np.ndarray:
        """After the rarest values of each column, and after its largest steps, by turns."""
        orders = []
        for column in result.to_numpy().T:
            orders.append(_rarest(column))
            step = np.abs(np.diff(column, prepend=np.nan))
            # Where values set in or cease is a step as well; on equal steps nothing happens at all.
            step[np.isnan(step)] = np.where(np.diff(np.isnan(column), prepend=True), np.inf, 0.0)[np.isnan(step)]
            largest = np.argsort(-step, kind="stable")
            orders.append(largest[step[largest] > 0.0])
        return _by_turns(orders) + 1

    def at(self, result: pd.DataFrame, _bars: pd.DataFrame, row: int) -> pd.DataFrame:
        """One row."""
        return result.iloc[row : row + 1]

    def tail(self, bars: pd.DataFrame, row: int, lookback: int) -> pd.DataFrame:
        """The last ``lookback`` bars up to the row, which is one of them."""
        return bars.iloc[max(row - lookback + 1, 0) : row + 1]


class PatternResults:
    """Events: rows with ``confirmed_at``; only ``invalidated_at`` may be filled in later."""

    def check(self, result: Any, bars: pd.DataFrame) -> pd.DataFrame:
        """Rows of the events schema with unique ids, each confirmed at the close of one of the bars or later."""
        if not isinstance(result, pd.DataFrame):
            raise DataError(f"returned {type(result).__name__}, expected an events frame")
        try:
            EVENTS.to_arrow(result)
        except SchemaError as error:
            raise DataError(f"returned no events frame: {error}") from error
        frame = result.reset_index() if result.index.name == EVENTS.order else result
        if frame["id"].duplicated().any():
            raise DataError(f"the id {frame['id'][frame['id'].duplicated()].iloc[0]!r} stands for two events")
        early = frame["confirmed_at"] < frame["end"]
        if early.any():
            raise DataError(f"event {frame['id'][early].iloc[0]!r} is confirmed before it ends")
        return self.frame(frame, bars)

    def frame(self, result: Any, bars: pd.DataFrame) -> pd.DataFrame:
        """The events by id, in the order of their confirmation."""
        if not isinstance(result, pd.DataFrame):
            return self.check(result, bars)
        frame = result.reset_index() if result.index.name == EVENTS.order else result
        ids = frame["id"].to_numpy(dtype=object)
        order = np.lexsort((ids, pd.DatetimeIndex(frame["confirmed_at"]).asi8))
        return frame.set_index("id").iloc[order]

    def known(self, result: pd.DataFrame, bars: pd.DataFrame, cut: int) -> pd.DataFrame:
        """The events confirmed by then; an invalidation that came later is not known yet."""
        now = bars["close_ts"].iloc[cut - 1]
        then = result[result["confirmed_at"] <= now]
        return then.assign(invalidated_at=then["invalidated_at"].where(then["invalidated_at"] <= now))

    def powerless(self, result: pd.DataFrame) -> str | None:
        """Nothing found, nothing compared."""
        return None if len(result) else "no values to compare: it finds no event on these bars"

    def rows(self, result: pd.DataFrame, bars: pd.DataFrame) -> np.ndarray:
        """The rows at whose close an event was confirmed."""
        closes = pd.DatetimeIndex(bars["close_ts"])
        return np.flatnonzero(closes.isin(pd.DatetimeIndex(result["confirmed_at"])))

    def telling(self, result: pd.DataFrame, bars: pd.DataFrame) -> np.ndarray:
        """At the close that confirms an event of each kind, and one bar before, when it must not be there yet."""
        said = result["kind"].astype(str) + result["direction"].astype(str)
        rows = pd.DatetimeIndex(bars["close_ts"]).searchsorted(pd.DatetimeIndex(result["confirmed_at"]))
        rows = rows[_rarest(pd.factorize(said)[0])]
        return _by_turns([rows + 1, rows])

    def at(self, result: pd.DataFrame, bars: pd.DataFrame, row: int) -> pd.DataFrame:
        """The events confirmed at the close of one bar, without what came of them."""
        chosen = result[result["confirmed_at"] == bars["close_ts"].iloc[row]]
        return chosen.drop(columns="invalidated_at")

    def tail(self, bars: pd.DataFrame, row: int, lookback: int) -> pd.DataFrame:
        """The last ``lookback`` bars up to the row, which is one of them."""
        return bars.iloc[max(row - lookback + 1, 0) : row + 1]


class LabelResults:
    """Labels: rows with ``t_end``; what happens after it must not matter, and before it nothing may be said."""

    def check(self, result: Any, bars: pd.DataFrame) -> pd.DataFrame:
        """``value``, ``t_end`` and ``outcome`` on unique times of the bars; no ``t_end`` before the bar's close."""
        if not isinstance(result, pd.DataFrame):
            raise DataError(f"returned {type(result).__name__}, expected a labels frame")
        absent = {"value", "t_end", "outcome"} - set(result.columns)
        if absent:
            raise DataError(f"returned no column {sorted(absent)}")
        if not (result.index.is_unique and result.index.isin(bars.index).all()):
            raise DataError("labels times that are not times of its bars, or one twice")
        frame = result[result["value"].notna()]
        if (frame["t_end"].isna()).any():
            raise DataError("returned a label without t_end")
        early = frame["t_end"].to_numpy() < bars["close_ts"].reindex(frame.index).to_numpy()
        if early.any():
            raise DataError(f"the label of {frame.index[early][0]} is known before its bar has closed")
        return frame

    def frame(self, result: Any, bars: pd.DataFrame) -> pd.DataFrame:
        """The rows that have a label."""
        return result[result["value"].notna()] if isinstance(result, pd.DataFrame) else self.check(result, bars)

    def known(self, result: pd.DataFrame, bars: pd.DataFrame, cut: int) -> pd.DataFrame:
        """The labels decided by then."""
        return result[result["t_end"] <= bars["close_ts"].iloc[cut - 1]]

    def powerless(self, result: pd.DataFrame) -> str | None:
        """No label, or the same one everywhere."""
        if not len(result):
            return "no values to compare: it labels none of these bars"
        if all(_constant(result[name].to_numpy(dtype=np.float64)) for name in ("value", "outcome")):
            return f"no power: every label is {result['value'].iloc[0]:g}"
        return None

    def rows(self, result: pd.DataFrame, bars: pd.DataFrame) -> np.ndarray:
        """The labelled rows."""
        return np.flatnonzero(bars.index.isin(result.index))

    def telling(self, result: pd.DataFrame, bars: pd.DataFrame) -> np.ndarray:
        """At the close that decides a label of each value, and one bar before, when it must not be there yet."""
        rows = pd.DatetimeIndex(bars["close_ts"]).searchsorted(pd.DatetimeIndex(result["t_end"]))
        rows = rows[_rarest(result["outcome"].to_numpy(dtype=np.float64))]
        return _by_turns([rows + 1, rows])

    def at(self, result: pd.DataFrame, bars: pd.DataFrame, row: int) -> pd.DataFrame:
        """The label of one bar."""
        return result[result.index == bars.index[row]]

    def tail(self, bars: pd.DataFrame, row: int, lookback: int) -> pd.DataFrame:
        """The ``lookback`` bars before the row, the row, and all that follow: a label may read up to its t_end."""
        return bars.iloc[max(row - lookback, 0) :]


def _rarest(values: np.ndarray) -> np.ndarray:
    """The places of the values that are there, the rarest values first, equally rare ones in a drawn order."""
    places = np.flatnonzero(~np.isnan(values))
    _, which, counts = np.unique(values[places], return_inverse=True, return_counts=True)
    drawn = np.random.default_rng(0).permutation(places.size)
    return places[drawn[np.argsort(counts[which[drawn]], kind="stable")]]


def _by_turns(orders: list[np.ndarray]) -> np.ndarray:
    """One from each order by turns, each place once, where it first comes up."""
    turns = np.concatenate([np.arange(order.size) for order in orders])
    places = np.concatenate(orders)[np.argsort(turns, kind="stable")]
    _, first = np.unique(places, return_index=True)
    return places[np.sort(first)]


def _constant(values: np.ndarray) -> bool:
    return bool(np.all((values == values[0]) | (np.isnan(values) & np.isnan(values[0]))))


def results_of(component: Component, names: list[str]) -> Results:
    """How the results of this kind of component are compared."""
    if component.kind == "pattern":
        return PatternResults()
    return LabelResults() if component.kind == "label" else FeatureResults(names)


def difference(expected: pd.DataFrame, actual: pd.DataFrame, tolerance: Tolerance, scale: pd.Series) -> str | None:
    """The first difference between two results, in words; None where they agree within the tolerance.

    Parameters
    ----------
    scale:
        By numeric column, a usual magnitude: the relative tolerance is of this where a value is smaller, since what
        rounds is the largest term of a sum, not the sum.

    Examples
    --------
    >>> a, b = pd.DataFrame({"x": [1.0, 2.0]}), pd.DataFrame({"x": [1.0, 3.0]})
    >>> difference(a, b, SLACK, pd.Series({"x": 1.0}))
    'x at 1: 2.0 became 3.0'
    """
    if expected.equals(actual):
        return None
    if not expected.index.equals(actual.index):
        gone, come = expected.index.difference(actual.index), actual.index.difference(expected.index)
        if len(gone):
            return f"{gone[0]} is missing ({len(gone)} such rows)"
        return f"{come[0]} is new ({len(come)} such rows)" if len(come) else "the rows stand in another order"
    if list(expected.columns) != list(actual.columns):
        return f"the columns {list(expected.columns)} became {list(actual.columns)}"
    for name in expected.columns:
        old, new = expected[name], actual[name]
        if pd.api.types.is_float_dtype(old.dtype):
            before, after = old.to_numpy(dtype=np.float64), new.to_numpy(dtype=np.float64)
            size = np.fmax(np.abs(before), np.fmax(np.abs(after), scale.get(name, 0.0)))
            close = np.abs(before - after) <= tolerance.absolute + tolerance.relative * size
            unequal = ~(close | (before == after) | (np.isnan(before) & np.isnan(after)))
        elif _same(old, new):
            continue
        else:
            unequal = np.array([str(x) != str(y) for x, y in zip(old.tolist(), new.tolist(), strict=True)], dtype=bool)
        if unequal.any():
            row = int(unequal.argmax())
            return f"{name} at {expected.index[row]}: {old.iloc[row]} became {new.iloc[row]}"
    return None


def _same(old: pd.Series, new: pd.Series) -> bool:
    """Whether two columns are surely equal, without an object a value; where not, a reader compares them one by one."""
    if old.dtype != new.dtype:
        return False
    if isinstance(old.dtype, pd.ArrowDtype):
        return pa.chunked_array(pa.array(old.array)).equals(pa.chunked_array(pa.array(new.array)))
    return old.array.equals(new.array)


def scales(result: pd.DataFrame) -> pd.Series:
    """The median magnitude of each float column."""
    numbers = result.select_dtypes(include="float")
    return numbers.abs().median().fillna(0.0)
