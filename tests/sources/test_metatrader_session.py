from __future__ import annotations

import json
import logging
import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError
from tapeline.core.settings import MetaTraderSettings, NetworkSettings
from tapeline.sources.broker_clock import FixedOffset
from tapeline.sources.metatrader import MetaTraderSource
from tapeline.sources.metatrader_errors import AuthorizationFailedError
from tapeline.sources.metatrader_gateway import NativeGateway, PackageGateway
from tapeline.sources.metatrader_session import MetaTraderSession, open_gateway
from tapeline.sources.metatrader_structures import RATES_DTYPE, STRUCTURES, TICKS_DTYPE
from tapeline.sources.metatrader_ticks import TickPoll, tick_history, ticks_to_frame
from tapeline.sources.metatrader_wire import decode, encode
from tests.sources.support import clock_at, request_for
from tests.sources.terminals import PASSWORD, SECOND, session_of, terminal, ticks

UTC = FixedOffset(0)
START = pd.Timestamp(SECOND, unit="s", tz="UTC")


def test_structures_are_those_of_real_answers(test_data):
    names = {"symbol_info": "SymbolInfo", "account_info": "AccountInfo", "terminal_info": "TerminalInfo"}
    for file, name in [*names.items(), ("symbol_info_tick", "Tick")]:
        recorded = json.loads((test_data / f"api/mt5/{file}.json").read_text())
        assert list(recorded) == list(STRUCTURES[name]._fields)
    text = (test_data / "api/mt5/MT5_API.md").read_text()
    for name in ("TradePosition", "TradeOrder", "TradeDeal"):
        assert f"- {name}: {', '.join(STRUCTURES[name]._fields)}" in text
    assert str(TICKS_DTYPE.descr).replace(" ", "") in text
    assert str(RATES_DTYPE.descr).replace(" ", "") in text


def test_login_account_and_symbols():
    package = terminal(password=PASSWORD)
    session = session_of(package, login=25115284, password=PASSWORD, server="MetaQuotes-Demo", path="C:/mt5")
    with session:
        assert session.account().balance == 10_000.0
        assert session.symbols("*USD*,!EUR*") == ["USDJPY"]
        assert session.tick("EURUSD").ask == 1.0991
        with pytest.raises(ProviderError, match="did you mean EURUSD"):
            session.tick("EURUSDm")
    assert package.account_info() is None, "left at the end"


def test_a_wrong_password_is_refused_once_and_never_shown(caplog):
    waits: list[float] = []
    session = session_of(terminal(password="other"), login=25115284, password=PASSWORD, sleep=waits.append)
    with caplog.at_level(logging.DEBUG), pytest.raises(AuthorizationFailedError) as caught:
        session.account()
    assert waits == []
    shown = caplog.text + str(caught.value) + repr(caught.value.__dict__) + repr(session.settings)
    assert PASSWORD not in shown


def test_a_terminal_logged_in_elsewhere_is_refused():
    package = terminal()
    package._login = 7  # what it accepts; the account it then shows is another
    with pytest.raises(AuthorizationFailedError, match="another login"):
        session_of(package, login=7).account()


@pytest.mark.parametrize("code", [-10000, -10001, -10002, -10004, -10005])
def test_a_lost_connection_is_entered_again_with_backoff(code):
    package, waits = terminal(), []
    session = session_of(package, sleep=waits.append)
    session.account()
    package.fail(code, times=3)
    assert session.account().balance == 10_000.0
    assert session.connections == 2
    assert [0.5 <= waits[0] <= 1.0, 1.0 <= waits[1] <= 2.0, 2.0 <= waits[2] <= 4.0] == [True] * 3
    package.fail(code, times=4)
    with pytest.raises(TemporaryError):
        session.account()


def test_another_failure_is_raised_at_once():
    package, waits = terminal(), []
    session = session_of(package, sleep=waits.append)
    session.account()
    package.fail(-2, "Invalid arguments")
    with pytest.raises(ConfigurationError, match="code -2"):
        session.account()
    assert waits == []


def test_the_bar_source_runs_on_the_simulated_terminal():
    package = terminal()
    rates = np.zeros(3, dtype=RATES_DTYPE)
    rates["time"] = SECOND // 3600 * 3600 + 3600 * np.arange(3)
    rates["open"] = rates["high"] = rates["low"] = rates["close"] = 1.0
    rates["tick_volume"] = [5, 2**63, 3]
    package.load_rates("EURUSD", "H1", rates)
    made = MetaTraderSettings(utc_offset_hours=0)
    gateway = PackageGateway(made, NetworkSettings(), lambda: package)
    source = MetaTraderSource(gateway, made, clock=clock_at("2030-01-01"), sleep=lambda seconds: None)
    data = source.fetch(request_for("EURUSD", "H1", "2020-09-01"))
    assert data.bars["volume"].tolist() == [5.0, 3.0]
    assert len(data.rejected) == 1
    assert source.symbols() == ["EURJPY", "EURUSD", "USDJPY"]
    package.shutdown()
    with pytest.raises(ConfigurationError, match="not one of"):
        gateway.call("shutdown")


# -- ticks ----------------------------------------------------------------------------------------------------------


def test_tick_history_is_cut_to_the_millisecond_in_utc():
    package = terminal()
    package.load_ticks("EURUSD", ticks([(k * 250, 1.1 + k * 1e-5, 1.1001 + k * 1e-5) for k in range(1, 13)]))
    package.advance(SECOND * 1000 + 60_000)
    session = session_of(package)
    clock = FixedOffset(3)
    start = START - pd.Timedelta(hours=3) + pd.Timedelta(milliseconds=500)
    frame = tick_history(session, "EURUSD", clock, start, start + pd.Timedelta(milliseconds=1750))
    assert frame.index.tolist() == [start + pd.Timedelta(milliseconds=250 * k) for k in range(7)]
    assert frame["last"].isna().all()
    days = tick_history(session, "EURUSD", clock, start - pd.Timedelta(days=2), start + pd.Timedelta(days=2))
    assert len(days) == 13


def test_unsigned_tick_volumes_do_not_wrap():
    array = ticks([(0, 1.0, 1.1), (1, 1.0, 1.1)])
    array["volume"] = [2**63 + 2048, 2**64 - 1]
    frame = ticks_to_frame(array, UTC)
    assert frame["volume"].tolist() == [float(2**63 + 2048), float(2**64)]
    assert (frame["volume"].diff().dropna() > 0).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 1, 1, 400, 3000]), st.integers(0, 2)), min_size=1, max_size=60),
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
    st.integers(1, 9),
)
def test_polling_loses_and_repeats_nothing(steps, batches, page):
    """Equal ticks in one millisecond, milliseconds cut by a poll, pages that are too small, lost connections."""
    package = terminal()
    session = session_of(package)
    poll = TickPoll(session, "EURUSD", UTC, START + pd.Timedelta(seconds=1), page=page)
    offsets = 1000 + np.cumsum([step for step, _ in steps])
    tape = ticks([(int(offset), 1.1 + kind / 100, 1.2) for offset, (_, kind) in zip(offsets, steps, strict=True)])
    got, sent = [], 0
    for number, batch in enumerate([*batches, len(tape)]):
        part = tape[sent : sent + batch]
        sent += len(part)
        if len(part):
            package.load_ticks("EURUSD", part)
            package.account.now = int(part["time_msc"][-1])
        if number % 3 == 1:
            package.fail(-10004)
        got.append(poll.new())
    frame = pd.concat(got)
    expected = ticks_to_frame(tape, UTC)
    pd.testing.assert_frame_equal(frame, expected)
    assert not frame.reset_index()[["ts", "sequence"]].duplicated().any()
    assert poll.new().empty


def test_a_late_tick_is_delivered_and_a_failed_poll_forgets_nothing():
    package = terminal()
    session = session_of(package)
    poll = TickPoll(session, "EURUSD", UTC, START)
    assert len(poll.new()) == 1
    package.load_ticks("EURUSD", ticks([(900, 1.2, 1.3)]))
    package.account.now += 1000
    assert len(poll.new()) == 1
    package.load_ticks("EURUSD", ticks([(300, 1.4, 1.5)]))
    package.fail(-2, times=1)
    with pytest.raises(ConfigurationError):
        poll.new()
    assert poll.new()["bid"].tolist() == [1.4]
    assert poll.new().empty


# -- the bridge -----------------------------------------------------------------------------------------------------

TOKEN = "0123456789abcdef-token"


@pytest.fixture
def bridged():
    pytest.importorskip("rpyc")
    from tapeline.sources.metatrader_bridge import BridgeServer

    package = terminal(password=PASSWORD)
    server = BridgeServer(package, TOKEN, port=0)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield package, server
    server.close()
    thread.join(5)


def through(server, token=TOKEN, **changes):
    made = MetaTraderSettings(
        bridge=f"127.0.0.1:{server.port}", bridge_token=token, login=25115284, password=PASSWORD, **changes
    )
    network = NetworkSettings(maximum_tries=2, backoff_seconds=0)
    return MetaTraderSession(open_gateway(made, network), made, network=network)


@pytest.mark.network_shape
def test_over_the_bridge_every_answer_is_the_same(bridged):
    package, server = bridged
    package.load_ticks("EURUSD", ticks([(5, 1.1, 1.2), (6, 1.3, 1.4)]))
    package.advance(SECOND * 1000 + 10)
    far, near = through(server), session_of(package, password=PASSWORD)
    with far:
        assert far.account() == near.account()
        assert far.symbol("EURUSD") == near.symbol("EURUSD")
        assert far.symbols("*JPY") == ["USDJPY", "EURJPY"]
        ticks_far = far.ask("copy_ticks_from", "EURUSD", SECOND, 10, -1)
        assert ticks_far.dtype == TICKS_DTYPE
        np.testing.assert_array_equal(ticks_far, near.ask("copy_ticks_from", "EURUSD", SECOND, 10, -1))
        request = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "price": 1.4}
        assert far.tell("order_check", request) == near.tell("order_check", request)


@pytest.mark.network_shape
def test_the_bridge_lets_nobody_else_in(bridged):
    import rpyc

    from tapeline.sources.metatrader_bridge import BridgeServer

    package, server = bridged
    with pytest.raises(ConfigurationError, match="refused"):
        through(server, token="another-token-of-16").account()
    raw = rpyc.connect("127.0.0.1", server.port)
    text, _ = encode(((), {}))
    with pytest.raises(PermissionError):
        raw.root.call(TOKEN, "__class__", text)
    with pytest.raises(AttributeError):
        raw.root._server  # noqa: B018
    with pytest.raises(AttributeError):
        raw.root.call.__globals__  # noqa: B018
    raw.close()
    with pytest.raises(ConfigurationError, match="loopback"):
        BridgeServer(package, TOKEN, host="0.0.0.0", port=0)
    with pytest.raises(ConfigurationError, match="16 characters"):
        BridgeServer(package, "short", port=0)


@pytest.mark.network_shape
def test_a_bridge_that_breaks_is_entered_again(bridged):
    _, server = bridged
    session = through(server)
    session.account()
    session._gateway._package._connection.close()
    assert session.account().login == 25115284
    assert session.connections == 2


def test_the_gateway_is_the_one_that_the_settings_name():
    assert type(open_gateway(MetaTraderSettings(), NetworkSettings())) is NativeGateway
    with pytest.raises(ConfigurationError, match="bridge_token"):
        open_gateway(MetaTraderSettings(bridge="127.0.0.1:1"), NetworkSettings())


def test_what_crosses_the_wire_comes_back():
    array = ticks([(0, 1.0, 2.0)])
    text, arrays = encode({"a": (array, np.float64(2.5), None, True, "ä")})
    back = decode(text, arrays)
    np.testing.assert_array_equal(back["a"][0], array)
    assert back["a"][1:] == (2.5, None, True, "ä")
    with pytest.raises(TypeError):
        encode(object())
    with pytest.raises(ValueError, match="objects"):
        decode('{"array": 0, "dtype": "|O"}', (b"12345678",))
