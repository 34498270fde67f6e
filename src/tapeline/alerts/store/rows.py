"""Records to rows and back: the one place that knows how a value lies in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import RowMapping

from tapeline.alerts.firing import Firing, Side
from tapeline.alerts.records import Attempt, DeadLetter, Delivery, RuleState, Silence
from tapeline.alerts.rule import Rule
from tapeline.alerts.store import metadata
from tapeline.alerts.store.store import Acknowledgement, Endpoint, StoredFiring, StoredRule
from tapeline.core.errors import DataError, MissingExtraError

try:
    import msgspec
except ImportError as error:
    raise MissingExtraError("msgspec", "alerts") from error

Row = Mapping[str, Any] | RowMapping
FINISHED: Final = ("sent", "dead", "expired")
_ADMITTED: Final = ("waiting", "held", *FINISHED)
_encode: Final = msgspec.json.Encoder().encode
_sides: Final = msgspec.json.Decoder(list[tuple[str, float | str, float | str, bool | None]]).decode
_labels: Final = msgspec.json.Decoder(dict[str, str]).decode
_settings: Final = msgspec.json.Decoder(dict[str, Any]).decode
_state: Final = msgspec.json.Decoder(RuleState).decode
_secrets: Final = msgspec.msgpack.Decoder(tuple[bytes, ...]).decode


def firing_row(id: str, firing: Firing, number: int) -> tuple[Any, ...]:
    """A firing in the order of its table's columns. A price that is not known is null: SQLite knows no NaN."""
    price = firing.price
    return _storable(
        (
            id,
            firing.symbol,
            number,
            firing.dedupe_key,
            firing.rule,
            firing.rule_version,
            firing.owner,
            firing.kind,
            firing.ts,
            firing.detected_at,
            None if price != price else price,
            firing.sequence,
            firing.late,
            firing.lateness,
            firing.bar,
            firing.at_close,
            firing.priority,
            _encode([(s.text, _finite(s.left), _finite(s.right), s.held) for s in firing.sides]).decode(),
            _encode(firing.labels).decode(),
        )
    )


def firing_of(row: Sequence[Any]) -> StoredFiring:
    """A firing from the columns of its table, in their order, and who acknowledged it and when."""
    _, symbol, number, key, rule, version, owner, kind, ts, detected_at, price, sequence, late, lateness = row[:14]
    bar, at_close, priority, sides, labels, acknowledged_by, acknowledged_at = row[14:]
    firing = Firing(
        dedupe_key=key,
        rule=rule,
        rule_version=version,
        owner=owner,
        symbol=symbol,
        kind=kind,
        ts=ts,
        detected_at=detected_at,
        price=float("nan") if price is None else price,
        sequence=sequence,
        late=bool(late),
        lateness=lateness,
        bar=bar,
        at_close=bool(at_close),
        priority=priority,
        sides=tuple(Side(text, float(left), float(right), held) for text, left, right, held in _sides(sides)),
        labels=_labels(labels),
    )
    return StoredFiring(number, firing, acknowledged_by, acknowledged_at or 0)


def delivery_row(delivery: Delivery, number: int) -> tuple[Any, ...]:
    """A delivery in the order of its table's columns.

    Raises
    ------
    DataError
        It is in flight before it was ever claimed, or holds a character that no database keeps.
    """
    if delivery.state not in _ADMITTED:
        raise DataError(
            f"delivery {delivery.id!r} is {delivery.state!r} before it was claimed", hint=f"use one of {_ADMITTED}"
        )
    return _storable(
        (
            delivery.id,
            number,
            delivery.firing,
            delivery.channel,
            delivery.endpoint,
            delivery.body,
            delivery.created_at,
            delivery.not_before,
            delivery.expires_at,
            delivery.order,
            delivery.group,
            delivery.priority,
            delivery.attempts,
            delivery.tried_before,
            delivery.state,
            0,
            0,
            delivery.created_at if delivery.state in FINISHED else None,
            "",
            0,
            "",
        )
    )


def delivery_of(row: Row) -> Delivery:
    """A delivery from its row."""
    return Delivery(
        id=row["id"],
        firing=row["firing"],
        channel=row["channel"],
        endpoint=row["endpoint"],
        body=row["body"],
        created_at=row["created_at"],
        not_before=row["not_before"],
        expires_at=row["expires_at"],
        order=row["order_key"],
        group=row["group_key"],
        priority=row["priority"],
        attempts=row["attempts"],
        state=row["state"],
        tried_before=row["tried_before"],
    )


def dead_letter_of(row: Row) -> DeadLetter:
    """A dead letter from a delivery's row."""
    return DeadLetter(delivery_of(row), row["finished_at"], row["outcome"] or "refused", row["status"], row["detail"])


def attempt_of(row: Row) -> Attempt:
    """An attempt from its row."""
    return Attempt(**{field.name: row[field.name] for field in fields(Attempt)})


def state_row(state: RuleState) -> tuple[Any, ...]:
    """A rule's state in the order of its table's columns."""
    return _storable((state.rule, state.symbol, state.phase, _encode(state).decode()))


def state_of(row: Row) -> RuleState:
    """A rule's state from its row; what a newer version added has its default."""
    return _state(row["body"])


def rule_text(rule: Rule) -> str:
    """A rule as its row keeps it."""
    return plain(rule.model_dump_json())


def rule_of(row: Row) -> StoredRule:
    """One revision of a rule from its row."""
    return StoredRule(
        rule=Rule.model_validate_json(row["body"]),
        revision=row["revision"],
        number=row["number"],
        changed_at=row["changed_at"],
        changed_by=row["changed_by"],
        deleted=bool(row["deleted"]),
    )


def silence_values(silence: Silence) -> dict[str, Any]:
    """A silence by its table's columns."""
    return _values(metadata.silence.columns.keys(), silence) | {
        "matchers": _encode(dict(silence.matchers)).decode(),
    }


def silence_of(row: Row) -> Silence:
    """A silence from its row."""
    return Silence(**{**_named(row, Silence), "matchers": _labels(row["matchers"])})


def acknowledgement_of(row: Row) -> Acknowledgement:
    """An acknowledgement from its row."""
    return Acknowledgement(
        number=row["number"],
        firing=row["firing"],
        rule=row["rule"],
        symbol=row["symbol"],
        by=row["acknowledged_by"],
        at=row["acknowledged_at"],
        comment=row["comment"],
    )


def endpoint_values(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint by its table's columns."""
    return _values(metadata.endpoint.columns.keys(), endpoint) | {
        "secrets": msgspec.msgpack.encode(endpoint.secrets),
        "settings": _encode(dict(endpoint.settings)).decode(),
    }


def endpoint_of(row: Row) -> Endpoint:
    """An endpoint from its row."""
    return Endpoint(
        **{
            **_named(row, Endpoint),
            "secrets": _secrets(row["secrets"]),
            "enabled": bool(row["enabled"]),
            "settings": _settings(row["settings"]),
        }
    )


def plain(text: str) -> str:
    """Text that both databases keep; ``DataError`` where it holds a NUL character."""
    kept: str = _storable((text,))[0]
    return kept


def _values(names: Sequence[str], record: Any) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in names}
    _storable(tuple(values.values()))
    return values


def _named(row: Row, kind: type) -> dict[str, Any]:
    return {field.name: row[field.name] for field in fields(kind)}


def _finite(value: float) -> float | str:
    # JSON has no NaN and no infinity.
    return value if value - value == 0 else str(float(value))


def _storable(values: tuple[Any, ...]) -> tuple[Any, ...]:
    # PostgreSQL keeps no NUL in text; SQLite would, and the two must not differ.
    for value in values:
        if type(value) is str and "\0" in value:
            raise DataError(f"{value[:80]!r} holds a NUL character, which no text in the store may")
    return values
