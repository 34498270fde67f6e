"""Limits of risk as a settings file holds them, and the groups of symbols that move together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.symbol import Symbol
from tapeline.strategy.risk_kernels import RiskRules, no_limits

Share = Annotated[float, Field(gt=0, le=1)]
Multiple = Annotated[float, Field(gt=0, le=1000)]
_SAME_NAMES: Final = (
    "symbol_exposure",
    "group_exposure",
    "gross_leverage",
    "net_leverage",
    "open_positions",
    "trades_per_day",
    "daily_loss",
    "drawdown",
    "value_at_risk",
    "expected_shortfall",
)


class RiskLimits(BaseModel):
    """What an account may risk, checked once; a limit that is absent is none. Shares and multiples are of equity.

    Parameters
    ----------
    risk_per_trade:
        Loss of the whole position if its stop is hit: quantity times stop distance times point value. With it, a trade
        without a stop is refused.
    notional_per_trade:
        Value that one order adds.
    symbol_exposure:
        Value of the position in one symbol.
    group_exposure:
        Sum of absolute values of the positions in a group, of ``groups`` and of those that ``group_correlation`` finds.
    gross_leverage, net_leverage:
        Sum of absolute values, and absolute value of the sum.
    open_positions, trades_per_day:
        Numbers; days are UTC's, and a trade begins when a position is opened or turned.
    daily_loss:
        Realised and open, since the last equity of the day before; then no new risk until the next day.
    drawdown:
        From the highest equity; then ``on_drawdown``: ``close`` every position or ``hold`` them, and no new risk until
        the kill switch is reset by hand.
    value_at_risk, expected_shortfall:
        Of the whole book, after the trade, over one period of the returns given, at ``confidence``, by historical
        simulation over the last ``window`` periods; refused with fewer than ``least_history``.
    groups:
        Symbols by the group's name; a symbol may be in several.
    group_correlation:
        Symbols whose returns over the last ``group_window`` periods correlate so much, in either direction, are one
        group, and so are those joined by a chain of such.

    Examples
    --------
    >>> limits = RiskLimits(risk_per_trade=0.01, gross_leverage=2, groups={"dollar": ("EURUSD", "GBPUSD")},
    ...                     group_exposure=1.5)
    >>> rules = limits.compiled(("EURUSD", "GBPUSD", "XAUUSD"))
    >>> rules.gross_leverage, rules.groups[0].astype(int).tolist()
    (2.0, [[1, 1, 0]])
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    risk_per_trade: Share | None = None
    notional_per_trade: Multiple | None = None
    symbol_exposure: Multiple | None = None
    group_exposure: Multiple | None = None
    gross_leverage: Multiple | None = None
    net_leverage: Multiple | None = None
    open_positions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    trades_per_day: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    daily_loss: Share | None = None
    drawdown: Share | None = None
    on_drawdown: Literal["close", "hold"] = "close"
    value_at_risk: Share | None = None
    expected_shortfall: Share | None = None
    confidence: float = Field(0.99, gt=0.5, lt=1)
    window: int = Field(500, ge=20, le=100_000)
    least_history: int = Field(100, ge=20, le=100_000)
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict, max_length=1000)
    group_correlation: Share | None = None
    group_window: int = Field(250, ge=20, le=100_000)

    @model_validator(mode="after")
    def _complete(self) -> RiskLimits:
        grouped = bool(self.groups) or self.group_correlation is not None
        if grouped != (self.group_exposure is not None):
            raise ValueError("group_exposure and groups (or group_correlation) stand together or not at all")
        for name, members in self.groups.items():
            for member in members:
                Symbol.parse(member)
            if len(set(members)) != len(members) or not members:
                raise ValueError(f"group {name!r} is empty or names a symbol twice")
        if self.least_history > self.window:
            raise ValueError(f"least_history = {self.least_history} is above window = {self.window}")
        return self

    @property
    def needs_returns(self) -> bool:
        """Whether a limit looks at past returns."""
        return any(each is not None for each in (self.value_at_risk, self.expected_shortfall, self.group_correlation))

    def compiled(
        self,
        symbols: Sequence[str],
        *,
        lots: Mapping[str, float] | None = None,
        point_values: Mapping[str, float] | None = None,
        returns: pd.DataFrame | None = None,
    ) -> RiskRules:
        """What kernels take.

        Parameters
        ----------
        symbols:
            In the engine's order.
        lots:
            Smallest step of a quantity, where there is one.
        point_values:
            Money of the account for one unit and one point of price, where it is not 1: contract size times the rate
            of the quote currency.
        returns:
            Of each symbol, a column each, indexed by when each row was known (of bars: ``close_ts``). Limits use the
            rows known at each instant and no later one.

        Raises
        ------
        ConfigurationError
            A group names a symbol that is not traded, or a limit needs returns and none are given.
        DataError
            Returns lack a symbol, hold an infinity, or their times are none or decrease.
        """
        names = [str(Symbol.parse(symbol)) for symbol in symbols]
        if not names or len(set(names)) != len(names):
            raise ConfigurationError(f"symbols {names} must be at least one and different")
        strange = sorted({member for members in self.groups.values() for member in members} - set(names))
        if strange:
            raise ConfigurationError(
                f"groups name {strange}, which is not traded", hint=f"traded are {', '.join(names)}"
            )
        if self.needs_returns and returns is None:
            raise ConfigurationError(
                "value_at_risk, expected_shortfall and group_correlation need past returns",
                hint="give returns=, a column a symbol, indexed by when each was known",
            )
        blank = no_limits(len(names))
        history, known_at = blank.returns, blank.returns_known_at
        if returns is not None and self.needs_returns:
            history, known_at = _history(returns, names)
        groups, groups_known_at = self._membership(names, history, known_at)
        return blank._replace(
            **{name: _bound(getattr(self, name)) for name in _SAME_NAMES},
            trade_risk=_bound(self.risk_per_trade),
            trade_notional=_bound(self.notional_per_trade),
            close_all=self.on_drawdown == "close",
            confidence=self.confidence,
            window=self.window,
            least=self.least_history,
            lot=_by_symbol(lots, names, 0.0, "lots"),
            point_value=_by_symbol(point_values, names, 1.0, "point_values"),
            groups=groups,
            groups_known_at=groups_known_at,
            returns=history,
            returns_known_at=known_at,
        )

    def _membership(
        self, names: list[str], history: NDArray[np.float64], known_at: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        declared = np.array(
            [[name in members for name in names] for members in self.groups.values()], np.bool_
        ).reshape(len(self.groups), len(names))
        beginning = np.array([np.iinfo(np.int64).min])
        if self.group_correlation is None:
            return declared[None], beginning
        labels = _groups(history, float(self.group_correlation), self.group_window)
        # Before the first row nothing is known of any pair: all are one group, as after it where a pair is unknown.
        labels = np.vstack([np.zeros((1, len(names)), np.int64), labels])
        found = labels[:, None, :] == np.arange(len(names))[None, :, None]
        changed = np.r_[True, (labels[1:] != labels[:-1]).any(axis=1)]
        both = np.concatenate([np.broadcast_to(declared, (len(labels), *declared.shape)), found], axis=1)
        return np.ascontiguousarray(both[changed]), np.concatenate([beginning, known_at])[changed]


def parse_risk_limits(values: Mapping[str, Any]) -> RiskLimits:
    """Read limits from a file's table.

    Raises
    ------
    ConfigurationError
        A name is unknown, or a value out of its bounds.

    Examples
    --------
    >>> parse_risk_limits({"daily_loss": 0.03, "drawdown": 0.2}).on_drawdown
    'close'
    """
    try:
        return RiskLimits.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "limits"
        value = f" = {first['input']!r}" if first["loc"] else ""
        raise ConfigurationError(f"risk '{place}'{value}: {first['msg']}", hint="see docs/risk.md") from None


def correlated_groups(returns: pd.DataFrame, threshold: float, *, window: int = 250) -> pd.DataFrame:
    """Which symbols move together, at each row from the returns up to it.

    Two symbols whose correlation over the last ``window`` rows is at least ``threshold``, in either direction, are
    joined; a group is whatever a chain of such pairs joins (single linkage). A pair with less than half a window of
    common returns, or of which one did not move, is joined too: what is unknown counts as one risk.

    Parameters
    ----------
    returns:
        A column a symbol; NaN where a symbol did not trade.
    threshold:
        Above 0, at most 1.
    window:
        Rows, at least 4.

    Returns
    -------
    Of the same shape: the group's number, that of its first column.

    Examples
    --------
    >>> returns = pd.DataFrame({"A": [1, -1, 2, -2.0], "B": [1, 1, -1, -1.0], "C": [-1, 1, -2, 3.0]})
    >>> correlated_groups(returns, 0.9, window=4).iloc[-1].tolist()
    [0, 1, 0]
    """
    if not 0 < threshold <= 1:
        raise ConfigurationError(f"threshold = {threshold} must be above 0 and at most 1")
    if window < 4:
        raise ConfigurationError(f"window = {window} must be at least 4")
    labels = _groups(np.array(returns, np.float64, order="C"), float(threshold), window)
    return pd.DataFrame(labels, returns.index, returns.columns)


@njit(cache=True, nogil=True)
def _groups(returns: Any, threshold: Any, window: Any) -> Any:
    rows, symbols = returns.shape
    labels = np.empty((rows, symbols), np.int64)
    for row in range(rows):
        begin = max(row - window + 1, 0)
        for symbol in range(symbols):
            labels[row, symbol] = symbol
        for one in range(symbols):
            for other in range(one + 1, symbols):
                if labels[row, one] == labels[row, other]:
                    continue
                # Sums over the window each time: running sums would make a row depend on where the history began.
                count, x, y, xx, yy, xy = 0, 0.0, 0.0, 0.0, 0.0, 0.0
                for at in range(begin, row + 1):
                    a, b = returns[at, one], returns[at, other]
                    if a == a and b == b:
                        count += 1
                        x, y, xx, yy, xy = x + a, y + b, xx + a * a, yy + b * b, xy + a * b
                joined = 2 * count < window
                if not joined:
                    spread_one, spread_other = xx - x * x / count, yy - y * y / count
                    tiny = 1e-14
                    joined = spread_one <= tiny * xx or spread_other <= tiny * yy
                    if not joined:
                        joined = abs(xy - x * y / count) / math.sqrt(spread_one * spread_other) >= threshold
                if joined:
                    low = min(labels[row, one], labels[row, other])
                    high = max(labels[row, one], labels[row, other])
                    for symbol in range(symbols):
                        if labels[row, symbol] == high:
                            labels[row, symbol] = low
    return labels


def _bound(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _by_symbol(values: Mapping[str, float] | None, names: list[str], default: float, what: str) -> NDArray[np.float64]:
    given = dict(values or {})
    strange = sorted(set(given) - set(names))
    if strange:
        raise ConfigurationError(f"{what} names {strange}, which is not traded", hint=f"traded are {', '.join(names)}")
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigurationError(f"{what}[{name!r}] = {value} must be above 0 and finite")
    return np.array([given.get(name, default) for name in names], np.float64)


def _history(returns: pd.DataFrame, names: list[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    missing = sorted(set(names) - set(returns.columns))
    if missing:
        raise DataError(f"returns lack {missing}", hint="give a column a symbol")
    if not isinstance(returns.index, pd.DatetimeIndex) or returns.index.tz is None:
        raise DataError("returns must be indexed by UTC times at which they were known")
    known_at = returns.index.as_unit("ns").asi8
    if (np.diff(known_at) < 0).any():
        raise DataError("the times at which returns were known decrease", hint="sort them first")
    values = np.array(returns[names], np.float64, order="C")
    if np.isinf(values).any():
        raise DataError("returns hold an infinity")
    return values, np.asarray(known_at, np.int64)
