"""The tables of a portfolio's run, and whether they agree with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import DataError
from tapeline.strategy import account_kernels as codes
from tapeline.strategy import portfolio_state as state
from tapeline.strategy import round_trips as trips
from tapeline.strategy.orders import KINDS, STATUSES
from tapeline.strategy.portfolio_account import PortfolioAccount, PortfolioSettings
from tapeline.strategy.portfolio_state import PORTFOLIO_REASONS, REFUSALS, Floats, Integers, Path
from tapeline.strategy.simulator import FILL_COLUMNS, ORDER_COLUMNS, TRADE_COLUMNS, read_only
from tapeline.strategy.simulator_kernels import Market

EQUITY_COLUMNS: Final = ("equity", "cash", "gross", "net", "margin")
CENT: Final = 0.005
"""Half a cent: amounts that differ by less are the same money."""


@dataclass(frozen=True)
class PortfolioSimulation:
    """What came of it. ``symbol`` and ``tag`` name the book everywhere; the tag is empty where positions are netted.

    Parameters
    ----------
    equity:
        By instant ``at`` at which bars close, in the account's currency: ``equity``, ``cash``, ``gross`` and ``net``
        value of the positions, ``margin`` that they ask.
    fills:
        One row a fill, in the order in which the account knew of them (``known_at``: the bar's open where it traded at
        the open, else its close). ``ts`` is the open of its bar, ``rate`` the account's money for one unit of the
        symbol's at ``ts``; the rest as in :class:`tapeline.strategy.simulator.Simulation`.
    orders:
        One row an order. ``reason`` may be ``margin`` or ``kill_switch``: the account closed the position.
    trades:
        One row a round trip, by book. Money is the symbol's, but for ``profit``: what the trade changed in the account,
        each flow at the rate of its instant, what is still held at the newest.
    positions:
        One row a book and bar: ``quantity`` and ``price``, the last finite close, at ``close_ts``.
    financing:
        One row a charge: ``amount`` in the symbol's money, paid where positive, and its ``rate``.
    refusals:
        One row for each decision or fill that was cut or refused: units ``asked`` and ``permitted``, ``order`` -1 where
        none was sent, and the ``reason``.
    rates:
        By instant of ``equity``, the account's money for one unit of each other currency.
    settings:
        The account's.
    """

    equity: pd.DataFrame
    fills: pd.DataFrame
    orders: pd.DataFrame
    trades: pd.DataFrame
    positions: pd.DataFrame
    financing: pd.DataFrame
    refusals: pd.DataFrame
    rates: pd.DataFrame
    settings: PortfolioSettings


def report_portfolio(
    account: PortfolioAccount, market: Market, rows: Sequence[Any], path: Path, rates: Floats
) -> PortfolioSimulation:
    """The tables of a run; ``rows`` names each book's rows of the market, ``rates`` are by instant and currency."""
    tallies, log, notes = account.shared.tallies, account.log, account.notes
    count, orders, refused = (int(tallies[name]) for name in (state.FILLS, state.ORDERS, state.REFUSED))
    book_of = np.empty(market.ts.size, np.int64)
    for book, own in enumerate(rows):
        book_of[own] = book
    times = _instants(market.ts)
    at = _instants(path.at, "at")
    fill_codes, fill_amounts = log.fill_codes[:count], log.fill_amounts[:count]
    order_codes, order_amounts = log.order_codes[:orders], log.order_amounts[:orders]
    refusal_codes, asked = notes.refusal_codes[:refused], notes.refusal_amounts[:refused]
    fill_rows = fill_codes[:, codes.FILL_ROW]
    charged = np.flatnonzero(path.charged)
    # A history and a stream have their rows in another order; the table is by time, and at one time by book.
    charged = charged[np.lexsort((book_of[charged], market.ts[charged]))]
    return PortfolioSimulation(
        equity=pd.DataFrame(dict(zip(EQUITY_COLUMNS, path.amounts.T.copy(), strict=True)), index=at),
        fills=pd.DataFrame(
            {
                "ts": times[fill_rows],
                "known_at": _instants(notes.fill_known[:count]),
                **_names(account, book_of[fill_rows]),
                "order": fill_codes[:, codes.FILL_ORDER],
                "reason": _words(PORTFOLIO_REASONS, fill_codes[:, codes.FILL_REASON]),
                **{name: fill_amounts[:, column] for column, name in enumerate(FILL_COLUMNS[3:])},
                "rate": path.rate[fill_rows] if path.rate.size else np.ones(count),
            }
        ),
        orders=pd.DataFrame(
            {
                "decided_at": times[order_codes[:, codes.ORDER_DECIDED]],
                "arrived_at": times[order_codes[:, codes.ORDER_ARRIVED]],
                "ended_at": _at_rows(times, order_codes[:, codes.ORDER_ENDED]),
                **_names(account, book_of[order_codes[:, codes.ORDER_ARRIVED]]),
                "kind": _words(KINDS, order_codes[:, codes.ORDER_KIND]),
                "reason": _words(PORTFOLIO_REASONS, order_codes[:, codes.ORDER_REASON]),
                "status": _words(STATUSES, order_codes[:, codes.ORDER_STATUS]),
                **{name: order_amounts[:, column] for column, name in enumerate(ORDER_COLUMNS[6:])},
            }
        ),
        trades=_trades(account, market, rows, path, fill_codes, fill_amounts, times),
        positions=_positions(account, market, rows, path),
        financing=pd.DataFrame(
            {
                "ts": times[charged],
                **_names(account, book_of[charged]),
                "amount": path.charged[charged],
                "rate": path.rate[charged] if path.rate.size else np.ones(charged.size),
            }
        ),
        refusals=pd.DataFrame(
            {
                "ts": times[refusal_codes[:, state.REFUSAL_ROW]],
                "decided_at": times[refusal_codes[:, state.REFUSAL_DECIDED]],
                **_names(account, refusal_codes[:, state.REFUSAL_BOOK]),
                "order": refusal_codes[:, state.REFUSAL_ORDER],
                "reason": _words(REFUSALS, refusal_codes[:, state.REFUSAL_REASON]),
                "asked": asked[:, 0],
                "permitted": asked[:, 1],
            }
        ),
        rates=pd.DataFrame(rates, index=at, columns=account.currencies),
        settings=account.settings,
    )


def reconcile(simulation: PortfolioSimulation) -> None:
    """Compute cash, positions, equity and profits again, from nothing but fills, financing, rates and prices.

    Raises
    ------
    DataError
        Something differs by more than half a cent (positions: by more than rounding); the message names the first.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.strategy.portfolio import simulate_portfolio
    >>> bars = example_bars(100, 100, 104)
    >>> found = simulate_portfolio({"A": bars}, {"A": pd.DataFrame({"target": [10.0]}, index=bars.index[:1])})
    >>> reconcile(found)
    >>> reconcile(replace(found, fills=found.fills.assign(price=100.5)))
    Traceback (most recent call last):
    ...
    tapeline.core.errors.DataError: cash at 2017-01-02 02:00:00+00:00 is 99000.00, fills and financing give 98995.00
    """
    fills, financing, equity = simulation.fills, simulation.financing, simulation.equity
    if equity.empty:
        return
    # A moment: at one instant what closes comes before what opens.
    moments = 2 * _nanoseconds(equity.index)
    fill_moments = 2 * _nanoseconds(fills["known_at"]) + (fills["known_at"] == fills["ts"]).to_numpy()
    flows = -(fills["quantity"] * fills["price"] + fills["commission"]).to_numpy() * fills["rate"].to_numpy()
    charges = -(financing["amount"] * financing["rate"]).to_numpy()
    cash = simulation.settings.capital + _sums_until(fill_moments, flows, moments)
    cash += _sums_until(2 * _nanoseconds(financing["ts"]) + 1, charges, moments)
    _same(equity["cash"], cash, "fills and financing give")
    gross, net = np.zeros(len(equity)), np.zeros(len(equity))
    groups: dict[Any, NDArray[np.int64]] = {
        key: np.asarray(mine) for key, mine in fills.groupby(["symbol", "tag"], observed=True).indices.items()
    }
    for (symbol, tag), bars in simulation.positions.groupby(["symbol", "tag"], observed=True):
        mine = groups.get((symbol, tag), np.empty(0, np.int64))
        quantity = fills["quantity"].to_numpy()[mine]
        closes = 2 * _nanoseconds(bars["close_ts"])
        held = _sums_until(fill_moments[mine], quantity, closes)
        dust = 1e-9 * np.abs(quantity).sum()
        wrong = np.flatnonzero(~(np.abs(held - bars["quantity"].to_numpy()) <= dust))
        if wrong.size:
            row = bars.iloc[wrong[0]]
            raise DataError(
                f"position in {symbol} {tag}".strip() + f" at {row['close_ts']} is {row['quantity']:g}, "
                f"fills give {held[wrong[0]]:g}"
            )
        if not mine.size:
            continue
        newest = np.searchsorted(closes, moments, side="right") - 1
        price = np.where(newest >= 0, bars["price"].to_numpy()[newest], np.nan)
        price = np.where(np.isnan(price), fills["reference"].to_numpy()[mine[0]], price)
        units = _sums_until(fill_moments[mine], quantity, moments)
        currency = simulation.settings.terms_of(str(symbol)).currency
        rate = 1.0 if currency == simulation.settings.currency else simulation.rates[currency].to_numpy()
        value = np.where(np.abs(units) <= dust, 0.0, units) * price * rate
        gross += np.abs(value)
        net += value
    _same(equity["net"], net, "positions, prices and rates give")
    _same(equity["gross"], gross, "positions, prices and rates give")
    _same(equity["equity"], cash + net, "cash and positions give")
    profit = simulation.trades["profit"].sum()
    if not abs(equity["equity"].iloc[-1] - simulation.settings.capital - profit) <= CENT:
        last = equity["equity"].iloc[-1]
        raise DataError(
            f"equity ends at {last:.2f}, capital and profits of trades give {simulation.settings.capital + profit:.2f}"
        )


def _same(found: pd.Series, expected: Floats, source: str) -> None:
    wrong = np.flatnonzero(~(np.abs(found.to_numpy() - expected) <= CENT))
    if wrong.size:
        at = wrong[0]
        raise DataError(f"{found.name} at {found.index[at]} is {found.iloc[at]:.2f}, {source} {expected[at]:.2f}")


def _sums_until(moments: Integers, amounts: Floats, until: Integers) -> Floats:
    order = np.argsort(moments, kind="stable")
    total = np.r_[0.0, np.cumsum(amounts[order])]
    return np.asarray(total[np.searchsorted(moments[order], until, side="right")])


def _trades(
    account: PortfolioAccount,
    market: Market,
    rows: Sequence[Any],
    path: Path,
    fill_codes: NDArray[np.int64],
    fill_amounts: Floats,
    times: pd.DatetimeIndex,
) -> pd.DataFrame:
    place, book_of = np.empty(market.ts.size, np.int64), np.empty(market.ts.size, np.int64)
    for book, own in enumerate(rows):
        length = market.ts[own].size
        place[own], book_of[own] = np.arange(length), book
    fill_books = book_of[fill_codes[:, codes.FILL_ROW]]
    order = np.argsort(fill_books, kind="stable")
    bounds = np.searchsorted(fill_books[order], np.arange(len(rows) + 1))
    books, found_codes, found_amounts, profits, entries, exits = [], [], [], [], [], []
    for book, own in enumerate(rows):
        mine = order[bounds[book] : bounds[book + 1]]
        if not mine.size:
            continue
        columns: list[NDArray[Any]] = [read_only(field[own]) if field.size else field for field in market]
        part = Market(*columns)
        charged = path.charged[own] if path.charged.size else path.charged
        local, amounts = fill_codes[mine], fill_amounts[mine]
        local[:, codes.FILL_ROW] = place[local[:, codes.FILL_ROW]]
        length = part.ts.size
        trip_codes, trip_amounts = trips.round_trips(part, local, amounts, charged, length)
        profit = trip_amounts[:, trips.NET]
        if account.books.currency[book] >= 0:
            rate = path.rate[own]
            money = amounts.copy()
            in_money = [codes.FILL_PRICE, codes.FILL_REFERENCE, codes.FILL_COMMISSION]
            money[:, in_money] *= rate[local[:, codes.FILL_ROW]][:, None]
            newest = part._replace(close=read_only(part.close * account.books.rate[book]))
            converted = charged * rate if charged.size else charged
            profit = trips.round_trips(newest, local, money, converted, length)[1][:, trips.NET]
        own_times = times[own]
        entries.append(own_times[trip_codes[:, trips.ENTRY_ROW]])
        exits.append(_at_rows(own_times, trip_codes[:, trips.EXIT_ROW]))
        books.append(np.full(len(trip_codes), book))
        found_codes.append(trip_codes)
        found_amounts.append(trip_amounts)
        profits.append(profit)
    if not books:
        books, profits = [np.empty(0, np.int64)], [np.empty(0)]
        entries, exits = [times[:0]], [times[:0]]
        found_codes, found_amounts = [np.empty((0, trips.CODES), np.int64)], [np.empty((0, trips.AMOUNTS))]
    all_codes, all_amounts = np.concatenate(found_codes), np.concatenate(found_amounts)
    return pd.DataFrame(
        {
            "entry_at": entries[0].append(entries[1:]),
            "exit_at": exits[0].append(exits[1:]),
            **_names(account, np.concatenate(books)),
            "reason": _words((*PORTFOLIO_REASONS, "open"), all_codes[:, trips.REASON]),
            **{name: all_amounts[:, column] for column, name in enumerate(TRADE_COLUMNS[3:])},
            "profit": np.concatenate(profits),
        }
    ).sort_values("entry_at", kind="stable", ignore_index=True)


def _positions(account: PortfolioAccount, market: Market, rows: Sequence[Any], path: Path) -> pd.DataFrame:
    prices = []
    for own in rows:
        close = market.close[own]
        finite = np.isfinite(close)
        newest = np.maximum.accumulate(np.where(finite, np.arange(close.size), -1))
        prices.append(np.where(newest >= 0, close[newest], np.nan) if not finite.all() else close)
    counts = [len(each) for each in prices]
    joined = [np.concatenate([field[own] for own in rows]) for field in (market.ts, market.close_ts, path.position)]
    return pd.DataFrame(
        {
            **_names(account, np.repeat(np.arange(len(rows)), counts)),
            "close_ts": _instants(joined[1]),
            "quantity": joined[2],
            "price": np.concatenate(prices),
        },
        index=_instants(joined[0], "ts"),
    )


def _names(account: PortfolioAccount, books: NDArray[np.int64]) -> dict[str, pd.Categorical[str]]:
    """Symbol and tag by book's number."""
    tags = sorted({key.tag for key in account.keys})
    tag_of = np.array([tags.index(key.tag) for key in account.keys])
    return {
        "symbol": pd.Categorical.from_codes(account.books.symbol[books], categories=pd.Index(account.symbols)),
        "tag": pd.Categorical.from_codes(tag_of[books], categories=pd.Index(tags)),
    }


def _instants(nanoseconds: NDArray[np.int64], name: str | None = None) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(nanoseconds.view("M8[ns]"), name=name).tz_localize("UTC")


def _at_rows(times: pd.DatetimeIndex, rows: NDArray[np.int64]) -> pd.DatetimeIndex:
    """The times of rows; none where the row is -1."""
    return pd.DatetimeIndex(times.take(np.maximum(rows, 0)).where(rows >= 0))


def _words(words: tuple[str, ...], numbers: NDArray[np.int64]) -> pd.Categorical[str]:
    known: NDArray[np.int64] = np.where(numbers < 0, len(words) - 1, numbers).astype(np.int64)
    return pd.Categorical.from_codes(known, categories=pd.Index(words))


def _nanoseconds(times: Any) -> NDArray[np.int64]:
    return pd.DatetimeIndex(times).as_unit("ns").asi8
