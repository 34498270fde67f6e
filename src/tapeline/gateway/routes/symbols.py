"""Symbols: which there are, what sources call them, and what the caller watches."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import ConfigDict, Field

from tapeline.alerts.access.principal import Principal
from tapeline.alerts.rule import Name, SymbolName
from tapeline.alerts.store.store import UnknownRecordError
from tapeline.alerts.symbol_manager import Instrument, Status, SymbolManager
from tapeline.alerts.symbol_references import SymbolConflictError
from tapeline.gateway.answers import Body, answered, problems
from tapeline.gateway.callers import Traced, require
from tapeline.gateway.context import Context, GatewayContext
from tapeline.gateway.pages import Cursor, Limit, Page, cursor_after, key_of
from tapeline.gateway.problems import ProblemError, blamed_on, not_found

router = APIRouter()
Reader = Annotated[Principal, Depends(require("viewer", "symbols:read"))]
Writer = Annotated[Principal, Depends(require("user", "symbols:write"))]
Administrator = Annotated[Principal, Depends(require("admin", "symbols:write"))]
# A symbol may hold a slash: where it is part of an address it is sent as a parameter.
GivenSymbol = Annotated[SymbolName, Query(examples=["BTCUSDT"])]
_EXAMPLE: Final[dict[str, Any]] = {"symbol": "BTCUSDT", "base": "BTC", "quote": "USDT", "asset_class": "crypto"}
MOST: Final = 1_000


class NewSymbol(Body):
    """A symbol as it is added."""

    model_config = ConfigDict(json_schema_extra={"example": {**_EXAMPLE, "names": {"kraken": "XBT/USDT"}}})

    symbol: SymbolName
    base: str = Field("", max_length=64)
    quote: str = Field("", max_length=64)
    asset_class: str = Field("crypto", pattern=r"^[a-z][a-z0-9_]{0,31}$")
    status: Status = "trading"
    names: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], SymbolName] = Field({}, max_length=20)


class SymbolBody(Body):
    """A symbol of the universe, and what sources call it."""

    model_config = ConfigDict(
        json_schema_extra={"example": {**_EXAMPLE, "status": "trading", "names": {"kraken": "XBT/USDT"}}}
    )

    symbol: str
    base: str
    quote: str
    asset_class: str
    status: str
    names: dict[str, str]


class WatchList(Body):
    """Symbols that the caller watches: they are followed whether a rule names them or not."""

    model_config = ConfigDict(json_schema_extra={"example": {"symbols": ["BTCUSDT", "ETHUSDT"]}})

    symbols: list[SymbolName] = Field(max_length=MOST)


@router.get("/symbols", summary="The symbols that rules may name", response_model=Page[SymbolBody])
def list_symbols(
    context: Context,
    caller: Reader,
    limit: Limit = 50,
    cursor: Cursor = None,
    prefix: Annotated[str, Query(max_length=64, description="only those that begin so")] = "",
) -> Response:
    """By symbol."""
    manager = _manager(context)
    page = manager.instruments(cursor=key_of(cursor), limit=limit, prefix=prefix)
    names = manager.names([one.symbol for one in page.items])
    items = [_body(one, names.get(one.symbol, {})) for one in page.items]
    return answered(Page.model_construct(items=items, cursor=cursor_after(page.cursor) if page.cursor else None))


@router.put(
    "/symbols",
    summary="Add a symbol, or change it",
    response_model=SymbolBody,
    responses=problems(403, 409),
)
def put_symbol(body: NewSymbol, context: Context, caller: Administrator, trace: Traced) -> Response:
    """With its names at sources. Running engines take it within about a second; rules of ``*`` take it too."""
    manager = _manager(context)
    with blamed_on(""):
        made = Instrument(body.symbol, body.base, body.quote, body.asset_class, body.status)
    audit = context.access.audit
    try:
        with audit.entry(caller, "symbol.put", "symbol", made.symbol, after=body.model_dump(), **trace.said):
            manager.put(made, body.names, by=caller.owner)
    except SymbolConflictError as error:
        raise ProblemError(409, "conflict", error.message, hint=error.hint) from None
    return answered(_body(made, manager.names([made.symbol]).get(made.symbol, {})))


@router.delete("/symbols", summary="Take a symbol out", status_code=204, responses=problems(403, 404, 409))
def remove_symbol(symbol: GivenSymbol, context: Context, caller: Administrator, trace: Traced) -> Response:
    """Rules that name it go on; no other may."""
    try:
        with context.access.audit.entry(caller, "symbol.remove", "symbol", symbol, **trace.said):
            _manager(context).remove(symbol, by=caller.owner)
    except SymbolConflictError as error:
        raise ProblemError(409, "conflict", error.message) from None
    except UnknownRecordError:
        raise not_found("symbol") from None
    return Response(status_code=204)


@router.get("/symbols/resolve", summary="The symbol that a source calls so", response_model=SymbolBody)
def resolve_symbol(
    source: Annotated[str, Query(max_length=32, examples=["kraken"])],
    name: Annotated[SymbolName, Query(examples=["XBT/USDT"])],
    context: Context,
    caller: Reader,
) -> Response:
    """404 where nothing is called so there."""
    manager = _manager(context)
    found = manager.resolve(source, name)
    one = manager.instrument(found) if found is not None else None
    if one is None:
        raise not_found("symbol")
    return answered(_body(one, manager.names([one.symbol]).get(one.symbol, {})))


@router.get("/symbols/watchlists/{name}", summary="A watch list", response_model=WatchList)
def get_watch_list(name: Annotated[Name, Path(examples=["mine"])], context: Context, caller: Reader) -> Response:
    """The symbols that it holds; none where there is no such list."""
    holder = _holder(caller, name)
    held = _manager(context).held(owner=caller.owner, kind="watchlist")
    return answered(WatchList.model_construct(symbols=[one.symbol for one in held if one.holder == holder]))


@router.put(
    "/symbols/watchlists/{name}", summary="Set a watch list", response_model=WatchList, responses=problems(403, 404)
)
def put_watch_list(
    name: Annotated[Name, Path(examples=["mine"])], body: WatchList, context: Context, caller: Writer, trace: Traced
) -> Response:
    """It holds these symbols and no others; an empty one holds none. 404 where one of them is not known."""
    holder, manager = _holder(caller, name), _manager(context)
    audit, quotas = context.access.audit, context.access.quotas
    said = {"symbols": sorted(set(body.symbols))}
    with (
        quotas.within(caller.owner, "symbols"),
        audit.entry(caller, "watchlist.put", "watchlist", holder, after=said, **trace.said),
    ):
        manager.hold("watchlist", holder, caller.owner, body.symbols)
    return answered(WatchList.model_construct(symbols=said["symbols"]))


def _holder(caller: Principal, name: str) -> str:
    # Two owners may have lists of one name.
    return f"{caller.owner}/{name}"


def _manager(context: GatewayContext) -> SymbolManager:
    return context.part(_make)


def _make(context: GatewayContext) -> SymbolManager:
    return SymbolManager(context.store.database, clock=context.clock)


def _body(one: Instrument, names: dict[str, str]) -> SymbolBody:
    return SymbolBody.model_construct(
        symbol=one.symbol,
        base=one.base,
        quote=one.quote,
        asset_class=one.asset_class,
        status=one.status,
        names=names,
    )
