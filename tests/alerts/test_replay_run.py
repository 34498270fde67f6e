"""A replay fires what the service fired live, rules on patterns and divergences included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapeline.alerts.feeds.batcher import BatcherOptions
from tapeline.alerts.feeds.replay import bar_records, replay_batches
from tapeline.alerts.replay_run import replay_rules, replayed
from tapeline.alerts.rule import Rule
from tapeline.core.errors import ConfigurationError
from tapeline.streams.dialects.binance import Binance
from tests.alerts.test_series import ended, make_rules, opened
from tests.support import make_bars


def test_a_replay_fires_what_was_fired_live(tmp_path: Path) -> None:
    ticks = list(bar_records(make_bars(350, timeframe="M1", seed=5, gaps=False), "A"))
    rules = [one for one in make_rules() if one.id != "break"]
    pipeline = opened(tmp_path, "live")
    pipeline.set_rules(rules)
    for batch, taken in replay_batches(
        ticks, pipeline.evaluator.symbols, source="tape", options=BatcherOptions(most=97)
    ):
        pipeline.take(batch, taken)
    live = ended(pipeline)
    found = {one.id: (one.rule, one.ts, one.price) for one in replayed(rules, ticks)}
    assert found == live
    assert {rule for rule, *_ in live.values()} == {rule.id for rule in rules}


def test_a_recording_is_replayed_for_the_symbols_that_rules_name(tmp_path: Path) -> None:
    lines = []
    for number, (symbol, price) in enumerate([("A", 99), ("B", 500), ("A", 101), ("A", 102), ("A", 99), ("A", 103)]):
        data = {"e": "aggTrade", "E": 5, "s": symbol, "a": number if symbol == "B" else number + 10, "p": str(price)}
        data |= {"q": "2", "f": 1, "l": 1, "T": 1_000 * (number + 1), "m": False, "M": True}
        stamp = 1_633_998_512_000_000_000 + number
        lines.append(f"{stamp} " + json.dumps({"stream": f"{symbol.lower()}@aggTrade", "data": data}))
    path = tmp_path / "session"
    path.write_text("\n".join(lines) + "\n")
    rule = Rule(id="up", owner="me", condition="crosses_up(close, 100)", symbols=("A",))
    # From 99 to 101 an id is missing: over a gap nothing crosses.
    assert [(one.ts // 10**9, one.price) for one in replay_rules([rule], [path], Binance())] == [(6, 103.0)]
    with pytest.raises(ConfigurationError, match="no rule names a symbol"):
        replay_rules([rule.model_copy(update={"symbols": ("*",)})], [path], Binance())
