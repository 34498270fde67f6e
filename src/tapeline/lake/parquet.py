"""Parquet files of the lake: how one is encoded, what its footer says, and how a damaged one is told."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tapeline.core.errors import DataError, SchemaError
from tapeline.core.schemas import TableSpec
from tapeline.core.timeframe import Timeframe
from tapeline.core.versions import digest
from tapeline.lake.partition import TEMPORARY_SUFFIX

METADATA_KEY: Final = b"tapeline"

COMPRESSION: Final = "zstd"
COMPRESSION_LEVEL: Final = 1
"""Level 3 was measured to take 13 % more time to write bars and to save less than 1 % of their size."""


@dataclass(frozen=True)
class Footer:
    """What the lake writes into a file's key-value metadata, so that it need not read the rows.

    Parameters
    ----------
    content:
        The content hash of the rows.
    rows, superseded:
        All rows, and how many of them a later revision replaces.
    instants:
        How many different values the order column has.
    first, last:
        Its first and last value, in nanoseconds since 1970.
    jumps:
        How many steps between neighbouring instants are longer than one timeframe; 0 for ticks.
    key, order, bitemporal, keep:
        The table's description, so that a lake explains itself without the code that wrote it.
    """

    content: str
    rows: int
    superseded: int
    instants: int
    first: int
    last: int
    jumps: int
    key: tuple[str, ...]
    order: str
    bitemporal: bool
    keep: Literal["first", "last"]

    @classmethod
    def of(cls, spec: TableSpec, table: pa.Table, timeframe: Timeframe, content: str, superseded: int) -> Footer:
        """Describe a sorted table of at least one row."""
        instants = instants_of(table, spec.order)
        steps = np.diff(instants)
        return cls(
            content=content,
            rows=table.num_rows,
            superseded=superseded,
            instants=1 + int(np.count_nonzero(steps)),
            first=int(instants[0]),
            last=int(instants[-1]),
            jumps=0 if timeframe.is_tick else int(np.count_nonzero(steps > timeframe.nanoseconds)),
            key=spec.key,
            order=spec.order,
            bitemporal=spec.bitemporal,
            keep=spec.keep,
        )

    def encode(self) -> bytes:
        """As JSON with a digest of itself, because Parquet does not protect its footer by a checksum."""
        values = asdict(self)
        return json.dumps({"footer": values, "digest": digest(values)}, sort_keys=True).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Footer:
        """Read what ``encode`` wrote; ValueError, KeyError or TypeError where it is something else or was damaged."""
        outer = json.loads(raw)
        values = outer["footer"]
        if digest(values) != outer["digest"]:
            raise ValueError("the footer's digest does not match")
        return cls(**{**values, "key": tuple(values["key"])})


def write_temporary(table: pa.Table, footer: Footer, folder: Path) -> Path:
    """Write a table to a new hidden file of a folder and make its bytes durable; the caller renames it."""
    path = folder / f".{os.getpid()}-{secrets.token_hex(6)}{TEMPORARY_SUFFIX}"
    try:
        pq.write_table(
            table.replace_schema_metadata({METADATA_KEY: footer.encode()}),
            str(path),
            compression=COMPRESSION,
            compression_level=COMPRESSION_LEVEL,
            write_page_checksum=True,
            **encodings(table.schema),
        )
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def encodings(schema: pa.Schema) -> dict[str, Any]:
    """The encoding of each column, as arguments of ``pyarrow.parquet.write_table``.

    Instants rise by equal steps: as differences they nearly vanish. float32 columns (features) hardly repeat a value:
    their bytes compress better in four streams. Texts that repeat are NAME columns, so a plain text does not get a
    dictionary. Everything else does: prices lie on a grid of ticks, and a dictionary made bars 54 % smaller and
    faster to read than byte streams.
    """
    special = {}
    dictionary = []
    for field in schema:
        if pa.types.is_timestamp(field.type):
            special[field.name] = "DELTA_BINARY_PACKED"
        elif pa.types.is_float32(field.type):
            special[field.name] = "BYTE_STREAM_SPLIT"
        elif not (pa.types.is_string(field.type) or pa.types.is_nested(field.type) or pa.types.is_boolean(field.type)):
            dictionary.append(field.name)
    return {"use_dictionary": dictionary, "column_encoding": special}


def read_footer(path: Path) -> Footer:
    """The lake's own part of a file's footer, without its rows; DataError where the file is damaged."""
    with _reported(path):
        return _footer(pq.read_metadata(str(path)).metadata)


def read_schema(path: Path) -> tuple[Footer, pa.Schema]:
    """A file's footer and its Arrow schema."""
    with _reported(path):
        schema = pq.read_schema(str(path))
        return _footer(schema.metadata), schema.remove_metadata()


def read_rows(path: Path, spec: TableSpec, columns: Sequence[str] | None = None) -> tuple[Footer, pa.Table]:
    """A file's footer and the asked columns of its rows (all in the table's order where None).

    Raises
    ------
    DataError
        The file is truncated or damaged (each page carries a checksum), or the lake did not write it.
    SchemaError
        The file holds other columns than the table's schema. Nullable columns that it lacks read as null: the table
        gained them after the file was written.
    """
    with _reported(path), pq.ParquetFile(str(path), page_checksum_verification=True) as file:
        footer = _footer(file.metadata.metadata)
        held = file.schema_arrow.remove_metadata()
        absent = _added_since(held, spec.schema)
        if absent is None:
            raise SchemaError(f"{path} holds other columns than {spec.path}: {_difference(held, spec.schema)}")
        asked = spec.schema.names if columns is None else list(columns)
        table = file.read(columns=[name for name in asked if name not in absent])
        if table.num_rows != footer.rows:
            raise ValueError(f"it holds {table.num_rows} rows, its footer says {footer.rows}")
    table = table.replace_schema_metadata(None)
    if absent:
        for name in absent & set(asked):
            field = spec.schema.field(name)
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        table = table.select(asked)
    return footer, table


def instants_of(table: pa.Table, column: str) -> np.ndarray:
    """A time column without nulls as int64 nanoseconds since 1970; no copy where it is one chunk."""
    chunks = [chunk.view(pa.int64()).to_numpy(zero_copy_only=True) for chunk in table.column(column).chunks]
    if len(chunks) == 1:
        return chunks[0]
    return np.concatenate(chunks) if chunks else np.empty(0, dtype=np.int64)


def _footer(metadata: dict[bytes, bytes] | None) -> Footer:
    raw = (metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise ValueError("it has no Tapeline metadata: the lake did not write it")
    return Footer.decode(raw)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged or no file of the lake: {str(error).splitlines()[0] if str(error) else error!r}",
            hint="restore the file from a copy, or move it away and run the stage again that writes it",
        ) from error


def _added_since(held: pa.Schema, wanted: pa.Schema) -> set[str] | None:
    """The columns that a table has gained since a file was written; None where the file differs in any other way.

    Only nullable columns can be added to a table: a file without them says nothing of them, which is what null means.
    """
    absent = {field.name for field in wanted if field.nullable and field.name not in held.names}
    kept = pa.schema([field for field in wanted if field.name not in absent])
    return absent if held.equals(kept) else None


def _difference(held: pa.Schema, wanted: pa.Schema) -> str:
    absent = [name for name in wanted.names if name not in held.names]
    unknown = [name for name in held.names if name not in wanted.names]
    other = [
        f"{name} is {held.field(name).type}, not {wanted.field(name).type}"
        for name in wanted.names
        if name in held.names and held.field(name).type != wanted.field(name).type
    ]
    parts = [
        f"lacks {absent}" if absent else "",
        f"also has {unknown}" if unknown else "",
        "; ".join(other),
    ]
    return ", ".join(part for part in parts if part) or "the order or the nullability of the columns differs"
