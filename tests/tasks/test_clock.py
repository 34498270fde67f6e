"""The clock check against servers on the loopback interface whose clocks are scripted."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tapeline.clock.probes import EndpointProbe, HttpDateProbe, NtpProbe
from tapeline.clock.references import parse_reference
from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import CLOCK
from tapeline.core.settings import load_settings
from tapeline.core.symbol import Symbol
from tapeline.core.timeframe import Timeframe
from tapeline.lake.lake import Lake
from tapeline.monitoring.channels import Delivery
from tapeline.monitoring.notification import Notification
from tapeline.monitoring.notifier import Notifier
from tapeline.sources.broker_clock import offsets_file, read_offsets
from tapeline.sources.broker_probe import BrokerProbe
from tasks.clock import Reference, measure_clocks, open_references, stored_samples
from tests.clock.servers import MILLISECOND, SECOND, World, http_server, ntp_server
from tests.sources.test_broker_probe import TickingGateway

TICK = Timeframe.parse("tick")
SAMPLES = 6


class Kept:
    """A channel that keeps what it was given."""

    name = "kept"

    def __init__(self) -> None:
        self.sent: list[Notification] = []

    def send(self, notification: Notification) -> Delivery:
        self.sent.append(notification)
        return Delivery(self.name, "sent")


class Room:
    """A project folder, a lake, a channel and three references in simulated worlds."""

    def __init__(self, root: Path, servers: ExitStack) -> None:
        self.near = World(delays=[(4 * MILLISECOND, MILLISECOND, 9 * MILLISECOND)])
        self.exchange = World(delays=[(20 * MILLISECOND, 0, 30 * MILLISECOND)])
        port = servers.enter_context(ntp_server(self.near))
        self.exchange_url = servers.enter_context(http_server(self.exchange))
        texts = {"ntp": f"ntp://127.0.0.1:{port}", "binance": f"exchange:binance@{self.exchange_url}"}
        self.settings = load_settings(root=root, clock={"references": texts, "samples": SAMPLES})
        self.lake = Lake(self.settings.lake_path)
        self.channel = Kept()
        self.seconds = 1_000.0
        self.notifier = Notifier(self.settings, channels=[self.channel], clock=lambda: self.seconds)
        self.references = [
            Reference("ntp", "ntp", parse_reference(texts["ntp"], clock=self.near.stopwatch())[1]),
            Reference("binance", "exchange", parse_reference(texts["binance"], clock=self.exchange.stopwatch())[1]),
        ]

    def check(self):
        self.seconds += 600
        for world in (self.near, self.exchange):
            world.pass_time(600 * SECOND)
        return measure_clocks(self.settings, self.lake, self.references, self.notifier)

    def stored(self, name: str) -> pd.DataFrame:
        return self.lake.read(CLOCK, Symbol.parse(name), TICK)


@pytest.fixture
def room(tmp_path):
    with ExitStack() as servers:
        yield Room(tmp_path, servers)


def test_every_measurement_is_stored_and_the_truth_lies_within_its_bounds(room) -> None:
    room.near.server_error, room.exchange.server_error = 300 * MILLISECOND, -200 * MILLISECOND
    report = room.check()
    assert report.table["state"].tolist() == ["good", "good"]
    assert report.table["samples"].tolist() == [SAMPLES, SAMPLES]
    for name, truth in (("ntp", 300 * MILLISECOND), ("binance", -200 * MILLISECOND)):
        rows = room.stored(name)
        assert len(rows) == SAMPLES
        assert (np.abs(rows["offset"] - truth) <= rows["error"]).all()
        assert set(rows["source"]) == {name}
        assert rows["zone_offset_hours"].isna().all()
        one = report.table.loc[name]
        assert abs(one["offset_ms"] * 1e6 - truth) <= one["error_ms"] * 1e6
    assert (room.stored("binance")["round_trip"] == 50 * MILLISECOND).all()
    assert room.stored("ntp")["kind"].tolist() == ["ntp"] * SAMPLES
    assert (report.raised, report.cleared, room.channel.sent) == ([], [], [])
    assert report.picture is not None
    assert report.picture.read_bytes().startswith(b"\x89PNG")
    room.check()
    assert len(room.stored("ntp")) == 2 * SAMPLES


def test_an_offset_is_told_once_and_so_is_its_end(room) -> None:
    room.exchange.server_error = 1_270 * MILLISECOND
    first = room.check()
    assert first.raised == ["binance"]
    assert first.table["state"].tolist() == ["good", "off"]
    (alert,) = room.channel.sent
    assert alert.title == "clock of binance is +1.3 s from ours"
    assert "1 of 2 references" in alert.body
    assert [room.check().raised for _ in range(4)] == [[], [], [], []], "it stands, and is not told again"
    room.exchange.server_error = 900 * MILLISECOND
    assert room.check().table.loc["binance", "state"] == "near"
    assert len(room.channel.sent) == 1, "neither off nor well"
    room.exchange.server_error = 10 * MILLISECOND
    assert room.check().cleared == ["binance"]
    assert room.channel.sent[1].title == "clock of binance is well again"
    room.check()
    assert len(room.channel.sent) == 2


def test_our_own_clock_shows_in_all_references(room) -> None:
    for world in (room.near, room.exchange):
        world.local_error = -4 * SECOND
    assert room.check().raised == ["ntp", "binance"]
    assert all("2 of 2 references are off to the same side" in note.body for note in room.channel.sent)


def test_an_offset_that_may_be_within_the_threshold_is_not_told(room, tmp_path) -> None:
    world = World(server_error=1_100 * MILLISECOND, delays=[(10 * MILLISECOND, 0, 10 * MILLISECOND)])
    with http_server(world) as url:
        date = [Reference("web", "http", HttpDateProbe(url, 2.0, world.stopwatch()))]
        settings = load_settings(root=tmp_path, clock={"samples": 1})
        report = measure_clocks(settings, room.lake, date, room.notifier)
        assert report.table.loc["web", "error_ms"] > 500
        assert (report.table.loc["web", "state"], report.raised) != ("off", ["web"])
        coarse = report.table.loc["web", "error_ms"]
        for number in range(12):
            world.pass_time(60 * SECOND + number * 83 * MILLISECOND)
            report = measure_clocks(settings, room.lake, date, room.notifier)
        # What earlier checks stored bounds the later ones: a second's coarseness closes in.
        assert report.table.loc["web", "error_ms"] < coarse / 3
        assert abs(report.table.loc["web", "offset_ms"] - 1_100) <= report.table.loc["web", "error_ms"]
        assert len(stored_samples(room.lake, "web")) == 13


def test_a_reference_that_is_silent_is_named_and_the_others_count(room) -> None:
    dead = Reference("dead", "ntp", NtpProbe("127.0.0.1", 9, timeout=0.2))
    report = measure_clocks(room.settings, room.lake, [dead, *room.references], room.notifier)
    assert report.table["state"].tolist() == ["silent", "good", "good"]
    assert "did not answer" in report.table.loc["dead", "problem"]
    assert room.stored("dead").empty
    alone = measure_clocks(room.settings, room.lake, [dead], room.notifier)
    assert alone.table["samples"].tolist() == [0]
    assert alone.picture is None


def test_a_brokers_zone_is_stored_for_the_source(room) -> None:
    world = World()
    probe = BrokerProbe(
        TickingGateway(world, ahead=3 * 3600 + 0.2),
        "EURUSD",
        clock=world.stopwatch(),
        sleep=lambda seconds: world.pass_time(round(seconds * SECOND)),
    )
    report = measure_clocks(room.settings, room.lake, [Reference("broker", "broker", probe)], room.notifier)
    assert report.table.loc["broker", "state"] == "good"
    assert set(room.stored("broker")["zone_offset_hours"]) == {3.0}
    stored = read_offsets(offsets_file(room.settings.state_path), "Demo")
    assert {hours for _, hours in stored} == {3.0}
    assert stored[-1][0] == room.stored("broker").index[-1].floor("s")


def test_references_are_read_from_the_settings(tmp_path) -> None:
    texts = {
        "pool": "ntp://[::1]:99",
        "web": "https://example.com/x",
        "kraken": "exchange:kraken",
        "mirror": "exchange:bybit@http://127.0.0.1:1/time",
    }
    found = open_references(load_settings(root=tmp_path, clock={"references": texts}))
    assert [(one.name, one.kind) for one in found] == [
        ("pool", "ntp"), ("web", "http"), ("kraken", "exchange"), ("mirror", "exchange"),
    ]  # fmt: skip
    assert (found[0].probe.host, found[0].probe.port) == ("::1", 99)
    mirror = found[3].probe
    assert isinstance(mirror, EndpointProbe)
    assert (mirror.endpoint.url, mirror.endpoint.path) == ("http://127.0.0.1:1/time", ("result", "timeNano"))
    broker = open_references(load_settings(root=tmp_path, clock={"references": {"b": "mt5:EURUSD"}}))
    assert broker[0].kind == "broker"


@pytest.mark.parametrize(
    "text",
    ["", "pool.ntp.org", "ntp://host:0", "ntp://host:99999", "ntp://user@host", "ftp://x", "https://user:key@x",
     "exchange:nowhere", "exchange:binance@file:///etc/passwd", "mt5:../x"],
)  # fmt: skip
def test_other_references_are_refused(tmp_path, text) -> None:
    with pytest.raises(ConfigurationError):
        open_references(load_settings(root=tmp_path, clock={"references": {"x": text}}))


def test_names_that_could_leave_the_lake_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigurationError):
        open_references(load_settings(root=tmp_path, clock={"references": {"../x": "exchange:kraken"}}))
    with pytest.raises(ConfigurationError, match="no clock"):
        open_references(load_settings(root=tmp_path, clock={"references": {}}))
