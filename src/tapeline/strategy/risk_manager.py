"""The limits of a live account: the kernels of the engines over state that is kept, explained and saved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.symbol import Symbol
from tapeline.strategy.risk import RiskLimits, parse_risk_limits
from tapeline.strategy.risk_kernels import (
    DAILY_LOSS,
    DAY_START,
    DAY_STOPPED,
    EXPECTED_SHORTFALL,
    GROSS_LEVERAGE,
    GROUP_EXPOSURE,
    GROUP_ROW,
    HIGH_WATER,
    KILL_SWITCH,
    KILLED,
    LAST_EQUITY,
    NET_LEVERAGE,
    NO_HISTORY,
    NO_STOP,
    OPEN_POSITIONS,
    PERMITTED,
    RETURN_ROWS,
    RISK_REASONS,
    SYMBOL_EXPOSURE,
    TRADE_NOTIONAL,
    TRADE_RISK,
    TRADES_PER_DAY,
    TRADES_TODAY,
    VALUE_AT_RISK,
    begin_risk,
    mark_risk,
    note_fill,
    permitted_quantity,
    reset_kill_switch,
)
from tapeline.strategy.value_at_risk import tail_of_losses

RiskOutcome = Literal["open", "no_new_risk", "close_all"]

_OUTCOMES: Final[tuple[RiskOutcome, ...]] = ("open", "no_new_risk", "close_all")
_VERSION: Final = 1


@dataclass(frozen=True)
class RiskVerdict:
    """What a manager answered to one wish to trade.

    Attributes
    ----------
    symbol, side, wanted, permitted:
        The wish, and how much of it is allowed; units.
    limit:
        Name of the limit that bound; None where all was permitted.
    bound, value:
        The limit in its own unit (money of the account, or a number), and what it would have been had all that was
        wanted been traded; None where there is no such number.
    explanation:
        The same as one sentence.
    """

    symbol: str
    side: int
    wanted: float
    permitted: float
    limit: str | None
    bound: float | None
    value: float | None
    explanation: str


class RiskManager:
    """Keeps an account within its limits, order by order.

    Call :meth:`mark` at every instant, :meth:`check` before an order is sent, :meth:`fill` for every fill, and
    :meth:`learn` for every period of returns where a limit looks at them. A verdict is that of the engines' kernels.

    Parameters
    ----------
    limits:
        What may be risked.
    symbols:
        All that may be traded.
    capital:
        Equity at the beginning, in the account's currency.
    lots, point_values:
        As of :meth:`tapeline.strategy.risk.RiskLimits.compiled`.
    returns:
        Those known at the beginning; needed where a limit looks at returns.

    Examples
    --------
    >>> manager = RiskManager(RiskLimits(risk_per_trade=0.01, gross_leverage=2), ["EURUSD"], capital=10_000)
    >>> manager.mark(pd.Timestamp("2024-01-02 10:00", tz="UTC"), 10_000, {"EURUSD": 1.25})
    'open'
    >>> verdict = manager.check("EURUSD", 1, 20_000, 1.25, stop_distance=0.001)
    >>> verdict.permitted, verdict.limit
    (16000.0, 'gross_leverage')
    >>> print(verdict.explanation)
    buy 20000 EURUSD: 16000 permitted; gross_leverage would be 25000, its bound is 20000
    """

    def __init__(
        self,
        limits: RiskLimits,
        symbols: Any,
        *,
        capital: float,
        lots: Mapping[str, float] | None = None,
        point_values: Mapping[str, float] | None = None,
        returns: pd.DataFrame | None = None,
    ) -> None:
        if not (math.isfinite(capital) and capital > 0):
            raise ConfigurationError(f"capital = {capital} must be above 0 and finite")
        self.limits, self.symbols = limits, tuple(str(Symbol.parse(symbol)) for symbol in symbols)
        self._lots = dict(lots or {})
        self._returns = _latest(limits, returns)
        self._rules = limits.compiled(self.symbols, lots=lots, point_values=point_values, returns=self._returns)
        self._state = begin_risk(self._rules, len(self.symbols), float(capital))
        self._positions = np.zeros(len(self.symbols))
        self._prices = np.zeros(len(self.symbols))
        self._now: pd.Timestamp | None = None

    @property
    def positions(self) -> dict[str, float]:
        """Signed units by symbol, as the fills add up to."""
        return dict(zip(self.symbols, self._positions.tolist(), strict=True))

    @property
    def stopped(self) -> str | None:
        """``kill_switch`` or ``daily_loss`` where no new risk may be taken now."""
        if self._state.counts[KILLED]:
            return RISK_REASONS[KILL_SWITCH]
        return RISK_REASONS[DAILY_LOSS] if self._state.counts[DAY_STOPPED] else None

    def mark(
        self,
        at: pd.Timestamp,
        equity: float,
        prices: Mapping[str, float] | None = None,
        point_values: Mapping[str, float] | None = None,
    ) -> RiskOutcome:
        """Take equity, prices and, where quote currencies moved, point values, as of an instant.

        Returns
        -------
        ``open``, ``no_new_risk`` (only reduce) or ``close_all``.

        Raises
        ------
        DataError
            Time went back or has no zone, or a number is not finite (a price, point value: not above 0).
        """
        self._pass_time(at)
        if not math.isfinite(equity):
            raise DataError(f"equity = {equity} at {at} is not finite")
        for name, price in (prices or {}).items():
            self._prices[self._number(name)] = _above_zero(price, f"price of {name}")
        for name, value in (point_values or {}).items():
            self._state.point_value[self._number(name)] = _above_zero(value, f"point value of {name}")
        return _OUTCOMES[mark_risk(self._rules, self._state, at.as_unit("ns").value, float(equity))]

    def check(
        self, symbol: str, side: int, quantity: float, price: float, *, stop_distance: float | None = None
    ) -> RiskVerdict:
        """How much of a trade is permitted now, and why not all of it.

        Parameters
        ----------
        symbol, side, quantity, price:
            1 buys, -1 sells ``quantity`` units at about ``price``.
        stop_distance:
            Points of price between ``price`` and the protective stop; None where there is none.

        Raises
        ------
        ConfigurationError
            The symbol is not one of the account's, or the side is neither 1 nor -1.
        DataError
            Quantity, price or distance is not above 0 and finite.
        """
        which = self._number(symbol)
        if side not in (1, -1):
            raise ConfigurationError(f"side = {side!r} must be 1 or -1")
        quantity, price = _above_zero(quantity, "quantity"), _above_zero(price, "price")
        distance = math.nan if stop_distance is None else _above_zero(stop_distance, "stop_distance")
        equity, position = float(self._state.amounts[LAST_EQUITY]), float(self._positions[which])
        values = self._values()
        permitted, code = permitted_quantity(
            self._rules, self._state, which, position, float(side), quantity, price, distance, values, equity
        )
        wish = f"{'buy' if side > 0 else 'sell'} {quantity:.15g} {symbol}: {permitted:.15g} permitted"
        if code == PERMITTED:
            return RiskVerdict(symbol, side, quantity, permitted, None, None, None, wish)
        reducing = min(quantity, abs(position)) if position * side < 0 else 0.0
        held, opening = position + side * reducing, quantity - reducing
        bound, value = self._measured(code, which, held, side * opening, price, distance, values, equity)
        name = RISK_REASONS[code]
        told = {
            KILL_SWITCH: f"the kill switch is on until it is reset: drawdown {_told(value)}, bound {_told(bound)}",
            DAILY_LOSS: f"no new risk until the next UTC day: lost {_told(value)}, bound {_told(bound)}",
            NO_STOP: "risk_per_trade needs a stop, and there is none",
            NO_HISTORY: f"{value} periods of returns are known, {bound} are needed",
        }.get(code, f"{name} would be {_told(value)}, its bound is {_told(bound)}")
        return RiskVerdict(symbol, side, quantity, permitted, name, bound, value, f"{wish}; {told}")

    def fill(self, symbol: str, quantity: float, price: float) -> None:
        """Take a fill of signed units.

        Raises
        ------
        DataError
            The quantity is not finite or the price not above 0.
        """
        which = self._number(symbol)
        price = _above_zero(price, "price")
        if not math.isfinite(quantity):
            raise DataError(f"quantity = {quantity} is not finite")
        note_fill(self._state, float(self._positions[which]), float(quantity))
        after = float(self._positions[which]) + quantity
        # What summing leaves of a closed position is none.
        self._positions[which] = 0.0 if abs(after) <= 1e-9 * abs(quantity) else after
        self._prices[which] = price

    def learn(self, known_at: pd.Timestamp, returns: Mapping[str, float]) -> None:
        """Add one period's returns; a symbol that is not named has none.

        Raises
        ------
        DataError
            Time went back.
        """
        if not self.limits.needs_returns or self._returns is None:
            return
        for name in returns:
            self._number(name)
        if known_at.tzinfo is None or (len(self._returns) and known_at < self._returns.index[-1]):
            raise DataError(f"returns known at {known_at} come before the last, or have no zone")
        row = pd.DataFrame([dict(returns)], pd.DatetimeIndex([known_at]), list(self.symbols), np.float64)
        self._take_returns(_latest(self.limits, pd.concat([self._returns, row])))

    def reset_kill_switch(self) -> None:
        """Let new risk in again: a person's decision. The equity now becomes the highest."""
        reset_kill_switch(self._state)

    def snapshot(self) -> dict[str, Any]:
        """All that :meth:`restore` needs, as plain data that JSON can hold."""
        returns = self._returns
        return {
            "version": _VERSION,
            "limits": self.limits.model_dump(mode="json", exclude_defaults=True),
            "symbols": list(self.symbols),
            "lots": self._lots,
            "amounts": self._state.amounts.tolist(),
            "counts": self._state.counts.tolist(),
            "point_value": self._state.point_value.tolist(),
            "positions": self._positions.tolist(),
            "prices": self._prices.tolist(),
            "now": None if self._now is None else self._now.as_unit("ns").value,
            "returns_known_at": [] if returns is None else pd.DatetimeIndex(returns.index).as_unit("ns").asi8.tolist(),
            "returns": []
            if returns is None
            else [[None if each != each else each for each in row] for row in returns.to_numpy().tolist()],
        }

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Self:
        """A manager that goes on where another stopped.

        Raises
        ------
        DataError
            The snapshot is of another version, incomplete, or its parts do not fit each other.
        """
        if not isinstance(snapshot, Mapping) or snapshot.get("version") != _VERSION:
            raise DataError(f"the snapshot is not one of version {_VERSION} of a risk manager")
        try:
            limits, symbols = parse_risk_limits(snapshot["limits"]), list(snapshot["symbols"])
            returns = pd.DataFrame(
                np.array(snapshot["returns"], np.float64).reshape(-1, len(symbols)),
                pd.to_datetime(np.array(snapshot["returns_known_at"], np.int64), utc=True),
                symbols,
            )
            manager = cls(limits, symbols, capital=1.0, lots=snapshot["lots"], returns=returns)
            for name, into in (
                ("amounts", manager._state.amounts),
                ("counts", manager._state.counts),
                ("point_value", manager._state.point_value),
                ("positions", manager._positions),
                ("prices", manager._prices),
            ):
                values = np.array(snapshot[name], into.dtype)
                if values.shape != into.shape or not np.isfinite(values).all():
                    raise DataError(f"the snapshot's {name} = {snapshot[name]} is not {into.size} finite numbers")
                into[:] = values
            now = snapshot["now"]
            manager._now = None if now is None else pd.Timestamp(int(now), tz="UTC")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the snapshot of a risk manager is damaged: {error!r}") from None
        manager._take_returns(manager._returns)
        return manager

    def _take_returns(self, returns: pd.DataFrame | None) -> None:
        """New rules over the same state; what of the returns and groups is known by now stays known."""
        self._returns = returns
        self._rules = self.limits.compiled(self.symbols, lots=self._lots, returns=returns)
        now = -(2**62) if self._now is None else self._now.as_unit("ns").value
        self._state.counts[RETURN_ROWS] = np.searchsorted(self._rules.returns_known_at, now, side="right")
        self._state.counts[GROUP_ROW] = np.searchsorted(self._rules.groups_known_at, now, side="right") - 1

    def _pass_time(self, at: pd.Timestamp) -> None:
        if at.tzinfo is None or (self._now is not None and at < self._now):
            raise DataError(f"{at} has no zone or comes before {self._now}", hint="mark in the order of time, in UTC")
        self._now = at

    def _number(self, symbol: str) -> int:
        try:
            return self.symbols.index(symbol)
        except ValueError:
            raise ConfigurationError(
                f"symbol {symbol!r} is not one of this account's", hint=f"it has {', '.join(self.symbols)}"
            ) from None

    def _values(self) -> np.ndarray:
        return self._positions * self._prices * self._state.point_value

    def _measured(
        self,
        code: int,
        which: int,
        held: float,
        added: float,
        price: float,
        distance: float,
        values: np.ndarray,
        equity: float,
    ) -> tuple[float | None, float | None]:
        """The bound of a limit and what its value would be with all that was wanted."""
        rules, state = self._rules, self._state
        point = float(state.point_value[which])
        after = values.copy()
        after[which] = (held + added) * price * point
        high, start = float(state.amounts[HIGH_WATER]), float(state.amounts[DAY_START])
        if code in (VALUE_AT_RISK, EXPECTED_SHORTFALL, NO_HISTORY):
            end = int(state.counts[RETURN_ROWS])
            rows = rules.returns[max(end - rules.window, 0) : end]
            held_symbols = after != 0
            losses = -(rows[:, held_symbols] @ after[held_symbols])
            losses = losses[~np.isnan(losses)]
            if code == NO_HISTORY:
                return rules.least, losses.size
            tail = tail_of_losses(losses, rules.confidence)
            share = rules.value_at_risk if code == VALUE_AT_RISK else rules.expected_shortfall
            return share * equity, tail[int(code == EXPECTED_SHORTFALL)]
        grouped = 0.0
        if code == GROUP_EXPOSURE:
            members = rules.groups[state.counts[GROUP_ROW]]
            grouped = float((members[members[:, which]] @ np.abs(after)).max())
        others = int((np.delete(values, which) != 0).sum())
        told: dict[int, tuple[float, float]] = {
            KILL_SWITCH: (rules.drawdown * high, high - equity),
            DAILY_LOSS: (rules.daily_loss * start, start - equity),
            TRADES_PER_DAY: (rules.trades_per_day, int(state.counts[TRADES_TODAY]) + 1),
            OPEN_POSITIONS: (rules.open_positions, others + 1),
            TRADE_RISK: (rules.trade_risk * equity, abs(held + added) * distance * point),
            TRADE_NOTIONAL: (rules.trade_notional * equity, abs(added) * price * point),
            SYMBOL_EXPOSURE: (rules.symbol_exposure * equity, abs(after[which])),
            GROUP_EXPOSURE: (rules.group_exposure * equity, grouped),
            GROSS_LEVERAGE: (rules.gross_leverage * equity, float(np.abs(after).sum())),
            NET_LEVERAGE: (rules.net_leverage * equity, abs(float(after.sum()))),
        }
        return told.get(code, (None, None) if code == NO_STOP else (0.0, equity))


def _latest(limits: RiskLimits, returns: pd.DataFrame | None) -> pd.DataFrame | None:
    """As many rows as a limit looks at."""
    return (
        None
        if returns is None or not limits.needs_returns
        else returns.iloc[-max(limits.window, limits.group_window) :]
    )


def _above_zero(value: float, what: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise DataError(f"{what} = {value} must be above 0 and finite")
    return float(value)


def _told(number: float | None) -> str:
    return "unknown" if number is None else f"{number:.6g}"
