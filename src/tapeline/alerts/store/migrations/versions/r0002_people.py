"""The schema grows: users, API keys, token families and the audit log, which the database itself keeps append-only."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"

_SQLITE: Final = (
    """CREATE TRIGGER alert_audit_no_update BEFORE UPDATE ON alert_audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    """CREATE TRIGGER alert_audit_no_delete BEFORE DELETE ON alert_audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    """CREATE TRIGGER alert_audit_head_onward BEFORE UPDATE ON alert_audit_head WHEN NEW.number <= OLD.number
    BEGIN SELECT RAISE(ABORT, 'the head of the audit log only goes on'); END""",
    """CREATE TRIGGER alert_audit_head_stays BEFORE DELETE ON alert_audit_head
    BEGIN SELECT RAISE(ABORT, 'the head of the audit log only goes on'); END""",
)
_POSTGRESQL: Final = (
    """CREATE FUNCTION alert_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$""",
    """CREATE TRIGGER alert_audit_append_only BEFORE UPDATE OR DELETE ON alert_audit
    FOR EACH ROW EXECUTE FUNCTION alert_audit_refuse()""",
    """CREATE TRIGGER alert_audit_no_truncate BEFORE TRUNCATE ON alert_audit
    FOR EACH STATEMENT EXECUTE FUNCTION alert_audit_refuse()""",
    """CREATE TRIGGER alert_audit_head_onward BEFORE UPDATE ON alert_audit_head
    FOR EACH ROW WHEN (NEW.number <= OLD.number) EXECUTE FUNCTION alert_audit_refuse()""",
    """CREATE TRIGGER alert_audit_head_stays BEFORE DELETE ON alert_audit_head
    FOR EACH ROW EXECUTE FUNCTION alert_audit_refuse()""",
    """CREATE TRIGGER alert_audit_head_no_truncate BEFORE TRUNCATE ON alert_audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION alert_audit_refuse()""",
)


def upgrade() -> None:
    """Build the tables, and the triggers that keep rows of the audit log from being changed or removed."""
    op.create_table(
        "alert_user",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("name", "folded", "email", "role")),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("password", sa.Text, nullable=False),
        sa.Column("password_changed_at", sa.BigInteger, nullable=False),
        sa.Column("quotas", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("removed_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("alert_user_folded", "alert_user", ["folded"], unique=True)
    op.create_index("alert_user_role", "alert_user", ["role"])
    op.create_table(
        "alert_api_key",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("id", "owner", "name", "digest", "scopes")),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=True),
        sa.Column("last_used_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_api_key_owner", "alert_api_key", ["owner"])
    op.create_table(
        "alert_token_family",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("id", "owner", "current", "previous")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("created_at", "rotated_at", "expires_at")),
        sa.Column("revoked_at", sa.BigInteger, nullable=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("alert_token_family_owner", "alert_token_family", ["owner"])
    op.create_index("alert_token_family_expires", "alert_token_family", ["expires_at"])
    op.create_table(
        "alert_ticket",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("digest", "owner", "credential", "scopes")),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("alert_ticket_expires", "alert_ticket", ["expires_at"])
    op.create_table(
        "alert_login_attempt",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("blocked_until", sa.BigInteger, nullable=False),
        sa.Column("forgotten_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("alert_login_attempt_forgotten", "alert_login_attempt", ["forgotten_at"])
    _audit_tables()
    for statement in _POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _SQLITE:
        op.execute(statement)


def _audit_tables() -> None:
    texts = ("actor", "credential", "action", "kind", "record", "before", "after", "address", "request_id")
    op.create_table(
        "alert_audit",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in (*texts, "previous_hash", "hash")),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("alert_audit_actor", "alert_audit", ["actor", "number"])
    op.create_index("alert_audit_record", "alert_audit", ["kind", "record", "number"])
    op.create_table(
        "alert_audit_head",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("doubt", sa.BigInteger, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def downgrade() -> None:
    """An audit log is not taken away."""
    raise NotImplementedError("a schema is never taken back: restore a backup")
