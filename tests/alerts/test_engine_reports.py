"""What engines say of themselves through the database."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from tapeline.alerts.engine_reports import (
    ALIVE_SECONDS,
    LARGEST_STATUS,
    EngineReport,
    forget_engines,
    read_engines,
    write_engine,
)
from tapeline.alerts.store.engine_tables import engine
from tapeline.alerts.store.store import Store
from tapeline.core.errors import ConfigurationError

SECOND = 1_000_000_000
READY = {"health": {"ok": True, "reasons": []}, "readiness": {"ok": True, "reasons": []}}


def test_the_newest_beat_of_each_engine_is_read(store: Store) -> None:
    write_engine(store.database, EngineReport("two", 5, 6 * SECOND, READY))
    write_engine(store.database, EngineReport("one", 1, 2 * SECOND, {}))
    write_engine(store.database, EngineReport("one", 1, 4 * SECOND, {**READY, "rules": 3}))
    one, two = read_engines(store.database, 7 * SECOND)
    assert (one.instance, one.started_at, one.beat_at, one.age, one.status["rules"]) == ("one", 1, 4 * SECOND, 3.0, 3)
    assert (two.instance, two.age) == ("two", 1.0)
    assert forget_engines(store.database, 5 * SECOND) == 1
    assert [found.instance for found in read_engines(store.database, 7 * SECOND)] == ["two"]


def test_an_engine_that_is_not_heard_of_is_neither_alive_nor_ready(store: Store) -> None:
    write_engine(store.database, EngineReport("one", 0, 0, READY))
    (fresh,) = read_engines(store.database, int(ALIVE_SECONDS * SECOND))
    assert fresh.alive
    assert fresh.ready
    assert fresh.reasons == ()
    (old,) = read_engines(store.database, int((ALIVE_SECONDS + 1) * SECOND))
    assert not old.alive
    assert not old.ready
    assert old.reasons == ("no beat for 11 s",)


def test_an_engine_says_itself_why_it_is_not_ready(store: Store) -> None:
    says = {"health": {"ok": True, "reasons": []}, "readiness": {"ok": False, "reasons": ["the store refuses"]}}
    write_engine(store.database, EngineReport("one", 0, SECOND, says))
    (found,) = read_engines(store.database, SECOND)
    assert found.alive
    assert not found.ready
    assert found.reasons == ("the store refuses",)


def test_a_damaged_row_is_not_ready_and_hides_no_other(store: Store) -> None:
    write_engine(store.database, EngineReport("one", 0, SECOND, READY))
    write_engine(store.database, EngineReport("two", 0, SECOND, READY))
    store.database.write(lambda db: db.execute(update(engine).where(engine.c.instance == "one").values(status="{")))
    one, two = read_engines(store.database, SECOND)
    assert not one.ready
    assert one.reasons == ("its status is damaged",)
    assert two.ready


@pytest.mark.parametrize("instance", ["", "a b", "x" * 65, "a\n", '"'])
def test_a_name_that_is_none_is_refused(store: Store, instance: str) -> None:
    with pytest.raises(ConfigurationError, match="not the name"):
        write_engine(store.database, EngineReport(instance, 0, 0, {}))


def test_a_status_without_end_is_refused(store: Store) -> None:
    with pytest.raises(ConfigurationError, match="letters"):
        write_engine(store.database, EngineReport("one", 0, 0, {"x": "y" * LARGEST_STATUS}))
    assert read_engines(store.database, 0) == ()
