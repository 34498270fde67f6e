"""Content hashes: the version of data, code and configuration is what they are, not when they were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

DIGEST_LENGTH: Final = 16
"""Hexadecimal digits of a version: 64 bits, so that a collision among a million versions has a chance of 3e-8."""


def digest(value: Any) -> str:
    """The content hash of a JSON-like value (mappings, sequences, texts, numbers, booleans, None).

    Mappings hash by content, not by order; floats by their shortest exact form. Other types raise TypeError, so that
    nothing is ever hashed by its memory address.

    Examples
    --------
    >>> digest({"a": 1, "b": [2.5]}) == digest({"b": [2.5], "a": 1})
    True
    >>> len(digest("EURUSD"))
    16
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_refuse)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def digest_bytes(*parts: bytes | memoryview) -> str:
    """The content hash of byte strings, each preceded by its length so that borders count."""
    running = hashlib.sha256()
    for part in parts:
        running.update(len(part).to_bytes(8, "little"))
        running.update(part)
    return running.hexdigest()[:DIGEST_LENGTH]


def _refuse(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no content hash; pass its plain values")
