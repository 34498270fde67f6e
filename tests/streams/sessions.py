"""The recorded sessions, and how each is replayed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tapeline.streams.book_sync import LiveBooks
from tapeline.streams.dialects.base import Dialect
from tapeline.streams.dialects.binance import Binance
from tapeline.streams.dialects.bitmex import Bitmex
from tapeline.streams.dialects.bybit import Bybit
from tapeline.streams.dialects.coinbase import Coinbase
from tapeline.streams.dialects.deribit import Deribit
from tapeline.streams.dialects.kraken import Kraken
from tapeline.streams.dialects.kraken_futures import KrakenFutures
from tapeline.streams.recording import Received, merge, read_recording, replay

L2 = "data/binance_ws_l2_2024"
WS = "api/ws_recordings"


@dataclass(frozen=True)
class Session:
    """One recorded session: its files, its dialect, the rule of its books, and how many deltas it holds."""

    files: tuple[str, ...]
    dialect: type[Dialect]
    market: str
    books: int
    deltas: int
    symbol: str | None = None

    def records(self, folder: Path) -> Iterator[Received]:
        dialect = Binance(symbol=self.symbol) if self.symbol else self.dialect()
        messages = merge(*(read_recording(folder / name) for name in self.files))
        return replay(messages, dialect, symbol_in_url="symbol")

    def new_books(self) -> LiveBooks:
        return LiveBooks(self.market)


SESSIONS = {
    "binance spot 2024": Session((f"{L2}/spot/btcusdt_20240808.gz",), Binance, "binance", 1, 3_451, "BTCUSDT"),
    "binance futures 2024": Session(
        (f"{L2}/usdm/btcusdt_20240808.gz",), Binance, "binance-futures", 1, 6_551, "BTCUSDT"
    ),
    "binance spot 2021": Session((f"{WS}/BINANCE.ws.1.0", f"{WS}/BINANCE.http.0.0"), Binance, "binance", 4, 177),
    "binance futures 2021": Session(
        (f"{WS}/BINANCE_FUTURES.ws.1.0", f"{WS}/BINANCE_FUTURES.http.0.0"), Binance, "binance-futures", 4, 764
    ),
    "kraken": Session((f"{WS}/KRAKEN.ws.50.0",), Kraken, "kraken", 10, 4_269),
    "kraken futures": Session((f"{WS}/KRAKEN_FUTURES.ws.1.0",), KrakenFutures, "kraken-futures", 10, 7_014),
    "coinbase": Session((f"{WS}/COINBASE.ws.28.0",), Coinbase, "coinbase", 10, 9_719),
    "bybit linear": Session((f"{WS}/BYBIT.ws.25.0",), Bybit, "bybit-v2", 8, 3_252),
    "bybit inverse": Session((f"{WS}/BYBIT.ws.26.0",), Bybit, "bybit-v2", 2, 1_016),
    "deribit": Session((f"{WS}/DERIBIT.ws.1.0",), Deribit, "deribit", 10, 36),
    "bitmex": Session((f"{WS}/BITMEX.ws.1.0",), Bitmex, "bitmex", 10, 1_969),
}
