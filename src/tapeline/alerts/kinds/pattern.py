"""Pattern alerts: every event that the detectors of :mod:`tapeline.charts` find, told at the close that confirms it.

An event holds for one record only, its value is its direction: 1 speaks for rising prices, -1 for falling ones, 0 for
neither. The score it has comes just before it and stays until the next one of its kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from tapeline.alerts.catalogue import NAME_OF, TIMEFRAME, Built, Context, Function, Parameter, declared
from tapeline.alerts.engine.layout import TIMEFRAMES
from tapeline.alerts.external import External
from tapeline.alerts.operands import Truth, compare, external
from tapeline.core.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

    from tapeline.charts.scan import Choice, EventStream

_HARMONICS: Final = (
    *("gartley", "bat", "alternate_bat", "butterfly", "crab", "deep_crab", "shark", "cypher", "five_zero"),
    *("three_drives", "ab_cd"),
)
_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "bordered_pattern": (
        *("ascending_triangle", "descending_triangle", "symmetrical_triangle", "rising_wedge", "falling_wedge"),
        *("broadening", "ascending_broadening", "descending_broadening", "rectangle"),
    ),
    "bowl_pattern": ("rounding_bottom", "rounding_top", "cup_with_handle", "inverted_cup_with_handle"),
    "break_of_structure": ("break_of_structure",),
    "breaker_block": ("breaker_block",),
    "change_of_character": ("change_of_character", "market_structure_shift"),
    "directional_change": ("directional_change",),
    "elliott_wave": (
        *("impulse", "leading_diagonal", "ending_diagonal", "zigzag_correction", "flat_regular", "flat_expanded"),
        *("flat_running", "triangle", "combination"),
    ),
    "equal_extremes": ("equal_highs", "equal_lows"),
    "fair_value_gap": ("fair_value_gap",),
    "fibonacci_confluence": ("fibonacci_confluence",),
    "fibonacci_level": ("fibonacci_break", "fibonacci_rejection", "fibonacci_touch"),
    "flag_pattern": ("flag", "pennant"),
    "forming_harmonic": tuple(f"forming_{name}" for name in _HARMONICS),
    "fractal_repeat": ("fractal_repeat",),
    "fractal_swing": ("fractal_swing",),
    "gann_angle": ("gann_angle_cross",),
    "gap_encroachment": ("gap_encroachment",),
    "harmonic_pattern": _HARMONICS,
    "ichimoku_signal": (
        *("base_line_cross", "cloud_breakout", "cloud_twist", "conversion_base_cross", "lagging_cross"),
    ),
    "inverse_fair_value_gap": ("inverse_fair_value_gap",),
    "level_break": ("level_break",),
    "level_flip": ("level_flip",),
    "liquidity_sweep": ("liquidity_sweep",),
    "liquidity_void": ("liquidity_void",),
    "order_block": ("order_block",),
    "order_block_mitigation": ("order_block_mitigation",),
    "parallel_channel": ("parallel_channel", "parallel_channel_break", "parallel_channel_touch"),
    "pitchfork": ("pitchfork", "pitchfork_break", "pitchfork_median", "pitchfork_touch"),
    "pivot_break": ("pivot_break",),
    "pivot_touch": ("pivot_touch",),
    "point_of_interest": ("point_of_interest",),
    "profile_event": ("value_acceptance", "value_migration", "value_rejection"),
    "profile_shape": ("profile_shape_b", "profile_shape_d", "profile_shape_double", "profile_shape_p"),
    "prominence_swing": ("prominence_swing",),
    "regression_channel": ("regression_channel", "regression_channel_break", "regression_channel_touch"),
    "reversal_pattern": (
        *("double_bottom", "double_top", "triple_bottom", "triple_top", "head_and_shoulders_bottom"),
        "head_and_shoulders_top",
    ),
    "session_gap": ("session_gap", "weekend_gap"),
    "session_profile": ("high_volume_node", "low_volume_node", "point_of_control", "value_area"),
    "supertrend_flip": ("supertrend_flip",),
    "supply_demand_zone": ("drop_base_drop", "drop_base_rally", "rally_base_drop", "rally_base_rally"),
    "support_resistance": ("support_resistance",),
    "swing_label": ("higher_high", "higher_low", "lower_high", "lower_low"),
    "trendline": ("trendline", "trendline_break", "trendline_retest", "trendline_touch"),
    "vwap_signal": ("vwap_band_break", "vwap_band_return", "vwap_cross"),
    "wolfe_wave": ("wolfe_wave",),
    "zigzag_swing": ("zigzag_swing",),
    "zone_test": ("zone_test",),
}
DETECTOR_OF: Final[Mapping[str, str]] = MappingProxyType(
    {kind: detector for detector, kinds in _KINDS.items() for kind in kinds}
)
"""The detector that finds each kind of event."""


def pattern_key(kind: str, timeframe: int) -> str:
    """The series of one kind of events on the bars of one timeframe."""
    return f"pattern:{kind}:{NAME_OF[timeframe]}"


def score_key(kind: str, timeframe: int) -> str:
    """The series of the scores of one kind of events."""
    return f"pattern_score:{kind}:{NAME_OF[timeframe]}"


def wanted_patterns(keys: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """The kinds of events behind the keys of external series, by timeframe in nanoseconds.

    Examples
    --------
    >>> wanted_patterns(["pattern:double_top:1h", "sentiment:level"])
    {3600000000000: ('double_top',)}
    """
    found: dict[int, set[str]] = {}
    for key in keys:
        series, *rest = key.split(":")
        if series in ("pattern", "pattern_score") and len(rest) == 2:
            found.setdefault(TIMEFRAMES[rest[1]], set()).add(rest[0])
    return {timeframe: tuple(sorted(found[timeframe])) for timeframe in sorted(found)}


def pattern_events(bars: pd.DataFrame, symbol: str, kinds: Iterable[str], timeframe: int) -> list[External]:
    """The records of all events on a history of closed bars, by time.

    Parameters
    ----------
    bars:
        Closed bars with ``close_ts``, of the timeframe.
    kinds:
        Names of events, as in :data:`DETECTOR_OF`.

    Raises
    ------
    ConfigurationError
        No detector finds one of the kinds.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = pattern_events(example_bars(10, 14, 15, 15, 12), "BTCUSDT", ["fair_value_gap"], TIMEFRAMES["1h"])
    >>> [(record.key, record.value) for record in found if record.event]
    [('pattern:fair_value_gap:1h', 1.0)]
    """
    from tapeline.charts.scan import scan

    wanted = frozenset(kinds)
    events = scan(bars, _choices(wanted))
    times = events["confirmed_at"].dt.as_unit("ns").astype("int64") if len(events) else []
    rows = zip(times, events["kind"], events["direction"], events["score"], strict=True)
    return [
        record
        for ts, kind, direction, score in rows
        if kind in wanted
        for record in _records(int(ts), symbol, str(kind), int(direction), float(score), timeframe)
    ]


def from_history(keys: Iterable[str], symbol: str, bars_of: Callable[[int], pd.DataFrame]) -> list[External]:
    """The records of the keys that are patterns, on closed bars by timeframe."""
    return [
        record
        for timeframe, wanted in wanted_patterns(keys).items()
        for record in pattern_events(bars_of(timeframe), symbol, wanted, timeframe)
    ]


class PatternFeed:
    """The same records, bar by bar, for one symbol and timeframe: each detector runs once for all rules.

    Parameters
    ----------
    history:
        Closed bars with ``close_ts`` that have been taken already; nothing is told of them.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> feed = PatternFeed("BTCUSDT", ["fair_value_gap"], TIMEFRAMES["1h"])
    >>> [len(feed.push(*bar)) for bar in example_bars(10, 14, 15, 15, 12).itertuples()]
    [0, 0, 2, 0, 0]
    """

    def __init__(
        self, symbol: str, kinds: Iterable[str], timeframe: int, *, history: pd.DataFrame | None = None
    ) -> None:
        from tapeline.charts.scan import EventStream

        self.symbol, self.kinds, self.timeframe = symbol, frozenset(kinds), timeframe
        choices = _choices(self.kinds)
        self._stream: EventStream = (
            EventStream(choices, follow=1) if history is None else EventStream.after(history, choices, follow=1)
        )

    @property
    def reach(self) -> int:
        """Bars that the detectors look back."""
        return self._stream.reach

    def push(
        self,
        ts: pd.Timestamp,
        open: float,
        high: float,
        low: float,
        close: float,
        volume: float,
        close_ts: pd.Timestamp,
    ) -> list[External]:
        """Take the next closed bar; what it confirms."""
        update = self._stream.push(ts, open, high, low, close, volume, close_ts)
        found: list[External] = []
        for event in update.confirmed:
            if event.kind in self.kinds:
                at = event.confirmed_at.as_unit("ns").value
                found.extend(_records(at, self.symbol, event.kind, event.direction, event.score, self.timeframe))
        return found


def _records(ts: int, symbol: str, kind: str, direction: int, score: float, timeframe: int) -> Iterator[External]:
    yield External(ts, symbol, score_key(kind, timeframe), score if math.isfinite(score) else math.nan)
    yield External(ts, symbol, pattern_key(kind, timeframe), float(direction), event=True)


@lru_cache(maxsize=256)
def pattern_reach(kinds: tuple[str, ...]) -> int:
    """Bars that the detectors of some kinds of events look back.

    Examples
    --------
    >>> pattern_reach(("fair_value_gap",)) < pattern_reach(("double_top",))
    True
    """
    return max((choice.lookback for choice in _choices(frozenset(kinds))), default=1)


@lru_cache(maxsize=256)
def _choices(kinds: frozenset[str]) -> tuple[Choice, ...]:
    """The detectors of some kinds of events; going through all that there are costs 20 ms."""
    from tapeline.charts.scan import choose

    return choose(_detectors(kinds))


def _detectors(kinds: Iterable[str]) -> list[str]:
    unknown = sorted(set(kinds) - set(DETECTOR_OF))
    if unknown:
        raise ConfigurationError(
            f"no detector finds {unknown[0]!r}", hint=f"known are {', '.join(sorted(DETECTOR_OF))}"
        )
    return sorted({DETECTOR_OF[kind] for kind in kinds})


def _pattern(given: Mapping[str, Any], context: Context) -> Built:
    return _occurred(given["kind"], given)


def _occurred(kind: str, given: Mapping[str, Any]) -> Truth:
    event = external(pattern_key(kind, given["timeframe"]))
    if given["direction"] == "any":
        return compare(event, ">=", -1.0)
    return compare(event, ">", 0.0) if given["direction"] == "up" else compare(event, "<", 0.0)


def _score(given: Mapping[str, Any], context: Context) -> Built:
    return external(score_key(given["kind"], given["timeframe"]))


def _break(direction: str) -> Any:
    return lambda given, _: _occurred("level_break", {**given, "direction": direction})


_KIND: Final = Parameter("kind", "choice", choices=tuple(sorted(DETECTOR_OF)), description="of the event")
_DIRECTION: Final = Parameter("direction", "choice", "any", choices=("any", "up", "down"))

FUNCTIONS: Final = declared(
    Function(
        "pattern",
        (_KIND, _DIRECTION, TIMEFRAME),
        _pattern,
        "A chart pattern, level, zone or structure event was confirmed at a close.",
        'pattern("double_top", "1h")',
        event=True,
    ),
    Function(
        "pattern_score",
        (_KIND, TIMEFRAME),
        _score,
        "The score of the newest event of the kind, as its detector states it.",
        'pattern("double_top", "1h") and pattern_score("double_top", "1h") > 0.6',
    ),
    Function(
        "breaks_resistance",
        (TIMEFRAME,),
        _break("up"),
        "A close above a level of support and resistance.",
        'breaks_resistance("1h")',
        event=True,
    ),
    Function(
        "breaks_support",
        (TIMEFRAME,),
        _break("down"),
        "A close below a level of support and resistance.",
        'breaks_support("1h")',
        event=True,
    ),
)
RANGES: Final = {"pattern:": (-1.0, 1.0)}
