"""The simulator written again to be read: one bar at a time, plain Python, no kernel but the costs' own functions.

It follows the text of docs/simulator.md and shares no statement with the engine. Slippage and the rounding of money
have tests of their own and are taken as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tapeline.strategy.costs import rounded
from tapeline.strategy.slippage import fillable, slipped

NAN = math.nan


@dataclass
class Working:
    """An order in the market."""

    number: int
    reason: str
    kind: str
    limit: float
    stop: float
    wanted: float
    triggered: bool = False
    age: int = 0
    parts: list[tuple] = field(default_factory=list)


@dataclass
class Oracle:
    """One account in one symbol; ``bars`` and ``decisions`` are lists of dicts, a missing key is no value."""

    bars: list[dict]
    decisions: list[dict]
    settings: object
    cash: float = 0.0
    position: float = 0.0
    anchor: float = NAN
    mark: float = NAN
    stop_price: float = NAN
    take_price: float = NAN
    next_stop: float = NAN
    next_take: float = NAN
    taken: float = 0.0
    order: Working | None = None
    stop_order: Working | None = None
    take_order: Working | None = None
    sent: int = 0
    fills: list[tuple] = field(default_factory=list)
    orders: list[dict] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    charged: list[float] = field(default_factory=list)
    traded: dict[int, float] = field(default_factory=dict)

    def run(self) -> Oracle:
        self.cash = self.settings.capital
        self.slippage = self.settings.slippage.compiled()
        for row in range(len(self.bars)):
            self.one_bar(row)
        return self

    def one_bar(self, row: int) -> None:
        bar = self.bars[row]
        self.finance(bar)
        while self.sent < row and self.arrival(self.sent) <= bar["ts"]:
            if not math.isnan(self.decisions[self.sent]["target"]):
                self.decide(self.sent, row)
            self.sent += 1
        opened, high, low = bar["open"], bar["high"], bar["low"]
        if all(map(math.isfinite, (opened, high, low))) and low <= opened <= high:
            self.trade(row, opened, high, low)
        if self.order is not None:
            self.order.age += 1
            if self.settings.bars_in_force and self.order.age >= self.settings.bars_in_force:
                self.end("order", "expired", row)
        if math.isfinite(bar["close"]):
            self.mark = bar["close"]
        self.equity.append(self.cash + self.position * self.mark if self.position else self.cash)

    def arrival(self, row: int) -> int:
        return self.bars[row]["close_ts"] + self.decisions[row].get("latency", 0)

    def finance(self, bar: dict) -> None:
        money = 0.0
        if self.position:
            money = abs(self.position) * self.mark * bar.get("long_rate" if self.position > 0 else "short_rate", 0.0)
            self.cash -= money
        self.charged.append(money)

    def decide(self, decided: int, row: int) -> None:
        decision = self.decisions[decided]
        self.end("order", "cancelled", row)
        wanted = decision["target"]
        stop, take = decision.get("stop", NAN), decision.get("take", NAN)
        limit, trigger = decision.get("limit", NAN), decision.get("trigger", NAN)
        same_side = (wanted > 0 and self.position > 0) or (wanted < 0 and self.position < 0)
        if same_side and self.stop_order is None:
            self.protect_at(stop, take, math.copysign(1.0, self.position))
        if wanted == self.position:
            return
        kind = {(0, 0): "market", (1, 0): "limit", (0, 1): "stop", (1, 1): "stop_limit"}[
            (int(not math.isnan(limit)), int(not math.isnan(trigger)))
        ]
        number = self.note(decided, row, kind, "signal", wanted - self.position, limit, trigger)
        if same_side and self.stop_order is not None:
            self.orders[number].update(status="rejected", ended=row)
            return
        self.order = Working(number, "signal", kind, limit, trigger, wanted)
        self.next_stop, self.next_take = stop, take

    def protect_at(self, stop: float, take: float, side: float) -> None:
        """Set what is given; a distance counts from the price at which the position was opened."""
        if not math.isnan(stop):
            self.stop_price = self.anchor - side * stop if self.settings.protect_by_distance else stop
        if not math.isnan(take):
            self.take_price = self.anchor + side * take if self.settings.protect_by_distance else take

    def trade(self, row: int, opened: float, high: float, low: float) -> None:
        self.taken = 0.0
        at_open, whole = (opened, opened, opened), (opened, high, low)
        self.try_stop(row, at_open)
        self.try_target(row, at_open)
        self.try_order(row, at_open)
        self.try_stop(row, whole)
        held = self.position
        entered_at = self.try_order(row, whole)
        if held * self.position > 0:
            self.try_target(row, whole)
        elif self.position:
            self.try_stop(row, (entered_at, high, low))

    def try_stop(self, row: int, prices: tuple) -> None:
        if not self.position or math.isnan(self.stop_price):
            return
        order = self.stop_order or Working(-1, "stop", "stop", NAN, self.stop_price, 0.0)
        filled, base = self.meet(row, order, prices)
        if order.triggered:
            if self.stop_order is None:
                order.number = self.note(row, row, "stop", "stop", -self.position, NAN, self.stop_price)
                self.stop_order = order
            self.drop_needless_order(row)
            self.end("take_order", "cancelled", row)
        if filled:
            self.book(row, order, filled, base)

    def try_target(self, row: int, prices: tuple) -> None:
        if not self.position or self.stop_order is not None or math.isnan(self.take_price):
            return
        order = self.take_order or Working(-1, "target", "limit", self.take_price, NAN, 0.0)
        # The position's target may have been moved by a later decision.
        order.limit = self.take_price
        filled, base = self.meet(row, order, prices)
        if filled:
            if self.take_order is None:
                order.number = self.note(row, row, "limit", "target", -self.position, self.take_price, NAN)
                self.take_order = order
            self.drop_needless_order(row)
            self.book(row, order, filled, base)

    def drop_needless_order(self, row: int) -> None:
        if self.order is not None and self.order.wanted * self.position >= 0:
            self.end("order", "cancelled", row)

    def try_order(self, row: int, prices: tuple) -> float:
        order = self.order
        if order is None:
            return NAN
        remaining = order.wanted - self.position
        filled, base = self.meet(row, order, prices)
        if not filled:
            return NAN
        after = self.position + math.copysign(filled, remaining)
        needed = abs(after) * abs(base) * self.settings.margin
        if self.settings.margin and abs(after) > abs(self.position) and needed > self.cash + self.position * base:
            self.end("order", "rejected", row)
            return NAN
        self.orders[order.number]["quantity"] = self.orders[order.number]["filled"] + remaining
        self.book(row, order, filled, base)
        return base

    def meet(self, row: int, order: Working, prices: tuple) -> tuple[float, float]:
        """What the bar gives of an order, at which of its own prices."""
        opened, high, low = prices
        remaining = order.wanted - self.position
        buys = remaining > 0
        quantity = abs(remaining)
        can = self.what_is_left(row, quantity)
        if not quantity:
            return 0.0, NAN
        price, certain = opened, True  # certain: what the bar did later is known to be later
        if "stop" in order.kind and not order.triggered:
            if not (high >= order.stop if buys else low <= order.stop):
                return 0.0, NAN
            order.triggered = True
            certain = opened >= order.stop if buys else opened <= order.stop
            price = opened if certain else order.stop
        if "limit" in order.kind:
            better = price < order.limit if buys else price > order.limit
            at_trigger = order.kind == "stop_limit" and not certain and price == order.limit
            margin = self.settings.limit_through
            later = certain and (low <= order.limit - margin if buys else high >= order.limit + margin)
            if not (better or at_trigger or later):
                return 0.0, NAN
            if not (better or at_trigger):
                price = order.limit
        if not can > 0 or math.isnan(self.with_costs(row, order, min(quantity, can), price, buys)):
            return 0.0, NAN
        return min(quantity, can), price

    def what_is_left(self, row: int, quantity: float) -> float:
        can = fillable(self.slippage, quantity, self.bars[row]["volume"], self.taken)
        lot = self.settings.lot
        if can < quantity and lot:
            return math.floor(can / lot + 1e-9) * lot
        return can

    def rested(self, order: Working, price: float, buys: bool) -> bool:
        return "limit" in order.kind and not (price < order.limit if buys else price > order.limit)

    def with_costs(self, row: int, order: Working, quantity: float, price: float, buys: bool) -> float:
        if self.rested(order, price, buys):
            return price
        bar = self.bars[row]
        cost = slipped(
            self.slippage,
            1.0 if buys else -1.0,
            quantity,
            price,
            bar["volume"],
            bar.get("volatility", NAN),
            bar.get("half_spread", 0.0),
        )
        if "limit" in order.kind and (cost > order.limit if buys else cost < order.limit):
            return order.limit
        return cost

    def book(self, row: int, order: Working, quantity: float, base: float) -> None:
        before, remaining = self.position, order.wanted - self.position
        buys = remaining > 0
        side = 1.0 if buys else -1.0
        price = self.with_costs(row, order, quantity, base, buys)
        fee = self.commission(row, order, quantity, price, self.rested(order, base, buys))
        self.cash -= side * quantity * price + fee
        self.position = order.wanted if quantity >= abs(remaining) else before + side * quantity
        self.taken += quantity
        if math.isnan(self.mark):
            self.mark = base
        self.fills.append((row, order.number, order.reason, side * quantity, price, base, fee))
        record = self.orders[order.number]
        record["filled"] += side * quantity
        record["status"] = "partial" if order.reason == "signal" else record["status"]
        if before * self.position <= 0:
            self.end("take_order", "filled" if order.reason == "target" else "cancelled", row)
            self.end("stop_order", "filled" if order.reason == "stop" else "cancelled", row)
            self.anchor, self.stop_price, self.take_price = NAN, NAN, NAN
            if self.position:
                self.anchor = price
                self.protect_at(self.next_stop, self.next_take, side)
        if order is self.order and self.position == order.wanted:
            self.end("order", "filled", row)

    def commission(self, row: int, order: Working, quantity: float, price: float, maker: bool) -> float:
        """What the order costs with this part, less what its parts before were charged."""
        schedule = self.settings.commission
        day = self.bars[row]["ts"] // 86_400_000_000_000
        before = 0.0
        for each in range(day - 30, day):
            before += self.traded.get(each, 0.0)
        notional_before = sum((part[0] for part in order.parts), 0.0)
        money_before = order.parts[-1][1] if order.parts else 0.0
        paid = sum((part[2] for part in order.parts), 0.0)
        part = quantity * price * schedule.multiplier
        notional = notional_before + part
        money = quantity * schedule.per_unit
        tiers = [(t.threshold, (t.maker_bps if maker else t.taker_bps) / 1e4) for t in schedule.tiers]
        if not tiers:
            money += part * ((schedule.maker_bps if maker else schedule.taker_bps) / 1e4)
        elif schedule.tiered_by == "traded":
            money += part * [rate for threshold, rate in tiers if threshold <= before][-1]
        else:
            for (threshold, rate), following in zip(tiers, [*tiers[1:], (math.inf, 0.0)], strict=True):
                inside = min(notional, following[0]) - max(threshold, notional_before)
                money += max(inside, 0.0) * rate
        money += money_before
        whole = money if schedule.minimum is None else max(money, schedule.minimum)
        if schedule.maximum_share is not None:
            whole = min(whole, schedule.maximum_share * notional)
        fee = rounded(rounded(whole, schedule.increment) - paid, schedule.increment)
        order.parts.append((part, money, fee))
        self.traded[day] = self.traded.get(day, 0.0) + part
        return fee

    def note(self, decided: int, row: int, kind: str, reason: str, quantity: float, limit: float, stop: float) -> int:
        self.orders.append(
            {
                "decided": decided,
                "arrived": row,
                "ended": -1,
                "kind": kind,
                "reason": reason,
                "status": "working",
                "quantity": quantity,
                "filled": 0.0,
                "limit": limit,
                "stop": stop,
            }
        )
        return len(self.orders) - 1

    def end(self, slot: str, status: str, row: int) -> None:
        order = getattr(self, slot)
        if order is not None:
            self.orders[order.number].update(status=status, ended=row)
            setattr(self, slot, None)
