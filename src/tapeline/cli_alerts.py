"""``tapeline alerts``: serve the alert engine, look at rules and firings, check rules, backtest and replay them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tapeline import cli_gateway
from tapeline.cli_alert_config import mount_config
from tapeline.cli_people import mount
from tapeline.console import new_table, print_table, say, terminal

if TYPE_CHECKING:
    import pandas as pd

    from tapeline.alerts.rule import Rule

RuleFile = Annotated[Path, typer.Argument(help="A YAML or JSON file with rules, or a folder of them.")]
RulesOption = Annotated[
    Path | None, typer.Option("--rules", help="A file or folder with rules; that of the settings if absent.")
]


class Role(StrEnum):
    """What a process of several does."""

    all = "all"
    engine = "engine"
    feed = "feed"


alerts_application = typer.Typer(
    help="The alert engine: serve, rules, firings, lint, backtest, replay.", no_args_is_help=True
)
alerts_application.command()(cli_gateway.gateway)
mount(alerts_application)
mount_config(alerts_application)


@alerts_application.command()
def serve(
    log: Annotated[
        Path | None, typer.Option(help="The JSON log; logs/alerts.log in the state folder if absent.")
    ] = None,
    standby: Annotated[
        bool, typer.Option("--standby", help="Wait, ready, and take over when the engine that runs has ended.")
    ] = False,
    gateway: Annotated[
        bool, typer.Option("--gateway", help="Keep the API running beside it, in a process of its own.")
    ] = False,
    role: Annotated[
        Role, typer.Option(help="With [alerts.scale] redis: evaluate shards, feed ticks to all, or both.")
    ] = Role.all,
) -> None:
    """Watch the rules' symbols live until Ctrl-C; what was found and not yet told is told after a restart."""
    import asyncio

    from tapeline.core.settings import load_settings

    settings = load_settings()
    from tapeline.alerts.service_settings import open_alert_store
    from tapeline.alerts.serving import serve_alerts

    store = open_alert_store(settings)
    try:
        if settings.alerts.scale.redis is not None:
            from tapeline.alerts.scale.serving import serve_member

            asyncio.run(serve_member(settings, store, role=role.value, log=log, tell=_say_now))
            say("Stopped; its shards are handed over.")
        else:
            asyncio.run(serve_alerts(settings, store, log=log, standby=standby, gateway=gateway, tell=_say_now))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("Stopped; everything that was found is stored.")
    finally:
        store.close()


@alerts_application.command("try")
def try_channel(channel: Annotated[str, typer.Argument(help="Its name in [alerts.channels].")]) -> None:
    """Send a message through a channel, to see that it arrives."""
    from tapeline.alerts.channel_settings import endpoint_id
    from tapeline.alerts.service_settings import make_channels, open_alert_store
    from tapeline.core.errors import ConfigurationError, ProviderError
    from tapeline.core.settings import load_settings

    settings = load_settings()
    wanted = settings.alerts.channels.get(channel)
    if wanted is None or wanted.kind == "bot":
        known = ", ".join(name for name, one in settings.alerts.channels.items() if one.kind != "bot")
        raise ConfigurationError(
            f"there is no channel {channel!r} to try in [alerts.channels]", hint=f"there are: {known or 'none'}"
        )
    store = open_alert_store(settings)
    try:
        _, manager = make_channels(settings, store)
        if manager is None:
            raise ConfigurationError("[alerts] keys is empty", hint="tapeline alerts key makes one")
        result = manager.test(endpoint_id(channel, wanted))
    finally:
        store.close()
    if result.outcome != "sent":
        raise ProviderError(f"{channel} did not take it: {result.detail or result.outcome}")
    say(f"{channel} took it.")


@alerts_application.command()
def key() -> None:
    """Make a key to seal secrets in the database with, for TAPELINE_ALERTS__KEYS."""
    from tapeline.alerts.delivery.secret_vault import new_key

    say(new_key())


@alerts_application.command()
def rules(path: RulesOption = None) -> None:
    """The rules that there are."""
    found = _rules(path)
    table = new_table(f"{len(found)} rules", ["rule", "condition", "symbols", "how often", "channels", "enabled"])
    for one in found:
        shown = ", ".join(one.symbols[:5]) + (" ..." if len(one.symbols) > 5 else "")
        table.add_row(
            one.id, one.condition, shown, one.frequency, ", ".join(one.channels) or "-", "yes" if one.enabled else "no"
        )
    terminal().print(table)


@alerts_application.command()
def firings(
    rule: Annotated[str | None, typer.Option(help="Of this rule only.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Of this symbol only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 20,
) -> None:
    """The newest firings, and what became of telling them."""
    import pandas as pd

    from tapeline.alerts.service_settings import open_alert_store
    from tapeline.alerts.store.store import FiringQuery
    from tapeline.core.settings import load_settings

    store = open_alert_store(load_settings())
    try:
        page = store.firings(FiringQuery(rule=rule, symbol=symbol), limit=limit)
        rows = [
            (
                pd.Timestamp(one.firing.ts, tz="UTC").strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
                one.firing.rule,
                one.firing.symbol,
                one.firing.kind,
                one.firing.price,
                ", ".join(delivery.state for delivery in store.deliveries(one.firing.id)) or "-",
                one.acknowledged_by or "-",
            )
            for one in page.items
        ]
    finally:
        store.close()
    if not rows:
        say("No firings.")
        return
    columns = ["time (UTC)", "rule", "symbol", "kind", "price", "deliveries", "seen by"]
    print_table(f"{len(rows)} firings", pd.DataFrame(rows, columns=columns))


@alerts_application.command()
def lint(
    path: RuleFile,
    timeframe: Annotated[str | None, typer.Option(help="Also ask stored bars of this timeframe, such as M1.")] = None,
) -> None:
    """What is wrong with rules, and with stored bars how often they would have fired."""
    from datetime import UTC, datetime

    from tapeline.alerts.lint import lint_rule

    table, errors = new_table("Findings", ["rule", "severity", "what"]), 0
    for one in _rules(path):
        bars = None if timeframe is None else {symbol: _bars(symbol, timeframe) for symbol in one.symbols}
        for finding in lint_rule(one, bars, now=datetime.now(UTC)):
            table.add_row(one.id, finding.severity, finding.message)
            errors += finding.severity == "error"
    if table.row_count:
        terminal().print(table)
    else:
        say("Nothing to remark.")
    if errors:
        raise typer.Exit(1)


@alerts_application.command()
def backtest(
    path: RuleFile,
    timeframe: Annotated[str, typer.Option(help="Of the stored bars, such as M1.")] = "M1",
    rule: Annotated[str | None, typer.Option(help="This rule of the file only.")] = None,
) -> None:
    """When rules would have fired on stored bars."""
    from tapeline.alerts.backtest import backtest_rule

    for one in _rules(path):
        if rule is not None and one.id != rule:
            continue
        outcome = backtest_rule(one, {symbol: _bars(symbol, timeframe) for symbol in one.symbols})
        shown = outcome.firings.drop(columns=["explanation", "id"], errors="ignore").tail(20)
        rate = len(outcome.firings) / outcome.days if outcome.days else 0.0
        say(f"{one.id}: {len(outcome.firings)} firings in {outcome.days:.1f} days, {rate:.2f} a day")
        if len(shown):
            print_table("the last of them", shown)


@alerts_application.command()
def replay(
    recordings: Annotated[list[Path], typer.Argument(help="Recorded Binance sessions.")],
    path: RulesOption = None,
) -> None:
    """When rules would have fired in recorded sessions, trade by trade; nobody is told."""
    import pandas as pd

    from tapeline.alerts.replay_run import replay_rules
    from tapeline.streams.dialects.binance import Binance

    found = replay_rules(_rules(path), recordings, Binance())
    rows = [(pd.Timestamp(one.ts, tz="UTC"), one.rule, one.symbol, one.kind, one.price) for one in found]
    if rows:
        print_table("the last of them", pd.DataFrame(rows[-20:], columns=["ts", "rule", "symbol", "kind", "price"]))
    say(f"{len(rows)} firings")


def _say_now(text: str) -> None:
    """Print a line at once, for whoever waits for it behind a pipe."""
    import sys

    say(text)
    sys.stdout.flush()


def _rules(path: Path | None) -> list[Rule]:
    from tapeline.alerts.rule_files import load_rules
    from tapeline.alerts.service_settings import rules_path
    from tapeline.core.settings import load_settings

    return load_rules(path if path is not None else rules_path(load_settings()))


def _bars(symbol: str, timeframe: str) -> pd.DataFrame:
    from tapeline.cli import stored_bars

    return stored_bars(symbol, timeframe)[0]
