"""Broker time to UTC: a fixed offset, the New York close rule or an IANA zone, with a stated rule for odd hours.

MetaTrader stamps bars and ticks in the server's wall time, written as if it were UTC, and says nowhere which zone that
is. Where clocks are set back, an hour of that time comes twice; where they are set forward, one never comes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError

Ambiguous = Literal["later", "earlier", "infer", "refuse"]
"""Which of two instants an hour that comes twice means.

``later``: the second one, so that nothing counts as known before it was. ``earlier``: the first one. ``infer``: the
order of the rows tells, for an unbroken series of sorted bars. ``refuse``: DataError.
"""

Nonexistent = Literal["forward", "refuse"]
"""What an hour that never comes means. ``forward``: the next instant that exists. ``refuse``: DataError."""

_HOUR: Final = 3_600_000_000_000
_FIXED: Final = re.compile(r"(?:UTC|GMT)(?:([+-])(\d{1,2})(?::?([0-5]\d))?)?", re.IGNORECASE)
_NEW_YORK_CLOSE: Final = ("new-york-close", "ny-close")
_MAXIMUM_HOURS: Final = 14


@dataclass(frozen=True)
class BrokerTime:
    """A server's wall time.

    Parameters
    ----------
    zone:
        The IANA zone whose rules it follows; None for a fixed offset.
    shift:
        What it runs ahead of that zone (or of UTC), ns.
    ambiguous, nonexistent:
        The rules for hours that come twice or never.

    Examples
    --------
    A server that follows the New York close: GMT+2 in winter, GMT+3 from the second Sunday of March on, when Europe
    still has winter time.

    >>> server = BrokerTime.parse("new-york-close")
    >>> server.to_utc(pd.DatetimeIndex(["2021-03-12 10:00", "2021-03-15 10:00", "2021-03-29 10:00"])).hour.tolist()
    [8, 7, 7]
    >>> BrokerTime.parse("Europe/Athens").to_utc(pd.DatetimeIndex(["2021-03-15 10:00"])).hour.tolist()
    [8]
    >>> BrokerTime.parse("GMT+5:30").to_utc(pd.DatetimeIndex(["2021-03-15 05:30"])).hour.tolist()
    [0]
    """

    zone: str | None
    shift: int = 0
    ambiguous: Ambiguous = "later"
    nonexistent: Nonexistent = "forward"

    @classmethod
    def parse(cls, text: str, *, ambiguous: Ambiguous = "later", nonexistent: Nonexistent = "forward") -> BrokerTime:
        """Read ``UTC``, ``UTC+2``, ``GMT-03:30``, ``new-york-close`` (seven hours ahead of New York) or an IANA name.

        Raises
        ------
        ConfigurationError
            None of these, an offset beyond 14 hours, or an unknown rule.
        """
        if ambiguous not in ("later", "earlier", "infer", "refuse") or nonexistent not in ("forward", "refuse"):
            raise ConfigurationError(f"rules {ambiguous!r} and {nonexistent!r} for odd hours are unknown")
        if text.lower() in _NEW_YORK_CLOSE:
            return cls("America/New_York", 7 * _HOUR, ambiguous, nonexistent)
        found = _FIXED.fullmatch(text)
        if found:
            size = int(found[2] or 0) * _HOUR + int(found[3] or 0) * _HOUR // 60
            if size > _MAXIMUM_HOURS * _HOUR:
                raise ConfigurationError(f"offset {text!r} is beyond {_MAXIMUM_HOURS} hours")
            return cls(None, -size if found[1] == "-" else size, ambiguous, nonexistent)
        try:
            ZoneInfo(text)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigurationError(
                f"broker time {text!r} is unknown", hint="UTC+2, new-york-close, or a zone such as Europe/Athens"
            ) from error
        return cls(text, 0, ambiguous, nonexistent)

    def to_utc(self, wall: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """The instants of server times without a time zone.

        Raises
        ------
        DataError
            The index has a time zone or missing times, or an hour is odd and the rule refuses it.
        """
        if wall.tz is not None:
            raise DataError(f"server times carry the time zone {wall.tz}", hint="hand them over as they were stamped")
        if wall.hasnans:
            raise DataError(f"{int(np.isnat(wall.to_numpy()).sum())} server times are missing")
        local = wall.as_unit("ns") - pd.Timedelta(self.shift, unit="ns")
        if self.zone is None:
            return local.tz_localize("UTC").rename(wall.name)
        try:
            return self._localize(local).tz_convert("UTC").rename(wall.name)
        except ValueError as error:
            raise DataError(f"server time in {self.zone}: {error}", hint="choose a rule for odd hours") from error

    def _localize(self, local: pd.DatetimeIndex) -> pd.DatetimeIndex:
        missing: Literal["shift_forward", "raise"] = "shift_forward" if self.nonexistent == "forward" else "raise"
        if self.ambiguous == "infer":
            return local.tz_localize(self.zone, ambiguous="infer", nonexistent=missing)
        if self.ambiguous == "refuse":
            return local.tz_localize(self.zone, ambiguous="raise", nonexistent=missing)
        # Both readings are made and compared, since not every zone's summer time is the earlier one.
        flags = np.ones(len(local), dtype=bool)
        one = local.tz_localize(self.zone, ambiguous=flags, nonexistent=missing)
        other = local.tz_localize(self.zone, ambiguous=~flags, nonexistent=missing)
        pick = np.maximum if self.ambiguous == "later" else np.minimum
        stamps = pick(one.tz_convert("UTC").asi8, other.tz_convert("UTC").asi8)
        return pd.DatetimeIndex(pd.to_datetime(stamps, unit="ns", utc=True))

    def seconds_to_utc(self, seconds: np.ndarray) -> pd.DatetimeIndex:
        """The instants of MetaTrader's integer times: seconds since 1970 on the server's wall clock."""
        stamps = np.asarray(seconds, dtype=np.int64)
        if stamps.size and (stamps.min() < 0 or stamps.max() > 9_000_000_000):
            raise DataError(f"server times from {stamps.min()} to {stamps.max()} are not seconds since 1970")
        return self.to_utc(pd.DatetimeIndex(pd.to_datetime(stamps, unit="s")))

    def to_wall(self, ts: pd.DatetimeIndex) -> pd.DatetimeIndex:
        """What the server's clock shows at these instants, without a time zone.

        Raises
        ------
        DataError
            The index has no time zone.
        """
        if ts.tz is None:
            raise DataError("instants without a time zone")
        wall = ts.tz_convert(self.zone or "UTC").tz_localize(None).as_unit("ns")
        return (wall + pd.Timedelta(self.shift, unit="ns")).rename(ts.name)

    def offset(self, ts: pd.DatetimeIndex) -> pd.Series:
        """How far the server's clock is ahead of UTC at each instant, in hours."""
        ahead = self.to_wall(ts).asi8 - ts.tz_convert("UTC").as_unit("ns").asi8
        return pd.Series(ahead / _HOUR, index=ts, name="offset_hours")

    def odd_hours(self, wall: pd.DatetimeIndex) -> pd.DataFrame:
        """Which server times come twice (``ambiguous``) or never (``nonexistent``): the rows to look at by hand."""
        columns = {"ambiguous": np.zeros(len(wall), dtype=bool), "nonexistent": np.zeros(len(wall), dtype=bool)}
        if self.zone is not None:
            local = wall.as_unit("ns") - pd.Timedelta(self.shift, unit="ns")
            flags = np.ones(len(local), dtype=bool)
            exists = local.tz_localize(self.zone, ambiguous=flags, nonexistent="NaT")
            once = local.tz_localize(self.zone, ambiguous="NaT", nonexistent="shift_forward")
            columns = {"ambiguous": np.asarray(once.isna()), "nonexistent": np.asarray(exists.isna())}
        return pd.DataFrame(columns, index=wall)
