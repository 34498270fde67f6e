"""The broker's clock: MetaTrader stamps everything in server time, written as if it were UTC."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import pandas as pd

from tapeline.clock.broker_time import BrokerTime
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.whole_file import write_whole

_HOUR: Final = 3_600_000_000_000
NEW_YORK_CLOSE: Final = "new-york-close"
_ENDS: Final = ("first", "last")


class BrokerClock(Protocol):
    """Between server time and UTC, both in int64 nanoseconds."""

    def to_utc(self, server: np.ndarray) -> np.ndarray:
        """Server stamps as instants."""
        ...

    def to_server(self, utc: pd.Timestamp) -> int:
        """An instant as a server stamp, in whole seconds."""
        ...


@dataclass(frozen=True)
class FixedOffset:
    """A server that never changes its clock.

    Examples
    --------
    >>> FixedOffset(2.0).to_utc(np.array([7200 * 10**9]))
    array([0])
    """

    hours: float

    def to_utc(self, server: np.ndarray) -> np.ndarray:
        """Subtract the offset."""
        return np.asarray(server, dtype=np.int64) - round(self.hours * _HOUR)

    def to_server(self, utc: pd.Timestamp) -> int:
        """Add the offset."""
        return (utc.as_unit("ns").value + round(self.hours * _HOUR)) // 1_000_000_000


@dataclass(frozen=True)
class NewYorkClose:
    """A server seven hours ahead of New York: GMT+2 in winter, GMT+3 while New York keeps daylight saving time.

    Most FX brokers run so, because five daily bars a week then end with the New York close at 17:00. The switch
    follows the American dates, not the European ones: for two to three weeks in March and one in autumn they differ.

    Where New York's clock is set back, an hour of the server's Sunday morning comes twice; the later instant is taken,
    so that nothing counts as known before it was. In the skipped hour of spring the next instant that exists is taken.

    Examples
    --------
    >>> clock = NewYorkClose()
    >>> clock.to_server(pd.Timestamp("2021-01-04 22:00", tz="UTC")) - pd.Timestamp("2021-01-05", tz="UTC").timestamp()
    0.0
    >>> clock.to_server(pd.Timestamp("2021-07-05 21:00", tz="UTC")) - pd.Timestamp("2021-07-06", tz="UTC").timestamp()
    0.0
    """

    def to_utc(self, server: np.ndarray) -> np.ndarray:
        """New York's wall clock is the server's less seven hours; its zone rules do the rest."""
        wall = pd.DatetimeIndex(np.asarray(server, dtype=np.int64).view("M8[ns]"))
        return BrokerTime.parse(NEW_YORK_CLOSE).to_utc(wall).asi8

    def to_server(self, utc: pd.Timestamp) -> int:
        """New York's wall clock plus seven hours."""
        return int(BrokerTime.parse(NEW_YORK_CLOSE).to_wall(pd.DatetimeIndex([utc])).asi8[0]) // 1_000_000_000


def measured_offset_hours(tick_seconds: float, now: pd.Timestamp, *, fresh_seconds: float = 120.0) -> float | None:
    """The offset that a tick of this moment shows, to the quarter of an hour; None where the tick tells nothing.

    A tick stamped in server time and read at ``now`` differs from it by the offset and by its own age. Offsets are
    whole quarters of an hour; an age above ``fresh_seconds`` (a closed market) leaves a remainder that fits none.

    Examples
    --------
    >>> now = pd.Timestamp("2021-07-05 12:00:00", tz="UTC")
    >>> measured_offset_hours(now.timestamp() + 3 * 3600 - 2, now)
    3.0
    >>> measured_offset_hours(now.timestamp() + 3 * 3600 - 400, now) is None
    True
    """
    seconds = tick_seconds - now.timestamp()
    quarters = round(seconds / 900)
    age = quarters * 900 - seconds
    hours = quarters / 4
    if not -5 <= age <= fresh_seconds or not -12 <= hours <= 14:
        return None
    return hours


def expected_clock(configured_hours: float | None) -> BrokerClock:
    """The configured offset, else the New York close rule."""
    return NewYorkClose() if configured_hours is None else FixedOffset(configured_hours)


def agrees(clock: BrokerClock, measured_hours: float, now: pd.Timestamp) -> bool:
    """True where a clock has the measured offset now, to the minute."""
    return abs(measured_hours * 3600 - (clock.to_server(now) - now.timestamp())) < 60


def choose_clock(
    configured_hours: float | None,
    measured_hours: float | None,
    now: pd.Timestamp,
    stored: Sequence[tuple[pd.Timestamp, float]] = (),
) -> BrokerClock:
    """The configured offset, else the New York close rule, if the measurement does not speak against it.

    Parameters
    ----------
    configured_hours:
        The setting, None where the rule is to hold.
    measured_hours:
        What a fresh tick shows ``now``, None where there is none: the market is closed.
    stored:
        Earlier measurements (instant, hours). The newest of them stands in for a missing fresh one. Where nothing is
        configured, one and the same offset on both sides of a change of New York's clock proves that the server does
        not follow it, and is used.

    Raises
    ------
    ConfigurationError
        The measured offset is neither the configured one nor that of the rule. A fixed offset is not guessed from one
        measurement: whether and when that server changes its clock cannot be seen from today, and a wrong guess moves
        half of the history by an hour.
    """
    clock = expected_clock(configured_hours)
    seen = sorted(stored)
    if measured_hours is not None:
        seen.append((now, measured_hours))
    if not seen:
        return clock
    at, measured_hours = seen[-1]
    if not agrees(clock, measured_hours, at):
        if configured_hours is None and _is_fixed(clock, seen):
            return FixedOffset(measured_hours)
        rule = "the rule 'New York + 7 h'" if configured_hours is None else "the setting"
        expected = (clock.to_server(at) - at.timestamp()) / 3600
        when = "now" if at == now else f"(measured {at:%Y-%m-%d %H:%M} UTC)"
        raise ConfigurationError(
            f"the broker's clock runs {measured_hours:+g} h from UTC {when}, {rule} says {expected:+.2f} h",
            hint="set metatrader.utc_offset_hours if the broker's clock is fixed",
        )
    return clock


def _is_fixed(rule: BrokerClock, seen: Sequence[tuple[pd.Timestamp, float]]) -> bool:
    """True where the same offset was measured while the rule had two different ones."""
    ruled = {rule.to_server(at) - int(at.timestamp()) for at, _ in seen}
    return len({hours for _, hours in seen}) == 1 and len(ruled) > 1


def offsets_file(state_path: Path) -> Path:
    """Where the measured offsets of all servers are kept."""
    return state_path / "clock" / "broker_offsets.json"


def read_offsets(path: Path, server: str) -> list[tuple[pd.Timestamp, float]]:
    """The measured offsets of a server: the first and the last instant at which each was seen, oldest first.

    Raises
    ------
    DataError
        The file is not what :func:`store_offset` writes.
    """
    if not path.is_file():
        return []
    try:
        runs = json.loads(path.read_text(encoding="utf-8")).get(server, [])
        seen = [(pd.Timestamp(int(run[end]), unit="s", tz="UTC"), float(run["hours"])) for run in runs for end in _ENDS]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{path.name} holds no measured offsets: {error}", hint="delete it; it is measured again"
        ) from error
    return sorted(set(seen))


def store_offset(path: Path, server: str, at: pd.Timestamp, hours: float) -> None:
    """Keep a measurement. One that repeats the last offset only moves the instant at which it was last seen.

    The file is replaced in one step. It is derived from the measurements in the lake, so that two checks at once cost
    at most one entry, which the next check brings back.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        held = {}
    runs = held.setdefault(server, [])
    second = int(at.timestamp())
    if runs and runs[-1]["hours"] == hours:
        runs[-1]["last"] = max(second, runs[-1]["last"])
    else:
        runs.append({"first": second, "last": second, "hours": hours})
    write_whole(path, json.dumps(held, indent=1, sort_keys=True), what="file of measured offsets")
