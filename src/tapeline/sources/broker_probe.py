"""Measuring a broker's server clock through its terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tapeline.clock.offset import OffsetSample, one_stamp_sample
from tapeline.clock.probes import MILLISECOND, SECOND, Stopwatch
from tapeline.core.errors import ProviderError, TemporaryError
from tapeline.sources.metatrader_gateway import Gateway

QUARTER: Final = 900 * SECOND
_LOWEST_HOURS: Final = -12
_HIGHEST_HOURS: Final = 14


class BrokerProbe:
    """Measures a broker's server clock by the arrival of a tick.

    The server stamps each tick with its own clock. The terminal is asked again and again until the newest tick changes:
    the new one was stamped since the last look, or was on its way then, so that its time is as good as the server's
    clock, to within the pause between two looks and that way. A market without ticks tells nothing.

    Parameters
    ----------
    gateway:
        To the terminal; connected by the first measurement.
    symbol:
        An instrument that ticks often.
    clock:
        The local clocks.
    looks, pause_seconds:
        How often and how quickly the terminal is asked at most.
    way_seconds:
        The longest time for which a tick may have been on its way to the terminal.
    sleep:
        Waits between two looks; injected in tests.
    """

    def __init__(
        self,
        gateway: Gateway,
        symbol: str,
        *,
        clock: Stopwatch | None = None,
        looks: int = 30,
        pause_seconds: float = 0.1,
        way_seconds: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gateway, self._symbol = gateway, symbol
        self._clock = clock or Stopwatch()
        self._looks, self._pause, self._sleep = looks, pause_seconds, sleep
        self._way = round(way_seconds * SECOND)
        self.zone_offset_hours: float | None = None

    @property
    def server(self) -> str:
        """The name of the server that was asked."""
        return self._gateway.server()

    def measure(self) -> OffsetSample:
        """Wait for a tick; the sample leaves out the whole quarters of an hour that the server's zone is off UTC.

        Raises
        ------
        TemporaryError
            No tick came, or the terminal lost its connection.
        ProviderError
            The broker has no such instrument, or its clock is off by more than any zone.
        """
        if not self._gateway.connect() or not self._gateway.select(self._symbol):
            code, text = self._gateway.last_error()
            raise TemporaryError(f"MetaTrader 5 gives no ticks of {self._symbol}: {code} {text}")
        # Begun before the look, here and below: what a look did not show yet was stamped after it began.
        stop = self._clock.start()
        first = self._gateway.tick_seconds(self._symbol)
        for _ in range(self._looks):
            self._sleep(self._pause)
            before, stop = stop, self._clock.start()
            told = self._gateway.tick_seconds(self._symbol)
            _, received = stop()
            if told is not None and told != first:
                # The tick was stamped after the last look without it, which began when `before` did.
                return self._sample(told, before()[0], received)
        waited = self._looks * self._pause
        raise TemporaryError(
            f"no tick of {self._symbol} came within {waited:g} s", hint="measure while the market is open"
        )

    def _sample(self, told: float, began: int, received: int) -> OffsetSample:
        raw = one_stamp_sample(began, received, round(told * 1000) * MILLISECOND, resolution=self._way)
        quarters = round(raw.offset / QUARTER)
        if not _LOWEST_HOURS <= quarters / 4 <= _HIGHEST_HOURS:
            raise ProviderError(f"the broker's clock is {quarters / 4:+g} h from UTC, which is no zone")
        self.zone_offset_hours = quarters / 4
        return replace(raw, offset=raw.offset - quarters * QUARTER)
