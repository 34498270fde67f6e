"""Orders through MetaTrader 5: always checked first, sent only where the settings allow it."""

from __future__ import annotations

import math
from typing import Any, Final

from tapeline.core.errors import ConfigurationError, ProviderError
from tapeline.sources.metatrader_returns import DONE_CODES, trade_error
from tapeline.sources.metatrader_session import MetaTraderSession
from tapeline.sources.metatrader_structures import Action, Filling, OrderType

MAXIMUM_COMMENT: Final = 31
_PENDING: Final = (OrderType.BUY_LIMIT, OrderType.SELL_LIMIT, OrderType.BUY_STOP, OrderType.SELL_STOP)


class TradingSwitchedOffError(ConfigurationError):
    """An order was to be sent while ``metatrader.trading`` is off."""


class PositionNotFoundError(ProviderError):
    """There is no open position of that ticket."""


class OrderDesk:
    """Check, send, modify and close.

    Every request passes ``order_check`` before it is sent, and a refusal is the exception of its return code. Nothing
    is sent unless ``metatrader.trading`` is true; checking is always allowed. A request is sent once: where the answer
    is lost the exception says so, and what stands must be read from positions and orders.

    Parameters
    ----------
    session:
        The terminal; its settings decide whether sending is on.
    magic:
        The number that marks orders of this program, so that others' are told apart.
    deviation:
        By how many points the price may have moved, where the broker executes at a stated price.
    """

    def __init__(self, session: MetaTraderSession, *, magic: int = 0, deviation: int = 10) -> None:
        self._session = session
        self._magic = magic
        self._deviation = deviation

    def market(
        self, symbol: str, side: OrderType, volume: float, *, sl: float = 0.0, tp: float = 0.0, comment: str = ""
    ) -> dict[str, Any]:
        """A request to buy or sell now; hand it to :meth:`check` or :meth:`send`.

        Raises
        ------
        ConfigurationError
            ``side`` is neither BUY nor SELL, the volume is not one that the instrument allows (it is never rounded), a
            price is not finite, or the comment is longer than 31 characters.
        """
        if side not in (OrderType.BUY, OrderType.SELL):
            raise ConfigurationError(f"side {side!r} is neither BUY nor SELL", hint="use pending() for waiting orders")
        tick = self._session.tick(symbol)
        price = tick.ask if side == OrderType.BUY else tick.bid
        return self._request(Action.DEAL, symbol, side, volume, price, sl, tp, comment)

    def pending(
        self,
        symbol: str,
        kind: OrderType,
        volume: float,
        price: float,
        *,
        sl: float = 0.0,
        tp: float = 0.0,
        comment: str = "",
    ) -> dict[str, Any]:
        """A request for a limit or stop order; raises as :meth:`market`."""
        if kind not in _PENDING:
            raise ConfigurationError(f"kind {kind!r} is no limit or stop order", hint="use market() to trade now")
        request = self._request(Action.PENDING, symbol, kind, volume, price, sl, tp, comment)
        return {**request, "type_filling": int(Filling.RETURN)}

    def check(self, request: dict[str, Any]) -> Any:
        """``OrderCheckResult``: what the account would look like.

        Raises
        ------
        TradeReturnError
            The request would be refused; the class names the return code.
        MetaTraderError
            The terminal could not read the request or answer.
        """
        result = self._session.tell("order_check", request)
        if result.retcode != 0:
            raise trade_error(result.retcode, result.comment, "order_check")
        return result

    def send(self, request: dict[str, Any]) -> Any:
        """Check, then send; ``OrderSendResult`` where the server placed, executed or partly executed it.

        ``retcode`` 10010 says that only ``volume`` of what was asked for was executed.

        Raises
        ------
        TradingSwitchedOffError
            ``metatrader.trading`` is off; the terminal was not even asked.
        TradeReturnError, MetaTraderError
            As :meth:`check`; also what the server answered to the order itself.
        """
        if not self._session.settings.trading:
            raise TradingSwitchedOffError(
                "sending orders is switched off", hint="set metatrader.trading = true, on a demo account first"
            )
        self.check(request)
        result = self._session.tell("order_send", request)
        if result.retcode not in DONE_CODES:
            raise trade_error(result.retcode, result.comment, "order_send")
        return result

    def buy(self, symbol: str, volume: float, **options: Any) -> Any:
        """Buy now."""
        return self.send(self.market(symbol, OrderType.BUY, volume, **options))

    def sell(self, symbol: str, volume: float, **options: Any) -> Any:
        """Sell now."""
        return self.send(self.market(symbol, OrderType.SELL, volume, **options))

    def modify_position(self, ticket: int, *, sl: float, tp: float) -> Any:
        """Change stop loss and take profit of a position; 0 removes one."""
        position = self._position(ticket)
        return self.send(
            {
                "action": int(Action.SLTP),
                "symbol": position.symbol,
                "position": ticket,
                "sl": _price(sl, "sl"),
                "tp": _price(tp, "tp"),
                "magic": self._magic,
            }
        )

    def modify_order(self, ticket: int, *, price: float, sl: float = 0.0, tp: float = 0.0) -> Any:
        """Change price and stops of a waiting order."""
        return self.send(
            {
                "action": int(Action.MODIFY),
                "order": ticket,
                "price": _price(price, "price"),
                "sl": _price(sl, "sl"),
                "tp": _price(tp, "tp"),
            }
        )

    def cancel(self, ticket: int) -> Any:
        """Take a waiting order back."""
        return self.send({"action": int(Action.REMOVE), "order": ticket})

    def close(self, ticket: int, volume: float | None = None) -> Any:
        """Close a position at the market, whole or in part.

        Raises
        ------
        PositionNotFoundError
            There is no open position of that ticket.
        """
        position = self._position(ticket)
        side = OrderType.SELL if position.type == OrderType.BUY else OrderType.BUY
        request = self.market(position.symbol, side, position.volume if volume is None else volume)
        return self.send({**request, "position": ticket})

    def close_by(self, ticket: int, other: int) -> Any:
        """Close a position against an opposite one of the same instrument (hedging accounts)."""
        return self.send({"action": int(Action.CLOSE_BY), "position": ticket, "position_by": other})

    def _position(self, ticket: int) -> Any:
        found = [position for position in self._session.positions() if position.ticket == ticket]
        if not found:
            raise PositionNotFoundError(f"there is no open position {ticket}", hint="it may have been closed already")
        return found[0]

    def _request(
        self,
        action: Action,
        symbol: str,
        kind: OrderType,
        volume: float,
        price: float,
        sl: float,
        tp: float,
        comment: str,
    ) -> dict[str, Any]:
        info = self._session.symbol(symbol)
        if len(comment) > MAXIMUM_COMMENT:
            raise ConfigurationError(f"comment of {len(comment)} characters is longer than {MAXIMUM_COMMENT}")
        return {
            "action": int(action),
            "symbol": symbol,
            "type": int(kind),
            "volume": _volume(volume, info),
            "price": _price(price, "price"),
            "sl": _price(sl, "sl"),
            "tp": _price(tp, "tp"),
            "deviation": self._deviation,
            "magic": self._magic,
            "comment": comment,
            "type_time": 0,
            "type_filling": int(_filling(info)),
        }


def _volume(volume: float, info: Any) -> float:
    steps = volume / info.volume_step if math.isfinite(volume) else math.nan
    if not info.volume_min <= volume <= info.volume_max or abs(steps - round(steps)) > 1e-6:
        raise ConfigurationError(
            f"volume {volume} of {info.name} is not {info.volume_min} to {info.volume_max} in steps of "
            f"{info.volume_step}",
            hint="volumes are never rounded",
        )
    return float(volume)


def _price(price: float, name: str) -> float:
    if not math.isfinite(price) or price < 0:
        raise ConfigurationError(f"{name} {price} is not a finite price of at least 0")
    return float(price)


def _filling(info: Any) -> Filling:
    """What the instrument allows: the mask has 1 for fill-or-kill and 2 for immediate-or-cancel."""
    if info.filling_mode & 1:
        return Filling.FOK
    if info.filling_mode & 2:
        return Filling.IOC
    return Filling.RETURN
