"""What decisions would have earned: one symbol, one account, by the rules of docs/simulator.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from tapeline.core.errors import DataError
from tapeline.strategy import account_kernels as account
from tapeline.strategy import round_trips as trips
from tapeline.strategy.account_kernels import Log, Rules
from tapeline.strategy.costs import Commission
from tapeline.strategy.orders import KINDS, REASONS, STATUSES
from tapeline.strategy.simulator_kernels import Decisions, Floats, Market, advance, in_order
from tapeline.strategy.slippage import FixedSlippage, Slippage
from tapeline.strategy.sweep_kernels import SWEEP_COLUMNS, sweep_block

OPTIONAL_DECISIONS: Final = ("stop", "take", "limit", "trigger")
FILL_COLUMNS: Final = ("ts", "order", "reason", "quantity", "price", "reference", "commission")
ORDER_COLUMNS: Final = (
    *("decided_at", "arrived_at", "ended_at", "kind", "reason", "status", "quantity", "filled", "limit", "stop"),
)
TRADE_COLUMNS: Final = (
    *("entry_at", "exit_at", "reason", "quantity", "entry_price", "exit_price", "gross", "commission", "slippage"),
    *("financing", "net", "adverse", "favourable"),
)
_KINDS, _REASONS, _STATUSES, _EXITS = (
    pd.CategoricalDtype(list(words)) for words in (KINDS, REASONS, STATUSES, (*REASONS, "open"))
)
FIRST_ROOM: Final = 4 * account.ROOM


class SimulationSettings(BaseModel):
    """The account, its costs and its constraints.

    Parameters
    ----------
    capital:
        Cash at the start.
    slippage:
        What taking liquidity costs beyond the half spread, and how much of a bar's volume one account may have.
    commission:
        The schedule. The parts of one order pay one minimum and one maximum together, each at the rate of its own kind
        (maker or taker); tiers by traded notional go by what the account traded in the 30 whole UTC days before.
    lot:
        The step of quantities; 0: any.
    limit_through:
        How far, in price, the market must trade beyond a resting limit before it counts as filled.
    bars_in_force:
        Bars after which an order that is not filled expires; None: it works until a later decision replaces it.
    margin:
        The share of a position's value that equity must cover when the position grows; 0: nothing is asked. It is not
        watched afterwards: no position is closed for want of margin.
    protect_by_distance:
        Whether ``stop`` and ``take`` of decisions are distances from the entry's price instead of prices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    capital: Annotated[float, Field(gt=0)] = 100_000.0
    slippage: Slippage = FixedSlippage()
    commission: Commission = Commission()
    lot: Annotated[float, Field(ge=0)] = 0.0
    limit_through: Annotated[float, Field(ge=0)] = 0.0
    bars_in_force: Annotated[int, Field(ge=1)] | None = None
    margin: Annotated[float, Field(ge=0, le=10)] = 0.0
    protect_by_distance: bool = False

    def compiled(self) -> Rules:
        """What kernels take."""
        return Rules(
            self.slippage.compiled(),
            self.commission.compiled(),
            self.lot,
            self.limit_through,
            self.bars_in_force or 0,
            self.margin,
            self.protect_by_distance,
        )


@dataclass(frozen=True)
class Simulation:
    """What came of it.

    Parameters
    ----------
    equity:
        Cash and the position at the close, by bar; at the last finite close where a bar has none.
    fills:
        One row a fill: ``ts`` the open of its bar, ``order`` the row of ``orders``, ``quantity`` signed, ``price``
        paid, ``reference`` what the market traded, ``commission``.
    orders:
        One row an order: those of decisions, and the protective ones from the moment they act.
    trades:
        One row a round trip from flat to flat. ``quantity`` is signed; ``net`` is ``gross`` less commission and
        financing, in money; ``slippage`` (and spread) is part of ``gross``; ``adverse`` and ``favourable`` are the
        extreme moves as a share of the entry price. A position still held is the last row, without an exit, valued at
        the last close.
    """

    equity: pd.Series
    fills: pd.DataFrame
    orders: pd.DataFrame
    trades: pd.DataFrame


def simulate(
    bars: pd.DataFrame,
    decisions: pd.DataFrame,
    settings: SimulationSettings | None = None,
    *,
    half_spread: ArrayLike = (),
    volatility: ArrayLike = (),
    long_rate: ArrayLike = (),
    short_rate: ArrayLike = (),
    latency: ArrayLike = (),
) -> Simulation:
    """Trade one symbol's bars by decisions taken at their closes.

    Parameters
    ----------
    bars:
        Index ``ts``; ``open``, ``high``, ``low``, ``close``, ``volume``, ``close_ts``.
    decisions:
        Indexed by ``ts`` of the bars at whose close they are taken; other bars decide nothing. ``target``: the signed
        position wanted, in units, NaN for no decision. Optional: ``stop`` and ``take``, the protection of the position;
        ``limit`` and ``trigger``, the prices of the order (without them it is a market order).
    half_spread:
        Half of ask less bid in price, one for all bars or one a bar.
    volatility:
        Standard deviation of a bar's return, for slippage models that need it.
    long_rate, short_rate:
        The share of its value that a position pays at a bar's open for having been held into it; negative: it receives.
    latency:
        Nanoseconds from a bar's close to the order's arrival; an order acts at the first bar that opens then or later.

    Raises
    ------
    DataError
        A column is missing, bars overlap or are not in order, a decision has no bar, an array has another length.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(100, 100, 104, 104)
    >>> decisions = pd.DataFrame({"target": [10.0], "stop": [98.5], "take": [104.5]}, index=bars.index[:1])
    >>> found = simulate(bars, decisions, SimulationSettings(capital=10_000.0))
    >>> found.trades[["quantity", "entry_price", "exit_price", "reason", "net"]].values.tolist()
    [[10.0, 100.0, 104.5, 'target', 45.0]]
    >>> found.equity.tolist()
    [10000.0, 10000.0, 10045.0, 10045.0]
    """
    settings = settings or SimulationSettings()
    market = market_arrays(bars, half_spread, volatility, long_rate, short_rate)
    wanted = decision_arrays(bars.index, decisions, settings.lot, latency)
    rows = len(bars)
    equity = np.empty(rows)
    charged = np.zeros(rows if market.long_rate.size or market.short_rate.size else 0)
    amounts, counts = account.begin_state(settings.capital)
    log, rules = new_log(FIRST_ROOM), settings.compiled()
    row = 0
    while row < rows:
        row = advance(market, wanted, rules, amounts, counts, log, equity, charged, row, rows)
        if row < rows:
            # Of a log that is full the next must hold what one row can bring, however many decisions arrive in it.
            log = larger_log(log, int(row - counts[account.SENT]) if wanted.latency.size else 0)
    return report(bars.index, market, log, counts, equity, charged)


def sweep(
    bars: pd.DataFrame,
    blocks: Iterable[NDArray[np.float64]],
    settings: SimulationSettings | None = None,
    *,
    stop: ArrayLike = (),
    take: ArrayLike = (),
    half_spread: ArrayLike = (),
    volatility: ArrayLike = (),
) -> pd.DataFrame:
    """Run many sets of decisions over the same bars and keep a few figures of each.

    Parameters
    ----------
    blocks:
        Arrays of targets, one row a set, one column a bar, NaN for no decision: in blocks, so that a thousand sets need
        not lie in memory at once.
    stop, take:
        Protection of every position, one for all bars or one a bar.

    Returns
    -------
    One row a set: ``equity`` at the end, ``drawdown`` (the deepest fall of equity below its maximum, as a share of it),
    ``fills``, ``commission``, ``mean`` and ``deviation`` of the change of equity from close to close.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> targets = np.array([[1.0, np.nan, np.nan], [-1.0, np.nan, np.nan]])
    >>> sweep(example_bars(100, 100, 104), [targets])[["equity", "fills"]].values.tolist()
    [[100004.0, 1.0], [99996.0, 1.0]]
    """
    settings = settings or SimulationSettings()
    rules = settings.compiled()
    market = market_arrays(bars, half_spread, volatility, (), ())
    rows = len(bars)
    stops, takes = (read_only(_per_row(*each)[None]) for each in ((stop, rows, "stop"), (take, rows, "take")))
    none, no_latency, no_ends = read_only(np.empty(0)), read_only(np.empty(0, np.int64)), np.empty(0, np.int64)
    found = []
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != rows:
            raise DataError(f"a block of targets has the shape {block.shape}, not (sets, {rows})")
        targets = read_only(np.ascontiguousarray(whole_targets(block, settings.lot)))
        found.append(sweep_block(market, targets, stops, takes, none, no_latency, rules, settings.capital, no_ends)[0])
    table = np.concatenate(found) if found else np.empty((0, len(SWEEP_COLUMNS)))
    return pd.DataFrame(table, columns=list(SWEEP_COLUMNS))


def positions_to_decisions(positions: pd.Series) -> pd.DataFrame:
    """Decisions from a wanted position by bar: one where it changes, so that what was stopped out is not bought again.

    Examples
    --------
    >>> positions_to_decisions(pd.Series([0.0, 1.0, 1.0, 0.0]))["target"].tolist()
    [0.0, 1.0, nan, 0.0]
    """
    return pd.DataFrame({"target": positions.astype(np.float64).where(positions != positions.shift())})


def entries_to_decisions(
    entries: pd.Series, exits: pd.Series, short_entries: pd.Series | None = None, *, quantity: float = 1.0
) -> pd.DataFrame:
    """Decisions from booleans by bar. An exit beats an entry of the same bar.

    Raises
    ------
    DataError
        A bar enters long and short.

    Examples
    --------
    >>> entries, exits = pd.Series([True, False, True]), pd.Series([False, True, True])
    >>> entries_to_decisions(entries, exits, quantity=5)["target"].tolist()
    [5.0, 0.0, 0.0]
    """
    target = pd.Series(np.nan, index=entries.index)
    target[entries.to_numpy(dtype=bool)] = quantity
    if short_entries is not None:
        both = entries.to_numpy(dtype=bool) & short_entries.to_numpy(dtype=bool)
        if both.any():
            raise DataError(f"bar {entries.index[int(both.argmax())]} enters long and short at once")
        target[short_entries.to_numpy(dtype=bool)] = -quantity
    target[exits.to_numpy(dtype=bool)] = 0.0
    return pd.DataFrame({"target": target})


def new_log(room: int) -> Log:
    """An empty log with room for so many fills and orders."""
    return Log(
        np.empty((room, account.FILL_CODE_COLUMNS), np.int64),
        np.empty((room, account.FILL_AMOUNT_COLUMNS)),
        np.empty((room, account.ORDER_CODE_COLUMNS), np.int64),
        np.empty((room, account.ORDER_AMOUNT_COLUMNS)),
    )


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written to: kernels compile once for it, whatever made the array."""
    view = array.view()
    view.flags.writeable = False
    return view


def larger_log(log: Log, waiting: int = 0) -> Log:
    """The same log with at least twice the room."""
    room = 2 * log.fill_codes.shape[0] + waiting
    larger = new_log(room)
    for old, new in zip(log, larger, strict=True):
        new[: len(old)] = old
    return larger


def whole_targets(targets: NDArray[np.float64], lot: float) -> NDArray[np.float64]:
    """Wanted positions cut down to whole lots, towards zero.

    Raises
    ------
    DataError
        A target is infinite.
    """
    if np.isinf(targets).any():
        raise DataError("a target is infinite", hint="a target is a position in units, NaN for no decision")
    return np.sign(targets) * np.floor(np.abs(targets) / lot + 1e-9) * lot if lot > 0 else targets


def report(
    index: pd.Index, market: Market, log: Log, counts: NDArray[np.int64], equity: Floats, charged: Floats
) -> Simulation:
    """The tables of a log."""
    times = pd.DatetimeIndex(index)
    fills, orders = int(counts[account.FILL_COUNT]), int(counts[account.ORDER_COUNT])
    fill_codes, fill_amounts = log.fill_codes[:fills], log.fill_amounts[:fills]
    codes, amounts = trips.round_trips(market, fill_codes, fill_amounts, charged, len(times))
    trade_frame = pd.DataFrame(
        {
            "entry_at": times.take(codes[:, trips.ENTRY_ROW]),
            "exit_at": _instants(times, codes[:, trips.EXIT_ROW]),
            "reason": _words(_EXITS, codes[:, trips.REASON]),
            **{name: amounts[:, column] for column, name in enumerate(TRADE_COLUMNS[3:])},
        }
    )
    return Simulation(
        pd.Series(equity[: len(times)], index=times, name="equity", copy=False),
        pd.DataFrame(
            {
                "ts": times.take(fill_codes[:, account.FILL_ROW]),
                "order": fill_codes[:, account.FILL_ORDER],
                "reason": _words(_REASONS, fill_codes[:, account.FILL_REASON]),
                **{name: fill_amounts[:, column] for column, name in enumerate(FILL_COLUMNS[3:])},
            }
        ),
        _order_frame(times, log.order_codes[:orders], log.order_amounts[:orders]),
        trade_frame,
    )


def _order_frame(times: pd.DatetimeIndex, codes: NDArray[np.int64], amounts: Floats) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "decided_at": times.take(codes[:, account.ORDER_DECIDED]),
            "arrived_at": times.take(codes[:, account.ORDER_ARRIVED]),
            "ended_at": _instants(times, codes[:, account.ORDER_ENDED]),
            "kind": _words(_KINDS, codes[:, account.ORDER_KIND]),
            "reason": _words(_REASONS, codes[:, account.ORDER_REASON]),
            "status": _words(_STATUSES, codes[:, account.ORDER_STATUS]),
            **{name: amounts[:, column] for column, name in enumerate(ORDER_COLUMNS[6:])},
        }
    )


def _instants(times: pd.DatetimeIndex, rows: NDArray[np.int64]) -> pd.DatetimeIndex:
    """The times of rows; none where the row is -1."""
    return pd.DatetimeIndex(times.take(np.maximum(rows, 0)).where(rows >= 0))


def _words(words: Any, codes: NDArray[np.int64]) -> Any:
    """The words of codes; the last word for a code below 0."""
    known = np.where(codes < 0, len(words.categories) - 1, codes)
    return pd.Categorical.from_codes(known, dtype=words, validate=False)


def market_arrays(
    bars: pd.DataFrame, half_spread: ArrayLike, volatility: ArrayLike, long_rate: ArrayLike, short_rate: ArrayLike
) -> Market:
    """Bars and what is known of trading in them, checked and read-only, as kernels take them."""
    absent = [name for name in ("open", "high", "low", "close", "volume", "close_ts") if name not in bars.columns]
    if absent:
        raise DataError(f"bars lack the columns {absent}")
    opens, closes = _nanoseconds(bars.index), _nanoseconds(bars["close_ts"])
    if not in_order(opens, closes):
        raise DataError("bars overlap or are not in the order of time", hint="sort them by ts and drop duplicates")
    prices = [
        np.ascontiguousarray(bars[name].to_numpy(dtype=np.float64))
        for name in ("open", "high", "low", "close", "volume")
    ]
    per_row = {"half_spread": half_spread, "volatility": volatility, "long_rate": long_rate, "short_rate": short_rate}
    arrays = [_per_row(values, len(bars), name) for name, values in per_row.items()]
    if (arrays[0] < 0).any():
        raise DataError("half_spread holds a value below 0")
    return Market(*(read_only(array) for array in (opens, closes, *prices, *arrays)))


def decision_arrays(index: pd.Index, decisions: pd.DataFrame, lot: float, latency: ArrayLike) -> Decisions:
    """Decisions by row of the bars, checked and read-only, as kernels take them."""
    if "target" not in decisions.columns:
        raise DataError("decisions lack the column 'target'")
    unknown = [name for name in decisions.columns if name not in ("target", *OPTIONAL_DECISIONS)]
    if unknown:
        raise DataError(
            f"decisions have unknown columns {unknown}", hint=f"known: target, {', '.join(OPTIONAL_DECISIONS)}"
        )
    aligned = index.equals(decisions.index)
    places = np.empty(0, np.int64) if aligned else index.get_indexer(decisions.index)
    if (places < 0).any() or decisions.index.has_duplicates:
        raise DataError("decisions are at times that are no bar's, or twice at one", hint="index them by the bars' ts")
    rows = len(index)
    columns = {}
    for name in ("target", *OPTIONAL_DECISIONS):
        columns[name] = np.empty(0)
        if name in decisions.columns and aligned:
            columns[name] = np.ascontiguousarray(decisions[name].to_numpy(dtype=np.float64))
        elif name in decisions.columns:
            columns[name] = np.full(rows, np.nan)
            columns[name][places] = decisions[name].to_numpy(dtype=np.float64)
    late = np.ascontiguousarray(np.atleast_1d(np.asarray(latency, dtype=np.int64)))
    if late.size not in (0, 1, rows) or (late < 0).any():
        raise DataError(f"latency has {late.size} values, or one below 0; it needs 1 or {rows}")
    columns["target"] = whole_targets(columns["target"], lot)
    return Decisions(*(read_only(array) for array in (*columns.values(), late)))


def _per_row(values: ArrayLike, rows: int, name: str) -> Floats:
    array = np.ascontiguousarray(np.atleast_1d(np.asarray(values, dtype=np.float64)))
    if array.ndim != 1 or array.size not in (0, 1, rows):
        raise DataError(f"{name} has {array.size} values; it needs 1 or {rows}")
    return array


def _nanoseconds(times: Any) -> NDArray[np.int64]:
    index = pd.DatetimeIndex(times)
    if index.tz is None:
        raise DataError("times of bars carry no zone", hint="use UTC")
    # as_unit copies even where there is nothing to change.
    return np.ascontiguousarray((index if index.unit == "ns" else index.as_unit("ns")).asi8)
