"""Signal fusion: probabilities of models and signals of patterns become one calibrated signal a bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.calibration import Calibration, fit_calibration, log_odds, sigmoid
from tapeline.models.out_of_fold import check_weights, label_intervals
from tapeline.models.pooling import fit_logarithmic_pool
from tapeline.models.validation import time_holdout
from tapeline.models.venn_abers import VennAbers, fit_venn_abers

Array = npt.NDArray[np.float64]
Method = Literal["venn_abers", "isotonic", "platt"]

METHODS: Final = ("venn_abers", "isotonic", "platt")
SMALLEST_TAIL: Final = 50
"""Fewer rows than this calibrate nothing."""


class SignalFusion(ClassifierMixin, BaseEstimator):
    """Pool evidence in log odds with learnt weights that are not negative, then calibrate on later rows.

    A column's evidence is, for a model's probability, its log odds less those of the base rate; for a signal in
    [-1, 1], the signal itself. NaN is silence: no evidence. The pooled log odds are ``intercept + sum of weight *
    evidence``. Weights are fitted jointly with a ridge penalty on the early rows, so that two signals which say the
    same are worth one, and a worthless one is worth about nothing. On the last ``tail`` of the rows, purged, the pooled
    probability is calibrated.

    Probabilities must be such as the models will give on new rows: out of fold (:mod:`tapeline.models.out_of_fold`) or
    scored live. Fitted on probabilities of their own training rows, the fusion believes them too much.

    Parameters
    ----------
    probabilities:
        Columns with a model's probability of class 1.
    signals:
        Columns in [-1, 1]: the sign is the direction, the size the confidence; see :func:`event_signal`.
    ridge:
        Strength of the penalty on squared weights against the sum of log losses; above 0.
    calibration:
        ``venn_abers``, ``isotonic`` or ``platt``.
    tail:
        Share of the rows, the last in time, that the calibration is fitted on.

    Attributes
    ----------
    weights_:
        Column to weight: log odds for one unit of evidence.
    intercept_, base_log_odds_:
        Of the pool, and of the base rate in the early rows.
    calibration_:
        A :class:`Calibration`, or None where the method is Venn-Abers.
    venn_abers_:
        The predictor that gives the interval, whatever the method.

    Examples
    --------
    >>> generator = np.random.default_rng(0)
    >>> happened = generator.integers(0, 2, 2000)
    >>> right = np.where(generator.uniform(size=2000) < 0.7, 2 * happened - 1, 1 - 2 * happened)
    >>> frame = pd.DataFrame({"engulfing": right * 1.0, "same_again": right * 1.0})
    >>> t0 = pd.date_range("2017-01-02", periods=2000, freq="1h", tz="UTC")
    >>> fusion = SignalFusion(signals=("engulfing", "same_again")).fit(frame, happened, t0=t0, t_end=t0)
    >>> fused = fusion.fuse(pd.DataFrame({"engulfing": [1.0, -1.0, np.nan], "same_again": [1.0, -1.0, np.nan]}))
    >>> fused["probability"].round(1).tolist(), fused["direction"].tolist()
    ([0.7, 0.3, 0.5], [1, -1, 0])
    """

    def __init__(
        self,
        *,
        probabilities: Sequence[str] = (),
        signals: Sequence[str] = (),
        ridge: float = 1.0,
        calibration: Method = "venn_abers",
        tail: float = 0.3,
    ) -> None:
        self.probabilities = probabilities
        self.signals = signals
        self.ridge = ridge
        self.calibration = calibration
        self.tail = tail

    def fit(
        self,
        X: pd.DataFrame,  # noqa: N803 - scikit-learn's name
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        *,
        t0: npt.ArrayLike | None = None,
        t_end: npt.ArrayLike | None = None,
    ) -> Self:
        """Learn weights on the early rows and the calibration on the late ones, none of whose labels they share.

        Raises
        ------
        ConfigurationError
            A column is named twice or absent, no column is named, or the label intervals are absent.
        DataError
            A value is out of its bounds, or too few rows are left on one side.
        """
        self._check_parameters()
        target = np.asarray(y)
        if not np.isin(target, (0, 1)).all() or len(X) != target.size:
            raise DataError(f"{len(X)} rows and {target.size} classes do not belong together, or are not 0 and 1")
        weight = np.ones(target.size) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        check_weights(weight)
        begin, end = label_intervals(t0, t_end)
        early, late = time_holdout(begin, end, self.tail)
        if late.size < SMALLEST_TAIL:
            raise DataError(f"{late.size} rows in the tail are below the {SMALLEST_TAIL} that calibration needs")
        base = np.average(target[early], weights=weight[early])
        self.base_log_odds_ = float(log_odds(base))
        evidence = self.evidence(X)
        slope, intercept = fit_logarithmic_pool(evidence[early], target[early], weight[early], ridge=self.ridge)
        self.weights_ = {name: float(value) for name, value in zip(self._columns, slope, strict=True)}
        self.intercept_ = intercept
        pooled = self._pooled(evidence[late])
        self.venn_abers_ = fit_venn_abers(pooled, target[late], weight[late])
        self.calibration_: Calibration | None = None
        if self.calibration != "venn_abers":
            self.calibration_ = fit_calibration(pooled, target[late], weight[late], kind=self.calibration)
        self.classes_ = np.array([0, 1])
        return self

    def fuse(self, X: pd.DataFrame) -> pd.DataFrame:  # noqa: N803
        """One signal a row.

        Returns
        -------
        On the index of ``X``: ``probability`` (calibrated, of class 1); ``low`` and ``high`` (the two probabilities of
        Venn-Abers: how far apart they are says how much the calibration rows leave open, not how sure the direction
        is); ``direction`` (+1 or -1 where probability, low and high are on one side of 0.5, else 0; 0 as well where
        every column is silent); ``log_odds`` (before calibration), and ``contribution_<column>``, which with the
        intercept sum to it.
        """
        check_is_fitted(self, "venn_abers_")
        evidence = self.evidence(X)
        parts = evidence * np.array([self.weights_[name] for name in self._columns])
        pooled = self._pooled(evidence)
        low, high = self.venn_abers_.interval(pooled)
        probability = (self.calibration_ or self.venn_abers_).apply(pooled)
        up = (probability > 0.5) & (low > 0.5)
        down = (probability < 0.5) & (high < 0.5)
        silent = X[self._columns].isna().all(axis=1).to_numpy()
        return pd.DataFrame(
            {
                "probability": probability,
                "low": low,
                "high": high,
                "direction": np.where(silent, 0, up.astype(np.int8) - down.astype(np.int8)).astype(np.int8),
                "log_odds": self.intercept_ + parts.sum(axis=1),
                **{f"contribution_{name}": parts[:, place] for place, name in enumerate(self._columns)},
            },
            index=X.index,
        )

    def predict_proba(self, X: pd.DataFrame) -> Array:  # noqa: N803
        """Calibrated probabilities of 0 and of 1, shape (rows, 2)."""
        up = self.fuse(X)["probability"].to_numpy()
        return np.column_stack([1 - up, up])

    def predict(self, X: pd.DataFrame) -> npt.NDArray[np.int64]:  # noqa: N803
        """1 above a calibrated probability of 0.5, else 0."""
        return np.asarray(self.predict_proba(X)[:, 1] > 0.5, dtype=np.int64)

    def evidence(self, X: pd.DataFrame) -> Array:  # noqa: N803
        """The evidence of each column, shape (rows, columns), 0 where it is silent."""
        absent = [name for name in self._columns if name not in getattr(X, "columns", ())]
        if absent:
            raise ConfigurationError(f"the frame to fuse lacks the columns {absent[:5]}")
        made = np.zeros((len(X), len(self._columns)))
        for place, name in enumerate(self._columns):
            values = X[name].to_numpy(dtype=np.float64)
            lowest = 0.0 if name in self.probabilities else -1.0
            wrong = (values < lowest) | (values > 1)
            if wrong.any():
                raise DataError(f"'{name}' holds {values[wrong][0]}, which is outside [{lowest:g}, 1]")
            spoken = ~np.isnan(values)
            said = values[spoken]
            made[spoken, place] = said if lowest else log_odds(said) - self.base_log_odds_
        return made

    def plan(self) -> dict[str, Any]:
        """Plain texts and numbers that give the same signal to the bit."""
        check_is_fitted(self, "venn_abers_")
        return {
            "kind": "fusion",
            "probabilities": list(self.probabilities),
            "signals": list(self.signals),
            "weights": [self.weights_[name] for name in self._columns],
            "intercept": self.intercept_,
            "base_log_odds": self.base_log_odds_,
            "calibration": None if self.calibration_ is None else self.calibration_.to_json(),
            "venn_abers": self.venn_abers_.to_json(),
        }

    @classmethod
    def from_plan(cls, plan: Mapping[str, Any]) -> Self:
        """A fitted fusion from :meth:`plan`'s mapping, which is treated as untrusted; DataError where it is none."""
        try:
            calibration = plan["calibration"]
            made = cls(
                probabilities=tuple(map(str, plan["probabilities"])),
                signals=tuple(map(str, plan["signals"])),
                calibration="venn_abers" if calibration is None else calibration["kind"],
            )
            made._check_parameters()
            weights = [float(number) for number in plan["weights"]]
            made.weights_ = dict(zip(made._columns, weights, strict=True))
            made.intercept_, made.base_log_odds_ = float(plan["intercept"]), float(plan["base_log_odds"])
            made.calibration_ = None if calibration is None else Calibration.from_json(calibration)
            made.venn_abers_ = VennAbers.from_json(plan["venn_abers"])
        except (KeyError, TypeError, ValueError, OverflowError, ConfigurationError) as error:
            raise DataError(f"this is no plan of a fusion: {type(error).__name__}: {error}") from error
        if not np.isfinite([*weights, made.intercept_, made.base_log_odds_]).all() or min(weights) < 0:
            raise DataError("a plan of a fusion holds a number that is not finite, or a negative weight")
        made.classes_ = np.array([0, 1])
        return made

    @property
    def _columns(self) -> list[str]:
        return [*self.probabilities, *self.signals]

    def _pooled(self, evidence: Array) -> Array:
        slope = np.array([self.weights_[name] for name in self._columns])
        return sigmoid(self.intercept_ + (evidence * slope).sum(axis=1))

    def _check_parameters(self) -> None:
        if isinstance(self.probabilities, str) or isinstance(self.signals, str):
            raise ConfigurationError("probabilities and signals are lists of column names, not one text")
        if not self._columns or len(set(self._columns)) < len(self._columns):
            raise ConfigurationError(f"the columns to fuse, {self._columns}, are none, or one is named twice")
        if not self.ridge > 0:
            raise ConfigurationError(f"ridge = {self.ridge} is not above 0")
        if self.calibration not in METHODS:
            raise ConfigurationError(f"no calibration is called {self.calibration!r}", hint=", ".join(METHODS))


def event_signal(
    standing: pd.DataFrame, *, half_life: float, confidence: str | None = "score", full: float = 1.0
) -> pd.Series:
    """A signal in [-1, 1] a bar from what stood there: direction, times confidence, halved every ``half_life`` bars.

    Parameters
    ----------
    standing:
        From :func:`tapeline.charts.events.standing`, or any frame with ``direction`` (-1, 0 or 1), ``age`` in bars and
        the column of confidence; NaN where nothing stood.
    half_life:
        Bars after which a finding counts half; infinite for no decay.
    confidence:
        The column that says how sure a finding is; None counts each fully.
    full:
        The confidence that counts fully; more counts no more, and none below 0 does.

    Returns
    -------
    NaN where nothing stood, or a finding without direction or confidence: silence.

    Raises
    ------
    ConfigurationError
        ``half_life`` or ``full`` is not above 0.
    DataError
        A column is absent, a direction is not -1, 0 or 1, or an age is negative.

    Examples
    --------
    >>> stood = pd.DataFrame({"direction": [1.0, -1.0, np.nan], "age": [0.0, 5.0, np.nan], "score": [0.8, 0.8, np.nan]})
    >>> event_signal(stood, half_life=5).tolist()
    [0.8, -0.4, nan]
    """
    if not half_life > 0 or not full > 0:
        raise ConfigurationError(f"half_life = {half_life} and full = {full} must be above 0")
    columns = ["direction", "age", *([] if confidence is None else [confidence])]
    absent = [name for name in columns if name not in standing.columns]
    if absent:
        raise DataError(f"what stood lacks the columns {absent}")
    direction, age = (standing[name].to_numpy(dtype=np.float64) for name in ("direction", "age"))
    if not (np.isin(direction, (-1.0, 0.0, 1.0)) | np.isnan(direction)).all() or (age < 0).any():
        raise DataError("a direction is not -1, 0 or 1, or an age is negative")
    sure = np.ones(len(standing)) if confidence is None else standing[confidence].to_numpy(dtype=np.float64) / full
    said = np.where(direction == 0, np.nan, direction * np.clip(sure, 0.0, 1.0) * 0.5 ** (age / half_life))
    return pd.Series(said, index=standing.index, name="signal")
