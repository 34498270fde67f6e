"""When within a window to act on a decision: usual spread, impact, short-term momentum, and the risk of waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from tapeline.core.errors import DataError
from tapeline.models.statistics import stationary_bootstrap
from tapeline.strategy.entry_momentum import waiting_drift
from tapeline.strategy.intraday_profile import IntradayProfile, learn_profile
from tapeline.strategy.slippage import FixedSlippage, Slippage, slipped_prices

Floats = NDArray[np.float64]
COMPONENTS: Final = ("spread", "impact", "momentum", "risk")
_BPS: Final = 1e4


class TimingSettings(BaseModel):
    """What entry timing looks at.

    Parameters
    ----------
    horizon:
        Bars at whose open the order may be placed; the first opens at the decision.
    slot_minutes, zone, days, minimum_days:
        Of :func:`tapeline.strategy.intraday_profile.learn_profile`.
    momentum_bars:
        Bars of the return that may go on, or turn, while one waits.
    memory:
        Bars from which that is estimated, the latest before the decision.
    risk_aversion:
        Basis points that one basis point of the price's deviation while waiting is worth; 0: only the mean counts.
    least_saving:
        Basis points that waiting must be expected to save.
    slippage:
        What taking liquidity costs beyond the half spread.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    horizon: Annotated[int, Field(ge=1, le=500)] = 8
    slot_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    zone: str = "UTC"
    days: Annotated[int, Field(ge=1, le=500)] = 20
    minimum_days: Annotated[int, Field(ge=1, le=500)] = 5
    momentum_bars: Annotated[int, Field(ge=1, le=500)] = 4
    memory: Annotated[int, Field(ge=50)] = 2000
    risk_aversion: Annotated[float, Field(ge=0, le=10)] = 0.01
    least_saving: Annotated[float, Field(ge=0, le=100)] = 0.05
    slippage: Slippage = FixedSlippage()


@dataclass(frozen=True)
class EntryTiming:
    """What was learnt from bars; each row of it uses no more than its own bar's close knew.

    Parameters
    ----------
    bars, half_spread:
        What it was learnt from; the half spread in price, one a bar.
    profile:
        Usual spread, volatility and volume, by the days before.
    drift:
        Shape (bars, horizon): the expected log return from acting at once to acting so many bars later.
    settings:
        Of the timing.
    """

    bars: pd.DataFrame
    half_spread: Floats
    profile: IntradayProfile
    drift: Floats
    settings: TimingSettings


@dataclass(frozen=True)
class EntryPlan:
    """When to act on one decision.

    Parameters
    ----------
    act_at:
        The order is placed then, to be filled at the open of the bar that begins.
    wait:
        Bars that are let pass.
    expected, saving:
        Cost in basis points of the price, and how much less that is than acting at once.
    costs:
        A row a possible time: ``spread``, ``impact``, ``momentum`` (what the price is expected to move against the
        order meanwhile, below 0 in its favour), ``risk`` and ``total``, in basis points.
    explanation:
        The choice in words.
    """

    act_at: pd.Timestamp
    wait: int
    expected: float
    saving: float
    costs: pd.DataFrame
    explanation: str


@dataclass(frozen=True)
class TimingEvaluation:
    """Whether timing paid, on decisions whose future it did not know.

    Parameters
    ----------
    table:
        A row a decision: ``side``, ``wait``, ``acted_at`` (open of the bar that filled), ``expected`` (saving),
        ``at_once`` and ``timed``, implementation shortfalls against the decision's close in basis points, and
        ``saving``, their difference.
    saving, low, high:
        Mean saving and its 95% interval by the stationary bootstrap.
    waited:
        Share of decisions that were not acted on at once.
    at_once_deviation, timed_deviation:
        Standard deviations of the shortfalls: waiting is a risk even where it pays.
    verdict:
        The same in a sentence.
    """

    table: pd.DataFrame
    saving: float
    low: float
    high: float
    waited: float
    at_once_deviation: float
    timed_deviation: float
    verdict: str


def learn_timing(
    bars: pd.DataFrame, settings: TimingSettings | None = None, *, half_spread: ArrayLike = ()
) -> EntryTiming:
    """Profile and momentum of a symbol's bars, for :func:`best_entry`.

    Momentum is :func:`tapeline.strategy.entry_momentum.waiting_drift`.

    Raises
    ------
    DataError
        The bars are not sorted, or the spreads are not one a bar.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> timing = learn_timing(example_bars(*[100.0] * 144), TimingSettings(horizon=3), half_spread=0.05)
    >>> timing.drift.shape, float(timing.drift.max())
    ((144, 3), 0.0)
    """
    settings = settings or TimingSettings()
    profile = learn_profile(
        bars,
        half_spread,
        days=settings.days,
        minimum=settings.minimum_days,
        slot_minutes=settings.slot_minutes,
        zone=settings.zone,
    )
    given = np.asarray(half_spread, dtype=np.float64)
    spread = np.broadcast_to(given if given.size else np.zeros(1), (len(bars),)).copy()
    drift = waiting_drift(bars, settings.horizon, settings.momentum_bars, settings.memory)
    return EntryTiming(bars, spread, profile, drift, settings)


def best_entry(timing: EntryTiming, at: pd.Timestamp, side: int, quantity: float = 1.0) -> EntryPlan:
    """When to act on a decision taken at the close of a bar.

    Times are counted on the clock, a bar's length apart; one at which no bar was usual is left out. Where nothing is
    known yet, one acts at once.

    Parameters
    ----------
    timing:
        What was learnt; only what the bar's close knew is used.
    at:
        The bar's open time.
    side:
        1 buys, -1 sells.
    quantity:
        Units, for the impact.

    Raises
    ------
    DataError
        No bar opens at ``at``, the side is neither 1 nor -1, or the quantity is not above 0.

    Examples
    --------
    A market whose spread is wide from 20:00 to 22:00:

    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[100.0] * 163)
    >>> spread = np.where(bars.index.hour.isin([20, 21]), 0.05, 0.01)
    >>> plan = best_entry(learn_timing(bars, half_spread=spread), bars.index[-1], 1)
    >>> plan.act_at.hour, plan.wait, round(plan.saving, 6)
    (19, 0, 0.0)
    >>> plan = best_entry(learn_timing(bars, half_spread=spread), bars.index[-23], 1)
    >>> plan.act_at.hour, plan.wait, round(plan.saving, 2)
    (22, 1, 4.0)
    """
    rows = _rows(timing, pd.DatetimeIndex([at]))
    costs = _costs(timing, rows, np.array([side]), np.array([quantity], dtype=np.float64))
    total = _total(costs)
    wait = int(_choices(total, timing.settings.least_saving)[0])
    times = pd.DatetimeIndex(_times(timing, rows)[0], tz="UTC", name="act_at")
    table = pd.DataFrame({name: costs[name][0] for name in COMPONENTS}, index=times).assign(total=total[0])
    chosen, first = table.iloc[wait], table.iloc[0]
    verb = "buy" if side == 1 else "sell"
    if wait:
        parts = ", ".join(f"{name} {chosen[name]:.2f} instead of {first[name]:.2f}" for name in COMPONENTS)
        why = f"{verb} at {times[wait]:%Y-%m-%d %H:%M} UTC, after {wait} bars: expected cost {chosen['total']:.2f} bp "
        why += f"instead of {first['total']:.2f} at once ({parts})"
    else:
        parts = ", ".join(f"{name} {first[name]:.2f}" for name in COMPONENTS)
        why = (
            f"{verb} at once: expected cost {first['total']:.2f} bp ({parts}); no later time is expected to save enough"
        )
    saving = float(first["total"] - chosen["total"]) if wait else 0.0
    return EntryPlan(times[wait], wait, float(chosen["total"]), saving, table, why)


def evaluate_entries(
    timing: EntryTiming, decisions: pd.DataFrame, *, samples: int = 400, seed: int = 0
) -> TimingEvaluation:
    """Act on past decisions as :func:`best_entry` says, and compare with acting at once.

    Every choice knew the past of its decision only, so all of it is out of sample. An order placed at a time is filled
    at the open of the first bar from then on, at that bar's own half spread and volume.

    Parameters
    ----------
    decisions:
        Indexed by ``ts`` of bars, in order; ``side`` 1 or -1, optionally ``quantity`` (1 where absent). Decisions
        whose window outlasts the bars are left out.
    samples, seed:
        Of the bootstrap; blocks are of the root of the number of decisions on average.

    Raises
    ------
    DataError
        A decision is at no bar, of no side, or fewer than two windows lie within the bars.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*[100.0] * 480)
    >>> timing = learn_timing(bars, half_spread=np.where(bars.index.hour.isin([20, 21]), 0.05, 0.01))
    >>> found = evaluate_entries(timing, pd.DataFrame({"side": 1}, index=bars.index[200:440]))
    >>> round(found.saving, 3), round(found.waited, 3)
    (0.333, 0.083)
    """
    quantity = decisions.get("quantity", pd.Series(1.0, index=decisions.index)).to_numpy(dtype=np.float64)
    side = decisions["side"].to_numpy()
    rows = _rows(timing, pd.DatetimeIndex(decisions.index))
    times = _times(timing, rows)
    opens = pd.DatetimeIndex(timing.bars.index).as_unit("ns").asi8
    whole = times[:, -1].astype(np.int64) <= opens[-1]
    rows, times, side, quantity = rows[whole], times[whole], side[whole], quantity[whole]
    if rows.size < 2:
        raise DataError(f"{rows.size} decisions have their window within the bars; an evaluation needs 2 or more")
    total = _total(_costs(timing, rows, side, quantity))
    wait = _choices(total, timing.settings.least_saving)
    place = np.arange(rows.size)
    at_once, _ = _shortfall(timing, rows, times[:, 0], side, quantity)
    timed, filled = _shortfall(timing, rows, times[place, wait], side, quantity)
    saving = at_once - timed
    if not np.isfinite(saving).all():
        raise DataError("the slippage model cannot price some bars", hint="it needs volume and a known volatility")
    counts = stationary_bootstrap(rows.size, max(1.0, rows.size**0.5), samples, seed=seed)
    low, high = np.quantile(counts @ saving / rows.size, [0.025, 0.975])
    table = pd.DataFrame(
        {
            "side": side,
            "wait": wait,
            "acted_at": timing.bars.index[filled],
            "expected": np.where(wait > 0, total[:, 0] - total[place, wait], 0.0),
            "at_once": at_once,
            "timed": timed,
            "saving": saving,
        },
        index=timing.bars.index[rows],
    )
    told = low > 0 or high < 0
    said = "no evidence that timing saves or costs:" if not told else "timing saves" if low > 0 else "timing costs"
    verdict = (
        f"{said} {abs(saving.mean()) if told else saving.mean():.2f} bp a decision (95% interval of the saving "
        f"{low:.2f} to {high:.2f}) over {rows.size} decisions, {(wait > 0).mean():.0%} of which waited"
    )
    deviations = float(at_once.std(ddof=1)), float(timed.std(ddof=1))
    waited = float((wait > 0).mean())
    return TimingEvaluation(table, float(saving.mean()), float(low), float(high), waited, *deviations, verdict)


def _rows(timing: EntryTiming, times: pd.DatetimeIndex) -> NDArray[np.intp]:
    rows = pd.DatetimeIndex(timing.bars.index).get_indexer(times)
    if (rows < 0).any() or (np.diff(rows) <= 0).any():
        raise DataError("decisions are at times that are no bar's, or not in order", hint="index them by the bars' ts")
    return rows


def _times(timing: EntryTiming, rows: NDArray[np.intp]) -> NDArray[np.datetime64]:
    """When one may act: shape (decisions, horizon), UTC."""
    opened = pd.DatetimeIndex(timing.bars.index).as_unit("ns").asi8[rows]
    closed = pd.DatetimeIndex(timing.bars["close_ts"]).as_unit("ns").asi8[rows]
    found = closed[:, None] + np.arange(timing.settings.horizon) * (closed - opened)[:, None]
    return found.astype("datetime64[ns]")


def _costs(timing: EntryTiming, rows: NDArray[np.intp], side: NDArray[np.int64], quantity: Floats) -> dict[str, Floats]:
    """Expected costs in basis points by component, each of shape (decisions, horizon)."""
    if not np.isin(side, (1, -1)).all() or not (quantity > 0).all():
        raise DataError("a decision has a side other than 1 or -1, or a quantity that is not above 0")
    settings, times = timing.settings, _times(timing, rows)
    known = pd.DatetimeIndex(np.repeat(times[:, 0], settings.horizon), tz="UTC")
    shape = times.shape
    spread, volatility, volume = (
        part.reshape(shape) for part in timing.profile.usual(known, pd.DatetimeIndex(times.ravel(), tz="UTC"))
    )
    model = settings.slippage.compiled()
    units = np.broadcast_to(quantity[:, None], shape)
    paid = slipped_prices(model, np.ones(shape), units, np.ones(shape), volume=volume, volatility=volatility) - 1.0
    # Bars at which nobody trades move nothing.
    moved = np.cumsum(np.nan_to_num(volatility) ** 2, axis=1)
    waited = np.sqrt(np.concatenate([np.zeros((len(rows), 1)), moved[:, :-1]], axis=1))
    return {
        "spread": model.spread_share * spread * _BPS,
        "impact": paid * _BPS,
        "momentum": side[:, None] * timing.drift[rows] * _BPS,
        "risk": settings.risk_aversion * waited * _BPS,
    }


def _total(costs: dict[str, Floats]) -> Floats:
    return np.asarray(np.sum([costs[name] for name in COMPONENTS], axis=0))


def _choices(total: Floats, least: float) -> NDArray[np.intp]:
    """The bars to wait: as few as reach the least cost, none where that saves too little or nothing is known."""
    best = np.where(np.isfinite(total), total, np.inf).argmin(axis=1)
    saved = total[:, 0] - total[np.arange(len(total)), best]
    return np.where(saved >= max(least, 1e-9), best, 0)


def _shortfall(
    timing: EntryTiming,
    rows: NDArray[np.intp],
    times: NDArray[np.datetime64],
    side: NDArray[np.int64],
    quantity: Floats,
) -> tuple[Floats, NDArray[np.intp]]:
    """How much worse than the decision's close the fill is, in basis points, and the row that fills."""
    opens = pd.DatetimeIndex(timing.bars.index).as_unit("ns").asi8
    filled = np.searchsorted(opens, times.astype(np.int64), side="left")
    known = pd.DatetimeIndex(times, tz="UTC")
    _, volatility, _ = timing.profile.usual(known, known)
    price = slipped_prices(
        timing.settings.slippage.compiled(),
        side,
        quantity,
        timing.bars["open"].to_numpy(dtype=np.float64)[filled],
        volume=timing.bars["volume"].to_numpy(dtype=np.float64)[filled],
        volatility=volatility,
        half_spread=timing.half_spread[filled],
    )
    decided = timing.bars["close"].to_numpy(dtype=np.float64)[rows]
    return side * (price / decided - 1.0) * _BPS, filled
