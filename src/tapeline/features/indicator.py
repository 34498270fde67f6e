"""How a published indicator becomes a component: one declaration, computed by TA-Lib or by a given function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from tapeline.core.registry import Lookback, Tolerance, feature
from tapeline.features.arrays import Floats, Window, columns, frame, series, talib

PRICE: Final = (1, 0)
VOLUME: Final = (0, 1)
MONEY: Final = (1, 1)
RATIO: Final = (0, 0)

RECURSIVE: Final = Tolerance(relative=1e-6, absolute=1e-6)

Factor = Annotated[float, Field(gt=0, le=100)]
"""A multiple of something, such as of a standard deviation."""

Share = Annotated[float, Field(gt=0, le=1)]

Compute = Callable[..., Floats | tuple[Floats, ...]]


class Parameter(NamedTuple):
    """One parameter of an indicator: what TA-Lib calls it, what it may be, its default."""

    library_name: str
    annotation: Any
    default: Any


def window(default: int, library_name: str = "timeperiod") -> Parameter:
    """A parameter that counts bars."""
    return Parameter(library_name, Window, default)


def indicator(
    module: str,
    name: str,
    meaning: str,
    *,
    inputs: str,
    outputs: str,
    lookback: Lookback,
    reference: str,
    library: str = "",
    compute: Compute | None = None,
    scale: tuple[int, int] = RATIO,
    tolerance: Tolerance | None = None,
    **parameters: Parameter,
) -> Callable[..., pd.Series | pd.DataFrame]:
    """Declare an indicator and give its registered function.

    Parameters
    ----------
    module:
        ``__name__`` of the declaring module.
    name, meaning, reference:
        What it is called, the first line of its documentation, and where its definition stands.
    inputs, outputs:
        The bar columns that it reads, and its columns as templates over the parameters; both separated by blanks.
    lookback, scale, tolerance:
        As in :class:`tapeline.core.registry.Component`.
    library:
        The function of TA-Lib that computes it, from the inputs and the parameters under TA-Lib's names.
    compute:
        In place of ``library``: a function of the input arrays and the parameters under their own names.
    parameters:
        The parameters after the bars, in order.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> middle = indicator(
    ...     __name__, "middle", "Middle of the bar.", inputs="high low", outputs="middle", lookback=1, scale=PRICE,
    ...     reference="none", library="MEDPRICE",
    ... )
    >>> middle(example_bars(10, 12)).tolist()
    [10.0, 11.0]
    """
    names, wanted = outputs.split(), inputs.split()

    def component(bars: pd.DataFrame, **given: Any) -> pd.Series | pd.DataFrame:
        full = {key: given.get(key, parameter.default) for key, parameter in parameters.items()}
        arrays = columns(bars, *wanted)
        if compute is not None:
            result = compute(*arrays, **full)
        else:
            named = {parameters[key].library_name: value for key, value in full.items()}
            result = talib(library, *arrays, **named)
        if not isinstance(result, tuple):
            return series(bars, result)
        return frame(bars, **{key.format(**full): value for key, value in zip(names, result, strict=True)})

    defaults = {key: parameter.default for key, parameter in parameters.items()}
    component.__name__ = component.__qualname__ = name
    component.__module__ = module
    component.__annotations__ = {
        "bars": pd.DataFrame,
        **{key: parameter.annotation for key, parameter in parameters.items()},
        "return": pd.Series if len(names) == 1 else pd.DataFrame,
    }
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    component.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("bars", kind, annotation=pd.DataFrame),
            *(
                inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=p.default, annotation=p.annotation)
                for key, p in parameters.items()
            ),
        ]
    )
    component.__doc__ = (
        f"{meaning}\n\nNaN in the warm-up. {_unit(scale)}\n\nExamples\n--------\n"
        f">>> from tapeline.core.example import example_bars\n"
        f">>> from tapeline.core.registry import component_of\n"
        f">>> list(component_of({name}).compute(example_bars(10, 12)).columns)\n"
        f"{[template.format(**defaults) for template in names]}\n"
    )
    return feature(lookback=lookback, outputs=names, reference=reference, scale=scale, tolerance=tolerance)(component)


def where_moved(moved: Floats, floor: Floats, *values: Floats) -> Any:
    """The values where what they are a share of is above its floor, else NaN.

    Examples
    --------
    >>> where_moved(np.array([1.0, 0.0]), np.array([1e-8, 1e-8]), np.array([5.0, 7.0]))
    array([ 5., nan])
    """
    kept = tuple(np.where(moved > floor, value, np.nan) for value in values)
    return kept if len(kept) > 1 else kept[0]


def _unit(scale: tuple[int, int]) -> str:
    price, volume = scale
    if scale == RATIO:
        return "A number without unit."
    parts = [
        f"{unit}{'' if degree == 1 else f' to the power {degree}'}"
        for unit, degree in (("price", price), ("volume", volume))
        if degree
    ]
    return f"In units of {' times '.join(parts)}: a model that sees it learns the level, not the shape."
