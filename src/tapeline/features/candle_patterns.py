"""Candlestick patterns: the 61 that TA-Lib recognises, with their sign and strength.

None of them looks ahead, and none remembers more than ``PATTERN_MEMORY`` bars: a pattern compares a bar's parts with
averages over at most 10 bars before it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.registry import feature
from tapeline.features.arrays import Floats, columns, frame, talib

Pattern = Literal[
    "two_crows",
    "three_black_crows",
    "three_inside",
    "three_line_strike",
    "three_outside",
    "three_stars_in_the_south",
    "three_white_soldiers",
    "abandoned_baby",
    "advance_block",
    "belt_hold",
    "breakaway",
    "closing_marubozu",
    "concealing_baby_swallow",
    "counterattack",
    "dark_cloud_cover",
    "doji",
    "doji_star",
    "dragonfly_doji",
    "engulfing",
    "evening_doji_star",
    "evening_star",
    "gap_side_by_side_white",
    "gravestone_doji",
    "hammer",
    "hanging_man",
    "harami",
    "harami_cross",
    "high_wave",
    "hikkake",
    "hikkake_modified",
    "homing_pigeon",
    "identical_three_crows",
    "in_neck",
    "inverted_hammer",
    "kicking",
    "kicking_by_length",
    "ladder_bottom",
    "long_legged_doji",
    "long_line",
    "marubozu",
    "matching_low",
    "mat_hold",
    "morning_doji_star",
    "morning_star",
    "on_neck",
    "piercing",
    "rickshaw_man",
    "rise_fall_three_methods",
    "separating_lines",
    "shooting_star",
    "short_line",
    "spinning_top",
    "stalled_pattern",
    "stick_sandwich",
    "takuri",
    "tasuki_gap",
    "thrusting",
    "tristar",
    "unique_three_river",
    "upside_gap_two_crows",
    "gap_three_methods",
]

_ABBREVIATED: Final = {
    "two_crows": "CDL2CROWS",
    "three_black_crows": "CDL3BLACKCROWS",
    "three_inside": "CDL3INSIDE",
    "three_line_strike": "CDL3LINESTRIKE",
    "three_outside": "CDL3OUTSIDE",
    "three_stars_in_the_south": "CDL3STARSINSOUTH",
    "three_white_soldiers": "CDL3WHITESOLDIERS",
    "concealing_baby_swallow": "CDLCONCEALBABYSWALL",
    "gap_side_by_side_white": "CDLGAPSIDESIDEWHITE",
    "hikkake_modified": "CDLHIKKAKEMOD",
    "identical_three_crows": "CDLIDENTICAL3CROWS",
    "rise_fall_three_methods": "CDLRISEFALL3METHODS",
    "unique_three_river": "CDLUNIQUE3RIVER",
    "upside_gap_two_crows": "CDLUPSIDEGAP2CROWS",
    "gap_three_methods": "CDLXSIDEGAP3METHODS",
}

PATTERNS: Final = {
    name: _ABBREVIATED.get(name, f"CDL{name.replace('_', '').upper()}")
    for name in Pattern.__args__  # type: ignore[attr-defined]
}
"""By name, the function of TA-Lib that recognises it."""

PENETRABLE: Final = frozenset(
    {
        "abandoned_baby",
        "dark_cloud_cover",
        "evening_doji_star",
        "evening_star",
        "mat_hold",
        "morning_doji_star",
        "morning_star",
    }
)
"""The patterns that ask how deep one body reaches into another."""

PATTERN_MEMORY: Final = 20
"""Bars that decide any pattern: the longest reaches over 15, and a hikkake is confirmed up to 3 bars later."""

PRICES: Final = ("open", "high", "low", "close")

Penetration = Annotated[float, Field(ge=0, le=1)]


@feature(
    lookback=PATTERN_MEMORY,
    outputs=("{pattern}_direction", "{pattern}_strength"),
    reference="Nison, Japanese Candlestick Charting Techniques, 2nd ed. (2001); the rules as TA-Lib states them",
)
def candle_pattern(
    bars: pd.DataFrame, pattern: Pattern = "engulfing", penetration: Penetration | None = None
) -> pd.DataFrame:
    """One candlestick pattern that ends at this bar: its direction -1, 0 or 1 and its strength 0 to 2.

    Parameters
    ----------
    pattern:
        Which one; ``PATTERNS`` names the function of TA-Lib behind each.
    penetration:
        How deep one body must reach into another, as a share of it; TA-Lib's own default where absent. Only some
        patterns ask for it (``PENETRABLE``), the others leave it aside.

    Returns
    -------
    ``<pattern>_direction``: 1 bullish, -1 bearish, 0 no pattern. ``<pattern>_strength``: TA-Lib's grade over 100: 0 no
    pattern, 0.8 one that only just holds (engulfing and harami with one equal end), 1 a whole one, 2 a hikkake
    confirmed by a later close. The first 19 rows are NaN.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> found = candle_pattern(example_bars(*[10, 11] * 9, 11, 10, 13), pattern="engulfing")
    >>> found.iloc[-1].tolist()
    [1.0, 0.8]
    """
    graded = _settled(_graded(columns(bars, *PRICES), pattern, penetration))
    return frame(bars, **{f"{pattern}_direction": np.sign(graded), f"{pattern}_strength": np.abs(graded) / 100.0})


@feature(
    lookback=PATTERN_MEMORY,
    outputs=("bullish_patterns", "bearish_patterns"),
    reference="Morris, Candlestick Charting Explained, 3rd ed. (2006), chapter 6: several patterns at one bar",
)
def candle_pattern_counts(bars: pd.DataFrame) -> pd.DataFrame:
    """How many of the 61 candlestick patterns end at this bar, bullish and bearish ones apart.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> candle_pattern_counts(example_bars(*[10, 11] * 9, 11, 10, 13)).iloc[-1].tolist()
    [1.0, 0.0]
    """
    prices = columns(bars, *PRICES)
    bullish, bearish = np.zeros(len(bars)), np.zeros(len(bars))
    for pattern in PATTERNS:
        graded = _graded(prices, pattern, None)
        bullish += graded > 0
        bearish += graded < 0
    return frame(bars, bullish_patterns=_settled(bullish), bearish_patterns=_settled(bearish))


def _graded(prices: tuple[Floats, ...], pattern: str, penetration: float | None) -> Floats:
    """TA-Lib's answer, -200 to 200."""
    chosen: dict[str, Any] = {}
    if penetration is not None and pattern in PENETRABLE:
        chosen["penetration"] = penetration
    return talib(PATTERNS[pattern], *prices, **chosen).astype(np.float64)


def _settled(values: Floats) -> Floats:
    result = values.copy()
    result[: PATTERN_MEMORY - 1] = np.nan
    return result
