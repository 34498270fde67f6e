"""What every transform of a signal needs: arrays from series and back, checked parameters, and the declared delay."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.errors import ConfigurationError, DataError

Floats = NDArray[np.float64]
Values = TypeVar("Values", pd.Series, NDArray[np.float64])
Transform = TypeVar("Transform", bound=Callable[..., Any])

_DELAY: Final = "__tapeline_delay__"


def as_floats(values: Any) -> Floats:
    """The values as one contiguous float64 array; DataError where they are not numbers, not one row, or infinite.

    Examples
    --------
    >>> as_floats([1, 2])
    array([1., 2.])
    """
    try:
        array = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"a signal must be numbers: {error}") from None
    if array.ndim != 1:
        raise DataError(f"a signal has one dimension, this one has the shape {array.shape}")
    with np.errstate(all="ignore"):
        finite = np.isfinite(array.sum())  # one pass without a temporary; a NaN or an overflow is looked into
    wrong = np.isinf(array) if not finite else None
    if wrong is not None and wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"a signal must be finite or NaN, row {row} is {array[row]}")
    return array


def on_values(values: Values, compute: Callable[[Floats], Floats]) -> Values:
    """Run a function of arrays on a Series (the result keeps its index and name) or on an array."""
    result = compute(as_floats(values))
    if isinstance(values, pd.Series):
        return cast(Values, pd.Series(result, index=values.index, name=values.name))
    return result


def require(name: str, value: float, low: float, high: float = np.inf, *, whole: bool = False) -> None:
    """Hold a parameter against its bounds, both included; ConfigurationError names the value and the bound.

    Examples
    --------
    >>> require("window", 1, 2, whole=True)
    Traceback (most recent call last):
    tapeline.core.errors.ConfigurationError: window = 1 is outside 2 to inf (give a whole number from 2 on)
    """
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        hint = f"give {kind} from {low:g} {'on' if np.isinf(high) else f'to {high:g}'}"
        raise ConfigurationError(f"{name} = {value!r} is outside {low:g} to {high:g}", hint=hint)


def delayed(delay: Callable[..., float]) -> Callable[[Transform], Transform]:
    """Declare by how many bars the output of a causal transform follows its input; ``delay_of`` reads it.

    The delay is the group delay at frequency zero: for an input that rises by 1 a bar the settled output is the input
    less the delay, and a slow wave comes out that many bars late. ``delay`` takes the transform's own parameters.
    """

    def attach(function: Transform) -> Transform:
        setattr(function, _DELAY, delay)
        return function

    return attach


def delay_of(function: Callable[..., Any], **given: Any) -> float:
    """The declared delay of a causal transform under these parameters, in bars.

    Raises
    ------
    ConfigurationError
        The transform declares none, or has no parameter of that name.

    Examples
    --------
    >>> @delayed(lambda window: (window - 1) / 2)
    ... def mean(values, window=5): ...
    >>> delay_of(mean), delay_of(mean, window=3)
    (2.0, 1.0)
    """
    declared = getattr(function, _DELAY, None)
    if declared is None:
        raise ConfigurationError(f"{function.__name__} declares no delay", hint="it is not a causal filter")
    defaults = {
        name: parameter.default
        for name, parameter in list(inspect.signature(function).parameters.items())[1:]
        if parameter.default is not inspect.Parameter.empty
    }
    full = {**defaults, **given}
    wanted = inspect.signature(declared).parameters
    unknown = [name for name in given if name not in inspect.signature(function).parameters]
    missing = [name for name in wanted if name not in full]
    if unknown or missing:
        raise ConfigurationError(f"{function.__name__}: parameters unknown {unknown}, missing {missing}")
    return float(declared(**{name: full[name] for name in wanted}))


def weights_delay(weights: Floats) -> float:
    """The delay of a moving weighted mean: its weights' centre of gravity, newest weight first.

    Examples
    --------
    >>> weights_delay(np.array([0.5, 0.5]))
    0.5
    """
    return float(np.arange(weights.size) @ weights / weights.sum())
