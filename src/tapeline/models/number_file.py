"""Models that are plain numbers (linear models, small nets, baselines, rules) as JSON.

They are computed here and not by the classes that fitted them: a sum of products by a matrix library may differ in its
last bits with the number of rows, and a row must have the same score alone as among others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.models.calibration import Calibration

Rows = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Score = Callable[[Rows], Floats]

_WIDEST: Final = 1_000_000


class NumberModel:
    """A model of plain numbers, equal to the one that was fitted but for the rounding of its arithmetic.

    Parameters
    ----------
    score:
        From rows to probabilities.
    width:
        Columns that a row must have.
    line:
        Coefficients and intercept of the log odds, of models whose log odds are a line; None of others.
    """

    def __init__(self, score: Score, width: int, line: tuple[Floats, float] | None = None) -> None:
        self.width = width
        self.line = line
        self._score = score

    def raw_probability(self, rows: Rows, *, threads: int = 1) -> Floats:
        """The probability of class 1 for each row."""
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise DataError(f"the model reads rows of {self.width} columns, these have the shape {rows.shape}")
        return self._score(rows)


def write_numbers(model: Any, width: int) -> bytes | None:
    """A fitted model of this kind over rows of ``width`` columns as JSON; None where it is of another kind."""
    kind = type(model).__name__
    if kind not in _KINDS:
        return None
    try:
        return json.dumps(
            {"kind": kind, "width": width, **_KINDS[kind][0](model)}, sort_keys=True, allow_nan=False
        ).encode()
    except ValueError as error:
        raise DataError(f"the {kind} holds a number that is not finite") from error


def read_numbers(content: bytes) -> NumberModel:
    """The model of a JSON file; DataError where it is none.

    Examples
    --------
    >>> model = read_numbers(b'{"kind": "DummyClassifier", "width": 2, "share": 0.25}')
    >>> model.raw_probability(np.zeros((2, 2), dtype=np.float32)).tolist()
    [0.25, 0.25]
    """
    try:
        value = json.loads(content)
        kind, width = value["kind"], int(value["width"])
        if kind not in _KINDS:
            raise DataError(f"no model of numbers is called {str(kind)[:40]!r}", hint=", ".join(_KINDS))
        if not 0 < width <= _WIDEST:
            raise DataError(f"a model cannot read rows of {width} columns")
        return NumberModel(_KINDS[kind][1](value, width), width, _log_odds_line(kind, value))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"this is no model of numbers: {type(error).__name__}: {error}") from error
    except ConfigurationError as error:
        raise DataError(f"this is no model of numbers: {error.message}") from error


def _write_logistic(model: Any) -> dict[str, Any]:
    return _line(model.coef_[0], model.intercept_[0])


def _read_logistic(value: Mapping[str, Any], width: int) -> Score:
    from scipy.special import expit

    line = _read_line(value, width)
    return lambda rows: np.asarray(expit(line(rows)), dtype=np.float64)


def _write_linear(model: Any) -> dict[str, Any]:
    return {**_line(model.coef_, model.intercept_), "clip": float(model.clip)}


def _read_linear(value: Mapping[str, Any], width: int) -> Score:
    line, clip = _read_line(value, width), _between(value["clip"], 0, 0.5)
    return lambda rows: np.clip(line(rows), clip, 1.0 - clip)


def _write_ridge(model: Any) -> dict[str, Any]:
    return {**_line(model.coef_, model.intercept_), "calibration": model.calibration_.to_json()}


def _read_ridge(value: Mapping[str, Any], width: int) -> Score:
    line, calibration = _read_line(value, width), Calibration.from_json(value["calibration"])
    return lambda rows: calibration.apply(0.5 * (1.0 + np.tanh(line(rows))))


def _write_persistence(model: Any) -> dict[str, Any]:
    if not isinstance(model.column, int):
        raise ConfigurationError(f"the column {model.column!r} is a name", hint="give its position in the feature set")
    return {"column": model.column, "holds": float(model.holds_), "base": float(model.base_)}


def _read_persistence(value: Mapping[str, Any], width: int) -> Score:
    column = value["column"]
    if not isinstance(column, int) or not -width <= column < width:
        raise DataError(f"rows of {width} columns have none at {str(column)[:40]}")
    holds, base = _between(value["holds"], 0, 1), _between(value["base"], 0, 1)

    def score(rows: Rows) -> Floats:
        shown = rows[:, column]
        return np.where(shown > 0, holds, np.where(shown < 0, 1.0 - holds, base))

    return score


def _write_majority(model: Any) -> dict[str, Any]:
    classes = list(model.classes_)
    if model.strategy != "prior" or not set(classes) <= {0, 1}:
        raise ConfigurationError(f"the baseline {model.strategy!r} over the classes {classes[:5]} cannot be written")
    return {"share": float(model.class_prior_[classes.index(1)]) if 1 in classes else 0.0}


def _read_majority(value: Mapping[str, Any], width: int) -> Score:
    share = _between(value["share"], 0, 1)
    return lambda rows: np.full(len(rows), share)


def _write_rules(model: Any) -> dict[str, Any]:
    return {"fitted": model.to_json()}


def _read_rules(value: Mapping[str, Any], width: int) -> Score:
    from tapeline.models.rule_member import RuleMember

    made = RuleMember.from_json(value["fitted"])
    if made.columns is None or len(made.columns) != width:
        raise DataError(f"the rules do not name the {width} columns of the rows")
    made.predict_proba(np.zeros((1, width), dtype=np.float32))  # raises where a rule names another column
    return lambda rows: np.asarray(made.predict_proba(rows)[:, 1], dtype=np.float64)


def _write_net(model: Any) -> dict[str, Any]:
    classes = list(model.classes_)
    if classes != [0, 1]:
        raise ConfigurationError(f"a net over the classes {classes[:5]} cannot be written", hint="two classes, 0 and 1")
    return {"layers": model.to_layers()}


def _read_net(value: Mapping[str, Any], width: int) -> Score:
    from scipy.special import expit

    layers = []
    inputs = width
    for layer in value["layers"]:
        weights, bias = (np.array(layer[name], dtype=np.float64) for name in ("weights", "bias"))
        if weights.shape != (inputs, bias.size) or not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise DataError(f"a layer of a net has the shape {weights.shape}, expected ({inputs}, {bias.size}), finite")
        layers.append((np.ascontiguousarray(weights.T), bias))
        inputs = bias.size
    if inputs != 1 or not layers:
        raise DataError(f"a net ends in {inputs} units, expected 1")

    def score(rows: Rows) -> Floats:
        values = np.asarray(rows, dtype=np.float64)
        for depth, (units, bias) in enumerate(layers):
            # Unit by unit, so that a row's sums do not depend on how many rows there are.
            sums = [
                np.ascontiguousarray(values * unit).sum(axis=1) + shift for unit, shift in zip(units, bias, strict=True)
            ]
            values = np.column_stack(sums)
            if depth + 1 < len(layers):
                values = np.maximum(values, 0.0)
        return np.asarray(expit(values[:, 0]), dtype=np.float64)

    return score


def _line(coefficients: Any, intercept: Any) -> dict[str, Any]:
    return {"coefficients": [float(number) for number in coefficients], "intercept": float(intercept)}


def _read_line(value: Mapping[str, Any], width: int) -> Score:
    coefficients = np.array([float(number) for number in value["coefficients"]], dtype=np.float64)
    intercept = float(value["intercept"])
    if coefficients.size != width or not np.isfinite(coefficients).all() or not math.isfinite(intercept):
        raise DataError(f"a linear model over {width} columns has {coefficients.size} coefficients, all finite")
    return lambda rows: np.ascontiguousarray(rows * coefficients).sum(axis=1) + intercept


def _log_odds_line(kind: str, value: Mapping[str, Any]) -> tuple[Floats, float] | None:
    if kind not in ("LogisticRegression", "RidgeProbability"):
        return None
    slope, intercept = np.array(value["coefficients"], dtype=np.float64), float(value["intercept"])
    if kind == "LogisticRegression":
        return slope, intercept
    calibration = Calibration.from_json(value["calibration"])
    if calibration.kind != "platt":
        return None
    # (1 + tanh(z)) / 2 is the logistic function of 2 z, and Platt's method a line over its log odds.
    return 2.0 * calibration.a * slope, 2.0 * calibration.a * intercept + calibration.b


def _between(value: Any, low: float, high: float) -> float:
    number = float(value)
    if not low <= number <= high:
        raise DataError(f"the model's number {number} is not in [{low}, {high}]")
    return number


_KINDS: Final[Mapping[str, tuple[Callable[[Any], dict[str, Any]], Callable[[Mapping[str, Any], int], Score]]]] = {
    "LogisticRegression": (_write_logistic, _read_logistic),
    "LinearProbability": (_write_linear, _read_linear),
    "RidgeProbability": (_write_ridge, _read_ridge),
    "NeuralNet": (_write_net, _read_net),
    "Persistence": (_write_persistence, _read_persistence),
    "DummyClassifier": (_write_majority, _read_majority),
    "RuleMember": (_write_rules, _read_rules),
}
"""Class to what writes it and what reads it."""
