"""Run every benchmark in a process of its own and print one table: ``make bench``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

COLUMNS = ("name", "value", "unit", "peer", "peer_value", "ratio", "target", "holds")


def main() -> int:
    """Run them one after the other, since they share the cores; 1 where a target is missed or a benchmark fails."""
    files = sorted(Path(__file__).parent.glob("bench_*.py"))
    table = Table(title="CPU seconds where nothing else is said; the peer runs in the same process")
    for column in COLUMNS:
        table.add_column(column)
    missed = 0
    for file in files:
        sys.stderr.write(f"{file.stem} ...\n")
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{file.stem}"],
            cwd=file.parent.parent,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        figures = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not figures:
            sys.stderr.write(f"{file.stem} ended with status {done.returncode} after {len(figures)} figures\n")
            missed += 1
        for figure in figures:
            missed += not figure["holds"]
            table.add_row(*(_cell(figure[column]) for column in COLUMNS))
        sys.stdout.writelines(f"{json.dumps(figure)}\n" for figure in figures)
    Console(width=170).print(table)
    return 1 if missed else 0


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
