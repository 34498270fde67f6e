"""The client: killed anywhere, no signal is executed twice and none that is valid is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tapeline.alerts.bots.acknowledgement import Acknowledgement
from tapeline.alerts.bots.bot_settings import BotSettings
from tapeline.alerts.bots.client import STALE, HttpSignalApi, OfferedSignal, SignalClient, read_offer
from tapeline.alerts.bots.client_state import ClientStateFile
from tapeline.alerts.bots.signal import Signal
from tapeline.alerts.delivery.signing import SignatureError, new_secret, sign
from tapeline.alerts.store.sqlite import open_sqlite
from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tests.alerts.bots.support import SECOND, START, Desk, FakeClock, serving

DONE = Acknowledgement("executed", fill_price=1.0)


def made(sequence: int, **changes) -> Signal:
    values = {
        "id": f"evt_{sequence}", "bot": "ann.desk", "sequence": sequence, "symbol": "A", "pair": "A", "action": "open",
        "side": "long", "rule": "r", "rule_version": "v", "ts": START, "created_at": START,
        "expires_at": START + 5 * SECOND,
    }  # fmt: skip
    return Signal(**{**values, **changes})


class Api:
    """What the gateway has, and what it was told."""

    def __init__(self, *signals: Signal) -> None:
        self.offered = {one.sequence: OfferedSignal(one) for one in signals}
        self.said: dict[str, Acknowledgement] = {}
        self.away = False

    def signals(self, bot, after, *, limit, wait):
        if self.away:
            raise TemporaryError("away")
        return [self.offered[place] for place in sorted(self.offered) if place > after][:limit]

    def acknowledge(self, bot, id, said):
        if self.away:
            raise TemporaryError("away")
        self.said[id] = said


class Exchange:
    """Orders by their client's id: what was executed, however often it was asked."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.dies = ""

    def handle(self, signal: Signal) -> Acknowledgement:
        if self.dies == "before":
            raise KeyboardInterrupt
        self.orders.append(signal.id)
        if self.dies == "after":
            raise KeyboardInterrupt
        return DONE

    def was_executed(self, signal: Signal) -> Acknowledgement | None:
        return DONE if signal.id in self.orders else None


@pytest.fixture
def state(tmp_path) -> Path:
    return tmp_path / "bot" / "state.json"


def opened(state, exchange, api=None, clock=None, **options) -> SignalClient:
    options = {"was_executed": exchange.was_executed, **options}
    return SignalClient("ann.desk", state, exchange.handle, api=api, clock=clock or FakeClock(), **options)


def test_signals_are_taken_in_order_once_each_and_acknowledged(state) -> None:
    exchange, api = Exchange(), Api(made(2), made(1), made(3, action="hold", side=None))
    client = opened(state, exchange, api)
    assert client.poll() == 3
    assert client.poll() == 0
    assert exchange.orders == ["evt_1", "evt_2"]
    assert api.said == {"evt_1": DONE, "evt_2": DONE}
    assert client.cursor == 3
    # A client that starts again goes on where it was.
    again = opened(state, exchange, api)
    assert (again.cursor, again.poll()) == (3, 0)


def test_what_is_stale_or_was_finished_before_is_not_executed(state) -> None:
    exchange, api = Exchange(), Api(made(1, expires_at=START), made(2), made(3))
    api.offered[2] = OfferedSignal(made(2), "executed")
    client = opened(state, exchange, api)
    client.poll()
    assert exchange.orders == ["evt_3"]
    assert api.said == {"evt_1": STALE, "evt_3": DONE}


@pytest.mark.parametrize("dies", ["before", "after"])
@pytest.mark.parametrize("late", [False, True])
def test_a_client_that_died_while_it_executed_finds_out_whether_it_did(state, dies, late) -> None:
    exchange, api, clock = Exchange(), Api(made(1), made(2)), FakeClock()
    exchange.dies = dies
    with pytest.raises(KeyboardInterrupt):
        opened(state, exchange, api, clock).poll()
    exchange.dies = ""
    clock.pass_(60 if late else 1)
    opened(state, exchange, api, clock).poll()
    first = dies == "after" or not late
    assert exchange.orders == (["evt_1"] if first else []) + ([] if late else ["evt_2"])
    assert api.said == {"evt_1": DONE if first else STALE, "evt_2": STALE if late else DONE}


def test_without_a_way_to_find_out_it_rather_does_nothing(state) -> None:
    exchange, api = Exchange(), Api(made(1))
    exchange.dies = "after"
    with pytest.raises(KeyboardInterrupt):
        opened(state, exchange, api, was_executed=None).poll()
    exchange.dies = ""
    opened(state, exchange, api, was_executed=None).poll()
    assert exchange.orders == ["evt_1"]
    assert api.said["evt_1"].state == "rejected"


def test_an_acknowledgement_that_could_not_be_said_is_said_later(state) -> None:
    exchange, api = Exchange(), Api(made(1))
    client = opened(state, exchange, api)
    api.away = True
    client.take(made(1))
    assert (client.say(), api.said) == (0, {})
    api.away = False
    again = opened(state, exchange, api)
    assert again.say() == 1
    assert api.said == {"evt_1": DONE}
    assert again.say() == 0


def test_a_pushed_signal_is_verified_and_what_is_missing_before_it_is_asked_for(state) -> None:
    exchange, api, secret = Exchange(), Api(made(1), made(2)), new_secret()
    client = opened(state, exchange, api, secrets=[secret])
    body = made(2).text().encode()
    headers = sign([secret], "evt_2", START // SECOND, body)
    with pytest.raises(SignatureError):
        client.receive(headers, body.replace(b"long", b"short"))
    with pytest.raises(SignatureError):
        client.receive(sign([new_secret()], "evt_2", START // SECOND, body), body)
    with pytest.raises(SignatureError):
        client.receive(sign([secret], "evt_2", START // SECOND - 301, body), body)
    assert exchange.orders == []
    assert client.receive(headers, body) is None  # the first came with it, and so did the second
    assert exchange.orders == ["evt_1", "evt_2"]
    assert client.receive(headers, body) is None
    assert exchange.orders == ["evt_1", "evt_2"]


def test_without_an_api_what_is_pushed_is_taken_and_never_goes_back(state) -> None:
    exchange = Exchange()
    client = opened(state, exchange)
    assert client.take(made(5)) == DONE
    assert client.take(made(4)) is None
    assert exchange.orders == ["evt_5"]
    with pytest.raises(DataError, match="for the bot"):
        client.take(made(6, bot="bob.desk"))
    with pytest.raises(ConfigurationError, match="no API"):
        client.poll()


def test_a_damaged_state_is_refused_and_not_begun_anew(state) -> None:
    state.parent.mkdir()
    state.write_text('{"cursor": 5')
    with pytest.raises(DataError, match="damaged"):
        opened(state, Exchange())


_BOT = """
import os, sys
from pathlib import Path
from tapeline.alerts.bots.acknowledgement import Acknowledgement
from tapeline.alerts.bots.client import OfferedSignal, SignalClient
from tapeline.alerts.bots.client_state import ClientStateFile
from tapeline.alerts.bots.signal import read_signal

home = Path(sys.argv[1])
text = (home / "signals").read_text().splitlines()
save = ClientStateFile.save

def bot(folder, dies):
    orders, steps = folder / "orders", 0

    def step():  # the process is gone at its n-th step, wherever that is
        nonlocal steps
        steps += 1
        if steps == dies:
            os._exit(9)

    def saving(self, state):
        step(); save(self, state); step()

    class Api:
        def signals(self, bot, after, *, limit, wait):
            return [OfferedSignal(one) for one in map(read_signal, text) if one.sequence > after]
        def acknowledge(self, bot, id, said):
            step()
            with (folder / "said").open("a") as file: file.write(f"{id} {said.state}\\n")
            step()

    def handle(signal):
        step()
        with orders.open("a") as file: file.write(signal.id + "\\n")
        step()
        return Acknowledgement("executed")

    def was_executed(signal):
        known = orders.read_text().split() if orders.exists() else []
        return Acknowledgement("executed") if signal.id in known else None

    ClientStateFile.save = saving
    SignalClient("ann.desk", folder / "state", handle, was_executed=was_executed, api=Api(), clock=lambda: 1).poll()

def run(folder, dies):
    child = os.fork()
    if not child:
        bot(folder, dies)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

steps = 0
while True:
    steps += 1
    folder = home / str(steps)
    folder.mkdir()
    first = run(folder, steps)
    second = run(folder, 1 + steps % 4)  # and killed once more on its way back
    last = run(folder, 0)
    print(steps, first, second, last)
    if first == 0:
        break
"""


def test_killed_at_every_step_it_executes_each_signal_exactly_once(tmp_path) -> None:
    signals = [made(number, ts=0, created_at=0, expires_at=10) for number in (1, 2)]
    (tmp_path / "signals").write_text("\n".join(one.text() for one in signals))
    ended = subprocess.run([sys.executable, "-c", _BOT, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    runs = [list(map(int, line.split())) for line in ended.stdout.splitlines()]
    assert len(runs) > 20
    assert [first for _, first, _, _ in runs] == [9] * (len(runs) - 1) + [0]
    assert {last for *_, last in runs} == {0}
    assert any(second == 9 for _, _, second, _ in runs)
    for steps, *_ in runs:
        folder = tmp_path / str(steps)
        assert (folder / "orders").read_text().split() == ["evt_1", "evt_2"], steps
        assert set((folder / "said").read_text().splitlines()) == {"evt_1 executed", "evt_2 executed"}, steps
        assert ClientStateFile(folder / "state").load().cursor == 2


def test_the_api_over_http(tmp_path) -> None:
    store = open_sqlite(tmp_path / "alerts.db")
    desk = Desk(store, "", BotSettings(name="desk", dialect="pull"))
    fired = desk.fire()
    desk.book.number()
    asked, answers = [], {}

    def handle(one):
        asked.append(one)
        if one.method == "GET":
            item = {"signal": made(1).model_dump(mode="json", exclude_none=True), "state": "open", "expired": False}
            return answers.get("get", (200, {"items": [item], "cursor": "1"}))
        return answers.get("put", (200, {}))

    with serving(handle) as url:
        api = HttpSignalApi(url, "key")
        (found,) = api.signals("ann.desk", 0, limit=100, wait=0.0)
        api.acknowledge("ann.desk", fired.id, Acknowledgement("executed", 2.0, None, "order 1"))
        answers["get"] = (503, {})
        with pytest.raises(TemporaryError):
            api.signals("ann.desk", 0, limit=100, wait=0.0)
        answers["put"] = (409, {})
        with pytest.raises(DataError):
            api.acknowledge("ann.desk", fired.id, DONE)
    assert found.signal == made(1)
    assert asked[0].headers["Authorization"] == "Bearer key"
    assert asked[1].path == f"/v1/signals/ann.desk/{fired.id}/acknowledgement"
    assert asked[1].json == {"state": "executed", "price": 2.0, "note": "order 1"}
    with pytest.raises(DataError):
        read_offer({"items": [{"signal": {}}]})
    with pytest.raises(ConfigurationError):
        HttpSignalApi("file:///etc/passwd", "key")
    store.close()
