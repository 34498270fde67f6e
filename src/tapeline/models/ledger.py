"""The trial ledger: how often results out of sample were looked at before this one was shown.

Kept in the tags of MLflow runs, deleted and failed runs included, so that it outlives processes and tidying up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tapeline.core.versions import digest
from tapeline.models.tracking import TAG, Tracking

MODEL_TAG: Final = f"{TAG}model"
STUDY_TAG: Final = f"{TAG}study"
TRIALS_TAG: Final = f"{TAG}trials"
LOOK_TAG: Final = f"{TAG}holdout_look"
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
    """

    trials: int
    holdout_looks: int

    @property
    def total(self) -> int:
        """Everything that selection could feed on: what the deflated Sharpe ratio takes as its number of trials."""
        return self.trials + self.holdout_looks


def record_trials(tracking: Tracking, run_id: str, study: str, trials: int) -> None:
    """Write down how many trials a run's study has had."""
    tracking.log(run_id, tags={STUDY_TAG: study, TRIALS_TAG: str(trials)})


def record_look(tracking: Tracking, run_id: str, study: str, booster_sha256: str) -> None:
    """Write down that a model is about to be evaluated on its holdout; call it before the look."""
    tracking.log(run_id, tags={LOOK_TAG: digest([study, booster_sha256])})


def read_ledger(tracking: Tracking, name: str) -> Ledger:
    """Count over all runs of a model name."""
    from mlflow.entities import ViewType

    studies: dict[str, int] = {}
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
            if STUDY_TAG in tags:
                count = int(tags.get(TRIALS_TAG, "0"))
                studies[tags[STUDY_TAG]] = max(count, studies.get(tags[STUDY_TAG], 0))
            if LOOK_TAG in tags:
                looks.add(tags[LOOK_TAG])
        token = page.token
        if not token:
            return Ledger(sum(studies.values()), len(looks))
