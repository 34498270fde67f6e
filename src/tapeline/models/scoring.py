"""Scoring: a registered model's calibrated opinion of feature rows, the same on history and on the live tail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError, VersionMismatchError
from tapeline.core.settings import Settings
from tapeline.models.bundle import Model
from tapeline.models.dataset import feature_matrix
from tapeline.models.registry import CHALLENGER, CHAMPION, Registry

SCORE_COLUMNS: Final = (
    "known_at",
    "probability",
    "side",
    "confidence",
    "model",
    "model_version",
    "feature_set_version",
    "label_version",
    "data_version",
)


@dataclass(frozen=True)
class Scorer:
    """A verified model, ready to score.

    Parameters
    ----------
    name, version:
        In the registry.
    model:
        Bundle and booster.
    """

    name: str
    version: str
    model: Model

    @property
    def trained_until(self) -> pd.Timestamp:
        """The instant up to which the model knows labels: a score of a row decided before it is in-sample."""
        return self.model.bundle.trained_until

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature columns that a frame must have."""
        return self.model.bundle.columns

    def require_feature_set(self, version: str) -> None:
        """Raise VersionMismatchError unless the model was trained on this feature set version."""
        expected = self.model.bundle.versions.feature_set
        if version != expected:
            raise VersionMismatchError(
                f"model '{self.name}' version {self.version} was trained on features {expected}, these are {version}",
                hint="train again with the present feature set, or put the former feature set file back",
            )

    def score(self, features: pd.DataFrame, *, feature_set_version: str | None = None) -> pd.DataFrame:
        """Score feature rows.

        Parameters
        ----------
        features:
            Index ``ts``; ``known_at`` and exactly the model's columns.
        feature_set_version:
            Of these features; checked where given.

        Returns
        -------
        A row for each row that has at least one feature (a row that is all NaN is in its warm-up and has no score):
        the columns of the scores table but for ``scored_at``, which the caller knows. ``probability`` is the
        calibrated one of a rise, ``side`` +1 above the model's threshold (0.5), -1 below it and 0 on it,
        ``confidence`` the probability of that side.

        Raises
        ------
        VersionMismatchError
            The version differs, or the columns are not those of the version the model was trained on.
        DataError
            A feature is infinite or not numeric, or ``known_at`` is missing.
        """
        if feature_set_version is not None:
            self.require_feature_set(feature_set_version)
        different = set(features.columns) ^ {*self.columns, "known_at"}
        if different - {"known_at"}:
            raise VersionMismatchError(
                f"model '{self.name}' version {self.version} was trained on features "
                f"{self.model.bundle.versions.feature_set}; the columns {sorted(map(str, different))[:5]} differ",
                hint="compute the features with the feature set that the model names",
            )
        if different:
            raise DataError("the features to score lack 'known_at'")
        matrix = feature_matrix(features, self.columns, self.name)
        usable = ~np.isnan(matrix).all(axis=1)
        probability = self.probability(matrix[usable])
        rows = features[["known_at"]][usable]
        threshold = self.model.bundle.threshold
        versions = self.model.bundle.versions
        return rows.assign(
            probability=probability,
            side=((probability > threshold).astype(np.int8) - (probability < 1 - threshold).astype(np.int8)),
            confidence=np.maximum(probability, 1 - probability),
            model=self.name,
            model_version=self.version,
            feature_set_version=versions.feature_set,
            label_version=versions.label,
            data_version=versions.data,
        )

    def probability(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The calibrated probability of a rise for a matrix in the order of ``columns``; the path without a frame."""
        if not len(matrix):
            return np.empty(0)
        return self.model.probability(matrix)


def load_scorer(settings: Settings, name: str, *, alias: str = CHAMPION) -> Scorer:
    """Load the model that an alias (or a version number) names, and verify its files against the registry's hash.

    Raises
    ------
    ConfigurationError
        No model has this name or alias.
    DataError
        Its files are gone, or were changed after they were registered.
    """
    registry = Registry.open(settings)
    found = registry.find(name, alias)
    if found is None:
        raise ConfigurationError(
            f"model '{name}' has no {alias}", hint="train it first ('tapeline run'), or promote one of its versions"
        )
    return Scorer(name, found.version, registry.load(found))


def load_challenger(settings: Settings, name: str) -> Scorer | None:
    """The model that would follow the champion, verified as in :func:`load_scorer`; None where there is none."""
    registry = Registry.open(settings)
    found = registry.find(name, CHALLENGER)
    return None if found is None else Scorer(name, found.version, registry.load(found))
