"""Replay: recorded sessions, trades and bars of the lake, as the batches that they would have been live.

The records go through the same batcher as live ones, so that the clock's records stand in the same places. Nothing of
the wall clock is in them: the same input gives the same records.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tapeline.alerts.engine.evaluator import Batch
from tapeline.alerts.feeds.batcher import Batcher, BatcherOptions, Tick
from tapeline.alerts.feeds.polled_bars import PolledBar, bar_ticks
from tapeline.alerts.feeds.source_names import fault
from tapeline.alerts.processor import Taken
from tapeline.core.errors import DataError
from tapeline.core.symbol import Symbol
from tapeline.streams.dialects.base import Dialect
from tapeline.streams.messages import Trade
from tapeline.streams.recording import merge, read_recording, replay
from tapeline.streams.trade_sequence import TradeSequence

_FAR = 2**62


class Missing(NamedTuple):
    """Records of a symbol are missing here."""

    symbol: str
    ts: int


def replay_batches(
    records: Iterable[Tick | Missing], numbers: Mapping[str, int], *, source: str, options: BatcherOptions | None = None
) -> Iterator[tuple[Batch, Taken]]:
    """Records as batches, each as full as may be.

    Parameters
    ----------
    records:
        In the order in which they are to be taken; :func:`by_time` puts several symbols together.
    numbers:
        ``Evaluator.symbols``.
    source:
        Names their positions.

    Raises
    ------
    DataError
        A record cannot be used, or is of no known symbol.

    Examples
    --------
    >>> ticks = [Tick("BTCUSDT", second * 1_000_000_000, 100.0, 1.0, second) for second in range(5)]
    >>> [(batch, taken)] = replay_batches(ticks, {"BTCUSDT": 0}, source="lake")
    >>> batch.symbols.tolist(), taken.positions
    ([0, -1, 0, -1, 0, -1, 0, -1, 0], {'lake:BTCUSDT': 4})
    """
    batcher = Batcher(numbers, options=options, clock=lambda: 0, block=False)
    most = batcher.options.most
    for record in records:
        if isinstance(record, Missing):
            batcher.gap(record.symbol, record.ts, source)
        else:
            reason = fault(record, _FAR)
            if reason is not None:
                raise DataError(f"{record.symbol} at {record.ts} has {reason}")
            batcher.take(*record[:5], source, record.late)
        while batcher.depth >= most:
            found = batcher.flush(0)
            if found is not None:
                yield found
    while batcher.depth:
        found = batcher.flush(0, force=True)
        if found is not None:
            yield found


def by_time(*streams: Iterable[Tick | Missing]) -> Iterator[Tick | Missing]:
    """Several streams as one by time; at one time the earlier streams come first."""
    return heapq.merge(*streams, key=lambda record: record.ts)


def session_records(
    paths: Sequence[Path], dialect: Dialect, names: Mapping[str, str] | None = None
) -> Iterator[Tick | Missing]:
    """The trades of a recorded session in the order of their ids: each once, and what is missing said in its place.

    A recording has no history to ask: a gap is a gap.

    Parameters
    ----------
    paths:
        Files of one session, see :mod:`tapeline.streams.recording`.
    names:
        The symbols wanted, as the venue spells them, and how they are called here; absent: all, as the venue does.
    """
    sequences: dict[Symbol, TradeSequence] = {}
    for received in replay(merge(*(read_recording(path) for path in paths)), dialect):
        trade = received.record
        if not isinstance(trade, Trade) or (names is not None and trade.symbol not in names):
            continue
        name = str(trade.symbol) if names is None else names[trade.symbol]
        sequence = sequences.setdefault(trade.symbol, TradeSequence())
        rows = sequence.take(trade, received.received)
        while sequence.gap is not None:
            _, more = sequence.give_up()
            yield Missing(name, trade.ts)
            rows += more
        for row in rows:
            one: Any = row.record
            yield Tick(name, one.ts, one.price, one.size, int(one.id), row.late)


def trade_records(trades: pd.DataFrame, symbol: str) -> Iterator[Tick]:
    """Trades of the lake, in their order there.

    Parameters
    ----------
    trades:
        Index ``ts``; columns ``price``, ``size`` and, where it is, ``id``: numbers, that rise.

    Examples
    --------
    >>> index = pd.DatetimeIndex(["2024-01-01"], name="ts", tz="UTC").as_unit("ns")
    >>> list(trade_records(pd.DataFrame({"price": [1.0], "size": [2.0]}, index=index), "BTCUSDT"))
    [Tick(symbol='BTCUSDT', ts=1704067200000000000, price=1.0, size=2.0, sequence=-1, late=False)]
    """
    times = pd.DatetimeIndex(trades.index).as_unit("ns").asi8.tolist()
    if "id" in trades:
        numbers = pd.to_numeric(trades["id"], errors="raise").to_numpy(np.int64).tolist()
    else:
        numbers = [-1] * len(times)
    prices, sizes = trades["price"].to_numpy(np.float64).tolist(), trades["size"].to_numpy(np.float64).tolist()
    for ts, price, size, number in zip(times, prices, sizes, numbers, strict=True):
        yield Tick(symbol, ts, price, size, number)


def bar_records(bars: pd.DataFrame, symbol: str) -> Iterator[Tick]:
    """Bars as the four trades of each that a polled source would have given, see ``polled_bars.bar_ticks``.

    Parameters
    ----------
    bars:
        Index ``ts``; columns ``open high low close volume close_ts``.
    """
    opens = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
    closes = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    columns = (bars[name].to_numpy(np.float64).tolist() for name in ("open", "high", "low", "close", "volume"))
    for ts, duration, *cells in zip(opens.tolist(), (closes - opens).tolist(), *columns, strict=True):
        yield from bar_ticks(symbol, PolledBar(ts, duration, *cells))
