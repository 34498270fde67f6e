"""The tick simulator written again to be read: one tick at a time, plain Python, and random ticks to try it on.

Decisions, protection and booking are those of the readable oracle of bars; what ticks add follows docs/simulator.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import pandas as pd

from tapeline.strategy.costs import Commission
from tapeline.strategy.latency import Latency, missed
from tapeline.strategy.resting_orders import Queue
from tapeline.strategy.slippage import FixedSlippage
from tapeline.strategy.tick_simulator import TickSettings
from tests.strategy.oracle import NAN, Oracle

SECOND = 1_000_000_000
NEVER = 2**63


@dataclass
class TickOracle(Oracle):
    """``bars`` are ticks; ``decisions`` carry ``decided_at`` and ``wait``; ``books`` are dicts, oldest first."""

    printed: bool = False
    seed: int = 0
    books: list[dict] = field(default_factory=list)
    quote: dict = field(default_factory=lambda: {1: NAN, -1: NAN})
    gone: dict = field(default_factory=dict)
    room: float = math.inf
    rests: bool = False
    in_queue: bool = False
    chances: int = 0
    ahead: float = NAN
    expires: int = NEVER
    last_arrival: int = 0

    def one_bar(self, row: int) -> None:
        tick = self.bars[row]
        self.finance(tick)
        self.expire(row)
        while self.sent < len(self.decisions) and self.arrival(self.sent) <= tick["ts"]:
            self.last_arrival = self.arrival(self.sent)
            if not math.isnan(self.decisions[self.sent]["target"]):
                self.decide(self.sent, row)
                self.rests, self.chances, self.ahead = False, 0, NAN
                force = self.settings.time_in_force
                self.expires = NEVER if force is None else self.last_arrival + pd.Timedelta(force).value
            self.sent += 1
        self.expire(row)
        if self.order is not None and self.rests:
            self.trade_at_limit(row)
        if self.tradable(tick["bid"], tick["ask"]):
            self.quote = {1: tick["ask"], -1: tick["bid"]}
            self.gone["quote", 1] = self.gone["quote", -1] = 0.0
            self.meet_quote(row)
        if self.position:
            closing = self.quote[-1 if self.position > 0 else 1]
            self.mark = self.mark if math.isnan(closing) else closing
        self.equity.append(self.cash + self.position * self.mark if self.position else self.cash)

    @staticmethod
    def tradable(bid: float, ask: float) -> bool:
        return math.isfinite(bid) and math.isfinite(ask) and bid != 0 and ask != 0 and bid <= ask

    def arrival(self, number: int) -> int:
        decision = self.decisions[number]
        return max(self.last_arrival, decision["decided_at"] + max(decision["wait"], 1))

    def expire(self, row: int) -> None:
        if self.order is not None and self.bars[row]["ts"] >= self.expires:
            self.end("order", "expired", row)

    def meet_quote(self, row: int) -> None:
        if self.position:
            self.take_offers(row, "stop", -1 if self.position > 0 else 1)
        if self.position:
            self.take_offers(row, "target", -1 if self.position > 0 else 1)
        before = len(self.fills)
        if self.order is not None:
            side = self.side_of_order()
            if not self.rests:
                self.take_offers(row, "order", side)
                order = self.order
                may_rest = order is not None and (
                    order.kind == "limit" or (order.kind == "stop_limit" and order.triggered)
                )
                if may_rest and self.settings.queue is not None:
                    self.rests, self.ahead = True, self.units_ahead(row, side)
            elif not self.printed:
                self.rest_against_quote(row, side)
        if len(self.fills) > before and self.position:
            self.take_offers(row, "stop", -1 if self.position > 0 else 1)

    def side_of_order(self) -> int:
        return 1 if self.order.wanted > self.position else -1

    def take_offers(self, row: int, what: str, side: int) -> None:
        """The quote, then what stands behind it, while there is something to fill."""
        held = self.position
        for number, (key, price, size) in enumerate(self.offers(row, side)):
            if number and what == "order":
                order = self.order
                if order is None or ("stop" in order.kind and not order.triggered):
                    return
            if number and what != "order" and (self.position * held <= 0 or (what == "stop" and not self.stop_order)):
                return
            self.room, self.taken = size, self.gone.get(key, 0.0)
            attempt = {"stop": self.try_stop, "target": self.try_target, "order": self.try_order}[what]
            attempt(row, (price, price, price))
            self.gone[key] = self.taken

    def offers(self, row: int, side: int) -> list[tuple]:
        quote = self.quote[side]
        found = [(("quote", side), quote, self.displayed(row, side))]
        for level, (price, size) in enumerate(self.levels(row, side)):
            if (price - quote) * side > 0:
                found.append(((self.newest_book(row)["ts"], side, level), price, size))
        return found

    def displayed(self, row: int, side: int) -> float:
        size = self.bars[row]["ask_size" if side > 0 else "bid_size"]
        return math.inf if math.isnan(size) else size

    def newest_book(self, row: int) -> dict | None:
        known = [book for book in self.books if book["ts"] <= self.bars[row]["ts"]]
        return known[-1] if known else None

    def levels(self, row: int, side: int) -> list[tuple]:
        book = self.newest_book(row)
        age = pd.Timedelta(self.settings.maximum_book_age).value
        return book[side] if book is not None and self.bars[row]["ts"] - book["ts"] <= age else []

    def what_is_left(self, row: int, quantity: float) -> float:
        share = 1.0 if self.in_queue else self.settings.slippage.volume_limit
        if share is None:
            return quantity
        can = max(0.0, min(quantity, self.room * share - self.taken)) if self.room > 0 else 0.0
        lot = self.settings.lot
        return math.floor(can / lot + 1e-9) * lot if can < quantity and lot else can

    def units_ahead(self, row: int, side: int) -> float:
        """What stands before a new order at its limit, as far as a quote or a book shows it."""
        limit, best, share = self.order.limit, self.quote[-side], self.settings.queue.share_ahead
        if self.printed:
            return NAN
        if (limit - best) * side > 0:
            return 0.0
        if limit == best and math.isfinite(self.displayed(row, -side)):
            return self.displayed(row, -side) * share
        for price, size in self.levels(row, -side):
            if price == limit:
                return size * share
        return NAN

    def rest_against_quote(self, row: int, side: int) -> None:
        limit = self.order.limit
        if math.isnan(self.ahead) or (limit - self.quote[-side]) * side > 0:
            self.ahead = self.units_ahead(row, side)
        if (self.quote[side] - limit) * side <= 0 and not self.misses():
            self.room, self.taken = self.displayed(row, side), self.gone["quote", side]
            reach = (limit, max(limit, self.quote[side]), min(limit, self.quote[side]))
            self.try_order(row, reach)
            self.gone["quote", side] = self.taken

    def trade_at_limit(self, row: int) -> None:
        tick, side, limit = self.bars[row], self.side_of_order(), self.order.limit
        price, left = tick["price"], tick["size"]
        if not (math.isfinite(price) and price != 0 and left > 0):
            return
        beyond = price < limit if side > 0 else price > limit
        if not beyond:
            if price != limit or tick["side"] == side or math.isnan(self.ahead):
                return
            served = min(self.ahead, left)
            self.ahead, left = self.ahead - served, left - served
        if left > 0 and not self.misses():
            self.room, self.taken, self.in_queue = math.inf if beyond else left, 0.0, True
            self.try_order(row, (limit, limit, limit))
            self.in_queue = False

    def misses(self) -> bool:
        self.chances += 1
        number = self.orders[self.order.number]["decided"]
        return missed(np.uint64(self.seed), number, self.chances - 1, self.settings.queue.miss_probability)


class TickCase:
    """One random case on a coarse grid; everything follows from the seed."""

    def __init__(self, seed: int, rows: int = 40) -> None:
        draw = np.random.default_rng(seed)
        self.kind = ("quotes", "both", "trades")[draw.integers(3)]
        queued = self.kind != "quotes" and bool(draw.integers(2))
        self.settings = TickSettings(
            capital=float(draw.choice([1_000.0, 100_000.0])),
            slippage=FixedSlippage(bps=float(draw.choice([0.0, 3.0])), volume_limit=[None, 0.5, 1.0][draw.integers(3)]),
            commission=(Commission(), Commission(maker_bps=-0.5, taker_bps=2.0, minimum=0.5))[draw.integers(2)],
            lot=float(draw.choice([0.0, 0.1, 5.0])),
            limit_through=0.0 if queued else float(draw.choice([0.0, 0.5])),
            margin=float(draw.choice([0.0, 0.5])),
            protect_by_distance=bool(draw.integers(2)),
            queue=Queue(share_ahead=float(draw.choice([0.5, 1.0])), miss_probability=float(draw.choice([0.0, 0.4])))
            if queued
            else None,
            time_in_force=[None, timedelta(seconds=2), timedelta(seconds=9)][draw.integers(3)],
            maximum_book_age=timedelta(seconds=int(draw.choice([1, 10]))),
        )
        self.ticks = _ticks(draw, rows, self.kind)
        self.decisions = _decisions(draw, self.ticks, self.settings.protect_by_distance)
        self.latency = (
            Latency(kind="uniform", high_ms=3_000, seed=int(draw.integers(100)))
            if draw.integers(2)
            else draw.integers(0, 3 * SECOND, len(self.decisions))
        )
        deep = self.settings.slippage.volume_limit is not None and self.kind != "trades" and bool(draw.integers(2))
        self.depth = _depth(draw, self.ticks) if deep else None
        financed = bool(draw.integers(2))
        self.options = {"long_rate": draw.choice([0.0, 1e-4, -5e-5], rows)} if financed else {}
        if self.kind == "trades":
            self.options["half_spread"] = draw.choice([0.0, 0.5], rows)

    def records(self) -> list[dict]:
        """Ticks as the oracle and the stream take them."""
        names = ("bid", "ask", "bid_size", "ask_size", "price", "size", "side")
        nothing = np.full(len(self.ticks), NAN)
        columns = {name: self.ticks[name].to_numpy() if name in self.ticks else nothing for name in names}
        columns["side"] = np.nan_to_num(columns["side"])
        columns |= {**self.options, "ts": self.ticks.index.asi8}
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def oracle(self) -> TickOracle:
        """What the readable oracle makes of it."""
        ticks = self.records()
        for tick in ticks:
            tick["volume"] = NAN
            if self.kind == "trades":
                half = tick.pop("half_spread")
                tick["bid"], tick["ask"] = tick["price"] - half, tick["price"] + half
                tick["bid_size"] = tick["ask_size"] = tick["size"]
        count = len(self.decisions)
        drawn = isinstance(self.latency, Latency)
        waits = self.latency.delays(range(count)).asi8.tolist() if drawn else self.latency.tolist()
        decisions = [
            {**row, "target": _whole(row["target"], self.settings.lot), "decided_at": at.value, "wait": wait}
            for at, row, wait in zip(self.decisions.index, self.decisions.to_dict("records"), waits, strict=True)
        ]
        return TickOracle(
            bars=ticks,
            decisions=decisions,
            settings=self.settings,
            printed=self.kind == "trades",
            seed=self.latency.seed if drawn else 0,
            books=self.books(),
        ).run()

    def books(self) -> list[dict]:
        if self.depth is None:
            return []
        found: dict[int, dict] = {}
        columns = [self.depth[name].tolist() for name in ("side", "price", "size")]
        for ts, side, price, size in zip(self.depth.index.asi8.tolist(), *columns, strict=True):
            found.setdefault(ts, {"ts": ts, 1: [], -1: []})[-side].append((price, size))
        for book in found.values():
            if book[-1][0][0] >= book[1][0][0]:
                book[1] = book[-1] = []
        return list(found.values())


def _whole(target: float, lot: float) -> float:
    if math.isnan(target) or not lot:
        return target
    return math.copysign(math.floor(abs(target) / lot + 1e-9) * lot, target) if target else 0.0


def _ticks(draw: np.random.Generator, rows: int, kind: str) -> pd.DataFrame:
    # Half units, half seconds: quotes meet stops and limits exactly, and instants hold several ticks.
    start = pd.Timestamp("2024-01-01", tz="UTC").value
    ts = pd.to_datetime(start + np.cumsum(draw.choice([0, 1, 1, 2], rows)) * SECOND // 2, utc=True).as_unit("ns")
    bid = 100.0 + np.cumsum(draw.integers(-2, 3, rows)) / 2
    ask = bid + draw.choice([0.0, 0.5, 1.0, -0.5], rows, p=[0.15, 0.5, 0.3, 0.05])
    sizes = draw.choice([0.0, 2.0, 7.5, 40.0, np.nan], (3, rows), p=[0.05, 0.3, 0.35, 0.2, 0.1])
    columns = {}
    if kind != "trades":
        columns |= {"bid": bid, "ask": ask}
        for name in ("bid", "ask"):
            broken = draw.random(rows) < 0.03
            columns[name][broken] = draw.choice([np.nan, 0.0, np.inf], broken.sum())
        if draw.integers(4):
            columns |= {"bid_size": sizes[0], "ask_size": sizes[1]}
    if kind != "quotes":
        price = np.where(draw.integers(2, size=rows) > 0, bid, ask) + draw.choice([0.0, 0.0, 0.5, -0.5], rows)
        columns |= {"price": price, "size": sizes[2], "side": draw.choice([-1.0, 0.0, 1.0], rows)}
    if kind == "both":
        only = draw.random(rows)
        for name in columns:
            columns[name][only > 0.6 if name in ("price", "size", "side") else only < 0.4] = np.nan
    return pd.DataFrame(columns, index=pd.DatetimeIndex(ts, name="ts"))


def _decisions(draw: np.random.Generator, ticks: pd.DataFrame, by_distance: bool) -> pd.DataFrame:
    count = int(draw.integers(1, 10))
    rows = np.sort(draw.integers(0, len(ticks), count))
    at = ticks.index[rows] + pd.to_timedelta(draw.choice([0, 0, 100_000_000], count), unit="ns")
    near = ticks["price" if "bid" not in ticks else "bid"].replace([0.0, np.inf], np.nan).ffill().fillna(100.0)
    near = near.to_numpy()[rows]
    side = draw.choice([-1.0, 1.0], count)

    def sometimes(values: np.ndarray, share: float) -> np.ndarray:
        return np.where(draw.random(count) < share, values, np.nan)

    distance = draw.integers(1, 7, (2, count)) / 2
    prices = (distance[0], distance[1]) if by_distance else (near - side * distance[0], near + side * distance[1])
    levels = near + draw.integers(-2, 3, (2, count)) / 2
    return pd.DataFrame(
        {
            "target": sometimes(side * draw.choice([0.0, 5.0, 12.3, 50.0], count), 0.9),
            "stop": sometimes(prices[0], 0.6),
            "take": sometimes(prices[1], 0.5),
            "limit": sometimes(levels[0], 0.5),
            "trigger": sometimes(levels[1], 0.25),
        },
        index=pd.DatetimeIndex(at, name="decided_at"),
    ).sort_index(kind="stable")


def _depth(draw: np.random.Generator, ticks: pd.DataFrame) -> pd.DataFrame:
    bids = ticks["bid"].replace([0.0, np.inf], np.nan).ffill().fillna(100.0).to_numpy()
    # The last tick of an instant, of every few instants.
    rows = np.flatnonzero(np.diff(ticks.index.asi8, append=0))[:: int(draw.integers(3, 9))]
    levels = []
    for row in rows.tolist():
        count, spread = int(draw.integers(1, 5)), float(draw.choice([0.0, 0.5]))
        for side, first in ((1, bids[row]), (-1, bids[row] + spread)):
            sizes = draw.choice([1.0, 4.0, 9.5], count).tolist()
            levels += [(row, side, at, first - side * at / 2, size) for at, size in enumerate(sizes)]
    row, *columns = map(np.array, zip(*levels, strict=True))
    return pd.DataFrame(dict(zip(("side", "level", "price", "size"), columns, strict=True)), index=ticks.index[row])
