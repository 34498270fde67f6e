"""What is wrong with a rule before it is ever asked: it can never fire, always does, tells nobody, or is too loud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from tapeline.alerts.backtest import backtest_rule, finest_timeframe
from tapeline.alerts.catalogue import NAME_OF, Catalogue, catalogue
from tapeline.alerts.conditions import compile_rule, external_keys, history_needed
from tapeline.alerts.engine.compiled import CompiledRule
from tapeline.alerts.intervals import truth_of
from tapeline.alerts.rule import Rule
from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.rule_expression import RuleExpressionError, parse_condition
from tapeline.core.rule_nodes import Crossing, Held, walk

if TYPE_CHECKING:
    import pandas as pd

Severity = Literal["error", "warning", "info"]
LOUD: Final = 24.0
"""Firings a day of one symbol from which on a rule is called loud."""
_WEEK: Final = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark: ``code`` for programs, ``message`` for people, ``position`` in the condition (-1: of the whole rule).

    An ``error`` is a rule that cannot do what it says, a ``warning`` one that hardly does what is meant.
    """

    code: str
    severity: Severity
    message: str
    position: int = -1


def lint_rule(
    rule: Rule,
    bars: Mapping[str, pd.DataFrame] | None = None,
    *,
    now: datetime | None = None,
    functions: Catalogue | None = None,
) -> list[Finding]:
    """What is wrong with a rule, errors first.

    Parameters
    ----------
    bars:
        A history by symbol, as of :func:`backtest_rule`: how often the rule would have fired is told from it.
    now:
        By which it may have expired; without it expiry is not looked at.

    Examples
    --------
    >>> rule = Rule(id="r", owner="me", condition="rsi(14) > 101", symbols=("BTCUSDT",), channels=("mail",))
    >>> [(finding.code, finding.message) for finding in lint_rule(rule)]
    [('never', 'the condition can never hold')]
    """
    known = functions or catalogue()
    found = _of_settings(rule, now)
    try:
        compiled = compile_rule(rule, known)
    except ConfigurationError as error:
        position = error.position if isinstance(error, RuleExpressionError) else -1
        code = "crossing_in_for" if _crossing_in_for(rule) else "condition"
        return _sorted([Finding(code, "error", str(error), position), *found])
    truth = truth_of(compiled, known)
    if truth is False:
        found.append(Finding("never", "error", "the condition can never hold"))
    elif truth is True:
        found.append(Finding("always", "error", "the condition holds always, whatever happens"))
    elif bars is not None:
        found.extend(_of_history(rule, compiled, bars, known))
    return _sorted(found)


def _of_settings(rule: Rule, now: datetime | None) -> list[Finding]:
    found = []
    if not rule.channels and not rule.dry_run:
        found.append(Finding("no_channel", "warning", "no channel is named: firings are stored and nobody is told"))
    if not rule.enabled:
        found.append(Finding("disabled", "info", "the rule is not enabled"))
    if now is not None and rule.expires_at is not None and rule.expires_at <= now:
        found.append(Finding("expired", "error", f"the rule expired at {rule.expires_at.isoformat()}"))
    if rule.quiet_hours and _all_week(rule, "quiet_hours") and rule.priority != "critical":
        found.append(Finding("always_quiet", "error", "the quiet hours cover the whole week"))
    if rule.sessions and rule.quiet_hours and _sessions_are_quiet(rule):
        found.append(Finding("always_quiet", "error", "the quiet hours cover all of the sessions"))
    if rule.id in rule.inhibited_by:
        found.append(Finding("inhibits_itself", "error", "the rule keeps itself quiet"))
    return found


def _minutes() -> list[datetime]:
    return [_WEEK + timedelta(minutes=minute) for minute in range(7 * 24 * 60)]


def _all_week(rule: Rule, name: str) -> bool:
    spans = getattr(rule, name)
    return all(any(span.holds(minute) for span in spans) for minute in _minutes())


def _sessions_are_quiet(rule: Rule) -> bool:
    if _all_week(rule, "quiet_hours"):
        return False
    return all(
        any(span.holds(minute) for span in rule.quiet_hours)
        for minute in _minutes()
        if any(span.holds(minute) for span in rule.sessions)
    )


def _crossing_in_for(rule: Rule) -> bool:
    try:
        tree = parse_condition(rule.condition)
    except RuleExpressionError:
        return False
    return any(
        isinstance(node, Held) and any(isinstance(part, Crossing) for part in walk(node.condition))
        for node in walk(tree)
    )


def _of_history(
    rule: Rule, compiled: CompiledRule, bars: Mapping[str, pd.DataFrame], known: Catalogue
) -> list[Finding]:
    found = []
    symbols = tuple(bars) if rule.symbols == ("*",) else rule.symbols
    missing = [symbol for symbol in symbols if symbol not in bars or bars[symbol].empty]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        found.append(Finding("no_history", "warning", f"there are no bars of {shown}"))
    there = {symbol: bars[symbol] for symbol in symbols if symbol not in missing}
    if not there:
        return found
    longest = max(there.values(), key=len)
    minutes = len(longest) * finest_timeframe(longest)
    for timeframe, needed in history_needed(compiled).items():
        if minutes // timeframe <= needed:
            found.append(
                Finding(
                    "warm_up",
                    "error",
                    f"it needs {needed} closed bars of {NAME_OF[timeframe]}, the history has {minutes // timeframe}",
                )
            )
    if any(finding.code == "warm_up" for finding in found):
        return found
    foreign = sorted(key for key in external_keys(compiled) if not key.startswith(("pattern", "divergence:")))
    if foreign:
        told = f"{', '.join(foreign)} comes from outside: what the history says is without it"
        return [*found, Finding("external", "info", told)]
    try:
        outcome = backtest_rule(rule, there, functions=known)
    except (ConfigurationError, DataError) as error:
        return [*found, Finding("history", "warning", str(error))]
    firings = len(outcome.firings)
    days = outcome.days * len(there)
    if not firings:
        found.append(Finding("silent", "info", f"it would not have fired in {outcome.days:.1f} days"))
    elif firings / max(days, 1.0) >= LOUD:
        often = firings / max(days, 1.0)
        found.append(Finding("loud", "warning", f"it would have fired {often:.0f} times a day and symbol"))
    return found


def _sorted(findings: list[Finding]) -> list[Finding]:
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(findings, key=lambda one: order[one.severity])


__all__ = ["LOUD", "Finding", "lint_rule"]
