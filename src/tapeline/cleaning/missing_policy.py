"""What is to be done about missing values: one checked policy, causal unless it says otherwise."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MissingMethod = Literal[
    "none",
    "forward",
    "drop",
    "knn",
    "iterative",
    "backward",
    "linear",
    "time",
    "spline",
    "knn_whole",
    "iterative_whole",
]

CAUSAL: Final[tuple[MissingMethod, ...]] = ("none", "forward", "drop", "knn", "iterative")
"""The methods that read the past alone. ``knn`` and ``iterative`` are fitted on earlier rows, again and again."""

RESEARCH: Final[tuple[MissingMethod, ...]] = ("backward", "linear", "time", "spline", "knn_whole", "iterative_whole")
"""The methods that read what came later: for research and pictures, refused by the cleaning chain."""


class MissingPolicy(BaseModel):
    """How missing values are treated.

    Parameters
    ----------
    method:
        ``none`` leaves them. ``forward`` repeats the last value. ``drop`` removes the rows. ``knn`` and ``iterative``
        are scikit-learn's imputers, fitted on the ``window`` rows before, anew every ``refit`` rows; they need a row
        with some values present. The others read later values.
    limit:
        How many missing values in a row may be filled. Methods of the past fill the first ``limit`` of a longer gap,
        because when it begins nobody knows how long it will be; those that read later values leave it as it is.
    causal:
        False allows the methods that read later values. The cleaning chain refuses such a policy.
    window, refit, minimum:
        For the fitted imputers: rows to fit on, rows between two fits, and the least number of rows for the first fit.
    neighbours:
        For ``knn``.

    Examples
    --------
    >>> MissingPolicy(method="linear")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pydantic_core._pydantic_core.ValidationError: 1 validation error for MissingPolicy
      Value error, 'linear' reads later values...
    >>> MissingPolicy(method="linear", causal=False).limit
    5
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: MissingMethod = "none"
    limit: int = Field(5, ge=1, le=100_000)
    causal: bool = True
    window: int = Field(1000, ge=10, le=1_000_000)
    refit: int = Field(250, ge=1, le=1_000_000)
    minimum: int = Field(50, ge=5, le=1_000_000)
    neighbours: int = Field(5, ge=1, le=1000)

    @model_validator(mode="after")
    def _reads_no_future(self) -> Self:
        if self.causal and self.method in RESEARCH:
            raise ValueError(
                f"'{self.method}' reads later values: a causal policy may use {', '.join(CAUSAL)}; research sets "
                "causal=False"
            )
        if self.minimum > self.window:
            raise ValueError(
                f"minimum ({self.minimum}) exceeds window ({self.window}): the imputer would never be fitted"
            )
        return self
