"""Deribit's volatility index DVOL: implied volatility of the next 30 days, for crypto what VIX is for shares.

Endpoint and format: Deribit API v2, public/get_volatility_index_data. Candles of ``[ms, open, high, low, close]`` in
percent a year; a page ends with ``continuation``, the end of the next page to ask for, or null.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, ProviderError, TapelineError, TemporaryError
from tapeline.core.settings import NetworkSettings
from tapeline.core.symbol import Symbol
from tapeline.sources.base import (
    BarRequest,
    Clock,
    Data,
    Empty,
    Failed,
    Outcome,
    Throttled,
    unknown_symbol,
    utc_now,
)
from tapeline.sources.frame import as_record, cut, epoch_nanoseconds, make_bars, make_rejected
from tapeline.sources.retry import Retry

ADDRESS: Final = "https://www.deribit.com/api/v2/public/get_volatility_index_data"
RESOLUTIONS: Final = {"S1": "1", "M1": "60", "H1": "3600", "H12": "43200", "D1": "1D"}
SYMBOLS: Final = {"BTC-DVOL": "BTC", "ETH-DVOL": "ETH"}
MAXIMUM_PAGES: Final = 1000
LATEST_BARS: Final = 1000
_MILLISECOND: Final = 1_000_000
_TOO_MANY: Final = 10028


class DeribitVolatilitySource:
    """Candles of DVOL (``BTC-DVOL``, ``ETH-DVOL``); public, no key. S1 M1 H1 H12 D1.

    Pages come newest first. Each holds at most a thousand candles; all are joined, sorted and each open kept once. The
    index has no volume: the column is 0 and ``volume_kind`` is ``none``.

    Parameters
    ----------
    address:
        Where the endpoint is; another one in tests.
    """

    name = "deribit"

    def __init__(
        self,
        network: NetworkSettings,
        *,
        clock: Clock = utc_now,
        sleep: Callable[[float], None] = time.sleep,
        address: str = ADDRESS,
    ) -> None:
        self._timeout = network.timeout_seconds
        self._clock = clock
        self._retry = Retry.of(network, sleep)
        self._address = address

    def symbols(self) -> list[Symbol]:
        """The two indices."""
        return [Symbol.parse(name) for name in SYMBOLS]

    def fetch(self, request: BarRequest) -> Outcome:
        """Fetch one range."""
        resolution, currency = RESOLUTIONS.get(request.timeframe.name), SYMBOLS.get(request.symbol)
        if resolution is None:
            names = ", ".join(RESOLUTIONS)
            return Failed(ConfigurationError(f"deribit serves no {request.timeframe} bars", hint=f"it has {names}"))
        if currency is None:
            hint = unknown_symbol(request.symbol, list(SYMBOLS), "deribit")
            return Failed(ProviderError(f"deribit has no volatility index {str(request.symbol)!r}", hint=hint))
        now = self._clock()
        end = now if request.end is None else min(now, request.end)
        start = request.start or end - LATEST_BARS * request.timeframe.duration
        last, first = _milliseconds(end) - 1, _milliseconds(start)
        rows: list[list[Any]] = []
        for _ in range(MAXIMUM_PAGES):
            if last < first:
                break
            query = {"currency": currency, "start_timestamp": first, "end_timestamp": last, "resolution": resolution}
            page = self._retry.run(lambda: self._page(query), _classify)  # noqa: B023 - run at once
            if isinstance(page, Throttled | Failed):
                return page
            rows += page[0]
            if page[1] is None or page[1] >= last:
                break
            last = page[1]
        else:
            # Newest pages come first: a part without its beginning must not pass for the range.
            return Failed(
                ConfigurationError(f"deribit: the range needs more than {MAXIMUM_PAGES} pages", hint="ask for less")
            )
        return self._answer(rows, request, now)

    def _answer(self, rows: list[list[Any]], request: BarRequest, now: pd.Timestamp) -> Outcome:
        bars, rejected = _as_bars(rows)
        bars, unfinished = cut(bars, request, now)
        if bars.empty and rejected.empty:
            held = f"; {unfinished} had not closed yet" if unfinished else ""
            return Empty(f"deribit has no complete {request.timeframe} candle of {request.symbol} in the range{held}")
        return Data(
            bars,
            rejected,
            source_id=self.name,
            provenance=f"Deribit public/get_volatility_index_data, {request.symbol}, percent a year",
            volume_kind="none",
            unfinished=unfinished,
            ts_origin="exchange",
        )

    def _page(self, query: dict[str, Any]) -> tuple[list[list[Any]], int | None]:
        import requests

        with requests.get(self._address, params=query, timeout=self._timeout, allow_redirects=False) as response:
            if response.status_code == 429:
                raise _TooManyRequestsError(response.headers.get("Retry-After"))
            if response.status_code >= 500:
                raise TemporaryError(f"deribit: HTTP status {response.status_code}", hint="try again")
            try:
                body = response.json()
            except ValueError as error:
                raise ProviderError(
                    f"deribit: HTTP status {response.status_code} without JSON", hint="a block page may stand between"
                ) from error
        fault = body.get("error") if isinstance(body, dict) else None
        if isinstance(fault, dict):
            if fault.get("code") == _TOO_MANY:
                raise _TooManyRequestsError(None)
            raise ProviderError(f"deribit: error {fault.get('code')}: {str(fault.get('message'))[:200]}")
        result = body.get("result") if isinstance(body, dict) else None
        data = result.get("data") if isinstance(result, dict) else None
        more = result.get("continuation") if isinstance(result, dict) else None
        if not isinstance(data, list) or not all(isinstance(row, list) and len(row) == 5 for row in data):
            raise ProviderError("deribit: the answer holds no candles of time, open, high, low and close")
        return data, more if isinstance(more, int) else None


class _TooManyRequestsError(Exception):
    def __init__(self, after: str | None) -> None:
        super().__init__("too many requests")
        self.after = float(after) if after is not None and after.isdigit() else None


def _as_bars(rows: list[list[Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    read = [_number(cell) for row in rows for cell in row]
    grid = np.array(read, dtype=np.float64).reshape(-1, 5)
    ts, fits = epoch_nanoseconds(grid[:, 0], _MILLISECOND)
    bad = np.flatnonzero(~fits)
    rejected = make_rejected(bad, [as_record(rows[i]) for i in bad], [["time is missing or cannot be read"]] * len(bad))
    order = np.flatnonzero(fits)[np.argsort(ts[fits], kind="stable")]
    # Pages meet at one candle, which both of them hold; of different ones both stay, for the gate to judge.
    plain = pd.DataFrame(grid[order]).drop_duplicates().index.to_numpy()
    order = order[plain]
    values = {name: grid[order, i + 1] for i, name in enumerate(("open", "high", "low", "close"))}
    return make_bars(ts[order], {**values, "volume": np.zeros(len(order))}), rejected


def _number(cell: Any) -> float:
    return float(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else np.nan


def _milliseconds(instant: pd.Timestamp) -> int:
    return int(-(-instant.as_unit("ns").value // _MILLISECOND))


def _classify(error: Exception) -> Throttled | Failed:
    if isinstance(error, _TooManyRequestsError):
        return Throttled(error.after, "deribit: too many requests")
    if isinstance(error, TapelineError):
        return Failed(error)
    message = f"deribit: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    # requests' own exceptions are OSErrors, as the system's are.
    return Failed(TemporaryError(message) if isinstance(error, OSError) else ProviderError(message))
