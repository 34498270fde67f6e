"""The feeds as the settings have them: Binance first, polled sources that stand by, news."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import AlertPolledSettings, AlertSettings, Settings

if TYPE_CHECKING:
    from tapeline.alerts.feeds.news import HeadlineScorer
    from tapeline.alerts.feeds.polling import Poller
    from tapeline.alerts.feeds.source import Source
    from tapeline.streams.http_client import HttpClient

ALPHA_VANTAGE: Final = "alpha_vantage"
YAHOO: Final = "yahoo"
MISSED: Final = 3
"""Answers of a polled source that may be missing before it counts as silent."""
_FRESH: Final = 1.0
_DAY: Final = 86_400.0

Names = Callable[[str], Sequence[SourceName]]
"""The sources of a symbol, the best first."""
Universe = Callable[[], Mapping[str, Mapping[str, str]]]
"""By symbol and source, what the source calls it."""


class NamesWithPolled:
    """The sources of a symbol: those there are without polling, and behind them the polled ones that have it.

    What a polled source calls a symbol stands in the settings or in the universe; the settings win.

    Parameters
    ----------
    names:
        The sources that come before; not asked for ``[alerts] unlisted`` symbols.
    universe:
        Asked at most once a second.

    Examples
    --------
    >>> alerts = AlertSettings(unlisted=("MSFT",), yahoo={"symbols": {"MSFT": "MSFT", "BTCUSDT": "BTC-USD"}})
    >>> names = NamesWithPolled(alerts, lambda symbol: [SourceName("binance", symbol)], dict)
    >>> [[(one.source, one.name) for one in names(symbol)] for symbol in ("BTCUSDT", "MSFT", "ETHUSDT")]
    [[('binance', 'BTCUSDT'), ('yahoo', 'BTC-USD')], [('yahoo', 'MSFT')], [('binance', 'ETHUSDT')]]
    """

    def __init__(
        self, alerts: AlertSettings, names: Names, universe: Universe, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._alerts, self._names, self._universe, self._clock = alerts, names, universe, clock
        self._known: Mapping[str, Mapping[str, str]] = {}
        self._read_at = float("-inf")

    def __call__(self, symbol: str) -> list[SourceName]:
        """The sources of a symbol, the best first."""
        if self._clock() - self._read_at > _FRESH:
            self._known, self._read_at = self._universe(), self._clock()
        found = [] if symbol in self._alerts.unlisted else list(self._names(symbol))
        for source, section in polled(self._alerts):
            name = section.symbols.get(symbol) or self._known.get(symbol, {}).get(source)
            if name is not None:
                count = sum(source in named for named in self._known.values()) + len(section.symbols)
                found.append(SourceName(source, name, MISSED * round_seconds(section, count), own_clock=True))
        return found


def polled(alerts: AlertSettings) -> Iterator[tuple[str, AlertPolledSettings]]:
    """The polled sources that the settings let us ask, the best first."""
    if alerts.alpha_vantage.key is not None:
        yield ALPHA_VANTAGE, alerts.alpha_vantage
    if alerts.yahoo.symbols or alerts.yahoo.enabled:
        yield YAHOO, alerts.yahoo


def round_seconds(section: AlertPolledSettings, count: int) -> float:
    """Seconds between two answers for the same symbol, where so many are asked for.

    Examples
    --------
    >>> round_seconds(AlertPolledSettings(calls_per_day=24), 2)
    7200.0
    """
    return max(section.every_seconds, max(count, 1) * _quota_seconds(section))


def polled_sources(
    settings: Settings, manager: DataManager, clients: Mapping[str, HttpClient] | None = None
) -> list[Source]:
    """What asks Alpha Vantage and Yahoo for the bars of the symbols that the manager watches of them.

    Parameters
    ----------
    clients:
        By source, instead of those that ask the services themselves.
    """
    from tapeline.alerts.feeds import polling
    from tapeline.alerts.feeds.missed_bars import ALPHA_VANTAGE_MONTHS, YAHOO_MINUTES, MissedBars
    from tapeline.alerts.feeds.polled_bars import parse_alpha_vantage, parse_yahoo
    from tapeline.streams.http_client import RequestsClient

    timeout, given = settings.network.timeout_seconds, clients or {}
    made: list[Source] = []
    for source, section in polled(settings.alerts):
        # What a round of questions takes was not missed.
        fresh = max(int(MISSED * round_seconds(section, len(manager.names(source)))), ALPHA_VANTAGE_MONTHS.fresh)
        if source == ALPHA_VANTAGE:
            client = given.get(source) or RequestsClient(polling.ALPHA_VANTAGE, timeout=timeout)
            key = settings.alerts.alpha_vantage.key
            missed = MissedBars(manager, source, replace(ALPHA_VANTAGE_MONTHS, fresh=fresh))
            fetch = polling.alpha_vantage_fetch(client, "" if key is None else key.get_secret_value(), missed=missed)
            parse = parse_alpha_vantage
        else:
            client = given.get(source) or RequestsClient(polling.YAHOO, timeout=timeout)
            missed = MissedBars(manager, source, replace(YAHOO_MINUTES, fresh=fresh))
            fetch, parse = polling.yahoo_fetch(client, missed=missed), parse_yahoo
        taker = polling.BarTaker(source, manager, parse, missed=missed)
        made.append(_poller(source, list(manager.names(source)), fetch, taker, section))
    return made


def news_sources(
    settings: Settings, manager: DataManager, clients: Mapping[str, HttpClient] | None = None
) -> list[Source]:
    """What asks NewsAPI and X for headlines, within their quotas; nothing where there is neither key nor token.

    Raises
    ------
    ConfigurationError
        There is a key or a token, and no questions, names or word list; or the word list cannot be read.
    """
    from tapeline.alerts.feeds import news
    from tapeline.alerts.feeds.polling import Poller, Quota
    from tapeline.streams.http_client import RequestsClient

    wanted, given = settings.alerts.news, clients or {}
    if wanted.key is None and wanted.x_token is None:
        return []
    if not wanted.questions or not wanted.names or wanted.lexicon is None:
        raise ConfigurationError("[alerts.news] has a key and lacks one of questions, names and lexicon")
    scorer, timeout = _scorer(settings), settings.network.timeout_seconds
    made: list[Source] = []
    if wanted.key is not None:
        client = given.get("newsapi") or RequestsClient(news.NEWSAPI, timeout=timeout)
        fetch = news.newsapi_fetch(client, wanted.key.get_secret_value())
        taker = news.NewsTaker("newsapi", manager, news.parse_newsapi, scorer, wanted.names)
        quota = Quota([(wanted.calls_per_day, _DAY)])
        made.append(Poller("newsapi", wanted.questions, fetch, taker, quota, every=wanted.every_seconds))
    if wanted.x_token is not None:
        headers = {"Authorization": f"Bearer {wanted.x_token.get_secret_value()}"}
        client = given.get("x") or RequestsClient(news.X, timeout=timeout, headers=headers)
        taker = news.NewsTaker("x", manager, news.parse_x, scorer, wanted.names)
        quota = Quota([(wanted.x_calls_per_day, _DAY)])
        questions = wanted.x_questions or wanted.questions
        made.append(Poller("x", questions, news.x_fetch(client), taker, quota, every=wanted.every_seconds))
    return made


def _scorer(settings: Settings) -> HeadlineScorer:
    from tapeline.alerts.feeds.news import LexiconScorer

    path = settings.root / (settings.alerts.news.lexicon or "")
    try:
        weights = {str(word): float(weight) for word, weight in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"the word list {path} cannot be read: {error}", hint='{"surges": 0.5}') from None
    return LexiconScorer(weights)


def _poller(source: str, names: Sequence[str], fetch: object, taker: object, section: AlertPolledSettings) -> Poller:
    from tapeline.alerts.feeds.polling import Poller, Quota

    limits = [(section.calls_per_minute, 60.0), (section.calls_per_day, _DAY)]
    return Poller(source, names, fetch, taker, Quota(limits), every=section.every_seconds)  # type: ignore[arg-type]


def _quota_seconds(section: AlertPolledSettings) -> float:
    return max(60.0 / section.calls_per_minute, _DAY / section.calls_per_day)
