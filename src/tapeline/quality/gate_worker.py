"""The worker that judges batches beside a flow: ``python -m tapeline.quality.gate_worker``.

It reads jobs from standard input, one JSON object a line, and answers each with one JSON line on standard output:

- job: ``{"expectations": folder, "requests": [{"paths": [file, ...], "suite": name, "data_version": version}, ...]}``
- answer: ``{"verdicts": [...]}`` in the order of the requests, or ``{"error": {"class", "message", "hint"}}`` where
  nothing could be judged.

It ends at the end of its input. Everything else that it or a library prints goes to standard error.
:class:`tapeline.quality.gate_process.GateProcess` is the other end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tapeline.core.errors import ConfigurationError, DataError, TapelineError
from tapeline.quality.gate import judge

ARROW_SUFFIXES: Final = (".arrow", ".feather", ".ipc")


def read_batch(paths: Iterable[Path]) -> pd.DataFrame:
    """Read the files of one batch, in the order given: Parquet, or Arrow IPC by its suffix.

    A folder stands for the Parquet files below it, sorted by path.

    Raises
    ------
    ConfigurationError
        No path was given, or one does not exist.
    DataError
        A file is truncated or not what its name says, or two files do not fit together.
    """
    files = [file for path in paths for file in (_parquet_files(path) if path.is_dir() else [path])]
    if not files:
        raise ConfigurationError("a batch to judge has no file", hint="pass the Parquet files that were written")
    try:
        # promote_options fills a column that an older file lacks with nulls, which the suite then sees.
        return pa.concat_tables([_read(file) for file in files], promote_options="default").to_pandas()
    except FileNotFoundError as error:
        raise ConfigurationError(f"a batch to judge is not there: {error}") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"a batch to judge cannot be read: {error}", hint=f"one of {files[0]}, ...") from error


def answer(job: Mapping[str, Any]) -> dict[str, Any]:
    """Judge every request of one job; an error that a person can act on becomes the answer."""
    try:
        verdicts = [
            judge(
                read_batch([Path(path) for path in request["paths"]]),
                request["suite"],
                expectations=Path(job["expectations"]),
                data_version=request["data_version"],
            )
            for request in job["requests"]
        ]
    except TapelineError as error:
        return {"error": {"class": type(error).__name__, "message": error.message, "hint": error.hint}}
    return {"verdicts": [asdict(verdict) for verdict in verdicts]}


def serve(jobs: Iterable[str], answers: IO[str]) -> None:
    """Answer every line of ``jobs`` on ``answers`` until there are no more."""
    for line in jobs:
        if line.strip():
            answers.write(json.dumps(answer(json.loads(line))) + "\n")
            answers.flush()


def main() -> int:
    """Serve standard input; the answers get a descriptor of their own, which no print can disturb."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        # Imported before the first job arrives: the caller starts this process early and works on meanwhile.
        import great_expectations  # noqa: F401

        serve(sys.stdin, answers)
    return 0


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.parquet") if not path.name.startswith((".", "_")))


def _read(file: Path) -> pa.Table:
    if file.suffix in ARROW_SUFFIXES:
        with pa.memory_map(str(file)) as source:
            return pa.ipc.open_file(source).read_all()
    return pq.read_table(file, partitioning=None, memory_map=True)


if __name__ == "__main__":
    sys.exit(main())
