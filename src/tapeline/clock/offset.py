"""Clock offsets: one measured round trip, and the estimate and error bound that several of them give.

An offset is reference time less local time, in nanoseconds: add it to a local time to get the reference's. Every
sample comes with an interval in which the true offset must lie, whatever the asymmetry of the network.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tapeline.core.errors import ConfigurationError, DataError

FREQUENCY_TOLERANCE: Final = 15e-6
"""How fast two clocks may drift apart, as a share of time: 15 ppm (RFC 5905, PHI)."""


@dataclass(frozen=True)
class OffsetSample:
    """One round trip.

    Parameters
    ----------
    offset:
        Reference less local time, ns: the middle of what is possible.
    error:
        Half of what is possible, ns: the true offset lies within ``offset - error`` and ``offset + error``.
    delay:
        Time on the network, there and back, ns.
    at:
        Local time in the middle of the round trip, ns since the epoch.
    """

    offset: int
    error: int
    delay: int
    at: int


@dataclass(frozen=True)
class OffsetEstimate:
    """What the samples of a window say together; ``agreeing`` of ``samples`` are consistent with one offset."""

    offset: int
    error: int
    delay: int
    at: int
    samples: int
    agreeing: int


def four_stamp_sample(sent: int, arrived: int, answered: int, received: int, *, extra_error: int = 0) -> OffsetSample:
    """The sample of an exchange with four times (RFC 5905, section 8).

    Parameters
    ----------
    sent, received:
        When the request left and the answer came, on the local clock, ns.
    arrived, answered:
        When the request came and the answer left, on the reference's clock, ns.
    extra_error:
        The reference's own error (root dispersion and half its root delay), ns.

    Raises
    ------
    DataError
        The answer came before the request left, or the reference took longer than the round trip.

    Examples
    --------
    A reference 100 ns ahead, 10 ns there, 5 ns of work, 30 ns back:

    >>> four_stamp_sample(1_000, 1_110, 1_115, 1_045)
    OffsetSample(offset=90, error=20, delay=40, at=1022)
    """
    delay = (received - sent) - (answered - arrived)
    if received < sent or answered < arrived or delay < 0:
        raise DataError(f"impossible round trip: {sent}, {arrived}, {answered}, {received}")
    offset = ((arrived - sent) + (answered - received)) // 2
    return OffsetSample(offset, (delay + 1) // 2 + extra_error, delay, (sent + received) // 2)


def one_stamp_sample(sent: int, received: int, told: int, *, resolution: int) -> OffsetSample:
    """The sample of a server that tells one time, cut to a resolution (F. Cristian, Distributed Computing 3, 1989).

    Parameters
    ----------
    told:
        The time told, ns: the server's clock stood from ``told`` to ``told + resolution`` at some moment between
        ``sent`` and ``received``.
    resolution:
        1 s for an HTTP ``Date``, 1 ms for most exchanges' time endpoints, in ns.

    Examples
    --------
    >>> one_stamp_sample(1_000, 1_040, 2_000, resolution=10)
    OffsetSample(offset=985, error=25, delay=40, at=1020)
    """
    if received < sent:
        raise DataError(f"impossible round trip: sent at {sent}, received at {received}")
    if resolution < 0:
        raise ConfigurationError(f"resolution = {resolution} must not be negative")
    low, high = told - received, told + resolution - sent
    middle = (low + high) // 2
    return OffsetSample(middle, high - middle, received - sent, (sent + received) // 2)


def agreeing_interval(intervals: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    """The interval that most of the given ones share, and how many share it (K. Marzullo's algorithm, 1984).

    Examples
    --------
    >>> agreeing_interval([(8, 12), (11, 13), (10, 12), (50, 60)])
    (11, 12, 3)
    """
    if not intervals:
        raise DataError("no interval to agree on")
    # Closed intervals: at equal places a start counts before an end.
    edges = sorted([(low, -1) for low, _ in intervals] + [(high, 1) for _, high in intervals])
    best = count = 0
    start = end = edges[0][0]
    for number, (place, kind) in enumerate(edges):
        count -= kind
        if count > best:
            best, start, end = count, place, edges[number + 1][0]
    return start, end, best


class OffsetFilter:
    """Joins samples of one reference: a median of the quickest round trips, bounded by what all samples allow.

    Slow round trips are slow because one way was, so the quicker half decides; its median resists the rest. The
    answer is moved into the interval on which most samples agree, which is narrower than any sample's: with HTTP dates
    (one second coarse) it closes in on milliseconds. Older samples count with an error that grows by the frequency
    tolerance.

    Parameters
    ----------
    window:
        Samples that are kept.
    confirm:
        A jump of the reference is believed when this many samples in a row contradict the estimate; the older ones
        are then forgotten. One outlier changes nothing.

    Examples
    --------
    >>> filter = OffsetFilter(window=8)
    >>> for offset, delay in ((100, 20), (140, 120), (104, 24)):
    ...     estimate = filter.add(OffsetSample(offset, delay // 2, delay, at=0))
    >>> estimate.offset, estimate.error
    (102, 10)
    """

    def __init__(self, *, window: int = 16, confirm: int = 3) -> None:
        if window < 1:
            raise ConfigurationError(f"window = {window} must be at least 1")
        if confirm < 2:
            raise ConfigurationError(f"confirm = {confirm} must be at least 2", hint="1 would believe every outlier")
        self._samples: deque[OffsetSample] = deque(maxlen=window)
        self._contrary: list[OffsetSample] = []
        self._confirm = confirm
        self.steps = 0
        self.estimate: OffsetEstimate | None = None

    def add(self, sample: OffsetSample) -> OffsetEstimate:
        """Take a sample and give the new estimate."""
        if self.estimate is not None and self._contradicts(sample, self.estimate):
            self._contrary.append(sample)
            if len(self._contrary) < self._confirm:
                return self.estimate
            self._samples.clear()
            self._samples.extend(self._contrary)
            self.steps += 1
        else:
            self._samples.append(sample)
        self._contrary = []
        self.estimate = _estimate(list(self._samples))
        return self.estimate

    def _contradicts(self, sample: OffsetSample, estimate: OffsetEstimate) -> bool:
        aged = _growth(sample.at - estimate.at)
        return abs(sample.offset - estimate.offset) > sample.error + estimate.error + aged


def _growth(age: int) -> int:
    return int(abs(age) * FREQUENCY_TOLERANCE)


def _estimate(samples: list[OffsetSample]) -> OffsetEstimate:
    now = max(sample.at for sample in samples)
    aged = [replace(sample, error=sample.error + _growth(now - sample.at)) for sample in samples]
    low, high, agreeing = agreeing_interval([(s.offset - s.error, s.offset + s.error) for s in aged])
    quick = sorted(aged, key=lambda sample: sample.error)[: (len(aged) + 1) // 2]
    middle = round(statistics.median(sample.offset for sample in quick))
    offset = min(max(middle, low), high)
    error = max(offset - low, high - offset)
    return OffsetEstimate(offset, error, min(sample.delay for sample in samples), now, len(samples), agreeing)
