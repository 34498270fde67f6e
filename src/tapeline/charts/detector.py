"""Detectors: functions from arrays to findings, registered as patterns that give rows of the events table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, cast

import pandas as pd

from tapeline.charts.bar_arrays import BarArrays
from tapeline.charts.events import Findings, event_frame
from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import Lookback, Tolerance, pattern

Given = ParamSpec("Given")
Search = Callable[Concatenate[BarArrays, Given], Iterable[Findings]]


class Detector(Protocol[Given]):
    """A registered pattern: bars -> events.

    ``found`` is the search it was made of, arrays -> list of findings, for ``arrays.once(detector.found, ...)``, which
    searches once for all that ask; ``identity`` gives the parameters that are part of an id.
    """

    found: Callable[Concatenate[BarArrays, Given], list[Findings]]
    identity: Callable[Given, dict[str, Any]]
    __name__: str

    def __call__(self, bars: pd.DataFrame | BarArrays, *args: Given.args, **kwargs: Given.kwargs) -> pd.DataFrame:
        """The events on these bars, in the order in which they were confirmed."""
        ...


def detector(
    *,
    lookback: Lookback,
    reference: str,
    requires: Sequence[str] = ("close_ts",),
    follows: Sequence[str] = (),
    tolerance: Tolerance | None = None,
) -> Callable[[Search[Given]], Detector[Given]]:
    """Make a pattern of a search: a function that takes :class:`BarArrays` and its parameters, and yields findings.

    The pattern takes bars or ``BarArrays`` and gives an events frame. Each id is a hash of the finding and of the
    search's parameters, defaults included, but for those that ``follows`` names: they only say how a finding is
    followed after its confirmation (what counts as its mitigation), so it is the same finding whatever they are.

    Parameters
    ----------
    lookback, reference, requires, tolerance:
        As in :func:`tapeline.core.registry.pattern`.
    follows:
        Parameters that are no part of an id.

    Raises
    ------
    ConfigurationError
        ``follows`` names what is no parameter.

    Examples
    --------
    >>> import numpy as np
    >>> from tapeline.core.example import example_bars
    >>> @detector(lookback=2, reference="none")
    ... def higher_close(arrays, by: float = 0.0):
    ...     row = 1 + np.flatnonzero(np.diff(arrays.close) > by)
    ...     yield Findings("higher_close", np.ones(row.size, np.int8), row - 1, row, row, arrays.low[row],
    ...                    arrays.high[row])
    >>> higher_close(example_bars(10, 12, 11, 13))["high"].tolist()
    [13.0, 14.0]
    """

    def attach(search: Search[Given]) -> Detector[Given]:
        signature = inspect.signature(search)
        unknown = set(follows) - set(signature.parameters)
        if unknown:
            raise ConfigurationError(f"{search.__name__} has no parameter {sorted(unknown)}")

        @wraps(search)
        def detect(bars: pd.DataFrame | BarArrays, *args: Given.args, **kwargs: Given.kwargs) -> pd.DataFrame:
            arrays = BarArrays.of(bars)
            return event_frame(arrays, arrays.once(found, *args, **kwargs), identity(*args, **kwargs))

        def found(arrays: BarArrays, *args: Given.args, **kwargs: Given.kwargs) -> list[Findings]:
            return list(search(arrays, *args, **kwargs))

        def identity(*args: Given.args, **kwargs: Given.kwargs) -> dict[str, Any]:
            bound = signature.bind(None, *args, **kwargs)
            bound.apply_defaults()
            return {name: value for name, value in list(bound.arguments.items())[1:] if name not in follows}

        detect.found, detect.identity = found, identity  # type: ignore[attr-defined]
        register = pattern(lookback=lookback, reference=reference, requires=requires, tolerance=tolerance)
        return cast("Detector[Given]", register(detect))

    return attach
