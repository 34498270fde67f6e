"""Concept drift: detectors of change in a stream of numbers, all behind one interface, with the evidence of each alarm.

The detectors are river's (J. Montiel et al., River: machine learning for streaming data in Python, JMLR 22, 2021). What
they are fed decides what is found: the errors of a model, or what :mod:`tapeline.quality.relation` makes of a feature
and its target.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError

State = Literal["warming", "stable", "warning", "drift"]
Input = Literal["binary", "unit", "number"]

WARM_UP: Final = 100
"""Values that set the scale of a stream whose detector does not know it."""
KEPT: Final = 4096
"""Values that are remembered to say what changed, and since when."""
COLUMNS: Final = ("position", "since", "before", "after", "rows_before", "rows_after")


@dataclass(frozen=True)
class Evidence:
    """What an alarm rests on.

    Parameters
    ----------
    position:
        The value, counted from 0, at which the change was told: what is known at it, and not before.
    since:
        The value from which on the stream is different, as far as it can be told.
    before, after:
        The mean from the last alarm (or the first value remembered) to ``since``, and from there to ``position``.
    rows_before, rows_after:
        How many values these are the means of.
    """

    position: int
    since: int
    before: float
    after: float
    rows_before: int
    rows_after: int


class Detector(Protocol):
    """One way to see a stream change."""

    @property
    def name(self) -> str:
        """Such as ``adwin``."""

    @property
    def evidence(self) -> Evidence | None:
        """Of the last alarm; None before the first."""

    def update(self, value: float) -> State:
        """Take the next value: ``drift`` where it is the one at which a change is told."""

    def reset(self) -> None:
        """Forget everything."""


@dataclass(frozen=True)
class Method:
    """How a detector of river is made and what it takes.

    Parameters
    ----------
    make:
        From a seed to the detector; only ``kswin`` draws.
    takes:
        ``binary`` values 0 and 1; ``unit`` values from 0 to 1; any ``number``.
    reference:
        The paper.
    scaled:
        The detector's threshold is in units of the stream's own deviation: the first 100 values set it.
    """

    make: Callable[[int], Any]
    takes: Input
    reference: str
    scaled: bool = False


def _adwin(_: int) -> Any:
    from river.drift import ADWIN

    return ADWIN(delta=0.002, clock=1)


def _kswin(seed: int) -> Any:
    from river.drift import KSWIN

    return KSWIN(alpha=0.0001, window_size=300, stat_size=100, seed=seed)


def _page_hinkley(_: int) -> Any:
    from river.drift import PageHinkley

    return PageHinkley(min_instances=30, delta=0.25, threshold=25.0, alpha=1.0)


def _ddm(_: int) -> Any:
    from river.drift.binary import DDM

    return DDM(warm_start=100)


def _hddm_a(_: int) -> Any:
    from river.drift.binary import HDDMA

    return HDDMA(drift_confidence=0.0001, warning_confidence=0.001, two_sided_test=True)


def _hddm_w(_: int) -> Any:
    from river.drift.binary import HDDMW

    return HDDMW(drift_confidence=0.00001, warning_confidence=0.001, lambda_val=0.02, two_sided_test=True)


METHODS: Final[Mapping[str, Method]] = {
    "adwin": Method(_adwin, "number", "A. Bifet and R. Gavalda, SDM 2007", scaled=True),
    "page_hinkley": Method(_page_hinkley, "number", "E. S. Page, Biometrika 41, 1954", scaled=True),
    "kswin": Method(_kswin, "number", "C. Raab, M. Heusinger and F.-M. Schleif, Neurocomputing 416, 2020"),
    "ddm": Method(_ddm, "binary", "J. Gama et al., SBIA 2004"),
    "hddm_a": Method(_hddm_a, "unit", "I. Frias-Blanco et al., IEEE TKDE 27, 2015: averages"),
    "hddm_w": Method(_hddm_w, "unit", "I. Frias-Blanco et al., IEEE TKDE 27, 2015: weighted averages"),
}
"""The detectors by name, with parameters that keep false alarms rare on long streams; docs/drift.md has the rates.

``ddm`` sees only rises of an error; the others see both directions.
"""


class DriftDetector:
    """A detector of river that says what changed and since when.

    Parameters
    ----------
    name:
        One of :data:`METHODS`.
    seed:
        Of the draws of ``kswin``; the same seed gives the same alarms.

    Raises
    ------
    ConfigurationError
        The name is unknown.

    Examples
    --------
    >>> detector = DriftDetector("page_hinkley")
    >>> generator = np.random.default_rng(0)
    >>> states = [detector.update(x) for x in np.r_[generator.normal(0, 1, 300), generator.normal(3, 1, 50)]]
    >>> states.count("drift"), detector.evidence.since, round(detector.evidence.after)
    (1, 300, 3)
    """

    def __init__(self, name: str, *, seed: int = 0) -> None:
        if name not in METHODS:
            raise ConfigurationError(f"drift detector {name!r} is unknown", hint=f"one of {', '.join(METHODS)}")
        self._name, self._method, self._seed = name, METHODS[name], seed
        self.reset()

    @property
    def name(self) -> str:
        """As it was asked for."""
        return self._name

    @property
    def evidence(self) -> Evidence | None:
        """Of the last alarm; None before the first."""
        return self._evidence

    def reset(self) -> None:
        """Forget everything, the draws included."""
        self._river = self._method.make(self._seed)
        self._position = -1
        self._held: deque[float] = deque(maxlen=KEPT)
        self._evidence: Evidence | None = None
        self._scale: tuple[float, float] | None = None

    def update(self, value: float) -> State:
        """Take the next value.

        Returns
        -------
        ``warming`` while the first values of a scaled detector set its scale, ``drift`` at the value at which a change
        is told, ``warning`` where the detector knows such a state, else ``stable``. After an alarm a detector starts
        anew, from what came after the change.

        Raises
        ------
        DataError
            The value is not finite, or not what the detector takes.
        """
        taken = self._checked(value)
        self._position += 1
        self._held.append(taken)
        if self._method.scaled:
            if self._scale is None:
                if len(self._held) < WARM_UP:
                    return "warming"
                self._set_scale()
                for earlier in tuple(self._held)[:-1]:
                    self._feed(earlier)
            state = self._feed(taken)
        else:
            state = self._feed(taken)
        if state == "drift":
            self._tell()
        return state

    def _feed(self, value: float) -> State:
        middle, spread = self._scale or (0.0, 1.0)
        self._river.update((value - middle) / spread if self._scale else _as_taken(value, self._method.takes))
        if self._river.drift_detected:
            return "drift"
        return "warning" if getattr(self._river, "warning_detected", False) else "stable"

    def _set_scale(self) -> None:
        held = np.array(self._held)
        middle, spread = float(held.mean()), float(held.std(ddof=1))
        # A constant beginning has no scale: its own size, else 1, stands in, so that any step is a large one.
        self._scale = middle, spread if spread > 1e-12 * max(1.0, abs(middle)) else max(1e-6 * abs(middle), 1e-6)

    def _tell(self) -> None:
        held = np.array(self._held)
        split = split_point(held)
        first = self._position - len(held) + 1
        before, after = held[:split], held[split:]
        self._evidence = Evidence(
            self._position, first + split, float(before.mean()), float(after.mean()), len(before), len(after)
        )
        # What came after the change is where the next one is looked for, on its own scale.
        self._held = deque(after.tolist(), maxlen=KEPT)
        self._river = self._method.make(self._seed)
        self._scale = None

    def _checked(self, value: float) -> float:
        number = float(value)
        if not np.isfinite(number):
            raise DataError(f"a drift detector was given {value!r}", hint="leave out rows without a value")
        if self._method.takes == "binary" and number not in (0.0, 1.0):
            raise DataError(f"{self.name} takes 0 and 1, not {number:g}", hint="1 for an error, 0 for none")
        if self._method.takes == "unit" and not 0.0 <= number <= 1.0:
            raise DataError(f"{self.name} takes values from 0 to 1, not {number:g}", hint="scale them first")
        return number


def split_point(values: np.ndarray) -> int:
    """Where some values fall most clearly into two parts of different means: the first position of the second part.

    The position at which the CUSUM statistic weighted by both lengths is largest, which is the least-squares estimate
    of a change of mean (J. Bai, Journal of Time Series Analysis 15, 1994); at least one value on each side.

    Examples
    --------
    >>> split_point(np.array([0.0, 0.1, 0.0, 5.0, 5.1]))
    3
    """
    count = len(values)
    if count < 2:
        return 0
    left = np.arange(1, count)
    means = np.cumsum(values)[:-1] / left
    rest = (values.sum() - means * left) / (count - left)
    return int(np.argmax((means - rest) ** 2 * left * (count - left))) + 1


def find_changes(values: Iterable[float], detector: Detector) -> pd.DataFrame:
    """Feed a whole stream to a detector that knows nothing yet: one row an alarm.

    The detector sees one value after the other, so that an alarm depends on nothing after its ``position``.

    Examples
    --------
    >>> find_changes([0.0] * 200 + [1.0] * 60, DriftDetector("hddm_a"))[["since", "before", "after"]].values.tolist()
    [[200.0, 0.0, 1.0]]
    """
    detector.reset()
    told = [detector.evidence for value in values if detector.update(value) == "drift"]
    rows = [tuple(getattr(evidence, name) for name in COLUMNS) for evidence in told]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"position": "int64", "since": "int64"})


def _as_taken(value: float, takes: Input) -> float | bool:
    return bool(value) if takes == "binary" else value
