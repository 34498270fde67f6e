from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError
from tapeline.core.settings import MetaTraderSettings, NetworkSettings
from tapeline.sources import metatrader
from tapeline.sources.base import Data, Empty, Failed
from tapeline.sources.broker_clock import FixedOffset, NewYorkClose, choose_clock, measured_offset_hours
from tapeline.sources.metatrader import MetaTraderSource, rates_to_bars
from tapeline.sources.metatrader_errors import ERRORS_BY_CODE, UnknownMetaTraderError, error_for
from tapeline.sources.metatrader_gateway import RATES_DTYPE, TIMEFRAMES, NativeGateway, RecordedGateway
from tests.sources.support import at, clock_at, request_for

HOUR = 3600
NETWORK = NetworkSettings(maximum_tries=2, backoff_seconds=0)


def rates(start: str, count: int, step: int = HOUR, **fields) -> np.ndarray:
    """Rates whose ``time`` is the broker's wall clock, as the terminal writes it."""
    array = np.zeros(count, dtype=RATES_DTYPE)
    array["time"] = int(at(start).timestamp()) + step * np.arange(count)
    array["open"] = array["high"] = array["low"] = array["close"] = np.arange(count) + 1.0
    array["tick_volume"] = 100
    array["spread"] = 7
    for name, value in fields.items():
        array[name] = value
    return array


def source_of(array, *, symbol="EURUSD", timeframe="H1", clock="2030-01-01", ticks=None, sleep=None, **settings):
    gateway = RecordedGateway({(symbol, timeframe): array}, tick_times=ticks)
    return MetaTraderSource(
        gateway, MetaTraderSettings(**settings), network=NETWORK, clock=clock_at(clock), sleep=sleep or (lambda s: None)
    )


def fetch(array, *bounds, symbol="EURUSD", timeframe="H1", **options):
    return source_of(array, symbol=symbol, timeframe=timeframe, **options).fetch(
        request_for(symbol, timeframe, *bounds)
    )


# Both switches of 2021 in New York (14 March, 7 November) and the weeks when Europe's clock stood otherwise.
@pytest.mark.parametrize(
    ("server", "utc"),
    [
        ("2021-01-05 00:00", "2021-01-04 22:00"),
        ("2021-03-12 23:00", "2021-03-12 21:00"),
        ("2021-03-15 00:00", "2021-03-14 21:00"),
        ("2021-03-27 12:00", "2021-03-27 09:00"),
        ("2021-07-06 00:00", "2021-07-05 21:00"),
        ("2021-11-02 00:00", "2021-11-01 21:00"),
        ("2021-11-07 08:30", "2021-11-07 06:30"),  # 01:30 in New York comes twice that day: the later one
        ("2021-11-08 00:00", "2021-11-07 22:00"),
    ],
)
def test_new_york_close_rule(server, utc):
    stamp = np.array([at(server).as_unit("ns").value])
    assert NewYorkClose().to_utc(stamp)[0] == at(utc).as_unit("ns").value
    assert NewYorkClose().to_server(at(utc)) == at(server).timestamp()


@given(st.integers(0, 40 * 365 * 24))
def test_the_rule_turns_round(hours):
    utc = at("1990-01-01") + pd.Timedelta(hours=hours)
    back = NewYorkClose().to_utc(np.array([NewYorkClose().to_server(utc)]) * 10**9)[0]
    # In the repeated hour of autumn the later instant is taken: never earlier than the truth.
    assert back - utc.as_unit("ns").value in (0, HOUR * 10**9)
    if utc.month not in (10, 11):
        assert back == utc.as_unit("ns").value


def test_measured_offsets():
    now = at("2021-07-05 12:00:30")
    assert measured_offset_hours(now.timestamp() + 3 * HOUR, now) == 3.0
    assert measured_offset_hours(now.timestamp() + 5.5 * HOUR - 30, now) == 5.5
    assert measured_offset_hours(now.timestamp() + 3 * HOUR - 301, now) is None
    assert measured_offset_hours(now.timestamp() - 40 * HOUR, now) is None


def test_the_clock_is_chosen_and_never_guessed():
    summer = at("2021-07-05 12:00")
    assert choose_clock(None, None, summer) == NewYorkClose()
    assert choose_clock(None, 3.0, summer) == NewYorkClose()
    assert choose_clock(2.0, 2.0, summer) == FixedOffset(2.0)
    with pytest.raises(ConfigurationError, match=r"runs \+0 h .* says \+3"):
        choose_clock(None, 0.0, summer)
    with pytest.raises(ConfigurationError, match="the setting says"):
        choose_clock(2.0, 3.0, summer)


def test_bars_in_utc_with_what_the_terminal_said():
    outcome = fetch(rates("2021-01-05 00:00", 3), "2021-01-04 22:00", "2021-01-05 01:00")
    assert isinstance(outcome, Data)
    assert outcome.bars.index.tolist() == [at("2021-01-04 22:00"), at("2021-01-04 23:00"), at("2021-01-05 00:00")]
    assert outcome.bars["spread"].tolist() == [7.0, 7.0, 7.0]
    assert outcome.bars["tick_count"].tolist() == [100, 100, 100]
    assert (outcome.volume_kind, outcome.spread_unit, outcome.source_id) == ("tick", "points", "mt5:recorded")
    assert "New York + 7 h" in outcome.notes[0]


def test_the_range_is_cut_on_the_utc_clock():
    array = rates("2021-01-05 00:00", 48)
    outcome = fetch(array, "2021-01-05 00:00", "2021-01-05 02:00", utc_offset_hours=2)
    assert outcome.bars.index.tolist() == [at("2021-01-05 00:00"), at("2021-01-05 01:00")]
    assert outcome.bars["close"].tolist() == [3.0, 4.0]
    latest = fetch(array, None, "2021-01-05 02:00", utc_offset_hours=2)
    assert latest.bars.index[[0, -1]].tolist() == [at("2021-01-04 22:00"), at("2021-01-05 01:00")]


def test_windows_join_without_gap_or_double(monkeypatch):
    monkeypatch.setattr(metatrader, "WINDOW_BARS", 10)
    array = rates("2021-01-05 00:00", 48)
    outcome = fetch(array, "2021-01-04 22:00", "2021-01-06 22:00")
    assert outcome.bars["close"].tolist() == array["close"].tolist()
    monkeypatch.setattr(metatrader, "MAXIMUM_WINDOWS", 2)
    part = fetch(array, "2021-01-04 22:00", "2021-01-06 22:00")
    assert len(part.bars) == 20
    assert part.resume_at == at("2021-01-05 18:00")


def test_the_forming_bar_goes_by_the_clock():
    outcome = fetch(rates("2021-01-05 00:00", 3), "2021-01-04", clock="2021-01-05 00:59")
    assert (len(outcome.bars), outcome.unfinished) == (2, 1)


def test_unsigned_volumes_do_not_wrap():
    array = rates("2021-01-05 00:00", 3, tick_volume=np.array([1, 2**63 - 1, 2**63 + 5], dtype=np.uint64))
    bars, rejected, kind = rates_to_bars(array, FixedOffset(0))
    assert bars["tick_count"].tolist() == [1, 2**63 - 1]
    assert (bars["volume"] > 0).all()
    assert np.diff(bars["volume"])[0] > 0
    assert json.loads(rejected["record"][0])["tick_volume"] == 2**63 + 5
    assert kind == "tick"
    array["real_volume"] = 2**64 - 1
    bars, _, kind = rates_to_bars(array, FixedOffset(0))
    assert (bars["volume"] == float(2**64)).all()
    assert kind == "traded"


def test_a_time_that_no_nanosecond_reaches_is_rejected():
    bars, rejected, _ = rates_to_bars(rates("2021-01-05", 2, time=np.array([0, 2**62])), NewYorkClose())
    assert len(bars) == 1
    assert rejected["row_number"].tolist() == [1]


def test_a_fresh_tick_confirms_or_refutes_the_clock():
    now = "2021-07-05 12:00:00"
    seconds = at(now).timestamp()
    array = rates("2021-07-01 00:00", 10)
    confirmed = fetch(array, "2021-06-30", clock=now, ticks={"EURUSD": seconds + 3 * HOUR - 1})
    assert confirmed.notes == ()
    ticks = {"EURUSD": seconds - 1}
    source = source_of(array, clock=now, ticks=ticks)
    # A newer tick while it waits: the market is open, so the reading is real.
    source._sleep = lambda s: source._gateway._ticks.update(EURUSD=seconds)
    refuted = source.fetch(request_for("EURUSD", "H1", "2021-06-30"))
    assert isinstance(refuted.error, ConfigurationError)
    assert "utc_offset_hours" in str(refuted.error)


def test_an_old_tick_of_a_closed_market_refutes_nothing():
    now = "2021-07-03 12:00:00"
    waits: list[float] = []
    outcome = fetch(
        rates("2021-07-01 00:00", 10),
        "2021-06-30",
        clock=now,
        ticks={"EURUSD": at(now).timestamp() + HOUR},
        sleep=waits.append,
    )
    assert isinstance(outcome, Data)
    assert len(waits) == metatrader.TICK_WAITS
    assert "no fresh tick" in outcome.notes[0]


def test_empty_and_unknown():
    array = rates("2021-01-05 00:00", 3)
    assert isinstance(fetch(array, "2020-01-01", "2020-02-01"), Empty)
    unknown = source_of(array).fetch(request_for("EURUSDm", "H1"))
    assert isinstance(unknown.error, ProviderError)
    assert "did you mean EURUSD" in str(unknown.error)
    absent = source_of(array).fetch(request_for("EURUSD", "M1", "2021-01-01", "2021-01-02"))
    assert type(absent.error).__name__ == "NotFoundError"
    assert "no S1 bars" in str(source_of(array).fetch(request_for("EURUSD", "S1")).error)
    down = MetaTraderSource(RecordedGateway({}), MetaTraderSettings(), network=NETWORK, sleep=lambda s: None)
    outcome = down.fetch(request_for("EURUSD", "H1"))
    assert isinstance(outcome, Failed)
    assert type(outcome.error).__name__ == "ConnectionFailureError"
    with pytest.raises(TemporaryError):
        down.symbols()


def test_a_recording_of_other_types_is_refused():
    signed = np.dtype([(name, "<i8" if name == "tick_volume" else kind) for name, kind in RATES_DTYPE.descr])
    with pytest.raises(ConfigurationError, match="dtype"):
        RecordedGateway({("EURUSD", "H1"): np.zeros(1, dtype=signed)})


def test_every_code_has_its_exception():
    branches = {code: kind.__mro__[2].__name__ for code, kind in ERRORS_BY_CODE.items()}
    assert branches == {
        -1: "ProviderError",
        -2: "ConfigurationError",
        -3: "TemporaryError",
        -4: "ProviderError",
        -5: "ConfigurationError",
        -6: "ConfigurationError",
        -7: "ConfigurationError",
        -8: "ConfigurationError",
        -10000: "TemporaryError",
        -10001: "TemporaryError",
        -10002: "TemporaryError",
        -10003: "ConfigurationError",
        -10004: "TemporaryError",
        -10005: "TemporaryError",
    }
    assert len(set(ERRORS_BY_CODE.values())) == 14
    for code, kind in ERRORS_BY_CODE.items():
        error = error_for((code, "text"), "copy_rates_range")
        assert type(error) is kind
        assert f"code {code}: text" in str(error)
    assert type(error_for((-77, "?"), "x")) is UnknownMetaTraderError
    assert type(error_for((1, "Success"), "x")) is UnknownMetaTraderError


def test_codes_and_timeframes_are_those_of_the_reference(test_data):
    text = (test_data / "api/mt5/MT5_API.md").read_text()
    codes = {int(code) for code in re.findall(r"RES_E_\w+ =(-\d+)", text)}
    assert codes == set(ERRORS_BY_CODE)
    constants = {
        name: int(value) | int(flag or "0", 16)
        for name, value, flag in re.findall(r"TIMEFRAME_([MHDW]\d+)=(\d+)(?: +\| (0x[0-9A-F]+))?", text)
    }
    assert {k: v for k, v in constants.items() if k in TIMEFRAMES} == dict(TIMEFRAMES)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has the package")
def test_elsewhere_than_windows_the_way_out_is_named():
    source = MetaTraderSource(NativeGateway(MetaTraderSettings(), NETWORK), MetaTraderSettings())
    outcome = source.fetch(request_for("EURUSD", "H1"))
    assert isinstance(outcome.error, ConfigurationError)
    assert "Windows only" in str(outcome.error)
    assert "files source" in str(outcome.error)


class Package:
    """Stands in for the MetaTrader5 package: the same calls, answers and strictness about arguments."""

    def __init__(self, array: np.ndarray, accepts: bool = True) -> None:
        self.array, self.accepts, self.error = array, accepts, (1, "Success")
        self.calls: list[tuple] = []

    def initialize(self, *args, **options):
        self.calls.append((args, options))
        self.error = (1, "Success") if self.accepts else (-6, "Terminal: Authorization failed")
        return self.accepts

    def last_error(self):
        return self.error

    def symbols_get(self):
        return (SimpleNamespace(name="EURUSD"), SimpleNamespace(name="no symbol!"))

    def symbol_select(self, symbol, enable):
        return symbol == "EURUSD"

    def symbol_info_tick(self, symbol):
        return SimpleNamespace(time=0, time_msc=0)

    def copy_rates_range(self, symbol, timeframe, date_from, date_to, /):
        assert type(date_from) is type(date_to) is int
        return self.array[(self.array["time"] >= date_from) & (self.array["time"] <= date_to)]

    def copy_rates_from(self, symbol, timeframe, date_from, count, /):
        return None

    def account_info(self):
        return SimpleNamespace(server="MetaQuotes-Demo")


def native(package, monkeypatch, **settings):
    monkeypatch.setitem(sys.modules, "MetaTrader5", package)
    made = MetaTraderSettings(**settings)
    gateway = NativeGateway(made, NetworkSettings(timeout_seconds=3, maximum_tries=1))
    return MetaTraderSource(gateway, made, network=NETWORK, clock=clock_at("2022-01-01"), sleep=lambda s: None)


def test_the_native_gateway_speaks_to_the_package(monkeypatch):
    package = Package(rates("2021-01-05 00:00", 3))
    source = native(package, monkeypatch, path="C:/mt5", login=7, password="secret", server="Demo")
    data = source.fetch(request_for("EURUSD", "H1", "2021-01-04", "2021-01-06"))
    assert len(data.bars) == 3
    assert data.source_id == "mt5:MetaQuotes-Demo"
    assert package.calls == [(("C:/mt5",), {"timeout": 3000, "login": 7, "password": "secret", "server": "Demo"})]
    assert source.symbols() == ["EURUSD"]
    failed = source.fetch(request_for("EURUSD", "H1"))
    assert isinstance(failed.error, UnknownMetaTraderError)
    assert "copy_rates_from" in str(failed.error)


def test_a_refused_login_is_named_and_the_password_is_not(monkeypatch):
    package = Package(rates("2021-01-05 00:00", 3), accepts=False)
    source = native(package, monkeypatch, login=7, password="secret", server="Demo")
    for _ in range(2):
        outcome = source.fetch(request_for("EURUSD", "H1"))
        assert type(outcome.error).__name__ == "AuthorizationFailedError"
        assert "secret" not in str(outcome.error)
    assert len(package.calls) == 2


def test_real_rates(test_data):
    table = pd.read_csv(test_data / "data/mt5_rates/EURUSD_M1.csv")
    array = np.zeros(len(table), dtype=RATES_DTYPE)
    for name in RATES_DTYPE.names:
        array[name] = table[name]
    data = fetch(array, "2021-11-14", "2021-11-16", timeframe="M1")
    assert len(data.bars) == 500
    # 15 November 2021, 01:39 on the broker's clock: New York keeps winter time, so two hours from UTC.
    assert data.bars.index[0] == at("2021-11-14 23:39")
    assert data.bars["volume"].iloc[0] == 20
