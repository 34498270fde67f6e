"""A way to fit a model anew on other rows: what reports ask for that need many fits of one configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import DataError
from tapeline.core.settings import TrainingSettings
from tapeline.models.dataset import Dataset
from tapeline.models.trial import Fold, FoldModels

Array = npt.NDArray[np.float64]


class Refit(Protocol):
    """What can be fitted on the training rows of each fold and asked about its test rows."""

    @property
    def plan(self) -> Mapping[str, Any]:
        """All that decides a fit beside its rows, as plain data."""
        ...

    def predictions(self, dataset: Dataset, folds: Sequence[Fold]) -> Iterator[Array]:
        """For each fold the probabilities of class 1 of its test rows, by a model fitted on its training rows."""
        ...


@dataclass(frozen=True)
class FamilyRefit:
    """A family of the zoo at given parameters, as training fits it on folds; LightGBM's bins are made once.

    Probabilities are the model's own, before calibration: to calibrate inside each fold takes as many fits again as
    there are inner folds. Their order, and so the area under the curve, is that of the calibrated ones.

    Parameters
    ----------
    family, parameters:
        Of :func:`tapeline.models.estimator.build_estimator`.
    training:
        ``seed``, ``threads``, ``scaling``, ``strict_bins``.
    """

    family: str
    parameters: Mapping[str, Any]
    training: TrainingSettings = field(default_factory=TrainingSettings)

    @property
    def plan(self) -> Mapping[str, Any]:
        """Family, parameters, seed and scaling."""
        return {
            "family": self.family,
            "parameters": dict(self.parameters),
            "seed": self.training.seed,
            "scaling": self.training.scaling,
        }

    def predictions(self, dataset: Dataset, folds: Sequence[Fold]) -> Iterator[Array]:
        """As :class:`Refit` says."""
        models = FoldModels(dataset, folds, self.training)
        for number in range(len(folds)):
            yield models.predict(self.family, dict(self.parameters), number)


def checked_predictions(refit: Refit, dataset: Dataset, folds: Sequence[Fold]) -> list[Array]:
    """The predictions of all folds, each checked to be a probability a test row.

    Raises
    ------
    DataError
        A fold's training rows hold one class, or something else than probabilities came back.
    """
    for number, (train, _) in enumerate(folds):
        if np.unique(dataset.y[train][dataset.weight[train] > 0]).size < 2:
            raise DataError(
                f"all {train.size} training rows of fit {number} have the same label",
                hint="use fewer blocks or more data",
            )
    found = [np.asarray(said, dtype=np.float64) for said in refit.predictions(dataset, folds)]
    for (_, test), said in zip(folds, found, strict=True):
        if said.shape != test.shape or not ((said >= 0) & (said <= 1)).all():
            raise DataError("a refit gave something that is not a probability for each test row")
    return found
