"""Traces: from any stored row back to the raw row it comes from, and to the file or feed that one came from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.schemas import ZONES, TableSpec, Zone
from tapeline.core.symbol import Symbol, parse_name
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tapeline.lake.manifest import Change, Lineage, Manifest
from tapeline.lake.parquet import instants_of, read_footer, read_rows
from tapeline.lake.partition import Partition, Place, partitions
from tapeline.lake.reader import Instant, nanoseconds
from tapeline.lake.status import spec_of

MAXIMUM_STEPS: Final = 64
CHAIN: Final[tuple[Zone, ...]] = ("raw", "clean", "features", "labels", "scores")
"""The zones in the order in which a row is made of another."""
_INPUT: Final = re.compile(
    r"(?P<zone>[a-z]+)/(?P<table>[^:]+):(?P<symbol>.+):(?P<timeframe>[A-Za-z0-9]+)(?:@(?P<version>\w+))?"
)


@dataclass(frozen=True)
class Origin:
    """Where a row came from, as the row itself says; what it does not say is None.

    Parameters
    ----------
    source_id, instrument, ts, ts_origin:
        The source, the instrument, the time and whose clock stamped it.
    known_at, known_at_is_estimate:
        When it became known; an estimate is the bar's close, because a backfill cannot tell when the row was public.
    ingested_at, data_version:
        When it was first stored, and the content hash of the batch that brought it.
    revision:
        Which correction of the row it is, from 0.
    brought_by:
        The runs that wrote that batch, each with the raw file, its hash or the service in its inputs. Empty where the
        row names no batch, and in every zone but the raw one.
    """

    source_id: str | None
    instrument: str
    ts: pd.Timestamp
    ts_origin: str | None
    known_at: pd.Timestamp | None
    known_at_is_estimate: bool | None
    ingested_at: pd.Timestamp | None
    data_version: str | None
    revision: int
    brought_by: tuple[Lineage, ...] = ()


@dataclass(frozen=True)
class Step:
    """One table on the way back.

    Parameters
    ----------
    table, symbol, timeframe:
        The series.
    period:
        The partition in which the rows lie.
    data_version:
        The content hash of that partition as it is now.
    rows:
        How many rows of the asked instant it holds, every revision counted. 0 for an input that has none at that
        instant: it was read whole, as a higher timeframe is.
    changes:
        The runs that made the partition what it is, oldest first, each with its stage and inputs.
    read_versions:
        The versions of the series that the later step read, one a run; none for the row that was asked for.
    origins:
        Of a table whose rows say it, where each of the rows came from.
    provenance:
        What the changes of a raw table name that is no table of the lake: the raw files, their hashes, the services.
    """

    table: str
    symbol: Symbol
    timeframe: Timeframe
    period: str
    data_version: str
    rows: int
    changes: tuple[Change, ...]
    read_versions: tuple[str, ...]
    origins: tuple[Origin, ...]
    provenance: tuple[str, ...]


def trace(lake: Lake, spec: TableSpec, symbol: Symbol, timeframe: Timeframe, ts: Instant) -> list[Step]:
    """Follow a row back through every table that it was made from.

    Parameters
    ----------
    lake, spec, symbol, timeframe:
        The series.
    ts:
        The instant of the row, in the table's order column.

    Returns
    -------
    The steps, the asked table first, raw tables last. A manifest records runs and inputs by partition: a step lists
    every run that changed the partition of the row, the one that wrote the row among them. Of a raw row the origin
    names the very run: the row and the run name the same batch.

    Raises
    ------
    DataError
        The series holds no row of that instant, or a file on the way is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tapeline.core.schemas import RAW_TICKS
    >>> from tapeline.lake import Lineage
    >>> lake, symbol, tick = Lake(Path(tempfile.mkdtemp())), Symbol.parse("EURUSD"), Timeframe.parse("tick")
    >>> now = pd.Timestamp("2025-07-30", tz="UTC").as_unit("ns")
    >>> row = {"ts": now, "sequence": 0, "bid": 1.1, "ask": 1.2, "last": 0.0, "volume": 0.0, "flags": 6}
    >>> row |= {"known_at": now, "known_at_is_estimate": False, "source": "file:ticks.csv", "revision": 0}
    >>> lineage = Lineage("run-1", "ingest", ("ticks.csv, SHA-256 9f86d081",))
    >>> receipt = lake.write(RAW_TICKS, pd.DataFrame([row]), symbol, tick, lineage=lineage)
    >>> step = trace(lake, RAW_TICKS, symbol, tick, now)[0]
    >>> step.origins[0].source_id, step.changes[0].lineage.run_id, step.provenance
    ('file:ticks.csv', 'run-1', ('ticks.csv, SHA-256 9f86d081',))
    """
    place = Place.of(spec, symbol, timeframe)
    instant = nanoseconds(ts, "ts")
    first = _step(lake, spec, place, instant, ())
    if first is None or not first.rows:
        raise DataError(f"the lake holds no row of {place} at {ts}", hint="'tapeline status' shows what is there")
    steps = [first]
    seen = {str(place)}
    waiting = _inputs(first)
    while waiting and len(steps) < MAXIMUM_STEPS:
        name, (source, versions) = waiting.popitem()
        if name in seen:
            continue
        seen.add(name)
        step = _step(lake, spec_of_series(lake, source), source, instant, versions)
        if step is not None:
            steps.append(step)
            for inner, found in _inputs(step).items():
                waiting.setdefault(inner, found)
    return steps


def named_table(lake: Lake, symbol: Symbol, timeframe: Timeframe, name: str | None = None) -> TableSpec:
    """The table of a series by ``<zone>/<table>``; without a name the furthest one that the series went through.

    Raises
    ------
    DataError
        The lake holds no such table of the series; the hint names what it holds.
    """
    held = {s.spec.path: s.spec for s in lake.series() if s.symbol == symbol and s.timeframe == timeframe}
    if name is not None and name in held:
        return held[name]
    furthest = [spec for zone in CHAIN for spec in held.values() if spec.zone == zone]
    if name is not None or not furthest:
        raise DataError(
            f"the lake holds no {name or 'table'} of {symbol} {timeframe}",
            hint=f"it holds {', '.join(sorted(held)) or 'nothing of it'}",
        )
    return furthest[-1]


def trace_lines(steps: Sequence[Step]) -> list[str]:
    """A trace as text, one line a table, row, run and raw file; rows and runs stand below their table.

    Examples
    --------
    >>> from tapeline.core.symbol import Symbol
    >>> eurusd, hourly = Symbol.parse("EURUSD"), Timeframe.parse("H1")
    >>> step = Step("raw/bars", eurusd, hourly, "2017", "0123abcd", 0, (), (), (), ("eurusd.csv, SHA-256 9f86",))
    >>> trace_lines([step])
    ['raw/bars EURUSD H1, period 2017, version 0123abcd: 0 rows', '  from eurusd.csv, SHA-256 9f86']
    """
    lines = []
    for step in steps:
        head = f"{step.table} {step.symbol} {step.timeframe}, period {step.period}, version {step.data_version}"
        read = f", read as {', '.join(step.read_versions)}" if step.read_versions else ""
        lines.append(f"{head}{read}: {step.rows} row{'' if step.rows == 1 else 's'}")
        for row in step.origins:
            estimate = " (estimated)" if row.known_at_is_estimate else ""
            lines.append(
                f"  row {row.ts.isoformat()} revision {row.revision} of {row.source_id or 'no source'}: "
                f"time by {row.ts_origin or 'unknown'}, known {_shown(row.known_at)}{estimate}, "
                f"stored {_shown(row.ingested_at)}, data version {row.data_version or 'unknown'}"
            )
            lines.extend(
                f"    brought by run {lineage.run_id}, {lineage.stage}, from {'; '.join(lineage.inputs) or 'nothing'}"
                for lineage in row.brought_by
            )
        brought = {lineage for row in step.origins for lineage in row.brought_by}
        if not brought:
            lines.extend(f"  run {change.lineage.run_id}, {change.lineage.stage}" for change in step.changes)
            lines.extend(f"  from {text}" for text in step.provenance)
    return lines


def _shown(instant: pd.Timestamp | None) -> str:
    return "unknown" if instant is None else instant.isoformat()


def spec_of_series(lake: Lake, place: Place) -> TableSpec | None:
    """The description of a table that the lake holds, None where it holds no file of it."""
    held = partitions(place.folder(lake.root))
    return spec_of(place, held[-1]) if held else None


def _step(lake: Lake, spec: TableSpec | None, place: Place, instant: int, versions: tuple[str, ...]) -> Step | None:
    held = partitions(place.folder(lake.root), start=instant, end=instant + 1)
    if spec is None or not held:
        return None
    partition = held[0]
    content = read_footer(partition.path).content
    changes = tuple(Manifest(lake.root, place, partition.label).history(content))
    rows = _rows_at(spec, partition, instant)
    texts = dict.fromkeys(text for change in changes for text in change.lineage.inputs)
    return Step(
        table=spec.path,
        symbol=place.symbol,
        timeframe=place.timeframe,
        period=partition.label,
        data_version=content,
        rows=rows.num_rows,
        changes=changes,
        read_versions=versions,
        origins=tuple(_origins(spec, place, rows, changes)),
        provenance=tuple(text for text in texts if _parse_input(text) is None),
    )


def _rows_at(spec: TableSpec, partition: Partition, instant: int) -> pa.Table:
    _, table = read_rows(partition.path, spec)
    instants = instants_of(table, spec.order)
    low, high = instants.searchsorted(instant), instants.searchsorted(instant, side="right")
    return table.slice(int(low), int(high - low))


def _origins(spec: TableSpec, place: Place, rows: pa.Table, changes: tuple[Change, ...]) -> list[Origin]:
    if not spec.provenance:
        return []
    asked = ("source", "ts_origin", "known_at", "known_at_is_estimate", "ingested_at", "data_version", "revision")
    columns: dict[str, list[Any]] = {
        name: _values(rows.column(name)) if name in rows.column_names else [None] * rows.num_rows for name in asked
    }
    return [
        Origin(
            source_id=columns["source"][row],
            instrument=str(place.symbol),
            ts=ts,
            ts_origin=columns["ts_origin"][row],
            known_at=columns["known_at"][row],
            known_at_is_estimate=columns["known_at_is_estimate"][row],
            ingested_at=columns["ingested_at"][row],
            data_version=columns["data_version"][row],
            revision=columns["revision"][row] or 0,
            brought_by=tuple(change.lineage for change in changes if columns["data_version"][row] in change.batches),
        )
        for row, ts in enumerate(_values(rows.column(spec.order)))
    ]


def _values(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_timestamp(column.type):
        values: list[Any] = column.to_pylist()
        return values
    # Arrow's own way to Python objects refuses nanoseconds.
    instants = column.cast(pa.int64()).to_pylist()
    return [None if value is None else pd.Timestamp(value, unit="ns", tz="UTC") for value in instants]


def _inputs(step: Step) -> dict[str, tuple[Place, tuple[str, ...]]]:
    """The series that a step's runs read, each with the versions that they read."""
    found: dict[str, tuple[Place, tuple[str, ...]]] = {}
    for change in step.changes:
        for text in change.lineage.inputs:
            parsed = _parse_input(text)
            if parsed is None:
                continue
            place, version = parsed
            known = found.get(str(place), (place, ()))[1]
            found[str(place)] = (place, tuple(dict.fromkeys((*known, *([version] if version else [])))))
    return found


def _parse_input(text: str) -> tuple[Place, str | None] | None:
    found = _INPUT.fullmatch(text)
    if found is None or found["zone"] not in ZONES:
        return None
    try:
        place = Place(
            found["zone"],
            parse_name(found["table"], "table"),
            Symbol.parse(found["symbol"]),
            Timeframe.parse(found["timeframe"]),
        )
    except ConfigurationError:
        return None  # a text that only looks like an input of the lake
    return place, found["version"]
