"""What each exchange offers, from ccxt's own declarations and from what the dialects read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ccxt
import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.timeframe import supported
from tapeline.streams.capabilities import OANDA_TIMEFRAMES, PARSED, capabilities, capability_table
from tapeline.streams.messages import BookDelta, BookSnapshot, Candle, Quote, Ticker, Trade
from tests.streams.sessions import SESSIONS
from tests.streams.test_dialects import VALID

NAMED = ("binance", "bybit", "kraken", "coinbase", "okx", "oanda")
CHANNEL = {Trade: "trades", Quote: "quotes", BookDelta: "book", BookSnapshot: "book", Candle: "bars", Ticker: "ticker"}
RECORDED = {
    "binance": "binance spot 2021",
    "binanceusdm": "binance futures 2021",
    "coinbaseexchange": "coinbase",
    "deribit": "deribit",
    "kraken": "kraken",
    "krakenfutures": "kraken futures",
}


@pytest.mark.parametrize("exchange", NAMED)
def test_the_venues_named_by_everybody_offer_bars_books_quotes_and_balances(exchange: str) -> None:
    found = capabilities(exchange)
    assert found.bars
    assert {"1m", "1h", "1d"} <= set(found.timeframes)
    assert found.order_book
    assert found.balance
    assert found.stream_quotes
    assert found.credentials
    assert found.requests_per_second > 0.5
    assert found.traded_volume is (exchange != "oanda")
    assert found.trades is (exchange != "oanda")


@pytest.mark.parametrize("exchange", ["binance", "kraken", "bitstamp", "mexc", "luno"])
def test_the_record_says_what_ccxt_declares(exchange: str) -> None:
    found, client = capabilities(exchange), getattr(ccxt, exchange)()
    assert found.bars == (client.has["fetchOHLCV"] is True)
    assert found.trades == (client.has["fetchTrades"] is True)
    assert set(found.timeframes) == (set(client.timeframes or {}) if found.bars else set())
    assert found.requests_per_second == pytest.approx(1_000 / client.rateLimit)
    assert ("secret" in found.credentials) == bool(client.requiredCredentials["secret"])


def test_page_limits_and_rates_are_the_published_ones() -> None:
    # Binance: 6,000 of weight a minute, in units of a fifth; Kraken: one call a second; both from their documentation.
    assert capabilities("binance").bars_page == 1_000
    assert capabilities("kraken").bars_page == 720
    assert capabilities("kraken").requests_per_second == 1.0
    assert capabilities("okx").credentials == ("key", "secret", "password")


def test_what_is_said_to_be_parsed_was_read_from_recordings(test_data: Path) -> None:
    for exchange, name in RECORDED.items():
        kinds = {CHANNEL.get(type(received.record)) for received in SESSIONS[name].records(test_data)}
        assert kinds - {None} <= set(PARSED[exchange]), exchange
        assert "book" in kinds, exchange


def test_oandas_dialect_reads_what_the_table_says() -> None:
    dialect = next(kind for kind in VALID if kind.venue == "oanda")
    kinds = {type(record) for raw in VALID[dialect] for record in dialect().parse(raw)}
    assert Quote in kinds
    assert PARSED["oanda"] == ("quotes",)
    ours = {frame.exchange_name for frame in supported() if not frame.is_tick}
    assert len(ours & set(OANDA_TIMEFRAMES)) >= 8


def test_the_table_has_a_row_an_exchange() -> None:
    table = capability_table()
    assert table["exchange"].tolist() == sorted(PARSED)
    assert table["requests_per_second"].gt(0).all()


def test_unknown_exchanges_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match="did you mean kraken"):
        capabilities("krakn")
    with pytest.raises(ConfigurationError, match="no exchange"):
        capabilities("__init__")


def test_the_modules_import_without_ccxt() -> None:
    code = (
        "import sys, tapeline.streams.exchange_manager, tapeline.core.exchange_errors; "
        "sys.exit(any(name in sys.modules for name in ('ccxt', 'aiohttp')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_line_lists_them() -> None:
    from typer.testing import CliRunner

    from tapeline.cli import application

    shown = CliRunner().invoke(application, ["exchanges", "kraken", "oanda"], env={"COLUMNS": "300"})
    assert shown.exit_code == 0
    assert "kraken" in shown.output
    assert "token, account" in shown.output
