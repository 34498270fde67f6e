"""Feeds of the alert engine: CPU time of a message from the socket's bytes to the batch, and of a record on disk.

The peer reads with the standard library's json, tells copies by a dict of last ids and makes arrays of lists of
dictionaries: what a plain consumer does. It has no gaps, no clock records, no counters of decisions and no late
records; both must hold the same trades in the end.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import cpu_seconds, report
from tapeline.alerts.engine.kernel import TRADE
from tapeline.alerts.feeds.batcher import Batcher
from tapeline.alerts.feeds.binance import BinanceSource
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.feeds.tick_journal import TickJournal
from tapeline.streams.dialects.binance import Binance

MESSAGES, SYMBOLS, PART = 100_000, 200, 1_000


def messages() -> list[bytes]:
    """Trades of many symbols as combined streams carry them, one in twenty twice: made up, to measure time only."""
    generator = np.random.default_rng(0)
    names = [f"SYM{number}USDT" for number in range(SYMBOLS)]
    ids, raw = dict.fromkeys(names, 1_000), []
    for number in range(MESSAGES):
        name = names[int(generator.integers(SYMBOLS))]
        ids[name] += 1
        stamp = 1_700_000_000_000 + number // 10
        data = (
            f'{{"stream":"{name.lower()}@aggTrade","data":{{"e":"aggTrade","E":{stamp},"s":"{name}","a":{ids[name]},'
            f'"p":"{100 + generator.normal():.8f}","q":"{generator.exponential():.8f}","f":1,"l":1,"T":{stamp},'
            '"m":true,"M":true}}'
        ).encode()
        raw += [data, data] if number % 20 == 0 else [data]
    return raw


def consumer() -> tuple[Batcher, DataManager, BinanceSource]:
    """The feed of all symbols, without a socket."""
    names = [f"SYM{number}USDT" for number in range(SYMBOLS)]
    batcher = Batcher({name: number for number, name in enumerate(names)})
    manager = DataManager(batcher)
    for name in names:
        manager.watch(name, [SourceName("binance", name)])
    return batcher, manager, BinanceSource(manager, names, history=None)


def ours(raw: list[bytes]) -> list:
    """From bytes to batches: the dialect, the order of ids, the manager, the batcher."""
    found: list = []

    async def run() -> None:
        # It returns nothing: asyncio makes a text of what a main task returns.
        batcher, _, source = consumer()
        parse, take = Binance().parse, source._record
        for begin in range(0, len(raw), PART):
            for one in raw[begin : begin + PART]:
                for record in parse(one):
                    take(record, 1_800_000_000_000_000_000)
            # What the collector does in its thread, as often as its pace is.
            waiting, source.collector._waiting = source.collector._waiting, []
            source.append(waiting)
            while (batch := batcher.flush(0, force=True)) is not None:
                found.append(batch)

    asyncio.run(run())
    return found


def plain(raw: list[bytes]) -> list:
    """The same by json and dictionaries."""
    last: dict[str, int] = {}
    numbers = {f"SYM{number}USDT": number for number in range(SYMBOLS)}
    found = []
    for begin in range(0, len(raw), PART):
        rows = []
        for one in raw[begin : begin + PART]:
            data = json.loads(one)["data"]
            if data["a"] > last.get(data["s"], -1):
                last[data["s"]] = data["a"]
                row = {"symbol": numbers[data["s"]], "ts": data["T"] * 1_000_000, "sequence": data["a"]}
                rows.append({**row, "price": float(data["p"]), "size": float(data["q"])})
        kinds = {"symbol": np.int32, "ts": np.int64, "sequence": np.int64, "price": np.float64, "size": np.float64}
        found.append({name: np.array([row[name] for row in rows], kind) for name, kind in kinds.items()})
    return found


def main() -> int:
    """Measure, print, and say whether all targets hold."""
    raw = messages()
    batches, peer = ours(raw), plain(raw)
    trades = [batch.records == TRADE for batch, _ in batches]
    for name, column in (("symbol", "symbols"), ("ts", "times"), ("price", "prices"), ("size", "sizes")):
        mine = np.concatenate([getattr(batch, column)[kept] for (batch, _), kept in zip(batches, trades, strict=True)])
        np.testing.assert_array_equal(mine, np.concatenate([part[name] for part in peer]))
    seconds, peer_seconds = cpu_seconds(lambda: ours(raw)), cpu_seconds(lambda: plain(raw))
    holds = [seconds <= 2 * peer_seconds]
    report(
        "socket's bytes to batch, a message",
        seconds / len(raw) * 1e6,
        "us",
        target="at most twice the peer's time, with order, gaps, clock and counters",
        holds=holds[-1],
        peer="json and dict",
        peer_value=peer_seconds / len(raw) * 1e6,
    )
    decode, peer_decode = (
        cpu_seconds(lambda: list(map(Binance().parse, raw))),
        cpu_seconds(lambda: list(map(json.loads, raw))),
    )
    holds.append(decode <= peer_decode)
    report(
        "of this the decoding into checked trades",
        decode / len(raw) * 1e6,
        "us",
        target="at most the peer's time",
        holds=holds[-1],
        peer="json.loads alone",
        peer_value=peer_decode / len(raw) * 1e6,
    )

    def write() -> TickJournal:
        with tempfile.TemporaryDirectory() as folder:
            journal = TickJournal(Path(folder), [f"SYM{number}USDT" for number in range(SYMBOLS)])
            for batch in batches:
                journal.append(*batch)
            journal.close()
            return journal

    written, records = write(), sum(batch.symbols.size for batch, _ in batches)
    cost = cpu_seconds(write) / records * 1e6
    holds.append(cost <= 1.0)
    report("a record into the journal, made durable in groups", cost, "us", target="at most 1 us", holds=holds[-1])
    report(
        "a record in the journal",
        written.bytes_written / records,
        "bytes",
        target="at most 64 bytes",
        holds=written.bytes_written / records <= 64,
    )
    return 0 if all(holds) else 1


if __name__ == "__main__":
    raise SystemExit(main())
