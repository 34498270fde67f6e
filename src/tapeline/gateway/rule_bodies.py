"""Rules as requests bring them and answers tell them; whose a rule is follows from who asks, from nothing he sends."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from pydantic import ConfigDict, Field, create_model

from tapeline.alerts.condition_json import condition_from_json
from tapeline.alerts.conditions import compile_rule
from tapeline.alerts.delivery.messages import check_template
from tapeline.alerts.rule import Name, Rule, SymbolName
from tapeline.alerts.store.caller_queries import RuleText
from tapeline.alerts.store.store import StoredRule
from tapeline.gateway.instants import Instant, instant
from tapeline.gateway.problems import blamed_on

MOST_SYMBOLS: Final = 1_000
"""Of one rule that comes through the API; ``*`` is all there are."""
REMEMBERED: Final = 4_096
LONGEST_REMEMBERED: Final = 4_096
"""How many rules, of how many letters, are not made into an answer anew while they stay as they are."""
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_EXAMPLE: Final[dict[str, Any]] = {
    "name": "Bitcoin above 60k while oversold",
    "condition": 'crosses_up(close, 60000) and rsi(14, "1h") < 30',
    "symbols": ["BTCUSDT"],
    "timeframe": "1m",
    "frequency": "once_per_bar_close",
    "priority": "high",
    "channels": ["desk"],
}
_OWN: Final = ("id", "owner", "condition", "symbols")


def _given() -> Any:
    """A rule without id and owner, its condition as text or as JSON: every other field is the rule's own."""
    fields: dict[str, Any] = {
        name: (field.annotation if not field.metadata else Annotated[field.annotation, *field.metadata], field)
        for name, field in Rule.model_fields.items()
        if name not in _OWN
    }
    condition = Annotated[str, Field(min_length=1, max_length=2_000)] | dict[str, Any]
    told = "in the rule language, as text or as the JSON form of /v1/schemas/rules"
    fields["condition"] = (condition, Field(description=told))
    fields["symbols"] = (tuple[SymbolName, ...], Field(min_length=1, max_length=MOST_SYMBOLS))
    config = ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_extra={"example": _EXAMPLE})
    made = create_model("RuleBody", __config__=config, **fields)
    made.__doc__ = "A rule as it is sent."
    return made


if TYPE_CHECKING:
    RuleBody = Rule
    NewRule = Rule
else:
    RuleBody = _given()
    NewRule = create_model(
        "NewRule",
        __base__=RuleBody,
        __doc__="A new rule; without an id it gets one.",
        id=(Name | None, Field(None, description="its id for good; made here where absent")),
    )


class StoredRuleBody(Rule):
    """A rule as it stands, or stood after a change."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **_EXAMPLE,
                "id": "rul_0J5QGZ3T9W1K7M8N2P4R6S",
                "owner": "ann",
                "revision": 3,
                "changed_at": "2026-01-01T00:00:00.000000000Z",
                "changed_by": "ann",
                "deleted": False,
            }
        }
    )

    revision: int = Field(description="counts its changes; the number in its ETag")
    changed_at: Instant
    changed_by: str
    deleted: bool = Field(False, description="whether this change removed it")


def new_id(prefix: str) -> str:
    """An id that nobody can guess: the prefix and 110 random bits.

    Examples
    --------
    >>> len(new_id("rul")), new_id("rul")[:4]
    (26, 'rul_')
    """
    number = secrets.randbits(110)
    return f"{prefix}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(105, -1, -5))


def rule_of(body: RuleBody, id: str, owner: str) -> Rule:
    """The rule that a body says, checked as every rule is: it compiles, and its template names what there is.

    Raises
    ------
    ProblemError
        422, with the field that is wrong.
    """
    given = {name: getattr(body, name) for name in type(body).model_fields if name != "id"}
    if isinstance(given["condition"], dict):
        with blamed_on("/condition"):
            given["condition"] = condition_from_json(given["condition"])
    with blamed_on(""):
        rule = Rule.model_validate({**given, "id": id, "owner": owner})
    with blamed_on("/condition"):
        compile_rule(rule)
    if rule.template is not None:
        with blamed_on("/template"):
            check_template(rule.template)
    return rule


def stored_body(stored: StoredRule) -> StoredRuleBody:
    """A stored rule as an answer tells it."""
    return StoredRuleBody.model_construct(
        **stored.rule.__dict__,
        revision=stored.revision,
        changed_at=instant(stored.changed_at),
        changed_by=stored.changed_by,
        deleted=stored.deleted,
    )


def stored_json(stored: StoredRule) -> bytes:
    """The same as JSON, for lists.

    Examples
    --------
    >>> rule = Rule(id="r", owner="ann", condition="close > 1", symbols=("A",))
    >>> stored = StoredRule(rule, 3, 17, 1_767_225_600_000_000_000, "ann")
    >>> stored_json(stored) == stored_body(stored).model_dump_json().encode()
    True
    >>> stored_json(stored) == kept_json(RuleText("r", rule.model_dump_json(), 3, stored.changed_at, "ann"))
    True
    """
    told = Rule.__pydantic_serializer__.to_json(stored.rule)
    return _with_change(told, stored.revision, stored.changed_at, stored.changed_by, stored.deleted)


def kept_json(kept: RuleText) -> bytes:
    """The same from a rule as the database keeps it."""
    told = _remembered(kept.body) if len(kept.body) <= LONGEST_REMEMBERED else _as_told(kept.body)
    return _with_change(told, kept.revision, kept.changed_at, kept.changed_by, False)


def _with_change(told: bytes, revision: int, changed_at: int, changed_by: str, deleted: bool) -> bytes:
    own = {"revision": revision, "changed_at": instant(changed_at), "changed_by": changed_by, "deleted": deleted}
    return told[:-1] + b"," + msgspec.json.encode(own)[1:]


def _as_told(body: str) -> bytes:
    # Through the model: what an older version wrote lacks the fields that were added since.
    return Rule.__pydantic_serializer__.to_json(Rule.model_validate_json(body))


# The answer follows from the text alone, so there is nothing that could be out of date.
_remembered = lru_cache(maxsize=REMEMBERED)(_as_told)


def moment(nanoseconds: int) -> datetime:
    """A time of the store as a datetime, to the microsecond."""
    return datetime.fromtimestamp(nanoseconds // 1_000 / 1e6, UTC)


__all__ = [
    "NewRule",
    "RuleBody",
    "StoredRuleBody",
    "kept_json",
    "moment",
    "new_id",
    "rule_of",
    "stored_body",
    "stored_json",
]
