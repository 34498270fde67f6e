"""Absent bars: the due ones are put in by an explicit policy, flagged, and never across a closed market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.cleaning.missing import backward_fill_whole, forward_filled, interpolate_whole
from tapeline.cleaning.missing_policy import MissingPolicy
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import PRICES
from tapeline.core.timeframe import Timeframe
from tapeline.quality.calendars import MarketCalendar

MAXIMUM_FILL: Final = 5_000_000
"""Grid steps that one call may look at: a single wrong time stamp must not fill the memory."""

_ZERO: Final = ("volume", "tick_count", "quote_volume", "taker_buy_volume")


@dataclass(frozen=True)
class FilledBars:
    """Bars with the due but absent ones put in, as far as the policy goes.

    Parameters
    ----------
    bars:
        With a boolean column ``filled``: True where no such bar was ever served.
    due:
        How many due bars were absent.
    filled:
        How many of them were put in.
    """

    bars: pd.DataFrame
    due: int
    filled: int


def fill_bars(
    bars: pd.DataFrame,
    timeframe: Timeframe | str,
    calendar: MarketCalendar,
    policy: MissingPolicy,
    *,
    history: pd.DataFrame | None = None,
) -> FilledBars:
    """Put in the bars that were due between two stored ones and are absent.

    A bar that is put in has a volume and a tick count of 0, no spread, the source of the bar before, and is known at
    its close, or when the bar before it was known where that is later. Its close is found by the policy's method; it
    opens at the close before it, and its high and low are the greater and the lesser of the two. With ``forward`` all
    four are the close before.

    Parameters
    ----------
    bars:
        Sorted, unique bars; rows that an earlier call put in carry ``filled`` and count towards the limit, so that a
        second call with the same policy adds nothing.
    calendar:
        Which bars were due. Nothing is carried over a time at which none was due: a night, a weekend, a holiday.
    policy:
        ``none`` only adds the flag, ``drop`` as well: an absent bar is dropped already. The imputers estimate a row
        from its own other values, of which an absent bar has none, and are refused.
    history:
        Bars from before these: a gap between the last of them and the first new bar is filled too.

    Raises
    ------
    ConfigurationError
        An imputer was asked for.
    DataError
        The bars are not sorted and unique, or the gaps hold more than five million steps.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-06 20:00", "2017-01-08 22:00", "2017-01-09 01:00"], tz="UTC", name="ts")
    >>> prices = {"open": [1.0, 2.0, 3.0], "high": 4.0, "low": 0.5, "close": [1.5, 2.5, 3.5], "volume": 9.0}
    >>> done = fill_bars(pd.DataFrame(prices, index=ts), "H1", MarketCalendar.parse("24x5"),
    ...                  MissingPolicy(method="forward", limit=1))
    >>> done.bars.loc["2017-01-08 23:00":"2017-01-09 00:00", ["open", "close", "volume"]].values.tolist(), done.due
    ([[2.5, 2.5, 0.0]], 3)
    """
    timeframe = Timeframe.parse(timeframe)
    if policy.method in ("knn", "iterative", "knn_whole", "iterative_whole"):
        raise ConfigurationError(
            f"the method '{policy.method}' cannot make an absent bar: it has no values to estimate from",
            hint="use forward, or fill_missing() for tables with partly missing rows",
        )
    bars = _flagged(bars)
    lead = _last_before(bars, history)
    held = bars if lead is None else pd.concat([_flagged(lead)[_shared(bars, lead)], bars])
    stamps = pd.DatetimeIndex(held.index).as_unit("ns").asi8
    if (np.diff(stamps) <= 0).any():
        raise DataError("the bars are not sorted and unique in time", hint="split() of tapeline.quality.checks sorts")
    added = due_between(stamps, timeframe, calendar)
    if not added.size or policy.method in ("none", "drop"):
        return FilledBars(bars, len(added), 0)
    whole, filled = _fill(held, stamps, added, timeframe, policy)
    if lead is not None:
        whole = whole[whole.index > lead.index[-1]]
    return FilledBars(whole, len(added), filled)


def due_between(stamps: np.ndarray, timeframe: Timeframe, calendar: MarketCalendar) -> np.ndarray:
    """The open times (ns) of the bars that were due between those at hand, counted on from the bar before each gap.

    Examples
    --------
    >>> ts = pd.DatetimeIndex(["2017-01-06 20:00", "2017-01-08 22:00", "2017-01-09 00:00"], tz="UTC").as_unit("ns")
    >>> [str(pd.Timestamp(t)) for t in due_between(ts.asi8, Timeframe.parse("H1"), MarketCalendar.parse("24x5"))]
    ['2017-01-06 21:00:00', '2017-01-08 23:00:00']
    """
    step = timeframe.nanoseconds
    holes = np.flatnonzero(np.diff(stamps) >= 2 * step)
    starts = stamps[holes] + step
    # Only gaps in which something is due are walked: nights and weekends are most of them.
    some = calendar.due_bars(starts, stamps[holes + 1], timeframe) > 0
    starts, counts = starts[some], ((stamps[holes + 1] - starts) // step)[some]
    total = int(counts.sum())
    if total > MAXIMUM_FILL:
        raise DataError(
            f"the gaps hold {total} steps of {timeframe}, more than {MAXIMUM_FILL}", hint="check the time stamps"
        )
    if not total:
        return np.empty(0, dtype=np.int64)
    ordinal = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    steps = np.repeat(starts, counts) + ordinal * step
    return steps[calendar.due_bars(steps, steps + step, timeframe) > 0]


def session_numbers(stamps: np.ndarray, timeframe: Timeframe | str) -> np.ndarray:
    """One number a run of adjacent bars: a new one wherever a bar does not begin at the end of the one before.

    Among all due bars, stored or put in, such a break is a time at which nothing was due: the market was closed.

    Examples
    --------
    >>> hour = 3_600_000_000_000
    >>> session_numbers(np.array([0, 1, 5, 6]) * hour, "H1").tolist()
    [0, 0, 1, 1]
    """
    breaks = np.diff(stamps) != Timeframe.parse(timeframe).nanoseconds
    return np.r_[np.zeros(min(len(stamps), 1), dtype=np.int64), np.cumsum(breaks)]


def _fill(
    held: pd.DataFrame, stamps: np.ndarray, added: np.ndarray, timeframe: Timeframe, policy: MissingPolicy
) -> tuple[pd.DataFrame, int]:
    merged = np.concatenate([stamps, added])
    order = np.argsort(merged, kind="stable")
    merged = merged[order]
    new = order >= len(stamps)
    before = np.maximum(np.cumsum(~new) - 1, 0)  # the stored row at or before each
    session = session_numbers(merged, timeframe)
    # What an earlier call put in is no measurement: it is found anew, and the limit counts from the true bar.
    earlier = held["filled"].to_numpy(dtype=bool)[before] & ~new
    close = np.where(new | earlier, np.nan, held["close"].to_numpy(dtype=np.float64)[before])[:, None]
    if policy.method == "forward":
        found = forward_filled(close, session, policy.limit)
    elif policy.method == "backward":
        opened = np.where(new | earlier, np.nan, held["open"].to_numpy(dtype=np.float64)[before])[:, None]
        found = np.where(new[:, None], backward_fill_whole(opened, session, policy.limit), close)
    else:
        found = interpolate_whole(close, session, policy.limit, kind=policy.method, stamps=merged)  # type: ignore[arg-type]
    put = new & ~np.isnan(found[:, 0])
    keep = ~new | put
    merged, before, put, found = merged[keep], before[keep], put[keep], found[keep, 0]

    out = held.iloc[before].set_axis(
        pd.DatetimeIndex(merged.view("M8[ns]"), name=held.index.name).tz_localize("UTC"), axis=0
    )
    close = np.where(put, found, out["close"].to_numpy(dtype=np.float64))
    opened = np.where(put, np.r_[np.nan, close[:-1]], out["open"].to_numpy(dtype=np.float64))
    if policy.method == "backward":
        opened = np.where(put, close, opened)
    columns: dict[str, Any] = {
        "open": opened,
        "high": np.where(put, np.maximum(opened, close), out["high"].to_numpy(dtype=np.float64)),
        "low": np.where(put, np.minimum(opened, close), out["low"].to_numpy(dtype=np.float64)),
        "close": close,
        "filled": out["filled"].to_numpy(dtype=bool) | put,
    }
    for name in _ZERO:
        if name in out.columns:
            columns[name] = out[name].mask(put, 0)
    if "spread" in out.columns:
        columns["spread"] = out["spread"].mask(put)
    return _stamped(out.assign(**columns), put, timeframe), int(put.sum())


def _stamped(out: pd.DataFrame, put: np.ndarray, timeframe: Timeframe) -> pd.DataFrame:
    """The times and marks of the rows that were put in; those of the others are not touched."""
    closes = timeframe.closes(pd.DatetimeIndex(out.index)).to_series(index=out.index)
    columns: dict[str, Any] = {}
    if "close_ts" in out.columns:
        columns["close_ts"] = out["close_ts"].mask(put, closes)
    if "known_at" in out.columns:
        columns["known_at"] = out["known_at"].mask(put & (out["known_at"] < closes).to_numpy(), closes)
    for name, value in (("known_at_is_estimate", True), ("revision", 0), ("outlier", False), ("repaired", False)):
        if name in out.columns:
            columns[name] = out[name].mask(put, value).astype(out[name].dtype)
    for name in ("ts_origin", "ingested_at", "data_version"):
        if name in out.columns:
            columns[name] = out[name].mask(put)
    return out.assign(**columns)


def _flagged(bars: pd.DataFrame) -> pd.DataFrame:
    absent = [name for name in PRICES if name not in bars.columns]
    if absent:
        raise DataError(f"the bars lack the columns {absent}")
    if "filled" not in bars.columns:
        return bars.assign(filled=np.zeros(len(bars), dtype=bool))
    if bars["filled"].dtype == bool:
        return bars
    return bars.assign(filled=bars["filled"].astype("boolean").fillna(False).to_numpy(dtype=bool))


def _last_before(bars: pd.DataFrame, history: pd.DataFrame | None) -> pd.DataFrame | None:
    """The last true bar before these and what was put in after it."""
    if history is None or not len(history) or not len(bars):
        return None
    past = history[history.index < bars.index[0]]
    true = np.flatnonzero(~_flagged(past)["filled"].to_numpy())
    return past.iloc[true[-1] :] if true.size else None


def _shared(bars: pd.DataFrame, lead: pd.DataFrame) -> list[str]:
    return [name for name in bars.columns if name in lead.columns or name == "filled"]
