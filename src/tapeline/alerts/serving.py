"""Serving as a program does: begin or stand by, tell where everything is, go on until somebody ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tapeline.alerts.log import close_log, open_log
from tapeline.alerts.service_settings import alert_folder, alert_secrets, make_engine, rules_path
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.alerts.supervised import GATEWAY, keep_running
from tapeline.core.settings import Settings


async def serve_alerts(
    settings: Settings,
    store: SqlStore,
    *,
    log: Path | None = None,
    standby: bool = False,
    gateway: bool = False,
    tell: Callable[[str], object] = print,
) -> None:
    """Run the engine of the settings until the process is told to end (SIGTERM), the task is cancelled, or it fails.

    Parameters
    ----------
    store:
        Stays the caller's to close.
    log:
        The file of the JSON log; in the engine's folder if absent. Written by whoever has the folder alone.
    standby:
        Where another engine has the folder: wait, ready, and take over when it has ended.
    gateway:
        Keep the API running beside the engine, in a process of its own.
    tell:
        Takes a line for who started it.

    Raises
    ------
    ConfigurationError
        The settings or the rules are wrong, or another engine has the folder.
    TapelineError
        What the engine failed with.
    """
    task = asyncio.current_task()
    with suppress(NotImplementedError, RuntimeError):  # not on Windows, and not outside the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel if task is not None else str)
    engine, server = make_engine(settings, store)
    if standby:
        tell("Standing by for the engine that has the folder, if one has; Ctrl-C ends it.")
        await engine.stand_by()
    else:
        engine.lock.take_or_fail()
    path = log or alert_folder(settings) / "logs" / "alerts.log"
    handler = open_log(path, secrets=alert_secrets(settings))
    beside: asyncio.Task[None] | None = None
    try:
        await engine.start()
        alerts = settings.alerts
        tell(f"Rules     {rules_path(settings)} ({engine.status()['rules']} in force; changes are seen at once)")
        where = "the database of [alerts] store" if alerts.store else alert_folder(settings) / "alerts.db"
        tell(f"Firings   {where}")
        tell(f"Stream    ws://{alerts.stream_host}:{server.port}/")
        tell(f"Log       {path}")
        if gateway:
            beside = asyncio.create_task(keep_running(GATEWAY))
        tell("Ctrl-C ends it.")
        await engine.wait()
    finally:
        if beside is not None:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)
        await asyncio.shield(engine.stop())
        close_log(handler)
