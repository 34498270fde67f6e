"""A search for the parameters of a decision function that says how far its result may be believed.

Every set is traded once over all bars, each in one account that begins flat. What a window of time is worth to a set is
read from that one run, so that choosing in the past and trading what follows costs no second pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.versions import digest, digest_bytes
from tapeline.models.ledger import record_trials
from tapeline.models.overfitting import Overfitting, effective_trials, probability_of_overfitting
from tapeline.models.statistics import SharpeEvidence, minimum_backtest_length, sharpe_evidence
from tapeline.models.tracking import Tracking
from tapeline.strategy.search_space import Allowed, ParameterDraws, Sampler, Space, neighbours
from tapeline.strategy.search_walk import Decide, Statistic, choose_windows, decisions_of, statistic_of, walk_windows
from tapeline.strategy.simulator import Simulation, SimulationSettings, market_arrays, read_only, whole_targets
from tapeline.strategy.sweep_kernels import SWEEP_COLUMNS, sweep_block

Floats = NDArray[np.float64]
FIGURES: Final = ("return", "sharpe", "drawdown", "fills", "commission")
WINDOW_COLUMNS: Final = (
    *("trained_from", "trained_until", "tested_from", "tested_until", "set"),
    *("train_statistic", "neighbour_mean", "test_return"),
)
_EVEN: Final = 0.5
_NOTHING: Final = np.full(1, np.nan)


class SearchPlan(BaseModel):
    """How sets are drawn, compared and walked forward.

    Parameters
    ----------
    sampler, trials, seed:
        Of :class:`tapeline.strategy.search_space.ParameterDraws`. With ``tpe`` the estimator learns from the first
        training window only: what is traded later cannot have drawn the sets that are chosen from.
    statistic:
        What the best set of a window has most of, from its returns by period: ``sharpe`` (mean over deviation),
        ``sortino`` (mean over the root mean square of losses), ``return`` (sum), ``calmar`` (sum over the
        deepest fall).
    periods:
        Into how many stretches of equally many bars the history is cut. Their returns, changes of equity as a share of
        the capital at the start, are what all statistics are made of.
    windows:
        Into how many windows the history is cut for the walk; the first is never traded.
    train:
        Windows to choose from before each traded one; None: all before it.
    block:
        Sets run together; memory is about three floats a bar and set of a block.
    earlier_trials:
        Sets tried on this history before, in other searches: they count as trials of this one.
    confidence:
        What the verdict asks of the deflated and of the walk's Sharpe ratio.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sampler: Sampler = "grid"
    trials: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    statistic: Statistic = "sharpe"
    periods: Annotated[int, Field(ge=8, le=10_000)] = 480
    windows: Annotated[int, Field(ge=2, le=500)] = 8
    train: Annotated[int, Field(ge=1)] | None = None
    block: Annotated[int, Field(ge=1, le=1000)] = 20
    earlier_trials: Annotated[int, Field(ge=0)] = 0
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


@dataclass(frozen=True)
class BacktestSearch:
    """What a search found, and what speaks for and against it.

    Parameters
    ----------
    sets:
        A row a set: its parameters; ``return`` (share of the capital), ``sharpe`` (of one period, not annualised),
        ``drawdown`` (share of the highest equity, by bar), ``fills`` and ``commission`` over the whole history; the
        statistic it was chosen by, where that is another.
    returns:
        A row a period, by its end; a column a set.
    best:
        The row of ``sets`` with the greatest statistic over the whole history.
    neighbour_mean, neighbour_count:
        Mean statistic of the sets around it: an optimum far above its neighbours is a peak of noise.
    windows:
        A row a traded window: ``trained_from``, ``trained_until``, ``tested_from``, ``tested_until``, ``set`` (its
        row), the parameters, ``train_statistic``, ``neighbour_mean`` (of the same window), ``test_return``.
    walk:
        The simulation of the walk. At a seam where the choice changes, the account takes on what the new set wants to
        hold at that close; nothing is decided before the first traded window.
    overfitting:
        Probability of backtest overfitting over all sets.
    evidence:
        Of the best set's returns over the whole history, deflated by the number of trials.
    walk_evidence:
        Of the walk's returns in its traded windows, a single trial.
    trials:
        Sets tried, those of earlier searches included.
    years, minimum_years:
        Length of the history, and that below which the best of so many worthless sets is expected to show an annual
        Sharpe ratio of 1.
    study:
        A hash of the bars and the sets, under which the trial ledger counts the search once.
    skill:
        Whether the deflated Sharpe ratio and the walk's probabilistic one reach the confidence and the probability of
        overfitting is below one half.
    verdict:
        The same in a sentence.
    """

    sets: pd.DataFrame
    returns: pd.DataFrame
    best: int
    neighbour_mean: float
    neighbour_count: int
    windows: pd.DataFrame
    walk: Simulation
    overfitting: Overfitting
    evidence: SharpeEvidence
    walk_evidence: SharpeEvidence
    trials: int
    years: float
    minimum_years: float
    study: str
    skill: bool
    verdict: str
    statistic: Statistic
    parameters: tuple[str, ...]


def search_backtest(
    bars: pd.DataFrame,
    decide: Decide,
    space: Space,
    settings: SimulationSettings | None = None,
    plan: SearchPlan | None = None,
    *,
    allowed: Allowed | None = None,
    half_spread: ArrayLike = (),
    volatility: ArrayLike = (),
    progress: Callable[[int, int], None] | None = None,
) -> BacktestSearch:
    """Try sets of parameters over one symbol's bars, walk the choice forward, and judge it.

    Parameters
    ----------
    bars:
        As :func:`tapeline.strategy.simulator.simulate` takes them.
    decide:
        ``decide(bars, **parameters)`` gives, a value a bar, the position wanted from the bar's close on (NaN where
        nothing is decided), or a frame with ``target`` and optionally ``stop`` and ``take``. It must not look ahead:
        in each walked window the chosen set decides again on the bars before the window, and the answers must agree.
    space:
        By name, the values of a parameter, or a :class:`tapeline.strategy.search_space.ParameterRange`.
    settings:
        The account, its costs and constraints.
    plan:
        How to search.
    allowed:
        Which combinations make sense; others are neither tried nor counted.
    half_spread, volatility:
        As the simulator takes them.
    progress:
        Called after each block with the number of sets done and of all.

    Raises
    ------
    ConfigurationError
        The space, the plan or the names of parameters do not fit.
    DataError
        There are fewer bars than periods, ``decide`` returns something else than a value a bar, or it looks ahead.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(*(100 + np.arange(400) % 20))
    >>> def decide(bars, side):
    ...     return np.where(np.arange(len(bars)) % 20 < 18, side, 0.0)
    >>> found = search_backtest(bars, decide, {"side": [-1.0, 1.0]}, plan=SearchPlan(periods=40, windows=4))
    >>> found.trials, found.windows["side"].tolist()
    (2, [1.0, 1.0, 1.0])
    """
    settings, plan = settings or SimulationSettings(), plan or SearchPlan()
    reserved = sorted({*FIGURES, *WINDOW_COLUMNS, plan.statistic} & set(space))
    if reserved:
        raise ConfigurationError(f"parameters {reserved} are named like columns of the result", hint="rename them")
    rows = len(bars)
    if rows < plan.periods or plan.periods < 2 * plan.windows:
        raise DataError(f"{rows} bars, {plan.periods} periods, {plan.windows} windows: each must hold two of the next")
    if plan.train is not None and plan.train >= plan.windows:
        raise ConfigurationError(f"train = {plan.train} leaves none of {plan.windows} windows to trade")
    ends = np.linspace(0, rows, plan.periods + 1).round().astype(np.int64)[1:] - 1
    edges = np.linspace(0, plan.periods, plan.windows + 1).round().astype(np.intp)
    draws = ParameterDraws(space, plan.sampler, trials=plan.trials, seed=plan.seed, allowed=allowed)
    market = market_arrays(bars, half_spread, volatility, (), ())
    none, no_latency = read_only(np.empty(0)), read_only(np.empty(0, np.int64))
    sets: list[dict[str, Any]] = []
    figures: list[Floats] = []
    returns: list[Floats] = []
    first_train = slice(0, edges[plan.train or 1])
    while block := draws.block(plan.block):
        targets, stops, takes = _decided(bars, decide, block, settings.lot)
        found, equity = sweep_block(
            market, targets, stops, takes, none, no_latency, settings.compiled(), settings.capital, ends
        )
        changes = np.diff(equity, axis=1, prepend=settings.capital).T / settings.capital
        sets += block
        figures.append(found)
        returns.append(changes)
        draws.tell(statistic_of(changes[first_train], plan.statistic).tolist())
        if progress is not None:
            progress(len(sets), draws.count)
    if not sets:
        raise ConfigurationError("no set of the space is allowed")
    matrix = np.concatenate(returns, axis=1)
    if not np.isfinite(matrix).all():
        bad = sets[int(np.flatnonzero(~np.isfinite(matrix).all(axis=0))[0])]
        raise DataError(f"the equity of {bad} is not a number", hint="look for bars without prices or infinite stops")
    table = _table(sets, np.concatenate(figures), matrix, settings.capital, plan.statistic)
    windows = choose_windows(bars, sets, matrix, ends, edges, plan.statistic, plan.train)
    walk = walk_windows(bars, decide, sets, windows, settings, half_spread, volatility)
    return _judged(bars, sets, table, matrix, ends, edges, windows, walk, plan, settings.capital)


def record_search(found: BacktestSearch, tracking: Tracking, run_id: str) -> None:
    """Count the sets of a search in the trial ledger; the same search on the same bars counts once."""
    record_trials(tracking, run_id, found.study, len(found.sets))


def _decided(
    bars: pd.DataFrame, decide: Decide, block: list[dict[str, Any]], lot: float
) -> tuple[Floats, Floats, Floats]:
    """Targets, stops and takes of a block of sets; protection has no column where no set of the block has any."""
    frames = [decisions_of(bars, decide, one) for one in block]
    targets = whole_targets(np.stack([frame["target"].to_numpy() for frame in frames]), lot)
    protection = []
    for name in ("stop", "take"):
        if any(name in frame.columns for frame in frames):
            columns = [_shortest(frame[name].to_numpy() if name in frame.columns else _NOTHING) for frame in frames]
            width = max(column.size for column in columns)
            protection.append(np.stack([np.broadcast_to(column, (width,)) for column in columns]))
        else:
            protection.append(np.empty((len(frames), 0)))
    return read_only(np.ascontiguousarray(targets)), read_only(protection[0]), read_only(protection[1])


def _shortest(column: Floats) -> Floats:
    """A column that holds one value as that value alone, which kernels take for every row."""
    return column[:1] if (column == column[0]).all() else column


def _table(
    sets: list[dict[str, Any]], figures: Floats, matrix: Floats, capital: float, statistic: Statistic
) -> pd.DataFrame:
    swept = pd.DataFrame(figures, columns=list(SWEEP_COLUMNS))
    found = pd.DataFrame(sets).assign(
        **{"return": swept["equity"] / capital - 1.0},
        sharpe=statistic_of(matrix, "sharpe"),
        drawdown=swept["drawdown"],
        fills=swept["fills"].astype(np.int64),
        commission=swept["commission"],
    )
    if statistic not in FIGURES:
        found[statistic] = statistic_of(matrix, statistic)
    return found


def _judged(
    bars: pd.DataFrame,
    sets: list[dict[str, Any]],
    table: pd.DataFrame,
    matrix: Floats,
    ends: NDArray[np.int64],
    edges: NDArray[np.intp],
    windows: pd.DataFrame,
    walk: Simulation,
    plan: SearchPlan,
    capital: float,
) -> BacktestSearch:
    closes = pd.DatetimeIndex(bars["close_ts"])
    best = int(table[plan.statistic].to_numpy().argmax())
    around = neighbours(sets, best)
    trials = len(sets) + plan.earlier_trials
    effective = effective_trials(matrix) + plan.earlier_trials
    sharpes = statistic_of(matrix, "sharpe").tolist()
    evidence = sharpe_evidence(matrix[:, best], trials=trials, trial_sharpes=sharpes, effective_trials=effective)
    marked = walk.equity.to_numpy()[ends]
    walked = np.diff(marked, prepend=capital)[edges[plan.train or 1] :] / capital
    walk_evidence = sharpe_evidence(walked, trials=1)
    overfitting = probability_of_overfitting(matrix)
    skill = bool(
        evidence.deflated >= plan.confidence
        and walk_evidence.probabilistic >= plan.confidence
        and overfitting.probability < _EVEN
    )
    first = edges[plan.train or 1]
    tested = np.add.reduceat(walked, edges[plan.train or 1 : -1] - first)
    years = (closes[-1] - bars.index[0]) / pd.Timedelta(days=365.25)
    minimum = minimum_backtest_length(trials)
    opening = "evidence of skill that survives" if skill else "no evidence of skill after"
    verdict = (
        f"{opening} {trials} trials: deflated Sharpe ratio of the best {evidence.deflated:.2f} and probability that "
        f"the walk forward earns {walk_evidence.probabilistic:.2f}, {plan.confidence:.2f} asked of both; "
        f"probability of overfitting {overfitting.probability:.2f}; {years:.1f} years of bars, {minimum:.1f} needed "
        f"lest the best of so many worthless sets show an annual ratio of 1"
    )
    stamps = pd.DatetimeIndex(closes[ends], name="ended_at")
    content = np.ascontiguousarray(bars[["open", "high", "low", "close"]].to_numpy(dtype=np.float64))
    return BacktestSearch(
        table,
        pd.DataFrame(matrix, index=stamps),
        best,
        float(table[plan.statistic].to_numpy()[around].mean()) if around.size else np.nan,
        len(around),
        windows.drop(columns="first_row").assign(test_return=tested),
        walk,
        overfitting,
        evidence,
        walk_evidence,
        trials,
        float(years),
        float(minimum),
        digest([digest_bytes(content.tobytes()), [repr(sorted(one.items())) for one in sets]]),
        skill,
        verdict,
        plan.statistic,
        tuple(sets[0]),
    )
