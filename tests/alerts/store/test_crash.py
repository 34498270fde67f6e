"""Killed at any instant: what was acknowledged is there exactly once, and nothing is half there.

``TAPELINE_CRASHES`` says how often the writer is killed (default 3 for each database).
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from tapeline.alerts.records import Commit
from tapeline.alerts.store.opening import open_store
from tests.alerts.store.samples import make_commit

ROUNDS = int(os.environ.get("TAPELINE_CRASHES", "3"))
WRITER = """
import sys
from dataclasses import replace
from tapeline.alerts.records import RuleState
from tapeline.alerts.store.group_commit import GroupCommit
from tapeline.alerts.store.opening import open_store
from tests.alerts.store.samples import make_commit

address, number = sys.argv[1], int(sys.argv[2])
with GroupCommit(open_store(address), gather=0.001, capacity=50) as group:
    print("ready", flush=True)
    while True:
        number += 1
        # Each commit repeats the firing before it, as a replay after a crash does.
        commit = make_commit(max(number - 1, 1), number)
        commit = replace(commit, states=(RuleState("r", "v", "BTCUSDT", "firing", number),))
        done = group.submit(commit)
        done.add_done_callback(lambda _, number=number: sys.stdout.write(f"{number}\\n") and sys.stdout.flush())
"""


def run_until_killed(address: str, begin: int, after: float) -> int:
    """Start the writer, kill it some time after its first commits, and return the last number it acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, address, str(begin)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as writer:
        try:
            assert writer.stdout.readline() == b"ready\n"
            assert select.select([writer.stdout], [], [], 60)[0], "nothing was acknowledged within a minute"
            time.sleep(after)
        finally:
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read()
    whole = rest[: rest.rfind(b"\n") + 1]
    return max([begin, *map(int, whole.split())])


def test_what_was_acknowledged_outlives_a_kill_and_nothing_is_half_there(address, store) -> None:
    moments = random.Random(7)
    last = 0
    for _ in range(ROUNDS):
        acknowledged = run_until_killed(address, last, moments.uniform(0.0, 0.05))
        assert acknowledged > last
        # A reader that opens what the killed process left, in whichever state its log is.
        reader = open_store(address)
        # A server may be finishing a commit of a client that is no more: writing waits for it, reading would not.
        reader.commit(Commit())
        stamps = [one.firing.ts for page in pages(reader) for one in page.items]
        newest = reader.positions()["feed"]
        assert stamps == list(range(1, newest + 1)), "each firing once, and none left out"
        assert newest >= acknowledged
        assert [one.since for one in reader.states()] == [newest]
        counts = reader.delivery_counts()
        assert [(one.state, one.count) for one in counts] == [("waiting", newest)]
        assert reader.deliveries(make_commit(newest).firings[0].id) == make_commit(newest).deliveries
        reader.close()
        last = newest


def pages(reader):
    cursor = None
    while True:
        page = reader.firings(cursor=cursor, limit=1_000, oldest_first=True)
        yield page
        cursor = page.cursor
        if cursor is None:
            return
