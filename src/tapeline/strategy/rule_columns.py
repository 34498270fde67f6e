"""What rules may read at a bar's close: its own columns, features, scores and events, each as it was known then."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pandas as pd

from tapeline.charts.events import standing
from tapeline.core.errors import DataError
from tapeline.core.pit import asof_join


def rule_columns(
    bars: pd.DataFrame,
    *,
    features: pd.DataFrame | None = None,
    scores: Mapping[str, pd.DataFrame] | None = None,
    events: Mapping[str, pd.DataFrame] | None = None,
    tolerance: timedelta | None = None,
) -> pd.DataFrame:
    """Join what rules name to the bars.

    Parameters
    ----------
    bars:
        Index ``ts``; prices and ``close_ts``.
    features:
        As :func:`tapeline.features.engine.compute` gives them: their columns keep their names.
    scores:
        By source, frames with ``known_at`` and numeric columns, which become ``<source>.<column>``, and
        ``<source>.age``, the seconds since the newest was known.
    events:
        By name, rows of the events schema; they become ``<name>.count``, ``.age`` (bars), ``.direction``, ``.low``,
        ``.high`` and ``.score`` of what stands at the close.
    tolerance:
        The greatest age at which a feature or score may still be read; older ones are missing, hence unknown.

    Raises
    ------
    DataError
        A frame has no ``known_at``, or two would write one column.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> bars = example_bars(100, 101, 102)
    >>> scores = pd.DataFrame({"known_at": bars["close_ts"].iloc[:1], "probability": [0.7]})
    >>> rule_columns(bars, scores={"model": scores})[["model.probability", "model.age"]].values.tolist()
    [[0.7, 0.0], [0.7, 3600.0], [0.7, 7200.0]]
    """
    result = bars
    if features is not None:
        result = _joined(result, features, "", "features", tolerance, age=False)
    for name, frame in (scores or {}).items():
        result = _joined(result, frame, f"{name}.", f"scores '{name}'", tolerance, age=True)
    for name, frame in (events or {}).items():
        ordered = frame.sort_values("confirmed_at", kind="stable")
        found = standing(ordered, bars).add_prefix(f"{name}.")
        clash = [column for column in found.columns if column in result.columns]
        if clash:
            raise DataError(f"events '{name}': columns {clash} exist already")
        result = pd.concat([result, found], axis=1)
    return result


def _joined(
    bars: pd.DataFrame, frame: pd.DataFrame, prefix: str, what: str, tolerance: timedelta | None, *, age: bool
) -> pd.DataFrame:
    if "known_at" not in frame.columns:
        raise DataError(f"{what} have no column 'known_at'", hint="say when each row could be read")
    right = frame.drop(columns="known_at")
    right = right.loc[:, [kind.kind in "iufb" for kind in right.dtypes]]
    return asof_join(
        bars,
        right,
        at=pd.DatetimeIndex(bars["close_ts"]),
        known_at=pd.DatetimeIndex(frame["known_at"]),
        prefix=prefix,
        tolerance=tolerance,
        age=age,
    )
