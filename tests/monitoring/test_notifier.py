from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tapeline.monitoring.channels import Delivery
from tapeline.monitoring.notification import Notification, Severity, score_alert
from tapeline.monitoring.notifier import LONGEST_WAIT_SECONDS, MAXIMUM_SENDS, Notifier
from tapeline.monitoring.outbox import MAXIMUM_AGE, MAXIMUM_WAITING
from tests.monitoring.conftest import FakeTime
from tests.monitoring.fake_services import (
    FakeServices,
    Reply,
    parse_telegram_html,
    refused_telegram,
    throttled_telegram,
)

pytestmark = pytest.mark.network_shape


def note(key: str = "k", title: str = "flow failed", once: bool = False) -> Notification:
    return Notification(title, "body", Severity.ERROR, key=key, once=once)


def outcomes(deliveries: list[Delivery]) -> list[str]:
    return [d.outcome for d in deliveries]


@pytest.fixture
def make(make_settings: Any, time_: FakeTime, tmp_path: Path) -> Any:
    def build(*urls: str, state: Path | None = None, lock_seconds: float = 5.0, **rules: Any) -> Notifier:
        settings = make_settings(*urls, **rules)
        return Notifier(
            settings, state or tmp_path / "state.sqlite", clock=time_, sleep=time_.sleep, lock_seconds=lock_seconds
        )

    return build


def test_the_same_is_said_once_within_the_window_and_counted(
    make: Any, services: FakeServices, time_: FakeTime
) -> None:
    notifier = make(services.telegram_url(), services.slack_url(), deduplicate_seconds=900)
    assert outcomes(notifier.notify(note())) == ["sent", "sent"]
    time_.now += 899
    for _ in range(3):
        assert outcomes(notifier.notify(note())) == ["duplicate", "duplicate"]
    assert outcomes(notifier.notify(note("other"))) == ["sent", "sent"]
    assert notifier.pending().repeats == 3
    assert len(services.requests) == 4
    time_.now += 1
    assert outcomes(notifier.notify(note())) == ["sent", "sent"]
    assert "3 more of the same since the last message" in services.texts()[-1]
    assert notifier.pending().repeats == 0


def test_a_new_notifier_remembers(make: Any, services: FakeServices) -> None:
    make(services.slack_url()).notify(note())
    assert outcomes(make(services.slack_url()).notify(note())) == ["duplicate"]
    assert len(services.requests) == 1


def test_a_score_never_alerts_twice(make: Any, services: FakeServices, time_: FakeTime) -> None:
    alert = score_alert(
        symbol="EURUSD",
        timeframe="H1",
        ts=pd.Timestamp("2017-01-02 09:00", tz="UTC"),
        side=1,
        confidence=0.7,
        probability=0.7,
        model="m",
        model_version="1",
    )
    assert outcomes(make(services.slack_url()).notify(alert)) == ["sent"]
    time_.now += 400 * 86_400
    make(services.slack_url()).notify(note())  # prunes what may be pruned
    assert outcomes(make(services.slack_url()).notify(alert)) == ["duplicate"]


def test_overflow_is_held_and_sent_as_one_digest(make: Any, services: FakeServices, time_: FakeTime) -> None:
    notifier = make(services.telegram_url(), maximum_per_hour=3)
    results = []
    for number in range(8):
        results += outcomes(notifier.notify(note(f"k{number}", "feed lost" if number % 2 else "ingest failed")))
        time_.now += 10
    assert results == ["sent"] * 3 + ["throttled"] * 5
    assert notifier.pending().held == notifier.pending().waiting != {}
    assert sum(notifier.pending().held.values()) == 5
    time_.now += 3_600 - 80 + 5  # the first of three has left the hour, the second has not
    assert outcomes(notifier.notify(note("k9", "feed lost"))) == ["sent"]
    shown, _ = parse_telegram_html(services.texts()[-1])
    assert shown.splitlines()[0] == "❌ 6 notifications held back since 2027-01-15 08:00 UTC"
    assert shown.splitlines()[1:3] == ["4 x feed lost", "2 x ingest failed"]
    assert len(services.requests) == 4
    assert notifier.pending().waiting == {}


def test_what_did_not_arrive_does_not_use_up_the_hour(make: Any, services: FakeServices, time_: FakeTime) -> None:
    services.always["slack"] = Reply(500, "down")
    notifier = make(services.slack_url(), maximum_per_hour=2)
    notifier.notify(note("a"))
    for _ in range(3):
        time_.now += 500
        assert outcomes(notifier.flush()) == ["failed"]
    del services.always["slack"]
    time_.now += 900
    assert outcomes(notifier.notify(note("b"))) == ["sent"]
    assert notifier.pending().waiting == {}


def test_the_newest_still_goes_alone_where_the_hour_allows(make: Any, services: FakeServices, time_: FakeTime) -> None:
    notifier = make(services.slack_url(), maximum_per_hour=2)
    for number in range(6):
        notifier.notify(note(f"k{number}", f"title {number}"))
    time_.now += 3_601
    assert outcomes(notifier.notify(note("new", "the newest"))) == ["sent"]
    assert services.texts("slack")[2:] == ["❌ 4 notifications held back since 2027-01-15 08:00 UTC", "❌ the newest"]


def test_a_short_429_is_waited_for(make: Any, services: FakeServices, time_: FakeTime) -> None:
    services.script["telegram"].append(throttled_telegram(3))
    assert outcomes(make(services.telegram_url()).notify(note())) == ["sent"]
    assert time_.slept == [3.0]
    assert len(services.requests) == 2


def test_a_second_429_defers_instead_of_waiting_on(make: Any, services: FakeServices, time_: FakeTime) -> None:
    services.script["telegram"].extend([throttled_telegram(4), throttled_telegram(4)])
    assert outcomes(make(services.telegram_url()).notify(note())) == ["throttled"]
    assert sum(time_.slept) <= LONGEST_WAIT_SECONDS


@pytest.mark.parametrize("kind", ["telegram", "slack"])
def test_a_long_429_is_deferred_and_honoured(make: Any, services: FakeServices, time_: FakeTime, kind: str) -> None:
    url = services.telegram_url() if kind == "telegram" else services.slack_url()
    reply = throttled_telegram(120) if kind == "telegram" else Reply(429, "rate_limited", (("Retry-After", "120"),))
    services.script[kind].append(reply)
    notifier = make(url)
    (delivery,) = notifier.notify(note("a"))
    assert (delivery.outcome, delivery.retry_after) == ("throttled", 120.0)
    time_.now += 119
    assert outcomes(notifier.notify(note("b"))) == ["throttled"]
    assert len(services.requests) == 1, "asked again before the service allowed it"
    assert time_.slept == []
    time_.now += 1
    assert outcomes(notifier.flush()) == ["sent", "sent"]
    assert notifier.pending().waiting == {}


def test_what_a_dead_channel_missed_comes_later_with_its_age(
    make: Any, services: FakeServices, time_: FakeTime
) -> None:
    services.always["telegram"] = Reply(500, "down")
    notifier = make(services.telegram_url(), services.slack_url())
    assert outcomes(notifier.notify(note("a", "first"))) == ["failed", "sent"]
    assert outcomes(notifier.notify(note("b", "second"))) == ["failed", "sent"]
    assert len(services.to("telegram")) == 1, "a dead channel must pause"
    pending = notifier.pending()
    assert list(pending.waiting.values()) == [2]
    assert "HTTP 500: down" in next(iter((pending.reasons or {}).values()))
    del services.always["telegram"]
    time_.now += 1_000
    assert notifier.pending().oldest_seconds == 1_000
    assert outcomes(notifier.notify(note("c", "third"))) == ["sent", "sent"]
    shown = [parse_telegram_html(text)[0] for text in services.texts()[1:]]
    assert [text.splitlines()[0] for text in shown] == ["❌ first", "❌ second", "❌ third"]
    assert "delayed: this is of 2027-01-15 08:00 UTC" in shown[0]
    assert "delayed" not in shown[2]
    assert notifier.pending().waiting == {}


def test_pauses_of_a_dead_channel_grow_and_end(make: Any, services: FakeServices, time_: FakeTime) -> None:
    services.always["slack"] = Reply(fault="drop")
    notifier = make(services.slack_url())
    notifier.notify(note())
    tries = []
    for _ in range(4_000):
        time_.now += 1
        before = len(services.requests)
        notifier.flush() if time_.now % 10 == 0 else None
        tries += [time_.now] * (len(services.requests) - before)
    gaps = [second - first for first, second in pairwise(tries)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 900


def test_a_refusal_does_not_hold_up_other_messages(make: Any, services: FakeServices, time_: FakeTime) -> None:
    services.script["telegram"].append(refused_telegram(400, "Bad Request: chat not found"))
    notifier = make(services.telegram_url())
    assert outcomes(notifier.notify(note("a"))) == ["refused"]
    assert outcomes(notifier.notify(note("b"))) == ["sent"]
    assert list(notifier.pending().waiting.values()) == [1]
    time_.now += 3_600
    assert outcomes(notifier.flush()) == ["sent"]


def test_what_is_too_old_is_dropped_counted_and_told(make: Any, services: FakeServices, time_: FakeTime) -> None:
    services.always["slack"] = Reply(500, "down")
    notifier = make(services.slack_url())
    notifier.notify(note("a"))
    time_.now += MAXIMUM_AGE + 1
    del services.always["slack"]
    assert outcomes(notifier.notify(note("b"))) == ["sent"]
    context = services.requests[-1].json["blocks"][-1]["elements"]
    assert context[0]["text"] == "1 older notifications could not be sent in time and were dropped"
    assert notifier.pending().dropped == {}


def test_the_outbox_is_bounded(make: Any, services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapeline.monitoring.outbox.MAXIMUM_WAITING", 5)
    services.always["slack"] = Reply(500, "down")
    notifier = make(services.slack_url())
    for number in range(8):
        notifier.notify(note(str(number)))
    assert list(notifier.pending().waiting.values()) == [5]
    assert list(notifier.pending().dropped.values()) == [3]
    assert MAXIMUM_WAITING == 1_000


def test_one_call_sends_a_bounded_backlog(make: Any, services: FakeServices, time_: FakeTime) -> None:
    services.always["slack"] = Reply(500, "down")
    notifier = make(services.slack_url(), maximum_per_hour=500)
    for number in range(MAXIMUM_SENDS + 3):
        notifier.notify(note(str(number)))
    del services.always["slack"]
    time_.now += 1_000
    assert outcomes(notifier.flush()) == ["sent"] * MAXIMUM_SENDS
    assert outcomes(notifier.flush()) == ["sent"] * 3


def test_a_channel_from_outside_that_raises_is_a_failed_delivery(make_settings: Any, time_: FakeTime) -> None:
    class Broken:
        name = "broken"

        def send(self, notification: Notification) -> Delivery:
            raise RuntimeError("token=abcdefghijk is wrong")

    notifier = Notifier(make_settings(), clock=time_, channels=[Broken()])
    (delivery,) = notifier.notify(note())
    assert (delivery.channel, delivery.outcome) == ("broken", "failed")
    assert delivery.detail == "RuntimeError: token=*** is wrong"


def test_unusable_addresses_are_told_with_every_call(make: Any, services: FakeServices) -> None:
    notifier = make("tgram://nonsense", services.slack_url())
    deliveries = notifier.notify(note())
    assert [(d.channel.split("-")[0], d.outcome) for d in deliveries] == [("slack", "sent"), ("address", "refused")]


def test_without_addresses_nothing_is_written(make: Any, tmp_path: Path) -> None:
    assert make().notify(note()) == []
    assert not (tmp_path / "state.sqlite").exists()


def test_a_locked_state_file_does_not_stop_the_message(
    make: Any, services: FakeServices, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = make(services.slack_url(), lock_seconds=0.05)
    notifier.notify(note("first"))
    with closing(sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with caplog.at_level(logging.WARNING):
            (delivery,) = notifier.notify(note("a"))
        (again,) = notifier.notify(note("a"))
        (once,) = notifier.notify(note("score", once=True))
        assert notifier.pending().problem == "OperationalError: database is locked"
        assert notifier.failed("flow", "x") is None
        assert notifier.recovered("flow") is None
        other.execute("ROLLBACK")
    assert delivery.outcome == "sent"
    assert "database is locked" in delivery.detail
    assert "database is locked" in caplog.text
    assert again.outcome == "duplicate"
    assert (once.outcome, "could not be told" in once.detail) == ("failed", True)
    assert len(services.requests) == 2


@pytest.mark.parametrize("damage", ["not a database", "folder is a file"])
def test_a_broken_state_file_does_not_stop_the_message(
    make: Any, services: FakeServices, tmp_path: Path, damage: str
) -> None:
    state = tmp_path / "place" / "state.sqlite"
    if damage == "not a database":
        state.parent.mkdir()
        state.write_bytes(b"this is no database at all" * 100)
    else:
        state.parent.write_text("a file")
    (delivery,) = make(services.slack_url(), state=state).notify(note())
    assert delivery.outcome == "sent"
    assert "without the state file" in delivery.detail


def test_a_full_disk_does_not_stop_the_message(services: FakeServices, tmp_path: Path) -> None:
    # A limit on the size of any file makes the operating system refuse writes as a full disk does.
    done = run_process(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        for number in range(30):
            deliveries = notifier.notify(Notification("t", "x" * 5000, Severity.ERROR, key=str(number)))
        print(deliveries[0].outcome, deliveries[0].detail)
        """,
        services.slack_url(),
        tmp_path,
        maximum_per_hour=1000,
    )
    assert len(services.requests) == 30
    assert done.startswith("sent")
    assert "without the state file" in done


def test_a_damaged_row_does_not_hold_up_the_others(make: Any, services: FakeServices, tmp_path: Path) -> None:
    services.script["slack"].append(Reply(500, "down"))
    notifier = make(services.slack_url())
    notifier.notify(note("a"))
    with closing(sqlite3.connect(tmp_path / "state.sqlite")) as db, db:
        db.execute("UPDATE outbox SET notification = '{\"title\":'")
        db.execute("UPDATE channel SET paused_until = 0")
    assert outcomes(notifier.notify(note("b"))) == ["sent"]
    assert notifier.pending().waiting == {}


def test_a_clock_set_back_does_not_silence(make: Any, services: FakeServices, time_: FakeTime) -> None:
    notifier = make(services.slack_url(), maximum_per_hour=1)
    notifier.notify(note("a"))
    services.script["slack"].append(Reply(500, "down"))
    time_.now += 3_700
    assert outcomes(notifier.notify(note("b"))) == ["failed"]
    time_.now -= 10 * 86_400
    # The pause, the used-up hour and the deduplication of the future are void.
    assert outcomes(notifier.notify(note("a"))) == ["sent"]


def test_a_message_claimed_by_a_process_that_died_goes_out_later(
    make: Any, services: FakeServices, time_: FakeTime, tmp_path: Path
) -> None:
    notifier = make(services.slack_url())
    name = notifier.channel_names[0]
    notifier._outbox.accept(note("a"), [name], 900)
    assert notifier._outbox.claim(name, 30) is not None  # and now the process dies
    assert notifier.flush() == []
    assert list(notifier.pending().waiting.values()) == [1]
    time_.now += 60
    assert outcomes(notifier.flush()) == ["sent"]


def test_incidents_are_counted_and_recovered_once(make: Any, services: FakeServices, time_: FakeTime) -> None:
    notifier = make(services.slack_url())
    assert notifier.recovered("flow/ingest") is None
    notifier.failed("flow/ingest", "first")
    time_.now += 60
    notifier.failed("flow/ingest", "second api_key=abc")
    incident = notifier.recovered("flow/ingest")
    assert incident is not None
    assert (incident.failures, incident.since, incident.reason) == (2, time_.now - 60, "second api_key=***")
    assert notifier.recovered("flow/ingest") is None


def test_the_state_file_is_the_owner_s_alone(make: Any, services: FakeServices, tmp_path: Path) -> None:
    make(services.slack_url()).notify(note())
    assert (tmp_path / "state.sqlite").stat().st_mode & 0o077 == 0


def test_two_processes_say_the_same_once(services: FakeServices, tmp_path: Path) -> None:
    code = """
    sys.stdin.readline()  # both start when the test says so
    seen = [notifier.notify(Notification("t", "b", Severity.ERROR, key=f"k{n}"))[0].outcome for n in range(25)]
    print(seen.count("sent"), seen.count("duplicate"), len(seen))
    """
    processes = [start_process(code, services.slack_url(), tmp_path, maximum_per_hour=1000) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [[int(x) for x in process.communicate(timeout=60)[0].split()] for process in processes]
    assert len(services.requests) == 25, "each key once, whichever process came first"
    assert sum(count[2] for count in counts) == 50
    assert sum(count[1] for count in counts) == 25


def test_two_processes_share_the_hourly_limit(services: FakeServices, tmp_path: Path) -> None:
    code = """
    sys.stdin.readline()
    for n in range(10):
        notifier.notify(Notification("t", "b", Severity.ERROR, key=f"{os.getpid()}-{n}"))
    print(sum(notifier.pending().held.values()))
    """
    processes = [start_process(code, services.slack_url(), tmp_path, maximum_per_hour=7) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert len(services.requests) == 7
    assert max(int(text) for text in outputs) <= 13


def start_process(code: str, url: str, folder: Path, **rules: Any) -> subprocess.Popen[str]:
    import textwrap

    program = f"""
import os, sys
from pathlib import Path
from tapeline.core.settings import NotificationSettings, Settings
from tapeline.monitoring.notification import Notification, Severity
from tapeline.monitoring.notifier import Notifier
rules = NotificationSettings(urls=({url!r},), timeout_seconds=20, **{rules!r})
notifier = Notifier(Settings(root=Path({str(folder)!r}), notifications=rules), lock_seconds=20)
{textwrap.dedent(code)}
"""
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, text=True
    )


def run_process(code: str, url: str, folder: Path, **rules: Any) -> str:
    process = start_process(code, url, folder, **rules)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output
