"""The result of a training run as plain data: what the summary, the report and the registry read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Versions:
    """The content hashes that a model hangs on.

    Examples
    --------
    >>> Versions(feature_set="core@1f0c", label="triple_barrier@77ab", data="9d31").feature_set
    'core@1f0c'
    """

    feature_set: str
    label: str
    data: str


@dataclass(frozen=True)
class TrainingResult:
    """Everything a training run found out.

    Parameters
    ----------
    name, model_version, run_id, model_uri:
        The registered model, its version there, the tracking run, and the URI that ``mlflow.pyfunc.load_model`` reads.
    versions, verdict_ids, label:
        What the model was made from, the validation verdicts that vouch for the data, and what the label means.
    promoted, reason, aliases:
        Whether this version became the champion, why or why not, and the aliases it holds now.
    rows:
        Counts: ``development``, ``purged`` at the border of the holdout, ``holdout``.
    dropped:
        A row a symbol: rows in, unlabelled, ambiguous, in warm-up, rows out.
    metrics:
        Columns ``metric``, ``value``, ``low``, ``high`` (95 % block bootstrap interval), ``majority``, ``random`` and
        ``logistic`` (the same figure for the baselines; NaN where it has no meaning). All on the holdout.
    holdout:
        A row a holdout decision: ``ts``, ``symbol``, ``t0``, ``t_end``, ``y``, ``outcome``, ``weight``, ``raw``,
        ``probability`` (calibrated), ``side``, ``confidence``.
    reliability:
        Calibrated holdout probabilities against what happened, a row a bin.
    calibration:
        ``stage`` (raw, calibrated), ``ece``, ``brier``, ``log_loss`` on the holdout.
    trials:
        A row a tuning trial.
    importance:
        ``feature``, ``mean_abs_shap``, ``share`` on the holdout.
    trades, equity, cost_ladder, random_band:
        The holdout's trades, their cumulative return by cost level, the ladder, and the random entries' band.
    sharpe:
        A row: ``returns``, ``sharpe`` (one trade), ``probabilistic``, ``trials``, ``deflated``, ``minimum_length``, ...
    trials_total, holdout_looks:
        Over all runs of this model name: configurations tried, and times a holdout was looked at.
    parameters:
        The tuned parameters.
    study, booster_sha256:
        The name of the Optuna study, and the hash of the trees.
    family, family_reason:
        The family of models that was chosen, and why these families were tried; empty where the settings name one.
    overfitting:
        A row on the choice among trials, or none where it was not judged: ``trials`` (all that the ledger counts),
        ``effective_trials`` (in independent ones), ``trials_with_returns`` and ``clusters`` (of the present study's
        complete trials: how many, and how many groups of like ones), ``pbo`` (probability of backtest overfitting),
        ``probability_of_loss``, ``degradation``, ``days``, ``blocks`` and ``splits`` behind them, ``years_needed``
        (minimum backtest length for an annual Sharpe ratio of 1) and ``years``.
    card, card_text:
        Where the model card lies, and what it says in short, as Markdown; empty where none was made.
    """

    name: str
    model_version: str
    run_id: str
    model_uri: str
    versions: Versions
    verdict_ids: tuple[str, ...]
    label: Mapping[str, Any]
    promoted: bool
    reason: str
    aliases: tuple[str, ...]
    rows: Mapping[str, int]
    dropped: pd.DataFrame
    metrics: pd.DataFrame
    holdout: pd.DataFrame
    reliability: pd.DataFrame
    calibration: pd.DataFrame
    trials: pd.DataFrame
    importance: pd.DataFrame
    trades: pd.DataFrame
    equity: pd.DataFrame
    cost_ladder: pd.DataFrame
    random_band: pd.DataFrame
    sharpe: pd.DataFrame
    trials_total: int
    holdout_looks: int
    parameters: Mapping[str, Any]
    study: str
    booster_sha256: str
    family: str = "lightgbm"
    family_reason: str = ""
    overfitting: pd.DataFrame = field(default_factory=pd.DataFrame)
    card: str = ""
    card_text: str = ""
