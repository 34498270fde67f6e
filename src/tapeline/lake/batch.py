"""Batches: a frame from outside, held against its table's schema, sorted and free of duplicate keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tapeline.core.errors import ConfigurationError, SchemaError
from tapeline.core.schemas import PROVENANCE_COLUMNS, TableSpec
from tapeline.core.versions import digest
from tapeline.lake.content import canonical, content_hash
from tapeline.lake.parquet import instants_of

ARRIVAL_COLUMNS: Final = ("known_at", "known_at_is_estimate", "source", "revision", *PROVENANCE_COLUMNS)
"""What a bitemporal row says about its arrival; two rows that differ in these only are the same observation."""
_SHOWN: Final = 3
MAXIMUM_BATCHES: Final = 16
"""A manifest line names at most so many data versions; rows of more of them were copied, not brought."""


def check_spec(spec: TableSpec) -> None:
    """ConfigurationError where the lake could not keep a table as its description promises."""
    if not isinstance(spec, TableSpec):
        raise ConfigurationError(f"spec is a {type(spec).__name__}, expected a TableSpec")
    if not pa.types.is_timestamp(spec.schema.field(spec.order).type):
        raise ConfigurationError(f"{spec.path}: its order column '{spec.order}' is not a time")
    if spec.bitemporal:
        absent = [name for name in ("known_at", "revision") if name not in spec.schema.names]
        if absent or spec.order not in spec.key:
            lack = f"it lacks {absent}" if absent else "its order column is not in its key"
            raise ConfigurationError(
                f"{spec.path} is bitemporal, but {lack}",
                hint="a bitemporal table needs known_at, revision, and its order column in its key",
            )


def conform(spec: TableSpec, frame: pd.DataFrame | pa.Table) -> pa.Table:
    """A frame or an Arrow table as exactly the table's schema; SchemaError where it does not match.

    An Arrow table is held to the same rules as ``TableSpec.to_arrow`` holds a frame to: columns may stand in any
    order, absent nullable ones become null, everything else must cast without loss.
    """
    if isinstance(frame, pd.DataFrame):
        twice = frame.columns[frame.columns.duplicated()].tolist()
        if twice:
            raise SchemaError(f"{spec.path}: columns {twice} stand in the frame twice")
        table = spec.to_arrow(frame)
    elif isinstance(frame, pa.Table):
        table = _conform_arrow(spec, frame)
    else:
        raise ConfigurationError(f"{spec.path}: expected a pandas DataFrame or an Arrow table, was {_kind(frame)}")
    nulls = table.column(spec.order).null_count
    if nulls:
        raise SchemaError(f"{spec.path}: '{spec.order}' has {nulls} nulls", hint="quarantine rows without a time first")
    return table


def prepare(spec: TableSpec, table: pa.Table) -> pa.Table:
    """Sort a conforming table by time and key, and settle duplicate keys inside it.

    Raises
    ------
    SchemaError
        A bitemporal table's batch holds a key twice. The other tables keep the first or the last, as they say.
    """
    instants = instants_of(table, spec.order)
    if spec.order in spec.key and instants.size and (np.diff(instants) > 0).all():
        return table
    repeated = duplicated(spec, table)
    if repeated.any():
        if spec.bitemporal:
            shown = table.select(list(spec.key)).filter(pa.array(repeated)).slice(0, _SHOWN).to_pylist()
            raise SchemaError(
                f"{spec.path}: {int(repeated.sum())} rows of one batch repeat a key, such as {shown}",
                hint="remove duplicates first; a correction is written in a batch of its own",
            )
        table = table.filter(pa.array(~repeated))
    return sort(spec, table)


def stamp(
    spec: TableSpec, table: pa.Table, parts: Sequence[tuple[str, int, int]], arrived_at: pd.Timestamp | None
) -> tuple[pa.Table, dict[str, str]]:
    """Say of rows of the raw zone when they were stored and with which batch they came, where they do not say it yet.

    ``ingested_at`` becomes ``arrived_at``; ``data_version`` the digest of the content hashes of the batch's parts, one
    a period, so that the same answer again has the same version whenever it is stored. A column that holds anything
    already is left as it is, and so is every table of another zone: there the stage carries the columns over.

    Returns
    -------
    The table, and the content hash of each part where it was needed: a period that holds nothing yet will have it.
    """
    rows = table.num_rows
    if spec.zone != "raw" or not spec.provenance or rows == 0:
        return table, {}
    absent = {name for name in spec.provenance if table.column(name).null_count == rows}
    fresh: dict[str, pa.Array] = {}
    contents: dict[str, str] = {}
    if arrived_at is not None and "ingested_at" in absent:
        instant = np.full(rows, arrived_at.as_unit("ns").value)
        fresh["ingested_at"] = pa.array(instant).cast(spec.schema.field("ingested_at").type)
    if "data_version" in absent:
        first = numbered(spec, table, np.zeros(rows, dtype=np.int32))
        for label, start, stop in parts:
            part = canonical(first.slice(start, stop - start))
            contents[label] = content_hash(part, without=spec.provenance)
        version = digest(list(contents.values()))
        fresh["data_version"] = pa.DictionaryArray.from_arrays(np.zeros(rows, dtype=np.int32), pa.array([version]))
    for name, values in fresh.items():
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(index), values)
    return table, contents


def numbered(spec: TableSpec, table: pa.Table, revision: np.ndarray) -> pa.Table:
    """The revision is the lake's to give: whatever the batch says in that column is replaced."""
    if not spec.bitemporal:
        return table
    index = table.schema.get_field_index("revision")
    return table.set_column(index, table.schema.field(index), pa.array(revision, type=table.schema.field(index).type))


def batches_of(spec: TableSpec, table: pa.Table) -> tuple[str, ...]:
    """The data versions of some rows of the raw zone, as their manifest names them; none where they are too many."""
    if spec.zone != "raw" or not spec.provenance:
        return ()
    found = sorted(pc.unique(_plain(table.column("data_version"))).drop_null().to_pylist())
    return tuple(found) if len(found) <= MAXIMUM_BATCHES else ()


def duplicated(spec: TableSpec, table: pa.Table) -> np.ndarray:
    """True for every row whose key another row of the table has, except the one that the table's rule keeps."""
    keep = "first" if spec.bitemporal else spec.keep
    return key_frame(spec, table).duplicated(keep=keep).to_numpy()


def key_frame(spec: TableSpec, table: pa.Table) -> pd.DataFrame:
    """The key columns, with a default index."""
    return pd.DataFrame({name: _plain(table.column(name)).to_pandas() for name in spec.key})


def sort(spec: TableSpec, table: pa.Table) -> pa.Table:
    """Sort by the order column, then the rest of the key, then the revision: the order in which files hold rows."""
    instants = instants_of(table, spec.order)
    if spec.key == (spec.order,):
        # Stable: of one instant's rows the stored ones stand before the added ones, hence by revision.
        return table.take(pa.array(np.argsort(instants, kind="stable")))
    names = [name for name in spec.key if name != spec.order]
    columns = {"0": pa.array(instants)}
    columns.update({str(number): _plain(table.column(name)) for number, name in enumerate(names, start=1)})
    if spec.bitemporal:
        columns[str(len(columns))] = table.column("revision")
    keys = pa.table(columns)
    return table.take(pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names]))


def last_of_key(spec: TableSpec, table: pa.Table) -> np.ndarray:
    """True for the last of neighbouring rows with one key: in a sorted bitemporal table its latest revision."""
    if table.num_rows == 0:
        return np.empty(0, dtype=bool)
    instants = instants_of(table, spec.order)
    same = instants[1:] == instants[:-1]
    for name in spec.key:
        if name != spec.order and same.any():
            column = _plain(table.column(name)).combine_chunks()
            same &= pc.equal(column.slice(1), column.slice(0, len(column) - 1)).to_numpy(zero_copy_only=False)
    return np.r_[~same, True]


def _conform_arrow(spec: TableSpec, given: pa.Table) -> pa.Table:
    unknown = [name for name in given.column_names if name not in spec.schema.names]
    if unknown or len(set(given.column_names)) != given.num_columns:
        raise SchemaError(
            f"{spec.path}: columns {unknown or given.column_names} are not in its schema or stand twice",
            hint="drop or rename them first",
        )
    arrays: list[Any] = []
    for field in spec.schema:
        if field.name not in given.column_names:
            if not field.nullable:
                raise SchemaError(f"{spec.path}: required column '{field.name}' is missing")
            arrays.append(pa.nulls(given.num_rows, field.type))
            continue
        column = given.column(field.name)
        if column.type != field.type:
            column = _cast(spec, column, field)
        if not field.nullable and column.null_count:
            raise SchemaError(f"{spec.path}: required column '{field.name}' has {column.null_count} nulls")
        arrays.append(column)
    return pa.Table.from_arrays(arrays, schema=spec.schema)


def _cast(spec: TableSpec, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if pa.types.is_timestamp(field.type) and not (pa.types.is_timestamp(column.type) and column.type.tz):
        if column.null_count != len(column):
            raise SchemaError(f"{spec.path}: '{field.name}' holds {column.type}, expected UTC instants")
        return pa.chunked_array([pa.nulls(len(column), field.type)])
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise SchemaError(
            f"{spec.path}: column '{field.name}' ({column.type}) does not cast to {field.type}: {error}"
        ) from error


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
