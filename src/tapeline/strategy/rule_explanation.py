"""Why rules decided as they did at one bar: every rule, every condition, the values on both sides, as plain values."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tapeline.core.rule_nodes import Between, Comparison, Crossing, Expression, Held, Logical, Name, Not, Number
from tapeline.strategy import rule_kernels as kernels
from tapeline.strategy.decision_rules import CompiledRule, RuleSet
from tapeline.strategy.rule_kernels import Outcome, Snapshot
from tapeline.strategy.rule_program import bar_before

OUTCOMES: Final = (
    *("nothing", "entered", "exited", "conflict", "vetoed", "veto_unknown", "size_unknown"),
    *("protection_unknown", "held", "opposite_ignored"),
)
"""What became of a bar; by the codes of the kernel."""
TOUCHES: Final = (None, "stop", "target")


def explain_snapshot(
    rules: RuleSet,
    snapshot: Snapshot,
    place: int,
    out: Outcome,
    row: int,
    columns: NDArray[np.float64],
    ts: pd.Timestamp,
    close: int,
) -> dict[str, Any]:
    """The explanation of one bar.

    Parameters
    ----------
    snapshot, place:
        What the kernel kept of the bar before it decided, and where.
    out, row:
        What it decided, and where.
    columns:
        The bar's values of the program's columns.
    """
    registers, state = snapshot.registers[place], snapshot.state[place]
    outcome, chosen, other, touched = (int(code) for code in out.codes[row, :4])
    names = [compiled.rule.name for compiled in rules.rules]
    considered = [
        _considered(rules, compiled, registers, columns, int(snapshot.since[place, number]), number)
        for number, compiled in enumerate(rules.rules)
    ]
    decision = {name: _number(getattr(out, name)[row]) for name in ("target", "stop", "take")}
    return {
        "ts": ts.isoformat(),
        "known_at": pd.Timestamp(int(close), unit="ns", tz="UTC").isoformat(),
        "rules": rules.version,
        "outcome": OUTCOMES[outcome],
        "rule": names[chosen] if chosen >= 0 else None,
        "other": names[other] if other >= 0 else None,
        "protection": TOUCHES[touched],
        "position": {"side": int(state[kernels.SIDE]), "bars": int(state[kernels.SINCE])},
        "decision": decision if decision["target"] is not None else None,
        "vetoes": [one["rule"] for one in considered if one["action"] == "veto" and one["standing"] == "holds"],
        "unknown": [one["rule"] for one in considered if one["state"] is None],
        "considered": considered,
    }


def _considered(
    rules: RuleSet, compiled: CompiledRule, registers: NDArray[np.float64], columns: Any, since: int, number: int
) -> dict[str, Any]:
    rule, session = compiled.rule, int(rules.table.session[number])
    state = _truth(registers[rules.table.condition[number]])
    if session >= 0 and columns[session] != 1.0:
        standing = "out of session"
    elif since <= rule.cooldown:
        standing = "in cooldown"
    else:
        standing = "unknown" if state is None else "holds" if state else "does not hold"
    return {
        "rule": rule.name,
        "action": rule.action,
        "priority": rule.priority,
        "state": state,
        "standing": standing,
        "when": str(compiled.when),
        "conditions": _conditions(rules, compiled.when, registers),
        "amounts": {
            name: {"text": str(one), "value": _of(rules, one, registers)} for name, one in compiled.amounts.items()
        },
    }


def _conditions(rules: RuleSet, node: Expression, registers: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The conditions that a condition is made of, those with a name before what they stand for."""
    if isinstance(node, Logical):
        return [one for part in node.parts for one in _conditions(rules, part, registers)]
    if isinstance(node, Not):
        return _conditions(rules, node.condition, registers)
    here: dict[str, Any] = {"text": str(node), "state": _truth(registers[_register(rules, node)])}
    match node:
        case Name(name=name):
            meaning = rules.conditions[name]
            return [{**here, "means": str(meaning)}, *_conditions(rules, meaning, registers)]
        case Held(condition=inner):
            return [here, *_conditions(rules, inner, registers)]
        case Comparison(left=left, right=right):
            here |= {"left": _of(rules, left, registers), "right": _of(rules, right, registers)}
        case Between(value=value, low=low, high=high):
            here |= {name: _of(rules, one, registers) for name, one in (("left", value), ("low", low), ("high", high))}
        case Crossing(value=value, level=level):
            here |= {"left": _of(rules, value, registers), "right": _of(rules, level, registers)}
            here |= {
                f"{name}_before": _before(rules, one, registers) for name, one in (("left", value), ("right", level))
            }
    return [here]


def _register(rules: RuleSet, node: Expression) -> int:
    while isinstance(node, Name) and node.name in rules.conditions:
        node = rules.conditions[node.name]
    return rules.registers[node]


def _of(rules: RuleSet, node: Expression, registers: NDArray[np.float64]) -> float | None:
    return _number(registers[rules.registers[node]])


def _before(rules: RuleSet, node: Expression, registers: NDArray[np.float64]) -> float | None:
    return _of(rules, node if isinstance(node, Number) else bar_before(node), registers)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _truth(value: float) -> bool | None:
    return None if math.isnan(value) else bool(value)
