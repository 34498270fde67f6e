"""The trade server's return codes, each as an exception: what ``order_check`` and ``order_send`` refuse.

Codes and names are ``TRADE_RETCODE_*`` of MetaQuotes' reference. A code after which the order may stand all the same
(time-out, lost connection) is never a ``TemporaryError``: what retries by class must not send an order twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tapeline.core.errors import ConfigurationError, ProviderError, TemporaryError
from tapeline.sources.metatrader_errors import MetaTraderError

DONE_CODES: Final[Mapping[int, str]] = {10008: "placed", 10009: "done", 10010: "done in part"}
"""The three codes that mean success."""


class TradeReturnError(MetaTraderError):
    """The trade server refused; ``code`` is its return code."""


class RequoteError(TradeReturnError, TemporaryError):
    """TRADE_RETCODE_REQUOTE: the price moved while the request was on its way."""

    code = 10004


class OrderRejectedError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_REJECT: the server rejected the request."""

    code = 10006


class OrderCanceledError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_CANCEL: the trader canceled the request."""

    code = 10007


class RequestProcessingError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_ERROR: the request could not be processed."""

    code = 10011


class OrderTimeOutError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_TIMEOUT: the server did not answer in time: whether the order stands is unknown."""

    code = 10012


class InvalidRequestError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_INVALID: the request is malformed."""

    code = 10013


class InvalidVolumeError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_INVALID_VOLUME: the volume is not one the instrument allows."""

    code = 10014


class InvalidPriceError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_INVALID_PRICE: the price is not one the instrument allows."""

    code = 10015


class InvalidStopsError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_INVALID_STOPS: stop loss or take profit lie on the wrong side or too near."""

    code = 10016


class TradeDisabledError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_TRADE_DISABLED: trading is disabled."""

    code = 10017


class MarketClosedError(TradeReturnError, TemporaryError):
    """TRADE_RETCODE_MARKET_CLOSED: the market is closed."""

    code = 10018


class NoMoneyError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_NO_MONEY: the free margin does not suffice."""

    code = 10019


class PriceChangedError(TradeReturnError, TemporaryError):
    """TRADE_RETCODE_PRICE_CHANGED: the price changed."""

    code = 10020


class NoQuotesError(TradeReturnError, TemporaryError):
    """TRADE_RETCODE_PRICE_OFF: there is no quote to execute at."""

    code = 10021


class InvalidExpirationError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_INVALID_EXPIRATION: the expiration is not allowed."""

    code = 10022


class OrderChangedError(TradeReturnError, TemporaryError):
    """TRADE_RETCODE_ORDER_CHANGED: the state of the order changed meanwhile."""

    code = 10023


class TooManyRequestsError(TradeReturnError, TemporaryError):
    """TRADE_RETCODE_TOO_MANY_REQUESTS: requests come too often."""

    code = 10024


class NoChangesError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_NO_CHANGES: the request changes nothing."""

    code = 10025


class ServerDisablesAutoTradingError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_SERVER_DISABLES_AT: the server forbids algorithmic trading."""

    code = 10026


class TerminalDisablesAutoTradingError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_CLIENT_DISABLES_AT: the terminal forbids algorithmic trading."""

    code = 10027


class RequestLockedError(TradeReturnError, TemporaryError):
    """TRADE_RETCODE_LOCKED: the request is locked for processing."""

    code = 10028


class FrozenError(TradeReturnError, TemporaryError):
    """TRADE_RETCODE_FROZEN: order or position is frozen near the market."""

    code = 10029


class InvalidFillingError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_INVALID_FILL: the instrument does not allow this filling."""

    code = 10030


class TradeConnectionError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_CONNECTION: no connection to the trade server: whether the order stands is unknown."""

    code = 10031


class RealAccountsOnlyError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_ONLY_REAL: only real accounts may do this."""

    code = 10032


class OrderCountLimitError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_LIMIT_ORDERS: the number of pending orders is at its limit."""

    code = 10033


class VolumeLimitError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_LIMIT_VOLUME: the volume of the instrument is at its limit."""

    code = 10034


class InvalidOrderError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_INVALID_ORDER: the order type is wrong or prohibited."""

    code = 10035


class PositionClosedError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_POSITION_CLOSED: the position is closed already."""

    code = 10036


class InvalidCloseVolumeError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_INVALID_CLOSE_VOLUME: more is to be closed than the position holds."""

    code = 10038


class CloseOrderExistsError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_CLOSE_ORDER_EXIST: an order to close the position exists already."""

    code = 10039


class PositionCountLimitError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_LIMIT_POSITIONS: the number of open positions is at its limit."""

    code = 10040


class CancelRejectedError(TradeReturnError, ProviderError):
    """TRADE_RETCODE_REJECT_CANCEL: the order could not be activated and was canceled."""

    code = 10041


class LongOnlyError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_LONG_ONLY: only long positions are allowed."""

    code = 10042


class ShortOnlyError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_SHORT_ONLY: only short positions are allowed."""

    code = 10043


class CloseOnlyError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_CLOSE_ONLY: positions may only be closed."""

    code = 10044


class FirstInFirstOutError(TradeReturnError, ConfigurationError):
    """TRADE_RETCODE_FIFO_CLOSE: positions may only be closed in the order of their opening."""

    code = 10045


class UnknownTradeReturnError(TradeReturnError, ProviderError):
    """A return code that MetaQuotes does not document; the message carries it."""


_CLASSES: Final[tuple[type[TradeReturnError], ...]] = (
    RequoteError,
    OrderRejectedError,
    OrderCanceledError,
    RequestProcessingError,
    OrderTimeOutError,
    InvalidRequestError,
    InvalidVolumeError,
    InvalidPriceError,
    InvalidStopsError,
    TradeDisabledError,
    MarketClosedError,
    NoMoneyError,
    PriceChangedError,
    NoQuotesError,
    InvalidExpirationError,
    OrderChangedError,
    TooManyRequestsError,
    NoChangesError,
    ServerDisablesAutoTradingError,
    TerminalDisablesAutoTradingError,
    RequestLockedError,
    FrozenError,
    InvalidFillingError,
    TradeConnectionError,
    RealAccountsOnlyError,
    OrderCountLimitError,
    VolumeLimitError,
    InvalidOrderError,
    PositionClosedError,
    InvalidCloseVolumeError,
    CloseOrderExistsError,
    PositionCountLimitError,
    CancelRejectedError,
    LongOnlyError,
    ShortOnlyError,
    CloseOnlyError,
    FirstInFirstOutError,
)
TRADE_ERRORS_BY_CODE: Final[Mapping[int, type[TradeReturnError]]] = {int(kind.code or 0): kind for kind in _CLASSES}
"""Every documented return code that is no success."""

_HINTS: Final = {
    10012: "look at positions and orders before anything is sent again",
    10019: "close a position, or send less",
    10026: "ask the broker",
    10027: "allow algorithmic trading in the terminal",
    10031: "look at positions and orders before anything is sent again",
}


def trade_error(retcode: int, comment: Any, call: str) -> TradeReturnError:
    """The exception for a return code that is no success.

    Examples
    --------
    >>> error = trade_error(10019, "No money", "order_check")
    >>> type(error).__name__, error.code
    ('NoMoneyError', 10019)
    """
    kind = TRADE_ERRORS_BY_CODE.get(int(retcode), UnknownTradeReturnError)
    error = kind(f"MetaTrader 5: {call} gave the return code {retcode}: {comment}", hint=_HINTS.get(int(retcode)))
    error.code = int(retcode)
    return error
