"""News to sentiment: a recorded answer, hostile ones, each article once, and known when we had it."""

from __future__ import annotations

import asyncio
import json
import math

import pytest

from tapeline.alerts.engine.kernel import EVENT, VALUE
from tapeline.alerts.feeds.batcher import SECOND, Batcher
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.news import (
    LexiconScorer,
    NewsTaker,
    Scored,
    SymbolMatcher,
    newsapi_fetch,
    parse_newsapi,
    parse_x,
    x_fetch,
)
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.core.errors import ConfigurationError, ProviderError, ThrottledError
from tapeline.streams.timing import Timing

KEYS = ["sentiment:level", "sentiment:change", "sentiment:impact"]
NAMES = {"BTCUSDT": ["bitcoin", "BTC"], "F": ["Ford Motor"]}


class Desk:
    def __init__(self, scorer) -> None:
        self.now = 1_000.0
        numbers = {"BTCUSDT": 0, "F": 1}
        self.batcher = Batcher(numbers, place_of=lambda symbol, key: KEYS.index(key))
        timing = Timing(monotonic=lambda: self.now, wall=lambda: int(self.now * SECOND))
        manager = DataManager(self.batcher, timing=timing)
        for symbol in numbers:
            manager.watch(symbol, [SourceName("binance", symbol)])
        self.taker = NewsTaker("newsapi", manager, parse_newsapi, scorer, NAMES, timing=timing)

    def records(self) -> list[tuple]:
        found = self.batcher.flush(0, force=True)
        if found is None:
            return []
        batch, _ = found
        return [
            (int(symbol), int(ts) // SECOND, KEYS[int(place)], round(float(value), 6), int(code))
            for symbol, ts, value, place, code in zip(*batch, strict=True)
        ]


def newsapi(*articles: dict) -> bytes:
    return json.dumps({"status": "ok", "totalResults": len(articles), "articles": list(articles)}).encode()


def article(title: str, number: int = 0, **more) -> dict:
    published = f"2026-01-02T03:04:{number:02d}Z"
    return {"source": {"name": "Wire"}, "title": title, "url": f"https://x/{number}", "publishedAt": published, **more}


def test_a_headline_moves_its_symbols_series_from_when_we_had_it():
    desk = Desk(LexiconScorer({"surges": 0.75, "fraud": -1.0}))
    desk.taker("bitcoin", newsapi(article("Bitcoin surges", 1), article("Ford Motor: fraud in BTC trade", 2)))
    assert desk.records() == [
        (0, 1_000, "sentiment:level", 0.75, VALUE),
        (0, 1_000, "sentiment:change", 0.0, VALUE),
        (0, 1_000, "sentiment:impact", 0.75, EVENT),
        (1, 1_000, "sentiment:level", -1.0, VALUE),
        (1, 1_000, "sentiment:change", 0.0, VALUE),
        (1, 1_000, "sentiment:impact", 1.0, EVENT),
        (0, 1_000, "sentiment:level", -0.125, VALUE),
        (0, 1_000, "sentiment:change", -0.875, VALUE),
        (0, 1_000, "sentiment:impact", 1.0, EVENT),
    ]


def test_each_article_counts_once_and_what_is_not_usable_is_counted():
    class Odd:
        def score(self, texts):
            return [Scored(math.nan, 0.5) if "odd" in text else None for text in texts]

    desk = Desk(Odd())
    body = newsapi(
        article("bitcoin is odd", 1),
        article("bitcoin rests", 2),
        article("rain", 3),
        article("", 4),
        article("bitcoin", 5, publishedAt="yesterday"),
        article("bitcoin", 6, publishedAt="2026-01-02T03:04:05"),
    )
    desk.taker("q", body)
    desk.now += 60
    desk.taker("q", body)
    counters = desk.taker.counters
    assert (counters.taken, counters.misjudged, counters.unscored, counters.unnamed) == (0, 1, 1, 1)
    assert (counters.duplicates, counters.refused) == (3, 6)
    assert dict(desk.taker.reasons) == {"no address or no title": 2, "a time that cannot be read": 4}
    assert desk.records() == []


def test_the_recorded_answer_of_newsapi(test_data):
    found = parse_newsapi((test_data / "api/newsapi/newsapi.json").read_bytes())
    plain = json.loads((test_data / "api/newsapi/newsapi.json").read_bytes())["articles"]
    assert len(found.articles) + sum(found.refused.values()) == len(plain) == 100
    assert len(found.articles) > 90
    times = [one.published_at for one in found.articles]
    assert times == sorted(times)
    first = next(one for one in found.articles if one.id == plain[0]["url"])
    assert (first.source, first.title) == ("ABC News", plain[0]["title"])
    # 2019-05-19T12:57:27Z
    assert first.published_at == 1_558_270_647 * SECOND


def test_posts_of_x_as_documented():
    posts = [
        {
            "id": "1460323737035677698",
            "text": "$BTC to the moon",
            "created_at": "2026-01-02T03:04:05.000Z",
            "author_id": "7",
        },
        {"id": "x", "text": "bad number", "created_at": "2026-01-02T03:04:05.000Z"},
        {"id": "5", "text": "no time"},
    ]
    found = parse_x(json.dumps({"data": posts, "meta": {"result_count": 3}}).encode())
    assert [(one.id, one.source, one.title) for one in found.articles] == [
        ("x:1460323737035677698", "x:7", "$BTC to the moon")
    ]
    assert found.articles[0].published_at == 1_767_323_045 * SECOND
    assert sum(found.refused.values()) == 2
    assert parse_x(b'{"meta": {"result_count": 0}}').articles == []
    with pytest.raises(ProviderError, match="Unauthorized"):
        parse_x(b'{"title": "Unauthorized", "status": 401}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"status": "error", "code": "apiKeyInvalid", "message": "no"}',
        b'{"status": "ok", "articles": [5]}',
        b'{"status": "ok", "articles": [{"title": NaN}]}',
        b'{"status": "ok", "articles": [{"title": "' + b"a" * 200_000 + b'"}]}',
        newsapi(*[article("x")] * 1_001),
        b"[" * 100_000,
    ],
)
def test_hostile_answers_are_refused(body):
    with pytest.raises(ProviderError):
        parse_newsapi(body)
    with pytest.raises(ProviderError):
        parse_x(body)


def test_a_spent_key_is_asked_again_later():
    with pytest.raises(ThrottledError) as caught:
        parse_newsapi(b'{"status": "error", "code": "rateLimited", "message": "too many"}')
    assert caught.value.retry_after == 3_600.0


def test_names_are_whole_words():
    matcher = SymbolMatcher({"F": ["Ford Motor"], "BTCUSDT": ["BTC"], "XAU": ["Gold"], "GLD": ["gold"]})
    assert matcher.symbols("Golden Fords afford motor oil; abtc") == ()
    assert matcher.symbols("GOLD: ford  MOTOR (BTC)") == ("XAU", "GLD", "F", "BTCUSDT")
    with pytest.raises(ConfigurationError, match="has no word"):
        SymbolMatcher({"A": ["..."]})
    with pytest.raises(ConfigurationError, match="not from -1 to 1"):
        LexiconScorer({"good": 2.0})


def test_what_is_asked_for():
    asked = []

    class Client:
        async def get(self, path, parameters):
            asked.append((path, dict(parameters)))
            return b""

    asyncio.run(newsapi_fetch(Client(), "KEY")("bitcoin"))
    asyncio.run(x_fetch(Client())("$BTC lang:en"))
    assert [path for path, _ in asked] == ["/v2/everything", "/2/tweets/search/recent"]
    assert asked[0][1]["apiKey"] == "KEY"
    assert asked[1][1]["query"] == "$BTC lang:en"
