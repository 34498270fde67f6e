"""What each cost took: the same decisions simulated with no cost, then with one kind of cost more at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import pandas as pd
from numpy.typing import ArrayLike

from tapeline.core.errors import DataError
from tapeline.evaluation.annual_periods import Calendar
from tapeline.evaluation.return_statistics import equity_statistics
from tapeline.strategy.costs import Commission
from tapeline.strategy.portfolio import simulate_portfolio
from tapeline.strategy.portfolio_account import PortfolioSettings, SymbolTerms
from tapeline.strategy.portfolio_report import PortfolioSimulation
from tapeline.strategy.simulator import Simulation, SimulationSettings, simulate
from tapeline.strategy.slippage import FixedSlippage

Terms = TypeVar("Terms", SimulationSettings, SymbolTerms)
LADDER_COLUMNS: Final = ("rung", "net", "taken", "total_return", "sharpe", "maximum_drawdown", "trades", "fills")


class Charges(NamedTuple):
    """Which kinds of cost a run has.

    Attributes
    ----------
    fees:
        Commission and financing.
    spread:
        Half the spread on each fill that takes liquidity.
    slippage:
        What the slippage model adds to the spread.
    delay:
        The time from a decision to the order's arrival.
    """

    fees: bool
    spread: bool
    slippage: bool
    delay: bool


RUNGS: Final = {
    "no cost": Charges(fees=False, spread=False, slippage=False, delay=False),
    "+ fees": Charges(fees=True, spread=False, slippage=False, delay=False),
    "+ spread": Charges(fees=True, spread=True, slippage=False, delay=False),
    "+ slippage": Charges(fees=True, spread=True, slippage=True, delay=False),
    "+ delay": Charges(fees=True, spread=True, slippage=True, delay=True),
}


class Account(Protocol):
    """What a run comes to, of one symbol or many: equity by bar, fills and trades."""

    @property
    def equity(self) -> Any:
        """By bar: a Series, or a frame with the column ``equity``."""
        ...

    @property
    def fills(self) -> pd.DataFrame:
        """One row a fill."""
        ...

    @property
    def trades(self) -> pd.DataFrame:
        """One row a round trip."""
        ...


@dataclass(frozen=True)
class CostLadder:
    """The rungs, from no cost to all of them.

    Parameters
    ----------
    table:
        One row a rung: ``net`` profit in money, ``taken``: by how much it is below the rung before (NaN on the first;
        a negative one means that the cost kept the account out of losses), ``total_return``, annual ``sharpe``,
        ``maximum_drawdown`` (share), ``trades``, ``fills``.
    equity:
        By bar, a column a rung.
    last:
        What the last rung's run gave.
    """

    table: pd.DataFrame
    equity: pd.DataFrame
    last: Any


def cost_ladder(
    run: Callable[[Charges], Account], capital: float, *, calendar: Calendar | float = "measured"
) -> CostLadder:
    """Run the same decisions on every rung.

    Parameters
    ----------
    run:
        From the kinds of cost to what came of it; with all of them it must be the run that is reported.
        :func:`simulation_run` makes one of :func:`~tapeline.strategy.simulator.simulate`.
    capital:
        Cash at the start.
    calendar:
        Periods a year, as :func:`~tapeline.evaluation.annual_periods.annual_periods` takes it.

    Notes
    -----
    What a cost takes depends on the order in which costs are added: a fee changes when margin refuses an order, and a
    delay changes which prices are met. The steps add up to the whole difference in this order.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(100, 100, 104, 104)
    >>> decisions = pd.DataFrame({"target": [10.0, 0.0]}, index=bars.index[[0, 2]])
    >>> settings = SimulationSettings(capital=1_000.0, commission=Commission(taker_bps=10))
    >>> found = cost_ladder(simulation_run(bars, decisions, settings, half_spread=0.1), 1_000.0, calendar="crypto")
    >>> found.table[["rung", "net"]].round(2).values.tolist()
    [['no cost', 40.0], ['+ fees', 37.96], ['+ spread', 35.96], ['+ slippage', 35.96], ['+ delay', 35.96]]
    """
    rows, curves, before, last = [], {}, math.nan, None
    for name, charges in RUNGS.items():
        last = run(charges)
        equity = equity_of(last)
        net = float(equity.iloc[-1]) - capital
        figures = equity_statistics(equity, capital, calendar=calendar)
        rows.append(
            {
                "rung": name,
                "net": net,
                "taken": before - net,
                "total_return": net / capital,
                "sharpe": figures.sharpe,
                "maximum_drawdown": figures.maximum_drawdown,
                "trades": len(last.trades),
                "fills": len(last.fills),
            }
        )
        curves[name], before = equity, net
    return CostLadder(pd.DataFrame(rows, columns=list(LADDER_COLUMNS)), pd.DataFrame(curves), last)


def simulation_run(
    bars: pd.DataFrame,
    decisions: pd.DataFrame,
    settings: SimulationSettings,
    *,
    half_spread: ArrayLike = (),
    volatility: ArrayLike = (),
    long_rate: ArrayLike = (),
    short_rate: ArrayLike = (),
    latency: ArrayLike = (),
) -> Callable[[Charges], Simulation]:
    """The run of one symbol for :func:`cost_ladder`; the arguments are those of ``simulate``.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(100, 100, 104)
    >>> run = simulation_run(bars, pd.DataFrame({"target": [1.0]}, index=bars.index[:1]), SimulationSettings())
    >>> run(RUNGS["+ delay"]).equity.tolist()
    [100000.0, 100000.0, 100004.0]
    """

    def run(charges: Charges) -> Simulation:
        return simulate(
            bars,
            decisions,
            charged_settings(settings, charges),
            half_spread=half_spread if charges.spread else (),
            volatility=volatility,
            long_rate=long_rate if charges.fees else (),
            short_rate=short_rate if charges.fees else (),
            latency=latency if charges.delay else (),
        )

    return run


def portfolio_run(
    bars: Mapping[str, pd.DataFrame],
    decisions: Mapping[Any, pd.DataFrame],
    settings: PortfolioSettings,
    *,
    rates: Any = None,
    limits: Any = None,
    half_spread: Any = None,
    volatility: Any = None,
    long_rate: Any = None,
    short_rate: Any = None,
    latency: Any = None,
) -> Callable[[Charges], PortfolioSimulation]:
    """The run of many symbols for :func:`cost_ladder`; the arguments are those of ``simulate_portfolio``.

    Limits of risk see each rung's own equity, so that a cost may also change what they permit.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = {"A": example_bars(100, 100, 104)}
    >>> wanted = {"A": pd.DataFrame({"target": [1.0]}, index=bars["A"].index[:1])}
    >>> run = portfolio_run(bars, wanted, PortfolioSettings(), half_spread=0.5)
    >>> [float(run(RUNGS[name]).equity["equity"].iloc[-1]) for name in ("+ fees", "+ spread")]
    [100004.0, 100003.5]
    """

    def run(charges: Charges) -> PortfolioSimulation:
        changed = settings
        if not (charges.fees and charges.slippage):
            symbols = {name: charged_settings(terms, charges) for name, terms in settings.symbols.items()}
            changed = settings.model_copy(
                update={"terms": charged_settings(settings.terms, charges), "symbols": symbols}
            )
        return simulate_portfolio(
            bars,
            decisions,
            changed,
            rates=rates,
            limits=limits,
            half_spread=half_spread if charges.spread else None,
            volatility=volatility,
            long_rate=long_rate if charges.fees else None,
            short_rate=short_rate if charges.fees else None,
            latency=latency if charges.delay else None,
        )

    return run


def charged_settings(settings: Terms, charges: Charges) -> Terms:
    """Settings with only these kinds of cost; with all of them the settings themselves.

    What is a rule and no cost stays on every rung: lots, margin, the cap on a bar's volume, the way orders are filled.
    A slippage model that refuses to fill where volume or volatility is unknown does so only on the rungs that have it.

    Examples
    --------
    >>> settings = SimulationSettings(slippage=FixedSlippage(bps=2, volume_limit=0.1))
    >>> charged_settings(settings, RUNGS["+ fees"]).slippage
    FixedSlippage(spread_share=1.0, volume_limit=0.1, kind='fixed', bps=0.0, ticks=0.0, tick_size=0.0)
    """
    changed: dict[str, Any] = {}
    if not charges.fees:
        free = Commission()
        changed["commission"] = free.model_copy(
            update={name: getattr(settings.commission, name) for name in ("currency", "multiplier")}
        )
    if not charges.slippage:
        model = settings.slippage
        changed["slippage"] = FixedSlippage(spread_share=model.spread_share, volume_limit=model.volume_limit)
    return settings.model_copy(update=changed) if changed else settings


def equity_of(account: Account) -> pd.Series:
    """Equity by bar, whether an account keeps it alone or beside cash and positions.

    Raises
    ------
    DataError
        There is none.
    """
    equity = account.equity
    if isinstance(equity, pd.DataFrame):
        if "equity" not in equity.columns:
            raise DataError(f"the table of equity has the columns {list(equity.columns)}, none named 'equity'")
        equity = equity.set_index("ts")["equity"] if "ts" in equity.columns else equity["equity"]
    if not len(equity):
        raise DataError("the account has no bar of equity")
    return pd.Series(equity)
