"""Ticks of MetaTrader 5: history in UTC, and a live poll that neither loses nor repeats one."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.sources.broker_clock import BrokerClock
from tapeline.sources.frame import epoch_nanoseconds
from tapeline.sources.metatrader_session import MetaTraderSession
from tapeline.sources.metatrader_structures import COPY_TICKS_ALL, TICKS_DTYPE

PAGE_TICKS: Final = 10_000
MAXIMUM_PAGE: Final = 10_000_000
OVERLAP_SECONDS: Final = 2
HISTORY_STEP: Final = pd.Timedelta(days=1)
_MILLISECOND: Final = 1_000_000


def ticks_to_frame(ticks: np.ndarray, clock: BrokerClock, *, first_sequence: np.ndarray | None = None) -> pd.DataFrame:
    """Structured ticks as a frame in UTC with the columns of the lake's ticks.

    ``volume`` is ``volume_real`` where that has any value, else the whole number; both become float64 directly, as a
    detour over int64 would turn a count above 2**63 negative. 0 as bid, ask or last is the terminal's word for "none"
    and becomes NaN. ``sequence`` counts the ticks of one millisecond from 0; ``first_sequence`` gives it instead.

    Raises
    ------
    DataError
        A time outside of 1678..2261.
    """
    server, fits = epoch_nanoseconds(ticks["time_msc"], _MILLISECOND)
    if not fits.all():
        row = int((~fits).argmax())
        raise DataError(f"MetaTrader 5: tick {row} has the time {ticks['time_msc'][row]} ms, outside of 1678..2261")
    utc = clock.to_utc(server)
    columns = {name: np.where(ticks[name] == 0.0, np.nan, ticks[name]) for name in ("bid", "ask", "last")}
    real = ticks["volume_real"]
    volume = np.where(real > 0, real, ticks["volume"].astype(np.float64))
    sequence = pd.Series(utc).groupby(utc).cumcount().to_numpy(np.int64) if first_sequence is None else first_sequence
    return pd.DataFrame(
        {"sequence": sequence, **columns, "volume": volume, "flags": ticks["flags"].astype(np.int32)},
        index=pd.DatetimeIndex(utc.view("M8[ns]"), name="ts").tz_localize("UTC"),
    )


def tick_history(
    session: MetaTraderSession, symbol: str, clock: BrokerClock, start: pd.Timestamp, end: pd.Timestamp
) -> pd.DataFrame:
    """Every tick with ``start <= ts < end``, asked for a day at a time.

    Raises
    ------
    ConfigurationError
        ``start`` is not before ``end``.
    MetaTraderError
        The terminal refused.
    """
    if start >= end:
        raise ConfigurationError(f"start {start} is not before end {end}", hint="the range is [start, end)")
    session.select(symbol)
    parts, left = [], start
    while left < end:
        right = min(left + HISTORY_STEP, end)
        bounds = clock.to_server(left), clock.to_server(right) + 1
        page = session.ask("copy_ticks_range", symbol, *bounds, COPY_TICKS_ALL)
        # Whole seconds are all the terminal understands; the milliseconds are cut here, on the server's clock, where
        # no hour comes twice.
        first, last = _server_milliseconds(clock, left), _server_milliseconds(clock, right)
        parts.append(page[(page["time_msc"] >= first) & (page["time_msc"] < last)])
        left = right
    return ticks_to_frame(np.concatenate(parts), clock)


class TickPoll:
    """New ticks of one instrument, each once.

    The terminal is asked from a little before the newest tick that was delivered; what was delivered of that overlap is
    taken away, as often as each tick occurred. So several ticks of one millisecond, equal ticks, a millisecond that
    was cut by the poll before, and a tick that the terminal adds late are all delivered once. A page that comes back
    full is followed by the next at once; if one moment holds more ticks than a page, the page grows.

    Parameters
    ----------
    start:
        The first poll delivers ticks from here on.
    page:
        How many ticks one call asks for.

    Examples
    --------
    A poll is made and asked in a loop: ``poll = TickPoll(session, "EURUSD", clock, start)``, then ``poll.new()``.
    """

    def __init__(
        self,
        session: MetaTraderSession,
        symbol: str,
        clock: BrokerClock,
        start: pd.Timestamp,
        *,
        page: int = PAGE_TICKS,
    ) -> None:
        if page < 1:
            raise ConfigurationError(f"page = {page} is below 1")
        self._session = session
        self._symbol = symbol
        self._clock = clock
        self._page = page
        self._first = _server_milliseconds(clock, start)
        self._newest = self._first
        self._delivered: Counter[bytes] = Counter()
        self._counts: Counter[int] = Counter()

    def new(self) -> pd.DataFrame:
        """The ticks since the last call, with the columns of the lake's ticks; none is an empty frame.

        Raises
        ------
        MetaTraderError
            The terminal could not answer; nothing was taken in, so the next call delivers what this one would have.
        """
        self._session.select(self._symbol)
        parts: list[np.ndarray] = []
        sequences: list[np.ndarray] = []
        since, size = self._since(), self._page
        state = self._newest, self._delivered.copy(), self._counts.copy()
        try:
            while True:
                page = self._session.ask("copy_ticks_from", self._symbol, since, size, COPY_TICKS_ALL)
                fresh = self._fresh(page)
                parts.append(fresh)
                sequences.append(self._take(fresh))
                if len(page) < size:
                    break
                following = self._since()
                if following == since or not len(fresh):
                    size = min(size * 2, MAXIMUM_PAGE)
                since = following
        except Exception:
            self._newest, self._delivered, self._counts = state
            raise
        return ticks_to_frame(np.concatenate(parts), self._clock, first_sequence=np.concatenate(sequences))

    def _since(self) -> int:
        return max(self._newest // 1000 - OVERLAP_SECONDS, self._first // 1000)

    def _fresh(self, page: np.ndarray) -> np.ndarray:
        if page.dtype != TICKS_DTYPE:
            raise DataError(f"MetaTrader 5: copy_ticks_from gave the fields {page.dtype}, expected {TICKS_DTYPE}")
        keep = page["time_msc"] > self._newest
        left = self._delivered.copy()
        for row in np.flatnonzero(~keep & (page["time_msc"] >= self._first)):
            key = page[row].tobytes()
            if left[key] > 0:
                left[key] -= 1
            else:
                keep[row] = True
        return page[keep]

    def _take(self, fresh: np.ndarray) -> np.ndarray:
        """Remember what is delivered as far back as the overlap reaches; gives each tick's place in its millisecond."""
        if not len(fresh):
            return np.zeros(0, dtype=np.int64)
        self._newest = max(self._newest, int(fresh["time_msc"].max()))
        border = self._since() * 1000
        stamps = pd.Series(fresh["time_msc"])
        before = np.array([self._counts[stamp] for stamp in stamps.tolist()], dtype=np.int64)
        places = stamps.groupby(stamps).cumcount().to_numpy(np.int64) + before
        self._counts.update(stamps.tolist())
        recent = fresh[fresh["time_msc"] >= border]
        self._delivered.update(row.tobytes() for row in recent)
        # Only keys of the overlap are kept: a day of polling must not grow.
        offset = TICKS_DTYPE.fields["time_msc"][1]  # type: ignore[index]
        self._delivered = Counter(
            {
                key: count
                for key, count in self._delivered.items()
                if int.from_bytes(key[offset : offset + 8], "little", signed=True) >= border
            }
        )
        self._counts = Counter({stamp: count for stamp, count in self._counts.items() if stamp >= border})
        return places


def _server_milliseconds(clock: BrokerClock, instant: pd.Timestamp) -> int:
    whole = instant.floor("s")
    return clock.to_server(whole) * 1000 + int((instant - whole) / pd.Timedelta(milliseconds=1))
