"""Tables: users, API keys, token families, tickets, login attempts and the audit log."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Table

from tapeline.alerts.store.metadata import metadata, text_column, whole_column

user: Final = Table(
    "alert_user",
    metadata,
    text_column("name", key=True),
    # The name without regard to case: no two users' names may differ by that alone.
    text_column("folded"),
    text_column("email"),
    text_column("role"),
    Column("enabled", Boolean, nullable=False),
    # Argon2's own notation, salt and costs in it; empty: nobody logs in with a password.
    text_column("password"),
    whole_column("password_changed_at"),
    text_column("quotas"),
    Column("revision", Integer, nullable=False),
    whole_column("created_at"),
    whole_column("changed_at"),
    # What was removed keeps its row and so its name: nobody may inherit another's rules and firings.
    Column("removed_at", BigInteger, nullable=True),
    Index("alert_user_folded", "folded", unique=True),
    Index("alert_user_role", "role"),
)

api_key: Final = Table(
    "alert_api_key",
    metadata,
    text_column("id", key=True),
    text_column("owner"),
    text_column("name"),
    text_column("digest"),
    text_column("scopes"),
    whole_column("created_at"),
    Column("expires_at", BigInteger, nullable=True),
    whole_column("last_used_at"),
    Column("revoked_at", BigInteger, nullable=True),
    Index("alert_api_key_owner", "owner"),
)

token_family: Final = Table(
    # One login and all tokens that came of it.
    "alert_token_family",
    metadata,
    text_column("id", key=True),
    text_column("owner"),
    text_column("current"),
    text_column("previous"),
    whole_column("created_at"),
    whole_column("rotated_at"),
    whole_column("expires_at"),
    Column("revoked_at", BigInteger, nullable=True),
    text_column("reason"),
    text_column("address"),
    Index("alert_token_family_owner", "owner"),
    Index("alert_token_family_expires", "expires_at"),
)

ticket: Final = Table(
    "alert_ticket",
    metadata,
    text_column("digest", key=True),
    text_column("owner"),
    text_column("credential"),
    text_column("scopes"),
    whole_column("expires_at"),
    Index("alert_ticket_expires", "expires_at"),
)

login_attempt: Final = Table(
    "alert_login_attempt",
    metadata,
    text_column("key", key=True),
    Column("failures", Integer, nullable=False),
    whole_column("blocked_until"),
    whole_column("forgotten_at"),
    Index("alert_login_attempt_forgotten", "forgotten_at"),
)

audit: Final = Table(
    "alert_audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False, nullable=False),
    whole_column("at"),
    text_column("actor"),
    text_column("credential"),
    text_column("action"),
    text_column("kind"),
    text_column("record"),
    text_column("before"),
    text_column("after"),
    text_column("address"),
    text_column("request_id"),
    text_column("previous_hash"),
    text_column("hash"),
    Index("alert_audit_actor", "actor", "number"),
    Index("alert_audit_record", "kind", "record", "number"),
)

audit_head: Final = Table(
    # One row: the newest number and hash, signed by a key that is not in the database. Whoever appends locks it.
    "alert_audit_head",
    metadata,
    text_column("name", key=True),
    whole_column("number"),
    text_column("hash"),
    whole_column("doubt"),
    text_column("signature"),
)
