"""What a fitted scaler is: one map a column, as plain numbers that JSON keeps exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import DataError

ScalingKind = Literal["standard", "robust", "min_max", "quantile", "rank_gauss"]
KINDS: Final[tuple[str, ...]] = get_args(ScalingKind)
LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ColumnMap:
    """Maps of columns, each fitted on training rows.

    Parameters
    ----------
    kind:
        Of the scaler.
    centers, scales:
        ``(x - center) / scale``, a pair a column; empty for the kinds that map by rank.
    knots, shares:
        For the kinds that map by rank: rising values of the training rows, and for each the share of the rows below
        it, between which is interpolated.
    """

    kind: str
    centers: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    knots: tuple[tuple[float, ...], ...] = ()
    shares: tuple[tuple[float, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.knots or self.centers)

    def apply(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:  # noqa: N803 - scikit-learn's name
        """Scale rows; NaN stays NaN. DataError where they have another number of columns."""
        values = np.asarray(X, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(self):
            raise DataError(f"the scaler knows {len(self)} columns, the rows have the shape {values.shape}")
        if not self.knots:
            with np.errstate(over="ignore"):
                scaled = (values - np.array(self.centers)) / np.array(self.scales)
            return np.clip(scaled, -LARGEST, LARGEST).astype(np.float32)
        result = np.empty(values.shape, dtype=np.float64)
        for position, (knots, shares) in enumerate(zip(self.knots, self.shares, strict=True)):
            result[:, position] = np.interp(values[:, position], knots, shares)
        result[np.isnan(values)] = np.nan
        if self.kind == "rank_gauss":
            from scipy.special import ndtri

            result = ndtri(result)
        return result.astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """The map as values that JSON knows, each float exact."""
        parts = {
            "centers": list(self.centers),
            "scales": list(self.scales),
            "knots": [list(column) for column in self.knots],
            "shares": [list(column) for column in self.shares],
        }
        return {"kind": self.kind, **{name: part for name, part in parts.items() if part}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ColumnMap:
        """Read it back; DataError where a part is missing or is no number in its bounds.

        Examples
        --------
        >>> ColumnMap.from_json({"kind": "standard", "centers": [1.0], "scales": [2.0]}).apply([[5.0]]).tolist()
        [[2.0]]
        """
        try:
            made = cls(
                str(content["kind"]),
                tuple(map(float, content.get("centers", ()))),
                tuple(map(float, content.get("scales", ()))),
                tuple(tuple(map(float, column)) for column in content.get("knots", ())),
                tuple(tuple(map(float, column)) for column in content.get("shares", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"this is no scaler: {type(error).__name__}: {error}") from error
        _check(made)
        return made


def _check(made: ColumnMap) -> None:
    if made.kind not in KINDS:
        raise DataError(f"no scaler is called {made.kind!r}", hint=", ".join(KINDS))
    ranked = made.kind in ("quantile", "rank_gauss")
    if ranked != bool(made.knots) or len(made.centers) != len(made.scales) or not len(made):
        raise DataError(f"the scaler '{made.kind}' lacks its numbers")
    if not all(map(math.isfinite, made.centers)) or not all(0 < scale < math.inf for scale in made.scales):
        raise DataError(f"the scaler '{made.kind}' has a center that is not finite or a scale that is not above 0")
    if len(made.knots) != len(made.shares):
        raise DataError(f"the scaler '{made.kind}' has {len(made.knots)} knots and {len(made.shares)} shares")
    for knots, shares in zip(made.knots, made.shares, strict=True):
        rising = len(knots) == len(shares) and all(a < b for a, b in pairwise(knots))
        if not knots or not rising or not all(map(math.isfinite, knots)) or not all(0 <= s <= 1 for s in shares):
            raise DataError(f"the scaler '{made.kind}' has knots that do not rise or shares outside 0 to 1")
