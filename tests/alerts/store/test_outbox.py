"""Deliveries: claimed by one, tried, settled, given up and taken back, on both databases."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from tapeline.alerts.records import Attempt, Commit, Delivery
from tapeline.alerts.store.opening import open_store
from tapeline.core.errors import DataError, TemporaryError


def put(store, *ids: str, **changes) -> None:
    """Deliveries in the order of their ids; an id ``a1`` is of the order ``a``."""
    made = tuple(Delivery(id, "evt", "webhook", "e1", id, 1, order=id[:-1]) for id in ids)
    store.commit(Commit(deliveries=tuple(replace(one, **changes) for one in made)))


def claim(store, now: int = 10, *, limit: int = 100, lease: int = 10**6, **where):
    return store.claim("webhook", limit=limit, lease=lease, now=now, **where)


def ids(claims) -> list[str]:
    return [one.delivery.id for one in claims]


def finish(store, one, now: int = 20, **changes):
    begun = store.begin_attempt(one, now=now)
    ended = replace(begun, **{"ended_at": now + 1, "outcome": "sent", **changes})
    store.settle(ended)
    return ended


def test_of_an_order_only_the_first_unfinished_is_given_out(store) -> None:
    put(store, "a1", "a2", "b1", "a3")
    first = claim(store)
    assert ids(first) == ["a1", "b1"]
    assert claim(store) == ()
    finish(store, first[0])
    second = claim(store)
    assert ids(second) == ["a2"]
    finish(store, second[0], outcome="retry", retry_at=500)
    assert claim(store, now=499) == ()
    third = claim(store, now=500)
    assert ids(third) == ["a2"]
    finish(store, third[0], now=501, outcome="refused")
    assert ids(claim(store, now=510)) == ["a3"]


def test_an_empty_order_binds_nothing(store) -> None:
    put(store, "a1", "a2", "a3", order="")
    assert ids(claim(store, limit=2)) == ["a1", "a2"]
    assert ids(claim(store)) == ["a3"]


def test_only_what_is_due_of_this_channel_and_endpoint(store) -> None:
    put(store, "a1")
    put(store, "b1", channel="telegram")
    put(store, "c1", not_before=50)
    put(store, "d1", endpoint="e2")
    put(store, "f1", state="held", not_before=60)
    assert ids(claim(store, endpoint="e2")) == ["d1"]
    assert ids(claim(store, now=49)) == ["a1"]
    assert ids(claim(store, now=60)) == ["c1", "f1"]


def test_a_lease_that_ran_out_is_given_to_another_under_the_same_id(store) -> None:
    put(store, "a1")
    old = claim(store, now=10, lease=5)[0]
    begun = store.begin_attempt(old, now=11)
    assert claim(store, now=14) == ()
    new = claim(store, now=15, lease=5)[0]
    assert new.delivery.id == old.delivery.id
    assert new.delivery.attempts == 1
    assert store.begin_attempt(old, now=16) is None
    second = store.begin_attempt(new, now=16)
    assert second.number == 2
    # The first comes back with bad news about what the second is just doing: it changes nothing.
    assert store.settle(replace(begun, ended_at=17, outcome="retry", retry_at=99)) == frozenset()
    assert store.delivery("a1").state == "inflight"
    # But good news are good news: it was received.
    assert store.settle(replace(begun, ended_at=18, outcome="sent")) == {"a1"}
    assert store.settle(replace(second, ended_at=19, outcome="retry", retry_at=99)) == frozenset()
    assert store.delivery("a1").state == "sent"
    assert [one.outcome for one in store.attempts("a1")] == ["sent", "retry"]


def test_no_attempt_begins_after_the_lease(store) -> None:
    put(store, "a1")
    held = claim(store, now=10, lease=5)[0]
    assert store.begin_attempt(held, now=15) is None
    assert store.attempts("a1") == ()


def test_a_claim_can_be_held_for_longer_and_given_back(store) -> None:
    put(store, "a1", "b1")
    first, second = claim(store, now=10, lease=5)
    longer = store.extend((first,), lease=50, now=14)
    assert longer[0].lease_until == 64
    assert store.release((second,), not_before=30) == 1
    assert store.release((second,)) == 0
    assert ids(claim(store, now=29)) == []
    assert ids(claim(store, now=30)) == ["b1"]
    assert store.begin_attempt(longer[0], now=63).number == 1
    assert store.extend((first,), lease=50, now=99) == ()


def test_what_a_dead_worker_held_goes_out_at_once(store) -> None:
    put(store, "a1", "a2", "b1")
    put(store, "c1", channel="telegram")
    lost = claim(store)
    assert ids(lost) == ["a1", "b1"]
    begun = store.begin_attempt(lost[0], now=11)
    assert begun is not None
    finish(store, lost[1])
    assert store.release_all() == 1
    assert store.release_all() == 0
    again = claim(store, now=12)
    assert ids(again) == ["a1"]
    # Should it live after all, it may not send; what it had sent is no news to anyone.
    assert store.begin_attempt(lost[0], now=13) is None
    finish(store, again[0], now=14)
    assert store.delivery("b1").state == "sent"
    assert ids(claim(store, now=20)) == ["a2"]


def test_every_attempt_is_written_before_and_after(store) -> None:
    put(store, "a1")
    one = claim(store)[0]
    begun = store.begin_attempt(one, now=11)
    assert store.attempts("a1") == (Attempt("a1", 1, 11, 0, "begun"),)
    ended = replace(
        begun, ended_at=12, outcome="throttled", status=429, detail="slow down\0" + "x" * 2_000, retry_at=40
    )
    assert store.settle(ended) == {"a1"}
    written = store.attempts("a1")[0]
    assert (written.ended_at, written.outcome, written.status, written.retry_at) == (12, "throttled", 429, 40)
    assert len(written.detail) == 1_000
    assert store.delivery("a1") == replace(one.delivery, state="waiting", not_before=40, attempts=1)
    assert store.settle(ended) == frozenset()


def test_an_attempt_that_never_began_changes_nothing(store) -> None:
    put(store, "a1")
    claim(store)
    assert store.settle(Attempt("a1", 1, 1, 2, "sent"), Attempt("none", 1, 1, 2, "sent")) == frozenset()
    with pytest.raises(DataError, match="not ended"):
        store.settle(Attempt("a1", 1, 1, 2, "begun"))


def test_several_are_begun_and_settled_at_once(store) -> None:
    put(store, "c1", "a1", "b1")
    begun = store.begin_attempts(claim(store), now=11)
    assert [one.delivery for one in begun] == ["a1", "b1", "c1"]
    ends = (("sent", 0), ("refused", 0), ("retry", 70))
    ended = [replace(one, ended_at=12, outcome=o, retry_at=r) for one, (o, r) in zip(begun, ends, strict=True)]
    assert store.settle(*ended) == {"a1", "b1", "c1"}
    assert [store.delivery(id).state for id in ("a1", "b1", "c1")] == ["sent", "dead", "waiting"]
    assert {(one.state, one.count) for one in store.delivery_counts()} == {("sent", 1), ("dead", 1), ("waiting", 1)}


def test_what_is_worthless_is_recorded_as_expired_and_lets_the_next_go(store) -> None:
    put(store, "a1", expires_at=10)
    put(store, "a2")
    put(store, "b1", expires_at=10, not_before=99)
    put(store, "c1", expires_at=30)
    found = claim(store, now=10)
    assert ids(found) == ["c1", "a2"] or ids(found) == ["a2", "c1"]
    assert store.delivery("a1").state == "expired"
    assert store.expire(now=20) == 1
    assert store.delivery("b1").state == "expired"
    # Retried only after it is worthless: over at once.
    held = next(one for one in found if one.delivery.id == "c1")
    finish(store, held, outcome="retry", retry_at=30)
    assert store.delivery("c1").state == "expired"
    assert store.expire(now=10**6) == 0


def test_what_is_in_flight_does_not_expire(store) -> None:
    put(store, "a1", expires_at=20)
    held = claim(store, now=10, lease=50)[0]
    assert store.expire(now=30) == 0
    assert store.begin_attempt(held, now=31) is not None


@pytest.fixture
def dead(store):
    """Five dead letters, which died at 100, 110, ... 140; the last of another endpoint."""
    put(store, "a1", "b1", "c1", "d1")
    put(store, "e1", endpoint="e2")
    for number, one in enumerate(claim(store, lease=1_000)):
        finish(store, one, now=99 + 10 * number, outcome="refused", status=404, detail="gone")
    return store


def test_dead_letters_are_listed_the_newest_first(dead) -> None:
    page = dead.dead_letters(limit=2)
    assert [(one.delivery.id, one.died_at, one.outcome, one.status, one.detail) for one in page.items] == [
        ("e1", 140, "refused", 404, "gone"),
        ("d1", 130, "refused", 404, "gone"),
    ]
    rest = dead.dead_letters(cursor=page.cursor, limit=3)
    assert [one.delivery.id for one in rest.items] == ["c1", "b1", "a1"]
    assert rest.cursor is None
    assert [one.delivery.id for one in dead.dead_letters(endpoint="e2", channel="webhook").items] == ["e1"]
    assert dead.dead_letters(channel="telegram").items == ()


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({"ids": ("b1", "none", "d1")}, ["b1", "d1"]),
        ({"since": 110, "until": 130}, ["b1", "c1"]),
        ({"endpoint": "e2"}, ["e1"]),
        ({"channel": "webhook", "since": 120}, ["c1", "d1", "e1"]),
        ({"channel": "telegram"}, []),
    ],
)
def test_dead_letters_are_taken_back(dead, which, expected) -> None:
    assert dead.redrive(now=200, **which) == len(expected)
    assert ids(claim(dead, now=199)) == []
    taken = claim(dead, now=200)
    assert ids(taken) == expected
    assert all(one.delivery.attempts == one.delivery.tried_before == 1 for one in taken)
    for one in taken:
        assert dead.begin_attempt(one, now=201).number == 2
    assert len(dead.dead_letters().items) == 5 - len(expected)


def test_a_letter_taken_back_never_flies_beside_one_of_its_order(store) -> None:
    put(store, "a1", "a2", "a3")
    finish(store, claim(store)[0], outcome="gone")
    second = claim(store, now=30)[0]
    assert second.delivery.id == "a2"
    store.redrive(("a1",), now=31, expires_at=1_000)
    assert claim(store, now=40) == ()
    finish(store, second, now=41)
    third = claim(store, now=50)
    assert ids(third) == ["a3"]
    finish(store, third[0], now=51)
    last = claim(store, now=60)
    assert ids(last) == ["a1"]
    assert last[0].delivery.expires_at == 1_000


def test_nothing_is_taken_back_by_mistake(dead) -> None:
    with pytest.raises(DataError, match="which"):
        dead.redrive(now=1)
    with pytest.raises(DataError, match="10000"):
        dead.redrive(map(str, range(10_001)), now=1)


def test_claims_have_bounds(store) -> None:
    with pytest.raises(DataError, match="limit"):
        claim(store, limit=0)
    with pytest.raises(DataError, match="lease"):
        claim(store, lease=0)


def patiently(ask):
    """The answer to a question that may be put off: where another process writes for too long, it is asked again."""
    while True:
        with suppress(TemporaryError):
            return ask()


def test_two_workers_never_get_the_same_row_and_each_order_is_kept(store, address) -> None:
    orders, length = 8, 6
    put(store, *(f"o{order}-{n}" for n in range(length) for order in range(orders)))
    sent: list[str] = []
    flying: set[str] = set()
    faults: list[str] = []
    guard = threading.Lock()

    def work(mine) -> None:
        while len(sent) < orders * length and not faults:
            claims = patiently(lambda: claim(mine, now=10, limit=3, lease=10**9))
            with guard:
                for one in claims:
                    if one.delivery.order in flying:
                        faults.append(f"{one.delivery.id} beside another of its order")
                    flying.add(one.delivery.order)
            begun = patiently(partial(mine.begin_attempts, claims, now=11))
            with guard:
                sent.extend(one.delivery for one in begun)
                flying.difference_update(one.delivery.order for one in claims)
            patiently(partial(mine.settle, *(replace(one, ended_at=12, outcome="sent") for one in begun)))

    other = open_store(address)
    workers = [threading.Thread(target=work, args=(mine,)) for mine in (store, other)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    other.close()
    assert faults == []
    assert sorted(sent) == sorted({f"o{order}-{n}" for n in range(length) for order in range(orders)})
    for order in range(orders):
        assert [id for id in sent if id.startswith(f"o{order}-")] == [f"o{order}-{n}" for n in range(length)]
