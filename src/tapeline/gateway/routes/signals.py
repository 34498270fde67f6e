"""Signals to trading bots: asked for from a place on, waited for, and acknowledged."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.bots.acknowledgement import LONGEST_NOTE, Acknowledgement, SignalState
from tapeline.alerts.bots.signal import CHANNEL, SCHEMA_ID, Signal, signal_schema
from tapeline.alerts.bots.signal_book import AcknowledgementConflictError, SignalBook, StoredSignal
from tapeline.alerts.store.store import Endpoint
from tapeline.gateway.answers import Body, answered, problems
from tapeline.gateway.callers import require
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.instants import Instant, instant_or_none
from tapeline.gateway.pages import Limit
from tapeline.gateway.problems import ProblemError, not_found
from tapeline.gateway.signal_watch import SignalWatch

LONGEST_WAIT: Final = 25.0
"""Seconds: below the half minute after which proxies give up."""
router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "signals:read"))]
Writer = Annotated[Principal, Depends(require("user", "signals:write"))]
BotId = Annotated[str, Path(min_length=1, max_length=200, examples=["ann.desk"])]
SignalId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_:-]{1,128}$", examples=["evt_22A0E7FY5DB3RK3CXWVF4FDVB6"])]
_SIGNAL: Final[dict[str, Any]] = {
    "type": "signal",
    "version": 1,
    "id": "evt_22A0E7FY5DB3RK3CXWVF4FDVB6",
    "bot": "ann.desk",
    "sequence": 18,
    "symbol": "BTCUSDT",
    "pair": "BTC/USDT",
    "action": "open",
    "side": "long",
    "fraction": 0.25,
    "price": 60001.5,
    "stop": 58801.47,
    "reason": "crosses_up(close, 60000)",
    "rule": "btc-60k",
    "rule_version": "bf838cdcbcc7da6e",
    "ts": 1767225600000000000,
    "created_at": 1767225600004000000,
    "expires_at": 1767225605000000000,
}
_OFFERED: Final[dict[str, Any]] = {"signal": _SIGNAL, "state": "open", "expired": False}


class OfferedBody(Body):
    """A signal, and what its bot said of it."""

    model_config = ConfigDict(json_schema_extra={"example": _OFFERED})

    signal: dict[str, Any] = Field(description="by /v1/signals/schema")
    state: SignalState
    expired: bool = Field(description="whether it must no longer be acted on")
    state_at: Instant | None = None
    price: float | None = None
    quantity: float | None = None
    note: str | None = None


class Offer(Body):
    """A bot's signals behind a place, in their order and without gaps."""

    model_config = ConfigDict(json_schema_extra={"example": {"items": [_OFFERED], "cursor": "18"}})

    items: list[OfferedBody]
    cursor: str = Field(description="what to ask with next: the place of the last of them")


class AcknowledgementBody(Body):
    """What a bot says of a signal."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"state": "executed", "price": 60002.0, "quantity": 0.1, "note": "order 17"}}
    )

    state: Annotated[SignalState, Field(description="accepted, then executed or rejected")]
    price: Annotated[float, Field(gt=0, le=1e15)] | None = Field(None, description="at which it was filled")
    quantity: Annotated[float, Field(gt=0, le=1e15)] | None = Field(None, description="how much was filled")
    note: Annotated[str, Field(max_length=LONGEST_NOTE, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""


@router.get(
    "/signals/schema",
    summary="The form of a signal",
    response_model=dict[str, Any],
    responses={200: {"content": {"application/json": {"example": {"$id": SCHEMA_ID, "title": "Signal"}}}}},
)
def read_schema() -> Response:
    """JSON Schema, draft 2020-12."""
    return JSONResponse(signal_schema())


@router.get("/signals", summary="A bot's signals behind a place", response_model=Offer, responses=problems(404, 429))
async def list_signals(
    context: Context,
    caller: Reader,
    bot: Annotated[str, Query(min_length=1, max_length=200, description="the bot's id")],
    after: Annotated[int, Query(ge=0, lt=2**63, description="the cursor of the answer before; 0 at first")] = 0,
    limit: Limit = 100,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="seconds to wait for one")] = 0.0,
) -> Response:
    """In order, also those that have expired, so that nothing is missing from the sequence.

    Where there is none and ``wait`` is given, the answer comes as soon as there is one.
    """
    owner = (await run_in_threadpool(own_bot, context, caller, bot)).owner
    book, watch = signal_book(context), context.part(signal_watch)
    seen, found = await run_in_threadpool(_look, book, bot, owner, after, limit)
    if not found and wait > 0:
        deadline = time.monotonic() + wait
        while not found and (left := deadline - time.monotonic()) > 0:
            if not await watch.risen(seen, caller=caller.owner, timeout=left):
                break
            seen, found = await run_in_threadpool(_look, book, bot, owner, after, limit)
    cursor = found[-1].sequence if found else after
    now = context.clock()
    return answered(Offer(items=[offered(one, now) for one in found], cursor=str(cursor)))


@router.get("/signals/{bot}/{id}", summary="One signal of a bot", response_model=OfferedBody, responses=problems(404))
def get_signal(bot: BotId, id: SignalId, context: Context, caller: Reader) -> Response:
    """And what became of it."""
    endpoint = own_bot(context, caller, bot)
    found = signal_book(context).signal(bot, id, owner=endpoint.owner)
    if found is None:
        raise not_found("signal")
    return answered(offered(found, context.clock()))


@router.put(
    "/signals/{bot}/{id}/acknowledgement",
    summary="Say what became of a signal",
    response_model=OfferedBody,
    responses=problems(404, 409),
)
def acknowledge(bot: BotId, id: SignalId, body: AcknowledgementBody, context: Context, caller: Writer) -> Response:
    """The same again changes nothing; what was executed or rejected stays so (409)."""
    endpoint = own_bot(context, caller, bot)
    if body.state == "open":
        raise ProblemError(422, "invalid", "a signal cannot be opened again", hint="accepted, executed or rejected")
    said = Acknowledgement(body.state, body.price, body.quantity, body.note)
    found = acknowledged(context, endpoint, id, said)
    return answered(offered(found, context.clock()))


def acknowledged(context: GatewayContext, bot: Endpoint, id: str, said: Acknowledgement) -> StoredSignal:
    """Write an acknowledgement down.

    Raises
    ------
    ProblemError
        404: there is no such signal; 409: it was executed or rejected before.
    """
    try:
        return signal_book(context).acknowledge(bot.id, id, said, at=context.clock(), owner=bot.owner)
    except AcknowledgementConflictError as error:
        raise ProblemError(409, "conflict", error.message) from None


def own_bot(context: GatewayContext, caller: Principal, id: str) -> Endpoint:
    """A bot that the caller may see; 404 where there is none, or it is another's."""
    endpoint = context.store.endpoint(id)
    if endpoint is None or endpoint.channel != CHANNEL or not caller.sees(endpoint.owner):
        raise not_found("bot")
    return endpoint


def signal_book(context: GatewayContext) -> SignalBook:
    """The book of signals over the gateway's database."""
    return context.part(_book)


def signal_watch(context: GatewayContext) -> SignalWatch:
    """Who waits for signals; made once."""
    book = signal_book(context)

    def look() -> int:
        book.number()
        return book.taken()

    return SignalWatch(look)


def offered(found: StoredSignal, now: int) -> OfferedBody:
    """A signal as it is answered."""
    signal: Signal = found.signal
    return OfferedBody(
        signal=signal.model_dump(mode="json", exclude_none=True),
        state=found.state,
        expired=signal.is_stale(now),
        state_at=instant_or_none(found.state_at),
        price=found.fill_price,
        quantity=found.fill_quantity,
        note=found.note or None,
    )


def _book(context: GatewayContext) -> SignalBook:
    return SignalBook(context.store.database)


def _look(book: SignalBook, bot: str, owner: str, after: int, limit: int) -> tuple[int, tuple[StoredSignal, ...]]:
    book.number()
    # In this order: what comes between the two is seen, and one that is seen twice does no harm.
    seen = book.taken()
    return seen, book.after(bot, after, limit=limit, owner=owner)
