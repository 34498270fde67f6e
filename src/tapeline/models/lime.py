"""LIME for tables: what moves a model's probability around one row, said by a small linear model that is fitted there.

Ribeiro, Singh and Guestrin 2016, "Why should I trust you?", KDD, section 3. It asks the model for probabilities and
for nothing else, so any family can be explained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError

Rows = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Score = Callable[[Rows], Floats]

SAMPLES: Final = 3000
WIDTH: Final = 0.75
"""Width of the kernel a root of a column, as in the authors' own package."""
PENALTY: Final = 1.0
_FEWEST: Final = 50


@dataclass(frozen=True)
class LocalExplanation:
    """Why a model says what it says of one row.

    Parameters
    ----------
    weights:
        A row a column, the heaviest first: ``feature``, ``condition`` (what is true of the row: ``rsi_14 <= 31.2``),
        ``value`` (the row's), ``weight`` (by how much the condition raises the probability nearby; with
        ``perturbation="gaussian"`` a standard deviation more of the column), ``error`` (its standard error, for the
        perturbations are drawn by chance).
    probability:
        What the model says of the row.
    local_probability:
        What the linear model says of it.
    intercept:
        The linear model's, where no condition holds.
    r_squared:
        Weighted share of the variance of the model's probabilities around the row that the linear model explains. Near
        0 the weights explain nothing, however large they are.
    effective_samples:
        As how many equally near perturbations the weighted ones count (Kish).
    """

    weights: pd.DataFrame
    probability: float
    local_probability: float
    intercept: float
    r_squared: float
    effective_samples: float


def explain_row(
    score: Score,
    row: npt.ArrayLike,
    background: Rows,
    names: Sequence[str],
    *,
    perturbation: Literal["quantile", "gaussian"] = "quantile",
    parts: int = 4,
    samples: int = SAMPLES,
    width: float | None = None,
    seed: int = 0,
) -> LocalExplanation:
    """Explain one row by perturbing it, weighing what comes out by its nearness, and fitting a ridge regression.

    Parameters
    ----------
    score:
        From rows to probabilities of a rise; ``lambda rows: model.predict_proba(rows)[:, 1]`` for any classifier.
    row:
        Shape (columns,).
    background:
        Rows that stand for what is usual, such as the training rows; perturbations draw each column from them.
    names:
        Of the columns.
    perturbation:
        ``quantile``: each column is drawn from the background independently of the others, and the linear model reads
        whether it lies in the same of ``parts`` parts of equal mass as the row's; a missing value is a part of its
        own. ``gaussian``: each column is drawn from a normal distribution around the row's value with the background's
        standard deviation, and the linear model reads how far off it is; missing values stay as they are.
    parts:
        Parts of equal mass, for ``quantile``.
    samples:
        Perturbations, the row itself included.
    width:
        Of the kernel ``exp(-distance^2 / (2 width^2))`` over what the linear model reads; ``0.75`` times the root of
        the number of columns where absent. Smaller is more local and noisier.
    seed:
        Same seed, same explanation.

    Raises
    ------
    DataError
        The row, the background and the names do not fit each other, or a score is no probability.
    ConfigurationError
        Fewer than 50 samples, fewer than two parts, or a width that is not positive.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    >>> said = lambda x: 1 / (1 + np.exp(-x[:, 0].astype(float)))
    >>> found = explain_row(said, [2.0, 0.0], rows, ["momentum", "noise"])
    >>> found.weights["feature"].tolist(), bool(found.weights["weight"][0] > 0.1), found.r_squared > 0.5
    (['momentum', 'noise'], True, True)
    """
    center = np.asarray(row, dtype=np.float32).ravel()
    _check(center, background, names, samples, parts, width)
    generator = np.random.default_rng(seed)
    if perturbation == "quantile":
        drawn, read, conditions = _by_parts(center, background, names, parts, samples, generator)
        distance = (1.0 - read).sum(axis=1)
    elif perturbation == "gaussian":
        drawn, read, conditions = _around(center, background, names, samples, generator)
        distance = (read**2).sum(axis=1)
    else:
        raise ConfigurationError(f"no perturbation is called {perturbation!r}", hint="quantile or gaussian")
    said = np.asarray(score(drawn), dtype=np.float64)
    if said.shape != (samples,) or not ((said >= 0) & (said <= 1)).all():
        raise DataError("the model gave something that is not a probability for each perturbed row")
    spread = WIDTH * np.sqrt(center.size) if width is None else width
    near = np.exp(-distance / (2 * spread**2))
    slope, error, intercept, r_squared = _ridge(read, said, near)
    table = pd.DataFrame(
        {"feature": list(names), "condition": conditions, "value": center.astype(np.float64), "weight": slope}
    ).assign(error=error)
    order = np.lexsort((np.arange(center.size), -np.abs(slope)))
    return LocalExplanation(
        weights=table.iloc[order].reset_index(drop=True),
        probability=float(said[0]),
        local_probability=float(intercept + read[0] @ slope),
        intercept=intercept,
        r_squared=r_squared,
        effective_samples=float(near.sum() ** 2 / (near**2).sum()),
    )


def quantile_parts(column: npt.ArrayLike, parts: int = 4) -> Floats:
    """Borders that cut a column's values into parts of equal mass; fewer where values repeat, none where all are equal.

    Examples
    --------
    >>> quantile_parts([1, 2, 3, 4, 5], 2).tolist(), quantile_parts([7, 7, 7]).tolist()
    ([3.0], [])
    """
    values = np.asarray(column, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return np.empty(0)
    borders = np.unique(np.quantile(values, np.arange(1, parts) / parts))
    return borders[(borders < values.max()) & (borders >= values.min())]


def _check(center: Rows, background: Rows, names: Sequence[str], samples: int, parts: int, width: float | None) -> None:
    if background.ndim != 2 or not len(background) or background.shape[1] != center.size or center.size != len(names):
        raise DataError(
            f"a row of {center.size} columns, a background of shape {background.shape} and {len(names)} names do not "
            "belong together"
        )
    if samples < _FEWEST:
        raise ConfigurationError(f"samples = {samples} is below {_FEWEST}")
    if parts < 2:
        raise ConfigurationError(f"parts = {parts} is below 2")
    if width is not None and not width > 0:
        raise ConfigurationError(f"width = {width} is not above 0")


def _by_parts(
    center: Rows,
    background: Rows,
    names: Sequence[str],
    parts: int,
    samples: int,
    generator: np.random.Generator,
) -> tuple[Rows, Floats, list[str]]:
    drawn = np.empty((samples, center.size), dtype=np.float32)
    same = np.empty((samples, center.size))
    conditions = []
    for column, (value, name) in enumerate(zip(center.tolist(), names, strict=True)):
        borders = quantile_parts(background[:, column], parts).astype(np.float32)
        drawn[:, column] = background[generator.integers(0, len(background), samples), column]
        drawn[0, column] = value
        own = _part(np.array([value], dtype=np.float32), borders)[0]
        same[:, column] = _part(drawn[:, column], borders) == own
        conditions.append(_condition(name, borders.tolist(), int(own)))
    return drawn, same, conditions


def _part(values: Rows, borders: Rows) -> npt.NDArray[np.intp]:
    return np.where(np.isnan(values), -1, np.searchsorted(borders, values, side="left"))


def _condition(name: str, borders: list[float], part: int) -> str:
    if part < 0:
        return f"{name} is missing"
    if not borders:
        return f"{name} is not missing"
    if part == 0:
        return f"{name} <= {borders[0]:.4g}"
    if part == len(borders):
        return f"{name} > {borders[-1]:.4g}"
    return f"{borders[part - 1]:.4g} < {name} <= {borders[part]:.4g}"


def _around(
    center: Rows, background: Rows, names: Sequence[str], samples: int, generator: np.random.Generator
) -> tuple[Rows, Floats, list[str]]:
    known = np.isfinite(background)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, background, 0.0).astype(np.float64)
    mean = filled.sum(axis=0) / count
    deviation = np.sqrt((np.where(known, background - mean, 0.0) ** 2).sum(axis=0) / count)
    # What is missing in the row has no neighbourhood to move in.
    moves = np.isfinite(center) & (deviation > 0)
    off = generator.standard_normal((samples, center.size)) * moves
    off[0] = 0.0
    drawn = np.where(moves, center + off * deviation, center).astype(np.float32)
    conditions = [
        f"{name} = {value:.4g}" if np.isfinite(value) else f"{name} is missing"
        for name, value in zip(names, center.tolist(), strict=True)
    ]
    return drawn, off, conditions


def _ridge(read: Floats, said: Floats, near: Floats) -> tuple[Floats, Floats, float, float]:
    """Weighted ridge with a free intercept; standard errors that allow for the weights (White's sandwich)."""
    share = near / near.sum()
    mean, level = share @ read, float(share @ said)
    centered, target = read - mean, said - level
    weighted = centered * near[:, None]
    inverse = np.linalg.inv(weighted.T @ centered + PENALTY * np.eye(read.shape[1]))
    slope = inverse @ (weighted.T @ target)
    residual = target - centered @ slope
    noise = (weighted * residual[:, None]).T @ (weighted * residual[:, None])
    error = np.sqrt(np.diagonal(inverse @ noise @ inverse))
    total = float(share @ target**2)
    r_squared = 0.0 if total <= 1e-18 else 1.0 - float(share @ residual**2) / total
    return slope, error, level - float(mean @ slope), r_squared
