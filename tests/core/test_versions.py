"""Content hashes of values, and of code as far as it can change a number."""

from __future__ import annotations

import importlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.core.versions import DIGEST_LENGTH, code_digest, code_of_source, digest, digest_bytes
from tapeline.features.momentum import rsi
from tapeline.features.trend import adx

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_a_digest_is_stable_and_short(value) -> None:
    assert digest(value) == digest(value)
    assert len(digest(value)) == DIGEST_LENGTH


def test_a_digest_is_the_same_in_every_process() -> None:
    assert digest({"b": [1, 2.5, None, True], "a": "é"}) == digest({"a": "é", "b": [1, 2.5, None, True]})
    assert digest({"a": 1}) == "015abd7f5cc57a2d"


def test_different_values_differ() -> None:
    values = [1, "1", 1.5, [1], {"1": 1}, None, True, [], {}, [[1]], "", 0.1 + 0.2, 0.3]
    assert len({digest(value) for value in values}) == len(values)


def test_what_has_no_content_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no content hash"):
        digest({"a": object()})


def test_borders_of_bytes_count() -> None:
    assert digest_bytes(b"ab", b"c") != digest_bytes(b"a", b"bc")
    assert digest_bytes(b"ab", memoryview(b"c")) == digest_bytes(b"ab", b"c")


BASE = "def f(x, y=1):\n    return x + y\n"


@pytest.mark.parametrize(
    "same",
    [
        "def f(x, y=1):\n    '''Add.'''\n    return x + y\n",
        "'''Module.'''\n# a comment\n\ndef f(x,  y = 1):\n    return (x + y)  # sum\n",
    ],
)
def test_words_and_layout_do_not_count(same) -> None:
    assert code_of_source(same) == code_of_source(BASE)


@pytest.mark.parametrize(
    "other",
    [
        "def f(x, y=2):\n    return x + y\n",
        "def f(x, y=1):\n    return x - y\n",
        "def f(x, y=1):\n    return y + x\n",
        "def f(x, *, y=1):\n    return x + y\n",
        "def f(x, y=1):\n    'Add.'\n    'not a docstring'\n    return x + y\n",
        "def f(x, y=1.0):\n    return x + y\n",
        "def f(x, y='1'):\n    return x + y\n",
        "@g\ndef f(x, y=1):\n    return x + y\n",
    ],
)
def test_whatever_may_change_a_number_counts(other) -> None:
    assert code_of_source(other) != code_of_source(BASE)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules: top imports middle, middle imports bottom inside a function; other is apart."""
    folder = tmp_path / "stackpack"
    folder.mkdir()
    files = {
        "__init__": "",
        "top": "from stackpack.middle import g\n\ndef f(x):\n    return g(x)\n",
        "middle": "def g(x):\n    from . import bottom\n    return bottom.h(x)\n",
        "bottom": "import os\nfrom tapeline.core import pit\n\ndef h(x):\n    '''Words.'''\n    return x * 2\n",
        "other": "def k(x):\n    return x\n",
    }
    for name, source in files.items():
        (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "stackpack"]:
        del sys.modules[name]


def test_code_counts_through_imports_and_nothing_is_executed(package) -> None:
    top = importlib.import_module("stackpack.top")
    before = code_digest(top.f)
    assert "stackpack.bottom" not in sys.modules
    assert code_digest("stackpack.top") == before

    def changed(name: str, old: str, new: str) -> bool:
        file = package / f"{name}.py"
        source = file.read_text()
        assert old in source
        file.write_text(source.replace(old, new))
        now = code_digest(top.f)
        file.write_text(source)
        return now != before

    assert changed("bottom", "x * 2", "x * 3")
    assert changed("middle", "bottom.h(x)", "bottom.h(x) + 1")
    assert not changed("bottom", "Words.", "Other words, as many as you like.")
    assert not changed("other", "return x", "return -x")
    assert code_digest(top.f) == before


def test_features_of_one_module_share_a_version_and_differ_from_another() -> None:
    assert code_digest(rsi) != code_digest(adx)
    assert code_digest(rsi) == code_digest("tapeline.features.momentum")


def test_code_without_a_source_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="source of"):
        code_digest(eval("lambda x: x"))
    with pytest.raises(ConfigurationError, match="no_such_module_here"):
        code_digest("no_such_module_here")
