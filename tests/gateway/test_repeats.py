from __future__ import annotations

import threading

import pytest
from sqlalchemy import select

from tapeline.alerts.store.gateway_tables import repeated
from tapeline.core.errors import TemporaryError
from tapeline.gateway import repeats
from tests.gateway.conftest import NOW, open_context

BODY = {"condition": "close > 60000", "symbols": ["BTCUSDT"]}
KEY = {"Idempotency-Key": "7b2e0d52-1111-4c3e-9a55-000000000001"}
DAY = 86_400 * 10**9


@pytest.fixture
def ann(as_user):
    return as_user("ann")


def rows(context):
    return context.store.database.read(lambda db: db.execute(select(repeated)).all())


def test_the_same_request_is_done_once_and_answered_alike(ann, context) -> None:
    first = ann.post("/v1/rules", json=BODY, headers=KEY)
    again = ann.post("/v1/rules", json=BODY, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert len(context.store.rules()) == 1
    # What is kept is sealed: an answer may hold a secret.
    (row,) = rows(context)
    assert b"BTCUSDT" not in row.answer
    assert KEY["Idempotency-Key"] not in row.key


def test_another_request_under_the_key_is_refused(ann) -> None:
    ann.post("/v1/rules", json=BODY, headers=KEY)
    other = ann.post("/v1/rules", json={**BODY, "name": "two"}, headers=KEY)
    elsewhere = ann.post("/v1/rules/validate", json=BODY, headers=KEY)
    assert {one.json()["type"] for one in (other, elsewhere)} == {"/problems/key-reused"}
    assert {one.status_code for one in (other, elsewhere)} == {422}


def test_a_key_belongs_to_its_user(as_user, context) -> None:
    for name in ("ann", "bob"):
        assert as_user(name).post("/v1/rules", json=BODY, headers=KEY).json()["owner"] == name
    assert len(context.store.rules()) == 2


def test_a_request_that_still_runs_is_not_begun_again(ann, app, context, monkeypatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    save = context.store.save_rule

    def slow(*given, **options):
        begun.set()
        assert go_on.wait(30)
        return save(*given, **options)

    monkeypatch.setattr(context.store, "save_rule", slow)
    answers = []
    first = threading.Thread(target=lambda: answers.append(ann.post("/v1/rules", json=BODY, headers=KEY)))
    first.start()
    assert begun.wait(30)
    second = ann.post("/v1/rules", json=BODY, headers=KEY)
    go_on.set()
    first.join(30)
    assert (second.status_code, second.json()["type"]) == (409, "/problems/still-running")
    assert second.headers["retry-after"] == "1"
    assert answers[0].status_code == 201
    assert len(context.store.rules()) == 1


def test_what_failed_before_anything_was_done_may_be_sent_again(ann, context, monkeypatch) -> None:
    def away(*given, **options):
        raise TemporaryError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(context.store, "save_rule", away)
        assert ann.post("/v1/rules", json=BODY, headers=KEY).status_code == 503
    assert ann.post("/v1/rules", json=BODY, headers=KEY).status_code == 201
    assert len(context.store.rules()) == 1


def test_what_was_done_before_it_failed_is_not_done_again(ann, context, monkeypatch) -> None:
    """The answer is lost between the commit and its keeping, as by a kill: the mark in the commit tells it."""
    with monkeypatch.context() as patch:
        patch.setattr(repeats.Repeats, "finish", lambda *_: (_ for _ in ()).throw(TemporaryError("killed")))
        assert ann.post("/v1/rules", json=BODY, headers=KEY).status_code == 503
    again = ann.post("/v1/rules", json=BODY, headers=KEY)
    assert (again.status_code, again.json()["type"]) == (409, "/problems/answer-lost")
    assert len(context.store.rules()) == 1


def test_a_key_is_forgotten_after_a_day_and_a_request_that_died_after_its_lease(tmp_path) -> None:
    now = [NOW]
    with open_context(tmp_path, clock=lambda: now[0]) as context:
        kept = repeats.Repeats(context.store.database, context.vault, context.clock)
        first = kept.begin("ann", b"one-key-1", "f")
        assert isinstance(first, repeats.Repetition)
        with pytest.raises(repeats.ProblemError, match="still runs"):
            kept.begin("ann", b"one-key-1", "f")
        now[0] += (repeats.LEASE_SECONDS + 1) * 10**9
        second = kept.begin("ann", b"one-key-1", "f")
        assert isinstance(second, repeats.Repetition)
        # The first one, if it lives after all, finds that it may no longer write.
        with (
            pytest.raises(repeats.ProblemError, match="still runs"),
            repeats.accompanied(context.store.database, first),
        ):
            context.store.rewind("feed", 1)
        assert context.store.positions() == {}
        kept.finish(second, repeats.Answer(200, (), b"{}"))
        assert isinstance(kept.begin("ann", b"one-key-1", "f"), repeats.Answer)
        now[0] += DAY + 1
        assert isinstance(kept.begin("ann", b"one-key-1", "another"), repeats.Repetition)
        assert len(rows(context)) == 1


@pytest.mark.parametrize("key", ["short", "x" * 129, "sp ace-key-1", "käse-käse"])
def test_a_key_that_is_none_is_refused(ann, key) -> None:
    answer = ann.post("/v1/rules", json=BODY, headers={"Idempotency-Key": key.encode("latin-1")})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-idempotency-key")
