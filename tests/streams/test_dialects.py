"""Messages of each venue become the records they mean; anything else becomes one Quarantined, never an exception."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapeline.core.errors import MissingExtraError
from tapeline.streams.dialects.base import KEPT_BYTES, Dialect
from tapeline.streams.dialects.binance import Binance
from tapeline.streams.dialects.bitmex import Bitmex
from tapeline.streams.dialects.bitstamp import Bitstamp
from tapeline.streams.dialects.bybit import Bybit
from tapeline.streams.dialects.coinbase import Coinbase
from tapeline.streams.dialects.deribit import Deribit
from tapeline.streams.dialects.kraken import Kraken
from tapeline.streams.dialects.kraken_futures import KrakenFutures
from tapeline.streams.dialects.oanda import Oanda
from tapeline.streams.dialects.okx import Okx
from tapeline.streams.messages import (
    BookDelta,
    BookSnapshot,
    Candle,
    Heartbeat,
    Notice,
    Quarantined,
    Quote,
    Refusal,
    SequenceBreak,
    Subscription,
    Ticker,
    Trade,
)

DIALECTS = (Binance, Kraken, KrakenFutures, Coinbase, Bybit, Okx, Deribit, Bitmex, Bitstamp, Oanda)

VALID = {
    Binance: [
        b'{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":5,"u":6,"b":[["1.5","2"]],"a":[]}',
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"s":"BTCUSDT","t":9,"p":"1.5","q":"2","T":1,"m":true}}',
        b'{"stream":"btcusdt@depth5","data":{"lastUpdateId":5,"bids":[["1","2"]],"asks":[]}}',
        b'{"u":7,"s":"BTCUSDT","b":"10.5","B":"2","a":"10.6","A":"1"}',
        b'{"e":"kline","E":3,"s":"A","k":{"t":1,"i":"1m","o":"1","h":"2","l":"1","c":"2","v":"3","x":false}}',
    ],
    Kraken: [
        b'[1,{"as":[["1.5","2","3.1"]],"bs":[]},"book-10","XBT/EUR"]',
        b'[1,{"a":[["1.5","2","3.1","r"]],"c":"7"},"book-10","XBT/EUR"]',
        b'{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":1.50,"qty":2}],"asks":[],'
        b'"checksum":7}]}',
        b'[1,[["1.5","2","3.1","s","l",""]],"trade","XBT/EUR"]',
    ],
    KrakenFutures: [
        b'{"feed":"book","product_id":"PI_X","side":"sell","seq":7,"price":3.5,"qty":0,"timestamp":1}',
        b'{"feed":"book_snapshot","product_id":"PI_X","timestamp":1,"seq":6,"tickSize":null,"bids":[{"price":3.0,"qty":2}],'
        b'"asks":[{"price":4.0,"qty":1.0}]}',
        b'{"feed":"trade","product_id":"PI_X","uid":"e","side":"buy","type":"fill","seq":5,"time":1,"qty":3,"price":9.5}',
        b'{"feed":"ticker_lite","product_id":"PI_X","bid":4.3,"ask":4.6,"change":2.6,"volume":34.0,"tag":"month"}',
    ],
    Bitstamp: [
        b'{"event":"trade","channel":"live_trades_ab","data":{"id":7,"microtimestamp":"15","price_str":"6.5",'
        b'"amount_str":"1.08","type":1}}',
        b'{"event":"data","channel":"diff_order_book_ab","data":{"microtimestamp":"15","bids":[["1.5","2"]],"asks":[]}}',
    ],
    Oanda: [
        b'{"type":"PRICE","time":"2016-10-27T08:38:43.094548890Z","instrument":"EUR_USD","tradeable":true,'
        b'"bids":[{"price":"1.09","liquidity":100}],"asks":[{"price":"1.1","liquidity":100}]}',
        b'{"type":"HEARTBEAT","time":"2016-10-27T08:38:43Z"}',
    ],
    Coinbase: [
        b'{"type":"l2update","product_id":"A-B","changes":[["buy","1.5","2"]],"time":"2021-04-17T16:43:37.075687Z"}',
        b'{"channel":"l2_data","timestamp":"2026-04-07T14:30:00Z","sequence_num":0,"events":[{"type":"update",'
        b'"product_id":"A-B","updates":[{"side":"offer","price_level":"1","new_quantity":"2"}]}]}',
    ],
    Bybit: [
        b'{"topic":"orderbook.1.A","type":"delta","ts":1,"data":{"s":"A","b":[["1","2"]],"a":[],"u":3,"seq":4}}',
        b'{"topic":"orderBookL2_25.A","type":"delta","data":{"delete":[],"update":[{"price":"1","symbol":"A","id":1,'
        b'"side":"Buy","size":3}],"insert":[]},"cross_seq":9,"timestamp_e6":8}',
    ],
    Okx: [
        b'{"arg":{"channel":"books","instId":"A-B"},"action":"update","data":[{"asks":[["1","2","0","1"]],"bids":[],'
        b'"ts":"5","checksum":-7,"prevSeqId":1,"seqId":2}]}',
    ],
    Deribit: [
        b'{"method":"subscription","params":{"channel":"book.A.raw","data":{"type":"change","timestamp":1,'
        b'"prev_change_id":1,"instrument_name":"A","change_id":2,"bids":[["new",1.5,2]],"asks":[["delete",2,0]]}}}',
    ],
    Bitmex: [
        b'{"table":"orderBookL2","action":"partial","data":[{"symbol":"XBTUSD","id":5,"side":"Buy","size":3,"price":2.5}]}',
    ],
}

HOSTILE = [
    b"",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"1e999",
    b'"text"',
    b'{"e":"depthUpdate","E":1,"s":"../../etc/passwd","U":1,"u":2,"b":[],"a":[]}',
    b'{"e":"depthUpdate","E":99999999999999999999,"s":"A","U":1,"u":2,"b":[],"a":[]}',
    b'{"topic":"' + b"x" * 10_000 + b'"}',
    b"\x00" * 100,
]


def _all_refused(dialect: Dialect, raw: bytes) -> bool:
    records = dialect.parse(raw)
    return len(records) == 1 and isinstance(records[0], Quarantined) and records[0].length == len(raw)


@pytest.mark.parametrize("kind", DIALECTS)
def test_valid_messages_are_read(kind: type[Dialect]) -> None:
    for raw in VALID[kind]:
        records = kind().parse(raw)
        assert records
        assert not any(isinstance(record, Quarantined) for record in records), records


@pytest.mark.parametrize("kind", DIALECTS)
@pytest.mark.parametrize("raw", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_messages_are_quarantined(kind: type[Dialect], raw: bytes) -> None:
    if kind is Binance and raw == b"[]":
        assert kind().parse(raw) == []  # an array stream with nothing in it
        return
    assert _all_refused(kind(), raw)


@pytest.mark.parametrize("kind", DIALECTS)
def test_a_message_cut_anywhere_is_quarantined_or_still_whole(kind: type[Dialect]) -> None:
    for raw in VALID[kind]:
        for end in range(len(raw)):
            assert _all_refused(kind(), raw[:end])


@pytest.mark.parametrize("kind", DIALECTS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_change_of_a_message_can_raise(kind: type[Dialect], data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(VALID[kind])))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for record in kind().parse(bytes(raw)):
        _assert_sane(record)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", DIALECTS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_value_in_any_field_can_raise(kind: type[Dialect], data: st.DataObject) -> None:
    message = json.loads(data.draw(st.sampled_from(VALID[kind])))
    _replace_one(message, data)
    for record in kind().parse(json.dumps(message).encode()):
        _assert_sane(record)


@example(price="nan", size="1")
@example(price="inf", size="1")
@example(price="1", size="-1")
@example(price="1_0", size="1")
@example(price="0", size="1")
@example(price="\u0661", size="1")
@settings(max_examples=50, deadline=None)
@given(price=st.text(max_size=6), size=st.text(max_size=6))
def test_numbers_that_are_none_never_reach_a_book(price: str, size: str) -> None:
    level = json.dumps([price, size, "1.0"])
    two = json.dumps([price, size])
    four = json.dumps([price, size, "0", "1"])
    for dialect, raw in (
        (Binance(), f'{{"e":"depthUpdate","E":1,"s":"A","U":1,"u":2,"b":[{two}],"a":[]}}'),
        (Kraken(), f'[1,{{"a":[{level}],"c":"7"}},"book-10","XBT/EUR"]'),
        (
            Okx(),
            f'{{"arg":{{"channel":"books","instId":"A"}},"action":"update","data":[{{"asks":[{four}],"bids":[],'
            '"ts":"5","prevSeqId":1,"seqId":2}]}',
        ),
    ):
        for record in dialect.parse(raw.encode()):
            _assert_sane(record)


def _assert_sane(record: object) -> None:
    assert record is not None
    if isinstance(record, BookDelta | BookSnapshot):
        for level in (*record.bids, *record.asks):
            assert 0 < level[0] < 1e15
            assert 0 <= level[1] < 1e18
    if isinstance(record, Trade | Quote | BookDelta | BookSnapshot | Ticker | Candle):
        assert 0 < len(record.symbol) <= 64
        assert ".." not in record.symbol
    if isinstance(record, Quarantined):
        assert len(record.raw) <= KEPT_BYTES
        assert record.reason


def _replace_one(value: object, data: st.DataObject) -> None:
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))  # type: ignore[arg-type]
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        inner = value[key]  # type: ignore[index]
        if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
            value = inner
            continue
        value[key] = data.draw(_JSON)  # type: ignore[index]
        return


def test_a_message_too_long_is_refused_unread() -> None:
    dialect = Binance(maximum_bytes=100)
    refused = dialect.parse(VALID[Binance][0] + b" " * 200)[0]
    assert isinstance(refused, Quarantined)
    assert "more than 100" in refused.reason
    assert isinstance(dialect.parse_snapshot(b" " * 101, "BTCUSDT")[0], Quarantined)


def test_binance_reads_every_kind_of_stream() -> None:
    parse = Binance(symbol="BTCUSDT").parse
    trade = parse(VALID[Binance][1])[0]
    assert trade == Trade("BTCUSDT", 1_000_000, 1.5, 2.0, -1, "9")
    partial = parse(VALID[Binance][2])[0]
    assert (partial.symbol, partial.depth, partial.sequence) == ("BTCUSDT", 5, 5)
    futures = parse(
        b'{"stream":"btcusdt@depth5@100ms","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":5,"u":6,"pu":4,'
        b'"b":[["1","2"]],"a":[]}}'
    )[0]
    assert isinstance(futures, BookSnapshot)
    tickers = parse(
        b'[{"e":"24hrMiniTicker","E":1,"s":"A","c":"1","o":"1","h":"1","l":"1","v":"2","q":"2"},'
        b'{"e":"24hrMiniTicker","E":1,"s":"B","c":"1","o":"1","h":"1","l":"1","v":"2","q":"2"}]'
    )
    assert [ticker.symbol for ticker in tickers] == ["A", "B"]
    assert math.isnan(tickers[0].bid)
    assert parse(b'{"result":null,"id":1}') == [Subscription(("1",), accepted=True)]
    assert parse(b'{"error":{"code":2,"msg":"no"},"id":3}') == [Refusal("2", "no")]
    assert Binance().parse_snapshot(b'{"code":-1121,"msg":"Invalid symbol."}', "X") == [
        Refusal("-1121", "Invalid symbol.")
    ]
    # An insurance fund entry is no trade of the book.
    assert parse(b'{"e":"trade","E":1,"s":"A","t":9,"p":"0","q":"0","T":1,"m":true,"X":"NA"}') == []
    assert isinstance(Binance().parse(b'{"lastUpdateId":5,"bids":[],"asks":[]}')[0], Quarantined)
    assert isinstance(parse(b'{"e":"depthUpdate","E":1,"s":"A","U":6,"u":5,"b":[],"a":[]}')[0], Quarantined)


def test_kraken_keeps_the_digits_as_sent() -> None:
    first = Kraken().parse(VALID[Kraken][1])[0]
    assert first == BookDelta("XBT/EUR", 3_100_000_000, [], [(1.5, 2.0, "152")], checksum=7)
    second = Kraken().parse(VALID[Kraken][2])[0]
    assert second.bids == [(1.5, 2.0, "1502")]  # 1.50 and 2, not 1.5 and 2
    assert Kraken().parse(b'{"event":"heartbeat"}') == [Heartbeat()]
    assert Kraken(depth=25).parse(VALID[Kraken][2].replace(b"update", b"snapshot"))[0].depth == 25


def test_coinbase_counts_the_messages_of_its_connection() -> None:
    dialect = Coinbase()
    raw = VALID[Coinbase][1]
    assert [type(record) for record in dialect.parse(raw)] == [BookDelta]
    assert [type(record) for record in dialect.parse(raw.replace(b'_num":0', b'_num":1'))] == [BookDelta]
    lost, delta = dialect.parse(raw.replace(b'_num":0', b'_num":3'))
    assert lost == SequenceBreak(None, 2, 3, "sequence_num of the connection")
    assert delta.asks == [(1.0, 2.0)]
    # A message whose contents cannot be read was nonetheless received.
    assert isinstance(dialect.parse(raw.replace(b'_num":0', b'_num":4').replace(b"offer", b"?"))[0], Quarantined)
    assert len(dialect.parse(raw.replace(b'_num":0', b'_num":5'))) == 1
    dialect.reset()
    assert len(dialect.parse(raw)) == 1


def test_what_is_not_ours_is_told_from_what_is_damaged() -> None:
    private = Coinbase().parse(b'{"channel":"user","sequence_num":0,"events":[]}')[0]
    damaged = Coinbase().parse(VALID[Coinbase][1].replace(b"offer", b"?"))[0]
    assert (private.unknown, damaged.unknown) == (True, False)


def test_bitmex_finds_a_level_that_was_never_inserted() -> None:
    dialect = Bitmex()
    update = b'{"table":"orderBookL2","action":"update","data":[{"symbol":"XBTUSD","id":%d,"side":"Buy","size":9}]}'
    assert isinstance(dialect.parse(update % 5)[0], Notice)
    dialect.parse(VALID[Bitmex][0])
    assert dialect.parse(update % 5)[0].bids == [(2.5, 9.0)]
    assert isinstance(dialect.parse(update % 6)[0], SequenceBreak)
    assert isinstance(dialect.parse(update % 5)[0], Notice)  # until the next partial


def test_bybits_restart_is_a_snapshot() -> None:
    raw = b'{"topic":"orderbook.1.A","type":"delta","ts":1,"data":{"s":"A","b":[["1","2"]],"a":[],"u":1,"seq":4}}'
    assert isinstance(Bybit().parse(raw)[0], BookSnapshot)
    assert isinstance(Bybit().parse(raw.replace(b'"u":1', b'"u":2'))[0], BookDelta)


SAMPLES = [
    (Bybit, "bybit", "ws_orderbook_snapshot", BookSnapshot),
    (Bybit, "bybit", "ws_orderbook_delta", BookDelta),
    (Bybit, "bybit", "http_get_orderbook", BookSnapshot),
    (Bybit, "bybit", "ws_public_trade", Trade),
    (Bybit, "bybit", "ws_ticker_linear", Ticker),
    (Bybit, "bybit", "ws_kline", Candle),
    (Bybit, "bybit", "ws_subscription_ack", Subscription),
    (Bybit, "bybit", "ws_subscription_failure", Subscription),
    (Bybit, "bybit", "ws_auth_failure", Refusal),
    (Coinbase, "coinbase", "ws_l2_data_snapshot", BookSnapshot),
    (Coinbase, "coinbase", "ws_l2_data_update", BookDelta),
    (Coinbase, "coinbase", "ws_market_trades", Trade),
    (Coinbase, "coinbase", "ws_ticker", Ticker),
    (Coinbase, "coinbase", "ws_heartbeats", Heartbeat),
    (Coinbase, "coinbase", "ws_subscriptions", Subscription),
    (Coinbase, "coinbase", "ws_user", Quarantined),
    (Kraken, "kraken", "ws_book_snapshot", BookSnapshot),
    (Kraken, "kraken", "ws_book_update", BookDelta),
    (Kraken, "kraken", "ws_trade_update", Trade),
    (Kraken, "kraken", "ws_ticker_snapshot", Ticker),
    (Kraken, "kraken", "ws_subscribe_response", Subscription),
    (Kraken, "kraken", "ws_pong", Heartbeat),
    (Okx, "okx", "ws_books_snapshot", BookSnapshot),
    (Okx, "okx", "ws_books_update", BookDelta),
    (Okx, "okx", "ws_bbo_tbt", Quote),
    (Okx, "okx", "ws_trades", Trade),
    (Okx, "okx", "ws_tickers", Ticker),
    (Deribit, "deribit", "ws_book_snapshot", BookSnapshot),
    (Deribit, "deribit", "ws_book_delta", BookDelta),
    (Deribit, "deribit", "ws_trades", Trade),
    (Deribit, "deribit", "ws_quote", Quote),
    (Deribit, "deribit", "ws_ticker", Ticker),
    (Deribit, "deribit", "ws_error", Refusal),
    (Deribit, "deribit", "ws_subscribe_response", Subscription),
]


@pytest.mark.parametrize(("dialect", "venue", "name", "expected"), SAMPLES, ids=[s[2] for s in SAMPLES])
def test_documented_bodies(test_data: Path, dialect: type[Dialect], venue: str, name: str, expected: type) -> None:
    raw = (test_data / "api" / venue / "nautilus" / f"{name}.json").read_bytes()
    records = dialect().parse(raw)
    assert records
    assert {type(record) for record in records} == {expected}


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    spec = importlib.util.find_spec("tapeline.streams.messages")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(MissingExtraError, match=r"tapeline\[streams\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
