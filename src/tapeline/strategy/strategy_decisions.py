"""What a strategy decides on one symbol's bars: signals with their verdicts, decisions with their reasons.

Nothing looks ahead: what is decided at a close is the same whatever comes after it. A signal is judged at the close
that gave it, sizes go by the capital and not by what was won since, and stops move by the plan and the bars alone; so
the same call serves a history and a paper account, which asks again at each new bar.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import DataError
from tapeline.features.kernels import rolling_mean
from tapeline.strategy.direction_filter import filter_directions, permitted_directions
from tapeline.strategy.position_sizer import InstrumentTerms, SizingInputs
from tapeline.strategy.position_sizing import round_to_lot, to_units
from tapeline.strategy.protective_stops import protect
from tapeline.strategy.signal_sources import FoundSignals, Surroundings
from tapeline.strategy.signal_validator import validate_signals
from tapeline.strategy.simulator import SimulationSettings
from tapeline.strategy.slippage import FixedSlippage
from tapeline.strategy.strategy import FixedUnits, Notional, Strategy

Floats = NDArray[np.float64]

YEAR: Final = 365.2425 * 86_400e9
DECISION_COLUMNS: Final = ("target", "stop", "take")
SIZE_COLUMNS: Final = ("units", "equity", "price", "rate", "stop_distance", "volatility")


@dataclass(frozen=True)
class Decided:
    """What came of a strategy on one symbol.

    Parameters
    ----------
    signals:
        ``ts``, ``known_at``, ``symbol``, ``source``, ``side``, ``probability``, ``confidence``, ``price``,
        ``accepted``, ``reason``: one row a signal, refused ones too.
    decisions:
        What :func:`tapeline.strategy.portfolio.simulate_portfolio` takes, one row a bar at whose close something is
        decided: ``target`` in signed units, ``stop`` and ``take`` (distances from the entry where the strategy has a
        plan of protection, else prices).
    steps:
        By bar of ``decisions``: ``reason`` (``signal`` or a reason of the plan, as ``entry`` or ``trailing``),
        ``signal``, the row of ``signals`` (-1: none), ``known_at``, and what the size was worked out from.
    """

    strategy: Strategy
    signals: pd.DataFrame
    decisions: pd.DataFrame
    steps: pd.DataFrame
    found: FoundSignals

    def explain(self) -> list[dict[str, Any]]:
        """Why it was decided so, a JSON-like value for each row of ``decisions``."""
        rows = self.steps["signal"].to_numpy(dtype=np.int64)
        seen = dict(
            zip(rows[rows >= 0].tolist(), self.found.reasons(rows[rows >= 0]), strict=True) if (rows >= 0).any() else ()
        )
        told = []
        names = ["ts", "source", "side", "probability", "confidence", "accepted", "reason"]
        signals = self.signals[names].assign(ts=self.signals["ts"].map(str)).to_dict("records")
        by_distance = self.strategy.content.protection is not None
        for row, step in zip(rows.tolist(), self.steps.to_dict("records"), strict=True):
            size = {name: step[name] for name in SIZE_COLUMNS if not math.isnan(step[name])}
            told.append(
                {
                    "why": step["reason"],
                    "signal": _plain(signals[row]) if row >= 0 else None,
                    "seen": _plain(seen[row]) if row >= 0 else None,
                    "size": size or None,
                    "protection": "distance from the entry" if by_distance else "price",
                }
            )
        return told

    def decision_rows(self, run: str) -> pd.DataFrame:
        """Rows of the table of decisions, each with its explanation as JSON."""
        return pd.DataFrame(
            {
                "run": run,
                "ts": self.decisions.index,
                "known_at": pd.DatetimeIndex(self.steps["known_at"]),
                **{name: self.decisions[name].to_numpy() for name in DECISION_COLUMNS},
                "limit": math.nan,
                "trigger": math.nan,
                "strategy": self.strategy.version,
                "explanation": [json.dumps(one, allow_nan=False) for one in self.explain()],
            }
        )

    def signal_rows(self, run: str) -> pd.DataFrame:
        """Rows of the table of signals."""
        names = ["ts", "known_at", "source", "side", "probability", "confidence", "accepted", "reason"]
        return self.signals[names].assign(run=run)


def decide(strategy: Strategy, bars: pd.DataFrame, around: Surroundings) -> Decided:
    """Decide every bar of one symbol's history.

    Parameters
    ----------
    bars:
        Index ``ts``; ``open``, ``high``, ``low``, ``close``, ``volume``, ``close_ts``.
    around:
        What else the strategy looks at; what it needs of that, its properties ``needs_scores``, ``needs_features`` and
        ``findings`` say.

    Raises
    ------
    ConfigurationError
        Something that the strategy looks at is not given.
    DataError
        There are no bars, they lack a column or are not in the order of time.

    Notes
    -----
    A signal that the direction filter refuses closes a position of the other side and does no more; one that the
    validator refuses does nothing; a signal to leave is never refused. A plan of protection works out entries from
    bars and half spread; where the account fills otherwise (a delay, an impact, a limit of volume or of risk) its
    stops keep their distances from the price really paid.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.core.timeframe import Timeframe
    >>> from tapeline.strategy.strategy import parse_strategy
    >>> strategy = parse_strategy({
    ...     "name": "cross", "sizing": {"method": "notional"}, "account": {"capital": 1040},
    ...     "signals": {"source": "moving_average_cross", "fast": 1, "slow": 2}})
    >>> found = decide(strategy, example_bars(102, 101, 104), Surroundings("EURUSD", Timeframe.parse("H1")))
    >>> found.decisions["target"].tolist(), found.explain()[0]["seen"]
    ([10.0], {'fast_mean': 104.0, 'slow_mean': 102.5})
    """
    if not len(bars):
        raise DataError(f"there are no bars of {around.symbol}", hint="ingest them first: tapeline run")
    content = strategy.content
    found = content.signals.find(bars, around, strategy.rules)
    signals = _judged(strategy, bars, found.signals, around)
    rows = np.asarray(bars.index.get_indexer(pd.DatetimeIndex(signals["ts"])), dtype=np.int64)
    wanted, source = np.full(len(bars), np.nan), np.full(len(bars), -1, dtype=np.int64)
    wanted[rows] = sides_taken(signals)
    source[rows] = np.where(np.isnan(wanted[rows]), -1, np.arange(len(rows)))
    equity = _by_bar(content.account.capital if around.equity is None else around.equity, bars)
    rate = _by_bar(around.rate, bars)
    size = pd.DataFrame(
        {
            "units": np.nan,
            "equity": equity,
            "price": bars["close"].to_numpy(dtype=np.float64),
            "rate": rate,
            "stop_distance": np.nan,
            "volatility": realised_volatility(bars, content.volatility_window),
        },
        index=bars.index,
    )
    if content.protection is None:
        made = _without_plan(strategy, bars, around, found, signals, rows, wanted, size)
    else:
        made = _with_plan(strategy, bars, around, found, signals, rows, wanted, size)
    there = ~np.isnan(made["target"].to_numpy())
    sizes = size.where(made["entered"])
    steps = made[["reason"]].assign(signal=source, known_at=bars["close_ts"], **{n: sizes[n] for n in SIZE_COLUMNS})
    return Decided(strategy, signals, made.loc[there, list(DECISION_COLUMNS)].astype(np.float64), steps[there], found)


def sides_taken(signals: pd.DataFrame) -> Floats:
    """What is wanted by each signal that was judged: its side, 0 to leave the other side, NaN for nothing.

    Examples
    --------
    >>> judged = pd.DataFrame({"side": [1, -1, 1, -1], "accepted": [True, False, True, False],
    ...                        "reason": [None, "direction_news", None, "stale"]})
    >>> sides_taken(judged).tolist()
    [1.0, 0.0, 1.0, nan]
    """
    side = signals["side"].to_numpy(dtype=np.float64)
    accepted = signals["accepted"].to_numpy(dtype=bool)
    before = pd.Series(np.where(accepted, side, np.nan)).shift().ffill().to_numpy()
    by_direction = signals["reason"].astype(str).str.startswith("direction_").to_numpy(dtype=bool)
    turned = by_direction & (before * side < 0)
    return np.where(accepted, side, np.where(turned, 0.0, np.nan))


def realised_volatility(bars: pd.DataFrame, window: int) -> Floats:
    """Volatility a year, as a share, of the last ``window`` returns over the time that they took, closed hours too.

    The root of the sum of squared logarithmic returns over the years from the first close to the last (Andersen and
    Bollerslev, Answering the Skeptics, 1998), so that it needs no number of periods a year. NaN before.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> realised_volatility(example_bars(100, 101, 100), 2).round(3).tolist()
    [nan, nan, 0.932]
    """
    close = bars["close"].to_numpy(dtype=np.float64)
    closed = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns").asi8
    found = np.full(len(bars), np.nan)
    if len(bars) <= window:
        return found
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = np.diff(np.log(close)) ** 2
    years = (closed[window:] - closed[:-window]) / YEAR
    found[window:] = np.sqrt(window * np.asarray(rolling_mean(squares, window))[window - 1 :] / years)
    return found


def half_spreads(strategy: Strategy, bars: pd.DataFrame, symbol: str) -> Floats:
    """Half of ask less bid in price, by bar."""
    return np.nan_to_num(np.abs(bars["open"].to_numpy(dtype=np.float64))) * strategy.half_spread(symbol)


def _judged(strategy: Strategy, bars: pd.DataFrame, signals: pd.DataFrame, around: Surroundings) -> pd.DataFrame:
    content = strategy.content
    judged = signals.assign(accepted=True, reason=pd.Series([None] * len(signals), index=signals.index, dtype=object))
    if content.validator is not None:
        # To leave is never refused: only what would enter is judged.
        enters = signals["side"] != 0
        entries = signals[enters]
        validated = validate_signals(entries, content.validator, at=pd.DatetimeIndex(entries["known_at"]))
        judged.loc[enters, "accepted"] = validated["accepted"]
        judged.loc[enters, "reason"] = validated["reason"]
    if content.direction is not None:
        directions = permitted_directions(
            bars,
            content.direction,
            symbol=around.symbol,
            timeframe=around.timeframe,
            higher=around.higher,
            calendar=around.calendar,
        )
        judged = filter_directions(judged, directions)
    return judged


def _with_plan(
    strategy: Strategy,
    bars: pd.DataFrame,
    around: Surroundings,
    found: FoundSignals,
    signals: pd.DataFrame,
    rows: NDArray[np.int64],
    wanted: Floats,
    size: pd.DataFrame,
) -> pd.DataFrame:
    """The plan is followed with one unit; what is held instead of it is fixed at each entry, and changes nothing."""
    content = strategy.content
    terms = strategy.settings([around.symbol]).terms_of(around.symbol)
    slippage = terms.slippage if isinstance(terms.slippage, FixedSlippage) else FixedSlippage()
    settings = SimulationSettings(
        slippage=slippage.model_copy(update={"volume_limit": None}),
        limit_through=terms.limit_through,
        bars_in_force=terms.bars_in_force,
        protect_by_distance=True,
    )
    assert content.protection is not None  # noqa: S101 - the caller asks it
    plan = protect(
        bars,
        pd.Series(wanted, bars.index),
        content.protection,
        settings,
        half_spread=half_spreads(strategy, bars, around.symbol),
    )
    made = plan.decisions.assign(reason=plan.held["reason"])
    entered = (made["reason"] == "entry").to_numpy()
    distance = np.where(entered, made["stop"].to_numpy(), np.nan)
    size["stop_distance"] = distance
    payoff = np.where(entered, made["take"].to_numpy() / distance, np.nan)
    units = _units(strategy, bars, around.symbol, found, signals, rows, np.where(entered, wanted, 0.0), size, payoff)
    size["units"] = np.where(entered, np.abs(units), np.nan)
    held = size["units"].ffill().to_numpy()
    target = np.sign(made["target"].to_numpy()) * np.where(made["target"] == 0, 0.0, held)
    nothing = target == 0
    return made.assign(
        target=target + 0.0,
        stop=made["stop"].where(~nothing),
        take=made["take"].where(~nothing),
        entered=entered,
    )


def _without_plan(
    strategy: Strategy,
    bars: pd.DataFrame,
    around: Surroundings,
    found: FoundSignals,
    signals: pd.DataFrame,
    rows: NDArray[np.int64],
    wanted: Floats,
    size: pd.DataFrame,
) -> pd.DataFrame:
    entered = np.nan_to_num(wanted) != 0
    prices = np.full((2, len(bars)), np.nan)
    for place, name in enumerate(("stop", "take")):
        prices[place, rows] = found.amounts[name].to_numpy(dtype=np.float64)
        prices[place, ~entered] = np.nan
    size["stop_distance"] = np.abs(size["price"].to_numpy() - prices[0])
    payoff = np.abs(size["price"].to_numpy() - prices[1]) / size["stop_distance"].to_numpy()
    side = np.where(entered, wanted, 0.0)
    units = _units(strategy, bars, around.symbol, found, signals, rows, side, size, payoff)
    size["units"] = np.where(entered, np.abs(units), np.nan)
    target = np.where(np.isnan(wanted), np.nan, units)
    made = pd.DataFrame({"target": target, "stop": prices[0], "take": prices[1]}, index=bars.index)
    return made.assign(reason="signal", entered=entered)


def _units(
    strategy: Strategy,
    bars: pd.DataFrame,
    symbol: str,
    found: FoundSignals,
    signals: pd.DataFrame,
    rows: NDArray[np.int64],
    side: Floats,
    size: pd.DataFrame,
    payoff: Floats,
) -> Floats:
    """Signed units by bar, in whole lots; 0 where a side is 0 or what the size needs is not known yet."""
    sizing = strategy.content.sizing
    lot = strategy.settings([symbol]).terms_of(symbol).lot
    price, equity, rate = (size[name].to_numpy(dtype=np.float64) for name in ("price", "equity", "rate"))
    if sizing is None or isinstance(sizing, FixedUnits | Notional):
        if sizing is None:
            units = np.full(len(bars), np.nan)
            units[rows] = found.amounts["units"].to_numpy(dtype=np.float64)
        elif isinstance(sizing, FixedUnits):
            units = np.full(len(bars), sizing.units)
        else:
            units = np.asarray(to_units(np.maximum(equity, 0.0) * sizing.leverage, price, point_value=rate))
        return np.nan_to_num(np.asarray(round_to_lot(units * side, lot, minimum=lot)))
    probability = np.full(len(bars), np.nan)
    probability[rows] = signals["probability"].to_numpy(dtype=np.float64)
    window = strategy.content.volatility_window
    # Simple returns: Kelly's leverage is of money, not of logarithms.
    returns = bars["close"].pct_change(fill_method=None).rolling(window)
    inputs = SizingInputs(
        equity=equity,
        price=price,
        rate=rate,
        side=side,
        stop_distance=size["stop_distance"].to_numpy(),
        volatility=size["volatility"].to_numpy(),
        probability=probability,
        payoff=payoff,
        mean=returns.mean().to_numpy() * side,
        variance=returns.var().to_numpy(),
    )
    return np.asarray(sizing.units(inputs, InstrumentTerms(lot=lot, minimum_lot=lot)), dtype=np.float64)


def _by_bar(value: float | pd.Series, bars: pd.DataFrame) -> Floats:
    if isinstance(value, pd.Series):
        if not value.index.equals(bars.index):
            raise DataError("equity or rate is not on the index of the bars", hint="reindex it by the bars' ts")
        return value.to_numpy(dtype=np.float64)
    return np.full(len(bars), float(value))


def _plain(value: Any) -> Any:
    """A JSON-like value without numbers that are none."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
