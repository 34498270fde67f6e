"""A scan: many detectors over the same bars, in one pass over what they share, on history and bar by bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.charts.bar_arrays import BarArrays, Call
from tapeline.charts.detector import Detector
from tapeline.charts.events import Event, event_frame, event_records, event_seed
from tapeline.charts.level_history import LevelHistory
from tapeline.charts.levels import find_levels
from tapeline.charts.swings import SwingStream, find_swings
from tapeline.charts.watch import WatchList
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import Catalog, Component

__all__ = ["Choice", "EventStream", "Update", "choose", "scan"]

_LOG_START: Final = 4_096


class _Stream(Protocol):
    """What is followed from the first bar on, in place of being found again on the newest bars."""

    def push(self, high: float, low: float, close: float) -> Sequence[Any]:
        """Take the next closed bar; what it brought."""

    def since(self, first: int) -> Any:
        """What there is from this bar on, its rows counted from there."""


_STREAMS: Final[Mapping[Callable[..., Any], Callable[..., _Stream]]] = MappingProxyType(
    {find_swings: SwingStream, find_levels: LevelHistory}
)


@dataclass(frozen=True)
class Choice:
    """A detector with its parameters."""

    component: Component
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def detector(self) -> Detector[...]:
        """The registered pattern itself."""
        return cast("Detector[...]", self.component.function)

    @property
    def lookback(self) -> int:
        """The bars that decide what it finds at the last of them."""
        return self.component.lookback_of(**self.parameters)


def choose(detectors: Iterable[str] | Mapping[str, Mapping[str, Any]] | None = None) -> tuple[Choice, ...]:
    """Detectors by name, with their parameters where they are not the defaults; all there are where absent.

    Raises
    ------
    ConfigurationError
        No detector has this name, it is no detector, or it refuses a parameter.

    Examples
    --------
    >>> [choice.component.name for choice in choose({"fractal_swing": {"left": 3}})]
    ['fractal_swing']
    """
    catalog = Catalog.discover(["tapeline.charts"])
    known = [one.name for one in catalog.of_kind("pattern")]
    wanted = known if detectors is None else detectors
    given = wanted if isinstance(wanted, Mapping) else {name: {} for name in wanted}
    chosen = []
    for name, parameters in given.items():
        component = catalog[name]
        if component.kind != "pattern":
            raise ConfigurationError(f"'{name}' is a {component.kind}, not a detector", hint=f"one of {known}")
        component.parameters(parameters)
        chosen.append(Choice(component, dict(parameters)))
    return tuple(chosen)


def scan(bars: pd.DataFrame | BarArrays, choices: Sequence[Choice]) -> pd.DataFrame:
    """The events of all chosen detectors on one history, in the order in which they were confirmed.

    What several of them stand on, such as swings, is found once. Events confirmed at the same bar stand in the order
    of the choices.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> events = scan(example_bars(10, 14, 15, 15, 12), choose(["fair_value_gap", "inverse_fair_value_gap"]))
    >>> events["kind"].astype(str).tolist()
    ['fair_value_gap']
    """
    arrays = BarArrays.of(bars)
    frames = [choice.detector(arrays, **choice.parameters) for choice in choices]
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        return event_frame(arrays, [], {})
    kinds = pd.CategoricalDtype(sorted({str(kind) for frame in filled for kind in frame["kind"].cat.categories}))
    whole = pd.concat([frame.assign(kind=frame["kind"].astype(kinds)) for frame in filled], ignore_index=True)
    return whole.sort_values("confirmed_at", kind="stable", ignore_index=True)


@dataclass(frozen=True)
class Update:
    """What one bar brought: events ``confirmed`` at its close, and earlier ones ``invalidated`` by it."""

    confirmed: list[Event]
    invalidated: list[Event]

    def __bool__(self) -> bool:
        return bool(self.confirmed or self.invalidated)


class EventStream:
    """The same events, bar by bar: what a scan of the whole history confirms at a bar is told at that bar.

    Swings are kept from bar to bar by their streams, which are exact. A detector searches the newest bars, as many as
    the widest lookback asks for, when the bar may bring it something: a new swing of those it stands on, a price that
    it waits for, see :mod:`tapeline.charts.watch`.

    Parameters
    ----------
    choices:
        From :func:`choose`. Detectors that need columns beyond open, high, low, close and volume are refused.
    follow:
        For how many bars after its confirmation an event's invalidation is told at least.

    Raises
    ------
    ConfigurationError
        A detector needs other columns.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> stream = EventStream(choose(["fair_value_gap"]))
    >>> updates = [stream.push(*row) for row in example_bars(10, 14, 15, 15, 12).itertuples()]
    >>> [len(update.confirmed) for update in updates], [len(update.invalidated) for update in updates]
    ([0, 0, 1, 0, 0], [0, 0, 0, 0, 1])
    """

    def __init__(self, choices: Sequence[Choice], *, follow: int = 500) -> None:
        for choice in choices:
            more = set(choice.component.required_columns(**choice.parameters)) - {"close_ts"}
            if more:
                raise ConfigurationError(f"{choice.component.name} needs the columns {sorted(more)}, a stream has none")
        self.choices = tuple(choices)
        self.reach = max(follow, *(choice.lookback for choice in choices))
        self.bars = 0
        self._first = 0  # the number of the bar in the first column that is kept
        self._times, self._prices = np.empty((2, _LOG_START), np.int64), np.empty((5, _LOG_START))
        # On no bars the detectors already ask for what is followed from the first bar on.
        asked = [_followed(choice) for choice in choices]
        self._streams = {call: _STREAMS[call.compute](*call.args, **dict(call.kwargs)) for call in set().union(*asked)}
        self._needs = {call: np.array([call in calls for calls in asked]) for call in self._streams}
        self._asked = asked
        self._probes = [
            (place, choice.detector.probed, choice.parameters)
            for place, choice in enumerate(self.choices)
            if choice.detector.probed is not None
        ]
        self._watches = WatchList(len(self.choices))
        self._again = np.ones(len(self.choices), np.bool_)
        self._seeds: dict[tuple[str, str], np.uint64] = {}

    @classmethod
    def after(cls, bars: pd.DataFrame, choices: Sequence[Choice], *, follow: int = 500) -> Self:
        """A stream that has taken these bars already and told nothing of them."""
        stream = cls(choices, follow=follow)
        arrays = BarArrays(bars)
        columns = arrays.open, arrays.high, arrays.low, arrays.close, arrays.volume
        for row in range(len(arrays)):
            stream._append(int(arrays.opened[row]), int(arrays.closed[row]), [float(part[row]) for part in columns])
        stream._again[:] = True
        return stream

    def push(
        self,
        ts: pd.Timestamp,
        open: float,
        high: float,
        low: float,
        close: float,
        volume: float,
        close_ts: pd.Timestamp,
    ) -> Update:
        """Take the next closed bar; what it confirms and invalidates.

        Raises
        ------
        DataError
            It does not come after the last one.
        """
        moved = self._append(ts.as_unit("ns").value, close_ts.as_unit("ns").value, [open, high, low, close, volume])
        arrays = self._tail()
        last = len(arrays) - 1
        due, sudden = self._due(arrays, moved)
        wanted = set().union(*(self._asked[place] for place in due))
        for call in wanted:
            arrays.keep(call, self._streams[call].since(self.bars - len(arrays)))
        update = Update([], [])
        for place in due:
            choice, confirmed = self.choices[place], False
            parts = arrays.once(choice.detector.found, **choice.parameters)
            for part in parts:
                new = part.confirmed == last
                if new.any():
                    confirmed = True
                    update.confirmed.extend(event_records(arrays, part.take(new), self._seed(choice, part.kind)))
                if part.invalidated is not None:
                    gone = (part.invalidated == last) & ~new
                    if gone.any():
                        update.invalidated.extend(event_records(arrays, part.take(gone), self._seed(choice, part.kind)))
            # What was known at this bar counts from the next one on, at whatever price that begins.
            self._again[place] = confirmed or sudden[place]
            if not self._again[place]:
                watch = choice.detector.watched(arrays, **choice.parameters)
                self._again[place] = watch is None
                if watch is not None:
                    self._watches.put(place, watch, self.bars - 1, self.bars - len(arrays))
        return update

    def _due(self, arrays: BarArrays, moved: NDArray[np.bool_]) -> tuple[list[int], NDArray[np.bool_]]:
        """The detectors that search at the last bar, and those of them that something other than a price brought to."""
        sudden = moved
        newest = self._prices[:4, max(0, self.bars - self._first - 2) : self.bars - self._first]
        prices = float(newest.min()), float(newest.max())
        closes = float(newest[3].min()), float(newest[3].max())
        if not prices[0] <= prices[1]:
            # A price that is no number says nothing about levels.
            return list(range(len(self.choices))), np.ones(len(self.choices), np.bool_)
        for place, probed, parameters in self._probes:
            sudden[place] = sudden[place] or probed(arrays, **parameters)
        due = self._watches.due(self.bars - 1, prices, closes) | sudden | self._again
        return np.flatnonzero(due).tolist(), sudden

    def _seed(self, choice: Choice, kind: str) -> np.uint64:
        name = (choice.component.name, kind)
        if name not in self._seeds:
            self._seeds[name] = event_seed(kind, choice.detector.identity(**choice.parameters))
        return self._seeds[name]

    def _append(self, opened: int, closed: int, prices: list[float]) -> NDArray[np.bool_]:
        """Take a bar; which detectors it gives something new to what they follow."""
        place = self.bars - self._first
        if place and opened <= self._times[0, place - 1]:
            raise DataError(
                f"a bar that opens at {pd.Timestamp(opened, tz='UTC')} does not come after the last one",
                hint="feed closed bars by time, each once",
            )
        if place == self._times.shape[1]:
            place = self._make_room(place)
        self._times[:, place] = opened, closed
        self._prices[:, place] = prices
        self.bars += 1
        moved = np.zeros(len(self.choices), np.bool_)
        for call, stream in self._streams.items():
            if stream.push(prices[1], prices[2], prices[3]):
                moved |= self._needs[call]
        return moved

    def _make_room(self, place: int) -> int:
        """Drop what no detector reads any more, or double the columns where that is little."""
        spare = place - self.reach
        if spare >= place // 2:
            self._times[:, : self.reach] = self._times[:, spare:place].copy()
            self._prices[:, : self.reach] = self._prices[:, spare:place].copy()
            self._first += spare
            return self.reach
        self._times = np.concatenate((self._times, np.empty_like(self._times)), axis=1)
        self._prices = np.concatenate((self._prices, np.empty_like(self._prices)), axis=1)
        return place

    def _tail(self) -> BarArrays:
        end = self.bars - self._first
        begin = max(0, end - self.reach)
        return BarArrays.of_columns(self._times[0, begin:end], self._times[1, begin:end], self._prices[:, begin:end])


def _followed(choice: Choice) -> set[Call]:
    """What a detector asks for, of all that a stream can follow bar by bar."""
    arrays = BarArrays.of_columns(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((5, 0)))
    arrays.once(choice.detector.found, **choice.parameters)
    return {call for call in arrays.calls() if call.compute in _STREAMS}
