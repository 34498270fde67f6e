"""JSON in parts: what one call would render in a hundred milliseconds, during which no other thread runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

PART: Final = 500
"""Elements rendered by one call."""


def json_parts(value: Mapping[str, Any]) -> Iterator[bytes]:
    """The JSON of an object, whose long members are rendered a part at a time; NaN as Python writes it.

    Parameters
    ----------
    value:
        By name what JSON keeps, or an iterator of it, which becomes an array.

    Examples
    --------
    >>> b"".join(json_parts({"a": [1, 2], "b": {"c": None}, "d": iter("xy")}))
    b'{"a":[1,2],"b":{"c":null},"d":["x","y"]}'
    """
    yield b"{"
    for number, (name, member) in enumerate(value.items()):
        yield (b"," if number else b"") + _text(name) + b":"
        if isinstance(member, Mapping):
            yield from _joined(b"{", ({name: one} for name, one in member.items()), b"}", dict)
        elif isinstance(member, list | tuple | Iterator):
            yield from _joined(b"[", member, b"]", list)
        else:
            yield _text(member)
    yield b"}"


def _joined(begin: bytes, members: Iterable[Any], end: bytes, kind: type) -> Iterator[bytes]:
    left, first = iter(members), True
    yield begin
    while some := list(islice(left, PART)):
        whole = some if kind is list else {name: one for member in some for name, one in member.items()}
        yield (b"" if first else b",") + _text(whole)[1:-1]
        first = False
    yield end


def _text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
