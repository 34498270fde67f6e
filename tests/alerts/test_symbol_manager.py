"""The universe, names at sources, and who holds what: counted from what stands, refused where it contradicts."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tapeline.alerts.exchange_listings import read_listings
from tapeline.alerts.source_aliases import SourceAliases
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.store.store import UnknownRecordError
from tapeline.alerts.symbol_manager import Instrument, SymbolManager
from tapeline.alerts.symbol_references import SymbolConflictError
from tapeline.core.errors import ConfigurationError, DataError

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def symbols(store: SqlStore, clock: Clock) -> Iterator[SymbolManager]:
    made = SymbolManager(store.database, clock=clock)
    made.add(
        [Instrument("BTCUSD", "BTC", "USD"), Instrument("BTCUSDT", "BTC", "USDT"), Instrument("ETHUSDT")], by="root"
    )
    return made


def test_one_symbol_under_its_name_at_each_source(symbols: SymbolManager) -> None:
    for source, name in (("binance", "BTCUSD"), ("yahoo", "BTC-USD"), ("kraken", "XBT/USD")):
        symbols.name(source, name, "BTCUSD")
        symbols.name(source, name, "BTCUSD")
        assert symbols.resolve(source, name) == "BTCUSD"
    assert symbols.names(["BTCUSD"]) == {"BTCUSD": {"binance": "BTCUSD", "yahoo": "BTC-USD", "kraken": "XBT/USD"}}
    with pytest.raises(SymbolConflictError, match="XBT/USD of kraken is BTCUSD already"):
        symbols.name("kraken", "XBT/USD", "BTCUSDT")
    with pytest.raises(SymbolConflictError, match="BTCUSD of kraken is called XBT/USD there already"):
        symbols.name("kraken", "BTC/USD", "BTCUSD")
    with pytest.raises(UnknownRecordError):
        symbols.name("kraken", "DOGE/USD", "DOGEUSD")
    assert symbols.unname("kraken", "XBT/USD")
    assert not symbols.unname("kraken", "XBT/USD")
    assert symbols.resolve("kraken", "XBT/USD") is None
    # One instrument with its names is one transaction.
    with pytest.raises(SymbolConflictError):
        symbols.put(Instrument("NEWUSD"), {"coinbase": "NEW-USD", "yahoo": "BTC-USD"}, by="root")
    assert symbols.instrument("NEWUSD") is None
    assert symbols.resolve("coinbase", "NEW-USD") is None


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a b", "", "x" * 65, "BTC\x00USD", "a//b", "BTC'; DROP TABLE x", "\u202eUSD"]
)
def test_hostile_names_are_refused_everywhere(symbols: SymbolManager, name: str) -> None:
    with pytest.raises(ConfigurationError):
        Instrument(name)
    with pytest.raises(ConfigurationError):
        symbols.name("kraken", name, "BTCUSD")
    with pytest.raises(ConfigurationError):
        symbols.hold("watchlist", "w", "ann", [name])
    with pytest.raises(ConfigurationError):
        symbols.name("kra:ken", "XBT", "BTCUSD")
    listed = {"symbols": [{"symbol": name, "baseAsset": "A", "quoteAsset": "B", "status": "TRADING"}]}
    with pytest.raises(DataError):
        read_listings("binance", json.dumps(listed).encode())


def test_counts_are_what_stands_whatever_came_before(symbols: SymbolManager, store: SqlStore, clock: Clock) -> None:
    chance = random.Random(4)
    model: dict[str, set[str]] = {}
    names = ["BTCUSD", "BTCUSDT", "ETHUSDT"]
    for _ in range(40):
        holder = f"w{chance.randrange(4)}"
        if chance.random() < 0.3:
            assert symbols.let_go("watchlist", holder, "ann") == len(model.pop(holder, ()))
        else:
            some, only = chance.sample(names, chance.randrange(1, 4)), chance.random() < 0.5
            symbols.hold("watchlist", holder, "ann", some, only=only)
            model[holder] = set(some) | (set() if only else model.get(holder, set()))
        # Another process, or the same one after a crash, counts the same.
        counted = SymbolManager(store.database, clock=clock).counts()
        assert counted == Counter(one for held in model.values() for one in held)


def test_what_a_client_holds_ends_with_its_lease(symbols: SymbolManager, clock: Clock) -> None:
    symbols.hold("client", "c1", "ann", ["BTCUSD"], until=clock.now + 60 * SECOND)
    symbols.hold("watchlist", "w", "ann", ["BTCUSD"])
    assert symbols.counts() == {"BTCUSD": 2}
    clock.now += 59 * SECOND
    symbols.hold("client", "c1", "ann", ["BTCUSD"], until=clock.now + 60 * SECOND)
    clock.now += 59 * SECOND
    assert symbols.counts() == {"BTCUSD": 2}
    clock.now += SECOND
    assert symbols.counts() == {"BTCUSD": 1}
    assert (symbols.remove_ended(), symbols.remove_ended()) == (1, 0)
    for until in (0, clock.now, clock.now + 2 * 86_400 * SECOND):
        with pytest.raises(DataError, match="for a time"):
            symbols.hold("client", "c1", "ann", ["BTCUSD"], until=until)


def test_what_is_held_stays_and_holders_are_their_owners(symbols: SymbolManager) -> None:
    symbols.hold("watchlist", "w", "ann", ["BTCUSD"])
    with pytest.raises(SymbolConflictError, match="another owner's"):
        symbols.hold("watchlist", "w", "bob", ["ETHUSDT"])
    assert symbols.let_go("watchlist", "w", "bob") == 0
    with pytest.raises(SymbolConflictError, match="held by the watchlist w"):
        symbols.remove("BTCUSD", by="root")
    with pytest.raises(UnknownRecordError, match="DOGEUSD"):
        symbols.hold("watchlist", "w", "ann", ["BTCUSD", "DOGEUSD"])
    assert [(one.symbol, one.owner) for one in symbols.held(owner="ann")] == [("BTCUSD", "ann")]
    symbols.hold("watchlist", "w", "ann", [])
    symbols.name("yahoo", "BTC-USD", "BTCUSD")
    symbols.remove("BTCUSD", by="root")
    assert symbols.instrument("BTCUSD") is None
    assert symbols.names() == {}
    with pytest.raises(UnknownRecordError):
        symbols.remove("BTCUSD", by="root")
    assert symbols.universe() == {"BTCUSDT", "ETHUSDT"}
    # Added again it is as new.
    assert symbols.add([Instrument("BTCUSD")], by="root") == 1
    assert symbols.add([Instrument("BTCUSD")], by="root") == 0


def test_ten_thousand_symbols_in_pages(symbols: SymbolManager) -> None:
    assert symbols.add([Instrument(f"S{number:05d}") for number in range(10_000)], by="root") == 10_000
    seen, cursor = [], ""
    while cursor is not None:
        page = symbols.instruments(cursor=cursor, limit=1_000, prefix="S")
        seen += [one.symbol for one in page.items]
        cursor = page.cursor
    assert seen == [f"S{number:05d}" for number in range(10_000)]
    assert symbols.instruments(prefix="%").items == ()
    assert len(symbols.universe()) == 10_003
    symbols.hold("watchlist", "all", "ann", seen)
    assert len(symbols.counts()) == 10_000


def test_listings_of_venues_as_they_were_recorded(symbols: SymbolManager, test_data: Path) -> None:
    recorded = {
        "binance": "binance/nautilus_py/http_responses/http_spot_market_exchange_info.json",
        "kraken": "kraken/nautilus/http_asset_pairs.json",
        "coinbase": "coinbase/nautilus/http_products.json",
    }
    for venue, path in recorded.items():
        listings = read_listings(venue, (test_data / "api" / path).read_bytes())
        assert listings
        symbols.take_listings(venue, listings, by="root")
        assert symbols.take_listings(venue, listings, by="root") == 0
    # Kraken's own spelling is the same symbol as Binance's.
    assert symbols.resolve("kraken", "XBT/USDT") == symbols.resolve("binance", "BTCUSDT") == "BTCUSDT"
    assert symbols.resolve("coinbase", "BTC-USD") == "BTCUSD"
    assert symbols.instrument("BTCUSDT") == Instrument("BTCUSDT", "BTC", "USDT")
    aliases = SourceAliases(symbols, "binance", 60.0)
    assert [one.name for one in aliases("BTCUSDT")] == ["BTCUSDT"]
    assert aliases("BTCUSD") == []


def test_a_listing_that_contradicts_what_stands_takes_nothing(symbols: SymbolManager) -> None:
    symbols.name("binance", "ODD", "ETHUSDT")
    rows = [{"symbol": name, "baseAsset": "A", "quoteAsset": "B", "status": "BREAK"} for name in ("FRESHB", "ODD")]
    with pytest.raises(SymbolConflictError, match="ODD of binance is ETHUSDT already, not ODD"):
        symbols.take_listings("binance", read_listings("binance", json.dumps({"symbols": rows}).encode()), by="root")
    assert symbols.instrument("FRESHB") is None
    symbols.take_listings("binance", read_listings("binance", json.dumps({"symbols": rows[:1]}).encode()), by="root")
    assert symbols.instrument("FRESHB").status == "halted"
    rows[0]["status"] = "TRADING"
    assert (
        symbols.take_listings(
            "binance", read_listings("binance", json.dumps({"symbols": rows[:1]}).encode()), by="root"
        )
        == 1
    )
    assert symbols.instrument("FRESHB").status == "trading"
    for bad in (b"[]", b"{", b'{"symbols": [{}]}', json.dumps({"symbols": [rows[0], rows[0]]}).encode(), b"[" * 10_000):
        with pytest.raises(DataError):
            read_listings("binance", bad)
    with pytest.raises(ConfigurationError, match="nowhere"):
        read_listings("nowhere", b"{}")
