"""``tapeline alerts gateway``: the alert system's API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tapeline.console import say


def gateway(
    host: Annotated[str | None, typer.Option(help="Where it answers; [alerts.gateway] host if absent.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer.")] = 1,
    log: Annotated[
        Path | None, typer.Option(help="The JSON log; logs/gateway.log in the engine's folder if absent.")
    ] = None,
) -> None:
    """Answer the API's requests until Ctrl-C; what is under way is finished first."""
    import sys

    from tapeline.core.errors import MissingExtraError
    from tapeline.core.settings import load_settings

    try:
        from tapeline.gateway.serving import serve_gateway
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "uvicorn", "gateway") from None

    def tell(line: str) -> None:
        say(line)
        sys.stdout.flush()

    serve_gateway(load_settings(), host=host, port=port, workers=workers, log=log, tell=tell)
    say("Stopped.")
