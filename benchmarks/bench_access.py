"""What it costs to know who asks: a token, a key, a login, and a row of the audit log."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import jwt

from benchmarks.harness import cpu_seconds, report
from tapeline.alerts.access.access_control import AccessControl, AccessSettings
from tapeline.alerts.access.signing_keys import key_name
from tapeline.alerts.delivery.secret_vault import new_key
from tapeline.alerts.rule import Rule
from tapeline.alerts.store.sqlite import open_sqlite

PASSWORD = "four kinds of weather"
CALLS = 2_000


def main() -> None:
    """Measure on a SQLite file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_sqlite(Path(folder) / "alerts.db")
        key = new_key()
        remembering = AccessControl(store.database, AccessSettings((key,)))
        asking = AccessControl(store.database, AccessSettings((key,), standing_seconds=0.0))
        remembering.users.add("ann", password=PASSWORD)
        authentication(remembering, asking, key)
        login(remembering)
        audit(remembering, store)
        store.close()


def authentication(remembering: AccessControl, asking: AccessControl, key: str) -> None:
    """Tokens and keys, remembered and asked for; beside them the bare check of a signature that any service does."""
    token = remembering.login("ann", PASSWORD).access
    _, text = remembering.keys.create("ann", "bot", ["rules:read"])
    secret, who = key.encode(), remembering.authenticate(token)

    def bare() -> None:
        for _ in range(CALLS):
            jwt.decode(token, secret, algorithms=["HS256"], audience="tapeline-alerts", issuer="tapeline")

    assert jwt.get_unverified_header(token)["kid"] == key_name(key)
    peer = cpu_seconds(bare) / CALLS * 1e6
    for name, access, bearer, bound in (
        ("token, login remembered", remembering, token, 300.0),
        ("token, login asked for", asking, token, 1_000.0),
        ("API key, remembered", remembering, text, 100.0),
        ("API key, asked for", asking, text, 1_500.0),
    ):
        assert access.authenticate(bearer).owner == who.owner

        def work(access: AccessControl = access, bearer: str = bearer) -> None:
            for _ in range(CALLS):
                access.authenticate(bearer)

        value = cpu_seconds(work) / CALLS * 1e6
        report(
            name,
            value,
            "us",
            target=f"< {bound:.0f} us",
            holds=value < bound,
            peer="jwt.decode alone",
            peer_value=peer,
        )


def login(access: AccessControl) -> None:
    """A login at the recommended costs, and one of somebody who does not exist."""
    from tapeline.alerts.access.principal import NotAuthenticatedError

    def known() -> None:
        access.login("ann", PASSWORD, address="198.51.100.4")

    numbers = iter(range(1_000))

    def unknown() -> None:
        number = next(numbers)
        try:
            access.login(f"nobody{number}", PASSWORD, address=f"203.0.113.{number}")
        except NotAuthenticatedError:
            return
        raise AssertionError("a stranger got in")

    walls = []
    for _ in range(5):
        begun = time.perf_counter()
        known()
        walls.append(time.perf_counter() - begun)
    known_cpu, unknown_cpu = cpu_seconds(known, repeats=5), cpu_seconds(unknown, repeats=5)
    report("a login", known_cpu * 1e3, "ms", target="< 600 ms of CPU, dear on purpose", holds=known_cpu < 0.6)
    report(
        f"the same, elapsed (load {os.getloadavg()[0]:.1f})",
        statistics.median(walls) * 1e3,
        "ms",
        target="told",
        holds=True,
    )
    report(
        "a stranger's login",
        unknown_cpu * 1e3,
        "ms",
        target="within a fifth of a user's",
        holds=abs(unknown_cpu / known_cpu - 1) < 0.2,
        peer="a user's",
        peer_value=known_cpu * 1e3,
    )


def audit(access: AccessControl, store: object) -> None:
    """A rule saved with its row of the audit log, beside one saved without; and the reading of the whole log."""
    count = iter(range(1_000_000))

    def rule() -> Rule:
        return Rule(id=f"r{next(count)}", owner="ann", condition="close > 1", symbols=("BTCUSDT",))

    def without() -> None:
        for _ in range(100):
            store.save_rule(rule(), by="ann", at=1)  # type: ignore[attr-defined]

    def told() -> None:
        for _ in range(100):
            one = rule()
            with access.quotas.within("ann", "silences"), access.audit.entry("ann", "rule.create", "rule", one.id):
                store.save_rule(one, by="ann", at=1)  # type: ignore[attr-defined]

    peer, value = cpu_seconds(without) * 10, cpu_seconds(told) * 10
    report(
        "a rule saved, told of and within a quota",
        value,
        "ms",
        target="< 5 ms",
        holds=value < 5,
        peer="saved alone",
        peer_value=peer,
    )
    rows = access.audit.verify().rows
    seconds = cpu_seconds(access.audit.verify)
    assert access.audit.verify().intact
    report("the log verified", rows / seconds, "rows/s", target="> 20,000 rows/s", holds=rows / seconds > 20_000)


if __name__ == "__main__":
    main()
