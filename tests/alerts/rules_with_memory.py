"""The rules that engines are killed, stopped and moved under: all that a rule remembers is in one of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tapeline.alerts.rule import Escalation, Rule

SECONDS = timedelta(seconds=1)


def rules_with_memory(channels: tuple[str, ...] = ()) -> list[Rule]:
    """Rules of every kind of memory: edges, bars, indicators, waits, ends, escalations, cooldowns, silence."""
    common: dict[str, Any] = {"owner": "me", "symbols": ("*",), "channels": channels}
    return [
        Rule(id="cross", condition="crosses_up(close, 100)", **common),
        Rule(id="every-bar", condition="close > 99", frequency="once_per_bar", **common),
        Rule(id="closes", condition="close > open", frequency="once_per_bar_close", **common),
        Rule(id="mean", condition="close > sma(3)", cooldown=30 * SECONDS, **common),
        Rule(
            id="waits",
            condition="close > 100.5",
            pending=5 * SECONDS,
            keep_firing=3 * SECONDS,
            notify_resolved=True,
            escalation=(Escalation(after=20 * SECONDS, channels=("hook",)),),
            **common,
        ),
        Rule(id="silence", condition="close > 1000", no_data="nodata", no_data_after=5 * SECONDS, **common),
    ]
