"""Reading a user's file into an Arrow table: bounded, without evaluating anything, and without losing a row."""

from __future__ import annotations

import codecs
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tapeline.core.errors import ConfigurationError, DataError

MAXIMUM_BYTES: Final = 2**30
MAXIMUM_ROWS: Final = 50_000_000
MAXIMUM_UNPACKED_BYTES: Final = 2**33
DELIMITERS: Final = (",", ";", "\t", "|", " ")
TEXT_SUFFIXES: Final = (".csv", ".txt", ".tsv")
SUFFIXES: Final = (*TEXT_SUFFIXES, ".parquet", ".feather")
_HEAD_BYTES: Final = 65_536


@dataclass(frozen=True)
class RawTable:
    """A file's rows: ``table`` holds those with the right number of cells, ``ragged`` the others.

    ``positions`` are the places of the table's rows in the file (from 0, header and blank lines not counted);
    ``ragged`` pairs such a place with the text of a line that has too few or too many cells.
    """

    table: pa.Table
    positions: np.ndarray
    ragged: list[tuple[int, str]]


def read_table(path: Path, *, delimiter: str | None = None) -> RawTable:
    """Read a CSV (or other delimited text), Parquet or Feather file.

    Texts stay texts: cells are parsed later, column by column, so that one bad cell costs one row.

    Raises
    ------
    DataError
        The file is empty, truncated, not of the kind its name says, or not UTF-8 or UTF-16.
    ConfigurationError
        It is larger than 1 GiB, or holds more than 50 million rows or 8 GiB once unpacked.
    """
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"the file '{path.name}' is empty", hint="an export that failed? Write it again")
    if size > MAXIMUM_BYTES:
        raise ConfigurationError(
            f"the file '{path.name}' has {size} bytes, more than the bound of {MAXIMUM_BYTES}",
            hint="split it by year, for instance; several files of one symbol and timeframe are read together",
        )
    if path.suffix.lower() in TEXT_SUFFIXES:
        return _read_text(path, delimiter)
    try:
        table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_feather(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"the file '{path.name}' is not a readable {path.suffix[1:]} file: {_short(error)}",
            hint="it may be truncated; write it again",
        ) from error
    _check_names(path, table.column_names)
    return RawTable(table, np.arange(table.num_rows), [])


def _read_parquet(path: Path) -> pa.Table:
    with pa.parquet.ParquetFile(path, memory_map=False) as file:
        unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        _check_size(path, file.metadata.num_rows, unpacked)
        return file.read()


def _read_feather(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as raw, pa.ipc.open_file(raw) as file:
        batches, rows, unpacked = [], 0, 0
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            rows, unpacked = rows + batch.num_rows, unpacked + batch.nbytes
            _check_size(path, rows, unpacked)
            batches.append(batch)
        return pa.Table.from_batches(batches, schema=file.schema)


def _read_text(path: Path, delimiter: str | None) -> RawTable:
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
    encoding = "utf16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf8"
    first_lines = _head_lines(path, head, encoding)
    if not first_lines:
        raise DataError(f"the file '{path.name}' holds only blank lines", hint="an export that failed? Write it again")
    mark = delimiter or _sniff(path, first_lines)
    names = [name.strip() for name in next(csv.reader([first_lines[0]], delimiter=mark))]
    _check_names(path, names)
    ragged: list[tuple[int, str]] = []

    def keep(row: pa.csv.InvalidRow) -> str:
        # Numbers count from 1 with the header, and are known to the single-threaded reader only.
        ragged.append((-1 if row.number is None else row.number - 2, row.text))
        return "skip"

    def read(threads: bool) -> pa.Table:
        return pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(use_threads=threads, encoding=encoding, block_size=2**23),
            parse_options=pa.csv.ParseOptions(delimiter=mark, invalid_row_handler=keep),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(_arrow_names(first_lines[0], mark), pa.string()), strings_can_be_null=False
            ),
        )

    try:
        table = read(threads=True)
        if ragged:
            ragged.clear()
            table = read(threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"the file '{path.name}' cannot be read as a table: {_short(error)}", hint="save it as UTF-8 text"
        ) from error
    _check_size(path, table.num_rows, table.nbytes)
    positions = np.setdiff1d(np.arange(table.num_rows + len(ragged)), [place for place, _ in ragged])
    return RawTable(table.rename_columns(names), positions, ragged)


def _arrow_names(line: str, mark: str) -> list[str]:
    return next(csv.reader([line], delimiter=mark))


def _head_lines(path: Path, head: bytes, encoding: str) -> list[str]:
    try:
        text = codecs.getincrementaldecoder("utf-16" if encoding == "utf16" else "utf-8-sig")().decode(head)
    except UnicodeDecodeError as error:
        raise DataError(f"the file '{path.name}' is not UTF-8 text: {error.reason}", hint="save it as UTF-8") from error
    if "\0" in text:
        raise DataError(f"the file '{path.name}' holds binary data", hint="name Parquet .parquet and Feather .feather")
    if text.lstrip()[:9].lower().startswith(("<!doctype", "<html", "<?xml")):
        raise DataError(f"the file '{path.name}' is a web page, not a table", hint="download the data itself")
    lines = text.splitlines()
    # The last line of a full buffer may be cut in the middle.
    return [line for line in (lines[:-1] if len(head) == _HEAD_BYTES else lines) if line.strip()]


def _sniff(path: Path, lines: list[str]) -> str:
    """The delimiter that gives the header at least two names and most lines as many cells as the header."""
    best, best_score = "", (0, 0)
    sample = lines[:50]
    for mark in DELIMITERS:
        counts = [len(cells) for cells in csv.reader(sample, delimiter=mark)]
        if counts and counts[0] > 1:
            score = (sum(count == counts[0] for count in counts), counts[0])
            if score > best_score:
                best, best_score = mark, score
    if not best:
        raise DataError(
            f"the header of '{path.name}' shows no delimiter: {lines[0][:80]!r}",
            hint="set delimiter = ';' (or another single character) in files.toml",
        )
    return best


def _check_names(path: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"the file '{path.name}' has several columns named {twice}", hint="give each its own name")


def _check_size(path: Path, rows: int, unpacked: int) -> None:
    if rows > MAXIMUM_ROWS or unpacked > MAXIMUM_UNPACKED_BYTES:
        raise ConfigurationError(
            f"the file '{path.name}' holds {rows} rows and {unpacked} bytes once unpacked, more than the bounds of "
            f"{MAXIMUM_ROWS} and {MAXIMUM_UNPACKED_BYTES}",
            hint="split it",
        )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
