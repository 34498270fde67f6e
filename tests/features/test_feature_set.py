"""Feature sets: what a file may say, what its version depends on, and what a difference looks like."""

from __future__ import annotations

import pytest

from tapeline.core.errors import ConfigurationError
from tapeline.core.set_file import packaged_sets
from tapeline.core.symbol import parse_name
from tapeline.features.feature_set import diff, load_feature_set, parse_feature_set

MINE = "from tapeline.core.registry import feature\n@feature(lookback=1, outputs='mine', reference='me')\n"


def make(*entries: dict, **more: object):
    return parse_feature_set({"name": "mine", "feature": list(entries), **more})


def test_every_packaged_set_loads_and_has_a_valid_version() -> None:
    assert {"core", "macro"} <= set(packaged_sets("tapeline.features"))
    for name in packaged_sets("tapeline.features"):
        chosen = load_feature_set(name)
        assert chosen.name == name
        assert parse_name(chosen.version, "version") == chosen.version
        assert len(set(chosen.columns)) == len(chosen.columns)


def test_core_is_the_default_and_wide() -> None:
    chosen = load_feature_set()
    assert chosen.name == "core"
    assert len({feature.component.name for feature in chosen.features}) >= 45
    assert not chosen.context


def test_a_file_of_the_users_own(tmp_path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        'name = "own"\n[[feature]]\ncomponent = "rsi"\nwindow = 7\n'
        '[[feature]]\ncomponent = "context_return"\ncolumn = "gold_close"\n'
        '[context.gold]\nsymbol = "XAUUSD"\ntimeframe = "1d"\n'
    )
    chosen = load_feature_set(file)
    assert chosen.columns == ("rsi_7", "gold_close_return_24")
    assert chosen.lookback == 210
    assert chosen.context["gold"].timeframe.name == "D1"
    assert load_feature_set(str(file)).version == chosen.version


def test_the_version_is_the_content() -> None:
    base = make({"component": "rsi"}, {"component": "log_return"})
    assert base.version == make({"component": "rsi", "window": 14}, {"component": "log_return"}).version
    assert (
        base.version
        == parse_feature_set(
            {"name": "mine", "description": "words", "feature": [{"component": "rsi"}, {"component": "log_return"}]}
        ).version
    )
    others = [
        make({"component": "rsi", "window": 15}, {"component": "log_return"}),
        make({"component": "log_return"}, {"component": "rsi"}),
        make({"component": "rsi"}),
        make({"component": "rsi"}, {"component": "log_return"}, context={"vix": {"symbol": "VIX", "timeframe": "D1"}}),
    ]
    assert len({base.version, *(other.version for other in others)}) == 5


def test_a_change_of_code_changes_the_version_and_a_change_of_words_does_not(tmp_path) -> None:
    file = tmp_path / "own.py"
    entry = {"name": "mine", "feature": [{"component": "own.py:mine"}]}

    def version(code: str) -> str:
        file.write_text(code)
        return parse_feature_set(entry, folder=tmp_path).version

    plain = version(MINE + "def mine(bars):\n    return bars['close'] * 2\n")
    worded = version(MINE + "def mine(bars):\n    '''Twice.'''\n    return bars['close']  *  2  # two\n")
    changed = version(MINE + "def mine(bars):\n    return bars['close'] * 3\n")
    assert plain == worded
    assert plain != changed


def test_the_difference_is_readable(tmp_path) -> None:
    old = make({"component": "rsi"}, {"component": "log_return"})
    assert diff(old, old) == []
    new = parse_feature_set(
        {
            "name": "other",
            "feature": [{"component": "log_return"}, {"component": "rsi"}, {"component": "rsi", "window": 5}],
            "context": {"vix": {"symbol": "VIX", "timeframe": "D1"}},
        }
    )
    lines = diff(old, new)
    assert lines[0] == "name: mine -> other"
    assert "+ rsi(window=5) -> rsi_5" in lines
    assert "~ the order of the columns" in lines
    assert any(line.startswith("~ context vix: None ->") for line in lines)


def test_the_difference_shows_changed_code(tmp_path) -> None:
    file = tmp_path / "own.py"
    entry = {"name": "mine", "feature": [{"component": "own.py:mine"}]}
    file.write_text(MINE + "def mine(bars):\n    return bars['close'] * 2\n")
    old = parse_feature_set(entry, folder=tmp_path)
    assert old.version  # hashed now: the file changes below
    file.write_text(MINE + "def mine(bars):\n    return bars['close'] * 33\n")
    (line,) = diff(old, parse_feature_set(entry, folder=tmp_path))
    assert line.startswith("~ mine() -> mine: code ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "x"}, "'feature': Field required"),
        ({"name": "x", "feature": []}, "at least 1 item"),
        ({"name": "X", "feature": [{"component": "rsi"}]}, "'X' is not a valid name"),
        ({"name": "x", "feature": [{"component": "rsii"}]}, "did you mean rsi"),
        ({"name": "x", "feature": [{"component": "rsi", "windw": 3}]}, "did you mean 'window'"),
        (
            {"name": "x", "feature": [{"component": "rsi", "window": 1}]},
            "window = 1 is refused .*greater than or equal",
        ),
        ({"name": "x", "feature": [{"component": "rsi", "window": "14"}]}, "window = '14' is refused"),
        ({"name": "x", "feature": [{"component": "rsi", "window": True}]}, "window = True is refused"),
        ({"name": "x", "feature": [{"component": "rsi"}, {"component": "rsi"}]}, "column 'rsi_14' is written by rsi"),
        ({"name": "x", "feature": [{"component": "context_level"}]}, r"add \[context.vix\]"),
        ({"name": "x", "feature": [{"component": "rsi"}], "contxt": {}}, "Extra inputs"),
        (
            {"name": "x", "feature": [{"component": "rsi"}], "context": {"v": {"symbol": "../x", "timeframe": "D1"}}},
            "not a valid instrument name",
        ),
        (
            {"name": "x", "feature": [{"component": "rsi"}], "context": {"v": {"symbol": "V", "timeframe": "D9"}}},
            "timeframe 'D9' is unknown",
        ),
        (
            {
                "name": "x",
                "feature": [{"component": "rsi"}],
                "context": {"v": {"symbol": "V", "timeframe": "D1", "tolerance_days": -1}},
            },
            "greater than 0",
        ),
    ],
)
def test_what_a_file_may_not_say(content, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_feature_set(content)


def test_a_label_is_not_a_feature() -> None:
    with pytest.raises(ConfigurationError, match="is a label, not a feature"):
        make({"component": "tapeline.labels.future_return:future_return"})


def test_a_file_that_is_missing_or_broken_is_named(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="packaged ones are core"):
        load_feature_set(tmp_path / "nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = [")
    with pytest.raises(ConfigurationError, match=r"broken.toml' is not valid TOML"):
        load_feature_set(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_feature_set(broken)
