"""Sending: strict order, nothing late, nothing doubled, whatever fails in between."""

from __future__ import annotations

import pytest

from tapeline.alerts.bots.acknowledgement import Acknowledgement
from tapeline.alerts.bots.bot_settings import BotSettings
from tapeline.alerts.bots.signal import read_signal
from tapeline.alerts.delivery.secret_vault import SecretVault, new_key
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.routing import Route, Router
from tests.alerts.bots.support import DROP, SECOND, START, Desk, rule, serving

GENERIC = BotSettings(name="desk")
BACK = BotSettings(
    name="desk",
    dialect="threecommas",
    bot_id="0f8fad5b-d9cb-469f-a165-70867728950e",
    exchange="BINANCE",
    symbols={"BTCUSDT": "BTCUSDT"},
)


@pytest.fixture
def store(own_store):
    return own_store


class Bot:
    """A generic bot that answers by script and then takes everything."""

    def __init__(self) -> None:
        self.got, self.script = [], []

    def __call__(self, asked):
        if asked.body and b'"sequence"' in asked.body:
            self.got.append(read_signal(asked.body))
        else:
            self.got.append(asked)
        return self.script.pop(0) if self.script else (200, {})

    @property
    def sequence(self) -> list[int]:
        return [one.sequence for one in self.got]


@pytest.fixture
def bot():
    return Bot()


@pytest.fixture
def desk(store, bot):
    with serving(bot) as url:
        yield Desk(store, url, GENERIC)


def test_signals_of_all_rules_of_a_bot_go_out_in_one_order(desk, bot) -> None:
    rules = (rule(), rule(id="other", priority="critical"))
    turns = [rules[number % 2] for number in range(6)]
    fired = [desk.fire(number, of=of, rule=of.id, priority=of.priority) for number, of in enumerate(turns)]
    # The second is the most urgent, and still waits for the first, which no one takes for a while.
    bot.script = [(503, {})] * 3
    desk.deliver(6)
    assert bot.sequence == [1, 1, 1, 1, 2, 3, 4, 5, 6]
    assert [desk.state(one) for one in fired] == ["sent"] * 6


def test_a_bot_that_does_not_answer_holds_up_its_own_signals_and_no_others(store, bot) -> None:
    with serving(bot) as url, serving(lambda asked: DROP) as dead:
        desk = Desk(store, url, GENERIC)
        Desk(store, dead, BotSettings(name="two"), id="ann.two")
        desk.router.routes = {("ann", "desk"): Route("desk", "bot", ("ann.two", "ann.desk"), 0)}
        fired = desk.fire()
        desk.deliver()
        states = {one.endpoint: one.state for one in store.deliveries(fired.id)}
        assert states["ann.desk"] == "sent"
        assert states["ann.two"] != "sent"


def test_what_has_expired_is_recorded_and_never_sent(desk, bot) -> None:
    fired = desk.fire()
    desk.clock.pass_(5.0)
    desk.deliver()
    assert desk.state(fired) == "expired"
    assert bot.got == []
    # It has its place all the same: a bot that asks sees that nothing is missing.
    desk.book.number()
    assert [one.id for one in desk.book.after("ann.desk", 0)] == [fired.id]


def test_one_that_expires_while_it_is_tried_is_not_tried_again(desk, bot) -> None:
    bot.script = [(503, {})] * 100
    fired = desk.fire()
    desk.deliver()
    assert desk.state(fired) == "expired"
    assert sum(desk.slept) < 5.0
    tries = len(bot.got)
    desk.clock.pass_(60)
    desk.deliver(3)
    assert len(bot.got) == tries > 3


def test_a_recovery_sends_nothing_of_before_the_crash(desk, bot) -> None:
    """What a journal gives again after a crash is as old as it was, though it is found only now."""
    found_again = desk.fire(0, at=desk.clock.now - 30 * SECOND, detected_at=desk.clock.now)
    fresh = desk.fire(1)
    desk.deliver(2)
    assert desk.state(found_again) == "expired"
    assert [one.id for one in bot.got] == [fresh.id]


def test_a_redriven_signal_is_not_sent_late_either(desk, bot) -> None:
    bot.script = [(400, {})]
    fired = desk.fire()
    desk.deliver()
    assert desk.state(fired) == "dead"
    desk.clock.pass_(3600)
    desk.store.redrive(channel="bot", now=desk.clock.now, expires_at=desk.clock.now + 3600 * SECOND)
    desk.deliver(2)
    assert len(bot.got) == 1
    assert desk.state(fired) == "dead"


def test_the_next_signal_follows_at_once_when_the_one_before_has_expired(desk, bot) -> None:
    bot.script = [(503, {})] * 40
    first = desk.fire(0)
    desk.deliver()
    bot.script = []
    second = desk.fire(1)
    desk.deliver()
    assert (desk.state(first), desk.state(second)) == ("expired", "sent")
    assert bot.sequence[-1] == 2


def test_a_crash_between_sending_and_writing_it_down_repeats_only_what_may_be_repeated(store, bot) -> None:
    with serving(bot) as url:
        long = BACK.model_copy(update={"ttl": 3600.0})
        desk = Desk(store, url, long, {"secret": "s"})
        desk.fire(of=rule(signal={"action": "open", "side": "long"}))
        (claim,) = store.claim("bot", limit=1, lease=120 * SECOND, now=desk.clock.now)
        store.begin_attempt(claim, now=desk.clock.now)
        desk.channel.send([claim.delivery], store.endpoint("ann.desk"), now=desk.clock.now)
        assert len(bot.got) == 1
        # The process dies here: the attempt is never settled, its lease runs out.
        desk.clock.pass_(121)
        desk.restart()
        desk.deliver()
        assert len(bot.got) == 1


def test_a_crash_before_the_answer_was_written_down_does_not_double_a_message(store, bot) -> None:
    with serving(bot) as url:
        desk = Desk(store, url, BACK.model_copy(update={"ttl": 3600.0}), {"secret": "s"})
        fired = desk.fire(of=rule(signal={"action": "open", "side": "long"}))
        desk.book.number()
        assert desk.book.begin(store.deliveries(fired.id)[0].id, at=desk.clock.now)
        desk.deliver()
        assert bot.got == []
        assert desk.state(fired) == "dead"


def test_what_the_bot_said_by_itself_is_not_undone_and_not_sent_again(desk, bot) -> None:
    fired = desk.fire()
    desk.book.number()
    desk.book.acknowledge("ann.desk", fired.id, Acknowledgement("executed", 60_000.0), at=START)
    desk.deliver()
    assert bot.got == []
    assert desk.state(fired) == "sent"
    assert desk.book.signal("ann.desk", fired.id).state == "executed"


def test_hold_reaches_generic_bots_and_asks_nothing_of_programs(store, bot) -> None:
    with serving(bot) as url:
        desk = Desk(store, url, GENERIC)
        desk.fire(of=rule(signal=None))
        desk.deliver()
        assert bot.got[0].action == "hold"
        program = Desk(store, url, BACK, {"secret": "s"}, id="ann.back", clock=desk.clock)
        program.router = Router({("ann", "desk"): Route("desk", "bot", ("ann.back",), 0)}, desk.router.render)
        fired = program.fire(5, of=rule(signal=None))
        program.deliver()
        assert len(bot.got) == 1
        assert program.state(fired) == "sent"


def test_a_bot_that_asks_gets_nothing_sent(store) -> None:
    desk = Desk(store, "", BotSettings(name="desk", dialect="pull"))
    fired = desk.fire()
    desk.deliver()
    assert desk.state(fired) == "sent"
    assert desk.book.after("ann.desk", 0)[0].state == "open"


def test_an_address_that_leads_inside_is_not_connected_to(store) -> None:
    desk = Desk(store, "http://127.0.0.1:8080/", GENERIC)
    desk.rules = TargetRules(http=True, ports=(8080,))
    desk.restart()
    fired = desk.fire()
    desk.deliver()
    assert "not public" in store.attempts(store.deliveries(fired.id)[0].id)[0].detail


def test_an_unreadable_secret_switches_the_bot_off(store, bot) -> None:
    with serving(bot) as url:
        desk = Desk(store, url, GENERIC)
        desk.vault = SecretVault([new_key()])
        desk.restart()
        desk.fire()
        desk.deliver()
    assert not store.endpoint("ann.desk").enabled
    assert bot.got == []
