"""Which shard a symbol is in, and which of the living engines a shard belongs to: pure functions, the same everywhere.

Shards are given out by rendezvous: each engine draws a number for each shard, and the highest has it (Thaler and
Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on Networking 6, 1998). When an
engine dies only its shards move, and when one joins only those that it wins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tapeline.core.errors import ConfigurationError


def shard_of(symbol: str, shards: int) -> int:
    """The shard of a symbol; constant while the number of shards is.

    Raises
    ------
    ConfigurationError
        There is no shard.

    Examples
    --------
    >>> [shard_of(symbol, 16) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    [12, 5, 9]
    """
    if shards < 1:
        raise ConfigurationError(f"shards = {shards} must be 1 or more")
    return _number(f"symbol\x1f{symbol}") % shards


def owner_of(shard: int, instances: Iterable[str]) -> str | None:
    """Which instance has a shard; None where there is no instance.

    Examples
    --------
    >>> [owner_of(shard, ("ann", "ben")) for shard in range(6)]
    ['ben', 'ben', 'ben', 'ben', 'ann', 'ben']
    >>> [owner_of(shard, ("ann",)) for shard in range(2)]
    ['ann', 'ann']
    """
    return max(instances, key=lambda name: (_number(f"owner\x1f{name}\x1f{shard}"), name), default=None)


def shards_of(instance: str, instances: Iterable[str], shards: int) -> tuple[int, ...]:
    """The shards that belong to an instance while these are alive.

    Examples
    --------
    >>> shards_of("ann", ("ann", "ben"), 6)
    (4,)
    """
    names = tuple(instances)
    return tuple(shard for shard in range(shards) if owner_of(shard, names) == instance)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
