"""The drift of each feed against a reference over time: measured as it streams, alerted with hysteresis, kept, plotted.

The drift of a message is its venue's time less the reference time at which it was received: what the venue's clock is
ahead of the reference, less the message's way. A healthy feed shows a small negative number, its latency. A positive
one cannot be latency: then one of the two clocks is wrong.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pandas as pd

from tapeline.clock.window import QuantileWindow
from tapeline.core.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THRESHOLD: Final = 1_000_000_000
"""A drift worth an alert: one second."""

MAXIMUM_FEEDS: Final = 1_000
COLUMNS: Final = ("ts", "feed", "median_ms", "low_ms", "high_ms", "messages", "alert")


@dataclass(frozen=True)
class DriftAlert:
    """A feed's drift crossed the threshold (``raised``) or came back (``cleared``)."""

    feed: str
    kind: Literal["raised", "cleared"]
    drift: int
    at: int

    def __str__(self) -> str:
        instant = pd.Timestamp(self.at, unit="ns", tz="UTC").strftime("%Y-%m-%d %H:%M:%S")
        return f"clock drift of {self.feed} {self.kind} at {instant}: {self.drift / 1e6:+.0f} ms"


class _Feed:
    __slots__ = ("alert", "messages", "recorded", "window")

    def __init__(self, size: int) -> None:
        self.window = QuantileWindow(size)
        self.alert = False
        self.messages = 0
        self.recorded: int | None = None


class DriftMonitor:
    """Watches feeds, message by message.

    Parameters
    ----------
    threshold:
        An alert is raised when the absolute median of the window exceeds it, ns.
    clear:
        It is cleared when the median is below this again, ns; less than ``threshold``, so that a drift at the
        threshold does not flap. 80 % of the threshold where absent.
    window:
        Messages over which the median is taken.
    warm_up:
        Messages before a feed is judged, so that one late message raises nothing.
    every:
        Nanoseconds of reference time between two rows of the history of a feed.
    history:
        Rows of history kept, all feeds together; the oldest go.

    Examples
    --------
    >>> monitor = DriftMonitor(warm_up=3)
    >>> alerts = [monitor.add("binance", 1_270_000_000 + t, t) for t in (0, 10, 20)]
    >>> print(alerts[-1])
    clock drift of binance raised at 1970-01-01 00:00:00: +1270 ms
    """

    def __init__(
        self,
        *,
        threshold: int = THRESHOLD,
        clear: int | None = None,
        window: int = 255,
        warm_up: int = 30,
        every: int = 10_000_000_000,
        history: int = 100_000,
    ) -> None:
        clear = threshold * 4 // 5 if clear is None else clear
        if not 0 < clear < threshold:
            raise ConfigurationError(f"clear = {clear} must be above 0 and below threshold = {threshold}")
        if not 1 <= warm_up <= window:
            raise ConfigurationError(f"warm_up = {warm_up} must be from 1 to window = {window}")
        if every < 1 or history < 1:
            raise ConfigurationError(f"every = {every} and history = {history} must be positive")
        self.threshold, self.clear, self.warm_up, self.every = threshold, clear, warm_up, every
        self.refused = 0
        self._size = window
        self._feeds: dict[str, _Feed] = {}
        self._history: deque[tuple[int, str, float, float, float, int, bool]] = deque(maxlen=history)

    def add(self, feed: str, venue_time: int, reference_time: int) -> DriftAlert | None:
        """Take one message: when the venue says it happened, and when the reference clock says it was received.

        Returns the alert that it raises or clears. Beyond ``MAXIMUM_FEEDS`` names further feeds are only counted.
        """
        known = self._feeds.get(feed)
        if known is None:
            if len(self._feeds) >= MAXIMUM_FEEDS:
                self.refused += 1
                return None
            known = self._feeds[feed] = _Feed(self._size)
        known.window.add(venue_time - reference_time)
        known.messages += 1
        if len(known.window) < self.warm_up:
            return None
        median = known.window.quantile(0.5)
        alert = self._judge(feed, known, median, reference_time)
        if alert is not None or known.recorded is None or reference_time - known.recorded >= self.every:
            known.recorded = reference_time
            low, high = known.window.quantile(0.05), known.window.quantile(0.95)
            row = (reference_time, feed, median / 1e6, low / 1e6, high / 1e6, known.messages, known.alert)
            self._history.append(row)
        return alert

    def _judge(self, feed: str, known: _Feed, median: int, at: int) -> DriftAlert | None:
        if not known.alert and abs(median) > self.threshold:
            known.alert = True
            return DriftAlert(feed, "raised", median, at)
        if known.alert and abs(median) < self.clear:
            known.alert = False
            return DriftAlert(feed, "cleared", median, at)
        return None

    def drift(self, feed: str) -> int:
        """The median drift of a feed's window, ns.

        Raises
        ------
        ConfigurationError
            Nothing of the feed was seen.
        """
        if feed not in self._feeds:
            raise ConfigurationError(f"feed {feed!r} was not seen", hint=f"seen: {', '.join(self._feeds) or 'none'}")
        return self._feeds[feed].window.quantile(0.5)

    def alerting(self) -> list[str]:
        """The feeds whose alert stands."""
        return [name for name, known in self._feeds.items() if known.alert]

    def frame(self) -> pd.DataFrame:
        """The history, indexed by ``ts`` (reference time, UTC).

        Columns: ``feed``, ``median_ms``, ``low_ms`` and ``high_ms`` (5 and 95 % quantiles of the window),
        ``messages`` so far, ``alert`` (True while it stands).
        """
        table = pd.DataFrame(list(self._history), columns=list(COLUMNS))
        stamps = table["ts"].to_numpy(dtype=np.int64)
        index = pd.DatetimeIndex(pd.to_datetime(stamps, unit="ns", utc=True), name="ts").as_unit("ns")
        types = {"feed": "str", "median_ms": "float64", "low_ms": "float64", "high_ms": "float64"}
        result = table.drop(columns="ts").astype({**types, "messages": "int64", "alert": "bool"})
        return result.set_axis(index, axis=0)


def plot_drift(
    history: pd.DataFrame, *, threshold: int = THRESHOLD, label: str = "venue time less reference time"
) -> Figure:
    """Median drift of each feed over time with its 5 to 95 % band, and the alert threshold.

    Parameters
    ----------
    history:
        As :meth:`DriftMonitor.frame` gives it.
    label:
        What is drawn, without its unit.

    Returns
    -------
    A figure that belongs to no window; write it with ``savefig``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for feed, rows in history.groupby("feed"):
        times = pd.DatetimeIndex(rows.index).tz_localize(None)
        (line,) = axes.plot(times, rows["median_ms"], label=str(feed), marker=".")
        axes.fill_between(times, rows["low_ms"], rows["high_ms"], alpha=0.2, color=line.get_color())
    for sign in (1, -1):
        axes.axhline(sign * threshold / 1e6, linestyle="--", linewidth=1, color="black", alpha=0.5)
    axes.set_ylabel(f"{label}, ms")
    axes.set_xlabel("UTC")
    if len(history):
        axes.legend()
    return figure
