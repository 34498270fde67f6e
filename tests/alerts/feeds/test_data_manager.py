"""Several sources, one stream: who speaks, from which instant, and what becomes of every record."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.engine.kernel import CLOCK, GAP, TRADE
from tapeline.alerts.feeds.batcher import SECOND, Batcher, BatcherOptions, Tick
from tapeline.alerts.feeds.data_manager import DataManager, ManagerOptions
from tapeline.alerts.feeds.source_names import SourceName, canonical
from tapeline.core.errors import ConfigurationError, TemporaryError
from tapeline.streams.timing import Timing

SOURCES = [
    SourceName("binance", "BTCUSDT", stale_after=5.0),
    SourceName("kraken", "BTC/USDT", stale_after=5.0),
    SourceName("yahoo", "BTC-USD", stale_after=90.0, own_clock=True),
]


class Desk:
    """A manager with clocks that stand until they are moved."""

    def __init__(self, sources=SOURCES, **options) -> None:
        self.now = 0.0
        self.alerts: list = []
        self.batcher = Batcher({"BTC": 0}, options=BatcherOptions(lateness=1.0), block=False)
        timing = Timing(monotonic=lambda: self.now, wall=lambda: int((1_000 + self.now) * SECOND))
        self.manager = DataManager(self.batcher, on_alert=self.alerts.append, timing=timing, **options)
        self.manager.watch("BTC", sources)

    def take(self, source: str, name: str, *ticks: tuple[int, int]) -> int:
        """Records of (second, sequence)."""
        return self.manager.take(source, [Tick(name, ts * SECOND, 100.0 + ts, 1.0, number) for ts, number in ticks])

    def given(self) -> list[tuple[int, int]]:
        """What the batcher got meanwhile: (second, sequence), (second, 'gap') or (second, 'clock')."""
        out = []
        while (found := self.batcher.flush(0, force=True)) is not None:
            batch, taken = found
            for code, ts, number in zip(batch.records, batch.times, taken.sequences, strict=True):
                what = {TRADE: int(number), GAP: "gap", CLOCK: "clock"}[int(code)]
                out.append((int(ts) // SECOND, what))
        return [one for one in out if one[1] != "clock"]


def test_a_record_is_told_apart_by_its_number_or_its_time():
    desk = Desk()
    assert desk.take("binance", "BTCUSDT", (1, 5), (1, 6), (1, 5), (2, 7), (1, 6)) == 3
    assert desk.given() == [(1, 5), (1, 6), (2, 7)]
    assert desk.manager.counters.duplicates == 2
    other = Desk([SourceName("csv", "BTC")])
    assert other.take("csv", "BTC", (1, -1), (1, -1), (3, -1), (2, -1)) == 2
    assert other.given() == [(1, -1), (3, -1)]


def test_it_goes_on_behind_the_positions_of_a_restart():
    desk = Desk(positions={"binance:BTC": 6})
    assert desk.take("binance", "BTCUSDT", (1, 5), (1, 6), (2, 7)) == 1
    assert desk.manager.positions() == {"binance:BTC": 7}
    desk.manager.unwatch("BTC")
    assert desk.take("binance", "BTCUSDT", (3, 8)) == 0
    assert desk.manager.counters.unknown == 1
    desk.manager.watch("BTC", SOURCES)
    assert desk.take("binance", "BTCUSDT", (2, 7), (3, 8)) == 1


def test_another_source_takes_over_at_an_instant_and_hands_back_without_loss_or_copy():
    desk = Desk()
    desk.take("binance", "BTCUSDT", (1, 1), (2, 2))
    desk.take("kraken", "BTC/USDT", (1, 70), (2, 71), (3, 72), (4, 73))
    assert desk.given() == [(1, 1), (2, 2)]
    desk.now = 4.0
    desk.take("kraken", "BTC/USDT", (5, 74))
    desk.now = 5.5
    desk.manager.check()
    # Of what kraken had meanwhile, that which lies behind the last record given.
    assert desk.manager.speaking("BTC") == "kraken"
    assert desk.given() == [(3, 72), (4, 73), (5, 74)]
    desk.take("kraken", "BTC/USDT", (6, 75))
    # The better one is back: it fills its own gap first, and speaks from its first record behind what was given.
    desk.take("binance", "BTCUSDT", (3, 3), (4, 4), (6, 5), (7, 6))
    assert desk.manager.speaking("BTC") == "binance"
    desk.take("kraken", "BTC/USDT", (7, 76))
    desk.take("binance", "BTCUSDT", (8, 7))
    assert desk.given() == [(6, 75), (7, 6), (8, 7)]
    counters = desk.manager.counters
    assert (counters.taken_over, counters.handed_back) == (1, 1)
    assert counters.given == 8
    assert counters.superseded == 2 + 3
    assert counters.standby == 6
    assert [alert.kind for alert in desk.alerts] == ["stale", "recovered"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("bkcw"), st.integers(1, 4)), max_size=40))
def test_whatever_happens_time_rises_and_nothing_is_given_twice(script):
    """Two sources see the same market second by second, one record a second; each may stop and come back."""
    desk = Desk(SOURCES[:2])
    market, seen = 0, {"b": 0, "k": 0}
    names = {"b": ("binance", "BTCUSDT"), "k": ("kraken", "BTC/USDT")}
    for what, count in script:
        market += count
        desk.now += count
        if what in names:
            # A source brings all that it has not brought yet: its own gaps are filled.
            desk.take(*names[what], *((ts, ts) for ts in range(seen[what] + 1, market + 1)))
            seen[what] = market
        elif what == "c":
            desk.manager.check()
        else:
            desk.now += 3.0
    for what in names:
        desk.take(*names[what], *((ts, ts) for ts in range(seen[what] + 1, market + 1)))
    given = [ts for ts, _ in desk.given()]
    assert given == list(range(1, market + 1))
    assert desk.manager.counters.given == len(given)
    assert desk.manager.counters.duplicates == 0


def test_a_polled_source_has_its_own_clock():
    desk = Desk()
    desk.take("binance", "BTCUSDT", (1, 1))
    desk.take("yahoo", "BTC-USD", (1, 1))
    desk.now = 6.0
    desk.take("yahoo", "BTC-USD", (61, 241))
    desk.manager.check()
    assert desk.manager.speaking("BTC") == "yahoo"
    assert desk.given() == [(1, 1), (61, 241)]
    desk.manager.reach("yahoo", "BTC-USD", 120 * SECOND)
    desk.manager.reach("binance", "BTCUSDT", 500 * SECOND)
    batch, _ = desk.batcher.flush(0, force=True)
    assert (batch.records.tolist(), batch.symbols.tolist(), batch.times.tolist()) == ([CLOCK], [0], [120 * SECOND])


def test_silence_of_all_is_said_once_and_so_is_its_end():
    desk = Desk(SOURCES[:1])
    desk.take("binance", "BTCUSDT", (1, 1))
    for desk.now in (4.0, 6.0, 7.0, 8.0):
        desk.manager.check()
    assert desk.manager.counters.silent == 1
    desk.take("binance", "BTCUSDT", (9, 2))
    assert [alert.kind for alert in desk.alerts] == ["stale", "recovered"]
    desk.now = 12.0
    desk.manager.heard("binance", "BTCUSDT")
    desk.now = 16.0
    desk.manager.check()
    assert desk.manager.counters.silent == 1


def test_bars_of_a_quiet_market_close_by_our_clock():
    desk = Desk(SOURCES[:1], options=ManagerOptions(idle=5.0))
    desk.take("binance", "BTCUSDT", (1_000, 1))
    desk.now = 4.0
    desk.manager.check()
    assert desk.batcher.watermark == 999 * SECOND
    desk.now = 10.0
    desk.manager.check()
    assert desk.batcher.watermark == 1_004 * SECOND


@pytest.mark.parametrize(
    ("price", "size", "ts", "reason"),
    [
        (float("nan"), 1.0, 5, "a price that is not positive and finite"),
        (float("inf"), 1.0, 5, "a price that is not positive and finite"),
        (-1.0, 1.0, 5, "a price that is not positive and finite"),
        (1e300, 1.0, 5, "a price that is not positive and finite"),
        (1.0, float("nan"), 5, "a size that is not finite"),
        (1.0, -1.0, 5, "a size that is not finite"),
        (1.0, 1.0, -5, "a time before 1970"),
        (1.0, 1.0, 2_000, "a time far ahead of our clock"),
    ],
)
def test_a_record_that_cannot_be_is_refused_counted_and_a_gap(price, size, ts, reason):
    desk = Desk()
    desk.take("binance", "BTCUSDT", (1, 1))
    desk.manager.take("binance", [Tick("BTCUSDT", ts * SECOND, price, size, 2)])
    desk.take("binance", "BTCUSDT", (3, 3))
    assert desk.given() == [(1, 1), (1, "gap"), (3, 3)]
    assert dict(desk.manager.reasons) == {reason: 1}
    assert desk.manager.metrics()["refused"] == 1
    assert desk.alerts[0].kind == "gap_unfilled"


def test_a_gap_is_told_where_its_source_speaks():
    desk = Desk()
    desk.take("binance", "BTCUSDT", (1, 1))
    desk.manager.gap("kraken", "BTC/USDT", 1 * SECOND, "trades 5 to 7")
    desk.manager.gap("binance", "BTCUSDT", 1 * SECOND, "trades 2 to 4")
    desk.manager.gap("binance", "ETHUSDT", 1 * SECOND, "of nobody")
    assert desk.given() == [(1, 1), (1, "gap")]
    assert (desk.manager.counters.gaps, desk.manager.counters.unknown, len(desk.alerts)) == (2, 1, 2)


def test_values_that_are_not_finite_are_refused():
    desk = Desk()
    desk.manager.value("BTC", "sentiment:level", 5, float("inf"))
    desk.manager.value("ETH", "sentiment:level", 5, 0.5)
    assert (desk.manager.counters.refused, desk.manager.counters.unknown, desk.batcher.depth) == (1, 1, 0)


def test_what_the_batcher_refused_is_offered_again_without_loss():
    full = Batcher({"BTC": 0}, options=BatcherOptions(most=2, capacity=2), block=False)
    manager = DataManager(full)
    manager.watch("BTC", SOURCES)
    ticks = [Tick("BTCUSDT", SECOND, 1.0, 1.0, number) for number in range(3)]
    with pytest.raises(TemporaryError):
        manager.take("binance", ticks)
    assert manager.positions() == {"binance:BTC": 1}
    assert full.flush(0, force=True)[1].sequences.tolist() == [0, 1]
    assert manager.take("binance", ticks) == 1
    assert full.flush(0, force=True)[1].sequences.tolist() == [2]
    assert manager.counters.given == 3


@pytest.mark.parametrize(
    ("symbol", "sources", "said"),
    [
        ("BTC", [], "at least one source"),
        ("BTC", [SourceName("a", "X"), SourceName("a", "Y")], "each once"),
        ("ETH", [SourceName("binance", "BTCUSDT")], "not a symbol of the evaluator"),
        ("LTC", [SourceName("binance", "BTCUSDT")], "is BTC already"),
    ],
)
def test_what_cannot_be_watched(symbol, sources, said):
    desk = Desk()
    desk.batcher._numbers["LTC"] = 1
    with pytest.raises(ConfigurationError, match=said):
        desk.manager.watch(symbol, sources)


def test_one_spelling_of_a_pair():
    assert {canonical(name) for name in ("BTC/USDT", "btc-usdt", "BTC_USDT", "BTCUSDT")} == {"BTCUSDT"}
    with pytest.raises(ConfigurationError):
        canonical("../etc")
    with pytest.raises(ConfigurationError, match="without a colon"):
        SourceName("a:b", "X")
