"""The examples in the pages on features, labels and the audit run, and give what the pages say."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    "page",
    [
        "features.md",
        "labels.md",
        "audit.md",
        "context.md",
        "signals.md",
        "trade-signals.md",
        "selection.md",
        "drift.md",
        "models.md",
        "ensembles.md",
        "costs.md",
        "post_trade.md",
        "risk.md",
        "evaluation.md",
        "lifecycle.md",
        "backtest.md",
        "backtest_search.md",
        "timing.md",
        "rules.md",
        "access.md",
        "alerts.md",
        "gateway.md",
        "alert_configuration.md",
        "alert_scale.md",
        "bots.md",
        "paper.md",
        "webhooks.md",
    ],
)
def test_the_examples_of_a_page_hold(page) -> None:
    outcome = doctest.testfile(str(DOCS / page), module_relative=False, encoding="utf-8")
    assert outcome.attempted >= 5
    assert outcome.failed == 0
