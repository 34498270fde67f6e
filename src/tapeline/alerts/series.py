"""The series that bars tell, live: bars close from the engine's own trades, detectors look at them, events go in.

Where few bars are looked at, an event stands directly before the record with which its bar closed, and its time is
the bar's close: the kernel then closes its bars with the event, asks what is asked at closes, and asks the event,
before the next bar's first trade is known. A backtest orders them in the same way.

Where many are, a shared close costs seconds of detectors, for which no tick may wait. An event then stands before the
first record at which event time has gone on by :attr:`SeriesFeeds.delay` since its bar closed, and meanwhile another
process looks for it. Its place follows from the records alone: whether the detectors run here or there, fast or slowly,
live, in a recovery or in a replay, the same records give the same events at the same places.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.bar_series import COLUMNS, Bar, Given, kept_bars
from tapeline.alerts.conditions import external_keys, history_needed
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.engine.kernel import EARLIEST, EVENT, LATEST, VALUE
from tapeline.alerts.engine.layout import TIMEFRAMES
from tapeline.alerts.external import External
from tapeline.alerts.kinds.pattern import wanted_patterns
from tapeline.alerts.operands import external
from tapeline.alerts.passage import Taken
from tapeline.alerts.series_book import Told, columns_of
from tapeline.alerts.series_worker import PATIENCE, Book, OwnBook, SeriesWorker
from tapeline.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

History = Callable[[str, int, int], "pd.DataFrame | None"]
"""Closed bars of a symbol and timeframe (nanoseconds), the newest so many, or None: index ``ts``, OHLCV."""

SETTLED: Final = 20
"""Times an indicator's length after which it has forgotten where it began: 19/20 ** 400 is 1e-9."""


FEW: Final = 32
"""Detectors (kinds of events and divergences, of all symbols and timeframes) that run before the record that closed."""
SHARE: Final = 1_000_000
"""Nanoseconds of event time that each detector has where there are more: it needs 0.2 to 0.7 ms on most bars."""
LONGEST: Final = 30_000_000_000
"""Nanoseconds after which an event is told at the latest."""


class Detectors(NamedTuple):
    """What is looked for on the bars of one symbol and timeframe: kinds of events, divergences of indicators."""

    kinds: tuple[str, ...]
    indicators: tuple[str, ...]


class _Asked(NamedTuple):
    """A batch that is being looked at, and how far event time had come with each of its records."""

    delay: int
    reached: NDArray[np.int64]
    told: Future[list[Told]]


class SeriesFeeds:
    """The bar series that the rules in force ask for, and no others: detectors cost up to milliseconds a bar.

    Parameters
    ----------
    evaluator:
        Whose rules read the series; its symbols' numbers and places are those of the batches.
    history:
        Gives bars of the past to begin with; nothing where absent.
    plain:
        Of :meth:`still`.
    apart:
        Whether detectors run in a process of their own where they are many; it changes no event and no place of one.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        history: History | None = None,
        plain: Mapping[str, Any] | None = None,
        *,
        apart: bool = False,
    ) -> None:
        found = plain or {}
        self._evaluator, self._history, self._apart = evaluator, history, apart
        self._book: Book = OwnBook()
        self._restored = {(str(one["symbol"]), int(one["timeframe"])): one for one in found.get("bars", ())}
        self._followed: dict[tuple[str, int], Detectors] = {}
        self._numbers: dict[str, int] = {}
        self._warm: set[tuple[str, int]] = {(symbol, frame) for symbol, frame in found.get("warm", ())}
        self._wanted = np.zeros(0, np.bool_)
        self._keys: dict[str, Counter[str]] = {}
        self._given: list[Given] = []
        self._again: dict[tuple[str, int, int], list[Bar]] | None = None
        self._reached = int(found.get("reached", EARLIEST))
        self._asked: deque[_Asked] = deque()
        self._needed: deque[int] = deque()
        """When, at the earliest, something of those that are asked is due; it never falls."""
        self._order = itertools.count()
        self._due = [(int(due), next(self._order), _external(one)) for due, *one in found.get("due", ())]
        heapq.heapify(self._due)
        self.detectors = self.told = 0

    @property
    def wanted(self) -> tuple[tuple[str, int], ...]:
        """Symbols and timeframes (nanoseconds) whose bars are looked at."""
        return tuple(sorted(self._followed))

    @property
    def delay(self) -> int:
        """Nanoseconds of event time between a bar's close and what it tells: 0 where few detectors look."""
        return 0 if self.detectors <= FEW else min(self.detectors * SHARE, LONGEST)

    @property
    def is_apart(self) -> bool:
        """Whether the detectors run in a process of their own now."""
        return isinstance(self._book, SeriesWorker)

    def set_rules(self, rules: Iterable[tuple[CompiledRule, Iterable[str]]]) -> None:
        """These rules with their symbols and no others; see :meth:`change`."""
        standing = {*self._keys, *(symbol for symbol, _ in self._followed)}
        self._keys = {}
        self.change((), rules, touched=standing)
        # What a snapshot has of rules that are gone.
        self._restored = {}

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
        if of_symbols:
            self._follow({symbol: self._series_of(symbol) for symbol in sorted(of_symbols)})
        self._load(needed)

    def forget(self, symbols: Iterable[str]) -> None:
        """Symbols that the evaluator has forgotten: where they come back, history is loaded again."""
        gone = set(symbols)
        self._warm = {one for one in self._warm if one[0] not in gone}
        for symbol in gone:
            self._keys.pop(symbol, None)
        if any(symbol in gone for symbol, _ in self._followed):
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
        """The batch with what closed bars tell put in, each at its place.

        Raises
        ------
        TemporaryError
            The detectors' process is lost.
        """
        if not batch.times.size or not (self._followed or self._asked or self._due):
            return batch, taken
        sane = np.where((batch.times >= EARLIEST) & (batch.times <= LATEST), batch.times, EARLIEST)
        reached = np.maximum.accumulate(np.maximum(sane, self._reached))
        self._reached = newest = int(reached[-1])
        columns, delay = columns_of(batch, self._wanted), self.delay
        if columns.rows.size:
            self._ask(_Asked(delay, reached, self._book.ask("take", columns)), int(reached[0]) + delay)
        found = self._answered(newest)
        while self._due and self._due[0][0] <= newest:
            due, order, record = heapq.heappop(self._due)
            found.append((int(np.searchsorted(reached, due)), order, record))
        return self._put_in(sorted(found, key=lambda one: one[:2]), batch, taken) if found else (batch, taken)

    def still(self) -> Callable[[], dict[str, Any]]:
        """All of it as of now, as JSON keeps it, made when what is given is called: in any thread, at any time."""
        warm, reached, due, asked = set(self._warm), self._reached, sorted(self._due), list(self._asked)
        if isinstance(self._book, SeriesWorker):
            state = self._book.ask("state")
            bars: Callable[[], list[dict[str, Any]]] = lambda: state.result(PATIENCE)  # noqa: E731
        else:
            bars = self._book.ask("still").result()

        def made() -> dict[str, Any]:
            coming = [(at, one) for each in asked for at, one in _due_of(each, each.told.result(PATIENCE))]
            every = sorted([*((at, one) for at, _, one in due), *coming], key=lambda one: one[0])
            return {
                "bars": bars(),
                "warm": sorted(warm),
                "reached": reached,
                "due": [[at, one.ts, one.symbol, one.key, _plain(one.value), one.event] for at, one in every],
            }

        return made

    def close(self) -> None:
        """End the detectors' process, where there is one."""
        self._book.close()

    def _ask(self, one: _Asked, needed: int) -> None:
        """Note what is asked. Where the delay has become shorter, those before it are needed as soon."""
        at = len(self._needed) - 1
        while at >= 0 and self._needed[at] > needed:
            self._needed[at] = needed
            at -= 1
        self._asked.append(one)
        self._needed.append(needed)

    def _answered(self, newest: int) -> list[tuple[int, int, External]]:
        """Take the answers that are there, waiting for those of which something may be due: at its place what is."""
        found = []
        while self._asked and (self._needed[0] <= newest or self._asked[0].told.done()):
            self._needed.popleft()
            found += self._heard(self._asked.popleft())
        return found

    def _heard(self, one: _Asked) -> list[tuple[int, int, External]]:
        told = one.told.result(PATIENCE)
        if not one.delay:
            # Only ever of the batch that is being taken: its answer is waited for.
            return [(row, next(self._order), record) for row, record in told]
        for due, record in _due_of(one, told):
            heapq.heappush(self._due, (due, next(self._order), record))
        return []

    def _put_in(
        self, found: Iterable[tuple[int, int, External]], batch: Batch, taken: Taken
    ) -> tuple[Batch, Taken]:  # fmt: skip
        at, rows = [], []
        for row, _, record in found:
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

    def _series_of(self, symbol: str) -> dict[int, Detectors]:
        """By timeframe the events and divergences of a symbol that its rules ask for."""
        keys = [key for key, count in self._keys.get(symbol, {}).items() if count > 0]
        if symbol in self._keys:
            self._keys[symbol] = Counter({key: self._keys[symbol][key] for key in keys})
        patterns, divergences = wanted_patterns(keys), _wanted_divergences(keys)
        return {
            timeframe: Detectors(patterns.get(timeframe, ()), divergences.get(timeframe, ()))
            for timeframe in sorted({*patterns, *divergences})
        }

    def _follow(self, wanted: Mapping[str, Mapping[int, Detectors]]) -> None:
        """Let the series of some symbols be those that their rules ask for."""
        standing = self._followed
        gone = [
            (symbol, timeframe)
            for symbol, frames in wanted.items()
            for timeframe in TIMEFRAMES.values()
            if timeframe not in frames and (symbol, timeframe) in standing
        ]
        new = {
            (symbol, timeframe): one
            for symbol, frames in wanted.items()
            for timeframe, one in frames.items()
            if standing.get((symbol, timeframe)) != one
        }
        self.detectors += sum(map(_weight, new.values()))
        self.detectors -= sum(_weight(standing[key]) for key in (*gone, *new) if key in standing)
        self._move()
        for symbol, timeframe in gone:
            self._book.ask("drop", self._numbers[symbol], timeframe)
            del standing[symbol, timeframe]
        for (symbol, timeframe), one in new.items():
            number = self._numbers[symbol] = self._evaluator.symbols[symbol]
            past: Any = self._restored.pop((symbol, timeframe), None)
            if past is None and (symbol, timeframe) not in standing:
                past = self._past(symbol, timeframe, kept_bars(one.kinds))
            self._book.ask("follow", symbol, number, timeframe, *one, past or ())
            standing[symbol, timeframe] = one
        more = len(self._evaluator.names) - self._wanted.size
        self._wanted = np.append(self._wanted, np.zeros(max(more, 0), np.bool_))
        for symbol, frames in wanted.items():
            if symbol in self._numbers:
                self._wanted[self._numbers[symbol]] = bool(frames)

    def _move(self) -> None:
        """Have the detectors where they belong by their number."""
        if not self._apart or self.is_apart == bool(self.delay):
            return
        states = self._book.ask("state").result(PATIENCE)
        before, self._book = self._book, SeriesWorker() if self.delay else OwnBook()
        for state in states:
            symbol, timeframe = state["symbol"], state["timeframe"]
            wanted = self._followed[symbol, timeframe]
            self._book.ask("follow", symbol, self._numbers[symbol], timeframe, *wanted, state)
        before.close()

    def _past(self, symbol: str, timeframe: int, bars: int) -> list[Bar]:
        if self._again is not None:
            found = self._again.get((symbol, timeframe, bars), [])
        else:
            found = self._from_history(symbol, timeframe, bars)
        if found:
            self._given.append(Given(symbol, timeframe, bars, found))
        return found

    def _from_history(self, symbol: str, timeframe: int, bars: int) -> list[Bar]:
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


def _due_of(one: _Asked, told: Iterable[Told]) -> list[tuple[int, External]]:
    """When each of what closed bars tell is due."""
    return [(int(one.reached[row]) + one.delay, record) for row, record in told]


def _weight(one: Detectors) -> int:
    return len(one.kinds) + len(one.indicators)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _external(plain: list[Any]) -> External:
    ts, symbol, key, value, event = plain
    return External(int(ts), symbol, key, math.nan if value is None else value, bool(event))


def _wanted_divergences(keys: Iterable[str]) -> dict[int, tuple[str, ...]]:
    found: dict[int, set[str]] = {}
    for key in keys:
        series, *rest = key.split(":")
        if series == "divergence" and len(rest) == 2:
            found.setdefault(TIMEFRAMES[rest[1]], set()).add(rest[0])
    return {timeframe: tuple(sorted(names)) for timeframe, names in found.items()}
