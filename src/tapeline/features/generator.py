"""Generated features: formulas written by rule, and formulas found by search, each told as the text that declares it.

A search looks at the earlier part of the rows only, and what it found is confirmed on later ones: how many formulas
were tried is then no matter, only how many are confirmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.versions import digest
from tapeline.features.arrays import Floats
from tapeline.features.derived import Declared
from tapeline.features.formula import (
    COLUMN_NAME,
    Call,
    Column,
    Degrees,
    Expression,
    degrees_of,
    evaluate,
    names_in,
    parse_formula,
    size,
)

Rule = Literal["product", "ratio", "difference", "rank", "zscore", "change"]
RULES: Final[tuple[str, ...]] = get_args(Rule)
PAIRED: Final = {"product": "({} * {})", "ratio": "({} / {})", "difference": "({} - {})"}
WINDOWED: Final = {"rank": "rank({}, {})", "zscore": "zscore({}, {})", "change": "difference({}, {})"}
SCORED_ROWS: Final = 20_000
"""A search ranks so many rows, evenly spaced, at most."""
KNOWN_SHARE: Final = 0.5
LEAST_ROWS: Final = 100
_SAME: Final = 0.99


def formulas_by_rule(
    columns: Mapping[str, Degrees] | Iterable[str],
    rules: Sequence[Rule] = ("product", "ratio", "rank"),
    *,
    windows: Sequence[int] = (240,),
) -> list[Declared]:
    """Every formula that the rules make of the columns, as entries for a feature set's ``[[derived]]``.

    Parameters
    ----------
    columns:
        Their names, with their degrees in price and volume where they have any; the bars' own columns may be among
        them. What would not be free of units is left out.
    rules:
        ``product`` and ``difference`` of each pair, ``ratio`` of each pair both ways; over each of ``windows``,
        ``rank``, ``zscore``, and ``change`` (now less then) of each column.

    Examples
    --------
    >>> [one.formula for one in formulas_by_rule(["a", "b"], ["product", "rank"], windows=[24])]
    ['(a * b)', 'rank(a, 24)', 'rank(b, 24)']
    >>> [one.name for one in formulas_by_rule({"close": (1, 0), "open": (1, 0)}, ["product", "ratio"])]
    ['close_over_open', 'open_over_close']
    """
    degrees = dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, (0, 0))
    found = []
    for rule in rules:
        if rule not in RULES:
            raise ConfigurationError(f"no rule is called {rule!r}", hint=", ".join(RULES))
        for name, text in _of_rule(rule, list(degrees), windows):
            if _unit(parse_formula(text), degrees) == (0, 0):
                found.append(Declared(_named(name, text), text))
    return found


@dataclass(frozen=True)
class Found:
    """A formula that a search found and later rows confirmed.

    Parameters
    ----------
    declared:
        Its name and text, as a feature set's ``[[derived]]`` entry takes them.
    searched:
        Its rank correlation with the target on the rows of the search.
    confirmed:
        The same on the later rows.
    p_value:
        How often a target that was moved around the circle of the later rows is correlated as strongly, times the
        formulas that were put to that test (Holm 1979).
    """

    declared: Declared
    searched: float
    confirmed: float
    p_value: float


def search_formulas(
    features: pd.DataFrame,
    target: npt.ArrayLike,
    *,
    symbol: Sequence[str] | None = None,
    degrees: Mapping[str, Degrees] | None = None,
    levels: int = 2,
    beam: int = 12,
    windows: Sequence[int] = (24,),
    maximum: int = 10,
    gain: float = 0.005,
    share: float = 0.6,
    gap: int = 0,
    significance: float = 0.05,
) -> list[Found]:
    """Search for formulas of columns that say more of a target than the columns they are made of.

    A beam search: each level joins the best formulas so far with every column (products, ratios both ways, sums,
    differences, the smaller, the greater) and takes their rank and change over ``windows``. A formula stays only where
    its rank correlation with the target is greater by ``gain`` than that of all its parts, and no better one is nearly
    the same. No draw is made: the same rows give the same formulas.

    Parameters
    ----------
    features:
        Rows in the order of time, columns to begin with.
    target:
        What to foretell, a number a row, such as a label's value; only rows where it is known count.
    symbol:
        The symbol of each row where there are several: windows do not reach across them.
    degrees:
        Of columns that have units; formulas always are without.
    levels, beam, maximum:
        How often formulas are joined, how many the search goes on with, how many are put to the test.
    share, gap:
        The first ``share`` of the rows is searched, ``gap`` rows after it are left out (no fewer than a label reaches,
        times the symbols), the rest confirms.
    significance:
        The greatest p-value that is returned.

    Returns
    -------
    The strongest on the later rows first; empty where none is confirmed, which is what noise should give.

    Raises
    ------
    DataError
        Columns, target and symbols differ in length, or fewer than 100 rows are left on either side.
    """
    y = np.asarray(target, dtype=np.float64)
    rows = len(features)
    if y.shape != (rows,) or (symbol is not None and len(symbol) != rows):
        raise DataError(f"{rows} rows of features and {y.size} of the target differ in number")
    border, later = int(rows * share), int(rows * share) + gap
    if border < LEAST_ROWS or rows - later < LEAST_ROWS:
        raise DataError(f"{rows} rows do not make {LEAST_ROWS} to search and {LEAST_ROWS} to confirm")
    table = _Table(features, symbol)
    units = dict.fromkeys(table.columns, (0, 0)) | dict(degrees or {})
    chosen = _search(table, y, border, units, levels, beam, windows, gain)[:maximum]
    tested = []
    for formula, score in chosen:
        confirmed, chance = _confirmation(table.values(formula)[later:], y[later:])
        tested.append((formula, score, confirmed, chance if confirmed * score > 0 else 1.0))
    found: list[Found] = []
    worst = 0.0
    for place, (formula, score, confirmed, chance) in enumerate(sorted(tested, key=lambda one: one[3])):
        worst = min(1.0, max(worst, chance * (len(tested) - place)))
        if worst <= significance:
            text = str(formula)
            found.append(Found(Declared(_named("", text), text), score, confirmed, worst))
    return sorted(found, key=lambda one: -abs(one.confirmed))


class _Table:
    """Columns by name, and formulas of them, none reaching from one symbol to another."""

    def __init__(self, features: pd.DataFrame, symbol: Sequence[str] | None) -> None:
        self.columns = {str(name): features[name].to_numpy(dtype=np.float64) for name in features.columns}
        bad = [name for name in self.columns if not COLUMN_NAME.fullmatch(name)]
        if bad:
            raise ConfigurationError(f"'{bad[0]}' cannot be a column of a formula", hint="rename it")
        self.rows = len(features)
        self.parts = (
            None if symbol is None else list(pd.Series(range(self.rows)).groupby(np.asarray(symbol)).groups.values())
        )

    def values(self, formula: Expression) -> Floats:
        read = {name: self.columns[name] for name in names_in(formula)}
        if not self.parts:
            return evaluate(formula, read)
        result = np.empty(self.rows)
        for place in self.parts:
            result[place] = evaluate(formula, {name: values[place] for name, values in read.items()})
        return result


def _search(
    table: _Table,
    y: Floats,
    border: int,
    units: Mapping[str, Degrees],
    levels: int,
    beam: int,
    windows: Sequence[int],
    gain: float,
) -> list[tuple[Expression, float]]:
    """Formulas by the strength of their rank correlation on the first rows, none like a better one."""
    sample = slice(0, border, max(1, -(-border // SCORED_ROWS)))
    target = _normal_ranks(y[sample])
    scores: dict[str, float] = {}
    ranks: dict[str, Floats] = {}

    def score(formula: Expression) -> float:
        text = str(formula)
        if text not in scores:
            ranked = _normal_ranks(table.values(formula)[sample])
            scores[text] = _correlation(ranked, target)
            ranks[text] = ranked
        return scores[text]

    base: list[Expression] = [Column(name) for name in table.columns]
    alone = {str(column): abs(score(column)) for column in base}
    pool = sorted(base, key=lambda formula: (-alone[str(formula)], str(formula)))
    best: list[tuple[Expression, float]] = []
    # Whatever a column says alone, it may say more beside another: all of them join in the first level.
    front = pool
    for _ in range(levels):
        grown = []
        for formula in _joined(front, base, windows):
            if _unit(formula, units) is None or str(formula) in scores:
                continue
            strength = abs(score(formula))
            parts = [abs(scores.get(str(part), 0.0)) for part in formula.arguments]
            if strength >= max(parts) + gain:
                grown.append((formula, scores[str(formula)]))
            else:
                ranks.pop(str(formula), None)
        best = _different([*best, *grown], ranks, beam)
        front = [formula for formula, _ in best]
    return [(formula, strength) for formula, strength in best if _unit(formula, units) == (0, 0)]


def _joined(front: Sequence[Expression], base: Sequence[Expression], windows: Sequence[int]) -> Iterator[Call]:
    for formula in front:
        for window in windows:
            if window > 1:
                yield Call("rank", (formula,), window)
            yield Call("difference", (formula,), window)
        for other in base:
            if str(other) == str(formula):
                continue
            yield Call("/", (formula, other))
            yield Call("/", (other, formula))
            if isinstance(formula, Column) and str(other) < str(formula):
                continue  # the rest is the same both ways
            for function in ("*", "+", "minimum", "maximum"):
                yield Call(function, (formula, other))
            yield Call("-", (formula, other))


def _different(
    formulas: Sequence[tuple[Expression, float]], ranks: Mapping[str, Floats], most: int
) -> list[tuple[Expression, float]]:
    """The strongest, the shorter of equal ones first, each less than nearly the same as a better one."""
    kept: list[tuple[Expression, float]] = []
    for formula, strength in sorted(formulas, key=lambda one: (-round(abs(one[1]), 9), size(one[0]), str(one[0]))):
        mine = ranks[str(formula)]
        if all(abs(_correlation(mine, ranks[str(other)])) < _SAME for other, _ in kept):
            kept.append((formula, strength))
        if len(kept) == most:
            break
    return kept


def _normal_ranks(values: Floats) -> Floats:
    """Ranks with mean 0 and standard deviation 1 over what is known, 0 elsewhere; all 0 where too little is."""
    known = ~np.isnan(values)
    result = np.zeros(values.size)
    if known.mean() >= KNOWN_SHARE:
        ranks = pd.Series(values[known]).rank().to_numpy()
        deviation = ranks.std()
        if deviation > 0:
            result[known] = (ranks - ranks.mean()) / deviation
    return result


def _correlation(first: Floats, second: Floats) -> float:
    scale = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / scale) if scale > 0 else 0.0


def _confirmation(values: Floats, y: Floats) -> tuple[float, float]:
    """The rank correlation, and the share of the target's circular shifts that are correlated as strongly."""
    first, second = _normal_ranks(values), _normal_ranks(y)
    actual = _correlation(first, second)
    around = np.fft.irfft(np.fft.rfft(first) * np.conj(np.fft.rfft(second)), first.size)
    scale = np.sqrt((first @ first) * (second @ second))
    if not scale > 0:
        return 0.0, 1.0
    # Shifts by little still hold what the target shares with its neighbours.
    near = max(1, first.size // 50)
    shifted = np.abs(around[near:-near]) / scale
    return actual, float((1 + (shifted >= abs(actual)).sum()) / (1 + shifted.size))


def _of_rule(rule: str, names: Sequence[str], windows: Sequence[int]) -> Iterator[tuple[str, str]]:
    if rule in WINDOWED:
        for name in names:
            for window in windows:
                yield f"{name}_{rule}_{window}", WINDOWED[rule].format(name, window)
        return
    word = {"product": "times", "ratio": "over", "difference": "less"}[rule]
    pairs: Any = permutations(names, 2) if rule == "ratio" else combinations(names, 2)
    for first, second in pairs:
        yield f"{first}_{word}_{second}", PAIRED[rule].format(first, second)


def _unit(formula: Expression, degrees: Mapping[str, Degrees]) -> Degrees | None:
    try:
        return degrees_of(formula, degrees)
    except ConfigurationError:
        return None


def _named(name: str, text: str) -> str:
    return name if COLUMN_NAME.fullmatch(name) else f"formula_{digest(text)}"
