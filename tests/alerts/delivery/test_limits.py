"""Rates: in no window does more pass than a service permits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.delivery.limits import (
    DISCORD_WEBHOOK,
    TELEGRAM_BOT,
    TELEGRAM_CHAT,
    TELEGRAM_GROUP,
    Limiter,
)


@pytest.mark.parametrize(
    ("rate", "window", "most"),
    [(TELEGRAM_CHAT, 1.0, 1), (TELEGRAM_GROUP, 60.0, 20), (TELEGRAM_BOT, 1.0, 30), (DISCORD_WEBHOOK, 60.0, 30)],
)
@settings(max_examples=15, deadline=None)
@given(pauses=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.013, 0.25, 1.0, 7.0]), min_size=100, max_size=200))
def test_no_window_holds_more_than_the_service_permits(rate, window, most, pauses) -> None:
    now = 0.0
    limiter = Limiter(lambda: now)
    passed = []
    for pause in pauses:
        now += pause
        wait = limiter.admit([("k", rate)])
        if wait > 0:
            now += wait + 1e-9  # a sender that comes back as soon as it may
            assert limiter.admit([("k", rate)]) == 0
        passed.append(now)
    for begin, first in enumerate(passed):
        assert sum(first <= each < first + window - 1e-6 for each in passed[begin:]) <= most


def test_a_place_is_taken_in_all_buckets_or_in_none_and_a_pause_shuts_one() -> None:
    now = 0.0
    limiter = Limiter(lambda: now)
    assert limiter.admit([("a", TELEGRAM_CHAT), ("bot", TELEGRAM_BOT)]) == 0
    for _ in range(50):
        assert limiter.admit([("a", TELEGRAM_CHAT), ("bot", TELEGRAM_BOT)]) == pytest.approx(1.0)
    assert limiter.admit([("b", TELEGRAM_CHAT), ("bot", TELEGRAM_BOT)]) == 0
    limiter.pause([("c", TELEGRAM_CHAT)], 17.0)
    assert limiter.admit([("c", TELEGRAM_CHAT)]) == pytest.approx(17.0)
    now = 17.1
    assert limiter.admit([("c", TELEGRAM_CHAT)]) == 0
