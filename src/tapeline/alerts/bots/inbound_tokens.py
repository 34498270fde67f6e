"""Who may send alerts in: tokens that stand in an address, of which only digests are kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from tapeline.alerts.access.quotas import QuotaExceededError
from tapeline.alerts.rule import Name, Priority, SymbolName
from tapeline.alerts.store.bot_tables import inbound_token
from tapeline.alerts.store.database import Database
from tapeline.alerts.store.store import UnknownRecordError
from tapeline.core.errors import ConfigurationError
from tapeline.core.nanoseconds import SECOND

PREFIX: Final = "tv_"
FEWEST_CHARACTERS: Final = 43
"""Of a token: 256 bits in the alphabet of URLs."""
MOST_SOURCES: Final = 50
"""Of one owner."""
GRACE: Final = 86_400
"""Seconds for which the old token of a rotation is still taken."""
TRADINGVIEW: Final = ("52.89.214.238", "34.212.75.30", "54.218.53.128", "52.32.178.7")
"""The addresses that TradingView publishes for its webhooks (help centre, "How to configure webhook alerts")."""
_Ticker = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:!/-]{0,63}$")]
_Side = Literal["buy", "sell", "close"]


class InboundSettings(BaseModel):
    """What one token may say, and who is told.

    Parameters
    ----------
    symbols:
        Our names by TradingView's, with or without its exchange; with any, other tickers are refused.
    sides:
        Which actions may come in; with any, an alert without action or position is refused too.
    most_contracts:
        The largest size.
    channels:
        Who is told and which bots get a signal; all channels of the owner where absent.
    priority:
        Of what comes of it.
    fresh_seconds:
        How far its time may lie from ours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    symbols: Annotated[dict[_Ticker, SymbolName], Field(max_length=1_000)] = {}
    sides: frozenset[_Side] = frozenset()
    most_contracts: Annotated[float, Field(gt=0, le=1e15)] | None = None
    channels: Annotated[tuple[Name, ...], Field(max_length=20)] | None = None
    priority: Priority = "normal"
    fresh_seconds: Annotated[float, Field(ge=1, le=300)] = 60.0


@dataclass(frozen=True, slots=True)
class InboundSource:
    """Whose alerts come in by a token, under which name, and what they may say."""

    owner: str
    source: str
    settings: InboundSettings
    created_at: int = 0
    expires_at: int = 0


class InboundTokens:
    """The tokens of all users.

    Parameters
    ----------
    database:
        The alert store's.
    configured:
        Tokens of the settings, by owner; they cannot be changed here.

    Raises
    ------
    ConfigurationError
        One of them is weaker than 256 random bits look.
    """

    def __init__(self, database: Database, configured: Mapping[str, str] | None = None) -> None:
        self._database = database
        self._configured: dict[str, InboundSource] = {}
        for owner, token in (configured or {}).items():
            if len(token) < FEWEST_CHARACTERS or len(set(token)) < 16 or not _spelt(token):
                raise ConfigurationError(
                    f"[alerts.gateway] inbound_tokens.{owner} is too weak",
                    hint=f"at least {FEWEST_CHARACTERS} random letters, digits, - and _: "
                    "python -c 'import secrets; print(secrets.token_urlsafe(32))'",
                )
            self._configured[_digest(token)] = InboundSource(owner, "configured", InboundSettings())

    def create(self, owner: str, source: str, settings: InboundSettings, *, now: int) -> str:
        """A new token for a new source; it is shown this once.

        Raises
        ------
        ConfigurationError
            The owner has a source of this name.
        QuotaExceededError
            He has as many as he may have.
        """
        token = new_token()

        def work(db: Connection) -> None:
            if db.execute(select(inbound_token.c.digest).where(*_of(owner, source)).limit(1)).first() is not None:
                raise ConfigurationError(f"there is a source {source!r} already", hint="rotate its token")
            standing = inbound_token.c.owner == owner, inbound_token.c.expires_at == 0
            if db.execute(select(func.count()).where(*standing)).scalar_one() >= MOST_SOURCES:
                raise QuotaExceededError(f"more than {MOST_SOURCES} sources of alerts")
            db.execute(insert(inbound_token), [_row(token, owner, source, settings, now)])

        self._database.write(work)
        return token

    def rotate(self, owner: str, source: str, *, now: int, grace: int = GRACE) -> str:
        """Another token; the old one is taken for ``grace`` seconds more.

        Raises
        ------
        UnknownRecordError
            There is no such source.
        """
        token = new_token()

        def work(db: Connection) -> None:
            known = _newest(db, owner, source)
            until = now + grace * SECOND
            standing = and_(
                *_of(owner, source), or_(inbound_token.c.expires_at == 0, inbound_token.c.expires_at > until)
            )
            db.execute(update(inbound_token).where(standing).values(expires_at=max(until, 1)))
            db.execute(delete(inbound_token).where(inbound_token.c.expires_at > 0, inbound_token.c.expires_at <= now))
            db.execute(insert(inbound_token), [_row(token, owner, source, known.settings, now)])

        self._database.write(work)
        return token

    def change(self, owner: str, source: str, settings: InboundSettings) -> InboundSource:
        """Other settings for a source, whichever of its tokens is used."""

        def work(db: Connection) -> InboundSource:
            _newest(db, owner, source)
            text = settings.model_dump_json()
            db.execute(update(inbound_token).where(*_of(owner, source)).values(settings=text))
            return _newest(db, owner, source)

        return self._database.write(work)

    def delete(self, owner: str, source: str) -> bool:
        """No longer take what comes by a source's tokens; False where there is none."""
        statement = delete(inbound_token).where(*_of(owner, source))
        return self._database.write(lambda db: db.execute(statement).rowcount) > 0

    def sources(self, owner: str) -> tuple[InboundSource, ...]:
        """The sources of an owner by name, each once."""
        statement = (
            select(inbound_token)
            .where(inbound_token.c.owner == owner, inbound_token.c.expires_at == 0)
            .order_by(inbound_token.c.source)
        )
        return self._database.read(lambda db: tuple(_source(row) for row in db.execute(statement).mappings()))

    def find(self, token: str, *, now: int) -> InboundSource | None:
        """Whose token it is; None where it is nobody's, or its grace is over."""
        if not _spelt(token):
            return None
        digest = _digest(token)
        found: InboundSource | None = None
        for known, source in self._configured.items():
            if hmac.compare_digest(known, digest):
                found = source
        if found is not None:
            return found
        statement = select(inbound_token).where(inbound_token.c.digest == digest)
        row = self._database.read(lambda db: db.execute(statement).mappings().first())
        if row is None or not hmac.compare_digest(row["digest"], digest) or 0 < row["expires_at"] <= now:
            return None
        return _source(row)


def new_token() -> str:
    """A random token of 256 bits."""
    return PREFIX + secrets.token_urlsafe(32)


def may_come_from(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address lies in one of the networks; in any where there are none.

    Examples
    --------
    >>> may_come_from("52.89.214.238", TRADINGVIEW), may_come_from("203.0.113.9", TRADINGVIEW)
    (True, False)
    """
    if not networks:
        return True
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in ip_network(each) for each in networks)


def _spelt(token: str) -> bool:
    return len(token) <= 200 and token.isascii() and token.replace("-", "").replace("_", "").isalnum()


def _digest(token: str) -> str:
    # Of 256 random bits: nothing to salt or to slow down.
    return hashlib.sha256(token.encode()).hexdigest()


def _of(owner: str, source: str) -> tuple[Any, ...]:
    return inbound_token.c.owner == owner, inbound_token.c.source == source


def _row(token: str, owner: str, source: str, settings: InboundSettings, now: int) -> dict[str, Any]:
    return {
        "digest": _digest(token),
        "owner": owner,
        "source": source,
        "created_at": now,
        "expires_at": 0,
        "settings": settings.model_dump_json(),
    }


def _newest(db: Connection, owner: str, source: str) -> InboundSource:
    statement = select(inbound_token).where(*_of(owner, source), inbound_token.c.expires_at == 0)
    row = db.execute(statement.with_for_update()).mappings().first()
    if row is None:
        raise UnknownRecordError(f"there is no source {source!r}")
    return _source(row)


def _source(row: Any) -> InboundSource:
    settings = InboundSettings.model_validate_json(row["settings"])
    return InboundSource(row["owner"], row["source"], settings, row["created_at"], row["expires_at"])
