"""Names from outside: what may become an instrument, and what may become part of a path."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.core.symbol import MAXIMUM_LENGTH, Symbol, parse_name


@pytest.mark.parametrize("text", ["EURUSD", "BTC/USDT:USDT", "^VIX", "BRK-B", "ES=F", "#AAPL", "EURUSD.m", "a&b"])
def test_real_names_pass_and_come_back_from_their_folder(text) -> None:
    symbol = Symbol.parse(text)
    assert symbol == text
    assert Symbol.from_path_segment(symbol.path_segment) == symbol
    assert Symbol.parse(symbol) is symbol
    assert repr(symbol) == f"Symbol({text!r})"


@pytest.mark.parametrize(
    "text",
    ["", " ", ".", "..", "../../etc", "/etc", "a/../b", "a//b", "a\\b", "a b", "a\n", "a\x00", "a;b", "a'b", "a%2e",
     "é", "EURUSD/", "EURUSD.", "x" * (MAXIMUM_LENGTH + 1), None, 5],
)  # fmt: skip
def test_hostile_names_are_refused(text) -> None:
    with pytest.raises(ConfigurationError, match="symbol"):
        Symbol.parse(text)


@given(st.text(max_size=80))
def test_no_text_ever_leaves_its_folder(text) -> None:
    try:
        segment = Symbol.parse(text).path_segment
    except ConfigurationError:
        return
    assert PurePosixPath("symbol=" + segment).parts == ("symbol=" + segment,)
    assert segment not in (".", "..")
    assert "\\" not in segment


@pytest.mark.parametrize("text", ["core", "core@0123456789abcdef", "direction-2", "a.b_c"])
def test_names_of_tables_and_sets(text) -> None:
    assert parse_name(text, "table") == text


@pytest.mark.parametrize("text", ["", "Core", "1a", "a/b", "a..b", ".a", "a@", "a b", "a" * 65, "ä", None])
def test_hostile_names_of_tables_are_refused(text) -> None:
    with pytest.raises(ConfigurationError, match=r"table .* is not a valid name"):
        parse_name(text, "table")
