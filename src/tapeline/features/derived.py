"""Derived features: formulas over other features, declared in a feature set and computed by the same code everywhere.

All formulas of one unit that follow each other are one component: it computes the features that they read, and then
the formulas, so that history, the live tail and a panel of symbols treat it as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, NoReturn

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import Component, Tolerance
from tapeline.core.schemas import OHLCV, PRICES
from tapeline.core.versions import code_digest, digest
from tapeline.features.formula import (
    COLUMN_NAME,
    Column,
    Degrees,
    Expression,
    degrees_of,
    evaluate,
    lookback_of,
    names_in,
    parse_formula,
    replace_columns,
)

LAG_FORMULAS: Final = {
    "lag": "lag({column}, {bars})",
    "difference": "difference({column}, {bars})",
    "ratio": "ratio({column}, {bars})",
}
"""What each kind of a ``[[lag]]`` entry means; the column is called ``<column>_<kind>_<bars>``."""

BAR_DEGREES: Final[Mapping[str, Degrees]] = {**dict.fromkeys(PRICES, (1, 0)), "volume": (0, 1)}
REFERENCE: Final = "Kakushadze, Wilmott 84 (2016), 101 Formulaic Alphas: features written as formulas"


@dataclass(frozen=True)
class Feature:
    """One entry of a feature set: a component with all of its parameters; ``origin`` is its name in the file."""

    component: Component
    parameters: Mapping[str, Any]
    origin: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it writes."""
        return tuple(self.component.output_names(**self.parameters))

    @property
    def lookback(self) -> int:
        """The bars, the current one included, that decide its current value."""
        return self.component.lookback_of(**self.parameters)

    @property
    def requires(self) -> tuple[str, ...]:
        """The columns it reads beyond open, high, low, close and volume."""
        return tuple(self.component.required_columns(**self.parameters))

    @property
    def description(self) -> list[dict[str, Any]]:
        """What its version is the hash of, as plain values."""
        return [
            {
                "component": self.component.name,
                "parameters": dict(self.parameters),
                "columns": list(self.columns),
                "code": code_digest(self.component.function),
            }
        ]


@dataclass(frozen=True)
class DerivedFeature(Feature):
    """Formulas of one unit: ``formulas`` by column, in order, and the features that they read."""

    formulas: Mapping[str, Expression] | None = None
    sources: tuple[Feature, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # Its component belongs to no module where another process could find it: it is made anew there.
        return _group, (self.formulas, self.component.scale, self.sources, self.component.requires)

    @property
    def description(self) -> list[dict[str, Any]]:
        """One entry a formula; its code is that of the language and of every feature it reads."""
        by_column = {column: source for source in self.sources for column in source.columns}
        entries = []
        for name, formula in (self.formulas or {}).items():
            read = {
                column: {
                    "component": by_column[column].component.name,
                    "parameters": dict(by_column[column].parameters),
                    "code": code_digest(by_column[column].component.function),
                }
                for column in names_in(formula)
                if column in by_column
            }
            entries.append(
                {
                    "component": "formula",
                    "parameters": {"formula": str(formula)},
                    "columns": [name],
                    "code": digest([code_digest(evaluate), read]),
                }
            )
        return entries


@dataclass(frozen=True)
class Declared:
    """A formula as a set declares it: the column that it writes and its text."""

    name: str
    formula: str


def lag_formulas(columns: Iterable[str], lags: Iterable[int], kinds: Iterable[str]) -> list[Declared]:
    """The formulas that a ``[[lag]]`` entry stands for, by column, then kind, then lag.

    Examples
    --------
    >>> [one.name for one in lag_formulas(["rsi_14"], [1, 4], ["lag", "ratio"])]
    ['rsi_14_lag_1', 'rsi_14_lag_4', 'rsi_14_ratio_1', 'rsi_14_ratio_4']
    """
    return [
        Declared(f"{column}_{kind}_{bars}", LAG_FORMULAS[kind].format(column=column, bars=bars))
        for column in columns
        for kind in kinds
        for bars in lags
    ]


def derive(
    declared: Sequence[Declared], features: Sequence[Feature], *, context_columns: Iterable[str] = ()
) -> tuple[DerivedFeature, ...]:
    """Build the features that formulas declare.

    Parameters
    ----------
    declared:
        In order; a formula may read the columns of ``features``, of the bars, of contexts, and of formulas before it.
    features:
        What formulas may read, whether the set writes their columns or not.
    context_columns:
        The joined columns of the set's contexts.

    Returns
    -------
    Features in the order declared; formulas of one unit that follow each other share one.

    Raises
    ------
    ConfigurationError
        A formula does not parse, reads a column that is not there, mixes units, or has the name of another column.

    Examples
    --------
    >>> from tapeline.core.example import example_bars
    >>> (one,) = derive([Declared("body", "(close - open) / (high - low)")], [])
    >>> one.component.compute(example_bars(10, 12))["body"].tolist()
    [0.0, 0.5]
    """
    by_column = {column: feature for feature in features for column in feature.columns}
    bars = {**BAR_DEGREES, **dict.fromkeys(context_columns, (0, 0))}
    expressions: dict[str, Expression] = {}
    for one in declared:
        if not COLUMN_NAME.fullmatch(one.name) or one.name in bars or one.name in expressions:
            raise ConfigurationError(
                f"a formula cannot be called '{one.name}'",
                hint="letters, digits, dots and underscores; no column of the bars and no formula before it",
            )
        parsed = parse_formula(one.formula)
        if one.name in by_column and parsed != Column(one.name):
            raise ConfigurationError(
                f"the formula '{one.name}' has the name of a column of {by_column[one.name].component.name}",
                hint="give it another name",
            )
        readable = [*by_column, *expressions, *bars]
        for name in names_in(parsed):
            if name not in readable:
                _refuse_unknown(one, name, readable)
        expressions[one.name] = replace_columns(parsed, expressions)
    degrees = {**bars, **{column: feature.component.scale for column, feature in by_column.items()}}
    units = {}
    for name, expression in expressions.items():
        try:
            units[name] = degrees_of(expression, degrees)
        except ConfigurationError as error:
            raise ConfigurationError(f"the formula '{name}': {error.message}", hint=error.hint) from None
    groups = []
    for unit, names in groupby(expressions, key=units.__getitem__):
        formulas = {name: expressions[name] for name in names}
        read = {name for formula in formulas.values() for name in names_in(formula)}
        sources = [feature for feature in features if read.intersection(feature.columns)]
        groups.append(_group(formulas, unit, tuple(sources), tuple(context_columns)))
    return tuple(groups)


def _group(
    formulas: Mapping[str, Expression], unit: Degrees, sources: tuple[Feature, ...], context: tuple[str, ...]
) -> DerivedFeature:
    by_column = {column: source for source in sources for column in source.columns}
    read = list(dict.fromkeys(name for formula in formulas.values() for name in names_in(formula)))
    lookbacks = {name: by_column[name].lookback if name in by_column else 1 for name in read}
    required = [name for name in read if name in context and name not in by_column]
    component = Component(
        kind="feature",
        name="formula",
        function=_Computation(formulas, sources, read).compute,
        lookback=max(lookback_of(formula, lookbacks) for formula in formulas.values()),
        outputs=tuple(formulas),
        reference=REFERENCE,
        requires=tuple(dict.fromkeys([*required, *(name for source in sources for name in source.requires)])),
        tolerance=Tolerance(
            max([1e-9, *(source.component.tolerance.relative for source in sources)]),
            max([1e-9, *(source.component.tolerance.absolute for source in sources)]),
        ),
        delay=max([0.0, *(source.component.delay_of(**source.parameters) for source in sources)]),
        scale=unit,
        stackable=all(source.component.stackable for source in sources),
    )
    return DerivedFeature(component, {}, "", formulas, sources)


class _Computation:
    """From bars to formulas; an object and not a closure, so that it travels to another process."""

    def __init__(self, formulas: Mapping[str, Expression], sources: Sequence[Feature], read: Sequence[str]) -> None:
        self.formulas, self.sources, self.read = dict(formulas), tuple(sources), tuple(read)

    def compute(self, bars: pd.DataFrame) -> pd.DataFrame:
        """The formulas' columns on the bars' index."""
        columns = {"": np.empty(len(bars))}
        for source in self.sources:
            result = source.component.compute(bars, **source.parameters)
            columns |= {name: _array(result, name) for name in result.columns if name in self.read}
        columns |= {name: _array(bars, name) for name in self.read if name not in columns}
        return pd.DataFrame(
            {name: evaluate(formula, columns) for name, formula in self.formulas.items()}, index=bars.index
        )


def _array(table: pd.DataFrame, name: str) -> np.ndarray:
    return np.ascontiguousarray(table[name].to_numpy(dtype=np.float64))


def _refuse_unknown(one: Declared, name: str, readable: Sequence[str]) -> NoReturn:
    from difflib import get_close_matches

    near = get_close_matches(name, readable, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"declare it as a feature, or read {', '.join(OHLCV)}"
    raise ConfigurationError(f"the formula '{one.name}' reads '{name}', which is not there", hint=hint)
