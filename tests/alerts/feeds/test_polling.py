"""Polled sources: quotas by a clock that is moved, recorded answers, hostile ones."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.engine.kernel import CLOCK, TRADE
from tapeline.alerts.feeds.batcher import SECOND, Batcher
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.polled_bars import Bars, bar_ticks, parse_alpha_vantage, parse_yahoo
from tapeline.alerts.feeds.polling import BarTaker, Poller, Quota, alpha_vantage_fetch, yahoo_fetch
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError, ThrottledError
from tapeline.streams.timing import Timing


class Clock:
    """Time that passes only while something sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timing = Timing(monotonic=lambda: self.now, wall=lambda: int(self.now * SECOND), sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def yahoo(rows: list[tuple], *, granularity: str = "1m", **meta) -> bytes:
    stamps, *columns = zip(*rows, strict=True) if rows else ([], [], [], [], [], [])
    quote = dict(zip(("open", "high", "low", "close", "volume"), columns, strict=True))
    result = {"meta": {"dataGranularity": granularity, **meta}, "timestamp": stamps, "indicators": {"quote": [quote]}}
    return json.dumps({"chart": {"result": [result], "error": None}}).encode()


def alpha_vantage(rows: dict, zone: str = "UTC") -> bytes:
    return json.dumps({"Meta Data": {"6. Time Zone": zone}, "Time Series (1min)": rows}).encode()


BAR = {"1. open": "10", "2. high": "12", "3. low": "9", "4. close": "11", "5. volume": "8"}


@settings(max_examples=50, deadline=None)
@given(
    limits=st.lists(st.tuples(st.integers(1, 5), st.floats(1.0, 100.0)), min_size=1, max_size=3),
    pauses=st.lists(st.floats(0.0, 30.0), max_size=60),
)
def test_no_window_ever_has_more_calls_than_its_limit(limits, pauses):
    clock = Clock()
    quota = Quota(limits, timing=clock.timing)
    calls = []
    for pause in pauses:
        clock.now += pause
        if quota.spend():
            calls.append(clock.now)
        else:
            assert quota.wait() > 0
    assert quota.spent == len(calls)
    for count, seconds in limits:
        for first, beyond in zip(calls, calls[count:], strict=False):
            assert beyond - first >= seconds - 1e-9


def test_a_day_of_polling_stays_within_the_quota_and_asks_for_each_symbol():
    clock, asked = Clock(), []
    quota = Quota([(5, 60.0), (25, 86_400.0)], timing=clock.timing)

    async def fetch(symbol: str) -> bytes:
        asked.append((clock.now, symbol))
        return b""

    poller = Poller("av", ["A", "B"], fetch, lambda symbol, body: None, quota, every=60.0, timing=clock.timing)

    async def run() -> None:
        running = asyncio.create_task(poller.run())
        while clock.now < 2 * 86_400.0:
            await asyncio.sleep(0)
        poller.stop()
        await running

    asyncio.run(run())
    assert 45 <= len(asked) <= 51
    assert [symbol for _, symbol in asked[:4]] == ["A", "B", "A", "B"]


def test_a_source_that_fails_is_asked_ever_later_and_people_hear_of_it_once():
    clock, alerts = Clock(), []
    answers = [TemporaryError("down"), ThrottledError("slow", retry_after=500.0), ProviderError("refused"), b"", b""]

    async def fetch(symbol: str) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    quota = Quota([(1_000, 1.0)], timing=clock.timing)
    timing = Timing(monotonic=clock.timing.monotonic, wall=clock.timing.wall, random=lambda: 0.0)
    poller = Poller("y", ["A"], fetch, lambda *_: None, quota, on_alert=alerts.append, timing=timing)

    async def run() -> list[float]:
        return [await poller.poll("A") for _ in range(5)]

    assert asyncio.run(run()) == [2.5, 500.0, 10.0, 0.0, 0.0]
    assert [alert.kind for alert in alerts] == ["stale", "recovered"]
    assert (poller.counters.polls, poller.counters.failed, poller.counters.throttled) == (5, 3, 1)


def test_an_exhausted_quota_asks_nothing():
    clock = Clock()

    async def fetch(symbol: str) -> bytes:
        raise AssertionError("asked")

    quota = Quota([(1, 60.0)], timing=clock.timing)
    quota.spend()
    poller = Poller("y", ["A"], fetch, lambda *_: None, quota, timing=clock.timing)
    assert asyncio.run(poller.poll("A")) == 60.0


def test_bars_are_taken_once_complete_and_close_by_their_own_clock():
    clock, batcher = Clock(), Batcher({"AAPL": 0})
    manager = DataManager(batcher, timing=clock.timing)
    manager.watch("AAPL", [SourceName("yahoo", "AAPL", stale_after=300.0, own_clock=True)])
    taker = BarTaker("yahoo", manager, parse_yahoo, timing=clock.timing)
    clock.now = 190.0
    rows = [(60, 10.0, 12.0, 9.0, 11.0, 8), (120, 11.0, 13.0, 11.0, 12.0, 4), (180, 12.0, 12.0, 12.0, 12.0, 1)]
    taker("AAPL", yahoo(rows))
    clock.now = 250.0
    taker("AAPL", yahoo(rows))
    assert taker.bars == 3
    assert manager.counters.duplicates == 8
    batch, taken = batcher.flush(0, force=True)
    assert batch.prices[batch.records == TRADE].tolist() == [10, 9, 12, 11, 11, 11, 13, 12, 12, 12, 12, 12]
    assert batch.sizes[batch.records == TRADE].sum() == 13.0
    clocks = batch.records == CLOCK
    assert [(ts // SECOND, number) for ts, number in zip(batch.times[clocks], batch.symbols[clocks], strict=True)] == [
        (180, 0),
        (240, 0),
    ]
    assert taken.positions == {"yahoo:AAPL": 180 * 4 + 3}


def test_the_recorded_answer_of_alpha_vantage(test_data):
    found = parse_alpha_vantage((test_data / "api/alpha_vantage/mock_time_series").read_bytes())
    assert len(found.bars) == 100
    assert not found.refused
    last = found.bars[-1]
    # 2017-12-18 14:56:00 in New York is 19:56 UTC.
    assert (last.ts, last.duration) == (1_513_626_960 * SECOND, 60 * SECOND)
    assert last[2:] == (86.49, 86.5, 86.475, 86.5, 10_494.0)
    assert found.bars == sorted(found.bars)


@pytest.mark.parametrize("name", ["global_quote", "mock_foreign_exchange", "mock_crypto_currencies", "mock_sector"])
def test_other_recorded_answers_of_alpha_vantage_are_refused(test_data, name):
    with pytest.raises(ProviderError, match=r"no (time|intraday) series"):
        parse_alpha_vantage((test_data / "api/alpha_vantage" / name).read_bytes())


def test_the_recorded_fragments_of_yahoo(test_data):
    folder = test_data / "api/yahoo/chart_fragments"
    found = parse_yahoo((folder / "L1092_json.json").read_bytes())
    assert [bar.close for bar in found.bars] == [11.5, 12.5]
    assert found.refused == {"a price or volume out of bounds": 1}
    found = parse_yahoo((folder / "L1152_json_null_element.json").read_bytes())
    assert [bar.ts for bar in found.bars] == [1_000 * SECOND, 2_000 * SECOND]
    with pytest.raises(ProviderError):
        parse_yahoo((folder / "L1192_json.json").read_bytes())


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ((float("1e14"), "NaN", 9.0, 11.0, 8), "a cell that is no number"),
        (("1e999", "1e999", 9.0, 11.0, 8), "a price or volume out of bounds"),
        ((10.0, 12.0, -9.0, 11.0, 8), "a price or volume out of bounds"),
        ((10.0, 12.0, 9.0, 11.0, -8), "a price or volume out of bounds"),
        ((10.0, 10.5, 9.0, 11.0, 8), "a high or low that does not hold the bar"),
        ((True, 12.0, 9.0, 11.0, 8), "a cell that is no number"),
        (([], 12.0, 9.0, 11.0, 8), "a cell that is no number"),
        (("1" * 400, 12.0, 9.0, 11.0, 8), "a cell that is no number"),
    ],
)
def test_a_hostile_cell_costs_its_bar_alone(cells, reason):
    found = parse_yahoo(yahoo([(60, *cells), (120, 10.0, 12.0, 9.0, 11.0, None), (180, None, None, None, None, None)]))
    assert [bar.ts for bar in found.bars] == [120 * SECOND]
    assert found.refused == {reason: 1}
    values = dict(zip(BAR, cells, strict=True))
    found = parse_alpha_vantage(alpha_vantage({"2024-01-02 10:00:00": values, "2024-01-02 10:01:00": BAR, "x": BAR}))
    assert len(found.bars) == 1
    assert found.refused == {reason: 1, "a time that cannot be read": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[1]",
        b'{"chart": 5}',
        b'{"chart": {"result": null, "error": {"code": "Not Found", "description": "No data"}}}',
        b'{"chart": {"result": []}}',
        b'{"chart": {"result": [{"meta": {}, "timestamp": [NaN], "indicators": {}}]}}',
        b'{"chart": {"result": [{"meta": {}, "timestamp": [1e999], "indicators": {}}]}}',
        yahoo([(60, 1.0, 1.0, 1.0, 1.0, 1)], granularity="7m"),
        b'{"chart":{"result":[{"meta":{"dataGranularity":"1m"},"timestamp":[1,2],"indicators":{"quote":[{"open":[1]}]}}]}}',
        b"[" * 100_000,
        b'{"x": "' + b"a" * (8 * 1024 * 1024) + b'"}',
        alpha_vantage({"2024-01-02 10:00:00": BAR}, zone="../../etc/passwd"),
        b'{"Error Message": "Invalid API call"}',
        b'{"Meta Data": 5, "Time Series (1min)": {}}',
        b'{"Meta Data": {}, "Time Series (Daily)": {}}',
    ],
)
def test_hostile_answers_are_refused(body):
    for parse in (parse_yahoo, parse_alpha_vantage):
        with pytest.raises(ProviderError):
            parse(body)


@pytest.mark.parametrize("name", ["Note", "Information"])
def test_a_spent_quota_is_no_refusal_and_the_key_is_not_repeated(name):
    body = json.dumps({name: "We have detected your API key as SECRET123 and our limit is 25 requests"}).encode()
    with pytest.raises(ThrottledError) as caught:
        parse_alpha_vantage(body)
    assert "SECRET123" not in str(caught.value)


def test_what_is_asked_for():
    asked = []

    class Client:
        async def get(self, path, parameters):
            asked.append((path, dict(parameters)))
            return b""

    asyncio.run(alpha_vantage_fetch(Client(), "KEY", interval="5min")("MSFT"))
    asyncio.run(yahoo_fetch(Client())("^GSPC"))
    question = {"function": "TIME_SERIES_INTRADAY", "symbol": "MSFT", "interval": "5min", "apikey": "KEY"}
    assert asked == [("/query", question), ("/v8/finance/chart/%5EGSPC", {"interval": "1m", "range": "1d"})]
    with pytest.raises(ConfigurationError, match="'7min'"):
        alpha_vantage_fetch(Client(), "KEY", interval="7min")


@settings(max_examples=30, deadline=None)
@given(st.floats(1.0, 50.0), st.floats(1.0, 50.0), st.floats(0.0, 5.0), st.floats(0.0, 5.0), st.integers(0, 10**6))
def test_the_trades_of_a_bar_are_the_bar(opened, closed, above, below, minute):
    high, low = max(opened, closed) + above, max(min(opened, closed) - below, 0.1)
    low = min(low, opened, closed)
    found: Bars = parse_yahoo(yahoo([(minute * 60, opened, high, low, closed, 8.0)]))
    ticks = bar_ticks("A", found.bars[0])
    prices = [tick.price for tick in ticks]
    assert (prices[0], max(prices), min(prices), prices[-1]) == (opened, high, low, closed)
    assert sum(tick.size for tick in ticks) == 8.0
    times = [tick.ts for tick in ticks]
    assert times == sorted(times)
    assert times[0] == minute * 60 * SECOND
    assert times[-1] < (minute + 1) * 60 * SECOND
    assert [tick.sequence for tick in ticks] == list(range(minute * 240, minute * 240 + 4))
