"""What decisions in many symbols would have earned on one account, by the rules of docs/portfolio.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tapeline.core.errors import ConfigurationError, DataError, TapelineError
from tapeline.strategy.costs import ExchangeRates
from tapeline.strategy.portfolio_account import BookKey, PortfolioAccount, PortfolioSettings
from tapeline.strategy.portfolio_report import PortfolioSimulation, report_portfolio
from tapeline.strategy.portfolio_state import Path, Rows
from tapeline.strategy.risk_kernels import RiskRules
from tapeline.strategy.simulator import decision_arrays, market_arrays, read_only
from tapeline.strategy.simulator_kernels import Decisions, Market

BySymbol = Mapping[str, ArrayLike] | float


def simulate_portfolio(
    bars: Mapping[str, pd.DataFrame],
    decisions: Mapping[str | tuple[str, str], pd.DataFrame],
    settings: PortfolioSettings | None = None,
    *,
    rates: ExchangeRates | None = None,
    limits: RiskRules | None = None,
    half_spread: BySymbol | None = None,
    volatility: BySymbol | None = None,
    long_rate: BySymbol | None = None,
    short_rate: BySymbol | None = None,
    latency: BySymbol | None = None,
) -> PortfolioSimulation:
    """Trade many symbols' bars on one cash account by decisions taken at their closes.

    Parameters
    ----------
    bars:
        By symbol, as :func:`tapeline.strategy.simulator.simulate` takes them; timeframes and sessions may differ. A bar
        must close after it opens.
    decisions:
        By symbol, or in hedging mode by symbol or ``(symbol, tag)``, as ``simulate`` takes them.
    rates:
        Between the symbols' currencies and the account's. A rate is used from the instant on at which it was known.
    limits:
        Limits of risk compiled for the sorted symbols of ``bars``; they are asked when a decision arrives and again at
        the price of its fill.
    half_spread, volatility, long_rate, short_rate, latency:
        As ``simulate`` takes them, by symbol; a number is for all symbols.

    Raises
    ------
    DataError
        Bars or decisions are wrong (the message names the symbol), or an exchange rate is not known in time.
    ConfigurationError
        A tag without hedging mode, or a currency without rates.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = {"A": example_bars(100, 100, 104), "B": example_bars(50, 50, 49)}
    >>> wanted = {name: pd.DataFrame({"target": [10.0]}, index=bars[name].index[:1]) for name in bars}
    >>> found = simulate_portfolio(bars, wanted, PortfolioSettings(capital=10_000.0))
    >>> found.equity[["equity", "cash", "gross"]].values.tolist()
    [[10000.0, 10000.0, 0.0], [10000.0, 8500.0, 1500.0], [10030.0, 8500.0, 1530.0]]
    """
    settings = settings or PortfolioSettings()
    if not bars:
        raise DataError("there are no bars", hint="give at least one symbol")
    keys = book_keys(bars, decisions, settings.hedging)
    account = PortfolioAccount(settings, keys, limits)
    by_symbol = {
        "half_spread": half_spread,
        "volatility": volatility,
        "long_rate": long_rate,
        "short_rate": short_rate,
        "latency": latency,
    }
    for name, values in by_symbol.items():
        if isinstance(values, Mapping) and (unknown := sorted(set(values) - set(bars))):
            raise DataError(f"{name} is given for {unknown}, which have no bars")
    markets, wanted = [], []
    for key in keys:
        frame = bars[key.symbol]
        given = {name: _of_symbol(values, key.symbol) for name, values in by_symbol.items()}
        late: Any = given.pop("latency")
        chosen = decisions.get(key if key in decisions else key.symbol) if not key.tag else decisions[key]
        try:
            markets.append(market_arrays(frame, **given))
            if (markets[-1].close_ts <= markets[-1].ts).any():
                raise DataError("a bar closes when it opens", hint="drop bars without a duration")
            wanted.append(
                _no_decisions()
                if chosen is None
                else decision_arrays(frame.index, chosen, settings.terms_of(key.symbol).lot, late)
            )
        except TapelineError as error:
            name = f"{key.symbol} ({key.tag})" if key.tag else key.symbol
            raise type(error)(f"{name}: {error.message}", hint=error.hint) from error
    lengths = [each.ts.size for each in markets]
    market, decided = _joined_market(markets, lengths), _joined_decisions(wanted, lengths)
    events, times = in_order_of_time(market.ts, market.close_ts)
    instants, moments, table = _rates(account, rates, times)
    total = sum(lengths)
    closes = market.close_ts[events[(events & 1) == 0] >> 1]
    marks = int((np.diff(closes) != 0).sum()) + 1 if total else 0
    path = Path(
        np.empty(marks, np.int64),
        np.empty((marks, 5)),
        np.zeros(total),
        np.zeros(total if market.long_rate.size or market.short_rate.size else 0),
        np.ones(total if account.currencies else 0),
    )
    rows = Rows(np.repeat(np.arange(len(keys)), lengths), np.empty(0, np.int64))
    account.advance(market, decided, rows, events, instants, table, path)
    ends = np.cumsum(lengths)
    slices = [slice(int(end) - length, int(end)) for end, length in zip(ends, lengths, strict=True)]
    return report_portfolio(account, market, slices, path, table[np.searchsorted(moments, path.at)])


def book_keys(bars: Any, decisions: Any, hedging: bool) -> list[BookKey]:
    """All books, in the order that decides ties: by symbol, then tag; a symbol without decisions is one, too.

    Raises
    ------
    ConfigurationError
        A tag without hedging mode.
    DataError
        Decisions for a symbol without bars.
    """
    found = []
    for given in decisions:
        symbol, tag = (given, "") if isinstance(given, str) else given
        if tag and not hedging:
            raise ConfigurationError(
                f"decisions for {symbol} carry the tag {tag!r}, but positions are netted", hint="set hedging"
            )
        if symbol not in bars:
            raise DataError(f"decisions for {symbol}, which has no bars")
        found.append(BookKey(symbol, tag))
    if len(set(found)) < len(found):
        raise DataError("a book's decisions are given twice", hint="'A' and ('A', '') are one book")
    decided = {key.symbol for key in found}
    return sorted([*found, *(BookKey(symbol, "") for symbol in bars if symbol not in decided)])


def in_order_of_time(
    opens: NDArray[np.int64], closes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Events of the engine and their times: at one instant all closes before all opens, then by row.

    Examples
    --------
    >>> [each.tolist() for each in in_order_of_time(np.array([0, 5, 0]), np.array([5, 10, 10]))]
    [[1, 5, 0, 3, 2, 4], [0, 0, 5, 5, 10, 10]]
    """
    keys = np.empty(2 * opens.size, np.int64)
    keys[0::2], keys[1::2] = 2 * opens + 1, 2 * closes
    # Of each book this is sorted already, which a stable sort makes use of.
    order = np.argsort(keys, kind="stable")
    return order ^ 1, keys[order] >> 1


def _of_symbol(values: Any, symbol: str) -> Any:
    if values is None:
        return ()
    return values.get(symbol, ()) if isinstance(values, Mapping) else values


def _no_decisions() -> Decisions:
    none = np.empty(0)
    return Decisions(none, none, none, none, none, np.empty(0, np.int64))


def _joined(parts: Sequence[NDArray[Any]], lengths: Sequence[int], default: float) -> NDArray[Any]:
    """Values of all rows, each of the parts having none, one or all of its rows; empty where all are."""
    if not any(part.size for part in parts):
        return parts[0]
    filled = [
        part if part.size == length else np.full(length, part[0] if part.size else default, part.dtype)
        for part, length in zip(parts, lengths, strict=True)
    ]
    return np.concatenate(filled)


def _joined_market(markets: Sequence[Market], lengths: Sequence[int]) -> Market:
    columns: list[NDArray[Any]] = [np.concatenate(column) for column in list(zip(*markets, strict=True))[:7]]
    optional = {"half_spread": 0.0, "volatility": np.nan, "long_rate": 0.0, "short_rate": 0.0}
    columns += [_joined([getattr(each, name) for each in markets], lengths, fill) for name, fill in optional.items()]
    return Market(*map(read_only, columns))


def _joined_decisions(wanted: Sequence[Decisions], lengths: Sequence[int]) -> Decisions:
    *prices, latency = zip(*wanted, strict=True)
    joined = [_joined(column, lengths, np.nan) for column in prices]
    if not joined[0].size:
        joined[0] = np.full(sum(lengths), np.nan)
    return Decisions(*map(read_only, [*joined, _joined(latency, lengths, 0)]))


def _rates(
    account: PortfolioAccount, rates: ExchangeRates | None, times: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """By event its row of the table, the instant of each row, and the table: one column a foreign currency."""
    if not account.currencies:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty((1, 0))
    if rates is None:
        raise ConfigurationError(
            f"symbols are in {account.currencies}, the account in {account.settings.currency}", hint="give rates"
        )
    new = np.r_[True, np.diff(times) != 0] if times.size else np.empty(0, np.bool_)
    moments = times[new]
    at = pd.DatetimeIndex(pd.to_datetime(moments, utc=True))
    columns = [rates.rates(currency, account.settings.currency, at) for currency in account.currencies]
    return np.cumsum(new) - 1, moments, np.ascontiguousarray(np.stack(columns, axis=1))
