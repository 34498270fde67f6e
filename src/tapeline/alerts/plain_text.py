"""YAML and JSON as plain values that know their lines: no tags, no aliases, no key twice, bounded in size and depth.

YAML scalars are read by the core schema of YAML 1.2: ``no`` and ``22:00`` are texts, and a date is the text that the
schema of the value reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from tapeline.core.errors import ConfigurationError

Path = tuple[str | int, ...]
LONGEST_FILE: Final = 8 * 2**20
DEEPEST: Final = 100

_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,300}", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?", re.ASCII)
_WORDS: Final = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}


class PlainTextError(ConfigurationError):
    """A text that cannot be read; ``line`` counts from 1."""

    def __init__(self, reason: str, line: int) -> None:
        self.reason, self.line = reason, line
        super().__init__(f"line {line}: {reason}")


def read_plain(text: str, *, is_json: bool = False) -> tuple[Any, dict[Path, int]]:
    r"""The value of a text, and the line on which each part of it begins, by its path.

    Raises
    ------
    PlainTextError
        It cannot be read: the syntax is wrong, a key stands twice, it has aliases or tags, it nests too deeply.

    Examples
    --------
    >>> value, lines = read_plain("rules:\n  - id: a\n    quiet: no")
    >>> value, lines[("rules", 0, "quiet")]
    ({'rules': [{'id': 'a', 'quiet': 'no'}]}, 3)
    """
    if len(text) > LONGEST_FILE:
        raise PlainTextError(f"{len(text)} characters are more than {LONGEST_FILE}", 1)
    if is_json:
        # JSON proper decides what is read; as YAML, of which it is a part but for tabs, it only tells the lines.
        value = _json(text)
        try:
            return value, _Reader(text.replace("\t", " ")).read()[1]
        except PlainTextError:
            return value, {(): 1}
    return _Reader(text).read()


def write_plain(value: Any) -> str:
    r"""The YAML text of plain values that :func:`read_plain` gives back as they were.

    Examples
    --------
    >>> write_plain({"name": "1e5", "count": 2, "note": "a: b"})
    "name: '1e5'\ncount: 2\nnote: 'a: b'\n"
    """
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """Quotes the texts that would be read as something else."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent(dumper: Any, text: str) -> Any:
        plain = isinstance(_scalar(text), str)
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else "'")

    Dumper.add_representer(str, represent)
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100))


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refused)
    except json.JSONDecodeError as error:
        raise PlainTextError(error.msg, error.lineno) from None
    except RecursionError:
        raise PlainTextError(f"it nests deeper than {DEEPEST}", 1) from None
    except ValueError as error:
        raise PlainTextError(str(error), 1) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r:.60} stands twice")
    return found


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


class _Reader:
    """One walk over the events of a YAML text: only texts, numbers, truths, lists and mappings come of it."""

    def __init__(self, text: str) -> None:
        import yaml

        self.yaml = yaml
        self.lines: dict[Path, int] = {}
        self.text = text

    def read(self) -> tuple[Any, dict[Path, int]]:
        yaml = self.yaml
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            events = yaml.parse(self.text, Loader=loader)
            self.events: Iterator[Any] = iter(events)
            value = self.document()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise PlainTextError(error.problem or "it is no YAML", mark.line + 1 if mark else 1) from None
        except yaml.YAMLError as error:
            raise PlainTextError(str(error).splitlines()[0], 1) from None
        return value, self.lines

    def document(self) -> Any:
        yaml, value, seen = self.yaml, None, 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                seen += 1
                if seen > 1:
                    raise PlainTextError("a second document begins; one file holds one", event.start_mark.line + 1)
                value = self.value(next(self.events), (), 0)
        return value

    def value(self, event: Any, path: Path, depth: int) -> Any:
        yaml, line = self.yaml, event.start_mark.line + 1
        self.lines.setdefault(path, line)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise PlainTextError("anchors and aliases are not read; write the value out", line)
        if getattr(event, "tag", None) not in (None, "!"):
            raise PlainTextError(f"the tag {event.tag!r:.60} is not read", line)
        if depth > DEEPEST:
            raise PlainTextError(f"it nests deeper than {DEEPEST}", line)
        if isinstance(event, yaml.ScalarEvent):
            return event.value if event.style else _scalar(event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
                items.append(self.value(event, (*path, len(items)), depth + 1))
            return items
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            at = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise PlainTextError("a key must be a text", at)
            if event.value in mapping:
                raise PlainTextError(f"the key {event.value!r:.60} stands twice", at)
            self.lines[(*path, event.value)] = at
            mapping[event.value] = self.value(next(self.events), (*path, event.value), depth + 1)
        return mapping


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
