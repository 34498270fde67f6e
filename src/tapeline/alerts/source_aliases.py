"""What a source calls the symbols that an engine follows, as the database has it now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tapeline.alerts.feeds.source_names import SourceName
from tapeline.alerts.symbol_manager import SymbolManager

FRESH: float = 1.0
"""Seconds for which what was read is taken for what stands."""


class SourceAliases:
    """The sources of a symbol: one, under the name that the universe has for it there.

    A symbol that only other sources have a name for is not this source's; one without any name is called there as it
    is called here, where that is a name which the source can have.

    Parameters
    ----------
    symbols:
        The universe.
    source, stale_after:
        Of the :class:`SourceName` that is made.
    possible:
        Whether the source can have an instrument of such a name.

    Examples
    --------
    >>> class Known:
    ...     def names(self):
    ...         return {"BTCUSD": {"kraken": "XBT/USD"}, "ETHUSDT": {"binance": "ETHUSDT"}}
    >>> aliases = SourceAliases(Known(), "binance", 60.0, possible=str.isalnum)
    >>> [[one.name for one in aliases(symbol)] for symbol in ("ETHUSDT", "BTCUSD", "SOLUSDT", "BRK-B")]
    [['ETHUSDT'], [], ['SOLUSDT'], []]
    """

    def __init__(
        self,
        symbols: SymbolManager,
        source: str,
        stale_after: float,
        *,
        possible: Callable[[str], bool] = lambda name: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._symbols, self._source, self._stale_after = symbols, source, stale_after
        self._possible, self._clock = possible, clock
        self._names: Mapping[str, Mapping[str, str]] = {}
        self._read_at = float("-inf")

    def __call__(self, symbol: str) -> list[SourceName]:
        """The sources of a symbol; none where it is not this source's."""
        if self._clock() - self._read_at > FRESH:
            self._names, self._read_at = self._symbols.names(), self._clock()
        named = self._names.get(symbol, {})
        name = named.get(self._source, symbol)
        if (named and self._source not in named) or not self._possible(name):
            return []
        return [SourceName(self._source, name, self._stale_after)]
