"""What the lake's tests share: bars as the raw zone takes them, small tables, and hashes of what lies on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pyarrow as pa

from tapeline.core.schemas import INSTANT, NAME, TableSpec
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake import Lineage

EURUSD = Symbol.parse("EURUSD")
SWAP = Symbol.parse("BTC/USDT:USDT")
TOKYO = Symbol.parse("7203")
S1, M1, H1, D1 = (Timeframe.parse(name) for name in ("S1", "M1", "H1", "D1"))
LINEAGE = Lineage("run-1", "ingest", ("file@0",))

READINGS = TableSpec(
    "raw",
    "readings",
    pa.schema(
        [
            pa.field("ts", INSTANT, nullable=False),
            pa.field("value", pa.float64(), nullable=True),
            pa.field("known_at", INSTANT, nullable=False),
            pa.field("known_at_is_estimate", pa.bool_(), nullable=False),
            pa.field("source", NAME, nullable=False),
            pa.field("revision", pa.int32(), nullable=False),
        ]
    ),
    key=("ts",),
    bitemporal=True,
)


def notes(keep: str) -> TableSpec:
    """A table with a two-part key and a text, of which the first or the last write stands."""
    fields = [
        pa.field("ts", INSTANT, nullable=False),
        pa.field("author", NAME, nullable=False),
        pa.field("text", pa.string(), nullable=True),
    ]
    return TableSpec("labels", f"notes_{keep}", pa.schema(fields), key=("ts", "author"), keep=keep)


def raw(bars: pd.DataFrame, *, source: str = "test", observed: bool = False) -> pd.DataFrame:
    """Bars with the columns that say how they arrived."""
    return bars.assign(known_at=bars["close_ts"], known_at_is_estimate=not observed, source=source, revision=0)


def readings(rows: list[tuple[pd.Timestamp, float, pd.Timestamp]], *, estimate: bool = False) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["ts", "value", "known_at"])
    for name in ("ts", "known_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True).dt.as_unit("ns")
    return frame.assign(value=frame["value"].astype(float), known_at_is_estimate=estimate, source="test", revision=0)


def data_hashes(root: Path) -> dict[str, str]:
    """The SHA-256 of each data file below a root, by its relative path."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.parquet"))
    }


def all_hashes(root: Path) -> dict[str, str]:
    """The SHA-256 of everything the lake wrote: data and manifests, hidden files too; not the locks."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "_locks" not in path.parts
    }
