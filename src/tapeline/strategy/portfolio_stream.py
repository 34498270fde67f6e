"""The portfolio fed the bars of one instant at a time: the same engine, the same bits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import DataError
from tapeline.strategy import account_kernels
from tapeline.strategy.costs import ExchangeRates
from tapeline.strategy.portfolio import book_keys, in_order_of_time
from tapeline.strategy.portfolio_account import FIRST_ROOM, BookKey, PortfolioAccount, PortfolioSettings
from tapeline.strategy.portfolio_report import PortfolioSimulation, report_portfolio
from tapeline.strategy.portfolio_state import MARKED, Path, Rows
from tapeline.strategy.risk_kernels import RiskRules
from tapeline.strategy.simulator import read_only, whole_targets
from tapeline.strategy.simulator_kernels import Decisions, Market

_BAR: Final = ("open", "high", "low", "close", "volume")
_EXTRA: Final = {"half_spread": 0.0, "volatility": math.nan, "long_rate": 0.0, "short_rate": 0.0}
_DECISION: Final = ("target", "stop", "take", "limit", "trigger")
_NUMBERS: Final = len(_BAR) + len(_EXTRA) + len(_DECISION)


class PortfolioStream:
    """An account that is fed the bars that finish at each instant.

    Parameters
    ----------
    books:
        Symbols, or in hedging mode ``(symbol, tag)``, that will trade.
    settings, limits:
        As for :func:`tapeline.strategy.portfolio.simulate_portfolio`.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars, stream = example_bars(100, 100, 104), PortfolioStream(["A"], PortfolioSettings(capital=1_000.0))
    >>> for bar in bars.reset_index().to_dict("records"):
    ...     stream.push({"A": bar}, {"A": {"target": 1.0}} if stream.cash == 1_000.0 else None)
    >>> stream.cash, stream.positions
    (900.0, {('A', ''): 1.0})
    """

    def __init__(
        self,
        books: Sequence[str | tuple[str, str]],
        settings: PortfolioSettings | None = None,
        *,
        limits: RiskRules | None = None,
    ) -> None:
        settings = settings or PortfolioSettings()
        symbols = {book if isinstance(book, str) else book[0] for book in books}
        self._account = PortfolioAccount(settings, book_keys(symbols, books, settings.hedging), limits)
        self._numbers = {key: number for number, key in enumerate(self._account.keys)}
        self._rows, self._marks = 0, 0
        # Opens, closes, latencies, books and the next row of each book; numbers; position, financing, rate.
        self._times = np.empty((5, FIRST_ROOM), np.int64)
        self._values = np.empty((_NUMBERS, FIRST_ROOM))
        self._found = np.empty((3, FIRST_ROOM))
        self._at, self._equity = np.empty(FIRST_ROOM, np.int64), np.empty((FIRST_ROOM, 5))
        self._newest = [-1] * len(self._numbers)
        self._instant, self._reached = -(2**62), -(2**62)
        self._waiting: list[int] = []
        self._quotes: dict[str, float] = {}
        # Of each instant at which rates were told: all rates of the account's foreign currencies.
        self._known_at: list[int] = []
        self._known: list[list[float]] = []

    @property
    def cash(self) -> float:
        """Money after all that is settled."""
        return self._account.cash

    @property
    def equity(self) -> float:
        """At the last instant that was reached; the capital before the first."""
        return float(self._equity[self._marks - 1, 0]) if self._marks else self._account.settings.capital

    @property
    def positions(self) -> dict[tuple[str, str], float]:
        """Units by symbol and tag."""
        held = self._account.books.amounts[:, account_kernels.POSITION]
        return {(key.symbol, key.tag): float(held[number]) for key, number in self._numbers.items()}

    def push(
        self,
        bars: Mapping[str, Mapping[str, Any]],
        decisions: Mapping[str | tuple[str, str], Mapping[str, Any]] | None = None,
        *,
        rates: Mapping[str, float] | None = None,
        under_way: Mapping[str, Any] | None = None,
    ) -> None:
        """Take all bars that finish at one instant, and the decisions made at their closes.

        A finished bar begins in the past. Where bars have different lengths, the longer ones that have begun and not
        finished must be named: the account waits at the first of their opens, since what trades there comes before what
        shorter bars do later.

        Parameters
        ----------
        bars:
            By symbol, each as :meth:`tapeline.strategy.simulator_stream.SimulatorStream.push` takes it.
        decisions:
            By book, each as there.
        rates:
            By pair, what became known up to this instant and after the one before; others stand.
        under_way:
            By symbol, the open time of a bar that has begun before this instant and not finished.

        Raises
        ------
        DataError
            Bars finish at different instants, overlap, or begin before what the account has settled already; a value is
            missing; a symbol or book is unknown.
        """
        decisions = decisions or {}
        now = self._checked(bars, decisions)
        begun = [pd.Timestamp(ts).value for ts in (under_way or {}).values()]
        if begun and max(begun) >= now:
            raise DataError("a bar under way begins at the instant that is pushed, or later")
        self._tell_rates(now, rates)
        self._instant = now
        for number, key in enumerate(self._account.keys):
            if key.symbol in bars:
                given = decisions.get((key.symbol, key.tag), decisions.get(key.symbol, {}) if not key.tag else {})
                self._append(number, key, bars[key.symbol], given)
        self._settle_until(min(begun, default=None))

    def result(self) -> PortfolioSimulation:
        """The tables of what was settled so far; bars that wait for one under way are not in them."""
        waiting = np.zeros(self._rows, np.bool_)
        waiting[[event >> 1 for event in self._waiting if event & 1]] = True
        book, count = self._times[3, : self._rows], range(len(self._numbers))
        rows = [np.flatnonzero((book == number) & ~waiting) for number in count]
        market, _ = self._views()
        path = self._path()
        times = self._at[: self._marks].copy()
        path = path._replace(at=times, amounts=self._equity[: self._marks].copy())
        settled: list[NDArray[Any]] = [field[: self._rows] for field in market]
        market = Market(*settled)
        return report_portfolio(
            self._account,
            market,
            rows,
            path._replace(**{name: getattr(path, name)[: self._rows] for name in ("position", "charged", "rate")}),
            self._rates_at(times),
        )

    def _checked(self, bars: Mapping[str, Mapping[str, Any]], decisions: Mapping[Any, Any]) -> int:
        known = {key.symbol for key in self._account.keys}
        if not bars or (unknown := sorted(set(bars) - known)):
            raise DataError(f"bars of unknown symbols {unknown}" if bars else "no bars are pushed")
        for given in decisions:
            key = BookKey(*((given, "") if isinstance(given, str) else given))
            if key not in self._numbers or key.symbol not in bars:
                raise DataError(f"a decision for {given!r}, which has no bar at this instant, or no book")
        closes = set()
        for symbol, bar in bars.items():
            if absent := [name for name in ("ts", "close_ts", *_BAR) if name not in bar]:
                raise DataError(f"{symbol}: a bar lacks {absent}")
            opened, closed = pd.Timestamp(bar["ts"]).value, pd.Timestamp(bar["close_ts"]).value
            row = self._newest[next(number for key, number in self._numbers.items() if key.symbol == symbol)]
            if closed <= opened or (row >= 0 and opened < self._times[1, row]):
                raise DataError(f"{symbol}: bar {bar['ts']} overlaps the one before it, or has no duration")
            if opened < self._reached:
                raise DataError(
                    f"{symbol}: bar {bar['ts']} begins before what is settled already",
                    hint="name it in under_way as long as it has not finished",
                )
            closes.add(closed)
        if len(closes) > 1 or (now := closes.pop()) <= self._instant:
            raise DataError("bars finish at different instants, or not after those before", hint="push one instant")
        return int(now)

    def _append(self, number: int, key: BookKey, bar: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
        row = self._rows
        if row == self._times.shape[1]:
            self._times, self._values, self._found = map(_doubled, (self._times, self._values, self._found))
        late = int(decision.get("latency", 0))
        if late < 0:
            raise DataError(f"{key.symbol}: latency {late} is below 0")
        lot = self._account.settings.terms_of(key.symbol).lot
        target = whole_targets(np.array([decision.get("target", math.nan)], dtype=np.float64), lot)[0]
        self._times[:, row] = pd.Timestamp(bar["ts"]).value, pd.Timestamp(bar["close_ts"]).value, late, number, -1
        self._values[:, row] = [
            *(float(bar[name]) for name in _BAR),
            *(float(bar.get(name, default)) for name, default in _EXTRA.items()),
            float(target),
            *(float(decision.get(name, math.nan)) for name in _DECISION[1:]),
        ]
        self._found[:, row] = 0.0, 0.0, 1.0
        if self._newest[number] >= 0:
            self._times[4, self._newest[number]] = row
        self._newest[number], self._rows = row, row + 1
        self._waiting += [2 * row + 1, 2 * row]

    def _settle_until(self, begun: int | None) -> None:
        """Take the events that no bar under way can come before."""
        rows = np.array(sorted({event >> 1 for event in self._waiting}), np.int64)
        # By book, as in a history.
        rows = rows[np.argsort(self._times[3, rows], kind="stable")]
        order, times = in_order_of_time(self._times[0, rows], self._times[1, rows])
        events = 2 * rows[order >> 1] + (order & 1)
        fresh = np.isin(events, np.array(self._waiting, np.int64))
        events, times = events[fresh], times[fresh]
        if begun is not None:
            ready = (times < begun) | ((times == begun) & ((events & 1) == 0))
            self._waiting, events, times = events[~ready].tolist(), events[ready], times[ready]
        else:
            self._waiting = []
        # What is settled cannot be preceded any more: neither by an open, nor by another close of the last instant.
        self._reached = self._instant if begun is None else max(self._reached, begun)
        if not events.size:
            return
        new = np.r_[True, np.diff(times) != 0]
        table = self._rates_at(times[new])
        instants = np.cumsum(new) - 1 if self._account.currencies else np.empty(0, np.int64)
        while self._marks + events.size > self._at.size:
            self._at, self._equity = _doubled(self._at[None])[0], _doubled(self._equity.T).T.copy()
        market, decisions = self._views()
        self._account.advance(
            market, decisions, Rows(self._times[3], self._times[4]), events, instants, table, self._path()
        )
        self._marks = int(self._account.shared.tallies[MARKED])

    def _tell_rates(self, now: int, rates: Mapping[str, float] | None) -> None:
        if not self._account.currencies or not rates:
            return
        self._quotes.update(rates)
        at = pd.DatetimeIndex([pd.Timestamp(now, tz="UTC")])
        held = ExchangeRates({pair: pd.Series([float(rate)], at) for pair, rate in self._quotes.items()})
        home = self._account.settings.currency
        self._known_at.append(now)
        self._known.append([float(held.rates(each, home, at)[0]) for each in self._account.currencies])

    def _rates_at(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        if not self._account.currencies:
            return np.empty((max(len(times), 1), 0))
        places = np.searchsorted(np.array(self._known_at, np.int64), times, side="right") - 1
        if (places < 0).any():
            when = pd.Timestamp(int(times[np.argmin(places)]), tz="UTC")
            raise DataError(f"no exchange rate is known at {when}", hint="tell rates before the first bar opens")
        return np.ascontiguousarray(np.array(self._known)[places])

    def tell(self, at: Any, rates: Mapping[str, float]) -> None:
        """Exchange rates that became known between two pushes, or before the first.

        Raises
        ------
        DataError
            ``at`` is not after the instants told and pushed before.
        """
        now = pd.Timestamp(at).value
        if now <= max(self._instant, self._known_at[-1] if self._known_at else now - 1):
            raise DataError(f"rates at {at} come after what was told of later instants")
        self._tell_rates(now, rates)

    def _views(self) -> tuple[Market, Decisions]:
        split = len(_BAR) + len(_EXTRA)
        market = [*self._times[:2], *self._values[:split]]
        wanted = [*self._values[split:], self._times[2]]
        return Market(*map(read_only, market)), Decisions(*map(read_only, wanted))

    def _path(self) -> Path:
        return Path(self._at, self._equity, *self._found)


def _doubled(array: NDArray[Any]) -> NDArray[Any]:
    larger = np.empty((array.shape[0], 2 * array.shape[1]), array.dtype)
    larger[:, : array.shape[1]] = array
    return larger
