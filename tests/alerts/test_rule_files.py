"""Rules in YAML and JSON: what is read, and all that is wrong with its line."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tapeline.alerts.plain_text import PlainTextError, read_plain
from tapeline.alerts.rule_files import RuleFileError, json_schema, load_rules, read_rules, rule_to_plain, save_rule
from tapeline.core.errors import ConfigurationError

GOOD = """\
defaults: {owner: me, symbols: [BTCUSDT]}
rules:
  - id: a
    condition: crosses_up(close, 60000)
    expires_at: 2027-01-01T00:00:00Z
    quiet_hours:
      - {begin: 22:00, end: 06:00, zone: Europe/Berlin}
  - id: b
    symbols: [ETHUSDT]
    condition:
      all:
        - compare: [{call: rsi, arguments: [14, {text: 1h}]}, "<", 30]
        - {held: {compare: [close, ">", 5]}, bars: 2}
"""
BAD = """\
defaults: {owner: me, symbols: [BTCUSDT]}
rules:
  - id: a
    condition: close > 1
  - id: b
    condition: rsii < 3
    cooldown: -5
  - id: c
    condition: {compare: [close, 5]}
    priority: loud
  - id: a
    condition: close > 3
  - 5
"""


def test_rules_are_read_from_yaml_with_times_as_they_are_written() -> None:
    first, second = read_rules(GOOD)
    assert (first.quiet_hours[0].begin.hour, first.quiet_hours[0].end.hour) == (22, 6)
    assert first.expires_at is not None
    assert first.expires_at.year == 2027
    assert (second.symbols, second.owner) == (("ETHUSDT",), "me")
    assert second.condition == 'rsi(14, "1h") < 30 and (close > 5) for 2 bars'


def test_all_that_is_wrong_is_said_at_once_with_its_line() -> None:
    with pytest.raises(RuleFileError) as caught:
        read_rules(BAD, "bad.yaml")
    found = [(one.line, one.place) for one in caught.value.problems]
    assert found == [
        (7, "rules[1].cooldown"),
        (6, "rules[1].condition"),
        (9, "rules[2].condition"),
        (10, "rules[2].priority"),
        (11, "rules[3]"),
        (13, "rules[4]"),
    ]
    assert "did you mean 'rsi'?" in str(caught.value)
    assert str(caught.value).startswith("bad.yaml:7: rules[1].cooldown: ")


def test_json_is_read_with_lines_as_well() -> None:
    text = '[\n\t{"id": "a", "owner": "me", "symbols": ["X"],\n\t "condition": "rsii < 3"}]'
    with pytest.raises(RuleFileError) as caught:
        read_rules(text, is_json=True)
    assert [one.line for one in caught.value.problems] == [3]
    assert read_rules(text.replace("rsii", "rsi"), is_json=True)[0].condition == "rsi < 3"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x", "anchors and aliases"),
        ("a: &a [x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]", "anchors and aliases"),
        ('a: !!python/object/apply:os.system ["ls"]', "tag"),
        ("a: 1\na: 2", "stands twice"),
        ("[" * 5_000, "deeper than 100"),
        ("? [a]\n: 1", "a key must be a text"),
        ("a: 1\n---\nb: 2", "a second document"),
        ("a: [", "expected"),
        ("\x00", "control characters"),
    ],
)
def test_hostile_yaml_is_refused(text, reason) -> None:
    with pytest.raises(PlainTextError, match=reason):
        read_plain(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"a": NaN}', "no number of JSON"),
        ("[" * 100_000, "deeper than"),
        ('{"a": ', "Expecting value"),
    ],
)
def test_hostile_json_is_refused(text, reason) -> None:
    with pytest.raises(PlainTextError, match=reason):
        read_plain(text, is_json=True)


def test_scalars_are_those_of_yaml_1_2() -> None:
    value, _ = read_plain("[no, on, 22:00, 012, 1e3, .5, ~, true, 2027-01-01, '5', 0x10]")
    assert value == ["no", "on", "22:00", 12, 1000.0, 0.5, None, True, "2027-01-01", "5", "0x10"]


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tapeline.alerts.rule_files.LONGEST_FILE", 10)
    (tmp_path / "a.yaml").write_text("id: " + "x" * 20)
    with pytest.raises(RuleFileError, match="larger than 10 bytes"):
        load_rules(tmp_path / "a.yaml")


def test_a_folder_gives_the_rules_of_its_files_and_all_their_faults(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.json").write_text('{"id": "a", "owner": "me", "symbols": ["X"], "condition": "close > 1"}')
    (tmp_path / "c.yml").write_bytes(b"\xff\xfe")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(RuleFileError) as caught:
        load_rules(tmp_path)
    assert [(one.file, one.reason) for one in caught.value.problems] == [
        ("b.json", "the id is taken by a rule of a.yaml"),
        ("c.yml", "the file is not UTF-8"),
    ]
    with pytest.raises(ConfigurationError, match="no file or folder"):
        load_rules(tmp_path / "absent")


def test_a_saved_rule_is_read_back(tmp_path: Path) -> None:
    for rule in read_rules(GOOD):
        assert load_rules(save_rule(rule, tmp_path)) == [rule]
    assert len(load_rules(tmp_path)) == 2
    assert not list(tmp_path.glob(".*"))


def test_the_schema_takes_what_is_read_and_refuses_what_is_not() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    assert check.is_valid(read_plain(GOOD)[0])
    assert not check.is_valid(read_plain(BAD)[0])
    for rule in read_rules(GOOD):
        assert check.is_valid(json.loads(json.dumps(rule_to_plain(rule))))
    assert not check.is_valid({"id": "a", "owner": "me", "symbols": ["X"], "condition": {"compare": ["close", 5]}})
    assert not check.is_valid({"id": "a", "owner": "me", "symbols": ["X"], "condition": "close > 1", "colour": "red"})


def test_what_is_wrong_with_a_condition_is_pointed_at_in_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tapeline.console import report_error

    common = "owner: me\nsymbols: [BTCUSDT]\n"
    (tmp_path / "a.yaml").write_text(f'id: a\n{common}condition: "close > 5 and rsii < 30"\n')
    (tmp_path / "b.yaml").write_text(f"id: b\n{common}condition: >-\n  close > 5 and\n  nothing\n")
    (tmp_path / "c.yaml").write_text(f'id: c\n{common}condition: "close\\u0020> \\e[2J5 and"\n')
    with pytest.raises(RuleFileError) as refused:
        load_rules(tmp_path)
    places = [(one.file, one.line, one.column) for one in refused.value.problems]
    assert places == [("a.yaml", 4, 27), ("b.yaml", 4, 0), ("c.yaml", 4, 0)]
    assert report_error(refused.value) == refused.value.exit_code
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "error: a.yaml:4:27: condition: 'rsii' is not known"
    assert shown[2].index("^") == shown[1].index("rsii")
    # What a file holds moves no cursor.
    assert "\x1b" not in "".join(shown)
