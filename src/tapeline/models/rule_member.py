"""Rules as a classifier: declared conditions on columns, so that what a trader knows can be a member of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from tapeline.core.errors import ConfigurationError, DataError

Array = npt.NDArray[np.float64]
Comparison = Literal["above", "at_least", "below", "at_most"]


class Condition(BaseModel):
    """``column`` compared with ``value``; never fulfilled where the column is NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: Annotated[str, Field(min_length=1, max_length=200)]
    comparison: Comparison
    value: FiniteFloat


class Rule(BaseModel):
    """Where all conditions hold, class 1 has this probability; one that is not given is learnt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conditions: Annotated[tuple[Condition, ...], Field(min_length=1, max_length=50)]
    probability: Annotated[float, Field(gt=0, lt=1)] | None = None


class RuleMember(ClassifierMixin, BaseEstimator):
    """The probability of the first rule whose conditions hold, and the base rate where none does.

    A rule's probability is declared, or learnt: the weighted share of ones among the training rows that reach it,
    ``prior_rows`` of which speak for the base rate. Conditions are data, compared by numpy: no text is executed.

    Parameters
    ----------
    rules:
        :class:`Rule` objects or their mappings, in the order in which they are tried.
    columns:
        Names of X's columns, in order, where X is an array; a frame brings its own.
    prior_rows:
        How many rows' worth of evidence a learnt probability needs to leave the base rate.

    Attributes
    ----------
    probabilities_:
        One a rule, declared or learnt.
    base_rate_:
        Weighted share of ones among all training rows.

    Raises
    ------
    ConfigurationError
        A rule is not one, or names a column that X lacks; raised by ``fit`` and ``predict_proba``.

    Examples
    --------
    >>> oversold = {"conditions": [{"column": "rsi_14", "comparison": "below", "value": 30.0}], "probability": 0.6}
    >>> rows, happened = np.array([[20.0], [50.0], [np.nan], [80.0]]), [1, 0, 0, 1]
    >>> RuleMember([oversold], columns=("rsi_14",)).fit(rows, happened).predict_proba(rows)[:, 1].tolist()
    [0.6, 0.5, 0.5, 0.5]
    """

    def __init__(
        self,
        rules: Sequence[Rule | Mapping[str, Any]],
        *,
        columns: Sequence[str] | None = None,
        prior_rows: float = 50.0,
    ) -> None:
        self.rules = rules
        self.columns = columns
        self.prior_rows = prior_rows

    def fit(self, X: Any, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> Self:  # noqa: N803
        """Learn the base rate, and the probabilities that no rule declares."""
        target = np.asarray(y, dtype=np.float64)
        weight = np.ones(target.size) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        if not weight.sum() > 0:
            raise DataError("no row has weight to learn the base rate from")
        if not self.prior_rows > 0:
            raise ConfigurationError(f"prior_rows = {self.prior_rows} is not above 0")
        self.rules_ = parse_rules(self.rules)
        self.base_rate_ = float(np.average(target, weights=weight))
        first = self._first(X)
        self.probabilities_ = []
        for number, rule in enumerate(self.rules_):
            here = weight * (first == number)
            learnt = (here @ target + self.prior_rows * self.base_rate_) / (here.sum() + self.prior_rows)
            self.probabilities_.append(float(learnt) if rule.probability is None else rule.probability)
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, X: Any) -> Array:  # noqa: N803 - scikit-learn's name
        """Probabilities of 0 and of 1, shape (rows, 2)."""
        check_is_fitted(self, "probabilities_")
        # -1, no rule, reads the last entry.
        up = np.array([*self.probabilities_, self.base_rate_])[self._first(X)]
        return np.column_stack([1 - up, up])

    def predict(self, X: Any) -> npt.NDArray[np.int64]:  # noqa: N803
        """1 above a probability of 0.5, else 0."""
        return np.asarray(self.predict_proba(X)[:, 1] > 0.5, dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """The fitted rules as plain texts and numbers."""
        check_is_fitted(self, "probabilities_")
        return {
            "rules": [rule.model_dump() for rule in self.rules_],
            "columns": None if self.columns is None else list(self.columns),
            "probabilities": list(self.probabilities_),
            "base_rate": self.base_rate_,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """A fitted member from :meth:`to_json`'s mapping, which is treated as untrusted; DataError where it is none."""
        try:
            made = cls(value["rules"], columns=None if value["columns"] is None else tuple(map(str, value["columns"])))
            made.rules_ = parse_rules(made.rules)
            made.probabilities_ = [float(number) for number in value["probabilities"]]
            made.base_rate_ = float(value["base_rate"])
        except (KeyError, TypeError, ValueError, OverflowError, ConfigurationError) as error:
            raise DataError(f"these are no fitted rules: {type(error).__name__}: {error}") from error
        numbers = [*made.probabilities_, made.base_rate_]
        if len(made.probabilities_) != len(made.rules_) or not all(0 <= number <= 1 for number in numbers):
            raise DataError("fitted rules hold one probability each, in [0, 1]")
        made.classes_ = np.array([0, 1])
        return made

    def _first(self, X: Any) -> npt.NDArray[np.int64]:  # noqa: N803
        """The number of the first rule that holds in each row, -1 where none does."""
        names = list(X.columns) if hasattr(X, "columns") else self.columns
        values = np.asarray(X, dtype=np.float64)
        if names is None or values.ndim != 2 or len(names) != values.shape[1]:
            raise ConfigurationError(
                f"rules need a name for each of the columns of X, shape {values.shape}",
                hint="give RuleMember(columns=...) the features' names, or a frame as X",
            )
        place = {str(name): number for number, name in enumerate(names)}
        first = np.full(len(values), -1, dtype=np.int64)
        for number, rule in enumerate(self.rules_):
            holds = np.ones(len(values), dtype=bool)
            for condition in rule.conditions:
                if condition.column not in place:
                    raise ConfigurationError(f"a rule reads the column '{condition.column}', which X lacks")
                holds &= _compare(values[:, place[condition.column]], condition)
            first[holds & (first < 0)] = number
        return first


def parse_rules(rules: Sequence[Rule | Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Validated rules; ConfigurationError names what is wrong with which."""
    parsed: list[Rule] = []
    for number, rule in enumerate(rules):
        try:
            parsed.append(rule if isinstance(rule, Rule) else Rule.model_validate(rule))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigurationError(f"rule {number} is not one: {where}: {first['msg']}") from error
    if not parsed:
        raise ConfigurationError("a rule member has no rule")
    return tuple(parsed)


def _compare(values: Array, condition: Condition) -> npt.NDArray[np.bool_]:
    if condition.comparison == "above":
        return values > condition.value
    if condition.comparison == "at_least":
        return values >= condition.value
    if condition.comparison == "below":
        return values < condition.value
    return values <= condition.value
