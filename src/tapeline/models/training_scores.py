"""The scores of a training: what each version said out of sample when it was made, kept with its run.

They are the reference of a live model: how its probabilities were spread, how well they were calibrated, and how large
a loss was to be expected.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.core.versions import digest_bytes
from tapeline.models.performance import JUDGED_COLUMNS
from tapeline.models.tracking import TAG, Tracking

if TYPE_CHECKING:
    from tapeline.models.dataset import Dataset
    from tapeline.models.registry import Registered

FILE: Final = "training_scores.parquet"
SHA_TAG: Final = f"{TAG}training_scores"
KNOWN_UNTIL_TAG: Final = f"{TAG}known_until"
_STORED: Final = ("ts", "symbol", "known_at", "t_end", "y", "probability", "origin")
_LARGEST: Final = 500_000_000
"""Bytes of a file that is read at most: it comes from a store that others may write to."""


def training_scores(development: Dataset, out_of_fold: npt.NDArray[np.float64], holdout: pd.DataFrame) -> pd.DataFrame:
    """What a training said out of sample.

    Parameters
    ----------
    development, out_of_fold:
        The development rows and the calibrated probability of each by the fold that was not trained on it.
    holdout:
        The holdout as in :class:`tapeline.evaluation.result.TrainingResult`.

    Returns
    -------
    ``ts``, ``symbol``, ``known_at``, ``t_end``, ``y``, ``probability`` and ``origin`` (``out_of_fold`` or
    ``holdout``), ordered by ``t_end``. A row that no fold scored is left out.
    """
    folds = development.frame.assign(probability=out_of_fold, origin="out_of_fold")
    rows = pd.concat([folds, holdout.assign(origin="holdout")], ignore_index=True).rename(columns={"t0": "known_at"})
    rows = rows[np.isfinite(rows["probability"].to_numpy(dtype=np.float64))]
    return rows[list(_STORED)].sort_values(["t_end", "ts", "symbol"], kind="stable", ignore_index=True)


def keep_training_scores(tracking: Tracking, run_id: str, scores: pd.DataFrame) -> None:
    """Store a training's scores with its run, their hash and the newest outcome in the run's tags."""
    buffer = io.BytesIO()
    scores.to_parquet(buffer, compression="zstd", index=False)
    content = buffer.getvalue()
    with tempfile.TemporaryDirectory(prefix="tapeline-scores-") as scratch:
        (Path(scratch) / FILE).write_bytes(content)
        tracking.log_folder(run_id, Path(scratch))
    until = pd.Timestamp(scores["t_end"].max())
    tracking.log(run_id, tags={SHA_TAG: digest_bytes(content), KNOWN_UNTIL_TAG: until.isoformat()})


def read_training_scores(tracking: Tracking, registered: Registered) -> pd.DataFrame | None:
    """The scores of the training that made a version, as judged rows; None where it kept none.

    Raises
    ------
    DataError
        The file is gone, too large, was changed since, or is no table of scores.
    """
    from mlflow.exceptions import MlflowException

    whose = f"{registered.name} version {registered.version}"
    expected = tracking.client.get_run(registered.run_id).data.tags.get(SHA_TAG)
    if expected is None:
        return None
    try:
        path = Path(tracking.client.download_artifacts(registered.run_id, FILE))
        if path.stat().st_size > _LARGEST:
            raise DataError(f"the training scores of {whose} are larger than {_LARGEST} bytes")
        content = path.read_bytes()
    except (MlflowException, OSError) as error:
        raise DataError(f"the training scores of {whose} are gone: {error}", hint="train again") from error
    if digest_bytes(content) != expected:
        raise DataError(f"the training scores of {whose} were changed since they were stored", hint="train again")
    rows = pd.read_parquet(io.BytesIO(content))
    absent = set(_STORED) - set(rows.columns)
    if absent:
        raise DataError(f"the training scores of {whose} lack the columns {sorted(absent)}")
    for name in ("ts", "known_at", "t_end"):
        rows[name] = pd.to_datetime(rows[name], utc=True).dt.as_unit("ns")
    return rows.assign(model=registered.name, model_version=registered.version)[list(JUDGED_COLUMNS)]
