"""MetaTrader 5: bars from a terminal, behind a small gateway so that a recording can stand in for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, ProviderError, TapelineError
from tapeline.core.settings import MetaTraderSettings, NetworkSettings
from tapeline.core.symbol import Symbol
from tapeline.sources.base import BarRequest, Clock, Data, Empty, Failed, Outcome, VolumeKind, unknown_symbol, utc_now
from tapeline.sources.broker_clock import (
    BrokerClock,
    NewYorkClose,
    agrees,
    choose_clock,
    expected_clock,
    measured_offset_hours,
)
from tapeline.sources.frame import as_record, cut, epoch_nanoseconds, make_bars, make_rejected
from tapeline.sources.metatrader_errors import error_for
from tapeline.sources.retry import Retry

RATES_DTYPE: Final = np.dtype(
    [
        ("time", "<i8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("tick_volume", "<u8"),
        ("spread", "<i4"),
        ("real_volume", "<u8"),
    ]
)
"""What ``copy_rates_*`` return: ``time`` in seconds of the SERVER's clock, the two volumes unsigned."""

TIMEFRAMES: Final[Mapping[str, int]] = {
    **{f"M{n}": n for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)},
    **{f"H{n}": n | 0x4000 for n in (1, 2, 3, 4, 6, 8, 12)},
    "D1": 24 | 0x4000,
    "W1": 1 | 0x8000,
}
"""MetaQuotes' ``TIMEFRAME_*`` constants."""

LATEST_BARS: Final = 10_000
WINDOW_BARS: Final = 50_000
MAXIMUM_WINDOWS: Final = 1000
TICK_WAITS: Final = 10


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


class NativeGateway:
    """The gateway to a terminal on this machine, through the ``MetaTrader5`` package (Windows only).

    The package is imported at the first call.
    """

    def __init__(self, settings: MetaTraderSettings, network: NetworkSettings) -> None:
        self._settings = settings
        self._timeout = int(network.timeout_seconds * 1000)
        self._package: Any = None

    def connect(self) -> bool:
        """Import the package, start the terminal, log in.

        Raises
        ------
        ConfigurationError
            This is not Windows, or the package is not installed.
        """
        if self._package is not None:
            return True
        package = _import_package()
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

    def last_error(self) -> tuple[int, str]:
        """The package's last error; after a refused connection, that refusal, once."""
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
        return (-4, "Terminal: Not found") if self._rates else (-10004, "No IPC connection")

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


class MetaTraderSource:
    """Bars of a MetaTrader 5 terminal, in UTC.

    ``ts`` is the true open of a bar: a daily bar of a New York close server opens at 21:00 or 22:00 UTC of the day
    before its date. ``volume`` is the real volume where the broker reports any, else the count of price changes;
    ``tick_count`` and ``spread`` (in points) are as served.

    Parameters
    ----------
    settings:
        ``utc_offset_hours`` fixes the broker's offset; without it the server is taken to keep New York time plus seven
        hours, which is checked against the newest tick where that is fresh.
    """

    name = "mt5"

    def __init__(
        self,
        gateway: Gateway,
        settings: MetaTraderSettings,
        *,
        network: NetworkSettings | None = None,
        clock: Clock = utc_now,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gateway = gateway
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._retry = Retry.of(network or NetworkSettings(), sleep)

    def symbols(self) -> list[Symbol]:
        """The broker's instruments whose names are valid symbols."""
        self._connect()
        names = self._gateway.symbol_names()
        if names is None:
            raise error_for(self._gateway.last_error(), "symbols_get")
        found = []
        for name in names:
            try:
                found.append(Symbol.parse(name))
            except ConfigurationError:
                continue  # brokers also list names that could not safely name a folder
        return sorted(found)

    def fetch(self, request: BarRequest) -> Outcome:
        """Fetch one range; a code of the terminal is ``Failed`` with the exception of its name."""
        return self._retry.run(lambda: self._fetch(request), _classify)

    def _fetch(self, request: BarRequest) -> Outcome:
        timeframe = TIMEFRAMES.get(request.timeframe.name)
        if timeframe is None:
            raise ConfigurationError(
                f"MetaTrader 5 has no {request.timeframe} bars", hint=f"it has {', '.join(TIMEFRAMES)}"
            )
        self._connect()
        if not self._gateway.select(str(request.symbol)):
            names = self._gateway.symbol_names() or []
            raise ProviderError(
                f"the broker has no instrument {str(request.symbol)!r}",
                hint=unknown_symbol(request.symbol, names, "the broker"),
            )
        now = self._clock()
        measured = self._measure(str(request.symbol), now)
        clock = choose_clock(self._settings.utc_offset_hours, measured, now)
        rates, resume = self._rates(request, timeframe, clock, now)
        bars, rejected, volume_kind = rates_to_bars(rates, clock)
        bars, unfinished = cut(bars, request, now)
        if bars.empty and rejected.empty:
            held = f"; {unfinished} had not closed yet" if unfinished else ""
            return Empty(f"MetaTrader 5 has no complete {request.timeframe} bar of {request.symbol} in the range{held}")
        notes = []
        if measured is None and isinstance(clock, NewYorkClose):
            notes.append("the broker's clock was taken to be New York + 7 h; no fresh tick could confirm it")
        server = self._gateway.server()
        return Data(
            bars,
            rejected,
            source_id=f"mt5:{server}",
            provenance=f"MetaTrader 5, server {server}, {request.symbol} {request.timeframe}, clock {clock}",
            volume_kind=volume_kind,
            unfinished=unfinished,
            resume_at=resume,
            spread_unit="points",
            notes=tuple(notes),
        )

    def _connect(self) -> None:
        if not self._gateway.connect():
            raise error_for(self._gateway.last_error(), "initialize")

    def _measure(self, symbol: str, now: pd.Timestamp) -> float | None:
        """The offset that the newest tick shows; None where it is too old to show one.

        A tick that is whole hours old, of a market that closed then, looks like another offset. A reading that
        contradicts the expected clock therefore counts only once a newer tick has come in.
        """
        tick = self._gateway.tick_seconds(symbol)
        measured = None if tick is None else measured_offset_hours(tick, now)
        if measured is None or agrees(expected_clock(self._settings.utc_offset_hours), measured, now):
            return measured
        for _ in range(TICK_WAITS):
            self._sleep(1.0)
            newer = self._gateway.tick_seconds(symbol)
            if newer is not None and newer != tick:
                return measured_offset_hours(newer, self._clock())
        return None

    def _rates(
        self, request: BarRequest, timeframe: int, clock: BrokerClock, now: pd.Timestamp
    ) -> tuple[np.ndarray, pd.Timestamp | None]:
        end = now if request.end is None else min(now, request.end)
        symbol = str(request.symbol)
        if request.start is None:
            rates = self._gateway.copy_rates_from(symbol, timeframe, clock.to_server(end), LATEST_BARS)
            return self._checked(rates, "copy_rates_from"), None
        # In windows, because a terminal refuses more bars at once than its 'max bars in chart' setting.
        step = request.timeframe.duration * WINDOW_BARS
        left, parts = request.start, []
        for _ in range(MAXIMUM_WINDOWS):
            if left >= end:
                break
            right = min(left + step, end)
            # One second less: both bounds belong to the terminal's range, and the next window begins at 'right'.
            bounds = clock.to_server(left), clock.to_server(right) - 1
            parts.append(self._checked(self._gateway.copy_rates_range(symbol, timeframe, *bounds), "copy_rates_range"))
            left = right
        rates = np.concatenate(parts) if parts else np.empty(0, dtype=RATES_DTYPE)
        return rates, left if left < end else None

    def _checked(self, rates: np.ndarray | None, call: str) -> np.ndarray:
        if rates is None:
            raise error_for(self._gateway.last_error(), call)
        if rates.dtype.names is None or not set(RATES_DTYPE.names or ()) <= set(rates.dtype.names):
            raise ProviderError(f"MetaTrader 5: {call} gave the fields {rates.dtype}, expected {RATES_DTYPE}")
        return rates


def rates_to_bars(rates: np.ndarray, clock: BrokerClock) -> tuple[pd.DataFrame, pd.DataFrame, VolumeKind]:
    """Structured rates as bars in UTC, rows without a readable time, and what the volume counts.

    The unsigned volumes become float64 directly: a detour over int64 would turn a count above 2**63 negative.
    """
    server, fits = epoch_nanoseconds(rates["time"], 1_000_000_000)
    ticks = rates["tick_volume"]
    fits &= ticks <= np.asarray(2**63 - 1, dtype=ticks.dtype)
    good = rates[fits]
    is_traded = bool((good["real_volume"] > 0).any())
    values = {name: good[name] for name in ("open", "high", "low", "close", "spread")}
    values["volume"] = good["real_volume" if is_traded else "tick_volume"]
    values["tick_count"] = good["tick_volume"]
    bad = np.flatnonzero(~fits)
    records = [as_record(dict(zip(rates.dtype.names or (), rates[i], strict=True))) for i in bad]
    reasons = [["the time lies outside 1678..2261 or the tick volume above 2**63 - 1"]] * len(bad)
    bars = make_bars(clock.to_utc(server[fits]), values)
    return bars, make_rejected(bad, records, reasons), "traded" if is_traded else "tick"


def _classify(error: Exception) -> Failed:
    if isinstance(error, TapelineError):
        return Failed(error)
    return Failed(ProviderError(f"MetaTrader 5: {type(error).__name__}: {error}"))


def _import_package() -> Any:
    try:
        import MetaTrader5
    except ImportError as error:
        if sys.platform != "win32":
            raise ConfigurationError(
                f"the MetaTrader5 package runs on Windows only, this is {sys.platform}",
                hint="run Tapeline on the terminal's machine, or export bars from MetaTrader and use the files source",
            ) from error
        raise ConfigurationError(
            "the package 'MetaTrader5' is not installed", hint="pip install MetaTrader5"
        ) from error
    return MetaTrader5
