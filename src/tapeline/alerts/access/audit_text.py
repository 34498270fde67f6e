"""What the audit log says of a value: plain JSON of bounded length, and none of its secrets."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from tapeline.monitoring.redaction import MASK, SENSITIVE_NAME, Redactor

LONGEST_JSON: Final = 64 << 10
LONGEST_STRING: Final = 4_000
LONGEST_LINE: Final = 200
MOST_ITEMS: Final = 500
DEEPEST: Final = 12
_SECRET_NAME: Final = re.compile(r"(?i)^keys?$|(?:signing|seal)_?-?keys?|cookie")


class AuditText:
    r"""Puts values into the log's words.

    Parameters
    ----------
    secrets:
        Values that must not appear, wherever they stand.

    Examples
    --------
    >>> text = AuditText(["open-sesame"])
    >>> text.json({"name": "door", "password": "12345678", "note": "say open-sesame", "visits": 3})
    '{"name":"door","note":"say ***","password":"***","visits":3}'
    >>> text.line("ann\r\nbob")
    'ann  bob'
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._redact = Redactor(secrets)

    def line(self, text: str) -> str:
        """One short line, without secrets and without what a database or a terminal takes for something else."""
        plain = self._redact(text[: 4 * LONGEST_LINE])
        return "".join(one if one.isprintable() else " " for one in plain)[:LONGEST_LINE]

    def json(self, value: Any) -> str:
        """Canonical JSON; of what is too long its length, hash and beginning."""
        text = _canonical(self._plain(value, 0, ""))
        if len(text) <= LONGEST_JSON:
            return text
        hashed = hashlib.sha256(text.encode()).hexdigest()
        return _canonical({"length": len(text), "sha256": hashed, "begins": text[:1_000]})

    def _plain(self, value: Any, depth: int, name: str) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if value.bit_length() <= 64 else "a number of more than 64 bits"
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if SENSITIVE_NAME.search(name) or _SECRET_NAME.search(name) or isinstance(value, bytes | SecretStr):
            return MASK
        if depth >= DEEPEST:
            return "..."
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        elif is_dataclass(value) and not isinstance(value, type):
            value = {one.name: getattr(value, one.name) for one in fields(value)}
        if isinstance(value, Mapping):
            some = islice(value.items(), MOST_ITEMS)
            told = {self._text(str(key)): self._plain(one, depth + 1, str(key)) for key, one in some}
            return told if len(value) <= MOST_ITEMS else {**told, "...": f"{len(value)} in all"}
        if isinstance(value, list | tuple | set | frozenset):
            ordered = value if isinstance(value, list | tuple) else sorted(value, key=str)
            items = [self._plain(one, depth + 1, name) for one in islice(ordered, MOST_ITEMS)]
            return items if len(value) <= MOST_ITEMS else [*items, f"... {len(value)} in all"]
        return self._text(str(value))

    def _text(self, text: str) -> str:
        # Cut before it is searched for secrets: what people write is shorter, and the search takes its time.
        short = text if len(text) <= LONGEST_STRING else text[:LONGEST_STRING] + "..."
        return self._redact(short).encode("utf-8", "replace").decode().replace("\x00", "?")


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
