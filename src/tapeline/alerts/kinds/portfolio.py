"""Portfolio alerts: profit of positions, exposure, drawdown, margin, and the distance to a stop.

Values come from a paper or a live account, as snapshots; those of the account as a whole are told to the symbol
``PORTFOLIO`` and to each symbol that is held, so that a rule may combine them with the symbol's own conditions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tapeline.alerts.catalogue import Function, declared
from tapeline.alerts.external import External
from tapeline.alerts.operands import external
from tapeline.core.errors import DataError
from tapeline.core.symbol import Symbol

ACCOUNT: Final = "PORTFOLIO"
"""The symbol that rules of the account as a whole watch."""
MOST_POSITIONS: Final = 10_000


def portfolio_records(snapshot: Mapping[str, Any], *, symbols: Iterable[str] = ()) -> list[External]:
    """The series that an account's snapshot tells.

    Parameters
    ----------
    snapshot:
        ``ts`` (nanoseconds), ``equity`` and ``peak_equity`` in the account's currency (``peak_equity`` absent: the
        equity), optional ``margin_used``, and ``positions``: by symbol ``quantity`` (signed units), ``entry_price``,
        ``price``, optional ``stop`` and ``value_per_point`` (1 where absent).
    symbols:
        Symbols without a position to tell the account's values as well; a position that they had is told to be 0.

    Returns
    -------
    Of the account: ``portfolio:equity``, ``:pnl`` (of open positions), ``:exposure`` and ``:net_exposure`` (sums of
    absolute and of signed market values over equity), ``:drawdown`` (share below the peak, 0 to 1), ``:margin`` (used
    margin over equity). Of a position: ``position:quantity``, ``:pnl``, ``:return`` (over its cost) and
    ``:stop_distance`` (share of the price that is left until the stop, negative beyond it; not known without a stop).

    Raises
    ------
    DataError
        A number is missing, no number, or out of its bounds.

    Examples
    --------
    >>> held = {"quantity": 2, "entry_price": 100, "price": 90, "stop": 81}
    >>> account = {"ts": 0, "equity": 1000, "peak_equity": 1250, "positions": {"BTCUSDT": held}}
    >>> {one.key: one.value for one in portfolio_records(account) if one.symbol == "BTCUSDT"}["position:stop_distance"]
    0.1
    >>> [one.value for one in portfolio_records(account) if one.key == "portfolio:drawdown"]
    [0.2, 0.2]
    """
    if not isinstance(snapshot, Mapping):
        raise DataError(f"a snapshot is a mapping, not {type(snapshot).__name__}")
    ts = snapshot.get("ts")
    if isinstance(ts, bool) or not isinstance(ts, int) or not 0 <= ts < 2**63:
        raise DataError(f"ts = {ts!r} of a snapshot must be nanoseconds since 1970")
    equity = _number(snapshot, "equity", "the account", low=1e-9)
    peak = max(_number(snapshot, "peak_equity", "the account", equity), equity)
    positions = snapshot.get("positions", {})
    if not isinstance(positions, Mapping) or len(positions) > MOST_POSITIONS:
        raise DataError(f"positions of a snapshot must be a mapping of at most {MOST_POSITIONS} symbols")
    found: list[External] = []
    gross = net = profit = 0.0
    held: dict[str, None] = {}
    for name, position in positions.items():
        symbol = str(Symbol.parse(name)) if isinstance(name, str) else ""
        if not symbol or not isinstance(position, Mapping):
            raise DataError(f"the position {name!r} must be a mapping under a symbol")
        values, worth = _position(symbol, position)
        gross, net, profit = gross + abs(worth), net + worth, profit + values["pnl"]
        held[symbol] = None
        found.extend(External(ts, symbol, f"position:{key}", value) for key, value in values.items())
    for symbol in symbols:
        if symbol not in held and symbol != ACCOUNT:
            held[symbol] = None
            none = {"quantity": 0.0, "pnl": 0.0, "return": math.nan, "stop_distance": math.nan}
            found.extend(External(ts, symbol, f"position:{key}", value) for key, value in none.items())
    account = {
        "equity": equity,
        "pnl": profit,
        "exposure": gross / equity,
        "net_exposure": net / equity,
        "drawdown": (peak - equity) / peak,
        "margin": _number(snapshot, "margin_used", "the account", 0.0, low=0.0) / equity,
    }
    for symbol in (ACCOUNT, *held):
        found.extend(External(ts, symbol, f"portfolio:{key}", value) for key, value in account.items())
    return found


def _position(symbol: str, position: Mapping[str, Any]) -> tuple[dict[str, float], float]:
    quantity = _number(position, "quantity", symbol)
    price = _number(position, "price", symbol, low=1e-12)
    entry = _number(position, "entry_price", symbol, low=1e-12)
    worth = _number(position, "value_per_point", symbol, 1.0, low=1e-12)
    stop = math.nan if position.get("stop") is None else _number(position, "stop", symbol, low=1e-12)
    side = math.copysign(1.0, quantity) if quantity else 0.0
    distance = side * (price - stop) / price if side else math.nan
    values = {
        "quantity": quantity,
        "pnl": quantity * (price - entry) * worth,
        "return": side * (price / entry - 1.0) if side else math.nan,
        "stop_distance": distance,
    }
    return values, quantity * price * worth


def _number(
    mapping: Mapping[str, Any], name: str, whose: str, default: float | None = None, *, low: float = -1e300
) -> float:
    value = mapping.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= 1e300:
        raise DataError(f"{name} = {value!r} of {whose} must be a number from {low:g}")
    return float(value)


def _series(name: str, key: str, description: str, example: str) -> Function:
    return Function(name, (), lambda given, _: external(key), description, example)


FUNCTIONS: Final = declared(
    _series("equity", "portfolio:equity", "The account's equity.", "equity < 90000"),
    _series("open_pnl", "portfolio:pnl", "Profit of all open positions.", "open_pnl < -2000"),
    _series("exposure", "portfolio:exposure", "Absolute market values over equity.", "exposure > 150%"),
    _series("net_exposure", "portfolio:net_exposure", "Signed market values over equity.", "net_exposure < -50%"),
    _series("drawdown", "portfolio:drawdown", "Share below the equity's peak.", "crosses_up(drawdown, 10%)"),
    _series("margin", "portfolio:margin", "Used margin over equity.", "margin > 80% for 5m"),
    _series("position", "position:quantity", "Units held, signed.", "position > 0 and rsi > 80"),
    _series("position_pnl", "position:pnl", "Profit of the open position.", "position_pnl < -500"),
    _series(
        "position_return", "position:return", "Profit of the open position over its cost.", "position_return > 10%"
    ),
    _series(
        "stop_distance", "position:stop_distance", "Share of the price left until the stop.", "stop_distance < 0.5%"
    ),
)
RANGES: Final = {
    "portfolio:exposure": (0.0, math.inf),
    "portfolio:equity": (0.0, math.inf),
    "portfolio:drawdown": (0.0, 1.0),
    "portfolio:margin": (0.0, math.inf),
}
