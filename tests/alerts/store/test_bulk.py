"""Rows in statements of many: as many are new as are new, whatever is left over of a power of two."""

from __future__ import annotations

import pytest
from sqlalchemy.dialects import sqlite

from tapeline.alerts.records import Commit
from tapeline.alerts.store.bulk import MOST_ROWS, NEW, REPLACED, sqlite_statements
from tests.alerts.store.samples import make_delivery, make_firing


@pytest.mark.parametrize("count", [1, 2, MOST_ROWS - 1, MOST_ROWS, 2 * MOST_ROWS + 3])
def test_each_row_is_there_once_and_those_that_were_are_told_apart(store, count: int) -> None:
    known = tuple(make_firing(ts) for ts in range(0, count, 3))
    store.commit(Commit(known))
    firings = tuple(make_firing(ts) for ts in range(count))
    positions = {f"feed:{n}": n for n in range(count)}
    new = store.commit(Commit(firings, deliveries=tuple(map(make_delivery, firings)), positions=positions))
    assert new == {one.id for one in firings} - {one.id for one in known}
    assert store.count_firings() == count
    assert sum(len(store.deliveries(one.id)) for one in firings) == len(new)
    assert store.positions() == positions
    # A feed never goes back, whichever statement its row is in.
    store.commit(Commit(positions={name: place - 1 if place % 2 else place + 1 for name, place in positions.items()}))
    assert store.positions() == {name: place if place % 2 else place + 1 for name, place in positions.items()}


@pytest.mark.parametrize("table", [*NEW, *REPLACED], ids=lambda table: table.name)
def test_the_largest_statement_comes_first_and_has_room_for_all(table) -> None:
    made = sqlite_statements(table, sqlite.dialect(paramstyle="qmark"))
    assert list(made) == sorted(made, reverse=True)
    assert next(iter(made)) == MOST_ROWS
    for size, text in made.items():
        assert text.count("?") == size * len(table.columns)
    # Databases of the last six years take so many values in a statement.
    assert made[MOST_ROWS].count("?") < 32_766
