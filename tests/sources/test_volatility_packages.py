"""VIX through the real packages: yfinance's own reader and all of vix_utils, with their servers on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import yfinance

from tapeline.core.errors import DataError
from tapeline.core.settings import NetworkSettings
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import Data
from tapeline.sources.volatility_index import (
    futures_structure,
    join_volatility,
    load_vix_utils,
    read_cboe_history,
    settlement_day,
    term_structure,
    with_known_at,
)
from tapeline.sources.yahoo import YahooSource
from tests.sources.support import Reply, at, clock_at, http_server, request_for

pytestmark = pytest.mark.network_shape
NETWORK = NetworkSettings(timeout_seconds=10, maximum_tries=1, backoff_seconds=0)
M15 = Timeframe.parse("M15")


@pytest.fixture
def history(test_data: Path) -> Path:
    """CBOE's history of VIX, 1990 to 2026."""
    return test_data / "data/vix/data/vix-daily.csv"


def chart_body(test_data: Path, levels: pd.DataFrame) -> dict[str, Any]:
    """Levels in a recorded chart answer, whose keys stay as they are.

    No answer for ``^VIX`` itself was recorded; the shape is that of another series, the numbers are CBOE's of VIX.
    """
    recorded = json.loads((test_data / "api/yahoo/chart_fragments/L1152_json_null_element.json").read_text())
    result = recorded["chart"]["result"][0]
    result["meta"] |= {"symbol": "^VIX", "instrumentType": "INDEX", "currency": "USD", "exchangeName": "CBOE"}
    opens = (levels.index.tz_localize(None) + pd.Timedelta(hours=9, minutes=30)).tz_localize("America/New_York")
    result["timestamp"] = [int(stamp.timestamp()) for stamp in opens]
    quote = {name: levels[name].tolist() for name in ("open", "high", "low", "close")}
    result["indicators"] = {
        "quote": [{**quote, "volume": [0] * len(levels)}],
        "adjclose": [{"adjclose": levels["close"].tolist()}],
    }
    return recorded


@pytest.fixture
def yahoo(monkeypatch, tmp_path):
    """Let yfinance send its requests to an address of ours; give the function that does it."""
    previous = yfinance.config.debug.hide_exceptions
    yfinance.set_tz_cache_location(str(tmp_path))

    def point(url: str) -> YahooSource:
        for module in (yfinance.scrapers.history, yfinance.base):
            monkeypatch.setattr(module, "_BASE_URL_", url)
        # The cookie and the crumb come from other hosts of Yahoo's; they carry no data.
        monkeypatch.setattr(
            yfinance.data.YfData, "_get_cookie_and_crumb", lambda self, *_, **__: ("crumb", "basic"), raising=True
        )
        return YahooSource(NETWORK, clock=clock_at("2025-01-01"), sleep=lambda seconds: None)

    yield point
    yfinance.config.debug.hide_exceptions = previous


def test_vix_by_its_yahoo_symbol_is_cboes_history(test_data, history, yahoo) -> None:
    levels = read_cboe_history(history)[0].loc["2024-06-24":"2024-07-12"]
    body = chart_body(test_data, levels)
    with http_server(lambda path, query: Reply(body)) as served:
        outcome = yahoo(served.url).fetch(request_for("^VIX", "D1", "2024-06-24", "2024-07-13"))
    assert isinstance(outcome, Data), outcome
    assert {unquote(path) for path, _ in served.calls} == {"/v8/finance/chart/^VIX"}
    asked = served.calls[-1][1]
    assert asked["interval"] == "1d"
    assert pd.Timestamp(int(asked["period1"]), unit="s", tz="UTC") <= levels.index[0]
    assert outcome.volume_kind == "none"
    assert outcome.bars.index.tolist() == levels.index.tolist()
    for name in ("open", "high", "low", "close"):
        np.testing.assert_allclose(outcome.bars[name], levels[name], rtol=1e-12)

    known = with_known_at(outcome.bars[["close"]])
    hours = pd.date_range("2024-07-03 19:00", periods=12, freq="15min", tz="UTC", name="ts", unit="ns")
    joined = join_volatility(pd.DataFrame({"close": 1.0}, index=hours), M15, known)["vix_close"]
    # 16:15 in New York is 20:15 UTC in summer: the bar that closes then is the first to see the session's level.
    before, after = levels["close"][at("2024-07-02")], levels["close"][at("2024-07-03")]
    assert joined[: at("2024-07-03 19:45")].tolist() == [before] * 4
    assert joined[at("2024-07-03 20:00") :].tolist() == [after] * 8


@pytest.fixture
def vix_utils(monkeypatch, tmp_path):
    """The package itself with its downloads in a folder of ours."""
    package = pytest.importorskip("vix_utils", reason="the extra 'volatility' is not installed")
    monkeypatch.setattr("vix_utils.vix_cash_term_structure.data_dir", lambda: str(tmp_path))
    return package


def test_the_downloads_of_vix_utils_give_cboes_history(vix_utils, monkeypatch, history) -> None:
    """Its own requests, files and parsers run; only the host is ours. VIX is real, VIX3M is a multiple of it."""
    import aiohttp

    whole, _ = read_cboe_history(history)
    lines = ["DATE,OPEN,HIGH,LOW,CLOSE"]
    prices = zip(whole.index, whole["open"], whole["high"], whole["low"], whole["close"], strict=True)
    rows = [(f"{day:%m/%d/%Y}", *values) for day, *values in prices]
    files = {
        "VIX": "\n".join(lines + [",".join(map(str, row)) for row in rows]),
        "VIX3M": "\n".join(
            lines + [",".join([row[0], *(f"{1.25 * value}" for value in row[1:])]) for row in rows[-50:]]
        ),
    }
    asked: list[str] = []

    def answer(path: str, query: dict[str, str]) -> Reply:
        asked.append(path)
        symbol = path.rsplit("/", 1)[1].removesuffix("_History.csv")
        return Reply(files.get(symbol, "DATE,OPEN,HIGH,LOW,CLOSE" if symbol.startswith("VIX") else "DATE,VALUE"))

    with http_server(answer) as served:

        class Session(aiohttp.ClientSession):
            def get(self, url: Any, **options: Any) -> Any:
                return super().get(str(url).replace("https://cdn.cboe.com", served.url), **options)

        monkeypatch.setattr("vix_utils.vix_cash_term_structure.aiohttp.ClientSession", Session)
        found = load_vix_utils()
    assert "/api/global/us_indices/daily_prices/VIX_History.csv" in asked
    assert list(found) == ["VIX", "VIX3M"]
    pd.testing.assert_frame_equal(found["VIX"], whole, check_freq=False)
    structure = term_structure(found)
    assert structure["slope"].dropna().round(9).unique().tolist() == [0.25]
    assert structure["slope"].notna().sum() == 50
    cash = pd.concat([table.assign(Symbol=name) for name, table in found.items()])
    cash = cash.rename_axis("Trade Date").reset_index()[["Trade Date", "Symbol", "close"]]
    wide = vix_utils.pivot_spot_term_structure_on_symbol(cash)["close"].tail(50)
    ours = structure.tail(50)
    assert (wide["VIX"].to_numpy() == ours["vix"].to_numpy()).all()
    assert (wide["VIX3M"].to_numpy() == ours["vix3m"].to_numpy()).all()


# Final settlement dates that CBOE has published; the exceptions: 2014-03-18 and 2019-03-19 lie on a Tuesday because
# the Friday thirty days later was Good Friday, and 2024-06-18 because the Wednesday was Juneteenth.
SETTLEMENTS = [
    "2014-03-18", "2019-03-19", "2023-12-20", "2024-01-17", "2024-02-14", "2024-05-22", "2024-06-18", "2024-12-18",
]  # fmt: skip


@pytest.mark.parametrize("day", SETTLEMENTS)
def test_the_days_of_settlement_are_those_that_were_published(day) -> None:
    expected = pd.Timestamp(day)
    assert settlement_day(expected.year, expected.month) == expected


@pytest.fixture
def mended(vix_utils, monkeypatch):
    """vix_utils asks with dates whether a day is among instants, which pandas 3 answers with no: ask with instants."""
    from vix_utils import vix_futures_dates

    class Days(pd.Series):
        @property
        def _constructor(self):
            return Days

        def isin(self, values):
            return super().isin([pd.Timestamp(value) for value in values])

    vix_futures_dates.vix_futures_expiry_date_monthly.cache_clear()
    monkeypatch.setattr(vix_futures_dates, "_valid_cfe_days", Days(vix_futures_dates._valid_cfe_days))
    yield vix_utils
    vix_futures_dates.vix_futures_expiry_date_monthly.cache_clear()


def test_the_package_agrees_on_the_settlements_of_twenty_years_once_mended(mended) -> None:
    months = [(year, month) for year in range(2006, 2026, 3) for month in range(1, 13)]
    theirs = [mended.vix_futures_expiry_date_monthly(*month) for month in months]
    ours = [settlement_day(*month).date() for month in months]
    assert [pair for pair in zip(theirs, ours, strict=True) if pair[0] != pair[1]] == []


def futures_of(package, levels: pd.Series) -> pd.DataFrame:
    """A table as its loader gives it: its own calendar of expiries, real levels of VIX in place of settlements."""
    from vix_utils.vix_futures_dates import _vix_futures_trade_dates_and_expiry_dates_for_dates

    calendar = _vix_futures_trade_dates_and_expiry_dates_for_dates(levels.index.tz_localize(None), 3)
    parts = []
    for tenor in (1, 2, 3):
        held = {"Tenor_Days": calendar["Tenor_Days"][tenor], "Expiry": calendar["Expiry"][tenor]}
        settle = levels.to_numpy() * (1 + 0.05 * tenor)
        parts.append(
            pd.DataFrame(held).assign(
                Tenor_Monthly=float(tenor), Settle=settle, Close=settle, Weekly=False, File="f", Tenor_Trade_Days=1
            )
        )
    return pd.concat(parts).rename_axis("Trade Date").reset_index()


@pytest.mark.filterwarnings("ignore:Slicing with a datetime.date")
def test_the_futures_of_vix_utils_and_ours_are_one_term_structure(mended, history) -> None:
    levels = read_cboe_history(history)[0].loc["2024-01-02":"2024-03-28", "close"]
    records = futures_of(mended, levels)
    ours = futures_structure(records)
    theirs = mended.pivot_futures_on_monthly_tenor(records)
    assert ours.index.tz_localize(None).tolist() == theirs.index.tolist() == levels.index.tz_localize(None).tolist()
    np.testing.assert_array_equal(ours["front"], theirs[1.0]["Settle"].astype(float))
    np.testing.assert_array_equal(ours["second"], theirs[2.0]["Settle"].astype(float))
    np.testing.assert_array_equal(ours["front_days"], theirs[1.0]["Tenor_Days"].astype(float))
    expiry = pd.to_datetime(theirs[1.0]["Expiry"])
    assert sorted(expiry.dt.strftime("%Y-%m-%d").unique()) == ["2024-01-17", "2024-02-14", "2024-03-20", "2024-04-17"]
    assert ours["front_days"].min() == 0
    np.testing.assert_allclose(ours["slope"], 1.10 / 1.05 - 1)


@pytest.mark.filterwarnings("ignore:Slicing with a datetime.date")
def test_expiries_that_are_a_day_early_are_refused_instead_of_used(vix_utils, history) -> None:
    levels = read_cboe_history(history)[0].loc["2024-01-02":"2024-01-31", "close"]
    records = futures_of(vix_utils, levels)
    early = pd.to_datetime(records["Expiry"]) != pd.Timestamp("2024-02-14")
    if not early.all():
        pytest.skip("vix_utils knows the days of settlement again")
    with pytest.raises(DataError, match=r"expire on 2024-01-16.*settle on 2024-01-17"):
        futures_structure(records)
