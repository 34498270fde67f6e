"""Rules in a file: named conditions, and rules that enter, exit, veto and size by them; checked and compiled."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tapeline.core.errors import ConfigurationError
from tapeline.core.rule_expression import KEYWORDS, RuleExpressionError, parse_condition, parse_value
from tapeline.core.rule_nodes import CROSSINGS, Expression
from tapeline.core.set_file import read_set_file
from tapeline.core.symbol import parse_name
from tapeline.core.versions import code_digest, digest
from tapeline.strategy import rule_kernels as kernels
from tapeline.strategy.rule_kernels import Program, RuleTable
from tapeline.strategy.rule_program import FUNCTIONS, PRICES, RuleCompiler

ENGINE_MODULE: Final = "tapeline.strategy.rule_engine"
MOST_RULES: Final = 200
MOST_CONDITIONS: Final = 500
LARGEST_FILE: Final = 1_000_000
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ACTIONS: Final = ("long", "short", "exit", "veto", "size")
OPPOSITES: Final = ("reverse", "exit", "ignore")
_MASKS: Final = {"long": 1, "short": 2, "both": 3}
_IDENTIFIER: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SECOND: Final = 1_000_000_000
_DAY_SECONDS: Final = 86_400


def _identifier(name: str) -> str:
    if not _IDENTIFIER.fullmatch(name) or name in {*KEYWORDS, *CROSSINGS, *FUNCTIONS, *PRICES, "volume"}:
        raise ValueError("a name is a small letter, then small letters, digits and _, and no word of the language")
    return name


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{name}' is no time zone, as Europe/London is") from error
    return name


Identifier = Annotated[str, AfterValidator(_identifier)]


class Session(BaseModel):
    """Local hours of local days: from ``from`` (included) to ``to`` (excluded), over midnight unless ``to`` is later.

    Hours over midnight belong to the day on which they begin. The instant that counts is that of the decision, the
    bar's close.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    zone: Annotated[str, AfterValidator(_zone)]
    begin: time = Field(alias="from")
    end: time = Field(alias="to")
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = Field(DAYS[:5], min_length=1)

    def is_on(self, instants: pd.DatetimeIndex) -> NDArray[np.float64]:
        """1 where the session is on, else 0."""
        local = instants.tz_convert(ZoneInfo(self.zone)).tz_localize(None).as_unit("ns").asi8 // _SECOND
        second, day = local % _DAY_SECONDS, local // _DAY_SECONDS
        first, last = (one.hour * 3_600 + one.minute * 60 + one.second for one in (self.begin, self.end))
        inside = (second >= first) & (second < last)
        if last <= first:
            inside = (second >= first) | (second < last)
            day = np.where(second < last, day - 1, day)
        wanted = np.array([name in self.days for name in DAYS])
        return (inside & wanted[(day + 3) % 7]).astype(np.float64)


class Policy(BaseModel):
    """What rules do while a side is held.

    Parameters
    ----------
    again:
        Whether an entry of the side held decides anew: its size, its stop and its target.
    opposite:
        What an entry of the other side does: ``reverse``, ``exit`` (and no more), ``ignore``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    again: bool = False
    opposite: Literal["reverse", "exit", "ignore"] = "reverse"


class Rule(BaseModel):
    """One rule as it stands in the file.

    Parameters
    ----------
    action:
        ``long`` and ``short`` enter, ``exit`` closes, ``veto`` forbids entries, ``size`` multiplies their size.
    when:
        The condition.
    priority:
        Of the entries that hold the highest counts; exits and vetoes are asked in this order.
    side:
        Which side an exit, a veto or a size is for.
    size:
        Of an entry its units, else the factor.
    stop, take:
        The prices that protect an entry.
    cooldown:
        Bars after it acted in which an entry or an exit does not act again.
    session:
        The session in which alone the rule counts.
    unknown:
        What an unknown veto does: it blocks, or lets pass.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Identifier
    action: Literal["long", "short", "exit", "veto", "size"]
    when: str
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    side: Literal["long", "short", "both"] = "both"
    size: str | Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    stop: str | None = None
    take: str | None = None
    cooldown: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    session: str | None = None
    unknown: Literal["block", "pass"] = "block"

    @model_validator(mode="after")
    def _goes_together(self) -> Rule:
        entry = self.action in ("long", "short")
        if not entry and (self.stop is not None or self.take is not None):
            raise ValueError(f"'stop' and 'take' are of entries, the action is '{self.action}'")
        if self.action in ("exit", "veto") and self.size is not None:
            raise ValueError(f"'size' is of entries and of the action 'size', the action is '{self.action}'")
        if self.action == "size" and self.size is None:
            raise ValueError("the action 'size' needs 'size', the factor")
        if self.action in ("veto", "size") and self.cooldown:
            raise ValueError(f"'cooldown' is of entries and exits, the action is '{self.action}'")
        if entry and self.side != "both":
            raise ValueError("the side of an entry is its action")
        if self.action != "veto" and self.unknown != "block":
            raise ValueError("'unknown' is of vetoes: nothing else acts on what is unknown")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    description: str = ""
    policy: Policy = Policy()
    conditions: dict[Identifier, str] = Field(default_factory=dict, max_length=MOST_CONDITIONS)
    session: dict[Identifier, Session] = Field(default_factory=dict, max_length=50)
    rule: tuple[Rule, ...] = Field(min_length=1, max_length=MOST_RULES)


@dataclass(frozen=True)
class CompiledRule:
    """A rule with its expressions."""

    rule: Rule
    when: Expression
    amounts: Mapping[str, Expression]


@dataclass(frozen=True)
class RuleSet:
    """Rules that were checked and compiled.

    ``rules`` stand in the order in which they are asked: the highest priority first, equals as in the file.
    ``columns`` are those that the program reads, ``used`` those that must be supplied, with where they are first used.
    """

    name: str
    policy: Policy
    conditions: Mapping[str, Expression]
    sessions: Mapping[str, Session]
    rules: tuple[CompiledRule, ...]
    program: Program
    table: RuleTable
    columns: tuple[str, ...]
    used: Mapping[str, tuple[str, int]]
    registers: Mapping[Expression, int]
    memory: tuple[int, int]

    @cached_property
    def version(self) -> str:
        """``<name>@<digest>``: two sets share it only if rules, conditions, sessions, policy and code agree.

        Spaces, comments and the description of the file do not count.
        """
        return f"{self.name}@{digest(self.description)}"

    @cached_property
    def description(self) -> dict[str, Any]:
        """Everything that the version is the hash of, as plain values."""
        return {
            "policy": self.policy.model_dump(),
            "conditions": [[name, str(expression)] for name, expression in self.conditions.items()],
            "sessions": {name: session.model_dump(mode="json") for name, session in self.sessions.items()},
            "rules": [
                {
                    **compiled.rule.model_dump(exclude={"when", "size", "stop", "take"}),
                    "when": str(compiled.when),
                    **{name: str(expression) for name, expression in compiled.amounts.items()},
                }
                for compiled in self.rules
            ],
            "engine": code_digest(ENGINE_MODULE),
        }


def load_rules(source: Path | str) -> RuleSet:
    """Read rules.

    Parameters
    ----------
    source:
        A path to a TOML file, or the name of a packaged set: ``pullback``.

    Raises
    ------
    ConfigurationError
        The file is missing, too large or no TOML; a field is unknown or out of its bounds; two rules share a name; an
        expression cannot be read, with its place.

    Examples
    --------
    >>> rules = load_rules("pullback")
    >>> rules.name, [compiled.rule.name for compiled in rules.rules][:2]
    ('pullback', ['leave_on_turn', 'quiet_market'])
    """
    file = read_set_file(source, "tapeline.strategy", "rules")
    try:
        if len(file.text) > LARGEST_FILE:
            raise ConfigurationError(f"a file of {len(file.text)} characters is larger than {LARGEST_FILE}")
        return parse_rules(tomllib.loads(file.text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"rules {file.name} are not valid TOML: {error}") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"rules {file.name}: {error.message}", hint=error.hint) from error


def parse_rules(content: Mapping[str, Any]) -> RuleSet:
    """Check and compile the content of a rules file; see :func:`load_rules`.

    Examples
    --------
    >>> rules = parse_rules({"name": "mine", "rule": [{"name": "buy", "action": "long", "when": "rsi_14 < 30"}]})
    >>> list(rules.used)
    ['rsi_14']
    """
    try:
        file = _File.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"'{place}': {first['msg']}") from None
    names = [rule.name for rule in file.rule]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigurationError(f"two rules have the name '{repeated[0]}'")
    compiler = RuleCompiler(tuple(file.session))
    conditions: dict[str, Expression] = {}
    for name, text in file.conditions.items():
        with _Place(f"condition '{name}'"):
            conditions[name] = parse_condition(text)
            register = compiler.condition(conditions[name], text)
        compiler.conditions[name] = register
    ordered = sorted(file.rule, key=lambda rule: -rule.priority)
    compiled, rows = [], []
    for rule in ordered:
        made, row = _compiled(rule, compiler)
        compiled.append(made)
        rows.append(row)
    parts = [np.ascontiguousarray(part) for part in np.array(rows, dtype=np.int64).T]
    table = RuleTable._make([*parts, file.policy.again, OPPOSITES.index(file.policy.opposite)])
    return RuleSet(
        parse_name(file.name, "rules"),
        file.policy,
        conditions,
        file.session,
        tuple(compiled),
        compiler.program(),
        table,
        tuple(compiler.columns),
        compiler.used,
        compiler.registers,
        (compiler.numbers, compiler.instants),
    )


class _Place:
    """Names the rule or condition in errors about its expressions."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, RuleExpressionError):
            reason = f"{self.name}: {error.reason}"
            raise RuleExpressionError(reason, error.text, error.position, hint=error.hint) from None


def _compiled(rule: Rule, compiler: RuleCompiler) -> tuple[CompiledRule, tuple[int, ...]]:
    with _Place(f"rule '{rule.name}', when"):
        when = parse_condition(rule.when)
        condition = compiler.condition(when, rule.when)
    values: dict[str, Expression] = {}
    places = dict.fromkeys(("size", "stop", "take"), -1)
    for name in places:
        text = getattr(rule, name)
        if text is None:
            continue
        text = str(text)
        with _Place(f"rule '{rule.name}', {name}"):
            values[name] = parse_value(text)
            places[name] = compiler.value(values[name], text)
    session = -1
    if rule.session is not None:
        if rule.session not in compiler.sessions:
            raise ConfigurationError(
                f"rule '{rule.name}': there is no session '{rule.session}'",
                hint=f"declare it as [session.{rule.session}]",
            )
        session = compiler.session_column(rule.session)
    action = ACTIONS.index(rule.action)
    mask = {kernels.ENTER_LONG: 1, kernels.ENTER_SHORT: 2}.get(action, _MASKS[rule.side])
    row = (action, mask, rule.priority, condition, *places.values(), rule.cooldown, session, rule.unknown == "pass")
    return CompiledRule(rule, when, values), row
