"""Symbols to shards to instances: the same everywhere, even, and moved no further than they must be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tapeline.alerts.scale.assignment import owner_of, shard_of, shards_of
from tapeline.core.errors import ConfigurationError

NAMES = some.lists(some.text("abcdefgh-0123456789", min_size=1, max_size=8), min_size=1, max_size=6, unique=True)
SHARDS = 24


@given(NAMES, some.data())
@settings(max_examples=40, deadline=None)
def test_each_shard_has_one_owner_and_only_what_must_move_moves(names: list[str], data: some.DataObject) -> None:
    before = {shard: owner_of(shard, names) for shard in range(SHARDS)}
    assert sorted(shard for name in names for shard in shards_of(name, names, SHARDS)) == list(range(SHARDS))
    assert before == {shard: owner_of(shard, data.draw(some.permutations(names))) for shard in range(SHARDS)}
    gone = data.draw(some.sampled_from(names))
    left = [name for name in names if name != gone]
    for shard in range(SHARDS):
        after = owner_of(shard, left)
        assert after == before[shard] if before[shard] != gone else after != gone
    joined = [*names, "new-one!"]
    moved = {shard for shard in range(SHARDS) if owner_of(shard, joined) != before[shard]}
    assert moved == set(shards_of("new-one!", joined, SHARDS))


def test_shards_and_engines_share_evenly() -> None:
    symbols = Counter(shard_of(f"SYM{number}USDT", 16) for number in range(8_000))
    assert len(symbols) == 16
    assert max(symbols.values()) < 1.2 * 8_000 / 16
    owners = Counter(owner_of(shard, ("a", "b", "c", "d")) for shard in range(1_024))
    assert max(owners.values()) < 1.25 * 256


def test_a_symbol_stays_where_it_is_over_versions_of_python_and_machines() -> None:
    assert [shard_of(symbol, 16) for symbol in ("BTCUSDT", "ETHUSDT", "EUR/USD", "ΩUSDT")] == [12, 5, 3, 9]
    assert owner_of(0, ()) is None
    with pytest.raises(ConfigurationError, match="shards = 0"):
        shard_of("BTCUSDT", 0)
