"""The book: places without gaps from whichever process, acknowledgements that follow from each other."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tapeline.alerts.bots.acknowledgement import Acknowledgement
from tapeline.alerts.bots.signal_book import AcknowledgementConflictError, SignalBook
from tapeline.alerts.delivery.messages import render
from tapeline.alerts.records import Commit, Delivery
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.store import Endpoint, UnknownRecordError
from tests.alerts.bots.support import SECOND, START, fire, rule

ROUTES = {("ann", "desk"): Route("desk", "bot", ("ann.a", "ann.b"), 5 * SECOND)}


def put(store, numbers, **changes):
    router = Router(ROUTES, render)
    fired = [fire(number, **changes) for number in numbers]
    store.commit(Commit(tuple(fired), deliveries=tuple(d for one in fired for d in router.deliveries(one, rule()))))
    return fired


@pytest.fixture
def book(store):
    for id in ("ann.a", "ann.b"):
        settings = {"name": id[4:], "dialect": "pull", "acknowledge_within": 10.0}
        store.save_endpoint(Endpoint(id, "ann", "bot", "", settings=settings))
    return SignalBook(store.database)


def test_each_bot_has_a_sequence_without_gaps_in_the_order_of_commits(store, book) -> None:
    fired = put(store, range(3)) + put(store, range(3, 5))
    assert book.number() == 10
    assert book.number() == 0
    for bot in ("ann.a", "ann.b"):
        assert [(one.sequence, one.id) for one in book.after(bot, 0)] == [
            (number, one.id) for number, one in enumerate(fired, 1)
        ]
    assert [one.sequence for one in book.after("ann.a", 3, limit=1)] == [4]
    assert book.after("ann.c", 0) == ()


def test_several_processes_that_number_at_once_give_each_place_once(store, address, book) -> None:
    put(store, range(200))
    others = [open_store(address) for _ in range(3)]
    try:
        threads = [threading.Thread(target=SignalBook(one.database).number) for one in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for one in others:
            one.close()
    assert book.number() == 0
    places = [one.sequence for begin in (0, 100) for one in book.after("ann.a", begin, limit=100)]
    assert places == list(range(1, 201))


def test_a_body_that_is_no_signal_takes_no_place(store, book) -> None:
    delivery = Delivery("x", "evt_x", "bot", "ann.a", '{"text": "no signal"}', START, expires_at=START + SECOND)
    store.commit(Commit(deliveries=(delivery,)))
    (good,) = put(store, [1])
    book.number()
    assert [(one.sequence, one.id) for one in book.after("ann.a", 0)] == [(1, good.id)]
    assert book.of_delivery("x") is None


def test_a_dead_letter_that_is_taken_back_keeps_its_place(store, book) -> None:
    first, _ = put(store, range(2))
    book.number()
    claims = store.claim("bot", limit=10, lease=SECOND, now=START)
    begun = store.begin_attempts(claims, now=START)
    store.settle(*(replace(one, ended_at=START, outcome="refused") for one in begun))
    assert store.redrive(channel="bot", now=START) == len(begun)
    assert book.number() == 0
    assert book.after("ann.a", 0)[0].id == first.id


def test_acknowledgements_follow_from_each_other(store, book) -> None:
    (fired,) = put(store, [0])
    book.number()
    accepted = book.acknowledge("ann.a", fired.id, Acknowledgement("accepted"), at=START + 1)
    assert (accepted.state, accepted.state_at) == ("accepted", START + 1)
    filled = Acknowledgement("executed", 60_001.0, 0.5, "order 17")
    done = book.acknowledge("ann.a", fired.id, filled, at=START + 2)
    assert (done.fill_price, done.fill_quantity, done.note) == (60_001.0, 0.5, "order 17")
    again = book.acknowledge("ann.a", fired.id, filled, at=START + 9)
    assert again.state_at == START + 2
    with pytest.raises(AcknowledgementConflictError, match="executed before"):
        book.acknowledge("ann.a", fired.id, Acknowledgement("rejected"), at=START + 3)
    assert book.signal("ann.b", fired.id).state == "open"
    with pytest.raises(UnknownRecordError):
        book.acknowledge("ann.a", "evt_nobody", filled, at=START)


def test_a_signal_leaves_once_until_it_is_said_that_it_did_not(store, book) -> None:
    put(store, [0])
    book.number()
    delivery = book.after("ann.a", 0)[0].delivery
    assert [book.begin(delivery, at=START), book.begin(delivery, at=START)] == [True, False]
    book.take_back(delivery)
    assert book.begin(delivery, at=START + 7)
    assert book.of_delivery(delivery).sent_at == START + 7


def test_what_is_not_acknowledged_in_time_is_found_until_it_was_told(store, book) -> None:
    one, two = put(store, range(2))
    book.number()
    book.acknowledge("ann.a", one.id, Acknowledgement("accepted"), at=START)
    assert book.unacknowledged(now=START + 10 * SECOND - 1) == ()
    due = book.unacknowledged(now=START + 10 * SECOND)
    assert sorted((found.bot, found.id) for found in due) == sorted(
        [("ann.a", two.id), ("ann.b", one.id), ("ann.b", two.id)]
    )
    store.database.write(book.told(due, at=START + 11 * SECOND))
    assert book.unacknowledged(now=START + 99 * SECOND) == ()


def test_the_sequence_goes_on_after_old_signals_were_forgotten(store, book) -> None:
    put(store, range(3))
    book.number()
    assert book.remove_before(START + 1) == 6
    put(store, [7], at=START + SECOND)
    book.number()
    assert [one.sequence for one in book.after("ann.a", 0)] == [4]
