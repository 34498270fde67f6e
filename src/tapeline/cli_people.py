"""``tapeline alerts user``, ``api-key`` and ``audit``: people, their keys, and the log of what was done."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tapeline.console import new_table, say, terminal

if TYPE_CHECKING:
    from tapeline.alerts.access.access_control import AccessControl
    from tapeline.alerts.access.principal import Role

Name = Annotated[str, typer.Argument(help="The user's name.")]
Stdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]

user_application = typer.Typer(help="Users: add, list, role, quota, password, disable, enable.", no_args_is_help=True)
api_key_application = typer.Typer(help="API keys: add, list, revoke.", no_args_is_help=True)
audit_application = typer.Typer(help="The audit log: show, verify, accept.", no_args_is_help=True)


def mount(application: typer.Typer) -> None:
    """Add the commands to ``tapeline alerts``."""
    application.add_typer(user_application, name="user")
    application.add_typer(api_key_application, name="api-key")
    application.add_typer(audit_application, name="audit")


@user_application.command("add")
def add_user(
    name: Name,
    role: Annotated[str, typer.Option(help="viewer, user, operator or admin.")] = "user",
    email: Annotated[str, typer.Option(help="Where he is reached.")] = "",
    no_password: Annotated[bool, typer.Option("--no-password", help="Known by an API key only.")] = False,
    password_stdin: Stdin = False,
) -> None:
    """Add a user; the first one with --role admin adds the others through the API or here."""
    with _access() as (access, actor):
        password = None if no_password else _password(password_stdin)
        with access.audit.entry(actor, "user.create", "user", name, after=lambda user: user):
            made = access.users.add(name, role=_role(role), email=email, password=password)
        say(f"{made.name} ({made.role}) can log in." if password else f"{made.name} ({made.role}) needs an API key.")


@user_application.command("list")
def list_users() -> None:
    """The users there are."""
    with _access() as (access, _):
        table, after = new_table("Users", ["name", "role", "enabled", "password", "e-mail", "own quotas"]), ""
        while found := access.users.all(after=after):
            for one in found:
                quotas = ", ".join(f"{key} {value}" for key, value in one.own_quotas.items()) or "-"
                known = ["yes" if flag else "no" for flag in (one.enabled, one.has_password)]
                table.add_row(one.name, one.role, *known, one.email or "-", quotas)
            after = found[-1].name
        terminal().print(table)


@user_application.command("role")
def set_role(name: Name, role: Annotated[str, typer.Argument(help="viewer, user, operator or admin.")]) -> None:
    """Give a user another role; it counts within a second."""
    with _access() as (access, actor):
        with access.audit.entry(actor, "user.change", "user", name, access.users.get(name), lambda user: user):
            access.users.change(name, role=_role(role))
        say(f"{name} is {role}.")


@user_application.command("quota")
def set_quota(
    name: Name,
    quota: Annotated[str, typer.Argument(help="rules, endpoints, api_keys, symbols or silences.")],
    limit: Annotated[int, typer.Argument(min=0, help="How many he may have.")],
) -> None:
    """Let a user have more or fewer of something."""
    with _access() as (access, actor):
        before = access.users.get(name)
        quotas = {**(before.own_quotas if before else {}), quota: limit}
        with access.audit.entry(actor, "user.change", "user", name, before, lambda user: user):
            access.users.change(name, quotas=quotas)
        say(f"{name} may have {limit} {quota}.")


@user_application.command("password")
def set_password(name: Name, password_stdin: Stdin = False) -> None:
    """Give a user a new password; all of his logins end."""
    with _access() as (access, actor):
        password = _password(password_stdin)
        with access.audit.entry(actor, "password.give", "user", name):
            access.users.set_password(name, password)
        say(f"{name} has a new password, and must log in with it.")


@user_application.command()
def disable(name: Name) -> None:
    """Shut a user out: his tokens end, his keys are refused."""
    _enable(name, enabled=False)


@user_application.command()
def enable(name: Name) -> None:
    """Let a user in again; he must log in anew."""
    _enable(name, enabled=True)


@api_key_application.command("add")
def add_key(
    owner: Annotated[str, typer.Argument(help="Whose key it is.")],
    name: Annotated[str, typer.Argument(help="What he calls it.")],
    scope: Annotated[list[str], typer.Option(help="What it may do, such as rules:read; several times.")],
    days: Annotated[int | None, typer.Option(min=1, max=3_650, help="For how many days; for ever if absent.")] = None,
) -> None:
    """Make a key for a program; it is shown this once."""
    import time

    from tapeline.alerts.store.store import UnknownRecordError

    with _access() as (access, actor):
        if access.users.get(owner) is None:
            raise UnknownRecordError(f"there is no user {owner!r}")
        expires = None if days is None else time.time_ns() + days * 86_400 * 10**9
        with access.audit.entry(actor, "key.create", "api_key", lambda key: key.id, after=lambda key: key):
            _, text = access.keys.create(owner, name, scope, expires_at=expires)
        say(text)


@api_key_application.command("list")
def list_keys(owner: Annotated[str, typer.Argument(help="Whose keys.")]) -> None:
    """A user's keys that are not revoked."""
    with _access() as (access, _):
        table = new_table(f"Keys of {owner}", ["id", "name", "scopes", "made", "expires", "last used"])
        for one in access.keys.all(owner):
            times = (_instant(value) for value in (one.created_at, one.expires_at, one.last_used_at))
            table.add_row(one.id, one.name, ", ".join(sorted(one.scopes)), *times)
        terminal().print(table)


@api_key_application.command("revoke")
def revoke_key(
    owner: Annotated[str, typer.Argument(help="Whose key.")],
    id: Annotated[str, typer.Argument(help="Its id: what stands behind tlk_.")],
) -> None:
    """Make a key worthless, within a second."""
    with _access() as (access, actor):
        with access.audit.entry(actor, "key.revoke", "api_key", id, before=lambda key: key):
            access.keys.revoke(owner, id)
        say(f"The key {id} is refused from now on.")


@audit_application.command()
def show(
    actor: Annotated[str | None, typer.Option(help="Of this user only.")] = None,
    action: Annotated[str | None, typer.Option(help="This action only, such as rule.create.")] = None,
    kind: Annotated[str | None, typer.Option(help="Of this kind of record only, such as rule.")] = None,
    record: Annotated[str | None, typer.Option(help="Of the record of this id only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 20,
) -> None:
    """What was done, the newest first."""
    with _access() as (access, _):
        found = access.audit.rows(actor=actor, action=action, kind=kind, id=record, limit=limit)
        table = new_table("Audit log", ["number", "time (UTC)", "who", "action", "what", "before", "after", "from"])
        for row in found:
            what = f"{row.kind} {row.record}".strip()
            cut = [text if len(text) <= 60 else text[:57] + "..." for text in (row.before, row.after)]
            table.add_row(str(row.number), _instant(row.at), row.actor, row.action, what, *cut, row.address or "-")
        terminal().print(table)


@audit_application.command()
def verify(
    head: Annotated[
        str | None, typer.Option(help="NUMBER:HASH that an earlier verification told: shows a log that was set back.")
    ] = None,
) -> None:
    """Read the whole log and say what is wrong with it; exit status 1 where something is."""
    from tapeline.alerts.access.audit_chain import Head
    from tapeline.core.errors import ConfigurationError

    known = None
    if head is not None:
        number, _, hash = head.partition(":")
        if not (number.isascii() and number.isdigit() and hash):
            raise ConfigurationError("--head is not NUMBER:HASH", hint="as `tapeline alerts audit verify` told it")
        known = Head(int(number), hash)
    with _access() as (access, _):
        found = access.audit.verify(known)
    for one in found.findings:
        say(f"row {one.number} {one.problem}")
    if not found.intact:
        say(f"{len(found.findings)} findings in {found.rows} rows: the log was tampered with.")
        raise typer.Exit(1)
    say(f"{found.rows} rows, nothing is wrong. Note this head elsewhere:")
    say(f"{found.head.number}:{found.head.hash}")


@audit_application.command()
def accept(reason: Annotated[str, typer.Argument(help="Why the head carried no signature of ours.")]) -> None:
    """Go on after the signing keys were lost; it stands in the log that somebody did."""
    with _access() as (access, actor):
        row = access.audit.accept(actor, reason)
        say(f"Row {row.number} says so.")


@contextmanager
def _access() -> Iterator[tuple[AccessControl, str]]:
    """Access control over the settings' database, and as whom this terminal is told of."""
    import getpass

    from tapeline.alerts.service_settings import open_alert_store
    from tapeline.core.settings import load_settings

    settings = load_settings()
    from tapeline.alerts.access.access_control import AccessControl, AccessSettings

    store = open_alert_store(settings)
    try:
        access = AccessControl(store.database, AccessSettings.of(settings.alerts.gateway))
        yield access, f"(command line: {getpass.getuser()})"
    finally:
        store.close()


def _enable(name: str, *, enabled: bool) -> None:
    with _access() as (access, actor):
        with access.audit.entry(actor, "user.change", "user", name, access.users.get(name), lambda user: user):
            access.users.change(name, enabled=enabled)
        say(f"{name} is {'let in again' if enabled else 'shut out'}.")


def _password(from_stdin: bool) -> str:
    """Never as an argument: those stand in the list of processes and in the shell's history."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _role(text: str) -> Role:
    from tapeline.alerts.access.principal import ROLES
    from tapeline.core.errors import ConfigurationError

    for role in ROLES:
        if role == text:
            return role
    raise ConfigurationError(f"there is no role {text!r}", hint=f"there are {', '.join(ROLES)}")


def _instant(nanoseconds: int | None) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(nanoseconds / 1e9, UTC):%Y-%m-%d %H:%M:%S}" if nanoseconds else "-"
