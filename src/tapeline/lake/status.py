"""Status: what the lake holds, from footers alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from tapeline.core.schemas import FIXED_TABLES, TableSpec
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.core.versions import digest
from tapeline.lake.parquet import Footer, read_footer, read_schema
from tapeline.lake.partition import Partition, Place, partitions, places


@dataclass(frozen=True)
class Series:
    """One table of one symbol and timeframe that the lake holds."""

    spec: TableSpec
    symbol: Symbol
    timeframe: Timeframe


def held(root: Path) -> list[tuple[Place, list[Partition]]]:
    """Every series that has at least one file, with its partitions."""
    found = [(place, partitions(place.folder(root))) for place in places(root)]
    return [(place, files) for place, files in found if files]


def series(root: Path) -> list[Series]:
    """Every series; a table that core does not know is described from its newest file."""
    return [Series(spec_of(place, files[-1]), place.symbol, place.timeframe) for place, files in held(root)]


def spec_of(place: Place, partition: Partition) -> TableSpec:
    """The description of a table: core's where it is fixed, else what the file's footer says."""
    fixed = FIXED_TABLES.get(f"{place.zone}/{place.table}")
    if fixed is not None:
        return fixed
    footer, schema = read_schema(partition.path)
    return _described(place, footer, schema)


def status(root: Path) -> pd.DataFrame:
    """One row a series; see :meth:`tapeline.lake.lake.Lake.status`."""
    return pd.DataFrame([_row(place, files) for place, files in held(root)], columns=list(_DTYPES)).astype(_DTYPES)


_DTYPES = {
    "symbol": "str",
    "timeframe": "str",
    "table": "str",
    "rows": "int64",
    "first": "datetime64[ns, UTC]",
    "last": "datetime64[ns, UTC]",
    "gaps": "Int64",
    "missing": "Int64",
    "revisions": "int64",
    "version": "str",
    "bytes": "int64",
}


def _row(place: Place, files: list[Partition]) -> dict[str, object]:
    footers = [read_footer(partition.path) for partition in files]
    superseded = sum(footer.superseded for footer in footers)
    first, last = footers[0].first, footers[-1].last
    gaps: Any = pd.NA
    missing: Any = pd.NA
    # One row a bar: only there does the distance between neighbours say anything.
    if footers[0].order == "ts" and "ts" in footers[0].key and not place.timeframe.is_tick:
        step = place.timeframe.nanoseconds
        between = sum(b.first - a.last > step for a, b in pairwise(footers))
        gaps = between + sum(footer.jumps for footer in footers)
        missing = max(0, (last - first) // step + 1 - sum(footer.instants for footer in footers))
    return {
        "symbol": str(place.symbol),
        "timeframe": place.timeframe.name,
        "table": f"{place.zone}/{place.table}",
        "rows": sum(footer.rows for footer in footers) - superseded,
        "first": pd.Timestamp(first, unit="ns", tz="UTC"),
        "last": pd.Timestamp(last, unit="ns", tz="UTC"),
        "gaps": gaps,
        "missing": missing,
        "revisions": superseded,
        "version": digest({p.label: footer.content for p, footer in zip(files, footers, strict=True)}),
        "bytes": sum(partition.path.stat().st_size for partition in files),
    }


def _described(place: Place, footer: Footer, schema: pa.Schema) -> TableSpec:
    return TableSpec(
        place.zone,  # type: ignore[arg-type]  # Place holds validated zones only
        place.table,
        schema,
        key=footer.key,
        order=footer.order,
        bitemporal=footer.bitemporal,
        keep=footer.keep,
    )
