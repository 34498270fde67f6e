"""A batch as bytes: what one entry of a stream holds, readable by itself.

    magic (4) | version (1) | flags (1) | 0 (2) | head length (4) | records (4) | CRC-32 of the rest | head | columns

The head is MessagePack: the symbols that the batch names, the sources, and the keys of external values by record. The
columns follow one after the other, little-endian, each whole.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.feeds.batcher import NO_SOURCE, ROW, Rows
from tapeline.core.errors import DataError
from tapeline.streams.messages import msgspec

MAGIC: Final = b"TLtb"
VERSION: Final = 1
BEGINS: Final = 1
"""The flag of an entry that begins a term: another publisher goes on from what snapshots hold."""
_HEAD: Final = struct.Struct("<4sBBHIII")
COLUMNS: Final = tuple((name, ROW[name].newbyteorder("<")) for name in ROW.names or ())
_BYTES: Final = sum(kind.itemsize for _, kind in COLUMNS)
_NUMBER_BITS: Final = 40
LARGEST_NUMBER: Final = (1 << _NUMBER_BITS) - 1


class _Names(msgspec.Struct, array_like=True):
    symbols: list[str]
    sources: list[str]
    external: dict[int, str]


_NAMES: Final = msgspec.msgpack.Decoder(_Names)


class PackedBatch(NamedTuple):
    """An entry, read.

    Parameters
    ----------
    symbols, sources:
        What the numbers in the columns mean.
    external:
        By record, the key of an external value.
    columns:
        Of ``batcher.ROW``, by name; ``symbol`` counts in ``symbols`` (-1: all), ``source`` in ``sources``.
    begins:
        Whether a term begins here.
    """

    symbols: tuple[str, ...]
    sources: tuple[str, ...]
    external: Mapping[int, str]
    columns: Mapping[str, NDArray[Any]]
    begins: bool = False

    @property
    def records(self) -> int:
        """How many there are."""
        return int(self.columns["ts"].size)


def position_of(term: int, number: int) -> int:
    """Where an entry stands: the publisher's term and the entry's number in it, as one number that rises.

    Examples
    --------
    >>> position_of(1, 5) < position_of(1, 6) < position_of(2, 0)
    True
    """
    if not (1 <= term < 1 << 22 and 0 <= number <= LARGEST_NUMBER):
        raise DataError(f"term {term} or number {number} of an entry is out of bounds")
    return term << _NUMBER_BITS | number


def term_and_number(position: int) -> tuple[int, int]:
    """The reverse of :func:`position_of`.

    Examples
    --------
    >>> term_and_number(position_of(3, 17))
    (3, 17)
    """
    return position >> _NUMBER_BITS, position & LARGEST_NUMBER


def entry_id(position: int) -> str:
    """A position as the id of a stream's entry.

    Examples
    --------
    >>> entry_id(position_of(3, 17))
    '3-17'
    """
    term, number = term_and_number(position)
    return f"{term}-{number}"


def position_of_id(id: bytes | str) -> int:
    """The reverse of :func:`entry_id`."""
    term, _, number = (id.decode("ascii") if isinstance(id, bytes) else id).partition("-")
    return position_of(int(term), int(number))


def beginning() -> bytes:
    """The entry that begins a term.

    Examples
    --------
    >>> unpack(beginning()).begins
    True
    """
    return _packed(_Names([], [], {}), [b""], 0, BEGINS)


def pack_by_shard(found: Rows, names: Sequence[str], shard_of: NDArray[np.int32], shards: int) -> dict[int, bytes]:
    """A batch as one entry for each shard that it concerns; a record of all symbols goes to each.

    Parameters
    ----------
    names, shard_of:
        By the batcher's number of a symbol, its name and its shard.
    """
    rows = found.rows
    of_row = np.where(rows["symbol"] < 0, -1, shard_of[rows["symbol"]])
    everywhere = np.flatnonzero(of_row < 0)
    packed: dict[int, bytes] = {}
    if everywhere.size:
        for shard in range(shards):
            at = np.flatnonzero((of_row == shard) | (of_row < 0))
            packed[shard] = _pack(found, _columns(rows[at]), 0, at.size, at, names)
        return packed
    order = np.argsort(of_row, kind="stable")
    grouped, columns = of_row[order], _columns(rows[order])
    starts = np.flatnonzero(np.diff(grouped, prepend=-1)).tolist()
    for begin, end in zip(starts, [*starts[1:], grouped.size], strict=True):
        packed[int(grouped[begin])] = _pack(found, columns, begin, end, order, names)
    return packed


def unpack(raw: bytes) -> PackedBatch:
    """Read an entry.

    Raises
    ------
    DataError
        It is damaged, of another version, or names what it does not hold.
    """
    if len(raw) < _HEAD.size:
        raise DataError(f"an entry of {len(raw)} bytes is no batch")
    magic, version, flags, _, head, count, crc = _HEAD.unpack_from(raw)
    if magic != MAGIC or version != VERSION:
        raise DataError(f"an entry is of format {magic!r} {version}, not {MAGIC!r} {VERSION}")
    if len(raw) != _HEAD.size + head + count * _BYTES or zlib.crc32(memoryview(raw)[_HEAD.size :]) != crc:
        raise DataError(f"an entry of {len(raw)} bytes is damaged: its checksum or length does not match")
    at = _HEAD.size
    try:
        names = _NAMES.decode(raw[at : at + head])
    except msgspec.DecodeError as error:
        raise DataError(f"the names of an entry cannot be read: {error}") from None
    at += head
    columns: dict[str, NDArray[Any]] = {}
    for name, kind in COLUMNS:
        columns[name] = np.frombuffer(raw, kind, count, at)
        at += kind.itemsize * count
    symbols, sources = columns["symbol"], columns["source"]
    if count:
        wrong = symbols.max() >= len(names.symbols) or symbols.min() < -1
        wrong = wrong or bool(((sources >= len(names.sources)) & (sources != NO_SOURCE)).any())
        if wrong or any(not 0 <= row < count for row in names.external):
            raise DataError("an entry names symbols, sources or records that it does not hold")
    return PackedBatch(tuple(names.symbols), tuple(names.sources), names.external, columns, bool(flags & BEGINS))


def _columns(rows: NDArray[np.void]) -> dict[str, NDArray[Any]]:
    return {name: np.ascontiguousarray(rows[name], kind) for name, kind in COLUMNS}


def _pack(
    found: Rows, columns: Mapping[str, NDArray[Any]], begin: int, end: int, at: NDArray[np.intp], names: Sequence[str]
) -> bytes:
    """Some of the columns as an entry; ``at`` says which records of the batch they were."""
    count = end - begin
    # A dictionary: numpy's unique costs more than all else where a batch is small.
    local: dict[int, int] = {-1: -1}
    numbers = [local.setdefault(number, len(local) - 1) for number in columns["symbol"][begin:end].tolist()]
    symbols = [names[number] for number in local if number >= 0]
    external: dict[int, str] = {}
    if found.external:
        where = {old: new for new, old in enumerate(at[begin:end].tolist())}
        external = {where[old]: key for old, (_, key) in found.external.items() if old in where}
    raw = [struct.pack(f"<{count}i", *numbers)]
    raw += [columns[name][begin:end].tobytes() for name, _ in COLUMNS[1:]]
    return _packed(_Names(symbols, list(found.sources), external), raw, count, 0)


def _packed(names: _Names, columns: Sequence[bytes], count: int, flags: int) -> bytes:
    head = msgspec.msgpack.encode(names)
    crc = zlib.crc32(head)
    for column in columns:
        crc = zlib.crc32(column, crc)
    return b"".join([_HEAD.pack(MAGIC, VERSION, flags, 0, len(head), count, crc), head, *columns])


def joined(parts: Sequence[PackedBatch]) -> Iterator[tuple[int, PackedBatch]]:
    """Entries that follow each other as fewer, larger ones, each with how many they were.

    The records are the same in the same order. Only neighbours with the same sources and no external values are put
    together.
    """
    gathered: list[PackedBatch] = []
    for part in parts:
        if gathered and (part.external or gathered[-1].external or part.sources != gathered[-1].sources):
            yield len(gathered), _join(gathered)
            gathered = []
        gathered.append(part)
    if gathered:
        yield len(gathered), _join(gathered)


def _join(parts: Sequence[PackedBatch]) -> PackedBatch:
    if len(parts) == 1:
        return parts[0]
    numbers: dict[str, int] = {}
    symbols = []
    for part in parts:
        mapping = np.array([numbers.setdefault(name, len(numbers)) for name in part.symbols] + [-1], np.int32)
        symbols.append(mapping[part.columns["symbol"]])
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name, _ in COLUMNS if name != "symbol"}
    return PackedBatch(tuple(numbers), parts[0].sources, {}, {**columns, "symbol": np.concatenate(symbols)})
