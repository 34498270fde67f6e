"""Users and what they may have."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import select

from tapeline.alerts.access.passwords import check_new_password
from tapeline.alerts.access.principal import NotAuthenticatedError
from tapeline.alerts.access.quotas import COUNTED, QUOTAS, QuotaExceededError
from tapeline.alerts.access.user_manager import LastAdministratorError, NameTakenError
from tapeline.alerts.store.people_tables import user
from tapeline.alerts.store.store import RevisionConflictError, UnknownRecordError
from tapeline.core.errors import DataError
from tests.alerts.access.support import PASSWORD, make_rule, on_sqlite


def test_a_user_comes_back_as_he_was_made(people, clock) -> None:
    made = people.users.add("Bob_1.x:y-z", role="operator", email="bob@example.com", quotas={"rules": 3})
    found = people.users.get("Bob_1.x:y-z")
    assert found == made
    assert (found.role, found.enabled, found.has_password, found.revision) == ("operator", True, False, 1)
    assert (found.quotas["rules"], found.quotas["endpoints"]) == (3, QUOTAS["endpoints"])
    assert dict(found.own_quotas) == {"rules": 3}
    assert found.created_at == found.changed_at == clock.now
    assert [one.name for one in people.users.all()] == ["Bob_1.x:y-z", "ann", "root"]
    assert [one.name for one in people.users.all(after="ann", limit=1)] == ["root"]


@on_sqlite
def test_passwords_are_kept_as_argon2id_with_a_salt_each(people, store) -> None:
    rows = store.database.read(lambda db: db.execute(select(user.c.password)).scalars().all())
    assert len(set(rows)) == 2
    assert all(one.startswith("$argon2id$v=19$") for one in rows)
    assert PASSWORD not in repr(rows) + repr(people.users.get("ann"))


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "a\n", "x" * 65, ".a", "(unknown)", "a'--", "ann\x00"])
@on_sqlite
def test_a_name_is_one_that_a_rules_owner_can_have(people, name) -> None:
    with pytest.raises(DataError):
        people.users.add(name)


@pytest.mark.parametrize("name", ["ann", "ANN", "Ann"])
def test_a_name_is_taken_in_whatever_case(people, name) -> None:
    with pytest.raises(NameTakenError):
        people.users.add(name)


def test_the_name_of_somebody_removed_stays_taken(people, store) -> None:
    store.save_rule(make_rule("r", "ann"), by="ann", at=1)
    removed = people.users.remove("ann")
    assert removed.email == "ann@example.com"
    assert people.users.get("ann") is None
    assert [one.name for one in people.users.all()] == ["root"]
    with pytest.raises(NameTakenError):
        people.users.add("ann", password=PASSWORD)
    for call in (people.users.remove, lambda name: people.users.change(name, enabled=True)):
        with pytest.raises(UnknownRecordError):
            call("ann")
    row = store.database.read(lambda db: db.execute(select(user).where(user.c.name == "ann")).one())
    assert (row.email, row.password) == ("", "")


def test_one_of_many_at_once_gets_a_name(people) -> None:
    begin = threading.Barrier(8)

    def add(n: int) -> bool:
        begin.wait()
        try:
            people.users.add("bob" if n % 2 else "BOB")
        except NameTakenError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 1


@pytest.mark.parametrize(
    "given",
    [
        *({"email": "a"}, {"email": "a@b\r\nBcc: c@d.example"}, {"email": "<a@example.com>"}, {"role": "root"}),
        *({"quotas": {"rulez": 1}}, {"quotas": {"rules": -1}}, {"quotas": {"rules": True}}),
        *({"quotas": {"rules": 10**9}}, {"email": "a@" + "b" * 300}),
    ],
)
@on_sqlite
def test_what_is_no_value_is_refused(people, given) -> None:
    with pytest.raises(DataError):
        people.users.add("bob", **given)
    with pytest.raises(DataError):
        people.users.change("ann", **given)
    assert people.users.get("ann").revision == 1


def test_a_change_is_of_what_was_read(people, clock) -> None:
    clock.move(60)
    changed = people.users.change("ann", email="new@example.com", quotas={"rules": 1}, revision=1)
    assert (changed.revision, changed.changed_at, changed.email) == (2, clock.now, "new@example.com")
    with pytest.raises(RevisionConflictError, match="revision 2, not 1"):
        people.users.change("ann", email="", revision=1)
    assert people.users.change("ann", email="new@example.com").revision == 2
    assert dict(people.users.change("ann", quotas={}).own_quotas) == {}


def test_somebody_can_always_manage_users(people) -> None:
    for change in ({"role": "user"}, {"enabled": False}):
        with pytest.raises(LastAdministratorError):
            people.users.change("root", **change)
    with pytest.raises(LastAdministratorError):
        people.users.remove("root")
    people.users.add("second", role="admin")
    assert people.users.change("root", role="user").role == "user"
    with pytest.raises(LastAdministratorError):
        people.users.remove("second")
    assert people.users.change("ann", email="").email == ""


def test_two_administrators_who_demote_each_other_at_once_leave_one(people) -> None:
    people.users.add("second", role="admin")
    begin = threading.Barrier(2)

    def demote(name: str) -> bool:
        begin.wait()
        try:
            people.users.change(name, role="user")
        except LastAdministratorError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(demote, ["root", "second"])) == [False, True]


def test_changes_of_users_at_once_never_wait_for_each_other_in_a_circle(people) -> None:
    names = ("root", "ann", "bob", "carl")
    for name in names[2:]:
        people.users.add(name, role="admin")

    def change(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(10):
            with suppress(LastAdministratorError):
                people.users.change(chance.choice(names), role=chance.choice(["admin", "user"]))

    # A circle would be a TemporaryError.
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, range(6)))
    assert any(one.role == "admin" for one in people.users.all())


@on_sqlite
def test_the_password_is_asked_for_before_something_grave(people) -> None:
    people.users.check_password("ann", PASSWORD)
    for name, password in (("ann", "another"), ("nobody", PASSWORD)):
        with pytest.raises(NotAuthenticatedError):
            people.users.check_password(name, password)


@pytest.mark.parametrize(
    "password", ["", "short", "x" * 11, "aaaaaaaaaaaaaaaa", "abababababababab", "x1y2z3w4" * 17, "i am Ann the great"]
)
@on_sqlite
def test_a_weak_password_is_refused_without_being_told(people, password) -> None:
    with pytest.raises(DataError) as refusal:
        people.users.set_password("ann", password)
    assert not password or password not in str(refusal.value)
    assert people.login("ann", PASSWORD).owner == "ann"


def test_a_password_is_the_same_on_every_keyboard() -> None:
    check_new_password("Größe der Straße", "ann")


@on_sqlite
def test_a_composed_letter_is_the_letter(people) -> None:
    people.users.set_password("ann", "a cafe\u0301 in Brno")
    assert people.login("ann", "a caf\u00e9 in Brno").owner == "ann"


class TestQuotas:
    def test_of_a_hundred_at_once_ten_get_in(self, people, store) -> None:
        people.users.change("ann", quotas={"rules": 10})

        def create(n: int) -> bool:
            try:
                with people.quotas.within("ann", "rules"), people.audit.entry("ann", "rule.create", "rule", f"r{n}"):
                    store.save_rule(make_rule(f"r{n}"), by="ann", at=n)
            except QuotaExceededError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(create, range(100))) == 10
        assert len(store.rules(owner="ann")) == 10
        # What was taken back is not told.
        assert len(people.audit.rows()) == 10

    def test_a_key_more_than_permitted(self, people) -> None:
        people.users.change("ann", quotas={"api_keys": 2})
        first, _ = people.keys.create("ann", "one", ["rules:read"])
        people.keys.create("ann", "two", ["rules:read"])
        with pytest.raises(QuotaExceededError, match="may have 2 api keys"):
            people.keys.create("ann", "three", ["rules:read"])
        people.keys.create("root", "another's", ["rules:read"])
        people.keys.revoke("ann", first.id)
        people.keys.create("ann", "three", ["rules:read"])

    def test_who_has_too_much_keeps_it_and_may_change_it(self, people, store) -> None:
        for n in range(3):
            store.save_rule(make_rule(f"r{n}"), by="ann", at=1)
        people.users.change("ann", quotas={"rules": 1})
        with people.quotas.within("ann", "rules"):
            store.save_rule(make_rule("r0").model_copy(update={"name": "changed"}), by="ann", at=2)
            store.delete_rule("r1", by="ann", at=3)
            with pytest.raises(QuotaExceededError):
                store.save_rule(make_rule("r9"), by="ann", at=4)
        assert [one.rule.id for one in store.rules()] == ["r0", "r2"]

    @on_sqlite
    def test_nothing_is_held_outside_the_block(self, people, store) -> None:
        people.users.change("ann", quotas={"rules": 0})
        with people.quotas.within("ann", "rules"), pytest.raises(QuotaExceededError):
            store.save_rule(make_rule("r"), by="ann", at=1)
        store.save_rule(make_rule("r"), by="ann", at=1)

    @on_sqlite
    def test_who_is_no_user_has_the_default(self, people, store, monkeypatch) -> None:
        monkeypatch.setitem(QUOTAS, "rules", 1)
        with people.quotas.within("nobody", "rules"):
            store.save_rule(make_rule("r1", "nobody"), by="x", at=1)
            with pytest.raises(QuotaExceededError):
                store.save_rule(make_rule("r2", "nobody"), by="x", at=1)

    def test_what_has_ended_takes_no_room(self, people, store, clock) -> None:
        from tapeline.alerts.records import Silence
        from tapeline.alerts.symbol_manager import Instrument, SymbolManager

        now = clock()
        people.users.change("ann", quotas={"silences": 1, "symbols": 1})
        # One that ended, one that was ended before it began, and one that holds.
        store.save_silence(Silence("s1", "ann", {}, 0, now))
        store.save_silence(Silence("s2", "ann", {}, now + 9, now + 9))
        with people.quotas.within("ann", "silences"):
            store.save_silence(Silence("s3", "ann", {}, 0, now + 1))
            with pytest.raises(QuotaExceededError, match="1 silences"):
                store.save_silence(Silence("s4", "ann", {}, 0, now + 1))
        symbols = SymbolManager(store.database, clock=lambda: now - 10)
        symbols.add([Instrument("A"), Instrument("B")], by="ann")
        symbols.hold("client", "c", "ann", ["A"], until=now)
        with people.quotas.within("ann", "symbols"):
            symbols.hold("watchlist", "w", "ann", ["A"])
            with pytest.raises(QuotaExceededError, match="1 symbols"):
                symbols.hold("watchlist", "w", "ann", ["A", "B"])

    def test_there_is_no_other_quota(self, people) -> None:
        assert COUNTED.keys() == QUOTAS.keys()
        with pytest.raises(DataError, match="no quota"), people.quotas.within("ann", "rulez"):
            pass
        people.users.change("ann", quotas={"symbols": 1})
        assert json.dumps(dict(people.users.get("ann").own_quotas)) == '{"symbols": 1}'
