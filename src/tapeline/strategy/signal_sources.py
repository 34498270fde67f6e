"""Where a strategy's signals come from: a cross of averages, a model's scores, a file of rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.pit import asof_join
from tapeline.core.timeframe import Timeframe
from tapeline.features.kernels import rolling_mean
from tapeline.strategy.decision_rules import RuleSet
from tapeline.strategy.rule_columns import rule_columns
from tapeline.strategy.rule_engine import decide as decide_by_rules
from tapeline.strategy.signal_confidence import ConfidenceRules, score_confidence

Floats = NDArray[np.float64]
Sides = Literal["both", "long", "short"]

SCORE_PREFIX: Final = "score"
"""How rules name a model's score: ``score.probability``; any other prefix names a kind of findings."""


@dataclass(frozen=True)
class Surroundings:
    """What a strategy may look at beside the bars of its symbol; each row counts from when it was known.

    Parameters
    ----------
    symbol, timeframe:
        Of the bars.
    scores:
        Rows of the table of scores: ``known_at``, ``probability`` (of a rise), ``model``, ``model_version``,
        ``scored_at``.
    features:
        As :func:`tapeline.features.engine.compute` gives them, with ``known_at``.
    events:
        By kind of finding, rows of the table of events.
    higher:
        Bars of a longer timeframe, for the direction filter.
    calendar:
        Statements about events to come, for the direction filter.
    rate:
        Money of the account for one unit of the currency of the price: a number, or a Series on the bars' index as it
        was known at each close.
    equity:
        What positions are sized by; the capital of the strategy where absent. A number, or a Series on the bars' index.
    """

    symbol: str
    timeframe: Timeframe
    scores: pd.DataFrame | None = None
    features: pd.DataFrame | None = None
    events: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    higher: pd.DataFrame | None = None
    calendar: pd.DataFrame | None = None
    rate: float | pd.Series = 1.0
    equity: float | pd.Series | None = None


@dataclass(frozen=True)
class FoundSignals:
    """Signals before anything has judged them, and what goes with each.

    Parameters
    ----------
    signals:
        ``ts``, ``known_at``, ``symbol``, ``source``, ``side`` (0: out), ``probability`` of the side, ``confidence``,
        ``price``; in the order of time, at most one a bar.
    amounts:
        By signal, what the source itself says of ``units``, ``stop`` and ``take`` (prices); NaN where it does not.
    reasons:
        Of rows of ``signals``, by number, what was seen, as JSON-like values.
    """

    signals: pd.DataFrame
    amounts: pd.DataFrame
    reasons: Callable[[NDArray[np.int64]], list[dict[str, Any]]]


class _Source(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MovingAverageCross(_Source):
    """Long while the mean of ``fast`` closes is above that of ``slow``, short while it is below.

    Parameters
    ----------
    sides:
        ``long``: out instead of short; ``short``: out instead of long.
    """

    source: Literal["moving_average_cross"]
    fast: Annotated[int, Field(ge=1, le=10_000)] = 20
    slow: Annotated[int, Field(ge=2, le=10_000)] = 100
    sides: Sides = "both"

    @model_validator(mode="after")
    def _ordered(self) -> MovingAverageCross:
        if self.fast >= self.slow:
            raise ValueError(f"fast = {self.fast} is not below slow = {self.slow}")
        return self

    def find(self, bars: pd.DataFrame, around: Surroundings, _rules: RuleSet | None) -> FoundSignals:
        """A signal where the order of the two averages changes."""
        close = np.ascontiguousarray(bars["close"].to_numpy(dtype=np.float64))
        fast, slow = (np.asarray(rolling_mean(close, window)) for window in (self.fast, self.slow))
        side = np.sign(fast - slow)
        # Where the averages are equal nothing has changed yet.
        side[side == 0] = np.nan
        side = permitted(side, self.sides)
        # The order in which the averages are first seen is no change of it.
        rows = changes(side)[1:]
        return FoundSignals(
            signals_frame(bars, rows, side[rows], around.symbol, f"{self.source} {self.fast}/{self.slow}"),
            no_amounts(len(rows)),
            lambda chosen: [
                {"fast_mean": float(fast[row]), "slow_mean": float(slow[row])} for row in rows[chosen].tolist()
            ],
        )


class ModelScores(_Source):
    """A side from the close at which a model's probability of it reaches ``threshold``.

    Parameters
    ----------
    model, version:
        Which model's scores; any model's where absent, which must then be one. Of several versions that scored one bar
        the score that was made first counts: the one that was there when it mattered.
    threshold:
        The least probability of the side.
    leave:
        The position ends where the probability of its side is below this.
    minimum_confidence, confidence:
        A signal below this confidence is none; how it is worked out from the probability.
    maximum_age_minutes:
        How old a score may be at a close; the length of a bar where absent. Without a score nothing changes.
    """

    source: Literal["scores"]
    model: Annotated[str, Field(max_length=200)] | None = None
    version: Annotated[str, Field(max_length=50)] | None = None
    threshold: Annotated[float, Field(gt=0.5, le=1)] = 0.55
    leave: Annotated[float, Field(ge=0, le=1)] = 0.5
    minimum_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    confidence: ConfidenceRules = ConfidenceRules()
    maximum_age_minutes: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    sides: Sides = "both"

    @model_validator(mode="after")
    def _ordered(self) -> ModelScores:
        if self.leave > self.threshold:
            raise ValueError(f"leave = {self.leave} is above threshold = {self.threshold}")
        return self

    def find(self, bars: pd.DataFrame, around: Surroundings, _rules: RuleSet | None) -> FoundSignals:
        """A signal where the side that the scores are for changes."""
        if around.scores is None:
            raise ConfigurationError("the strategy trades a model's scores, and none are given", hint="pass scores=")
        chosen = self.chosen(around.scores)
        age = self.maximum_age_minutes
        joined = asof_join(
            pd.DataFrame(index=bars.index),
            chosen[["probability"]],
            at=pd.DatetimeIndex(bars["close_ts"]),
            known_at=pd.DatetimeIndex(chosen["known_at"]),
            tolerance=around.timeframe.duration if age is None else timedelta(minutes=age),
        )
        up = joined["probability"].to_numpy(dtype=np.float64)
        trust = score_confidence(np.ones(up.size), up, self.confidence)["confidence"].to_numpy()
        distrust = score_confidence(-np.ones(up.size), up, self.confidence)["confidence"].to_numpy()
        long = (up >= self.threshold) & (trust >= self.minimum_confidence)
        short = (1 - up >= self.threshold) & (distrust >= self.minimum_confidence)
        # Each side is a switch: on at its signal, off at the other's or below ``leave``, else as it was.
        held = [
            pd.Series(np.where(on, 1.0, np.where(off, 0.0, np.nan))).ffill().fillna(0.0).to_numpy()
            for on, off in ((long, short | (up < self.leave)), (short, long | (1 - up < self.leave)))
        ]
        side = permitted(held[0] - held[1], self.sides)
        side[: int(np.argmax(~np.isnan(up))) if (~np.isnan(up)).any() else up.size] = np.nan
        rows = changes(side)
        rows = rows[1:] if rows.size and side[rows[0]] == 0 else rows
        name = self.model or (str(chosen["model"].iloc[0]) if "model" in chosen and len(chosen) else "scores")
        taken = np.where(side[rows] == 0, np.nan, np.where(side[rows] > 0, up[rows], 1 - up[rows]))
        found = signals_frame(bars, rows, side[rows], around.symbol, name).assign(
            probability=taken,
            confidence=np.where(side[rows] == 0, np.nan, np.where(side[rows] > 0, trust[rows], distrust[rows])),
        )
        return FoundSignals(
            found,
            no_amounts(len(rows)),
            lambda asked: [{"probability_up": float(up[row])} for row in rows[asked].tolist()],
        )

    def chosen(self, scores: pd.DataFrame) -> pd.DataFrame:
        """The rows that count, one a bar, in the order in which they were known."""
        found = scores
        if self.model is not None and "model" in found:
            found = found[found["model"] == self.model]
        if self.version is not None and "model_version" in found:
            found = found[found["model_version"] == self.version]
        if "model" in found and (names := sorted(set(found["model"].astype(str)))) and len(names) > 1:
            raise ConfigurationError(f"there are scores of {names}", hint="name one: [signals] model = ...")
        if not len(found):
            raise DataError(
                f"there are no scores of {self.model or 'any model'}", hint="train and score first: tapeline run"
            )
        # The index is the bar's ts; it must not clash with a column of that name.
        flat = found.rename_axis("ts").reset_index() if "ts" not in found.columns else found.reset_index(drop=True)
        if "scored_at" in flat:
            flat = flat.sort_values(["ts", "scored_at"], kind="stable")
        flat = flat.drop_duplicates("ts", keep="first")
        return flat.sort_values("known_at", kind="stable").reset_index(drop=True)


class RuleFile(_Source):
    """What a file of rules decides, with its sizes, stops and targets.

    Parameters
    ----------
    rules:
        A packaged set of rules, or a path from the folder of the strategy's file.
    """

    source: Literal["rules"]
    rules: str

    def find(self, bars: pd.DataFrame, around: Surroundings, rules: RuleSet | None) -> FoundSignals:
        """A signal for each decision of the rules."""
        if rules is None:
            raise ConfigurationError("a strategy by rules is read with its rules", hint="use load_strategy")
        scores = {} if around.scores is None else {SCORE_PREFIX: score_columns(around.scores)}
        wide = rule_columns(bars, features=around.features, scores=scores, events=around.events)
        decided = decide_by_rules(rules, wide)
        made = decided.decisions
        rows = np.asarray(bars.index.get_indexer(made.index), dtype=np.int64)
        amounts = made.rename(columns={"target": "units"}).abs().reset_index(drop=True)
        return FoundSignals(
            signals_frame(bars, rows, np.sign(made["target"].to_numpy()), around.symbol, rules.version),
            amounts.where(amounts["units"] > 0),
            lambda chosen: decided.explain(bars.index[rows[chosen]]) if len(chosen) else [],
        )


SignalSource = Annotated[MovingAverageCross | ModelScores | RuleFile, Field(discriminator="source")]


def score_columns(scores: pd.DataFrame) -> pd.DataFrame:
    """The numbers of scores that rules may read, in the order in which they were known; of one bar the first score."""
    flat = ModelScores(source="scores").chosen(scores)
    return flat[[name for name in ("known_at", "probability", "side", "confidence") if name in flat]]


def permitted(side: Floats, sides: Sides) -> Floats:
    """Out where a side is not traded."""
    refused = {"both": 0.0, "long": -1.0, "short": 1.0}[sides]
    return np.where(side == refused, 0.0, side)


def changes(side: Floats) -> NDArray[np.int64]:
    """The rows at which a side differs from the last one known; the first one known is a change.

    Examples
    --------
    >>> changes(np.array([np.nan, 1.0, 1.0, np.nan, 1.0, -1.0, 0.0])).tolist()
    [1, 5, 6]
    """
    known = np.flatnonzero(~np.isnan(side))
    return known[np.r_[True, np.diff(side[known]) != 0]] if known.size else known


def signals_frame(bars: pd.DataFrame, rows: NDArray[np.int64], side: Floats, symbol: str, source: str) -> pd.DataFrame:
    """Signals at the closes of some bars, without probability."""
    return pd.DataFrame(
        {
            "ts": pd.DatetimeIndex(bars.index).take(rows),
            "known_at": pd.DatetimeIndex(bars["close_ts"]).take(rows),
            "symbol": symbol,
            "source": source,
            "side": np.asarray(side, dtype=np.int8),
            "probability": np.nan,
            "confidence": np.nan,
            "price": bars["close"].to_numpy(dtype=np.float64)[rows],
        }
    )


def no_amounts(rows: int) -> pd.DataFrame:
    """A source that leaves sizes and protection to the strategy."""
    return pd.DataFrame(np.nan, index=range(rows), columns=["units", "stop", "take"])
