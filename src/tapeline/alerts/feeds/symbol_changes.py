"""Symbols that come and go while sources run: the manager knows them before the sources do, and longer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.core.errors import TapelineError

_log = logging.getLogger(__name__)


@runtime_checkable
class Subscribable(Protocol):
    """A source whose symbols may change while it runs."""

    name: str

    async def subscribe(self, symbols: Iterable[str]) -> None:
        """Follow further symbols, as the source spells them."""
        ...

    async def unsubscribe(self, symbols: Iterable[str]) -> None:
        """Follow some no more."""
        ...


async def follow_symbols(
    manager: DataManager,
    sources: Sequence[Any],
    coming: Sequence[str],
    going: Sequence[str],
    names_of: Callable[[str], Sequence[SourceName]],
) -> None:
    """Let the manager and those sources that can follow other symbols.

    A symbol without a source is only fed from outside. A source that fails at it is told in the log: what it wants is
    known to it, and its next connection asks for it again.
    """
    named = await asyncio.to_thread(lambda: {symbol: tuple(names_of(symbol)) for symbol in coming})
    fresh = await asyncio.to_thread(_watch, manager, named)
    gone = await asyncio.to_thread(_unwatch_names, manager, going)
    for source in sources:
        if not isinstance(source, Subscribable):
            continue
        try:
            if mine := gone.get(source.name):
                await source.unsubscribe(mine)
            if mine := fresh.get(source.name):
                await source.subscribe(mine)
        except (TapelineError, OSError, TimeoutError) as error:
            _log.warning("%s does not follow other symbols for now: %s", source.name, error)
    for symbol in going:
        await asyncio.to_thread(manager.unwatch, symbol)


def _watch(manager: DataManager, named: dict[str, tuple[SourceName, ...]]) -> dict[str, list[str]]:
    """Watch symbols; by source the names that are new to it."""
    found: dict[str, list[str]] = {}
    for symbol, names in named.items():
        if not names:
            continue
        try:
            manager.watch(symbol, names)
        except TapelineError as error:
            _log.error("%s is not followed: %s", symbol, error)
            continue
        for one in names:
            found.setdefault(one.source, []).append(one.name)
    return found


def _unwatch_names(manager: DataManager, going: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for symbol in going:
        for one in manager.sources_of(symbol):
            found.setdefault(one.source, []).append(one.name)
    return found
