"""MetaTrader 5: bars from a terminal, in UTC."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

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
    read_offsets,
)
from tapeline.sources.frame import as_record, cut, epoch_nanoseconds, make_bars, make_rejected
from tapeline.sources.metatrader_errors import error_for
from tapeline.sources.metatrader_gateway import RATES_DTYPE, TIMEFRAMES, Gateway
from tapeline.sources.retry import Retry

LATEST_BARS: Final = 10_000
WINDOW_BARS: Final = 50_000
MAXIMUM_WINDOWS: Final = 1000
TICK_WAITS: Final = 10


class MetaTraderSource:
    """Bars of a MetaTrader 5 terminal, in UTC.

    ``ts`` is the true open of a bar: a daily bar of a New York close server opens at 21:00 or 22:00 UTC of the day
    before its date. ``volume`` is the real volume where the broker reports any, else the count of price changes;
    ``tick_count`` and ``spread`` (in points) are as served.

    Parameters
    ----------
    settings:
        ``utc_offset_hours`` fixes the broker's offset; without it the server is taken to keep New York time plus seven
        hours, which is checked against the newest tick where that is fresh, else against the last measured offset.
    offsets:
        The file of measured offsets that the clock check keeps (:func:`~tapeline.sources.broker_clock.offsets_file`).
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
        offsets: Path | None = None,
    ) -> None:
        self._gateway = gateway
        self._offsets = offsets
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
        stored = [] if self._offsets is None else read_offsets(self._offsets, self._gateway.server())
        clock = choose_clock(self._settings.utc_offset_hours, measured, now, stored)
        rates, resume = self._rates(request, timeframe, clock, now)
        bars, rejected, volume_kind = rates_to_bars(rates, clock)
        bars, unfinished = cut(bars, request, now)
        if bars.empty and rejected.empty:
            held = f"; {unfinished} had not closed yet" if unfinished else ""
            return Empty(f"MetaTrader 5 has no complete {request.timeframe} bar of {request.symbol} in the range{held}")
        notes = []
        if measured is None and stored:
            at, hours = stored[-1]
            notes.append(f"the broker's clock was last measured at {at:%Y-%m-%d %H:%M} UTC: {hours:+g} h")
        elif measured is None and isinstance(clock, NewYorkClose):
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
            ts_origin="broker",
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
