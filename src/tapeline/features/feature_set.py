"""Feature sets: a TOML file that names components and parameters, and the version that follows from them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import Catalog
from tapeline.core.set_file import read_set_file
from tapeline.core.symbol import Symbol, parse_name
from tapeline.core.timeframe import Timeframe
from tapeline.core.user_code import load_user_component
from tapeline.core.versions import code_digest, digest
from tapeline.features.derived import Declared, Feature, derive, lag_formulas

__all__ = ["Context", "Feature", "FeatureSet", "diff", "load_feature_set", "parse_feature_set"]

DEFAULT_SET: Final = "core"
ENGINE_MODULE: Final = "tapeline.features.engine"


@dataclass(frozen=True)
class Context:
    """Another instrument or timeframe whose columns are joined as of each bar's close, as ``<prefix>_<column>``.

    ``tolerance`` is the greatest age of a value that may still be used. Without ``optional``, computing the set
    without this context is an error; with it, the columns are NaN.
    """

    prefix: str
    symbol: Symbol
    timeframe: Timeframe
    columns: tuple[str, ...]
    tolerance: timedelta
    optional: bool

    @property
    def joined_columns(self) -> tuple[str, ...]:
        """The names under which its columns stand beside the bars'."""
        return tuple(f"{self.prefix}_{column}" for column in self.columns)


@dataclass(frozen=True)
class FeatureSet:
    """What to compute, in which order, and the version of all of it.

    Two sets have the same version only if name, components, parameters, columns, contexts, and the code that computes
    them agree; see :func:`tapeline.core.versions.code_digest` for what counts as code.
    """

    name: str
    features: tuple[Feature, ...]
    context: Mapping[str, Context]

    @cached_property
    def version(self) -> str:
        """``<name>@<digest>``: what a model states that it was trained on."""
        return f"{self.name}@{digest(self.description)}"

    @cached_property
    def description(self) -> dict[str, Any]:
        """Everything that the version is the hash of, as plain values."""
        return {
            "features": [entry for feature in self.features for entry in feature.description],
            "context": {
                prefix: {
                    "symbol": str(context.symbol),
                    "timeframe": context.timeframe.name,
                    "columns": list(context.columns),
                    "tolerance_seconds": context.tolerance.total_seconds(),
                    "optional": context.optional,
                }
                for prefix, context in self.context.items()
            },
            "schema": {"dtype": "float32", "columns": list(self.columns)},
            "engine": code_digest(ENGINE_MODULE),
        }

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The feature columns, in the order in which a model sees them."""
        return tuple(column for feature in self.features for column in feature.columns)

    @cached_property
    def lookback(self) -> int:
        """The bars, the current one included, that decide the last row."""
        return max(feature.lookback for feature in self.features)


class _FeatureEntry(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    component: str


class _ContextEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    symbol: str
    timeframe: str
    columns: tuple[Literal["open", "high", "low", "close", "volume"], ...] = Field(("close",), min_length=1)
    tolerance_days: float = Field(7.0, gt=0, le=3650)
    optional: bool = False


class _FormulaEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    formula: str


class _LagEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    columns: tuple[str, ...] = Field(min_length=1)
    lags: tuple[int, ...] = Field(min_length=1)
    kinds: tuple[Literal["lag", "difference", "ratio"], ...] = Field(("lag",), min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    description: str = ""
    feature: tuple[_FeatureEntry, ...]
    source: tuple[_FeatureEntry, ...] = ()
    derived: tuple[_FormulaEntry, ...] = ()
    lag: tuple[_LagEntry, ...] = ()
    context: dict[str, _ContextEntry] = {}
    provenance: dict[str, Any] = {}


def load_feature_set(source: Path | str | None = None, *, catalog: Catalog | None = None) -> FeatureSet:
    """Read a feature set.

    Parameters
    ----------
    source:
        A path to a TOML file, or the name of a packaged set; None is the packaged ``core`` set. A component in it is
        a name in the catalog, or a function of the user's own as ``package.module:function`` or
        ``folder/file.py:function`` (relative to the set's folder): reading a set runs such a file, so read only sets
        whose author you trust with that. Beside ``[[feature]]`` it may hold ``[[source]]`` entries, features that only
        formulas read, ``[[derived]]`` ones (``name``, ``formula``; see :func:`tapeline.features.formula.parse_formula`)
        and ``[[lag]]`` ones (``columns``, ``lags``, ``kinds``: ``lag``, ``difference``, ``ratio``) of any of them. The
        columns stand in this order: features, formulas, lags.
    catalog:
        The components to choose from; all of Tapeline's features where absent.

    Raises
    ------
    ConfigurationError
        The file is missing or does not parse; an unknown component or parameter; a value out of its bounds; a column
        that two features would write; a component that needs a context column which no context supplies.

    Examples
    --------
    >>> core = load_feature_set()
    >>> core.name, core.columns[0]
    ('core', 'log_return_1')
    """
    file = read_set_file(DEFAULT_SET if source is None else source, "tapeline.features", "feature set")
    try:
        return parse_feature_set(tomllib.loads(file.text), catalog=catalog, folder=file.folder)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"feature set {file.name} is not valid TOML: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"feature set {file.name}: {error.message}", hint=error.hint) from error


def parse_feature_set(
    content: Mapping[str, Any], *, catalog: Catalog | None = None, folder: Path | None = None
) -> FeatureSet:
    """Check the content of a feature set file; see :func:`load_feature_set`.

    Examples
    --------
    >>> parse_feature_set({"name": "mine", "feature": [{"component": "rsi", "window": 7}]}).columns
    ('rsi_7',)
    """
    try:
        file = _File.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"'{place}': {first['msg']}") from None
    if catalog is None:
        catalog = Catalog.discover(["tapeline.features"])
    features = tuple(_feature(entry, catalog, folder) for entry in file.feature)
    sources = tuple(_feature(entry, catalog, folder) for entry in file.source)
    context = {prefix: _context(prefix, entry) for prefix, entry in file.context.items()}
    declared = [Declared(entry.name, entry.formula) for entry in file.derived]
    declared += [one for entry in file.lag for one in lag_formulas(entry.columns, entry.lags, entry.kinds)]
    joined = [column for one in context.values() for column in one.joined_columns]
    derived = derive(declared, [*features, *sources], context_columns=joined) if declared else ()
    if not (features or derived):
        raise ConfigurationError("a feature set needs at least 1 item in 'feature', 'derived' or 'lag'")
    parsed = FeatureSet(parse_name(file.name, "feature set"), (*features, *derived), context)
    _refuse_duplicates(parsed)
    _refuse_unmet(parsed)
    return parsed


def diff(old: FeatureSet, new: FeatureSet) -> list[str]:
    """What lies between two feature sets, a line a difference; empty where their versions agree.

    Examples
    --------
    >>> a = parse_feature_set({"name": "mine", "feature": [{"component": "rsi"}]})
    >>> b = parse_feature_set({"name": "mine", "feature": [{"component": "rsi", "window": 7}]})
    >>> diff(a, b)
    ['- rsi(window=14) -> rsi_14', '+ rsi(window=7) -> rsi_7']
    """
    lines = [] if old.name == new.name else [f"name: {old.name} -> {new.name}"]
    before, after = _by_call(old), _by_call(new)
    lines += [f"- {call}" for call in before if call not in after]
    lines += [f"+ {call}" for call in after if call not in before]
    lines += [
        f"~ {call}: code {before[call]} -> {after[call]}"
        for call in before
        if call in after and before[call] != after[call]
    ]
    shared = [call for call in before if call in after]
    if shared != [call for call in after if call in before]:
        lines.append("~ the order of the columns")
    for prefix in sorted({*old.context, *new.context}):
        then, now = old.description["context"].get(prefix), new.description["context"].get(prefix)
        if then != now:
            lines.append(f"~ context {prefix}: {then} -> {now}")
    if old.description["engine"] != new.description["engine"]:
        lines.append(f"~ engine: code {old.description['engine']} -> {new.description['engine']}")
    return lines


def _feature(entry: _FeatureEntry, catalog: Catalog, folder: Path | None) -> Feature:
    name = entry.component
    component = load_user_component(name, folder=folder)[0] if ":" in name else catalog[name]
    if component.kind != "feature":
        raise ConfigurationError(f"'{name}' is a {component.kind}, not a feature")
    origin = name
    if ".py:" in name:
        # A set that is written anew may lie in another folder.
        path, _, function = name.rpartition(":")
        origin = f"{((folder or Path.cwd()) / Path(path).expanduser()).resolve()}:{function}"
    return Feature(component, component.parameters(entry.model_extra), origin)


def _context(prefix: str, entry: _ContextEntry) -> Context:
    return Context(
        prefix=parse_name(prefix, "context"),
        symbol=Symbol.parse(entry.symbol),
        timeframe=Timeframe.parse(entry.timeframe),
        columns=entry.columns,
        tolerance=timedelta(days=entry.tolerance_days),
        optional=entry.optional,
    )


def _refuse_duplicates(parsed: FeatureSet) -> None:
    seen: dict[str, Feature] = {}
    for feature in parsed.features:
        for column in feature.columns:
            if column in ("ts", "known_at"):
                raise ConfigurationError(f"{feature.component.name} would write the column '{column}', which is taken")
            if column in seen:
                raise ConfigurationError(
                    f"the column '{column}' is written by {seen[column].component.name} and by "
                    f"{feature.component.name}",
                    hint="remove one, or give it other parameters",
                )
            seen[column] = feature


def _refuse_unmet(parsed: FeatureSet) -> None:
    joined = {column for context in parsed.context.values() for column in context.joined_columns}
    for feature in parsed.features:
        # A prefix and an underscore tell a context column from an optional column of the bars, such as ``spread``.
        unmet = [name for name in feature.requires if name not in joined and name.endswith(_CONTEXT_ENDINGS)]
        if unmet:
            prefix, _, column = unmet[0].rpartition("_")
            raise ConfigurationError(
                f"{feature.component.name} needs the column '{unmet[0]}', which no context supplies",
                hint=f'add [context.{prefix}] with symbol, timeframe and columns = ["{column}"]',
            )


_CONTEXT_ENDINGS: Final = ("_open", "_high", "_low", "_close", "_volume")


def _by_call(feature_set: FeatureSet) -> dict[str, str]:
    calls = {}
    for entry in feature_set.description["features"]:
        parameters = ", ".join(f"{name}={value}" for name, value in entry["parameters"].items())
        calls[f"{entry['component']}({parameters}) -> {', '.join(entry['columns'])}"] = entry["code"]
    return calls
