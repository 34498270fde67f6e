"""A simulated trading account: orders, positions, deals and margin by MetaTrader's rules, netting and hedging.

What is simulated: market and pending orders, stop loss and take profit, close, partial close, close-by, reversal of a
netted position, margin of currencies, the stop-out, the return codes of the checks. What is not: commission, swap,
partial fills, slippage, stop-limit orders, expiration. Prices are those of the newest tick.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from tapeline.sources.metatrader_structures import (
    Action,
    Filling,
    MarginMode,
    OrderType,
    TradeDeal,
    TradeOrder,
    TradePosition,
    TradeRequest,
)

PASSED: Final = 0
DONE: Final = 10009
PLACED: Final = 10008
_BUYS: Final = (OrderType.BUY, OrderType.BUY_LIMIT, OrderType.BUY_STOP)
_PENDING: Final = (OrderType.BUY_LIMIT, OrderType.SELL_LIMIT, OrderType.BUY_STOP, OrderType.SELL_STOP)
_ENTRY_IN, _ENTRY_OUT, _ENTRY_INOUT, _ENTRY_OUT_BY = range(4)
_BY_STOP_LOSS, _BY_TAKE_PROFIT, _BY_STOP_OUT = 4, 5, 6
_BY_EXPERT: Final = 3


class SimulatedAccount:
    """One account over the symbols and newest ticks of a simulated terminal.

    Parameters
    ----------
    info:
        How the account begins: balance, leverage, currency, margin mode, stop-out level.
    symbols, ticks:
        The terminal's own mappings, read at each call.
    """

    def __init__(self, info: Any, symbols: Mapping[str, Any], ticks: Mapping[str, Any]) -> None:
        self._info = info
        self._symbols = symbols
        self._ticks = ticks
        self._balance = float(info.balance)
        self._ticket = 1000
        self.now = 0
        self.positions: dict[int, Any] = {}
        self.orders: dict[int, Any] = {}
        self.past_orders: list[Any] = []
        self.deals: list[Any] = []

    @property
    def hedging(self) -> bool:
        """True where an instrument may have several positions."""
        return int(self._info.margin_mode) == MarginMode.HEDGING

    def info(self) -> Any:
        """The account as it stands at the newest ticks."""
        profit = sum(position.profit for position in self.positions.values())
        return self._standing(profit, self.margin())

    def margin(self, extra: tuple[str, int, float, float] | None = None) -> float:
        """Margin in use, in account currency; ``extra`` is one position more: symbol, side, volume, price."""
        legs = [(p.symbol, int(p.type), float(p.volume), float(p.price_open)) for p in self.positions.values()]
        if extra is not None:
            legs.append(extra)
        total = 0.0
        for symbol in {leg[0] for leg in legs}:
            sides = [
                [(volume, price) for name, side, volume, price in legs if name == symbol and side == wanted]
                for wanted in (0, 1)
            ]
            volumes = [sum(volume for volume, _ in side) for side in sides]
            larger = 0 if volumes[0] >= volumes[1] else 1
            price = sum(volume * price for volume, price in sides[larger]) / volumes[larger]
            hedged, info = min(volumes), self._symbols[symbol]
            total += self.margin_of(symbol, larger, volumes[larger] - hedged, price)
            if self.hedging and hedged:
                share = info.margin_hedged / info.trade_contract_size
                total += self.margin_of(symbol, larger, hedged, price) * share
        return total

    def margin_of(self, symbol: str, side: int, volume: float, price: float) -> float:
        """``order_calc_margin`` of a currency pair: volume times contract over leverage, in account currency."""
        info = self._symbols[symbol]
        amount = volume * info.trade_contract_size / self._info.leverage
        if info.currency_margin == info.currency_base and info.currency_profit == self._info.currency:
            return amount * price
        return amount * self._rate(info.currency_margin, buying=side == 0)

    def profit_of(self, symbol: str, side: int, volume: float, opened: float, closed: float) -> float:
        """``order_calc_profit``: the difference in the profit currency, turned at the less favourable price."""
        info = self._symbols[symbol]
        amount = (closed - opened) * (1 if side == 0 else -1) * volume * info.trade_contract_size
        if info.currency_base == self._info.currency and info.currency_profit != self._info.currency:
            return amount / closed
        return amount * self._rate(info.currency_profit, buying=amount < 0)

    def check(self, request: Any) -> tuple[int, Any]:
        """The return code of a request and the account as it would stand; code 0 is a pass."""
        code = self._refusal(request)
        if code or request.action != Action.DEAL:
            return code, self.info()
        price = self._price(request.symbol, int(request.type))
        extra = self._opened_volume(request)
        margin = self.margin((request.symbol, int(request.type), extra, price)) if extra else self.margin()
        profit = sum(position.profit for position in self.positions.values())
        after = self._standing(profit, margin)
        # A request that only closes is never refused for want of margin.
        return (10019 if extra and after.margin_free < 0 else PASSED), after

    def send(self, request: Any) -> tuple[int, int, int, float, float]:
        """Execute: return code, deal, order, volume and price."""
        code, _ = self.check(request)
        if code:
            return code, 0, 0, 0.0, 0.0
        if request.action == Action.DEAL:
            return self._deal(request)
        if request.action == Action.PENDING:
            order = self._new_order(request)
            self.orders[order.ticket] = order
            return PLACED, 0, order.ticket, request.volume, request.price
        if request.action == Action.SLTP:
            position = self.positions[self._position_of(request)]
            self.positions[position.ticket] = position._replace(sl=request.sl, tp=request.tp)
            return DONE, 0, 0, position.volume, position.price_current
        order = self.orders.get(request.order)
        if request.action == Action.MODIFY and order is not None:
            self.orders[order.ticket] = order._replace(price_open=request.price, sl=request.sl, tp=request.tp)
            return DONE, 0, order.ticket, order.volume_current, request.price
        if request.action == Action.REMOVE and order is not None:
            self._retire(self.orders.pop(order.ticket), state=2)
            return DONE, 0, order.ticket, order.volume_current, order.price_open
        return self._close_by(request)

    def on_tick(self, symbol: str) -> None:
        """Let a new price reach positions and orders: profits, stops, pending orders, the stop-out."""
        tick = self._ticks[symbol]
        for position in [p for p in self.positions.values() if p.symbol == symbol]:
            self._mark(position)
            price = tick.bid if position.type == 0 else tick.ask
            sign = 1 if position.type == 0 else -1
            if position.sl and (price - position.sl) * sign <= 0:
                self._close(position.ticket, position.volume, price, _BY_STOP_LOSS)
            elif position.tp and (price - position.tp) * sign >= 0:
                self._close(position.ticket, position.volume, price, _BY_TAKE_PROFIT)
        for order in [o for o in self.orders.values() if o.symbol == symbol and _reached(o, tick)]:
            self.orders.pop(order.ticket)
            self._fill_pending(order)
        while self.positions and self._is_stopped_out():
            worst = min(self.positions.values(), key=lambda position: position.profit)
            self._close(worst.ticket, worst.volume, self._price(worst.symbol, 1 - int(worst.type)), _BY_STOP_OUT)

    # -- checks ------------------------------------------------------------------------------------------------

    def _refusal(self, request: Any) -> int:
        if request.action in (Action.MODIFY, Action.REMOVE):
            return PASSED if request.order in self.orders else 10035
        if request.action == Action.CLOSE_BY:
            return self._refuse_close_by(request)
        if request.action not in (Action.DEAL, Action.PENDING, Action.SLTP):
            return 10013
        info = self._symbols.get(request.symbol)
        if info is None:
            return 10013
        if request.action == Action.SLTP:
            return self._refuse_stops_change(request, info)
        if request.symbol not in self._ticks:
            return 10021
        return self._refuse_trade(request, info)

    def _refuse_trade(self, request: Any, info: Any) -> int:
        pending = request.action == Action.PENDING
        if request.type not in (_PENDING if pending else (OrderType.BUY, OrderType.SELL)):
            return 10035
        closing = self.positions.get(request.position) if request.position else None
        if request.position and (closing is None or closing.symbol != request.symbol):
            return 10036
        if closing is not None and request.volume > closing.volume + 1e-9:
            return 10038
        buys = request.type in _BUYS
        opens = closing is None and not (not self.hedging and self._opened_volume(request) == 0)
        mode = info.trade_mode
        if mode == 0 or (mode == 3 and opens) or (mode == 1 and opens and not buys) or (mode == 2 and opens and buys):
            return {0: 10017, 1: 10042, 2: 10043, 3: 10044}[mode]
        steps = request.volume / info.volume_step
        if not info.volume_min <= request.volume <= info.volume_max or abs(steps - round(steps)) > 1e-6:
            return 10014
        allowed = {Filling.FOK: info.filling_mode & 1, Filling.IOC: info.filling_mode & 2, Filling.RETURN: pending}
        if info.trade_exemode != 2:
            allowed[Filling.RETURN] = True
        if not allowed.get(request.type_filling):
            return 10030
        return self._refuse_prices(request, info, pending, buys)

    def _refuse_prices(self, request: Any, info: Any, pending: bool, buys: bool) -> int:
        tick = self._ticks[request.symbol]
        market = tick.ask if buys else tick.bid
        price = request.price if pending else market
        if pending:
            below = request.type in (OrderType.BUY_LIMIT, OrderType.SELL_STOP)
            if price <= 0 or (price < market) != below:
                return 10015
        elif info.trade_exemode == 1:
            # Instant execution: the price is part of what was asked for.
            if request.price <= 0:
                return 10015
            if abs(request.price - market) > request.deviation * info.point + info.point / 2:
                return 10004
        return PASSED if _stops_fit(request.sl, request.tp, price, buys, info) else 10016

    def _refuse_stops_change(self, request: Any, info: Any) -> int:
        ticket = self._position_of(request)
        if ticket not in self.positions:
            return 10036
        position = self.positions[ticket]
        if (position.sl, position.tp) == (request.sl, request.tp):
            return 10025
        price = self._price(position.symbol, 1 - int(position.type))
        return PASSED if _stops_fit(request.sl, request.tp, price, position.type == 0, info) else 10016

    def _refuse_close_by(self, request: Any) -> int:
        one, other = self.positions.get(request.position), self.positions.get(request.position_by)
        if one is None or other is None:
            return 10036
        return PASSED if self.hedging and one.symbol == other.symbol and one.type != other.type else 10013

    def _position_of(self, request: Any) -> int:
        if request.position or self.hedging:
            return int(request.position)
        return next((ticket for ticket, p in self.positions.items() if p.symbol == request.symbol), 0)

    def _opened_volume(self, request: Any) -> float:
        """The volume of a market order that opens something new, and so needs margin; 0 where it only closes."""
        if request.position:
            return 0.0
        if self.hedging:
            return float(request.volume)
        held = next((p for p in self.positions.values() if p.symbol == request.symbol), None)
        if held is None or held.type == int(request.type not in _BUYS):
            return float(request.volume)
        return float(request.volume) if request.volume > held.volume else 0.0

    # -- execution ---------------------------------------------------------------------------------------------

    def _deal(self, request: Any) -> tuple[int, int, int, float, float]:
        price = self._price(request.symbol, int(request.type))
        order = self._new_order(request)._replace(price_open=price)
        held = None if self.hedging else next((p for p in self.positions.values() if p.symbol == request.symbol), None)
        if request.position:
            deal = self._close(request.position, request.volume, price, _BY_EXPERT, order.ticket)
        elif held is not None:
            deal = self._net(held, request, price, order.ticket)
        else:
            deal = self._open(request, price, order.ticket)
        self._retire(order._replace(volume_current=0.0), state=4)
        return DONE, deal, order.ticket, request.volume, price

    def _open(self, request: Any, price: float, order: int) -> int:
        side = 0 if request.type in _BUYS else 1
        position = TradePosition(
            order, self.now // 1000, self.now, self.now // 1000, self.now, side, request.magic, order, _BY_EXPERT,
            request.volume, price, request.sl, request.tp, price, 0.0, 0.0, request.symbol, request.comment, "",
        )  # fmt: skip
        self.positions[order] = position
        self._mark(position)
        return self._record(position, side, _ENTRY_IN, request.volume, price, 0.0, _BY_EXPERT, order)

    def _net(self, held: Any, request: Any, price: float, order: int) -> int:
        side = 0 if request.type in _BUYS else 1
        if side == held.type:
            volume = held.volume + request.volume
            opened = (held.price_open * held.volume + price * request.volume) / volume
            self.positions[held.ticket] = held._replace(volume=_volume(volume), price_open=opened)
            self._mark(self.positions[held.ticket])
            return self._record(held, side, _ENTRY_IN, request.volume, price, 0.0, _BY_EXPERT, order)
        if request.volume <= held.volume + 1e-9:
            return self._close(held.ticket, request.volume, price, _BY_EXPERT, order)
        profit = self.profit_of(held.symbol, int(held.type), held.volume, held.price_open, price)
        self._balance += profit
        rest = _volume(request.volume - held.volume)
        self.positions[held.ticket] = held._replace(
            type=side, volume=rest, price_open=price, sl=request.sl, tp=request.tp
        )
        self._mark(self.positions[held.ticket])
        return self._record(held, side, _ENTRY_INOUT, request.volume, price, profit, _BY_EXPERT, order)

    def _close(self, ticket: int, volume: float, price: float, reason: int, order: int = 0) -> int:
        position = self.positions[ticket]
        profit = self.profit_of(position.symbol, int(position.type), volume, position.price_open, price)
        self._balance += profit
        rest = _volume(position.volume - volume)
        if rest <= 0:
            del self.positions[ticket]
        else:
            self.positions[ticket] = position._replace(volume=rest)
            self._mark(self.positions[ticket])
        return self._record(position, 1 - int(position.type), _ENTRY_OUT, volume, price, profit, reason, order)

    def _close_by(self, request: Any) -> tuple[int, int, int, float, float]:
        one, other = self.positions[request.position], self.positions[request.position_by]
        volume = min(one.volume, other.volume)
        deal = self._close(one.ticket, volume, other.price_open, _BY_EXPERT)
        self.deals[-1] = self.deals[-1]._replace(entry=_ENTRY_OUT_BY)
        # The difference of the two opening prices is the result; it must not count twice.
        self._close(other.ticket, volume, other.price_open, _BY_EXPERT)
        self.deals[-1] = self.deals[-1]._replace(entry=_ENTRY_OUT_BY)
        return DONE, deal, 0, volume, other.price_open

    def _fill_pending(self, order: Any) -> None:
        side = OrderType.BUY if order.type in _BUYS else OrderType.SELL
        price = self._price(order.symbol, int(side))
        request = make_request(
            action=int(Action.DEAL), symbol=order.symbol, volume=order.volume_current, price=price, type=int(side),
            sl=order.sl, tp=order.tp, magic=order.magic, comment=order.comment, deviation=10**6,
        )  # fmt: skip
        extra = self._opened_volume(request)
        margin = self.margin((order.symbol, int(side), extra, price)) if extra else 0.0
        if extra and self.info().equity < margin:
            self._retire(order, state=5)
            return
        held = None if self.hedging else next((p for p in self.positions.values() if p.symbol == order.symbol), None)
        if held is None:
            self._open(request, price, order.ticket)
        else:
            self._net(held, request, price, order.ticket)
        self._retire(order._replace(volume_current=0.0), state=4)

    def _new_order(self, request: Any) -> Any:
        self._ticket += 1
        return TradeOrder(
            self._ticket, self.now // 1000, self.now, 0, 0, 0, request.type, request.type_time, request.type_filling, 1,
            request.magic, request.position, 0, _BY_EXPERT, request.volume, request.volume, request.price, request.sl,
            request.tp, request.price, 0.0, request.symbol, request.comment, "",
        )  # fmt: skip

    def _retire(self, order: Any, state: int) -> None:
        self.past_orders.append(order._replace(state=state, time_done=self.now // 1000, time_done_msc=self.now))

    def _record(
        self, position: Any, side: int, entry: int, volume: float, price: float, profit: float, reason: int, order: int
    ) -> int:
        self._ticket += 1
        self.deals.append(
            TradeDeal(
                self._ticket,
                order,
                self.now // 1000,
                self.now,
                side,
                entry,
                position.magic,
                position.identifier,
                reason,
                volume,
                price,
                0.0,
                0.0,
                profit,
                0.0,
                position.symbol,
                position.comment,
                "",
            )
        )
        return self._ticket

    def _mark(self, position: Any) -> None:
        price = self._price(position.symbol, 1 - int(position.type))
        profit = self.profit_of(position.symbol, int(position.type), position.volume, position.price_open, price)
        self.positions[position.ticket] = position._replace(price_current=price, profit=profit)

    # -- money -------------------------------------------------------------------------------------------------

    def _standing(self, profit: float, margin: float) -> Any:
        equity = self._balance + profit
        return self._info._replace(
            balance=self._balance,
            profit=profit,
            equity=equity,
            margin=margin,
            margin_free=equity - margin,
            margin_level=equity / margin * 100 if margin else 0.0,
        )

    def _is_stopped_out(self) -> bool:
        margin = self.margin()
        equity = self._balance + sum(position.profit for position in self.positions.values())
        return margin > 0 and equity / margin * 100 <= self._info.margin_so_so

    def _price(self, symbol: str, side: int) -> float:
        tick = self._ticks[symbol]
        return float(tick.ask if side == 0 else tick.bid)

    def _rate(self, currency: str, *, buying: bool) -> float:
        """Account currency per unit of another; ``buying`` takes the dearer side, for what costs the account."""
        account = self._info.currency
        if currency == account:
            return 1.0
        for name, info in self._symbols.items():
            tick = self._ticks.get(name)
            if tick is None:
                continue
            if (info.currency_base, info.currency_profit) == (currency, account):
                return float(tick.ask if buying else tick.bid)
            if (info.currency_base, info.currency_profit) == (account, currency):
                return 1.0 / float(tick.bid if buying else tick.ask)
        return math.nan


def make_request(**fields: Any) -> Any:
    """A ``TradeRequest``, zero or empty where nothing is given."""
    texts = ("symbol", "comment")
    return TradeRequest(**{name: fields.get(name, "" if name in texts else 0) for name in TradeRequest._fields})


def _stops_fit(sl: float, tp: float, price: float, buys: bool, info: Any) -> bool:
    sign = 1 if buys else -1
    distance = info.trade_stops_level * info.point
    return (not sl or (price - sl) * sign > distance) and (not tp or (tp - price) * sign > distance)


def _reached(order: Any, tick: Any) -> bool:
    if order.type == OrderType.BUY_LIMIT:
        return bool(tick.ask <= order.price_open)
    if order.type == OrderType.SELL_LIMIT:
        return bool(tick.bid >= order.price_open)
    if order.type == OrderType.BUY_STOP:
        return bool(tick.ask >= order.price_open)
    return bool(tick.bid <= order.price_open)


def _volume(volume: float) -> float:
    return round(volume, 8)
