"""``tapeline alerts config`` and ``symbols``: what an owner has set, as one document with versions; what is watched."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tapeline.console import new_table, say, terminal

if TYPE_CHECKING:
    from tapeline.alerts.configuration import AlertConfigManager, Applied
    from tapeline.alerts.configuration_document import Document
    from tapeline.alerts.store.sql_store import SqlStore

DocumentFile = Annotated[Path, typer.Argument(help="A YAML or JSON file, as 'export' writes it.")]
Owner = Annotated[str, typer.Option(help="Whose configuration.")]
Name = Annotated[str, typer.Option(help="Which of his configurations.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
KeepOthers = Annotated[bool, typer.Option("--keep-others", help="Keep rules and silences that the file does not name.")]
Expected = Annotated[
    int | None,
    typer.Option("--expect", min=0, help="Only where this version stands (0: none yet); else nothing is done."),
]
_LARGEST = 64 * 2**20

config_application = typer.Typer(help="Configurations: export, diff, apply, versions, rollback.", no_args_is_help=True)
symbols_application = typer.Typer(help="Symbols: list, add, name, import.", no_args_is_help=True)


def mount_config(application: typer.Typer) -> None:
    """Add the commands to ``tapeline alerts``."""
    application.add_typer(config_application, name="config")
    application.add_typer(symbols_application, name="symbols")


@config_application.command()
def export(owner: Owner = "me", as_json: AsJson = False) -> None:
    """Write what stands: rules, silences, endpoints without address and secrets, aliases."""
    with _configurations() as (configurations, _, _):
        sys.stdout.write(configurations.export(owner).text(as_json=as_json))


@config_application.command()
def diff(file: DocumentFile, owner: Owner = "me", as_json: AsJson = False, keep_others: KeepOthers = False) -> None:
    """What applying a file would change; ends with 1 where there is something, as diff does."""
    document = _document(file, owner)
    with _configurations() as (configurations, _, _):
        plan = configurations.plan(owner, document, remove=not keep_others)
    say(json.dumps(plan.plain(), indent=2, ensure_ascii=False) if as_json else plan.text())
    if plan:
        raise typer.Exit(1)


@config_application.command()
def apply(
    file: DocumentFile,
    owner: Owner = "me",
    name: Name = "main",
    comment: Annotated[str, typer.Option(help="What for.")] = "",
    expected: Expected = None,
    keep_others: KeepOthers = False,
) -> None:
    """Let a file stand: all of it in one transaction, or nothing. A running engine takes it within about a second."""
    document = _document(file, owner)
    with _configurations() as (configurations, audited, actor):
        with audited("configuration.apply", name, {"owner": owner, "comment": comment}):
            applied = configurations.apply(
                owner, name, document, by=actor, comment=comment, expected=expected, remove=not keep_others
            )
        _tell(applied)


@config_application.command()
def versions(owner: Owner = "me", name: Name = "main") -> None:
    """The versions of a configuration, the newest first."""
    with _configurations() as (configurations, _, _):
        table = new_table(f"{name} of {owner}", ["version", "time (UTC)", "by", "comment", "digest"])
        for one in configurations.versions(owner, name):
            at = datetime.fromtimestamp(one.at / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
            table.add_row(str(one.version), at, one.by, one.comment or "-", one.digest[:16])
    terminal().print(table)


@config_application.command()
def rollback(
    version: Annotated[int, typer.Argument(min=1, help="Which version is to stand again.")],
    owner: Owner = "me",
    name: Name = "main",
    expected: Expected = None,
) -> None:
    """Let stand again what stood at a version, as a new version."""
    with _configurations() as (configurations, audited, actor):
        with audited("configuration.rollback", name, {"owner": owner, "version": version}):
            applied = configurations.rollback(owner, name, version, by=actor, expected=expected)
        _tell(applied)


@symbols_application.command("list")
def list_symbols(prefix: Annotated[str, typer.Option(help="Only those that begin so.")] = "") -> None:
    """The symbols that rules of users may name."""
    from tapeline.alerts.symbol_manager import SymbolManager

    with _store() as store:
        manager, cursor = SymbolManager(store.database, clock=time.time_ns), ""
        table = new_table("Symbols", ["symbol", "base", "quote", "class", "status", "held by", "names"])
        counts, names = manager.counts(), manager.names()
        while True:
            page = manager.instruments(cursor=cursor, prefix=prefix)
            for one in page.items:
                called = ", ".join(f"{source}: {name}" for source, name in names.get(one.symbol, {}).items())
                held = str(counts[one.symbol])
                table.add_row(one.symbol, one.base, one.quote, one.asset_class, one.status, held, called or "-")
            if page.cursor is None:
                break
            cursor = page.cursor
    terminal().print(table)


@symbols_application.command("add")
def add_symbol(
    symbol: Annotated[str, typer.Argument(help="As rules are to name it.")],
    base: Annotated[str, typer.Option(help="What is traded.")] = "",
    quote: Annotated[str, typer.Option(help="What for.")] = "",
    asset_class: Annotated[str, typer.Option("--class", help="crypto, equity, fx, ...")] = "crypto",
) -> None:
    """Add a symbol, or change it."""
    from tapeline.alerts.symbol_manager import Instrument, SymbolManager

    with _store() as store:
        made = Instrument(symbol, base, quote, asset_class)
        SymbolManager(store.database, clock=time.time_ns).add([made], by=_actor())
    say(f"{symbol} is known.")


@symbols_application.command("name")
def name_symbol(
    symbol: Annotated[str, typer.Argument(help="A symbol that is known.")],
    source: Annotated[str, typer.Argument(help="Such as kraken.")],
    name: Annotated[str, typer.Argument(help="What the source calls it.")],
) -> None:
    """Say what a source calls a symbol."""
    from tapeline.alerts.symbol_manager import SymbolManager

    with _store() as store:
        SymbolManager(store.database, clock=time.time_ns).name(source, name, symbol)
    say(f"{source} calls {symbol} {name}.")


@symbols_application.command("import")
def import_symbols(
    source: Annotated[str, typer.Argument(help="binance, kraken or coinbase.")],
    file: Annotated[Path, typer.Argument(help="The venue's answer: exchangeInfo, AssetPairs, products.")],
) -> None:
    """Take what a venue lists into the symbols that are known, with the venue's names."""
    from tapeline.alerts.exchange_listings import read_listings
    from tapeline.alerts.symbol_manager import SymbolManager

    listings = read_listings(source, _bytes(file))
    with _store() as store:
        manager = SymbolManager(store.database, clock=time.time_ns)
        changed = manager.take_listings(source, listings, by=_actor())
    say(f"{len(listings)} listed, {changed} new or changed.")


def _tell(applied: Applied) -> None:
    say(applied.plan.text())
    say(f"{applied.version.name} of {applied.version.owner} is at version {applied.version.version}.")


def _document(file: Path, owner: str) -> Document:
    from tapeline.alerts.configuration_document import read_document
    from tapeline.core.errors import DataError

    try:
        text = _bytes(file).decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{file} is not UTF-8") from None
    return read_document(text, owner, is_json=file.suffix == ".json")


def _bytes(file: Path) -> bytes:
    from tapeline.core.errors import ConfigurationError

    try:
        if file.stat().st_size > _LARGEST:
            raise ConfigurationError(f"{file} is larger than {_LARGEST} bytes")
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None


@contextmanager
def _store() -> Iterator[SqlStore]:
    from tapeline.alerts.service_settings import open_alert_store
    from tapeline.core.settings import load_settings

    store = open_alert_store(load_settings())
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _configurations() -> Iterator[tuple[AlertConfigManager, Any, str]]:
    """The configurations; a context in which a change is written into the audit log, where there is a key; who acts."""
    from contextlib import nullcontext

    from tapeline.alerts.access.access_control import AccessControl, AccessSettings
    from tapeline.alerts.configuration import AlertConfigManager
    from tapeline.core.settings import load_settings

    gateway = load_settings().alerts.gateway
    with _store() as store:
        access = AccessControl(store.database, AccessSettings.of(gateway)) if gateway.signing_keys else None

        def audited(action: str, name: str, after: Any) -> Any:
            if access is None:
                return nullcontext()
            return access.audit.entry(_actor(), action, "configuration", name, after=after)

        yield AlertConfigManager(store, clock=time.time_ns), audited, _actor()


def _actor() -> str:
    import getpass

    return f"(command line: {getpass.getuser()})"
