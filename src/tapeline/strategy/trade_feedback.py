"""What closed trades say of the signals behind them: labels to learn from, and how far each source may be trusted.

Everything holds as of an instant: a trade counts from the close of the bar in which it ended, and one that is still
held says nothing. Only what was traded is seen. A source whose signals were refused has no outcomes, and what a filter
let through is no sample of what it kept back; :func:`tapeline.strategy.trade_labels.taken_weights` says how much of
the signals the trades can speak for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tapeline.charts.confidence import confidence
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.versions import digest
from tapeline.strategy.cost_ladder import Account
from tapeline.strategy.signal_confidence import ConfidenceRules, score_confidence
from tapeline.strategy.trade_attribution import entry_decisions, trade_keys

Floats = npt.NDArray[np.float64]

LEVELS: Final[tuple[tuple[str, ...], ...]] = (("source",), ("source", "symbol"), ("source", "symbol", "regime"))
"""From the widest group to the narrowest; a level whose columns are not there is left out."""
STRENGTH: Final = 30.0
RATES: Final = ("outcomes", "hit_rate", "break_even", "edge", "correction")
_VERSION: Final = 1
_CLIP: Final = 1e-3


def trade_outcomes(
    account: Account,
    orders: pd.DataFrame,
    signals: pd.DataFrame,
    bars: pd.DataFrame,
    *,
    source: str = "strategy",
    regimes: pd.Series | None = None,
) -> pd.DataFrame:
    """What became of the signals behind the closed trades of one symbol.

    Parameters
    ----------
    account:
        Its ``fills`` and ``trades``, of one symbol; their ``order`` counts rows of ``orders``.
    orders:
        All orders of the run.
    signals:
        With ``ts``, ``source``, ``side``; optionally ``probability`` (of the side taken), ``confidence``, ``symbol``
        and ``accepted`` (refused ones are behind no trade). A signal is behind a trade that was decided on its side at
        its bar's close; several sources may be behind one trade, and each has a row.
    bars:
        The symbol's, with ``close_ts``.
    source:
        The name of what decided the trades that no signal is behind.
    regimes:
        By the instant from which each was known.

    Returns
    -------
    One row a closed trade and source, by ``decided_at``: ``trade`` (its row), ``ts`` (the bar at whose close it was
    decided), ``source``, ``side``, ``probability``, ``confidence``, ``entry_at``, ``decided_at`` (the close of the bar
    in which it ended: known then, not before), ``exit``, ``outcome`` (net of costs, as a share of what was bought or
    sold), ``hit`` (1.0 where that is above 0, else 0.0); ``symbol`` and ``regime`` where known.

    Raises
    ------
    DataError
        Fills, orders and trades do not belong together, or a trade ended in none of the bars.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.strategy.simulator import simulate
    >>> bars = example_bars(100, 100, 104, 104)
    >>> found = simulate(bars, pd.DataFrame({"target": [1.0, 0.0]}, index=bars.index[[0, 2]]))
    >>> signals = pd.DataFrame({"ts": bars.index[:1], "source": "model", "side": 1, "probability": 0.6})
    >>> trade_outcomes(found, found.orders, signals, bars)[["source", "probability", "outcome", "hit"]].values.tolist()
    [['model', 0.6, 0.04, 1.0]]
    """
    trades = account.trades
    closed = trades["exit_at"].notna().to_numpy(dtype=bool)
    ended = bars.index.get_indexer(pd.DatetimeIndex(trades["exit_at"][closed]))
    if (ended < 0).any():
        raise DataError("a trade ended in none of the bars", hint="give all bars of the symbol that traded")
    keys = trade_keys(trades, regimes=regimes)
    paid = trades["quantity"].abs() * trades["entry_price"].abs()
    table = pd.DataFrame(
        {
            "trade": np.arange(len(trades)),
            "ts": pd.DatetimeIndex(entry_decisions(account, orders)).as_unit("ns"),
            "side": np.sign(trades["quantity"].to_numpy(dtype=np.float64)).astype(np.int64),
            "entry_at": pd.DatetimeIndex(trades["entry_at"]).as_unit("ns"),
            "exit": trades["reason"].astype(str).to_numpy(dtype=object),
            "outcome": (trades["net"] / paid).to_numpy(dtype=np.float64),
            **{name: keys[name].to_numpy(dtype=object) for name in ("symbol", "regime") if name in keys},
        }
    )[closed]
    table["decided_at"] = pd.DatetimeIndex(bars["close_ts"]).as_unit("ns")[ended]
    table["hit"] = (table["outcome"] > 0).astype(np.float64)
    behind = _behind(signals)
    on = ["ts", "side", *(["symbol"] if "symbol" in table and "symbol" in behind else [])]
    if "symbol" in table and "symbol" not in on:
        behind = behind.drop(columns="symbol", errors="ignore")
    told = table.merge(behind, on=on, how="left")
    told["source"] = told["source"].where(told["source"].notna(), source).astype(object)
    return told.sort_values(["decided_at", "trade", "source"], kind="stable", ignore_index=True)


def break_even_rates(outcomes: pd.DataFrame, *, strength: float = STRENGTH) -> Floats:
    """The share of hits at which each outcome's source earned nothing, by what it had won and lost a trade until then.

    ``loss / (win + loss)`` of the mean win and the mean loss of the source's trades that had ended by this one's end.
    Each mean begins as ``strength`` trades of the size usual among all sources by then, so that a source without
    history breaks even at one half.

    Examples
    --------
    >>> at = pd.date_range("2024-01-01", periods=4, tz="UTC")
    >>> told = pd.DataFrame({"source": "a", "decided_at": at, "outcome": [0.03, -0.01, 0.03, -0.01]})
    >>> break_even_rates(told, strength=0.001).round(2).tolist()
    [0.5, 0.25, 0.25, 0.25]
    """
    if not strength > 0:
        raise ConfigurationError(f"strength = {strength} is not above 0", hint="30 trades is a usual prior")
    ordered = outcomes.sort_values("decided_at", kind="stable")
    result = ordered["outcome"].to_numpy(dtype=np.float64)
    usual = np.abs(result).cumsum() / np.arange(1, result.size + 1)
    sides = pd.DataFrame({"win": np.maximum(result, 0.0), "loss": np.maximum(-result, 0.0)}, index=ordered.index)
    sides = sides.assign(wins=(result > 0).astype(np.float64), losses=(result < 0).astype(np.float64))
    so_far = sides.groupby(ordered["source"].to_numpy(dtype=object)).cumsum()
    win = (so_far["win"] + strength * usual) / (so_far["wins"] + strength)
    loss = (so_far["loss"] + strength * usual) / (so_far["losses"] + strength)
    with np.errstate(invalid="ignore"):
        rate = (loss / (win + loss)).fillna(0.5)
    return rate.reindex(outcomes.index).to_numpy(dtype=np.float64)


def hit_rates(
    asked: pd.DataFrame,
    outcomes: pd.DataFrame,
    *,
    levels: Sequence[Sequence[str]] = LEVELS,
    strength: float = STRENGTH,
) -> pd.DataFrame:
    """What outcomes known by then say of each signal's source: posterior hit rate, edge, and correction of its claim.

    Both are Beta posteriors over nested groups, shrunk towards the wider group and the widest towards nothing
    (:func:`tapeline.charts.confidence.confidence`): the edge against the source's break-even rate, the correction
    against the probabilities that it claimed itself. So a source that claims 0.6 and hits 0.6 is not corrected, and one
    that claims 0.6 and hits 0.5 is taken for 0.5 in the end. A hit is a trade that paid after costs: the correction
    holds costs and stops as well as the model's error.

    Parameters
    ----------
    asked:
        With ``known_at`` and ``source``; optionally ``symbol``, ``regime`` and ``probability`` of the side taken.
    outcomes:
        From :func:`trade_outcomes`, of any number of symbols; only those decided at or before ``known_at`` are read.
    strength:
        How many trades the prior of each level is worth.

    Returns
    -------
    On the index of ``asked``: ``outcomes`` (of its narrowest group), ``hit_rate``, ``break_even``, ``edge`` (the one
    less the other), ``correction`` (of the log of the odds of the probability claimed; 0 where nothing is known) and
    ``probability`` corrected; the posterior hit rate where the source claims none, NaN where nothing is known.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=101, tz="UTC")
    >>> told = pd.DataFrame({"source": "a", "decided_at": days[:100], "outcome": [0.01, -0.01] * 50,
    ...                      "hit": [1.0, 0.0] * 50, "probability": 0.6})
    >>> asked = pd.DataFrame({"source": "a", "known_at": days[[0, 100]], "probability": 0.6})
    >>> hit_rates(asked, told)[["outcomes", "hit_rate", "probability"]].round(3).values.tolist()
    [[1.0, 0.516, 0.613], [100.0, 0.5, 0.523]]
    """
    usable = [list(level) for level in levels if set(level) <= set(asked.columns) & set(outcomes.columns)]
    if not usable or usable[0] != list(levels[0]):
        raise DataError(f"signals or outcomes lack the columns {list(levels[0])}")
    events = asked.rename(columns={"known_at": "confirmed_at"})
    edge = confidence(
        events,
        outcomes.assign(base=break_even_rates(outcomes, strength=strength)),
        levels=usable,
        strength=strength,
    )
    nothing = np.full(len(outcomes), np.nan)
    claimed = outcomes["probability"].to_numpy(dtype=np.float64) if "probability" in outcomes else nothing
    correction = confidence(events, outcomes.assign(base=claimed), levels=usable, strength=strength)["weight"]
    own = asked["probability"].to_numpy(dtype=np.float64) if "probability" in asked else np.full(len(asked), np.nan)
    rate = (edge["base_rate"] + edge["lift"]).clip(0.0, 1.0)
    return pd.DataFrame(
        {
            "outcomes": edge["outcomes"],
            "hit_rate": rate,
            "break_even": edge["base_rate"],
            "edge": edge["lift"],
            "correction": correction,
            "probability": _corrected(own, correction.to_numpy(), rate.to_numpy()),
        },
        index=asked.index,
    )


def corrected_scores(
    scores: pd.DataFrame, outcomes: pd.DataFrame, *, source: str = "model", strength: float = STRENGTH
) -> pd.DataFrame:
    """A model's scores with the probability corrected by the trades that had closed when each was known.

    What :func:`tapeline.strategy.strategy_decisions.decide` reads as ``scores``. Each score is corrected as of its own
    ``known_at``, so a correction of today changes no score of yesterday, nor what was decided by it.

    Parameters
    ----------
    scores:
        Rows of the table of scores: ``known_at``, ``probability`` (of a rise), and the column ``source`` that names
        whose they are.
    outcomes:
        From :func:`trade_outcomes`, with the same names as ``source``.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=101, tz="UTC")
    >>> told = pd.DataFrame({"source": "m", "decided_at": days[:100], "outcome": [0.01, -0.01] * 50,
    ...                      "hit": [1.0, 0.0] * 50, "probability": 0.6})
    >>> scores = pd.DataFrame({"model": "m", "known_at": days[[0, 100]], "probability": [0.6, 0.4]})
    >>> corrected_scores(scores, told)["probability"].round(3).tolist()
    [0.613, 0.477]
    """
    up = scores["probability"].to_numpy(dtype=np.float64)
    asked = pd.DataFrame(
        {
            "source": scores[source].astype(str).to_numpy(dtype=object),
            "known_at": pd.DatetimeIndex(scores["known_at"]),
            "probability": np.maximum(up, 1.0 - up),
        }
    )
    taken = hit_rates(asked, outcomes, strength=strength)["probability"].to_numpy(dtype=np.float64)
    # Of a score that is not corrected not even the last bit may change.
    same = taken == asked["probability"].to_numpy()
    return scores.assign(probability=np.where(same, up, np.where(up < 0.5, 1.0 - taken, taken)))


@dataclass(frozen=True)
class TradeFeedback:
    """What trades closed by an instant say, as the next run reads it.

    Parameters
    ----------
    at:
        Trades that ended at or before it were counted.
    strength:
        Of the priors.
    groups:
        One row a group: its ``source``, ``symbol``, ``regime`` (None where the group is wider), and ``outcomes``,
        ``hit_rate``, ``break_even``, ``edge``, ``correction``.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=100, tz="UTC")
    >>> told = pd.DataFrame({"source": "a", "decided_at": days, "outcome": [0.01, -0.01] * 50, "hit": [1.0, 0.0] * 50,
    ...                      "probability": 0.7})
    >>> feedback = TradeFeedback.of(told, days[-1])
    >>> signals = pd.DataFrame({"source": ["a", "new"], "side": [1, -1], "probability": [0.7, 0.7]})
    >>> feedback.apply(signals)[["probability", "confidence"]].round(3).values.tolist()
    [[0.546, 0.092], [0.7, 0.4]]
    >>> TradeFeedback.from_json(feedback.to_json()) == feedback
    True
    """

    at: pd.Timestamp
    strength: float
    groups: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(
        cls,
        outcomes: pd.DataFrame,
        at: pd.Timestamp,
        *,
        levels: Sequence[Sequence[str]] = LEVELS,
        strength: float = STRENGTH,
    ) -> Self:
        """The groups of outcomes as of an instant.

        Raises
        ------
        DataError
            The instant has no zone, or a column is missing.
        """
        if at.tzinfo is None:
            raise DataError(f"at = {at} has no zone", hint="use UTC")
        known = outcomes[outcomes["decided_at"] <= at]
        rows: list[Mapping[str, Any]] = []
        names = [*levels[-1]]
        for level in levels:
            if not set(level) <= set(known.columns):
                continue
            asked = known[list(level)].drop_duplicates().sort_values(list(level), ignore_index=True)
            narrower = [own for own in levels if set(own) <= set(level)]
            found = hit_rates(asked.assign(known_at=at), known, levels=narrower, strength=strength)
            for group, rates in zip(asked.to_dict("records"), found[list(RATES)].to_dict("records"), strict=True):
                rows.append({**{name: group.get(name) for name in names}, **{name: rates[name] for name in RATES}})
        return cls(at.tz_convert("UTC").as_unit("ns"), float(strength), tuple(rows))

    @property
    def version(self) -> str:
        """``feedback@<digest>`` of all that it says."""
        return f"feedback@{digest(json.loads(self.to_json()))}"

    def lookup(self, signals: pd.DataFrame) -> pd.DataFrame:
        """The rates of each signal's narrowest group that is known; of none, NaN, no edge and no correction.

        Examples
        --------
        >>> group = {"source": "a", "outcomes": 9.0, "hit_rate": 0.6, "break_even": 0.5, "edge": 0.1, "correction": 0.4}
        >>> feedback = TradeFeedback(pd.Timestamp("2024-01-01", tz="UTC"), 30.0, (group,))
        >>> feedback.lookup(pd.DataFrame({"source": ["a", "b"]}))["correction"].tolist()
        [0.4, 0.0]
        """
        found = pd.DataFrame(np.nan, index=signals.index, columns=list(RATES)).assign(
            outcomes=0.0, edge=0.0, correction=0.0
        )
        names = [name for name in self.groups[0] if name not in RATES] if self.groups else []
        given = {name: signals[name].astype(object).to_numpy() for name in names if name in signals}
        # Wider groups come first, so that what stands in the end is the narrowest.
        for group in self.groups:
            wanted = {name: group[name] for name in names if group[name] is not None}
            if not set(wanted) <= set(given):
                continue
            mine = np.ones(len(signals), dtype=bool)
            for name, value in wanted.items():
                mine &= given[name] == value
            found.loc[mine, list(RATES)] = [group[name] for name in RATES]
        return found

    def apply(self, signals: pd.DataFrame, rules: ConfidenceRules | None = None) -> pd.DataFrame:
        """The signals with ``probability`` corrected by what their source has shown, and ``confidence`` by it.

        The confidence is :func:`tapeline.strategy.signal_confidence.score_confidence` of the corrected probability,
        with the break-even rate of the signal's own group where one is known in place of that of the rules.

        Parameters
        ----------
        signals:
            With ``source``, ``side``, ``probability`` (of the side taken, NaN where unknown).
        """
        rules = rules or ConfidenceRules()
        rates = self.lookup(signals)
        claimed = signals["probability"].to_numpy(dtype=np.float64)
        taken = _corrected(claimed, rates["correction"].to_numpy(), rates["hit_rate"].to_numpy())
        side = signals["side"].to_numpy(dtype=np.float64)
        trust = np.full(len(signals), np.nan)
        needed = rates["break_even"].fillna(rules.break_even).clip(upper=rules.full - _CLIP).to_numpy(dtype=np.float64)
        for rate in np.unique(needed):
            mine = needed == rate
            own = rules.model_copy(update={"break_even": float(rate)})
            up = np.where(side[mine] < 0, 1.0 - taken[mine], taken[mine])
            trust[mine] = score_confidence(side[mine], up, own)["confidence"].to_numpy()
        return signals.assign(probability=taken, confidence=trust)

    def to_json(self) -> str:
        """Plain text; the same trades give the same bytes."""
        groups = [dict(group) for group in self.groups]
        said = {"version": _VERSION, "at": self.at.isoformat(), "strength": self.strength, "groups": groups}
        return json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read :meth:`to_json`'s text back; DataError where it is none."""
        try:
            said = json.loads(text)
            if said["version"] != _VERSION:
                raise DataError(f"feedback of version {said['version']!r} cannot be read, this is {_VERSION}")
            names = list(LEVELS[-1])
            groups = []
            for group in said["groups"]:
                rates = {name: float(group[name]) for name in RATES}
                own = {name: group[name] for name in group if name not in RATES}
                if not all(value is None or isinstance(value, str) for value in own.values()) or not own.keys():
                    raise DataError(f"a group of feedback is named by {own}", hint=f"it has {', '.join(names)}")
                groups.append({**own, **rates})
            at = pd.Timestamp(said["at"])
            if at.tzinfo is None:
                raise DataError(f"feedback's instant {said['at']!r} has no zone")
            return cls(at.tz_convert("UTC").as_unit("ns"), float(said["strength"]), tuple(groups))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"this is no feedback: {type(error).__name__}: {error}") from error


def _behind(signals: pd.DataFrame) -> pd.DataFrame:
    """The signals that may be behind a trade, one a bar, side and source."""
    if absent := [name for name in ("source", "side") if name not in signals.columns]:
        raise DataError(f"signals lack the columns {absent}")
    given = signals if "ts" in signals.columns else signals.rename_axis("ts").reset_index()
    if "accepted" in given:
        given = given[given["accepted"].to_numpy(dtype=bool)]
    found = given.assign(
        ts=pd.DatetimeIndex(given["ts"]).as_unit("ns"),
        side=given["side"].astype(np.int64),
        source=given["source"].astype(object),
    )
    for name in ("probability", "confidence"):
        found[name] = given[name].astype(np.float64) if name in given else np.nan
    kept = ["ts", "side", "source", "probability", "confidence", *(["symbol"] if "symbol" in given else [])]
    if "symbol" in given:
        found["symbol"] = given["symbol"].astype(object)
    return found[kept].drop_duplicates(
        [name for name in kept if name not in ("probability", "confidence")], keep="last"
    )


def _corrected(claimed: Floats, correction: Floats, rate: Floats) -> Floats:
    """Probabilities claimed, their odds corrected; the rate where none was claimed."""
    sure = np.clip(claimed, _CLIP, 1.0 - _CLIP)
    moved = 1.0 / (1.0 + (1.0 - sure) / sure * np.exp(-correction))
    return np.asarray(np.where(np.isnan(claimed), rate, np.where(correction == 0.0, claimed, moved)))
