"""Each kind of bot against a server that does what its documentation says: tokens, refusals, silence, repeats."""

from __future__ import annotations

import json

import pytest
import standardwebhooks

from tapeline.alerts.bots.bot_settings import BotSettings, read_settings
from tapeline.alerts.bots.signal import read_signal
from tapeline.core.errors import ConfigurationError
from tests.alerts.bots.support import DROP, START, Desk, Freqtrade, Hummingbot, rule, serving

FREQTRADE = BotSettings(name="desk", dialect="freqtrade", symbols={"BTCUSDT": "BTC/USDT", "DOGE": "DOGE/USDT"})
HUMMINGBOT = BotSettings(
    name="desk",
    dialect="hummingbot",
    connector="binance_perpetual",
    leverage=3,
    account="master_account",
    symbols={"BTCUSDT": "BTC-USDT", "DOGE": "DOGE-USDT"},
)
DCA = BotSettings(name="desk", dialect="threecommas", bot_id="42", side="long", symbols={"BTCUSDT": "USDT_BTC"})
SIGNAL_BOT = BotSettings(
    name="desk",
    dialect="threecommas",
    bot_id="0f8fad5b-d9cb-469f-a165-70867728950e",
    exchange="BINANCE",
    symbols={"BTCUSDT": "BTCUSDT"},
)
PEOPLE = {"username": "tapeline", "password": "correct horse"}
ADMIN = {"username": "admin", "password": "correct horse"}
CLOSE = rule(signal={"action": "close"})


@pytest.fixture
def store(own_store):
    return own_store


@pytest.fixture
def freqtrade(store):
    bot = Freqtrade()
    with serving(bot) as url:
        yield bot, Desk(store, url, FREQTRADE, PEOPLE)


@pytest.fixture
def hummingbot(store):
    bot = Hummingbot()
    with serving(bot) as url:
        yield bot, Desk(store, url, HUMMINGBOT, ADMIN)


def said(desk, firing):
    found = desk.book.signal(desk.id, firing.id)
    return found.state, found.fill_price, found.note


class TestFreqtrade:
    def test_enters_and_tells_the_fill(self, freqtrade) -> None:
        bot, desk = freqtrade
        fired = desk.fire()
        desk.deliver()
        (trade,) = bot.trades
        assert (trade["pair"], trade["is_short"], trade["enter_tag"]) == ("BTC/USDT", False, fired.id)
        assert trade["amount"] == pytest.approx(0.5)
        assert desk.state(fired) == "sent"
        assert said(desk, fired) == ("executed", 60_000.0, "trade 1")

    def test_an_order_that_is_not_filled_yet_is_accepted(self, freqtrade) -> None:
        bot, desk = freqtrade
        bot.fills = False
        fired = desk.fire()
        desk.deliver()
        assert said(desk, fired) == ("accepted", None, "trade 1")

    def test_a_token_that_ran_out_is_renewed_and_one_that_cannot_be_is_made_anew(self, freqtrade) -> None:
        bot, desk = freqtrade
        desk.fire(0)
        desk.deliver()
        bot.access.clear()
        second = desk.fire(1, of=CLOSE)
        desk.deliver()
        assert desk.state(second) == "sent"
        assert not bot.trades[0]["is_open"]
        bot.access.clear()
        bot.refresh.clear()
        third = desk.fire(2)
        desk.deliver()
        assert desk.state(third) == "sent"
        paths = [one.path.removeprefix("/api/v1/token/") for one in bot.asked if "/token/" in one.path]
        assert paths == ["login", "refresh", "refresh", "login"]

    def test_a_wrong_password_is_refused_without_being_told(self, store) -> None:
        with serving(Freqtrade(password="another")) as url:
            desk = Desk(store, url, FREQTRADE, PEOPLE)
            fired = desk.fire()
            desk.deliver()
            (letter,) = store.dead_letters().items
            assert letter.status == 401
            assert "user or password" in letter.detail
            assert "correct horse" not in letter.detail
            assert said(desk, fired)[0] == "open"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"symbol": "DOGE"}, "Symbol does not exist"),
            ({"most": 0}, "Maximum number of trades"),
        ],
    )
    def test_what_freqtrade_refuses_is_rejected_in_its_words(self, freqtrade, change, words) -> None:
        bot, desk = freqtrade
        bot.most = change.pop("most", bot.most)
        fired = desk.fire(**change)
        desk.deliver()
        state, _, note = said(desk, fired)
        assert state == "rejected"
        assert words in note
        assert len([one for one in bot.asked if "forceenter" in one.path]) == 1

    def test_a_symbol_that_the_bot_does_not_trade_is_not_sent_at_all(self, freqtrade) -> None:
        bot, desk = freqtrade
        fired = desk.fire(symbol="XRPUSDT")
        desk.deliver()
        assert said(desk, fired)[0] == "rejected"
        assert not bot.asked

    def test_too_many_requests_are_waited_for_within_the_signals_life(self, freqtrade) -> None:
        bot, desk = freqtrade
        bot.faults = [(429, {"detail": "slow"}, {"Retry-After": "2"})]
        fired = desk.fire()
        desk.deliver()
        assert desk.slept == [2.0]
        assert len(bot.trades) == 1
        assert said(desk, fired)[0] == "executed"

    def test_a_trader_that_stands_still_is_tried_until_the_signal_is_stale(self, freqtrade) -> None:
        bot, desk = freqtrade
        bot.running = False
        fired = desk.fire()
        desk.deliver()
        assert len(desk.slept) > 3
        assert sum(desk.slept) < 5.0
        assert desk.state(fired) == "expired"

    def test_an_entry_that_was_answered_by_silence_is_found_and_not_made_again(self, freqtrade) -> None:
        bot, desk = freqtrade
        bot.faults = [DROP]
        fired = desk.fire()
        desk.deliver()
        assert len(bot.trades) == 1
        assert said(desk, fired) == ("executed", 60_000.0, "trade 1")

    def test_it_is_also_found_among_trades_that_closed_meanwhile(self, freqtrade) -> None:
        bot, desk = freqtrade
        bot.faults = [DROP]
        handle = bot._trading

        def closes(path, asked):
            answer = handle(path, asked)
            for one in bot.trades:
                one["is_open"] = False
            return answer

        bot._trading = closes
        desk.fire()
        desk.deliver()
        assert len(bot.trades) == 1

    def test_a_close_exits_the_trades_of_its_side_and_a_part_only_a_part(self, freqtrade) -> None:
        bot, desk = freqtrade
        desk.fire(0)
        desk.deliver()
        half = desk.fire(1, of=rule(signal={"action": "close", "fraction": 0.5}))
        desk.deliver()
        assert bot.trades[0]["amount"] == pytest.approx(0.25)
        assert said(desk, half)[0] == "accepted"
        other = desk.fire(2, of=rule(signal={"action": "close", "side": "short"}))
        desk.deliver()
        assert said(desk, other) == ("executed", None, "nothing open")
        assert bot.trades[0]["is_open"]

    def test_a_part_that_may_have_been_closed_is_not_closed_again(self, freqtrade) -> None:
        bot, desk = freqtrade
        desk.fire(0)
        desk.deliver()
        bot.faults = [DROP]
        half = desk.fire(1, of=rule(signal={"action": "close", "fraction": 0.5}))
        desk.deliver()
        assert bot.trades[0]["amount"] == pytest.approx(0.25)
        assert desk.state(half) == "dead"

    def test_a_fraction_of_an_account_cannot_be_said_to_freqtrade(self, freqtrade) -> None:
        bot, desk = freqtrade
        fired = desk.fire(of=rule(signal={"action": "open", "side": "long", "fraction": 0.1}))
        desk.deliver()
        assert said(desk, fired)[0] == "rejected"
        assert not bot.trades


class TestHummingbot:
    def test_creates_an_executor_under_the_signals_id_with_its_barriers(self, hummingbot) -> None:
        bot, desk = hummingbot
        fired = desk.fire()
        desk.deliver()
        config = bot.executors[fired.id]["config"]
        assert config == {
            "type": "position_executor",
            "id": fired.id,
            "controller_id": "ann.desk",
            "connector_name": "binance_perpetual",
            "trading_pair": "BTC-USDT",
            "side": 1,
            "amount": "0.5",
            "leverage": 3,
            "triple_barrier_config": {"open_order_type": 1, "stop_loss": "0.02", "take_profit": "0.04"},
        }
        assert bot.asked[0].json["account_name"] == "master_account"
        assert said(desk, fired)[0] == "accepted"

    def test_an_executor_whose_creation_was_not_answered_is_not_created_again(self, hummingbot) -> None:
        bot, desk = hummingbot
        bot.faults = [DROP]
        fired = desk.fire()
        desk.deliver()
        assert bot.created == 1
        assert said(desk, fired)[0] == "accepted"

    def test_a_failure_of_its_own_is_tried_again(self, hummingbot) -> None:
        bot, desk = hummingbot
        bot.faults = [(500, {"detail": "Error creating executor: no price"})]
        fired = desk.fire()
        desk.deliver()
        assert bot.created == 1
        assert said(desk, fired)[0] == "accepted"

    def test_a_close_stops_only_what_our_signals_opened_on_that_side(self, hummingbot) -> None:
        bot, desk = hummingbot
        mine = desk.fire(0)
        desk.deliver()
        bot.executors["theirs"] = {**bot.executors[mine.id], "executor_id": "theirs", "controller_id": "main"}
        desk.fire(1, of=rule(signal={"action": "close", "side": "short"}))
        desk.deliver()
        assert bot.executors[mine.id]["status"] == "RUNNING"
        closed = desk.fire(2, of=CLOSE)
        desk.deliver()
        assert bot.executors[mine.id]["status"] == "TERMINATED"
        assert bot.executors["theirs"]["status"] == "RUNNING"
        assert said(desk, closed)[0] == "accepted"

    def test_a_pair_that_it_does_not_know_is_rejected(self, hummingbot) -> None:
        bot, desk = hummingbot
        fired = desk.fire(symbol="DOGE")
        desk.deliver()
        assert said(desk, fired)[0] == "rejected"
        assert bot.created == 0

    def test_a_wrong_password_is_refused(self, store) -> None:
        with serving(Hummingbot(password="another")) as url:
            desk = Desk(store, url, HUMMINGBOT, ADMIN)
            desk.fire()
            desk.deliver()
            assert store.dead_letters().items[0].status == 401


class TestThreeCommas:
    @pytest.fixture
    def got(self):
        return []

    @pytest.fixture
    def url(self, got):
        def handle(asked):
            got.append(asked.json)
            answers = {"pair": (200, {}), "drop": DROP}
            return answers.get(self.answer, (200, {}))

        self.answer = "pair"
        with serving(handle) as url:
            yield url

    def test_a_dca_bots_message(self, store, url, got) -> None:
        desk = Desk(store, url, DCA, {"email_token": "e-token"})
        plain = {"action": "open", "side": "long"}
        fired = desk.fire(0, of=rule(signal=plain))
        desk.fire(1, of=rule(signal={"action": "close"}))
        desk.deliver(2)
        first = {"message_type": "bot", "bot_id": 42, "email_token": "e-token", "delay_seconds": 0, "pair": "USDT_BTC"}
        assert got == [first, first | {"action": "close_at_market_price"}]
        assert said(desk, fired)[0] == "accepted"

    def test_a_dca_bot_takes_neither_sizes_nor_the_other_side(self, store, url, got) -> None:
        desk = Desk(store, url, DCA, {"email_token": "e-token"})
        sized = desk.fire(0)
        short = desk.fire(1, of=rule(signal={"action": "open", "side": "short"}))
        desk.deliver(2)
        assert not got
        assert [said(desk, one)[0] for one in (sized, short)] == ["rejected", "rejected"]

    def test_a_signal_bots_message_says_how_old_it_may_be(self, store, url, got) -> None:
        desk = Desk(store, url, SIGNAL_BOT, {"secret": "s-token"})
        desk.fire(0, of=rule(signal={"action": "open", "side": "short", "quantity": 0.25}))
        desk.fire(1, of=rule(signal={"action": "close", "side": "short"}))
        desk.deliver(2)
        first = {
            "secret": "s-token",
            "max_lag": "5",
            "timestamp": "2026-05-28T20:26:40Z",
            "trigger_price": "60000",
            "tv_exchange": "BINANCE",
            "tv_instrument": "BTCUSDT",
            "action": "enter_short",
            "bot_uuid": "0f8fad5b-d9cb-469f-a165-70867728950e",
            "order": {"amount": "0.25", "currency_type": "base"},
        }
        second = {name: value for name, value in first.items() if name != "order"} | {"action": "exit_short"}
        assert got == [first, second]

    def test_a_message_that_may_have_arrived_is_never_sent_again(self, store, url, got) -> None:
        self.answer = "drop"
        desk = Desk(store, url, SIGNAL_BOT, {"secret": "s-token"})
        fired = desk.fire()
        desk.deliver(3)
        assert len(got) == 1
        assert desk.state(fired) == "dead"
        (letter,) = store.dead_letters().items
        assert "not sent again" in letter.detail
        # Nor when its owner takes it back.
        store.redrive([letter.delivery.id], now=desk.clock.now)
        desk.deliver(2)
        assert len(got) == 1


class TestGeneric:
    def test_an_independent_library_verifies_what_is_sent(self, store) -> None:
        got = []

        def handle(asked):
            got.append(asked)
            return 200, {"state": "executed", "price": 60_001.5, "quantity": 0.5, "note": "order 17"}

        with serving(handle) as url:
            settings = BotSettings(name="desk", symbols={"BTCUSDT": "BTC/USDT"})
            desk = Desk(store, url, settings)
            desk.clock.now = __import__("time").time_ns()
            fired = desk.fire()
            desk.deliver()
        (asked,) = got
        headers = {name.lower(): value for name, value in asked.headers.items()}
        verified = standardwebhooks.Webhook(desk.secret).verify(asked.body, headers)
        assert headers["webhook-id"] == verified["id"] == fired.id
        signal = read_signal(asked.body)
        assert (signal.pair, signal.side, signal.stop, signal.take) == ("BTC/USDT", "long", 58_800.0, 62_400.0)
        assert said(desk, fired) == ("executed", 60_001.5, "order 17")

    def test_the_same_bytes_on_every_try(self, store) -> None:
        got, answers = [], [(503, {}), DROP, (200, {})]

        def handle(asked):
            got.append((asked.headers["webhook-id"], asked.body))
            return answers.pop(0)

        with serving(handle) as url:
            desk = Desk(store, url, BotSettings(name="desk"))
            fired = desk.fire()
            desk.deliver()
        assert len(got) == 3
        assert len(set(got)) == 1
        assert desk.state(fired) == "sent"
        assert said(desk, fired)[0] == "open"

    @pytest.mark.parametrize(("status", "state", "enabled"), [(422, "rejected", True), (410, "open", False)])
    def test_a_refusal_is_final(self, store, status, state, enabled) -> None:
        with serving(lambda asked: (status, {"detail": "no"})) as url:
            desk = Desk(store, url, BotSettings(name="desk"))
            fired = desk.fire()
            desk.deliver()
        assert said(desk, fired)[0] == state
        assert store.endpoint("ann.desk").enabled is enabled


@pytest.mark.parametrize(
    ("settings", "credentials", "words"),
    [
        (FREQTRADE, {"username": "a"}, "username and password"),
        (HUMMINGBOT, {}, "username and password"),
        (DCA, {"secret": "s"}, "email_token"),
        (SIGNAL_BOT, {"email_token": "e"}, "credential secret"),
    ],
)
def test_a_bot_that_could_not_work_is_not_registered(store, settings, credentials, words) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Desk(store, "http://127.0.0.1:8080/", settings, credentials)
    assert store.endpoint("ann.desk") is None


def test_a_bots_address_is_checked_like_a_webhooks(store) -> None:
    desk = Desk(store, "", BotSettings(name="desk", dialect="pull"))
    with pytest.raises(ConfigurationError, match="https"):
        desk.endpoints.create("ann.b", "ann", BotSettings(name="b"), now=START, url="http://127.0.0.1/")
    with pytest.raises(ConfigurationError, match="not public"):
        desk.endpoints.create("ann.b", "ann", BotSettings(name="b"), now=START, url="https://169.254.169.254/")


def test_secrets_lie_sealed_and_settings_hold_none(store) -> None:
    desk = Desk(store, "http://127.0.0.1:8080/", FREQTRADE, PEOPLE)
    endpoint = store.endpoint("ann.desk")
    kept = json.dumps(dict(endpoint.settings)).encode() + b"".join(endpoint.secrets) + endpoint.address.encode()
    assert b"correct horse" not in kept
    assert b"127.0.0.1" not in kept
    assert read_settings(endpoint.settings) == FREQTRADE
    assert desk.vault.open(endpoint.secrets[0], endpoint.id)
