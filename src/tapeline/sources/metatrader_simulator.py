"""A simulated MetaTrader 5 terminal with the surface of its Python package: for tests, rehearsals and recordings.

It takes the arguments, gives the answers and refuses as the package does: None and ``last_error`` instead of
exceptions, structured arrays of the package's types, a server clock written as if it were UTC. Prices come from ticks
that were loaded; ``advance`` moves its clock and lets them arrive.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from tapeline.core.errors import ConfigurationError
from tapeline.sources.metatrader_account import SimulatedAccount
from tapeline.sources.metatrader_structures import (
    RATES_DTYPE,
    TICKS_DTYPE,
    TIMEFRAMES,
    OrderCheckResult,
    OrderSendResult,
    TerminalInfo,
    Tick,
    TradeRequest,
)

SUCCESS: Final = (1, "Success")
_TEXTS: Final = frozenset({"symbol", "comment"})
_REALS: Final = frozenset({"volume", "price", "stoplimit", "sl", "tp"})
_MAXIMUM_COMMENT: Final = 31
_COMMENTS: Final = {0: "Done", 10008: "Request executed", 10009: "Request executed", 10019: "No money"}


class SimulatedTerminal:
    """A terminal, its account and its broker.

    Parameters
    ----------
    symbols:
        What the broker offers, as :class:`~tapeline.sources.metatrader_structures.SymbolInfo`.
    account:
        How the account begins.
    password:
        What ``initialize`` and ``login`` must give; None takes anything.
    trade_allowed:
        Whether algorithmic trading is switched on in the terminal.

    Raises
    ------
    ConfigurationError
        A loaded array of another dtype than the terminal's: signed volumes would hide what it really sends.
    """

    def __init__(
        self, symbols: Iterable[Any], account: Any, *, password: str | None = None, trade_allowed: bool = True
    ) -> None:
        self._symbols = {symbol.name: symbol for symbol in symbols}
        self._selected: set[str] = set()
        self._ticks: dict[str, Any] = {}
        self._tape: dict[str, np.ndarray] = {}
        self._rates: dict[tuple[str, int], np.ndarray] = {}
        self._server, self._login, self._password = str(account.server), int(account.login), password
        self._trade_allowed = trade_allowed
        self._connected = False
        self._error = SUCCESS
        self._faults: list[tuple[int, str]] = []
        self.account = SimulatedAccount(account, self._symbols, self._ticks)
        self.calls: list[str] = []

    # -- what a test or a rehearsal does to it -----------------------------------------------------------------

    def load_rates(self, symbol: str, timeframe: str, rates: np.ndarray) -> None:
        """Give it bars, oldest first."""
        self._rates[symbol, TIMEFRAMES[timeframe]] = _exactly(rates, RATES_DTYPE, symbol)

    def load_ticks(self, symbol: str, ticks: np.ndarray) -> None:
        """Give it ticks to come, or more of them; they arrive as its clock passes ``time_msc``."""
        held = self._tape.get(symbol, np.empty(0, dtype=TICKS_DTYPE))
        tape = np.concatenate([held, _exactly(ticks, TICKS_DTYPE, symbol)])
        self._tape[symbol] = tape[np.argsort(tape["time_msc"], kind="stable")]

    def advance(self, time_msc: int) -> None:
        """Move its clock; the ticks up to then arrive in the order of their times."""
        arriving = [
            (int(row["time_msc"]), symbol, row)
            for symbol, tape in self._tape.items()
            for row in tape[(tape["time_msc"] > self.account.now) & (tape["time_msc"] <= time_msc)]
        ]
        for stamp, symbol, row in sorted(arriving, key=lambda item: item[0]):
            self.account.now = stamp
            self._ticks[symbol] = Tick(**{name: row[name].item() for name in Tick._fields})
            info = self._symbols[symbol]
            self._symbols[symbol] = info._replace(
                bid=float(row["bid"]),
                ask=float(row["ask"]),
                time=int(row["time"]),
                spread=round((row["ask"] - row["bid"]) / info.point),
            )
            self.account.on_tick(symbol)
        self.account.now = time_msc

    def fail(self, code: int, text: str = "simulated", times: int = 1) -> None:
        """Let the next calls fail with this code; a code of the connection ends it."""
        self._faults += [(code, text)] * times

    # -- the package -------------------------------------------------------------------------------------------

    def initialize(self, path: str = "", **options: Any) -> bool:
        """Start and log in."""
        if self._take_fault("initialize"):
            return False
        wrong_login = options.get("login") not in (None, self._login)
        wrong_server = options.get("server") not in (None, self._server)
        wrong_password = self._password is not None and options.get("password") != self._password
        if wrong_login or wrong_server or wrong_password:
            return bool(self._fail(-6, "Terminal: Authorization failed"))
        self._connected = True
        return True

    def login(self, login: int, password: str = "", server: str = "", timeout: int = 60_000) -> bool:
        """Change the account; here there is one."""
        return self.initialize(login=login, password=password, server=server or self._server)

    def shutdown(self) -> None:
        """Leave."""
        self._connected = False

    def last_error(self) -> tuple[int, str]:
        """Code and text of the last call."""
        return self._error

    def version(self) -> Any:
        """The terminal's version."""
        return (500, 5000, "21 Nov 2025") if self._ready("version") else None

    def account_info(self) -> Any:
        """The account at the newest prices."""
        return self.account.info() if self._ready("account_info") else None

    def terminal_info(self) -> Any:
        """The terminal; ``maxbars`` 100,000."""
        if not self._ready("terminal_info"):
            return None
        blank = dict.fromkeys(TerminalInfo._fields, 0)
        given = {"connected": True, "trade_allowed": self._trade_allowed, "maxbars": 100_000, "name": "simulated"}
        return TerminalInfo(**{**blank, **given})

    def symbols_total(self) -> Any:
        """How many instruments there are."""
        return len(self._symbols) if self._ready("symbols_total") else None

    def symbols_get(self, *, group: str = "*") -> Any:
        """Those whose names fit the patterns; ``!`` excludes."""
        return _grouped(self._symbols.values(), group, "name") if self._ready("symbols_get") else None

    def symbol_info(self, symbol: str, /) -> Any:
        """One instrument; None where there is none of that name."""
        if not self._ready("symbol_info"):
            return None
        return self._symbols.get(symbol) or self._fail(-4, "Terminal: Not found")

    def symbol_select(self, symbol: str, enable: bool = True, /) -> bool:
        """Put an instrument into the market watch, or take it out."""
        if not self._ready("symbol_select") or symbol not in self._symbols:
            return bool(self._connected and self._fail(-4, "Terminal: Not found"))
        (self._selected.add if enable else self._selected.discard)(symbol)
        return True

    def symbol_info_tick(self, symbol: str, /) -> Any:
        """The newest tick of an instrument in the market watch."""
        if not self._ready("symbol_info_tick"):
            return None
        tick = self._ticks.get(symbol) if symbol in self._selected else None
        return tick or self._fail(-4, "Terminal: Not found")

    def copy_rates_range(self, symbol: str, timeframe: int, date_from: Any, date_to: Any, /) -> Any:
        """Bars whose open lies in the range, both bounds inclusive."""
        rates = self._bars("copy_rates_range", symbol, timeframe)
        if rates is None:
            return None
        return rates[(rates["time"] >= _seconds(date_from)) & (rates["time"] <= _seconds(date_to))]

    def copy_rates_from(self, symbol: str, timeframe: int, date_from: Any, count: int, /) -> Any:
        """The last bars that opened up to a time."""
        rates = self._bars("copy_rates_from", symbol, timeframe)
        return None if rates is None else rates[rates["time"] <= _seconds(date_from)][-count:]

    def copy_rates_from_pos(self, symbol: str, timeframe: int, start: int, count: int, /) -> Any:
        """Bars counted from the newest, 0, which is unfinished."""
        rates = self._bars("copy_rates_from_pos", symbol, timeframe)
        if rates is None:
            return None
        end = len(rates) - start
        return rates[max(0, end - count) : max(0, end)]

    def copy_ticks_from(self, symbol: str, date_from: Any, count: int, flags: int, /) -> Any:
        """The first ticks from a time on."""
        ticks = self._arrived("copy_ticks_from", symbol)
        return None if ticks is None else ticks[ticks["time_msc"] >= _seconds(date_from) * 1000][:count]

    def copy_ticks_range(self, symbol: str, date_from: Any, date_to: Any, flags: int, /) -> Any:
        """Ticks in a range of seconds, both bounds inclusive."""
        ticks = self._arrived("copy_ticks_range", symbol)
        if ticks is None:
            return None
        first, last = _seconds(date_from) * 1000, _seconds(date_to) * 1000
        return ticks[(ticks["time_msc"] >= first) & (ticks["time_msc"] <= last)]

    def positions_total(self) -> Any:
        """How many positions are open."""
        return len(self.account.positions) if self._ready("positions_total") else None

    def positions_get(self, **filters: Any) -> Any:
        """Open positions, by symbol, group or ticket."""
        return _filtered(self.account.positions.values(), filters) if self._ready("positions_get") else None

    def orders_total(self) -> Any:
        """How many orders wait."""
        return len(self.account.orders) if self._ready("orders_total") else None

    def orders_get(self, **filters: Any) -> Any:
        """Waiting orders, by symbol, group or ticket."""
        return _filtered(self.account.orders.values(), filters) if self._ready("orders_get") else None

    def history_deals_get(self, date_from: Any = 0, date_to: Any = 2**40, /, **filters: Any) -> Any:
        """Past deals in a range of seconds, or by order ticket or position."""
        if not self._ready("history_deals_get"):
            return None
        bounds = _seconds(date_from), _seconds(date_to)
        found = [deal for deal in self.account.deals if bounds[0] <= deal.time <= bounds[1]]
        names = {"ticket": "order", "position": "position_id"}
        return _filtered(found, {names.get(name, name): value for name, value in filters.items()})

    def history_orders_get(self, date_from: Any = 0, date_to: Any = 2**40, /, **filters: Any) -> Any:
        """Past orders in a range of seconds, or by ticket or position."""
        if not self._ready("history_orders_get"):
            return None
        bounds = _seconds(date_from), _seconds(date_to)
        found = [order for order in self.account.past_orders if bounds[0] <= order.time_setup <= bounds[1]]
        return _filtered(found, {"position_id" if k == "position" else k: value for k, value in filters.items()})

    def order_calc_margin(self, action: int, symbol: str, volume: float, price: float, /) -> Any:
        """Margin of a trade in account currency."""
        if not self._ready("order_calc_margin") or symbol not in self._symbols:
            return None
        return self.account.margin_of(symbol, action, volume, price)

    def order_calc_profit(self, action: int, symbol: str, volume: float, opened: float, closed: float, /) -> Any:
        """Profit of a trade in account currency."""
        if not self._ready("order_calc_profit") or symbol not in self._symbols:
            return None
        return self.account.profit_of(symbol, action, volume, opened, closed)

    def order_check(self, request: Mapping[str, Any], /) -> Any:
        """What would become of a request; nothing is executed."""
        asked = self._parsed("order_check", request)
        if asked is None:
            return None
        code, after = self.account.check(asked)
        numbers = (after.balance, after.equity, after.profit, after.margin, after.margin_free, after.margin_level)
        return OrderCheckResult(code, *numbers, _comment(code), asked)

    def order_send(self, request: Mapping[str, Any], /) -> Any:
        """Execute a request."""
        asked = self._parsed("order_send", request)
        if asked is None:
            return None
        if not self._trade_allowed:
            return OrderSendResult(10027, 0, 0, 0.0, 0.0, 0.0, 0.0, "AutoTrading disabled by client", 0, 0, asked)
        code, deal, order, volume, price = self.account.send(asked)
        tick = self._ticks.get(asked.symbol)
        bid, ask = (tick.bid, tick.ask) if tick else (0.0, 0.0)
        return OrderSendResult(code, deal, order, volume, price, bid, ask, _comment(code), order, 0, asked)

    # -- inside ------------------------------------------------------------------------------------------------

    def _ready(self, call: str) -> bool:
        if self._take_fault(call):
            return False
        if not self._connected:
            return bool(self._fail(-10004, "No IPC connection"))
        self._error = SUCCESS
        return True

    def _take_fault(self, call: str) -> bool:
        self.calls.append(call)
        if not self._faults:
            self._error = SUCCESS
            return False
        self._error = self._faults.pop(0)
        if self._error[0] <= -10000:
            self._connected = False
        return True

    def _fail(self, code: int, text: str) -> Any:
        self._error = (code, text)
        return None

    def _bars(self, call: str, symbol: str, timeframe: int) -> np.ndarray | None:
        if not self._ready(call):
            return None
        rates = self._rates.get((symbol, timeframe))
        return self._fail(-4, "Terminal: Not found") if rates is None else rates

    def _arrived(self, call: str, symbol: str) -> np.ndarray | None:
        if not self._ready(call):
            return None
        tape = self._tape.get(symbol)
        if tape is None or symbol not in self._selected:
            return self._fail(-4, "Terminal: Not found")
        return tape[tape["time_msc"] <= self.account.now]

    def _parsed(self, call: str, request: Mapping[str, Any]) -> Any:
        """The request as the terminal reads it; None with -2 for a key or a value of a wrong type."""
        if not self._ready(call):
            return None
        fields: dict[str, Any] = {}
        for name in TradeRequest._fields:
            value = request.get(name, "" if name in _TEXTS else 0.0 if name in _REALS else 0)
            wanted = str if name in _TEXTS else (int, float) if name in _REALS else int
            if not isinstance(value, wanted) or isinstance(value, bool):
                return self._fail(-2, f'Invalid "{name}" argument')
            fields[name] = value
        if set(request) - set(TradeRequest._fields) or len(fields["comment"]) > _MAXIMUM_COMMENT:
            wrong = next(iter(set(request) - set(TradeRequest._fields)), "comment")
            return self._fail(-2, f'Invalid "{wrong}" argument')
        return TradeRequest(**fields)


def _exactly(array: np.ndarray, dtype: np.dtype, symbol: str) -> np.ndarray:
    if array.dtype != dtype:
        raise ConfigurationError(f"the array of {symbol} has the dtype {array.dtype}, expected {dtype}")
    return array


def _seconds(moment: Any) -> int:
    return int(moment.timestamp()) if hasattr(moment, "timestamp") else int(moment)


def _comment(code: int) -> str:
    return _COMMENTS.get(code, f"code {code}")


def _grouped(items: Iterable[Any], group: str, field: str) -> tuple[Any, ...]:
    patterns = [part.strip() for part in group.split(",")]
    wanted = [part for part in patterns if not part.startswith("!")]
    unwanted = [part[1:] for part in patterns if part.startswith("!")]
    return tuple(
        item
        for item in items
        if any(fnmatch.fnmatchcase(getattr(item, field), part) for part in wanted)
        and not any(fnmatch.fnmatchcase(getattr(item, field), part) for part in unwanted)
    )


def _filtered(items: Iterable[Any], filters: Mapping[str, Any]) -> tuple[Any, ...]:
    found: Iterable[Any] = items
    if "group" in filters:
        found = _grouped(found, filters["group"], "symbol")
    rest = {name: value for name, value in filters.items() if name != "group"}
    return tuple(item for item in found if all(getattr(item, name) == value for name, value in rest.items()))
