"""SQL views over the lake: one read-only DuckDB statement against Arrow datasets, without any access to files.

DuckDB sees no file system here. Its own file readers could be limited to the lake's files, but a path that may be read
may also be written (``WITH x AS (COPY ... TO '<path>')`` counts as a SELECT), so the rows come through Arrow instead,
with projections and filters pushed down to the partitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from tapeline.core.errors import ConfigurationError, DataError, TapelineError
from tapeline.core.schemas import TableSpec
from tapeline.core.versions import digest
from tapeline.lake.lake import Lake
from tapeline.lake.parquet import read_footer
from tapeline.lake.partition import Partition, Place
from tapeline.lake.status import held, spec_of

if TYPE_CHECKING:
    import duckdb

FOLDERS: Final = pa.schema([("symbol", pa.string()), ("timeframe", pa.string()), ("period", pa.string())])
"""The columns that a view has beyond the table's own: the names of the folders."""

_HINT: Final = (
    "only one SELECT, WITH, DESCRIBE, SHOW or EXPLAIN statement over the lake's views; 'show tables' lists them"
)
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9_]+")
_FOLDERS: Final = len(FOLDERS) + 1
_BATCH_ROWS: Final = 65_536


@dataclass(frozen=True)
class View:
    """One table as SQL sees it: its name, its description and its files."""

    name: str
    spec: TableSpec
    files: tuple[Path, ...]


def query(lake: Lake, sql: str, *, limit_rows: int | None = None) -> pa.Table:
    """Run one read-only SQL statement over the lake.

    Each table is a view ``<zone>_<table>`` (``raw_bars``, ``features_core_0123abcd``) with the columns ``symbol``,
    ``timeframe`` and ``period`` beside its own. A bitemporal table's view shows the latest revision of each row;
    ``<zone>_<table>_revisions`` shows all.

    Parameters
    ----------
    lake:
        The lake.
    sql:
        One SELECT, WITH, DESCRIBE, SHOW or EXPLAIN statement in DuckDB's dialect.
    limit_rows:
        Return at most so many rows; the rest is not computed where the statement allows it.

    Raises
    ------
    ConfigurationError
        The statement does not parse, names what is not there, or is anything but one read.
    DataError
        The statement failed on the data, or a file of the lake is damaged.

    Examples
    --------
    >>> import tempfile
    >>> query(Lake(Path(tempfile.mkdtemp())), "select 1 + 1 as two").to_pydict()
    {'two': [2]}
    """
    import duckdb

    if limit_rows is not None and limit_rows < 0:
        raise ConfigurationError(f"limit_rows {limit_rows} is negative", hint="use 0 or more")
    statement = _one_read(sql)
    with duckdb.connect(":memory:", config=_CONFIGURATION) as connection:
        try:
            for view in views(lake):
                _register(connection, view)
            connection.execute("SET lock_configuration = true")
            relation = connection.sql(statement)
            return _fetch(relation, limit_rows)
        except TapelineError:
            raise
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise _translated(error) from error


def views(lake: Lake) -> list[View]:
    """The views of the lake, by name."""
    named: dict[str, View] = {}
    for (zone, table), group in groupby(held(lake.root), key=lambda item: (item[0].zone, item[0].table)):
        found = list(group)
        view = _view(zone, table, found)
        name = view.name
        if name in named:  # 'a.b' and 'a-b' read the same in SQL
            name = f"{name}_{digest([zone, table])[:4]}"
        named[name] = View(name, view.spec, view.files)
    return [named[name] for name in sorted(named)]


_CONFIGURATION: Final[dict[str, Any]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",  # or a table name could read a variable of the calling program
    "temp_directory": "",
}


def _one_read(sql: str) -> str:
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
    except (duckdb.Error, TypeError) as error:
        raise ConfigurationError(f"the query does not parse: {_first_lines(error)}", hint=_HINT) from error
    if len(statements) != 1:
        raise ConfigurationError(f"the query holds {len(statements)} statements, expected one", hint=_HINT)
    kind = statements[0].type
    if kind not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise ConfigurationError(f"the query is a {kind.name} statement, which is refused", hint=_HINT)
    return statements[0].query


def _view(zone: str, table: str, found: Iterable[tuple[Place, list[Partition]]]) -> View:
    series = list(found)
    place, partitions = series[0]
    files = tuple(partition.path for _, files in series for partition in files)
    return View(_NOT_IN_NAMES.sub("_", f"{zone}_{table}"), spec_of(place, partitions[-1]), files)


def _register(connection: duckdb.DuckDBPyConnection, view: View) -> None:
    every = connection.from_arrow(_dataset(view, view.files))
    if not view.spec.bitemporal:
        every.create_view(view.name)
        return
    every.create_view(f"{view.name}_revisions")
    revised = {path for path in view.files if read_footer(path).superseded}
    if not revised:
        every.create_view(view.name)
        return
    # Most files hold no revision: only the others pay for the search for the latest one.
    final = connection.from_arrow(_dataset(view, [path for path in view.files if path not in revised]))
    keys = ", ".join(f'"{name}"' for name in ("symbol", "timeframe", *view.spec.key))
    latest: Any = connection.from_arrow(_dataset(view, sorted(revised))).query(
        "revised",
        f"SELECT * FROM revised QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY revision DESC) = 1",  # noqa: S608 - keys are the schema's own names
    )
    final.union(latest).create_view(view.name)


def _dataset(view: View, files: Iterable[Path]) -> Any:
    from pyarrow import dataset, fs

    folders = dataset.partitioning(FOLDERS, flavor="hive")
    shape = dataset.ParquetFileFormat()
    disk = fs.LocalFileSystem()
    fragments = [
        # Of the path only the lake's own folders: one above the root may be called symbol=... as well.
        shape.make_fragment(str(path), disk, partition_expression=folders.parse("/".join(path.parts[-_FOLDERS:])))
        for path in files
    ]
    return dataset.FileSystemDataset(fragments, pa.schema([*view.spec.schema, *FOLDERS]), shape, filesystem=disk)


def _fetch(relation: duckdb.DuckDBPyRelation | None, limit_rows: int | None) -> pa.Table:
    if relation is None:
        return pa.table({})
    if limit_rows is None:
        return relation.to_arrow_table()
    reader = relation.to_arrow_reader(_BATCH_ROWS)
    batches, rows = [], 0
    while rows < limit_rows:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            break
        batches.append(batch)
        rows += batch.num_rows
    return pa.Table.from_batches(batches, schema=reader.schema).slice(0, limit_rows)


def _translated(error: Exception) -> TapelineError:
    import duckdb

    refused = (
        duckdb.ParserException,
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.PermissionException,
        duckdb.SyntaxException,
        duckdb.NotImplementedException,
    )
    if isinstance(error, refused):
        return ConfigurationError(f"the query was refused: {_first_lines(error)}", hint=_HINT)
    return DataError(
        f"the query failed: {_first_lines(error)}", hint="check the expression; 'tapeline status' names a damaged file"
    )


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
