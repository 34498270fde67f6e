"""Firings and what follows of them, as the tests of the store write them."""

from __future__ import annotations

from dataclasses import replace

from tapeline.alerts.firing import Firing, dedupe_key
from tapeline.alerts.records import Commit, Delivery


def make_firing(ts: int, *, rule: str = "r", symbol: str = "BTCUSDT", owner: str = "me", kind="firing") -> Firing:
    return Firing(dedupe_key(rule, "v", symbol, kind, ts), rule, "v", owner, symbol, kind, ts, ts + 5, 60_000.5)


def make_delivery(firing: Firing, **changes) -> Delivery:
    made = Delivery(f"{firing.id}/webhook", firing.id, "webhook", "e1", "{}", firing.ts, order="e1/r")
    return replace(made, **changes)


def make_commit(*stamps: int, **changes) -> Commit:
    firings = tuple(make_firing(ts, **changes) for ts in stamps)
    return Commit(firings, deliveries=tuple(map(make_delivery, firings)), positions={"feed": max(stamps)})
