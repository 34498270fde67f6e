"""Live books: messages parsed and levels applied a second on one core, beside the order-book package.

The messages are a random walk written in Binance's dialect, so that the benchmark runs anywhere; where recorded
sessions are at hand (TAPELINE_TEST_DATA) those are measured too.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from order_book import OrderBook as PeerBook

from benchmarks.harness import cpu_seconds, report
from tapeline.core.symbol import Symbol
from tapeline.streams.book_sequence import rule_of
from tapeline.streams.book_sync import LiveBook, LiveBooks
from tapeline.streams.dialects.binance import Binance
from tapeline.streams.dialects.kraken import Kraken
from tapeline.streams.messages import BookDelta, BookSnapshot
from tapeline.streams.recording import read_recording, replay

SYMBOL = Symbol.parse("BTCUSDT")
L2 = "data/binance_ws_l2_2024/usdm/btcusdt_20240808.gz"
KRAKEN = "api/ws_recordings/KRAKEN.ws.50.0"


def main() -> None:
    messages = _messages(3_000)
    _measure("generated", messages, Binance(symbol=SYMBOL), "binance")
    folder = Path(os.environ.get("TAPELINE_TEST_DATA", Path(__file__).parents[2] / "shared"))
    if (folder / L2).is_file():
        futures = [item.payload for item in read_recording(folder / L2)]
        _measure("binance futures recording", futures, Binance(symbol=SYMBOL), "binance-futures")
    if (folder / KRAKEN).is_file():
        _kraken(folder / KRAKEN)


def _measure(name: str, messages: list[bytes], dialect: Binance, market: str) -> None:
    parsing = cpu_seconds(lambda: [dialect.parse(raw) for raw in messages])
    rate = len(messages) / parsing
    report(f"{name}: parse", rate, "messages/s", target=">= 25,000", holds=rate >= 25_000)
    records = [record for raw in messages for record in dialect.parse(raw)]
    changes = [record for record in records if isinstance(record, BookDelta | BookSnapshot)]
    deltas = [change for change in changes if isinstance(change, BookDelta)]
    levels = sum(len(delta.bids) + len(delta.asks) for delta in deltas)
    ours = cpu_seconds(lambda: _ours(changes, market))
    theirs = cpu_seconds(lambda: _theirs(changes), repeats=1, warm=False)
    live, peer = _ours(changes, market), _theirs(changes)
    assert live.live
    assert not live.gaps
    assert live.book.bids.top(50) == [tuple(level) for level in peer.bids.to_list()[:50]]
    assert live.book.asks.top(50) == [tuple(level) for level in peer.asks.to_list()[:50]]
    report(
        f"{name}: keep the book, best prices after each message",
        levels / ours,
        "levels/s",
        target=">= 500,000 and above the peer",
        holds=levels / ours >= 500_000 and ours < theirs,
        peer="order_book",
        peer_value=levels / theirs,
    )
    updates = len(deltas) / ours
    report(f"{name}: book updates", updates, "deltas/s", target=">= 10,000", holds=updates >= 10_000)


def _kraken(path: Path) -> None:
    records = [received.record for received in replay(read_recording(path), Kraken())]

    def run() -> LiveBooks:
        books = LiveBooks("kraken")
        for record in records:
            books.take(record)
        return books

    proven = sum(live.counters.checksums for live in run())
    seconds = cpu_seconds(run)
    rate = proven / seconds
    report("kraken recording: updates, each proven by its checksum", rate, "deltas/s", target=">= 20,000",
           holds=rate >= 20_000 and proven == 4_269)  # fmt: skip


def _ours(changes: list[BookDelta | BookSnapshot], market: str) -> LiveBook:
    live = LiveBook(SYMBOL, rule_of(market))
    for change in changes:
        live.take(change)
        _ = live.book.best_bid, live.book.best_ask
    return live


def _theirs(changes: list[BookDelta | BookSnapshot]) -> PeerBook:
    """The same stream, from the snapshot on, in the peer's way of use."""
    peer = PeerBook()
    last, begun = 0, False
    waiting: list[BookDelta] = []
    for change in changes:
        if isinstance(change, BookSnapshot):
            begun, last = True, change.sequence or 0
            for side, levels in ((peer.bids, change.bids), (peer.asks, change.asks)):
                for price, size in levels:
                    side[price] = size
            batch = waiting
        else:
            batch = [change]
        if not begun:
            waiting += batch
            continue
        for delta in batch:
            if (delta.last or 0) < last:
                continue
            for side, levels in ((peer.bids, delta.bids), (peer.asks, delta.asks)):
                for price, size in levels:
                    if size:
                        side[price] = size
                    elif price in side:
                        del side[price]
            _ = peer.bids.index(0), peer.asks.index(0)
    return peer


def _messages(count: int) -> list[bytes]:
    generator = np.random.default_rng(7)
    middle = 60_000 + np.cumsum(generator.integers(-3, 4, count))
    snapshot = b'{"lastUpdateId":0,"bids":[%s],"asks":[%s]}' % (
        b",".join(b'["%d.5","1.0"]' % (60_000 - rank) for rank in range(1, 1_000)),
        b",".join(b'["%d.5","1.0"]' % (60_000 + rank) for rank in range(1_000)),
    )
    messages = [snapshot]
    for number in range(count):
        sides = []
        for sign in (-1, 1):
            ranks = np.unique(generator.geometric(0.02, 20))
            sizes = np.where(generator.random(ranks.size) < 0.3, 0.0, generator.random(ranks.size).round(3))
            prices = middle[number] + sign * ranks
            cells = [b'["%d.5","%.3f"]' % (price, size) for price, size in zip(prices, sizes, strict=True)]
            # What the walk has passed is gone from the book.
            cells += [b'["%d.5","0"]' % (middle[number] - sign * rank) for rank in range(4)]
            sides.append(b",".join(cells))
        messages.append(
            b'{"stream":"btcusdt@depth","data":{"e":"depthUpdate","E":%d,"s":"BTCUSDT","U":%d,"u":%d,"b":[%s],"a":[%s]}}'
            % (1_700_000_000_000 + number, number + 1, number + 1, *sides)
        )
    return messages


if __name__ == "__main__":
    main()
