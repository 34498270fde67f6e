"""MetaTrader 5's function error codes, each as an exception of the branch that says who can do something.

Codes and names are those of ``last_error()`` in MetaQuotes' reference of the Python package ("Errors").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tapeline.core.errors import ConfigurationError, ProviderError, TapelineError, TemporaryError


class MetaTraderError(TapelineError):
    """Any failure that the terminal reported; ``code`` is its number, ``None`` where it gave none."""

    code: int | None = None


class GenericFailureError(MetaTraderError, ProviderError):
    """RES_E_FAIL: the call failed, for a reason that the terminal does not name."""

    code = -1


class InvalidParametersError(MetaTraderError, ConfigurationError):
    """RES_E_INVALID_PARAMS: an argument is wrong."""

    code = -2


class NoMemoryError(MetaTraderError, TemporaryError):
    """RES_E_NO_MEMORY: the terminal ran out of memory."""

    code = -3


class NotFoundError(MetaTraderError, ProviderError):
    """RES_E_NOT_FOUND: the terminal has no such history or instrument."""

    code = -4


class InvalidVersionError(MetaTraderError, ConfigurationError):
    """RES_E_INVALID_VERSION: terminal and package do not fit together."""

    code = -5


class AuthorizationFailedError(MetaTraderError, ConfigurationError):
    """RES_E_AUTH_FAILED: login, password or server is wrong."""

    code = -6


class UnsupportedError(MetaTraderError, ConfigurationError):
    """RES_E_UNSUPPORTED: the terminal does not know this call."""

    code = -7


class AutoTradingDisabledError(MetaTraderError, ConfigurationError):
    """RES_E_AUTO_TRADING_DISABLED: algorithmic trading is switched off in the terminal."""

    code = -8


class InternalFailureError(MetaTraderError, TemporaryError):
    """RES_E_INTERNAL_FAIL: the connection between package and terminal failed."""

    code = -10000


class SendFailureError(MetaTraderError, TemporaryError):
    """RES_E_INTERNAL_FAIL_SEND: the request did not reach the terminal."""

    code = -10001


class ReceiveFailureError(MetaTraderError, TemporaryError):
    """RES_E_INTERNAL_FAIL_RECEIVE: the terminal's answer did not arrive."""

    code = -10002


class InitializationFailureError(MetaTraderError, ConfigurationError):
    """RES_E_INTERNAL_FAIL_INIT: no terminal could be found or started."""

    code = -10003


class ConnectionFailureError(MetaTraderError, TemporaryError):
    """RES_E_INTERNAL_FAIL_CONNECT: there is no connection to the terminal."""

    code = -10004


class TimeOutError(MetaTraderError, TemporaryError):
    """RES_E_INTERNAL_FAIL_TIMEOUT: the terminal did not answer in time."""

    code = -10005


_CLASSES: Final = (
    GenericFailureError,
    InvalidParametersError,
    NoMemoryError,
    NotFoundError,
    InvalidVersionError,
    AuthorizationFailedError,
    UnsupportedError,
    AutoTradingDisabledError,
    InternalFailureError,
    SendFailureError,
    ReceiveFailureError,
    InitializationFailureError,
    ConnectionFailureError,
    TimeOutError,
)
ERRORS_BY_CODE: Final[Mapping[int, type[MetaTraderError]]] = {int(kind.code or 0): kind for kind in _CLASSES}
"""Every documented negative code of ``last_error()``."""

_HINTS: Final = {
    -2: "check symbol, timeframe and range",
    -5: "update the terminal and the MetaTrader5 package",
    -6: "check metatrader.login, password and server in the settings",
    -10003: "check metatrader.path; the terminal must be installed on this Windows machine",
    -10004: "start the terminal and log in",
}


class UnknownMetaTraderError(MetaTraderError, ProviderError):
    """A code that MetaQuotes does not document; the message carries it."""


def error_for(last_error: tuple[int, str], call: str) -> MetaTraderError:
    """The exception for what ``last_error()`` gave after ``call`` had failed.

    Examples
    --------
    >>> error = error_for((-6, "Terminal: Authorization failed"), "initialize")
    >>> type(error).__name__, isinstance(error, ConfigurationError)
    ('AuthorizationFailedError', True)
    """
    code, text = int(last_error[0]), str(last_error[1])
    kind = ERRORS_BY_CODE.get(code, UnknownMetaTraderError)
    return kind(f"MetaTrader 5: {call} failed with code {code}: {text}", hint=_HINTS.get(code))
