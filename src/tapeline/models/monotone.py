"""Directions that a model must keep: from names or positions of columns to what the model's own step sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from tapeline.core.errors import ConfigurationError

Directions = Mapping[str | int, int]
"""By name or position of a column: 1 where the probability may not fall as the column rises, -1 where not rise."""


def positioned(directions: Directions, count: int, names: Sequence[Any] | None) -> list[int]:
    """A direction a column of the rows, 0 where it is free.

    Parameters
    ----------
    directions:
        What was asked for.
    count:
        How many columns the rows have.
    names:
        Theirs, where known.

    Raises
    ------
    ConfigurationError
        A column is unknown, is named twice, or its direction is none.

    Examples
    --------
    >>> positioned({"rsi_14": 1, 2: -1}, 3, ["atr_14", "rsi_14", "spread"])
    [0, 1, -1]
    """
    found = [0] * count
    named = None if names is None else [str(name) for name in names]
    seen: set[int] = set()
    for column, direction in directions.items():
        if direction not in (-1, 0, 1):
            raise ConfigurationError(f"the direction {direction!r} of column {column!r} is none", hint="-1, 0 or 1")
        place = _place(column, count, named)
        if place in seen:
            raise ConfigurationError(f"column {column!r} has two directions", hint="name it once")
        seen.add(place)
        found[place] = int(direction)
    return found


def surviving(directions: Sequence[int], steps: Sequence[tuple[str, Any]]) -> list[int]:
    """The directions of the columns that are left after fitted steps, in their order.

    Raises
    ------
    ConfigurationError
        A step makes new columns, or does not say which ones it lets through.

    Examples
    --------
    >>> from tapeline.models.estimator import ColumnFilter
    >>> fitted = ColumnFilter().fit([[1.0, 5.0, 2.0], [1.0, 6.0, 4.0]])
    >>> surviving([0, 1, -1], [("columns", fitted)])
    [1, -1]
    """
    columns: Any = [str(position) for position in range(len(directions))]
    for name, step in steps:
        try:
            columns = step.get_feature_names_out(columns)
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"the step '{name}' does not say which columns it lets through, so directions are lost: {error}",
                hint="leave monotone out, or use a step with get_feature_names_out",
            ) from error
    known = {str(position): direction for position, direction in enumerate(directions)}
    made = [str(column) for column in columns if str(column) not in known]
    if made:
        raise ConfigurationError(
            f"the pipeline makes columns of its own ({made[:3]}), to which no direction applies",
            hint="leave monotone out, or let the selector choose columns rather than mix them",
        )
    return [known[str(column)] for column in columns]


def _place(column: str | int, count: int, names: list[str] | None) -> int:
    if isinstance(column, str):
        if names is None:
            raise ConfigurationError(
                f"the column {column!r} cannot be found: the rows have no names",
                hint="give rows as a frame, the names as column_names=, or positions",
            )
        if column not in names:
            near = get_close_matches(column, names, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"the rows have {', '.join(names[:8])}"
            raise ConfigurationError(f"the rows have no column called {column!r}", hint=hint)
        return names.index(column)
    if isinstance(column, bool) or not 0 <= column < count:
        raise ConfigurationError(f"the rows have {count} columns, none at position {column!r}")
    return column
