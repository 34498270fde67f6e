"""Conditions as JSON: the same tree that the text form is read into, for programs and for editors.

    {"all": [{"compare": [{"call": "rsi", "arguments": [14, {"text": "1h"}]}, "<", 30]},
             {"crosses_up": ["close", 60000]}]}

A value is a number, a name as a string, or an object: ``percent``, ``text``, ``duration``, ``call``, ``negative`` or
``calculate``; a condition is a name, a call, or an object: ``compare``, ``between``, ``crosses_up``, ``crosses_down``,
``all``, ``any``, ``not`` or ``held``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from tapeline.core.errors import ConfigurationError
from tapeline.core.rule_expression import MAXIMUM_DEPTH, parse_condition
from tapeline.core.rule_nodes import (
    CROSSINGS,
    Arithmetic,
    Between,
    Call,
    Comparison,
    Crossing,
    Duration,
    Expression,
    Held,
    Logical,
    Name,
    Negative,
    Not,
    Number,
    Text,
)

_MARKS: Final = ("<", "<=", ">", ">=", "==", "!=")
_OPERATORS: Final = ("+", "-", "*", "/")
_NAME: Final = r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*$"
_DURATION: Final = r"^[0-9]{1,9}[smhdw]$"
_TEXT: Final = r"^(?:[^\"\n]{0,98}|[^'\n]{0,98})$"


def condition_to_json(expression: Expression) -> Any:
    """A condition as plain lists, mappings, texts and numbers.

    Examples
    --------
    >>> condition_to_json(parse_condition("close > 100 for 2 bars"))
    {'held': {'compare': ['close', '>', 100.0]}, 'bars': 2}
    """
    plain = condition_to_json
    match expression:
        case Number(value=value, percent=percent):
            return {"percent": float(f"{value * 100:.15g}")} if percent else value
        case Duration():
            return {"duration": str(expression)}
        case Text(value=text):
            return {"text": text}
        case Name(name=name):
            return name
        case Call(function=name, arguments=arguments):
            return {"call": name, "arguments": [plain(one) for one in arguments]}
        case Negative(value=value):
            return {"negative": plain(value)}
        case Arithmetic(operator=operator, left=left, right=right):
            return {"calculate": [plain(left), operator, plain(right)]}
        case Comparison(operator=operator, left=left, right=right):
            return {"compare": [plain(left), operator, plain(right)]}
        case Between(value=value, low=low, high=high):
            return {"between": [plain(value), plain(low), plain(high)]}
        case Crossing(up=up, value=value, level=level):
            return {CROSSINGS[0] if up else CROSSINGS[1]: [plain(value), plain(level)]}
        case Not(condition=inner):
            return {"not": plain(inner)}
        case Logical(operator=operator, parts=parts):
            return {"all" if operator == "and" else "any": [plain(part) for part in parts]}
        case Held(condition=inner, bars=bars):
            length = {"bars": bars} if bars else {"time": str(Duration(expression.nanoseconds))}
            return {"held": plain(inner), **length}
    raise ConfigurationError(f"{type(expression).__name__} has no JSON form")  # pragma: no cover


def condition_from_json(plain: Any) -> str:
    """The text of a condition that is given as JSON: what :func:`parse_condition` reads into the same tree.

    Raises
    ------
    ConfigurationError
        It is no condition; the message names the place, such as ``all[1].compare``.

    Examples
    --------
    >>> condition_from_json({"all": [{"compare": ["close", ">", {"percent": 5}]}, {"crosses_up": ["close", 1]}]})
    'close > 5% and crosses_up(close, 1)'
    """
    text = _condition(plain, "", 0)
    parse_condition(text)
    return text


def _condition(plain: Any, where: str, depth: int) -> str:
    _deep(where, depth)
    if isinstance(plain, str):
        return _name(plain, where)
    if not isinstance(plain, Mapping):
        _wrong(where, f"{_shown(plain)} is no condition")
    if "call" in plain:
        return _call(plain, where, depth)
    if "held" in plain:
        return _held(plain, where, depth)
    form = _form(plain, ("compare", "between", *CROSSINGS, "all", "any", "not"), where)
    inside, at = plain[form], f"{where}.{form}".strip(".")
    if form == "not":
        return f"not ({_condition(inside, at, depth + 1)})"
    if form in ("all", "any"):
        if not isinstance(inside, list) or len(inside) < 2:
            _wrong(at, "two or more conditions are needed")
        parts = [_condition(part, f"{at}[{number}]", depth + 1) for number, part in enumerate(inside)]
        word = " and " if form == "all" else " or "
        return word.join(
            f"({part})" if isinstance(one, Mapping) and ("all" in one or "any" in one) else part
            for part, one in zip(parts, inside, strict=True)
        )
    values = _values(inside, at, depth, 2 if form in CROSSINGS else 3, marks=_MARKS if form == "compare" else ())
    if form == "compare":
        return " ".join(values)
    if form == "between":
        return f"{values[0]} between {values[1]} and {values[2]}"
    return f"{form}({values[0]}, {values[1]})"


def _held(plain: Mapping[str, Any], where: str, depth: int) -> str:
    at = f"{where}.held".strip(".")
    inner = _condition(plain["held"], at, depth + 1)
    rest = sorted(str(name) for name in plain if name != "held")
    if rest == ["bars"]:
        bars = plain["bars"]
        if isinstance(bars, bool) or not isinstance(bars, int) or bars < 1:
            _wrong(at, f"bars = {_shown(bars)} must be a whole number from 1")
        return f"({inner}) for {bars} {'bar' if bars == 1 else 'bars'}"
    if rest == ["time"]:
        return f"({inner}) for {_matching(plain['time'], _DURATION, at, 'a duration such as 4h')}"
    return _wrong(at, "either 'bars' or 'time' is needed beside 'held'")


def _value(plain: Any, where: str, depth: int) -> str:
    _deep(where, depth)
    if isinstance(plain, str):
        return _name(plain, where)
    if isinstance(plain, int | float) and not isinstance(plain, bool):
        return _number(plain, where)
    if not isinstance(plain, Mapping):
        _wrong(where, f"{_shown(plain)} is no value")
    if "call" in plain:
        return _call(plain, where, depth)
    form = _form(plain, ("percent", "text", "duration", "negative", "calculate"), where)
    inside, at = plain[form], f"{where}.{form}".strip(".")
    if form == "percent":
        if isinstance(inside, bool) or not isinstance(inside, int | float):
            _wrong(at, f"{_shown(inside)} is no number")
        return f"{_number(inside, at)}%"
    if form == "text":
        text = _matching(inside, _TEXT, at, "a text without quotation marks of both kinds")
        return f"'{text}'" if '"' in text else f'"{text}"'
    if form == "duration":
        return _matching(inside, _DURATION, at, "a duration such as 4h")
    if form == "negative":
        return f"-({_value(inside, at, depth + 1)})"
    return f"({' '.join(_values(inside, at, depth, 3, marks=_OPERATORS))})"


def _values(plain: Any, where: str, depth: int, count: int, *, marks: tuple[str, ...]) -> list[str]:
    """Values in a list; with ``marks`` the one in the middle is one of these."""
    if not isinstance(plain, list) or len(plain) != count:
        _wrong(where, f"a list of {count} is needed")
    found = []
    for number, part in enumerate(plain):
        at = f"{where}[{number}]"
        if marks and number == 1:
            if part not in marks:
                _wrong(at, f"{_shown(part)} is none of {' '.join(marks)}")
            found.append(str(part))
        else:
            found.append(_value(part, at, depth + 1))
    return found


def _call(plain: Mapping[str, Any], where: str, depth: int) -> str:
    at = f"{where}.call".strip(".")
    if set(plain) - {"call", "arguments"}:
        _wrong(at, "a call has 'call' and 'arguments' only")
    given = plain.get("arguments", [])
    if not isinstance(given, list):
        _wrong(at, "the arguments must be a list")
    name = _name(plain["call"], at)
    return f"{name}({', '.join(_value(one, f'{at}[{number}]', depth + 1) for number, one in enumerate(given))})"


def _form(plain: Mapping[str, Any], forms: tuple[str, ...], where: str) -> str:
    if len(plain) == 1:
        (name,) = plain
        if name in forms:
            return str(name)
    return _wrong(where, f"{_shown(sorted(map(str, plain)))} is not one of {', '.join(forms)}")


def _number(plain: float, where: str) -> str:
    try:
        value = float(plain)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        _wrong(where, f"{_shown(plain)} is no finite number")
    return f"{value:.17g}"


def _name(plain: Any, where: str) -> str:
    return _matching(plain, _NAME, where, "a name")


def _matching(plain: Any, pattern: str, where: str, what: str) -> str:
    if not isinstance(plain, str) or len(plain) > 100 or not re.fullmatch(pattern, plain, re.ASCII):
        _wrong(where, f"{_shown(plain)} is not {what}")
    return plain


def _deep(where: str, depth: int) -> None:
    if depth > MAXIMUM_DEPTH:
        _wrong(where[:60], f"it is nested deeper than {MAXIMUM_DEPTH} levels")


def _shown(plain: Any) -> str:
    text = repr(plain)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _wrong(where: str, what: str) -> NoReturn:
    raise ConfigurationError(f"condition{f' at {where}' if where else ''}: {what}")


def condition_schema() -> dict[str, Any]:
    """Definitions of JSON Schema for conditions: ``condition`` and ``value``."""
    value, condition = {"$ref": "#/$defs/value"}, {"$ref": "#/$defs/condition"}

    def single(name: str, inside: Any, **more: Any) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": {name: inside, **more},
            "required": [name],
            "additionalProperties": False,
        }

    def several(*items: Any) -> dict[str, Any]:
        return {"type": "array", "prefixItems": list(items), "items": False, "minItems": len(items)}

    name = {"type": "string", "pattern": _NAME, "maxLength": 100}
    duration = {"type": "string", "pattern": _DURATION}
    call = single("call", name, arguments={"type": "array", "items": value, "maxItems": 10})
    parts = {"type": "array", "items": condition, "minItems": 2}
    held = single("held", condition, bars={"type": "integer", "minimum": 1, "maximum": 1_000_000}, time=duration)
    held["oneOf"] = [{"required": ["bars"]}, {"required": ["time"]}]
    return {
        "value": {
            "oneOf": [
                {"type": "number"},
                name,
                call,
                single("percent", {"type": "number"}),
                single("text", {"type": "string", "pattern": _TEXT}),
                single("duration", duration),
                single("negative", value),
                single("calculate", several(value, {"enum": list(_OPERATORS)}, value)),
            ]
        },
        "condition": {
            "oneOf": [
                name,
                call,
                single("compare", several(value, {"enum": list(_MARKS)}, value)),
                single("between", several(value, value, value)),
                single(CROSSINGS[0], several(value, value)),
                single(CROSSINGS[1], several(value, value)),
                single("all", parts),
                single("any", parts),
                single("not", condition),
                held,
            ]
        },
    }
