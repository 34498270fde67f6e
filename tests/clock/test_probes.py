"""Real packets and requests to scripted servers on loopback: delays, asymmetry, steps, and answers that are none."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tapeline.clock.broker_time import BrokerTime
from tapeline.clock.offset import OffsetFilter
from tapeline.clock.probes import (
    ENDPOINTS,
    CallProbe,
    EndpointProbe,
    HttpDateProbe,
    NtpProbe,
    Stopwatch,
    TimeEndpoint,
    from_ntp,
    to_ntp,
)
from tapeline.clock.time_sync import TimeSync
from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError, ThrottledError
from tests.clock.servers import MILLISECOND, SECOND, World, http_server, ntp_server

pytestmark = pytest.mark.network_shape


def endpoint(url: str, world: World) -> EndpointProbe:
    return EndpointProbe(
        TimeEndpoint(url, ("serverTime",), MILLISECOND, MILLISECOND), timeout=5.0, clock=world.stopwatch()
    )


def test_a_symmetric_way_is_corrected_exactly() -> None:
    world = World(local_error=-1_270 * MILLISECOND, delays=[(40 * MILLISECOND, 5 * MILLISECOND, 40 * MILLISECOND)])
    with ntp_server(world) as port:
        sample = NtpProbe("127.0.0.1", port, clock=world.stopwatch()).measure()
    assert sample.offset == pytest.approx(world.offset, abs=1_000)
    assert sample.delay == pytest.approx(80 * MILLISECOND, abs=1_000)
    assert sample.error == pytest.approx(40 * MILLISECOND, abs=1_000)


@pytest.mark.parametrize("there", [0, 3, 30, 100])
def test_an_asymmetric_way_stays_within_the_bound(there: int) -> None:
    world = World(server_error=77 * MILLISECOND, delays=[(there * MILLISECOND, 0, (100 - there) * MILLISECOND)])
    with ntp_server(world) as port:
        sample = NtpProbe("127.0.0.1", port, clock=world.stopwatch()).measure()
    missed = abs(sample.offset - world.offset)
    assert missed <= sample.error + 1_000
    assert missed == pytest.approx(abs(there - 50) * MILLISECOND, abs=1_000)


def test_the_filter_prefers_quick_round_trips_over_loaded_ones() -> None:
    quick, loaded = (2 * MILLISECOND, 0, 2 * MILLISECOND), (2 * MILLISECOND, 0, 400 * MILLISECOND)
    world = World(server_error=300 * MILLISECOND, delays=[loaded, quick, loaded, quick, loaded, quick, quick])
    offsets = OffsetFilter()
    with ntp_server(world) as port:
        probe = NtpProbe("127.0.0.1", port, clock=world.stopwatch())
        for _ in range(6):
            estimate = offsets.add(probe.measure())
    assert estimate.offset == pytest.approx(world.offset, abs=10_000)
    assert estimate.error < 3 * MILLISECOND


def test_http_dates_close_in_on_milliseconds() -> None:
    world = World(server_error=1_234 * MILLISECOND, delays=[(4 * MILLISECOND, 0, 6 * MILLISECOND)])
    offsets = OffsetFilter(window=64)
    with http_server(world) as url:
        probe = HttpDateProbe(url, clock=world.stopwatch())
        for _ in range(40):
            sample = probe.measure()
            estimate = offsets.add(sample)
            assert abs(sample.offset - world.offset) <= sample.error
            assert abs(estimate.offset - world.offset) <= estimate.error
            world.pass_time(1_037 * MILLISECOND)  # so that the fraction of the second wanders
    assert sample.error > 500 * MILLISECOND
    assert estimate.error < 50 * MILLISECOND
    assert estimate.offset == pytest.approx(world.offset, abs=25 * MILLISECOND)


def test_an_exchange_endpoint_is_read_to_the_millisecond() -> None:
    world = World(local_error=-1_270 * MILLISECOND, delays=[(3 * MILLISECOND, 0, 3 * MILLISECOND)])
    with http_server(world) as url:
        sample = endpoint(url, world).measure()
    assert sample.offset == pytest.approx(world.offset, abs=MILLISECOND)
    assert sample.error == pytest.approx(3.5 * MILLISECOND, abs=1_000)


def test_a_step_of_the_local_clock_during_the_round_trip_spoils_nothing() -> None:
    world = World(delays=[(2 * MILLISECOND, 0, 2 * MILLISECOND)])
    with http_server(world) as url:
        clock = world.stopwatch()
        calls = []

        def wall() -> int:
            calls.append(None)
            now = world.local()
            world.local_error += 3_600 * SECOND  # set right after it was read
            return now

        probe = EndpointProbe(
            TimeEndpoint(url, ("serverTime",), MILLISECOND, MILLISECOND), clock=Stopwatch(wall, clock.monotonic)
        )
        sample = probe.measure()
    assert len(calls) == 1
    assert abs(sample.offset) <= sample.error


def test_a_brokers_last_tick_is_a_reference_as_coarse_as_its_age() -> None:
    world = World(local_error=-900 * MILLISECOND, delays=[(1 * MILLISECOND, 0, 1 * MILLISECOND)])
    server = BrokerTime.parse("new-york-close")
    offsets = OffsetFilter()

    def last_tick() -> int:
        """In whole seconds of the server's wall time, as a terminal tells it."""
        world.arrive()
        now = pd.DatetimeIndex(pd.to_datetime([world.answer()], unit="ns", utc=True))
        seconds = server.to_wall(now).as_unit("s").asi8
        return int(server.seconds_to_utc(seconds).as_unit("ns").asi8[0])

    probe = CallProbe(last_tick, SECOND, world.stopwatch())
    for _ in range(30):
        sample = probe.measure()
        estimate = offsets.add(sample)
        assert abs(sample.offset - world.offset) <= sample.error
        world.pass_time(1_037 * MILLISECOND)
    assert abs(estimate.offset - world.offset) <= estimate.error < 60 * MILLISECOND


def test_a_step_of_the_server_is_believed_after_three_samples() -> None:
    world = World(delays=[(2 * MILLISECOND, 0, 2 * MILLISECOND)])
    sync = None
    with ntp_server(world) as port:
        sync = TimeSync({"ntp": NtpProbe("127.0.0.1", port, clock=world.stopwatch())})
        for _ in range(5):
            sync.measure()
            world.pass_time(16 * SECOND)
        world.server_error += 2 * SECOND
        for expected in (0, 0, 2 * SECOND):
            sync.measure()
            world.pass_time(16 * SECOND)
            assert sync.estimate("ntp").offset == pytest.approx(expected, abs=1_000)
    assert sync.table().loc["ntp", "steps"] == 1


def test_exchange_and_ntp_are_compared_without_trusting_the_local_clock() -> None:
    ntp, exchange = World(local_error=-5 * SECOND), World(local_error=-5 * SECOND, server_error=1_270 * MILLISECOND)
    with ntp_server(ntp) as port, http_server(exchange) as url:
        sync = TimeSync({"ntp": NtpProbe("127.0.0.1", port, clock=ntp.stopwatch()), "binance": endpoint(url, exchange)})
        assert sync.measure() == {}
    ahead, error = sync.between("ntp", "binance")
    assert abs(ahead - 1_270 * MILLISECOND) <= error
    assert error < 2 * MILLISECOND
    assert sync.table().loc["binance", "offset_ms"] == pytest.approx(6_270, abs=1.5)


@pytest.mark.parametrize(
    ("change", "cut", "error"),
    [
        ({0: b"\x23"}, None, ProviderError),  # a client's packet
        ({0: b"\xe4"}, None, ProviderError),  # leap 3: not synchronised
        ({1: b"\x10"}, None, ProviderError),  # stratum 16
        ({1: b"\x00", 12: b"RATE"}, None, ThrottledError),  # kiss of death
        ({24: b"\x00" * 8}, None, ProviderError),  # answers another request
        ({40: b"\x00" * 8}, None, ProviderError),  # no time in it
        ({}, 40, ProviderError),
    ],
)
def test_packets_that_are_no_answer_are_refused(change: dict[int, bytes], cut: int | None, error: type) -> None:
    world = World()
    with ntp_server(world, change=change, cut=cut) as port, pytest.raises(error):
        NtpProbe("127.0.0.1", port, clock=world.stopwatch()).measure()


def test_a_silent_server_is_a_temporary_error() -> None:
    world = World()
    with ntp_server(world) as port:
        pass
    with pytest.raises(TemporaryError, match="did not answer"):
        NtpProbe("127.0.0.1", port, timeout=0.2, clock=world.stopwatch()).measure()
    with pytest.raises(TemporaryError, match="did not answer"):
        HttpDateProbe(f"http://127.0.0.1:{port}/", timeout=0.2).measure()


def test_the_servers_own_error_widens_the_bound() -> None:
    world = World()
    with ntp_server(world, change={4: b"\x00\x00\x80\x00", 8: b"\x00\x00\x40\x00"}) as port:
        sample = NtpProbe("127.0.0.1", port, clock=world.stopwatch()).measure()
    assert sample.error == pytest.approx(500 * MILLISECOND, abs=1_000)  # half of 0.5 s, and 0.25 s


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"serverTime":"soon"}', b'{"serverTime":-5}', b"<html>"])
def test_bodies_without_a_time_are_refused(body: bytes) -> None:
    world = World()
    with http_server(world, body=body) as url, pytest.raises(ProviderError):
        endpoint(url, world).measure()


@pytest.mark.parametrize(("status", "error"), [(500, ProviderError), (302, ProviderError), (429, ThrottledError)])
def test_other_answers_are_refused(status: int, error: type) -> None:
    world = World()
    with http_server(world, status=status) as url, pytest.raises(error):
        endpoint(url, world).measure()


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Jul 2025 12:00:00 GMT"])
def test_a_missing_or_broken_date_is_refused(date: str) -> None:
    world = World()
    with http_server(world, date=date) as url, pytest.raises(ProviderError, match="Date"):
        HttpDateProbe(url, clock=world.stopwatch()).measure()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "http://", "http://user:secret@host/"])
def test_only_plain_web_addresses_are_asked(url: str) -> None:
    with pytest.raises(ConfigurationError, match="http"):
        HttpDateProbe(url).measure()


def test_ntplib_measures_the_same_offset() -> None:
    """An independent client against the same server, on the real clock: both must see a server five seconds ahead."""
    ntplib = pytest.importorskip("ntplib")

    class Real(World):
        def local(self) -> int:
            return Stopwatch().wall()

        def server(self) -> int:
            return Stopwatch().wall() + 5 * SECOND

    with ntp_server(Real()) as port:
        theirs = ntplib.NTPClient().request("127.0.0.1", port=port, version=4)
        ours = NtpProbe("127.0.0.1", port).measure()
    assert theirs.offset == pytest.approx(5.0, abs=0.25)
    assert ours.offset / SECOND == pytest.approx(5.0, abs=0.25)
    assert abs(ours.offset - 5 * SECOND) <= ours.error + 1_000


@pytest.mark.parametrize(
    ("venue", "file"),
    [
        ("binance", "binance/nautilus/spot/http_json/server_time_response.json"),
        ("binance", "binance/nautilus_py/http_responses/http_spot_market_time.json"),
        ("kraken", "kraken/nautilus/http_server_time.json"),
        ("deribit", "deribit/nautilus/http_get_time.json"),
    ],
)
def test_recorded_time_answers(test_data: Path, venue: str, file: str) -> None:
    instant = ENDPOINTS[venue].read((test_data / "api" / file).read_bytes())
    assert 1_400_000_000 * SECOND < instant < 1_900_000_000 * SECOND


@pytest.mark.parametrize(
    ("venue", "body", "told"),
    [
        ("bybit", b'{"retCode":0,"result":{"timeNano":"1688639403423213947"}}', 1688639403423213947),
        ("okx", b'{"code":"0","msg":"","data":[{"ts":"1597026383085"}]}', 1597026383085 * MILLISECOND),
        ("coinbase", b'{"epochSeconds":"1","epochMillis":"1672531200123"}', 1672531200123 * MILLISECOND),
    ],
)
def test_documented_time_answers(venue: str, body: bytes, told: int) -> None:
    assert ENDPOINTS[venue].read(body) == told


@pytest.mark.parametrize("year", [1999, 2026, 2035, 2036, 2037, 2099])
def test_ntp_eras(year: int) -> None:
    instant = (year - 1970) * 31_556_952 * SECOND + 999_999_999
    assert abs(from_ntp(to_ntp(instant), near=instant - 3_600 * SECOND) - instant) <= 1
