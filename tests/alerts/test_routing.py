"""Who is told, when, and what keeps it quiet; hours in their zones through the changes of their clocks."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.alerts.firing import Firing
from tapeline.alerts.records import Silence
from tapeline.alerts.routing import GROUP_WAIT, Route, Router, opens_after, quiet_until
from tapeline.alerts.rule import Hours
from tests.alerts.processor_support import SECOND, make_rule

NIGHT = Hours(begin=time(22), end=time(6), zone="Europe/Berlin")


def nanoseconds(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * SECOND


def make_firing(**changes: object) -> Firing:
    plain = {"rule": "r", "rule_version": "v", "owner": "me", "symbol": "A", "kind": "firing"}
    plain |= {"ts": nanoseconds(2026, 1, 5, 12), "detected_at": nanoseconds(2026, 1, 5, 12), "price": 1.0}
    return Firing(**{"dedupe_key": "0" * 64, **plain, **changes})


def make_router(*silences: Silence, lifetime: int = 0) -> Router:
    routes = {
        ("me", "hook"): Route("hook", "webhook", ("one", "two"), lifetime),
        ("other", "hook"): Route("hook", "webhook", ("theirs",)),
    }
    return Router(routes, lambda firing, rule, route: firing.id, {one.id: one for one in silences})


def test_each_endpoint_gets_a_row_of_its_own_whose_id_never_changes() -> None:
    first, again = (make_router().deliveries(make_firing(), make_rule()) for _ in range(2))
    assert [one.endpoint for one in first] == ["one", "two"]
    assert first == again
    assert len({one.id for one in first}) == 2
    assert {one.order for one in first} == {"one/r", "two/r"}


def test_programs_are_told_in_order_and_people_as_it_comes() -> None:
    routes = {("me", name): Route(name, name, ("one",)) for name in ("webhook", "telegram", "email")}
    router = Router(routes, lambda firing, rule, route: firing.id)
    told = router.deliveries(make_firing(), make_rule(channels=("webhook", "telegram", "email")))
    assert {one.channel: one.order for one in told} == {"webhook": "one/r", "telegram": "", "email": ""}


def test_a_channel_of_another_owner_is_missing_and_not_used() -> None:
    rule = make_rule(owner="nobody")
    assert make_router().deliveries(make_firing(owner="nobody"), rule) == ()
    assert make_router().missing(rule) == ("hook",)
    assert make_router().missing(make_rule()) == ()


def test_a_dry_run_tells_no_one() -> None:
    assert make_router().deliveries(make_firing(), make_rule(dry_run=True)) == ()


def test_quiet_hours_hold_what_is_not_critical() -> None:
    night = nanoseconds(2026, 1, 5, 22)
    firing, rule = make_firing(ts=night), make_rule(quiet_hours=(NIGHT,))
    held = make_router().deliveries(firing, rule)
    assert {(one.state, one.not_before) for one in held} == {("held", nanoseconds(2026, 1, 6, 5))}
    critical = make_router().deliveries(firing, make_rule(quiet_hours=(NIGHT,), priority="critical"))
    assert {(one.state, one.not_before) for one in critical} == {("waiting", 0)}


def test_groups_wait_together_under_one_key() -> None:
    rule = make_rule(group_by=("symbol", "desk"), labels={"desk": "fx"})
    rows = [
        make_router().deliveries(make_firing(symbol=symbol, labels={"desk": "fx"}), rule)[0]
        for symbol in ("A", "A", "B")
    ]
    assert rows[0].group == rows[1].group != rows[2].group
    assert rows[0].not_before == rows[0].created_at + GROUP_WAIT


def test_a_delivery_expires_where_its_route_says_so() -> None:
    row = make_router(lifetime=5 * SECOND).deliveries(make_firing(), make_rule())[0]
    assert row.expires_at == row.created_at + 5 * SECOND


@pytest.mark.parametrize(
    ("matchers", "quiet"),
    [
        ({"symbol": "A*"}, True),
        ({"symbol": "B*"}, False),
        ({"rule": "r", "desk": "f?"}, True),
        ({"rule": "r", "desk": "?"}, False),
        ({"owner": "me"}, True),
        ({"unknown": "x"}, False),
        ({}, True),
    ],
)
def test_a_silence_matches_when_all_its_patterns_do(matchers: dict[str, str], quiet: bool) -> None:
    firing = make_firing(labels={"desk": "fx"})
    silence = Silence("s", "me", matchers, firing.ts, firing.ts + SECOND)
    assert (make_router(silence).deliveries(firing, make_rule()) == ()) is quiet


def test_a_silence_holds_for_its_owner_and_its_time_and_no_label_hides_from_it() -> None:
    firing = make_firing(labels={"symbol": "somewhere"})
    for silence, quiet in (
        (Silence("s", "me", {"symbol": "A"}, firing.ts, firing.ts + 1), True),
        (Silence("s", "other", {"symbol": "A"}, firing.ts, firing.ts + 1), False),
        (Silence("s", "me", {"symbol": "A"}, firing.ts - 9, firing.ts), False),
        (Silence("s", "me", {"symbol": "A"}, firing.ts + 1, firing.ts + 9), False),
    ):
        assert (make_router(silence).silenced(firing) is silence) is quiet


@pytest.mark.parametrize(
    ("begin", "end", "at", "until"),
    [
        # Spring: 02:00 is 03:00, so 02:30 never comes and the span ends with the jump.
        (time(22), time(2, 30), (2026, 3, 29, 0, 30), (2026, 3, 29, 1)),
        # Autumn: 02:00-03:00 comes twice; a span that ends within holds in both.
        (time(22), time(2, 30), (2026, 10, 24, 23), (2026, 10, 25, 0, 30)),
        (time(22), time(2, 30), (2026, 10, 25, 1, 15), (2026, 10, 25, 1, 30)),
        # A night of nine hours in autumn and of seven in spring.
        (time(22), time(6), (2026, 10, 24, 20), (2026, 10, 25, 5)),
        (time(22), time(6), (2026, 3, 28, 21), (2026, 3, 29, 4)),
    ],
)
def test_quiet_hours_through_the_change_of_the_clock(
    begin: time, end: time, at: tuple[int, ...], until: tuple[int, ...]
) -> None:
    hours = Hours(begin=begin, end=end, zone="Europe/Berlin")
    assert quiet_until((hours,), nanoseconds(*at)) == nanoseconds(*until)


def test_hours_that_follow_each_other_hold_to_the_end_of_the_last() -> None:
    hours = (Hours(begin=time(8), end=time(10)), Hours(begin=time(10), end=time(12)))
    assert quiet_until(hours, nanoseconds(2026, 1, 5, 9)) == nanoseconds(2026, 1, 5, 12)
    assert quiet_until(hours, nanoseconds(2026, 1, 5, 12)) == 0


@settings(max_examples=60, deadline=None)
@given(
    begin=st.times(timezones=st.none()).map(lambda one: one.replace(second=0, microsecond=0)),
    end=st.times(timezones=st.none()).map(lambda one: one.replace(second=0, microsecond=0)),
    days=st.sets(st.integers(0, 6), min_size=1),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    begun=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 20)),
)
def test_when_hours_begin_and_end_against_looking_at_each_minute(
    begin: time, end: time, days: set[int], zone: str, begun: datetime
) -> None:
    if begin == end:
        return
    hours = Hours(begin=begin, end=end, days=frozenset(days), zone=zone)
    instant = begun.replace(second=0, microsecond=0, tzinfo=UTC)
    minutes = [instant + timedelta(minutes=number) for number in range(1_500)]
    holding = [hours.holds(one) for one in minutes]
    ts = int(instant.timestamp()) * SECOND
    if holding[0] and False in holding:
        assert quiet_until((hours,), ts) == int(minutes[holding.index(False)].timestamp()) * SECOND
    begins = [number for number, pair in enumerate(pairwise(holding), 1) if pair == (False, True)]
    if begins:
        assert opens_after((hours,), ts) == int(minutes[begins[0]].timestamp()) * SECOND
