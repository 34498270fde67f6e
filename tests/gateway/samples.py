"""What the database holds in tests of the API: firings of several people, told, failed and given up."""

from __future__ import annotations

from dataclasses import replace

from tapeline.alerts.firing import Firing, Side, dedupe_key
from tapeline.alerts.records import Commit, Delivery
from tapeline.alerts.store.sql_store import SqlStore

SECOND = 1_000_000_000


def firing_of(owner: str, ts: int, *, rule: str = "", symbol: str = "BTCUSDT", kind="firing") -> Firing:
    rule = rule or f"{owner}-rule"
    sides = (Side("close > 60000", 60_001.5, 60_000.0, True), Side("rsi(14) < 30", float("nan"), 30.0, None))
    return Firing(
        dedupe_key(rule, "v", symbol, kind, ts), rule, "v", owner, symbol, kind, ts, ts + 5, 60_001.5, sides=sides
    )


def keep_firings(store: SqlStore, owner: str, *stamps: int, dead: bool = False) -> list[Firing]:
    """Firings with one delivery each; the deliveries given up where ``dead``."""
    firings = [firing_of(owner, ts) for ts in stamps]
    deliveries = [
        Delivery(f"{one.id}/desk", one.id, "webhook", f"{owner}.desk", '{"a":1}', one.ts, order=f"{owner}.desk/r{n}")
        for n, one in enumerate(firings)
    ]
    store.commit(Commit(tuple(firings), deliveries=tuple(deliveries)))
    if dead:
        now = max(stamps) + SECOND
        for claim in store.claim("webhook", limit=100, lease=60 * SECOND, now=now, endpoint=f"{owner}.desk"):
            attempt = store.begin_attempt(claim, now=now)
            assert attempt is not None
            ended = replace(attempt, ended_at=now + SECOND, outcome="refused", status=404, detail="no such hook")
            assert store.settle(ended)
    return firings
