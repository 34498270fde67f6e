from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import ccxt
import pytest

from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError
from tapeline.core.schemas import OHLCV
from tapeline.core.settings import NetworkSettings
from tapeline.sources.base import Data, Empty, Failed, Throttled
from tapeline.sources.exchange import ExchangeSource
from tests.sources.support import Reply, at, clock_at, http_server, request_for

pytestmark = pytest.mark.network_shape

MINUTE = 60_000
NETWORK = NetworkSettings(timeout_seconds=5, maximum_tries=3, backoff_seconds=1)
EXCHANGE_INFO = {
    "symbols": [
        {
            "symbol": f"{base}USDT",
            "status": "TRADING",
            "baseAsset": base,
            "quoteAsset": "USDT",
            "isSpotTradingAllowed": True,
            "permissions": ["SPOT"],
            "permissionSets": [["SPOT"]],
            "filters": [],
        }
        for base in ("BTC", "ETH")
    ]
}


def kline(ms: int, price: float = 1.0) -> list[Any]:
    text = f"{price:.8f}"
    return [ms, text, text, text, text, "10.0", ms + MINUTE - 1, "10.0", 1, "5.0", "5.0", "0"]


def ms_of(text: str) -> int:
    return int(at(text).timestamp() * 1000)


def binance_at(url: str, network: NetworkSettings = NETWORK) -> ccxt.binance:
    client = ccxt.binance(
        {"timeout": int(network.timeout_seconds * 1000), "options": {"fetchMarkets": {"types": ["spot"]}}}
    )
    client.has["fetchCurrencies"] = False
    client.urls["api"] = dict.fromkeys(client.urls["api"], f"{url}/api")
    return client


class Binance:
    """Speaks ``exchangeInfo`` and ``klines`` as Binance documents them; ``klines`` is scripted by the test."""

    def __init__(self, klines) -> None:
        self.klines = klines
        self.queries: list[dict[str, str]] = []

    def __call__(self, path: str, query: dict[str, str]) -> Reply:
        if path.endswith("/exchangeInfo"):
            return Reply(EXCHANGE_INFO)
        assert path.endswith("/klines"), path
        self.queries.append(query)
        answer = self.klines(query)
        return answer if isinstance(answer, Reply) else Reply(answer)


def history(start: str, count: int, skip: tuple[int, ...] = ()):
    """Klines from a stored series, cut as Binance cuts them: from startTime on, at most ``limit``."""
    first = ms_of(start)
    rows = [kline(first + i * MINUTE, 1 + i) for i in range(count) if i not in skip]

    def answer(query: dict[str, str]) -> list[Any]:
        since = int(query.get("startTime", 0))
        return [row for row in rows if row[0] >= since][: int(query["limit"])]

    return answer


def fetch(
    klines, *request: str | None, clock="2030-01-01", network=NETWORK, timeframe="M1", symbol="BTC/USDT", **options
):
    """The outcome, the server's queries and the waits."""
    waits: list[float] = []
    server = Binance(klines)
    with http_server(server) as served:
        source = ExchangeSource(
            "binance",
            network,
            clock=clock_at(clock),
            sleep=waits.append,
            client=binance_at(served.url, network),
            **options,
        )
        outcome = source.fetch(request_for(symbol, timeframe, *request))
    return outcome, server.queries, waits


def test_pages_overlap_and_join_without_a_double():
    outcome, queries, waits = fetch(history("2021-01-01", 2500), "2021-01-01", "2021-01-02 16:00")
    assert isinstance(outcome, Data)
    assert len(outcome.bars) == 2400
    assert outcome.bars.index.is_unique
    assert outcome.bars["close"].tolist() == [float(i) for i in range(1, 2401)]
    assert [int(q["startTime"]) for q in queries] == [ms_of("2021-01-01") + shift * MINUTE for shift in (0, 999, 1998)]
    assert waits == []
    assert (outcome.source_id, outcome.resume_at, outcome.volume_kind) == ("ccxt:binance", None, "traded")


def test_gaps_stay_gaps():
    outcome, _, _ = fetch(history("2021-01-01", 50, skip=tuple(range(10, 30))), "2021-01-01", "2021-01-01 00:50")
    assert len(outcome.bars) == 30


def test_a_repeated_row_with_other_values_is_kept():
    first = [kline(ms_of("2021-01-01") + i * MINUTE) for i in range(1000)]
    second = [kline(first[-1][0], 7.0), kline(first[-1][0] + MINUTE)]
    outcome, _, _ = fetch(lambda q: first if int(q["startTime"]) < first[-1][0] else second, "2021-01-01", "2021-01-02")
    doubles = outcome.bars[outcome.bars.index.duplicated(keep=False)]
    assert doubles["close"].tolist() == [1.0, 7.0]


def test_a_server_that_ignores_the_start_does_not_loop():
    latest = [kline(ms_of("2021-06-01") + i * MINUTE) for i in range(10)]
    outcome, queries, _ = fetch(lambda q: latest, "2021-01-01", "2021-12-01")
    assert len(outcome.bars) == 10
    assert len(queries) == 2
    assert "begins at 2021-06-01" in outcome.notes[0]


def test_the_walk_is_bounded_and_says_where_to_go_on():
    outcome, queries, _ = fetch(history("2021-01-01", 5000), "2021-01-01", "2021-01-04", maximum_pages=2)
    assert len(queries) == 2
    assert len(outcome.bars) == 1999
    assert outcome.resume_at == outcome.bars.index[-1]
    nothing, queries, _ = fetch(lambda q: [], "2010-01-01", "2020-01-01", maximum_pages=3)
    assert len(queries) == 3
    assert isinstance(nothing.error, ConfigurationError)


def test_an_empty_window_is_stepped_over():
    late = history("2021-01-03", 10)

    def windows(query):
        since = int(query["startTime"])
        return [row for row in late(query) if row[0] < since + 1000 * MINUTE]

    outcome, _, _ = fetch(windows, "2021-01-01", "2021-01-04")
    assert len(outcome.bars) == 10


def test_the_forming_bar_is_dropped_by_the_clock_read_before_the_first_page():
    now = iter([at("2021-01-01 00:09:30"), at("2021-01-01 00:10:30")])
    with http_server(Binance(history("2021-01-01", 10))) as served:
        source = ExchangeSource("binance", NETWORK, clock=lambda: next(now), client=binance_at(served.url))
        outcome = source.fetch(request_for("BTC/USDT", "M1", "2021-01-01"))
    assert outcome.bars.index[-1] == at("2021-01-01 00:08")
    assert outcome.unfinished == 1


def test_without_a_start_one_page_is_served():
    outcome, queries, _ = fetch(history("2021-01-01", 2500))
    assert len(queries) == 1
    assert len(outcome.bars) == 1000
    outcome, queries, _ = fetch(history("2021-01-01", 2500), None, "2021-01-01 20:00")
    assert outcome.bars.index[-1] == at("2021-01-01 19:59")


def test_an_empty_market_is_empty():
    outcome, _, _ = fetch(lambda q: [], "2021-01-01", "2021-01-02")
    assert isinstance(outcome, Empty)
    only_forming, _, _ = fetch(history("2021-01-01", 1), "2021-01-01", clock="2021-01-01 00:00:30")
    assert isinstance(only_forming, Empty)
    assert "1 had not closed yet" in only_forming.reason


def test_cells_that_are_no_number_become_nan_and_a_note():
    row = kline(ms_of("2021-01-01"))
    row[2] = "abc"
    outcome, _, _ = fetch(lambda q: [row], "2021-01-01", "2021-01-01 00:01")
    assert math.isnan(outcome.bars["high"].iloc[0])
    assert outcome.notes == ("1 cells were missing or no numbers, and are NaN",)


def test_a_row_without_time_is_rejected_and_kept():
    row = kline(ms_of("2021-01-01"))
    row[0] = None
    outcome, _, _ = fetch(lambda q: [row])
    assert len(outcome.bars) == 0
    assert json.loads(outcome.rejected["record"][0]) == [None, 1.0, 1.0, 1.0, 1.0, 10.0, 10.0, 1.0, 5.0]


def test_throttling_is_told_with_what_the_server_asked_for():
    reply = Reply({"code": -1003, "msg": "Too many requests."}, 429, {"Retry-After": "7"})
    outcome, queries, waits = fetch(lambda q: reply, "2021-01-01", "2021-01-02")
    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == 7.0
    assert len(queries) == 3
    assert waits == [7.0, 7.0]
    patient, queries, waits = fetch(
        lambda q: Reply({"code": -1003}, 418, {"Retry-After": "3600"}), "2021-01-01", "2021-01-02"
    )
    assert (patient.retry_after, len(queries), waits) == (3600.0, 1, [])


def test_a_passing_failure_heals():
    replies = iter(
        [Reply("<html>Bad Gateway</html>", 502, content_type="text/html"), Reply([kline(ms_of("2021-01-01"))])]
    )
    outcome, _, waits = fetch(lambda q: next(replies), "2021-01-01", "2021-01-01 00:01")
    assert len(outcome.bars) == 1
    assert len(waits) == 1
    assert 0.5 <= waits[0] <= 1.0


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply({"code": -1121, "msg": "Invalid symbol."}, 400), ProviderError, "BadSymbol"),
        (Reply("<html>blocked</html>", 403, content_type="text/html"), ProviderError, "status 403"),
        (Reply({"msg": "restricted location"}, 451), ProviderError, "451"),
        (Reply("<!DOCTYPE html><html>Sign in</html>", content_type="text/html"), ProviderError, "a web page"),
        (Reply("", content_type="text/plain"), ProviderError, "nothing"),
        (Reply('[[1609459200000, "1.0"', content_type="application/json"), ProviderError, "no JSON"),
        (Reply({"code": -1000, "msg": "An unknown error"}, 503), TemporaryError, "OperationFailed"),
    ],
)
def test_failures_are_typed(reply, kind, words):
    outcome, _, _ = fetch(lambda q: reply, "2021-01-01", "2021-01-01 00:05")
    assert isinstance(outcome, Failed), outcome
    assert isinstance(outcome.error, kind)
    assert words in str(outcome.error)


def test_a_slow_server_meets_the_time_out():
    gate = threading.Event()
    network = NetworkSettings(timeout_seconds=0.2, maximum_tries=2, backoff_seconds=0)
    try:
        outcome, queries, _ = fetch(lambda q: Reply(hold=gate), "2021-01-01", "2021-01-02", network=network)
    finally:
        gate.set()
    assert isinstance(outcome.error, TemporaryError)
    assert "RequestTimeout" in str(outcome.error)
    assert len(queries) == 2


def test_a_server_that_is_down_is_temporary():
    with http_server(Binance(None)) as served:
        pass
    source = ExchangeSource("binance", NETWORK, sleep=lambda s: None, client=binance_at(served.url))
    outcome = source.fetch(request_for("BTC/USDT", "M1"))
    assert isinstance(outcome.error, TemporaryError)
    with pytest.raises(TemporaryError):
        source.symbols()


def test_what_the_exchange_cannot_do_is_said_before_asking():
    wrong, queries, _ = fetch(None, symbol="BTCUSDT")
    assert isinstance(wrong.error, ProviderError)
    assert "did you mean BTC/USDT" in str(wrong.error)
    frame, _, _ = fetch(None, timeframe="M10")
    assert isinstance(frame.error, ConfigurationError)
    assert "it has 1s, 1m, 3m" in str(frame.error)
    assert queries == []
    with pytest.raises(ConfigurationError, match="did you mean binance"):
        ExchangeSource("binanse", NETWORK)
    with pytest.raises(ConfigurationError, match="knows no exchange"):
        ExchangeSource("__class__", NETWORK)


def test_an_exchange_without_bars_is_refused():
    with http_server(Binance(None)) as served:
        client = binance_at(served.url)
        client.has["fetchOHLCV"] = "emulated"
        outcome = ExchangeSource("binance", NETWORK, client=client).fetch(request_for("BTC/USDT", "M1"))
    assert isinstance(outcome.error, ConfigurationError)


def test_symbols_are_the_markets():
    with http_server(Binance(None)) as served:
        source = ExchangeSource("binance", NETWORK, client=binance_at(served.url))
        assert source.symbols() == ["BTC/USDT", "ETH/USDT"]


def test_the_time_out_of_the_settings_reaches_the_client():
    source = ExchangeSource("kraken", NetworkSettings(timeout_seconds=3))
    assert source._client.timeout == 3000
    assert source._client.enableRateLimit


def replay(client: Any, answers: dict[str, Path]) -> Any:
    """Let a ccxt client read recorded bodies through its own parsers."""

    def read(url: str, *_: Any) -> Any:
        for part, path in answers.items():
            if part in url:
                return json.loads(path.read_text())
        raise AssertionError(url)

    client.load_time_difference = lambda *_: 0
    client.fetch = read
    client.has["fetchCurrencies"] = False
    return client


def test_recorded_binance(test_data):
    folder = test_data / "api/binance/nautilus_py/http_responses"
    client = replay(
        ccxt.binance({"options": {"fetchMarkets": {"types": ["spot"]}}}),
        {
            "exchangeInfo": folder / "http_spot_market_exchange_info.json",
            "klines": folder / "http_spot_market_klines.json",
        },
    )
    source = ExchangeSource("binance", NETWORK, client=client, clock=clock_at("2022-01-01"))
    bars = source.fetch(request_for("BTC/USDT", "M1")).bars
    recorded = json.loads((folder / "http_spot_market_klines.json").read_text())
    assert len(bars) == len(recorded)
    assert bars.index[0].value // 1_000_000 == recorded[0][0]
    assert bars[list(OHLCV)].iloc[0].tolist() == [float(cell) for cell in recorded[0][1:6]]


def test_recorded_kraken(test_data):
    folder = test_data / "api/kraken/nautilus"
    client = ccxt.kraken()
    client = replay(client, {"AssetPairs": folder / "http_asset_pairs.json", "OHLC": folder / "http_ohlc.json"})
    source = ExchangeSource("kraken", NETWORK, client=client, clock=clock_at("2030-01-01"))
    symbol = next(name for name in source.symbols() if name.endswith("/USDT"))
    bars = source.fetch(request_for(symbol, "M1")).bars
    rows = next(iter(json.loads((folder / "http_ohlc.json").read_text())["result"].values()))
    assert len(rows) == 721  # ccxt hands over the latest 720, Kraken's page
    assert bars.index[0].value // 1_000_000_000 == rows[1][0]
    assert bars["close"].tolist() == [float(row[4]) for row in rows[1:]]


def test_recorded_bybit(test_data, tmp_path):
    folder = test_data / "api/bybit/nautilus"
    # The recording was trimmed of the category, by which ccxt tells linear contracts from inverse ones.
    instruments = json.loads((folder / "http_get_instruments_linear.json").read_text())
    instruments["result"]["category"] = "linear"
    (tmp_path / "instruments.json").write_text(json.dumps(instruments))
    client = replay(
        ccxt.bybit({"options": {"fetchMarkets": {"types": ["linear"]}}}),
        {"instruments-info": tmp_path / "instruments.json", "kline": folder / "http_get_klines_linear.json"},
    )
    source = ExchangeSource("bybit", NETWORK, client=client, clock=clock_at("2030-01-01"))
    bars = source.fetch(request_for("BTC/USDT:USDT", "M1")).bars
    assert bars.index[0].value // 1_000_000 == 1709891679000
    assert bars.iloc[0].tolist() == [27450, 27460, 27440, 27455, 123.45]
