"""The lake against pyarrow alone: 10 million bars written and read back, an upsert, a narrow read.

The peer writes the same columns with the same compression and encodings to the same split of files, and reads them
back: no schema check, no hash, no manifest, no lock, no fsync, no page checksum. Both read what the other side wrote
too, and the rows must be equal.

    python -m benchmarks.bench_lake
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import cpu_seconds, report
from tapeline.core.schemas import RAW_BARS
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake import Lake, Lineage
from tapeline.lake.parquet import COMPRESSION, COMPRESSION_LEVEL, encodings, instants_of
from tapeline.lake.partition import split

SYMBOLS = tuple(Symbol.parse(name) for name in ("EURUSD", "GBPUSD", "USDJPY", "BTC/USDT", "^VIX"))
ROWS = 2_000_000
"""Bars a symbol: with five symbols 10 million, of minutes, hence nearly four years in monthly files."""
MINUTE = Timeframe.parse("M1")
LINEAGE = Lineage("benchmark", "ingest")
TARGET = 1.5


def minute_bars(rows: int, seed: int) -> pa.Table:
    """Random minute bars with prices on a grid of 0.00001, as a broker quotes them."""
    generator = np.random.default_rng(seed)
    ts = pd.Timestamp("2017-01-01", tz="UTC").value + np.arange(rows) * MINUTE.nanoseconds
    close = np.round(1.1 + np.cumsum(generator.standard_normal(rows) * 2e-5), 5)
    opened = np.r_[close[0], close[:-1]]
    wick = np.abs(generator.standard_normal((2, rows))) * 5e-5
    closes = instant(ts + MINUTE.nanoseconds)
    columns = {
        "ts": instant(ts),
        "open": opened,
        "high": np.round(np.maximum(opened, close) + wick[0], 5),
        "low": np.round(np.minimum(opened, close) - wick[1], 5),
        "close": close,
        "volume": generator.integers(1, 5_000, rows).astype(float),
        "spread": generator.integers(0, 30, rows).astype(float),
        "tick_count": generator.integers(1, 900, rows),
        "close_ts": closes,
        "known_at": closes,
        "known_at_is_estimate": np.ones(rows, dtype=bool),
        "source": pa.DictionaryArray.from_arrays(np.zeros(rows, dtype=np.int32), ["mt5"]),
        "revision": np.zeros(rows, dtype=np.int32),
    }
    columns["ts_origin"] = pa.DictionaryArray.from_arrays(np.zeros(rows, dtype=np.int32), ["broker"])
    columns["ingested_at"] = instant(np.full(rows, ts[-1] + MINUTE.nanoseconds))
    # What few sources know (quote and taker-buy volume) stays null, as it does in most lakes.
    unknown = {f.name: pa.nulls(rows, f.type) for f in RAW_BARS.schema if f.nullable and f.name not in columns}
    return pa.table(columns | unknown, schema=RAW_BARS.schema)


def instant(values: np.ndarray) -> pa.Array:
    return pa.array(values).cast(RAW_BARS.schema.field("ts").type)


def peer_write(folder: Path, table: pa.Table) -> None:
    for path, start, stop in peer_files(folder, table):
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            table.slice(start, stop - start),
            path,
            compression=COMPRESSION,
            compression_level=COMPRESSION_LEVEL,
            **encodings(table.schema),
        )


def peer_read(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.ParquetFile(path).read() for path in sorted(folder.rglob("*.parquet"))])


def peer_files(folder: Path, table: pa.Table) -> Iterator[tuple[Path, int, int]]:
    for label, start, stop in split(instants_of(table, "ts"), MINUTE.period):
        yield folder / f"period={label}" / "data.parquet", start, stop


def compare(name: str, value: float, peer: str, peer_value: float, target: float | None = None) -> None:
    report(
        name,
        value,
        "CPU s",
        peer=peer,
        peer_value=peer_value,
        target="part of the above" if target is None else f"ratio <= {target}",
        holds=target is None or value <= target * peer_value,
    )


def full_round(folder: Path) -> Lake:
    """Write and read back all symbols, one by one, the two sides taking turns at going first."""
    lake = Lake(folder / "lake")
    spent = dict.fromkeys(("lake write", "peer write", "lake read", "peer read"), 0.0)
    # The first symbol once before the clock runs: the first reads of a process pay for its memory.
    one_symbol(Lake(folder / "warm"), folder / "warm_peer", 0, spent)
    spent = dict.fromkeys(spent, 0.0)
    for number in range(len(SYMBOLS)):
        one_symbol(lake, folder / "peer", number, spent)
    compare(
        f"lake: write and read back {ROWS * len(SYMBOLS):,} bars",
        spent["lake write"] + spent["lake read"],
        "pyarrow alone, same columns, compression and files",
        spent["peer write"] + spent["peer read"],
        target=TARGET,
    )
    compare("lake: the write of it", spent["lake write"], "pyarrow alone", spent["peer write"])
    compare("lake: the read of it", spent["lake read"], "pyarrow alone", spent["peer read"])
    return lake


def one_symbol(lake: Lake, peer: Path, number: int, spent: dict[str, float]) -> None:
    symbol, table = SYMBOLS[number], minute_bars(ROWS, number)
    # The lake gives each batch its version; pyarrow alone is handed the column.
    version = pa.DictionaryArray.from_arrays(np.zeros(ROWS, dtype=np.int32), ["0123456789abcdef"])
    place = table.schema.get_field_index("data_version")
    versioned = table.set_column(place, table.schema.field(place), version)
    folder = peer / symbol.path_segment
    sides = ("lake", "peer") if number % 2 else ("peer", "lake")
    write = {
        "lake": lambda: lake.write(RAW_BARS, table, symbol, MINUTE, lineage=LINEAGE),
        "peer": lambda: peer_write(folder, versioned),
    }
    read = {"lake": lambda: lake.read_arrow(RAW_BARS, symbol, MINUTE), "peer": lambda: peer_read(folder)}
    for side in sides:
        spent[f"{side} write"] += cpu_seconds(write[side], repeats=1, warm=False)
    for side in sides:
        # The median of three: whoever reads first into fresh memory pays the system for its pages.
        spent[f"{side} read"] += cpu_seconds(read[side], repeats=3, warm=False)
    mine = read["lake"]().drop_columns("data_version")
    assert mine.equals(read["peer"]().drop_columns("data_version")), (
        f"{symbol}: the lake and pyarrow read different rows"
    )
    assert mine.equals(table.drop_columns("data_version")), f"{symbol}: the lake read other rows"


def upsert(lake: Lake) -> None:
    """10,000 rows: half known and unchanged, half new, into the last of a symbol's files."""
    symbol = SYMBOLS[0]
    table = minute_bars(ROWS + 5_000, seed=0)
    held = lake.read_arrow(RAW_BARS, symbol, MINUTE).slice(ROWS - 5_000)
    late = pa.concat_tables([held, table.slice(ROWS)]).combine_chunks()
    receipts = []

    def write() -> None:
        receipts.append(lake.write(RAW_BARS, late, symbol, MINUTE, lineage=LINEAGE))

    spent = cpu_seconds(write, repeats=1, warm=False)
    assert (receipts[0].rows_added, receipts[0].rows_unchanged) == (5_000, 5_000), receipts[0]
    newest = lake.path_of(RAW_BARS, symbol, MINUTE) / f"period={receipts[0].partitions[-1]}" / "data.parquet"
    merged = pq.ParquetFile(newest).read().replace_schema_metadata(None)
    with tempfile.TemporaryDirectory() as scratch:
        peer = cpu_seconds(lambda: peer_write(Path(scratch), merged), repeats=3)
    report(
        "lake: upsert 10,000 rows, half of them new",
        spent,
        "CPU s",
        peer="pyarrow alone, writing the one merged file",
        peer_value=peer,
        target="< 0.2 s",
        holds=spent < 0.2,
    )
    again = cpu_seconds(write, repeats=3)
    assert receipts[-1].rows_unchanged == 10_000, receipts[-1]
    report("lake: the same upsert again, nothing to do", again, "CPU s", target="< 0.1 s", holds=again < 0.1)


def narrow_read(lake: Lake) -> None:
    """One month of one symbol's closes out of all."""
    symbol, start, end = SYMBOLS[2], "2018-03-01", "2018-04-01"
    folder = lake.path_of(RAW_BARS, symbol, MINUTE)
    got: dict[str, pa.Table] = {}

    def mine() -> None:
        got["lake"] = lake.read_arrow(RAW_BARS, symbol, MINUTE, start=start, end=end, columns=["close"])

    def theirs() -> None:
        got["peer"] = pq.ParquetFile(folder / "period=2018-03" / "data.parquet").read(columns=["ts", "close"])

    value, peer = cpu_seconds(mine, repeats=9), cpu_seconds(theirs, repeats=9)
    assert got["lake"].equals(got["peer"].replace_schema_metadata(None))
    assert got["lake"].num_rows == 31 * 1440
    report(
        "lake: one month of one symbol, one column",
        value,
        "CPU s",
        peer="pyarrow alone on the one file",
        peer_value=peer,
        target="< 0.02 s",
        holds=value < 0.02,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        lake = full_round(Path(scratch))
        upsert(lake)
        narrow_read(lake)


if __name__ == "__main__":
    main()
