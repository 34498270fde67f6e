"""What each exchange offers: a typed record, from what ccxt declares and from what the dialects here can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

import pandas as pd

from tapeline.core.errors import ConfigurationError

StreamChannel: TypeAlias = Literal["trades", "quotes", "book", "bars"]

OANDA: Final = "oanda"
PARSED: Final[Mapping[str, tuple[str, ...]]] = {
    "binance": ("trades", "quotes", "book", "bars", "ticker"),
    "binanceusdm": ("trades", "quotes", "book", "bars", "ticker"),
    "bitstamp": ("trades", "book"),
    "bybit": ("trades", "book", "ticker"),
    "coinbase": ("trades", "quotes", "book", "ticker"),
    "coinbaseexchange": ("trades", "book", "ticker"),
    "deribit": ("trades", "quotes", "book", "ticker"),
    "kraken": ("trades", "quotes", "book", "ticker"),
    "krakenfutures": ("trades", "book", "ticker"),
    "okx": ("trades", "quotes", "book", "ticker"),
    OANDA: ("quotes",),
}
"""What the dialects of :mod:`tapeline.streams.dialects` read of each venue's messages, live or recorded.

BitMEX has a dialect too, but ccxt no longer has BitMEX, so that the manager cannot open it.
"""

OANDA_TIMEFRAMES: Final[Mapping[str, str]] = {
    "5s": "S5", "10s": "S10", "15s": "S15", "30s": "S30", "1m": "M1", "2m": "M2", "4m": "M4", "5m": "M5",
    "10m": "M10", "15m": "M15", "30m": "M30", "1h": "H1", "2h": "H2", "3h": "H3", "4h": "H4", "6h": "H6",
    "8h": "H8", "12h": "H12", "1d": "D", "1w": "W", "1M": "M",
}  # fmt: skip
"""OANDA's granularities by the exchange name of a timeframe (v20 documentation, ``CandlestickGranularity``)."""

OANDA_PAGE: Final = 5_000
OANDA_REQUESTS_PER_SECOND: Final = 100.0
"""On one persistent connection (v20 documentation, "Best Practices", connection limits)."""


@dataclass(frozen=True)
class Capabilities:
    """What one exchange offers through the exchange manager.

    Parameters
    ----------
    exchange:
        The name that the manager opens it by.
    bars, trades, ticker, order_book, server_time:
        Whether its REST side serves them itself; what ccxt only emulates does not count.
    timeframes:
        Of its bars, in the exchanges' spelling (``1m``); empty where there are none.
    balance:
        Whether the private balance can be read with credentials.
    stream_trades, stream_quotes, stream_book, stream_bars:
        Whether they can be watched live.
    parsed:
        What a dialect here reads of the venue's own messages; see :data:`PARSED`.
    credentials:
        The settings that private calls need, of ``key secret password token account``.
    sandbox:
        Whether there is a test environment.
    requests_per_second:
        The venue's published limit for requests of cost 1.
    bars_page, trades_page:
        Rows an answer holds at most; None where that is not known.
    traded_volume:
        True where the volume of a bar is what was traded, False where it counts price changes.
    """

    exchange: str
    bars: bool
    timeframes: tuple[str, ...]
    trades: bool
    ticker: bool
    order_book: bool
    server_time: bool
    balance: bool
    stream_trades: bool
    stream_quotes: bool
    stream_book: bool
    stream_bars: bool
    parsed: tuple[str, ...]
    credentials: tuple[str, ...]
    sandbox: bool
    requests_per_second: float
    bars_page: int | None
    trades_page: int | None
    traded_volume: bool

    def streams(self, channel: StreamChannel) -> bool:
        """Whether a channel can be watched live."""
        return bool(getattr(self, f"stream_{channel}"))


_CHANNELS: Final[tuple[StreamChannel, ...]] = ("trades", "quotes", "book", "bars")
_REST: Final = ("bars", "trades", "ticker", "order_book", "server_time", "balance")
_CREDENTIALS: Final = {"apiKey": "key", "secret": "secret", "password": "password", "token": "token", "uid": "account"}


@lru_cache(maxsize=256)
def capabilities(exchange: str) -> Capabilities:
    """What an exchange offers. Nothing is asked of the venue.

    Parameters
    ----------
    exchange:
        ``oanda`` or an id of ccxt.

    Raises
    ------
    ConfigurationError
        There is no such exchange.

    Examples
    --------
    >>> oanda = capabilities("oanda")
    >>> oanda.bars, oanda.trades, oanda.traded_volume, oanda.bars_page
    (True, False, False, 5000)
    """
    if exchange == OANDA:
        return Capabilities(
            exchange, bars=True, timeframes=tuple(OANDA_TIMEFRAMES), trades=False, ticker=True, order_book=True,
            server_time=False, balance=True, stream_trades=False, stream_quotes=True, stream_book=False,
            stream_bars=False, parsed=PARSED[OANDA], credentials=("token", "account"), sandbox=True,
            requests_per_second=OANDA_REQUESTS_PER_SECOND, bars_page=OANDA_PAGE, trades_page=None, traded_volume=False,
        )  # fmt: skip
    return capabilities_of(ccxt_class(exchange)())


def capabilities_of(client: Any) -> Capabilities:
    """What a client of ccxt declares."""
    has = client.has
    bars = has.get("fetchOHLCV") is True
    return Capabilities(
        exchange=client.id,
        bars=bars,
        timeframes=tuple(client.timeframes or {}) if bars else (),
        trades=has.get("fetchTrades") is True,
        ticker=has.get("fetchTicker") is True,
        order_book=has.get("fetchOrderBook") is True,
        server_time=has.get("fetchTime") is True,
        balance=has.get("fetchBalance") is True,
        stream_trades=has.get("watchTrades") is True,
        stream_quotes=has.get("watchBidsAsks") is True or has.get("watchTicker") is True,
        stream_book=has.get("watchOrderBook") is True,
        stream_bars=has.get("watchOHLCV") is True,
        parsed=PARSED.get(client.id, ()),
        credentials=tuple(
            _CREDENTIALS.get(name, name) for name, needed in client.requiredCredentials.items() if needed
        ),
        sandbox=bool(client.urls.get("test")),
        requests_per_second=1000.0 / client.rateLimit,
        bars_page=_page(client, "fetchOHLCV"),
        trades_page=_page(client, "fetchTrades"),
        traded_volume=True,
    )


def capability_table(exchanges: tuple[str, ...] | None = None) -> pd.DataFrame:
    """The capabilities of several exchanges, a row each; of all that a dialect here reads where none is named.

    Examples
    --------
    >>> capability_table(("oanda",))[["exchange", "credentials"]].iloc[0].tolist()
    ['oanda', ('token', 'account')]
    """
    names = [field.name for field in fields(Capabilities)]
    rows = [capabilities(exchange) for exchange in exchanges or sorted(PARSED)]
    return pd.DataFrame([[getattr(row, name) for name in names] for row in rows], columns=names)


def capabilities_summary(exchanges: tuple[str, ...] | None = None) -> pd.DataFrame:
    """The same for people: what belongs together in one column of words.

    Examples
    --------
    >>> capabilities_summary(("oanda",)).iloc[0][["rest", "streams", "volume"]].tolist()
    ['bars ticker order_book balance', 'quotes', 'price changes']
    """
    rows = []
    for each in (capabilities(exchange) for exchange in exchanges or sorted(PARSED)):
        rest = [name for name in _REST if getattr(each, name)]
        streams = [channel for channel in _CHANNELS if each.streams(channel)]
        rows.append(
            {
                "exchange": each.exchange,
                "rest": " ".join(rest),
                "streams": " ".join(streams),
                "read natively": " ".join(each.parsed),
                "credentials": ", ".join(each.credentials),
                "sandbox": "yes" if each.sandbox else "no",
                "requests/s": each.requests_per_second,
                "bars a page": "" if each.bars_page is None else str(each.bars_page),
                "volume": "traded" if each.traded_volume else "price changes",
            }
        )
    return pd.DataFrame(rows)


def ccxt_class(exchange: str) -> Any:
    """The class of an exchange: ccxt's with streams where it has one, else the one with REST only.

    Raises
    ------
    ConfigurationError
        ccxt knows no such exchange.
    """
    import ccxt.async_support as rest
    import ccxt.pro as streaming

    if exchange not in rest.exchanges:
        near = get_close_matches(exchange, [OANDA, *rest.exchanges], n=3)
        raise ConfigurationError(
            f"there is no exchange {exchange!r}",
            hint=f"did you mean {', '.join(near)}?" if near else "oanda, or an id of ccxt such as binance or kraken",
        )
    return getattr(streaming if exchange in streaming.exchanges else rest, exchange)


def _page(client: Any, method: str) -> int | None:
    features = client.features or {}
    for part in (features.get("spot"), (features.get("swap") or {}).get("linear"), features.get("default")):
        limit = ((part or {}).get(method) or {}).get("limit")
        if isinstance(limit, int) and limit > 0:
            return limit
    return None
