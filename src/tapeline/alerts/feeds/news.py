"""News: articles of NewsAPI and posts of X, scored, to the sentiment series of the symbols that they name.

An article counts from the instant at which we had it, not from that at which it was published: nobody could act on it
before. Which words name which symbol, and what a text is worth, is given from outside.
"""

from __future__ import annotations

import math
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple, Protocol

from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.polled_bars import decoded, said
from tapeline.alerts.feeds.polling import Fetch
from tapeline.alerts.kinds.sentiment import Headline, SentimentFeed
from tapeline.core.errors import ConfigurationError, ProviderError, ThrottledError
from tapeline.streams.http_client import HttpClient
from tapeline.streams.messages import msgspec
from tapeline.streams.timing import Timing

NEWSAPI: Final = "https://newsapi.org"
NEWSAPI_FREE: Final = ((100, 86_400.0),)
"""Its developer key: calls and the seconds in which they fall."""
X: Final = "https://api.x.com"
MAXIMUM_TEXT: Final = 2_000
MAXIMUM_ARTICLES: Final = 1_000
REMEMBERED: Final = 50_000
_WORD: Final = re.compile(r"\w+", re.UNICODE)


class Article(NamedTuple):
    """One article or post. ``published_at`` is nanoseconds since 1970 in UTC, as its publisher says."""

    id: str
    source: str
    published_at: int
    title: str
    text: str


class Articles(NamedTuple):
    """What an answer held, the oldest first, and why others were refused."""

    articles: list[Article]
    refused: Counter[str]


class Scored(NamedTuple):
    """What a text is worth: ``score`` from -1 (bad for the price) to 1, ``impact`` from 0 to 1."""

    score: float
    impact: float


class HeadlineScorer(Protocol):
    """Judges texts: a word list, a model."""

    def score(self, texts: Sequence[str]) -> Sequence[Scored | None]:
        """One judgement a text; None where it has none."""
        ...


class LexiconScorer:
    """Scores by a list of words: the mean of the weights of those that occur, and as impact the largest of them.

    Parameters
    ----------
    weights:
        By word, from -1 to 1. There is no list here: take one made for the language and the market of the news, such
        as that of Loughran and McDonald (Journal of Finance 66, 2011, 35-65).

    Examples
    --------
    >>> LexiconScorer({"surges": 0.75, "fraud": -1.0, "lawsuit": -0.5}).score(["Fraud lawsuit", "Rain"])
    [Scored(score=-0.75, impact=1.0), None]
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        for word, weight in weights.items():
            if not -1.0 <= weight <= 1.0:
                raise ConfigurationError(f"the weight {weight} of {word!r} is not from -1 to 1")
        self._weights = {word.casefold(): weight for word, weight in weights.items()}

    def score(self, texts: Sequence[str]) -> list[Scored | None]:
        """See :class:`HeadlineScorer`."""
        found: list[Scored | None] = []
        for text in texts:
            words = _words(text)
            hits = [self._weights[word] for word in words if word in self._weights]
            found.append(Scored(sum(hits) / len(hits), max(map(abs, hits))) if hits else None)
        return found


class SymbolMatcher:
    """Which symbols a text names: whole words, or the sequence of words that a name consists of.

    Parameters
    ----------
    names:
        By symbol, what it is called.

    Examples
    --------
    >>> SymbolMatcher({"BTCUSDT": ["Bitcoin", "BTC"], "F": ["Ford Motor"]}).symbols("BTC beats Ford; bitcoins wait")
    ('BTCUSDT',)
    """

    def __init__(self, names: Mapping[str, Iterable[str]]) -> None:
        self._symbols: dict[tuple[str, ...], list[str]] = {}
        for symbol, some in names.items():
            for name in some:
                words = tuple(_words(name))
                if not words:
                    raise ConfigurationError(f"{name!r} of {symbol} has no word")
                self._symbols.setdefault(words, []).append(symbol)
        self._lengths = sorted({len(words) for words in self._symbols})

    def symbols(self, text: str) -> tuple[str, ...]:
        """The symbols, each once, in the order in which the text names them."""
        words = _words(text)
        found: dict[str, None] = {}
        for at in range(len(words)):
            for length in self._lengths:
                found.update(dict.fromkeys(self._symbols.get(tuple(words[at : at + length]), ())))
        return tuple(found)


@dataclass
class NewsCounters:
    """``unnamed`` texts are of no symbol here, ``unscored`` ones have no judgement, ``misjudged`` ones a wrong one."""

    taken: int = 0
    duplicates: int = 0
    unnamed: int = 0
    unscored: int = 0
    misjudged: int = 0
    refused: int = 0


class NewsTaker:
    """Takes answers that hold news: each article once, to the sentiment series of its symbols.

    Give it to a :class:`~tapeline.alerts.feeds.polling.Poller`, whose targets are then questions.

    Parameters
    ----------
    parse:
        ``parse_newsapi`` or ``parse_x``.
    names:
        By symbol, what it is called.
    """

    def __init__(
        self,
        name: str,
        manager: DataManager,
        parse: Any,
        scorer: HeadlineScorer,
        names: Mapping[str, Iterable[str]],
        *,
        feed: SentimentFeed | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.name, self.manager, self.timing = name, manager, timing or Timing()
        self.counters, self.reasons = NewsCounters(), Counter[str]()
        self._parse, self._scorer, self._matcher = parse, scorer, SymbolMatcher(names)
        self._feed = feed or SentimentFeed()
        self._seen: OrderedDict[str, None] = OrderedDict()

    def __call__(self, question: str, body: bytes) -> None:
        """Take the answer to a question."""
        found: Articles = self._parse(body)
        self.counters.refused += sum(found.refused.values())
        self.reasons.update(found.refused)
        fresh = [article for article in found.articles if self._is_new(article)]
        texts = [f"{article.title} {article.text}"[:MAXIMUM_TEXT] for article in fresh]
        now = self.timing.wall()
        for article, text, scored in zip(fresh, texts, self._scorer.score(texts), strict=True):
            symbols = self._matcher.symbols(text)
            if not symbols:
                self.counters.unnamed += 1
            elif scored is None:
                self.counters.unscored += 1
            elif not (-1.0 <= scored.score <= 1.0 and 0.0 <= scored.impact <= 1.0):
                self.counters.misjudged += 1
            else:
                self.counters.taken += 1
                headline = Headline(now, symbols, article.source, article.title, scored.score, scored.impact)
                for record in self._feed.push(headline):
                    if not math.isnan(record.value):
                        self.manager.value(
                            record.symbol, record.key, record.ts, record.value, event=record.event, source=self.name
                        )

    def _is_new(self, article: Article) -> bool:
        if article.id in self._seen:
            self.counters.duplicates += 1
            return False
        self._seen[article.id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return True


def newsapi_fetch(client: HttpClient, key: str, *, language: str = "en") -> Fetch:
    """Ask ``/v2/everything``, the newest first."""

    async def fetch(question: str) -> bytes:
        wanted = {"q": question, "language": language, "sortBy": "publishedAt", "pageSize": "100", "apiKey": key}
        return await client.get("/v2/everything", wanted)

    return fetch


def x_fetch(client: HttpClient) -> Fetch:
    """Ask ``/2/tweets/search/recent``; the client carries the bearer token in its header."""

    async def fetch(question: str) -> bytes:
        wanted = {"query": question, "max_results": "100", "tweet.fields": "created_at,author_id"}
        return await client.get("/2/tweets/search/recent", wanted)

    return fetch


def parse_newsapi(body: bytes) -> Articles:
    """The articles of an answer of ``/v2/everything`` or ``/v2/top-headlines``; the address tells them apart.

    Raises
    ------
    ThrottledError
        The key's quota is spent.
    ProviderError
        The service refuses, or the body is not of its form.
    """
    answer: _NewsAnswer = decoded(_NEWS, body, "NewsAPI")
    if answer.status != "ok":
        if answer.code in ("rateLimited", "apiKeyExhausted"):
            raise ThrottledError(f"NewsAPI: {answer.code}", retry_after=3_600.0)
        raise ProviderError(f"NewsAPI: {said(answer.code)}: {said(answer.message)}")
    found: list[Article] = []
    refused = Counter[str]()
    for one in answer.articles:
        published, source = _instant(one.publishedAt), one.source.name if one.source else None
        if published is None:
            refused["a time that cannot be read"] += 1
        elif not one.url or not one.title:
            refused["no address or no title"] += 1
        else:
            text = (one.description or "")[:MAXIMUM_TEXT]
            found.append(Article(one.url, (source or "")[:100], published, one.title[:MAXIMUM_TEXT], text))
    return Articles(sorted(found, key=lambda one: (one.published_at, one.id)), refused)


def parse_x(body: bytes) -> Articles:
    """The posts of an answer of ``/2/tweets/search/recent``, as its documentation of version 2 describes it.

    Raises
    ------
    ProviderError
        The service refuses, or the body is not of its form.
    """
    answer: _XAnswer = decoded(_X, body, "X")
    if answer.data is None and answer.meta is None:
        raise ProviderError(f"X: {said(answer.title or answer.errors)}")
    found: list[Article] = []
    refused = Counter[str]()
    for one in answer.data or []:
        published = _instant(one.created_at)
        if published is None:
            refused["a time that cannot be read"] += 1
        elif not one.id.isdecimal() or not one.text:
            refused["no number or no text"] += 1
        else:
            author = f"x:{one.author_id or ''}"[:100]
            found.append(Article(f"x:{one.id}", author, published, one.text[:MAXIMUM_TEXT], ""))
    return Articles(sorted(found, key=lambda one: (one.published_at, one.id)), refused)


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _instant(text: str | None) -> int | None:
    """A time with its zone as nanoseconds since 1970; None where it is none."""
    try:
        stamp = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    if stamp.tzinfo is None or not 1970 <= stamp.year < 2200:
        return None
    return round(stamp.timestamp() * 1_000) * 1_000_000


_Long = Annotated[str, msgspec.Meta(max_length=100_000)]


class _NewsSource(msgspec.Struct):
    name: _Long | None = None


class _NewsArticle(msgspec.Struct):
    source: _NewsSource | None = None
    title: _Long | None = None
    description: _Long | None = None
    url: _Long | None = None
    publishedAt: _Long | None = None  # noqa: N815 - the service's spelling


class _NewsAnswer(msgspec.Struct):
    status: str
    code: str | None = None
    message: _Long | None = None
    articles: Annotated[list[_NewsArticle], msgspec.Meta(max_length=MAXIMUM_ARTICLES)] = msgspec.field(
        default_factory=list
    )


class _Post(msgspec.Struct):
    id: _Long
    text: _Long
    created_at: _Long | None = None
    author_id: _Long | None = None


class _XAnswer(msgspec.Struct):
    data: Annotated[list[_Post], msgspec.Meta(max_length=MAXIMUM_ARTICLES)] | None = None
    meta: dict[str, Any] | None = None
    title: _Long | None = None
    errors: Any = None


_NEWS: Final = msgspec.json.Decoder(_NewsAnswer)
_X: Final = msgspec.json.Decoder(_XAnswer)
