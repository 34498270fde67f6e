"""The audit: whether a component looks ahead, and whether it gives the same on the live tail as on all history.

It runs the component many times, on histories cut short and on histories with another future, and compares what was
known at the cut. It proves a leak; that it finds none is evidence, not proof, and grows with the number of cuts.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from tapeline.core.comparison import SLACK, Results, difference, results_of, scales
from tapeline.core.errors import ConfigurationError, DataError, TapelineError
from tapeline.core.perturbation import FUTURES
from tapeline.core.registry import Component, Tolerance
from tapeline.core.schemas import OHLCV
from tapeline.core.timeframe import Timeframe
from tapeline.core.user_code import load_user_component

__all__ = ["DEFAULT_CUTS", "Finding", "audit", "load_user_component"]

Check = Literal["shape", "input", "repeat", "truncate", "perturb", "tail"]

DEFAULT_CUTS: Final = 400
"""A leak at 2 bars in 170 that the result does not betray escapes 400 cuts with a chance of 1 percent."""

_EARLY: Final = 24
_SHORT: Final = (0, 1, 2, 3, 7)


@dataclass(frozen=True)
class Finding:
    """The verdict of one check on one component.

    ``detail`` names column, bar, values and cut where it failed. ``conclusive`` is False where the check had nothing
    to compare: it then has not passed, but has not shown a fault either; give it other bars.
    """

    component: str
    check: Check
    passed: bool
    detail: str
    conclusive: bool = True

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "FAILED" if self.conclusive else "no verdict"
        return f"{self.component:28} {self.check:9} {verdict:10} {self.detail}"


def audit(
    component: Component,
    bars: pd.DataFrame,
    timeframe: Timeframe,
    *,
    parameters: Mapping[str, Any] | None = None,
    cuts: int | None = None,
) -> list[Finding]:
    """Audit one component on these bars.

    The checks: ``shape`` (the contract of its kind, also on no bars and on a few), ``input`` (it leaves its bars
    alone), ``repeat`` (twice the same), ``truncate`` (on history cut short, what was known before the cut stays),
    ``perturb`` (with another future after the cut, it stays too), ``tail`` (on its declared lookback alone, the last
    row is that of all history, within its declared tolerance).

    Parameters
    ----------
    bars:
        Bars of any kind, real ones best: with gaps, quiet stretches and jumps. Longer than the lookback, or the tail
        check cannot conclude. A column that the component requires and these bars lack is filled with a random walk
        of the audit's own; findings are then about that walk.
    parameters:
        Parameters other than the defaults.
    cuts:
        At how many bars to cut: the early ones, a dense stretch, those beside gaps and at which movement stops or
        sets in, those right after the component said something rare or new, the rest at random; the same on each
        call. At half as many more the future is changed instead. ``DEFAULT_CUTS`` where absent.

    Raises
    ------
    ConfigurationError
        An unknown parameter, or fewer than 16 bars.
    DataError
        The bars are unsorted or lack a column.

    Examples
    --------
    >>> from tapeline.core.registry import component_of, feature
    >>> @feature(lookback=2, outputs="peek", reference="a leak, for show")
    ... def peek(bars):
    ...     return bars["close"].shift(-1)
    >>> ts = pd.date_range("2017-01-02", periods=40, freq="1h", tz="UTC", name="ts")
    >>> bars = pd.DataFrame({name: np.arange(1.0, 41.0) for name in OHLCV}, index=ts)
    >>> [finding.check for finding in audit(component_of(peek), bars, Timeframe.parse("H1")) if not finding.passed]
    ['truncate', 'perturb', 'tail']
    """
    given = component.parameters(parameters)
    trial = _Trial(component, given, _prepared(component, bars, timeframe, given), timeframe)
    failed = trial.shape()
    if failed is not None:
        return [failed, *trial.not_run(("input", "repeat", "truncate", "perturb", "tail"))]
    telling = trial.results.telling(trial.full, trial.bars)
    count = DEFAULT_CUTS if cuts is None else cuts
    # Another future shows most leaks that a missing one shows: each place is cut in one of the two ways, and more
    # places are cut.
    where = _cuts(trial.bars, count + -(-count // 2) if count > 0 else count, telling)
    third = np.arange(where.size) % 3 == 1
    return [
        trial.passed("shape", f"{len(trial.full)} rows from {len(trial.bars)} bars"),
        trial.input(),
        trial.repeat(),
        trial.truncate(where[~third]),
        trial.perturb(where[third]),
        trial.tail(where[~third]),
    ]


class _Trial:
    """One component on one set of bars."""

    def __init__(
        self, component: Component, parameters: Mapping[str, Any], bars: pd.DataFrame, timeframe: Timeframe
    ) -> None:
        self.component = component
        self.parameters = parameters
        self.bars = bars
        self.timeframe = timeframe
        names = [template.format(**parameters) for template in component.outputs]
        self.results: Results = results_of(component, names)
        self.full = self.again = pd.DataFrame()
        self.scale = pd.Series(dtype=np.float64)

    def checked(self, bars: pd.DataFrame) -> pd.DataFrame:
        """The result, held against the contract of its kind."""
        return self.results.check(self.raw(bars), bars)

    def run(self, bars: pd.DataFrame) -> pd.DataFrame:
        """The result, to be compared with a checked one."""
        return self.results.frame(self.raw(bars), bars)

    def raw(self, bars: pd.DataFrame) -> Any:
        # The other futures are absurd on purpose; what numpy has to say about them is no finding.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.component.function(bars, **self.parameters)

    def passed(self, check: Check, detail: str) -> Finding:
        return Finding(self.component.name, check, True, detail)

    def failed(self, check: Check, detail: str) -> Finding:
        return Finding(self.component.name, check, False, detail)

    def inconclusive(self, check: Check, detail: str) -> Finding:
        return Finding(self.component.name, check, False, detail, conclusive=False)

    def not_run(self, checks: tuple[Check, ...]) -> Iterator[Finding]:
        for check in checks:
            yield self.inconclusive(check, "not run, because of the shape")

    def shape(self) -> Finding | None:
        """Run on all bars and on a few; the finding if that fails."""
        for rows in (len(self.bars), *_SHORT):
            try:
                result = self.checked(self.bars.iloc[:rows].copy())
            except Exception as error:  # noqa: BLE001 - a user's function may fail in any way at all
                return self.failed("shape", f"on {rows} bars: {_said(error)}")
            if rows == len(self.bars):
                self.full = result
                self.scale = scales(result)
        return None

    def input(self) -> Finding:
        before = self.bars.copy(deep=True)
        handed = self.bars.copy(deep=True)
        self.again = self.checked(handed)
        if list(handed.columns) != list(before.columns):
            return self.failed("input", f"the columns of its bars became {list(handed.columns)}")
        if not handed.index.equals(before.index):
            return self.failed("input", "it changed the index of its bars")
        for name in before.columns:
            if not handed[name].equals(before[name]):
                return self.failed("input", f"it changed the column '{name}' of its bars")
        return self.passed("input", "its bars are as they were")

    def repeat(self) -> Finding:
        found = difference(self.full, self.again, Tolerance(0.0, 0.0), self.scale)
        if found:
            return self.failed("repeat", f"a second run on the same bars: {found}")
        return self.passed("repeat", "a second run gave the same")

    def truncate(self, cuts: np.ndarray) -> Finding:
        powerless = self.results.powerless(self.full)
        trouble = None
        for cut in cuts:
            try:
                short = self.run(self.bars.iloc[:cut])
            except Exception as error:  # noqa: BLE001
                trouble = trouble or f"on the first {cut} bars: {_said(error)}"
                continue
            # All that it says on the short history, not only what it may say: an event of the future is a leak.
            found = difference(self.results.known(self.full, self.bars, cut), short, SLACK, self.scale)
            if found:
                return self.failed("truncate", f"{found} when history ends before {self._bar(cut)}")
        return self._verdict("truncate", powerless, trouble, f"{len(cuts)} cuts")

    def perturb(self, cuts: np.ndarray) -> Finding:
        powerless = self.results.powerless(self.full)
        trouble: dict[str, str] = {}
        names = list(FUTURES)
        compared = dict.fromkeys(names, 0)
        for turn, cut in enumerate(cuts):
            name = names[turn % len(names)]
            try:
                other = FUTURES[name](self.bars, cut, self.timeframe)
                result = self.run(other)
            except Exception as error:  # noqa: BLE001
                # Refusing bad bars is not a leak; refusing every future would be.
                trouble[name] = f"with a future {name}: {_said(error)}"
                continue
            compared[name] += 1
            known = self.results.known
            found = difference(known(self.full, self.bars, cut), known(result, other, cut), SLACK, self.scale)
            if found:
                return self.failed("perturb", f"{found} when the future from {self._bar(cut)} on is {name}")
        ran = [name for name in names if compared[name]]
        problem = None if len(ran) >= min(3, len(cuts)) else "; ".join(trouble.values())
        refused = "".join(f"; it refuses a future {name}" for name in trouble if not compared[name])
        return self._verdict("perturb", powerless, problem, f"{sum(compared.values())} other futures{refused}")

    def tail(self, cuts: np.ndarray) -> Finding:
        lookback = self.component.lookback_of(**self.parameters)
        labels = self.component.kind == "label"
        if lookback < (0 if labels else 1):
            return self.failed("tail", f"it declares a lookback of {lookback} bars")
        # Below the lookback the tail is all history, and comparing it with itself shows nothing.
        first = lookback + 1 if labels else lookback
        said = self.results.rows(self.full, self.bars)
        said = said[said >= first]
        if not said.size:
            reason = self.results.powerless(self.full) or (
                f"no values to compare beyond the lookback of {lookback} bars: give it more than {len(self.bars)} bars"
            )
            return self.inconclusive("tail", reason)
        ends = self._ends(cuts, said, first)
        for end in ends:
            part = self.results.tail(self.bars, end, lookback)
            try:
                result = self.run(part)
            except Exception as error:  # noqa: BLE001
                return self.failed("tail", f"on the {lookback} bars up to {self._bar(end)}: {_said(error)}")
            own = int(part.index.searchsorted(self.bars.index[end]))
            expected, actual = self.results.at(self.full, self.bars, end), self.results.at(result, part, own)
            found = difference(expected, actual, self.component.tolerance, pd.Series(dtype=np.float64))
            if found:
                return self.failed("tail", f"{found} on its lookback of {lookback} bars alone")
        return self._verdict("tail", self.results.powerless(self.full), None, f"{len(ends)} ends, lookback {lookback}")

    def _ends(self, cuts: np.ndarray, said: np.ndarray, first: int) -> np.ndarray:
        count = max(len(cuts) // 4, 8)
        chosen = _spread(said, count)
        # Bars beside gaps, and bars at which it says nothing, where the tail must say nothing either.
        after = np.flatnonzero(np.diff(pd.DatetimeIndex(self.bars.index).asi8) > self.timeframe.nanoseconds) + 1
        silent = cuts[cuts >= first]
        ends = np.unique(
            np.concatenate((chosen, _spread(after[after >= first], count // 2), _spread(silent, count // 2)))
        )
        return ends[ends < len(self.bars)]

    def _verdict(self, check: Check, powerless: str | None, trouble: str | None, detail: str) -> Finding:
        if trouble:
            return self.failed(check, trouble)
        return self.inconclusive(check, powerless) if powerless else self.passed(check, detail)

    def _bar(self, row: int) -> str:
        return f"{self.bars.index[row]} (row {row})"


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of these rows, evenly spread."""
    return rows[np.unique(np.linspace(0, rows.size - 1, count).astype(int))] if rows.size and count else rows[:0]


def _said(error: Exception) -> str:
    text = error.message if isinstance(error, TapelineError) else str(error)
    return f"it raised {type(error).__name__}: {text}" if not isinstance(error, DataError) else text


def _prepared(
    component: Component, bars: pd.DataFrame, timeframe: Timeframe, parameters: Mapping[str, Any]
) -> pd.DataFrame:
    if len(bars) < 16:
        raise ConfigurationError(f"an audit needs at least 16 bars, was given {len(bars)}")
    absent = [name for name in OHLCV if name not in bars.columns]
    if absent:
        raise DataError(f"bars lack the columns {absent}")
    index = bars.index
    if not (isinstance(index, pd.DatetimeIndex) and index.is_monotonic_increasing and index.is_unique):
        raise DataError("bars are not sorted by time or repeat one")
    result = bars if "close_ts" in bars.columns else bars.assign(close_ts=timeframe.closes(index))
    required = [template.format(**parameters) for template in component.requires]
    for number, name in enumerate(name for name in required if name not in result.columns):
        steps = np.random.default_rng(number).normal(0, 0.01, len(bars))
        result = result.assign(**{name: 20.0 * np.exp(np.cumsum(steps))})
    return result


def _cuts(bars: pd.DataFrame, count: int, telling: np.ndarray) -> np.ndarray:
    """Where to cut; ``telling`` are the cuts that the component's own results ask for, the most telling first."""
    rows = len(bars)
    everywhere = np.arange(1, rows)
    if count >= everywhere.size:
        return everywhere
    if count < 1:
        raise ConfigurationError(f"cuts = {count} is below 1")
    steps = np.diff(pd.DatetimeIndex(bars.index).asi8)
    still = bars["high"].to_numpy() == bars["low"].to_numpy()
    beside = np.flatnonzero((steps > np.median(steps)) | (still[1:] != still[:-1])) + 1
    beside = np.unique(np.concatenate((beside, beside + 1)))
    early = everywhere[: min(_EARLY, max(count // 8, 3))]
    edges = _spread(beside, count // 8)
    dense = np.arange(rows // 2, min(rows // 2 + count // 4, rows))
    asked = telling[(telling > 0) & (telling < rows)][: -(-count // 3)]
    chosen = np.unique(np.concatenate((early, edges[edges < rows], dense, asked)))
    rest = np.setdiff1d(everywhere, chosen)
    drawn = np.random.default_rng(0).choice(rest, size=min(max(count - chosen.size, 0), rest.size), replace=False)
    return np.union1d(chosen, drawn)
