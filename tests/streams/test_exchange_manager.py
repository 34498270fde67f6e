"""REST of many venues through one manager: signatures, secrets, rates, retries, and one set of errors."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from typing import Any
from urllib.parse import parse_qsl

import pandas as pd
import pytest

from tapeline.core.errors import ConfigurationError, ThrottledError
from tapeline.core.exchange_errors import (
    AccessDeniedError,
    CredentialsError,
    InsufficientFundsError,
    MaintenanceError,
    NonceError,
    NotOfferedError,
    RequestRefusedError,
    UnknownSymbolError,
    UnreadableAnswerError,
    VenueUnavailableError,
)
from tapeline.core.settings import Settings
from tapeline.sources.exchange import ExchangeSource
from tapeline.streams.exchange_manager import ExchangeManager
from tapeline.streams.timing import Timing
from tests.streams.loopback import Asked, Reply, Venue
from tests.streams.venues import moved_to, recorded, settings_with

pytestmark = pytest.mark.network_shape

MINUTE = 60_000
KEY, SECRET, PASSWORD = "the-public-key-7", "dGhlLXZlcnktc2VjcmV0LTk=", "the-pass-phrase-5"
MARKETS = {
    "binance": ("spot", "BTCUSDT", "BTC/USDT"),
    "bybit": ("swap", "BTCUSDT", "BTC/USDT:USDT"),
    "kraken": ("spot", "XXBTZUSD", "BTC/USD"),
    "coinbase": ("spot", "BTC-USD", "BTC/USD"),
    "okx": ("spot", "BTC-USDT", "BTC/USDT"),
}


def asked_of(
    exchange: str, answer: Any, ask: Any, *, settings: Settings | None = None, timing: Timing | None = None,
    markets: bool = True,
) -> tuple[Any, Venue]:  # fmt: skip
    """What a call gives, or raises, against a venue that answers so."""
    venue = Venue(answer if callable(answer) else lambda _: answer)

    async def run() -> Any:
        async with venue.serving():
            configure = moved_to(venue, *((MARKETS[exchange],) if markets else ()))
            manager = ExchangeManager(settings or settings_with(), timing=timing, configure=configure)
            manager.bucket(exchange).rate = 1_000.0
            async with manager:
                return await ask(manager)

    return asyncio.run(asyncio.wait_for(run(), 20)), venue


def credentials(exchange: str) -> Settings:
    return settings_with(**{exchange: {"key": KEY, "secret": SECRET, "password": PASSWORD}})


def balance_of(exchange: str):
    return lambda manager: manager.balance(exchange)


def test_binance_signs_its_query_and_the_balance_is_read(test_data) -> None:
    body = recorded(test_data / "api/binance/nautilus/spot/http_json/account_response.json")
    found, venue = asked_of("binance", Reply(body), balance_of("binance"), settings=credentials("binance"))
    asked = next(asked for asked in venue.asked if asked.path == "/api/v3/account")
    signed, _, signature = asked.raw_query.rpartition("&signature=")
    assert signature == hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).hexdigest()
    assert abs(int(dict(parse_qsl(signed))["timestamp"]) / 1000 - pd.Timestamp.now().timestamp()) < 60
    assert asked.headers["X-MBX-APIKEY"] == KEY
    first = body["balances"][0]
    mine = next(each for each in found if each.currency == first["asset"])
    assert (mine.free, mine.used) == (float(first["free"]), float(first["locked"]))
    assert mine.total == pytest.approx(mine.free + mine.used)


def test_bybit_signs_time_key_window_and_query(test_data) -> None:
    wallet = recorded(test_data / "api/bybit/nautilus/http_get_wallet_balance.json")

    def answer(asked: Asked) -> Reply:
        if asked.path == "/v5/account/wallet-balance":
            return Reply(wallet)
        return Reply({"retCode": 0, "retMsg": "OK", "result": {"uta": 1, "unified": 1, "unifiedMarginStatus": 4}})

    found, venue = asked_of("bybit", answer, balance_of("bybit"), settings=credentials("bybit"))
    signed = [asked for asked in venue.asked if "X-BAPI-SIGN" in asked.headers]
    assert {asked.path for asked in signed} >= {"/v5/account/wallet-balance"}
    for asked in signed:
        head = asked.headers
        text = head["X-BAPI-TIMESTAMP"] + KEY + head["X-BAPI-RECV-WINDOW"] + asked.raw_query
        assert head["X-BAPI-SIGN"] == hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        assert head["X-BAPI-API-KEY"] == KEY
    coins = {coin["coin"]: coin for coin in wallet["result"]["list"][0]["coin"]}
    assert {each.currency for each in found} == set(coins)
    assert all(each.total == float(coins[each.currency]["walletBalance"]) for each in found)


def test_kraken_signs_path_and_body_with_the_decoded_secret(test_data) -> None:
    body = recorded(test_data / "api/kraken/nautilus/http_spot_balance.json")
    # The recording is of Balance; BalanceEx, which says what orders hold too, is documented to differ in this only.
    body["result"] = {name: {"balance": total, "hold_trade": "0.5"} for name, total in body["result"].items()}
    found, venue = asked_of("kraken", Reply(body), balance_of("kraken"), settings=credentials("kraken"))
    asked = next(asked for asked in venue.asked if "API-Sign" in asked.headers)
    nonce = dict(parse_qsl(asked.body))["nonce"]
    message = asked.path.encode() + hashlib.sha256((nonce + asked.body).encode()).digest()
    wanted = base64.b64encode(hmac.new(base64.b64decode(SECRET), message, hashlib.sha512).digest()).decode()
    assert asked.headers["API-Sign"] == wanted
    assert asked.headers["API-Key"] == KEY
    assert asked.method == "POST"
    assert sorted(each.total for each in found) == [0.5, 2.0, 200_000.0]
    assert sorted(each.free for each in found) == [0.0, 1.5, 199_999.5]


def test_okx_signs_time_method_path_and_sends_the_passphrase(test_data) -> None:
    body = recorded(test_data / "api/okx/nautilus/http_get_account_balance.json")
    found, venue = asked_of("okx", Reply(body), balance_of("okx"), settings=credentials("okx"))
    asked = venue.asked[-1]
    head = asked.headers
    target = asked.path + (f"?{asked.raw_query}" if asked.raw_query else "")
    text = head["OK-ACCESS-TIMESTAMP"] + asked.method + target + asked.body
    wanted = base64.b64encode(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest()).decode()
    assert head["OK-ACCESS-SIGN"] == wanted
    assert (head["OK-ACCESS-KEY"], head["OK-ACCESS-PASSPHRASE"]) == (KEY, PASSWORD)
    assert {each.currency for each in found} == {each["ccy"] for each in body["data"][0]["details"]}


def test_coinbase_sends_a_token_signed_with_the_private_key(test_data) -> None:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()
    body = recorded(test_data / "api/coinbase/nautilus/http_accounts.json") | {"has_next": False, "cursor": ""}
    for account in body["accounts"]:
        account["type"] = f"ACCOUNT_TYPE_{account['type']}"  # as documented; the recording was cleaned of the prefix
    settings = settings_with(coinbase={"key": "organizations/o/apiKeys/k", "secret": pem})
    found, venue = asked_of("coinbase", Reply(body), balance_of("coinbase"), settings=settings)
    asked = next(asked for asked in venue.asked if "Authorization" in asked.headers)
    head, claims, signature = asked.headers["Authorization"].removeprefix("Bearer ").split(".")
    raw = _unpadded(signature)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    private.public_key().verify(encode_dss_signature(r, s), f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    said = json.loads(_unpadded(claims))
    assert said["sub"] == "organizations/o/apiKeys/k"
    assert said["uri"].endswith(asked.path)
    assert {each.currency for each in found} >= {"BTC"}


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("exchange", ["binance", "bybit", "kraken", "okx"])
def test_secrets_are_in_no_log_no_repr_and_no_error(exchange: str, caplog, capsys) -> None:
    caplog.set_level(logging.DEBUG)
    settings = credentials(exchange)

    def answer(asked: Asked) -> Reply:
        echo = f"denied: {asked.headers} {asked.raw_query} {KEY} {SECRET} {PASSWORD}"
        return Reply({"code": -2015, "msg": echo, "retCode": 10003, "retMsg": echo, "error": [f"EAPI:{echo}"]}, 401)

    async def ask(manager: ExchangeManager) -> tuple[str, str]:
        shown = repr(manager) + repr(manager.open(exchange)) + repr(settings) + settings.model_dump_json()
        try:
            await manager.balance(exchange)
        except Exception as error:
            logging.getLogger("tapeline").exception("failed")
            return shown, f"{error} {error!r} {error.args}"
        return shown, ""

    (shown, said), venue = asked_of(exchange, answer, ask, settings=settings)
    assert said
    written = shown + said + caplog.text + "".join(capsys.readouterr())
    sent = venue.asked[-1]
    signature = parse_qsl(sent.raw_query)[-1][1] if "signature" in sent.raw_query else ""
    signature = signature or next(sent.headers[name] for name in sent.headers if name.upper().endswith("SIGN"))
    for secret in (KEY, SECRET, PASSWORD, signature):
        assert secret not in written


def test_missing_credentials_are_named_before_anything_is_sent() -> None:
    async def ask(manager: ExchangeManager) -> None:
        with pytest.raises(ConfigurationError, match="okx needs the credentials key, secret, password"):
            await manager.balance("okx")

    _, venue = asked_of("okx", Reply({}), ask)
    assert venue.asked == []


_POOR = "Account has insufficient balance for requested action"
ERRORS = [
    ("binance", 400, {"code": -1121, "msg": "Invalid symbol."}, UnknownSymbolError),
    ("binance", 400, {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."}, NonceError),
    ("binance", 401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}, CredentialsError),
    ("binance", 400, {"code": -1022, "msg": "Signature for this request is not valid."}, CredentialsError),
    ("binance", 429, {"code": -1003, "msg": "Too many requests."}, ThrottledError),
    ("binance", 418, {"code": -1003, "msg": "Way too many requests; IP banned."}, ThrottledError),
    ("binance", 400, {"code": -2010, "msg": f"{_POOR}."}, InsufficientFundsError),
    ("binance", 503, "<html>Service Unavailable</html>", VenueUnavailableError),
    ("binance", 403, "<html>Forbidden</html>", RequestRefusedError),
    ("binance", 451, {"code": 0, "msg": "Service unavailable from a restricted location"}, RequestRefusedError),
    ("bybit", 200, {"retCode": 10003, "retMsg": "Invalid apikey"}, CredentialsError),
    ("bybit", 200, {"retCode": 10005, "retMsg": "Permission denied"}, AccessDeniedError),
    ("bybit", 200, {"retCode": 10002, "retMsg": "invalid request, please check your server timestamp"}, NonceError),
    ("bybit", 200, {"retCode": 10006, "retMsg": "Too many visits. Exceeded the API Rate Limit."}, ThrottledError),
    ("bybit", 200, {"retCode": 10016, "retMsg": "Server error."}, VenueUnavailableError),
    ("bybit", 200, {"retCode": 110004, "retMsg": "Wallet balance is insufficient"}, InsufficientFundsError),
    ("kraken", 200, {"error": ["EAPI:Invalid key"]}, CredentialsError),
    ("kraken", 200, {"error": ["EAPI:Invalid nonce"]}, NonceError),
    ("kraken", 200, {"error": ["EGeneral:Permission denied"]}, AccessDeniedError),
    ("kraken", 200, {"error": ["EAPI:Rate limit exceeded"]}, ThrottledError),
    ("kraken", 200, {"error": ["EService:Unavailable"]}, VenueUnavailableError),
    ("kraken", 200, {"error": ["EQuery:Unknown asset pair"]}, UnknownSymbolError),
    ("kraken", 200, {"error": ["EOrder:Insufficient funds"]}, InsufficientFundsError),
    ("coinbase", 401, {"errors": [{"id": "authentication_error", "message": "invalid signature"}]}, CredentialsError),
    ("coinbase", 429, {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}, ThrottledError),
    ("coinbase", 500, {"errors": [{"id": "internal_server_error", "message": "oops"}]}, VenueUnavailableError),
    ("okx", 200, {"code": "50111", "msg": "Invalid OK-ACCESS-KEY", "data": []}, CredentialsError),
    ("okx", 200, {"code": "50011", "msg": "Too Many Requests", "data": []}, ThrottledError),
    ("okx", 200, {"code": "51001", "msg": "Instrument ID does not exist", "data": []}, UnknownSymbolError),
    ("okx", 200, {"code": "50001", "msg": "Service temporarily unavailable", "data": []}, MaintenanceError),
    ("kraken", 200, "<!DOCTYPE html><html>Sign in</html>", UnreadableAnswerError),
]


@pytest.mark.parametrize(("exchange", "status", "body", "kind"), ERRORS)
def test_error_bodies_through_ccxts_own_handlers_become_the_right_class(exchange, status, body, kind) -> None:
    async def ask(manager: ExchangeManager) -> type:
        with pytest.raises(Exception, match=exchange) as caught:
            await manager.server_time(exchange)
        return caught.value

    timing = Timing(sleep=_at_once)
    found, venue = asked_of(exchange, Reply(body, status), ask, timing=timing, settings=_one_try())
    assert type(found) is kind, found
    assert len(venue.asked) == 1


def test_a_recorded_refusal_of_a_key(test_data) -> None:
    body = recorded(test_data / "api/bybit/nautilus/ws_auth_failure.json")

    async def ask(manager: ExchangeManager) -> None:
        with pytest.raises(CredentialsError, match="Invalid apikey"):
            await manager.server_time("bybit")

    asked_of("bybit", Reply(body), ask)


def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_not() -> None:
    replies = iter([Reply("oops", 502), Reply({"error": ["EService:Busy"]}), Reply({"result": {"unixtime": 5}})])
    found, venue = asked_of("kraken", lambda _: next(replies), lambda manager: manager.server_time("kraken"))
    assert found == 5_000_000_000
    assert len(venue.asked) == 3

    async def ask(manager: ExchangeManager) -> None:
        with pytest.raises(CredentialsError):
            await manager.server_time("kraken")

    _, venue = asked_of("kraken", Reply({"error": ["EAPI:Invalid key"]}), ask)
    assert len(venue.asked) == 1


def test_back_off_grows_and_obeys_what_the_venue_asks_for() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def ask(manager: ExchangeManager) -> None:
        with pytest.raises(VenueUnavailableError):
            await manager.server_time("kraken")
        assert waits == [0.5, 1.0]
        venue.answer = lambda _: Reply("", 429, {"Retry-After": "3600"})
        with pytest.raises(ThrottledError) as caught:
            await manager.server_time("kraken")
        assert caught.value.retry_after == 3600.0
        assert len(waits) == 2  # an hour is for the scheduler, not for a held connection
        assert manager.bucket("kraken").paused() > 3_500

    settings = Settings(network={"maximum_tries": 3, "backoff_seconds": 1, "timeout_seconds": 5})
    venue = Venue(lambda _: Reply("", 503))

    async def run() -> None:
        async with venue.serving():
            timing = Timing(sleep=sleep, random=lambda: 0.0)
            async with ExchangeManager(settings, timing=timing, configure=moved_to(venue)) as manager:
                manager.bucket("kraken").rate = 1_000.0
                await ask(manager)

    asyncio.run(asyncio.wait_for(run(), 20))


def test_one_bucket_is_shared_by_all_who_ask_a_venue() -> None:
    async def ask(manager: ExchangeManager) -> None:
        assert manager.open("kraken") is manager.open("kraken")
        bucket = manager.bucket("kraken")
        await asyncio.gather(*(manager.server_time("kraken") for _ in range(3)))
        source = ExchangeSource("kraken", settings_with().network, bucket=bucket)
        source._client.throttle()
        assert bucket.passed == 4
        assert manager.bucket("bybit") is not bucket
        assert ExchangeManager(settings_with()).bucket("kraken").rate == 1.0  # Kraken's published second a call

    asked_of("kraken", Reply({"error": [], "result": {"unixtime": 5}}), ask)


def test_a_429_shuts_the_bucket_for_every_other_caller() -> None:
    async def ask(manager: ExchangeManager) -> float:
        with pytest.raises(ThrottledError):
            await manager.server_time("binance")
        return manager.bucket("binance").paused()

    answer = Reply({"code": -1003, "msg": "Too many requests."}, 429, {"Retry-After": "7"})
    paused, _ = asked_of("binance", answer, ask, settings=_one_try())
    assert 6 < paused <= 7


def test_recorded_answers_of_kraken(test_data) -> None:
    folder = test_data / "api/kraken/nautilus"
    bodies = {
        "AssetPairs": "http_asset_pairs", "OHLC": "http_ohlc", "Trades": "http_trades", "Ticker": "http_ticker",
        "Depth": "http_order_book", "Time": "http_server_time",
    }  # fmt: skip

    def answer(asked: Asked) -> Reply:
        return Reply((folder / f"{bodies[asked.path.rpartition('/')[2]]}.json").read_bytes())

    async def ask(manager: ExchangeManager) -> dict[str, Any]:
        name = (await manager.markets("kraken"))[0].symbol
        return {
            "name": name,
            "bars": await manager.bars("kraken", name, "M1"),
            "trades": await manager.trades("kraken", name),
            "ticker": await manager.ticker("kraken", name),
            "book": await manager.order_book("kraken", name, limit=10),
            "time": await manager.server_time("kraken"),
        }

    now = recorded(folder / "http_ohlc.json")["result"]
    rows = next(iter(now.values()))
    wall = (rows[-1][0] + 30) * 1_000_000_000
    found, _ = asked_of("kraken", answer, ask, timing=Timing(wall=lambda: wall), markets=False)
    assert found["name"] == "BTC/USDT"
    bars = found["bars"]
    assert bars.index.is_monotonic_increasing
    assert bars.index.is_unique
    assert bars.index[-1].value // 10**9 == rows[-2][0]  # the last one still formed, by the clock
    assert bars["close"].iloc[-1] == float(rows[-2][4])
    trades = next(iter(recorded(folder / "http_trades.json")["result"].values()))
    assert [each.id for each in found["trades"]] == [str(row[6]) for row in trades]
    assert [each.price for each in found["trades"]] == [float(row[0]) for row in trades]
    assert found["trades"][0].side == 1
    assert found["ticker"].bid == 105944.2
    assert found["book"].bids[0][0] < found["book"].asks[0][0] == 105944.3
    assert found["time"] == 1_762_820_224_000_000_000


def test_the_bar_that_forms_is_left_out_by_the_clock_read_before_the_question() -> None:
    first = 1_609_459_200_000
    rows = [[first + i * MINUTE, "1", "2", "0.5", "1.5", "3", 0, "0", 1, "0", "0", "0"] for i in range(3)]
    wall = iter([(first + 2 * MINUTE + 30_000) * 10**6, (first + 9 * MINUTE) * 10**6])

    async def ask(manager: ExchangeManager) -> pd.DataFrame:
        return await manager.bars("binance", "BTC/USDT", "M1", start=pd.Timestamp(first, unit="ms", tz="UTC"), limit=3)

    bars, venue = asked_of("binance", Reply(rows), ask, timing=Timing(wall=lambda: next(wall)))
    assert [stamp.value // 10**6 for stamp in bars.index] == [first, first + MINUTE]
    assert venue.asked[-1].query["startTime"] == str(first)
    assert bars.dtypes.eq("float64").all()


def test_what_a_venue_does_not_offer_is_said_before_asking() -> None:
    async def ask(manager: ExchangeManager) -> None:
        with pytest.raises(NotOfferedError, match="no M10 bars"):
            await manager.bars("kraken", "BTC/USD", "M10")
        with pytest.raises(NotOfferedError, match="no stream of bars"):
            manager.stream("coinbase", "bars", ["BTC/USD"], print, timeframe="M1")
        with pytest.raises(ConfigurationError, match="timeframe"):
            manager.stream("kraken", "bars", ["BTC/USD"], print)
        with pytest.raises(ConfigurationError, match="at least one symbol"):
            manager.stream("kraken", "trades", [], print)
        with pytest.raises(ConfigurationError, match="time zone"):
            await manager.trades("kraken", "BTC/USD", start=pd.Timestamp("2020-01-01"))
        with pytest.raises(ConfigurationError, match="did you mean"):
            manager.open("binanse")
        with pytest.raises(ConfigurationError):
            manager.open("__class__")
        assert manager.opened == ["coinbase", "kraken"]

    _, venue = asked_of("kraken", Reply({}), ask)
    assert venue.asked == []


def test_a_test_environment_is_used_where_there_is_one() -> None:
    async def run() -> None:
        settings = settings_with(binance={"sandbox": True}, kraken={"sandbox": True})
        async with ExchangeManager(settings) as manager:
            assert "testnet" in manager.open("binance")._client.urls["api"]["public"]
            with pytest.raises(NotOfferedError, match="kraken has no test environment"):
                manager.open("kraken")

    asyncio.run(run())


def test_closing_closes_every_client_and_opening_again_works() -> None:
    async def ask(manager: ExchangeManager) -> None:
        await manager.server_time("kraken")
        old = manager.open("kraken")
        assert old._client.session is not None
        await manager.close()
        assert old._client.session is None
        assert manager.opened == []
        assert await manager.server_time("kraken") == 5_000_000_000

    asked_of("kraken", Reply({"error": [], "result": {"unixtime": 5}}), ask)


def test_credentials_come_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("TAPELINE_EXCHANGES__BYBIT__KEY", KEY)
    monkeypatch.setenv("TAPELINE_EXCHANGES__BYBIT__SANDBOX", "true")
    found = Settings().exchanges["bybit"]
    assert found.key.get_secret_value() == KEY
    assert found.sandbox
    assert found.secrets() == (KEY,)


async def _at_once(_seconds: float) -> None:
    return None


def _one_try() -> Settings:
    return Settings(network={"maximum_tries": 1, "backoff_seconds": 0, "timeout_seconds": 5})
