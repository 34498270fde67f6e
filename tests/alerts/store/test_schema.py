"""Migrations: from nothing to the newest schema on both databases, once, and never past what is known."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, Table, create_engine, inspect, make_url, select, update

from tapeline.alerts import store
from tapeline.alerts.records import Commit
from tapeline.alerts.store import schema
from tapeline.alerts.store.metadata import REVISION_TABLE, SCHEMA_REVISION, counter, metadata
from tapeline.alerts.store.migrations.versions import r0001_first_schema
from tapeline.alerts.store.opening import open_store
from tapeline.core.errors import ConfigurationError, TemporaryError
from tests.alerts.store.samples import make_firing

OPEN = """
import sys
from tapeline.alerts.store.opening import open_store
sys.stdin.readline()
open_store(sys.argv[1]).close()
"""


# Tables register themselves where they are defined.
for module in pkgutil.iter_modules(store.__path__, f"{store.__name__}."):
    if module.name.endswith("_tables"):
        importlib.import_module(module.name)


def engine_of(address: str):
    if address.startswith("postgres"):
        return create_engine(make_url(address).set(drivername="postgresql+psycopg"))
    return create_engine(address)


def test_the_migrated_schema_is_the_metadata(empty_address) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    open_store(empty_address).close()
    engine = engine_of(empty_address)

    def ours(_, name, kind, reflected, __) -> bool:
        # The partitions are PostgreSQL's way to keep one table.
        return not (kind == "table" and reflected and (name == REVISION_TABLE or name.startswith("alert_firing_")))

    with engine.connect() as connection:
        options = {"version_table": REVISION_TABLE, "compare_type": True, "include_object": ours}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        found = inspect(connection)
        for table in metadata.sorted_tables:
            # Autogeneration compares neither primary keys nor the conditions of indexes.
            key = found.get_pk_constraint(table.name)["constrained_columns"]
            assert key == table.primary_key.columns.keys(), table.name
            where = {
                one["name"]: one["dialect_options"].get(f"{connection.dialect.name}_where")
                for one in found.get_indexes(table.name)
            }
            for index in table.indexes:
                condition = index.dialect_options[connection.dialect.name].get("where")
                assert (condition is None) == (where[index.name] is None), index.name
        assert {row.name: row.value for row in connection.execute(select(counter))} == {
            "commit": 0,
            "rule": 0,
            "acknowledgement": 0,
        }
    engine.dispose()


def test_postgresql_partitions_firings_by_symbol(store, address) -> None:
    if not address.startswith("postgres"):
        pytest.skip("SQLite knows no partitions")
    firings = tuple(make_firing(1, symbol=f"S{n}") for n in range(64))
    store.commit(Commit(firings))
    engine = engine_of(address)
    with engine.connect() as connection:
        parts = connection.exec_driver_sql(
            "SELECT tableoid::regclass::text, count(*) FROM alert_firing GROUP BY 1"
        ).all()
        plan = connection.exec_driver_sql("EXPLAIN SELECT * FROM alert_firing WHERE symbol = 'S1'").scalars().all()
    engine.dispose()
    assert sum(count for _, count in parts) == 64
    assert 8 < len(parts) <= r0001_first_schema.PARTITIONS
    assert len({line for line in plan if "alert_firing_" in line and " on " in line}) == 1


def test_the_newest_revision_is_the_last_step() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]


def test_opening_again_changes_nothing_and_needs_no_alembic(empty_address, monkeypatch) -> None:
    store = open_store(empty_address)
    store.commit(Commit(positions={"feed": 7}))
    store.close()
    monkeypatch.setitem(sys.modules, "alembic.config", None)
    again = open_store(empty_address)
    assert again.positions() == {"feed": 7}
    again.close()


def test_a_newer_schema_is_refused_and_left_alone(empty_address) -> None:
    open_store(empty_address).close()
    engine = engine_of(empty_address)
    table = Table(REVISION_TABLE, MetaData(), Column("version_num", String))
    with engine.begin() as connection:
        connection.execute(update(table).values(version_num="9999"))
    with pytest.raises(ConfigurationError, match="newer") as refusal:
        open_store(empty_address)
    assert "upgrade tapeline" in refusal.value.hint
    with engine.connect() as connection:
        assert connection.execute(select(table.c.version_num)).scalars().all() == ["9999"]
    engine.dispose()


def test_a_schema_is_never_taken_back() -> None:
    with pytest.raises(NotImplementedError, match="backup"):
        r0001_first_schema.downgrade()


def test_two_processes_that_open_at_once_migrate_once(empty_address) -> None:
    openers = [
        subprocess.Popen([sys.executable, "-c", OPEN, empty_address], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for opener in openers:
        opener.stdin.write(b"go\n")
        opener.stdin.flush()
    for opener in openers:
        _, complaint = opener.communicate(timeout=60)
        assert opener.returncode == 0, complaint.decode()
    engine = engine_of(empty_address)
    with engine.connect() as connection:
        assert schema.revision(connection) == SCHEMA_REVISION
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing_behind(empty_address, monkeypatch) -> None:
    real = schema._upgrade

    def failing(connection, found) -> None:
        real(connection, found)
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(schema, "_upgrade", failing)
        with pytest.raises(TemporaryError, match="disk is gone"):
            open_store(empty_address)
    engine = engine_of(empty_address)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    open_store(empty_address).close()


@pytest.mark.parametrize("address", ["mysql://me:secret@host/db", "sqlite://", "http://host/"])
def test_an_address_of_another_kind_is_refused_without_repeating_it(address) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        open_store(address)
    assert "secret" not in str(refusal.value)


def test_a_server_that_is_not_there_is_a_temporary_error_without_the_password(tmp_path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(TemporaryError) as refusal:
        open_store(f"postgresql://me:secret@/db?host={tmp_path}")
    assert "secret" not in str(refusal.value)


def test_the_file_is_readable_by_its_owner_only(tmp_path) -> None:
    path = tmp_path / "new" / "alerts.db"
    open_store(path).close()
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path) -> None:
    path = tmp_path / "alerts.db"
    path.write_bytes(b"not a database, though as long as the header of one would be" * 20)
    with pytest.raises(ConfigurationError, match="not a database"):
        open_store(path)
    assert path.read_bytes().startswith(b"not a database")


def test_a_closed_store_says_so(tmp_path) -> None:
    store = open_store(tmp_path / "alerts.db")
    store.close()
    store.close()
    with pytest.raises(TemporaryError, match="closed"):
        store.positions()
    with pytest.raises(TemporaryError, match="closed"):
        store.commit(Commit())


def test_sqlite_flushes_every_commit_and_lets_readers_in_meanwhile(tmp_path) -> None:
    store = open_store(tmp_path / "alerts.db")

    def pragma(name):
        return lambda connection: connection.exec_driver_sql(f"PRAGMA {name}").scalar()

    database = store._database
    assert database.write(pragma("journal_mode")) == "wal"
    assert database.write(pragma("synchronous")) == 2
    assert database.read(pragma("query_only")) == 1
    assert database.write(lambda connection: store.positions()) == {}
    store.close()


def test_postgresql_flushes_every_commit(store, address) -> None:
    if not address.startswith("postgres"):
        pytest.skip("PostgreSQL's setting")
    show = "SHOW synchronous_commit"
    assert store._database.write(lambda connection: connection.exec_driver_sql(show).scalar()) == "on"
