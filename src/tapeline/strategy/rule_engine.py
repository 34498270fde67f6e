"""Rules over bars: what they decide at each close, over a history at once or one bar at a time with the same bits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from tapeline.core.errors import DataError
from tapeline.strategy import rule_kernels as kernels
from tapeline.strategy.decision_rules import RuleSet
from tapeline.strategy.rule_explanation import OUTCOMES, TOUCHES, explain_snapshot
from tapeline.strategy.rule_kernels import Memory, Outcome, Snapshot
from tapeline.strategy.rule_program import SESSION_PREFIX, refuse_absent

CODE_COLUMNS: Final = 5
MOST_EXPLAINED: Final = 100_000


@dataclass(frozen=True)
class RuleDecisions:
    """What rules decided on one frame of columns.

    Parameters
    ----------
    decisions:
        What the simulator takes, one row a decision: ``target`` in signed units, ``stop`` and ``take`` in price.
    outcomes:
        One row a bar: ``outcome`` (a word of ``OUTCOMES``), ``rule`` that decided or would have, ``other`` rule that
        stood in its way, ``protection`` (``stop``, ``target``: the bar touched it), ``side`` held from here on; NaN
        where there is none.
    """

    rules: RuleSet
    decisions: pd.DataFrame
    outcomes: pd.DataFrame
    _columns: NDArray[np.float64]
    _closes: NDArray[np.int64]
    _held: NDArray[np.float64]
    _out: Outcome

    def explain(self, instants: Iterable[Any] | None = None) -> list[dict[str, Any]]:
        """Why it was decided so at some bars, in their order of time; those with a decision where None is given.

        The bars are gone through once more, so ask for all that are wanted in one call.

        Returns
        -------
        A JSON-like value a bar: ``ts``, ``known_at``, ``rules`` (the version), ``outcome``, ``rule``, ``other``,
        ``position`` before the decision, the decision, ``vetoes`` in force, ``unknown`` rules, and of every rule its
        state, its text and each condition with its text, its truth (None: unknown) and the values on its sides.

        Raises
        ------
        DataError
            An instant is no bar's, or more than 100,000 are asked for.
        """
        index = self.outcomes.index
        wanted = self.decisions.index if instants is None else pd.DatetimeIndex(list(instants))
        rows = np.unique(index.get_indexer(wanted)).astype(np.int64)
        if rows.size and rows[0] < 0:
            raise DataError("an explanation is asked for an instant that is no bar's", hint="ask by the ts of a bar")
        if rows.size > MOST_EXPLAINED:
            raise DataError(f"{rows.size} explanations are asked for, at most {MOST_EXPLAINED} are made in one call")
        snapshot = _snapshot(self.rules, rows)
        out = _outcome(len(index))
        last = int(rows[-1]) + 1 if rows.size else 0
        held = self._held[:last] if self._held.size else self._held
        kernels.advance_rules(
            self.rules.program,
            self.rules.table,
            _memory(self.rules),
            self._columns,
            self._closes[:last],
            held,
            out,
            snapshot,
        )
        return [
            explain_snapshot(self.rules, snapshot, at, out, row, self._columns[:, row], index[row], self._closes[row])
            for at, row in enumerate(rows.tolist())
        ]

    def rows(self, run: str) -> pd.DataFrame:
        """The decisions as rows of the table of decisions, each with its explanation as JSON."""
        stated = self.explain()
        at = pd.DatetimeIndex(self.decisions.index)
        places = self.outcomes.index.get_indexer(at)
        return pd.DataFrame(
            {
                "run": run,
                "ts": at,
                "known_at": pd.to_datetime(self._closes[places], utc=True).as_unit("ns"),
                "target": self.decisions["target"].to_numpy(),
                "stop": self.decisions["stop"].to_numpy(),
                "take": self.decisions["take"].to_numpy(),
                "limit": math.nan,
                "trigger": math.nan,
                "strategy": self.rules.version,
                "explanation": [json.dumps(one, allow_nan=False) for one in stated],
            }
        )


def decide(rules: RuleSet, bars: pd.DataFrame, *, held: ArrayLike = ()) -> RuleDecisions:
    """Decide every bar of a history.

    Parameters
    ----------
    rules:
        As :func:`tapeline.strategy.decision_rules.load_rules` reads them.
    bars:
        Index ``ts``; ``open``, ``high``, ``low``, ``close``, ``close_ts`` and every column that the rules name, each
        value known at its bar's close; :func:`tapeline.strategy.rule_columns.rule_columns` joins them so.
    held:
        The side really held at each close (1, -1, 0), where an account tells it. Without it rules hold what they
        entered until they exit, turn, or a bar touches the stop or target.

    Raises
    ------
    RuleExpressionError
        A column is missing: the message points at its first use.
    DataError
        Bars are not in the order of time, or have no ``close_ts``.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.strategy.decision_rules import parse_rules
    >>> rules = parse_rules({"name": "break", "rule": [
    ...     {"name": "buy", "action": "long", "when": "crosses_up(close, 101)", "stop": "low"},
    ...     {"name": "sell", "action": "exit", "when": "close < lag(close, 1)"}]})
    >>> found = decide(rules, example_bars(100, 102, 104, 103))
    >>> found.decisions.values.tolist()
    [[1.0, 99.0, nan], [0.0, nan, nan]]
    >>> found.outcomes["outcome"].tolist(), found.outcomes["rule"].dropna().tolist()
    (['nothing', 'entered', 'nothing', 'exited'], ['buy', 'sell'])
    """
    absent = [name for name in ("open", "high", "low", "close", "close_ts") if name not in bars.columns]
    if absent:
        raise DataError(f"bars lack the columns {absent}")
    refuse_absent(rules.used, tuple(map(str, bars.columns)))
    closes = _instants(pd.DatetimeIndex(bars["close_ts"]))
    opens = _instants(pd.DatetimeIndex(bars.index))
    if (opens[1:] <= opens[:-1]).any() or (closes < opens).any() or (closes[1:] < closes[:-1]).any():
        raise DataError("bars are not in the order of time, or repeat one", hint="sort them by ts")
    sides = _sides(held, len(bars))
    columns = np.empty((len(rules.columns), len(bars)))
    for place, name in enumerate(rules.columns):
        if name.startswith(SESSION_PREFIX):
            columns[place] = rules.sessions[name.removeprefix(SESSION_PREFIX)].is_on(
                pd.DatetimeIndex(pd.to_datetime(closes, utc=True))
            )
        else:
            columns[place] = bars[name].to_numpy(dtype=np.float64)
    out = _outcome(len(bars))
    kernels.advance_rules(
        rules.program, rules.table, _memory(rules), columns, closes, sides, out, _snapshot(rules, np.empty(0, np.int64))
    )
    there = ~np.isnan(out.target)
    decisions = pd.DataFrame(
        {"target": out.target[there], "stop": out.stop[there], "take": out.take[there]}, index=bars.index[there]
    )
    return RuleDecisions(rules, decisions, _frame(rules, out, bars.index), columns, closes, sides, out)


class RuleStream:
    """Rules that are fed finished bars, as a paper account is.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> from tapeline.strategy.decision_rules import parse_rules
    >>> stream = RuleStream(parse_rules({"name": "break", "rule": [
    ...     {"name": "buy", "action": "long", "when": "crosses_up(close, 101)"}]}))
    >>> for bar in example_bars(100, 102).reset_index().to_dict("records"):
    ...     decision = stream.push(bar)
    >>> decision, stream.explain()["rule"]
    ({'target': 1.0}, 'buy')
    """

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        self.outcome = OUTCOMES[kernels.NOTHING]
        self._memory = _memory(rules)
        self._columns = np.empty((len(rules.columns), 1))
        self._snapshot = _snapshot(rules, np.zeros(1, np.int64))
        self._out = _outcome(1)
        self._ts = pd.Timestamp(0, tz="UTC")
        self._closes = np.full(1, kernels.LONG_AGO)

    @property
    def side(self) -> int:
        """The side held, as the rules know it."""
        return int(self._memory.state[kernels.SIDE])

    def push(self, bar: Mapping[str, Any], held: float | None = None) -> dict[str, float] | None:
        """Feed the next bar; what was decided at its close, or None.

        Parameters
        ----------
        bar:
            ``ts``, ``close_ts``, prices, and the columns that the rules name.
        held:
            The side that the account really holds at the close; None: as the rules know it.

        Raises
        ------
        RuleExpressionError, DataError
            As of :func:`decide`.
        """
        absent = [name for name in ("ts", "close_ts", "open", "high", "low", "close") if name not in bar]
        if absent:
            raise DataError(f"a bar lacks {absent}")
        refuse_absent(self.rules.used, tuple(bar))
        ts, close = _instant(bar["ts"]), _instant(bar["close_ts"])
        if (self._memory.state[kernels.SEEN] and ts <= self._ts) or close < ts or close.value < self._closes[0]:
            raise DataError(f"bar {ts} is not after the bar before it, or ends before it begins")
        sides = _sides(() if held is None else [held], 1)
        for place, name in enumerate(self.rules.columns):
            if name.startswith(SESSION_PREFIX):
                session = self.rules.sessions[name.removeprefix(SESSION_PREFIX)]
                self._columns[place, 0] = session.is_on(pd.DatetimeIndex([close]))[0]
            else:
                self._columns[place, 0] = float(bar[name])
        self._ts, self._closes[0] = ts, close.as_unit("ns").value
        self._out = _outcome(1)
        kernels.advance_rules(
            self.rules.program,
            self.rules.table,
            self._memory,
            self._columns,
            self._closes,
            sides,
            self._out,
            self._snapshot,
        )
        self.outcome = OUTCOMES[self._out.codes[0, 0]]
        found = {name: float(getattr(self._out, name)[0]) for name in ("target", "stop", "take")}
        return None if math.isnan(found["target"]) else {k: v for k, v in found.items() if not math.isnan(v)}

    def explain(self) -> dict[str, Any]:
        """Why it was decided so at the last bar; see :meth:`RuleDecisions.explain`."""
        if not self._memory.state[kernels.SEEN]:
            raise DataError("there is nothing to explain before the first bar")
        return explain_snapshot(
            self.rules, self._snapshot, 0, self._out, 0, self._columns[:, 0], self._ts, self._closes[0]
        )


def _memory(rules: RuleSet) -> Memory:
    state = np.zeros(kernels.STATE_SIZE)
    state[kernels.ENTRY : kernels.TAKE + 1] = np.nan
    return Memory(
        np.zeros(rules.memory[0]),
        np.full(rules.memory[1], kernels.LONG_AGO),
        state,
        np.full(len(rules.rules), kernels.LONG_AGO),
    )


def _outcome(rows: int) -> Outcome:
    return Outcome(
        np.full(rows, np.nan), np.full(rows, np.nan), np.full(rows, np.nan), np.zeros((rows, CODE_COLUMNS), np.int16)
    )


def _snapshot(rules: RuleSet, rows: NDArray[np.int64]) -> Snapshot:
    count = rows.size
    return Snapshot(
        rows,
        np.empty((count, rules.program.operation.size)),
        np.empty((count, kernels.STATE_SIZE)),
        np.empty((count, len(rules.rules)), np.int64),
    )


def _frame(rules: RuleSet, out: Outcome, index: pd.Index) -> pd.DataFrame:
    names = pd.Index([one.rule.name for one in rules.rules])
    return pd.DataFrame(
        {
            "outcome": pd.Categorical.from_codes(out.codes[:, 0], categories=pd.Index(OUTCOMES)),
            "rule": pd.Categorical.from_codes(out.codes[:, 1], categories=names),
            "other": pd.Categorical.from_codes(out.codes[:, 2], categories=names),
            "protection": pd.Categorical.from_codes(out.codes[:, 3] - 1, categories=pd.Index(TOUCHES[1:])),
            "side": out.codes[:, 4],
        },
        index=index,
    )


def _sides(held: ArrayLike, rows: int) -> NDArray[np.float64]:
    sides = np.ascontiguousarray(np.asarray(held, dtype=np.float64))
    if sides.ndim != 1 or sides.size not in (0, rows) or not np.isin(sides, (-1.0, 0.0, 1.0)).all():
        raise DataError(f"held has {sides.size} values, or one that is not 1, 0 or -1; it needs {rows}")
    return sides


def _instant(value: Any) -> pd.Timestamp:
    stamp = pd.Timestamp(value)
    if stamp is pd.NaT or stamp.tz is None:
        raise DataError(f"'{value}' is no instant with a time zone")
    return stamp


def _instants(index: pd.DatetimeIndex) -> NDArray[np.int64]:
    if index.tz is None or index.hasnans:
        raise DataError("times of bars are missing or carry no zone", hint="use UTC")
    return np.ascontiguousarray(index.as_unit("ns").asi8)
