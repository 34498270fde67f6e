"""How well drawn patterns are seen, how often chance draws one: ``python -m benchmarks.pattern_accuracy [--write]``.

Every kind of every module of drawings, without noise and with noise, near-misses of it, and random walks. With
``--write`` the table replaces the one in docs/patterns.md. Everything is drawn from fixed seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pandas as pd

import tapeline.charts
from tapeline.charts.synthetic import Accuracy, Case, accuracy, random_walk

DRAWINGS, NOISES = 100, (0.0, 1.0, 2.0)
WALKS, WALK_BARS = 5, 20_000
PAGE = Path(__file__).parents[1] / "docs" / "patterns.md"
BEGIN, END = "<!-- accuracy: begin -->", "<!-- accuracy: end -->"
HEAD = (
    "| kind | recall, no noise | noise 1 | noise 2 | precision, no noise | noise 1 | noise 2 | near-misses found "
    "| per 1,000 bars of random walk |"
)


def cases() -> Iterator[tuple[str, Case]]:
    """Every kind that some module draws, module by module."""
    for found in iter_modules(tapeline.charts.__path__):
        if found.name.endswith("_drawings"):
            yield from import_module(f"tapeline.charts.{found.name}").CASES.items()


def measure(kind: str, case: Case, walks: Sequence[pd.DataFrame], *, drawings: int = DRAWINGS) -> list[Accuracy]:
    """The accuracy of one kind at each noise; near-misses and walks are those of the first."""
    results = []
    for noise in NOISES:
        first = not results
        drawn = case.drawings(drawings, noise=noise, seed=1)
        missed = case.near_misses(drawings, seed=2) if first else []
        results.append(accuracy(case.detect, kind, drawn, missed, walks if first else []))
    return results


def row_of(kind: str, results: Sequence[Accuracy]) -> str:
    """One row of the table."""
    first = results[0]
    shares = [*(one.recall for one in results), *(one.precision for one in results), first.near_misses]
    cells = ["-" if np.isnan(share) else f"{share:.2f}" for share in shares]
    return f"| `{kind}` | {' | '.join(cells)} | {first.per_thousand:.2f} |"


def write(rows: Sequence[str]) -> None:
    """Put the table between its marks in the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{PAGE} lacks the marks {BEGIN} and {END}")
    table = "\n".join([HEAD, f"|{' --- |' * (HEAD.count('|') - 1)}", *rows])
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def main() -> int:
    """Measure every kind and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="replace the table in docs/patterns.md")
    options.add_argument("--only", nargs="*", default=[], help="these kinds only; prints, never writes")
    given = options.parse_args()
    walks = [random_walk(WALK_BARS, seed=seed) for seed in range(WALKS)]
    rows = []
    for kind, case in cases():
        if not given.only or kind in given.only:
            rows.append(row_of(kind, measure(kind, case, walks)))
            sys.stdout.write(f"{rows[-1]}\n")
            sys.stdout.flush()
    if given.write and not given.only:
        write(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
