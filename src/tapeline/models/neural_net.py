"""A feed-forward net of several layers behind scikit-learn's contract, fitted to the end of its epochs.

It stops by no split of its own: rows chosen at random for it would share label intervals with the rows it learns from.
"""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier


class NeuralNet(MLPClassifier):
    """Layers of rectified units and a logistic output, by Adam on the weighted log loss (Kingma and Ba 2015).

    Parameters
    ----------
    width:
        Units of the first hidden layer; each further one has half as many, 2 at least.
    layers:
        Hidden layers.
    alpha:
        The L2 penalty.
    epochs:
        Passes over the rows; there is no early stopping.
    learning_rate_init, batch_size, random_state:
        As in scikit-learn.

    Examples
    --------
    >>> rows = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]] * 60)
    >>> net = NeuralNet(width=16, layers=2, alpha=0.0, epochs=150, learning_rate_init=0.01)
    >>> net.fit(rows, [0, 1, 1, 0] * 60).predict_proba(rows[:4])[:, 1].round().tolist()
    [0.0, 1.0, 1.0, 0.0]
    """

    def __init__(
        self,
        width: int = 32,
        layers: int = 2,
        *,
        alpha: float = 1.0,
        epochs: int = 40,
        learning_rate_init: float = 0.003,
        batch_size: int = 256,
        random_state: int | None = 0,
    ) -> None:
        self.batch_size: int
        self.width = width
        self.layers = layers
        self.epochs = epochs
        super().__init__(
            alpha=alpha, learning_rate_init=learning_rate_init, batch_size=batch_size, random_state=random_state
        )

    def fit(
        self,
        X: npt.ArrayLike,  # noqa: N803 - scikit-learn's name
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit all epochs, in double precision."""
        rows = np.asarray(X, dtype=np.float64)
        self.hidden_layer_sizes = tuple(max(2, self.width >> depth) for depth in range(self.layers))
        self.max_iter, self.n_iter_no_change, self.tol = self.epochs, self.epochs, 0.0
        given: int = self.batch_size
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        if weight is not None:
            weight = weight * (weight.size / weight.sum())  # so that the penalty does not depend on the weights' unit
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # all epochs were asked for
            try:
                self.batch_size = min(given, len(rows))
                super().fit(rows, y, sample_weight=weight)
            finally:
                self.batch_size = given
        return self

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:  # noqa: N803
        """The probability of each class."""
        return np.asarray(super().predict_proba(np.asarray(X, dtype=np.float64)), dtype=np.float64)

    def to_layers(self) -> list[dict[str, Any]]:
        """The weights (inputs by units) and biases of each layer as plain numbers."""
        return [
            {"weights": weights.tolist(), "bias": bias.tolist()}
            for weights, bias in zip(self.coefs_, self.intercepts_, strict=True)
        ]
