"""The cleaning policy: what a run may do about missing bars, duplicates and outliers."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from tapeline.cleaning.duplicates import DuplicateRule
from tapeline.cleaning.isolation import isolation_lookback
from tapeline.cleaning.missing_policy import MissingPolicy
from tapeline.cleaning.outliers import LOOKBACK
from tapeline.core.settings import CleaningSettings
from tapeline.core.timeframe import Timeframe

OutlierFlags = Literal["none", "hampel", "isolation_forest", "both"]


class CleaningPolicy(BaseModel):
    """What cleaning may do beyond what has one right answer; the default fills nothing in.

    Parameters
    ----------
    missing:
        For absent bars; only causal methods that can make a bar: ``none``, ``forward``, ``drop``.
    duplicates, sources:
        Which of several rows of one time stands, and the order of trust for ``best_source``.
    outliers:
        Who flags unusual bars. No flag changes a price.

    Examples
    --------
    >>> CleaningPolicy(missing=MissingPolicy(method="time", causal=False))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pydantic_core._pydantic_core.ValidationError: 1 validation error for CleaningPolicy
      Value error, the missing-value method 'time' reads later values...
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    missing: MissingPolicy = MissingPolicy()
    duplicates: DuplicateRule = "first"
    sources: tuple[str, ...] = ()
    outliers: OutlierFlags = "hampel"

    @model_validator(mode="after")
    def _may_run(self) -> Self:
        if not self.missing.causal:
            raise ValueError(
                f"the missing-value method '{self.missing.method}' reads later values: the chain is causal"
            )
        if self.missing.method not in ("none", "forward", "drop"):
            raise ValueError(f"the method '{self.missing.method}' cannot make an absent bar: use forward")
        if self.duplicates == "best_source" and not self.sources:
            raise ValueError("the rule best_source needs sources, best first")
        return self

    @classmethod
    def from_settings(cls, settings: CleaningSettings) -> CleaningPolicy:
        """The policy that the section ``cleaning`` of the settings asks for."""
        return cls(
            missing=MissingPolicy(method=settings.missing, limit=settings.missing_limit),
            duplicates=settings.duplicates,
            sources=settings.sources,
            outliers=settings.outliers,
        )

    def lookback(self, timeframe: Timeframe | str) -> int:
        """How many earlier bars decide about a new one.

        Examples
        --------
        >>> CleaningPolicy().lookback("H1"), CleaningPolicy(outliers="isolation_forest").lookback("H1")
        (102, 2269)
        """
        forest = self.outliers in ("isolation_forest", "both")
        return max(LOOKBACK, isolation_lookback(timeframe) if forest else 0) + self.missing.limit * (
            self.missing.method == "forward"
        )


DEFAULT: Final = CleaningPolicy()
