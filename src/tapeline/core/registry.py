"""The component registry: what a feature, a pattern or a label declares about itself.

``@feature``, ``@pattern`` and ``@label`` do not change a function: they attach a ``Component`` to it. A catalog is
made by looking through packages for such functions, so there is no global state, and importing a module is harmless.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from types import ModuleType
from typing import Any, Final, Literal, TypeVar, get_type_hints

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from tapeline.core.errors import ConfigurationError, DataError

Kind = Literal["feature", "pattern", "label"]
Lookback = int | Callable[..., int]
Delay = float | Callable[..., float]
Function = TypeVar("Function", bound=Callable[..., Any])

COMPONENT_PACKAGES: Final = ("tapeline.cleaning", "tapeline.features", "tapeline.charts", "tapeline.labels")
_ATTRIBUTE: Final = "__tapeline_component__"
_RESEARCH: Final = "__tapeline_research__"


@dataclass(frozen=True)
class Tolerance:
    """How far the last row on the tail may lie from the last row ``b`` on all history.

    The bound is ``absolute + relative * |b|``.
    Zero for what is computed from a window; a recursive filter states the weight of what lies beyond its lookback.
    """

    relative: float = 1e-9
    absolute: float = 1e-9


@dataclass(frozen=True)
class Component:
    """One registered function with what it declares.

    Parameters
    ----------
    kind:
        ``feature``: bars -> Series or frame on the same index. ``pattern``: bars -> events frame.
        ``label``: bars -> labels frame with ``value`` and ``t_end``.
    lookback:
        How many bars, the current one included, decide the current value; a function of the parameters.
    outputs:
        Column names as templates over the parameters, such as ``rsi_{window}``.
    requires:
        The bar columns the function reads beyond ``open high low close volume``, such as ``close_ts`` or ``spread``;
        templates over the parameters, as ``outputs`` are (``{column}``).
    reference:
        Where the definition stands.
    delay:
        By how many bars the output follows its input under these parameters: the group delay of a filter at low
        frequencies, the bars a finding waits for its confirmation. 0 where the current value speaks of the current bar.
    scale:
        The degrees in price and in volume: where all prices are a times and all volumes b times as large, the output
        is ``a ** scale[0] * b ** scale[1]`` times as large. (0, 0), a number without unit, is what models should see.
    stackable:
        Whether it takes several symbols' bars one behind the other, times falling back between them, and still gives
        each symbol's last row by itself: what makes the newest bar of many symbols cheap.
    """

    kind: Kind
    name: str
    function: Callable[..., Any]
    lookback: Lookback
    outputs: tuple[str, ...]
    reference: str
    requires: tuple[str, ...] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    delay: Delay = 0
    scale: tuple[int, int] = (0, 0)
    stackable: bool = True

    def __reduce__(self) -> tuple[Any, ...]:
        # Its lambdas cannot travel to another process, its name can.
        return _component_at, (self.function.__module__, self.function.__name__)

    @property
    def defaults(self) -> dict[str, Any]:
        """Every parameter after the bars, with its default."""
        parameters = list(inspect.signature(self.function).parameters.values())[1:]
        return {p.name: p.default for p in parameters}

    def parameters(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The full parameters of a call, each held against its annotation.

        An unknown or a missing parameter, or a value that its annotation refuses (``Annotated[int, Ge(2)]``, a
        ``Literal``), raises ConfigurationError.
        """
        defaults = self.defaults
        for name in given or {}:
            if name not in defaults:
                near = get_close_matches(name, defaults, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"it takes {', '.join(defaults) or 'none'}"
                raise ConfigurationError(f"{self.name} has no parameter '{name}'", hint=hint)
        full = {**defaults, **(given or {})}
        missing = [name for name, value in full.items() if value is inspect.Parameter.empty]
        if missing:
            raise ConfigurationError(f"{self.name} needs the parameters {missing}")
        adapters = _adapters(self.function)
        return {name: self._checked(name, value, adapters.get(name)) for name, value in full.items()}

    def _checked(self, name: str, value: Any, adapter: TypeAdapter[Any] | None) -> Any:
        if adapter is None:
            return value
        try:
            # Strict, so that neither "14" nor True becomes a window; an integer still counts as a float.
            return adapter.validate_python(value, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ConfigurationError(f"{self.name}: {name} = {value!r} is refused", hint=reason) from None

    def lookback_of(self, **given: Any) -> int:
        """The lookback in bars under these parameters."""
        full = self.parameters(given)
        if isinstance(self.lookback, int):
            return self.lookback
        wanted = inspect.signature(self.lookback).parameters
        return int(self.lookback(**{name: value for name, value in full.items() if name in wanted}))

    def delay_of(self, **given: Any) -> float:
        """The delay in bars under these parameters."""
        if not callable(self.delay):
            return float(self.delay)
        full = self.parameters(given)
        wanted = inspect.signature(self.delay).parameters
        return float(self.delay(**{name: value for name, value in full.items() if name in wanted}))

    def output_names(self, **given: Any) -> list[str]:
        """The column names under these parameters."""
        full = self.parameters(given)
        return [template.format(**full) for template in self.outputs]

    def required_columns(self, **given: Any) -> list[str]:
        """The bar columns beyond ``open high low close volume`` that it reads under these parameters."""
        full = self.parameters(given)
        return [template.format(**full) for template in self.requires]

    def compute(self, bars: pd.DataFrame, **given: Any) -> pd.DataFrame:
        """Run the function and hold its result against what it declares.

        Features come back as a frame with exactly the declared columns on the bars' own index; a result of another
        shape raises DataError, a missing input column ConfigurationError.
        """
        full = self.parameters(given)
        absent = [name for name in self.required_columns(**given) if name not in bars.columns]
        if absent:
            raise ConfigurationError(f"{self.name} needs the columns {absent}, which these bars lack")
        result = self.function(bars, **full)
        if self.kind != "feature":
            return result
        names = self.output_names(**given)
        frame = result.to_frame(names[0]) if isinstance(result, pd.Series) else result
        if list(frame.columns) != names:
            raise DataError(f"{self.name} returned the columns {list(frame.columns)}, declared are {names}")
        if not frame.index.equals(bars.index):
            raise DataError(f"{self.name} returned {len(frame)} rows on another index than its {len(bars)} bars")
        return frame

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


class Catalog(Mapping[str, Component]):
    """Components by name, found in packages; names are unique.

    Examples
    --------
    >>> catalog = Catalog.discover()
    >>> "no such thing" in catalog
    False
    """

    def __init__(self, components: Iterable[Component]) -> None:
        self._components: dict[str, Component] = {}
        for component in components:
            known = self._components.setdefault(component.name, component)
            if known.function is not component.function:
                raise ConfigurationError(
                    f"two components are called '{component.name}': {known.function.__module__} and "
                    f"{component.function.__module__}",
                    hint="rename one",
                )

    @classmethod
    def discover(cls, packages: Iterable[str] = COMPONENT_PACKAGES) -> Catalog:
        """Import every module of these packages and collect what they registered."""
        return cls(
            component for package in packages for module in _modules(package) for component in registered(module)
        )

    def __getitem__(self, name: str) -> Component:
        try:
            return self._components[name]
        except KeyError:
            near = get_close_matches(name, self._components, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else "'tapeline catalog' lists them"
            raise ConfigurationError(f"no component is called '{name}'", hint=hint) from None

    def __contains__(self, name: object) -> bool:
        return name in self._components

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._components))

    def __len__(self) -> int:
        return len(self._components)

    def of_kind(self, kind: Kind) -> list[Component]:
        """The components of one kind, by name."""
        return [self[name] for name in self if self[name].kind == kind]


def feature(
    *,
    lookback: Lookback,
    outputs: str | Iterable[str],
    reference: str,
    requires: Iterable[str] = (),
    tolerance: Tolerance | None = None,
    delay: Delay = 0,
    scale: tuple[int, int] = (0, 0),
    stackable: bool = True,
) -> Callable[[Function], Function]:
    """Register a per-bar feature: a function of the bars that gives a Series or a frame on their index.

    A function marked with :func:`research` is refused.
    """
    return _register("feature", lookback, outputs, reference, requires, tolerance, delay, scale, stackable)


def research(function: Function) -> Function:
    """Mark a transform that reads the whole series, the future included: for research and pictures only.

    Its name ends in ``_whole``, so that no reader takes it for the causal form, and the registry refuses it.

    Examples
    --------
    >>> @research
    ... def detrended_whole(bars): ...
    >>> feature(lookback=1, outputs="x", reference="none")(detrended_whole)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tapeline.core.errors.ConfigurationError: detrended_whole reads ... as a feature (register the causal form)
    """
    if not function.__name__.endswith("_whole"):
        raise ConfigurationError(
            f"{function.__name__} reads the whole series, its name must say so", hint="let the name end in '_whole'"
        )
    setattr(function, _RESEARCH, True)
    return function


def pattern(
    *, lookback: Lookback, reference: str, requires: Iterable[str] = (), tolerance: Tolerance | None = None
) -> Callable[[Function], Function]:
    """Register a detector: a function of the bars that gives rows of the events schema."""
    return _register("pattern", lookback, (), reference, requires, tolerance)


def label(
    *, lookback: Lookback, reference: str, requires: Iterable[str] = (), tolerance: Tolerance | None = None
) -> Callable[[Function], Function]:
    """Register a label: a function of the bars that gives ``value``, ``t_end``, ``outcome`` for each labelled bar.

    Its ``lookback`` counts the bars before the labelled one that it reads; what it reads after it ends at ``t_end``.
    """
    return _register("label", lookback, (), reference, requires, tolerance)


def component_of(function: Callable[..., Any]) -> Component:
    """The component that a decorated function carries; ConfigurationError where it carries none."""
    try:
        return getattr(function, _ATTRIBUTE)
    except AttributeError:
        raise ConfigurationError(
            f"{function.__module__}.{function.__qualname__} is not a registered component",
            hint="decorate it with @feature, @pattern or @label from tapeline.core.registry",
        ) from None


def registered(module: ModuleType) -> list[Component]:
    """Every component that a module defines itself (not what it imports)."""
    found = (getattr(value, _ATTRIBUTE, None) for value in vars(module).values() if callable(value))
    return [c for c in found if isinstance(c, Component) and c.function.__module__ == module.__name__]


def _component_at(module: str, name: str) -> Component:
    return component_of(getattr(importlib.import_module(module), name))


def _register(
    kind: Kind,
    lookback: Lookback,
    outputs: str | Iterable[str],
    reference: str,
    requires: Iterable[str],
    tolerance: Tolerance | None,
    delay: Delay = 0,
    scale: tuple[int, int] = (0, 0),
    stackable: bool = True,
) -> Callable[[Function], Function]:
    def attach(function: Function) -> Function:
        if getattr(inspect.unwrap(function), _RESEARCH, False):
            raise ConfigurationError(
                f"{function.__name__} reads the future: it cannot be registered as a {kind}",
                hint="register the causal form",
            )
        component = Component(
            kind=kind,
            name=function.__name__,
            function=function,
            lookback=lookback,
            outputs=(outputs,) if isinstance(outputs, str) else tuple(outputs),
            reference=reference,
            requires=tuple(requires),
            tolerance=tolerance or Tolerance(),
            delay=delay,
            scale=scale,
            stackable=stackable,
        )
        setattr(function, _ATTRIBUTE, component)
        return function

    return attach


@lru_cache(maxsize=1024)
def _adapters(function: Callable[..., Any]) -> dict[str, TypeAdapter[Any]]:
    """What checks each annotated parameter after the bars; reading the hints is slow enough to do it once."""
    hints = get_type_hints(function, include_extras=True)
    names = list(inspect.signature(function).parameters)[1:]
    return {name: TypeAdapter(hints[name]) for name in names if name in hints}


def _modules(package: str) -> Iterator[ModuleType]:
    root = importlib.import_module(package)
    yield root
    for info in pkgutil.walk_packages(getattr(root, "__path__", []), prefix=f"{package}."):
        yield importlib.import_module(info.name)
