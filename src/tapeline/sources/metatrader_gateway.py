"""Gateways to MetaTrader 5: the calls of its Python package, native on Windows, over a bridge, or from a recording."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np

from tapeline.core.errors import ConfigurationError
from tapeline.core.settings import MetaTraderSettings, NetworkSettings
from tapeline.sources.metatrader_structures import RATES_DTYPE, TIMEFRAMES

__all__ = [
    "CALLS",
    "RATES_DTYPE",
    "TIMEFRAMES",
    "Gateway",
    "NativeGateway",
    "PackageGateway",
    "RecordedGateway",
    "TerminalGateway",
    "import_package",
]

CALLS: Final = frozenset(
    {
        "version",
        "account_info",
        "terminal_info",
        "symbols_total",
        "symbols_get",
        "symbol_info",
        "symbol_info_tick",
        "symbol_select",
        "market_book_add",
        "market_book_get",
        "market_book_release",
        "copy_rates_from",
        "copy_rates_from_pos",
        "copy_rates_range",
        "copy_ticks_from",
        "copy_ticks_range",
        "orders_total",
        "orders_get",
        "positions_total",
        "positions_get",
        "order_calc_margin",
        "order_calc_profit",
        "order_check",
        "order_send",
        "history_orders_total",
        "history_orders_get",
        "history_deals_total",
        "history_deals_get",
    }
)
"""The functions of the package that :meth:`TerminalGateway.call` passes on; a connection's own are not among them."""


NOT_CONNECTED: Final = (-10004, "No IPC connection")


class Gateway(Protocol):
    """The calls of the ``MetaTrader5`` package that are used here, with its arguments and answers.

    ``None`` (or False) means failure, and ``last_error`` tells which.
    """

    def connect(self) -> bool:
        """Start or attach to the terminal and log in; further calls do nothing."""
        ...

    def last_error(self) -> tuple[int, str]:
        """Code and text of the last call; (1, 'Success') when it went well."""
        ...

    def symbol_names(self) -> list[str] | None:
        """The instruments the broker offers."""
        ...

    def select(self, symbol: str) -> bool:
        """Make an instrument ready; False where the broker has none of that name."""
        ...

    def tick_seconds(self, symbol: str) -> float | None:
        """The server time of the newest tick, in seconds; None where there is none."""
        ...

    def copy_rates_range(self, symbol: str, timeframe: int, date_from: int, date_to: int) -> np.ndarray | None:
        """Bars whose open lies in ``[date_from, date_to]``, in seconds of the server's clock, oldest first."""
        ...

    def copy_rates_from(self, symbol: str, timeframe: int, date_from: int, count: int) -> np.ndarray | None:
        """The last ``count`` bars that opened up to ``date_from``, oldest first."""
        ...

    def server(self) -> str:
        """The trade server's name."""
        ...


@runtime_checkable
class TerminalGateway(Gateway, Protocol):
    """A gateway to a terminal that can be asked everything, and that can be left and entered again."""

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """One function of the package, of those in :data:`CALLS`; None means failure."""
        ...

    def disconnect(self) -> None:
        """Leave the terminal; the next ``connect`` enters it again."""
        ...


class PackageGateway:
    """The gateway to anything that has the surface of the ``MetaTrader5`` package.

    The package itself, a simulated terminal and the near end of a bridge are three such things.

    Parameters
    ----------
    load:
        Gives the package; called at each connection, and may raise what the connection fails with.
    """

    def __init__(self, settings: MetaTraderSettings, network: NetworkSettings, load: Callable[[], Any]) -> None:
        self._settings = settings
        self._timeout = int(network.timeout_seconds * 1000)
        self._load = load
        self._package: Any = None

    def connect(self) -> bool:
        """Load the package, start the terminal, log in."""
        if self._package is not None and not isinstance(self._package, _Refused):
            return True
        package = self._load()
        settings = self._settings
        options: dict[str, Any] = {"timeout": self._timeout}
        if settings.login is not None:
            options["login"] = settings.login
        if settings.password is not None:
            options["password"] = settings.password.get_secret_value()
        if settings.server is not None:
            options["server"] = settings.server
        self._package = package
        if package.initialize(*([settings.path] if settings.path else []), **options):
            return True
        error = package.last_error()
        self._package = _Refused(error)
        return False

    def disconnect(self) -> None:
        """``shutdown``; nothing where there is no connection."""
        package, self._package = self._package, None
        if package is not None and not isinstance(package, _Refused):
            package.shutdown()

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """The package's function of that name.

        Raises
        ------
        ConfigurationError
            The name is none of :data:`CALLS`.
        """
        if name not in CALLS:
            raise ConfigurationError(f"the call {name!r} is not one of the terminal's", hint=", ".join(sorted(CALLS)))
        if self._package is None or isinstance(self._package, _Refused):
            return None
        return getattr(self._package, name)(*arguments, **options)

    def last_error(self) -> tuple[int, str]:
        """The package's last error; after a refused connection, that refusal, once."""
        if self._package is None:
            return NOT_CONNECTED
        error = self._package.last_error()
        if isinstance(self._package, _Refused):
            self._package = None
        return int(error[0]), str(error[1])

    def symbol_names(self) -> list[str] | None:
        """Names from ``symbols_get``."""
        found = self._package.symbols_get()
        return None if found is None else [symbol.name for symbol in found]

    def select(self, symbol: str) -> bool:
        """``symbol_select``: puts the instrument into the market watch, without which it has no history."""
        return bool(self._package.symbol_select(symbol, True))

    def tick_seconds(self, symbol: str) -> float | None:
        """``time_msc`` of ``symbol_info_tick``."""
        tick = self._package.symbol_info_tick(symbol)
        return None if tick is None or not tick.time else tick.time_msc / 1000

    def copy_rates_range(self, symbol: str, timeframe: int, date_from: int, date_to: int) -> np.ndarray | None:
        """The package's call; integers, because it shifts naive datetimes by the local zone."""
        return self._package.copy_rates_range(symbol, timeframe, date_from, date_to)

    def copy_rates_from(self, symbol: str, timeframe: int, date_from: int, count: int) -> np.ndarray | None:
        """The package's call."""
        return self._package.copy_rates_from(symbol, timeframe, date_from, count)

    def server(self) -> str:
        """``account_info().server``, or what the settings name."""
        account = self._package.account_info()
        return self._settings.server or "unknown" if account is None else str(account.server)


class NativeGateway(PackageGateway):
    """The gateway to a terminal on this machine, through the ``MetaTrader5`` package (Windows only).

    The package is imported at the first connection, which raises ConfigurationError where this is not Windows or the
    package is not installed.
    """

    def __init__(self, settings: MetaTraderSettings, network: NetworkSettings) -> None:
        super().__init__(settings, network, import_package)


class _Refused:
    """Remembers why the terminal refused, because ``shutdown`` and the next try would forget it."""

    def __init__(self, error: tuple[int, str]) -> None:
        self._error = error

    def last_error(self) -> tuple[int, str]:
        return self._error


class RecordedGateway:
    """A gateway over rates that were recorded before, with the terminal's rules for ranges.

    Parameters
    ----------
    rates:
        Structured arrays of exactly :data:`RATES_DTYPE`, by symbol and timeframe name, sorted by time.
    tick_times:
        Server time of the newest tick by symbol, in seconds.

    Raises
    ------
    ConfigurationError
        An array of another dtype: signed volumes or other widths would hide what the terminal really sends.
    """

    def __init__(
        self,
        rates: Mapping[tuple[str, str], np.ndarray],
        *,
        tick_times: Mapping[str, float] | None = None,
        server: str = "recorded",
    ) -> None:
        for key, array in rates.items():
            if array.dtype != RATES_DTYPE:
                raise ConfigurationError(
                    f"recorded rates of {key} have the dtype {array.dtype}, expected {RATES_DTYPE}"
                )
        self._rates = {(symbol, TIMEFRAMES[timeframe]): array for (symbol, timeframe), array in rates.items()}
        self._ticks = dict(tick_times or {})
        self._server = server

    def connect(self) -> bool:
        """Nothing to start."""
        return bool(self._rates)

    def last_error(self) -> tuple[int, str]:
        """What the terminal says of an instrument without history; of no recording at all, that it is not connected."""
        return (-4, "Terminal: Not found") if self._rates else NOT_CONNECTED

    def symbol_names(self) -> list[str] | None:
        """The recorded instruments."""
        return sorted({symbol for symbol, _ in self._rates})

    def select(self, symbol: str) -> bool:
        """True for a recorded instrument."""
        return any(name == symbol for name, _ in self._rates)

    def tick_seconds(self, symbol: str) -> float | None:
        """The recorded tick's time."""
        return self._ticks.get(symbol)

    def copy_rates_range(self, symbol: str, timeframe: int, date_from: int, date_to: int) -> np.ndarray | None:
        """Both bounds inclusive, as in the terminal."""
        array = self._rates.get((symbol, timeframe))
        return None if array is None else array[(array["time"] >= date_from) & (array["time"] <= date_to)]

    def copy_rates_from(self, symbol: str, timeframe: int, date_from: int, count: int) -> np.ndarray | None:
        """Up to and with ``date_from``, counted backwards."""
        array = self._rates.get((symbol, timeframe))
        return None if array is None else array[array["time"] <= date_from][-count:]

    def server(self) -> str:
        """The name given to the recording."""
        return self._server


def import_package() -> Any:
    """The ``MetaTrader5`` package; ConfigurationError with the way out where there is none."""
    try:
        import MetaTrader5
    except ImportError as error:
        if sys.platform != "win32":
            raise ConfigurationError(
                f"the MetaTrader5 package runs on Windows only, this is {sys.platform}",
                hint="run on the terminal's machine, set metatrader.bridge, or export bars and use the files source",
            ) from error
        raise ConfigurationError(
            "the package 'MetaTrader5' is not installed", hint="pip install MetaTrader5"
        ) from error
    return MetaTrader5
