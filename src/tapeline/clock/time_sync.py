"""The time engine: offsets of several references against the local clock, and a clock that follows one smoothly."""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Lock
from typing import Final

import pandas as pd

from tapeline.clock.offset import OffsetEstimate, OffsetFilter, OffsetSample
from tapeline.clock.probes import Nanoseconds, Probe
from tapeline.core.errors import ConfigurationError, ProviderError, TapelineError, TemporaryError

MAXIMUM_RATE: Final = 500e-6
"""How fast a clock may be corrected: 500 ppm, half a millisecond a second, as NTP and adjtime do."""


class TimeSync:
    """Measures references in turn and says how far their clocks are from ours and from each other.

    Parameters
    ----------
    probes:
        By name: ``ntp``, ``binance``, ``broker`` or any other.
    window, confirm:
        Of each reference's :class:`~tapeline.clock.offset.OffsetFilter`.

    Examples
    --------
    >>> from tapeline.clock.offset import OffsetSample
    >>> class Fixed:
    ...     def __init__(self, offset): self.offset = offset
    ...     def measure(self): return OffsetSample(self.offset, 1_000, 2_000, at=0)
    >>> sync = TimeSync({"ntp": Fixed(5_000), "binance": Fixed(1_270_000_000)})
    >>> sync.measure()
    {}
    >>> sync.between("ntp", "binance")
    (1269995000, 2000)
    """

    def __init__(self, probes: Mapping[str, Probe], *, window: int = 16, confirm: int = 3) -> None:
        if not probes:
            raise ConfigurationError("no reference to measure against")
        self._probes = dict(probes)
        self._filters = {name: OffsetFilter(window=window, confirm=confirm) for name in probes}
        self._failures = dict.fromkeys(probes, 0)

    def measure(self) -> dict[str, TapelineError]:
        """Ask every reference once. A reference that fails is named with its error, and the others still count."""
        failed: dict[str, TapelineError] = {}
        for name, probe in self._probes.items():
            try:
                self._filters[name].add(probe.measure())
            except (TemporaryError, ProviderError) as error:
                failed[name] = error
                self._failures[name] += 1
        return failed

    def add(self, name: str, sample: OffsetSample) -> None:
        """Take a sample that was measured before, such as the stored ones of an earlier process; oldest first."""
        if name not in self._filters:
            raise ConfigurationError(f"reference {name!r} is unknown", hint=f"one of {', '.join(self._filters)}")
        self._filters[name].add(sample)

    def estimate(self, name: str) -> OffsetEstimate:
        """The offset of a reference: its time less ours.

        Raises
        ------
        ConfigurationError
            The reference is unknown.
        TemporaryError
            It has never answered.
        """
        if name not in self._filters:
            raise ConfigurationError(f"reference {name!r} is unknown", hint=f"one of {', '.join(self._filters)}")
        estimate = self._filters[name].estimate
        if estimate is None:
            raise TemporaryError(f"reference {name!r} has not answered yet")
        return estimate

    def between(self, first: str, second: str) -> tuple[int, int]:
        """The second reference's time less the first's, and the bound of its error, both in ns."""
        one, other = self.estimate(first), self.estimate(second)
        return other.offset - one.offset, one.error + other.error

    def table(self) -> pd.DataFrame:
        """One row a reference: ``offset_ms``, ``error_ms``, ``delay_ms``, ``samples``, ``steps``, ``failures``.

        A reference that never answered has NaN.
        """
        rows = {}
        for name, each in self._filters.items():
            found = each.estimate
            rows[name] = {
                "offset_ms": float("nan") if found is None else found.offset / 1e6,
                "error_ms": float("nan") if found is None else found.error / 1e6,
                "delay_ms": float("nan") if found is None else found.delay / 1e6,
                "samples": 0 if found is None else found.samples,
                "steps": each.steps,
                "failures": self._failures[name],
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("reference")


class SlewedClock:
    """A clock that follows a reference without ever jumping or going back.

    It runs on the monotonic clock; a correction is worked in at a bounded rate, so two readings always differ by what
    really passed, to within that rate. Safe to share between threads.

    Parameters
    ----------
    start:
        The time it shows first, ns since the epoch: local time plus the first measured offset.
    maximum_rate:
        Correction per elapsed time, between 0 and 1.
    monotonic:
        The clock it runs on, ns.

    Examples
    --------
    >>> passed = iter([0, 0, 1_000_000_000, 3_000_000_000])
    >>> clock = SlewedClock(start=10_000_000_000, maximum_rate=0.001, monotonic=lambda: next(passed))
    >>> clock.correct(-2_500_000)
    >>> clock.now(), clock.now()
    (10999000000, 12997500000)
    """

    def __init__(
        self, *, start: int, maximum_rate: float = MAXIMUM_RATE, monotonic: Nanoseconds = time.monotonic_ns
    ) -> None:
        if not 0 < maximum_rate < 1:
            raise ConfigurationError(f"maximum_rate = {maximum_rate} must be between 0 and 1", hint="0.0005 is usual")
        self._monotonic = monotonic
        self._rate = maximum_rate
        self._shown = start
        self._read = monotonic()
        self._left = 0
        self._credit = 0.0
        self._lock = Lock()

    def correct(self, offset: int) -> None:
        """Work in that the reference is ``offset`` ns ahead of what this clock shows now; replaces what was left."""
        with self._lock:
            self._advance()
            self._left = offset

    def now(self) -> int:
        """The time, ns since the epoch; never less than before."""
        with self._lock:
            self._advance()
            return self._shown

    @property
    def remaining(self) -> int:
        """The correction still to be worked in as of the last reading, ns."""
        return self._left

    def _advance(self) -> None:
        read = self._monotonic()
        # A monotonic clock that goes back is broken; time then stands still instead.
        passed = max(read - self._read, 0)
        self._read = max(read, self._read)
        # What a reading may move is kept to the fraction: many readings a microsecond must add up.
        self._credit = self._credit + passed * self._rate if self._left else 0.0
        bound = int(self._credit)
        moved = min(max(self._left, -bound), bound)
        self._credit -= abs(moved)
        self._left -= moved
        self._shown += passed + moved
