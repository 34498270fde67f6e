"""What venues list, read from their answers: instruments and what the venue calls them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tapeline.alerts.feeds.source_names import canonical
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.symbol import Symbol

LARGEST_ANSWER: Final = 64 * 2**20
MOST_LISTED: Final = 50_000
_OWN_NAMES: Final = MappingProxyType({"XBT": "BTC", "XDG": "DOGE"})
"""Kraken's own names of two currencies ("Asset naming" in its documentation)."""


class Listing(NamedTuple):
    """One instrument at one venue: our symbol, the venue's name, what is traded for what, whether it trades."""

    symbol: str
    name: str
    base: str
    quote: str
    asset_class: str
    trading: bool


def read_listings(venue: str, body: bytes) -> list[Listing]:
    """The instruments of a venue's answer: ``exchangeInfo`` of Binance, ``AssetPairs`` of Kraken, Coinbase's products.

    Raises
    ------
    DataError
        The answer cannot be read, names an instrument in a way that no name can have, or names one twice.
    ConfigurationError
        No such venue is known.

    Examples
    --------
    >>> body = b'{"result": {"XXBTZUSD": {"wsname": "XBT/USD", "altname": "XBTUSD", "status": "online"}}}'
    >>> read_listings("kraken", body)
    [Listing(symbol='BTCUSD', name='XBT/USD', base='BTC', quote='USD', asset_class='crypto', trading=True)]
    """
    reader = _READERS.get(venue)
    if reader is None:
        raise ConfigurationError(f"no listings of {venue!r} can be read", hint=f"one of {', '.join(_READERS)}")
    if len(body) > LARGEST_ANSWER:
        raise DataError(f"an answer of {len(body)} bytes is larger than {LARGEST_ANSWER}")
    try:
        found = reader(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"the listings of {venue} cannot be read: {type(error).__name__}: {error}") from None
    except ConfigurationError as error:
        raise DataError(f"the listings of {venue}: {error.message}") from None
    if len(found) > MOST_LISTED:
        raise DataError(f"{len(found)} listings are more than {MOST_LISTED}")
    for field in ("symbol", "name"):
        names = [getattr(one, field) for one in found]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"the listings of {venue} have {twice!r} twice")
    return found


def _binance(answer: Mapping[str, Any]) -> list[Listing]:
    return [
        _listing(one["symbol"], one["baseAsset"], one["quoteAsset"], one["status"] == "TRADING", name=one["symbol"])
        for one in answer["symbols"]
    ]


def _kraken(answer: Mapping[str, Any]) -> list[Listing]:
    found = []
    for one in answer["result"].values():
        base, _, quote = one["wsname"].partition("/")
        base, quote = _OWN_NAMES.get(base, base), _OWN_NAMES.get(quote, quote)
        trading = one.get("status", "online") == "online"
        made = _listing(f"{base}{quote}", base, quote, trading, name=one["wsname"])
        tokenized = one.get("aclass_base", "currency") != "currency"
        found.append(made._replace(asset_class="tokenized") if tokenized else made)
    return found


def _coinbase(answer: Any) -> list[Listing]:
    products = answer["products"] if isinstance(answer, dict) else answer
    found = []
    for one in products:
        base = one.get("base_currency_id") or one.get("base_currency") or one["product_id"].partition("-")[0]
        quote = one.get("quote_currency_id") or one["quote_currency"]
        trading = not one.get("trading_disabled", False) and one.get("status", "online") == "online"
        found.append(_listing(f"{base}{quote}", base, quote, trading, name=one.get("product_id") or one["id"]))
    return found


def _listing(symbol: str, base: str, quote: str, trading: bool, *, name: str) -> Listing:
    return Listing(
        canonical(symbol), str(Symbol.parse(name)), str(Symbol.parse(base)), str(Symbol.parse(quote)), "crypto", trading
    )


_READERS: Final[Mapping[str, Callable[[Any], list[Listing]]]] = MappingProxyType(
    {"binance": _binance, "kraken": _kraken, "coinbase": _coinbase}
)
