"""Aggregation: features of several windows, symbols and sources in one frame, under names that say where each is from.

A name is ``<symbol>__<source>__<feature>``, the window being part of the feature (``rsi_14``): two underscores part the
levels, so that a name can be taken apart again. A level that all parts share may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import pandas as pd

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.pit import asof_join

SEPARATOR: Final = "__"
_WORD: Final = re.compile(r"[A-Za-z0-9.\-]+(_[A-Za-z0-9.\-]+)*")
RESERVED: Final = ("ts", "known_at")


@dataclass(frozen=True)
class FeaturePart:
    """One frame of features with what tells it from the others.

    ``features`` lies on ``ts`` and has ``known_at``, the time from which each row may be used, as the engine writes it.
    An empty ``symbol`` or ``source`` is left out of the names.
    """

    features: pd.DataFrame
    symbol: str = ""
    source: str = ""

    def column(self, name: str) -> str:
        """The name under which one of its features stands in the whole."""
        return SEPARATOR.join(word for word in (self.symbol, self.source, name) if word)


def combine_features(
    base: FeaturePart, others: Sequence[FeaturePart], *, tolerance: timedelta | None = None
) -> pd.DataFrame:
    """Put features of several windows, symbols and sources beside each other, as of when the base rows are known.

    Parameters
    ----------
    base:
        Its rows are the rows of the result.
    others:
        Joined by ``known_at``: each base row sees the newest row of theirs that was known by its own ``known_at``.
    tolerance:
        The greatest age of such a row; no limit where absent.

    Returns
    -------
    A frame on the base's ``ts``: its ``known_at``, then the columns of all parts in the order given.

    Raises
    ------
    ConfigurationError
        Two parts would write the same column, or a symbol, source or feature is no name: letters, digits, dots,
        dashes and single underscores.
    DataError
        A part lacks ``known_at``, or its times are not sorted and unique.

    Examples
    --------
    >>> ts = pd.date_range("2017-01-02", periods=2, freq="1h", tz="UTC", name="ts")
    >>> one = pd.DataFrame({"known_at": ts + pd.Timedelta("1h"), "rsi_14": [40.0, 50.0]}, index=ts)
    >>> late = one.assign(known_at=ts + pd.Timedelta("90min"))
    >>> whole = combine_features(FeaturePart(one, "EURUSD"), [FeaturePart(late, "XAUUSD")])
    >>> whole[["EURUSD__rsi_14", "XAUUSD__rsi_14"]].values.tolist()
    [[40.0, nan], [50.0, 40.0]]
    """
    parts = [base, *others]
    _refuse_conflicts(parts)
    for part in parts:
        _check(part)
    at = pd.DatetimeIndex(base.features["known_at"])
    result = base.features.rename(columns=base.column).rename(columns={base.column("known_at"): "known_at"})
    result.insert(0, "known_at", result.pop("known_at"))
    pieces = [result]
    for part in others:
        own = part.features.drop(columns="known_at").rename(columns=part.column)
        known_at = pd.DatetimeIndex(part.features["known_at"])
        pieces.append(asof_join(base.features[[]], own, at=at, known_at=known_at, tolerance=tolerance))
    return pd.concat(pieces, axis=1)


def parse_column(name: str) -> tuple[str, ...]:
    """The levels of a combined name.

    Examples
    --------
    >>> parse_column("EURUSD__mt5__rsi_14")
    ('EURUSD', 'mt5', 'rsi_14')
    """
    return tuple(name.split(SEPARATOR))


def _refuse_conflicts(parts: Sequence[FeaturePart]) -> None:
    owner: dict[str, int] = {}
    for number, part in enumerate(parts):
        names = [str(name) for name in part.features.columns if name != "known_at"]
        for word in [w for w in (part.symbol, part.source) if w] + names:
            if not _WORD.fullmatch(word) or word in RESERVED:
                raise ConfigurationError(
                    f"'{word}' cannot be part of a column's name",
                    hint="use letters, digits, dots, dashes and single underscores",
                )
        for column in map(part.column, names):
            if column in owner:
                raise ConfigurationError(
                    f"the column '{column}' would be written by the parts {owner[column]} and {number}",
                    hint="give the parts different symbols or sources, or the features different windows",
                )
            owner[column] = number


def _check(part: FeaturePart) -> None:
    if "known_at" not in part.features.columns:
        raise DataError(f"the features of '{part.symbol or part.source or 'the base'}' lack known_at")
    index = part.features.index
    if not (index.is_monotonic_increasing and index.is_unique):
        raise DataError(f"the features of '{part.symbol or part.source or 'the base'}' are not sorted or repeat a time")
