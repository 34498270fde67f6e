"""What decisions would have earned in recorded quotes and trades: the simulator of bars, tick by tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from tapeline.core.errors import DataError
from tapeline.strategy import account_kernels as account
from tapeline.strategy import tick_kernels as kernels
from tapeline.strategy.account_kernels import Log, Rules
from tapeline.strategy.book_walk import BookLevels, RecordedBook
from tapeline.strategy.latency import Latency
from tapeline.strategy.orders import BY_SIGNAL
from tapeline.strategy.resting_orders import Queue
from tapeline.strategy.simulator import (
    FIRST_ROOM,
    OPTIONAL_DECISIONS,
    Simulation,
    SimulationSettings,
    larger_log,
    new_log,
    report,
    whole_targets,
)
from tapeline.strategy.simulator_kernels import Market
from tapeline.strategy.slippage import FixedSlippage
from tapeline.strategy.tick_kernels import Floats, Integers, Levels, TickDecisions, Ticks, Venue

QUOTE_COLUMNS: Final = ("bid", "ask", "bid_size", "ask_size")
TRADE_COLUMNS: Final = ("price", "size", "side")
DECISION_COLUMNS: Final = ("target", *OPTIONAL_DECISIONS)
_Arrays = TypeVar("_Arrays", bound=tuple[Any, ...])


class TickSettings(SimulationSettings):
    """The account of :class:`SimulationSettings`, and where its orders meet the ticks.

    Parameters
    ----------
    slippage:
        What taking liquidity costs beyond the quote; its ``volume_limit`` is the share of a displayed size that may be
        taken, None asks no size. The half spread is in the quote.
    queue:
        Where limit orders rest: trades at their limit serve what stood before them first. None: a limit order is
        filled by the quote that reaches it, as dealers do.
    time_in_force:
        From an order's arrival to its expiry; None: it works until a later decision replaces it.
    maximum_book_age:
        A recorded book that is older gives no levels behind the quote.

    Examples
    --------
    >>> TickSettings(queue=Queue(share_ahead=0.5), time_in_force=timedelta(seconds=5)).capital
    100000.0
    """

    slippage: FixedSlippage = FixedSlippage(volume_limit=1.0)
    queue: Queue | None = None
    time_in_force: timedelta | None = Field(None, gt=timedelta(0))
    maximum_book_age: timedelta = Field(timedelta(seconds=10), ge=timedelta(0))

    @model_validator(mode="after")
    def _of_ticks(self) -> TickSettings:
        if self.bars_in_force is not None:
            raise ValueError("bars_in_force counts bars; ticks have time_in_force")
        if self.queue is not None and self.limit_through:
            raise ValueError("limit_through and queue say two things of one limit; leave one out")
        return self

    def resting(self) -> Rules:
        """What holds for the order in the queue: it may have all that a trade leaves."""
        rules = self.compiled()
        return rules._replace(slippage=rules.slippage._replace(volume_limit=1.0))

    def venue(self, printed: bool, seed: int) -> Venue:
        """What kernels take; ``printed`` says that there are trades only."""
        queue = self.queue or Queue()
        return Venue(
            printed,
            self.queue is not None,
            queue.share_ahead,
            queue.miss_probability,
            np.uint64(seed),
            _length(self.time_in_force),
            _length(self.maximum_book_age),
        )


@dataclass(frozen=True)
class TickSimulation(Simulation):
    """The tables of :class:`Simulation` by tick.

    ``equity`` values a long position at the last good bid and a short one at the ask: what closing it would bring.
    ``reference`` of a fill is the quote, or the limit, that it met: the spread is no part of ``slippage``.

    Parameters
    ----------
    unusable:
        Quotes that filled nothing: ``missing`` (NaN), ``infinite``, ``zero`` (a price of 0), ``crossed``.
    """

    unusable: Mapping[str, int]


def simulate_ticks(
    ticks: pd.DataFrame,
    decisions: pd.DataFrame,
    settings: TickSettings | None = None,
    *,
    latency: Latency | ArrayLike = (),
    half_spread: ArrayLike = (),
    long_rate: ArrayLike = (),
    short_rate: ArrayLike = (),
    depth: pd.DataFrame | None = None,
) -> TickSimulation:
    """Trade one symbol's ticks by decisions taken at any instant.

    Parameters
    ----------
    ticks:
        Index ``ts``; one instant may have several rows, in their order. Quotes: ``bid``, ``ask``, optionally
        ``bid_size`` and ``ask_size`` (NaN: not known, then not asked). Trades: ``price``, ``size``, optionally
        ``side`` of the taker. A row may be either or both, what it is not is NaN; see :func:`merge_ticks`. Of trades
        alone each is taken for a quote of its price and size.
    decisions:
        Indexed by ``decided_at``, in order. ``target``: the signed position wanted, NaN for no decision. Optional:
        ``stop`` and ``take``, the protection of the position; ``limit`` and ``trigger``, the prices of the order. Each
        may know all ticks up to and with its instant.
    latency:
        From a decision to its order's arrival: a distribution, or nanoseconds, one for all or one a decision. An order
        is live at the first tick at or after its arrival, and never at a tick that the decision may have known. The
        seed of a distribution decides missed fills too.
    half_spread:
        Only where there are no quotes: half of ask less bid around each trade, one or one a tick.
    long_rate, short_rate:
        The share of its value that a position held into a tick pays there; negative: it receives. One a tick.
    depth:
        Rows of the table ``raw/depth``: what goes beyond the displayed size walks the levels behind the quote in the
        newest book known, each a fill of its own.

    Raises
    ------
    DataError
        A column is missing, times decrease or carry no zone, a size is negative, an array has another length.

    Examples
    --------
    >>> ts = pd.date_range("2024-01-01", periods=4, freq="1s", tz="UTC", name="ts")
    >>> ticks = pd.DataFrame({"bid": [99.0, 100, 103, 97], "ask": [99.5, 100.5, 103.5, 97.5]}, index=ts)
    >>> decisions = pd.DataFrame({"target": [10.0], "stop": [98.0]}, index=ts[:1])
    >>> found = simulate_ticks(ticks, decisions, TickSettings(capital=10_000.0), latency=5_000_000)
    >>> found.trades[["entry_price", "exit_price", "reason", "net"]].values.tolist()
    [[100.5, 97.0, 'stop', -35.0]]
    >>> found.equity.tolist()
    [10000.0, 9995.0, 10025.0, 9965.0]
    """
    settings = settings or TickSettings()
    index, tape, printed = _ticks(ticks, settings, half_spread, long_rate, short_rate)
    decided, wanted = _decisions(decisions, settings.lot, latency)
    levels = book_levels(depth, settings)
    venue = settings.venue(printed, latency.seed if isinstance(latency, Latency) else 0)
    rows = len(index)
    equity, marks = np.empty(rows), np.empty(rows)
    charged = np.zeros(rows if tape.long_rate.size or tape.short_rate.size else 0)
    amounts, counts = account.begin_state(settings.capital)
    quote, places = kernels.begin_ticks()
    log, rules, resting = new_log(FIRST_ROOM), settings.compiled(), settings.resting()
    row = 0
    while row < rows:
        row = kernels.advance_ticks(
            *(tape, wanted, rules, resting, venue, levels, amounts, counts, quote, places, log, equity, marks, charged),
            *(row, rows),
        )
        if row < rows:
            log = larger_log(log)
    return report_ticks(index, tape, decided, log, counts, equity, marks, charged)


def merge_ticks(quotes: pd.DataFrame, trades: pd.DataFrame) -> pd.DataFrame:
    """One frame of quotes and trades in the order of time; of one instant the trades first, in their order.

    A trade met the quote before it, and the quote of its instant says what it left.

    Examples
    --------
    >>> at = pd.DatetimeIndex(["2024-01-01"], tz="UTC", name="ts")
    >>> quotes = pd.DataFrame({"bid": [1.0], "ask": [2.0]}, index=at)
    >>> merge_ticks(quotes, pd.DataFrame({"price": [2.0], "size": [1.0]}, index=at))["bid"].tolist()
    [nan, 1.0]
    """
    return pd.concat([trades, quotes]).sort_index(kind="stable")


def equity_at(equity: pd.Series, times: pd.DatetimeIndex, capital: float) -> pd.Series:
    """Equity as it stood at given times, the closes of bars for instance: at the last tick at or before each.

    Examples
    --------
    >>> at = pd.date_range("2024-01-01", periods=3, freq="1min", tz="UTC")
    >>> equity_at(pd.Series([5.0, 6.0], index=at[[1, 1]]), at, 4.0).tolist()
    [4.0, 6.0, 6.0]
    """
    rows = equity.index.searchsorted(times, side="right")
    return pd.Series(np.r_[capital, equity.to_numpy(np.float64)][rows], index=times, name="equity")


def report_ticks(
    index: pd.DatetimeIndex,
    tape: Ticks,
    decided: pd.DatetimeIndex,
    log: Log,
    counts: Integers,
    equity: Floats,
    marks: Floats,
    charged: Floats,
) -> TickSimulation:
    """The tables of a log in which a decision is not a row of the market but one of its own."""
    codes = log.order_codes[: counts[account.ORDER_COUNT]].copy()
    signals = codes[:, account.ORDER_REASON] == BY_SIGNAL
    numbers = codes[signals, account.ORDER_DECIDED]
    codes[signals, account.ORDER_DECIDED] = codes[signals, account.ORDER_ARRIVED]
    # A tick is a bar of the price at which the position could be closed.
    none = np.empty(0, np.int64)
    market = Market(none, none, *(marks,) * 4, *(np.empty(0),) * 5)
    found = report(index, market, log._replace(order_codes=codes), counts, equity, charged)
    times = pd.DatetimeIndex(found.orders["decided_at"]).as_unit("ns").asi8.copy()
    times[signals] = decided.asi8[numbers]
    orders = found.orders.assign(decided_at=instants(times, "decided_at"))
    return TickSimulation(found.equity, found.fills, orders, found.trades, _unusable(tape))


def _unusable(tape: Ticks) -> dict[str, int]:
    """Counts of quotes that cannot be traded; a row that is only a trade is no quote."""
    bid, ask = tape.bid, tape.ask
    traded = np.isfinite(tape.price) if tape.price.size else np.zeros(len(bid), bool)
    quoted = ~(traded & np.isnan(bid) & np.isnan(ask))
    missing = quoted & (np.isnan(bid) | np.isnan(ask))
    infinite = quoted & ~missing & ~(np.isfinite(bid) & np.isfinite(ask))
    zero = quoted & ~missing & ~infinite & ((bid == 0) | (ask == 0))
    crossed = quoted & ~missing & ~infinite & ~zero & (bid > ask)
    counted = {"missing": missing, "infinite": infinite, "zero": zero, "crossed": crossed}
    return {name: int(rows.sum()) for name, rows in counted.items()}


def _ticks(
    ticks: pd.DataFrame, settings: TickSettings, half_spread: ArrayLike, long_rate: ArrayLike, short_rate: ArrayLike
) -> tuple[pd.DatetimeIndex, Ticks, bool]:
    index, rows = _ordered(ticks.index, "ticks"), len(ticks)
    printed = not {"bid", "ask"} <= set(ticks.columns)
    if printed and "price" not in ticks.columns:
        raise DataError("ticks have neither the columns 'bid' and 'ask' nor the column 'price'")
    if "price" in ticks.columns and "size" not in ticks.columns and settings.queue is not None:
        raise DataError("ticks lack the column 'size', by which a queue is served")
    columns = {
        name: np.ascontiguousarray(ticks[name].to_numpy(dtype=np.float64)) if name in ticks.columns else np.empty(0)
        for name in (*QUOTE_COLUMNS, *TRADE_COLUMNS)
    }
    for name in ("bid_size", "ask_size", "size"):
        if (columns[name] < 0).any():
            raise DataError(f"a value of '{name}' is negative: {columns[name][columns[name] < 0][0]}")
    half = _per_row(half_spread, rows, "half_spread")
    if half.size and not printed:
        raise DataError("half_spread is given, and the ticks have quotes", hint="it is for trades alone")
    if (half < 0).any():
        raise DataError("half_spread holds a value below 0")
    if printed:
        around = half if half.size else 0.0
        columns["bid"], columns["ask"] = columns["price"] - around, columns["price"] + around
        columns["bid_size"] = columns["ask_size"] = columns["size"]
    if columns["price"].size:
        columns["size"] = columns["size"] if columns["size"].size else np.full(rows, np.nan)
        columns["side"] = np.nan_to_num(columns["side"]) if columns["side"].size else np.zeros(rows)
    rates = (_per_row(rate, rows, name) for rate, name in ((long_rate, "long_rate"), (short_rate, "short_rate")))
    return index, frozen(Ticks(np.ascontiguousarray(index.asi8), *columns.values(), *rates)), printed


def _decisions(
    decisions: pd.DataFrame, lot: float, latency: Latency | ArrayLike
) -> tuple[pd.DatetimeIndex, TickDecisions]:
    if "target" not in decisions.columns:
        raise DataError("decisions lack the column 'target'")
    if unknown := [name for name in decisions.columns if name not in DECISION_COLUMNS]:
        raise DataError(f"decisions have unknown columns {unknown}", hint=f"known: {', '.join(DECISION_COLUMNS)}")
    decided, rows = _ordered(decisions.index, "decisions"), len(decisions)
    if isinstance(latency, Latency):
        waits = latency.delays(np.arange(rows)).as_unit("ns").asi8
    else:
        waits = np.atleast_1d(np.asarray(latency, dtype=np.int64))
        if waits.size not in (0, 1, rows) or (waits < 0).any():
            raise DataError(f"latency has {waits.size} values, or one below 0; it needs 1 or {rows}")
    # A nanosecond at least: a decision may know the ticks of its instant. Orders leave one after the other.
    waits = np.maximum(waits if waits.size else 0, 1)
    arrival = np.maximum.accumulate(decided.asi8 + waits) if rows else np.empty(0, np.int64)
    columns = [
        np.ascontiguousarray(decisions[name].to_numpy(dtype=np.float64))
        if name in decisions.columns
        else np.full(rows, np.nan)
        for name in DECISION_COLUMNS
    ]
    columns[0] = np.ascontiguousarray(whole_targets(columns[0], lot))
    return decided, frozen(TickDecisions(arrival, *columns))


def book_levels(depth: pd.DataFrame | None, settings: TickSettings) -> Levels:
    """Recorded books as the engine walks them; none where there is no depth.

    Raises
    ------
    DataError
        No size is asked, or the rows are no books.
    """
    if depth is None:
        none, empty = np.empty(0, np.int64), np.empty(0)
        return Levels(*frozen(BookLevels(none, none, none, none, empty, empty)), np.empty(0))
    if settings.slippage.volume_limit is None:
        raise DataError("depth is given, and no size is asked", hint="set volume_limit of the slippage")
    book = RecordedBook(depth, maximum_age=settings.maximum_book_age).levels()
    return Levels(*frozen(book), np.zeros(book.price.size))


def _ordered(times: pd.Index, what: str) -> pd.DatetimeIndex:
    if not isinstance(times, pd.DatetimeIndex) or times.tz is None:
        raise DataError(f"times of {what} carry no zone", hint="use UTC")
    times = times.tz_convert("UTC").as_unit("ns")
    if not times.is_monotonic_increasing:
        raise DataError(f"the times of the {what} decrease", hint="sort them by time first, in a stable way")
    return times


def instants(times: Integers, name: str) -> pd.DatetimeIndex:
    """Nanoseconds as times."""
    return pd.DatetimeIndex(pd.to_datetime(times, utc=True), name=name).as_unit("ns")


def _per_row(values: ArrayLike, rows: int, name: str) -> Floats:
    array = np.ascontiguousarray(np.atleast_1d(np.asarray(values, dtype=np.float64)))
    if array.ndim != 1 or array.size not in (0, 1, rows):
        raise DataError(f"{name} has {array.size} values; it needs 1 or {rows}")
    return array


def frozen(arrays: _Arrays) -> _Arrays:
    """The same arrays, all read-only: for kernels that is another type, and frames give some so and some not."""
    views = [array.view() for array in arrays]
    for view in views:
        view.setflags(write=False)
    return type(arrays)(*views)


def _length(duration: timedelta | None) -> int:
    return 0 if duration is None else pd.Timedelta(duration).value
