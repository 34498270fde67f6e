"""Rules in files: YAML or JSON, one rule, a list of them, or ``rules`` with ``defaults``; all that is wrong at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from tapeline.alerts.catalogue import Catalogue, catalogue
from tapeline.alerts.condition_json import condition_from_json, condition_schema
from tapeline.alerts.conditions import compile_rule
from tapeline.alerts.plain_text import LONGEST_FILE, PlainTextError, read_plain
from tapeline.alerts.rule import Rule, safe_file_name
from tapeline.alerts.rule import json_schema as rule_schema
from tapeline.core.errors import ConfigurationError
from tapeline.core.rule_expression import RuleExpressionError

ENDINGS: Final = (".yaml", ".yml", ".json")
MOST_RULES: Final = 100_000
MOST_SHOWN: Final = 20


Fault = tuple[tuple[str | int, ...], str | Exception]
"""Where in an entry something is wrong, and what."""


class Problem(NamedTuple):
    """What is wrong, and where: ``line`` and ``column`` count from 1 (0: no column), ``place`` is such as ``rules[2]``.

    Of a condition ``reason`` has several lines: it shows the condition and a caret under what is at fault.
    """

    file: str
    line: int
    place: str
    reason: str
    column: int = 0

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"
        return f"{where}: {self.place + ': ' if self.place else ''}{self.reason}"


class RuleFileError(ConfigurationError):
    """Files with rules that cannot be read; ``problems`` are all of them, ``lines`` what a person is shown."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        shown = [str(problem) for problem in problems[:MOST_SHOWN]]
        if len(problems) > MOST_SHOWN:
            shown.append(f"and {len(problems) - MOST_SHOWN} more")
        self.lines = tuple(line for one in shown for line in one.splitlines())
        super().__init__("\n".join(shown))


def load_rules(source: str | Path, functions: Catalogue | None = None) -> list[Rule]:
    r"""The rules of a file, or of all YAML and JSON files of a folder by their names; each of them compiles.

    Raises
    ------
    RuleFileError
        With all that is wrong in all files.
    ConfigurationError
        There is no such file or folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "rules.yaml"
    ...     _ = file.write_text("id: r\nowner: me\nsymbols: [BTCUSDT]\ncondition: close > 100")
    ...     [rule.condition for rule in load_rules(folder)]
    ['close > 100']
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.suffix in ENDINGS and one.is_file())
    elif path.is_file():
        files = [path]
    else:
        raise ConfigurationError(f"there is no file or folder {str(path)!r} with rules")
    rules: list[Rule] = []
    problems: list[Problem] = []
    owners: dict[str, str] = {}
    for file in files:
        try:
            found = read_rules(_text(file), file.name, is_json=file.suffix == ".json", functions=functions)
        except RuleFileError as error:
            problems.extend(error.problems)
            continue
        for rule in found:
            if rule.id in owners:
                problems.append(Problem(file.name, 1, rule.id, f"the id is taken by a rule of {owners[rule.id]}"))
            owners[rule.id] = file.name
        rules.extend(found)
    if problems:
        raise RuleFileError(tuple(problems))
    return rules


def read_rules(
    text: str, name: str = "rules", *, is_json: bool = False, functions: Catalogue | None = None
) -> list[Rule]:
    """The rules of one text.

    Raises
    ------
    RuleFileError
        With all that is wrong.
    """
    known = functions or catalogue()
    try:
        plain, lines = read_plain(text, is_json=is_json)
    except PlainTextError as error:
        raise RuleFileError((Problem(name, error.line, "", error.reason),)) from None
    rules: list[Rule] = []
    problems: list[Problem] = []
    try:
        entries = _entries(plain)
    except ConfigurationError as error:
        raise RuleFileError((Problem(name, 1, "", error.message),)) from None
    places: dict[str, str] = {}
    for path, entry in entries:
        found = read_entry(entry, known)
        if not isinstance(found, Rule):
            for where, fault in found:
                line = _line(lines, (*path, *where))
                row, column = _pointed_at(text, line, fault)
                problems.append(Problem(name, row, _place((*path, *where)), str(fault), column))
        elif found.id in places:
            problems.append(Problem(name, _line(lines, path), _place(path), f"the id {found.id} stands twice"))
        else:
            places[found.id] = _place(path)
            rules.append(found)
    if problems:
        raise RuleFileError(tuple(problems))
    return rules


def rule_to_plain(rule: Rule) -> dict[str, Any]:
    """A rule as a file holds it: what is not as the defaults are."""
    return rule.model_dump(mode="json", exclude_defaults=True)


def save_rule(rule: Rule, folder: str | Path) -> Path:
    """Write a rule into its file in a folder, at once or not at all.

    Returns
    -------
    The file, named after the rule's id.
    """
    import yaml

    path = Path(folder) / safe_file_name(rule.id)
    text = yaml.safe_dump(rule_to_plain(rule), sort_keys=False, allow_unicode=True, width=100)
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
    return path


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a file with rules, for editors: a rule, a list of them, or ``rules``."""
    rule = rule_schema()
    definitions = {**rule.pop("$defs", {}), **condition_schema()}
    text = rule["properties"]["condition"]
    rule["properties"]["condition"] = {"anyOf": [text, {"type": "object", "$ref": "#/$defs/condition"}]}
    loose = {**rule, "required": [], "title": "Defaults"}
    definitions |= {"rule": rule, "defaults": loose}
    one = {"$ref": "#/$defs/rule"}
    several = {"type": "array", "items": one, "maxItems": MOST_RULES}
    # With defaults a rule need not repeat them.
    based = {"type": "array", "items": {"$ref": "#/$defs/defaults"}, "maxItems": MOST_RULES}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Rules",
        "anyOf": [
            one,
            several,
            {
                "type": "object",
                "properties": {"rules": based, "defaults": {"$ref": "#/$defs/defaults"}},
                "required": ["rules"],
                "additionalProperties": False,
            },
        ],
        "$defs": definitions,
    }


def _text(file: Path) -> str:
    if file.stat().st_size > LONGEST_FILE:
        raise RuleFileError((Problem(file.name, 1, "", f"the file is larger than {LONGEST_FILE} bytes"),))
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RuleFileError((Problem(file.name, 1, "", "the file is not UTF-8"),)) from None


def _entries(plain: Any) -> list[tuple[tuple[str | int, ...], Any]]:
    """Each rule of a file with its path, the file's defaults under it."""
    if isinstance(plain, list):
        entries: list[tuple[tuple[str | int, ...], Any]] = [((number,), one) for number, one in enumerate(plain)]
    elif isinstance(plain, dict) and "rules" in plain:
        if set(plain) - {"rules", "defaults"}:
            raise ConfigurationError("beside 'rules' only 'defaults' may stand")
        given, defaults = plain["rules"], plain.get("defaults") or {}
        if not isinstance(given, list) or not isinstance(defaults, dict):
            raise ConfigurationError("'rules' must be a list and 'defaults' a mapping")
        entries = [
            (("rules", number), {**defaults, **one} if isinstance(one, dict) else one)
            for number, one in enumerate(given)
        ]
    elif isinstance(plain, dict):
        entries = [((), plain)]
    else:
        raise ConfigurationError("a rule is a mapping, and a file holds one, a list of them, or 'rules'")
    if len(entries) > MOST_RULES:
        raise ConfigurationError(f"{len(entries)} rules are more than {MOST_RULES}")
    return entries


def read_entry(entry: Any, known: Catalogue) -> Rule | list[Fault]:
    """The rule that a file's entry says, or where and why it is none."""
    if not isinstance(entry, Mapping):
        return [((), "a rule is a mapping")]
    wrong: list[Fault] = []
    plain = dict(entry)
    if isinstance(plain.get("condition"), Mapping):
        try:
            plain["condition"] = condition_from_json(plain["condition"])
        except ConfigurationError as error:
            wrong.append((("condition",), str(error)))
            plain["condition"] = "close > 0"
    try:
        rule = Rule.model_validate(plain)
    except ValidationError as error:
        wrong.extend((tuple(one["loc"]), one["msg"].removeprefix("Value error, ")) for one in error.errors())
        return [*wrong, *_condition_problems(plain, wrong, known)]
    except ConfigurationError as error:
        return [*wrong, (("symbols",), str(error))]
    if wrong:
        return wrong
    try:
        compile_rule(rule, known)
    except ConfigurationError as error:
        return [(("condition",), error)]
    return rule


def _condition_problems(plain: Mapping[str, Any], wrong: list[Fault], known: Catalogue) -> list[Fault]:
    """What is wrong with the condition of an entry that is no rule for other reasons."""
    condition = plain.get("condition")
    if not isinstance(condition, str) or any(where[:1] == ("condition",) for where, _ in wrong):
        return []
    try:
        compile_rule(Rule(id="r", owner="r", condition=condition, symbols=("*",)), known)
    except (ConfigurationError, ValidationError) as error:
        return [(("condition",), error)]
    return []


def _pointed_at(text: str, line: int, fault: str | Exception) -> tuple[int, int]:
    """The line and the column of what is at fault in a condition that stands in the file as it was read.

    One that is quoted with escapes, folded or over several lines has no column: its caret says enough.
    """
    if isinstance(fault, RuleExpressionError) and "\n" not in fault.text:
        for row, shown in enumerate(text.splitlines()[line - 1 : line + 1], line):
            at = shown.find(fault.text)
            if at >= 0:
                return row, at + fault.position + 1
    return line, 0


def _line(lines: Mapping[tuple[str | int, ...], int], path: tuple[str | int, ...]) -> int:
    """The line of the nearest part that the file has."""
    while path not in lines and path:
        path = path[:-1]
    return lines.get(path, 1)


def _place(path: tuple[str | int, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
