"""Logging in, staying in and being thrown out."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest
from sqlalchemy import func, select

from tapeline.alerts.access.access_control import STRANGER, AccessControl, AccessSettings
from tapeline.alerts.access.passwords import HashCosts, Passwords
from tapeline.alerts.access.principal import NotAuthenticatedError, NotPermittedError, Principal
from tapeline.alerts.store.people_tables import login_attempt, token_family, user
from tapeline.alerts.store.store import UnknownRecordError
from tapeline.core.errors import DataError, ThrottledError
from tests.alerts.access.support import KEY, OLDER, PASSWORD, SECOND, make_access, on_sqlite

HERE = "198.51.100.4"


def actions(access: AccessControl) -> list[tuple[str, str]]:
    return [(row.actor, row.action) for row in reversed(access.audit.rows())]


def refused(access: AccessControl, bearer: str | None) -> None:
    # Nobody comes in by being remembered who would not by being asked about.
    assert not bearer or access.remembered(bearer) is None
    with pytest.raises(NotAuthenticatedError):
        access.authenticate(bearer)


def test_a_login_gives_tokens_that_say_who_asks(people, clock) -> None:
    tokens = people.login("ann", PASSWORD, address=HERE, request_id="q-1")
    principal = people.authenticate(tokens.access)
    (session,) = people.sessions("ann")
    assert principal == Principal("ann", "user", None, f"session:{session.id}")
    assert (session.address, tokens.access_until) == (HERE, clock.now // SECOND + 900)
    (row,) = people.audit.rows()
    assert (row.actor, row.action, row.address, row.request_id) == ("ann", "login", HERE, "q-1")
    assert (row.kind, row.record) == ("session", session.id)
    assert tokens.access not in repr(tokens)
    refused(people, tokens.refresh)
    for bearer in (None, "", "x", "tlk_", "tlk_aaaaaaaaaaaa_" + "b" * 43):
        refused(people, bearer)


@on_sqlite
def test_a_name_is_typed_in_any_case(people) -> None:
    assert people.login("ANN", PASSWORD).owner == "ann"


def test_wrong_unknown_disabled_and_without_a_password_are_told_alike(people) -> None:
    people.users.add("bot")
    people.users.add("off", password=PASSWORD)
    people.users.change("off", enabled=False)
    people.users.add("gone", password=PASSWORD)
    people.users.remove("gone")
    told = set()
    for name, password in (
        *(("ann", "another"), ("nobody", PASSWORD), ("off", PASSWORD), ("bot", ""), ("gone", PASSWORD)),
        *(("ann\x00", PASSWORD), ("\ud800", "\ud800"), ("' OR 1=1 --", PASSWORD)),
    ):
        with pytest.raises(NotAuthenticatedError) as refusal:
            people.login(name, password, address=HERE)
        told.add(str(refusal.value))
    assert told == {"the name or the password is wrong"}
    assert people.audit.rows()[0].actor == STRANGER


@on_sqlite
def test_a_stranger_costs_as_much_work_as_a_user(people, monkeypatch) -> None:
    hasher = people._passwords._hasher
    verified = []

    class Counting:
        def verify(self, kept, password):
            verified.append(kept.rpartition("$")[0].rpartition("$")[0])
            return hasher.verify(kept, password)

    monkeypatch.setattr(people._passwords, "_hasher", Counting())
    people.users.change("ann", enabled=False)
    for name in ("root", "nobody", "ann"):
        with pytest.raises(NotAuthenticatedError):
            people.login(name, "wrong")
    # One verification each, at the same costs.
    assert verified == ["$argon2id$v=19$m=64,t=1,p=1"] * 3


@on_sqlite
def test_a_password_typed_into_the_names_field_is_not_kept(people) -> None:
    with pytest.raises(NotAuthenticatedError):
        people.login("My-Secret-Passphrase", "x")
    text = repr(people.audit.rows())
    assert "Passphrase" not in text
    keys = people._database.read(lambda db: repr(db.execute(select(login_attempt)).all()))
    assert "passphrase" not in keys.lower()


def test_the_hash_is_made_anew_at_todays_costs_when_somebody_logs_in(people, clock, store) -> None:
    from argon2 import PasswordHasher

    dearer = AccessControl(
        store.database, AccessSettings((KEY,), costs=HashCosts(memory=128, passes=2, lanes=1)), clock=clock
    )

    def kept() -> str:
        return store.database.read(lambda db: db.execute(select(user.c.password).where(user.c.name == "ann")).scalar())

    before = kept()
    with pytest.raises(NotAuthenticatedError):
        dearer.login("ann", "wrong")
    assert kept() == before
    dearer.login("ann", PASSWORD)
    assert kept().startswith("$argon2id$v=19$m=128,t=2,p=1$")
    assert PasswordHasher().verify(kept(), PASSWORD)
    again = kept()
    dearer.login("ann", PASSWORD)
    assert kept() == again


def test_a_refresh_token_is_good_once(people, clock) -> None:
    first = people.login("ann", PASSWORD)
    clock.move(600)
    second = people.refresh(first.refresh)
    assert second.refresh != first.refresh
    assert people.authenticate(second.access).owner == "ann"
    clock.move(600)
    third = people.refresh(second.refresh)
    refused(people, first.access)
    assert people.authenticate(third.access) == people.authenticate(second.access)
    with pytest.raises(NotAuthenticatedError):
        people.refresh(third.access)


def test_a_used_refresh_token_that_comes_again_ends_the_whole_family(people, clock) -> None:
    first = people.login("ann", PASSWORD)
    other = people.login("ann", PASSWORD)
    second = people.refresh(first.refresh)
    assert people.authenticate(second.access).owner == "ann"
    clock.move(11)
    with pytest.raises(NotAuthenticatedError):
        people.refresh(first.refresh, address=HERE)
    for token in (first.access, second.access):
        refused(people, token)
    with pytest.raises(NotAuthenticatedError):
        people.refresh(second.refresh)
    row = people.audit.rows()[0]
    assert (row.actor, row.action, row.address) == ("ann", "session.reuse", HERE)
    assert row.record == jwt.decode(first.access, options={"verify_signature": False})["fam"]
    # Another login of his is not concerned.
    assert people.authenticate(other.access).owner == "ann"


@on_sqlite
def test_a_token_from_further_back_is_reuse_within_the_grace_too(people, clock) -> None:
    first = people.login("ann", PASSWORD)
    second = people.refresh(first.refresh)
    third = people.refresh(second.refresh)
    with pytest.raises(NotAuthenticatedError):
        people.refresh(first.refresh)
    refused(people, third.access)


def test_two_refreshes_at_once_get_the_same_token_and_nobody_is_thrown_out(people) -> None:
    first = people.login("ann", PASSWORD)
    begin = threading.Barrier(4)

    def refresh(_):
        begin.wait()
        return people.refresh(first.refresh)

    with ThreadPoolExecutor(4) as pool:
        pairs = list(pool.map(refresh, range(4)))
    assert len({pair.refresh for pair in pairs}) == 1
    assert {people.authenticate(pair.access).owner for pair in pairs} == {"ann"}
    assert people.refresh(pairs[0].refresh).refresh != pairs[0].refresh


@on_sqlite
def test_a_thief_within_the_grace_is_found_out_at_the_next_refresh(people, clock) -> None:
    first = people.login("ann", PASSWORD)
    mine, stolen = people.refresh(first.refresh), people.refresh(first.refresh)
    clock.move(300)
    later = people.refresh(stolen.refresh)
    clock.move(300)
    with pytest.raises(NotAuthenticatedError):
        people.refresh(mine.refresh)
    refused(people, later.access)


def test_a_login_ends_when_it_is_not_used_and_at_the_latest_after_ninety_days(people, clock) -> None:
    tokens = people.login("ann", PASSWORD)
    clock.move(15 * 86_400)
    with pytest.raises(NotAuthenticatedError):
        people.refresh(tokens.refresh)
    tokens = people.login("ann", PASSWORD)
    refreshed = 0
    for _ in range(12):
        clock.move(10 * 86_400)
        try:
            tokens = people.refresh(tokens.refresh)
        except NotAuthenticatedError:
            break
        refreshed += 1
    assert refreshed == 8
    with pytest.raises(NotAuthenticatedError):
        people.refresh(tokens.refresh)
    # What ended is not kept for ever.
    clock.move(2 * 86_400)
    people.login("ann", PASSWORD)
    assert people._database.read(lambda db: db.execute(select(func.count()).select_from(token_family)).scalar()) == 1


def test_a_logout_is_seen_by_the_next_request(people) -> None:
    tokens, other = people.login("ann", PASSWORD), people.login("ann", PASSWORD)
    assert people.logout(people.authenticate(tokens.access))
    refused(people, tokens.access)
    with pytest.raises(NotAuthenticatedError):
        people.refresh(tokens.refresh)
    assert people.authenticate(other.access).owner == "ann"
    assert actions(people)[-1] == ("ann", "logout")
    third = people.login("ann", PASSWORD)
    assert people.end_sessions("ann") == 2
    for token in (other.access, third.access):
        refused(people, token)


def test_a_session_is_ended_by_its_owner_only(people) -> None:
    mine, hers = people.login("ann", PASSWORD), people.login("root", PASSWORD)
    (session,) = people.sessions("root")
    with pytest.raises(UnknownRecordError):
        people.end_session("ann", session.id)
    assert people.authenticate(hers.access).owner == "root"
    people.end_session("root", session.id)
    refused(people, hers.access)
    assert people.authenticate(mine.access).owner == "ann"


@pytest.mark.parametrize(
    "how",
    [
        lambda users: users.change("ann", enabled=False),
        lambda users: users.remove("ann"),
        lambda users: users.set_password("ann", "another kind of weather"),
    ],
)
def test_who_is_disabled_removed_or_has_a_new_password_is_out_at_once(people, how) -> None:
    tokens = people.login("ann", PASSWORD)
    assert people.authenticate(tokens.access).owner == "ann"
    how(people.users)
    refused(people, tokens.access)
    with pytest.raises(NotAuthenticatedError):
        people.refresh(tokens.refresh)
    if people.users.get("ann") is not None:
        people.users.change("ann", enabled=True)
        refused(people, tokens.access)


@on_sqlite
def test_a_password_changed_by_its_owner_leaves_him_in(people) -> None:
    here, there = people.login("ann", PASSWORD), people.login("ann", PASSWORD)
    family = people.authenticate(here.access).credential.removeprefix("session:")
    people.users.set_password("ann", "another kind of weather", keep_family=family)
    assert people.authenticate(here.access).owner == "ann"
    refused(people, there.access)


@on_sqlite
def test_a_stolen_token_does_not_try_passwords(people, clock) -> None:
    principal = people.authenticate(people.login("ann", PASSWORD).access)
    for _ in range(6):
        with pytest.raises(NotPermittedError):
            people.change_password(principal, "wrong", "another kind of weather", address=HERE)
    with pytest.raises(ThrottledError):
        people.change_password(principal, PASSWORD, "another kind of weather", address=HERE)
    clock.move(1)
    people.change_password(principal, PASSWORD, "another kind of weather", address=HERE)
    assert people.login("ann", "another kind of weather").owner == "ann"
    assert [action for _, action in actions(people)][1:8] == ["password.refuse"] * 6 + ["password.change"]
    _, text = people.keys.create("ann", "bot", ["rules:read"])
    with pytest.raises(NotPermittedError):
        people.change_password(people.authenticate(text), "another kind of weather", PASSWORD)


@on_sqlite
def test_a_role_counts_from_the_next_request_on(people) -> None:
    tokens = people.login("ann", PASSWORD)
    assert people.authenticate(tokens.access).role == "user"
    people.users.change("ann", role="operator")
    assert people.authenticate(tokens.access).role == "operator"


def test_another_process_sees_it_within_the_bound(people, store, clock) -> None:
    other = make_access(store.database, clock, standing_seconds=1.0)
    tokens = people.login("ann", PASSWORD)
    assert other.authenticate(tokens.access).owner == "ann"
    people.logout(people.authenticate(tokens.access))
    refused(people, tokens.access)
    clock.move(0.99)
    assert other.authenticate(tokens.access).owner == "ann"
    clock.move(0.02)
    refused(other, tokens.access)


@on_sqlite
def test_an_answer_fetched_before_a_change_is_not_remembered_after_it(people, clock, monkeypatch) -> None:
    tokens = people.login("ann", PASSWORD)
    fetch = people._family_standing

    def overtaken(id):
        found = fetch(id)
        people.users.change("ann", enabled=False)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(people, "_family_standing", overtaken)
        assert people.authenticate(tokens.access).owner == "ann"
    refused(people, tokens.access)


@on_sqlite
def test_a_known_token_costs_no_question_to_the_database(people, monkeypatch) -> None:
    tokens = people.login("ann", PASSWORD)
    _, key = people.keys.create("ann", "laptop", ["rules:read"])
    for bearer in (tokens.access, key):
        # Who was not asked about yet is not remembered, and nothing is asked to find that out.
        with monkeypatch.context() as away:
            away.setattr(people, "_database", None)
            assert people.remembered(bearer) is None
        people.authenticate(bearer)
    monkeypatch.setattr(people, "_database", None)
    for bearer in (tokens.access, key):
        assert people.remembered(bearer) == people.authenticate(bearer)
        assert people.remembered(bearer).owner == "ann"
    assert people.remembered(tokens.refresh) is None


@on_sqlite
def test_an_expired_token_is_refused_however_well_it_is_remembered(people, clock) -> None:
    tokens = people.login("ann", PASSWORD)
    clock.move(899.5)
    assert people.authenticate(tokens.access).owner == "ann"
    clock.move(0.6)
    refused(people, tokens.access)


@on_sqlite
def test_signing_keys_are_changed_while_people_are_in(people, store, clock) -> None:
    old = make_access(store.database, clock, keys=(OLDER,))
    tokens = old.login("ann", PASSWORD)
    both = make_access(store.database, clock, keys=(KEY, OLDER))
    assert both.authenticate(tokens.access).owner == "ann"
    renewed = both.refresh(tokens.refresh)
    retired = make_access(store.database, clock, keys=(KEY,))
    refused(retired, tokens.access)
    assert retired.authenticate(renewed.access).owner == "ann"
    assert both.audit.verify().intact


class TestLimits:
    def wrong(self, access, name="ann", address=HERE) -> float | None:
        try:
            access.login(name, "wrong", address=address)
        except ThrottledError as error:
            return error.retry_after
        except NotAuthenticatedError:
            return None
        raise AssertionError("a wrong password was taken")

    @on_sqlite
    def test_after_five_failures_each_waits_twice_as_long(self, people, clock) -> None:
        waited = []
        for _ in range(9):
            pause = self.wrong(people)
            if pause is not None:
                waited.append(round(pause))
                clock.move(pause)
                assert self.wrong(people) is None
        assert waited == [1, 2, 4]
        assert self.wrong(people) == 8.0
        # The right password must wait too: else it would tell that it is right.
        with pytest.raises(ThrottledError):
            people.login("ann", PASSWORD, address=HERE)
        assert people.login("ann", PASSWORD, address="203.0.113.7").owner == "ann"
        # Who got in begins anew, from everywhere.
        clock.move(8)
        assert people.login("ann", PASSWORD, address=HERE).owner == "ann"
        assert [self.wrong(people) for _ in range(6)] == [None] * 6
        assert self.wrong(people) == 1.0

    @on_sqlite
    def test_a_refused_attempt_is_not_counted_and_not_hashed(self, people, monkeypatch) -> None:
        for _ in range(6):
            self.wrong(people)
        monkeypatch.setattr(people._passwords, "match", None)
        assert [self.wrong(people) for _ in range(20)] == [1.0] * 20

    @on_sqlite
    def test_an_account_that_does_not_exist_is_limited_alike(self, people) -> None:
        known = [self.wrong(people, "ann", "203.0.113.1") for _ in range(8)]
        assert [self.wrong(people, "nobody", "203.0.113.2") for _ in range(8)] == known

    def begin(self, access, name="ann", address=HERE) -> float | None:
        """An attempt, as far as it is counted."""
        try:
            access._limits.begin(name, address)
        except ThrottledError as error:
            return error.retry_after
        return None

    @on_sqlite
    def test_many_accounts_from_one_address(self, people) -> None:
        assert [self.begin(people, f"u{n}") for n in range(31)] == [None] * 31
        assert self.begin(people, "another") == 1.0
        assert self.begin(people, "another", "203.0.113.7") is None

    @on_sqlite
    def test_an_address_of_ipv6_is_its_network(self, people) -> None:
        for n in range(6):
            self.begin(people, address=f"2001:db8::{n}")
        assert self.begin(people, address="2001:db8::ffff") == 1.0
        assert self.begin(people, address="2001:db8:0:1::1") is None

    @on_sqlite
    def test_many_addresses_at_one_account(self, people, clock) -> None:
        assert [self.begin(people, address=f"203.0.113.{n}") for n in range(51)] == [None] * 51
        assert self.begin(people, address="198.51.100.200") == 1.0
        # A stranger does not keep a user out for long.
        clock.move(31)
        assert people.login("ann", PASSWORD, address=HERE).owner == "ann"

    def test_a_hundred_guesses_at_once_are_not_a_hundred_guesses(self, people) -> None:
        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(lambda _: self.begin(people), range(100)))
        assert told.count(None) == 6

    def test_failures_are_forgotten_after_a_day(self, people, clock) -> None:
        for _ in range(6):
            self.wrong(people)
        clock.move(86_401)
        assert [self.wrong(people) for _ in range(6)] == [None] * 6

    @on_sqlite
    def test_failures_are_told_in_the_audit_log(self, people) -> None:
        for _ in range(3):
            self.wrong(people)
        assert [row.after for row in people.audit.rows()] == [f'{{"failures":{n}}}' for n in (3, 2, 1)]


@pytest.mark.parametrize(("waiting", "wait_seconds"), [(1, 0.01), (0, 60.0)])
def test_only_so_many_hashes_are_computed_at_once(monkeypatch, waiting, wait_seconds) -> None:
    costs = HashCosts(memory=64, passes=1, lanes=1, at_once=2, wait_seconds=wait_seconds, waiting=waiting)
    passwords = Passwords(costs)
    inside, leave = threading.Barrier(3), threading.Event()

    class Slow:
        def hash(self, _):
            inside.wait(10)
            leave.wait(10)
            return "hash"

    monkeypatch.setattr(passwords, "_hasher", Slow())
    threads = [threading.Thread(target=passwords.hashed, args=("p",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    with pytest.raises(ThrottledError) as refusal:
        passwords.hashed("p")
    assert refusal.value.retry_after == 1.0
    leave.set()
    for thread in threads:
        thread.join()
    inside.abort()
    monkeypatch.undo()
    assert passwords.match(passwords.hashed("p"), "p")


class TestKeys:
    def test_a_key_is_shown_once_and_kept_as_a_digest(self, people, store) -> None:
        key, text = people.keys.create("ann", "bot", ["rules:read"])
        assert people.authenticate(text) == Principal("ann", "user", frozenset({"rules:read"}), f"key:{key.id}")
        assert text.startswith(f"tlk_{key.id}_")
        assert len(text) == 60
        secret = text.rpartition("_")[2]
        from tapeline.alerts.store.people_tables import api_key

        kept = store.database.read(lambda db: repr(db.execute(select(api_key)).all()))
        assert secret not in kept
        assert secret not in repr(key)

    @on_sqlite
    def test_a_near_miss_is_refused(self, people) -> None:
        _, text = people.keys.create("ann", "bot", ["rules:read"])
        for wrong in (text[:-1] + ("a" if text[-1] != "a" else "b"), text + "a", text.upper(), text[:-1], f" {text}"):
            refused(people, wrong)

    def test_a_key_ends_when_it_expires_or_is_revoked(self, people, clock) -> None:
        key, text = people.keys.create("ann", "bot", ["rules:read"], expires_at=clock.now + 60 * SECOND)
        clock.move(59.5)
        assert people.authenticate(text).owner == "ann"
        clock.move(0.5)
        refused(people, text)
        other, second = people.keys.create("ann", "bot", ["rules:read"])
        assert people.authenticate(second).owner == "ann"
        people.keys.revoke("ann", other.id)
        refused(people, second)
        with pytest.raises(UnknownRecordError):
            people.keys.revoke("ann", other.id)
        assert [one.id for one in people.keys.all("ann")] == [key.id]

    def test_a_key_of_somebody_disabled_or_removed_is_refused(self, people) -> None:
        _, text = people.keys.create("ann", "bot", ["rules:read"])
        assert people.authenticate(text).owner == "ann"
        people.users.change("ann", enabled=False)
        refused(people, text)
        people.users.change("ann", enabled=True)
        assert people.authenticate(text).owner == "ann"
        people.users.remove("ann")
        refused(people, text)

    def test_another_persons_key_is_not_there(self, people) -> None:
        key, _ = people.keys.create("ann", "bot", ["rules:read"])
        for ask in (people.keys.get, people.keys.revoke):
            with pytest.raises(UnknownRecordError):
                ask("root", key.id)
        assert people.keys.all("root") == ()

    @on_sqlite
    def test_last_use_is_kept_about(self, people, clock) -> None:
        key, text = people.keys.create("ann", "bot", ["rules:read"])
        people.authenticate(text)
        assert people.keys.get("ann", key.id).last_used_at == clock.now
        first = clock.now
        clock.move(30)
        people.authenticate(text)
        assert people.keys.get("ann", key.id).last_used_at == first
        clock.move(31)
        people.authenticate(text)
        assert people.keys.get("ann", key.id).last_used_at == clock.now
        assert people.audit.rows() == ()

    @pytest.mark.parametrize(
        ("name", "scopes", "expires"),
        [
            *(("", ["rules:read"], None), ("a\nb", ["rules:read"], None), ("x" * 101, ["rules:read"], None)),
            *(("bot", [], None), ("bot", ["users:write"], None), ("bot", ["*"], None), ("bot", ["rules:read"], 1)),
        ],
    )
    @on_sqlite
    def test_what_is_no_key_is_refused(self, people, name, scopes, expires) -> None:
        with pytest.raises(DataError):
            people.keys.create("ann", name, scopes, expires_at=expires)


class TestTickets:
    def test_a_ticket_is_good_once(self, people) -> None:
        principal = people.authenticate(people.login("ann", PASSWORD).access)
        ticket = people.tickets.give(principal)
        assert people.redeem(ticket) == principal
        for wrong in (ticket, ticket[:-1] + "?", "tlt_" + "a" * 43, ""):
            with pytest.raises(NotAuthenticatedError):
                people.redeem(wrong)

    def test_of_many_at_once_one_gets_in(self, people) -> None:
        ticket = people.tickets.give(people.authenticate(people.login("ann", PASSWORD).access))

        def redeem(_):
            try:
                return people.redeem(ticket).owner
            except NotAuthenticatedError:
                return None

        with ThreadPoolExecutor(8) as pool:
            assert sorted(filter(None, pool.map(redeem, range(16)))) == ["ann"]

    def test_it_expires_and_ends_with_the_login(self, people, clock) -> None:
        principal = people.authenticate(people.login("ann", PASSWORD).access)
        late, out = people.tickets.give(principal), people.tickets.give(principal)
        clock.move(30)
        with pytest.raises(NotAuthenticatedError):
            people.redeem(late)
        clock.move(-30)
        people.logout(principal)
        with pytest.raises(NotAuthenticatedError):
            people.redeem(out)

    @on_sqlite
    def test_it_carries_what_a_key_is_limited_to(self, people) -> None:
        _, text = people.keys.create("ann", "bot", ["firings:read"])
        principal = people.authenticate(text)
        assert people.redeem(people.tickets.give(principal)) == principal
        assert people.still(principal) == principal
        people.keys.revoke("ann", principal.credential.removeprefix("key:"))
        with pytest.raises(NotAuthenticatedError):
            people.still(principal)


def test_two_workers_share_the_count_of_failures(people, store, clock) -> None:
    workers = [people, make_access(store.database, clock)]
    for n in range(6):
        with pytest.raises(NotAuthenticatedError):
            workers[n % 2].login("ann", "wrong", address=HERE)
    for worker in workers:
        with pytest.raises(ThrottledError):
            worker.login("ann", PASSWORD, address=HERE)


def test_settings_do_not_show_their_keys() -> None:
    assert KEY not in repr(AccessSettings((KEY,)))
