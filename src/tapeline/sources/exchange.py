"""Crypto exchanges over REST, through ccxt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, ProviderError, TapelineError, ThrottledError
from tapeline.core.exchange_errors import UnreadableAnswerError, exchange_error, refine, retry_after_of
from tapeline.core.settings import NetworkSettings
from tapeline.core.symbol import Symbol
from tapeline.core.token_bucket import TokenBucket
from tapeline.sources.base import (
    BarRequest,
    Clock,
    Data,
    Empty,
    Failed,
    Outcome,
    Throttled,
    require,
    unknown_symbol,
    utc_now,
)
from tapeline.sources.frame import as_record, cut, epoch_nanoseconds, make_bars, make_rejected
from tapeline.sources.retry import Retry

MAXIMUM_PAGES: Final = 1000
DEFAULT_PAGE_ROWS: Final = 500
_MILLISECOND: Final = 1_000_000


class ExchangeSource:
    """OHLCV of one exchange that ccxt knows, public data only: no key is needed and none is read.

    A range is fetched in pages that overlap by one bar; rows that repeat the page before are dropped if they are
    identical, kept if they differ. The walk stops at the end of the range, when a page brings nothing new, or after
    ``maximum_pages``; then ``Data.resume_at`` says where to go on. Gaps are information and are never filled.

    Parameters
    ----------
    exchange:
        A ccxt exchange id, such as ``binance``.
    client:
        A ccxt exchange object to use instead of a new one.
    sleep:
        Waits between tries; injected in tests.
    bucket:
        The rate at which the exchange may be asked, shared with its other users in the process (the exchange manager
        hands its own out); ccxt's own limit of this one client where absent.

    Raises
    ------
    ConfigurationError
        ccxt knows no such exchange.
    """

    def __init__(
        self,
        exchange: str,
        network: NetworkSettings,
        *,
        clock: Clock = utc_now,
        sleep: Callable[[float], None] = time.sleep,
        client: Any = None,
        maximum_pages: int = MAXIMUM_PAGES,
        bucket: TokenBucket | None = None,
    ) -> None:
        self.name = f"ccxt:{exchange}"
        self._clock = clock
        self._retry = Retry.of(network, sleep)
        self._maximum_pages = maximum_pages
        self._client = _with_volumes(_guarded(client if client is not None else _new_client(exchange, network)))
        if bucket is not None:
            self._client.throttle = lambda cost=None: bucket.wait(1.0 if cost is None else float(cost), sleep=sleep)

    def symbols(self) -> list[Symbol]:
        """The markets whose names are valid symbols; raises what the exchange's failure is classified as."""
        outcome = self._load_markets()
        if outcome is not None:
            require(outcome)
        names = []
        for name in self._client.symbols:
            try:
                names.append(Symbol.parse(name))
            except ConfigurationError:
                continue  # an exchange may list names that could not safely name a folder
        return sorted(names)

    def fetch(self, request: BarRequest) -> Outcome:
        """Fetch one range, page by page."""
        failure = self._load_markets() or self._refuse(request)
        if failure is not None:
            return failure
        market = self._client.market(request.symbol)
        # Taken before the first page: a bar that closes while the pages arrive may have been read half done.
        now = self._clock()
        pages = _Pages(request, now, self._page_rows(request.symbol))
        for _ in range(self._maximum_pages):
            page = self._retry.run(lambda: self._page(request, pages.since, pages.limit), self._classify)
            if isinstance(page, Throttled | Failed):
                return page
            if not pages.add(page):
                break
        else:
            pages.resume = pages.since
        return self._answer(request, market, pages, now)

    def _page(self, request: BarRequest, since: int | None, limit: int) -> list[list[Any]]:
        page = self._client.fetch_ohlcv(request.symbol, request.timeframe.exchange_name, since, limit)
        if not isinstance(page, list) or not all(isinstance(row, list | tuple) and len(row) >= 6 for row in page):
            raise UnreadableAnswerError(f"{self.name}: the answer holds no rows of time and OHLCV")
        return page

    def _answer(self, request: BarRequest, market: dict[str, Any], pages: _Pages, now: pd.Timestamp) -> Outcome:
        bars, rejected, spoiled = _as_bars(pages.rows)
        bars, unfinished = cut(bars, request, now)
        if bars.empty and rejected.empty:
            if pages.resume is not None:
                return Failed(
                    ConfigurationError(
                        f"{self.name}: no bar of {request.symbol} in {self._maximum_pages} pages from the start",
                        hint="choose a start nearer to the listing",
                    )
                )
            held = f"; {unfinished} had not closed yet" if unfinished else ""
            return Empty(f"{self.name} has no complete {request.timeframe} bar of {request.symbol} in the range{held}")
        notes = [spoiled] if spoiled else []
        if request.start is not None and len(bars) and bars.index[0] >= request.start + request.timeframe.duration:
            notes.append(
                f"{self.name} begins at {bars.index[0].isoformat()}, asked for {request.start.isoformat()}: the market "
                "was not open, not listed, or the exchange keeps no older bars"
            )
        return Data(
            bars,
            rejected,
            source_id=self.name,
            provenance=f"{self.name} REST, market {market.get('id')}, through ccxt",
            unfinished=unfinished,
            resume_at=None if pages.resume is None else pd.Timestamp(pages.resume, unit="ms", tz="UTC").as_unit("ns"),
            notes=tuple(notes),
            ts_origin="exchange",
        )

    def _load_markets(self) -> Throttled | Failed | None:
        if getattr(self._client, "markets", None):
            return None
        outcome = self._retry.run(self._client.load_markets, self._classify)
        return outcome if isinstance(outcome, Throttled | Failed) else None

    def _refuse(self, request: BarRequest) -> Failed | None:
        error: TapelineError | None = None
        if self._client.has.get("fetchOHLCV") is not True:
            error = ConfigurationError(f"{self.name} serves no bars", hint="build them from its trades, or use another")
        elif request.symbol not in self._client.markets:
            error = ProviderError(
                f"{self.name} has no market {str(request.symbol)!r}",
                hint=unknown_symbol(request.symbol, list(self._client.markets), self.name),
            )
        elif request.timeframe.exchange_name not in (self._client.timeframes or {}):
            names = ", ".join(self._client.timeframes or {})
            error = ConfigurationError(f"{self.name} serves no {request.timeframe} bars", hint=f"it has {names}")
        return None if error is None else Failed(error)

    def _page_rows(self, symbol: Symbol) -> int:
        limit = self._client.feature_value(symbol, "fetchOHLCV", "limit", DEFAULT_PAGE_ROWS)
        return int(limit) if isinstance(limit, int) and limit > 1 else DEFAULT_PAGE_ROWS

    def _classify(self, error: Exception) -> Throttled | Failed:
        """What a failure means: the one taxonomy of all exchanges."""
        # ccxt raises some of its errors from the HTTP error and others while it handles it.
        response = getattr(error.__cause__ or error.__context__, "response", None)
        status = getattr(response, "status_code", None)
        wait = retry_after_of(getattr(response, "headers", None))
        found = exchange_error(error, self.name, status=status, retry_after=wait)
        return Throttled(wait, found.message) if isinstance(found, ThrottledError) else Failed(found)


class _Pages:
    """The walk over a range: what to ask for next, and whether the last page brought the walk on."""

    def __init__(self, request: BarRequest, now: pd.Timestamp, limit: int) -> None:
        self.rows: list[list[Any]] = []
        self.limit = limit
        self.resume: int | None = None
        self._step = request.timeframe.nanoseconds // _MILLISECOND
        self._last: int | None = None
        self._page: set[tuple[Any, ...]] = set()
        end = now if request.end is None else min(now, request.end)
        self._end = end.as_unit("ns").value // _MILLISECOND
        self._is_latest = request.start is None
        self.since: int | None
        if request.start is not None:
            self.since = math.ceil(request.start.as_unit("ns").value / _MILLISECOND)
        elif request.end is not None:
            self.since = self._end - limit * self._step
        else:
            self.since = None

    def add(self, page: list[list[Any]]) -> bool:
        """Take a page in; true if another one should follow."""
        fresh = [row for row in page if _key(row) not in self._page]
        self.rows += fresh
        self._page = {_key(row) for row in page}
        if self._is_latest or self.since is None:
            return False
        times = [int(row[0]) for row in page if isinstance(row[0], int | float)]
        newest = max(times, default=None)
        if newest is None:
            # Some exchanges answer with the window [since, since + limit): an empty one may lie in a gap.
            self.since += self.limit * self._step
        elif self._last is not None and newest <= self._last:
            return False
        else:
            self._last = newest
            self.since = newest
        return self.since + self._step < self._end or (newest is None and self.since < self._end)


def _key(row: list[Any]) -> tuple[Any, ...]:
    # NaN differs from itself; its text does not.
    return tuple(str(cell) if isinstance(cell, float) and cell != cell else cell for cell in row[:9])


def _as_bars(rows: list[list[Any]]) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Rows of ``[ms, open, high, low, close, volume]`` as bars; ccxt hands cells it cannot read over as None."""
    grid = np.array([[*row[:9], *[None] * (9 - len(row))] for row in rows], dtype=np.float64).reshape(-1, 9)
    ts, fits = epoch_nanoseconds(grid[:, 0], _MILLISECOND)
    bad = np.flatnonzero(~fits)
    names = ("open", "high", "low", "close", "volume")
    good = grid[fits]
    values = {name: good[:, i + 1] for i, name in enumerate(names)}
    more = good[:, 6:]
    if len(good) and np.isfinite(more).all():
        values |= {"quote_volume": more[:, 0], "tick_count": more[:, 1], "taker_buy_volume": more[:, 2]}
    bars = make_bars(ts[fits], values)
    rejected = make_rejected(bad, [as_record(rows[i]) for i in bad], [["time is missing or cannot be read"]] * len(bad))
    gaps = int(np.isnan(good[:, 1:6]).sum())
    return bars, rejected, f"{gaps} cells were missing or no numbers, and are NaN" if gaps else ""


def _new_client(exchange: str, network: NetworkSettings) -> Any:
    import ccxt

    if exchange not in ccxt.exchanges:
        near = get_close_matches(exchange, ccxt.exchanges, n=3)
        raise ConfigurationError(
            f"ccxt knows no exchange {exchange!r}",
            hint=f"did you mean {', '.join(near)}?" if near else "for instance binance, bybit, kraken, coinbase, okx",
        )
    client = getattr(ccxt, exchange)({"enableRateLimit": True, "timeout": int(network.timeout_seconds * 1000)})
    refine(client)
    return client


def _guarded(client: Any) -> Any:
    """Let no answer but JSON reach ccxt's parsers: they would read a web page letter by letter."""
    fetch = client.fetch

    def fetch_json(url: str, *args: Any, **kwargs: Any) -> Any:
        answer = fetch(url, *args, **kwargs)
        if isinstance(answer, str | bytes):
            start = (answer.decode(errors="replace") if isinstance(answer, bytes) else answer).strip()[:80]
            what = "a web page" if start.startswith("<") else "nothing" if not start else "no JSON"
            raise UnreadableAnswerError(
                f"ccxt:{client.id}: {url.partition('?')[0]} answered with {what}: {start!r}",
                hint="a proxy, a firewall or a block page may stand between",
            )
        return answer

    client.fetch = fetch_json
    return client


def _with_volumes(client: Any) -> Any:
    """Let Binance's quote volume, number of trades and taker-buy volume pass, which ccxt leaves behind.

    A kline is ``[open time, o, h, l, c, volume, close time, quote volume, trades, taker-buy volume, ...]``; of coin-
    margined contracts the volumes mean other things, and are left alone.
    """
    if not str(getattr(client, "id", "")).startswith("binance"):
        return client
    parse = client.parse_ohlcv

    def parse_with_volumes(kline: Any, market: Any = None) -> list[Any]:
        row = parse(kline, market)
        if not isinstance(kline, list) or len(kline) < 11 or (market or {}).get("inverse"):
            return row
        return [*row, *(client.safe_number(kline, place) for place in (7, 8, 9))]

    client.parse_ohlcv = parse_with_volumes
    return client
