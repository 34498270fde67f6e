"""The examples in the page on charts run, and give what the page says."""

from __future__ import annotations

import doctest
from pathlib import Path


def test_the_examples_of_the_page_hold():
    page = Path(__file__).parents[2] / "docs" / "charts.md"
    outcome = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert outcome.attempted >= 5
    assert outcome.failed == 0
