"""The lake: the one class through which Tapeline's data is written and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from tapeline.core.errors import DataError
from tapeline.core.schemas import TableSpec
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake import reader, recovery, writer
from tapeline.lake import status as inventory
from tapeline.lake.batch import check_spec
from tapeline.lake.manifest import Change, Lineage, Manifest
from tapeline.lake.parquet import read_footer
from tapeline.lake.partition import Place, partitions
from tapeline.lake.reader import Instant
from tapeline.lake.status import Series
from tapeline.lake.writer import WriteReceipt

__all__ = ["Change", "Lake", "Lineage", "Series", "WriteReceipt"]


class Lake:
    """A Parquet lake below one folder, readable by pandas, polars and DuckDB without Tapeline.

    Writes are atomic per partition and idempotent: a process may die at any instant, every partition then holds its
    rows from before or after the write, and the same write again completes the rest. Any number of processes may read
    while one writes; writers of the same series wait for each other.

    Parameters
    ----------
    root:
        The lake's folder. Nothing is created before the first write. It may be a symbolic link; no link below it is
        followed.

    Examples
    --------
    >>> import tempfile
    >>> from tapeline.core.schemas import labels_spec
    >>> lake = Lake(Path(tempfile.mkdtemp()))
    >>> spec, symbol, hourly = labels_spec("up@1"), Symbol.parse("EURUSD"), Timeframe.parse("H1")
    >>> hours = pd.date_range("2017-01-02", periods=3, freq="1h", tz="UTC", name="ts", unit="ns")
    >>> frame = pd.DataFrame({"value": [1.0, 0.0, 1.0], "t_end": hours + hourly.duration, "weight": 1.0}, index=hours)
    >>> receipt = lake.write(spec, frame, symbol, hourly, lineage=Lineage("run-1", "labels"))
    >>> receipt.rows_added, receipt.partitions
    (3, ('2017',))
    >>> lake.write(spec, frame, symbol, hourly, lineage=Lineage("run-2", "labels")).rows_unchanged
    3
    >>> lake.read(spec, symbol, hourly, start="2017-01-02T01:00", columns=["value"])["value"].tolist()
    [0.0, 1.0]
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).expanduser().resolve()

    def __repr__(self) -> str:
        return f"Lake({str(self.root)!r})"

    def path_of(self, spec: TableSpec, symbol: Symbol, timeframe: Timeframe) -> Path:
        """The folder of a series, whether it exists or not."""
        return Place.of(spec, symbol, timeframe).folder(self.root)

    def write(
        self,
        spec: TableSpec,
        frame: pd.DataFrame | pa.Table,
        symbol: Symbol,
        timeframe: Timeframe,
        *,
        lineage: Lineage,
        arrived_at: pd.Timestamp | None = None,
    ) -> WriteReceipt:
        """Add a batch of rows to a series, or correct rows that it holds.

        Rows with a new key are added. In a bitemporal table a known key with other values becomes the next revision,
        with its own ``known_at``; ``known_at``, ``known_at_is_estimate``, ``source``, ``revision`` and the columns of
        :data:`tapeline.core.schemas.PROVENANCE_COLUMNS` do not count as values, NaN equals NaN and an absent number,
        and the ``revision`` column of the batch is replaced by the lake's own count from 0. In the other tables the
        first or the last write of a key stands, as the table says.
        A batch that changes nothing leaves every byte as it was.

        Each partition is replaced in one step; a write that spans several is not one step, and is completed by
        repeating it.

        Parameters
        ----------
        spec:
            The table.
        frame:
            The rows: a frame with the time as index or column, or an Arrow table. In any order.
        symbol, timeframe:
            The series.
        lineage:
            What made the rows; it is written to the manifest of each partition that changes.
        arrived_at:
            When the batch came in, for a bitemporal table. A row that corrects a stored one then counts as known from
            that instant on, whatever its ``known_at`` says: a source that serves corrected history gives each bar its
            old time, and an ``as_of`` read must not see the correction before we did. In the raw zone it is the
            ``ingested_at`` of rows that do not say it; a row that is there already keeps its own.

        Raises
        ------
        SchemaError
            The batch, or the file it would be merged into, does not match the table's schema, or a bitemporal batch
            repeats a key. Nothing was written.
        DataError
            A file that must be merged is damaged, a row of a table whose key has no time comes back at another time,
            or a symbolic link stands in the way.
        ConfigurationError
            An argument of a wrong type, or a folder that cannot be written.
        TemporaryError
            Another process holds the series for more than two minutes.
        """
        return writer.write(self.root, spec, frame, symbol, timeframe, lineage, arrived_at)

    def read(
        self,
        spec: TableSpec,
        symbol: Symbol,
        timeframe: Timeframe,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
        as_of: Instant | None = None,
    ) -> pd.DataFrame:
        """Read rows of one series, indexed and sorted by the table's order column.

        Parameters
        ----------
        spec, symbol, timeframe:
            The series. One that does not exist reads as an empty frame with the table's columns.
        start, end:
            The half-open range ``[start, end)`` of the order column; None leaves a side open. A text without a zone
            is UTC; a time object must carry its zone.
        columns:
            The columns to read, all where None. The order column is always read, as the index.
        as_of:
            Read only what was known at that instant: rows whose ``known_at`` (a label's ``t_end``, an event's
            ``confirmed_at``) is not later, the latest revision among them, and ``invalidated_at`` absent where it lay
            ahead. Without it the latest revision of every row is read.

        Raises
        ------
        DataError
            A file is damaged or truncated; the message names it. It is never passed over.
        SchemaError
            A file holds other columns than the table's schema.
        ConfigurationError
            An unknown column, a time that does not parse, or ``as_of`` on a table that does not say when a row became
            known.
        """
        table = self.read_arrow(spec, symbol, timeframe, start=start, end=end, columns=columns, as_of=as_of)
        return reader.to_frame(spec, table)

    def read_arrow(
        self,
        spec: TableSpec,
        symbol: Symbol,
        timeframe: Timeframe,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        columns: Sequence[str] | None = None,
        as_of: Instant | None = None,
    ) -> pa.Table:
        """As :meth:`read`, as an Arrow table with the order column first where ``columns`` are named."""
        return reader.read_arrow(self.root, spec, symbol, timeframe, start=start, end=end, columns=columns, as_of=as_of)

    def last(self, spec: TableSpec, symbol: Symbol, timeframe: Timeframe) -> pd.Timestamp | None:
        """The newest instant of a series, None where it does not exist; reads one footer."""
        return reader.last(self.root, spec, symbol, timeframe)

    def version(
        self,
        spec: TableSpec,
        symbol: Symbol,
        timeframe: Timeframe,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
    ) -> str:
        """The version of a series: a digest of the content hashes of its partitions that overlap ``[start, end)``.

        Whole partitions count, so a change inside a partition but outside the range changes the version too. Raises
        DataError where the range holds no partition.
        """
        check_spec(spec)
        place = Place.of(spec, symbol, timeframe)
        low, high = reader.span(start, end)
        found = partitions(place.folder(self.root), start=low, end=high)
        if not found:
            raise DataError(
                f"the lake at {self.root} holds no {place} from {start or 'its start'} to {end or 'its end'}",
                hint="run the stage that writes it first; 'tapeline status' shows what is there",
            )
        return writer.version_of(found)

    def series(self) -> list[Series]:
        """Every series the lake holds; versioned tables are described from their own files."""
        return inventory.series(self.root)

    def status(self) -> pd.DataFrame:
        """What the lake holds, one row a series, from the files' footers.

        Columns: ``symbol``, ``timeframe``, ``table``; ``rows`` (latest revisions); ``first`` and ``last`` instant;
        ``gaps``, steps between neighbouring open times longer than one timeframe; ``missing``, bars absent from the
        plain grid between first and last, weekends and closed hours included, as no trading calendar is applied (both
        are absent where a table has not one row a bar, as ticks have not); ``revisions``, rows that a later revision
        replaces; ``version``; ``bytes`` on disk.
        """
        return inventory.status(self.root)

    def lineage(self, spec: TableSpec, symbol: Symbol, timeframe: Timeframe) -> list[Change]:
        """What made a series: every change of its partitions with its run, stage and inputs, oldest first in each."""
        place = Place.of(spec, symbol, timeframe)
        changes: list[Change] = []
        for partition in partitions(place.folder(self.root)):
            content = read_footer(partition.path).content
            changes.extend(Manifest(self.root, place, partition.label).history(content))
        return changes

    def recover(self) -> list[Path]:
        """Remove the temporary files of dead writers and make each manifest end at what its file holds.

        Safe at any time: a series that a live process is writing is left alone. A lost manifest is begun again with
        the lineage 'unknown'. Never needed for reading. Returns what was removed or rebuilt.
        """
        return recovery.recover(self.root)

    def damaged(self) -> list[Path]:
        """The files whose rows do not match their own content hash; reads the whole lake."""
        return recovery.damaged(self.root)
