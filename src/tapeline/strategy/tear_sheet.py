"""The tear sheet of a backtest: one HTML file that needs no network, no script and no second file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.whole_file import write_whole
from tapeline.evaluation import return_plots as pictures
from tapeline.evaluation.annual_periods import Calendar, annual_periods
from tapeline.evaluation.page import inlined, number, open_template
from tapeline.evaluation.page import table as plain_table
from tapeline.evaluation.return_statistics import (
    ReturnStatistics,
    bootstrap_statistics,
    drawdown_table,
    equity_returns,
    equity_statistics,
)
from tapeline.models.statistics import SharpeEvidence, sharpe_evidence
from tapeline.strategy import trade_analysis as analysis
from tapeline.strategy.cost_ladder import Account, CostLadder, equity_of
from tapeline.strategy.implementation_shortfall import fill_shortfall, shortfall_summary
from tapeline.strategy.trade_attribution import attributions, trade_keys

TEMPLATE: Final = "tear_sheet.html.j2"
FILE_NAME: Final = "tear_sheet.html"
SHORTEST: Final = 60
LONGEST: Final = 20_000
"""Days below which intervals are drawn from the periods themselves and not from days, unless these are so many."""
Sample = Literal["in sample", "out of sample", "walk-forward", "unknown"]
SAMPLES: Final[Mapping[str, str]] = {
    "in sample": "In sample: what was traded was chosen on these same bars. Expect less of the future.",
    "out of sample": "Out of sample: these bars had no part in choosing what was traded.",
    "walk-forward": "Walk-forward: each stretch was traded by what was chosen on the bars before it.",
    "unknown": "It was not recorded whether what was traded was chosen on these bars: take it as in sample.",
}
NOT_MODELLED: Final = (
    "Recorded prices are not moved by the account's orders, and a queue at a limit is not modelled.",
    "A bar does not tell the order of its prices: where it matters the worse one is assumed.",
    "Intervals come from the periods that were seen. They know nothing of what these did not hold.",
    "Attributions look at many groups: the best of them looks good by chance alone.",
)
_PERCENT: Final = (
    *("total_return", "annual_return", "annual_volatility", "maximum_drawdown", "time_in_drawdown", "value_at_risk"),
    *("conditional_value_at_risk", "best", "worst", "positive", "exposure", "alpha"),
)
_WORDS: Final = ("rung", "figure", "group", "note", "of", "reason", "kind", "start", "trough", "end")
_NAMES: Final[Mapping[str, str]] = {
    "total_return": "Total return",
    "annual_return": "Annual return",
    "annual_volatility": "Annual volatility",
    "sharpe": "Sharpe ratio",
    "sortino": "Sortino ratio",
    "calmar": "Calmar ratio",
    "omega": "Omega ratio",
    "maximum_drawdown": "Maximum drawdown",
    "time_in_drawdown": "Time below a former peak",
    "stability": "Stability (R squared)",
    "tail_ratio": "Tail ratio",
    "skewness": "Skewness",
    "kurtosis": "Excess kurtosis",
    "value_at_risk": "Value at risk, 5 % of periods",
    "conditional_value_at_risk": "Mean of the worst 5 %",
    "best": "Best period",
    "worst": "Worst period",
    "positive": "Periods that gained",
    "exposure": "Periods with a position",
    "turnover": "Turnover a year, times equity",
    "alpha": "Alpha, annual",
    "beta": "Beta",
    "up_capture": "Up capture",
    "down_capture": "Down capture",
    "information_ratio": "Information ratio",
}


@dataclass(frozen=True)
class TearSheet:
    """What the page shows.

    Parameters
    ----------
    title, symbol, timeframe, currency:
        Of the strategy; of the bars drawn; of the account.
    account, capital:
        Equity, fills, orders and trades; cash at the start.
    bars:
        Of the one symbol that is drawn and bought and held for comparison.
    ladder:
        From :func:`~tapeline.strategy.cost_ladder.cost_ladder`.
    costs:
        One sentence a cost that was assumed.
    trials, trial_sharpes:
        How many configurations were tried before this one was shown, this one included, and the Sharpe ratios of one
        day of those of which it is known.
    sample:
        Whether the bars had a part in choosing what was traded.
    calendar:
        Periods a year, as :func:`~tapeline.evaluation.annual_periods.annual_periods` takes it.
    tags, regimes, zone:
        As :func:`~tapeline.strategy.trade_attribution.trade_keys` takes them; tags by trade in the order of
        :func:`~tapeline.strategy.trade_analysis.account_trades`.
    stops:
        From :func:`~tapeline.strategy.trade_analysis.stop_scenarios`.
    facts:
        By name, what else stands in the header: versions, settings, the run.
    """

    title: str
    symbol: str
    timeframe: str
    account: Account
    capital: float
    bars: pd.DataFrame
    ladder: CostLadder
    costs: Sequence[str]
    trials: int
    sample: Sample = "unknown"
    currency: str = "USD"
    trial_sharpes: Sequence[float] = ()
    calendar: Calendar | float = "measured"
    tags: Sequence[Any] | None = None
    regimes: pd.Series | None = None
    zone: str = "UTC"
    stops: pd.DataFrame | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


def write_tear_sheet(result: TearSheet, folder: Path) -> Path:
    """Render the page and write it as ``tear_sheet.html`` in one step; everything interpolated is escaped.

    Returns
    -------
    The absolute path.

    Raises
    ------
    ConfigurationError
        ``trials`` below 1, or an unknown ``sample``.
    DataError
        The tables do not belong together, or the file cannot be written.
    """
    return write_whole(Path(folder) / FILE_NAME, render_tear_sheet(result), what="tear sheet")


def render_tear_sheet(result: TearSheet) -> str:
    """The page as HTML text; the same result gives the same text."""
    if result.trials < 1:
        raise ConfigurationError(f"trials = {result.trials} is below 1", hint="this configuration was one trial itself")
    if result.sample not in SAMPLES:
        raise ConfigurationError(f"sample '{result.sample}' is unknown", hint=f"one of {', '.join(SAMPLES)}")
    equity = equity_of(result.account)
    trades = analysis.account_trades(result.account)
    hold = buy_and_hold(result.bars, equity.index, result.capital)
    figures = equity_statistics(
        equity,
        result.capital,
        calendar=result.calendar,
        benchmark=hold,
        position=analysis.positions(result.account),
        traded=analysis.traded_value(result.account.fills),
    )
    compared = equity_statistics(hold, result.capital, calendar=result.calendar)
    daily = daily_returns(equity, result.capital)
    whole, _ = equity_returns(equity.to_numpy(), result.capital)
    drawn = daily if len(daily) >= SHORTEST or len(equity) > LONGEST else pd.Series(whole, equity.index)
    intervals = bootstrap_statistics(
        drawn.to_numpy(), annual_periods(pd.DatetimeIndex(drawn.index), _span(drawn, figures))
    )
    evidence = sharpe_evidence(drawn.to_numpy(), trials=result.trials, trial_sharpes=result.trial_sharpes)
    keys = trade_keys(trades, tags=result.tags, regimes=result.regimes, zone=result.zone)
    traded = analysis.trade_statistics(trades)
    template = open_template(Path(pictures.__file__).with_name(TEMPLATE))
    return template.render(
        result=result,
        span=f"{equity.index[0]:%Y-%m-%d} to {equity.index[-1]:%Y-%m-%d}, {len(equity):,} periods",
        verdict=headline(result, figures, traded),
        sample=SAMPLES[result.sample],
        trials=_trials(result, evidence, "days" if drawn is daily else "periods"),
        basis=figures.basis,
        statistics_periods=figures.periods_per_year,
        statistics=_halves(statistics_rows(figures, compared, intervals)),
        ladder=_table(_ladder(result.ladder)),
        pictures=_pictures(result, equity, trades, hold, daily),
        trades=[_table(half) for half in _halves(_trade_rows(traded))],
        tables=_tables(result, equity, trades),
        attributions={name: _table(_money(found)) for name, found in attributions(trades, keys).items()},
        notes=NOT_MODELLED,
    )


def headline(result: TearSheet, figures: ReturnStatistics, traded: pd.Series) -> str:
    """What the account did, in a sentence or two, and no more than the error of its Sharpe ratio allows."""
    net = figures.total_return * result.capital
    before = float(result.ladder.table["net"].iloc[0])
    if not traded["trades"]:
        return "It made no trade."
    said = (
        f"Its {traded['trades']:,} trades {'made' if net > 0 else 'lost'} {abs(net):,.0f} {result.currency} after all "
        f"costs, {figures.total_return:+.1%} of capital; before costs {before:+,.0f}. Buying and holding "
        f"{result.symbol} returned {figures.benchmark_return:+.1%}."
    )
    if figures.ruined:
        return f"The account was ruined: its equity reached 0. {said}"
    low, high = _around(figures.sharpe, figures.sharpe_error_robust)
    if math.isnan(low):
        return said
    shown = "is not shown to differ from 0" if low <= 0 <= high else f"is {'above' if low > 0 else 'below'} 0"
    return (
        f"{said} Its Sharpe ratio, {figures.sharpe:.2f} (95 % interval {low:.2f} to {high:.2f}), {shown}, trials aside."
    )


def statistics_rows(
    figures: ReturnStatistics, compared: ReturnStatistics, intervals: pd.DataFrame
) -> list[dict[str, str]]:
    """Name, value, interval and the benchmark's value of each figure, as texts."""
    rows = []
    for name, label in _NAMES.items():
        ends = (math.nan, math.nan)
        if name == "sharpe":
            ends = _around(figures.sharpe, figures.sharpe_error_robust)
        elif name in intervals.index:
            ends = (intervals["low"][name], intervals["high"][name])
        low, high = (_text(name, end) for end in ends)
        rows.append(
            {
                "name": label,
                "value": _text(name, getattr(figures, name)),
                "interval": "" if math.isnan(ends[0]) else f"{low} to {high}",
                "benchmark": _text(name, getattr(compared, name)),
            }
        )
    return rows


def buy_and_hold(bars: pd.DataFrame, index: pd.Index, capital: float) -> pd.Series:
    """Equity of the whole capital in the symbol from its first close on, without costs, at the times of ``index``.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(100, 110, 99)
    >>> buy_and_hold(bars, bars.index, 1_000.0).round(6).tolist()
    [1000.0, 1100.0, 990.0]
    """
    close = bars["close"].where(np.isfinite(bars["close"])).ffill().bfill()
    # Equity of a portfolio stands at closes, that of one symbol at the opens of bars whose close it is.
    if not close.index.equals(index):
        close = close.set_axis(pd.DatetimeIndex(bars["close_ts"])).reindex(index, method="ffill").bfill()
    if not len(close) or not (close > 0).all():
        raise DataError("the bars drawn have no price above 0 at the times of equity", hint="give bars of that span")
    return capital * close / float(close.iloc[0])


def daily_returns(equity: pd.Series, capital: float) -> pd.Series:
    """Simple returns from one UTC day's last equity to the next, on days that have one.

    Examples
    --------
    >>> hours = pd.date_range("2024-01-01", periods=3, freq="12h", tz="UTC")
    >>> daily_returns(pd.Series([100.0, 110.0, 99.0], hours), 100.0).round(6).tolist()
    [0.1, -0.1]
    """
    last = equity.groupby(pd.DatetimeIndex(equity.index).floor("D")).last()
    return pd.Series(equity_returns(last.to_numpy(), capital)[0], last.index)


def monthly_table(equity: pd.Series, capital: float) -> pd.DataFrame:
    """Return by calendar month, a row a year, columns 1 to 12 and ``year``; a month without equity is NaN.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2023-12-30", "2024-01-05", "2024-02-01"], tz="UTC")
    >>> monthly_table(pd.Series([110.0, 99.0, 198.0], days), 100.0)[[1, 2, 12, "year"]].round(6).values.tolist()
    [[nan, nan, 0.1, 0.1], [-0.1, 1.0, nan, 0.8]]
    """
    times = pd.DatetimeIndex(equity.index)
    last = equity.groupby([times.year, times.month]).last()
    months = pd.DataFrame({"year": last.index.get_level_values(0), "month": last.index.get_level_values(1)})
    months["value"] = equity_returns(last.to_numpy(), capital)[0]
    found = months.pivot_table(index="year", columns="month", values="value").reindex(columns=range(1, 13))
    ends = equity.groupby(times.year).last()
    found["year"] = pd.Series(equity_returns(ends.to_numpy(), capital)[0], ends.index)
    return found


def _span(drawn: pd.Series, figures: ReturnStatistics) -> float:
    """Periods a year of what intervals are drawn from, so that its length in years is that of the figures."""
    return len(drawn) / (figures.periods / figures.periods_per_year)


def _trials(result: TearSheet, evidence: SharpeEvidence, unit: str) -> str:
    tried = "One configuration was tried." if result.trials == 1 else f"{result.trials:,} configurations were tried."
    if math.isnan(evidence.probabilistic):
        return f"{tried} Its {unit} are too few, or too equal, to judge a Sharpe ratio by them."
    said = f"{tried} Probability that the true Sharpe ratio is above 0: {evidence.probabilistic:.1%} for a single trial"
    if result.trials > 1:
        said += f", {evidence.deflated:.1%} that it is above what the best of so many worthless ones would show"
    return f"{said} (Bailey and Lopez de Prado 2012, 2014; {evidence.returns:,} {unit})."


def _around(value: float, error: float) -> tuple[float, float]:
    return value - 1.959964 * error, value + 1.959964 * error


def _text(name: str, value: float) -> str:
    if isinstance(value, float) and not math.isnan(value):
        return f"{value:.2%}" if name in _PERCENT else f"{value:.2f}" if abs(value) < 1e6 else number(value)
    return number(value)


def _ladder(ladder: CostLadder) -> pd.DataFrame:
    found = ladder.table
    return pd.DataFrame(
        {
            "rung": found["rung"],
            "net profit": found["net"],
            "taken by this cost": found["taken"],
            "return": [f"{value:+.2%}" for value in found["total_return"]],
            "Sharpe ratio": [f"{value:.2f}" for value in found["sharpe"]],
            "maximum drawdown": [f"{value:.2%}" for value in found["maximum_drawdown"]],
            "trades": found["trades"],
            "fills": found["fills"],
        }
    )


def _trade_rows(traded: pd.Series) -> pd.DataFrame:
    def interval(name: str) -> str:
        low, high = traded[f"{name}_low"], traded[f"{name}_high"]
        return "" if math.isnan(low) else f"{number(float(low))} to {number(float(high))}"

    hidden = [f"{name}_{end}" for name in ("win_rate", "expectancy") for end in ("low", "high")]
    rows = [
        {
            "figure": name.replace("_", " "),
            "value": number(value),
            "95 % interval": interval(name) if name in ("win_rate", "expectancy") else "",
        }
        for name, value in zip(map(str, traded.index), traded.tolist(), strict=True)
        if name not in hidden and not (name == "note" and not value)
    ]
    return pd.DataFrame(rows)


def _money(found: pd.DataFrame) -> pd.DataFrame:
    shown = found.assign(
        share=[f"{value:+.0%}" for value in found["share"]],
        mean=[
            number(mean) + ("" if math.isnan(low) else f" ({number(low)} to {number(high)})")
            for mean, low, high in zip(found["mean"], found["mean_low"], found["mean_high"], strict=True)
        ],
        win_rate=[f"{value:.0%}" for value in found["win_rate"]],
    )
    return shown.drop(columns=["mean_low", "mean_high"]).rename(columns={"mean": "mean (95 %)"})


def _tables(result: TearSheet, equity: pd.Series, trades: pd.DataFrame) -> dict[str, Any]:
    falls = drawdown_table(equity, result.capital, count=5)
    shown = falls.assign(
        depth=[f"{value:.2%}" for value in falls["depth"]],
        **{name: _days(falls[name]) for name in ("start", "trough", "end")},
        periods_up=falls["periods_up"].where(falls["periods_up"] >= 0),
    )
    reached = [f"{quantile:.0%}" for quantile in analysis.QUANTILES]
    moves = analysis.excursions(trades)
    held = analysis.holding_times(trades, pd.Timestamp(equity.index[-1]))
    made = {
        "Deepest drawdowns": shown,
        "Excursions": _percent(moves).rename_axis("of").reset_index(),
        "Holding times": held.assign(**{name: [_length(value) for value in held[name]] for name in (*reached, "mean")})
        .rename_axis("of")
        .reset_index(),
    }
    orders = getattr(result.account, "orders", None)
    if orders is not None and not analysis.books(result.account.fills) and len(result.account.fills):
        made["Implementation shortfall, money; above 0 is a cost"] = shortfall_summary(
            fill_shortfall(result.bars, result.account.fills, orders)
        )
    if result.stops is not None:
        made["Stops nearer and farther, simulated again; chosen after the fact, no forecast"] = result.stops
    return {name: _table(frame) for name, frame in made.items()}


def _pictures(
    result: TearSheet, equity: pd.Series, trades: pd.DataFrame, hold: pd.Series, daily: pd.Series
) -> list[tuple[str, str]]:
    free = result.ladder.equity.columns[0]
    curves = pd.DataFrame(
        {
            "buy and hold": hold,
            str(free): result.ladder.equity[free],
            "all costs": equity,
        }
    )
    peak = np.maximum(np.maximum.accumulate(equity.to_numpy()), result.capital)
    mine = trades[trades["symbol"] == result.symbol] if "symbol" in trades.columns else trades
    unit = result.currency
    drawn = {
        "Equity with and without costs, and its drawdown": pictures.equity_and_drawdown(
            curves, pd.Series(equity.to_numpy() / peak - 1, equity.index), currency=unit
        ),
        "Return by month": pictures.monthly_returns(monthly_table(equity, result.capital)),
        "Trades on the price": pictures.trades_on_price(result.bars["close"], mine, symbol=result.symbol),
        "Net profit by rung of the cost ladder": pictures.cost_steps(
            list(result.ladder.table["rung"]), result.ladder.table["net"], currency=unit
        ),
        "Excursions": pictures.excursion_dots(trades),
        "Net profit by trade": pictures.histogram(trades["net"], title="Net of trades", x=f"net, {unit}", y="trades"),
        "Return by day": pictures.histogram(100 * daily, title="Daily returns", x="return of a UTC day, %", y="days"),
    }
    return [(name, inlined(svg)) for name, svg in drawn.items()]


def _halves(rows: Any) -> list[Any]:
    middle = (len(rows) + 1) // 2
    return [rows[:middle], rows[middle:]]


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    """A table in which all but words are set flush right, numbers that are texts with their signs too."""
    made = plain_table(frame)
    words = {str(name).replace("_", " ") for name in _WORDS}
    right = [column not in words for column in made["columns"]]
    return {
        "columns": made["columns"],
        "rows": [[(text, flag) for (text, _), flag in zip(row, right, strict=True)] for row in made["rows"]],
    }


def _days(times: pd.Series) -> list[str]:
    return [number(None) if pd.isna(value) else f"{value:%Y-%m-%d %H:%M}" for value in times]


def _percent(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(
        **{
            str(name): [f"{value:.2%}" if math.isfinite(value) else number(None) for value in frame[name]]
            for name in frame.columns
            if name != "trades"
        }
    )


def _length(span: Any) -> str:
    if pd.isna(span):
        return number(None)
    hours = pd.Timedelta(span).total_seconds() / 3600
    if hours < 1:
        return f"{60 * hours:.3g} min"
    return f"{hours:.3g} h" if hours < 72 else f"{hours / 24:.3g} d"
