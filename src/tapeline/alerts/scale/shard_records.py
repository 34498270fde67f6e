"""From the entries of a stream to batches of an evaluator, each record once whoever published it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.engine.indicators import EXTERNAL
from tapeline.alerts.engine.kernel import TRADE
from tapeline.alerts.engine.layout import Indicator
from tapeline.alerts.feeds.batcher import NO_SOURCE
from tapeline.alerts.passage import Taken
from tapeline.alerts.scale.packed_batch import PackedBatch
from tapeline.core.errors import DataError

_NEVER: Final = -1
_TIMED: Final = "@"
"""Begins the name of a position that is a time, of a source without numbers."""


class ShardRecords:
    """Reads packed batches for one evaluator and passes over what it has taken already.

    A publisher that begins a term asks its sources again for what is behind the snapshots: much of it was published
    before. A record with a number is told apart by it, a trade without one by its time; both rise for one source and
    symbol. A value without a number cannot be told apart, and is taken.

    Parameters
    ----------
    evaluator:
        Symbols that it does not know yet join it.
    positions:
        Of a snapshot, see :meth:`positions`.

    Examples
    --------
    >>> from tapeline.alerts.feeds.batcher import Batcher, Tick
    >>> from tapeline.alerts.scale.packed_batch import pack_by_shard, unpack
    >>> batcher = Batcher({"A": 0}, clock=lambda: 0)
    >>> batcher.take_all([Tick("A", 5, 100.0, 1.0, 7), Tick("A", 6, 101.0, 1.0, 8)], "venue")
    >>> packed = pack_by_shard(batcher.flush_rows(0, force=True), ["A"], np.zeros(1, np.int32), 1)
    >>> records = ShardRecords(Evaluator(["A"]), {"venue:A": 7})
    >>> batch, _ = records.take(unpack(packed[0]))
    >>> batch.prices.tolist(), records.duplicates, records.positions()
    ([101.0], 1, {'venue:A': 8})
    """

    def __init__(self, evaluator: Evaluator, positions: Mapping[str, int]) -> None:
        self.duplicates = self.unread = 0
        self._evaluator = evaluator
        self._sources: dict[str, int] = {}
        self._last = np.full((0, 0), _NEVER, np.int64)
        self._newest = np.full((0, 0), _NEVER, np.int64)
        self._mappings: dict[tuple[str, ...], NDArray[np.int32]] = {}
        for name, position in positions.items():
            source, _, symbol = name.partition(":")
            timed = source.startswith(_TIMED)
            self._evaluator.add_symbols([symbol])
            number = self._source(source.removeprefix(_TIMED) if timed else source)
            self._grow()
            (self._newest if timed else self._last)[number, evaluator.symbols[symbol]] = position

    def positions(self) -> dict[str, int]:
        """How far each source of each symbol is taken, as a snapshot keeps it."""
        names, found = self._evaluator.names, {}
        for source, number in self._sources.items():
            for prefix, known in (("", self._last), (_TIMED, self._newest)):
                for symbol in np.flatnonzero(known[number] > _NEVER).tolist():
                    found[f"{prefix}{source}:{names[symbol]}"] = int(known[number, symbol])
        return found

    def take(self, packed: PackedBatch) -> tuple[Batch, Taken]:
        """The records that are new, in their order."""
        columns = packed.columns
        symbols = self._mapping(packed.symbols)[columns["symbol"]]
        kept = self._new(packed, symbols)
        sizes = columns["size"]
        if packed.external:
            sizes = sizes.copy()
            for row, key in packed.external.items():
                try:
                    name = packed.symbols[columns["symbol"][row]]
                    sizes[row] = self._evaluator.place(name, Indicator(EXTERNAL, key=key))
                except DataError:
                    # No rule reads it: it moves nothing.
                    self.unread += bool(kept[row])
                    kept[row] = False
        of: dict[str, NDArray[Any]] = {"size": sizes, **{name: columns[name] for name in columns if name != "size"}}
        if not kept.all():
            of = {name: column[kept] for name, column in of.items()}
            symbols = symbols[kept]
        times, prices = of["ts"].astype(np.int64), of["price"].astype(np.float64)
        batch = Batch(symbols, times, prices, of["size"].astype(np.float64), of["record"].astype(np.uint8))
        late = of["late"].astype(np.bool_)
        return batch, Taken(symbols, times, prices, of["sequence"].astype(np.int64), late, {}, batch.records)

    def _new(self, packed: PackedBatch, symbols: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which records were not taken before; from now on they were."""
        columns = packed.columns
        numbers = [self._source(name) for name in packed.sources]
        nameless = self._source("") if (columns["source"] == NO_SOURCE).any() else 0
        self._grow()
        sources = np.array([*numbers, nameless], np.intp)[np.minimum(columns["source"], len(numbers))]
        sequence, ts = columns["sequence"], columns["ts"]
        kept = np.ones(sequence.size, np.bool_)
        # Without a source nobody says that times rise.
        timed = (sequence < 0) & (columns["record"] == TRADE) & (columns["source"] != NO_SOURCE)
        for known, mine, value in ((self._last, sequence >= 0, sequence), (self._newest, timed, ts)):
            rows = np.flatnonzero(mine & (symbols >= 0))
            if not rows.size:
                continue
            place = sources[rows], symbols[rows]
            fresh = value[rows] > known[place]
            kept[rows] = fresh
            # Of a place that is written several times the last one stays, which is the largest: they rise.
            known[place[0][fresh], place[1][fresh]] = value[rows][fresh]
        self.duplicates += int(kept.size - np.count_nonzero(kept))
        return kept

    def _mapping(self, names: tuple[str, ...]) -> NDArray[np.int32]:
        """The evaluator's numbers of an entry's symbols; the last place stands for -1, which is all."""
        found = self._mappings.get(names)
        if found is None:
            self._evaluator.add_symbols(names)
            found = np.array([*(self._evaluator.symbols[name] for name in names), -1], np.int32)
            if len(self._mappings) >= 1_024:
                self._mappings.clear()
            self._mappings[names] = found
        return found

    def _source(self, name: str) -> int:
        return self._sources.setdefault(name, len(self._sources))

    def _grow(self) -> None:
        """Room for every source and symbol."""
        want = len(self._sources), len(self._evaluator.names)
        have = self._last.shape
        if want[0] <= have[0] and want[1] <= have[1]:
            return
        # With room to spare: symbols join one by one.
        shape = max(want[0], have[0]), max(want[1] + 64, have[1])
        for name in ("_last", "_newest"):
            made = np.full(shape, _NEVER, np.int64)
            made[: have[0], : have[1]] = getattr(self, name)
            setattr(self, name, made)
