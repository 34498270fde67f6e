"""Confluence: all findings in one table, and what they say together at each bar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from tapeline.charts.bar_arrays import BarArrays, Floats, Rows
from tapeline.charts.events import event_frame, event_rows
from tapeline.core.errors import DataError
from tapeline.core.schemas import EVENTS

MaximumAge = Annotated[int, Field(ge=1, le=100_000)]
COLUMNS: Final = ("bullish", "bearish", "bullish_families", "bearish_families", "net_weight", "agreement", "conflict")


def merge(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Events of any origin, a scan, annotations, a calendar, as one table in the order of confirmation, each id once.

    Raises
    ------
    SchemaError
        A table is none of events.

    Examples
    --------
    >>> from tapeline.charts.gaps import fair_value_gap
    >>> from tapeline.core.example import example_bars
    >>> gaps = fair_value_gap(example_bars(10, 14, 15, 15, 12))
    >>> len(merge([gaps, gaps]))
    1
    """
    parts = [table.reset_index() if table.index.name == EVENTS.order else table for table in tables]
    filled = []
    for part in parts:
        EVENTS.to_arrow(part)
        if len(part):
            filled.append(part.assign(kind=part["kind"].astype(str))[list(EVENTS.schema.names)])
    if not filled:
        return event_frame(BarArrays(_no_bars()), [], {})
    whole = pd.concat(filled, ignore_index=True).drop_duplicates("id")
    return whole.sort_values("confirmed_at", kind="stable", ignore_index=True).astype({"kind": "category"})


def confluence(
    events: pd.DataFrame,
    bars: pd.DataFrame | BarArrays,
    *,
    weight: pd.Series | None = None,
    max_age: MaximumAge = 100,
    families: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """What stands at each bar's close, for rising and for falling prices, and how far it agrees.

    Row t reads events confirmed by the close of bar t, for ``max_age`` bars at most, and of their end only what had
    happened by then.

    Parameters
    ----------
    events:
        Rows of the events schema of one symbol, by ``confirmed_at``; those without a direction are not counted.
    weight:
        On the index of the events, such as ``confidence(...)["weight"]``; 1 each where absent.
    families:
        Kinds that say the same, by a common name, so that a break and the order block it confirms count as one voice;
        each kind by itself where absent.

    Returns
    -------
    A float64 frame on the bars' index: ``bullish`` and ``bearish`` (events standing), ``bullish_families`` and
    ``bearish_families`` (different voices among them), ``net_weight`` (the weights of the bullish less those of the
    bearish), ``agreement`` (the share of the families of the stronger side among all that speak, NaN where none does),
    ``conflict`` (1 where both sides have equally many families, 0 where only one speaks).

    Examples
    --------
    >>> from tapeline.charts.gaps import fair_value_gap
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 14, 15, 15, 12)
    >>> confluence(fair_value_gap(bars), bars)[["bullish", "agreement"]].to_numpy().tolist()[1:]
    [[0.0, nan], [1.0, 1.0], [1.0, 1.0], [0.0, nan]]
    """
    arrays = BarArrays.of(bars)
    known, gone = event_rows(events, arrays)
    if np.any(np.diff(known) < 0):
        raise DataError("events are not in the order of confirmed_at", hint="merge([...]) sorts them")
    direction = events["direction"].to_numpy(dtype=np.int8)
    kinds = events["kind"].astype(str)
    voices = kinds if families is None else kinds.map(lambda kind: families.get(kind, kind))
    codes, names = pd.factorize(voices)
    given = np.ones(len(events)) if weight is None else weight.to_numpy(dtype=np.float64)
    until = np.minimum(np.minimum(gone, known + max_age), len(arrays))
    result = _standing(known, until, direction, codes.astype(np.int64), given, len(names), len(arrays))
    data: dict[str, Floats] = dict(zip(COLUMNS[:5], result, strict=True))
    strong, weak = np.maximum(result[2], result[3]), np.minimum(result[2], result[3])
    with np.errstate(invalid="ignore", divide="ignore"):
        data["agreement"] = np.where(strong > 0, strong / (strong + weak), np.nan)
        data["conflict"] = np.where(strong > 0, weak / strong, 0.0)
    return pd.DataFrame(data, index=arrays.bars.index)


@njit(cache=True, nogil=True)
def _standing(known: Any, until: Any, direction: Any, voice: Any, weight: Any, voices: Any, rows: Any) -> Any:
    result = np.zeros((5, rows))
    # Events that end are found by their row: a list a row, as heads and links.
    heads, links = np.full(rows + 1, -1), np.full(known.size, -1)
    speaking = np.zeros((2, voices), np.int64)
    counts, loud, net, following = np.zeros(2, np.int64), np.zeros(2, np.int64), 0.0, 0
    for t in range(rows):
        ended = heads[t]
        while ended >= 0:
            side = 0 if direction[ended] > 0 else 1
            counts[side] -= 1
            speaking[side, voice[ended]] -= 1
            loud[side] -= speaking[side, voice[ended]] == 0
            net -= weight[ended] if side == 0 else -weight[ended]
            ended = links[ended]
        while following < known.size and known[following] <= t:
            if direction[following] != 0 and until[following] > t:
                side = 0 if direction[following] > 0 else 1
                counts[side] += 1
                loud[side] += speaking[side, voice[following]] == 0
                speaking[side, voice[following]] += 1
                net += weight[following] if side == 0 else -weight[following]
                links[following] = heads[until[following]]
                heads[until[following]] = following
            following += 1
        if counts[0] + counts[1] == 0:
            net = 0.0  # what rounding has left of weights that came and went
        result[0, t], result[1, t] = counts[0], counts[1]
        result[2, t], result[3, t] = loud[0], loud[1]
        result[4, t] = net
    return result


def speaking(
    events: pd.DataFrame,
    bars: pd.DataFrame | BarArrays,
    *,
    at: pd.Timestamp | None = None,
    weight: pd.Series | None = None,
    max_age: MaximumAge = 100,
) -> pd.DataFrame:
    """The events that stand at a bar's close, the weightiest first: what is behind one row of :func:`confluence`.

    Parameters
    ----------
    at:
        The ``ts`` of the bar; the last one where absent.

    Returns
    -------
    The rows of ``events`` with ``age`` (bars) and ``weight``.

    Examples
    --------
    >>> from tapeline.charts.gaps import fair_value_gap
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(10, 14, 15, 15, 12)
    >>> speaking(fair_value_gap(bars), bars, at=bars.index[3])[["kind", "age"]].to_numpy().tolist()
    [['fair_value_gap', 1]]
    """
    arrays = BarArrays.of(bars)
    row = len(arrays) - 1 if at is None else int(np.searchsorted(arrays.opened, at.as_unit("ns").value))
    if not 0 <= row < len(arrays) or (at is not None and arrays.opened[row] != at.as_unit("ns").value):
        raise DataError(f"no bar opens at {at}", hint="name the ts of a bar")
    known, gone = event_rows(events, arrays)
    stands: NDArray[np.bool_] = (known <= row) & (gone > row) & (row - known < max_age)
    ages: Rows = row - known
    given = pd.Series(1.0, index=events.index) if weight is None else weight
    told = events.assign(age=ages, weight=given)[stands & (events["direction"] != 0).to_numpy()]
    return told.sort_values(["weight", "age"], ascending=[False, True], kind="stable")


def _no_bars() -> pd.DataFrame:
    none = pd.DatetimeIndex([], tz="UTC").as_unit("ns")
    return pd.DataFrame({"close_ts": none}, index=none)
