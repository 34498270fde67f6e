"""From arrays to event frames, and back to what stood at each bar.

A detector works on rows of its bars: a finding starts at a row, ends at one, is confirmed at one and may be invalidated
at a later one. :func:`event_frame` turns such rows into the one events schema; :func:`standing` reads it back by bar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.event_kernels import EMPTY, event_hashes, hexadecimal, newest_standing
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import EVENTS, empty
from tapeline.core.versions import digest

NOT_YET: Final = EMPTY
"""The row of what has not happened on these bars."""

_POINTS: Final = EVENTS.schema.field("points").type
_COLUMNS: Final = tuple(EVENTS.schema.names)


@dataclass(frozen=True)
class Findings:
    """Findings of one kind on one set of bars, as arrays of one length.

    Parameters
    ----------
    kind:
        What was found, such as ``fair_value_gap``.
    direction:
        1 speaks for rising prices, -1 for falling ones, 0 for neither.
    start, end:
        The rows of the first and last bar of its geometry.
    confirmed:
        The row at whose close it was known.
    low, high:
        The prices it lies between; equal for a level.
    invalidated:
        The row at whose close it no longer stood, ``NOT_YET`` where it stands at the last bar. It is the one field
        that may be filled in after the confirmation.
    target, stop, score:
        Prices, and a number whose meaning the detector states; NaN where absent.
    point_rows, point_prices:
        Its corner points in order: two arrays of shape (findings, points).
    """

    kind: str
    direction: NDArray[np.int8]
    start: Rows
    end: Rows
    confirmed: Rows
    low: Floats
    high: Floats
    invalidated: Rows | None = None
    target: Floats | None = None
    stop: Floats | None = None
    score: Floats | None = None
    point_rows: Rows | None = None
    point_prices: Floats | None = None

    def __len__(self) -> int:
        return len(self.start)

    def take(self, chosen: NDArray[np.bool_] | Rows) -> Findings:
        """Some of the findings."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        return Findings(self.kind, **{name: part[chosen] for name, part in columns.items() if part is not None})


_ARRAYS: Final = tuple(one.name for one in fields(Findings) if one.name != "kind")


def event_frame(
    bars: pd.DataFrame | BarArrays, findings: Findings | Sequence[Findings], parameters: Mapping[str, Any]
) -> pd.DataFrame:
    """Findings as rows of the events schema, in the order in which they were confirmed.

    ``start``, ``end`` and the times of the points are the ``ts`` of their bars, as a chart labels them;
    ``confirmed_at`` and ``invalidated_at`` are the ``close_ts`` of theirs: the instants at which a reader could know.
    ``id`` is a content hash of kind, parameters, direction, times, prices and points, of nothing that is learnt after
    the confirmation and of no symbol; so a finding has the same id on the whole history, on a tail and in a stream.

    Parameters
    ----------
    bars:
        Bars with ``close_ts``, by time.
    findings:
        One kind or several. Findings confirmed at the same bar stay in the order given.
    parameters:
        What the detector was run with: part of each id.

    Raises
    ------
    DataError
        The bars lack ``close_ts`` or are not indexed by UTC instants.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = Findings("double", np.array([1], np.int8), np.array([0]), np.array([1]), np.array([2]),
    ...                  low=np.array([9.0]), high=np.array([10.0]))
    >>> frame = event_frame(example_bars(10, 11, 12), found, {"window": 3})
    >>> frame[["direction", "low", "high"]].to_numpy().tolist()
    [[1.0, 9.0, 10.0]]
    >>> str(frame["confirmed_at"].iloc[0]), len(frame["id"].iloc[0])
    ('2017-01-02 03:00:00+00:00', 16)
    """
    arrays = BarArrays.of(bars)
    opened, closed = arrays.opened, arrays.closed
    parts = [findings] if isinstance(findings, Findings) else list(findings)
    if not parts:
        return empty(EVENTS).reset_index()[list(_COLUMNS)]
    kinds = sorted({part.kind for part in parts})
    columns = [_columns(part, kinds, opened, closed, event_seed(part.kind, parameters)) for part in parts]
    confirmed = np.concatenate([part.confirmed for part in parts])
    order = None
    if len(confirmed) > 1 and np.any(np.diff(confirmed) < 0):
        order = np.argsort(confirmed, kind="stable")
    data: dict[str, Any] = {}
    for name in _COLUMNS:
        pieces = [column[name] for column in columns]
        if name in ("id", "points"):
            whole = _arrow(pieces)
            whole = whole if order is None else whole.take(pa.array(order))
            data[name] = pd.array(whole, dtype="str" if name == "id" else pd.ArrowDtype(_POINTS))
            continue
        values = np.concatenate(pieces) if len(pieces) != 1 else pieces[0]
        values = values if order is None else values[order]
        if name == "kind":
            data[name] = pd.Categorical.from_codes(values, dtype=pd.CategoricalDtype(kinds), validate=False)
        elif EVENTS.schema.field(name).type == pa.timestamp("ns", tz="UTC"):
            data[name] = pd.DatetimeIndex(values.view("M8[ns]")).tz_localize("UTC")
        else:
            data[name] = values
    return pd.DataFrame(data)


def event_rows(events: pd.DataFrame, bars: pd.DataFrame | BarArrays) -> tuple[Rows, Rows]:
    """The row of the bars at which each event was first known, and the one at which it no longer stood.

    The first bar that closes at or after the instant; ``len(bars)`` where none does.
    """
    closed = BarArrays.of(bars).closed
    known = closed.searchsorted(pd.DatetimeIndex(events["confirmed_at"]).as_unit("ns").asi8)
    gone = pd.DatetimeIndex(events["invalidated_at"]).as_unit("ns")
    rows = closed.searchsorted(gone.asi8)
    return known, np.where(gone.isna(), len(bars), rows).astype(np.int64)


def standing(
    events: pd.DataFrame, bars: pd.DataFrame, columns: Sequence[str] = ("direction", "low", "high", "score")
) -> pd.DataFrame:
    """What stood at each bar's close: how many of the events, and the newest of them.

    An as-of read: row t knows the events confirmed by the close of bar t, and of their invalidation only what had
    happened by then. What is read of an event is what it was at its confirmation.

    Parameters
    ----------
    events:
        Rows of the events schema in the order of ``confirmed_at``, of one symbol and of any kinds.
    bars:
        Bars of any timeframe with ``close_ts``.
    columns:
        The numeric columns to read of the newest event that stands; NaN where none does.

    Returns
    -------
    A float64 frame on the bars' index: ``count`` (events standing), ``age`` (bars since the newest of them was
    confirmed) and the columns asked for.

    Raises
    ------
    ConfigurationError
        A column that is no number of the events schema.
    DataError
        The events are not in the order of their confirmation.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 11, 12, 13)
    >>> found = Findings("level", np.array([1], np.int8), np.array([0]), np.array([0]), np.array([1]),
    ...                  low=np.array([9.0]), high=np.array([9.5]), invalidated=np.array([3]))
    >>> standing(event_frame(bars, found, {}), bars, ["high"]).to_numpy().tolist()
    [[0.0, nan, nan], [1.0, 0.0, 9.5], [1.0, 1.0, 9.5], [0.0, nan, nan]]
    """
    wrong = [name for name in columns if name not in ("direction", "low", "high", "target", "stop", "score")]
    if wrong:
        raise ConfigurationError(f"{wrong} are no numbers of an event", hint="direction low high target stop score")
    known, gone = event_rows(events, bars)
    if np.any(np.diff(known) < 0):
        raise DataError("events are not in the order of confirmed_at", hint="sort them by it")
    count, newest = newest_standing(known, gone, len(bars))
    there = newest >= 0
    data = {"count": count.astype(np.float64)}
    age = np.full(len(bars), np.nan)
    age[there] = np.flatnonzero(there) - known[newest[there]]
    data["age"] = age
    for name in columns:
        values = np.full(len(bars), np.nan)
        values[there] = events[name].to_numpy(dtype=np.float64)[newest[there]]
        data[name] = values
    return pd.DataFrame(data, index=bars.index)


class Event(NamedTuple):
    """One row of the events schema; NaN and None where absent."""

    id: str
    kind: str
    direction: int
    start: pd.Timestamp
    end: pd.Timestamp
    confirmed_at: pd.Timestamp
    invalidated_at: pd.Timestamp | None
    low: float
    high: float
    target: float
    stop: float
    score: float
    points: tuple[tuple[pd.Timestamp, float], ...]


def event_seed(kind: str, parameters: Mapping[str, Any]) -> np.uint64:
    """What the ids of one kind, found with these parameters, begin with."""
    return np.uint64(int(digest({"kind": kind, "parameters": dict(parameters)}), 16))


def event_records(arrays: BarArrays, part: Findings, seed: np.uint64) -> list[Event]:
    """A few findings one by one, as the same rows that :func:`event_frame` would make of them.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = Findings("level", np.array([1], np.int8), *[np.array([0])] * 3, np.array([9.0]), np.array([10.0]))
    >>> arrays = BarArrays(example_bars(10, 11))
    >>> event_records(arrays, found, event_seed("level", {}))[0].id == event_frame(arrays, found, {})["id"].iloc[0]
    True
    """
    opened, closed = arrays.opened, arrays.closed
    start, end, confirmed = opened[part.start], opened[part.end], closed[part.confirmed]
    times, prices = _points(part, opened)
    hashes = event_hashes(seed, part.direction, start, end, confirmed, part.low, part.high, times, prices)
    absent = [float("nan")] * len(part)
    target, stop, score = (absent if one is None else one.tolist() for one in (part.target, part.stop, part.score))
    gone = [NOT_YET] * len(part) if part.invalidated is None else part.invalidated.tolist()
    return [
        Event(
            id=f"{number:016x}",
            kind=part.kind,
            direction=int(part.direction[i]),
            start=_instant(start[i]),
            end=_instant(end[i]),
            confirmed_at=_instant(confirmed[i]),
            invalidated_at=None if gone[i] == NOT_YET else _instant(closed[gone[i]]),
            low=float(part.low[i]),
            high=float(part.high[i]),
            target=target[i],
            stop=stop[i],
            score=score[i],
            points=tuple(zip(map(_instant, times[i]), prices[i].tolist(), strict=True)),
        )
        for i, number in enumerate(hashes.tolist())
    ]


def _instant(nanoseconds: Any) -> pd.Timestamp:
    return pd.Timestamp(nanoseconds, tz="UTC")


def _points(part: Findings, opened: Rows) -> tuple[Rows, Floats]:
    """When and at which price the corner points of each finding lie."""
    if part.point_rows is None or part.point_prices is None:
        return np.empty((len(part), 0), np.int64), np.empty((len(part), 0))
    return opened[part.point_rows], np.ascontiguousarray(part.point_prices)


def _columns(part: Findings, kinds: list[str], opened: Rows, closed: Rows, seed: np.uint64) -> dict[str, Any]:
    rows = len(part)
    absent = np.full(rows, np.nan)
    invalidated = np.full(rows, NOT_YET) if part.invalidated is None else part.invalidated
    happened = invalidated >= 0
    until = np.full(rows, np.iinfo(np.int64).min)
    until[happened] = closed[invalidated[happened]]
    point_times, point_prices = _points(part, opened)
    start, end, confirmed = opened[part.start], opened[part.end], closed[part.confirmed]
    hashes = event_hashes(seed, part.direction, start, end, confirmed, part.low, part.high, point_times, point_prices)
    return {
        "id": _texts(hashes),
        "kind": np.full(rows, kinds.index(part.kind), np.int8),
        "direction": part.direction,
        "start": start,
        "end": end,
        "confirmed_at": confirmed,
        "invalidated_at": until,
        "low": part.low,
        "high": part.high,
        "target": absent if part.target is None else part.target,
        "stop": absent if part.stop is None else part.stop,
        "score": absent if part.score is None else part.score,
        "points": _lists(point_times, point_prices),
    }


def _texts(hashes: NDArray[np.uint64]) -> pa.Array:
    """Sixteen hexadecimal digits each, laid out as Arrow does, without a Python object a row."""
    offsets = np.arange(0, 16 * len(hashes) + 1, 16, dtype=np.int32)
    return pa.StringArray.from_buffers(len(hashes), pa.py_buffer(offsets), pa.py_buffer(hexadecimal(hashes)))


def _lists(times: Rows, prices: Floats) -> pa.Array:
    rows, points = times.shape
    fields = [pa.array(times.ravel().view("M8[ns]")).cast(_POINTS.value_type[0].type), pa.array(prices.ravel())]
    structs = pa.StructArray.from_arrays(fields, fields=[_POINTS.value_type[0], _POINTS.value_type[1]])
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(points)
    return pa.ListArray.from_arrays(pa.array(offsets), structs, type=_POINTS)


def _arrow(pieces: list[pa.Array]) -> pa.Array:
    return pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)
