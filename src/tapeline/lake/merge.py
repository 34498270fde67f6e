"""The upsert: what a batch changes in the rows that a partition holds already. Pure, from tables to a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tapeline.core.errors import DataError
from tapeline.core.schemas import TableSpec
from tapeline.lake.batch import ARRIVAL_COLUMNS, key_frame, last_of_key, numbered, sort
from tapeline.lake.content import canonical, equal_rows
from tapeline.lake.parquet import instants_of


@dataclass(frozen=True)
class Merged:
    """The outcome: the partition's new rows (None where nothing changed) and how many rows were what."""

    table: pa.Table | None
    added: int = 0
    revised: int = 0
    unchanged: int = 0
    superseded: int = 0


def merge(
    spec: TableSpec, stored: pa.Table | None, given: pa.Table, *, arrived_at: pd.Timestamp | None = None
) -> Merged:
    """Put a prepared batch of one partition into the rows that the partition holds.

    Rows with a new key are added. Of rows with a known key:

    - bitemporal: the same values (all columns but the key and ``known_at``, ``known_at_is_estimate``, ``source`` and
      ``revision``) change nothing; other values are appended with the next revision. A row that repeats an older
      revision with the same values and the same observed ``known_at`` is a replay of that observation, and changes
      nothing either; where ``known_at`` is an estimate a replay cannot be told from a change back, and is appended.
      A correction cannot have been known before it arrived: with ``arrived_at`` its ``known_at`` is not earlier.
    - ``keep="last"``: other values replace the stored row. ``keep="first"``: the stored row stands.

    Raises
    ------
    DataError
        A row of a table whose key does not hold its order column comes back at another time.
    """
    if stored is None or stored.num_rows == 0:
        given = numbered(spec, given, np.zeros(given.num_rows, dtype=np.int32))
        return Merged(canonical(given) if given.num_rows else None, added=given.num_rows)
    latest = np.flatnonzero(last_of_key(spec, stored)) if spec.bitemporal else np.arange(stored.num_rows)
    match = _match(spec, stored, latest, given)
    is_known = match >= 0
    known = np.flatnonzero(is_known)
    if spec.keep == "first" and not spec.bitemporal:
        changed = np.empty(0, dtype=np.intp)
    else:
        changed = known[_differs(spec, stored, match[known], given, known)]
    new = np.flatnonzero(~is_known)
    unchanged = given.num_rows - new.size - changed.size
    if not (new.size or changed.size):
        return Merged(None, unchanged=unchanged)
    take = np.sort(np.r_[new, changed])
    added = given if take.size == given.num_rows else given.take(pa.array(take))
    superseded = stored.num_rows - latest.size
    if spec.bitemporal:
        revision = np.zeros(take.size, dtype=np.int32)
        if changed.size:
            position = np.searchsorted(take, changed)
            revision[position] = _revisions(stored)[match[changed]] + 1
            if arrived_at is not None:
                added = _known_from(added, position, arrived_at)
        added = numbered(spec, added, revision)
        superseded += changed.size
    elif changed.size:
        stands = np.ones(stored.num_rows, dtype=bool)
        stands[match[changed]] = False
        stored = stored.filter(pa.array(stands))
    table = pa.concat_tables([stored, added]).unify_dictionaries()
    if stored.num_rows and instants_of(added, spec.order)[0] <= instants_of(stored, spec.order)[-1]:
        table = sort(spec, table)
    return Merged(canonical(table), new.size, changed.size, unchanged, superseded)


def _match(spec: TableSpec, stored: pa.Table, latest: np.ndarray, given: pa.Table) -> np.ndarray:
    """For each given row the stored row with its key (its latest revision), or -1."""
    if spec.key == (spec.order,):
        held, asked = instants_of(stored, spec.order)[latest], instants_of(given, spec.order)
        position = np.minimum(np.searchsorted(held, asked), held.size - 1)
        return np.where(held[position] == asked, latest[position], -1)
    if spec.order in spec.key:
        # Only the stored rows of the same stretch can match: what a feed appends costs no search through its day.
        asked, held = instants_of(given, spec.order), instants_of(stored, spec.order)[latest]
        latest = latest[np.searchsorted(held, asked.min()) : np.searchsorted(held, asked.max(), side="right")]
        if latest.size == 0:
            return np.full(given.num_rows, -1)
    held_keys = key_frame(spec, stored.take(pa.array(latest)))
    asked_keys = key_frame(spec, given)
    position = match_keys(held_keys, asked_keys)
    match = np.where(position >= 0, latest[position], -1)
    if spec.order not in spec.key:
        known = np.flatnonzero(match >= 0)
        moved = instants_of(stored, spec.order)[match[known]] != instants_of(given, spec.order)[known]
        if moved.any() and spec.keep == "last":
            raise moved_row(spec, asked_keys.iloc[known[moved]])
    return match


def match_keys(held: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
    """For each asked key its position among the held keys (which are unique), or -1."""
    if held.shape[1] == 1:
        return pd.Index(held.iloc[:, 0]).get_indexer(pd.Index(asked.iloc[:, 0]))
    code = np.zeros(len(held) + len(asked), dtype=np.int64)
    for name in held.columns:
        part, names = pd.factorize(pd.concat([held[name], asked[name]], ignore_index=True), use_na_sentinel=False)
        # Renumbered after each column, so that the product of the cardinalities cannot overflow.
        code = pd.factorize(code * len(names) + part)[0]
    return pd.Index(code[: len(held)]).get_indexer(pd.Index(code[len(held) :]))


def moved_row(spec: TableSpec, keys: pd.DataFrame) -> DataError:
    """The error for rows that come back under their key at another time."""
    shown = keys.iloc[0].to_dict()
    return DataError(
        f"{spec.path}: {len(keys)} rows come back with another '{spec.order}' than the lake holds, such as {shown}",
        hint=f"'{spec.order}' says when a row became known and cannot change; another finding needs another key",
    )


def _differs(spec: TableSpec, stored: pa.Table, held: np.ndarray, given: pa.Table, asked: np.ndarray) -> np.ndarray:
    """True where the given rows ``asked`` say something else than the stored rows ``held``, and are no replay."""
    if held.size == 0:
        return np.empty(0, dtype=bool)
    passed_over = {*spec.key, *(ARRIVAL_COLUMNS if spec.bitemporal else ())}
    names = [name for name in spec.schema.names if name not in passed_over]
    same = _same(stored, held, given, asked, names)
    if not spec.bitemporal or same.all():
        return ~same
    is_observed = np.ones(given.num_rows, dtype=bool)
    if "known_at_is_estimate" in given.column_names:
        is_observed = ~given.column("known_at_is_estimate").to_numpy()
    known_again = [*names, "known_at"]
    revision = _revisions(stored)[held]
    for back in range(1, int(revision.max()) + 1):
        rows = np.flatnonzero(~same & (revision >= back) & is_observed[asked])
        if rows.size:
            same[rows] = _same(stored, held[rows] - back, given, asked[rows], known_again)
    return ~same


def _same(left: pa.Table, rows: np.ndarray, right: pa.Table, others: np.ndarray, names: list[str]) -> np.ndarray:
    same = np.ones(rows.size, dtype=bool)
    take, other_take = pa.array(rows), pa.array(others)
    for name in names:
        a, b = (_array(table.column(name), t) for table, t in ((left, take), (right, other_take)))
        same &= equal_rows(a, b)
    return same


def _array(column: pa.ChunkedArray, take: pa.Array) -> pa.Array:
    taken = pc.take(column, take)
    if pa.types.is_dictionary(taken.type):
        taken = taken.cast(taken.type.value_type)
    return pa.concat_arrays(taken.chunks) if taken.num_chunks else pa.nulls(0, taken.type)


def _revisions(table: pa.Table) -> np.ndarray:
    return table.column("revision").to_numpy()


def _known_from(table: pa.Table, rows: np.ndarray, arrived_at: pd.Timestamp) -> pa.Table:
    """The table with ``known_at`` of these rows not before ``arrived_at``, and observed instead of estimated there."""
    known = instants_of(table, "known_at").copy()
    known[rows] = np.maximum(known[rows], arrived_at.as_unit("ns").value)
    columns = {"known_at": known.view("M8[ns]")}
    if "known_at_is_estimate" in table.column_names:
        columns["known_at_is_estimate"] = table.column("known_at_is_estimate").to_numpy().copy()
        columns["known_at_is_estimate"][rows] = False
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        field = table.schema.field(index)
        table = table.set_column(index, field, pa.array(values).cast(field.type))
    return table
