"""How answers of the MetaTrader5 package cross the wire: JSON for values, raw bytes for arrays, no pickles.

Named tuples become their name and fields on the terminal's side, so that nothing but text and bytes is ever sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tapeline.sources.metatrader_structures import STRUCTURES

Wire = tuple[str, tuple[bytes, ...]]
"""JSON text, and the arrays it refers to by position."""


def encode(value: Any) -> Wire:
    """A value of the package as text and bytes.

    Raises
    ------
    TypeError
        The value is of a type that the package does not return.

    Examples
    --------
    >>> encode((1, "Success"))
    ('{"tuple": [1, "Success"]}', ())
    >>> decode(*encode(np.arange(2)))
    array([0, 1])
    """
    arrays: list[bytes] = []
    return json.dumps(_packed(value, arrays)), tuple(arrays)


def decode(text: str, arrays: tuple[bytes, ...]) -> Any:
    """The value that :func:`encode` was given; raises ValueError for text that it did not make."""
    return _unpacked(json.loads(text), arrays)


def _packed(value: Any, arrays: list[bytes]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value).tobytes())
        # A name such as '<f8' cannot be told from a list of fields by numpy's own text.
        kind = value.dtype.str if value.dtype.names is None else [list(field) for field in value.dtype.descr]
        return {"array": len(arrays) - 1, "dtype": kind}
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "_asdict"):
        fields = {name: _packed(item, arrays) for name, item in value._asdict().items()}
        return {"structure": type(value).__name__, "fields": fields}
    if isinstance(value, Mapping):
        return {"mapping": {str(key): _packed(item, arrays) for key, item in value.items()}}
    if isinstance(value, tuple | list):
        return {"tuple": [_packed(item, arrays) for item in value]}
    raise TypeError(f"{type(value).__name__} cannot cross the bridge")


def _unpacked(value: Any, arrays: tuple[bytes, ...]) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        kind = value["dtype"]
        dtype = np.dtype(kind if isinstance(kind, str) else [tuple(field) for field in kind])
        if dtype.hasobject:
            raise ValueError("an array of objects cannot cross the bridge")
        return np.frombuffer(arrays[value["array"]], dtype=dtype).copy()
    if "structure" in value:
        kind = STRUCTURES.get(value["structure"])
        if kind is None:
            raise ValueError(f"the structure {value['structure']!r} is unknown")
        fields = {name: _unpacked(item, arrays) for name, item in value["fields"].items()}
        # A newer terminal may say more, an older one less, than this version knows.
        return kind(**{name: fields.get(name) for name in kind._fields})
    if "mapping" in value:
        return {key: _unpacked(item, arrays) for key, item in value["mapping"].items()}
    return tuple(_unpacked(item, arrays) for item in value["tuple"])
