"""JSON as the API takes it: no name twice, no NaN, no number beyond a double, not nested without end."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

from tapeline.gateway.problems import ProblemError

DEEPEST: Final = 40
"""How deep lists and objects may be nested: twice what a condition may, whose own bound is told more clearly."""
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def strict_json(body: bytes, *, deepest: int = DEEPEST) -> Any:
    """What a body says.

    Raises
    ------
    ProblemError
        400: it is not JSON as RFC 8259 has it, says a name twice, holds a number that no double can be, or is nested
        deeper than ``deepest``.

    Examples
    --------
    >>> strict_json(b'{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    depth = 0
    for token in _TOKEN.finditer(body):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
            if depth > deepest:
                raise _refused(f"it is nested deeper than {deepest}")
        elif first in b"]}":
            depth -= 1
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_number,
            parse_int=_whole,
        )
    except ProblemError:
        raise
    except (ValueError, RecursionError):
        raise _refused("it is not JSON in UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _refused("an object says one name twice")
    if any("\0" in name for name in found):
        raise _refused("a name holds a NUL character")
    return found


def _constant(name: str) -> NoReturn:
    raise _refused("NaN and Infinity are not JSON")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _refused("a number is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > 30:
        raise _refused("a whole number is too large")
    return int(text)


def _refused(reason: str) -> ProblemError:
    return ProblemError(400, "bad-json", f"the body cannot be read: {reason}")
