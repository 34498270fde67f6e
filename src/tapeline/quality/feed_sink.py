"""The sink of a live feed: every row judged, what passes into the journal, what does not into quarantine.

Nothing is acknowledged before it is durable: :meth:`FeedSink.append` returns when the journal's group with the rows is
forced to disk, and with it the refused ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import RAW_TICKS, RAW_TRADES, TableSpec, TimeOrigin
from tapeline.core.symbol import Symbol
from tapeline.quality.calendars import MarketCalendar
from tapeline.quality.feed_validator import FeedVerdict, TickFeedValidator
from tapeline.quality.quarantine import quarantine
from tapeline.quality.quarantine_spill import QuarantineSpill
from tapeline.quality.tick_checks import CheckedTicks, check_ticks, flag_counts
from tapeline.streams.journal import Journal
from tapeline.streams.messages import Candle, Quarantined, Quote, Trade
from tapeline.streams.row_layouts import Rows, make_rows, number_rows
from tapeline.streams.trade_sequence import Collected

if TYPE_CHECKING:
    from tapeline.quality.bar_sink import BarSink

STAGE: Final = "stream"
TOLERANCE: Final = 60_000_000_000
"""How far ahead of its receipt a row's time may lie, ns: a venue's clock that is a little fast is the drift alert's
matter, a time beyond it is damaged."""
APPENDED_ROWS: Final = 20_000
"""Rows of one entry of the journal: at 81 bytes well below the journal's queue."""


@dataclass
class SymbolTally:
    """What the sink has done with the rows of one instrument.

    ``lag`` is the newest row's way from the venue to us on the two clocks, ns; ``silences`` counts the rows that came
    after more trading time without a row than the validator allows.
    """

    trades: int = 0
    ticks: int = 0
    quarantined: int = 0
    silences: int = 0
    lag: int | None = None
    last_ts: int | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)


@dataclass
class _Batch:
    """Rows on their way: what is done stays done when the rest is tried again."""

    offered: object
    refused: deque[tuple[Symbol, pd.DataFrame]]
    parts: deque[tuple[TableSpec, Symbol, Rows, TimeOrigin]]
    ids: dict[Symbol, int]
    ticket: int = 0


class FeedSink:
    """Judges and keeps what a feed collected; see :class:`tapeline.streams.collector.Sink`.

    Trades go to ``raw/trades`` with the venue's id as ``sequence``; quotes and ticks to ``raw/ticks``. A quote of a
    venue that sends no time stands at its receipt. Each instrument and kind has a validator of its own
    (:class:`~tapeline.quality.feed_validator.TickFeedValidator`): the same check as in a batch, with the memory of the
    feed. Of two trades with one id and time the second is refused; quotes and ticks are not held against each other,
    because the feed has told repetitions apart by the venue's numbers already, and two alike may both be real.

    Parameters
    ----------
    journal:
        Takes what passed.
    spill:
        Takes what did not.
    source:
        The feed's name, as it stands in each row.
    calendar_of:
        When an instrument's market trades, for the silence before each row; None where it is not judged.
    last_ids:
        Of each instrument, the last trade id that is stored.
    bars:
        Takes the closed candles; None where no bars are kept.

    Attributes
    ----------
    last_ids:
        Of each instrument, the last trade id that was made durable; a feed that starts again goes on behind it.
    tallies:
        Of each instrument, what was done.
    unreadable:
        Messages that could not be read.
    unkept:
        Such messages that could not even be written down.
    """

    def __init__(
        self,
        journal: Journal,
        spill: QuarantineSpill,
        *,
        source: str,
        calendar_of: Callable[[Symbol], MarketCalendar] | None = None,
        last_ids: Mapping[str, int] | None = None,
        tolerance: int = TOLERANCE,
        bars: BarSink | None = None,
    ) -> None:
        if tolerance < 0:
            raise ConfigurationError(f"tolerance = {tolerance} ns must not be negative")
        self.journal, self.spill, self.source, self.bars = journal, spill, source, bars
        self.last_ids: dict[str, int] = {str(Symbol.parse(name)): last for name, last in (last_ids or {}).items()}
        self.tallies: dict[Symbol, SymbolTally] = {}
        self.unreadable = self.unkept = 0
        self._calendar_of, self._tolerance = calendar_of, tolerance
        self._validators: dict[tuple[str, Symbol], TickFeedValidator] = {}
        self._numbered: dict[Symbol, tuple[int, int]] = {}
        self._batch: _Batch | None = None
        self._seen = 0

    def append(self, records: Sequence[Collected]) -> None:
        """Judge and keep rows; on return they are durable. The same list may be offered again after an error.

        Raises
        ------
        TemporaryError
            The journal cannot take rows at present.
        OSError
            The disk refused.
        """
        self._carry(records, lambda: self._prepare(records))

    def append_ticks(self, symbol: Symbol, ticks: pd.DataFrame, *, known_at: int) -> None:
        """Judge and keep ticks of one instrument that have a place within their instant already.

        Parameters
        ----------
        ticks:
            Indexed by ``ts``, with ``sequence``, ``bid``, ``ask``, ``last``, ``volume`` and ``flags``. The same frame
            may be offered again after an error.
        known_at:
            When they were received, ns.
        """
        self._carry(ticks, lambda: self._prepare_ticks(symbol, ticks, known_at))

    def take_bar(self, candle: Candle, received: int) -> None:
        """Hand a candle, received at an instant (ns), to those that keep bars."""
        if self.bars is not None:
            self.bars.take(candle, received)

    def refuse(self, message: Quarantined, received: int, symbol: Symbol) -> None:
        """Keep a message that could not be read, under a name that stands for the whole feed. Never raises."""
        self.unreadable += 1
        try:
            self.spill.add_message(
                symbol,
                raw=message.raw,
                length=message.length,
                reason=message.reason,
                received=received,
                number=self.unreadable,
                source=self.source,
            )
        except OSError:
            self.unkept += 1

    def _carry(self, offered: object, prepare: Callable[[], _Batch]) -> None:
        if self._batch is not None and self._batch.offered is not offered:
            # The rest of that batch will be collected again: the validators must not call it a repetition.
            self._validators.clear()
            self._batch = None
        batch = self._batch = self._batch or prepare()
        while batch.refused:
            self.spill.add(*batch.refused[0], durable=True)
            batch.refused.popleft()
        while batch.parts:
            spec, symbol, rows, origin = batch.parts[0]
            batch.ticket = self.journal.append(spec, symbol, rows, source=self.source, ts_origin=origin)
            batch.parts.popleft()
        if batch.ticket:
            self.journal.wait(batch.ticket)
        for name, last in batch.ids.items():
            self.last_ids[str(name)] = max(last, self.last_ids.get(str(name), last))
        self._batch = None

    def _prepare(self, records: Sequence[Collected]) -> _Batch:
        batch = _Batch(records, deque(), deque(), {})
        trades: dict[Symbol, list[Collected]] = {}
        quotes: dict[Symbol, list[Collected]] = {}
        for row in records:
            record = row.record
            if isinstance(record, Trade):
                trades.setdefault(record.symbol, []).append(row)
            elif isinstance(record, Quote):
                quotes.setdefault(record.symbol, []).append(row)
        if trades:
            self._judge(batch, RAW_TRADES, {symbol: _trade_columns(held) for symbol, held in trades.items()})
            batch.ids.update((symbol, max(int(row.record.id) for row in held)) for symbol, held in trades.items())  # type: ignore[attr-defined]
        if quotes:
            timed = {symbol for symbol, held in quotes.items() if held[0].record.ts is not None}  # type: ignore[attr-defined]
            columns = {symbol: self._quote_columns(symbol, held) for symbol, held in quotes.items()}
            self._judge(batch, RAW_TICKS, columns, local=columns.keys() - timed)
        return batch

    def _prepare_ticks(self, symbol: Symbol, ticks: pd.DataFrame, known_at: int) -> _Batch:
        batch = _Batch(ticks, deque(), deque(), {})
        columns = {name: ticks[name].to_numpy() for name in ("sequence", "bid", "ask", "last", "volume", "flags")}
        columns["ts"] = pd.DatetimeIndex(ticks.index).as_unit("ns").asi8
        columns["known_at"] = np.full(len(ticks), known_at, dtype=np.int64)
        self._judge(batch, RAW_TICKS, {symbol: columns}, broker=True)
        return batch

    def _judge(
        self,
        batch: _Batch,
        spec: TableSpec,
        columns: Mapping[Symbol, dict[str, np.ndarray]],
        *,
        local: Set[Symbol] = frozenset(),
        broker: bool = False,
    ) -> None:
        """Check all rows of a table in one call, then hold each instrument's against what its feed remembers."""
        names = list(next(iter(columns.values())))
        whole = {name: np.concatenate([held[name] for held in columns.values()]) for name in names}
        frame = _frame(whole)
        now = pd.Timestamp(int(whole["known_at"].max()) + self._tolerance, tz="UTC")
        checked = check_ticks(frame, now=now)
        start = 0
        for symbol, held in columns.items():
            end = start + len(held["ts"])
            own = CheckedTicks(
                checked.mask[start:end],
                0,
                checked.flags[start:end],
                checked.stamps[start:end],
                checked.numbers[start:end],
                checked.is_trade[start:end],
            )
            judged = np.full(end - start, spec is RAW_TRADES)
            verdict = self._validator(spec, symbol).judge(own, held["sequence"], judged)
            origin: TimeOrigin = "broker" if broker else "local" if symbol in local else "exchange"
            self._part(batch, spec, symbol, held, verdict, origin)
            start = end

    def _part(
        self,
        batch: _Batch,
        spec: TableSpec,
        symbol: Symbol,
        columns: dict[str, np.ndarray],
        verdict: FeedVerdict,
        origin: TimeOrigin,
    ) -> None:
        tally = self.tallies.setdefault(symbol, SymbolTally())
        passed, before = verdict.passed, self._seen
        self._seen += passed.size
        if not passed.all():
            known_at = pd.DatetimeIndex(columns["known_at"].view("M8[ns]")).tz_localize("UTC")
            arrived = _frame(columns).assign(known_at=known_at)
            refused = quarantine(arrived, verdict, stage=STAGE, source=self.source)
            refused["row_number"] += before
            batch.refused.append((symbol, refused))
            tally.quarantined += int(np.count_nonzero(~passed))
            for code, count in verdict.counts().items():
                tally.reasons[code] = tally.reasons.get(code, 0) + count
            columns = {name: values[passed] for name, values in columns.items()}
        if verdict.flags.any():
            found = flag_counts(verdict.flags)
            tally.silences += found.get("after_silence", 0)
            for code, count in found.items():
                tally.flags[code] = tally.flags.get(code, 0) + count
        kept = len(columns["ts"])
        if not kept:
            return
        newest = int(columns["ts"].argmax())
        tally.last_ts = max(int(columns["ts"][newest]), tally.last_ts or 0)
        tally.lag = int(columns["known_at"][newest] - columns["ts"][newest])
        if spec is RAW_TRADES:
            tally.trades += kept
        else:
            tally.ticks += kept
        rows = make_rows(spec, **columns)
        for start in range(0, kept, APPENDED_ROWS):
            batch.parts.append((spec, symbol, rows[start : start + APPENDED_ROWS], origin))

    def _validator(self, spec: TableSpec, symbol: Symbol) -> TickFeedValidator:
        key = (spec.path, symbol)
        found = self._validators.get(key)
        if found is None:
            calendar = None if self._calendar_of is None else self._calendar_of(symbol)
            found = TickFeedValidator(calendar, duplicates="id" if spec is RAW_TRADES else "none")
            self._validators[key] = found
        return found

    def _quote_columns(self, symbol: Symbol, held: list[Collected]) -> dict[str, np.ndarray]:
        quotes: list[Any] = [row.record for row in held]
        known_at = np.array([row.known_at for row in held], dtype=np.int64)
        stamps = np.array(
            [row.known_at if quote.ts is None else quote.ts for row, quote in zip(held, quotes, strict=True)],
            dtype=np.int64,
        )
        if all(quote.sequence is not None for quote in quotes):
            numbers = np.array([quote.sequence for quote in quotes], dtype=np.int64)
        else:
            numbers = number_rows(stamps, after=self._numbered.get(symbol))
            self._numbered[symbol] = int(stamps[-1]), int(numbers[-1])
        return {
            "ts": stamps,
            "sequence": numbers,
            "bid": np.array([quote.bid for quote in quotes]),
            "ask": np.array([quote.ask for quote in quotes]),
            "known_at": known_at,
        }


def _trade_columns(held: list[Collected]) -> dict[str, np.ndarray]:
    trades: list[Any] = [row.record for row in held]
    return {
        "ts": np.array([trade.ts for trade in trades], dtype=np.int64),
        "sequence": np.array([int(trade.id) for trade in trades], dtype=np.int64),
        "price": np.array([trade.price for trade in trades], dtype=np.float64),
        "size": np.array([trade.size for trade in trades], dtype=np.float64),
        "side": np.array([trade.side for trade in trades], dtype=np.int8),
        "id": np.array([trade.id for trade in trades]),
        "known_at": np.array([row.known_at for row in held], dtype=np.int64),
    }


def _frame(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    index = pd.DatetimeIndex(columns["ts"].view("M8[ns]"), name="ts").tz_localize("UTC")
    return pd.DataFrame({name: values for name, values in columns.items() if name != "ts"}, index=index)
