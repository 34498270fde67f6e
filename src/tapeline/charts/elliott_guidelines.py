"""Elliott's guidelines: tendencies as numbers from 0 to 1, one named function each, and the table of where they stand.

Source and signs are those of :mod:`tapeline.charts.elliott_rules`. Where the book says no more than a tendency
("sharp", "sideways", "tend to equality"), the number measured here is this project's reading of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline.charts.elliott_rules import DIAGONALS, FLATS, MOTIVE, THREES

GOLDEN: Final = (1.0 + 5.0**0.5) / 2.0
_HALF_STEP: Final = math.log(GOLDEN) / 2.0


@njit(cache=True, nogil=True, error_model="numpy")
def nearness(ratio: Any, target: Any) -> Any:
    """1 where a ratio equals its target, falling with its logarithm to 0 half a golden step (a factor 1.272) away.

    Examples
    --------
    >>> nearness(0.618, 0.618), nearness(1.0, 0.618), round(nearness(0.55, 0.5), 3)
    (1.0, 0.0, 0.604)
    """
    if math.isnan(ratio):
        return math.nan
    if ratio <= 0.0 or math.isinf(ratio):
        return 0.0
    return max(0.0, 1.0 - abs(math.log(ratio / target)) / _HALF_STEP)


@njit(cache=True, nogil=True, error_model="numpy")
def nearest(ratio: Any, targets: Any) -> Any:
    """The nearness to the nearest of several targets."""
    best = nearness(ratio, targets[0])
    for target in targets[1:]:
        best = max(best, nearness(ratio, target))
    return best


@njit(cache=True, nogil=True, error_model="numpy")
def wave_two_depth(p: Any, r: Any, v: Any) -> Any:
    """Sharp corrections, above all wave 2, tend to retrace 61.8 or 50 percent."""
    return nearest((p[1] - p[2]) / (p[1] - p[0]), (0.618, 0.5))


@njit(cache=True, nogil=True, error_model="numpy")
def wave_three_multiple(p: Any, r: Any, v: Any) -> Any:
    """Wave 3 tends to be 1, 1.618 or 2.618 times wave 1."""
    return nearest((p[3] - p[2]) / (p[1] - p[0]), (1.618, 2.618, 1.0))


@njit(cache=True, nogil=True, error_model="numpy")
def wave_four_depth(p: Any, r: Any, v: Any) -> Any:
    """Sideways corrections, above all wave 4, tend to retrace 38.2 percent."""
    return nearness((p[3] - p[4]) / (p[3] - p[2]), 0.382)


@njit(cache=True, nogil=True, error_model="numpy")
def wave_five_multiple(p: Any, r: Any, v: Any) -> Any:
    """Wave 5 tends to 0.618, 1 or 1.618 of wave 1, or to a Fibonacci share of the way from 0 to 3."""
    last = p[5] - p[4]
    return max(nearest(last / (p[1] - p[0]), (1.0, 0.618, 1.618)), nearest(last / (p[3] - p[0]), (0.382, 0.618, 1.618)))


@njit(cache=True, nogil=True, error_model="numpy")
def wave_equality(p: Any, r: Any, v: Any) -> Any:
    """The two waves that are not extended tend to equality: of 1, 3 and 5 the two shorter (wave 5 = wave 1)."""
    first, third, fifth = p[1] - p[0], p[3] - p[2], p[5] - p[4]
    longest = max(first, third, fifth)
    middle = first + third + fifth - longest - min(first, third, fifth)
    return nearness(min(first, third, fifth) / middle, 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def alternation(p: Any, r: Any, v: Any) -> Any:
    """One of waves 2 and 4 is sharp, the other sideways: full where their depths differ as 61.8 and 38.2 percent do."""
    difference = abs((p[1] - p[2]) / (p[1] - p[0]) - (p[3] - p[4]) / (p[3] - p[2]))
    return difference if math.isnan(difference) else min(1.0, difference / 0.236)


@njit(cache=True, nogil=True, error_model="numpy")
def channelling(p: Any, r: Any, v: Any) -> Any:
    """Wave 5 ends at the parallel to the line 2-4 through 3, or through 1: 0 a channel's height away from both."""
    if math.isnan(p[5]):
        return math.nan
    slope = (p[4] - p[2]) / (r[4] - r[2])
    best = 0.0
    for k in (1, 3):
        height = p[k] - (p[2] + slope * (r[k] - r[2]))
        miss = abs(p[5] - (p[k] + slope * (r[5] - r[k])))
        if height > 0.0:
            best = max(best, 1.0 - miss / height)
    return best


@njit(cache=True, nogil=True, error_model="numpy")
def volume_of_the_waves(p: Any, r: Any, v: Any) -> Any:
    """Volume is largest in wave 3: half for no less than in wave 1, half for no more in wave 5 than in 3."""
    if not (v[0] + v[2] + v[4] > 0.0):
        return math.nan
    return 0.5 * (v[2] >= v[0]) + 0.5 * (v[4] <= v[2])


@njit(cache=True, nogil=True, error_model="numpy")
def diagonal_depths(p: Any, r: Any, v: Any) -> Any:
    """Waves 2 and 4 of a diagonal each tend to retrace 66 to 81 percent: the mean of their nearness to the middle."""
    return 0.5 * (nearness((p[1] - p[2]) / (p[1] - p[0]), 0.735) + nearness((p[3] - p[4]) / (p[3] - p[2]), 0.735))


@njit(cache=True, nogil=True, error_model="numpy")
def zigzag_b_depth(p: Any, r: Any, v: Any) -> Any:
    """B of a zigzag tends to retrace 50 or 61.8 percent of A, as sharp corrections do."""
    return nearest((p[1] - p[2]) / (p[1] - p[0]), (0.5, 0.618))


@njit(cache=True, nogil=True, error_model="numpy")
def zigzag_c_multiple(p: Any, r: Any, v: Any) -> Any:
    """C of a zigzag is usually as long as A, not uncommonly 1.618 or 0.618 times."""
    return nearest((p[3] - p[2]) / (p[1] - p[0]), (1.0, 1.618, 0.618))


@njit(cache=True, nogil=True, error_model="numpy")
def zigzag_channel(p: Any, r: Any, v: Any) -> Any:
    """C ends at the parallel to the line from the start of A to the end of B, through the end of A."""
    if math.isnan(p[3]):
        return math.nan
    slope = (p[2] - p[0]) / (r[2] - r[0])
    height = p[1] - (p[0] + slope * (r[1] - r[0]))
    return max(0.0, 1.0 - abs(p[3] - (p[1] + slope * (r[3] - r[1]))) / height) if height > 0.0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def regular_flat_equality(p: Any, r: Any, v: Any) -> Any:
    """A, B and C of a regular flat are about equal."""
    first = p[1] - p[0]
    return 0.5 * (nearness((p[1] - p[2]) / first, 1.0) + nearness((p[3] - p[2]) / first, 1.0))


@njit(cache=True, nogil=True, error_model="numpy")
def wide_flat_b(p: Any, r: Any, v: Any) -> Any:
    """B of an expanded or running flat is often 1.236 or 1.382 of A."""
    return nearest((p[1] - p[2]) / (p[1] - p[0]), (1.236, 1.382))


@njit(cache=True, nogil=True, error_model="numpy")
def expanded_flat_c(p: Any, r: Any, v: Any) -> Any:
    """C of an expanded flat is often 1.618, sometimes 2.618 times A."""
    return nearest((p[3] - p[2]) / (p[1] - p[0]), (1.618, 2.618))


@njit(cache=True, nogil=True, error_model="numpy")
def running_flat_c(p: Any, r: Any, v: Any) -> Any:
    """C of a running flat is near A in length, and so falls short of its end."""
    return nearness((p[3] - p[2]) / (p[1] - p[0]), 1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def triangle_alternate_legs(p: Any, r: Any, v: Any) -> Any:
    """At least two alternate legs of a triangle are related by 0.618: the mean of the two best of C/A, D/B, E/C."""
    one = nearness((p[3] - p[2]) / (p[1] - p[0]), 0.618)
    two = nearness((p[3] - p[4]) / (p[1] - p[2]), 0.618)
    three = nearness((p[5] - p[4]) / (p[3] - p[2]), 0.618)
    return 0.5 * (one + two + three - min(one, two, three))


@njit(cache=True, nogil=True, error_model="numpy")
def triangle_e_at_the_line(p: Any, r: Any, v: Any) -> Any:
    """E ends near the line through the ends of A and C, short of it or beyond: 0 where it is D's height away."""
    if math.isnan(p[5]):
        return math.nan
    line = p[1] + (p[3] - p[1]) / (r[3] - r[1]) * (r[5] - r[1])
    return max(0.0, 1.0 - abs(p[5] - line) / (p[3] - p[4]))


@njit(cache=True, nogil=True, error_model="numpy")
def y_multiple(p: Any, r: Any, v: Any) -> Any:
    """Y tends to be as long as W, or 0.618 or 1.618 times."""
    return nearest((p[7] - p[4]) / (p[3] - p[0]), (1.0, 0.618, 1.618))


@njit(cache=True, nogil=True, error_model="numpy")
def x_depth(p: Any, r: Any, v: Any) -> Any:
    """X tends to retrace 50, 61.8 or 100 percent of W, as B of a zigzag or a flat does of A."""
    return nearest((p[3] - p[4]) / (p[3] - p[0]), (0.5, 0.618, 1.0))


@njit(cache=True, nogil=True, error_model="numpy")
def five_within(legs: Any, lawful: Any) -> Any:
    """Whether the legs that the degree below sees within a wave make a five; NaN where it sees but one.

    1 for five legs that keep the rules of an impulse, 0.5 for 9, 13 or 17 (fives with extensions), else 0.

    Examples
    --------
    >>> five_within(5, True), five_within(9, False), five_within(3, False), five_within(1, False)
    (1.0, 0.5, 0.0, nan)
    """
    if legs <= 1:
        return math.nan
    if legs == 5:
        return 1.0 if lawful else 0.0
    return 0.5 if legs in (9, 13, 17) else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def three_within(legs: Any, lawful: Any) -> Any:
    """Whether the legs within a wave make a three: 1 for three, 0.5 for 7 or 11 (two or three threes), else 0."""
    if legs <= 1:
        return math.nan
    if legs == 3:
        return 1.0
    return 0.5 if legs in (7, 11) else 0.0


@dataclass(frozen=True)
class Guideline:
    """A guideline, its weight in the score, the kinds it speaks of, and where it is published (chapter, section).

    ``wave`` is None where ``measure`` takes (p, r, v); else it takes what the degree below shows within that wave.
    """

    measure: Any
    weight: float
    kinds: tuple[str, ...]
    source: str
    wave: int | None = None

    @property
    def name(self) -> str:
        """The name of its function, and of the wave it looks into."""
        name = str(self.measure.__name__)
        return name if self.wave is None else f"{name}_wave_{self.wave}"


_DEPTH, _MULTIPLE, _CORRECTIVE = (
    "ch. 4, Retracements",
    "ch. 4, Motive wave multiples",
    "ch. 4, Corrective wave multiples",
)
_FORM = "ch. 1, Corrective waves"

GUIDELINES: Final = (
    Guideline(wave_two_depth, 1.0, ("impulse",), _DEPTH),
    Guideline(wave_three_multiple, 1.0, ("impulse",), _MULTIPLE),
    Guideline(wave_four_depth, 1.0, ("impulse",), _DEPTH),
    Guideline(wave_five_multiple, 1.0, ("impulse",), _MULTIPLE),
    Guideline(wave_equality, 1.0, ("impulse",), "ch. 2, Wave equality"),
    Guideline(alternation, 1.0, ("impulse",), "ch. 2, Alternation"),
    Guideline(channelling, 1.0, ("impulse",), "ch. 2, Channeling"),
    Guideline(diagonal_depths, 2.0, DIAGONALS, "ch. 1, Diagonal triangles"),
    Guideline(volume_of_the_waves, 0.5, MOTIVE, "ch. 2, Volume"),
    Guideline(zigzag_b_depth, 1.0, ("zigzag_correction",), _DEPTH),
    Guideline(zigzag_c_multiple, 1.0, ("zigzag_correction",), _CORRECTIVE),
    Guideline(zigzag_channel, 1.0, ("zigzag_correction",), "ch. 2, Channeling"),
    Guideline(regular_flat_equality, 2.0, ("flat_regular",), _CORRECTIVE),
    Guideline(wide_flat_b, 1.0, ("flat_expanded", "flat_running"), _CORRECTIVE),
    Guideline(expanded_flat_c, 1.0, ("flat_expanded",), _CORRECTIVE),
    Guideline(running_flat_c, 1.0, ("flat_running",), _CORRECTIVE),
    Guideline(triangle_alternate_legs, 2.0, ("triangle",), _CORRECTIVE),
    Guideline(triangle_e_at_the_line, 1.0, ("triangle",), "ch. 1, Triangles"),
    Guideline(y_multiple, 1.0, ("combination",), _CORRECTIVE),
    Guideline(x_depth, 1.0, ("combination",), _DEPTH),
    Guideline(five_within, 1.0, ("impulse", "leading_diagonal"), "ch. 1, Essential design", wave=3),
    Guideline(three_within, 1.0, ("ending_diagonal",), "ch. 1, Diagonal triangles", wave=3),
    Guideline(five_within, 0.5, ("zigzag_correction",), _FORM, wave=1),
    Guideline(three_within, 0.5, (*FLATS, "triangle"), _FORM, wave=1),
    Guideline(five_within, 0.5, THREES, _FORM, wave=3),
)
"""Every guideline. A score is their mean by weight over those that can be measured: volume where there is some, the
waves within where the degree below sees any."""


def guidelines_of(kind: str) -> list[Guideline]:
    """The guidelines of a kind, in the order of the table."""
    return [each for each in GUIDELINES if kind in each.kinds]


def weights_of(kind: str) -> NDArray[np.float64]:
    """Their weights."""
    return np.array([each.weight for each in guidelines_of(kind)])


def measured(kind: str, p: Any, r: Any, v: Any, within: Any = ()) -> dict[str, float]:
    """What each guideline of a kind says; ``within`` holds (legs, lawful) for each wave, where it is known.

    Examples
    --------
    >>> p, r, v = np.array([0.0, 10.0, 5.0, 21.18, 15.0, 25.0]), np.array([0, 10, 15, 31, 37, 47]), np.full(5, np.nan)
    >>> {name: round(value, 2) for name, value in measured("impulse", p, r, v).items() if value > 0.8}
    {'wave_two_depth': 1.0, 'wave_three_multiple': 1.0, 'wave_four_depth': 1.0, 'wave_five_multiple': 1.0, \
'wave_equality': 1.0}
    """
    result = {}
    with np.errstate(all="ignore"):
        for each in guidelines_of(kind):
            if each.wave is None:
                result[each.name] = float(each.measure.py_func(p, r, v))
            else:
                legs = within[each.wave - 1] if len(within) >= each.wave else (0, False)
                result[each.name] = float(each.measure.py_func(*legs))
    return result
