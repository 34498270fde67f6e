"""The audit log: in the transaction of what it tells, one chain, and whatever is done to it shows."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest
from sqlalchemy import delete, func, insert, select, update

from tapeline.alerts.access.audit import AuditLog
from tapeline.alerts.access.audit_chain import GENESIS, Head, HeadSigner, row_hash
from tapeline.alerts.access.principal import Principal
from tapeline.alerts.store.people_tables import audit, audit_head
from tapeline.core.errors import ConfigurationError, DataError, TapelineError
from tests.alerts.access.support import KEY, OLDER, OTHER, Clock, make_rule, on_sqlite
from tests.alerts.conftest import _triggers_off

ANN = Principal("ann", "user", None, "session:f1")


@pytest.fixture
def log(store) -> AuditLog:
    return AuditLog(store.database, [KEY], Clock())


def fill(log, count=6) -> None:
    for n in range(count):
        log.record(ANN, "rule.change", "rule", f"r{n}", before={"n": n}, after={"n": n + 1})


def tamper(store, *statements) -> None:
    """As somebody who owns the database can."""

    def work(connection) -> None:
        with _triggers_off(connection):
            for statement in statements:
                connection.execute(statement)

    store.database.write(work)


def problems(log, known=None) -> list[tuple[int, str]]:
    return [(one.number, one.problem) for one in log.verify(known).findings]


def test_the_row_and_what_it_tells_of_stand_together(store, log) -> None:
    after = lambda stored: {"revision": stored.revision}  # noqa: E731
    with log.entry(ANN, "rule.create", "rule", "r1", after=after, address="198.51.100.4", request_id="q-1"):
        store.save_rule(make_rule("r1"), by="ann", at=1)
    (row,) = log.rows()
    assert (row.number, row.actor, row.credential) == (1, "ann", "session:f1")
    assert (row.action, row.kind, row.record) == ("rule.create", "rule", "r1")
    assert (row.before, row.after, row.address, row.request_id) == ("null", '{"revision":1}', "198.51.100.4", "q-1")
    assert (row.at, row.previous_hash, row.hash) == (Clock().now, GENESIS, row_hash(row))
    assert log.verify().intact


def test_what_was_taken_back_is_not_told(store, log) -> None:
    with pytest.raises(TapelineError), log.entry(ANN, "rule.change", "rule", "r1"):
        store.save_rule(make_rule("r1"), by="ann", at=1, revision=7)
    assert log.rows() == ()


def test_what_cannot_be_told_is_taken_back(store) -> None:
    keyless = AuditLog(store.database)
    with pytest.raises(ConfigurationError, match="no key"), keyless.entry(ANN, "rule.create", "rule", "r1"):
        store.save_rule(make_rule("r1"), by="ann", at=1)
    assert store.rules() == ()


@on_sqlite
def test_only_the_first_write_of_a_block_is_told_of(store, log) -> None:
    with log.entry(ANN, "rule.create", "rule", "r1") as entry:
        assert not entry.written
        store.save_rule(make_rule("r1"), by="ann", at=1)
        assert entry.written
        store.rewind("feed", 3)
    assert len(log.rows()) == 1


def test_a_write_that_failed_leaves_the_row_to_the_next(store, log) -> None:
    with log.entry(ANN, "rule.change", "rule", "r1"):
        with pytest.raises(TapelineError):
            store.save_rule(make_rule("r1"), by="ann", at=1, revision=7)
        store.save_rule(make_rule("r1"), by="ann", at=1)
    assert len(log.rows()) == 1


def test_reading_is_no_write_and_a_block_without_one_is_told_of_alone(store, log) -> None:
    with log.entry(ANN, "dead-letter.look", "delivery") as entry:
        store.rules()
        assert not entry.written
        entry.after = {"seen": 3}
    assert log.rows()[0].after == '{"seen":3}'


@on_sqlite
def test_a_block_that_fails_before_it_wrote_tells_nothing(log) -> None:
    with pytest.raises(ZeroDivisionError), log.entry(ANN, "rule.create", "rule"):
        1 / 0  # noqa: B018
    assert log.rows() == ()


@on_sqlite
def test_another_threads_writes_are_not_told_of(store, log) -> None:
    with log.entry(ANN, "rule.create", "rule", "r1") as entry:
        other = threading.Thread(target=store.rewind, args=("feed", 3))
        other.start()
        other.join()
        assert not entry.written
        store.save_rule(make_rule("r1"), by="ann", at=1)


@on_sqlite
def test_secrets_do_not_get_into_it(log) -> None:
    planted = "hunter2-is-what-it-is"
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
    value = {
        "password": planted,
        "signing_keys": [planted],
        "nested": [{"api_key": planted, "Authorization": planted, "endpoint": {"secrets": {"new": planted}}}],
        "url": f"https://me:{planted}@example.com/",
        "raw": planted.encode(),
        "text": f"Bearer {jwt} and token={planted}",
        "api_keys": 10,
        "name": "kept",
    }
    log.record(
        f"token={planted}", "x", "y", f"password={planted}", before=value, after=value, address=f"secret={planted}"
    )
    (row,) = log.rows()
    text = json.dumps(asdict(row))
    assert planted not in text
    assert jwt not in text
    assert json.loads(row.after)["name"] == "kept"
    assert json.loads(row.after)["api_keys"] == 10


@pytest.mark.parametrize(
    "value", ["x" * 1_000_000, {"a": "\x00\ud800"}, {"f": float("nan")}, {1: {2: {3}}}, [[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]
)
def test_what_is_too_long_or_no_json_is_told_of_all_the_same(log, value) -> None:
    log.record("a\r\nb\x1b[31m", "x" * 5_000, "y", "z\x00", before=value)
    (row,) = log.rows()
    assert len(row.before) < 70_000
    json.loads(row.before)
    assert row.actor == "a  b [31m"
    assert len(row.action) == 200
    assert log.verify().intact


def test_the_database_itself_refuses_to_change_or_remove_a_row(store, log) -> None:
    fill(log, 2)
    back = update(audit_head).values(number=1)
    for statement in (update(audit).values(actor="bob"), delete(audit), delete(audit_head), back):
        with pytest.raises(DataError, match=r"append-only|only goes on"):
            store.database.write(lambda connection, one=statement: connection.execute(one))
    assert log.verify().intact


def test_postgresql_refuses_to_empty_it_at_once(store, log, address) -> None:
    if not address.startswith("postgres"):
        pytest.skip("SQLite knows no TRUNCATE")
    fill(log, 1)
    for table in ("alert_audit", "alert_audit_head"):
        with pytest.raises(DataError, match="append-only"):
            store.database.write(lambda connection, name=table: connection.exec_driver_sql(f"TRUNCATE {name}"))
    assert log.verify().rows == 1


@pytest.mark.parametrize("column", [one.name for one in audit.columns if one.name not in ("number", "at")])
@on_sqlite
def test_every_column_is_under_the_hash(store, log, column) -> None:
    fill(log, 3)
    tamper(store, update(audit).where(audit.c.number == 2).values({column: "changed"}))
    assert [number for number, _ in problems(log)][:1] == [2]


def test_a_changed_time_shows(store, log) -> None:
    fill(log, 3)
    tamper(store, update(audit).where(audit.c.number == 2).values(at=5))
    assert problems(log) == [(2, "was changed: its hash is another")]


def test_a_changed_row_whose_hash_was_made_anew_breaks_the_next(store, log) -> None:
    fill(log, 3)
    row = replace(log.rows()[1], actor="bob")
    tamper(store, update(audit).where(audit.c.number == 2).values(actor="bob", hash=row_hash(row)))
    assert problems(log) == [(3, "does not continue row 2")]


def test_a_removed_row_shows(store, log) -> None:
    fill(log, 5)
    tamper(store, delete(audit).where(audit.c.number == 3))
    assert problems(log) == [(3, "is missing: row 4 follows row 2")]
    tamper(store, delete(audit).where(audit.c.number == 1))
    assert (1, "is missing: row 2 follows row 0") in problems(log)


def test_rows_in_another_order_show(store, log) -> None:
    fill(log, 5)
    swap = [update(audit).where(audit.c.number == a).values(number=b) for a, b in ((2, 99), (3, 2), (99, 3))]
    tamper(store, *swap)
    assert {number for number, _ in problems(log)} >= {2, 3, 4}


def test_rows_removed_at_the_end_show(store, log) -> None:
    fill(log, 5)
    tamper(store, delete(audit).where(audit.c.number > 3))
    assert problems(log) == [(4, "rows up to 5 are missing at the end")]


def test_the_head_cannot_be_set_back_with_them(store, log) -> None:
    fill(log, 5)
    third = log.rows()[2]
    signature = log.head().signature
    cut = delete(audit).where(audit.c.number > 3)
    tamper(store, cut, update(audit_head).values(number=3, hash=third.hash))
    assert problems(log) == [(3, "the head carries no signature of ours")]
    # Nor does it heal with the next row, or with another key's signature.
    forged = HeadSigner([OTHER]).signed(3, third.hash, 0)
    tamper(store, update(audit_head).values(signature=forged.signature))
    fill(log, 2)
    assert log.head().signature != signature
    assert problems(log) == [(4, "was written upon a head without a signature of ours")]


@pytest.mark.parametrize("emptied", [True, False])
def test_a_head_that_was_taken_away_shows(store, log, emptied) -> None:
    fill(log, 3)
    statements = [delete(audit_head)]
    if emptied:
        statements.append(insert(audit_head).values(asdict(Head(0, GENESIS)) | {"name": "head"}))
    tamper(store, *statements)
    assert problems(log)
    fill(log, 1)
    assert log.head().number == 4
    assert problems(log) == [(4, "was written upon a head without a signature of ours")]


def test_a_rewritten_chain_shows(store, log) -> None:
    fill(log, 4)
    rows = list(reversed(log.rows()))
    previous, changed = GENESIS, []
    for row in rows:
        one = replace(row, actor="bob", previous_hash=previous)
        previous = row_hash(one)
        changed.append(update(audit).where(audit.c.number == row.number).values(asdict(replace(one, hash=previous))))
    tamper(store, *changed, update(audit_head).values(hash=previous))
    assert problems(log) == [(4, "the head carries no signature of ours")]


def test_a_whole_database_set_back_shows_only_against_a_head_that_was_noted(store, log) -> None:
    fill(log, 3)
    earlier = log.head()
    fill(log, 2)
    noted = log.head()
    back = {"number": earlier.number, "hash": earlier.hash, "signature": earlier.signature}
    tamper(store, delete(audit).where(audit.c.number > 3), update(audit_head).values(back))
    assert problems(log) == []
    assert problems(log, noted) == [(5, "was noted as the head, and the log ends at 3")]
    assert problems(log, earlier) == []
    log.record("bob", "rule.change", "rule", "r3")
    log.record("bob", "rule.change", "rule", "r4")
    assert problems(log, noted) == [(5, "is not the row whose hash was noted")]


@on_sqlite
def test_keys_change_and_the_chain_goes_on(store) -> None:
    clock = Clock()
    fill(AuditLog(store.database, [OLDER], clock), 2)
    both = AuditLog(store.database, [KEY, OLDER], clock)
    assert both.verify().intact
    fill(both, 1)
    assert AuditLog(store.database, [KEY], clock).verify().intact
    assert problems(AuditLog(store.database, [OLDER], clock)) == [(3, "the head carries no signature of ours")]


@on_sqlite
def test_what_stands_before_a_doubt_can_be_accepted_by_name(store, log) -> None:
    fill(log, 2)
    tamper(store, update(audit_head).values(signature="lost"))
    fill(log, 1)
    assert problems(log) == [(3, "was written upon a head without a signature of ours")]
    log.accept("(command line: root)", "the key was lost")
    assert problems(log) == []
    newest = log.rows()[0]
    assert (newest.number, newest.action, json.loads(newest.after)["doubted_row"]) == (4, "audit.accept", 3)


def test_writers_at_once_make_one_chain(store, log) -> None:
    def write(n: int) -> None:
        with log.entry(ANN, "feed.rewind", "feed", str(n)):
            store.rewind(f"feed-{n}", n)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert [row.number for row in log.rows()] == list(range(40, 0, -1))
    assert len(store.positions()) == 40
    assert log.verify().intact


def test_rows_are_found_and_paged(log) -> None:
    fill(log, 5)
    log.record("bob", "login", "session", "s")
    assert [row.number for row in log.rows(limit=2)] == [6, 5]
    assert [row.number for row in log.rows(before=5, limit=2)] == [4, 3]
    assert [row.number for row in log.rows(actor="bob")] == [6]
    assert [row.number for row in log.rows(kind="rule", id="r2")] == [3]
    assert [row.number for row in log.rows(action="login")] == [6]
    for limit in (0, 1_001):
        with pytest.raises(DataError, match="limit"):
            log.rows(limit=limit)


def test_more_rows_than_a_page_are_verified(store, log, monkeypatch) -> None:
    monkeypatch.setattr("tapeline.alerts.access.audit.LARGEST_PAGE", 4)
    for count in (3, 1, 1, 4):
        fill(log, count)
        verification = log.verify()
        assert verification.intact
        assert verification.rows == verification.head.number
    tamper(store, delete(audit).where(audit.c.number == 5))
    assert problems(log)[0][0] == 5
    assert store.database.read(lambda db: db.execute(select(func.count()).select_from(audit)).scalar()) == 8
