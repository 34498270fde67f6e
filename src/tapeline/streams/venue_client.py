"""What the exchange manager asks of every venue, whichever way it is reached."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import pandas as pd

from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.streams.capabilities import Capabilities, StreamChannel
from tapeline.streams.messages import BookSnapshot, Record, Ticker, Trade

BAR_COLUMNS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Market:
    """One instrument of a venue.

    Parameters
    ----------
    symbol:
        The name that every call here takes.
    venue_id:
        The venue's own name of it.
    base, quote:
        What is traded, and what it is priced in; empty where the venue does not say.
    active:
        Whether it can be traded, as the venue says.
    """

    symbol: Symbol
    venue_id: str
    base: str
    quote: str
    active: bool


@dataclass(frozen=True)
class Balance:
    """What an account holds of one currency, in units of it."""

    currency: str
    free: float
    used: float
    total: float


Batches: TypeAlias = AsyncIterator[Sequence[Record]]
Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Batches]]
"""Opens one session of a stream: what is iterated is each arrival's records; leaving it closes the socket."""


class VenueClient(Protocol):
    """One venue, one client. What it raises are errors of :mod:`tapeline.core.exchange_errors` only.

    Times are nanoseconds since the epoch, UTC.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it offers."""
        ...

    async def markets(self) -> list[Market]:
        """Its instruments, by symbol; those whose names are no valid symbols are left out."""
        ...

    async def bars(
        self, symbol: Symbol, timeframe: Timeframe, *, start: int | None, limit: int | None, now: int
    ) -> pd.DataFrame:
        """One page of bars that had closed by ``now``, from ``start`` on, else the latest."""
        ...

    async def trades(self, symbol: Symbol, *, start: int | None, limit: int | None) -> list[Trade]:
        """One page of trades, oldest first."""
        ...

    async def ticker(self, symbol: Symbol) -> Ticker:
        """The rolling summary."""
        ...

    async def order_book(self, symbol: Symbol, *, limit: int | None) -> BookSnapshot:
        """The book's best levels."""
        ...

    async def server_time(self) -> int:
        """The venue's clock."""
        ...

    async def balance(self) -> list[Balance]:
        """What the account holds; needs credentials."""
        ...

    def watch(self, channel: StreamChannel, symbols: Sequence[Symbol], timeframe: Timeframe | None) -> Connect:
        """How to open a session of a stream."""
        ...

    async def close(self) -> None:
        """Close what is open; a second time does nothing."""
        ...


def closed_bars(
    rows: Sequence[tuple[float, ...]], timeframe: Timeframe, now: int, *, more: Sequence[str] = ()
) -> pd.DataFrame:
    """Bars of rows ``(open time in ns, open, high, low, close, volume, *more)`` that had closed by ``now``.

    Returns
    -------
    Index ``ts`` (UTC, ns; the bar's open, sorted, unique: of two rows of one time the later one), float64 columns.

    Examples
    --------
    >>> rows = [(0, 1.0, 2.0, 0.5, 1.5, 7.0), (60_000_000_000, 1.5, 1.6, 1.4, 1.5, 2.0)]
    >>> closed_bars(rows, Timeframe.parse("M1"), now=90_000_000_000)["close"].tolist()
    [1.5]
    """
    columns = [*BAR_COLUMNS, *more]
    index = pd.DatetimeIndex(pd.to_datetime([row[0] for row in rows], unit="ns", utc=True), name="ts").as_unit("ns")
    values = {name: [float(row[place]) for row in rows] for place, name in enumerate(columns, start=1)}
    bars = pd.DataFrame(values, index=index, columns=columns, dtype="float64").sort_index(kind="stable")
    bars = bars[~bars.index.duplicated(keep="last")]
    stamps = pd.DatetimeIndex(bars.index)
    return bars[timeframe.closes(stamps) <= pd.Timestamp(now, unit="ns", tz="UTC")]
