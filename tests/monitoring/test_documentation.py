from __future__ import annotations

import re
from pathlib import Path

import pytest

from tapeline.core.settings import NotificationSettings, load_settings
from tapeline.monitoring import outbox
from tapeline.monitoring.channels import open_channels
from tapeline.monitoring.notifier import LONGEST_WAIT_SECONDS, MAXIMUM_SENDS

PAGE = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()


def test_the_settings_of_the_page_load_and_are_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "tapeline.toml"
    path.write_text(block)
    monkeypatch.setenv("TAPELINE_SETTINGS", str(path))
    monkeypatch.delenv("TAPELINE_NOTIFICATIONS__URLS", raising=False)
    rules = load_settings().notifications
    assert rules.model_fields_set == set(NotificationSettings.model_fields)
    defaults = NotificationSettings()
    for name in ("prefect_blocks", "deduplicate_seconds", "maximum_per_hour", "timeout_seconds"):
        assert getattr(rules, name) == getattr(defaults, name), f"the page shows another default of {name}"
    channels, problems = open_channels([url.get_secret_value() for url in rules.urls])
    assert len(channels) == 1
    assert problems == []


def test_the_bounds_of_the_page_are_those_of_the_code() -> None:
    assert f"asks to wait at most {LONGEST_WAIT_SECONDS:g} s" in PAGE
    assert f"At most {MAXIMUM_SENDS} messages a channel" in PAGE
    assert f"After {outbox.MAXIMUM_AGE / 3600:g} hours" in PAGE
    assert f"more than {outbox.MAXIMUM_WAITING:,} wait" in PAGE
    assert f"rests {outbox.FIRST_PAUSE:g} s, then {2 * outbox.FIRST_PAUSE:g} s, ... up to" in PAGE
    assert f"up to {outbox.LONGEST_PAUSE / 60:g} min" in PAGE
    assert outbox.REFUSED_PAUSE == 3_600
    assert "that message rests an hour" in PAGE
