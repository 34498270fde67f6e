"""How often each drift detector cries wolf, and how late it tells: ``python -m benchmarks.detectors``.

Prints the three tables of docs/drift.md. Streams are planted, so that the change point is known; then river's own data
sets, whose change points people have marked; then windows of unchanged rows. Everything is drawn from fixed seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tapeline.quality.concept_drift import METHODS, DriftDetector, find_changes
from tapeline.quality.distribution import DistributionMonitor, Reference
from tapeline.quality.histogram import population_stability
from tapeline.quality.relation import RankRelation

ROWS = 2_000
CHANGE = 1_000
STREAMS = 30
BEFORE, AFTER = 10, 100
"""An alarm tells of a marked change where its ``since`` lies from 10 rows before it to 100 rows after."""
MEMORIES = (0.0, 0.5, 0.9, 0.98)
MARKED_BY = 0.5
"""A change is due where so large a share of the people marked one within 10 rows of it."""


@dataclass(frozen=True)
class Trial:
    """One kind of stream; ``number`` in place of ``binary`` keeps the detectors of bits out."""

    name: str
    takes: str
    draw: Callable[[np.random.Generator, bool], np.ndarray]


def _errors(generator: np.random.Generator, changes: bool) -> np.ndarray:
    chance = np.where(np.arange(ROWS) < CHANGE, 0.40, 0.55 if changes else 0.40)
    return (generator.random(ROWS) < chance).astype(float)


def _clustered(generator: np.random.Generator, changes: bool) -> np.ndarray:
    """Errors that overlap, as those of labels over several bars do: each is repeated with probability 0.5."""
    fresh = _errors(generator, changes)
    keep = generator.random(ROWS) < 0.5
    keep[0] = False
    if changes:
        keep[CHANGE] = False
    return fresh[np.maximum.accumulate(np.where(keep, 0, np.arange(ROWS)))]


def _level(generator: np.random.Generator, changes: bool) -> np.ndarray:
    return generator.normal(size=ROWS) + (np.arange(ROWS) >= CHANGE) * (1.0 if changes else 0.0)


def _spread(generator: np.random.Generator, changes: bool) -> np.ndarray:
    return generator.normal(size=ROWS) * np.where((np.arange(ROWS) >= CHANGE) & changes, 2.0, 1.0)


def _relation(generator: np.random.Generator, changes: bool) -> np.ndarray:
    """A feature whose rank correlation with the target turns from 0.3 to -0.3; each keeps its distribution."""
    feature = generator.standard_t(4, ROWS + 1_000)
    strength = np.where(np.arange(ROWS + 1_000) < CHANGE + 1_000, 0.3, -0.3 if changes else 0.3)
    rank = np.argsort(np.argsort(feature)) / len(feature) - 0.5
    target = strength * rank * np.sqrt(12) + np.sqrt(1 - strength**2) * generator.normal(size=len(feature))
    return RankRelation(feature[:1_000], target[:1_000]).stream(feature[1_000:], target[1_000:])


TRIALS = (
    Trial("errors 40 % to 55 %", "binary", _errors),
    Trial("the same, clustered", "binary", _clustered),
    Trial("level, 1 deviation", "number", _level),
    Trial("spread doubled", "number", _spread),
    Trial("relation 0.3 to -0.3", "number", _relation),
)


def detectors_of(trial: Trial) -> list[str]:
    """The detectors that take such a stream."""
    return [name for name, method in METHODS.items() if trial.takes == "binary" or method.takes == "number"]


def measure(trial: Trial, name: str, *, streams: int = STREAMS) -> dict[str, object]:
    """False alarms in 1,000 rows, the share of changes found within 1,000 rows, the median delay and error of since."""
    detector = DriftDetector(name)
    false = found = 0
    delays, distances = [], []
    for seed in range(streams):
        quiet = find_changes(trial.draw(np.random.default_rng(1_000 + seed), False), detector)
        false += len(quiet)
        told = find_changes(trial.draw(np.random.default_rng(seed), True), detector)
        hits = told[told["position"] >= CHANGE]
        if len(hits):
            found += 1
            delays.append(int(hits["position"].iloc[0]) - CHANGE)
            distances.append(abs(int(hits["since"].iloc[0]) - CHANGE))
    return {
        "stream": trial.name,
        "detector": name,
        "false alarms in 1,000": round(false / streams / (ROWS / 1_000), 2),
        "found": f"{100 * found / streams:.0f} %",
        "delay": int(np.median(delays)) if delays else "",
        "since, off by": int(np.median(distances)) if distances else "",
    }


def marked_series() -> Iterator[tuple[str, np.ndarray, list[list[int]]]]:
    """River's change-point data sets: name, values, and what each person marked.

    Apple's marks count every third row, as its description says. Brent's file is not the thinned series that was
    marked, and no factor is given; the coal series has 105 rows, fewer than a detector needs to learn its scale. Both
    are left out.
    """
    from river.drift import datasets

    for made, column, step in (
        (datasets.AirlinePassengers, "Total Passengers", 1),
        (datasets.Apple, "Close", 3),
        (datasets.Apple, "Volume", 3),
        (datasets.Bitcoin, "price", 1),
        (datasets.Occupancy, "V3", 1),
        (datasets.RunLog, "Pace", 1),
    ):
        data = made()
        frame = pd.read_csv(data.path)
        marks = [[step * place for place in marks] for marks in data.annotations.values()]
        yield f"{made.__name__} {column}", frame[column].to_numpy(np.float64), marks


def measure_marked(name: str) -> list[dict[str, object]]:
    """Of each data set: how many changes most people marked, how many of them were told, and how many alarms are true.

    An alarm is true where anybody marked a change there.
    """
    out = []
    for series, values, people in marked_series():
        everyone = sorted({place for marks in people for place in marks})
        due: list[int] = []
        for place in everyone:
            agree = np.mean([any(abs(place - mark) <= BEFORE for mark in marks) for marks in people])
            if agree >= MARKED_BY and (not due or place - due[-1] > BEFORE):
                due.append(place)
        told = find_changes(values, DriftDetector(name))["since"].to_numpy()
        # An alarm tells of one change: the last that is due by then.
        last = np.searchsorted(due, told + BEFORE, side="right") - 1
        hit = {int(which) for which, at in zip(last, told, strict=True) if which >= 0 and at <= due[which] + AFTER}
        true = sum(any(place - BEFORE <= at <= place + AFTER for place in everyone) for at in told)
        out.append(
            {"series": series, "detector": name, "rows": len(values), "due": len(due), "told": len(hit),
             "alarms": len(told), "true": true}
        )  # fmt: skip
    return out


def measure_windows(memory: float, *, streams: int = 100, alpha: float = 0.01) -> dict[str, object]:
    """How often a window of 500 rows is told as changed while nothing has, at a reference of 2,000 rows, 2 columns.

    Each row is the one before it times ``memory`` plus a normal step. Beside the monitor, what the limits for
    independent rows say: of the Kolmogorov-Smirnov test, corrected for the two columns, and of the stability index.
    """
    from scipy.signal import lfilter
    from scipy.stats import ks_2samp

    hours = pd.date_range("2017-01-02", periods=2_500, freq="h", tz="UTC", name="ts", unit="ns")
    monitored = tested = indexed = 0
    for seed in range(streams):
        steps = np.random.default_rng(seed).normal(size=(2_700, 2))
        rows = pd.DataFrame(lfilter([1], [1, -memory], steps, axis=0)[200:], index=hours, columns=["one", "other"])
        reference = Reference.freeze(rows[:2_000])
        monitor = DistributionMonitor(reference)
        monitor.update(rows[2_000:])
        monitored += bool(monitor.report(alpha=alpha, repeats=199)["changed"].any())
        tests = [ks_2samp(rows[name][:2_000], rows[name][2_000:]).pvalue for name in rows]
        tested += min(tests) <= alpha / len(tests)
        for part in reference.columns:
            index, limit = population_stability(part.counts.astype(float), monitor.counts[part.name].astype(float))
            if index > limit:
                indexed += 1
                break
    shares = [f"{100 * count / streams:.0f} %" for count in (monitored, tested, indexed)]
    return {
        "memory": memory,
        "monitor": shares[0],
        "KS, independent rows": shares[1],
        "PSI, independent rows": shares[2],
    }


def to_markdown(rows: list[dict[str, object]]) -> str:
    """Rows as a Markdown table."""
    head = list(rows[0])
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(row[name]) for name in head)} |" for row in rows)])


def main() -> int:
    """Print the three tables."""
    planted = [measure(trial, name) for trial in TRIALS for name in detectors_of(trial)]
    sys.stdout.write(to_markdown(planted) + "\n\n")
    marked = [row for name in METHODS if METHODS[name].takes == "number" for row in measure_marked(name)]
    sys.stdout.write(to_markdown(sorted(marked, key=lambda row: str(row["series"]))) + "\n\n")
    sys.stdout.write(to_markdown([measure_windows(memory) for memory in MEMORIES]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
