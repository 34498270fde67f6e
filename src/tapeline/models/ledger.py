"""The trial ledger: how often results out of sample were looked at before this one was shown.

Kept in the tags of MLflow runs, deleted and failed runs included, so that it outlives processes and tidying up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tapeline.core.errors import ConfigurationError
from tapeline.core.versions import digest
from tapeline.models.tracking import TAG, Tracking

MODEL_TAG: Final = f"{TAG}model"
STUDY_TAG: Final = f"{TAG}study"
TRIALS_TAG: Final = f"{TAG}trials"
LOOK_TAG: Final = f"{TAG}holdout_look"
FITS_TAG: Final = f"{TAG}fits."
_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")
_PAGE: Final = 1000


@dataclass(frozen=True)
class Ledger:
    """The count for one model name.

    Parameters
    ----------
    trials:
        Configurations whose cross-validation result was seen, over all runs; a study that was resumed or run again on
        the same data counts once, with its greatest number of trials.
    holdout_looks:
        Distinct models that were evaluated on a holdout.
    fits:
        Other fits whose result on rows they were not trained on was seen before the model was chosen, such as the
        probes that describe a dataset to the choice of a family; once a study and kind.
    """

    trials: int
    holdout_looks: int
    fits: int = 0

    @property
    def total(self) -> int:
        """Everything that selection could feed on: what the deflated Sharpe ratio takes as its number of trials."""
        return self.trials + self.fits + self.holdout_looks


def record_trials(tracking: Tracking, run_id: str, study: str, trials: int) -> None:
    """Write down how many trials a run's study has had; called after each, so that a killed run's trials count too."""
    tracking.log(run_id, tags={STUDY_TAG: study, TRIALS_TAG: str(trials)})


def record_fits(tracking: Tracking, run_id: str, study: str, kind: str, fits: int) -> None:
    """Write down how many other fits of a kind a run scored out of sample; call it before the results are used.

    Raises
    ------
    ConfigurationError
        The kind is not a lower-case word, or the number is negative.
    """
    if not _KIND.fullmatch(kind) or fits < 0:
        raise ConfigurationError(f"{fits} fits of kind {kind!r} cannot be recorded", hint="a word such as 'ensemble'")
    tracking.log(run_id, tags={STUDY_TAG: study, f"{FITS_TAG}{kind}": str(fits)})


def record_look(tracking: Tracking, run_id: str, study: str, booster_sha256: str) -> None:
    """Write down that a model is about to be evaluated on its holdout; call it before the look."""
    tracking.log(run_id, tags={LOOK_TAG: digest([study, booster_sha256])})


def read_ledger(tracking: Tracking, name: str) -> Ledger:
    """Count over all runs of a model name."""
    from mlflow.entities import ViewType

    trials: dict[str, int] = {}
    fits: dict[tuple[str, str], int] = {}
    looks: set[str] = set()
    token: str | None = None
    while True:
        page = tracking.client.search_runs(
            [tracking.experiment_id],
            filter_string=f"tags.`{MODEL_TAG}` = '{name}'",
            run_view_type=ViewType.ALL,
            max_results=_PAGE,
            page_token=token,
        )
        for run in page:
            tags = run.data.tags
            study = tags.get(STUDY_TAG)
            if study is not None:
                _count(trials, study, tags.get(TRIALS_TAG, "0"))
                for kind, number in _fits(tags).items():
                    _count(fits, (study, kind), number)
            if LOOK_TAG in tags:
                looks.add(tags[LOOK_TAG])
        token = page.token
        if not token:
            return Ledger(sum(trials.values()), len(looks), sum(fits.values()))


def _fits(tags: Mapping[str, str]) -> dict[str, str]:
    return {key.removeprefix(FITS_TAG): value for key, value in tags.items() if key.startswith(FITS_TAG)}


def _count(counts: dict[Any, int], key: Any, number: str) -> None:
    counts[key] = max(int(number), counts.get(key, 0))
