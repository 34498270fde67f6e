"""What conditions may name: functions that the modules of :mod:`tapeline.alerts.kinds` declare, found by listing them.

A new type of alert is one file in that package with ``FUNCTIONS``, a mapping of names to :class:`Function`. A type that
brings series of its own may declare as well ``RANGES``, the bounds of their values by the beginning of their keys, and
``from_history(keys, symbol, bars_of)``, the records of those of the keys that bars tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from tapeline.alerts.engine.layout import LONGEST, TIMEFRAMES
from tapeline.alerts.operands import Combined, Operand, Truth
from tapeline.core.errors import ConfigurationError

PACKAGE: Final = "tapeline.alerts.kinds"
STATES: Final = ("forming", "closed")
NAME_OF: Final[Mapping[int, str]] = MappingProxyType({length: name for name, length in TIMEFRAMES.items()})
"""Timeframes by their nanoseconds."""

ParameterType = Literal["bars", "number", "reading", "timeframe", "state", "choice", "text"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a function takes.

    Parameters
    ----------
    name, description:
        As people read it.
    type:
        ``bars``: a whole number; ``number``; ``reading``: a value or a number; ``timeframe``: a name such as ``"1h"``;
        ``state``: ``"forming"`` or ``"closed"``; ``choice``: one of ``choices``; ``text``.
    default:
        None: it must be given (a timeframe: the rule's own).
    low, high:
        Bounds of a number, both included.
    """

    name: str
    type: ParameterType
    default: float | str | None = None
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    description: str = ""

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is None and self.type not in ("timeframe", "state")

    def checked(self, value: Any) -> Any:
        """The value as the builder takes it.

        Raises
        ------
        ConfigurationError
            It is of another type, or out of bounds.
        """
        if self.type in ("bars", "number"):
            if not isinstance(value, float):
                raise ConfigurationError(f"{self.name} must be a number, not a value that changes")
            if self.type == "bars" and not value.is_integer():
                raise ConfigurationError(f"{self.name} = {value:g} must be a whole number of bars")
            if not self.low <= value <= self.high:
                raise ConfigurationError(f"{self.name} = {value:g} is not from {self.low:g} to {self.high:g}")
            return int(value) if self.type == "bars" else value
        if self.type == "reading":
            return value
        if not isinstance(value, str):
            raise ConfigurationError(f'{self.name} must be a text such as "{(self.choices or ("1h",))[0]}"')
        if self.type in ("choice", "state", "timeframe"):
            known = self.choices or (STATES if self.type == "state" else tuple(TIMEFRAMES))
            if value not in known:
                near = get_close_matches(value, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known[:12])}"
                raise ConfigurationError(f"{self.name} = {value!r} is unknown", hint=hint)
        return TIMEFRAMES[value] if self.type == "timeframe" else value


class Context(NamedTuple):
    """What a builder knows of the rule: its timeframe in nanoseconds, the id that its extremes belong to, its owner."""

    timeframe: int
    rule: str
    owner: str = ""


Built = Operand | Truth | tuple[Truth, ...]
"""A value, or conditions, all of which must hold."""


@dataclass(frozen=True, slots=True)
class Function:
    """A name of the rule language.

    Parameters
    ----------
    name, description, example:
        As people read it; the example is a condition that compiles.
    parameters:
        In the order in which they are written. Timeframe and state may stand wherever a text may.
    build:
        (arguments by name, context) -> value or conditions. Arguments are checked; a timeframe is nanoseconds.
    event:
        Whether it holds only for the record that brings it.
    kind:
        The module's name: filled in by the catalogue.
    """

    name: str
    parameters: tuple[Parameter, ...]
    build: Callable[[Mapping[str, Any], Context], Built]
    description: str
    example: str
    event: bool = False
    kind: str = ""

    @property
    def signature(self) -> str:
        """As documentation writes it."""
        return f"{self.name}({', '.join(_written(one) for one in self.parameters)})"


@dataclass(frozen=True)
class Catalogue(Mapping[str, Function]):
    """Functions by name.

    Raises
    ------
    ConfigurationError
        Two modules declare one name.
    """

    functions: Mapping[str, Function]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    histories: tuple[Callable[..., list[Any]], ...] = ()

    def __getitem__(self, name: str) -> Function:
        return self.functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.functions)

    def __len__(self) -> int:
        return len(self.functions)

    def __hash__(self) -> int:
        return id(self)

    def range_of(self, key: str) -> tuple[float, float]:
        """The bounds of an external series' values, by its key."""
        fitting = [begin for begin in self.ranges if key.startswith(begin)]
        return self.ranges[max(fitting, key=len)] if fitting else (-math.inf, math.inf)


@cache
def catalogue() -> Catalogue:
    """All functions of the package's modules.

    Examples
    --------
    >>> catalogue()["rsi"].signature
    'rsi(bars=14, timeframe, state=forming)'
    """
    package = import_module(PACKAGE)
    return _gathered({name: import_module(f"{PACKAGE}.{name}") for _, name, _ in iter_modules(package.__path__)})


def _gathered(modules: Mapping[str, Any]) -> Catalogue:
    functions: dict[str, Function] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for kind in sorted(modules):
        for name, function in modules[kind].FUNCTIONS.items():
            if name in functions:
                raise ConfigurationError(f"'{name}' is declared by kinds/{functions[name].kind}.py and kinds/{kind}.py")
            functions[name] = Function(
                name, function.parameters, function.build, function.description, function.example, function.event, kind
            )
        ranges.update(getattr(modules[kind], "RANGES", {}))
    told = tuple(one.from_history for one in modules.values() if hasattr(one, "from_history"))
    return Catalogue(MappingProxyType(functions), MappingProxyType(ranges), told)


def bars_parameter(default: int | None = None, low: int = 1, name: str = "bars") -> Parameter:
    """A window's length."""
    return Parameter(name, "bars", None if default is None else float(default), low, LONGEST)


TIMEFRAME: Final = Parameter("timeframe", "timeframe", description="of the bars; the rule's own where absent")
STATE: Final = Parameter("state", "state", "forming", description="the bar under way, or the last closed one")


def declared(*functions: Function) -> Mapping[str, Function]:
    """Functions by their names, as a module declares them."""
    return MappingProxyType({function.name: function for function in functions})


def _written(parameter: Parameter) -> str:
    if parameter.default is None:
        return parameter.name
    value = f"{parameter.default:g}" if isinstance(parameter.default, float) else parameter.default
    return f"{parameter.name}={value}"


__all__ = ["Built", "Catalogue", "Combined", "Context", "Function", "Parameter", "catalogue", "declared"]
