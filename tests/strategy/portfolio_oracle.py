"""The portfolio written again to be read: opens and closes of all books, one after the other, in plain Python.

A book is the readable oracle of one symbol with its bar cut in two; the account's rules follow docs/portfolio.md and
share no statement with the engine. The limits of risk have tests of their own and are asked as they are.
"""

from __future__ import annotations

import math

import numpy as np

from tapeline.strategy.risk_kernels import (
    CLOSE_ALL,
    RISK_REASONS,
    begin_risk,
    mark_risk,
    note_fill,
    permitted_quantity,
)
from tests.strategy.oracle import NAN, Oracle, Working


class Book(Oracle):
    """One symbol's orders on an account that others share."""

    account: PortfolioOracle
    key: tuple[str, str]
    mean = NAN
    rate = 1.0
    fill_rate = 1.0
    closing: str | None = None

    def open_bar(self, row: int) -> None:
        bar, account = self.bars[row], self.account
        self.fill_rate = self.rate
        self.now = bar["ts"]
        self.finance(bar)
        account.cash -= self.charged[-1] * self.rate
        while self.sent < row and self.arrival(self.sent) <= bar["ts"]:
            if not math.isnan(self.decisions[self.sent]["target"]):
                self.try_decision(self.sent, row)
            self.sent += 1
        if self.closing and not (self.order and self.order.reason == self.closing):
            self.end("order", "cancelled", row)
            if self.stop_order is None:
                number = self.note(row, row, "market", self.closing, -self.position, NAN, NAN)
                self.order = Working(number, self.closing, "market", NAN, NAN, 0.0)
                self.next_stop = self.next_take = NAN
        if self.trades(bar):
            self.taken = account.taken_of(self)
            at_open = (bar["open"],) * 3
            self.try_stop(row, at_open)
            self.try_target(row, at_open)
            self.try_order(row, at_open)
            account.taken[self.key[0]] = (bar["ts"], self.taken)

    def close_bar(self, row: int) -> None:
        bar, account = self.bars[row], self.account
        self.now = bar["close_ts"]
        if self.trades(bar):
            self.taken = account.taken_of(self)
            whole = (bar["open"], bar["high"], bar["low"])
            self.try_stop(row, whole)
            held = self.position
            entered_at = self.try_order(row, whole)
            if held * self.position > 0:
                self.try_target(row, whole)
            elif self.position:
                self.try_stop(row, (entered_at, bar["high"], bar["low"]))
            account.taken[self.key[0]] = (bar["ts"], self.taken)
        if self.order is not None and not self.closing:
            self.order.age += 1
            if self.settings.bars_in_force and self.order.age >= self.settings.bars_in_force:
                self.end("order", "expired", row)
        if math.isfinite(bar["close"]):
            self.mark = bar["close"]
        self.positions.append(self.position)

    def trades(self, bar: dict) -> bool:
        opened, high, low = bar["open"], bar["high"], bar["low"]
        return all(map(math.isfinite, (opened, high, low))) and low <= opened <= high

    def try_decision(self, decided: int, row: int) -> None:
        decision, before = dict(self.decisions[decided]), self.account.orders_sent
        asked = decision["target"] - self.position
        if self.closing:
            self.refuse(row, decided, -1, "closing", asked, 0.0)
            return
        if asked:
            price = next(
                (decision[name] for name in ("limit", "trigger") if not math.isnan(decision.get(name, NAN))), self.mark
            )
            permitted, reason = self.permitted(asked, price, decision.get("stop", NAN))
            if abs(permitted) < abs(asked):
                self.refuse(row, decided, -1, reason, asked, permitted)
                decision["target"] = self.position + permitted
        wanted = decision["target"]
        self.decisions[decided], kept = decision, self.decisions[decided]
        self.decide(decided, row)
        self.decisions[decided] = kept
        if self.account.orders_sent > before and self.orders[before]["status"] == "rejected":
            self.refuse(row, decided, before, "stopping", wanted - self.position, 0.0)

    def permitted(self, signed: float, price: float, stop: float) -> tuple[float, str]:
        account = self.account
        if account.limits is None:
            return signed, ""
        side, quantity = math.copysign(1.0, signed), abs(signed)
        reducing = min(quantity, abs(self.position)) if self.position * side < 0 else 0.0
        if quantity - reducing <= 0:
            return signed, ""
        by_distance = self.settings.protect_by_distance
        if self.position * side > 0:
            level = self.stop_price
            if not math.isnan(stop):
                level = self.anchor - side * stop if by_distance else stop
            distance = abs(price - level)
        else:
            distance = stop if by_distance else abs(price - stop)
        symbols = account.symbols
        values, equity, held = np.zeros(len(symbols)), account.cash, 0.0
        for book in account.books:
            if book.position:
                value = book.position * book.mark * book.rate
                values[symbols.index(book.key[0])] += value
                equity += value
                held += book.position if book.key[0] == self.key[0] else 0.0
        which = symbols.index(self.key[0])
        account.risk.point_value[which] = self.rate
        found, code = permitted_quantity(
            account.limits,
            account.risk,
            which,
            held + side * reducing,
            side,
            quantity - reducing,
            price,
            distance,
            values,
            equity,
        )
        return side * (reducing + found), RISK_REASONS[code]

    def try_order(self, row: int, prices: tuple) -> float:
        order = self.order
        if order is None:
            return NAN
        triggered, remaining, cut = order.triggered, order.wanted - self.position, False
        filled, base = self.meet(row, order, prices)
        side = math.copysign(1.0, remaining)
        if not filled:
            return NAN
        wanted = order.wanted
        if order.reason == "signal":
            stop = NAN if self.position * side > 0 else self.next_stop
            permitted, reason = self.permitted(side * filled, base, stop)
            if abs(permitted) < filled:
                self.refuse(row, self.orders[order.number]["decided"], order.number, reason, side * filled, permitted)
                if permitted == 0:
                    self.end("order", "rejected", row)
                    return NAN
                order.wanted, cut, order.triggered = self.position + permitted, True, triggered
                filled, base = self.meet(row, order, prices)
                if not filled:
                    order.wanted = wanted
                    return NAN
        if not self.account.covers(self, self.position + side * filled, base):
            self.refuse(row, self.orders[order.number]["decided"], order.number, "margin", side * filled, 0.0)
            self.end("order", "rejected", row)
            return NAN
        self.orders[order.number]["quantity"] = self.orders[order.number]["filled"] + remaining
        self.book(row, order, filled, base)
        if cut:
            self.orders[order.number].update(status="cancelled", ended=row)
            self.order = None
        return base

    def book(self, row: int, order: Working, quantity: float, base: float) -> None:
        before = self.position
        super().book(row, order, quantity, base)
        if order is self.order:
            self.orders[order.number]["status"] = "partial"
        _, _, _, signed, price, _, fee = self.fills[-1]
        self.account.cash -= (signed * price + fee) * self.fill_rate
        self.account.log.append((self.key, self.now, self.fill_rate, *self.fills[-1]))
        if before * self.position <= 0:
            self.mean = price
        elif abs(self.position) > abs(before):
            self.mean = (self.mean * abs(before) + price * abs(signed)) / (abs(before) + abs(signed))
        if not self.position:
            self.closing = None
        if self.account.limits is not None:
            note_fill(self.account.risk, before, signed)

    def note(self, *what: object) -> int:
        number = self.account.orders_sent
        self.account.orders_sent += 1
        while len(self.orders) < number:
            self.orders.append(None)  # another book's
        super().note(*what)
        return number

    def refuse(self, row: int, decided: int, order: int, reason: str, asked: float, permitted: float) -> None:
        self.account.refusals.append((self.key, row, decided, order, reason, asked, permitted))


class PortfolioOracle:
    """``books``: (symbol, tag), bars, decisions, terms, currency's number or None; rates: at an instant, by number."""

    def __init__(self, settings: object, books: list[tuple], rate_at: object, limits: object = None) -> None:
        self.settings, self.rate_at, self.limits = settings, rate_at, limits
        self.cash = settings.capital
        self.symbols = sorted({key[0] for key, *_ in books})
        self.risk = begin_risk(limits, len(self.symbols), self.cash) if limits is not None else None
        self.watched = None
        self.taken: dict[str, tuple[int, float]] = {}
        self.log, self.refusals, self.equity, self.orders_sent = [], [], [], 0
        self.books = []
        for key, bars, decisions, terms, currency in sorted(books, key=lambda book: book[0]):
            book = Book(bars, decisions, terms)
            book.account, book.key, book.currency, book.positions = self, key, currency, []
            book.slippage, book.schedule = terms.slippage.compiled(), terms.commission.compiled()
            self.books.append(book)

    def run(self) -> PortfolioOracle:
        events = sorted(
            (bar[name], name == "ts", number, row)
            for number, book in enumerate(self.books)
            for row, bar in enumerate(book.bars)
            for name in ("ts", "close_ts")
        )
        for at, (now, opens, number, row) in enumerate(events):
            for book in self.books:
                book.rate = self.rate_at(book.currency, now)
            if opens:
                if self.limits is not None and self.watched != now:
                    self.watch(now)
                self.books[number].open_bar(row)
                continue
            self.books[number].close_bar(row)
            if at + 1 == len(events) or events[at + 1][:2] != (now, False):
                self.mark(now)
        return self

    def taken_of(self, book: Book) -> float:
        since, taken = self.taken.get(book.key[0], (None, 0.0))
        return taken if since == book.bars[len(book.charged) - 1]["ts"] else 0.0

    def value(self) -> float:
        total = self.cash
        for book in self.books:
            if book.position:
                total += book.position * book.mark * book.rate
        return total

    def mark(self, now: int) -> None:
        values = [book.position * book.mark * book.rate if book.position else 0.0 for book in self.books]
        equity = self.value()
        margin = self.requirement("margin", self.books)
        gross, net = 0.0, 0.0
        for value in values:
            gross, net = gross + abs(value), net + value
        self.equity.append((now, equity, self.cash, gross, net, margin))
        held = [book for book in self.books if not book.closing]
        # Where no maintenance is asked, no one calls for margin, whatever the equity.
        asked = any(values) and any(book.settings.maintenance for book in self.books)
        while asked and equity < self.requirement("maintenance", held):
            open_books = [book for book in held if book.position]
            if not open_books:
                break
            worst = min(open_books, key=lambda book: book.position * (book.mark - book.mean) * book.rate)
            worst.closing = "margin"
            held.remove(worst)
        if self.limits is not None:
            self.watch(now)

    def watch(self, now: int) -> None:
        self.watched = now
        if mark_risk(self.limits, self.risk, now, self.value()) == CLOSE_ALL:
            for book in self.books:
                if book.position and not book.closing:
                    book.closing = "kill_switch"

    def requirement(self, name: str, books: list[Book], changed: tuple = (None, 0.0, 0.0)) -> float:
        total = 0.0
        for symbol in self.symbols:
            longs, shorts, share = 0.0, 0.0, 0.0
            for book in books:
                if book.key[0] == symbol:
                    units, price = changed[1:] if book is changed[0] else (book.position, book.mark)
                    share = getattr(book.settings, name)
                    longs += abs(units) * abs(price) * book.rate if units > 0 else 0.0
                    shorts += abs(units) * abs(price) * book.rate if units < 0 else 0.0
            total += (max(longs, shorts) if self.settings.hedged_margin == "larger" else longs + shorts) * share
        return total

    def covers(self, book: Book, after: float, price: float) -> bool:
        if not any(each.settings.margin for each in self.books) or abs(after) <= abs(book.position):
            return True
        mark, book.mark = book.mark, price
        equity = self.value()
        book.mark = mark
        needed = self.requirement("margin", self.books, (book, after, price))
        return needed <= equity or needed <= self.requirement("margin", self.books, (book, book.position, price))
