"""History: which ranges are still missing, in which pieces to ask for them, and how to follow a source's pages.

Pure planning and one generator: what is stored is passed in, what is loaded is handed out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError, ProviderError
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import BarRequest, Data, Empty, Source, require

MAXIMUM_PAGES: Final = 100_000


@dataclass(frozen=True, order=True)
class Span:
    """A half-open range ``[start, end)`` of open times, in nanoseconds since the epoch, UTC."""

    start: int
    end: int

    @property
    def bounds(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """Both bounds as instants."""
        return pd.Timestamp(self.start, unit="ns", tz="UTC"), pd.Timestamp(self.end, unit="ns", tz="UTC")


@dataclass(frozen=True, order=True)
class Loaded:
    """A span that was asked for and answered, and how many rows the lake held of it then.

    Weekends and halts are spans without a row: without this record they would be asked for again on each run.
    """

    start: int
    end: int
    rows: int


def wanted_span(timeframe: Timeframe, start: pd.Timestamp, end: pd.Timestamp | None, now: pd.Timestamp) -> Span:
    """The open times between start and end whose bars are complete at ``now``, to the second; maybe none.

    By the clock and not by the grid: a bar that opens at half past the hour is complete at half past the next.

    Raises
    ------
    ConfigurationError
        ``start`` is not before ``end``.

    Examples
    --------
    >>> start, now = pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-01-01 03:30", tz="UTC")
    >>> wanted_span(Timeframe.parse("H1"), start, None, now).bounds[1]
    Timestamp('2024-01-01 02:30:01+0000', tz='UTC')
    """
    if end is not None and start >= end:
        raise ConfigurationError(f"start {start.isoformat()} is not before end {end.isoformat()}")
    closed = ((now - timeframe.duration).floor("s") + pd.Timedelta(seconds=1)).as_unit("ns").value
    last = closed if end is None else min(closed, end.as_unit("ns").value)
    first = start.as_unit("ns").value
    return Span(first, max(first, last))


def stored_spans(opens: pd.DatetimeIndex, timeframe: Timeframe) -> list[Span]:
    """The unbroken runs of stored bars.

    Examples
    --------
    >>> opens = pd.DatetimeIndex(["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 05:00"], tz="UTC")
    >>> [(a.hour, b.hour) for a, b in (span.bounds for span in stored_spans(opens, Timeframe.parse("H1")))]
    [(0, 2), (5, 6)]
    """
    stamps = np.unique(opens.as_unit("ns").asi8)
    if not stamps.size:
        return []
    step = timeframe.nanoseconds
    breaks = np.flatnonzero(np.diff(stamps) > step)
    first = stamps[np.concatenate(([0], breaks + 1))]
    last = stamps[np.concatenate((breaks, [stamps.size - 1]))]
    return [Span(int(a), int(b) + step) for a, b in zip(first, last, strict=True)]


def missing_ranges(wanted: Span, covered: Iterable[Span]) -> list[Span]:
    """What is left of a span when others are taken away, in order.

    Examples
    --------
    >>> missing_ranges(Span(0, 10), [Span(4, 6), Span(-3, 1), Span(5, 7)])
    [Span(start=1, end=4), Span(start=7, end=10)]
    """
    left, at = [], wanted.start
    for span in sorted(covered):
        if span.end <= at:
            continue
        if span.start >= wanted.end:
            break
        if span.start > at:
            left.append(Span(at, span.start))
        at = span.end
    if at < wanted.end:
        left.append(Span(at, wanted.end))
    return left


def chunks(spans: Iterable[Span], timeframe: Timeframe, rows: int) -> list[Span]:
    """Cut spans into pieces of at most so many bars, on a grid of their own: the same pieces wherever a run begins.

    Raises ConfigurationError where ``rows`` is below 1.
    """
    if rows < 1:
        raise ConfigurationError(f"rows = {rows} is below 1")
    size = timeframe.nanoseconds * rows
    found = []
    for span in spans:
        edges = [span.start, *range((span.start // size + 1) * size, span.end, size), span.end]
        found += [Span(a, b) for a, b in pairwise(edges) if b > a]
    return found


def follow(source: Source, request: BarRequest) -> Iterator[Data | Empty]:
    """Every answer of a source to a request: where it stops at its own bound, it is asked again from there.

    Raises
    ------
    ProviderError
        The source names a place to go on that lies not after the place it was asked from.
    TapelineError
        What the source failed with.
    """
    for _ in range(MAXIMUM_PAGES):
        outcome = require(source.fetch(request))
        yield outcome
        resume = outcome.resume_at if isinstance(outcome, Data) else None
        if resume is None or (request.end is not None and resume >= request.end):
            return
        if request.start is not None and resume <= request.start:
            raise ProviderError(f"{source.name}: asked from {request.start}, it says to go on at {resume}")
        request = replace(request, start=resume)
    raise ProviderError(f"{source.name}: more than {MAXIMUM_PAGES} answers to one request", hint="ask for less")


class Ledger:
    """What was asked for and answered of one series: a small file beside the lake, replaced in one step.

    The lake stays the truth: :meth:`spans` takes the current number of rows and leaves out each record of which the
    lake now holds fewer rows than when it was written, so a lake that lost its files is filled again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Loaded]:
        """The records, in order; a missing file is none.

        Raises DataError where the file does not parse.
        """
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise DataError(f"the ledger '{self._path}' cannot be read: {error}", hint="delete it") from error
        try:
            return sorted(Loaded(int(start), int(end), int(count)) for start, end, count in rows)
        except (TypeError, ValueError) as error:
            raise DataError(f"the ledger '{self._path}' holds no records", hint="delete it") from error

    def add(self, record: Loaded) -> None:
        """Write one record more; a crash leaves the file of before or of after."""
        records = sorted({*self.read(), record})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_suffix(f".{os.getpid()}.tmp")
        with scratch.open("w", encoding="utf-8") as file:
            json.dump([[item.start, item.end, item.rows] for item in records], file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._path)

    def spans(self, opens: pd.DatetimeIndex) -> list[Span]:
        """The spans that need not be asked for again, given the open times that the lake holds."""
        stamps = np.sort(opens.as_unit("ns").asi8)
        return [
            Span(item.start, item.end)
            for item in self.read()
            if np.searchsorted(stamps, item.end) - np.searchsorted(stamps, item.start) >= item.rows
        ]
