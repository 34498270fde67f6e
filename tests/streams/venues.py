"""Venues of ccxt moved to the loopback interface: same paths, same parsers, same signatures, another host."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tapeline.core.settings import Settings
from tests.streams.loopback import Venue

_HOST = re.compile(r"^(https?|wss?)://[^/]+")


def relocated(urls: Any, venue: Venue) -> Any:
    """Every address of a tree of addresses, its host replaced."""
    if isinstance(urls, dict):
        return {name: relocated(each, venue) for name, each in urls.items()}
    if isinstance(urls, str):
        return _HOST.sub(lambda found: venue.ws if found[1].startswith("ws") else venue.http, urls)
    return urls


def moved_to(venue: Venue, *markets: tuple[str, str, str]) -> Callable[[Any], None]:
    """What ``configure`` does in a test; ``markets`` are ``(type, the venue's id, symbol)``."""

    def configure(client: Any) -> None:
        client.urls["api"] = relocated(client.urls["api"], venue)
        client.has["fetchCurrencies"] = False
        client.options["fetchMarkets"] = {"types": ["spot"]} if client.id.startswith("binance") else ["spot"]
        if client.id == "bybit":
            client.options["fetchMarkets"] = {"types": ["linear"]}
        client.rateLimit = 1
        if markets and not client.markets:
            client.set_markets([_market(client, *each) for each in markets])

    return configure


def _market(client: Any, kind: str, number: str, symbol: str) -> dict[str, Any]:
    base, _, rest = symbol.partition("/")
    quote, _, settle = rest.partition(":")
    return client.safe_market_structure(
        {
            "id": number, "lowercaseId": number.lower(), "symbol": symbol, "base": base, "quote": quote,
            "settle": settle or None, "baseId": base, "quoteId": quote, "type": kind,
            "spot": kind == "spot", "swap": kind == "swap",
            "future": False, "option": False, "contract": kind != "spot", "linear": kind == "swap" or None,
            "inverse": False if kind == "swap" else None, "active": True, "contractSize": 1 if kind == "swap" else None,
            "precision": {"amount": 1e-8, "price": 1e-8}, "limits": {},
        }
    )  # fmt: skip


def settings_with(**exchanges: dict[str, Any]) -> Settings:
    """Settings with credentials and without waits."""
    network = {"timeout_seconds": 5, "maximum_tries": 3, "backoff_seconds": 0}
    return Settings(exchanges=exchanges, network=network)  # type: ignore[arg-type]


def recorded(path: Path) -> Any:
    """A recorded JSON body."""
    return json.loads(path.read_text())
