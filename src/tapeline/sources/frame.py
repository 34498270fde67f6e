"""The frames that every source hands over: bars as served, rejected rows as they came, and the cut to a request."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tapeline.core.schemas import OHLCV
from tapeline.sources.base import OPTIONAL_COLUMNS, REJECTED_COLUMNS, BarRequest

MAXIMUM_SAFE_TIME = pd.Timestamp.max.value


def make_bars(ts: np.ndarray, values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Bars from open times (int64 nanoseconds since the epoch, UTC) and columns by name, in the schema's order."""
    index = pd.DatetimeIndex(np.asarray(ts, dtype=np.int64).view("M8[ns]"), name="ts").tz_localize("UTC")
    columns: dict[str, Any] = {name: np.asarray(values[name], dtype=np.float64) for name in OHLCV}
    for name in OPTIONAL_COLUMNS:
        if name in values:
            columns[name] = np.asarray(values[name], dtype=np.int64 if name == "tick_count" else np.float64)
    return pd.DataFrame(columns, index=index)


def make_rejected(
    row_numbers: Iterable[int] = (), records: Sequence[str] = (), reasons: Sequence[list[str]] = ()
) -> pd.DataFrame:
    """Rejected rows: position in the original, the row as JSON text, and why; without arguments an empty frame."""
    columns = (
        np.asarray(list(row_numbers), dtype=np.int64),
        pd.array(list(records), dtype="str"),
        pd.Series(list(reasons), dtype=object),
    )
    return pd.DataFrame(dict(zip(REJECTED_COLUMNS, columns, strict=True)))


def as_record(row: Mapping[Any, Any] | Sequence[Any]) -> str:
    """One row as JSON text. Cells that JSON has no word for (NaN, bytes, dates) are written as text, none is dropped.

    Examples
    --------
    >>> as_record({"Close": "=1+1", "Volume": float("nan")})
    '{"Close": "=1+1", "Volume": "nan"}'
    """
    plain = (
        {str(key): _plain(value) for key, value in row.items()}
        if isinstance(row, Mapping)
        else [_plain(value) for value in row]
    )
    return json.dumps(plain, ensure_ascii=False)


def cut(bars: pd.DataFrame, request: BarRequest, now: pd.Timestamp) -> tuple[pd.DataFrame, int]:
    """The bars inside ``[start, end)`` that had closed by ``now``, and how many were held back as unfinished.

    A bar is unfinished by the clock (``ts + timeframe > now``), never because it comes last: the last row of a file is
    usually complete, and the forming bar of a live feed need not come last.
    """
    opened = bars.index.asi8  # type: ignore[attr-defined]
    wanted = np.ones(len(bars), dtype=bool)
    if request.start is not None:
        wanted &= opened >= request.start.as_unit("ns").value
    if request.end is not None:
        wanted &= opened < request.end.as_unit("ns").value
    closed = opened <= now.tz_convert("UTC").as_unit("ns").value - request.timeframe.nanoseconds
    return bars[wanted & closed], int((wanted & ~closed).sum())


def epoch_nanoseconds(stamps: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Integer instants in units of ``scale`` nanoseconds as int64 nanoseconds, with a mask of those that fit.

    A stamp beyond the range of 64-bit nanoseconds (before 1678 or after 2261) would wrap to another century; it is
    marked instead.
    """
    stamps = np.asarray(stamps)
    bound = MAXIMUM_SAFE_TIME // scale
    if stamps.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            fits = np.isfinite(stamps) & (np.abs(stamps) <= bound)
    elif stamps.dtype.kind == "u":
        fits = stamps <= np.uint64(bound)
    else:
        fits = (stamps <= bound) & (stamps >= -bound)
    return np.where(fits, stamps, 0).astype(np.int64) * scale, fits


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
