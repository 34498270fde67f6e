"""What a source calls a symbol, one spelling of a pair, and what makes a record unusable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tapeline.alerts.feeds.batcher import Tick
from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol

LARGEST: Final = 1e15
"""Prices and sizes beyond it are damage: no market has had them, and sums of their squares lose all digits."""
EARLIEST: Final = 0
_SEPARATORS: Final = str.maketrans("", "", "/-_: ")


@dataclass(frozen=True)
class SourceName:
    """One source of a symbol.

    Parameters
    ----------
    source:
        Its name, such as ``binance``.
    name:
        What it calls the symbol, such as ``BTC-USD``.
    stale_after:
        Seconds of silence after which the next source takes over.
    own_clock:
        Its records come later than the lateness of the batcher, as those of a source that is polled: while it speaks,
        a symbol's bars close as :meth:`DataManager.reach` says, not by the clock of all.
    """

    source: str
    name: str
    stale_after: float = 10.0
    own_clock: bool = False

    def __post_init__(self) -> None:
        Symbol.parse(self.name)
        if not self.source or ":" in self.source:
            raise ConfigurationError(f"source {self.source!r} must be a name without a colon")
        if not self.stale_after > 0:
            raise ConfigurationError(f"stale_after = {self.stale_after} must be positive")


def canonical(name: str) -> str:
    """One spelling of a pair whichever separator a source uses; the instrument behind it is not judged.

    Raises
    ------
    ConfigurationError
        It is no symbol.

    Examples
    --------
    >>> [canonical(name) for name in ("BTCUSDT", "BTC/USDT", "btc-usdt")]
    ['BTCUSDT', 'BTCUSDT', 'BTCUSDT']
    """
    return str(Symbol.parse(Symbol.parse(name).translate(_SEPARATORS).upper()))


def fault(tick: Tick, ahead: int) -> str | None:
    """Why a record cannot be used; None where it can."""
    if not 0.0 < tick.price <= LARGEST:
        return "a price that is not positive and finite"
    if not 0.0 <= tick.size <= LARGEST:
        return "a size that is not finite"
    if tick.ts < EARLIEST:
        return "a time before 1970"
    if tick.ts > ahead:
        return "a time far ahead of our clock"
    return None
