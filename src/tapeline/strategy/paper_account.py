"""A paper account: what a strategy decides live, traded through the simulator, and remembered between runs.

What is kept is what came in: the bars as they were seen and the decisions as they were made, each with its lateness.
Orders, fills, trades and equity are computed from that by the engine of the backtest, each time anew; so a backtest of
the same bars and decisions has the same fills to the bit, and a run that dies leaves the account before or after its
step, from which the next one writes the same rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from pydantic import ValidationError

from tapeline.core.account_tables import DECISIONS, SIGNALS
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.table import TableSpec
from tapeline.core.timeframe import Timeframe
from tapeline.strategy.backtest import account_rows, trading_terms
from tapeline.strategy.costs import ExchangeRates
from tapeline.strategy.paper_file import PRICES, content_of, read_content
from tapeline.strategy.paper_terms import PaperBook, PaperTerms, instants, strategy_content
from tapeline.strategy.portfolio import simulate_portfolio
from tapeline.strategy.portfolio_report import PortfolioSimulation
from tapeline.strategy.signal_rules import SignalRules
from tapeline.strategy.signal_sources import Surroundings
from tapeline.strategy.signal_validator import SignalValidator
from tapeline.strategy.strategy import Strategy
from tapeline.strategy.strategy_decisions import Decided, decide

LEFT: Final = "left"
"""The reason of a decision that closes what the strategy holds no longer."""
_DECISION: Final = ("ts", "known_at", "target", "stop", "take", "latency", "reason", "strategy", "explanation")
_SIGNAL: Final = ("ts", "known_at", "acted_at", "symbol", "source", "side", "probability", "confidence", "price")
_VERDICT: Final = ("accepted", "reason")
_TIMES: Final = ("ts", "known_at", "acted_at")


@dataclass(frozen=True)
class PaperAccount:
    """An account as it stands: a value; :meth:`step` gives the next one.

    Parameters
    ----------
    books:
        By symbol.
    reached:
        The close up to which bars were taken, in nanoseconds; what begins before it comes too late.
    late_bars:
        Bars that came too late and were left out.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.strategy.strategy import parse_strategy
    >>> strategy = parse_strategy({
    ...     "name": "cross", "sizing": {"method": "units", "units": 10},
    ...     "signals": {"source": "moving_average_cross", "fast": 1, "slow": 2}})
    >>> bars, hourly = example_bars(102, 101, 104, 104, 106), Timeframe.parse("H1")
    >>> account = open_account("first", strategy, ["EURUSD"], hourly, at=bars.index[2])
    >>> for now in bars["close_ts"]:
    ...     account = account.step(strategy, {"EURUSD": bars}, {"EURUSD": Surroundings("EURUSD", hourly)}, now)
    >>> account.simulation(strategy).fills[["quantity", "price"]].values.tolist()
    [[10.0, 104.0]]
    """

    terms: PaperTerms
    books: Mapping[str, PaperBook] = field(default_factory=dict)
    reached: int = -(2**62)
    late_bars: int = 0

    def step(
        self,
        strategy: Strategy,
        bars: Mapping[str, pd.DataFrame],
        around: Mapping[str, Surroundings],
        now: pd.Timestamp,
        *,
        rates: ExchangeRates | None = None,
    ) -> Self:
        """Take the bars that have closed since, judge the signals, and decide; the account as it is then.

        Parameters
        ----------
        bars:
            By symbol, as the lake has them; only closed ones that were not taken before are looked at. Corrections of
            bars that were taken change nothing.
        around:
            What the strategy looks at beside them, as it is known now.
        now:
            When the decisions are made.

        Raises
        ------
        ConfigurationError
            The strategy is not the account's, or something that it looks at is not given.
        DataError
            A symbol has no bars.

        Notes
        -----
        Of bars that were missed (the machine was off) the protection that stood goes on being traded, signals are
        judged as of now and are mostly stale, and a plan's moves are not made up for. At the newest bar a plan moves
        only what the account really holds, and what the strategy holds no longer is closed.
        """
        if now.tzinfo is None:
            raise DataError(f"now = {now} has no zone", hint="use UTC")
        self._require(strategy)
        until = self._frontier(strategy, bars, around, now)
        if until <= self.reached:
            return self
        books, fresh, late = {}, {}, 0
        for symbol in self.terms.symbols:
            books[symbol], fresh[symbol], passed = self._taken(symbol, bars[symbol], until)
            late += passed
        grown = replace(self, books=books, reached=until, late_bars=self.late_bars + late)
        decided: dict[str, Decided] = {}
        for symbol, book in books.items():
            if len(book.bars) and fresh[symbol]:
                seen = around[symbol]
                capital = strategy.content.account.capital if self.terms.capital is None else self.terms.capital
                seen = replace(seen, equity=capital if seen.equity is None else seen.equity)
                decided[symbol] = decide(strategy, book.bars, seen)
        grown = grown._act_on_signals(strategy, decided, fresh, now)
        held = grown.held(strategy, rates=rates)
        return grown._follow(strategy, decided, fresh, held, now)

    def simulation(self, strategy: Strategy, *, rates: ExchangeRates | None = None) -> PortfolioSimulation:
        """What the engine makes of the bars and decisions so far.

        Raises
        ------
        DataError
            No bar has been traded yet.
        """
        traded = {symbol: book.traded for symbol, book in self.books.items() if len(book.traded)}
        if not traded:
            raise DataError(f"no bar of {', '.join(self.terms.symbols)} has closed since the account was opened")
        settings = strategy.settings(self.terms.symbols, capital=self.terms.capital)
        wanted = {symbol: self.books[symbol].wanted() for symbol in traded}
        late = {symbol: latency for symbol, (_, latency) in wanted.items()}
        return simulate_portfolio(
            traded,
            {(s, strategy.name) if settings.hedging else s: frame for s, (frame, _) in wanted.items()},
            settings,
            rates=rates,
            latency=late if any(each.any() for each in late.values()) else None,
            **trading_terms(strategy, traded, settings),
        )

    def held(self, strategy: Strategy, *, rates: ExchangeRates | None = None) -> dict[str, float]:
        """Units by symbol after the last bar."""
        held = dict.fromkeys(self.terms.symbols, 0.0)
        if any(book.decisions for book in self.books.values()):
            last = self.simulation(strategy, rates=rates).positions.groupby("symbol", observed=True)["quantity"].last()
            held |= {str(symbol): float(quantity) for symbol, quantity in last.items()}
        return held

    def tables(self, simulation: PortfolioSimulation) -> dict[str, list[tuple[TableSpec, pd.DataFrame]]]:
        """Rows of the tables in the zone ``strategy``, by symbol and for the account."""
        made = account_rows(self.terms.run, simulation, self.terms.symbols)
        for symbol, book in self.books.items():
            signals = pd.DataFrame(list(book.signals), columns=[*_SIGNAL, *_VERDICT])
            decisions = pd.DataFrame(list(book.decisions), columns=list(_DECISION))
            for frame in (signals, decisions):
                for name in _TIMES:
                    if name in frame:
                        frame[name] = instants(frame[name])
            # A signal counts as known from when it was acted on: the run may have come later than the score.
            signals = signals.assign(run=self.terms.run, known_at=signals["acted_at"])
            decisions = decisions.assign(run=self.terms.run, limit=math.nan, trigger=math.nan)
            kept = [(SIGNALS, signals), (DECISIONS, decisions)]
            made[symbol] = [(spec, rows[spec.schema.names]) for spec, rows in kept] + made.get(symbol, [])
        return made

    def to_bytes(self) -> bytes:
        """The account as one file: the same account gives the same bytes."""
        return content_of(self.terms, self.books, self.reached, self.late_bars)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read :meth:`to_bytes` back.

        Raises
        ------
        DataError
            It is no account, or a damaged one.
        """
        return cls(*read_content(content))

    def _require(self, strategy: Strategy) -> None:
        if strategy_content(strategy) != self.terms.strategy:
            raise ConfigurationError(
                f"the paper account '{self.terms.name}' was opened with another strategy than {strategy.version}",
                hint="an account keeps its strategy: open another account for a changed file",
            )

    def _frontier(
        self,
        strategy: Strategy,
        bars: Mapping[str, pd.DataFrame],
        around: Mapping[str, Surroundings],
        now: pd.Timestamp,
    ) -> int:
        """The close up to which all symbols are there, those that are overdue by more than the patience left out."""
        newest = []
        for symbol in self.terms.symbols:
            frame = bars.get(symbol)
            if frame is None or frame.empty:
                raise DataError(f"there are no bars of {symbol}", hint="ingest them first: tapeline run")
            closes = frame["close_ts"][frame["close_ts"] <= now]
            scores = around[symbol].scores
            if strategy.needs_scores and scores is not None:
                scored = scores.index.max() if "ts" not in scores else scores["ts"].max()
                waits = closes[~(closes.index <= scored)]
                # The score of a bar comes a little after it: the bar waits for it, but not for ever.
                closes = closes[(closes.index <= scored) | (waits.reindex(closes.index) <= now - self.terms.patience)]
            if len(closes):
                newest.append(closes.iloc[-1])
        awaited = [one for one in newest if now - one <= self.terms.patience + self._length]
        found = min(awaited, default=max(newest, default=None))
        return self.reached if found is None else int(pd.Timestamp(found).as_unit("ns").value)

    @property
    def _length(self) -> timedelta:
        return Timeframe.parse(self.terms.timeframe).duration

    def _taken(self, symbol: str, bars: pd.DataFrame, until: int) -> tuple[PaperBook, int, int]:
        """The book with the bars that are new, how many of them are traded, and how many came too late."""
        closes = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
        opens = pd.DatetimeIndex(bars.index).as_unit("ns").asi8
        given = bars[[*PRICES, "close_ts"]].rename_axis("ts")
        book = self.books.get(symbol)
        if book is None:
            given = given[closes <= until]
            warm = int((given.index < pd.Timestamp(self.terms.opened_at)).sum())
            return PaperBook(given, warm), len(given) - warm, 0
        last = pd.Timestamp(book.bars["close_ts"].iloc[-1]).as_unit("ns").value if len(book.bars) else -(2**62)
        beyond = (closes <= until) & (opens >= last)
        fits = beyond & (opens >= self.reached) if len(book.traded) else beyond
        grown = pd.concat([book.bars, given[fits]])
        early = given.index[fits] < pd.Timestamp(self.terms.opened_at)
        warm = book.warm + int(early.sum())
        return replace(book, bars=grown, warm=warm), int(fits.sum() - early.sum()), int((beyond & ~fits).sum())

    def _act_on_signals(
        self, strategy: Strategy, decided: Mapping[str, Decided], fresh: Mapping[str, int], now: pd.Timestamp
    ) -> Self:
        """Judge the signals of the new bars as of now, and make the decisions of those that stand."""
        validator = self._validator(strategy)
        books = dict(self.books)
        for symbol, one in decided.items():
            book = books[symbol]
            new = book.bars.index[-fresh[symbol] :]
            table = one.signals.assign(symbol=symbol)
            own = np.flatnonzero(table["ts"].isin(new).to_numpy())
            # A signal to leave is never too late, nor does it need a probability.
            judged = (table["accepted"].to_numpy(dtype=bool) & (table["side"].to_numpy() != 0))[own]
            asked = [table.iloc[row].to_dict() for row in own[judged]]
            verdicts = dict(zip(own[judged].tolist(), validator.judge(asked, now), strict=True))
            noted = []
            for row in own.tolist():
                signal, verdict = table.iloc[row], verdicts.get(row)
                accepted = bool(signal["accepted"]) if verdict is None else verdict.accepted
                reason = signal["reason"] if verdict is None else verdict.reason
                noted.append(_signal(signal, now, accepted, reason))
            stand = {row for row, verdict in verdicts.items() if verdict.accepted}
            first = int(one.decisions.index.searchsorted(new[0]))
            places = [
                place
                for place, row in enumerate(one.steps["signal"].tolist()[first:], first)
                # A refusal of the direction filter leaves the other side: a decision, though no accepted signal.
                if row in stand or (row >= 0 and row not in verdicts)
            ]
            made = self._made(strategy, book, one, places, now)
            books[symbol] = replace(book, decisions=book.decisions + made, signals=book.signals + tuple(noted))
        return replace(self, books=books)

    def _follow(
        self,
        strategy: Strategy,
        decided: Mapping[str, Decided],
        fresh: Mapping[str, int],
        held: Mapping[str, float],
        now: pd.Timestamp,
    ) -> Self:
        """At the newest bar: the plan's moves of what is held, and the end of what the strategy holds no longer."""
        books = dict(self.books)
        for symbol, one in decided.items():
            book, position = books[symbol], held[symbol]
            newest = book.bars.index[-1]
            last = book.decisions[-1] if book.decisions else None
            if not position or (last is not None and last["ts"] == newest.value):
                continue
            wanted = float(one.decisions["target"].iloc[-1]) if len(one.decisions) else 0.0
            moves = len(one.decisions) and one.decisions.index[-1] == newest and one.steps["signal"].iloc[-1] < 0
            if moves and (wanted == 0 or wanted * position > 0):
                made = self._made(strategy, book, one, [len(one.decisions) - 1], now)
            elif wanted * position <= 0 and (last is None or last["target"] * position > 0):
                why = {"why": LEFT, "held": position, "wanted": wanted}
                nothing = {"target": 0.0, "stop": math.nan, "take": math.nan, "reason": LEFT}
                made = (self._decision(strategy, book, newest, nothing, why, now),)
            else:
                continue
            books[symbol] = replace(book, decisions=book.decisions + made)
        return replace(self, books=books)

    def _made(
        self, strategy: Strategy, book: PaperBook, decided: Decided, places: list[int], now: pd.Timestamp
    ) -> tuple[Mapping[str, Any], ...]:
        if not places:
            return ()
        chosen = replace(decided, decisions=decided.decisions.iloc[places], steps=decided.steps.iloc[places])
        rows = chosen.decisions.assign(reason=chosen.steps["reason"]).to_dict("records")
        return tuple(
            self._decision(strategy, book, ts, row, why, now)
            for ts, row, why in zip(chosen.decisions.index, rows, chosen.explain(), strict=True)
        )

    def _decision(
        self,
        strategy: Strategy,
        book: PaperBook,
        ts: pd.Timestamp,
        row: Mapping[Any, Any],
        why: Mapping[str, Any],
        now: pd.Timestamp,
    ) -> Mapping[str, Any]:
        place = int(book.traded.index.get_indexer(pd.DatetimeIndex([ts]))[0])
        late = now - book.traded["close_ts"].iloc[place]
        delay = strategy.content.costs.latency.delays(np.array([place]))[0]
        latency = (late if late > self.terms.grace else pd.Timedelta(0)) + delay
        return {
            "ts": ts.as_unit("ns").value,
            "known_at": now.as_unit("ns").value,
            **{name: float(row[name]) for name in ("target", "stop", "take")},
            "latency": int(pd.Timedelta(latency).as_unit("ns").value),
            "reason": str(row["reason"]),
            "strategy": strategy.version,
            "explanation": json.dumps(why, allow_nan=False),
        }

    def _validator(self, strategy: Strategy) -> SignalValidator:
        """The judge of live signals, who remembers those that he judged last.

        A signal repeats or contradicts only one of the same bar, and each bar is taken once: what was judged in earlier
        steps can change no verdict of a later one, and is not judged again. The newest tell him what time it was.
        """
        own = strategy.content.validator
        age = self._length if self.terms.maximum_age is None else self.terms.maximum_age
        validator = SignalValidator(own or SignalRules(maximum_age=age, require_probability=False))
        accepted = [signal for book in self.books.values() for signal in book.signals if signal["accepted"]]
        if accepted:
            at = max(signal["acted_at"] for signal in accepted)
            times = ("ts", "known_at")
            given = [{**one, **{n: _instant(one[n]) for n in times}} for one in accepted if one["acted_at"] == at]
            validator.judge(given, _instant(at))
        return validator


def open_account(
    name: str,
    strategy: Strategy,
    symbols: list[str] | tuple[str, ...],
    timeframe: Timeframe,
    *,
    at: pd.Timestamp,
    **terms: Any,
) -> PaperAccount:
    """A new account that has traded nothing; ``terms`` are further fields of :class:`PaperTerms`.

    Raises
    ------
    ConfigurationError
        A term is out of its bounds, or the strategy cannot trade these symbols on one account.
    """
    try:
        found = PaperTerms(
            name=name,
            strategy=strategy_content(strategy),
            symbols=tuple(symbols),
            timeframe=str(timeframe),
            opened_at=at.to_pydatetime(),
            **terms,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"paper account, '{'.'.join(map(str, first['loc']))}': {first['msg']}") from None
    strategy.settings(found.symbols)
    return PaperAccount(found)


def _signal(signal: pd.Series, now: pd.Timestamp, accepted: bool, reason: Any) -> Mapping[str, Any]:
    times = {"ts": signal["ts"], "known_at": signal["known_at"], "acted_at": now}
    return {
        **{name: pd.Timestamp(value).as_unit("ns").value for name, value in times.items()},
        "symbol": str(signal["symbol"]),
        "source": str(signal["source"]),
        "side": int(signal["side"]),
        **{name: float(signal[name]) for name in ("probability", "confidence", "price")},
        "accepted": bool(accepted),
        "reason": None if accepted else str(reason),
    }


def _instant(nanoseconds: int) -> pd.Timestamp:
    return pd.Timestamp(nanoseconds, unit="ns", tz="UTC")
