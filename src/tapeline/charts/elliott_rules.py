"""Elliott's rules and guidelines, one named function each, and the two tables that say where they are published.

Source: Frost, Prechter, Elliott Wave Principle (1978). Editions number their pages differently, so chapter and section
are given. A rule is kept or broken, a guideline is a number from 0 to 1. Where the book says no more than a tendency
("sharp", "sideways", "tends to equality"), the number that is measured here is this project's reading of it.

Prices are linear and signed so that the first wave rises: ``p[0]`` is where it starts, ``p[k]`` where wave k ends (of a
correction A, B, C, D, E; of a combination W is waves 1 to 3, X is 4, Y is 5 to 7). ``q`` holds the two pivots before
``p[0]``, ``r`` the rows of the pivots, ``v`` the mean volume a bar of each wave. What is not known yet is NaN: a rule
over it counts as kept, a guideline over it is NaN.
"""

# A comparison with NaN is false, so "not broken" is written as "not a <= b" where "a > b" would say "proven".

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from numba import njit

MOTIVE: Final = ("impulse", "leading_diagonal", "ending_diagonal")
DIAGONALS: Final = MOTIVE[1:]
FLATS: Final = ("flat_regular", "flat_expanded", "flat_running")
THREES: Final = ("zigzag_correction", *FLATS)
KINDS: Final = (*MOTIVE, *THREES, "triangle", "combination")
POINTS: Final = {kind: 6 if kind in (*MOTIVE, "triangle") else 8 if kind == "combination" else 4 for kind in KINDS}
"""How many pivots a finished wave of each kind has."""

ZIGZAG_B: Final = (0.382, 0.79)
ZIGZAG_C: Final = (0.618, 2.618)
FLAT_B: Final = 0.9
REGULAR_B: Final = 1.05
WIDEST_B: Final = 1.382
"""Bounds on B and C as shares of A: ch. 1, Zigzags, Flats; ch. 4, Corrective wave multiples.

The book gives 38 to 79 percent as usual for B of a zigzag, at least 90 percent for B of a flat, and 100 to 138 percent
as usual; they are bounds here. That a regular flat's B ends "about" at the start of A is read as up to 105 percent.
"""


@njit(cache=True, nogil=True)
def wave_two_holds_the_start(p: Any, q: Any) -> Any:
    """Wave 2 never goes beyond the start of wave 1."""
    return not p[2] <= p[0]


@njit(cache=True, nogil=True)
def wave_three_passes_wave_one(p: Any, q: Any) -> Any:
    """Wave 3 goes beyond the end of wave 1."""
    return not p[3] <= p[1]


@njit(cache=True, nogil=True)
def wave_three_is_not_the_shortest(p: Any, q: Any) -> Any:
    """Wave 3 is never the shortest of waves 1, 3 and 5."""
    third = p[3] - p[2]
    return not (third < p[1] - p[0] and third < p[5] - p[4])


@njit(cache=True, nogil=True)
def wave_four_is_clear_of_wave_one(p: Any, q: Any) -> Any:
    """Wave 4 of an impulse does not enter the price territory of wave 1."""
    return not p[4] <= p[1]


@njit(cache=True, nogil=True)
def wave_five_passes_wave_three(p: Any, q: Any) -> Any:
    """Wave 5 goes beyond the end of wave 3; a truncated fifth is not told."""
    return not p[5] <= p[3]


@njit(cache=True, nogil=True)
def wave_four_overlaps_wave_one(p: Any, q: Any) -> Any:
    """Wave 4 of a diagonal enters the price territory of wave 1."""
    return not p[4] > p[1]


@njit(cache=True, nogil=True)
def wave_four_holds_wave_two(p: Any, q: Any) -> Any:
    """Wave 4 of a diagonal does not go beyond the end of wave 2."""
    return not p[4] <= p[2]


@njit(cache=True, nogil=True)
def diagonal_thrusts_shrink(p: Any, q: Any) -> Any:
    """Within converging lines each thrust is shorter than the one before: wave 3 than 1, 5 than 3."""
    third = p[3] - p[2]
    return not (third >= p[1] - p[0] or p[5] - p[4] >= third)


@njit(cache=True, nogil=True)
def diagonal_returns_shrink(p: Any, q: Any) -> Any:
    """Within converging lines wave 4 is shorter than wave 2."""
    return not p[3] - p[4] >= p[1] - p[2]


@njit(cache=True, nogil=True)
def leading_starts_a_move(p: Any, q: Any) -> Any:
    """A leading diagonal stands where a move starts: at an extreme beyond the last one of its side."""
    return not p[0] >= q[0]


@njit(cache=True, nogil=True)
def ending_ends_a_move(p: Any, q: Any) -> Any:
    """An ending diagonal is a last wave: it starts from a return that held, and goes beyond the move's extreme."""
    return not (p[0] <= q[0] or p[5] <= q[1])


@njit(cache=True, nogil=True)
def correction_stays_within_the_move(p: Any, q: Any) -> Any:
    """A correction does not go beyond the start of the move it corrects (as wave 2 beyond the start of 1)."""
    beyond = False
    for k in range(1, p.size, 2):
        beyond = beyond or p[k] >= q[1]
    return not beyond


@njit(cache=True, nogil=True)
def zigzag_b_at_least(p: Any, q: Any) -> Any:
    """B of a zigzag retraces at least 38.2 percent of A."""
    return not p[1] - p[2] < ZIGZAG_B[0] * (p[1] - p[0])


@njit(cache=True, nogil=True)
def zigzag_b_at_most(p: Any, q: Any) -> Any:
    """B of a zigzag retraces at most 79 percent of A, so it ends noticeably short of the start of A."""
    return not p[1] - p[2] > ZIGZAG_B[1] * (p[1] - p[0])


@njit(cache=True, nogil=True)
def c_passes_a(p: Any, q: Any) -> Any:
    """C ends beyond the end of A."""
    return not p[3] <= p[1]


@njit(cache=True, nogil=True)
def c_at_least(p: Any, q: Any) -> Any:
    """C is at least 0.618 of A."""
    return not p[3] - p[2] < ZIGZAG_C[0] * (p[1] - p[0])


@njit(cache=True, nogil=True)
def c_at_most(p: Any, q: Any) -> Any:
    """C is at most 2.618 of A."""
    return not p[3] - p[2] > ZIGZAG_C[1] * (p[1] - p[0])


@njit(cache=True, nogil=True)
def flat_b_at_least(p: Any, q: Any) -> Any:
    """B of a flat retraces at least 90 percent of A."""
    return not p[1] - p[2] < FLAT_B * (p[1] - p[0])


@njit(cache=True, nogil=True)
def regular_b_at_most(p: Any, q: Any) -> Any:
    """B of a regular flat ends about at the start of A."""
    return not p[1] - p[2] > REGULAR_B * (p[1] - p[0])


@njit(cache=True, nogil=True)
def b_passes_the_start(p: Any, q: Any) -> Any:
    """B of an expanded or running flat ends beyond the start of A."""
    return not p[1] - p[2] <= REGULAR_B * (p[1] - p[0])


@njit(cache=True, nogil=True)
def b_at_most(p: Any, q: Any) -> Any:
    """B of an expanded or running flat is at most 138.2 percent of A."""
    return not p[1] - p[2] > WIDEST_B * (p[1] - p[0])


@njit(cache=True, nogil=True)
def c_falls_short_of_a(p: Any, q: Any) -> Any:
    """C of a running flat ends short of the end of A."""
    return not p[3] > p[1]


@njit(cache=True, nogil=True)
def triangle_b_at_most(p: Any, q: Any) -> Any:
    """B of a triangle may pass the start of A (a running triangle), by no more than B of a flat."""
    return not p[1] - p[2] > WIDEST_B * (p[1] - p[0])


@njit(cache=True, nogil=True)
def triangle_c_holds_a(p: Any, q: Any) -> Any:
    """C of a contracting triangle does not go beyond the end of A."""
    return not p[3] >= p[1]


@njit(cache=True, nogil=True)
def triangle_d_holds_b(p: Any, q: Any) -> Any:
    """D does not go beyond the end of B; where it ends level with it the triangle is a barrier."""
    return not p[4] < p[2]


@njit(cache=True, nogil=True)
def triangle_e_holds_c(p: Any, q: Any) -> Any:
    """E does not go beyond the end of C."""
    return not p[5] >= p[3]


@njit(cache=True, nogil=True)
def x_is_no_new_trend(p: Any, q: Any) -> Any:
    """X retraces at most 138.2 percent of W, as B of a flat does of A."""
    return not p[3] - p[4] > WIDEST_B * (p[3] - p[0])


@njit(cache=True, nogil=True)
def x_at_least(p: Any, q: Any) -> Any:
    """X retraces at least 38.2 percent of W."""
    return not p[3] - p[4] < ZIGZAG_B[0] * (p[3] - p[0])


@njit(cache=True, nogil=True)
def double_zigzag_goes_on(p: Any, q: Any) -> Any:
    """Of two zigzags, X holds the start of the first and the second ends beyond it: else they are no double zigzag."""
    if not (p[1] - p[2] <= ZIGZAG_B[1] * (p[1] - p[0]) and p[5] - p[6] <= ZIGZAG_B[1] * (p[5] - p[4])):
        return True
    return not (p[4] <= p[0] or p[7] <= p[3])


@dataclass(frozen=True)
class Rule:
    """A rule, the kinds of wave that must keep it, and where it is published (chapter, section)."""

    holds: Any
    kinds: tuple[str, ...]
    source: str

    @property
    def name(self) -> str:
        """The name of its function."""
        return str(self.holds.__name__)

    def broken(self, p: Any, q: Any) -> bool:
        """Whether these pivots break it; without the compiler, for a look at a few."""
        return not self.holds.py_func(p, q)


_MOTIVE, _DIAGONAL, _ZIGZAG = "ch. 1, Motive waves", "ch. 1, Diagonal triangles", "ch. 1, Zigzags"
_FLAT, _TRIANGLE, _COMBINED = "ch. 1, Flats", "ch. 1, Triangles", "ch. 1, Double and triple threes"
_MULTIPLE = "ch. 4, Corrective wave multiples"

RULES: Final = (
    Rule(wave_two_holds_the_start, MOTIVE, _MOTIVE),
    Rule(wave_three_passes_wave_one, MOTIVE, _MOTIVE),
    Rule(wave_three_is_not_the_shortest, MOTIVE, _MOTIVE),
    Rule(wave_five_passes_wave_three, MOTIVE, "ch. 1, Truncation"),
    Rule(wave_four_is_clear_of_wave_one, ("impulse",), "ch. 1, Impulse"),
    Rule(wave_four_overlaps_wave_one, DIAGONALS, _DIAGONAL),
    Rule(wave_four_holds_wave_two, DIAGONALS, _DIAGONAL),
    Rule(diagonal_thrusts_shrink, DIAGONALS, _DIAGONAL),
    Rule(diagonal_returns_shrink, DIAGONALS, _DIAGONAL),
    Rule(leading_starts_a_move, ("leading_diagonal",), _DIAGONAL),
    Rule(ending_ends_a_move, ("ending_diagonal",), _DIAGONAL),
    Rule(correction_stays_within_the_move, (*THREES, "triangle", "combination"), "ch. 1, Corrective waves"),
    Rule(zigzag_b_at_least, ("zigzag_correction",), _ZIGZAG),
    Rule(zigzag_b_at_most, ("zigzag_correction",), _ZIGZAG),
    Rule(flat_b_at_least, FLATS, _FLAT),
    Rule(regular_b_at_most, ("flat_regular",), _FLAT),
    Rule(b_passes_the_start, ("flat_expanded", "flat_running"), _FLAT),
    Rule(b_at_most, ("flat_expanded", "flat_running"), _FLAT),
    Rule(c_passes_a, ("zigzag_correction", "flat_regular", "flat_expanded"), _FLAT),
    Rule(c_falls_short_of_a, ("flat_running",), _FLAT),
    Rule(c_at_least, THREES, _MULTIPLE),
    Rule(c_at_most, THREES, _MULTIPLE),
    Rule(triangle_b_at_most, ("triangle",), _TRIANGLE),
    Rule(triangle_c_holds_a, ("triangle",), _TRIANGLE),
    Rule(triangle_d_holds_b, ("triangle",), _TRIANGLE),
    Rule(triangle_e_holds_c, ("triangle",), _TRIANGLE),
    Rule(x_at_least, ("combination",), _COMBINED),
    Rule(x_is_no_new_trend, ("combination",), _COMBINED),
    Rule(double_zigzag_goes_on, ("combination",), _COMBINED),
)
"""Every rule. Of a combination W and Y must besides be a zigzag or a flat each, by the rules of those."""


def broken_rules(kind: str, p: Any, q: Any) -> list[str]:
    """The names of the rules of a kind that these pivots break; a combination's two corrections included.

    Examples
    --------
    >>> import numpy as np
    >>> nothing = np.full(2, np.nan)
    >>> broken_rules("impulse", np.array([0.0, 10.0, 4.0, 20.0, 14.0, 24.0]), nothing)
    []
    >>> broken_rules("impulse", np.array([0.0, 10.0, 4.0, 20.0, 9.0, 24.0]), nothing)
    ['wave_four_is_clear_of_wave_one']
    """
    broken = [rule.name for rule in RULES if kind in rule.kinds and rule.broken(p, q)]
    if kind == "combination":
        anywhere = q * float("nan")
        for name, part in (("w", p[:4]), ("y", p[4:])):
            if all(broken_rules(three, part, anywhere) for three in THREES):
                broken.append(f"{name}_is_a_correction")
    return broken
