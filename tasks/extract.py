"""Extraction: bars of any instrument and timeframe, from a source or from the lake, in the one bar schema."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tapeline.candles.records import TickPrice
from tapeline.candles.resample import extract_bars
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import RAW_BARS, RAW_TICKS, RAW_TRADES, TableSpec
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe, supported
from tapeline.lake.lake import Lake
from tapeline.sources.base import BarRequest, Data, Source
from tapeline.sources.extractor import Choice, Held, Origin, choose, options
from tapeline.sources.history import follow

NANOSECOND = pd.Timedelta(1, unit="ns")
TABLES: dict[Held, TableSpec] = {"bars": RAW_BARS, "ticks": RAW_TICKS, "trades": RAW_TRADES}
COLUMNS = ("open", "high", "low", "close", "volume", "spread", "tick_count", "close_ts")


@dataclass(frozen=True)
class Extract:
    """Bars in the one schema on ``ts`` (the columns are :data:`COLUMNS`), and what they were made from."""

    bars: pd.DataFrame
    choice: Choice
    provenance: str


def held_by_lake(lake: Lake, symbol: Symbol) -> list[tuple[Held, Timeframe]]:
    """What the lake's raw zone holds of an instrument."""
    kinds: dict[str, Held] = {spec.path: kind for kind, spec in TABLES.items()}
    return [(kinds[s.spec.path], s.timeframe) for s in lake.series() if s.symbol == symbol and s.spec.path in kinds]


def extract_from_lake(
    lake: Lake,
    symbol: Symbol,
    timeframe: Timeframe,
    start: pd.Timestamp | None,
    end: pd.Timestamp | None,
    *,
    now: pd.Timestamp,
    origin: Origin | None = None,
    price: TickPrice = "bid",
) -> Extract:
    """Bars from stored bars, trades or ticks: the best of what is there, and which that was.

    Parameters
    ----------
    now:
        The clock that closes the last bar.
    origin:
        Take this kind and no other.
    price:
        The price of ticks.

    Raises
    ------
    DataError
        The lake holds nothing of the instrument that could become such bars.
    """
    choice = choose(timeframe, held_by_lake(lake, symbol), origin=origin)
    spec = TABLES["bars" if choice.origin in ("native bars", "finer bars") else choice.origin]  # type: ignore[index]
    # From the grid on, so that the first bar is whole.
    first = None if start is None else timeframe.floor(pd.DatetimeIndex([start]))[0]
    last = None if end is None else timeframe.floor(pd.DatetimeIndex([end - NANOSECOND]))[0] + timeframe.duration
    frame = lake.read(spec, symbol, choice.timeframe, start=first, end=last)
    bars = _built(frame, choice, timeframe, now=now, price=price)
    return Extract(_cut(bars, start, end), choice, f"{spec.path} {symbol} {choice.timeframe}")


def extract_from_source(
    source: Source, request: BarRequest, *, now: pd.Timestamp, origin: Origin | None = None
) -> Extract:
    """Bars from a source: its own of that timeframe, else its finer ones joined, the coarsest that it serves.

    Raises
    ------
    DataError
        It serves no timeframe that divides the wanted one.
    TapelineError
        What it failed with otherwise.
    """
    wanted = request.timeframe
    refusal: Exception | None = None
    for choice in options(wanted, [("bars", timeframe) for timeframe in supported()]):
        if origin is not None and choice.origin != origin:
            continue
        start = request.start if request.start is None else wanted.floor(pd.DatetimeIndex([request.start]))[0]
        asked = BarRequest(request.symbol, choice.timeframe, start, request.end)
        try:
            outcomes = list(follow(source, asked))
        except ConfigurationError as error:
            # A source without that timeframe says so in these words; every other failure is one.
            if " bars" not in error.message:
                raise
            refusal = error
            continue
        answers = [outcome for outcome in outcomes if isinstance(outcome, Data)]
        if not answers:
            raise DataError(f"{source.name} has no bar in the range: {outcomes[0]}", hint="choose another range")
        frame = pd.concat([answer.bars for answer in answers])
        # Pages of one source may meet at a bar that both hold.
        frame = frame[~frame.index.duplicated(keep="last")].sort_index()
        bars = _built(frame, choice, wanted, now=now, price="mid")
        return Extract(_cut(bars, request.start, request.end), choice, answers[0].provenance)
    raise DataError(f"{source.name} serves no bars that {wanted} bars can be made of: {refusal}")


def _built(
    frame: pd.DataFrame, choice: Choice, wanted: Timeframe, *, now: pd.Timestamp, price: TickPrice
) -> pd.DataFrame:
    if choice.origin == "native bars":
        columns = {name: frame[name] if name in frame.columns else np.nan for name in COLUMNS[:6]}
        counts = frame["tick_count"] if "tick_count" in frame.columns else pd.Series(pd.NA, index=frame.index)
        closes = wanted.closes(pd.DatetimeIndex(frame.index))
        bars = pd.DataFrame({**columns, "tick_count": counts.astype("Int64"), "close_ts": closes}, index=frame.index)
        return bars[np.asarray(bars["close_ts"] <= now)]
    length = choice.timeframe if choice.origin == "finer bars" else None
    given = _given(frame, choice.origin, price)
    bars = extract_bars(given, wanted, frame_timeframe=length, price=price, now=now)
    # Counting finer bars is not counting ticks.
    unknown = choice.origin == "finer bars" and "tick_count" not in given.columns
    return bars.assign(tick_count=bars["tick_count"].astype("Int64").mask(np.full(len(bars), unknown)))


def _given(frame: pd.DataFrame, origin: Origin, price: TickPrice) -> pd.DataFrame:
    """The columns that building needs, without those that are not known throughout."""
    if origin == "trades":
        return frame[["price", "size", "side"]]
    if origin == "finer bars":
        needed, extra = ["open", "high", "low", "close", "volume"], ["spread", "tick_count"]
    else:
        needed, extra = ({"mid": ["bid", "ask"]}.get(price, [price])), ["bid", "ask", "volume"]
        # A tick that only tells the other side has no such price.
        frame = frame.dropna(subset=needed)
    extra = [name for name in extra if name in frame.columns and name not in needed and frame[name].notna().all()]
    return frame[[*needed, *extra]]


def _cut(bars: pd.DataFrame, start: pd.Timestamp | None, end: pd.Timestamp | None) -> pd.DataFrame:
    keep = np.ones(len(bars), dtype=bool)
    if start is not None:
        keep &= np.asarray(bars.index >= start)
    if end is not None:
        keep &= np.asarray(bars.index < end)
    return bars[keep]
