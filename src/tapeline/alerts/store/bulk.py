"""The statements that carry the load, written once from the metadata: insert what is new, replace what may change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ARRAY, Dialect, Table, bindparam, func, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite

from tapeline.alerts.store.metadata import delivery, firing, position, rule_state

NEW: Final = (firing,)
"""Tables whose rows are inserted once and stay."""
REPLACED: Final[Mapping[Table, tuple[str, ...]]] = {
    # Only what is still held may be written anew: a digest that grows, or is let go.
    delivery: ("body", "not_before", "expires_at", "priority", "state", "finished_at"),
    rule_state: ("phase", "body"),
    position: ("position",),
}
"""Tables whose rows may be replaced, and what of them."""


MOST_ROWS: Final = 64
"""Rows of the largest of SQLite's statements."""


def sqlite_statements(table: Table, dialect: Dialect) -> dict[int, str]:
    """The insertion of 64, 32, ... 1 rows, their values in the order of the table's columns.

    The driver lets go of the interpreter at each statement and must come by it again, which costs most where other
    threads work: a group of rows is so inserted in a few statements, not row by row.
    """
    one = str(_resolved(sqlite.insert(table), table).compile(dialect=dialect))
    row = f"({', '.join('?' * len(table.columns))})"
    sizes = (1 << power for power in range(MOST_ROWS.bit_length() - 1, -1, -1))
    return {size: one.replace(f"VALUES {row}", f"VALUES {', '.join([row] * size)}", 1) for size in sizes}


def postgresql_statement(table: Table, dialect: Dialect) -> str:
    """The insertion of any number of rows that come as one array a column: one statement, parsed and planned once."""
    names = table.columns.keys()
    arrays = (bindparam(column.name, type_=ARRAY(column.type)) for column in table.columns)
    rows = func.unnest(*arrays).table_valued(*names).render_derived()
    insertion = postgresql.insert(table).from_select(names, select(*(rows.c[name] for name in names)))
    text = str(_resolved(insertion, table).compile(dialect=dialect))
    # In psycopg's binary form: as text it escapes each element of an array in Python, which costs half of all.
    return text.replace(")s::", ")b::")


def _resolved(insertion: Any, table: Table) -> Any:
    if table in NEW:
        return insertion.on_conflict_do_nothing()
    new = insertion.excluded
    condition = None
    if table is delivery:
        condition = delivery.c.state == literal_column("'held'")
    elif table is position:
        condition = position.c.position < new.position
    return insertion.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: new[name] for name in REPLACED[table]},
        where=condition,
    )
