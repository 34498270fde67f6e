from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, DataError, MissingExtraError, ProviderError, SchemaError
from tapeline.core.settings import NetworkSettings, load_settings
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import Data, Empty, Throttled, open_source
from tapeline.sources.deribit import DeribitVolatilitySource
from tapeline.sources.volatility_index import (
    futures_structure,
    join_volatility,
    load_vix_utils,
    read_cboe_history,
    term_structure,
    with_known_at,
)
from tests.sources.support import Reply, at, clock_at, http_server, request_for

H1 = Timeframe.parse("H1")
HOUR = 3_600_000


def levels(start: str, closes) -> pd.DataFrame:
    ts = pd.bdate_range(start, periods=len(closes), tz="UTC", name="ts")
    return with_known_at(pd.DataFrame({"close": np.asarray(closes, dtype=float)}, index=ts))


def test_the_whole_history_of_vix(test_data):
    table, refused = read_cboe_history(test_data / "data/vix/data/vix-daily.csv")
    assert len(table) + len(refused) == 9235
    assert table.index[0] == at("1990-01-02")
    assert table["close"].idxmax() == at("2020-03-16")
    assert table["close"].max() == 82.69
    assert table.index.is_monotonic_increasing
    # 16:15 New York: 21:15 UTC in winter, 20:15 in summer.
    assert table.loc[at("1990-01-02"), "known_at"] == at("1990-01-02 21:15")
    assert table.loc[at("2020-07-01"), "known_at"] == at("2020-07-01 20:15")


def test_lines_that_are_no_levels_are_kept_with_a_reason(tmp_path):
    path = tmp_path / "vix.csv"
    path.write_text(
        "DATE,OPEN,HIGH,LOW,CLOSE\n2020-01-02,1,2,1,2\n2020-01-03,0,0,0,0\nsoon,1,1,1,1\n2020-01-06,1,x,1,1\n"
        "2020-01-07,1,1,1,1\n01/07/2020,2,2,2,2\n01/08/2020,3,3,3,3\n"
    )
    table, refused = read_cboe_history(path)
    assert table["close"].tolist() == [2.0, 3.0]
    assert refused["record"].tolist()[0] == "2020-01-03,0,0,0,0"
    assert refused["reason"].str.split().str[0].tolist() == ["a", "the", "a", "the", "the"]
    path.write_text("DAY,VALUE\n1,2\n")
    with pytest.raises(SchemaError, match="close"):
        read_cboe_history(path)
    with pytest.raises(ConfigurationError):
        read_cboe_history(tmp_path / "absent.csv")


def test_a_bar_sees_a_level_only_after_its_session():
    table = levels("2024-07-03", [12.0, 13.0, 14.0])
    ts = pd.date_range("2024-07-03 18:00", periods=60, freq="1h", tz="UTC", name="ts")
    bars = pd.DataFrame({"close": 1.0}, index=ts)
    joined = join_volatility(bars, H1, table)["vix_close"]
    # Known at 20:15 UTC: the bar of 19:00 closes before, the bar of 20:00 after.
    assert np.isnan(joined[at("2024-07-03 19:00")])
    assert joined[at("2024-07-03 20:00")] == 12.0
    assert joined[at("2024-07-04 19:00")] == 12.0
    assert joined[at("2024-07-04 20:00")] == 13.0
    shorter = join_volatility(bars, H1, table[:1])["vix_close"]
    pd.testing.assert_series_equal(shorter[:26], joined[:26])
    later = pd.DataFrame({"close": 1.0}, index=ts + pd.Timedelta(days=30))
    assert join_volatility(later, H1, table)["vix_close"].isna().all(), "a month-old level is none"


def test_term_structure():
    table = term_structure(
        {
            "VIX3M": levels("2024-07-03", [15.0, 13.0, 18.0]),
            "VIX": levels("2024-07-03", [12.0, 26.0, 16.0]),
            "VIX9D": levels("2024-07-04", [40.0]),
        }
    )
    assert table["slope"].tolist() == pytest.approx([0.25, -0.5, 0.125])
    assert table["vix9d"].tolist()[1] == 40.0
    assert np.isnan(table["vix9d"].iloc[0])
    expected = np.polyfit(np.log([9, 30, 93]), np.log([40.0, 26.0, 13.0]), 1)[0]
    assert table["curve"].iloc[1] == pytest.approx(expected)
    assert table["curve"].iloc[0] == pytest.approx(np.log(15 / 12) / np.log(93 / 30))
    assert table["known_at"].iloc[0] == at("2024-07-03 20:15")
    late = levels("2024-07-03", [15.0]).assign(known_at=at("2024-07-05"))
    assert term_structure({"VIX": levels("2024-07-03", [12.0]), "VIX3M": late})["known_at"].iloc[0] == at("2024-07-05")
    for wrong in ({"VIX": late}, {"VIX3M": late, "VIX6M": late}, {"VIX": late, "MOVE": late}):
        with pytest.raises(ConfigurationError):
            term_structure(wrong)


def test_vix_utils_tables():
    cash = pd.DataFrame(
        {
            "Trade Date": pd.to_datetime(["2024-07-03", "2024-07-03", "2024-07-05", "2024-07-05"]),
            "Symbol": ["VIX", "VIX3M", "VIX", "GVZ"],
            "Open": [11.0, np.nan, 12.0, 1.0],
            "Close": [12.0, 15.0, 13.0, 1.0],
        }
    )
    found = load_vix_utils(lambda: cash)
    assert list(found) == ["VIX", "VIX3M"]
    assert found["VIX"]["open"].tolist() == [11.0, 12.0]
    assert found["VIX3M"]["open"].tolist() == [15.0]
    assert term_structure(found)["slope"].iloc[0] == pytest.approx(0.25)
    futures = pd.DataFrame(
        {
            "Trade Date": pd.to_datetime(["2024-07-03"] * 3).tz_localize("US/Eastern"),
            "Tenor_Monthly": [1.0, 2.0, 1.5],
            "Tenor_Days": [14, 42, 7],
            "Settle": [13.0, 14.3, 99.0],
            "Weekly": [False, False, True],
        }
    )
    table = futures_structure(futures)
    assert table.index.tolist() == [at("2024-07-03")]
    assert table[["front", "second", "front_days"]].iloc[0].tolist() == [13.0, 14.3, 14.0]
    assert table["slope"].iloc[0] == pytest.approx(0.1)
    with pytest.raises(SchemaError):
        futures_structure(futures.drop(columns="Settle"))
    with pytest.raises(SchemaError):
        load_vix_utils(lambda: cash.drop(columns="Symbol"))
    try:
        import vix_utils  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match="vix_utils"):
            load_vix_utils()


def test_yahoo_daily_bars_are_levels_too():
    ts = pd.DatetimeIndex(["2024-07-03 01:00"], tz="UTC", name="ts")
    with pytest.raises(DataError, match="session dates"):
        with_known_at(pd.DataFrame({"close": [1.0]}, index=ts))


class Deribit:
    """Answers as the API documents: the newest candles of the range, and where to go on towards the past."""

    def __init__(self, count: int, page: int = 10) -> None:
        first = int(at("2024-01-01").timestamp() * 1000)
        self.rows = [[first + k * HOUR, 60.0 + k, 61.0 + k, 59.0 + k, 60.5 + k] for k in range(count)]
        self.page = page
        self.queries: list[dict[str, str]] = []

    def __call__(self, path: str, query: dict[str, str]) -> Reply:
        self.queries.append(query)
        low, high = int(query["start_timestamp"]), int(query["end_timestamp"])
        found = [row for row in self.rows if low <= row[0] <= high]
        page = found[-self.page :]
        return Reply(
            {"jsonrpc": "2.0", "result": {"data": page, "continuation": page[0][0] if found[: -self.page] else None}}
        )


def fetch(answer, *bounds, symbol="BTC-DVOL", timeframe="H1", clock="2024-06-01", tries=1):
    waits: list[float] = []
    with http_server(answer) as served:
        network = NetworkSettings(timeout_seconds=5, maximum_tries=tries, backoff_seconds=0)
        source = DeribitVolatilitySource(network, clock=clock_at(clock), sleep=waits.append, address=served.url)
        return source.fetch(request_for(symbol, timeframe, *bounds))


@pytest.mark.network_shape
def test_dvol_pages_join_without_gap_or_double():
    server = Deribit(100)
    data = fetch(server, "2024-01-01 05:00", "2024-01-03")
    assert isinstance(data, Data)
    assert data.bars.index.tolist() == list(pd.date_range("2024-01-01 05:00", "2024-01-02 23:00", freq="h", tz="UTC"))
    assert data.bars["close"].tolist() == [60.5 + k for k in range(5, 48)]
    assert data.volume_kind == "none"
    assert len(server.queries) == 5
    assert server.queries[0]["resolution"] == "3600"
    part = fetch(Deribit(100), "2024-01-01", clock="2024-01-01 03:30")
    assert (len(part.bars), part.unfinished) == (3, 1)
    joined = join_volatility(
        pd.DataFrame({"close": 1.0}, index=data.bars.index),
        H1,
        data.bars.assign(known_at=H1.closes(data.bars.index)),
        prefix="dvol_",
    )
    assert joined["dvol_close"].tolist() == data.bars["close"].tolist()


@pytest.mark.network_shape
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply("<html>blocked</html>"), ProviderError),
        (Reply({"error": {"code": -32602, "message": "Invalid params"}}, status=400), ProviderError),
        (Reply({"result": {"data": [[1, 2]]}}), ProviderError),
    ],
)
def test_what_deribit_may_answer(reply, kind):
    assert isinstance(fetch(lambda path, query: reply, "2024-01-01").error, kind)


@pytest.mark.network_shape
def test_deribit_throttles_and_has_nothing():
    slow = fetch(lambda path, query: Reply({}, status=429, headers={"Retry-After": "7"}), "2024-01-01")
    assert isinstance(slow, Throttled)
    assert slow.retry_after == 7
    assert isinstance(fetch(Deribit(0), "2024-01-01", "2024-01-02"), Empty)
    assert "no volatility index" in str(fetch(Deribit(0), symbol="DOGE-DVOL").error)
    assert "serves no M5" in str(fetch(Deribit(0), timeframe="M5").error)
    assert open_source("deribit", load_settings()).name == "deribit"
