"""The series that bars tell, live: bars close from the engine's own trades, detectors look at them, events go in.

An event stands directly before the record with which its bar closed, and its time is the bar's close: the kernel then
closes its bars with the event, asks what is asked at closes, and asks the event, before the next bar's first trade is
known. A backtest orders them in the same way.
"""

from __future__ import annotations

import base64
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.conditions import external_keys, history_needed
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.engine.kernel import CLOCK, EARLIEST, EVENT, GAP, LATEST, TRADE, VALUE
from tapeline.alerts.engine.layout import TIMEFRAMES
from tapeline.alerts.external import External
from tapeline.alerts.kinds.divergence import DivergenceFeed
from tapeline.alerts.kinds.pattern import PatternFeed, wanted_patterns
from tapeline.alerts.operands import external
from tapeline.alerts.passage import Taken
from tapeline.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)

History = Callable[[str, int, int], "pd.DataFrame | None"]
"""Closed bars of a symbol and timeframe (nanoseconds), the newest so many, or None: index ``ts``, OHLCV."""

LEAST: Final = 600
"""Closed bars that a series keeps at least; detectors that look further back keep more."""
SETTLED: Final = 20
"""Times an indicator's length after which it has forgotten where it began: 19/20 ** 400 is 1e-9."""
_COLUMNS: Final = ("open", "high", "low", "close", "volume")


class Bar(NamedTuple):
    """A closed bar; ``ts`` is its open in nanoseconds."""

    ts: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Given(NamedTuple):
    """Bars that history gave: of a symbol and timeframe (nanoseconds), when so many were asked for."""

    symbol: str
    timeframe: int
    asked: int
    bars: list[Bar]

    def plain(self) -> list[Any]:
        """It as JSON keeps it."""
        return [self.symbol, self.timeframe, self.asked, _packed(self.bars, self.timeframe)]

    @classmethod
    def of_plain(cls, plain: Sequence[Any]) -> Given:
        """What :meth:`plain` gave."""
        symbol, timeframe, asked, packed = plain
        return cls(symbol, timeframe, asked, _unpacked(packed, timeframe))


class Records(NamedTuple):
    """What of a batch concerns a symbol: rows of the batch, and its columns there."""

    rows: NDArray[np.intp]
    times: NDArray[np.int64]
    prices: NDArray[np.float64]
    sizes: NDArray[np.float64]
    trades: NDArray[np.bool_]


class BarSeries:
    """Bars of one symbol and timeframe as the kernel forms them, and the detectors that look at those that close.

    What the detectors know follows from ``closed`` alone, so that a series restored from it goes on as the other. At
    twice ``kept`` bars they begin anew with the newest ``kept``: swings that are older are forgotten.

    Examples
    --------
    >>> series = BarSeries("A", TIMEFRAMES["1m"])
    >>> minute = TIMEFRAMES["1m"]
    >>> times = np.array([5, minute - 1, minute])
    >>> prices, sizes = np.array([10.0, 12.0, 11.0]), np.ones(3)
    >>> _ = series.take(Records(np.arange(3), times, prices, sizes, np.ones(3, np.bool_)))
    >>> series.closed
    [Bar(ts=0, open=10.0, high=12.0, low=10.0, close=12.0, volume=2.0)]
    """

    def __init__(self, symbol: str, timeframe: int) -> None:
        self.symbol, self.timeframe = symbol, timeframe
        self.closed: list[Bar] = []
        self.forming: Bar | None = None
        self.newest = -1
        self.kept = LEAST
        self._kinds: tuple[str, ...] = ()
        self._indicators: tuple[str, ...] = ()
        self._feeds: list[PatternFeed | DivergenceFeed] = []

    def want(self, kinds: tuple[str, ...], indicators: tuple[str, ...]) -> None:
        """Look for these kinds of events and divergences of these indicators from the next bar on."""
        if (kinds, indicators) != (self._kinds, self._indicators):
            self._kinds, self._indicators = kinds, indicators
            self._build()

    def take(self, records: Records) -> list[tuple[int, External]]:
        """Take records in their order; what closed bars tell, with the row of the record that closed each."""
        found: list[tuple[int, External]] = []
        at, end = 0, records.times.size
        while at < end:
            if self.forming is None:
                # As in the kernel: only a trade that is not late begins a bar.
                begins = np.flatnonzero(records.trades[at:] & (records.times[at:] >= self.newest))
                if not begins.size:
                    break
                at += int(begins[0])
                ts, price = int(records.times[at]), float(records.prices[at])
                self.forming = Bar(ts - ts % self.timeframe, price, price, price, price, 0.0)
            ended = self.forming.ts + self.timeframe
            closing = np.flatnonzero(records.times[at:] >= ended)
            until = at + int(closing[0]) if closing.size else end
            self._form(records, at, until)
            if closing.size:
                bar, self.forming, self.newest = self.forming, None, max(self.newest, ended)
                found.extend((int(records.rows[until]), one) for one in self._close(bar))
            at = until
        return found

    def begin(self, bars: Iterable[Bar]) -> None:
        """Take bars of the past; nothing is told of them."""
        self.closed = list(bars)[-self.kept :]
        self._build()

    def state(self) -> dict[str, Any]:
        """All of it, as JSON keeps it; bars as the base64 of their numbers."""
        return self.still()()

    def still(self) -> Callable[[], dict[str, Any]]:
        """:meth:`state` as of now, made when what is given is called: in any thread, at any time later."""
        newest, forming, closed = self.newest, self.forming, list(self.closed)
        return lambda: {
            "symbol": self.symbol,
            "timeframe": self.timeframe,
            "newest": newest,
            "forming": list(forming) if forming is not None else None,
            "closed": _packed(closed, self.timeframe),
        }

    @classmethod
    def restored(cls, plain: Mapping[str, Any]) -> BarSeries:
        """A series from its :meth:`state`; detectors come with :meth:`want`."""
        made = cls(str(plain["symbol"]), int(plain["timeframe"]))
        made.newest = int(plain["newest"])
        made.forming = Bar(*plain["forming"]) if plain["forming"] is not None else None
        made.closed = _unpacked(plain["closed"], made.timeframe)
        return made

    def _form(self, records: Records, begin: int, end: int) -> None:
        bar = self.forming
        if bar is None:
            return
        of_bar = records.trades[begin:end] & (records.times[begin:end] >= bar.ts)
        if not of_bar.any():
            return
        times = records.times[begin:end][of_bar]
        prices = records.prices[begin:end][of_bar]
        reached = np.maximum.accumulate(np.r_[self.newest, times])
        newer = np.flatnonzero(times >= reached[:-1])
        # A late trade does not move the close.
        close = float(prices[newer[-1]]) if newer.size else bar.close
        self.newest = int(reached[-1])
        # Added one by one, as the kernel adds: the same numbers whatever the batches.
        volume = float(np.add.accumulate(np.r_[bar.volume, records.sizes[begin:end][of_bar]])[-1])
        self.forming = Bar(
            bar.ts, bar.open, max(bar.high, float(prices.max())), min(bar.low, float(prices.min())), close, volume
        )

    def _close(self, bar: Bar) -> list[External]:
        if self.closed and bar.ts <= self.closed[-1].ts:
            return []
        import pandas as pd

        opened, closed = pd.Timestamp(bar.ts, tz="UTC"), pd.Timestamp(bar.ts + self.timeframe, tz="UTC")
        found = [record for feed in self._feeds for record in feed.push(opened, *bar[1:], closed)]
        self.closed.append(bar)
        if len(self.closed) >= 2 * self.kept:
            self.closed = self.closed[-self.kept :]
            self._build()
        return found

    def _build(self) -> None:
        import pandas as pd

        index = pd.DatetimeIndex(np.array([bar.ts for bar in self.closed], "M8[ns]"), name="ts").tz_localize("UTC")
        prices = np.array([bar[1:] for bar in self.closed], np.float64).reshape(-1, 5)
        bars = pd.DataFrame(prices, index=index, columns=list(_COLUMNS))
        bars["close_ts"] = index + pd.Timedelta(self.timeframe, unit="ns")
        self._feeds = [*(DivergenceFeed(self.symbol, one, self.timeframe, history=bars) for one in self._indicators)]
        self.kept = LEAST
        if self._kinds:
            feed = PatternFeed(self.symbol, self._kinds, self.timeframe, history=bars if len(bars) else None)
            self._feeds.append(feed)
            self.kept = max(LEAST, feed.reach)


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
            columns = dict(zip(("ts", *_COLUMNS), zip(*past, strict=True), strict=True))
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
        prices = frame[list(_COLUMNS)].to_numpy(np.float64)
        if (np.diff(opened) <= 0).any() or (opened % timeframe).any() or not np.isfinite(prices).all():
            _log.warning("the history of %s is left out: its bars must ascend, whole and finite", symbol)
            return []
        return [Bar(ts, *row) for ts, row in zip(opened[-bars:].tolist(), prices[-bars:].tolist(), strict=True)]


def _packed(bars: Sequence[Bar], timeframe: int) -> str:
    rows = np.array([(bar.ts // timeframe, *bar[1:]) for bar in bars], "<f8")
    return base64.b64encode(rows.tobytes()).decode("ascii")


def _unpacked(text: str, timeframe: int) -> list[Bar]:
    rows = np.frombuffer(base64.b64decode(text), "<f8").reshape(-1, 6)
    return [Bar(int(number) * timeframe, *prices) for number, *prices in rows.tolist()]


def _wanted_divergences(keys: Iterable[str]) -> dict[int, tuple[str, ...]]:
    found: dict[int, set[str]] = {}
    for key in keys:
        series, *rest = key.split(":")
        if series == "divergence" and len(rest) == 2:
            found.setdefault(TIMEFRAMES[rest[1]], set()).add(rest[0])
    return {timeframe: tuple(sorted(names)) for timeframe, names in found.items()}


def of_symbol(batch: Batch, number: int) -> Records:
    """What closes or moves a symbol's bars, without what the kernel refuses."""
    mine = (batch.symbols == number) | ((batch.symbols == -1) & (batch.records == CLOCK))
    rows = np.flatnonzero(mine & (batch.records != GAP) & (batch.times >= EARLIEST) & (batch.times <= LATEST))
    prices, sizes, trades = batch.prices[rows], batch.sizes[rows], batch.records[rows] == TRADE
    with np.errstate(invalid="ignore"):
        whole = (prices > 0.0) & (prices < np.inf) & (sizes >= 0.0) & (sizes < np.inf)
    good = ~trades | whole
    rows = rows[good]
    return Records(rows, batch.times[rows], prices[good], sizes[good], trades[good])
