"""What the notification tests share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tapeline.core.settings import NotificationSettings, Settings
from tests.monitoring.fake_services import FakeServices, fake_services


@dataclass
class FakeTime:
    """A clock that moves only when told, and a sleep that moves it."""

    now: float = 1_800_000_000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def services() -> Iterator[FakeServices]:
    with fake_services() as running:
        yield running


@pytest.fixture
def time_() -> FakeTime:
    return FakeTime()


@pytest.fixture
def make_settings(tmp_path: Path) -> Any:
    def make(*urls: str, **rules: Any) -> Settings:
        return Settings(
            root=tmp_path, notifications=NotificationSettings(**{"urls": urls, "timeout_seconds": 5, **rules})
        )

    return make
