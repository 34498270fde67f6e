"""The trainings of a model as its runs remember them."""

from __future__ import annotations

from typing import Final

import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.evaluation.result import Versions
from tapeline.models.ledger import MODEL_TAG
from tapeline.models.retraining import Attempt
from tapeline.models.tracking import TAG, Tracking
from tapeline.models.training_scores import KNOWN_UNTIL_TAG
from tapeline.models.tuning import MODEL_NAME

_VERSION_TAG: Final = f"{TAG}model_version"


def last_training(tracking: Tracking, name: str) -> Attempt | None:
    """The newest training that came to an end, promoted or not; None where none is known.

    Trainings of before the newest outcome was written down with a run are not known.

    Raises
    ------
    ConfigurationError
        The name is not one of a model.
    """
    # The name reaches MLflow's filter string, between quotes.
    if not MODEL_NAME.fullmatch(name):
        raise ConfigurationError(f"model name {name!r} is not valid", hint="letters, digits, % _ . ~ - only")
    runs = tracking.client.search_runs(
        [tracking.experiment_id],
        filter_string=f"tags.`{MODEL_TAG}` = '{name}' and tags.`{KNOWN_UNTIL_TAG}` LIKE '%' and status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not runs:
        return None
    run = runs[0]
    tags = run.data.tags
    return Attempt(
        model_version=tags.get(_VERSION_TAG, ""),
        versions=Versions(**{part: tags.get(f"{TAG}{part}_version", "") for part in ("feature_set", "label", "data")}),
        known_until=pd.Timestamp(tags[KNOWN_UNTIL_TAG]),
        at=pd.Timestamp(run.info.start_time, unit="ms", tz="UTC"),
    )
