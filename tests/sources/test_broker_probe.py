"""The broker's clock measured by the arrival of a tick, kept, and used where the market is closed."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError, ProviderError, TemporaryError
from tapeline.core.settings import MetaTraderSettings
from tapeline.sources.base import Data, Failed
from tapeline.sources.broker_clock import (
    FixedOffset,
    NewYorkClose,
    choose_clock,
    offsets_file,
    read_offsets,
    store_offset,
)
from tapeline.sources.broker_probe import BrokerProbe
from tapeline.sources.metatrader import MetaTraderSource
from tapeline.sources.metatrader_gateway import RecordedGateway
from tests.clock.servers import MILLISECOND, SECOND, World
from tests.sources.support import at, clock_at, request_for
from tests.sources.test_metatrader import NETWORK, rates


class TickingGateway(RecordedGateway):
    """A terminal in a simulated world: its server stamps a tick every so often, and each look takes time."""

    def __init__(self, world: World, *, ahead: float, every: int = 700 * MILLISECOND, way: int = 40 * MILLISECOND):
        super().__init__({("EURUSD", "H1"): rates("2025-07-01", 1)}, server="Demo")
        self.world, self.ahead, self.every, self.way = world, ahead, every, way

    def tick_seconds(self, symbol: str) -> float | None:
        self.world.pass_time(3 * MILLISECOND)
        if not self.every:
            return 1.0
        shown = self.world.true - self.way
        stamped = shown - shown % self.every
        # The terminal tells whole milliseconds.
        return (stamped + round(self.ahead * SECOND)) // MILLISECOND / 1000


@pytest.mark.parametrize("zone", [-5.0, 0.0, 2.0, 3.0, 5.75])
@pytest.mark.parametrize("skew", [-1.5, 0.0, 0.4])
def test_zone_and_skew_are_told_apart(zone, skew) -> None:
    world = World(local_error=120 * MILLISECOND)
    gateway = TickingGateway(world, ahead=zone * 3600 + skew)
    probe = BrokerProbe(
        gateway, "EURUSD", clock=world.stopwatch(), sleep=lambda seconds: world.pass_time(round(seconds * SECOND))
    )
    sample = probe.measure()
    true = round(skew * SECOND) - world.local_error
    assert probe.zone_offset_hours == zone
    assert abs(sample.offset - true) <= sample.error
    assert sample.error < 400 * MILLISECOND


def test_a_market_without_ticks_tells_nothing() -> None:
    world = World()
    waits: list[float] = []
    probe = BrokerProbe(
        TickingGateway(world, ahead=0, every=0), "EURUSD", clock=world.stopwatch(), looks=7, sleep=waits.append
    )
    with pytest.raises(TemporaryError, match=r"no tick of EURUSD came within 0.7 s"):
        probe.measure()
    assert len(waits) == 7
    with pytest.raises(TemporaryError, match="no ticks of XAUUSD"):
        BrokerProbe(TickingGateway(world, ahead=0), "XAUUSD").measure()
    far = BrokerProbe(
        TickingGateway(world, ahead=20 * 3600),
        "EURUSD",
        clock=world.stopwatch(),
        sleep=lambda s: world.pass_time(SECOND),
    )
    with pytest.raises(ProviderError, match="no zone"):
        far.measure()


def test_measured_offsets_are_kept_by_server_as_runs(tmp_path) -> None:
    path = offsets_file(tmp_path)
    assert read_offsets(path, "A") == []
    for time, hours in (("2025-03-01", 2.0), ("2025-03-05", 2.0), ("2025-03-10", 3.0), ("2025-06-01", 3.0)):
        store_offset(path, "A", at(time), hours)
    store_offset(path, "B", at("2025-06-01"), 0.0)
    expected = [("2025-03-01", 2.0), ("2025-03-05", 2.0), ("2025-03-10", 3.0), ("2025-06-01", 3.0)]
    assert read_offsets(path, "A") == [(at(time), hours) for time, hours in expected]
    assert read_offsets(path, "B") == [(at("2025-06-01"), 0.0)]
    assert len(json.loads(path.read_text())["A"]) == 2
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    path.write_text('{"A": [{"first": "x"}]}')
    with pytest.raises(DataError, match="broker_offsets"):
        read_offsets(path, "A")


def test_a_stored_offset_stands_in_for_a_fresh_one() -> None:
    saturday = at("2025-08-02 12:00")
    assert choose_clock(None, None, saturday, [(at("2025-08-01 12:00"), 3.0)]) == NewYorkClose()
    assert choose_clock(None, None, at("2025-12-06"), [(at("2025-08-01 12:00"), 3.0)]) == NewYorkClose()
    with pytest.raises(ConfigurationError, match=r"runs \+0 h from UTC \(measured 2025-08-01 12:00 UTC\)"):
        choose_clock(None, None, saturday, [(at("2025-08-01 12:00"), 0.0)])
    with pytest.raises(ConfigurationError, match="the setting says"):
        choose_clock(2.0, None, saturday, [(at("2025-08-01 12:00"), 3.0)])
    # The newest decides; what a server did before it was moved does not.
    moved = [(at("2025-07-01"), 0.0), (at("2025-08-01 12:00"), 3.0)]
    assert choose_clock(None, None, saturday, moved) == NewYorkClose()


def test_the_same_offset_on_both_sides_of_a_switch_is_a_fixed_one() -> None:
    both = [(at("2025-02-01"), 2.0), (at("2025-04-01"), 2.0)]
    assert choose_clock(None, None, at("2025-04-05"), both) == FixedOffset(2.0)
    assert choose_clock(None, 2.0, at("2025-04-07"), both[:1]) == FixedOffset(2.0)
    with pytest.raises(ConfigurationError):
        choose_clock(None, 3.0, at("2025-02-07"), both[:1])
    with pytest.raises(ConfigurationError, match="the setting"):
        choose_clock(3.0, None, at("2025-04-05"), both)


def test_the_source_reads_bars_on_the_stored_clock_when_the_market_is_closed(tmp_path) -> None:
    path = offsets_file(tmp_path)
    for time in ("2025-02-01", "2025-04-01"):
        store_offset(path, "recorded", at(time), 2.0)
    gateway = RecordedGateway({("EURUSD", "H1"): rates("2025-04-01 00:00", 3)})
    source = MetaTraderSource(
        gateway, MetaTraderSettings(), network=NETWORK, clock=clock_at("2025-04-05"), sleep=lambda s: None, offsets=path
    )
    outcome = source.fetch(request_for("EURUSD", "H1", "2025-03-31", "2025-04-02"))
    assert isinstance(outcome, Data)
    # Summer in New York: the rule would say three hours, this server was measured to keep two.
    assert outcome.bars.index[0] == at("2025-03-31 22:00")
    assert outcome.notes == ("the broker's clock was last measured at 2025-04-01 00:00 UTC: +2 h",)
    store_offset(path, "recorded", pd.Timestamp("2025-04-04", tz="UTC"), 0.0)
    refused = source.fetch(request_for("EURUSD", "H1", "2025-03-31", "2025-04-02"))
    assert isinstance(refused, Failed)
    assert "measured 2025-04-04" in str(refused.error)
