"""Detectors: functions from arrays to findings, registered as patterns that give rows of the events table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, cast

import pandas as pd

from tapeline.charts.bar_arrays import BarArrays
from tapeline.charts.events import Findings, event_frame
from tapeline.charts.watch import Watch, joined
from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import Lookback, Tolerance, pattern

Given = ParamSpec("Given")
Found = Findings | Watch
"""What a search yields: findings, and what it waits for to find more."""

Search = Callable[Concatenate[BarArrays, Given], Iterable[Found]]


class Detector(Protocol[Given]):
    """A registered pattern: bars -> events.

    ``found`` is the search it was made of, arrays -> list of findings, for ``arrays.once(detector.found, ...)``, which
    searches once for all that ask; ``identity`` gives the parameters that are part of an id. ``watched`` says what it
    waits for after a search, None where it has to search at every bar; ``probed`` whether the last bar has to be
    searched whatever was waited for, None where nothing else says that.
    """

    found: Callable[Concatenate[BarArrays, Given], list[Findings]]
    identity: Callable[Given, dict[str, Any]]
    watched: Callable[Concatenate[BarArrays, Given], Watch | None]
    probed: Callable[Concatenate[BarArrays, Given], bool] | None
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
    watch: Callable[..., Watch] | None = None,
    probe: Callable[..., bool] | None = None,
) -> Callable[[Search[Given]], Detector[Given]]:
    """Make a pattern of a search: a function that takes :class:`BarArrays` and its parameters, and yields findings.

    It may yield watches beside them: at which prices, and when at the latest, there may be more to find.

    The pattern takes bars or ``BarArrays`` and gives an events frame. Each id is a hash of the finding and of the
    search's parameters, defaults included, but for those that ``follows`` names: they only say how a finding is
    followed after its confirmation (what counts as its mitigation), so it is the same finding whatever they are.

    Parameters
    ----------
    lookback, reference, requires, tolerance:
        As in :func:`tapeline.core.registry.pattern`.
    follows:
        Parameters that are no part of an id.
    watch:
        ``(arrays, findings, parameters by name) -> Watch``: what must happen before a bar can confirm or invalidate
        anything, beside what the search yields itself and new swings of those it asks for. Without it the detector is
        searched at every bar of a stream.
    probe:
        ``(arrays, parameters by name) -> bool``: whether the last bar may bring something that no price told before.

    Raises
    ------
    ConfigurationError
        ``follows``, ``watch`` or ``probe`` names what is no parameter.

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
        asked = {hook: _names(hook, leading) for hook, leading in ((watch, 2), (probe, 1)) if hook is not None}
        unknown = set(follows).union(*asked.values()) - set(signature.parameters)
        if unknown:
            raise ConfigurationError(f"{search.__name__} has no parameter {sorted(unknown)}")

        @wraps(search)
        def detect(bars: pd.DataFrame | BarArrays, *args: Given.args, **kwargs: Given.kwargs) -> pd.DataFrame:
            arrays = BarArrays.of(bars)
            return event_frame(arrays, arrays.once(found, *args, **kwargs), identity(*args, **kwargs))

        def yielded(arrays: BarArrays, *args: Given.args, **kwargs: Given.kwargs) -> list[Found]:
            return list(search(arrays, *args, **kwargs))

        def found(arrays: BarArrays, *args: Given.args, **kwargs: Given.kwargs) -> list[Findings]:
            return [part for part in arrays.once(yielded, *args, **kwargs) if isinstance(part, Findings)]

        given = _bound(signature)

        def identity(*args: Given.args, **kwargs: Given.kwargs) -> dict[str, Any]:
            return {name: value for name, value in given(*args, **kwargs).items() if name not in follows}

        def watched(arrays: BarArrays, *args: Given.args, **kwargs: Given.kwargs) -> Watch | None:
            if watch is None:
                return None
            values = given(*args, **kwargs)
            parts = arrays.once(found, *args, **kwargs)
            waiting = [part for part in arrays.once(yielded, *args, **kwargs) if isinstance(part, Watch)]
            return joined([watch(arrays, parts, **{name: values[name] for name in asked[watch]}), *waiting])

        def probed(arrays: BarArrays, *args: Given.args, **kwargs: Given.kwargs) -> bool:
            values = given(*args, **kwargs)
            return probe is not None and probe(arrays, **{name: values[name] for name in asked[probe]})

        detect.found, detect.identity = found, identity  # type: ignore[attr-defined]
        detect.watched, detect.probed = watched, probed if probe else None  # type: ignore[attr-defined]
        register = pattern(lookback=lookback, reference=reference, requires=requires, tolerance=tolerance)
        return cast("Detector[Given]", register(detect))

    return attach


def _names(hook: Callable[..., Any], leading: int) -> list[str]:
    """The parameters of a hook after those that every hook of its sort takes."""
    return list(inspect.signature(hook).parameters)[leading:]


def _bound(signature: inspect.Signature) -> Callable[..., dict[str, Any]]:
    """A function that names the arguments after the bars, defaults included; what it gives is not to be changed."""

    # Typed: 3 and 3.0 are equal, and make two ids.
    @lru_cache(maxsize=256, typed=True)
    def given(*args: Any, **kwargs: Any) -> dict[str, Any]:
        bound = signature.bind(None, *args, **kwargs)
        bound.apply_defaults()
        return dict(list(bound.arguments.items())[1:])

    return given
