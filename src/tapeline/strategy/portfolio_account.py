"""The account of a portfolio: its settings, the arrays that the engine writes in, and logs that grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tapeline.core.errors import ConfigurationError
from tapeline.strategy import account_kernels
from tapeline.strategy import portfolio_state as state
from tapeline.strategy.account_kernels import ROOM, Rules
from tapeline.strategy.costs import Commission
from tapeline.strategy.portfolio_kernels import advance_portfolio
from tapeline.strategy.portfolio_state import Account, Books, Notes, Path, Risk, Rows, Terms
from tapeline.strategy.risk_kernels import RiskRules, begin_risk, no_limits
from tapeline.strategy.simulator import larger_log, new_log
from tapeline.strategy.simulator_kernels import Decisions, Market
from tapeline.strategy.slippage import FixedSlippage, Slippage

FIRST_ROOM: Final = 8 * ROOM
_SCHEDULE_NUMBERS: Final = 6

Currency = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{1,9}$")]


class SymbolTerms(BaseModel):
    """Costs and constraints of trading one symbol; those that :class:`SimulationSettings` has mean the same.

    Parameters
    ----------
    currency:
        Of the symbol's price, and of all its costs.
    margin:
        The share of a position's value that the account's equity must cover when the position grows; 0: nothing is
        asked; 1: no credit.
    maintenance:
        The share that equity must cover at every instant, at most ``margin`` where that is asked; otherwise positions
        are closed. 0: nothing is watched.

    Raises
    ------
    ConfigurationError
        ``maintenance`` above ``margin``, or a commission that is stated in another currency.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    currency: Currency = "USD"
    slippage: Slippage = FixedSlippage()
    commission: Commission = Commission()
    lot: Annotated[float, Field(ge=0)] = 0.0
    limit_through: Annotated[float, Field(ge=0)] = 0.0
    bars_in_force: Annotated[int, Field(ge=1)] | None = None
    margin: Annotated[float, Field(ge=0, le=10)] = 0.0
    maintenance: Annotated[float, Field(ge=0, le=10)] = 0.0
    protect_by_distance: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> SymbolTerms:
        if 0 < self.margin < self.maintenance:
            raise ConfigurationError(
                f"maintenance {self.maintenance:g} is above margin {self.margin:g}",
                hint="a position would be closed as soon as it is opened",
            )
        stated = self.commission.currency
        if stated != self.currency and self.commission != Commission(currency=stated):
            raise ConfigurationError(
                f"commission is in {stated}, the symbol's price in {self.currency}", hint="state both in one currency"
            )
        return self

    def compiled(self) -> Rules:
        """What kernels take; the account, not the book, asks for margin."""
        slippage, schedule = self.slippage.compiled(), self.commission.compiled()
        force, distance = self.bars_in_force or 0, self.protect_by_distance
        return Rules(slippage, schedule, self.lot, self.limit_through, force, 0.0, distance)


class PortfolioSettings(BaseModel):
    """The account, and the terms of its symbols.

    Parameters
    ----------
    capital, currency:
        Cash at the start, and what the account is kept in.
    terms:
        Of every symbol that ``symbols`` does not name.
    symbols:
        Terms by symbol.
    hedging:
        Whether books of one symbol with different tags stand side by side; otherwise a symbol has one position.
    hedged_margin:
        Of longs and shorts in one symbol margin is asked for the ``larger`` leg, or for ``both``.

    Examples
    --------
    >>> settings = PortfolioSettings(terms=SymbolTerms(margin=0.5), symbols={"USDJPY": SymbolTerms(currency="JPY")})
    >>> settings.terms_of("USDJPY").currency, settings.terms_of("EURUSD").margin
    ('JPY', 0.5)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    capital: Annotated[float, Field(gt=0)] = 100_000.0
    currency: Currency = "USD"
    terms: SymbolTerms = SymbolTerms()
    symbols: Mapping[str, SymbolTerms] = {}
    hedging: bool = False
    hedged_margin: Literal["larger", "both"] = "larger"

    def terms_of(self, symbol: str) -> SymbolTerms:
        """The terms of a symbol."""
        return self.symbols.get(symbol, self.terms)


class BookKey(NamedTuple):
    """A book's name; in netting mode the tag is empty."""

    symbol: str
    tag: str


class PortfolioAccount:
    """What the engine remembers between events, and the logs it writes.

    Parameters
    ----------
    books:
        In the order that decides ties: by symbol, then tag.
    limits:
        Limits of risk, whose arrays by symbol are in alphabetical order of the symbols; None: none.
    """

    def __init__(self, settings: PortfolioSettings, books: Sequence[BookKey], limits: RiskRules | None = None) -> None:
        symbols = sorted({book.symbol for book in books})
        count, terms = len(books), [settings.terms_of(book.symbol) for book in books]
        self.settings, self.keys, self.symbols = settings, tuple(books), symbols
        # Currencies other than the account's, as the columns of tables of rates.
        self.currencies = sorted({each.currency for each in terms} - {settings.currency})
        self._terms = _terms_table(terms)
        if limits is not None and limits.lot.size != len(symbols):
            raise ConfigurationError(
                f"limits of risk are for {limits.lot.size} symbols, the portfolio has {len(symbols)}",
                hint="compile them for the sorted symbols of the bars",
            )
        rules = no_limits(len(symbols)) if limits is None else limits
        self._risk = Risk(rules, begin_risk(rules, len(symbols), settings.capital))
        amounts = np.tile(account_kernels.begin_state(0.0)[0], (count, 1))
        counts = np.tile(account_kernels.begin_state(0.0)[1], (count, 1))
        counts[:, account_kernels.SENT] = -1
        places = {name: at for at, name in enumerate(self.currencies)}
        self.books = Books(
            amounts,
            counts,
            np.zeros(count),
            np.full(count, np.nan),
            np.ones(count),
            np.ones(count),
            np.zeros(count, np.int64),
            np.array([symbols.index(book.symbol) for book in books], np.int64),
            np.array([places.get(each.currency, -1) for each in terms], np.int64),
        )
        tallies = np.zeros(state.TALLIES, np.int64)
        tallies[state.WATCHED_AT] = np.iinfo(np.int64).min
        self.shared = Account(
            settings.hedged_margin == "larger",
            any(each.margin > 0 for each in terms),
            any(each.maintenance > 0 for each in terms),
            limits is not None,
            np.array([settings.capital]),
            tallies,
            np.zeros(len(symbols)),
            np.full(len(symbols), np.iinfo(np.int64).min),
            np.zeros(len(symbols)),
        )
        self.log, self.notes = new_log(FIRST_ROOM), _new_notes(FIRST_ROOM)

    @property
    def cash(self) -> float:
        """Money after all that is settled."""
        return float(self.shared.totals[state.CASH])

    def advance(
        self, market: Market, decisions: Decisions, rows: Rows, events: Any, instants: Any, rates: Any, path: Path
    ) -> None:
        """Take all events; see :func:`tapeline.strategy.portfolio_kernels.advance_portfolio`."""
        at, end = 0, len(events)
        while True:
            at = advance_portfolio(
                *(market, decisions, rows, events, instants, rates),
                *(self._terms, self.books, self.shared, self._risk, self.log, self.notes, path, at, end),
            )
            if at == end:
                return
            # What one event can bring must fit, however many decisions arrive in it.
            self.log = larger_log(self.log, int(self.shared.tallies[state.NEEDED]))
            larger = _new_notes(self.log.fill_codes.shape[0])
            for old, new in zip(self.notes, larger, strict=True):
                new[: len(old)] = old
            self.notes = larger


def _new_notes(room: int) -> Notes:
    return Notes(np.empty(room, np.int64), np.empty((room, 5), np.int64), np.empty((room, 2)))


def _terms_table(terms: Sequence[SymbolTerms]) -> Terms:
    rules = [each.compiled() for each in terms]
    tiers = max((each.schedule.thresholds.size for each in rules), default=1)

    def padded(name: str, fill: float) -> state.Floats:
        table = np.full((len(rules), tiers), fill)
        for row, each in enumerate(rules):
            values = getattr(each.schedule, name)
            table[row, : values.size] = values
        return table

    return Terms(
        np.array([tuple(each.slippage) for each in rules], np.float64),
        np.array([tuple(each.schedule)[:_SCHEDULE_NUMBERS] for each in rules], np.float64),
        # A tier that begins at infinity is never reached.
        padded("thresholds", np.inf),
        padded("maker", 0.0),
        padded("taker", 0.0),
        np.array([each.lot for each in rules], np.float64),
        np.array([each.through for each in rules], np.float64),
        np.array([each.in_force for each in rules], np.int64),
        np.array([each.by_distance for each in rules], np.bool_),
        np.array([each.margin for each in terms], np.float64),
        np.array([each.maintenance for each in terms], np.float64),
    )
