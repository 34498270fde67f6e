"""SQLite's log is brought back beside the writer: the writer's own commits never do it, and the log begins anew."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

from tapeline.alerts.records import Commit
from tapeline.alerts.store import checkpoints
from tapeline.alerts.store.checkpoints import Checkpoints, checkpoint
from tapeline.alerts.store.opening import open_store
from tests.alerts.store.samples import make_firing


def log_of(path: Path) -> int:
    log = path.with_name(path.name + "-wal")
    return log.stat().st_size if log.exists() else 0


def commit(store, *numbers: int) -> None:
    for number in numbers:
        store.commit(Commit((replace(make_firing(number), labels={"text": "x" * 200_000}),)))


def test_a_commit_brings_nothing_back_by_itself(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoints.Checkpoints.__init__, "__defaults__", (3_600.0,))
    path = tmp_path / "alerts.db"
    store = open_store(path)
    before = path.stat().st_size
    # Far more than the thousand pages at which SQLite would do it in a commit.
    commit(store, *range(30))
    assert log_of(path) > 1_000 * 4_096
    assert path.stat().st_size == before
    # Brought back between two commits, it begins anew and grows no further.
    store.database._finish()
    length = log_of(path)
    assert path.stat().st_size > 1_000 * 4_096
    commit(store, *range(30, 35))
    assert log_of(path) == length
    store.close()
    # The last connection that closes brings back what is left.
    assert not log_of(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM alert_firing").fetchone() == (35,)


def test_a_thread_brings_it_back_and_asks_the_writer_where_it_is_long(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoints, "LONGEST_PAGES", 2)
    path, asked = tmp_path / "some.db", threading.Semaphore(0)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    made = Checkpoints(lambda: sqlite3.connect(path), asked.release, 0.0)
    connection.execute("CREATE TABLE one (x)")
    before = path.stat().st_size
    made.note()
    assert asked.acquire(timeout=10)
    made.close()
    assert made.done == 1
    assert path.stat().st_size > before
    connection.close()


def test_a_refusal_ends_nothing(tmp_path: Path) -> None:
    tried = threading.Semaphore(0)

    def refuse() -> sqlite3.Connection:
        tried.release()
        raise sqlite3.OperationalError("the disk is full")

    made = Checkpoints(refuse, lambda: None, 0.0)
    for _ in range(2):
        made.note()
        assert tried.acquire(timeout=10)
    made.close()
    assert made.done == 0


def test_pages_are_counted(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "some.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE one (x)")
    assert checkpoint(connection) == 2
    connection.close()
