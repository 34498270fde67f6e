"""The series that bars tell, live: bars close from the engine's own trades, detectors look at them, events go in.

An event stands directly before the record with which its bar closed, and its time is the bar's close: the kernel then
closes its bars with the event, asks what is asked at closes, and asks the event, before the next bar's first trade is
known. A backtest orders them in the same way.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tapeline.alerts.bar_series import COLUMNS, Bar, BarSeries, Given, of_symbol
from tapeline.alerts.conditions import external_keys, history_needed
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.engine.kernel import EVENT, VALUE
from tapeline.alerts.engine.layout import TIMEFRAMES
from tapeline.alerts.kinds.pattern import wanted_patterns
from tapeline.alerts.operands import external
from tapeline.alerts.passage import Taken
from tapeline.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

History = Callable[[str, int, int], "pd.DataFrame | None"]
"""Closed bars of a symbol and timeframe (nanoseconds), the newest so many, or None: index ``ts``, OHLCV."""

SETTLED: Final = 20
"""Times an indicator's length after which it has forgotten where it began: 19/20 ** 400 is 1e-9."""


class SeriesFeeds:
    """The bar series that the rules in force ask for, and no others: a detector costs milliseconds a bar.

    Parameters
    ----------
    evaluator:
        Whose rules read the series; its symbols' numbers and places are those of the batches.
    history:
        Gives bars of the past to begin with; nothing where absent.
    plain:
        Of :meth:`state`.
    """

    def __init__(
        self, evaluator: Evaluator, history: History | None = None, plain: Mapping[str, Any] | None = None
    ) -> None:
        self._evaluator, self._history = evaluator, history
        made = (BarSeries.restored(one) for one in (plain or {}).get("bars", ()))
        self._series = {(one.symbol, one.timeframe): one for one in made}
        self._warm: set[tuple[str, int]] = {(symbol, frame) for symbol, frame in (plain or {}).get("warm", ())}
        self._by_symbol: dict[int, list[BarSeries]] = {}
        self._keys: dict[str, Counter[str]] = {}
        self._given: list[Given] = []
        self._again: dict[tuple[str, int, int], list[Bar]] | None = None
        self.told = 0

    @property
    def wanted(self) -> tuple[tuple[str, int], ...]:
        """Symbols and timeframes (nanoseconds) whose bars are looked at."""
        return tuple(sorted(self._series))

    def set_rules(self, rules: Iterable[tuple[CompiledRule, Iterable[str]]]) -> None:
        """These rules with their symbols and no others; see :meth:`change`."""
        standing = {*self._keys, *(symbol for symbol, _ in self._series)}
        self._keys = {}
        self.change((), rules, touched=standing)

    def change(
        self,
        removed: Iterable[tuple[CompiledRule, Iterable[str]]],
        added: Iterable[tuple[CompiledRule, Iterable[str]]],
        touched: Iterable[str] = (),
    ) -> None:
        """Some rules go, some come, after the evaluator has them: series come and go, history is loaded.

        A series that stays keeps what it has; one that is new begins with history. Indicators are loaded once for each
        symbol and timeframe, before its first trade.
        """
        of_symbols, needed = set(touched), dict[tuple[str, int], int]()
        for rule, symbols in removed:
            of_rule = external_keys(rule)
            for symbol in symbols if of_rule else ():
                self._keys[symbol].subtract(of_rule)
                of_symbols.add(symbol)
        for rule, symbols in added:
            of_rule = external_keys(rule)
            lengths = [(timeframe, bars) for timeframe, bars in history_needed(rule).items() if bars]
            for symbol in symbols if of_rule or lengths else ():
                if of_rule:
                    self._keys.setdefault(symbol, Counter()).update(of_rule)
                    of_symbols.add(symbol)
                for timeframe, bars in lengths:
                    if (symbol, timeframe) not in self._warm:
                        needed[symbol, timeframe] = max(bars, needed.get((symbol, timeframe), 0))
        changed = False
        for symbol in sorted(of_symbols):
            changed |= self._follow(symbol)
        if changed:
            self._by_symbol = {}
            for symbol, timeframe in sorted(self._series):
                number = self._evaluator.symbols[symbol]
                self._by_symbol.setdefault(number, []).append(self._series[symbol, timeframe])
        self._load(needed)

    def forget(self, symbols: Iterable[str]) -> None:
        """Symbols that the evaluator has forgotten: where they come back, history is loaded again."""
        gone = set(symbols)
        self._warm = {one for one in self._warm if one[0] not in gone}
        for symbol in gone:
            self._keys.pop(symbol, None)
        if any(symbol in gone for symbol, _ in self._series):
            self.change((), (), touched=gone)

    def begin_change(self, again: Iterable[Given] | None = None) -> None:
        """From here on note what history gives; with ``again`` it gives that, as in a change that is gone over."""
        self._given = []
        self._again = None if again is None else {(one.symbol, one.timeframe, one.asked): one.bars for one in again}

    def end_change(self) -> list[Given]:
        """What history gave since :meth:`begin_change`."""
        given, self._given, self._again = self._given, [], None
        return given

    def take(self, batch: Batch, taken: Taken) -> tuple[Batch, Taken]:
        """The batch with what its closing bars tell put in, before the record that closed each."""
        if not self._by_symbol:
            return batch, taken
        present = set(batch.symbols.tolist())
        found = [
            (row, record)
            for number, some in self._by_symbol.items()
            # A clock of all reaches each of them.
            if number in present or -1 in present
            for records in [of_symbol(batch, number)]
            if records.rows.size
            for series in some
            for row, record in series.take(records)
        ]
        if not found:
            return batch, taken
        found.sort(key=lambda one: (one[0], one[1].ts))
        at, rows = [], []
        for row, record in found:
            try:
                place = self._evaluator.place(record.symbol, external(record.key)[0])
            except DataError:
                continue
            at.append(row)
            code = EVENT if record.event else VALUE
            rows.append((self._evaluator.symbols[record.symbol], record.ts, record.value, float(place), code))
        if not at:
            return batch, taken
        self.told += len(at)
        symbols, times, values, places, codes = zip(*rows, strict=True)
        made = Batch(
            np.insert(batch.symbols, at, symbols),
            np.insert(batch.times, at, times),
            np.insert(batch.prices, at, values),
            np.insert(batch.sizes, at, places),
            np.insert(batch.records, at, codes),
        )
        told = taken._replace(
            symbols=made.symbols,
            times=made.times,
            prices=made.prices,
            sequences=np.insert(taken.sequences, at, -1),
            late=np.insert(taken.late, at, False),
            records=made.records,
        )
        return made, told

    def still(self) -> Callable[[], dict[str, Any]]:
        """All of it as of now, as JSON keeps it, made when what is given is called: in any thread, at any time."""
        series, warm = [one.still() for one in self._series.values()], set(self._warm)
        return lambda: {"bars": [one() for one in series], "warm": sorted(warm)}

    def _load(self, needed: Mapping[tuple[str, int], int]) -> None:
        for (symbol, timeframe), bars in sorted(needed.items()):
            self._warm.add((symbol, timeframe))
            past = self._past(symbol, timeframe, SETTLED * bars)
            if not past:
                continue
            columns = dict(zip(("ts", *COLUMNS), zip(*past, strict=True), strict=True))
            try:
                self._evaluator.load(symbol, timeframe, columns)
            except DataError as error:
                _log.info("indicators of %s begin without history: %s", symbol, error)

    def _follow(self, symbol: str) -> bool:
        """Let the series of a symbol be those that its rules ask for; whether some came or went."""
        keys = [key for key, count in self._keys.get(symbol, {}).items() if count > 0]
        if symbol in self._keys:
            self._keys[symbol] = Counter({key: self._keys[symbol][key] for key in keys})
        patterns, divergences = wanted_patterns(keys), _wanted_divergences(keys)
        wanted = {*patterns, *divergences}
        gone = [timeframe for timeframe in TIMEFRAMES.values() if timeframe not in wanted]
        changed = False
        for timeframe in gone:
            changed |= self._series.pop((symbol, timeframe), None) is not None
        for timeframe in sorted(wanted):
            series, is_new = self._series.get((symbol, timeframe)), False
            if series is None:
                series, is_new = BarSeries(symbol, timeframe), True
            series.want(patterns.get(timeframe, ()), divergences.get(timeframe, ()))
            if is_new:
                series.begin(self._past(symbol, timeframe, series.kept))
                self._series[symbol, timeframe] = series
        # A series of a snapshot is new to this engine though not to the rules.
        return changed or bool(wanted)

    def _past(self, symbol: str, timeframe: int, bars: int) -> list[Bar]:
        if self._again is not None:
            found = self._again.get((symbol, timeframe, bars), [])
        else:
            found = self._asked(symbol, timeframe, bars)
        if found:
            self._given.append(Given(symbol, timeframe, bars, found))
        return found

    def _asked(self, symbol: str, timeframe: int, bars: int) -> list[Bar]:
        if self._history is None:
            return []
        frame = self._history(symbol, timeframe, bars)
        if frame is None or frame.empty:
            return []
        opened = frame.index.as_unit("ns").asi8  # type: ignore[attr-defined]
        prices = frame[list(COLUMNS)].to_numpy(np.float64)
        if (np.diff(opened) <= 0).any() or (opened % timeframe).any() or not np.isfinite(prices).all():
            _log.warning("the history of %s is left out: its bars must ascend, whole and finite", symbol)
            return []
        return [Bar(ts, *row) for ts, row in zip(opened[-bars:].tolist(), prices[-bars:].tolist(), strict=True)]


def _wanted_divergences(keys: Iterable[str]) -> dict[int, tuple[str, ...]]:
    found: dict[int, set[str]] = {}
    for key in keys:
        series, *rest = key.split(":")
        if series == "divergence" and len(rest) == 2:
            found.setdefault(TIMEFRAMES[rest[1]], set()).add(rest[0])
    return {timeframe: tuple(sorted(names)) for timeframe, names in found.items()}
