"""One taxonomy of what goes wrong at an exchange: every exception of ccxt is exactly one error of Tapeline.

Whoever talks to a venue, by REST or by stream, through ccxt or not, raises these. The branch of
:mod:`tapeline.core.errors` that a class stands in says who can help: time, a person, or nobody.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tapeline.core.errors import ConfigurationError, ProviderError, TapelineError, TemporaryError, ThrottledError

THROTTLED_STATUS: Final = (418, 429)
"""Too many requests; Binance answers 418 to who goes on after a 429."""

MESSAGE_LENGTH: Final = 300
_TEMPORARY_STATUS: Final = (408, 425)
_SIGNATURE: Final = re.compile(r"(?i)(sign(?:ature)?=)[^&\s'\"]+")
_QUERY: Final = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*")
_HIDDEN: Final = "***"


class CredentialsError(ConfigurationError):
    """The venue does not know the key, or the signature made with the secret is wrong."""


class AccessDeniedError(ConfigurationError):
    """The venue knows the key, but it may not do this: a permission, an account that is not enabled or suspended."""


class NotOfferedError(ConfigurationError):
    """The venue, or ccxt for it, does not have what was asked for."""


class UnknownSymbolError(ProviderError):
    """The venue lists no such market."""


class RequestRefusedError(ProviderError):
    """The venue understood the request and refuses it: wrong arguments, a closed market, a forbidden country."""


class OrderRefusedError(ProviderError):
    """The venue refuses the order itself."""


class InsufficientFundsError(ProviderError):
    """The account cannot pay for it."""


class UnreadableAnswerError(ProviderError):
    """The service answered with something that is not JSON, most often a web page of a proxy or a firewall."""


class VenueUnavailableError(TemporaryError):
    """The network or the venue failed; whether it did what was asked is unknown where it could change anything."""


class MaintenanceError(VenueUnavailableError):
    """The venue says that it is being maintained."""


class NonceError(TemporaryError):
    """The number or the time in a signed request was not accepted: most often our clock and the venue's differ."""


class BookChecksumError(TemporaryError):
    """A book kept from deltas no longer has the venue's checksum; a new snapshot heals it."""


class StreamEndedError(TemporaryError):
    """A stream was closed or unsubscribed on our side while something waited for it."""


OF_CCXT: Final[Mapping[str, type[TapelineError]]] = {
    "BaseError": ProviderError,
    "ExchangeError": ProviderError,
    "AuthenticationError": CredentialsError,
    "PermissionDenied": AccessDeniedError,
    "AccountNotEnabled": AccessDeniedError,
    "AccountSuspended": AccessDeniedError,
    "ArgumentsRequired": ConfigurationError,
    "BadRequest": RequestRefusedError,
    "BadSymbol": UnknownSymbolError,
    "OperationRejected": RequestRefusedError,
    "NoChange": RequestRefusedError,
    "MarginModeAlreadySet": RequestRefusedError,
    "MarketClosed": RequestRefusedError,
    "ManualInteractionNeeded": AccessDeniedError,
    "RestrictedLocation": RequestRefusedError,
    "InsufficientFunds": InsufficientFundsError,
    "InvalidAddress": ConfigurationError,
    "AddressPending": VenueUnavailableError,
    "InvalidOrder": OrderRefusedError,
    "OrderNotFound": OrderRefusedError,
    "OrderNotCached": OrderRefusedError,
    "OrderImmediatelyFillable": OrderRefusedError,
    "OrderNotFillable": OrderRefusedError,
    "DuplicateOrderId": OrderRefusedError,
    "ContractUnavailable": OrderRefusedError,
    "NotSupported": NotOfferedError,
    "InvalidProxySettings": ConfigurationError,
    "ExchangeClosedByUser": StreamEndedError,
    "OperationFailed": VenueUnavailableError,
    "NetworkError": VenueUnavailableError,
    "DDoSProtection": ThrottledError,
    "RateLimitExceeded": ThrottledError,
    "ExchangeNotAvailable": VenueUnavailableError,
    "OnMaintenance": MaintenanceError,
    "InvalidNonce": NonceError,
    "ChecksumError": BookChecksumError,
    "RequestTimeout": VenueUnavailableError,
    "BadResponse": UnreadableAnswerError,
    "NullResponse": UnreadableAnswerError,
    "CancelPending": VenueUnavailableError,
    "UnsubscribeError": StreamEndedError,
}
"""By the name of ccxt's class. A class that ccxt adds is found by its nearest base until it has its own line."""

_REFINED: Final[Mapping[str, Mapping[str, str]]] = {
    # Bybit v5, "Error Codes": server error; Kraken, "General Errors".
    "bybit": {"10016": "ExchangeNotAvailable"},
    "kraken": {"EQuery:Unknown asset pair": "BadSymbol"},
}

_HINTS: Final[Mapping[type[TapelineError], str]] = {
    CredentialsError: "check 'exchanges.<name>' in the settings: key, secret, password, token, sandbox",
    AccessDeniedError: "the venue's web page says what the key and the account may do",
    UnknownSymbolError: "the markets of the exchange list its symbols",
    NonceError: "compare this machine's clock with the venue's",
    MaintenanceError: "the venue's status page says until when",
    VenueUnavailableError: "the network or the exchange; try again",
    BookChecksumError: "subscribe again",
}


def exchange_error(
    error: BaseException,
    venue: str,
    *,
    status: int | None = None,
    retry_after: float | None = None,
    secrets: Iterable[str] = (),
) -> TapelineError:
    """The one error of Tapeline that an exception from a venue's client is.

    Parameters
    ----------
    error:
        What ccxt, or the HTTP library below it, raised. An error of Tapeline is returned as it is.
    venue:
        How messages begin.
    status, retry_after:
        The HTTP status of the answer, and the seconds that its ``Retry-After`` asked for, where there were any. A
        status of 429 or 418 is throttling whatever ccxt calls it. Where ccxt says no more than that something failed,
        401 is about credentials, another 4xx a refusal, which does not heal by itself, and 5xx a venue that is down.
    secrets:
        Texts that must not appear in the message. Queries of addresses, where venues put signatures, are cut too.

    Examples
    --------
    >>> exchange_error(TimeoutError("no answer"), "kraken").message
    'kraken: TimeoutError: no answer'
    >>> found = exchange_error(ValueError("https://x.org/a?apiKey=k&signature=s said k"), "x", secrets=["said"])
    >>> found.message
    'x: ValueError: https://x.org/a *** k'
    """
    if isinstance(error, TapelineError):
        return error
    message = f"{venue}: {type(error).__name__}: {redact(str(error), secrets)}"
    kind = _kind_of(error)
    if kind is ThrottledError or status in THROTTLED_STATUS:
        wait = "later" if retry_after is None else f"in {retry_after:g} s"
        return ThrottledError(message, retry_after=retry_after, hint=f"try again {wait}")
    if status == 401 and kind in (ProviderError, VenueUnavailableError):
        kind = CredentialsError
    if status is not None and status >= 500 and kind is ProviderError:
        kind = VenueUnavailableError
    refused = status is not None and 400 <= status < 500 and status not in _TEMPORARY_STATUS
    if refused and kind in (VenueUnavailableError, ProviderError, UnreadableAnswerError):
        return RequestRefusedError(message, hint=f"the server refused with HTTP status {status}")
    return kind(message, hint=_HINTS.get(kind))


def refine(client: Any) -> None:
    """Teach a client of ccxt the codes of its venue that ccxt reads as no more than "something failed"."""
    import ccxt

    known = client.exceptions.get("exact", {})
    for code, name in _REFINED.get(client.id, {}).items():
        known[code] = getattr(ccxt, name)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """One short line without secrets and without the queries of addresses.

    Examples
    --------
    >>> redact("GET https://api.example.org/v1/account?signature=abc failed for key-1", ["key-1"])
    'GET https://api.example.org/v1/account failed for ***'
    """
    line = " ".join(text.split())
    # The longest first: a secret may be a part of another.
    for secret in sorted((secret for secret in secrets if secret), key=len, reverse=True):
        line = line.replace(secret, _HIDDEN)
    return _SIGNATURE.sub(rf"\1{_HIDDEN}", _QUERY.sub(r"\1", line))[:MESSAGE_LENGTH]


def retry_after_of(headers: Mapping[str, str] | None) -> float | None:
    """The ``Retry-After`` header in seconds (RFC 9110, 10.2.3); dates and nonsense are None.

    Examples
    --------
    >>> retry_after_of({"retry-after": "7"}), retry_after_of({"Retry-After": "soon"}), retry_after_of(None)
    (7.0, None, None)
    """
    for name, text in (headers or {}).items():
        if name.lower() == "retry-after":
            try:
                seconds = float(text)
            except ValueError:
                return None
            return seconds if math.isfinite(seconds) and seconds >= 0 else None
    return None


def _kind_of(error: BaseException) -> type[TapelineError]:
    for base in type(error).__mro__:
        # ccxt's classes by name, so that this module needs no import of ccxt; others may share a name with none.
        if base.__module__.startswith("ccxt.") and base.__name__ in OF_CCXT:
            return OF_CCXT[base.__name__]
    if isinstance(error, OSError | TimeoutError):
        return VenueUnavailableError
    return ProviderError
