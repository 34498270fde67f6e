"""What a paper account was opened with, and what came in since: its terms and its books."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import Symbol, parse_name
from tapeline.core.versions import digest
from tapeline.strategy.strategy import Strategy

Span = Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=30))]


class PaperTerms(BaseModel):
    """What an account was opened with, and keeps.

    Parameters
    ----------
    name:
        Of the account; its rows in the lake have the run ``paper:<name>``.
    strategy:
        The content hash of the strategy's file (:func:`strategy_content`).
    symbols, timeframe:
        What it trades.
    opened_at:
        Bars that opened before it only warm the strategy up.
    capital:
        Cash at the start; the strategy's where absent.
    grace:
        How late after a close a decision may be made and still act at the next open. A later one acts at the first open
        at or after it was made: bars do not say what was paid in between.
    patience:
        How long a symbol without its newest bar, or without the score of it, holds up the others.
    maximum_age:
        Signals older than this are refused; a bar's length where absent. A strategy with a validator has its own rules.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    strategy: str
    symbols: tuple[str, ...] = Field(min_length=1)
    timeframe: str
    opened_at: datetime
    capital: Annotated[float, Field(gt=0, le=1e15)] | None = None
    grace: Span = timedelta(minutes=5)
    patience: Span = timedelta(minutes=30)
    maximum_age: Span | None = None

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        try:
            return parse_name(value, "paper account")
        except ConfigurationError as error:
            raise ValueError(str(error)) from error

    @field_validator("symbols")
    @classmethod
    def _are_symbols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted({str(Symbol.parse(one)) for one in value}))

    @field_validator("opened_at")
    @classmethod
    def _has_zone(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("opened_at has no zone; use UTC")
        return value

    @property
    def run(self) -> str:
        """What the account's rows in the lake are kept under."""
        return f"paper:{self.name}"


@dataclass(frozen=True)
class PaperBook:
    """What came in of one symbol: all bars (the first ``warm`` of them before the opening), decisions, signals."""

    bars: pd.DataFrame
    warm: int
    decisions: tuple[Mapping[str, Any], ...] = ()
    signals: tuple[Mapping[str, Any], ...] = ()

    @property
    def traded(self) -> pd.DataFrame:
        """The bars since the opening."""
        return self.bars.iloc[self.warm :]

    def wanted(self) -> tuple[pd.DataFrame, np.ndarray]:
        """Decisions as the simulator takes them, and the latency of each traded bar."""
        bars = self.traded
        index = pd.DatetimeIndex(instants([one["ts"] for one in self.decisions]), name="ts")
        names = ("target", "stop", "take")
        columns = {name: np.array([one[name] for one in self.decisions], dtype=np.float64) for name in names}
        late = np.zeros(len(bars), np.int64)
        late[bars.index.get_indexer(index)] = [one["latency"] for one in self.decisions]
        return pd.DataFrame(columns, index=index), late


def strategy_content(strategy: Strategy) -> str:
    """The content hash of a strategy's file without that of the code: a new release does not end an account.

    Examples
    --------
    >>> from tapeline.strategy.strategy import load_strategy
    >>> len(strategy_content(load_strategy("moving_average_cross")))
    16
    """
    content = {name: value for name, value in strategy.description.items() if name not in ("engine", "rules")}
    rules = None if strategy.rules is None else {n: v for n, v in strategy.rules.description.items() if n != "engine"}
    return digest({**content, "rules": rules})


def instants(nanoseconds: Any) -> pd.DatetimeIndex:
    """Nanoseconds since 1970 as UTC instants."""
    return pd.DatetimeIndex(np.array(list(nanoseconds), dtype=np.int64).view("M8[ns]")).tz_localize("UTC")
