"""What is to be said about a rule before it is kept: checks, a trial on stored bars, and what conditions may name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import ConfigDict, Field, RootModel

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.catalogue import NAME_OF, Function, catalogue
from tapeline.alerts.conditions import compile_rule, external_keys, history_needed
from tapeline.alerts.limits.limiter import Rate
from tapeline.alerts.lint import lint_rule
from tapeline.alerts.rule import Rule, SymbolName
from tapeline.alerts.rule_files import json_schema
from tapeline.gateway.answers import JSON, Body, answered, problems
from tapeline.gateway.callers import limited, require
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.instants import Instant, instant
from tapeline.gateway.preview import PreviewWorker, TookTooLongError, previewed
from tapeline.gateway.problems import ProblemError, blamed_on, wrong_field
from tapeline.gateway.rule_bodies import RuleBody, moment, rule_of

if TYPE_CHECKING:
    import pandas as pd

router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "rules:read"))]
MOST_PREVIEW_BARS: Final = 50_000
MOST_PREVIEW_SYMBOLS: Final = 20
_CHECKS: Final = limited("rule checks", Rate(60, 60.0))
_PREVIEWS: Final = limited("rule previews", Rate(20, 60.0, burst=5))


class FindingBody(Body):
    """One remark on a rule."""

    code: str = Field(description="for programs", examples=["no_channel"])
    severity: Literal["error", "warning", "info"]
    message: str
    hint: str | None = Field(None, description="what can be done about it")
    position: int = Field(-1, description="the first character of the condition that is meant; -1: of the whole rule")
    length: int = Field(0, description="how many characters of the condition are meant")


class Findings(Body):
    """What is to be said about a rule."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "valid": True,
                "findings": [
                    {
                        "code": "no_channel",
                        "severity": "warning",
                        "message": "no channel is named: firings are stored and nobody is told",
                        "position": -1,
                        "length": 0,
                    }
                ],
                "needs": {"1h": 14},
            }
        }
    )

    valid: bool = Field(description="whether it would be taken")
    findings: list[FindingBody]
    needs: dict[str, int] = Field(description="closed bars before it can hold, by timeframe")


class PreviewBody(Body):
    """A rule and the bars to try it on."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "rule": {"condition": "crosses_up(close, 60000)", "symbols": ["BTCUSDT"], "timeframe": "1h"},
                "timeframe": "1h",
                "bars": 2000,
            }
        }
    )

    rule: RuleBody
    timeframe: Literal["1m", "5m", "15m", "1h", "4h", "1d"] | None = Field(
        None, description="of the stored bars; the rule's own where absent"
    )
    bars: int = Field(2_000, ge=10, le=MOST_PREVIEW_BARS, description="of each symbol, the newest there are")
    symbols: tuple[SymbolName, ...] = Field(
        (), max_length=MOST_PREVIEW_SYMBOLS, description="needed where it watches *"
    )
    path: Literal["ohlc", "close"] = Field("ohlc", description="whether a bar counts as four trades or as its close")


class PreviewFiring(Body):
    """One firing that there would have been."""

    ts: Instant
    symbol: str
    kind: str
    price: float | None
    at_close: bool
    conditions: list[dict[str, Any]] = Field(description="each condition as it stood: text, left, right, held")


class PreviewAnswer(Body):
    """What the rule would have done."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "firings": 12,
                "days": 83.3,
                "per_day": 0.144,
                "last": [
                    {
                        "ts": "2026-01-01T00:00:00.000000000Z",
                        "symbol": "BTCUSDT",
                        "kind": "firing",
                        "price": 60001.5,
                        "at_close": False,
                        "conditions": [
                            {"text": "crosses_up(close, 60000)", "left": 60001.5, "right": 60000.0, "held": True}
                        ],
                    }
                ],
                "forward": {"1": 0.001, "4": -0.002, "24": None},
                "notes": [],
            }
        }
    )

    firings: int
    days: float = Field(description="how long the history is")
    per_day: float
    last: list[PreviewFiring] = Field(description="the newest, at most 200")
    forward: dict[str, float | None] = Field(
        description="by a number of bars of the rule's timeframe: the median return so long after a firing"
    )
    notes: list[str] = Field(description="what the history does not tell")


class FunctionBody(Body):
    """A name of the rule language."""

    name: str
    kind: str = Field(description="the type of alert it belongs to", examples=["technical"])
    signature: str = Field(examples=["rsi(bars=14, timeframe, state=forming)"])
    description: str
    example: str = Field(description="a condition with it")
    event: bool = Field(description="whether it holds for an instant only")
    parameters: list[dict[str, Any]]


class JsonSchema(RootModel[dict[str, Any]]):
    """A JSON Schema, draft 2020-12."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Rules"}}
    )


class Functions(Body):
    """The names of the rule language."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "items": [
                    {
                        "name": "rsi",
                        "kind": "technical",
                        "signature": "rsi(bars=14, timeframe, state=forming)",
                        "description": "relative strength index",
                        "example": "rsi(14) < 30",
                        "event": False,
                        "parameters": [{"name": "bars", "type": "bars", "required": False, "default": 14.0}],
                    }
                ]
            }
        }
    )

    items: list[FunctionBody]


@router.post(
    "/rules/validate",
    summary="Check a rule without keeping it",
    response_model=Findings,
    dependencies=[Depends(_CHECKS)],
)
def validate_rule(body: RuleBody, context: Context, caller: Reader) -> Response:
    """What is wrong with it, and what hardly does what is meant. A condition that cannot be read is a finding."""
    try:
        rule = rule_of(body, "new", caller.owner)
    except ProblemError as error:
        told = [
            FindingBody(
                code=one.pointer.strip("/").replace("/", "_") or "rule",
                severity="error",
                message=one.detail,
                hint=error.hint,
                position=one.position,
                length=one.length,
            )
            for one in error.errors
        ]
        return answered(Findings(valid=False, findings=told, needs={}))
    found = [
        FindingBody(code=one.code, severity=one.severity, message=one.message, position=one.position)
        for one in lint_rule(rule, now=moment(context.clock()))
    ]
    needs = {NAME_OF[timeframe]: bars for timeframe, bars in history_needed(rule).items() if bars}
    return answered(Findings(valid=True, findings=found, needs=needs))


@router.post(
    "/rules/preview",
    summary="What a rule would have done on stored bars",
    response_model=PreviewAnswer,
    dependencies=[Depends(_PREVIEWS)],
    responses=problems(404),
)
def preview_rule(body: PreviewBody, context: Context, caller: Reader) -> Response:
    """Asked of the newest clean bars, through the same evaluator as live ticks; nothing is kept and nobody is told."""
    rule = rule_of(body.rule, "preview", caller.owner)
    bars = _bars(body, rule, context)
    worker = context.part(_worker)
    try:
        with blamed_on("/timeframe"):
            found = worker.ask(rule, bars, body.path)
    except TookTooLongError as error:
        raise ProblemError(422, "too-long", error.message, hint=error.hint) from None
    last = [PreviewFiring(**{**one, "ts": instant(one["ts"])}) for one in found.pop("last")]
    forward = {str(ahead): value for ahead, value in found.pop("forward").items()}
    return answered(PreviewAnswer(**found, last=last, forward=forward, notes=_notes(rule)))


@router.get("/functions", summary="The names of the rule language", response_model=Functions)
def list_functions(context: Context, caller: Reader) -> Response:
    """For an editor: signatures, bounds and an example of each."""
    return Response(context.part(_functions), media_type=JSON)


@router.get("/schemas/rules", summary="The JSON Schema of a file with rules", response_model=JsonSchema)
def rules_schema(context: Context, caller: Reader) -> Response:
    """For editors: a rule, a list of them, or ``rules`` with ``defaults``; conditions as text or as JSON."""
    return answered(JsonSchema(json_schema()))


def _bars(body: PreviewBody, rule: Rule, context: GatewayContext) -> dict[str, pd.DataFrame]:
    symbols = rule.symbols if rule.symbols != ("*",) else body.symbols
    if not symbols:
        raise wrong_field("/symbols", "a rule on all symbols needs some to be tried on")
    if len(symbols) > MOST_PREVIEW_SYMBOLS or len(symbols) * body.bars > MOST_PREVIEW_BARS:
        raise wrong_field("/bars", f"{len(symbols)} symbols of {body.bars} bars are more than {MOST_PREVIEW_BARS} bars")
    found: dict[str, Any] = {}
    for symbol in symbols:
        bars = None if context.bars is None else context.bars(symbol, body.timeframe or rule.timeframe, body.bars)
        if bars is None or bars.empty:
            raise ProblemError(404, "no-bars", "there are no stored bars of a symbol", hint="tapeline run brings some")
        found[symbol] = bars
    return found


def _notes(rule: Rule) -> list[str]:
    foreign = sorted(key for key in external_keys(compile_rule(rule)) if not key.startswith(("pattern", "divergence:")))
    return [f"{', '.join(foreign)} comes from outside: what the history says is without it"] if foreign else []


def _worker(context: GatewayContext) -> PreviewWorker:
    return PreviewWorker(previewed)


def _functions(context: GatewayContext) -> bytes:
    return bytes(answered(Functions(items=[_function(one) for one in catalogue().values()])).body)


def _function(function: Function) -> FunctionBody:
    return FunctionBody(
        name=function.name,
        kind=function.kind,
        signature=function.signature,
        description=function.description,
        example=function.example,
        event=function.event,
        parameters=[
            {
                "name": one.name,
                "type": one.type,
                "required": one.required,
                "default": one.default,
                "low": one.low if one.low > -float("inf") else None,
                "high": one.high if one.high < float("inf") else None,
                "choices": list(one.choices),
                "description": one.description,
            }
            for one in function.parameters
        ],
    )
