"""Bitstamp's documented messages: trades, whole books, changes joined to a REST book. No recording was at hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tapeline.streams.book_sync import LiveBooks
from tapeline.streams.dialects.bitstamp import Bitstamp
from tapeline.streams.messages import (
    BookDelta,
    BookSnapshot,
    Heartbeat,
    Notice,
    Quarantined,
    Refusal,
    Subscription,
    Trade,
)

MOMENT = 1_583_656_800_237_527


def book(number: int, bids: list[list[str]], asks: list[list[str]]) -> dict[str, Any]:
    return {"timestamp": str(number // 10**6), "microtimestamp": str(number), "bids": bids, "asks": asks}


def told(channel: str, data: Any, event: str = "data") -> bytes:
    return json.dumps({"data": data, "event": event, "channel": channel}).encode()


def only(raw: bytes) -> Any:
    (found,) = Bitstamp().parse(raw)
    return found


def test_a_trade_takes_its_decimals_from_the_texts() -> None:
    data = {
        "buy_order_id": 1207733769326592, "amount_str": "0.14406384", "timestamp": "1583691851", "id": 106833903,
        "microtimestamp": "1583691851934000", "amount": 0.14406384, "sell_order_id": 1207733765476352,
        "price_str": "8302.92", "type": 0, "price": 8302.92,
    }  # fmt: skip
    found = only(told("live_trades_btcusd", data, "trade"))
    assert found == Trade(found.symbol, 1_583_691_851_934_000_000, 8302.92, 0.14406384, 1, "106833903")
    assert only(told("live_trades_btcusd", data | {"type": 1}, "trade")).side == -1


def test_a_whole_book_is_a_snapshot_of_a_hundred_levels() -> None:
    found = only(told("order_book_btcusd", book(MOMENT, [["8732.02", "0.5"], ["8731", "0"]], [["8735.67", "2.0"]])))
    assert isinstance(found, BookSnapshot)
    assert (found.bids, found.asks, found.depth) == ([(8732.02, 0.5)], [(8735.67, 2.0)], 100)
    assert (found.ts, found.sequence) == (MOMENT * 1_000, MOMENT)


def test_changes_wait_for_the_rest_book_and_old_ones_are_left_out() -> None:
    books = LiveBooks("bitstamp")
    outcomes = []
    for i, bid in ((1, "1.0"), (2, "2.0"), (3, "3.0")):
        outcomes.append(books.take(only(told("diff_order_book_btcusd", book(MOMENT + i, [["100", bid]], [])))).value)
    assert books.requests() == ["btcusd"]
    rest = json.dumps(book(MOMENT + 2, [["100", "2.0"], ["99", "1"]], [["101", "4"]])).encode()
    (snapshot,) = Bitstamp().parse_snapshot(rest, "btcusd")
    outcomes.append(books.take(snapshot).value)
    outcomes.append(books.take(only(told("diff_order_book_btcusd", book(MOMENT + 3, [["100", "7"]], [])))).value)
    outcomes.append(books.take(only(told("diff_order_book_btcusd", book(MOMENT + 9, [["100", "0"]], [])))).value)
    assert outcomes == ["pending", "pending", "pending", "synced", "stale", "applied"]
    live = books["btcusd"]
    assert live.book.best_bid == (99.0, 1.0)  # the level that the last change removed is gone
    assert (live.last, live.counters.stale) == (MOMENT + 9, 3)


def test_what_the_venue_says_about_itself() -> None:
    assert only(told("", {}, "bts:heartbeat")) == Heartbeat()
    assert only(told("live_trades_btcusd", {}, "bts:subscription_succeeded")) == Subscription(
        ("live_trades_btcusd",), accepted=True
    )
    assert only(told("", "", "bts:request_reconnect")) == Notice("reconnect", "the venue will end this connection")
    refused = only(told("", {"code": 4009, "message": "Connection is unauthorized."}, "bts:error"))
    assert refused == Refusal("4009", "Connection is unauthorized.")


@pytest.mark.parametrize(
    "raw",
    [
        told("live_trades_../etc", {}, "trade"),
        told("live_trades_btcusd", {"id": -1}, "trade"),
        told("diff_order_book_btcusd", book(MOMENT, [["-1", "1"]], [])),
        told("diff_order_book_btcusd", book(MOMENT, [["nan", "1"]], [])),
        b'{"event":"data","channel":"order_book_btcusd"}',
    ],
)
def test_nonsense_is_quarantined(raw: bytes) -> None:
    assert isinstance(only(raw), Quarantined)


def test_a_private_channel_is_unknown_and_loses_no_book() -> None:
    assert only(told("private-my_orders_btcusd-1", {}, "order_created")).unknown
    (refused,) = Bitstamp().parse_snapshot(b"<html>", "btcusd")
    assert isinstance(refused, Quarantined)


def test_a_change_is_a_delta() -> None:
    found = only(told("diff_order_book_btcusd", book(MOMENT, [], [["101", "1"]])))
    assert isinstance(found, BookDelta)
    assert (found.first, found.last, found.previous) == (None, MOMENT, None)
