"""Feature sets as files: some columns of a set as a set of their own, and the TOML text of any set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import parse_name
from tapeline.features.derived import Declared, DerivedFeature, Feature, derive
from tapeline.features.feature_set import FeatureSet
from tapeline.features.formula import Expression


def subset(feature_set: FeatureSet, columns: Iterable[str], *, name: str | None = None) -> FeatureSet:
    """The set that writes only these columns, computed as before.

    A component of which all columns are wanted stays as it is. Of one that writes others too, and of one that only
    formulas read, the file keeps a source. Contexts that nothing reads any more are left out.

    Raises
    ------
    ConfigurationError
        A column is not in the set, or none is given.

    Examples
    --------
    >>> from tapeline.features.feature_set import parse_feature_set
    >>> whole = parse_feature_set({"name": "mine", "feature": [{"component": "rsi"}, {"component": "macd"}]})
    >>> subset(whole, [whole.columns[1]]).columns == whole.columns[1:2]
    True
    """
    wanted = set(columns)
    absent = sorted(wanted - set(feature_set.columns))
    if absent or not wanted:
        raise ConfigurationError(
            f"the feature set '{feature_set.name}' has no columns {absent[:5]}" if absent else "no column was chosen"
        )
    kept: list[Feature] = []
    sources: list[Feature] = []
    declared: list[Declared] = []
    for feature in feature_set.features:
        chosen = [column for column in feature.columns if column in wanted]
        if isinstance(feature, DerivedFeature):
            sources += [source for source in feature.sources if source not in sources]
            declared += [Declared(column, str(_formulas(feature)[column])) for column in chosen]
        elif len(chosen) == len(feature.columns):
            kept.append(feature)
        elif chosen:
            sources.append(feature)
            declared += [Declared(column, column) for column in chosen]
    joined = [column for context in feature_set.context.values() for column in context.joined_columns]
    read_by_formulas = [*kept, *(source for source in sources if source not in kept)]
    derived = derive(declared, read_by_formulas, context_columns=joined) if declared else ()
    features = (*kept, *derived)
    needed = {column for feature in features for column in feature.requires}
    context = {
        prefix: context
        for prefix, context in feature_set.context.items()
        if needed.intersection(context.joined_columns)
    }
    chosen_name = feature_set.name if name is None else parse_name(name, "feature set")
    return FeatureSet(chosen_name, features, context)


def feature_set_text(
    feature_set: FeatureSet, *, description: str = "", provenance: Mapping[str, Any] | None = None
) -> str:
    """A feature set as TOML; reading it back gives a set of the same version.

    Parameters
    ----------
    description:
        A sentence for people.
    provenance:
        Where the set comes from: texts, numbers, booleans and lists of them. Neither changes the version.

    Examples
    --------
    >>> from tapeline.features.feature_set import parse_feature_set
    >>> print(feature_set_text(parse_feature_set({"name": "mine", "feature": [{"component": "rsi"}]})))
    name = "mine"
    <BLANKLINE>
    [[feature]]
    component = "rsi"
    window = 14
    <BLANKLINE>
    """
    plain = [feature for feature in feature_set.features if not isinstance(feature, DerivedFeature)]
    derived = [feature for feature in feature_set.features if isinstance(feature, DerivedFeature)]
    head = {"name": feature_set.name, **({"description": description} if description else {})}
    lines = [_pair(key, value) for key, value in head.items()] + ([] if plain else ["feature = []"])
    if provenance:
        lines += ["", "[provenance]", *(_pair(key, value) for key, value in provenance.items())]
    for feature in plain:
        lines += ["", "[[feature]]", *_entry(feature)]
    sources = [source for feature in derived for source in feature.sources]
    for source in {id(source): source for source in sources if source not in plain}.values():
        lines += ["", "[[source]]", *_entry(source)]
    for feature in derived:
        for column, formula in _formulas(feature).items():
            lines += ["", "[[derived]]", _pair("name", column), _pair("formula", str(formula))]
    for prefix, context in feature_set.context.items():
        lines += [
            "",
            f"[context.{prefix}]",
            _pair("symbol", str(context.symbol)),
            _pair("timeframe", context.timeframe.name),
            _pair("columns", list(context.columns)),
            _pair("tolerance_days", context.tolerance.total_seconds() / 86_400),
            _pair("optional", context.optional),
        ]
    return "\n".join(lines) + "\n"


def _formulas(feature: DerivedFeature) -> Mapping[str, Expression]:
    return feature.formulas or {}


def _entry(feature: Feature) -> list[str]:
    given = {name: value for name, value in feature.parameters.items() if value is not None}
    return [_pair("component", feature.origin or feature.component.name), *(_pair(*item) for item in given.items())]


def _pair(key: str, value: Any) -> str:
    return f"{key} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's; DEL is the one character that only TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    raise ConfigurationError(f"{type(value).__name__} {value!r} cannot be written to a feature set file")
