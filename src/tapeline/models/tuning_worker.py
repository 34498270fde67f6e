"""A process that runs trials of a study: ``python -m tapeline.models.tuning_worker``.

It reads one job, a JSON object, from the first line of standard input, and writes JSON lines to standard output:
``{"progress": text}`` and ``{"finished": slot}``, each of which it holds still for until a line comes back, and at the
end nothing or ``{"error": {"class", "message", "hint"}}``. Where its input ends, whoever started it is gone: it stops
before it writes anything more to the study. :class:`tapeline.models.tuning_pool.TuningPool` is the other end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pandas as pd
from filelock import FileLock

from tapeline.core.errors import TapelineError
from tapeline.core.settings import CostSettings, TrainingSettings
from tapeline.models.dataset import Dataset
from tapeline.models.search import Plan
from tapeline.models.study_storage import open_study
from tapeline.models.trial import Fold, FoldModels, run_trials

_ARRAYS: Final = ("X", "y", "weight", "outcome", "symbol")
_INSTANTS: Final = ("ts", "t0", "t_end")


def write_rows(folder: Path, dataset: Dataset, folds: Sequence[Fold]) -> None:
    """Lay a dataset and its folds down as plain arrays, which several processes map into memory."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(dataset, name), allow_pickle=False)
    for name in _INSTANTS:
        np.save(folder / f"{name}.npy", getattr(dataset, name).as_unit("ns").asi8, allow_pickle=False)
    for number, (train, test) in enumerate(folds):
        np.save(folder / f"train_{number}.npy", train, allow_pickle=False)
        np.save(folder / f"test_{number}.npy", test, allow_pickle=False)
    (folder / "columns.json").write_text(json.dumps([list(dataset.columns), len(folds)]))


def read_rows(folder: Path) -> tuple[Dataset, list[Fold]]:
    """Read them back; the matrix stays in its file, shared by all processes."""
    columns, folds = json.loads((folder / "columns.json").read_text())
    arrays: dict[str, Any] = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
    }
    instants: dict[str, Any] = {
        name: pd.DatetimeIndex(np.load(folder / f"{name}.npy", allow_pickle=False), tz="UTC") for name in _INSTANTS
    }
    rows = [
        (
            np.load(folder / f"train_{number}.npy", allow_pickle=False),
            np.load(folder / f"test_{number}.npy", allow_pickle=False),
        )
        for number in range(folds)
    ]
    return Dataset(**arrays, **instants, columns=tuple(columns), dropped=pd.DataFrame()), rows


def work(job: Mapping[str, Any], told: IO[str], answers: IO[str]) -> None:
    """Run trials of the job's study until none is left."""

    def tell(message: Mapping[str, Any]) -> None:
        told.write(json.dumps(message) + "\n")
        told.flush()
        if not answers.readline():
            raise BrokenPipeError

    dataset, folds = read_rows(Path(job["rows"]))
    training = TrainingSettings(**job["training"])
    first = tuple((str(name), dict(parameters)) for name, parameters in job["plan"]["first"])
    run_trials(
        open_study(job["study"], journal=Path(job["journal"]), url=job["url"], pruner=pruner()),
        Plan(**{**job["plan"], "families": tuple(job["plan"]["families"]), "first": first}),
        FoldModels(dataset, folds, training),
        lock=FileLock(job["lock"]),
        session=job["session"],
        owner=owner_name(job["session"], os.getpid()),
        costs=CostSettings(**job["costs"]),
        returns=Path(job["returns"]),
        progress=lambda text: tell({"progress": text}),
        on_finished=lambda slot: tell({"finished": slot}),
    )


def owner_name(session: str, process: int) -> str:
    """How the trials of a process are marked."""
    return f"{session}:{process}"


def pruner() -> Any:
    """Stop a trial whose running mean over the folds is worse than the median of the completed ones there."""
    import optuna

    return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1)


def main() -> int:
    """Work on the job of standard input; messages get a descriptor of their own, which no print can disturb."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as told:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            work(json.loads(sys.stdin.readline()), told, sys.stdin)
        except BrokenPipeError:
            return 1
        except TapelineError as error:
            described = {"class": type(error).__name__, "message": error.message, "hint": error.hint}
            told.write(json.dumps({"error": described}) + "\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
