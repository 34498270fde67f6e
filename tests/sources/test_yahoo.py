from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yfinance
from yfinance.exceptions import (
    YFDataException,
    YFInvalidPeriodError,
    YFPricesMissingError,
    YFRateLimitError,
    YFTzMissingError,
)

from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError
from tapeline.core.settings import NetworkSettings
from tapeline.sources.base import Data, Empty, Failed, Throttled
from tapeline.sources.yahoo import YahooSource
from tests.sources.support import at, clock_at, request_for

NETWORK = NetworkSettings(timeout_seconds=4, maximum_tries=2, backoff_seconds=0)


class Ticker:
    """Answers ``history`` in turn with frames or exceptions and keeps the calls."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[dict[str, Any]] = []

    def history(self, **options: Any) -> Any:
        self.calls.append(options)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def table(times: list[str], zone: str = "America/New_York", **columns: Any) -> pd.DataFrame:
    index = pd.DatetimeIndex(pd.to_datetime(times)).tz_localize(zone)
    values = {name: np.arange(1.0, len(times) + 1) for name in ("Open", "High", "Low", "Close", "Adj Close", "Volume")}
    return pd.DataFrame({**values, **columns}, index=index)


def fetch(*answers: Any, symbol="AAPL", timeframe="D1", bounds=("2024-07-01", "2024-07-10"), clock="2025-01-01"):
    ticker = Ticker(*answers)
    source = YahooSource(NETWORK, clock=clock_at(clock), sleep=lambda s: None, ticker=lambda _: ticker)
    return source.fetch(request_for(symbol, timeframe, *bounds)), ticker.calls


def test_raw_prices_are_asked_for_and_adjusted_ones_are_not_read():
    frame = table(["2024-07-01", "2024-07-02"], **{"Adj Close": [0.5, 0.6]})
    outcome, calls = fetch(frame)
    assert isinstance(outcome, Data)
    assert calls[0]["auto_adjust"] is False
    assert calls[0]["repair"] is False
    assert calls[0]["keepna"] is True
    assert calls[0]["timeout"] == 4
    assert outcome.bars["close"].tolist() == [1.0, 2.0]
    assert list(outcome.bars.columns) == ["open", "high", "low", "close", "volume"]
    assert (outcome.adjustment, outcome.adjusted) == ("splits", False)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Europe/London"])
def test_a_day_carries_its_date(zone):
    outcome, calls = fetch(table(["2024-07-01", "2024-07-02"], zone))
    assert outcome.bars.index.tolist() == [at("2024-07-01"), at("2024-07-02")]
    assert calls[0]["start"] == at("2024-06-30")
    assert calls[0]["end"] == at("2024-07-11")


def test_intraday_times_become_utc():
    outcome, calls = fetch(table(["2024-07-01 09:30", "2024-07-01 10:30"]), timeframe="H1")
    assert outcome.bars.index.tolist() == [at("2024-07-01 13:30"), at("2024-07-01 14:30")]
    assert calls[0]["interval"] == "1h"


def test_the_day_that_is_still_trading_is_held_back():
    frame = table(["2024-07-01", "2024-07-02"])
    outcome, _ = fetch(frame, bounds=("2024-07-01", None), clock="2024-07-02 19:00")
    assert outcome.bars.index.tolist() == [at("2024-07-01")]
    assert outcome.unfinished == 1


def test_minutes_are_asked_for_week_by_week():
    frames = [table([f"2024-07-{day:02d} 10:00"]) for day in (1, 8, 15)]
    outcome, calls = fetch(*frames, timeframe="M1", bounds=("2024-07-01", "2024-07-16"))
    assert len(outcome.bars) == 3
    assert [(c["start"].day, c["end"].day) for c in calls] == [(1, 8), (8, 15), (15, 16)]


def test_without_a_start_everything_is_asked_for():
    _, calls = fetch(table(["2024-07-01"]), bounds=(None, None))
    assert calls[0]["start"] == at("1927-01-01")
    _, calls = fetch(table(["2024-12-31 10:00"]), timeframe="M5", bounds=(None, None))
    assert calls[0]["start"] == at("2025-01-01") - pd.Timedelta(days=59)
    assert "period" not in calls[0]


def test_an_end_before_the_reach_of_minutes_is_empty_without_asking():
    outcome, calls = fetch(timeframe="M1", bounds=(None, "2020-01-01"))
    assert isinstance(outcome, Empty)
    assert calls == []


def test_missing_cells_stay_and_unreadable_ones_are_rejected():
    frame = table(["2024-07-01", "2024-07-02", "2024-07-03"], Open=[1.0, np.nan, 3.0], High=[np.inf, 1, "abc"])
    outcome, _ = fetch(frame)
    assert np.isinf(outcome.bars["high"].iloc[0])
    assert np.isnan(outcome.bars["open"].iloc[1])
    assert outcome.rejected["row_number"].tolist() == [2]
    assert json.loads(outcome.rejected["record"][0])["High"] == "abc"


def test_an_index_without_volume_says_so():
    outcome, _ = fetch(table(["2024-07-01"], Volume=[0.0]), symbol="^VIX")
    assert outcome.volume_kind == "none"


@pytest.mark.parametrize(
    "answer",
    [
        pd.DataFrame(),
        YFPricesMissingError("AAPL", "(1d 2024-07-04 -> 2024-07-05)"),
        YFPricesMissingError("AAPL", "", yahoo_reason="Data doesn't exist for startDate = 1, endDate = 2"),
    ],
)
def test_a_known_symbol_without_bars_is_empty(answer):
    outcome, _ = fetch(answer)
    assert isinstance(outcome, Empty)


@pytest.mark.parametrize(
    ("error", "kind", "tries"),
    [
        (YFTzMissingError("NOPE"), ProviderError, 1),
        (YFPricesMissingError("X", "", yahoo_reason="No data found, symbol may be delisted"), ProviderError, 1),
        (YFPricesMissingError("X", "(Yahoo status_code = 500)"), ProviderError, 1),
        (
            YFPricesMissingError(
                "X", "", yahoo_reason="1m data not available for startTime=1. Only 8 days worth of 1m"
            ),
            ConfigurationError,
            1,
        ),
        (YFInvalidPeriodError("X", "9d", "1d, 5d"), ConfigurationError, 1),
        (YFDataException("*** YAHOO! FINANCE IS CURRENTLY DOWN! ***"), TemporaryError, 2),
        (YFDataException("something else"), ProviderError, 1),
        (json.JSONDecodeError("Expecting value", "<html>", 0), ProviderError, 1),
        (ConnectionResetError("reset"), TemporaryError, 2),
        (TimeoutError("timed out"), TemporaryError, 2),
        (KeyError("exchangeTimezoneName"), ProviderError, 1),
    ],
)
def test_failures_are_typed(error, kind, tries):
    outcome, calls = fetch(error, error)
    assert isinstance(outcome, Failed), outcome
    assert isinstance(outcome.error, kind)
    assert len(calls) == tries


def test_http_statuses_behind_an_exception():
    refused = OSError("HTTP Error 404")
    refused.response = SimpleNamespace(status_code=404)
    assert isinstance(fetch(refused)[0].error, ProviderError)
    busy = OSError("HTTP Error 429")
    busy.response = SimpleNamespace(status_code=429)
    assert isinstance(fetch(busy, busy)[0], Throttled)


def test_throttling():
    outcome, calls = fetch(YFRateLimitError(), YFRateLimitError())
    assert isinstance(outcome, Throttled)
    assert len(calls) == 2
    healed, _ = fetch(YFRateLimitError(), table(["2024-07-01"]))
    assert isinstance(healed, Data)


def test_another_layout_is_a_provider_error():
    outcome, _ = fetch(table(["2024-07-01"]).drop(columns="Close"))
    assert isinstance(outcome.error, ProviderError)
    assert "['Close']" in str(outcome.error)
    assert isinstance(fetch(table(["2024-07-01"]).tz_localize(None))[0].error, ProviderError)
    assert isinstance(fetch(None)[0].error, ProviderError)


def test_a_timeframe_that_yahoo_lacks():
    outcome, calls = fetch(timeframe="H4")
    assert "it has M1, M2, M5" in str(outcome.error)
    assert calls == []


def chart(**changes: Any) -> dict[str, Any]:
    """A chart answer with Yahoo's keys, two days of which the second has an empty open."""
    stamps = [int(pd.Timestamp(f"2024-07-0{day} 09:30", tz="America/New_York").timestamp()) for day in (1, 2)]
    meta = {
        "currency": "USD",
        "symbol": "AAPL",
        "instrumentType": "EQUITY",
        "exchangeTimezoneName": "America/New_York",
        "gmtoffset": -14400,
        "timezone": "EDT",
        "dataGranularity": "1d",
        "priceHint": 2,
        "validRanges": ["1d", "max"],
    }
    quote = {
        "open": [10.0, None],
        "high": [11.0, 12.0],
        "low": [9.0, 10.0],
        "close": [10.5, 11.5],
        "volume": [100, 200],
    }
    result = {
        "meta": meta,
        "timestamp": stamps,
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": [5.0, 6.0]}]},
    }
    return {"chart": {"result": [result], "error": None, **changes}}


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Let yfinance's own code read the bodies given here instead of asking Yahoo."""
    previous = yfinance.config.debug.hide_exceptions
    yfinance.set_tz_cache_location(str(tmp_path))

    def start(body: Any):
        text = body if isinstance(body, str) else json.dumps(body)
        response = SimpleNamespace(text=text, status_code=200, json=lambda: json.loads(text))
        for name in ("get", "cache_get"):
            monkeypatch.setattr(yfinance.data.YfData, name, lambda self, *a, **k: response)
        monkeypatch.setattr(yfinance.Ticker, "info", {})
        source = YahooSource(NETWORK, clock=clock_at("2025-01-01"), sleep=lambda s: None)
        return lambda *bounds, symbol="AAPL": source.fetch(request_for(symbol, "D1", *bounds))

    yield start
    yfinance.config.debug.hide_exceptions = previous


def test_a_chart_through_the_real_reader(serve):
    outcome = serve(chart())("2024-07-01", "2024-07-10")
    assert isinstance(outcome, Data), outcome
    assert outcome.bars.index.tolist() == [at("2024-07-01"), at("2024-07-02")]
    assert outcome.bars["close"].tolist() == [10.5, 11.5]
    assert np.isnan(outcome.bars["open"].iloc[1])


def test_an_unknown_symbol_through_the_real_reader(serve):
    error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
    outcome = serve(chart(result=None, error=error))("2024-07-01", "2024-07-10")
    assert isinstance(outcome.error, ProviderError)


def test_a_web_page_through_the_real_reader(serve):
    outcome = serve("<!DOCTYPE html><html>consent</html>")("2024-07-01", "2024-07-10")
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ProviderError)
    assert "no JSON" in str(outcome.error)


def test_a_lost_connection_is_not_read_as_an_unknown_symbol(serve, monkeypatch):
    fetch_again = serve(chart())

    def lost(*_: Any, **__: Any):
        raise ConnectionError("no route to host")

    for name in ("get", "cache_get"):
        monkeypatch.setattr(yfinance.data.YfData, name, lost)
    # A symbol whose zone yfinance has not cached: it asks for the zone first, and that is where it would be silent.
    assert isinstance(fetch_again("2024-07-01", "2024-07-10", symbol="NOTCACHED").error, TemporaryError)


def test_a_recorded_chart(serve, test_data):
    body = (test_data / "api/yahoo/chart_fragments/L1152_json_null_element.json").read_text()
    recorded = json.loads(body)
    recorded["chart"]["result"][0]["meta"]["currency"] = "USD"  # the fragment was trimmed of it
    outcome = serve(recorded)("1969-01-01", "1971-01-01")
    assert isinstance(outcome, Data), outcome
    # Both stamps lie in the first hour of 1970 UTC, which is one evening in New York; of two rows of the last day
    # yfinance takes the second for the live price and hands over that one alone.
    assert outcome.bars.index.tolist() == [at("1969-12-31")]
    assert outcome.bars.iloc[0].tolist() == [2.0, 3.0, 2.0, 2.5, 20.0]
