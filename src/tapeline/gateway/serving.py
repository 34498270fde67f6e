"""The API as a program: its context from the settings, its server, its end."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tapeline.alerts.access.access_control import AccessControl, AccessSettings
from tapeline.alerts.delivery.secret_vault import SecretVault
from tapeline.alerts.delivery.ssrf import TargetRules
from tapeline.alerts.limits.limiter import Limiter
from tapeline.alerts.limits.local import LocalLimiter
from tapeline.alerts.limits.redis import RedisLimiter
from tapeline.alerts.limits.shared_file import SharedFileLimiter
from tapeline.alerts.log import close_log, open_log
from tapeline.alerts.service_settings import alert_folder, alert_secrets, open_alert_store
from tapeline.alerts.store.sql_store import SqlStore
from tapeline.core.errors import ConfigurationError, MissingExtraError, TapelineError
from tapeline.core.settings import Settings, load_settings
from tapeline.gateway.app import create_app
from tapeline.gateway.bounds import LARGEST_HEADERS
from tapeline.gateway.context import BarsOf, GatewayContext
from tapeline.gateway.stream import WORKERS_VARIABLE

if TYPE_CHECKING:
    import pandas as pd
    import uvicorn
    from fastapi import FastAPI

CONNECTIONS: Final = 1_000
"""At once; who comes beyond them is told to come later."""
GRACE_SECONDS: Final = 10
_log = logging.getLogger(__name__)


def gateway_context(settings: Settings, store: SqlStore, *, workers: int = 1) -> GatewayContext:
    """What the API works with.

    Parameters
    ----------
    store:
        Stays the caller's to close.
    workers:
        How many processes answer: those of one machine count in a file that they share, those of a Redis in it.

    Raises
    ------
    ConfigurationError
        A key is missing or could be guessed.
    """
    alerts = settings.alerts
    if not alerts.keys:
        raise ConfigurationError(
            "[alerts] keys is empty: nothing to seal secrets with",
            hint="tapeline alerts key makes one; set it as TAPELINE_ALERTS__KEYS='[\"...\"]'",
        )
    return GatewayContext(
        store=store,
        access=AccessControl(store.database, AccessSettings.of(alerts.gateway)),
        settings=settings,
        limiter=make_limiter(settings, workers),
        vault=SecretVault([key.get_secret_value() for key in alerts.keys]),
        target=TargetRules(http=alerts.plain_http, ports=alerts.permitted_ports, networks=alerts.permitted_networks),
        bars=lake_bars(settings),
    )


def make_limiter(settings: Settings, workers: int) -> Limiter:
    """What counts requests: in Redis where there is one, else in a file where there are several workers."""
    own = SharedFileLimiter(alert_folder(settings) / "limits.db") if workers > 1 else LocalLimiter()
    redis = settings.alerts.scale.redis
    return own if redis is None else RedisLimiter.connect(redis.get_secret_value(), own)


def lake_bars(settings: Settings) -> BarsOf:
    """The newest clean bars of the lake, for previews."""

    def newest(symbol: str, timeframe: str, count: int) -> pd.DataFrame | None:
        from tapeline.core.schemas import CLEAN_BARS
        from tapeline.core.symbol import Symbol
        from tapeline.core.timeframe import Timeframe
        from tapeline.lake.lake import Lake

        lake = Lake(settings.lake_path)
        try:
            name, step = Symbol.parse(symbol), Timeframe.parse(timeframe)
            last = lake.last(CLEAN_BARS, name, step)
            if last is None:
                return None
            # Three times as far back as would do without weekends and nights.
            return lake.read(CLEAN_BARS, name, step, start=last - 3 * count * step.duration).tail(count)
        except TapelineError as error:
            _log.info("no bars of %s: %s", symbol, error)
            return None

    return newest


def gateway_application(settings: Settings, *, workers: int = 1) -> tuple[FastAPI, AbstractContextManager[Any]]:
    """The application over a store of its own, and what closes it all at the end."""
    stack = ExitStack()
    try:
        store = open_alert_store(settings)
        stack.callback(store.close)
        context = gateway_context(settings, store, workers=workers)
        stack.callback(context.close)
        return create_app(context), stack
    except BaseException:
        stack.close()
        raise


def serve_gateway(
    settings: Settings,
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int = 1,
    log: Path | None = None,
    tell: Callable[[str], object] = print,
) -> None:
    """Answer requests until the process is told to end (SIGTERM, Ctrl-C); those under way are finished first.

    Parameters
    ----------
    host, port:
        As in the settings where absent.
    workers:
        Processes. With one it is this one.
    log:
        The file of the JSON log; in the engine's folder if absent. Each of several workers adds its number.
    tell:
        Takes a line for who started it.

    Raises
    ------
    ConfigurationError
        A key is missing or could be guessed, or the address is taken.
    MissingExtraError
        uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError("uvicorn", "gateway") from None
    gateway = settings.alerts.gateway
    host, port = host or gateway.host, gateway.port if port is None else port
    path = log or alert_folder(settings) / "logs" / "gateway.log"
    if workers > 1:
        # What cannot work is told once and here, not by each worker for himself.
        with gateway_application(settings, workers=workers)[1]:
            pass
        os.environ[WORKERS_VARIABLE] = f"{workers}:{path}"
        tell(f"API       http://{host}:{port}/v1 ({workers} workers)")
        uvicorn.run("tapeline.gateway.serving:worker", factory=True, workers=workers, **server_options(host, port))
        return
    handler = open_log(path, secrets=alert_secrets(settings))
    try:
        app, opened = gateway_application(settings)
        with opened:
            server = uvicorn.Server(uvicorn.Config(app, **server_options(host, port)))
            _run(server, host, path, tell)
    finally:
        close_log(handler)


def worker() -> FastAPI:
    """The application of one of several workers; its process ends with it."""
    count, _, path = os.environ[WORKERS_VARIABLE].partition(":")
    settings = load_settings()
    log = Path(path)
    open_log(log.with_name(f"{log.stem}.{os.getpid()}{log.suffix}"), secrets=alert_secrets(settings))
    app = gateway_application(settings, workers=int(count))[0]
    _settle()
    return app


def server_options(host: str, port: int) -> dict[str, Any]:
    """How uvicorn is run: without its own log, headers or belief in proxies, and with bounds."""
    return {
        "host": host,
        "port": port,
        "http": "h11",
        "ws": "none",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "limit_concurrency": CONNECTIONS,
        "timeout_keep_alive": 30,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "h11_max_incomplete_event_size": 2 * LARGEST_HEADERS,
        "lifespan": "on",
    }


def _settle() -> None:
    """Leave what was made so far out of garbage collections: modules and routes stay as long as the process.

    Half a million objects that never go are otherwise looked through while requests wait.
    """
    gc.collect()
    gc.freeze()


def _run(server: uvicorn.Server, host: str, path: Path, tell: Callable[[str], object]) -> None:
    startup = server.startup

    async def told(*given: Any, **options: Any) -> None:
        await startup(*given, **options)
        ports = [socket.getsockname()[1] for one in server.servers for socket in one.sockets]
        if ports:
            _settle()
            tell(f"API       http://{host}:{ports[0]}/v1 (description at /v1/openapi.json)")
            tell(f"Log       {path}")
            tell("Ctrl-C ends it.")

    server.startup = told  # type: ignore[method-assign]
    try:
        server.run()
    except SystemExit:
        # uvicorn's way to say that it could not begin; it has told the reason to its log.
        raise ConfigurationError(
            f"the API cannot listen on {host}:{server.config.port}", hint="[alerts.gateway] host and port"
        ) from None
    finally:
        gc.unfreeze()
