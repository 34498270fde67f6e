"""Alerts that come in: distrusted, taken once, and none lost when the engine dies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.access.quotas import QuotaExceededError
from tapeline.alerts.bots.bot_settings import BotSettings
from tapeline.alerts.bots.desk import BotDesk
from tapeline.alerts.bots.inbound_alert import InboundAlert, alert_id, read_alert
from tapeline.alerts.bots.inbound_queue import InboundQueue, NotPermittedAlertError
from tapeline.alerts.bots.inbound_tokens import (
    TRADINGVIEW,
    InboundSettings,
    InboundSource,
    InboundTokens,
    may_come_from,
)
from tapeline.alerts.delivery.messages import render
from tapeline.alerts.records import Silence
from tapeline.alerts.routing import Route, Router
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.store import FiringQuery, UnknownRecordError
from tapeline.core.errors import ConfigurationError, DataError
from tests.alerts.bots.support import SECOND, START, Desk, FakeClock

NOW = "2026-05-28T20:26:40Z"
SAID = {"strategy": "macd", "order_id": "Long", "time": NOW, "ticker": "BINANCE:BTCUSDT", "action": "buy"}
SOURCE = InboundSource("ann", "tv", InboundSettings())


def body(**changes) -> bytes:
    return json.dumps({name: value for name, value in (SAID | changes).items() if value is not None}).encode()


@contextmanager
def flushes(store) -> Iterator[list[int]]:
    """How many transactions of SQLite changed something within the block: each waits for the disk."""
    database, made = store.database, [0]
    transact = database._transact

    def counted(work):
        def both(db):
            changes = "SELECT total_changes()"
            before = db.exec_driver_sql(changes).scalar()
            answer = work(db)
            made[0] += db.exec_driver_sql(changes).scalar() > before
            return answer

        return transact(both)

    database._transact = counted
    try:
        yield made
    finally:
        del database._transact


def _body_of(desk, id: str) -> str:
    return next(one.body for one in desk.queue.recent("ann") if one.id == id)


class TestReading:
    def test_placeholders_between_quotes_are_numbers(self) -> None:
        alert = read_alert(body(contracts="0.10", price="60001.5", position="long", interval="60"))
        assert (alert.contracts, alert.price, alert.ts) == (0.1, 60_001.5, START)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (b"", "no JSON"),
            (b"BTC crossed 60000", "no JSON"),
            (b"\xff\xfe", "no JSON"),
            (b"[]", "alert"),
            (body()[:-1] + b', "action": "sell"}', "twice"),
            (body()[:-1] + b', "price": NaN}', "NaN"),
            (body()[:-1] + b', "price": -Infinity}', "Infinity"),
            (body()[:-1] + b', "price": 1e999}', "price"),
            (body(price="nan"), "price"),
            (body(price="1_000"), "price"),
            (body(contracts=-1), "contracts"),
            (body(contracts=True), "contracts"),
            (body(extra="x"), "alert"),
            (body(action="steal"), "action"),
            (body(time=None), "time"),
            (body(time="2026-05-28T20:26:40"), "time"),
            (body(time=1_780_000_000), "time"),
            (body(strategy="a b"), "strategy"),
            (body(ticker="BTC;DROP TABLE"), "ticker"),
            (body(ticker="../../etc"), "ticker"),
            (body(order_id="a\r\nb"), "order_id"),
            (body(message="x" * 501), "message"),
            (b"[" * 8_000, "nested|no JSON"),
            (b'{"a":' * 1_600, "nested|no JSON"),
            (b'{"price": ' + b"9" * 8_000 + b"}", "no JSON|alert"),
            (b" " * 8_193, "larger than 8192"),
        ],
    )
    def test_what_is_no_alert_is_refused_in_words_that_repeat_nothing_of_it(self, text, words) -> None:
        with pytest.raises(DataError, match=words) as refusal:
            read_alert(text)
        assert "DROP" not in str(refusal.value)
        assert "\r" not in str(refusal.value)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.one_of(st.binary(max_size=200), st.recursive(st.none() | st.text() | st.floats(), st.lists).map(
        lambda value: json.dumps({**SAID, "price": value}).encode())))  # fmt: skip
    def test_whatever_comes_is_an_alert_or_a_refusal(self, raw) -> None:
        try:
            alert = read_alert(raw)
        except DataError:
            return
        assert isinstance(alert, InboundAlert)

    @pytest.mark.parametrize(
        ("said", "action", "side"),
        [
            ({"position": "long", "action": "buy"}, "open", "long"),
            ({"position": "short", "action": "sell"}, "open", "short"),
            ({"position": "flat", "action": "sell"}, "close", None),
            ({"action": "buy"}, "open", "long"),
            ({"action": "sell"}, "open", "short"),
            ({"action": "close"}, "close", None),
            ({"action": ""}, "hold", None),
        ],
    )
    def test_the_position_decides_and_without_it_the_order(self, said, action, side) -> None:
        intent = read_alert(body(**said)).intent
        assert (intent.action, intent.side) == (action, side)


class TestPermission:
    @pytest.mark.parametrize(
        ("bounds", "said"),
        [
            ({"symbols": {"BINANCE:ETHUSDT": "ETHUSDT"}}, {}),
            ({"sides": ["sell", "close"]}, {}),
            ({"sides": ["buy", "sell"]}, {"position": "flat"}),
            ({"sides": ["buy"]}, {"action": None}),
            ({"most_contracts": 1.0}, {"contracts": "1.01"}),
            ({}, {"time": "2026-05-28T20:25:39Z"}),
            ({}, {"time": "2026-05-28T20:27:41Z"}),
            ({"fresh_seconds": 5}, {"time": "2026-05-28T20:26:34Z"}),
        ],
    )
    def test_a_source_says_only_what_it_may_and_only_while_it_is_fresh(self, own_store, bounds, said) -> None:
        raw = body(**said)
        source = InboundSource("ann", "tv", InboundSettings(**bounds))
        with pytest.raises(NotPermittedAlertError):
            InboundQueue(own_store.database).put(source, read_alert(raw), raw, address="", now=START)

    def test_networks(self) -> None:
        assert may_come_from("203.0.113.9", ())
        assert may_come_from("52.32.178.7", TRADINGVIEW)
        assert not may_come_from("52.32.178.8", TRADINGVIEW)
        assert not may_come_from("", TRADINGVIEW)
        assert not may_come_from("::ffff:52.32.178.7.evil", TRADINGVIEW)


class TestTokens:
    @pytest.fixture
    def tokens(self, store):
        return InboundTokens(store.database)

    def test_a_token_is_256_bits_and_only_its_digest_is_kept(self, store, tokens) -> None:
        token = tokens.create("ann", "tv", InboundSettings(sides=["buy"]), now=START)
        assert len(token) == 3 + 43
        found = tokens.find(token, now=START)
        assert (found.owner, found.source, found.settings.sides) == ("ann", "tv", {"buy"})
        rows = store.database.read(lambda db: db.exec_driver_sql("SELECT * FROM alert_inbound_token").mappings().all())
        assert token not in str(rows)
        for wrong in (token[:-1], token + "A", token.swapcase(), "", "tv_", "a" * 300, "../" + token):
            assert tokens.find(wrong, now=START) is None

    def test_a_rotation_lets_the_old_token_in_for_a_while(self, tokens) -> None:
        old = tokens.create("ann", "tv", InboundSettings(), now=START)
        new = tokens.rotate("ann", "tv", now=START, grace=60)
        assert all(tokens.find(each, now=START + 59 * SECOND) for each in (old, new))
        assert tokens.find(old, now=START + 60 * SECOND) is None
        assert tokens.find(new, now=START + 60 * SECOND)
        # A second rotation does not make the first one's grace longer.
        tokens.rotate("ann", "tv", now=START + 30 * SECOND, grace=3600)
        assert tokens.find(old, now=START + 61 * SECOND) is None
        assert len(tokens.sources("ann")) == 1

    def test_settings_hold_for_every_token_and_a_source_can_be_removed(self, tokens) -> None:
        old = tokens.create("ann", "tv", InboundSettings(), now=START)
        tokens.rotate("ann", "tv", now=START)
        tokens.change("ann", "tv", InboundSettings(sides=["sell"]))
        assert tokens.find(old, now=START).settings.sides == {"sell"}
        assert tokens.sources("bob") == ()
        assert tokens.delete("ann", "tv")
        assert tokens.find(old, now=START) is None
        with pytest.raises(UnknownRecordError):
            tokens.rotate("ann", "tv", now=START)

    def test_one_source_of_a_name(self, tokens) -> None:
        tokens.create("ann", "tv", InboundSettings(), now=START)
        tokens.create("bob", "tv", InboundSettings(), now=START)
        with pytest.raises(ConfigurationError, match="already"):
            tokens.create("ann", "tv", InboundSettings(), now=START)

    def test_an_owner_has_only_so_many(self, tokens, monkeypatch) -> None:
        monkeypatch.setattr("tapeline.alerts.bots.inbound_tokens.MOST_SOURCES", 2)
        for name in ("a", "b"):
            tokens.create("ann", name, InboundSettings(), now=START)
        with pytest.raises(QuotaExceededError):
            tokens.create("ann", "c", InboundSettings(), now=START)
        tokens.create("bob", "c", InboundSettings(), now=START)

    @pytest.mark.parametrize("weak", ["hunter2", "a" * 43, "changeme" * 6, "x y" * 20])
    def test_a_weak_token_of_the_settings_is_refused_without_being_repeated(self, store, weak) -> None:
        with pytest.raises(ConfigurationError, match="too weak") as refusal:
            InboundTokens(store.database, {"ann": weak})
        assert weak not in str(refusal.value)

    def test_a_token_of_the_settings(self, store) -> None:
        token = "k3J9-x_QmB7vT2pLzR8wYc5N1dF6gHsA0eUiOqWtVbX"
        tokens = InboundTokens(store.database, {"ann": token})
        assert tokens.find(token, now=START).owner == "ann"
        assert tokens.find(token[::-1], now=START) is None


class TestQueue:
    def test_the_same_alert_is_taken_once_however_often_it_comes(self, store) -> None:
        queue = InboundQueue(store.database)

        def put(now=START, **changes) -> bool:
            raw = body(**changes)
            return queue.put(SOURCE, read_alert(raw), raw, address="52.89.214.238", now=now)

        assert put()
        assert not put(now=START + 3 * SECOND)
        # Its order, strategy and time make it the same one, whatever else it says.
        assert not put(price="60000")
        assert put(order_id="Short")
        assert put(time="2026-05-28T20:26:41Z")
        assert put(order_id=None)
        assert not put(order_id=None)
        assert put(order_id=None, price="60000")
        assert len(queue.waiting()) == 5

    def test_two_sources_are_told_apart(self) -> None:
        alert = read_alert(body())
        ids = {alert_id(owner, source, alert, body()) for owner in ("ann", "bob") for source in ("a", "b")}
        assert len(ids) == 4

    def test_one_of_many_that_come_at_once_is_new(self, store, address) -> None:
        others = [open_store(address) for _ in range(4)]
        new = []
        start = threading.Barrier(4)

        def put(one) -> None:
            start.wait()
            new.append(InboundQueue(one.database).put(SOURCE, read_alert(body()), body(), address="", now=START))

        threads = [threading.Thread(target=put, args=(one,)) for one in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one in others:
            one.close()
        assert sorted(new) == [False, False, False, True]


class TestDesk:
    @pytest.fixture
    def desk(self, store):
        routes = {
            ("ann", "desk"): Route("desk", "bot", ("ann.desk",), 0),
            ("ann", "phone"): Route("phone", "telegram", ("ann.phone",)),
            ("bob", "phone"): Route("phone", "telegram", ("bob.phone",)),
        }
        return BotDesk(store, Router(routes, render), clock=FakeClock())

    def put(self, desk, raw=None, source=SOURCE, now=START) -> None:
        raw = raw or body()
        assert desk.queue.put(source, read_alert(raw), raw, address="", now=now)

    def test_an_alert_becomes_a_firing_for_people_and_a_signal_for_bots(self, store, desk) -> None:
        self.put(desk, body(position="long", contracts="0.5", price="60001.5"))
        assert desk.step() == 1
        (found,) = store.firings(FiringQuery(rule="tradingview:tv")).items
        assert (found.firing.owner, found.firing.symbol, found.firing.price) == ("ann", "BTCUSDT", 60_001.5)
        deliveries = {one.channel: one for one in store.deliveries(found.firing.id)}
        assert set(deliveries) == {"bot", "telegram"}
        assert deliveries["telegram"].endpoint == "ann.phone"
        (signal,) = [one.signal for one in desk.book.after("ann.desk", 0)]
        assert (signal.action, signal.side, signal.quantity, signal.expires_at) == (
            "open", "long", 0.5, START + 5 * SECOND,
        )  # fmt: skip
        assert desk.step() == 0
        assert desk.queue.recent("ann")[0].firing == found.firing.id

    def test_only_the_channels_of_its_source_and_only_while_nobody_silenced_it(self, store, desk) -> None:
        source = InboundSource("ann", "quiet", InboundSettings(channels=("phone",)))
        self.put(desk, source=source)
        desk._router.silence(Silence("s", "ann", {"rule": "tradingview:tv"}, 0, START + SECOND))
        self.put(desk)
        desk.step()
        told = [one.firing for page in [store.firings()] for one in page.items]
        by_rule = {one.rule: [each.channel for each in store.deliveries(one.id)] for one in told}
        assert by_rule == {"tradingview:quiet": ["telegram"], "tradingview:tv": []}

    @pytest.mark.parametrize("dies", ["commit", "place"])
    def test_killed_on_its_way_it_makes_the_same_firing_and_no_second_one(self, store, desk, dies, monkeypatch) -> None:
        self.put(desk)
        where = {"commit": (store, "_committed"), "place": (desk.book, "place_all")}[dies]

        def gone(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(*where, gone)
            with pytest.raises(KeyboardInterrupt):
                desk.step()
        again = BotDesk(store, desk._router, clock=desk._clock)
        again.step()
        assert store.count_firings() == 1
        firing = store.firings().items[0].firing
        assert sorted(one.channel for one in store.deliveries(firing.id)) == ["bot", "telegram"]
        assert desk.queue.waiting() == ()

    def test_any_number_costs_one_flush_and_one_that_cannot_be_stored_is_refused(self, own_store) -> None:
        desk = BotDesk(own_store, Router({}, render), clock=FakeClock())
        for number in range(5):
            with flushes(own_store) as made:
                self.put(desk, body(order_id=str(number)))
            assert made == [1]
        with flushes(own_store) as made:
            self.put_again(desk)
        assert made == [0]
        with flushes(own_store) as made:
            assert desk.step() == 5
        assert made == [1]
        with flushes(own_store) as made:
            assert desk.step() == 0
        assert made == [0]

    def put_again(self, desk) -> None:
        assert not desk.queue.put(SOURCE, read_alert(body(order_id="0")), body(order_id="0"), address="", now=START)

    def test_one_that_cannot_be_stored_holds_up_no_other(self, store, desk, monkeypatch) -> None:
        for order in "12":
            self.put(desk, body(order_id=order))
        bad = min(desk.queue.waiting(), key=lambda one: one.id).id
        stored = store.commit_all

        def commit_all(commits):
            if any(one.firings[0].labels["order"] == json.loads(_body_of(desk, bad))["order_id"] for one in commits):
                raise DataError("a value cannot be stored")
            return stored(commits)

        monkeypatch.setattr(store, "commit_all", commit_all)
        assert desk.step() == 2
        assert {one.state for one in desk.queue.recent("ann")} == {"refused", "taken"}
        assert {one.reason for one in desk.queue.recent("ann")} == {"", "a value cannot be stored"}

    def test_one_that_can_no_longer_be_read_holds_up_no_other(self, store, desk) -> None:
        self.put(desk)
        self.put(desk, body(order_id="2"))
        first = desk.queue.waiting()[0]
        store.database.write(
            lambda db: db.exec_driver_sql(f"UPDATE alert_inbound SET body = 'x' WHERE id = '{first.id}'")
        )
        desk.step()
        assert {one.state for one in desk.queue.recent("ann")} == {"refused", "taken"}

    def test_old_ones_are_forgotten_and_what_waits_is_not(self, store, desk) -> None:
        self.put(desk)
        desk.step()
        self.put(desk, body(order_id="2"))
        desk._clock.pass_(31 * 86_400)
        assert desk.sweep() == 2  # the first alert, and its signal
        assert len(desk.queue.recent("ann")) == 1

    def test_its_thread_takes_what_comes_and_ends(self, store, desk) -> None:
        taken = threading.Event()
        running = BotDesk(store, desk._router, wake=taken.set, clock=desk._clock, every=0.01)
        running.start()
        self.put(desk)
        assert taken.wait(10)
        running.stop()
        assert store.count_firings() == 1


def test_an_owner_is_told_once_of_a_signal_that_nobody_acknowledged(own_store) -> None:
    store = own_store
    settings = BotSettings(name="desk", dialect="pull", acknowledge_within=10.0, notify=("phone", "desk"))
    bot = Desk(store, "", settings)
    bot.router.routes = {**bot.router.routes, ("ann", "phone"): Route("phone", "telegram", ("ann.phone",))}
    desk = BotDesk(store, bot.router, clock=bot.clock)
    fired = bot.fire()
    desk.step()
    bot.clock.pass_(9.9)
    assert desk.step() == 0
    bot.clock.pass_(0.1)
    assert desk.step() == 1
    (told,) = store.firings(FiringQuery(rule="bot:desk")).items
    assert told.firing.labels == {"bot": "ann.desk", "signal": fired.id, "rule": "btc-60k"}
    (delivery,) = store.deliveries(told.firing.id)
    assert delivery.channel == "telegram"
    assert "did not acknowledge: open long" in delivery.body
    # Not again, and not by another process that was slower.
    bot.clock.pass_(60)
    assert desk.step() == 0
    store.database.write(lambda db: db.exec_driver_sql("UPDATE alert_signal SET told_at = 0"))
    assert BotDesk(store, bot.router, clock=bot.clock).step() == 1
    assert store.count_firings(FiringQuery(rule="bot:desk")) == 1
