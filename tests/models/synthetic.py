"""Datasets whose best possible model is known: what a training run finds on them is right or wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from tapeline.core.settings import Settings
from tapeline.evaluation.result import Versions
from tapeline.models.dataset import Dataset, assemble

VERSIONS = Versions(feature_set="test@1", label="next_bar@1", data="d1")


def make_parts(
    rows: int, *, columns: int = 8, signal: float = 0.0, horizon: int = 1, seed: int = 0, start: str = "2017-01-02"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features and labels of one symbol.

    With a horizon of 1 no two labels overlap. ``P(up) = Phi(signal * x0)`` with x0 standard normal, all other features
    are noise; the outcome is +-10 basis points.
    """
    generator = np.random.default_rng(seed)
    ts = pd.date_range(start, periods=rows, freq="1h", tz="UTC", name="ts").as_unit("ns")
    x = generator.standard_normal((rows, columns)).astype(np.float32)
    up = generator.standard_normal(rows) < signal * x[:, 0]
    features = pd.DataFrame(x, index=ts, columns=[f"f{i}" for i in range(columns)])
    known = ts + pd.Timedelta("1h")
    features.insert(0, "known_at", known)
    side = np.where(up, 1.0, -1.0)
    labels = pd.DataFrame(
        {
            "value": side,
            "t_end": known + pd.Timedelta(hours=horizon) - pd.Timedelta("1s"),
            "outcome": side * 1e-3,
            "weight": 1.0,
        },
        index=ts,
    )
    return features, labels


def make_dataset(rows: int, **options: object) -> Dataset:
    return assemble({"EURUSD": make_parts(rows, **options)})  # type: ignore[arg-type]


def bayes_auc(signal: float, rows: int = 200_000) -> float:
    """The AUC of the true probability, by simulation on many rows."""
    from tapeline.evaluation.metrics import auc

    generator = np.random.default_rng(99)
    x = generator.standard_normal(rows)
    return auc(generator.standard_normal(rows) < signal * x, x)


def auc_standard_error(target: np.ndarray) -> float:
    """The standard error of the AUC of a score without skill (Mann-Whitney)."""
    ones = int(target.sum())
    zeros = len(target) - ones
    return math.sqrt((ones + zeros + 1) / (12 * ones * zeros))


def make_settings(root: Path, *, card: bool = False, **training: object) -> Settings:
    bounds = {"trials": 3, "folds": 3, "threads": 1, **training}
    return Settings(root=root, training=bounds, card={"write": card})  # type: ignore[arg-type]
