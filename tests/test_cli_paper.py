"""``tapeline paper`` refuses what cannot be traded before it starts anything."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from tapeline.cli import application
from tapeline.core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "nothing"], "nothing"),
        (["--symbols", "../EURUSD"], "EURUSD"),
        (["--timeframe", "H99x"], "H99x"),
        (["--symbols", "EURUSD,USDJPY"], "has no currency"),
    ],
)
def test_what_cannot_be_traded_is_refused_at_once(arguments, message):
    found = CliRunner().invoke(application, ["paper", "--once", *arguments])
    assert isinstance(found.exception, ConfigurationError)
    assert message in str(found.exception)


def test_the_command_stands_among_the_others():
    found = CliRunner().invoke(application, ["paper", "--help"])
    assert found.exit_code == 0
    assert "--once" in found.output
